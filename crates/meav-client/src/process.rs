use std::env;
use std::ffi::OsString;
use std::num::NonZero;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use std::{io, thread};

use crate::connection::{Connect, ConnectError, Connection, EngineHandle};

/// Starts the engine as a process of its own.
#[derive(Clone, Debug)]
pub struct EngineProcess {
    program: PathBuf,
    environment: Vec<(&'static str, OsString)>,
}

/// The environment variable that names the engine.
const ENGINE_VARIABLE: &str = "MEAV_ENGINE";

/// The environment variable that the libraries take the number of threads from.
const THREADS_VARIABLE: &str = "RAYON_NUM_THREADS";

const PROGRAM: &str = "meav-engine";

impl EngineProcess {
    /// The engine that `MEAV_ENGINE` names, or else the one beside this program; with as many
    /// `threads` as there are cores unless told otherwise.
    pub fn locate(threads: Option<usize>) -> Self {
        let beside = || {
            let this = env::current_exe().unwrap_or_default();
            this.with_file_name(format!("{PROGRAM}{}", env::consts::EXE_SUFFIX))
        };
        let program = env::var_os(ENGINE_VARIABLE).map_or_else(beside, PathBuf::from);
        // Said in any case: left to themselves, the libraries count cores in different ways, and
        // some don't see the limits of a container.
        let threads = threads.map_or_else(
            || {
                env::var_os(THREADS_VARIABLE).unwrap_or_else(|| {
                    let available = thread::available_parallelism().map_or(1, NonZero::get);
                    available.to_string().into()
                })
            },
            |threads| threads.to_string().into(),
        );
        Self { program, environment: vec![(THREADS_VARIABLE, threads)] }
    }

    /// As [`EngineProcess::locate`], beside a window of this program: one core is the window's.
    /// Decoding waits for the slowest of its threads at every layer, so a thread that has to share
    /// a core with what draws costs more than it brings.
    pub fn beside_window() -> Self {
        let is_set = env::var_os(THREADS_VARIABLE).is_some();
        let available = thread::available_parallelism().map_or(1, NonZero::get);
        Self::locate((!is_set).then(|| available.saturating_sub(1).max(1)))
    }

    /// A certain engine that keeps its things below `home`.
    pub fn at(program: PathBuf, home: &Path) -> Self {
        Self { program, environment: vec![("MEAV_HOME", home.into())] }
    }
}

impl Connect for EngineProcess {
    fn connect(&mut self) -> Result<Connection, ConnectError> {
        let path = &self.program;
        if !path.is_file() {
            return Err(ConnectError::NoEngine { path: path.clone() });
        }
        let mut command = Command::new(path);
        // A Ctrl-C in the terminal is for the client, which then asks the engine to cancel.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        command.envs(self.environment.iter().cloned());
        let start = |source| ConnectError::Start { path: path.clone(), source };
        let mut child = command.spawn().map_err(start)?;
        let (Some(writer), Some(reader)) = (child.stdin.take(), child.stdout.take()) else {
            unreachable!("both were asked to be piped")
        };
        let (reader, writer) = (Box::new(reader), Box::new(writer));
        Ok(Connection { reader, writer, handle: Box::new(ProcessHandle(child)) })
    }
}

struct ProcessHandle(Child);

/// What an engine that no longer speaks has to end by itself.
const GRACE: Duration = Duration::from_secs(2);

impl ProcessHandle {
    fn wait_or_kill(&mut self) -> io::Result<ExitStatus> {
        let start = Instant::now();
        while start.elapsed() < GRACE {
            if let Some(status) = self.0.try_wait()? {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(10));
        }
        self.0.kill()?;
        self.0.wait()
    }
}

impl EngineHandle for ProcessHandle {
    fn end(&mut self) -> String {
        const SIGABRT: i32 = 6;
        const SIGKILL: i32 = 9;
        match self.wait_or_kill() {
            Ok(status) => match (status.signal(), status.code()) {
                (Some(SIGKILL), _) => {
                    "it was killed, by someone or because memory ran out".to_owned()
                }
                // What Rust does when it is refused memory.
                (Some(SIGABRT), _) => "it gave up, most likely because memory ran out".to_owned(),
                (Some(signal), _) => format!("it crashed with signal {signal}"),
                (None, Some(0)) => "it ended by itself".to_owned(),
                (None, code) => format!("it ended with code {}", code.unwrap_or_default()),
            },
            Err(err) => format!("its end is unknown: {err}"),
        }
    }
}
