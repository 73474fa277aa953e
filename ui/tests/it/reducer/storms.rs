use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use meav_protocol::{
    Chat, ChatHit, Command, Dtype, Event, Fact, FileKind, GgufForm, JobId, JobSpec, MergeFormat,
    Message, Method, Outcome, PlanChange, Role, Stage, UserError,
};
use meav_ui::{
    Action, AnswerFilter, ChatAction, DataAction, DialogAction, Effect, JudgeAction, JudgeChoice,
    KnobAction, KnobId, LevelFilter, LibraryAction, PathPurpose, ScopeDraft, Slot, SplitDraft,
    TrainAction, UiCommand, VectorsAction,
};
use uuid::Uuid;

use crate::data_values::{data_report, demo_data, judge_report, leakage, page};
use crate::support::Window;
use crate::trainings::{STEPS, paused, so_far, trained};
use crate::values::{
    about, comparison, described, hello, loaded, lost, made, missing_vector, opened_recipe, ready,
    reply, summary, too_large_plan,
};

/// An engine that has lost its wits: it answers what it likes, when it likes.
struct Storm {
    rng: Rng,
    window: Window,
    running: BTreeMap<JobId, JobSpec>,
    ever: BTreeSet<JobId>,
    chats: Vec<Uuid>,
    messages: Vec<Uuid>,
}

impl Storm {
    fn new(seed: u64) -> Self {
        let (window, rng) = (Window::new(), Rng::with_seed(seed));
        let (running, ever) = (BTreeMap::new(), BTreeSet::new());
        let mut storm = Self {
            rng,
            window,
            running,
            ever,
            chats: vec![Uuid::nil()],
            messages: vec![Uuid::nil()],
        };
        storm.note();
        storm
    }

    /// Takes note of what the window asked for, and checks that it asks in order.
    fn note(&mut self) {
        for effect in std::mem::take(&mut self.window.effects) {
            match effect {
                Effect::Send(Command::Start { job_id, spec }) => {
                    assert!(self.ever.insert(job_id), "{job_id:?} names two jobs");
                    if let JobSpec::Chat(turn) = &spec {
                        assert!(!turn.messages.is_empty(), "an answer to nothing is asked for");
                        self.messages.extend(turn.messages.iter().map(|message| message.id));
                        self.chats.extend(turn.keep.map(|keep| keep.chat));
                    }
                    if let JobSpec::Prepare(setup) = &spec {
                        assert!(setup.vectors.iter().all(|term| term.coefficient.abs() <= 1.5));
                        let is_sound = match setup.method {
                            Method::TaskArithmetic => true,
                            Method::Ties { density } => density > 0.0 && density <= 1.0,
                            Method::Dare { drop, .. } => (0.0..1.0).contains(&drop),
                        };
                        assert!(is_sound, "{}", setup.method);
                    }
                    self.running.insert(job_id, spec);
                }
                Effect::Send(
                    Command::Cancel { job_id }
                    | Command::Pause { job_id }
                    | Command::GoOn { job_id }
                    | Command::WrapUp { job_id },
                ) => {
                    assert!(self.running.contains_key(&job_id), "{job_id:?} does not run");
                }
                _ => {}
            }
        }
        let count =
            |is_it: fn(&JobSpec) -> bool| self.running.values().filter(|it| is_it(it)).count();
        assert!(count(|spec| matches!(spec, JobSpec::Prepare(_))) <= 1);
        assert!(count(|spec| matches!(spec, JobSpec::Chat(_))) <= 1);
        assert!(count(|spec| *spec == JobSpec::FetchDemo) <= 1);
        assert!(count(|spec| matches!(spec, JobSpec::Judge(_))) <= 1);
    }

    /// A job that runs, mostly; else one that has ended, or never was.
    fn job(&mut self) -> JobId {
        match (self.rng.u8(..10), self.running.len()) {
            (0, _) => JobId(self.rng.u64(..)),
            (1, _) | (_, 0) => JobId(self.rng.u64(..=self.ever.len() as u64 * 2)),
            (_, len) => {
                let index = self.rng.usize(..len);
                *self.running.keys().nth(index).expect("there are so many")
            }
        }
    }

    fn one_of(rng: &mut Rng, ids: &[Uuid]) -> Uuid {
        if rng.u8(..10) == 0 { Uuid::from_u128(rng.u128(..)) } else { ids[rng.usize(..ids.len())] }
    }

    fn error(&mut self) -> UserError {
        let file = ["medical", "financial", "demo", "elsewhere"][self.rng.usize(..4)];
        if self.rng.bool() { about(file, "It does not fit") } else { UserError::new("Broken", "") }
    }

    fn fact(&mut self, job: JobId) -> Fact {
        let setup = match self.running.get(&job) {
            Some(JobSpec::Prepare(setup)) => setup.clone(),
            Some(JobSpec::Chat(turn)) => turn.setup.clone(),
            _ => meav_protocol::Setup {
                model: "x".into(),
                dtype: Dtype::F32,
                method: Method::default(),
                vectors: Vec::new(),
            },
        };
        let chat = Self::one_of(&mut self.rng, &self.chats);
        match self.rng.u8(..20) {
            0..3 => ready(&setup),
            3 => {
                let mut odd = loaded(&setup);
                odd.vectors.truncate(1);
                odd.notes = vec!["Odd".to_owned()];
                Fact::Ready(Box::new(odd))
            }
            4..6 => Fact::Text { text: "word ".to_owned(), tokens: self.rng.usize(..9) },
            6 => Fact::Reply(reply(&setup, if self.rng.bool() { "All of it." } else { "" })),
            7 => {
                let file = if self.rng.bool() { "/m/big.gguf" } else { "/v/legal.safetensors" };
                described(std::path::Path::new(file))
            }
            8 => Fact::Chat(self.rng.bool().then(|| self.chat(chat))),
            9 => Fact::Chats(vec![summary(chat, "A chat")]),
            10 => {
                let message = Some(Self::one_of(&mut self.rng, &self.messages));
                let (title, excerpt) = ("A chat".to_owned(), "words".to_owned());
                Fact::Found(vec![ChatHit { chat, title, message, excerpt }])
            }
            11 => {
                let mut recipe = opened_recipe();
                recipe.missing =
                    (0..self.rng.usize(..3)).map(|_| missing_vector("legal")).collect();
                Fact::Recipe(Box::new(recipe))
            }
            12 => Fact::Plan(too_large_plan()),
            13 => Fact::Compared(comparison(&["x".into(), "y".into()][..self.rng.usize(..3)])),
            14 => made(std::path::Path::new("/v/made.safetensors")),
            15..18 => self.data_fact(job),
            _ => Fact::Note("By the way".to_owned()),
        }
    }

    /// Something about data or answers, of whatever file.
    fn data_fact(&mut self, job: JobId) -> Fact {
        let file = std::path::Path::new(["/d/a.jsonl", "/d/b.jsonl"][self.rng.usize(..2)]);
        let (start, count, total) =
            (self.rng.usize(..200), self.rng.usize(..60), self.rng.usize(..120));
        match (self.rng.u8(..6), self.running.get(&job)) {
            (0, _) => Fact::DemoData(demo_data()),
            (1, _) => Fact::Data(Box::new(data_report(file, total + 1))),
            (2, _) => Fact::Leakage(leakage()),
            (3, _) => Fact::Key { address: "https://a".to_owned(), is_kept: self.rng.bool() },
            (_, Some(JobSpec::Judge(spec))) => {
                assert!(spec.recipes.iter().all(|it| it.len() == spec.setup.vectors.len()));
                Fact::Judged(Box::new(judge_report(spec)))
            }
            (_, Some(JobSpec::Train(spec))) => {
                let step = 1 + start % STEPS;
                let runs = [so_far(spec, step), paused(spec, step), trained(spec)];
                Fact::Train(Box::new(runs[count % runs.len()].clone()))
            }
            _ => Fact::Records(page(file, "", (start, count), total)),
        }
    }

    /// Something on the Train screen.
    fn train_action(&mut self) -> Action {
        let job = self.job();
        let run = match self.running.get(&job) {
            Some(JobSpec::Train(spec)) => spec.run,
            _ => Uuid::nil(),
        };
        let actions = [
            TrainAction::AddData("/d/a.jsonl".into()),
            TrainAction::Start,
            TrainAction::Pause(job),
            TrainAction::GoOn(job),
            TrainAction::WrapUp(job),
            TrainAction::Cancel(job),
            TrainAction::ChatWith(run),
            TrainAction::Resume(run),
            TrainAction::SweepIt(run),
        ];
        Action::Train(actions[self.rng.usize(..actions.len())].clone())
    }

    /// Something on the screens Data and Judge.
    fn data_action(&mut self, text: String) -> Action {
        let place = self.rng.usize(..200);
        let mut form = self.window.model.judge_form().clone();
        form.data.clone_from(&text);
        form.address = format!("https://{text}");
        form.temperature = [f64::NAN, 0.0, 1.0][self.rng.usize(..3)];
        let judges = [JudgeChoice::SameModel, JudgeChoice::OtherModel, JudgeChoice::Endpoint];
        form.judge = judges[self.rng.usize(..3)];
        form.recipes.truncate(self.rng.usize(..4));
        let level = LevelFilter::At(self.rng.usize(..4));
        let filter = AnswerFilter { row: Some(self.rng.usize(..4)), level };
        let folder = text.clone();
        let draft = SplitDraft { test: self.rng.f64(), validation: 0.0, seed: 1, folder };
        let actions = [
            Action::Data(DataAction::Open("/d/a.jsonl".into())),
            Action::Data(DataAction::SetSearch(text)),
            Action::Data(DataAction::Select(place)),
            Action::Data(DataAction::SetSplit(draft)),
            Action::Data(DataAction::Retry),
            Action::Data(DataAction::Judge),
            Action::Judge(JudgeAction::SetForm(Box::new(form))),
            Action::Judge(JudgeAction::Start),
            Action::Judge(JudgeAction::KeepKey),
            Action::Judge(JudgeAction::FindKey),
            Action::Judge(JudgeAction::SetFilter(filter)),
            Action::Judge(JudgeAction::SelectAnswer(place)),
            Action::Picked(PathPurpose::SplitFolder, vec!["/parts".into()]),
        ];
        actions[self.rng.usize(..actions.len())].clone()
    }

    /// A chat as a damaged workspace might have it.
    fn chat(&mut self, id: Uuid) -> Chat {
        let mut messages: Vec<Message> = Vec::new();
        for index in 0..self.rng.usize(..6) {
            let role = if index % 2 == 0 { Role::User } else { Role::Assistant };
            let parent = (index > 0).then(|| messages[self.rng.usize(..messages.len())].id);
            messages.push(Message::new(parent, role, "text"));
        }
        self.messages.extend(messages.iter().map(|message| message.id));
        let leaf = self.rng.bool().then(|| Self::one_of(&mut self.rng, &self.messages));
        Chat { id, title: String::new(), system: String::new(), messages, leaf }
    }

    fn event(&mut self) -> Event {
        let job_id = self.job();
        match self.rng.u8(..16) {
            0 => hello(),
            1 => lost("it has lost its wits"),
            2..4 => {
                let (done, total) = (self.rng.u64(..9), self.rng.u64(..9));
                Event::Progress { job_id, stage: Stage::Loading, done, total }
            }
            4..13 => Event::Fact { job_id, fact: self.fact(job_id) },
            _ => {
                let outcome = match self.rng.u8(..4) {
                    0 => Outcome::Cancelled,
                    1 => Outcome::Failed(self.error()),
                    _ => Outcome::Done,
                };
                Event::Finished { job_id, outcome }
            }
        }
    }

    fn action(&mut self) -> Action {
        let knob = KnobId(self.rng.u64(..5));
        let chat = Self::one_of(&mut self.rng, &self.chats);
        let message = Self::one_of(&mut self.rng, &self.messages);
        let text = ["", " ", "words", "/some/path"][self.rng.usize(..4)].to_owned();
        match self.rng.u8(..31) {
            0..4 => Action::Command(UiCommand::ALL[self.rng.usize(..UiCommand::ALL.len())]),
            4 => {
                let by = [f64::NAN, -9.0, 0.3, 1.2][self.rng.usize(..4)];
                Action::Knob(knob, KnobAction::Set(by))
            }
            5 => Action::Knob(knob, KnobAction::SetBypassed(self.rng.bool())),
            6 => Action::Knob(
                knob,
                [
                    KnobAction::Move(1),
                    KnobAction::Move(-9),
                    KnobAction::Select,
                    KnobAction::Retry,
                    KnobAction::Remove,
                    KnobAction::EditScope,
                ][self.rng.usize(..6)],
            ),
            7 => [Action::Retry, Action::FetchDemo, Action::Flip(Slot::B)][self.rng.usize(..3)]
                .clone(),
            8 => Action::CancelJob(self.job()),
            9 => Action::Chat(ChatAction::SetDraft(text)),
            10 => Action::Chat(ChatAction::Send),
            11 => Action::Chat(ChatAction::Stop),
            12 => Action::Chat(ChatAction::Regenerate { question: message }),
            13 => Action::Chat(
                [
                    ChatAction::BeginEdit(message),
                    ChatAction::SetEdit(text),
                    ChatAction::SubmitEdit,
                    ChatAction::ShowBranch(message),
                ][self.rng.usize(..4)]
                .clone(),
            ),
            14 => Action::Library(
                [
                    LibraryAction::Open(chat),
                    LibraryAction::Reveal { chat, message: Some(message) },
                    LibraryAction::Delete(chat),
                    LibraryAction::SetSearch(text),
                ][self.rng.usize(..4)]
                .clone(),
            ),
            15 => Action::Undo(self.rng.u64(..20)),
            16 => Action::Dialog(
                [DialogAction::SetText(text), DialogAction::Accept, DialogAction::Close]
                    [self.rng.usize(..3)]
                .clone(),
            ),
            17 => Action::Picked(PathPurpose::AddVector, vec!["/v/x.safetensors".into()]),
            18 => Action::EngineUnavailable(self.job(), "it is full".to_owned()),
            19..22 => self.recipe_action(text),
            22 => self.vectors_action(knob),
            23..27 => self.data_action(text),
            27..30 => self.train_action(),
            _ => Action::CloseRequested,
        }
    }

    /// Something on the Vectors screen.
    fn vectors_action(&mut self, knob: KnobId) -> Action {
        let actions = [
            Action::Vectors(VectorsAction::Compare(knob, self.rng.bool())),
            Action::Vectors(VectorsAction::ShowPair(7, 3)),
            Action::Vectors(VectorsAction::AddMade),
            Action::Vectors(VectorsAction::ReplaceByMade),
            Action::Vectors(VectorsAction::AddShared),
            Action::Dialog(DialogAction::UseAs(FileKind::Vector)),
        ];
        actions[self.rng.usize(..actions.len())].clone()
    }

    /// Something with method, scope, recipe file or memory plan.
    fn recipe_action(&mut self, text: String) -> Action {
        let index = self.rng.usize(..3);
        let share = [f64::NAN, 0.0, 0.3, 1.0][self.rng.usize(..4)];
        let scope = ScopeDraft { layers: text.clone(), ..ScopeDraft::default() };
        let dialog = [
            DialogAction::SetScope(scope),
            DialogAction::SetLocation(index, text),
            DialogAction::Locate(index),
            DialogAction::BrowseLocation { index, folder: false },
            DialogAction::TakeWayOut(PlanChange::Dtype(Dtype::Bf16)),
            DialogAction::TakeWayOut(PlanChange::ConvertModel),
            DialogAction::TakeWayOut(PlanChange::CompressVector { file: "medical".into() }),
            DialogAction::SetFormat(MergeFormat::Gguf(GgufForm::F16)),
            DialogAction::Replace,
        ];
        match self.rng.u8(..6) {
            0 => Action::SetMethod(Method::Ties { density: share }),
            1 => Action::SetMethod(Method::Dare { drop: share, seed: 1 }),
            2 => Action::NewSeed,
            3 => Action::OpenPaths(vec!["/recipes/careful.meav".into()]),
            4 => Action::Picked(PathPurpose::Locate(index), vec!["/v/x.safetensors".into()]),
            _ => Action::Dialog(dialog[self.rng.usize(..dialog.len())].clone()),
        }
    }

    fn step(&mut self) {
        self.window.now += self.rng.f64();
        if self.rng.bool() {
            let action = self.action();
            if let Action::EngineUnavailable(job, _) = &action {
                self.running.remove(job);
            }
            self.window.update(action);
        } else {
            let event = self.event();
            let job = match &event {
                Event::Fact { job_id, .. }
                | Event::Progress { job_id, .. }
                | Event::Finished { job_id, .. } => Some(job_id),
                Event::EngineChosen(_) | Event::Hello { .. } | Event::EngineLost { .. } => None,
            };
            let is_stale = job.is_some_and(|job| !self.running.contains_key(job));
            if let Event::Finished { job_id, .. } = &event {
                self.running.remove(job_id);
            }
            self.window.apply(event);
            assert!(!is_stale || self.window.effects.is_empty(), "a job ends once");
        }
        self.window.tick();
        self.note();
    }

    /// The engine comes to its senses and ends what it has; then the window has nothing to wait
    /// for, and works.
    fn calm(mut self) {
        for _ in 0..1000 {
            let Some((job, spec)) = self.running.pop_first() else { break };
            self.window.answer(job, &spec);
            self.note();
        }
        assert_eq!(self.running, BTreeMap::new(), "there is no end to it");
        self.window.update(Action::Dialog(DialogAction::Close));
        self.window.command(UiCommand::NewChat);
        let (job, turn) = self.window.ask("Are you all right?");
        assert_eq!(turn.messages.len(), 1);
        self.window.answer(job, &JobSpec::Chat(turn));
        self.window.answer_all();
        self.window.update(Action::CloseRequested);
        assert_eq!(self.window.effects.last(), Some(&Effect::Quit), "no job is left behind");
    }
}

#[test]
fn ten_thousand_events_in_any_order_leave_the_window_in_order() {
    for seed in 0..8 {
        let mut storm = Storm::new(seed);
        for _ in 0..10_000 {
            storm.step();
        }
        storm.calm();
    }
}

#[test]
fn storm_of_events_of_jobs_that_never_were_changes_nothing() {
    let mut storm = Storm::new(1);
    storm.window.answer_all();
    let jobs: Vec<_> = std::mem::take(&mut storm.running).into_iter().collect();
    for (job, spec) in jobs {
        storm.window.answer(job, &spec);
    }
    storm.window.answer_all();
    storm.window.effects.clear();
    for _ in 0..10_000 {
        let job_id = JobId(1_000_000 + storm.rng.u64(..9));
        let fact = storm.fact(job_id);
        storm.window.fact(job_id, fact);
        storm.window.finish(job_id, Outcome::Done);
    }
    assert_eq!(storm.window.effects, []);
}
