use std::collections::BTreeMap;
use std::io::{BufReader, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use meav_protocol::{
    Command, EngineChoice, Event, Fact, FrameError, JobId, JobSpec, Outcome, PROTOCOL_VERSION,
    Stage, UserError, read_frame, write_frame,
};

use crate::connection::{Connect, Connection};

/// A connection to an engine that is made when needed, and made again.
///
/// Dropping it ends the engine, what it is doing included, and then the threads that talk to it.
#[derive(Debug)]
pub struct Client {
    commands: SyncSender<Command>,
    events: Receiver<Event>,
    next_job: u64,
}

/// Commands and events that wait for whoever takes them.
const CHANNEL_LEN: usize = 1024;

/// How often a waiting [`Client::run`] asks whether it should cancel.
const CANCEL_POLL: Duration = Duration::from_millis(30);

/// Why a command was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Too many wait already: try again later.
    #[error("too many commands wait for the engine")]
    Full,
    /// The thread that talks to the engine has ended, which only a bug can make it do.
    #[error("the thread that talks to the engine has gone")]
    Gone,
}

/// What [`Client::run`] hears of while a job runs.
#[derive(Debug)]
pub enum Update {
    /// See [`Event::Progress`].
    Progress {
        /// What it is doing.
        stage: Stage,
        /// Units finished.
        done: u64,
        /// Units in all.
        total: u64,
    },
    /// See [`Event::Fact`].
    Fact(Fact),
    /// See [`Event::EngineChosen`].
    EngineChosen(EngineChoice),
}

impl Client {
    /// Starts no engine yet. `wake` is called after each event, from another thread.
    ///
    /// # Panics
    ///
    /// If the system can't start a thread.
    pub fn new(connect: impl Connect + 'static, wake: impl Fn() + Send + Sync + 'static) -> Self {
        let (commands, waiting) = sync_channel(CHANNEL_LEN);
        let (events, received) = sync_channel(CHANNEL_LEN);
        let inlet = Inlet { events, wake: Arc::new(wake) };
        spawn("engine-commands", move || supervise(connect, &waiting, &inlet));
        Self { commands, events: received, next_job: 0 }
    }

    /// Queues a job and gives its name. Waits where very many commands wait already.
    pub fn start(&mut self, spec: JobSpec) -> JobId {
        self.next_job += 1;
        let job_id = JobId(self.next_job);
        self.send_waiting(Command::Start { job_id, spec });
        job_id
    }

    /// Asks a job to end at its next tick.
    pub fn cancel(&self, job_id: JobId) {
        self.send_waiting(Command::Cancel { job_id });
    }

    fn send_waiting(&self, command: Command) {
        if self.commands.send(command).is_err() {
            tracing::error!("the thread that talks to the engine has gone");
        }
    }

    /// Hands over a command without ever blocking, for a caller that draws a window and picks the
    /// [`JobId`]s itself; it must not use [`Client::start`] and [`Client::run`] too.
    ///
    /// # Errors
    ///
    /// [`SendError`]; the command is not carried out, and no event will tell of its job.
    pub fn send(&self, command: Command) -> Result<(), SendError> {
        self.commands.try_send(command).map_err(|err| match err {
            TrySendError::Full(_) => SendError::Full,
            TrySendError::Disconnected(_) => SendError::Gone,
        })
    }

    /// The events, in order; drain it before each frame, or wait on it.
    pub fn events(&self) -> &Receiver<Event> {
        &self.events
    }

    /// Starts a job and waits for its end. Cancels it once `should_cancel` says so.
    pub fn run(
        &mut self,
        spec: JobSpec,
        should_cancel: &dyn Fn() -> bool,
        mut on_update: impl FnMut(Update),
    ) -> Outcome {
        let own = self.start(spec);
        let mut cancelled = false;
        loop {
            if !cancelled && should_cancel() {
                self.cancel(own);
                cancelled = true;
            }
            let event = match self.events.recv_timeout(CANCEL_POLL) {
                Ok(event) => event,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => {
                    return Outcome::Failed(lost("it has gone", "Start it again"));
                }
            };
            match event {
                Event::Progress { job_id, stage, done, total } if job_id == own => {
                    on_update(Update::Progress { stage, done, total });
                }
                Event::EngineChosen(choice) => on_update(Update::EngineChosen(choice)),
                Event::Fact { job_id, fact } if job_id == own => on_update(Update::Fact(fact)),
                Event::Finished { job_id, outcome } if job_id == own => return outcome,
                _ => {}
            }
        }
    }
}

/// Where events go.
#[derive(Clone)]
struct Inlet {
    events: SyncSender<Event>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

impl Inlet {
    fn send(&self, event: Event) {
        if self.events.send(event).is_ok() {
            (self.wake)();
        }
    }

    fn fail(&self, job_id: JobId, err: UserError) {
        self.send(Event::Finished { job_id, outcome: Outcome::Failed(err) });
    }
}

/// One engine, as far as both threads must agree on it.
#[derive(Default)]
struct Link {
    is_lost: bool,
    /// Started and not finished, each with what is to be done if the engine is lost.
    jobs: BTreeMap<JobId, &'static str>,
}

/// What is to be done if an engine is lost that does this.
fn way_on(command: &Command) -> &'static str {
    match command {
        Command::Start { spec: JobSpec::Train(_), .. } => {
            "What it was trained to is kept as far as its newest checkpoint, to be resumed from; \
             the next job starts the engine again"
        }
        _ => "What was said is kept; the next message starts it again",
    }
}

type SharedLink = Arc<Mutex<Link>>;

fn lock(link: &SharedLink) -> MutexGuard<'_, Link> {
    link.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Carries commands to an engine, starting one where there is none.
fn supervise(mut connect: impl Connect, commands: &Receiver<Command>, inlet: &Inlet) {
    let mut current: Option<(SharedLink, Box<dyn Write + Send>)> = None;
    for command in commands {
        if current.as_ref().is_some_and(|(link, _)| lock(link).is_lost) {
            current = None;
        }
        let started = command.starts();
        if current.is_none() {
            // What an engine that is gone was doing can be asked for nothing.
            let Some(job_id) = started else { continue };
            match connect.connect() {
                Ok(connection) => current = Some(listen(connection, inlet)),
                Err(err) => {
                    let err = err.to_user_error();
                    let reason = err.detail.clone();
                    inlet.fail(job_id, err);
                    inlet.send(Event::EngineLost { reason });
                    continue;
                }
            }
        }
        let Some((link, writer)) = &mut current else { continue };
        if let Some(job_id) = started {
            let mut link = lock(link);
            if link.is_lost {
                drop(link);
                inlet.fail(job_id, lost("it ended just before", way_on(&command)));
                continue;
            }
            link.jobs.insert(job_id, way_on(&command));
        }
        if let Err(err) = write_frame(writer, &command) {
            tracing::info!("a command did not reach the engine: {err}");
            // Where the engine has ended, the other thread may have reported the job already.
            if let Some(job_id) = started
                && lock(link).jobs.remove(&job_id).is_some()
            {
                inlet.fail(job_id, unsent(&err));
            }
        }
    }
}

/// Forwards an engine's events until it ends, then ends its jobs.
fn listen(connection: Connection, inlet: &Inlet) -> (SharedLink, Box<dyn Write + Send>) {
    let Connection { reader, writer, mut handle, choice } = connection;
    inlet.send(Event::EngineChosen(choice));
    let link = SharedLink::default();
    let (shared, inlet) = (Arc::clone(&link), inlet.clone());
    spawn("engine-events", move || {
        let mut reader = BufReader::new(reader);
        let fault = loop {
            match read_frame::<Event>(&mut reader) {
                Ok(Some(Event::Hello { protocol, version, .. }))
                    if protocol != PROTOCOL_VERSION =>
                {
                    break Some(format!("it is of another version, {version}"));
                }
                Ok(Some(event)) => {
                    if let Event::Finished { job_id, .. } = &event {
                        lock(&shared).jobs.remove(job_id);
                    }
                    inlet.send(event);
                }
                Ok(None) => break None,
                Err(err @ FrameError::Io(_)) => {
                    tracing::warn!("events: {err}");
                    break None;
                }
                Err(err) => {
                    tracing::warn!("events: {err}");
                    break Some("it is of another version, or no engine".to_owned());
                }
            }
        };
        drop(reader);
        let jobs = {
            let mut link = lock(&shared);
            link.is_lost = true;
            std::mem::take(&mut link.jobs)
        };
        let end = handle.end();
        let reason = fault.unwrap_or(end);
        for (job_id, way_on) in jobs {
            inlet.fail(job_id, lost(&reason, way_on));
        }
        inlet.send(Event::EngineLost { reason });
    });
    (link, writer)
}

fn unsent(err: &FrameError) -> UserError {
    let source = std::error::Error::source(err).map(|source| format!(": {source}"));
    UserError {
        detail: format!("{err}{}", source.unwrap_or_default()),
        ..UserError::new(
            "The request could not be sent to the engine",
            "Check that all names of files in it are UTF-8",
        )
    }
}

fn lost(reason: &str, way_on: &str) -> UserError {
    UserError::new(format!("The engine stopped: {reason}"), way_on)
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) {
    let started = thread::Builder::new().name(name.to_owned()).spawn(run);
    assert!(started.is_ok(), "the system cannot start the thread {name:?}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ConnectError;

    /// Starts no engine before it is told to, and then none either.
    struct Slow(Receiver<()>);

    impl Connect for Slow {
        fn connect(&mut self) -> Result<Connection, ConnectError> {
            // It has been told, or nobody is left to tell it.
            let _told = self.0.recv();
            Err(ConnectError::NoEngine { path: "nowhere".into() })
        }
    }

    #[test]
    fn command_that_finds_no_room_is_given_back_at_once() {
        let (go, wait) = sync_channel(1);
        let client = Client::new(Slow(wait), || ());
        let mut refused = None;
        let is_taken = |id: &u64| {
            let start = Command::Start { job_id: JobId(*id), spec: JobSpec::ListChats };
            refused = client.send(start).err();
            refused.is_none()
        };
        let sent = (0..2 * CHANNEL_LEN as u64).take_while(is_taken).count();
        assert_eq!(refused, Some(SendError::Full));
        // One may be with the thread that waits for the engine.
        assert!((CHANNEL_LEN..=CHANNEL_LEN + 1).contains(&sent), "{sent}");
        drop(go);
        for _ in 0..sent {
            let event = client.events().recv().unwrap();
            assert!(matches!(event, Event::Finished { outcome: Outcome::Failed(_), .. }));
            let lost = Event::EngineLost { reason: "there is no engine at \"nowhere\"".to_owned() };
            assert_eq!(client.events().recv().unwrap(), lost);
        }
    }
}
