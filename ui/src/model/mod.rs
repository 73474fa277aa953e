//! The reducer: what the window knows, and how actions and events change it.
//!
//! [`Model::update`] takes what the user did, [`Model::apply`] what the engine said; both give back
//! what the host has to do. Nothing here draws, waits, or touches anything outside.

mod apply;
mod conversation;
pub(crate) mod data;
mod details;
mod dialog;
mod jobs;
pub(crate) mod judge;
mod library;
mod notices;
mod plan;
mod recipe;
mod scope;
mod sweep;
pub(crate) mod train;
mod train_notes;
mod update;
mod vectors;
mod weights;

use std::collections::VecDeque;
use std::path::PathBuf;

use meav_protocol::{EngineChoice, FileKind, JobSpec, Sweep, TrainRun, UserError};

pub(crate) use conversation::{Answer, Conversation};
pub(crate) use data::{Data, SplitDialog};
pub(crate) use details::Details;
pub(crate) use dialog::{Dialog, FormDialog, PathDialog, SHARD_BYTES};
pub(crate) use jobs::Job;
pub(crate) use judge::Judging;
#[cfg(test)]
pub(crate) use judge::default_form as default_judge_form;
pub(crate) use library::Library;
pub(crate) use notices::{Notice, NoticeBody};
pub(crate) use plan::PlanDialog;
pub(crate) use recipe::{RecipeDialog, SoughtPart};
pub use scope::ScopeDraft;
pub(crate) use scope::{FACTOR_LIMIT, MOST_POINTS, ScopeDialog};

pub(crate) use sweep::{Curves, DataFile, Run, SweepDialog, Sweeps};
pub(crate) use train::{Phase, TrainCurves, Trainings};
pub(crate) use train_notes::train_notes;
pub(crate) use update::file_label;
use update::legible;
pub(crate) use vectors::{Made, Vectors};
pub(crate) use weights::{COEFFICIENT_LIMIT, DARE_DROP, Knob, TIES_DENSITY, Weights};
pub(crate) use weights::{file_name, with_ending};

use crate::action::Action;
use crate::effect::Effect;
use crate::form::Form;
use crate::judge_form::JudgeForm;
use crate::settings::{Panel, Recent, Screen, Settings};
use crate::sweep_form::SweepForm;
use crate::train_form::TrainForm;
use jobs::{Jobs, Purpose};
use notices::Notices;

/// What the host is and can do.
#[derive(Clone, Debug, PartialEq)]
pub struct HostInfo {
    /// The program's version.
    pub version: &'static str,
    /// Whether the system has dialogs that pick files; otherwise why not.
    pub dialogs: Result<(), String>,
    /// Whether there is a tray to keep running in.
    pub has_tray: bool,
    /// Where the program was started.
    pub current_folder: PathBuf,
    /// The user's folder.
    pub user_home: PathBuf,
    /// Where the user keeps documents.
    pub documents: PathBuf,
    /// Something that went wrong before the window opened.
    pub problem: Option<UserError>,
}

/// The engine, as far as the window knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EngineState {
    /// It has said nothing yet.
    Starting,
    /// It is there.
    Running {
        /// Its version.
        version: String,
        /// What it computes on, in words.
        device: String,
        /// Its log.
        log: Option<PathBuf>,
    },
    /// It has ended; the next job starts it again.
    Lost {
        /// Why, in words.
        reason: String,
    },
}

/// Where the keyboard is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Focus {
    /// The message field.
    Composer,
    /// The first knob.
    Knobs,
    /// The field that searches chats.
    Search,
    /// The first of the vectors.
    Vectors,
    /// The choice of the vector that is swept.
    Sweep,
    /// The first thing to do on the Train screen.
    Train,
    /// The first thing to do on the Data screen.
    Data,
    /// The first thing to do on the Judge screen.
    Judge,
}

impl Focus {
    /// Where whoever comes to a screen goes on.
    pub(crate) fn of(screen: Screen) -> Self {
        match screen {
            Screen::Chat => Self::Composer,
            Screen::Vectors => Self::Vectors,
            Screen::Sweep => Self::Sweep,
            Screen::Train => Self::Train,
            Screen::Data => Self::Data,
            Screen::Judge => Self::Judge,
        }
    }
}

/// Everything that the window knows.
#[derive(Debug)]
pub struct Model {
    pub(crate) host: HostInfo,
    pub(crate) settings: Settings,
    pub(crate) engine: EngineState,
    /// What the engine that was started last computes on, and why.
    pub(crate) engine_choice: Option<EngineChoice>,
    pub(crate) jobs: Jobs,
    pub(crate) weights: Weights,
    pub(crate) conversation: Conversation,
    pub(crate) library: Library,
    pub(crate) details: Details,
    pub(crate) vectors: Vectors,
    pub(crate) sweeps: Sweeps,
    pub(crate) trainings: Trainings,
    pub(crate) data: Data,
    pub(crate) judging: Judging,
    pub(crate) notices: Notices,
    pub(crate) dialog: Option<Dialog>,
    /// Dialogs that open by themselves, once nothing else is asked.
    waiting: VecDeque<Dialog>,
    pub(crate) focus: Option<Focus>,
    /// The order in which side panels were last asked for, the newest last: where not all fit, the
    /// newest do.
    pub(crate) panel_order: Vec<Panel>,
    /// Those that are on the screen.
    pub(crate) shown_panels: Vec<Panel>,
    is_focused: bool,
    is_hidden: bool,
    /// What the host was last given to keep, and when.
    kept: (Settings, f64),
    /// The lines that the tray was last given.
    tray: Vec<String>,
    last_lost: f64,
}

/// Settings are kept at most this often.
const SECS_BETWEEN_SAVES: f64 = 1.0;

/// The most files that are remembered as recently opened.
const MOST_RECENT: usize = 10;

impl Model {
    /// The window's state at its start, and what to begin with: load the model, list the chats,
    /// take up the last one.
    pub fn new(settings: Settings, host: HostInfo) -> (Self, Vec<Effect>) {
        let weights = Weights::new(&settings);
        let mut notices = Notices::default();
        if let Some(problem) = &host.problem {
            notices.error(problem.clone());
        }
        let text_scale = legible(settings.text_scale).unwrap_or(1.0);
        let settings = Settings { text_scale, ..settings };
        let (shown_panels, screen) = (settings.panels.wanted(), settings.screen);
        let unbegun = settings.trainings.clone();
        let mut model = Self {
            host,
            kept: (settings.clone(), 0.0),
            settings,
            engine: EngineState::Starting,
            engine_choice: None,
            jobs: Jobs::default(),
            weights,
            conversation: Conversation::new(),
            library: Library::default(),
            details: Details::default(),
            vectors: Vectors::default(),
            sweeps: Sweeps::default(),
            trainings: Trainings::new(unbegun),
            data: Data::default(),
            judging: Judging::default(),
            notices,
            dialog: None,
            waiting: VecDeque::new(),
            focus: Some(Focus::of(screen)),
            panel_order: vec![Panel::Details, Panel::Chats, Panel::Knobs],
            shown_panels,
            is_focused: true,
            is_hidden: false,
            tray: Vec::new(),
            last_lost: f64::NEG_INFINITY,
        };
        let mut effects = vec![
            model.start(Purpose::Chats, JobSpec::ListChats, 0.0),
            model.start(Purpose::LoadChat { reveal: None }, JobSpec::LoadChat { id: None }, 0.0),
        ];
        effects.extend(model.follow_knobs(0.0));
        effects.push(model.list_audit(0.0));
        effects.push(model.list_sweeps(0.0));
        effects.push(model.list_trainings(0.0));
        effects.extend(model.follow_demo_data(0.0));
        model.tell_unbegun();
        (model, effects)
    }

    /// What is typed and chosen in the dialog that makes a vector, if it is open.
    pub fn form(&self) -> Option<&Form> {
        match &self.dialog {
            Some(Dialog::Form(dialog)) => Some(&dialog.form),
            _ => None,
        }
    }

    /// What is typed and chosen on the Judge screen.
    pub fn judge_form(&self) -> &JudgeForm {
        &self.judging.form
    }

    /// What is typed and chosen for the next sweep.
    pub fn sweep_form(&self) -> &SweepForm {
        &self.sweeps.form
    }

    /// The sweep whose curves are shown, as far as it has come.
    pub fn shown_sweep(&self) -> Option<&Sweep> {
        self.sweeps.shown_run().map(|run| &run.sweep)
    }

    /// What is typed and chosen for the next training run.
    pub fn train_form(&self) -> &TrainForm {
        &self.trainings.form
    }

    /// The training run whose curves are shown, as far as it has come.
    pub fn shown_training(&self) -> Option<&TrainRun> {
        self.trainings.shown_run().map(|it| &it.run)
    }

    /// What messages on the screen say that are only to be read.
    pub fn messages(&self) -> Vec<&str> {
        self.notices
            .shown()
            .iter()
            .filter_map(|notice| match &notice.body {
                NoticeBody::Info(text) => Some(text.as_str()),
                _ => None,
            })
            .collect()
    }

    /// What messages on the screen offer: what they say, and what their button does.
    pub fn offers(&self) -> Vec<(String, Action)> {
        let offer = |notice: &Notice| match &notice.body {
            NoticeBody::Offer { text, action, .. } => Some((text.clone(), Action::clone(action))),
            _ => None,
        };
        self.notices.shown().iter().filter_map(offer).collect()
    }

    fn start(&mut self, purpose: Purpose, spec: JobSpec, now: f64) -> Effect {
        self.jobs.start(purpose, spec, now).1
    }

    fn list_audit(&mut self, now: f64) -> Effect {
        self.start(Purpose::Audit, JobSpec::ListAudit { limit: details::AUDIT_LINES }, now)
    }

    /// Has the weights follow the knobs, newest values first: at most one job is on its way, and
    /// when it ends the next one takes the values of that moment. An answer is not interrupted.
    fn follow_knobs(&mut self, now: f64) -> Option<Effect> {
        if self.conversation.answer.is_some() {
            return None;
        }
        let (setup, knobs) = self.weights.unsettled()?;
        let spec = JobSpec::Prepare(setup.clone());
        let (id, effect) = self.jobs.start(Purpose::Prepare { setup, knobs }, spec, now);
        self.weights.in_flight = Some(id);
        Some(effect)
    }

    /// What time alone brings: messages go, settings are kept, the tray follows the jobs. Called
    /// before each frame.
    pub fn tick(&mut self, now: f64) -> Vec<Effect> {
        self.notices.expire(now);
        self.ask_waiting();
        let mut effects = Vec::new();
        self.collect_settings();
        if self.settings != self.kept.0 && now - self.kept.1 >= SECS_BETWEEN_SAVES {
            effects.push(self.keep_settings(now));
        }
        let lines: Vec<String> = self
            .jobs
            .iter()
            .filter(|job| job.is_long())
            .filter_map(|job| Some(job.title()?.to_owned()))
            .collect();
        if lines != self.tray {
            self.tray.clone_from(&lines);
            effects.push(Effect::ShowJobs(lines));
        }
        effects
    }

    /// Seconds until [`Model::tick`] has something to do even if nothing happens.
    pub fn next_tick(&self, now: f64) -> Option<f64> {
        let save = (self.settings != self.kept.0).then_some(self.kept.1 + SECS_BETWEEN_SAVES);
        // The time that is left is shown by the second.
        let clock = self.jobs.iter().any(Job::is_long).then_some(now + 1.0);
        let next = [save, clock, self.notices.next_end()];
        next.into_iter().flatten().min_by(f64::total_cmp).map(|at| (at - now).max(0.0))
    }

    /// Writes down what other parts know.
    fn collect_settings(&mut self) {
        self.settings.model.clone_from(&self.weights.model);
        self.settings.dtype = self.weights.dtype;
        self.settings.slot = self.weights.slot;
        self.settings.methods = self.weights.methods;
        self.settings.knobs = self.weights.knob_settings();
        // The files of half-trained vectors go.
        let halves = &self.trainings.halves;
        self.settings.knobs.retain(|knob| !halves.values().any(|half| *half == knob.file));
        self.settings.trainings = self.trainings.waiting().cloned().collect();
    }

    fn keep_settings(&mut self, now: f64) -> Effect {
        self.kept = (self.settings.clone(), now);
        Effect::SaveSettings(Box::new(self.settings.clone()))
    }

    fn remember(&mut self, path: PathBuf, kind: FileKind) {
        let recent = Recent { path, is_model: kind == FileKind::Model };
        self.settings.recent.retain(|other| *other != recent);
        self.settings.recent.insert(0, recent);
        self.settings.recent.truncate(MOST_RECENT);
    }
}
