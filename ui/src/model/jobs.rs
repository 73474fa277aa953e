use std::collections::BTreeMap;
use std::path::PathBuf;

use meav_protocol::{Command, FileKind, JobId, JobSpec, Setup, Stage};
use uuid::Uuid;

use crate::Effect;
use crate::action::KnobId;
use crate::form::FormFiles;

use super::data::DataWork;
use super::dialog::{FormDialog, PathDialog};
use super::judge::JudgeWork;
use super::sweep::SweepJob;
use super::train::TrainJob;

/// What a job was started for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Purpose {
    /// Moves the weights to the knobs, in the order of the recipe.
    Prepare { setup: Setup, knobs: Vec<KnobId> },
    /// Answers in a chat.
    Answer { setup: Setup, knobs: Vec<KnobId> },
    /// Brings the demo model.
    FetchDemo,
    /// Looks what a path is, to open it.
    Open { expected: Option<FileKind>, path: PathBuf },
    /// Looks at the vector of a knob, for the details.
    Describe(KnobId),
    /// Writes the merged model.
    Merge(Box<PathDialog>),
    /// Writes the model without vectors.
    Convert(Box<PathDialog>),
    /// Makes a vector.
    Make { dialog: Box<FormDialog>, name: String, files: FormFiles },
    /// Looks at vectors side by side.
    Compare,
    /// Something of the Sweep screen.
    Sweep(SweepJob),
    /// Something of the Train screen.
    Train(TrainJob),
    /// Writes a recipe.
    SaveRecipe,
    /// Reads a recipe, to set everything to it.
    OpenRecipe { path: PathBuf },
    /// Looks at what lies where a part of a recipe may be.
    Locate { index: usize, path: PathBuf },
    /// Works out what memory a model takes.
    Plan,
    /// Writes a chat or the audit log.
    Export,
    /// Reads a chat, to show it and perhaps a message in it.
    LoadChat { reveal: Option<Uuid> },
    /// Reads or changes the list of chats.
    Chats,
    /// Remembers a branch.
    SetBranch,
    /// Looks for words.
    Search(String),
    /// Reads the audit log.
    Audit,
    /// Works with preference data.
    Data(DataWork),
    /// Works for the Judge screen.
    Judge(JudgeWork),
}

/// Jobs that are over sooner are not shown.
const SECS_UNNOTICED: f64 = 0.4;

/// A job that waits or runs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Job {
    /// Its name.
    pub id: JobId,
    pub(crate) purpose: Purpose,
    /// When it was asked for.
    pub(crate) started: f64,
    /// What it is doing, and since when; `None` while it waits.
    pub(crate) stage: Option<(Stage, f64)>,
    /// Units of that stage, finished and in all.
    pub(crate) progress: (u64, u64),
    /// Units that were finished when the stage began: what goes on where it had ended.
    begun_with: u64,
    /// Whether it has been asked to end.
    pub is_cancelling: bool,
    /// Whether it holds until it is told to go on.
    pub(crate) is_paused: bool,
}

impl Job {
    /// What the user calls it; `None` for what is over before anyone could ask.
    pub(crate) fn title(&self) -> Option<&'static str> {
        match &self.purpose {
            Purpose::Prepare { .. } => Some(match self.stage {
                Some((Stage::Merging, _)) => "Turning the knobs",
                Some(_) => "Loading the model",
                None => "Preparing the model",
            }),
            Purpose::Answer { .. } => Some("Answering"),
            Purpose::FetchDemo => Some("Fetching the demo model"),
            Purpose::Open { .. } => Some("Opening a file"),
            Purpose::OpenRecipe { .. } => Some("Opening a recipe"),
            Purpose::Locate { .. } => Some("Looking at a file"),
            Purpose::Plan => Some("Planning the memory"),
            Purpose::Merge(_) => Some("Writing the merged model"),
            Purpose::Convert(_) => Some("Converting the model"),
            Purpose::Make { dialog, .. } => Some(dialog.form.job_title()),
            Purpose::Compare => Some("Comparing vectors"),
            Purpose::Sweep(SweepJob::Run(_)) => Some("Sweeping λ"),
            Purpose::Sweep(SweepJob::Matrix(_)) => Some("Comparing sweeps"),
            Purpose::Sweep(SweepJob::Inspect(_)) => Some("Reading data"),
            Purpose::Train(job) => job.title(self),
            Purpose::Data(work) => work.title(),
            Purpose::Judge(work) => work.title(),
            Purpose::Describe(_)
            | Purpose::Export
            | Purpose::SaveRecipe
            | Purpose::Sweep(_)
            | Purpose::LoadChat { .. }
            | Purpose::Chats
            | Purpose::SetBranch
            | Purpose::Search(_)
            | Purpose::Audit => None,
        }
    }

    /// What it is doing now, in words.
    pub(crate) fn doing(&self) -> &'static str {
        match self.stage {
            None => "Waiting for its turn…",
            Some((Stage::Fingerprinting, _)) => "Reading the values of the files…",
            Some((Stage::Loading, _)) => "Reading the model…",
            Some((Stage::Merging, _)) => "Merging…",
            Some((Stage::Writing, _)) => "Writing…",
            Some((Stage::Extracting, _)) => "Taking one model from the other…",
            Some((Stage::Compressing, _)) => "Compressing…",
            Some((Stage::Separating, _)) => "Separating…",
            Some((Stage::Comparing, _)) => "Comparing…",
            Some((Stage::Scoring, _)) => "Measuring on the data…",
            Some((Stage::Answering, _)) => "Answering the questions…",
            Some((Stage::Judging, _)) => "Asking the judge…",
            Some((Stage::ReadingData, _)) => "Reading the data…",
            Some((Stage::Referencing, _)) => "Asking the base model about the pairs…",
            Some((Stage::Training, _)) => "Training…",
            Some(_) => "Working…",
        }
    }

    /// Whether closing the window would lose something.
    pub(crate) fn is_long(&self) -> bool {
        matches!(
            self.purpose,
            Purpose::Answer { .. }
                | Purpose::FetchDemo
                | Purpose::Merge(_)
                | Purpose::Convert(_)
                | Purpose::Make { .. }
                | Purpose::Sweep(SweepJob::Run(_))
                | Purpose::Train(TrainJob::Run(_))
                | Purpose::Data(DataWork::Split(_))
                | Purpose::Judge(JudgeWork::Run { .. })
        )
    }

    /// Whether it trains a vector.
    pub(crate) fn is_training(&self) -> bool {
        matches!(self.purpose, Purpose::Train(TrainJob::Run(_)))
    }

    /// Whether what it finds is wanted no more: it was called off, and only looked for something.
    pub(crate) fn is_unwanted(&self) -> bool {
        let is_look = match &self.purpose {
            Purpose::Data(work) => work.is_look(),
            purpose => matches!(
                purpose,
                Purpose::Open { .. }
                    | Purpose::OpenRecipe { .. }
                    | Purpose::Locate { .. }
                    | Purpose::Plan
                    | Purpose::LoadChat { .. }
                    | Purpose::Search(_)
                    | Purpose::Compare
                    | Purpose::Sweep(SweepJob::Matrix(_))
                    | Purpose::Train(TrainJob::Estimate(_))
            ),
        };
        self.is_cancelling && is_look
    }

    /// Whether there will be a model at its end.
    pub(crate) fn brings_model(&self) -> bool {
        matches!(self.purpose, Purpose::Prepare { .. } | Purpose::FetchDemo)
    }

    /// Whether it has taken long enough that someone may want to know of it.
    pub(crate) fn is_noticeable(&self, now: f64) -> bool {
        self.title().is_some() && (self.is_long() || now - self.started > SECS_UNNOTICED)
    }

    /// Whether its progress says nothing of its end: it reads a question or answers it, and nobody
    /// knows how long that takes; or it only gets ready to train.
    fn is_vague(&self) -> bool {
        match self.purpose {
            Purpose::Answer { .. } => {
                self.stage.is_some_and(|(stage, _)| stage == Stage::ReadingPrompt)
            }
            _ => self.is_getting_ready(),
        }
    }

    /// Whether it will train, and does something else before.
    pub(crate) fn is_getting_ready(&self) -> bool {
        self.is_training() && self.stage.is_some_and(|(stage, _)| stage != Stage::Training)
    }

    /// The finished share of what it is doing, if that is known.
    pub(crate) fn fraction(&self) -> Option<f32> {
        let (done, total) = self.progress;
        let is_told = self.stage.is_some() && total > 0 && !self.is_vague();
        is_told.then(|| (done as f32 / total as f32).min(1.0))
    }

    /// Seconds until what it is doing is done, once there is something to tell it from.
    pub(crate) fn secs_left(&self, now: f64) -> Option<f64> {
        let (done, total) = self.progress;
        let (_, since) = self.stage?;
        let elapsed = now - since;
        let since = done.saturating_sub(self.begun_with);
        let is_telling = since > 0 && !self.is_paused && elapsed > 1.0 && !self.is_vague();
        is_telling.then(|| elapsed * total.saturating_sub(done) as f64 / since as f64)
    }
}

/// The jobs that have not ended, by their ids.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    running: BTreeMap<JobId, Job>,
    last: u64,
}

impl Jobs {
    /// Picks a job's name; the effect starts it.
    pub(crate) fn start(&mut self, purpose: Purpose, spec: JobSpec, now: f64) -> (JobId, Effect) {
        self.last += 1;
        let id = JobId(self.last);
        let job = Job {
            id,
            purpose,
            started: now,
            stage: None,
            progress: (0, 0),
            begun_with: 0,
            is_cancelling: false,
            is_paused: false,
        };
        self.running.insert(id, job);
        (id, Effect::Send(Command::Start { job_id: id, spec }))
    }

    /// Notes how far a job is; one that has ended, or was never ours, is not looked at.
    pub(crate) fn progress(&mut self, id: JobId, stage: Stage, done: u64, total: u64, now: f64) {
        if let Some(job) = self.running.get_mut(&id) {
            // Between the points of a sweep the weights are moved, between the steps of training
            // checkpoints are written: that is part of it.
            let whole = match job.purpose {
                Purpose::Sweep(SweepJob::Run(_)) => Some(Stage::Scoring),
                Purpose::Train(TrainJob::Run(_)) => Some(Stage::Training),
                _ => None,
            };
            let is_part = whole.is_some() && job.stage.map(|(before, _)| before) == whole;
            if is_part && Some(stage) != whole {
                return;
            }
            if job.stage.is_none_or(|(before, _)| before != stage) {
                job.stage = Some((stage, now));
                job.begun_with = if Some(stage) == whole { done } else { 0 };
            }
            job.progress = (done, total);
        }
    }

    /// Notes whether a job holds; the time that it holds for counts for nothing.
    pub(crate) fn set_paused(&mut self, id: JobId, is_paused: bool, now: f64) {
        if let Some(job) = self.running.get_mut(&id) {
            let goes_on = std::mem::replace(&mut job.is_paused, is_paused) && !is_paused;
            if let (true, Some((_, since))) = (goes_on, &mut job.stage) {
                (*since, job.begun_with) = (now, job.progress.0);
            }
        }
    }

    /// Notes that a job waits for its turn again.
    pub(crate) fn set_waiting(&mut self, id: JobId) {
        if let Some(job) = self.running.get_mut(&id) {
            (job.stage, job.progress, job.begun_with) = (None, (0, 0), 0);
        }
    }

    pub(crate) fn cancel(&mut self, id: JobId) -> Option<Effect> {
        let job = self.running.get_mut(&id)?;
        job.is_cancelling = true;
        Some(Effect::Send(Command::Cancel { job_id: id }))
    }

    pub(crate) fn get(&self, id: JobId) -> Option<&Job> {
        self.running.get(&id)
    }

    pub(crate) fn finish(&mut self, id: JobId) -> Option<Job> {
        self.running.remove(&id)
    }

    /// Whether closing the window would lose something.
    pub(crate) fn has_long(&self) -> bool {
        self.running.values().any(Job::is_long)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Job> {
        self.running.values()
    }
}
