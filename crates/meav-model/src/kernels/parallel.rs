use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, PoisonError};

use candle_core::utils::barrier_pool;

/// Runs `work` on each part of `out`, with the part's index, on all threads.
///
/// For the many short loops of decoding one token: waking and gathering rayon's threads would take
/// as long as the work. These wait in a busy loop between two calls, and sleep a moment later.
pub(super) fn for_each_part(
    out: &mut [f32],
    part_len: usize,
    work: impl Fn(usize, &mut [f32]) + Sync,
) {
    let parts: Vec<Mutex<&mut [f32]>> = out.chunks_mut(part_len).map(Mutex::new).collect();
    let panic = Mutex::new(None);
    barrier_pool().execute_chunked(parts.len(), |indices| {
        // The pool would not survive a panic.
        let done = catch_unwind(AssertUnwindSafe(|| {
            for index in indices {
                // Each part is taken once: nobody else holds the lock.
                let mut part = parts[index].lock().unwrap_or_else(PoisonError::into_inner);
                work(index, &mut part);
            }
        }));
        if let Err(payload) = done {
            *panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(payload);
        }
    });
    if let Some(payload) = panic.into_inner().unwrap_or_else(PoisonError::into_inner) {
        resume_unwind(payload);
    }
}

/// Threads that [`for_each_part`] uses.
pub(super) fn n_threads() -> usize {
    barrier_pool().n_workers() + 1
}
