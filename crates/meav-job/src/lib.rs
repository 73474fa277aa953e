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

/// Asks a job to end at its next tick: for good, or to make room for another. Clones share one
/// flag.
#[derive(Clone, Debug, Default)]
pub struct CancelToken(Arc<AtomicU8>);

const GO: u8 = 0;
const MAKE_ROOM: u8 = 1;
const CANCELLED: u8 = 2;

impl CancelToken {
    /// Ends the job for good.
    pub fn cancel(&self) {
        self.0.store(CANCELLED, Ordering::Release);
    }

    /// Whether the job is to end for good.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire) == CANCELLED
    }

    /// Ends the job for now, unless it is to end for good: it will be started again and goes on
    /// with what it had.
    pub fn make_room(&self) {
        let _is_asked = self.change(GO, MAKE_ROOM);
    }

    /// Whether the job is to end for now.
    pub fn makes_room(&self) -> bool {
        self.0.load(Ordering::Acquire) == MAKE_ROOM
    }

    /// Lets a job go on that had made room; tells whether it had been asked to.
    pub fn go_on(&self) -> bool {
        self.change(MAKE_ROOM, GO)
    }

    fn change(&self, from: u8, to: u8) -> bool {
        self.0.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    fn is_raised(&self) -> bool {
        self.0.load(Ordering::Acquire) != GO
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
    fn job_that_makes_room_goes_on_but_a_cancelled_one_never_does() {
        let cancel = CancelToken::default();
        let job = JobCtx::new(cancel.clone(), &|_| {});
        assert!(!cancel.go_on());
        cancel.make_room();
        assert_eq!((job.check(), cancel.is_cancelled()), (Err(Cancelled), false));
        assert!(cancel.go_on());
        assert_eq!(job.check(), Ok(()));
        cancel.cancel();
        cancel.make_room();
        assert!(!cancel.go_on() && cancel.is_cancelled());
        assert_eq!(job.check(), Err(Cancelled));
    }
}
