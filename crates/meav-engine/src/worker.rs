use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender};

use jiff::Timestamp;
use meav_data::Dataset;
use meav_job::{CancelToken, JobCtx, Progress, Request};
use meav_protocol::{Fact, JobId, JobSpec, RecipeStamp, Stage};

use crate::background::Backgrounds;
use crate::compute::Compute;
use crate::control::{Input, Queued};
use crate::error::EngineError;
use crate::folders::Folders;
use crate::jobs;
use crate::loaded::Loaded;
use crate::outbox::Outbox;
use crate::training::{estimate_training, train};
use crate::words::{into_outcome, is_cancelled, source_chain};
use crate::workspace::{FileStamp, Workspace, WorkspaceError};

/// Computes, one job after another, and keeps the model between them.
pub(crate) struct Worker {
    pub(crate) folders: Folders,
    /// What models run on where there is room.
    pub(crate) compute: Compute,
    pub(crate) outbox: Outbox,
    /// Nothing is kept where the workspace can't be opened, which each job says and tries again.
    pub(crate) workspace: Result<Workspace, WorkspaceError>,
    pub(crate) loaded: Option<Loaded>,
    /// Jobs that made room for others or are paused, with what they need to go on.
    pub(crate) background: Backgrounds,
    /// The data file that was looked at last.
    pub(crate) data: Option<(FileStamp, Dataset)>,
    /// The recipe that was kept last, to keep the same one only once.
    pub(crate) recorded: Option<RecipeStamp>,
    log: Option<PathBuf>,
}

/// The job that the worker is on.
pub(crate) struct Running<'a> {
    pub(crate) job_id: JobId,
    pub(crate) cancel: &'a CancelToken,
    pub(crate) outbox: &'a Outbox,
    said_unkept: Cell<bool>,
}

impl<'a> Running<'a> {
    pub(crate) fn new(job_id: JobId, cancel: &'a CancelToken, outbox: &'a Outbox) -> Self {
        Self { job_id, cancel, outbox, said_unkept: Cell::new(false) }
    }

    /// Runs a part of the job, whose progress is told under `stage`.
    pub(crate) fn stage<T>(&self, stage: Stage, run: impl FnOnce(&JobCtx<'_>) -> T) -> T {
        let meter = self.outbox.progress(self.job_id, stage);
        let on_progress = |progress: Progress| meter.report(progress);
        run(&JobCtx::new(self.cancel.clone(), &on_progress))
    }

    pub(crate) fn fact(&self, fact: Fact) {
        self.outbox.fact(self.job_id, fact);
    }

    /// Whether the job ends only for now, and will go on.
    pub(crate) fn will_go_on(&self) -> bool {
        matches!(self.cancel.request(), Request::MakeRoom | Request::Pause)
    }

    /// Says that something is not kept, with [`Fact::Unkept`]; the first time in the job only.
    pub(crate) fn unkept(&self, what: &str, err: &WorkspaceError) {
        let words = format!("{what}: {}", source_chain(err));
        tracing::warn!("{words}");
        if !self.said_unkept.replace(true) {
            self.fact(Fact::Unkept(words));
        }
    }
}

impl Worker {
    pub(crate) fn new(
        folders: Folders,
        compute: Compute,
        outbox: Outbox,
        log: Option<PathBuf>,
    ) -> Self {
        let workspace = open_workspace(&folders);
        Self {
            folders,
            compute,
            outbox,
            workspace,
            loaded: None,
            background: Backgrounds::default(),
            data: None,
            recorded: None,
            log,
        }
    }

    pub(crate) fn run(mut self, work: &Receiver<Queued>, done: &SyncSender<Input>) {
        for Queued { job_id, spec, cancel } in work {
            let log = self.log.clone();
            let result = guard(log.as_deref(), || {
                // On a thread of the pool itself: from outside, each of the thousands of small
                // parallel loops of a reply would wake and be woken across threads.
                rayon::scope(|_| self.run_job(job_id, &spec, &cancel))
            });
            if result.as_ref().is_err_and(is_cancelled)
                && let Some(request) = self.ended_for_now(job_id, &cancel)
            {
                if request == Request::Pause {
                    self.pause(job_id, &cancel);
                }
                let job = Queued { job_id, spec, cancel };
                if done.send(Input::EndedForNow(job, request)).is_err() {
                    return;
                }
                continue;
            }
            // Whatever it kept for going on is of no use any more.
            self.let_background_go(job_id);
            if matches!(result, Err(EngineError::Panicked { .. })) {
                // Whatever it was doing to the weights, it did not finish.
                self.unload(job_id);
            }
            let (result, goes_on) = self.look_after_gpu(&spec, result);
            if let Err(err) = &result {
                tracing::info!(?job_id, "{err:?}");
            }
            if done.send(Input::Done(job_id, into_outcome(result))).is_err() {
                return;
            }
            if !goes_on {
                // The client starts another engine with its next job.
                let _gone = done.send(Input::Closed);
                break;
            }
        }
        self.let_trainings_go();
    }

    /// Gives memory back that a GPU is not asked for at the next turn of a knob, and looks whether it still
    /// works: after some failures it refuses everything as long as the process lives.
    fn look_after_gpu(
        &self,
        spec: &JobSpec,
        result: Result<(), EngineError>,
    ) -> (Result<(), EngineError>, bool) {
        let keeps_memory = matches!(spec, JobSpec::Prepare(_) | JobSpec::Chat(_));
        if !self.compute.is_gpu() || (keeps_memory && result.is_ok()) || self.compute.trim() {
            return (result, true);
        }
        let message = result.err().map(|err| source_chain(&err));
        (Err(EngineError::GpuFailed { message: message.unwrap_or_default() }), false)
    }

    /// What a job that was interrupted had been asked for, if it goes on.
    pub(crate) fn ended_for_now(&self, job_id: JobId, cancel: &CancelToken) -> Option<Request> {
        // Asked for more in the moment in which it put itself by, it does that when it goes on.
        let is_put_by = || self.background.holds(job_id).then_some(Request::MakeRoom);
        cancel.go_on().or_else(is_put_by)
    }

    fn pause(&mut self, job_id: JobId, cancel: &CancelToken) {
        let (log, outbox) = (self.log.clone(), self.outbox.clone());
        let running = Running::new(job_id, cancel, &outbox);
        let paused = guard(log.as_deref(), || {
            self.pause_background(&running);
            Ok(())
        });
        if let Err(err) = paused {
            tracing::error!(?job_id, "{err:?}");
        }
    }

    fn run_job(
        &mut self,
        job_id: JobId,
        spec: &JobSpec,
        cancel: &CancelToken,
    ) -> Result<(), EngineError> {
        if self.workspace.is_err() {
            self.workspace = open_workspace(&self.folders);
        }
        let outbox = self.outbox.clone();
        let running = Running::new(job_id, cancel, &outbox);
        match spec {
            JobSpec::Prepare(setup) => self.prepare(setup, &running).map(|_| ()),
            JobSpec::Chat(turn) => jobs::chat(self, turn, &running),
            JobSpec::Describe { path } => jobs::describe(self, path, &running),
            JobSpec::FetchDemo => jobs::fetch_demo(&self.folders, &running),
            JobSpec::SeedModel(shape) => jobs::seed_model(&self.folders, *shape, &running),
            JobSpec::ImportVector(import) => jobs::import_vector(self, import, &running),
            JobSpec::Merge(merge) => jobs::merge(self, merge, &running),
            JobSpec::ExtractVector(extract) => jobs::extract_vector(self, extract, &running),
            JobSpec::CompressVector(compress) => jobs::compress_vector(self, compress, &running),
            JobSpec::SeparateVector(separate) => jobs::separate_vector(self, separate, &running),
            JobSpec::CompareVectors { vectors, base } => {
                jobs::compare_vectors(self, vectors, base.as_deref(), &running)
            }
            JobSpec::SaveRecipe { setup, out } => jobs::save_recipe(self, setup, out, &running),
            JobSpec::OpenRecipe { path } => jobs::open_recipe(self, path, &running),
            JobSpec::PlanMemory(setup) => jobs::plan_memory(self, setup, &running),
            JobSpec::Score(score) => jobs::score(self, score, &running),
            JobSpec::Sweep(sweep) => jobs::sweep(self, sweep, &running),
            JobSpec::Judge(judge) => jobs::judge(self, judge, &running),
            JobSpec::Train(spec) => train(self, spec, &running),
            JobSpec::EstimateTraining(spec) => estimate_training(self, spec, &running),
            JobSpec::WriteCalibration { vector, calibration } => {
                jobs::write_calibration(self, vector, calibration, &running)
            }
            JobSpec::InspectData { path } => jobs::inspect_data(self, path, &running),
            JobSpec::ReadRecords { path, search, start, count } => {
                jobs::read_records(self, path, search, *start, *count, &running)
            }
            JobSpec::SplitData(split) => jobs::split_data(self, split, &running),
            JobSpec::FindLeakage { train, test } => jobs::find_leakage(self, train, test, &running),
            JobSpec::Bench(bench) => jobs::bench(self, bench, &running),
            _ => unreachable!("control gives the others to the librarian"),
        }
    }

    /// Says that something was written, here and in the audit log.
    pub(crate) fn record_written(
        &self,
        action: &str,
        path: &Path,
        summary: String,
        running: &Running<'_>,
    ) {
        let unkept = "what was written is not in the audit log";
        match &self.workspace {
            Ok(workspace) => {
                let detail = format!("{summary} → {}", path.display());
                if let Err(err) = workspace.record(action, &detail) {
                    running.unkept(unkept, &err);
                }
            }
            Err(err) => running.unkept(unkept, err),
        }
        running.fact(Fact::Written { path: path.to_owned(), summary });
    }

    /// Drops the model, and says so with [`Fact::Unloaded`] if there was one.
    pub(crate) fn unload(&mut self, job_id: JobId) {
        if self.loaded.take().is_some() {
            self.outbox.fact(job_id, Fact::Unloaded);
        }
    }
}

fn open_workspace(folders: &Folders) -> Result<Workspace, WorkspaceError> {
    let workspace = Workspace::open(&folders.workspace)?;
    if let Err(err) = workspace.purge_chats(Timestamp::now()) {
        tracing::warn!("deleted chats are still there: {err}");
    }
    Ok(workspace)
}

/// Runs a job; a bug in it must not take the engine with it.
pub(crate) fn guard<T>(
    log: Option<&Path>,
    run: impl FnOnce() -> Result<T, EngineError>,
) -> Result<T, EngineError> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let message = panic_message(&*panic);
        Err(EngineError::Panicked { message, log: log.map(Path::to_owned) })
    })
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
        .to_owned()
}
