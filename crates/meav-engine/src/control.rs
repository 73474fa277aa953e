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
    queue: VecDeque<Queued>,
    running: Option<(JobId, CancelToken)>,
}

impl Control {
    pub(crate) fn new(
        work: SyncSender<Queued>,
        workspace: SyncSender<(JobId, JobSpec)>,
        outbox: Outbox,
    ) -> Self {
        Self { work, workspace, outbox, queue: VecDeque::new(), running: None }
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
                Input::Closed => {
                    self.queue.clear();
                    if let Some((_, cancel)) = &self.running {
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
        self.queue.push_back(Queued { job_id, spec, cancel: CancelToken::default() });
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
            Some((running, cancel)) if *running == job_id => cancel.cancel(),
            _ => {
                let before = self.queue.len();
                self.queue.retain(|job| job.job_id != job_id);
                if self.queue.len() < before {
                    self.finish_cancelled(job_id);
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
        if let Some(job) = self.queue.pop_front() {
            self.running = Some((job.job_id, job.cancel.clone()));
            if self.work.send(job).is_err() {
                tracing::error!("the worker has gone");
            }
        }
    }
}
