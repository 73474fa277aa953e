use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, SyncSender};

use meav_job::{CancelToken, Request};
use meav_protocol::{Command, Event, JobId, JobSpec, Outcome};

use crate::outbox::Outbox;
use crate::workspace::Librarian;

/// What control hears of.
pub(crate) enum Input {
    /// From the client.
    Command(Command),
    /// From the worker.
    Done(JobId, Outcome),
    /// From the worker: the job has ended for now, as it was asked to, and will go on with what it
    /// has.
    EndedForNow(Queued, Request),
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
    /// What somebody has paused.
    paused: Vec<Queued>,
    running: Option<Started>,
}

/// The job that the worker is on.
struct Started {
    job_id: JobId,
    cancel: CancelToken,
    in_background: bool,
    /// It was asked to pause, and not let go on since.
    is_to_pause: bool,
}

/// Whether a job may wait while others run, and can be interrupted without losing anything.
fn is_background(spec: &JobSpec) -> bool {
    matches!(spec, JobSpec::Score(_) | JobSpec::Sweep(_) | JobSpec::Judge(_) | JobSpec::Train(_))
}

impl Control {
    pub(crate) fn new(
        work: SyncSender<Queued>,
        workspace: SyncSender<(JobId, JobSpec)>,
        outbox: Outbox,
    ) -> Self {
        let (queue, background) = (VecDeque::new(), VecDeque::new());
        let paused = Vec::new();
        Self { work, workspace, outbox, queue, background, paused, running: None }
    }

    /// Runs until the client has gone and the running job has ended.
    pub(crate) fn run(mut self, inputs: &Receiver<Input>) {
        for input in inputs {
            match input {
                Input::Command(Command::Start { job_id, spec }) => self.start(job_id, spec),
                Input::Command(Command::Cancel { job_id }) => self.ask(job_id, Request::Cancel),
                Input::Command(Command::Pause { job_id }) => self.ask(job_id, Request::Pause),
                Input::Command(Command::WrapUp { job_id }) => self.ask(job_id, Request::WrapUp),
                Input::Command(Command::GoOn { job_id }) => self.go_on(job_id),
                Input::Done(job_id, outcome) => {
                    self.outbox.send(Event::Finished { job_id, outcome });
                    self.running = None;
                }
                Input::EndedForNow(job, request) => self.put_back(job, request),
                Input::Closed => {
                    if let Some(Started { cancel, .. }) = &self.running {
                        cancel.ask(Request::LetGo);
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
            cancel.ask(Request::MakeRoom);
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

    /// Asks a job for something, wherever it is.
    fn ask(&mut self, job_id: JobId, request: Request) {
        if let Some(running) = &mut self.running
            && running.job_id == job_id
        {
            running.is_to_pause |= request == Request::Pause;
            return running.cancel.ask(request);
        }
        let is_it = |job: &&Queued| job.job_id == job_id;
        if let Some(job) = self.queue.iter().find(is_it).filter(|job| is_background(&job.spec)) {
            return job.cancel.ask(request);
        }
        if request == Request::Cancel {
            let before = self.queue.len();
            self.queue.retain(|job| job.job_id != job_id);
            if self.queue.len() < before {
                return self.finish_cancelled(job_id);
            }
        }
        let is_it = |job: &Queued| job.job_id == job_id;
        let waiting = self.background.iter().position(is_it);
        let paused = self.paused.iter().position(is_it);
        let job = match (waiting, paused) {
            (Some(at), _) => self.background.remove(at),
            (None, Some(_)) if request == Request::Pause => None,
            (None, Some(at)) => Some(self.paused.remove(at)),
            (None, None) => None,
        };
        // It may hold something already: it does what it is asked for at its first tick.
        if let Some(job) = job {
            job.cancel.ask(request);
            self.queue.push_front(job);
        }
    }

    /// Lets a paused job go on, before all that waits.
    fn go_on(&mut self, job_id: JobId) {
        if let Some(running) = &mut self.running
            && running.job_id == job_id
        {
            running.is_to_pause = false;
            return;
        }
        let is_asked =
            |job: &Queued| job.job_id == job_id && job.cancel.request() == Request::Pause;
        if let Some(at) = self.queue.iter().position(is_asked)
            && let Some(job) = self.queue.remove(at)
        {
            job.cancel.go_on();
            self.background.push_front(job);
        }
        if let Some(at) = self.paused.iter().position(|job| job.job_id == job_id) {
            self.background.push_front(self.paused.remove(at));
        }
    }

    /// Keeps a job that has ended for now.
    fn put_back(&mut self, job: Queued, request: Request) {
        let is_to_pause = self.running.take().is_some_and(|it| it.is_to_pause);
        // The room that it was asked for meanwhile, it has made.
        if job.cancel.request() == Request::MakeRoom {
            job.cancel.go_on();
        }
        match (job.cancel.request(), request) {
            (Request::GoOn, Request::Pause) if is_to_pause => self.paused.push(job),
            (Request::GoOn, _) => self.background.push_front(job),
            // It was asked for something else in the meantime, and does it at its first tick.
            _ => self.queue.push_front(job),
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
                is_to_pause: job.cancel.request() == Request::Pause,
            });
            if self.work.send(job).is_err() {
                tracing::error!("the worker has gone");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, sync_channel};

    use meav_protocol::{Dtype, TrainSettings, TrainSpec};
    use uuid::Uuid;

    use super::*;

    const RUN: JobId = JobId(1);

    /// A control with a training run, and what its worker is given.
    fn training() -> (Control, Receiver<Queued>) {
        let (work, at_work) = sync_channel(8);
        let (workspace, _) = sync_channel(8);
        let (events, _) = sync_channel(8);
        let mut control = Control::new(work, workspace, Outbox::new(events));
        let spec = TrainSpec {
            run: Uuid::nil(),
            model: "model".into(),
            data: Vec::new(),
            domain: "medical".to_owned(),
            out: None,
            resume: false,
            dtype: Dtype::F32,
            settings: TrainSettings::default(),
        };
        control.start(RUN, JobSpec::Train(Box::new(spec)));
        control.dispatch();
        (control, at_work)
    }

    /// What the worker does with a job that it was asked to end for now.
    fn end_for_now(job: &Queued) -> Request {
        job.cancel.go_on().unwrap()
    }

    #[test]
    fn paused_run_waits_until_it_is_let_go_on() {
        let (mut control, at_work) = training();
        let job = at_work.recv().unwrap();
        control.ask(RUN, Request::Pause);
        let request = end_for_now(&job);
        control.put_back(job, request);
        control.dispatch();
        assert!(at_work.try_recv().is_err());
        control.go_on(RUN);
        control.dispatch();
        assert_eq!(at_work.recv().unwrap().cancel.request(), Request::GoOn);
    }

    #[test]
    fn run_that_is_let_go_on_before_its_pause_is_not_held() {
        for worker_is_first in [false, true] {
            let (mut control, at_work) = training();
            let job = at_work.recv().unwrap();
            control.ask(RUN, Request::Pause);
            let request = if worker_is_first {
                let request = end_for_now(&job);
                control.go_on(RUN);
                request
            } else {
                control.go_on(RUN);
                end_for_now(&job)
            };
            assert_eq!(request, Request::Pause);
            control.put_back(job, request);
            control.dispatch();
            assert!(at_work.try_recv().is_ok(), "{worker_is_first}");
        }
    }

    #[test]
    fn run_that_waits_does_what_it_is_asked_for_and_is_not_dropped() {
        let (mut control, at_work) = training();
        let job = at_work.recv().unwrap();
        control.ask(RUN, Request::Pause);
        let request = end_for_now(&job);
        control.put_back(job, request);
        control.ask(RUN, Request::WrapUp);
        control.ask(RUN, Request::Cancel);
        control.dispatch();
        assert_eq!(at_work.recv().unwrap().cancel.request(), Request::Cancel);
    }
}
