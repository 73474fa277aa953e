use std::time::Instant;

use meav_job::{JobCtx, Progress, Request};
use meav_model::Decoder;
use meav_protocol::{Fact, RunState, Stage, TrainRun, TrainSpec, TrainStep};
use meav_train::{PairSet, TrainError, Trainer};

use super::base::Base;
use super::config::RunConfig;
use super::folder::RunFolder;
use super::metrics::Metrics;
use super::parked::ParkedRun;
use super::reference::reference;
use super::vector::{Trained, summary};
use crate::background::Background;
use crate::error::EngineError;
use crate::words::{is_cancelled, sentence, source_chain};
use crate::worker::{Running, Worker};
use crate::workspace::{Workspace, WorkspaceError};

/// A training run as far as it has come, with all that it needs to go on.
pub(crate) struct TrainingRun {
    pub(super) told: TrainRun,
    pub(super) folder: RunFolder,
    pub(super) config: RunConfig,
    pub(super) base: Base,
    pub(super) levels: Vec<String>,
    /// Until there is a trainer.
    pub(super) pairs: Option<PairSet>,
    /// Likewise.
    pub(super) network: Option<Decoder>,
    pub(super) trainer: Option<Trainer>,
    pub(super) metrics: Option<Metrics>,
}

/// Trains a vector.
pub(crate) fn train(
    worker: &mut Worker,
    spec: &TrainSpec,
    running: &Running<'_>,
) -> Result<(), EngineError> {
    let request = running.cancel.request();
    let mut run = match (worker.take_background(running), request) {
        (Some(Background::Train(run)), _) => run,
        (Some(Background::Parked(parked)), Request::GoOn) => {
            let mut parked = Some(*parked);
            let opened = TrainingRun::open(worker, spec, &mut parked, running);
            if let Some(parked) = parked {
                worker.keep_background(running, Background::Parked(Box::new(parked)));
            }
            Box::new(opened?)
        }
        (Some(Background::Parked(parked)), request) => {
            return end_parked(worker, *parked, request, running);
        }
        (_, Request::WrapUp) => return Err(EngineError::NothingTrained),
        _ => Box::new(TrainingRun::open(worker, spec, &mut None, running)?),
    };
    if request == Request::GoOn {
        run.go_on_from_pause(worker, running);
    }
    let began = Instant::now();
    let result = run.go_on(worker, running);
    run.told.elapsed_secs += began.elapsed().as_secs_f64();
    if result.as_ref().is_err_and(is_cancelled) && running.will_go_on() {
        keep_head(worker, &run.told, running);
        worker.keep_background(running, Background::Train(run));
        return result.map(|_| ());
    }
    run.end(worker, result, running)
}

/// Does what is asked of a run that has given up its memory, without loading it again.
fn end_parked(
    worker: &mut Worker,
    parked: ParkedRun,
    request: Request,
    running: &Running<'_>,
) -> Result<(), EngineError> {
    if matches!(request, Request::MakeRoom | Request::Pause) {
        worker.keep_background(running, Background::Parked(Box::new(parked)));
        return Err(meav_job::Cancelled.into());
    }
    if request == Request::WrapUp && parked.folder.paused().is_file() {
        return parked.wrap_up(worker, running);
    }
    let told = parked.stop(worker);
    running.fact(Fact::Train(Box::new(told)));
    match request {
        Request::WrapUp => Err(EngineError::NothingTrained),
        _ => Err(meav_job::Cancelled.into()),
    }
}

impl TrainingRun {
    fn go_on_from_pause(&mut self, worker: &Worker, running: &Running<'_>) {
        if self.told.is_paused {
            self.told.is_paused = false;
            self.told.vector = None;
            self.folder.log("goes on");
            keep_head(worker, &self.told, running);
            running.fact(Fact::Train(Box::new(self.told.clone())));
        }
    }

    /// Takes steps to the end; gives the sentence that says why it ended early, if it did.
    fn go_on(
        &mut self,
        worker: &Worker,
        running: &Running<'_>,
    ) -> Result<Option<String>, EngineError> {
        self.prepare_trainer(worker, running)?;
        loop {
            self.validate_if_due(worker, running)?;
            let (step, total) = (self.step_number(), self.told.total_steps);
            if step.is_multiple_of(self.told.spec.settings.checkpoint_every) {
                self.save_checkpoint(worker, running)?;
            }
            let (Some(trainer), Some(metrics)) = (&mut self.trainer, &mut self.metrics) else {
                unreachable!("they have just been made")
            };
            if trainer.is_finished() {
                return Ok(None);
            }
            if trainer.stops_early() {
                let patience = self.told.spec.settings.patience.unwrap_or_default();
                return Ok(Some(format!(
                    "Ended early after step {step} of {total}: the validation loss has not fallen \
                     in {patience} validations"
                )));
            }
            let measured: TrainStep = running.stage(Stage::Training, |job| {
                job.report(step, total);
                trainer.step(&job.without_progress())
            })?;
            // First the folder, which the run can go on from without the workspace.
            metrics.add_step(&measured)?;
            self.told.steps.push(measured);
            let run = self.told.spec.run;
            keep(worker, running, |workspace| workspace.keep_training_step(run, &measured));
            running.fact(Fact::TrainStep { run, step: measured });
        }
    }

    /// Asks the base model and makes the trainer, at the newest checkpoint that can be used.
    fn prepare_trainer(
        &mut self,
        worker: &Worker,
        running: &Running<'_>,
    ) -> Result<(), EngineError> {
        if self.trainer.is_none() {
            let (Some(pairs), Some(network)) = (&self.pairs, &self.network) else {
                unreachable!("there is a trainer, or what it is made from")
            };
            let reference = reference(worker, &self.base, network, pairs, running)?;
            let (Some(pairs), Some(network)) = (self.pairs.take(), self.network.take()) else {
                unreachable!("they were there")
            };
            let settings = &self.told.spec.settings;
            let mut trainer = Trainer::new(network, pairs, reference, settings)?;
            self.resume(&mut trainer, running)?;
            self.trainer = Some(trainer);
        }
        if self.metrics.is_none() {
            let step = self.step_number();
            self.metrics = Some(Metrics::open(&self.folder.path, step)?);
            if self.told.checkpoint != Some(step).filter(|step| *step > 0) {
                self.go_back(worker, step, running);
            }
        }
        Ok(())
    }

    /// Says that the run goes on from an older checkpoint than the newest.
    fn go_back(&mut self, worker: &Worker, step: usize, running: &Running<'_>) {
        self.told.checkpoint = Some(step).filter(|step| *step > 0);
        cut_back(&mut self.told, step);
        keep(worker, running, |workspace| {
            workspace.keep_training(&self.told)?;
            workspace.cut_training_back(self.told.spec.run, step)
        });
        running.fact(Fact::Train(Box::new(self.told.clone())));
    }

    /// Goes to the newest checkpoint; to the one before where that is damaged.
    fn resume(&self, trainer: &mut Trainer, running: &Running<'_>) -> Result<(), EngineError> {
        let mut failure = None;
        for step in self.folder.checkpoint_steps() {
            let path = self.folder.checkpoint(step);
            match trainer.resume(&path) {
                Ok(()) => {
                    if failure.is_some() {
                        running.fact(Fact::Note(format!(
                            "the newest checkpoint is damaged: the run goes on from step {step}"
                        )));
                    }
                    return Ok(());
                }
                Err(err) => failure = failure.or(Some(err)),
            }
        }
        failure.map_or(Ok(()), |err| Err(err.into()))
    }

    fn validate_if_due(
        &mut self,
        worker: &Worker,
        running: &Running<'_>,
    ) -> Result<(), EngineError> {
        let step = self.step_number();
        let Self { told, trainer: Some(trainer), metrics: Some(metrics), .. } = self else {
            unreachable!("they are made first")
        };
        let is_due =
            step.is_multiple_of(told.spec.settings.validate_every) || trainer.is_finished();
        let is_done = trainer.validations().last().is_some_and(|last| last.step == step);
        if !is_due || is_done || told.counts.validation_pairs == 0 {
            return Ok(());
        }
        let validation = running.stage(Stage::Training, |job| {
            job.report(step, told.total_steps);
            trainer.validate(&job.without_progress())
        })?;
        metrics.add_validation(&validation, told.steps.last().filter(|last| last.step == step))?;
        // A checkpoint may be older than what was measured after its step.
        told.validations.retain(|it| it.step != step);
        told.validations.push(validation);
        let run = told.spec.run;
        keep(worker, running, |workspace| workspace.keep_training_validation(run, &validation));
        running.fact(Fact::TrainValidation { run, validation });
        Ok(())
    }

    /// Steps that have been taken.
    pub(super) fn step_number(&self) -> usize {
        self.trainer.as_ref().map_or(0, Trainer::step_number)
    }

    /// Keeps the run as it is after its last whole step.
    pub(super) fn save_checkpoint(
        &mut self,
        worker: &Worker,
        running: &Running<'_>,
    ) -> Result<(), EngineError> {
        let step = self.step_number();
        let Some(trainer) = self.trainer.as_ref().filter(|_| step > 0) else { return Ok(()) };
        if self.told.checkpoint == Some(step) {
            return Ok(());
        }
        trainer.save(&self.folder.checkpoint(step))?;
        self.folder.prune_checkpoints();
        self.told.checkpoint = Some(step);
        keep_head(worker, &self.told, running);
        running.fact(Fact::TrainCheckpoint { run: self.told.spec.run, step });
        Ok(())
    }

    /// Writes the vector as it is after the last whole step.
    pub(super) fn write_vector(
        &self,
        path: &std::path::Path,
        running: &Running<'_>,
    ) -> Result<String, EngineError> {
        let Some(trainer) = &self.trainer else { return Err(EngineError::NothingTrained) };
        let Self { base, config, told, levels, .. } = self;
        let trained = Trained { base, config, levels, told, trainer };
        let meter = running.outbox.progress(running.job_id, Stage::Writing);
        let on_progress = |progress: Progress| meter.report(progress);
        // Not to be interrupted: it is soon done, and what is asked for is this.
        let job = JobCtx::new(meav_job::CancelToken::default(), &on_progress);
        let tensors = trained.write(path, &job)?;
        Ok(summary(told, tensors, path))
    }

    fn end(
        mut self: Box<Self>,
        worker: &mut Worker,
        result: Result<Option<String>, EngineError>,
        running: &Running<'_>,
    ) -> Result<(), EngineError> {
        let is_wrapped_up = running.cancel.request() == Request::WrapUp;
        let result = match result {
            Err(err) if is_cancelled(&err) && is_wrapped_up && self.step_number() == 0 => {
                Err(EngineError::NothingTrained)
            }
            Err(err) if is_cancelled(&err) && is_wrapped_up => Ok(Some(self.wrapped_up())),
            result => result,
        };
        let result = result.and_then(|ended| self.finish(worker, ended, running));
        if let Err(err) = &result {
            self.stop(worker, err, running);
        }
        running.fact(Fact::Train(Box::new(self.told)));
        result
    }

    fn wrapped_up(&self) -> String {
        format!("Ended by hand after step {} of {}", self.step_number(), self.told.total_steps)
    }

    /// Writes the vector, and keeps that this is the end.
    fn finish(
        &mut self,
        worker: &Worker,
        ended: Option<String>,
        running: &Running<'_>,
    ) -> Result<(), EngineError> {
        let path = self.folder.vector();
        let summary = self.write_vector(&path, running)?;
        self.folder.remove_paused();
        self.folder.log(ended.as_deref().unwrap_or("finished"));
        let told = &mut self.told;
        told.state = RunState::Finished;
        told.is_paused = false;
        told.ended = ended;
        told.vector = Some(path.clone());
        keep_head(worker, told, running);
        worker.record_written("train", &path, summary, running);
        Ok(())
    }

    /// Keeps that it ends before its end, and what it can go on from.
    fn stop(&mut self, worker: &Worker, err: &EngineError, running: &Running<'_>) {
        let is_diverged = matches!(err, EngineError::Train(TrainError::NotFinite { .. }));
        if is_diverged && let Err(err) = self.save_checkpoint(worker, running) {
            tracing::warn!("the last good step is not kept: {err}");
        }
        // It may have been waiting to go on from its checkpoint.
        let step = self.step_number().max(self.told.checkpoint.unwrap_or(0));
        let total = self.told.total_steps;
        self.told.ended = Some(if is_cancelled(err) {
            format!("Cancelled after step {step} of {total}")
        } else {
            sentence(err)
        });
        self.folder.log(&source_chain(err));
        self.set_stopped();
        keep_head(worker, &self.told, running);
    }

    fn set_stopped(&mut self) {
        self.told.state = RunState::Stopped;
        self.told.is_paused = false;
        self.told.vector = None;
        self.folder.remove_paused();
    }

    /// It will not go on: it was cancelled in the moment in which it made room, or the engine ends.
    pub(crate) fn abandon(mut self, worker: &Worker) {
        self.set_stopped();
        if let Ok(workspace) = &worker.workspace
            && let Err(err) = workspace.keep_training(&self.told)
        {
            tracing::warn!("a stopped training run counts as cut off: {err}");
        }
    }

    /// Holds it until somebody lets it go on, and writes what it has been trained to so far.
    pub(crate) fn pause(&mut self, worker: &Worker, running: &Running<'_>) {
        if let Err(err) = self.keep_what_is_there(worker, running) {
            let words = source_chain(&err);
            running.fact(Fact::Note(format!("the half-trained vector is not written: {words}")));
        }
        self.told.is_paused = true;
        self.told.vector = Some(self.folder.paused()).filter(|_| self.step_number() > 0);
        self.folder.log(&format!("paused after step {}", self.step_number()));
        keep_head(worker, &self.told, running);
        running.fact(Fact::Train(Box::new(self.told.clone())));
    }

    /// Gives up its memory for what it can go on from; keeps it where that can't be written.
    pub(crate) fn park(mut self: Box<Self>, worker: &Worker, running: &Running<'_>) -> Background {
        if let Err(err) = self.keep_what_is_there(worker, running) {
            let words = source_chain(&err);
            running.fact(Fact::Note(format!("the training keeps its memory: {words}")));
            return Background::Train(self);
        }
        let Self { told, folder, .. } = *self;
        folder.log("gives its memory to another job");
        Background::Parked(Box::new(ParkedRun { told, folder }))
    }

    fn keep_what_is_there(
        &mut self,
        worker: &Worker,
        running: &Running<'_>,
    ) -> Result<(), EngineError> {
        if self.step_number() == 0 {
            return Ok(());
        }
        self.save_checkpoint(worker, running)?;
        self.write_vector(&self.folder.paused(), running).map(drop)
    }
}

/// Forgets what came after a step, which is taken again.
pub(super) fn cut_back(told: &mut TrainRun, step: usize) {
    told.steps.retain(|it| it.step <= step);
    told.validations.retain(|it| it.step <= step);
}

/// Keeps all of a run but its steps.
pub(super) fn keep_head(worker: &Worker, told: &TrainRun, running: &Running<'_>) {
    keep(worker, running, |workspace| workspace.keep_training(told));
}

/// Keeps something of a run, which goes on where that fails.
pub(super) fn keep(
    worker: &Worker,
    running: &Running<'_>,
    write: impl FnOnce(&Workspace) -> Result<(), WorkspaceError>,
) {
    let kept = match &worker.workspace {
        Ok(workspace) => write(workspace),
        Err(err) => return running.unkept("the training run is not kept", err),
    };
    if let Err(err) = kept {
        running.unkept("the training run is not kept", &err);
    }
}
