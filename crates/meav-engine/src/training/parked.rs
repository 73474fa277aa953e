use meav_protocol::{Fact, RunState, TrainRun};

use super::folder::RunFolder;
use super::run::{keep_head, set_stopped};
use super::vector::summary;
use crate::error::EngineError;
use crate::words::source_chain;
use crate::worker::{Running, Worker};

/// A run that has given its memory to other jobs, and goes on from its checkpoint.
pub(crate) struct ParkedRun {
    pub(crate) told: TrainRun,
    /// Held, so that nobody else trains into it.
    pub(crate) folder: RunFolder,
}

impl ParkedRun {
    /// Holds it until somebody lets it go on.
    pub(crate) fn pause(&mut self, worker: &Worker, running: &Running<'_>) {
        self.told.is_paused = true;
        self.told.vector = Some(self.folder.paused()).filter(|path| path.is_file());
        self.folder.log("paused");
        keep_head(worker, &self.told, running);
        running.fact(Fact::Train(Box::new(self.told.clone())));
    }

    /// Ends it with the vector that it was written to when it gave up its memory.
    pub(crate) fn wrap_up(
        mut self,
        worker: &Worker,
        running: &Running<'_>,
    ) -> Result<(), EngineError> {
        let path = self.folder.vector();
        std::fs::rename(self.folder.paused(), &path)
            .map_err(|source| EngineError::Write { path: path.clone(), source })?;
        let told = &mut self.told;
        let step = told.checkpoint.unwrap_or(0);
        told.ended = Some(format!("Ended by hand after step {step} of {}", told.total_steps));
        told.state = RunState::Finished;
        told.is_paused = false;
        told.vector = Some(path.clone());
        self.folder.log("ended by hand");
        keep_head(worker, told, running);
        let tensors = meav_weights::Checkpoint::open(&path)?.names().count();
        worker.record_written("train", &path, summary(told, tensors, &path), running);
        running.fact(Fact::Train(Box::new(self.told)));
        Ok(())
    }

    /// It will not go on, because of `err`; its steps are in its checkpoint.
    pub(crate) fn stop(mut self, worker: &Worker, err: &EngineError, running: &Running<'_>) {
        let step = self.told.checkpoint.unwrap_or(0);
        set_stopped(&mut self.told, err, step);
        self.folder.remove_paused();
        self.folder.log(&source_chain(err));
        keep_head(worker, &self.told, running);
        running.fact(Fact::Train(Box::new(self.told)));
    }

    /// Leaves it as one that was cut off: the engine ends.
    pub(crate) fn let_go(mut self, worker: &Worker, running: &Running<'_>) {
        self.told.is_paused = false;
        self.told.vector = None;
        self.folder.remove_paused();
        self.folder.log("the engine ends");
        keep_head(worker, &self.told, running);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::sync::mpsc::sync_channel;

    use meav_job::{CancelToken, JobCtx};
    use meav_protocol::{Event, JobId};
    use meav_vector::{AlignmentVector, Delta, LowRank, VectorKind, VectorOrigin, save};
    use meav_weights::Fingerprint;

    use super::*;
    use crate::folders::Folders;
    use crate::outbox::Outbox;
    use crate::workspace::training;

    /// A run in a folder of its own, at its third step of nine.
    pub(crate) fn parked_run(path: &Path) -> ParkedRun {
        let mut folder = RunFolder::create(path).unwrap();
        folder.take().unwrap();
        let mut told = training("2026-11-20T07:00:00Z");
        told.spec.out = Some(path.to_owned());
        told.checkpoint = Some(3);
        ParkedRun { told, folder }
    }

    fn write_vector(path: &Path) {
        let factors = LowRank { a: vec![1.0], b: vec![2.0], shape: [1, 1], rank: 1, scale: 1.0 };
        let vector = AlignmentVector {
            path: path.to_owned(),
            kind: VectorKind::LowRank,
            origin: VectorOrigin { domain: "medical".to_owned(), ..VectorOrigin::default() },
            fingerprint: Fingerprint::of_bytes(&[]),
            deltas: BTreeMap::from([("w".to_owned(), Delta::LowRank(factors))]),
        };
        save(&vector, None, path, &JobCtx::detached()).unwrap();
    }

    #[test]
    fn parked_run_that_is_wrapped_up_has_the_vector_that_it_was_parked_with() {
        let home = tempfile::tempdir().unwrap();
        let (outbox, events) = sync_channel(64);
        let worker = Worker::new(
            Folders::at(home.path()),
            crate::compute::Compute::cpu(),
            Outbox::new(outbox),
            None,
        );
        let run = parked_run(&home.path().join("run"));
        write_vector(&run.folder.paused());
        let (id, vector) = (run.told.spec.run, run.folder.vector());
        let (cancel, outbox) = (CancelToken::default(), worker.outbox.clone());
        run.wrap_up(&worker, &Running::new(JobId(1), &cancel, &outbox)).unwrap();
        let workspace = worker.workspace.as_ref().ok().unwrap();
        let kept = workspace.load_training(id).unwrap();
        assert_eq!((kept.state, kept.vector.as_ref()), (RunState::Finished, Some(&vector)));
        assert_eq!(kept.ended.as_deref(), Some("Ended by hand after step 3 of 9"));
        assert!(vector.is_file() && !home.path().join("run/paused.safetensors").exists());
        assert_eq!(workspace.audit(1).unwrap()[0].action, "train");
        let is_written =
            |event: Event| matches!(event, Event::Fact { fact: Fact::Written { .. }, .. });
        assert_eq!(events.try_iter().filter(|event| is_written(event.clone())).count(), 1);
    }
}
