//! Cancellation and progress, known to every job and knowing none.
//!
//! Long work takes a [`JobCtx`] and calls [`JobCtx::tick`] wherever it can stop without leaving
//! anything half done: at a tensor, a layer, a token.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The user asked for the job to end; an outcome, not a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cancelled")]
pub struct Cancelled;

/// Asks a job to end at its next tick. Clones share one flag, which is never lowered.
#[derive(Clone, Debug, Default)]
pub struct CancelToken(Arc<AtomicBool>);

impl CancelToken {
    /// Raises the flag.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether the flag is raised.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire)
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
    /// [`Cancelled`] once the token is raised.
    pub fn check(&self) -> Result<(), Cancelled> {
        if self.cancel.is_cancelled() { Err(Cancelled) } else { Ok(()) }
    }

    /// Reports progress, then yields to a pending cancellation.
    ///
    /// # Errors
    ///
    /// [`Cancelled`] once the token is raised.
    pub fn tick(&self, done: usize, total: usize) -> Result<(), Cancelled> {
        (self.on_progress)(Progress { done: done as u64, total: total as u64 });
        self.check()
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
}
