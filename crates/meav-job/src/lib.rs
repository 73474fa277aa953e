//! Cancellation and progress, known to every job and knowing none.
//!
//! Long work takes a [`JobCtx`] and calls [`JobCtx::tick`] wherever it can stop without leaving
//! anything half done: at a tensor, a layer, a token.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// The job is to end; an outcome, not a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cancelled")]
pub struct Cancelled;

/// What a job is asked to do at its next tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Request {
    /// To go on.
    GoOn,
    /// To end for now, so that another can run: it will be started again and goes on with what it
    /// had.
    MakeRoom,
    /// To end for now, until somebody lets it go on.
    Pause,
    /// To end where it can go on another time: nobody is left to hear of it.
    LetGo,
    /// To end with what it has, as if it had been asked for no more.
    WrapUp,
    /// To end for good.
    Cancel,
}

impl Request {
    const ALL: [Self; 6] =
        [Self::GoOn, Self::MakeRoom, Self::Pause, Self::LetGo, Self::WrapUp, Self::Cancel];
}

/// Asks a job to end at its next tick. Clones share one request.
#[derive(Clone, Debug)]
pub struct CancelToken {
    request: Arc<AtomicU8>,
    /// The least that ends the job at its next tick.
    heeds: Request,
}

impl Default for CancelToken {
    fn default() -> Self {
        Self { request: Arc::default(), heeds: Request::MakeRoom }
    }
}

impl CancelToken {
    /// The same request, which ends only for `least` or more.
    #[must_use]
    pub fn heeding(&self, least: Request) -> Self {
        Self { request: Arc::clone(&self.request), heeds: least }
    }

    /// Asks for something, unless more than that is asked for already.
    pub fn ask(&self, request: Request) {
        self.request.fetch_max(request as u8, Ordering::AcqRel);
    }

    /// What is asked for.
    pub fn request(&self) -> Request {
        Request::ALL[usize::from(self.request.load(Ordering::Acquire))]
    }

    /// Ends the job for good.
    pub fn cancel(&self) {
        self.ask(Request::Cancel);
    }

    /// Whether the job is to end for good.
    pub fn is_cancelled(&self) -> bool {
        self.request() == Request::Cancel
    }

    /// Lets a job go on that had been asked to end for now; tells what it had been asked for.
    pub fn go_on(&self) -> Option<Request> {
        let is_for_now =
            |request: u8| (Request::MakeRoom as u8..=Request::Pause as u8).contains(&request);
        let change = |request| is_for_now(request).then_some(Request::GoOn as u8);
        let before = self.request.fetch_update(Ordering::AcqRel, Ordering::Acquire, change).ok()?;
        Some(Request::ALL[usize::from(before)])
    }

    fn is_raised(&self) -> bool {
        self.request() >= self.heeds
    }
}

/// How far a job has come, in units of its own choosing (tensors, tokens, bytes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Units finished.
    pub done: u64,
    /// Units in all.
    pub total: u64,
}

/// What long work needs to know about the job that it is part of.
pub struct JobCtx<'a> {
    cancel: CancelToken,
    on_progress: &'a (dyn Fn(Progress) + Sync),
}

impl<'a> JobCtx<'a> {
    /// Reports to `on_progress`, which must be quick, and ends when `cancel` is raised.
    pub fn new(cancel: CancelToken, on_progress: &'a (dyn Fn(Progress) + Sync)) -> Self {
        Self { cancel, on_progress }
    }

    /// A context that reports to nobody and is never cancelled.
    pub fn detached() -> JobCtx<'static> {
        JobCtx { cancel: CancelToken::default(), on_progress: &|_| {} }
    }

    /// The same job, for a part whose own progress would say nothing.
    #[must_use]
    pub fn without_progress(&self) -> JobCtx<'static> {
        JobCtx { cancel: self.cancel.clone(), on_progress: &|_| {} }
    }

    /// Yields to a pending cancellation.
    ///
    /// # Errors
    ///
    /// [`Cancelled`] once the token is raised, for good or to make room.
    pub fn check(&self) -> Result<(), Cancelled> {
        if self.cancel.is_raised() { Err(Cancelled) } else { Ok(()) }
    }

    /// Reports progress, then yields to a pending cancellation.
    ///
    /// # Errors
    ///
    /// [`Cancelled`] once the token is raised.
    pub fn tick(&self, done: usize, total: usize) -> Result<(), Cancelled> {
        self.report(done, total);
        self.check()
    }

    /// Reports progress where something inside looks for the cancellation.
    pub fn report(&self, done: usize, total: usize) {
        (self.on_progress)(Progress { done: done as u64, total: total as u64 });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn tick_reports_first_and_then_sees_the_cancellation() {
        let seen = Mutex::new(Vec::new());
        let on_progress = |progress: Progress| seen.lock().unwrap().push(progress.done);
        let cancel = CancelToken::default();
        let job = JobCtx::new(cancel.clone(), &on_progress);
        assert_eq!(job.tick(1, 2), Ok(()));
        cancel.cancel();
        assert_eq!(job.tick(2, 2), Err(Cancelled));
        assert_eq!(*seen.lock().unwrap(), [1, 2]);
    }

    #[test]
    fn job_that_ends_for_now_goes_on_but_a_cancelled_one_never_does() {
        let cancel = CancelToken::default();
        let job = JobCtx::new(cancel.clone(), &|_| {});
        assert_eq!(cancel.go_on(), None);
        for request in [Request::MakeRoom, Request::Pause] {
            cancel.ask(request);
            assert_eq!((job.check(), cancel.request()), (Err(Cancelled), request));
            assert_eq!(cancel.go_on(), Some(request));
            assert_eq!(job.check(), Ok(()));
        }
        for request in [Request::LetGo, Request::WrapUp, Request::Cancel] {
            cancel.ask(request);
            cancel.ask(Request::Pause);
            assert_eq!((cancel.go_on(), cancel.request()), (None, request));
            assert_eq!(job.check(), Err(Cancelled));
        }
    }

    #[test]
    fn part_that_heeds_only_the_end_goes_on_until_then() {
        let cancel = CancelToken::default();
        let job = JobCtx::new(cancel.heeding(Request::Cancel), &|_| {});
        for request in [Request::Pause, Request::WrapUp] {
            cancel.ask(request);
            assert_eq!(job.check(), Ok(()), "{request:?}");
        }
        cancel.cancel();
        assert_eq!(job.check(), Err(Cancelled));
    }
}
