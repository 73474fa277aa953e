use meav_protocol::{
    Chat, ChatHit, ChatTurn, Command, Event, Fact, JobId, JobSpec, Message, Outcome, Role, Setup,
    UserError, VectorImport,
};
use meav_ui::{
    Action, ChatAction, Effect, HostInfo, KnobAction, KnobId, LibraryAction, Model, Settings,
    UiCommand,
};

use crate::data_values::{data_report, demo_data, judge_report, leakage, page};
use crate::values::{
    comparison, compress_report, described, hello, host, made, ready, reply, separate_report,
    summary,
};

/// Records of every file.
pub(crate) const TOTAL_RECORDS: usize = 120;

/// The first knobs of a first start, and in most tests the only ones.
pub(crate) const MEDICAL: KnobId = KnobId(1);
pub(crate) const FINANCIAL: KnobId = KnobId(2);

/// Those of a first start, with two knobs.
pub(crate) fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.knobs.truncate(2);
    settings
}

/// The window's contents with an engine that is played by hand.
pub(crate) struct Window {
    pub(crate) model: Model,
    /// What the host was asked to do, in order.
    pub(crate) effects: Vec<Effect>,
    /// Seconds on the window's clock.
    pub(crate) now: f64,
    /// The settings that the host was last given to keep, and when it was last asked to.
    kept: (Settings, f64),
    /// The chats that the engine keeps, the last one spoken in last.
    pub(crate) workspace: Vec<Chat>,
    deleted: Vec<Chat>,
}

impl Window {
    /// As at the first start, with two knobs.
    pub(crate) fn new() -> Self {
        Self::with(settings())
    }

    pub(crate) fn with(settings: Settings) -> Self {
        Self::on(host(), settings)
    }

    pub(crate) fn on(host: HostInfo, settings: Settings) -> Self {
        let (model, effects) = Model::new(settings.clone(), host);
        Self {
            model,
            effects,
            now: 0.0,
            kept: (settings, 0.0),
            workspace: Vec::new(),
            deleted: Vec::new(),
        }
    }

    /// With the demo model loaded and both knobs at 0.
    pub(crate) fn ready() -> Self {
        Self::ready_with(settings())
    }

    pub(crate) fn ready_with(settings: Settings) -> Self {
        let mut window = Self::with(settings);
        window.apply(hello());
        window.answer_all();
        window.effects.clear();
        window
    }

    pub(crate) fn update(&mut self, action: Action) {
        let effects = self.model.update(action, self.now);
        self.host(effects);
    }

    pub(crate) fn apply(&mut self, event: Event) {
        let effects = self.model.apply(event, self.now);
        self.host(effects);
    }

    pub(crate) fn tick(&mut self) {
        let effects = self.model.tick(self.now);
        self.host(effects);
    }

    fn host(&mut self, effects: Vec<Effect>) {
        for effect in &effects {
            if let Effect::SaveSettings(settings) = effect {
                self.kept.0 = (**settings).clone();
            }
        }
        self.effects.extend(effects);
    }

    pub(crate) fn command(&mut self, command: UiCommand) {
        self.update(Action::Command(command));
    }

    pub(crate) fn set_knob(&mut self, knob: KnobId, coefficient: f64) {
        self.update(Action::Knob(knob, KnobAction::Set(coefficient)));
    }

    pub(crate) fn chat(&mut self, action: ChatAction) {
        self.update(Action::Chat(action));
    }

    /// Sends a message and gives back the job that answers it.
    pub(crate) fn ask(&mut self, text: &str) -> (JobId, ChatTurn) {
        self.chat(ChatAction::SetDraft(text.to_owned()));
        self.chat(ChatAction::Send);
        self.take_turn()
    }

    /// Sends a message and has it answered.
    pub(crate) fn ask_and_answer(&mut self, text: &str) -> ChatTurn {
        let (job, turn) = self.ask(text);
        self.answer(job, &JobSpec::Chat(turn.clone()));
        self.answer_all();
        turn
    }

    /// What the host would be given to keep now.
    pub(crate) fn settings(&mut self) -> Settings {
        self.kept.1 = self.kept.1.max(self.now) + 1.0;
        let effects = self.model.tick(self.kept.1);
        self.host(effects);
        self.kept.0.clone()
    }

    /// λ of the side in use, from top to bottom.
    pub(crate) fn coefficients(&mut self) -> Vec<f64> {
        let settings = self.settings();
        let side = settings.slot.index();
        settings.knobs.iter().map(|knob| knob.coefficients[side]).collect()
    }

    /// The jobs that were started and not yet taken.
    pub(crate) fn take_jobs(&mut self) -> Vec<(JobId, JobSpec)> {
        self.take_jobs_if(|_| true)
    }

    fn take_jobs_if(&mut self, is_it: impl Fn(&JobSpec) -> bool) -> Vec<(JobId, JobSpec)> {
        let is_wanted = |effect: &mut Effect| match effect {
            Effect::Send(Command::Start { spec, .. }) => is_it(spec),
            _ => false,
        };
        let taken = self.effects.extract_if(.., is_wanted);
        taken
            .filter_map(|effect| match effect {
                Effect::Send(Command::Start { job_id, spec }) => Some((job_id, spec)),
                _ => None,
            })
            .collect()
    }

    /// Of the jobs that were started, those that move the weights.
    pub(crate) fn take_prepares(&mut self) -> Vec<(JobId, Setup)> {
        let jobs = self.take_jobs_if(|spec| matches!(spec, JobSpec::Prepare(_))).into_iter();
        jobs.filter_map(|(job, spec)| match spec {
            JobSpec::Prepare(setup) => Some((job, setup)),
            _ => None,
        })
        .collect()
    }

    /// Of the jobs that were started, the only one that answers.
    pub(crate) fn take_turn(&mut self) -> (JobId, ChatTurn) {
        match self.take_job(|spec| matches!(spec, JobSpec::Chat(_))) {
            (job, JobSpec::Chat(turn)) => (job, turn),
            (_, other) => panic!("{other:?}"),
        }
    }

    /// Of the jobs that were started, the only one like this.
    #[track_caller]
    pub(crate) fn take_job(&mut self, is_it: impl Fn(&JobSpec) -> bool) -> (JobId, JobSpec) {
        let mut jobs = self.take_jobs_if(is_it);
        assert_eq!(jobs.len(), 1, "{jobs:?}");
        jobs.remove(0)
    }

    /// The jobs that were asked to end.
    pub(crate) fn cancelled(&self) -> Vec<JobId> {
        let effects = self.effects.iter();
        effects
            .filter_map(|effect| match effect {
                Effect::Send(Command::Cancel { job_id }) => Some(*job_id),
                _ => None,
            })
            .collect()
    }

    /// Does what an engine would for every job that was started.
    pub(crate) fn answer_all(&mut self) {
        loop {
            let jobs = self.take_jobs();
            if jobs.is_empty() {
                return;
            }
            for (job_id, spec) in jobs {
                self.answer(job_id, &spec);
            }
        }
    }

    /// Does what an engine would for this job.
    pub(crate) fn answer(&mut self, job_id: JobId, spec: &JobSpec) {
        self.answer_facts(job_id, spec);
        self.finish(job_id, Outcome::Done);
    }

    /// As [`Window::answer`], without ending the job.
    pub(crate) fn answer_facts(&mut self, job_id: JobId, spec: &JobSpec) {
        for fact in self.facts(spec) {
            self.fact(job_id, fact);
        }
    }

    pub(crate) fn fact(&mut self, job_id: JobId, fact: Fact) {
        self.apply(Event::Fact { job_id, fact });
    }

    pub(crate) fn finish(&mut self, job_id: JobId, outcome: Outcome) {
        self.apply(Event::Finished { job_id, outcome });
    }

    pub(crate) fn fail(&mut self, job_id: JobId, err: UserError) {
        self.finish(job_id, Outcome::Failed(err));
    }

    /// More of an answer.
    pub(crate) fn say(&mut self, job: JobId, text: &str) {
        self.fact(job, Fact::Text { text: text.to_owned(), tokens: 5 });
    }

    /// Shows a chat that the engine keeps.
    pub(crate) fn show(&mut self, chat: Chat) {
        let id = chat.id;
        self.workspace.push(chat);
        self.update(Action::Library(LibraryAction::Open(id)));
        self.answer_all();
    }

    fn facts(&mut self, spec: &JobSpec) -> Vec<Fact> {
        match spec {
            JobSpec::Prepare(setup) => vec![ready(setup)],
            JobSpec::Chat(turn) => self.reply_to(turn),
            JobSpec::LoadChat { id } => {
                let mut chats = self.workspace.iter().rev();
                vec![Fact::Chat(chats.find(|chat| id.is_none_or(|id| chat.id == id)).cloned())]
            }
            JobSpec::RenameChat { id, title } => {
                for chat in self.workspace.iter_mut().filter(|chat| chat.id == *id) {
                    chat.title.clone_from(title);
                }
                vec![self.chats()]
            }
            JobSpec::DeleteChat { id } => {
                self.deleted.extend(self.workspace.extract_if(.., |chat| chat.id == *id));
                vec![self.chats()]
            }
            JobSpec::RestoreChat { id } => {
                self.workspace.extend(self.deleted.extract_if(.., |chat| chat.id == *id));
                vec![self.chats()]
            }
            JobSpec::ListChats => vec![self.chats()],
            JobSpec::SearchChats { text, .. } => vec![self.find(text)],
            JobSpec::ListAudit { .. } => vec![Fact::Audit(Vec::new())],
            JobSpec::Describe { path } => vec![described(path)],
            JobSpec::CompareVectors { vectors, .. } => vec![Fact::Compared(comparison(vectors))],
            JobSpec::ExtractVector(extract) => vec![made(&extract.out.path)],
            JobSpec::ImportVector(VectorImport { out, .. }) => vec![made(&out.path)],
            JobSpec::CompressVector(compress) => {
                let report = Fact::Compressed(compress_report(compress.probe.is_some()));
                vec![report, made(&compress.out.path)]
            }
            JobSpec::SeparateVector(separate) => {
                let mut facts = vec![Fact::Separated(separate_report())];
                let shared = separate.shared_out.iter().map(|out| made(&out.path));
                facts.extend(shared.chain([made(&separate.out.path)]));
                facts
            }
            JobSpec::ListDemoData => vec![Fact::DemoData(demo_data())],
            JobSpec::InspectData { path } => {
                vec![Fact::Data(Box::new(data_report(path, TOTAL_RECORDS)))]
            }
            JobSpec::ReadRecords { path, search, start, count } => {
                vec![Fact::Records(page(path, search, (*start, *count), TOTAL_RECORDS))]
            }
            JobSpec::FindLeakage { .. } => vec![Fact::Leakage(leakage())],
            JobSpec::SplitData(split) => ["train", "validation", "test"]
                .map(|part| made(&split.out.path.join(format!("medical.{part}.jsonl"))))
                .to_vec(),
            JobSpec::Judge(spec) => vec![Fact::Judged(Box::new(judge_report(spec)))],
            JobSpec::KeepKey { address, key } => {
                vec![Fact::Key { address: address.clone(), is_kept: key.is_some() }]
            }
            JobSpec::FindKey { address } => {
                vec![Fact::Key { address: address.clone(), is_kept: false }]
            }
            JobSpec::ExportComparison { out, .. }
            | JobSpec::ExportJudgement { out, .. }
            | JobSpec::ExportChat { out, .. }
            | JobSpec::ExportAudit { out } => {
                vec![Fact::Written { path: out.path.clone(), summary: "Written".to_owned() }]
            }
            other => crate::trainings::facts(other),
        }
    }

    fn chats(&self) -> Fact {
        let chats = self.workspace.iter().rev();
        Fact::Chats(chats.map(|chat| summary(chat.id, &chat.title)).collect())
    }

    fn find(&self, words: &str) -> Fact {
        let chats = self.workspace.iter();
        let messages = chats.flat_map(|chat| chat.messages.iter().map(move |it| (chat, it)));
        let hits = messages.filter(|(_, message)| message.content.contains(words));
        let hit = |(chat, message): (&Chat, &Message)| ChatHit {
            chat: chat.id,
            title: chat.title.clone(),
            message: Some(message.id),
            excerpt: message.content.clone(),
        };
        Fact::Found(hits.map(hit).collect())
    }

    fn reply_to(&mut self, turn: &ChatTurn) -> Vec<Fact> {
        let question = turn.messages.last().expect("there is a question");
        let text = format!("Answer to {}", question.content);
        let reply = reply(&turn.setup, &text);
        if let Some(keep) = turn.keep {
            let mut answer = Message::new(Some(question.id), Role::Assistant, text.clone());
            answer.id = keep.reply;
            answer.recipe = Some(reply.recipe.clone());
            let known = self.workspace.iter().position(|chat| chat.id == keep.chat);
            let mut chat = known.map_or_else(
                || Chat {
                    id: keep.chat,
                    title: turn.messages[0].content.clone(),
                    system: turn.system.clone(),
                    messages: Vec::new(),
                    leaf: None,
                },
                |index| self.workspace.remove(index),
            );
            for message in turn.messages.iter().chain([&answer]) {
                if chat.messages.iter().all(|known| known.id != message.id) {
                    chat.messages.push(message.clone());
                }
            }
            chat.leaf = Some(answer.id);
            self.workspace.push(chat);
        }
        vec![ready(&turn.setup), Fact::Text { text, tokens: 3 }, Fact::Reply(reply)]
    }
}
