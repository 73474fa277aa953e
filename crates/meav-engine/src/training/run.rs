use std::time::Instant;

use meav_job::{JobCtx, Progress, Request};
use meav_model::{Adapter, Decoder};
use meav_protocol::{Fact, RunState, Stage, TrainRun, TrainSpec, TrainStep, TrainValidation};
use meav_train::{CheckpointError, Pair, PairSet, Reference, TrainError, Trainer};
use meav_weights::WeightsError;

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
    /// Since when its time has not been added up.
    pub(super) computing_since: Option<Instant>,
}

/// Trains a vector.
pub(crate) fn train(
    worker: &mut Worker,
    spec: &TrainSpec,
    running: &Running<'_>,
) -> Result<(), EngineError> {
    let request = running.cancel.request();
    let mut run = match worker.take_background(running) {
        Some(Background::Train(run)) => run,
        Some(Background::Parked(parked)) if request == Request::GoOn => {
            reopen(worker, spec, *parked, running)?
        }
        Some(Background::Parked(parked)) => return end_parked(worker, *parked, request, running),
        _ => open(worker, spec, running)?,
    };
    if request == Request::GoOn {
        run.go_on_from_pause(worker, running);
    }
    run.computing_since = Some(Instant::now());
    let result = run.go_on(worker, running);
    run.add_time();
    run.computing_since = None;
    if result.as_ref().is_err_and(is_cancelled) && running.will_go_on() {
        keep_head(worker, &run.told, running);
        worker.keep_background(running, Background::Train(run));
        return result.map(|_| ());
    }
    run.end(worker, result, running)
}

/// Begins a run, or goes on with one that was begun by another engine.
fn open(
    worker: &mut Worker,
    spec: &TrainSpec,
    running: &Running<'_>,
) -> Result<Box<TrainingRun>, EngineError> {
    let opened = TrainingRun::open(worker, spec, &mut None, running);
    let is_wrapped_up = running.cancel.request() == Request::WrapUp;
    let opened = match opened {
        Err(err) if is_cancelled(&err) && is_wrapped_up && spec.resume => {
            // What it has come to is read after all, for its vector.
            let cancel = running.cancel.heeding(Request::Cancel);
            let running = Running::new(running.job_id, &cancel, running.outbox);
            TrainingRun::open(worker, spec, &mut None, &running)
        }
        Err(err) if is_cancelled(&err) && is_wrapped_up => Err(EngineError::NothingTrained),
        opened => opened,
    };
    opened.map(Box::new)
}

/// Loads a run again that has given up its memory.
fn reopen(
    worker: &mut Worker,
    spec: &TrainSpec,
    parked: ParkedRun,
    running: &Running<'_>,
) -> Result<Box<TrainingRun>, EngineError> {
    let mut parked = Some(parked);
    let opened = TrainingRun::open(worker, spec, &mut parked, running);
    if let (Err(err), Some(parked)) = (&opened, parked) {
        if is_cancelled(err) {
            // It does what it was asked for with what it has.
            worker.keep_background(running, Background::Parked(Box::new(parked)));
        } else {
            parked.stop(worker, err, running);
        }
    }
    opened.map(Box::new)
}

/// Does what is asked of a run that has given up its memory, without loading it again.
fn end_parked(
    worker: &mut Worker,
    parked: ParkedRun,
    request: Request,
    running: &Running<'_>,
) -> Result<(), EngineError> {
    let err = match request {
        Request::GoOn | Request::MakeRoom | Request::Pause => {
            worker.keep_background(running, Background::Parked(Box::new(parked)));
            return Err(meav_job::Cancelled.into());
        }
        Request::LetGo => {
            parked.let_go(worker, running);
            return Err(meav_job::Cancelled.into());
        }
        Request::WrapUp if parked.folder.paused().is_file() => {
            return parked.wrap_up(worker, running);
        }
        Request::WrapUp => EngineError::NothingTrained,
        Request::Cancel => meav_job::Cancelled.into(),
    };
    parked.stop(worker, &err, running);
    Err(err)
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
        self.prepare(worker, running)?;
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
                return Ok(Some(ended_early(&self.told, step)));
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
    fn prepare(&mut self, worker: &Worker, running: &Running<'_>) -> Result<(), EngineError> {
        if let (Some(pairs), Some(network)) = (&self.pairs, &self.network) {
            let reference = reference(worker, &self.base, network, pairs, running)?;
            self.make_trainer(reference, running)?;
        }
        self.open_metrics(worker, running)
    }

    fn make_trainer(
        &mut self,
        reference: Reference,
        running: &Running<'_>,
    ) -> Result<(), EngineError> {
        let (Some(pairs), Some(network)) = (self.pairs.take(), self.network.take()) else {
            unreachable!("there is a trainer, or what it is made from")
        };
        let model = format!("{} in {}", self.base.fingerprint, self.base.dtype);
        let settings = &self.told.spec.settings;
        let mut trainer = Trainer::new(network, pairs, reference, settings, &model)?;
        self.resume(&mut trainer, running)?;
        self.trainer = Some(trainer);
        Ok(())
    }

    fn open_metrics(&mut self, worker: &Worker, running: &Running<'_>) -> Result<(), EngineError> {
        if self.metrics.is_none() {
            let step = self.step_number();
            self.metrics = Some(Metrics::open(&self.folder.path, step)?);
            if self.told.checkpoint != Some(step).filter(|step| *step > 0) {
                self.go_back(worker, step, running);
            }
        }
        Ok(())
    }

    /// Adds up the time that it has computed.
    fn add_time(&mut self) {
        if let Some(since) = &mut self.computing_since {
            self.told.elapsed_secs += since.elapsed().as_secs_f64();
            *since = Instant::now();
        }
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
    fn resume(&mut self, trainer: &mut Trainer, running: &Running<'_>) -> Result<(), EngineError> {
        let mut first = None;
        for step in self.folder.checkpoint_steps() {
            let Err(err) = trainer.resume(&self.folder.checkpoint(step)) else {
                if first.is_some() {
                    running.fact(Fact::Note(format!(
                        "the newest checkpoint is damaged: the run goes on from step {step}"
                    )));
                }
                return Ok(());
            };
            self.folder.log(&source_chain(&err));
            if is_damaged(&err) {
                self.folder.set_aside(step);
            }
            first.get_or_insert(err);
        }
        let Some(source) = first else { return Ok(()) };
        self.told.checkpoint = self.folder.checkpoint_steps().first().copied();
        if self.told.checkpoint.is_some() {
            return Err(source.into());
        }
        let (path, source) = (self.folder.path.clone(), Box::new(source));
        Err(EngineError::NoGoodCheckpoint { path, source })
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
        self.add_time();
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
        trainer.check_weights()?;
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
            Err(err) if is_cancelled(&err) && is_wrapped_up => self.wrap_up(worker, running),
            result => result,
        };
        let result = result.and_then(|ended| self.finish(worker, ended, running));
        match &result {
            Ok(()) => {}
            Err(err) if is_cancelled(err) && running.cancel.request() == Request::LetGo => {
                self.let_go(worker, running);
            }
            Err(err) => self.stop(worker, err, running),
        }
        running.fact(Fact::Train(Box::new(self.told)));
        result
    }

    /// Ends with what it has, which may be what it was about to go on from.
    fn wrap_up(
        &mut self,
        worker: &Worker,
        running: &Running<'_>,
    ) -> Result<Option<String>, EngineError> {
        if let (Some(pairs), Some(_)) = (&self.pairs, self.told.checkpoint) {
            // No step is taken any more, so that nothing is compared with the base model.
            let none = |pairs: &[Pair]| vec![[0.0; 2]; pairs.len()];
            let (train, validation) = (none(&pairs.train), none(&pairs.validation));
            self.make_trainer(Reference { train, validation }, running)?;
            self.open_metrics(worker, running)?;
        }
        let (step, total) = (self.step_number(), self.told.total_steps);
        if step == 0 {
            return Err(EngineError::NothingTrained);
        }
        Ok(Some(format!("Ended by hand after step {step} of {total}")))
    }

    /// Writes the vector, and keeps that this is the end.
    fn finish(
        &mut self,
        worker: &Worker,
        ended: Option<String>,
        running: &Running<'_>,
    ) -> Result<(), EngineError> {
        if self.trainer.as_ref().is_some_and(has_idle_adapters) {
            return Err(EngineError::NothingTrained);
        }
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
        // What failed in the middle of a step is not trusted.
        if is_cancelled(err) || !matches!(err, EngineError::Train(_)) {
            self.keep_last_step(worker, running);
        }
        // It may have been waiting to go on from its checkpoint.
        let step = self.step_number().max(self.told.checkpoint.unwrap_or(0));
        set_stopped(&mut self.told, err, step);
        self.folder.remove_paused();
        self.folder.log(&source_chain(err));
        keep_head(worker, &self.told, running);
    }

    /// Leaves it as one that was cut off, after its last whole step: the engine ends.
    pub(crate) fn let_go(&mut self, worker: &Worker, running: &Running<'_>) {
        self.keep_last_step(worker, running);
        self.told.is_paused = false;
        self.told.vector = None;
        self.folder.remove_paused();
        self.folder.log("the engine ends");
        keep_head(worker, &self.told, running);
    }

    fn keep_last_step(&mut self, worker: &Worker, running: &Running<'_>) {
        if let Err(err) = self.save_checkpoint(worker, running) {
            let words = format!("the last step is not kept: {}", source_chain(&err));
            tracing::warn!("{words}");
            self.folder.log(&words);
            running.fact(Fact::Note(words));
        }
    }

    /// Holds it until somebody lets it go on, and writes what it has been trained to so far.
    pub(crate) fn pause(&mut self, worker: &Worker, running: &Running<'_>) {
        let is_written = self.keep_what_is_there(worker, running).unwrap_or_else(|err| {
            let words = source_chain(&err);
            running.fact(Fact::Note(format!("the half-trained vector is not written: {words}")));
            false
        });
        self.told.is_paused = true;
        self.told.vector = is_written.then(|| self.folder.paused());
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

    /// Gives whether there is a half-trained vector now.
    fn keep_what_is_there(
        &mut self,
        worker: &Worker,
        running: &Running<'_>,
    ) -> Result<bool, EngineError> {
        self.save_checkpoint(worker, running)?;
        match self.write_vector(&self.folder.paused(), running) {
            // The first step of a warm-up changes nothing.
            Err(EngineError::NothingTrained) => Ok(false),
            written => written.map(|_| true),
        }
    }
}

/// Why a run ends whose validation loss no longer falls, and where it was lowest: a sentence.
fn ended_early(told: &TrainRun, step: usize) -> String {
    let patience = told.spec.settings.patience.unwrap_or_default();
    let best = best_validation(&told.validations).map_or_else(String::new, |best| {
        format!("; it was lowest after step {}, at {:.4}", best.step, best.loss)
    });
    format!(
        "Ended early after step {step} of {}: the validation loss has not fallen in {patience} \
         validations{best}",
        told.total_steps,
    )
}

/// Whether there are low-rank factors, and nothing comes of them: their second ones begin as 0.
fn has_idle_adapters(trainer: &Trainer) -> bool {
    let is_idle = |adapter: &Adapter| {
        let largest =
            adapter.b.abs().and_then(|b| b.max_all()).and_then(|it| it.to_scalar::<f32>());
        largest.is_ok_and(|largest| largest == 0.0)
    };
    trainer.adapters().is_some_and(|adapters| adapters.values().all(is_idle))
}

/// The first with the lowest loss.
pub(super) fn best_validation(validations: &[TrainValidation]) -> Option<&TrainValidation> {
    validations.iter().min_by(|a, b| a.loss.total_cmp(&b.loss))
}

/// Whether a checkpoint is not what was written, so that it is of no use any more.
fn is_damaged(err: &TrainError) -> bool {
    let TrainError::Checkpoint { source, .. } = err else { return false };
    !matches!(
        source,
        CheckpointError::OtherRun { .. }
            | CheckpointError::Format { .. }
            | CheckpointError::Weights(WeightsError::Read { .. })
    )
}

/// Tells that a run ends after `step` because of `err`.
pub(super) fn set_stopped(told: &mut TrainRun, err: &EngineError, step: usize) {
    told.state = RunState::Stopped;
    told.is_paused = false;
    told.vector = None;
    told.diverged = matches!(err, EngineError::Train(TrainError::NotFinite { .. }));
    told.ended = Some(if is_cancelled(err) {
        format!("Cancelled after step {step} of {}", told.total_steps)
    } else {
        sentence(err)
    });
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
