//! What takes long and makes room for everything else.

use meav_protocol::{Fact, JobId};

use crate::jobs::{JudgeRun, ScoreRun, SweepRun};
use crate::training::{ParkedRun, TrainingRun};
use crate::worker::{Running, Worker};

/// A job that was interrupted, with all that it needs to go on.
pub(crate) enum Background {
    Score(Box<ScoreRun>),
    Sweep(Box<SweepRun>),
    Judge(Box<JudgeRun>),
    Train(Box<TrainingRun>),
    /// A training run that has given up its memory.
    Parked(Box<ParkedRun>),
}

/// All of them, each with its job.
#[derive(Default)]
pub(crate) struct Backgrounds(Vec<(JobId, Background)>);

impl Backgrounds {
    /// Takes what a job had when it was interrupted.
    pub(crate) fn take(&mut self, job_id: JobId) -> Option<Background> {
        let place = self.0.iter().position(|(owner, _)| *owner == job_id)?;
        Some(self.0.remove(place).1)
    }

    /// Whether one of them has something loaded.
    pub(crate) fn hold_memory(&self) -> bool {
        self.0.iter().any(|(_, background)| background.holds_memory())
    }

    /// Keeps what a job has, in the place of what it had.
    fn keep(&mut self, job_id: JobId, background: Background) {
        self.0.retain(|(owner, _)| *owner != job_id);
        self.0.push((job_id, background));
    }
}

impl Background {
    /// Its job is over.
    pub(crate) fn abandon(self, worker: &Worker) {
        match self {
            Self::Sweep(run) => run.abandon(worker),
            Self::Train(run) => run.abandon(worker),
            Self::Parked(run) => drop(run.stop(worker)),
            Self::Score(_) | Self::Judge(_) => {}
        }
    }

    /// Gives up its memory. A run that can't be kept on the disk keeps it; of a measurement, only
    /// what the workspace has is left.
    fn park(self, worker: &Worker, running: &Running<'_>) -> Option<Self> {
        match self {
            Self::Train(run) => Some(run.park(worker, running)),
            Self::Parked(run) => Some(Self::Parked(run)),
            Self::Score(_) | Self::Sweep(_) | Self::Judge(_) => None,
        }
    }

    fn holds_memory(&self) -> bool {
        !matches!(self, Self::Parked(_))
    }
}

impl Worker {
    /// What this job had when it was interrupted.
    pub(crate) fn take_background(&mut self, running: &Running<'_>) -> Option<Background> {
        self.background.take(running.job_id)
    }

    /// Keeps it for when the job goes on; forgotten if it never does.
    pub(crate) fn keep_background(&mut self, running: &Running<'_>, background: Background) {
        self.background.keep(running.job_id, background);
    }

    /// Takes the memory of what waits in the background; says whether there was any.
    pub(crate) fn free_background(&mut self, running: &Running<'_>) -> bool {
        if !self.background.hold_memory() {
            return false;
        }
        for (owner, background) in std::mem::take(&mut self.background).0 {
            if let Some(parked) = background.park(self, running) {
                self.background.keep(owner, parked);
            }
        }
        let note = "memory does not hold another model: what waits in the background begins again \
                    afterwards, a training from where it is, a sweep with the points that it has";
        running.fact(Fact::Note(note.to_owned()));
        true
    }

    /// Holds what a job had when it was interrupted until somebody lets it go on.
    pub(crate) fn pause_background(&mut self, running: &Running<'_>) {
        let Some(mut background) = self.background.take(running.job_id) else { return };
        match &mut background {
            Background::Train(run) => run.pause(self, running),
            Background::Parked(run) => run.pause(self, running),
            Background::Score(_) | Background::Sweep(_) | Background::Judge(_) => {}
        }
        self.keep_background(running, background);
    }

    /// None of them goes on: the engine ends.
    pub(crate) fn abandon_trainings(&mut self) {
        for (_, background) in std::mem::take(&mut self.background).0 {
            // A measurement counts as cut off, and goes on with what it has.
            if matches!(background, Background::Train(_) | Background::Parked(_)) {
                background.abandon(self);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, sync_channel};

    use meav_job::CancelToken;
    use meav_protocol::{Event, RunState, TrainRun};

    use super::*;
    use crate::folders::Folders;
    use crate::outbox::Outbox;
    use crate::training::parked_run;

    fn worker(home: &std::path::Path) -> (Worker, Receiver<Event>) {
        let (outbox, events) = sync_channel(64);
        (Worker::new(Folders::at(home), Outbox::new(outbox), None), events)
    }

    fn kept(worker: &Worker, run: &TrainRun) -> TrainRun {
        worker.workspace.as_ref().ok().unwrap().load_training(run.spec.run).unwrap()
    }

    #[test]
    fn paused_runs_wait_beside_each_other_and_end_one_by_one() {
        let home = tempfile::tempdir().unwrap();
        let (mut worker, events) = worker(home.path());
        let runs = ["a", "b", "c"].map(|name| parked_run(&home.path().join(name)));
        let told = runs.each_ref().map(|run| run.told.clone());
        let outbox = worker.outbox.clone();
        let cancel = CancelToken::default();
        for (place, run) in runs.into_iter().enumerate() {
            let running = Running::new(JobId(place as u64), &cancel, &outbox);
            worker.keep_background(&running, Background::Parked(Box::new(run)));
            worker.pause_background(&running);
        }
        let paused = events.try_iter().filter(
            |event| matches!(event, Event::Fact { fact: Fact::Train(run), .. } if run.is_paused),
        );
        assert_eq!(paused.count(), 3);
        assert!(told.iter().all(|run| kept(&worker, run).is_paused));
        assert!(!worker.background.hold_memory());

        let Some(second) = worker.background.take(JobId(1)) else { panic!("it was kept") };
        assert!(worker.background.take(JobId(1)).is_none());
        second.abandon(&worker);
        let states = |worker: &Worker| told.each_ref().map(|run| kept(worker, run).state);
        assert_eq!(states(&worker), [RunState::Running, RunState::Stopped, RunState::Running]);
        worker.abandon_trainings();
        assert_eq!(states(&worker), [RunState::Stopped; 3]);
        assert!(told.iter().all(|run| !kept(&worker, run).is_paused));
    }
}
