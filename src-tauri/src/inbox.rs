use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use meav_ui::Action;

/// More than ever wait: the window empties it before each frame.
const LEN: usize = 256;

/// Where other threads leave what the window has to do.
#[derive(Clone, Debug)]
pub(crate) struct Inbox {
    actions: SyncSender<Action>,
    waker: Waker,
}

impl Inbox {
    /// An inbox and its other end.
    pub(crate) fn open() -> (Self, Receiver<Action>) {
        let (actions, waiting) = sync_channel(LEN);
        (Self { actions, waker: Waker::default() }, waiting)
    }

    /// Leaves something and wakes the window; never blocks.
    pub(crate) fn send(&self, action: Action) {
        match self.actions.try_send(action) {
            Ok(()) => self.waker.wake(),
            Err(TrySendError::Full(action)) => tracing::error!("the window is stuck: {action:?}"),
            // It is closing.
            Err(TrySendError::Disconnected(_)) => {}
        }
    }

    /// What wakes the window.
    pub(crate) fn waker(&self) -> &Waker {
        &self.waker
    }
}

/// What comes from elsewhere is shown this often: words that arrive faster than they are read must
/// not take the processor from the engine that makes them.
const FRAME: Duration = Duration::from_millis(50);

/// Wakes the window, once there is one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waker(Arc<Mutex<Option<egui::Context>>>);

impl Waker {
    /// From now on, this window.
    pub(crate) fn set(&self, ctx: &egui::Context) {
        *self.window() = Some(ctx.clone());
    }

    /// Has the window look into its inboxes. Before there is one nothing is needed: it looks when
    /// it opens.
    pub(crate) fn wake(&self) {
        let window = self.window().clone();
        if let Some(ctx) = window {
            ctx.request_repaint_after(FRAME);
        }
    }

    fn window(&self) -> MutexGuard<'_, Option<egui::Context>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_before_there_is_a_window_waits_for_it() {
        let (inbox, waiting) = Inbox::open();
        inbox.send(Action::ShowWindow);
        inbox.waker().set(&egui::Context::default());
        inbox.send(Action::CloseRequested);
        assert_eq!(
            waiting.try_iter().collect::<Vec<_>>(),
            [Action::ShowWindow, Action::CloseRequested]
        );
    }

    #[test]
    fn window_that_never_looks_blocks_nobody() {
        let (inbox, waiting) = Inbox::open();
        for _ in 0..LEN + 3 {
            inbox.send(Action::ShowWindow);
        }
        assert_eq!(waiting.try_iter().count(), LEN);
    }
}
