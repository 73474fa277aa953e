use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, SyncSender};

use meav_job::CancelToken;
use meav_protocol::{Command, Event, JobId, JobSpec, Outcome};

use crate::outbox::Outbox;
use crate::workspace::Librarian;

/// What control hears of.
pub(crate) enum Input {
    /// From the client.
    Command(Command),
    /// From the worker.
    Done(JobId, Outcome),
    /// From the worker: the job has made room and will go on with what it has.
    MadeRoom(Queued),
    /// The client has gone.
    Closed,
}

/// A job that waits or runs.
pub(crate) struct Queued {
    pub(crate) job_id: JobId,
    pub(crate) spec: JobSpec,
    pub(crate) cancel: CancelToken,
}

/// Queues jobs for the worker, one at a time. Never computes, so it answers at once.
pub(crate) struct Control {
    work: SyncSender<Queued>,
    workspace: SyncSender<(JobId, JobSpec)>,
    outbox: Outbox,
    /// What somebody waits for, oldest first.
    queue: VecDeque<Queued>,
    /// What takes long and makes room for all of that.
    background: VecDeque<Queued>,
    running: Option<Started>,
}

/// The job that the worker is on.
struct Started {
    job_id: JobId,
    cancel: CancelToken,
    in_background: bool,
}

/// Whether a job may wait while others run, and can be interrupted without losing anything.
fn is_background(spec: &JobSpec) -> bool {
    matches!(spec, JobSpec::Score(_) | JobSpec::Sweep(_) | JobSpec::Judge(_))
}

impl Control {
    pub(crate) fn new(
        work: SyncSender<Queued>,
        workspace: SyncSender<(JobId, JobSpec)>,
        outbox: Outbox,
    ) -> Self {
        let (queue, background) = (VecDeque::new(), VecDeque::new());
        Self { work, workspace, outbox, queue, background, running: None }
    }

    /// Runs until the client has gone and the running job has ended.
    pub(crate) fn run(mut self, inputs: &Receiver<Input>) {
        for input in inputs {
            match input {
                Input::Command(Command::Start { job_id, spec }) => self.start(job_id, spec),
                Input::Command(Command::Cancel { job_id }) => self.cancel(job_id),
                Input::Done(job_id, outcome) => {
                    self.outbox.send(Event::Finished { job_id, outcome });
                    self.running = None;
                }
                Input::MadeRoom(job) => {
                    self.running = None;
                    // It was cancelled while it made room: it is to end at once.
                    let is_over = job.cancel.is_cancelled();
                    let queue = if is_over { &mut self.queue } else { &mut self.background };
                    queue.push_front(job);
                }
                Input::Closed => {
                    if let Some(Started { cancel, .. }) = &self.running {
                        cancel.cancel();
                    }
                    return;
                }
            }
            self.dispatch();
        }
    }

    fn start(&mut self, job_id: JobId, spec: JobSpec) {
        tracing::debug!(?job_id, "start");
        if Librarian::answers(&spec) {
            if self.workspace.send((job_id, spec)).is_err() {
                tracing::error!("the workspace thread has gone");
            }
            return;
        }
        if matches!(spec, JobSpec::Prepare(_)) {
            self.drop_waiting_recipes();
        }
        let is_background = is_background(&spec);
        let job = Queued { job_id, spec, cancel: CancelToken::default() };
        if is_background {
            self.background.push_back(job);
            return;
        }
        self.queue.push_back(job);
        if let Some(Started { cancel, in_background: true, .. }) = &self.running {
            cancel.make_room();
        }
    }

    /// A knob that is dragged sends recipes faster than they can be merged: only the newest counts.
    fn drop_waiting_recipes(&mut self) {
        let (stale, rest): (VecDeque<_>, VecDeque<_>) =
            self.queue.drain(..).partition(|job| matches!(job.spec, JobSpec::Prepare(_)));
        self.queue = rest;
        for job in stale {
            self.finish_cancelled(job.job_id);
        }
    }

    fn cancel(&mut self, job_id: JobId) {
        match &self.running {
            Some(Started { job_id: running, cancel, .. }) if *running == job_id => cancel.cancel(),
            _ => {
                let before = self.queue.len();
                self.queue.retain(|job| job.job_id != job_id);
                if self.queue.len() < before {
                    self.finish_cancelled(job_id);
                }
                // It may hold something already, which it gives up at its first tick.
                if let Some(at) = self.background.iter().position(|job| job.job_id == job_id)
                    && let Some(job) = self.background.remove(at)
                {
                    job.cancel.cancel();
                    self.queue.push_front(job);
                }
            }
        }
    }

    fn finish_cancelled(&self, job_id: JobId) {
        self.outbox.send(Event::Finished { job_id, outcome: Outcome::Cancelled });
    }

    fn dispatch(&mut self) {
        if self.running.is_some() {
            return;
        }
        if let Some(job) = self.queue.pop_front().or_else(|| self.background.pop_front()) {
            self.running = Some(Started {
                job_id: job.job_id,
                cancel: job.cancel.clone(),
                in_background: is_background(&job.spec),
            });
            if self.work.send(job).is_err() {
                tracing::error!("the worker has gone");
            }
        }
    }
}
