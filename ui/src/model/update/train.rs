use std::path::{Path, PathBuf};

use meav_protocol::{
    Command, Description, FileKind, JobId, JobSpec, RunState, TrainData, TrainSettings, TrainSpec,
};
use uuid::Uuid;

use super::file_label;
use crate::action::PathPurpose;
use crate::command::UiCommand;
use crate::effect::{Effect, PickKind, PickRequest};
use crate::model::jobs::Purpose;
use crate::model::sweep::{AfterLoad, DataFile};
use crate::model::train::{Asked, Estimate, Phase, Queued, TrainJob};
use crate::model::{Dialog, Model};
use crate::settings::{DATA, Screen};
use crate::train_action::TrainAction;

impl Model {
    pub(super) fn train(&mut self, action: TrainAction, now: f64) -> Vec<Effect> {
        let trainings = &mut self.trainings;
        match action {
            TrainAction::SetForm(form) => trainings.form = *form,
            TrainAction::Unfold(is_unfolded) => trainings.is_unfolded = is_unfolded,
            TrainAction::AddData(path) => return self.add_train_data(path, now),
            TrainAction::AddTyped => return self.add_typed_train_data(now),
            TrainAction::BrowseData => {
                let kind = PickKind::Files { filter: ("Preference data", DATA) };
                let (purpose, title) = (PathPurpose::TrainData, "Add preference data");
                return vec![Effect::Pick(PickRequest { purpose, title, kind })];
            }
            TrainAction::RemoveData(index) => {
                if index < trainings.form.data.len() {
                    trainings.form.data.remove(index);
                }
                // The next file may be of something else.
                if trainings.form.data.is_empty() {
                    trainings.form.domain = None;
                }
            }
            TrainAction::BrowseFolder => {
                let (purpose, title) = (PathPurpose::TrainFolder, "Folder for the run");
                return vec![Effect::Pick(PickRequest { purpose, title, kind: PickKind::Folder })];
            }
            TrainAction::Estimate => return self.estimate_training(now),
            TrainAction::Start => return self.start_training(now),
            TrainAction::Begin(run) => {
                return self.begin_training(run, now).into_iter().collect();
            }
            TrainAction::Forget(run) => trainings.unbegun.retain(|it| it.run != run),
            TrainAction::Pause(job) => return self.pause_training(job, now),
            TrainAction::GoOn(job) => return self.go_on_training(job, now),
            TrainAction::WrapUp(job) => return self.wrap_up_training(job),
            TrainAction::Cancel(job) => {
                let is_its = self.trainings.queue.iter().any(|it| it.job == job);
                return is_its.then(|| self.jobs.cancel(job)).flatten().into_iter().collect();
            }
            TrainAction::ChatWith(run) => return self.chat_with_training(run, now),
            TrainAction::AddToKnobs(run) => return self.add_trained(run, now),
            TrainAction::SweepIt(run) => return self.sweep_trained(run, now),
            TrainAction::Resume(run) => return self.resume_training(run, now),
            TrainAction::Open(run) => return self.open_training(run, now),
            TrainAction::Compare(run, is_wanted) => {
                return self.compare_training(run, is_wanted, now);
            }
            TrainAction::AskDelete(run) => self.dialog = Some(Dialog::ForgetTraining(run)),
        }
        Vec::new()
    }

    pub(super) fn start_train_job(
        &mut self,
        job: TrainJob,
        spec: JobSpec,
        now: f64,
    ) -> (JobId, Effect) {
        self.jobs.start(Purpose::Train(job), spec, now)
    }

    /// Shows the screen, with the runs that are known.
    pub(super) fn show_train(&mut self, now: f64) -> Vec<Effect> {
        self.show_screen(Screen::Train);
        vec![self.list_trainings(now)]
    }

    pub(in crate::model) fn list_trainings(&mut self, now: f64) -> Effect {
        self.start_train_job(TrainJob::List, JobSpec::ListTrainings, now).1
    }

    /// Whether what was opened is data for the next run: it is, on this screen.
    pub(in crate::model) fn wants_train_data(&self, found: &Description) -> bool {
        found.kind == FileKind::Data && self.settings.screen == Screen::Train
    }

    /// Takes a file of records in, and looks what it holds.
    pub(in crate::model) fn add_train_data(&mut self, file: PathBuf, now: f64) -> Vec<Effect> {
        let trainings = &mut self.trainings;
        if trainings.form.place_of(&file).is_some() {
            return Vec::new();
        }
        trainings.form.data.push(TrainData { file: file.clone(), prefer: None });
        if matches!(trainings.files.get(&file), Some(DataFile::Reading | DataFile::Read(_))) {
            return Vec::new();
        }
        trainings.files.insert(file.clone(), DataFile::Reading);
        let job = TrainJob::Inspect(file.clone());
        vec![self.start_train_job(job, JobSpec::InspectData { path: file }, now).1]
    }

    fn add_typed_train_data(&mut self, now: f64) -> Vec<Effect> {
        let typed = std::mem::take(&mut self.trainings.form.path);
        let typed = typed.trim();
        if typed.is_empty() {
            return Vec::new();
        }
        self.add_train_data(self.path_to_read(Path::new(typed)), now)
    }

    /// Paths from a dialog of the system.
    pub(super) fn picked_for_training(
        &mut self,
        purpose: PathPurpose,
        paths: Vec<PathBuf>,
        now: f64,
    ) -> Vec<Effect> {
        if purpose == PathPurpose::TrainData {
            return paths.into_iter().flat_map(|path| self.add_train_data(path, now)).collect();
        }
        if let Some(folder) = paths.first() {
            self.trainings.form.out = folder.display().to_string();
        }
        Vec::new()
    }

    /// What is still wanted before a run can begin, in words; `None` if nothing is.
    pub fn missing_for_training(&self) -> Option<String> {
        let form = &self.trainings.form;
        // Whether it is loaded now is no matter: training loads the base for itself.
        if self.weights.model.as_os_str().is_empty() {
            return Some("Choose a model".to_owned());
        }
        if form.data.is_empty() {
            return Some("Add data to train on".to_owned());
        }
        if let Some(said) = self.missing_of_train_data() {
            return Some(said);
        }
        if self.trainings.domain().trim().is_empty() {
            return Some("Name the domain".to_owned());
        }
        let spec = match form.settings() {
            Ok(settings) => self.train_spec(Uuid::nil(), settings),
            Err(said) => return Some(said),
        };
        let folder = spec.out.filter(|folder| self.trainings.has_folder(folder))?;
        Some(format!("Name another folder: {} has a run already", folder.display()))
    }

    fn missing_of_train_data(&self) -> Option<String> {
        let trainings = &self.trainings;
        for TrainData { file, prefer } in &trainings.form.data {
            let name = file_label(file);
            match trainings.files.get(file) {
                Some(DataFile::Read(report)) => {
                    let is_pair = |it: &&meav_protocol::MeasureSummary| it.levels.len() > 1;
                    if !report.measures.iter().any(|it| is_pair(&it)) {
                        return Some(format!("{name} has no two levels to prefer one of"));
                    }
                }
                Some(DataFile::Bad(_)) => return Some(format!("{name} can't be read")),
                Some(DataFile::Reading) | None => return Some(format!("{name} is being read")),
            }
            if let Some(level) = prefer
                && !trainings.levels(file).contains(&level.as_str())
            {
                return Some(format!("{name} has no level {level}"));
            }
        }
        None
    }

    fn train_spec(&self, run: Uuid, settings: TrainSettings) -> TrainSpec {
        let form = &self.trainings.form;
        let out = form.out.trim();
        TrainSpec {
            run,
            model: self.weights.model.clone(),
            data: form.data.clone(),
            domain: self.trainings.domain().trim().to_owned(),
            out: (!out.is_empty()).then(|| self.path_to_write(Path::new(out))),
            resume: false,
            dtype: form.dtype,
            settings,
        }
    }

    /// A run as the form says, if nothing is missing.
    fn wanted_training(&self) -> Option<TrainSpec> {
        let settings = self.trainings.form.settings().ok()?;
        self.missing_for_training().is_none().then(|| self.train_spec(Uuid::now_v7(), settings))
    }

    /// Whether what was estimated is still what the form says; `None` if nothing was.
    pub(crate) fn is_estimate_current(&self) -> Option<bool> {
        let estimate = &self.trainings.estimate;
        estimate.found.as_ref()?;
        let settings = self.trainings.form.settings().ok();
        let spec = settings.map(|settings| self.train_spec(Uuid::nil(), settings));
        Some(spec.is_some_and(|spec| estimate.of(&spec).is_some()))
    }

    /// Has a step tried.
    fn estimate_training(&mut self, now: f64) -> Vec<Effect> {
        let older = self.trainings.estimate.job.take().and_then(|job| self.jobs.cancel(job));
        let mut effects = Vec::from_iter(older);
        self.trainings.estimate = Estimate::default();
        let Some(spec) = self.wanted_training().map(Box::new) else { return effects };
        let job = TrainJob::Estimate(spec.clone());
        let (job, effect) = self.start_train_job(job, JobSpec::EstimateTraining(spec), now);
        self.trainings.estimate.job = Some(job);
        effects.push(effect);
        effects
    }

    pub(super) fn start_training(&mut self, now: f64) -> Vec<Effect> {
        if self.settings.screen != Screen::Train {
            self.show_screen(Screen::Train);
        }
        if let Some(missing) = self.missing_for_training() {
            self.trainings.is_unfolded = true;
            self.notices.info(missing, now);
            return Vec::new();
        }
        let Some(spec) = self.wanted_training() else { return Vec::new() };
        // The next run can't have the same.
        self.trainings.form.out.clear();
        vec![self.run_training(spec, now)]
    }

    /// Says once that runs were waiting for their turn when the window was closed.
    pub(in crate::model) fn tell_unbegun(&mut self) {
        let text = match &self.trainings.unbegun[..] {
            [] => return,
            [spec] => format!("Training of {} was queued, and has not begun", spec.domain),
            specs => format!("{} training runs were queued, and have not begun", specs.len()),
        };
        let action = crate::Action::Command(UiCommand::ShowTrain);
        self.notices.offer(text, "Show them", action);
    }

    /// Begins a run that was waiting for its turn when the engine or the window ended.
    fn begin_training(&mut self, run: Uuid, now: f64) -> Option<Effect> {
        let place = self.trainings.unbegun.iter().position(|it| it.run == run)?;
        let spec = self.trainings.unbegun.remove(place);
        // It may have got a folder before it was lost.
        Some(self.run_training(TrainSpec { run: Uuid::now_v7(), ..spec }, now))
    }

    /// Begins, goes on where the run has ended before, or waits for those that come first.
    fn run_training(&mut self, spec: TrainSpec, now: f64) -> Effect {
        // Those that are paused let others go first.
        let is_before = |it: &Queued| {
            !matches!(
                self.training_phase(it.job),
                None | Some(Phase::Paused | Phase::Pausing | Phase::Held)
            )
        };
        let (run, has_to_wait) = (spec.run, self.trainings.queue.iter().any(is_before));
        let job = JobSpec::Train(Box::new(spec.clone()));
        let (job, effect) = self.start_train_job(TrainJob::Run(run), job, now);
        self.trainings.queue.push(Queued { job, spec, asked: Asked::Nothing, is_open: false });
        self.trainings.error = None;
        self.trainings.estimate.error = None;
        self.trainings.is_unfolded = false;
        if has_to_wait {
            self.notices.info("It begins when the runs before it have ended", now);
        } else {
            self.show_training(run);
        }
        effect
    }

    fn show_training(&mut self, run: Uuid) {
        self.trainings.shown = Some(run);
        self.trainings.compared.retain(|other| *other != run);
    }

    fn pause_training(&mut self, job: JobId, now: f64) -> Vec<Effect> {
        let can = |phase| matches!(phase, Phase::Working | Phase::Waiting);
        let effects = self.ask_training(job, Asked::Pause, can);
        // One that has not begun holds without a word.
        if self.training_phase(job) == Some(Phase::Held) {
            self.jobs.set_paused(job, true, now);
        }
        effects
    }

    fn wrap_up_training(&mut self, job: JobId) -> Vec<Effect> {
        // Before the first step there is nothing to keep.
        let has_steps = self.trainings.queue.iter().find(|it| it.job == job).is_some_and(|it| {
            let run = self.trainings.runs.get(&it.spec.run);
            run.is_some_and(|run| !run.run.steps.is_empty())
        });
        let can = |phase| !matches!(phase, Phase::Ending | Phase::Cancelling);
        if has_steps { self.ask_training(job, Asked::WrapUp, can) } else { Vec::new() }
    }

    fn go_on_training(&mut self, job: JobId, now: f64) -> Vec<Effect> {
        let can = |phase| matches!(phase, Phase::Pausing | Phase::Paused | Phase::Held);
        let is_held = self.training_phase(job) != Some(Phase::Pausing);
        let effects = self.ask_training(job, Asked::Nothing, can);
        if !effects.is_empty() {
            self.jobs.set_paused(job, false, now);
            if is_held {
                // Another run may be at work: it is said that it goes on once it does.
                self.jobs.set_waiting(job);
            }
            let run = self.trainings.queued_mut(job).map(|it| it.spec.run);
            if let Some(curves) = run.and_then(|run| self.trainings.runs.get_mut(&run)) {
                curves.run.is_paused = false;
            }
        }
        effects
    }

    /// Asks a run for something, where that makes sense as far as the run is.
    fn ask_training(
        &mut self,
        job_id: JobId,
        asked: Asked,
        can: impl Fn(Phase) -> bool,
    ) -> Vec<Effect> {
        let phase = self.training_phase(job_id);
        let queued = self.trainings.queued_mut(job_id);
        let Some(queued) = queued.filter(|_| phase.is_some_and(can)) else { return Vec::new() };
        queued.asked = asked;
        vec![Effect::Send(match asked {
            Asked::Nothing => Command::GoOn { job_id },
            Asked::Pause => Command::Pause { job_id },
            Asked::WrapUp => Command::WrapUp { job_id },
        })]
    }

    /// How far a run of the queue is.
    pub(crate) fn training_phase(&self, job: JobId) -> Option<Phase> {
        let queued = self.trainings.queue.iter().find(|it| it.job == job)?;
        Some(self.trainings.phase(queued, self.jobs.get(job)?))
    }

    /// A command for the first run of the queue that can follow it.
    pub(super) fn training_by_command(
        &mut self,
        action: fn(JobId) -> TrainAction,
        now: f64,
    ) -> Vec<Effect> {
        let jobs: Vec<JobId> = self.trainings.queue.iter().map(|it| it.job).collect();
        for job in &jobs {
            let effects = self.train(action(*job), now);
            if !effects.is_empty() {
                return effects;
            }
        }
        let text =
            if jobs.is_empty() { "No training is running" } else { "No run can do that now" };
        self.notices.info(text, now);
        Vec::new()
    }

    pub(in crate::model) fn resume_training(&mut self, run: Uuid, now: f64) -> Vec<Effect> {
        if self.settings.screen != Screen::Train {
            self.show_screen(Screen::Train);
        }
        if self.trainings.is_active(run) {
            return Vec::new();
        }
        if let Some(why_not) = self.trainings.why_not_resumable(run) {
            self.notices.info(why_not, now);
            return Vec::new();
        }
        let Some(curves) = self.trainings.runs.get_mut(&run) else {
            return vec![self.load_training(run, AfterLoad::Resume, now)];
        };
        (curves.run.state, curves.run.ended) = (RunState::Running, None);
        let spec = TrainSpec { resume: true, ..curves.run.spec.clone() };
        vec![self.run_training(spec, now)]
    }

    pub(super) fn load_training(&mut self, run: Uuid, then: AfterLoad, now: f64) -> Effect {
        let spec = JobSpec::LoadTraining { run };
        self.start_train_job(TrainJob::Load { run, then }, spec, now).1
    }

    /// Whether a run has to be read before it can be shown; what somebody else trains, each time.
    fn is_unread(&self, run: Uuid) -> bool {
        let is_unknown = !self.trainings.runs.contains_key(&run) && !self.trainings.is_active(run);
        is_unknown || self.trainings.is_elsewhere(run)
    }

    fn open_training(&mut self, run: Uuid, now: f64) -> Vec<Effect> {
        if self.settings.screen != Screen::Train {
            self.show_screen(Screen::Train);
        }
        self.show_training(run);
        self.trainings.error = None;
        let is_unread = self.is_unread(run);
        is_unread.then(|| self.load_training(run, AfterLoad::Show, now)).into_iter().collect()
    }

    fn compare_training(&mut self, run: Uuid, is_wanted: bool, now: f64) -> Vec<Effect> {
        let trainings = &mut self.trainings;
        trainings.compared.retain(|other| *other != run);
        if !is_wanted {
            return Vec::new();
        }
        if trainings.shown.is_none() {
            return self.open_training(run, now);
        }
        trainings.compared.push(run);
        let is_unread = self.is_unread(run);
        is_unread.then(|| self.load_training(run, AfterLoad::Compare, now)).into_iter().collect()
    }

    pub(super) fn forget_training(&mut self, run: Uuid, now: f64) -> Vec<Effect> {
        self.focus.get_or_insert(crate::model::Focus::of(self.settings.screen));
        if self.trainings.is_active(run) {
            return Vec::new();
        }
        self.trainings.forget(run);
        vec![self.start_train_job(TrainJob::Delete, JobSpec::DeleteTraining { run }, now).1]
    }
}
