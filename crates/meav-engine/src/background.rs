//! What takes long and makes room for everything else.

use crate::jobs::{JudgeRun, ScoreRun, SweepRun};
use crate::worker::{Running, Worker};

/// A job that was interrupted, with all that it needs to go on.
pub(crate) enum Background {
    Score(Box<ScoreRun>),
    Sweep(Box<SweepRun>),
    Judge(Box<JudgeRun>),
}

impl Background {
    /// Its job is over.
    pub(crate) fn abandon(self, worker: &Worker) {
        if let Self::Sweep(run) = self {
            run.abandon(worker);
        }
    }
}

impl Worker {
    /// What this job had when it was interrupted.
    pub(crate) fn take_background(&mut self, running: &Running<'_>) -> Option<Background> {
        let (_, background) = self.background.take_if(|(owner, _)| *owner == running.job_id)?;
        Some(background)
    }

    /// Keeps it for when the job goes on; forgotten if it never does.
    pub(crate) fn keep_background(&mut self, running: &Running<'_>, background: Background) {
        self.background = Some((running.job_id, background));
    }
}
