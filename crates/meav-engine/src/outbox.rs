use std::io::Write;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};

use meav_job::Progress;
use meav_protocol::{Event, Fact, FrameError, JobId, Stage, write_frame};

/// Events on their way to the client.
#[derive(Clone, Debug)]
pub(crate) struct Outbox(SyncSender<Event>);

/// Events that wait while the client is slow.
pub(crate) const OUTBOX_LEN: usize = 1024;

/// Progress is told about 30 times a second.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(33);

impl Outbox {
    pub(crate) fn new(sender: SyncSender<Event>) -> Self {
        Self(sender)
    }

    /// Delivers, waiting for room. A client that has gone needs no events.
    pub(crate) fn send(&self, event: Event) {
        if self.0.send(event).is_err() {
            tracing::debug!("the client has gone");
        }
    }

    pub(crate) fn fact(&self, job_id: JobId, fact: Fact) {
        self.send(Event::Fact { job_id, fact });
    }

    /// Delivers if there is room.
    fn offer(&self, event: Event) {
        // Progress is advisory: whether it was dropped does not matter.
        let _dropped = self.0.try_send(event);
    }

    pub(crate) fn progress(&self, job_id: JobId, stage: Stage) -> ProgressMeter {
        ProgressMeter { outbox: self.clone(), job_id, stage, last: Mutex::new(None) }
    }
}

/// Reports one stage of one job, not more often than is of use.
pub(crate) struct ProgressMeter {
    outbox: Outbox,
    job_id: JobId,
    stage: Stage,
    last: Mutex<Option<Instant>>,
}

impl ProgressMeter {
    pub(crate) fn report(&self, Progress { done, total }: Progress) {
        let Ok(mut last) = self.last.lock() else { return };
        let is_due = last.is_none_or(|last| last.elapsed() >= PROGRESS_INTERVAL);
        if is_due {
            *last = Some(Instant::now());
            let Self { job_id, stage, .. } = *self;
            self.outbox.offer(Event::Progress { job_id, stage, done, total });
        }
    }
}

/// Writes events until all senders have gone.
pub(crate) fn write_events(
    events: &Receiver<Event>,
    writer: &mut impl Write,
) -> Result<(), FrameError> {
    events.iter().try_for_each(|event| match write_frame(writer, &event) {
        // One report that is too long is no reason to end everything.
        Err(FrameError::TooLong { bytes }) => {
            tracing::error!("an event of {bytes} bytes is not sent");
            Ok(())
        }
        written => written,
    })
}
