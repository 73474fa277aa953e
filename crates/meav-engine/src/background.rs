//! What takes long and makes room for everything else.

use meav_job::CancelToken;
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

    /// Whether a job has something.
    pub(crate) fn holds(&self, job_id: JobId) -> bool {
        self.0.iter().any(|(owner, _)| *owner == job_id)
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
    /// Its job is over. A training is left as one that was cut off.
    fn let_go(self, worker: &Worker, running: &Running<'_>) {
        match self {
            Self::Sweep(run) => run.abandon(worker),
            Self::Train(mut run) => run.let_go(worker, running),
            Self::Parked(run) => run.let_go(worker, running),
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

    /// A job is over, whatever it had.
    pub(crate) fn let_background_go(&mut self, job_id: JobId) {
        if let Some(background) = self.background.take(job_id) {
            let (cancel, outbox) = (CancelToken::default(), self.outbox.clone());
            background.let_go(self, &Running::new(job_id, &cancel, &outbox));
        }
    }

    /// None of them goes on here: the engine ends.
    pub(crate) fn let_trainings_go(&mut self) {
        // A measurement counts as cut off as it is, and goes on with what it has.
        let is_training =
            |it: &Background| matches!(it, Background::Train(_) | Background::Parked(_));
        let trainings = self.background.0.iter().filter(|(_, background)| is_training(background));
        let owners: Vec<JobId> = trainings.map(|(owner, _)| *owner).collect();
        for owner in owners {
            self.let_background_go(owner);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, sync_channel};

    use meav_job::Request;
    use meav_protocol::{Event, RunState, TrainRun};

    use super::*;
    use crate::folders::Folders;
    use crate::outbox::Outbox;
    use crate::training::parked_run;

    fn worker(home: &std::path::Path) -> (Worker, Receiver<Event>) {
        let (outbox, events) = sync_channel(64);
        (
            Worker::new(
                Folders::at(home),
                crate::compute::Compute::cpu(),
                Outbox::new(outbox),
                None,
            ),
            events,
        )
    }

    fn kept(worker: &Worker, run: &TrainRun) -> TrainRun {
        worker.workspace.as_ref().ok().unwrap().load_training(run.spec.run).unwrap()
    }

    #[test]
    fn job_that_is_put_by_goes_on_whatever_it_was_asked_for_in_that_moment() {
        let home = tempfile::tempdir().unwrap();
        let (mut worker, _events) = worker(home.path());
        let (run, outbox) = (parked_run(&home.path().join("run")), worker.outbox.clone());
        let cancel = CancelToken::default();
        cancel.ask(Request::Pause);
        cancel.ask(Request::WrapUp);
        assert_eq!(worker.ended_for_now(JobId(1), &cancel), None);
        let running = Running::new(JobId(1), &cancel, &outbox);
        worker.keep_background(&running, Background::Parked(Box::new(run)));
        assert_eq!(worker.ended_for_now(JobId(1), &cancel), Some(Request::MakeRoom));
        assert_eq!(cancel.request(), Request::WrapUp, "it is still to do that");
        assert_eq!(worker.ended_for_now(JobId(2), &cancel), None);
    }

    #[test]
    fn parked_run_that_cannot_be_loaded_again_says_why() {
        let home = tempfile::tempdir().unwrap();
        let (mut worker, _events) = worker(home.path());
        let run = parked_run(&home.path().join("run"));
        let (told, config) = (run.told.clone(), home.path().join("run/config.json"));
        std::fs::write(config, "{").unwrap();
        let (cancel, outbox) = (CancelToken::default(), worker.outbox.clone());
        let running = Running::new(JobId(1), &cancel, &outbox);
        worker.keep_background(&running, Background::Parked(Box::new(run)));
        assert!(crate::training::train(&mut worker, &told.spec, &running).is_err());
        assert!(worker.background.take(JobId(1)).is_none());
        let kept = kept(&worker, &told);
        assert_eq!(kept.state, RunState::Stopped);
        let why = kept.ended.unwrap();
        assert!(why.contains("config.json") && !why.contains("Cancelled"), "{why}");
        let log = std::fs::read_to_string(home.path().join("run/log.txt")).unwrap();
        assert!(log.contains("config.json"), "{log}");
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

        worker.let_background_go(JobId(1));
        assert!(worker.background.take(JobId(1)).is_none());
        let paused = |worker: &Worker| told.each_ref().map(|run| kept(worker, run).is_paused);
        assert_eq!(paused(&worker), [true, false, true]);
        worker.let_trainings_go();
        assert_eq!(paused(&worker), [false; 3]);
        // They were not asked to end, and are offered when the engine starts again.
        assert!(told.iter().all(|run| kept(&worker, run).state == RunState::Running));
    }
}
