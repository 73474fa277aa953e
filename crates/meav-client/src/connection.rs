use std::io::{self, Read, Write};
use std::path::PathBuf;

use meav_protocol::{DeviceChoice, EngineChoice, UserError};

use crate::choice::NoGpu;

/// Makes connections to engines; how is up to whoever implements it.
pub trait Connect: Send {
    /// Starts an engine.
    ///
    /// # Errors
    ///
    /// [`ConnectError`].
    fn connect(&mut self) -> Result<Connection, ConnectError>;
}

/// An engine that listens.
pub struct Connection {
    /// Where its events come from; ends when it does.
    pub reader: Box<dyn Read + Send>,
    /// Where its commands go; dropping it tells the engine to end.
    pub writer: Box<dyn Write + Send>,
    /// What can be learned of its end.
    pub handle: Box<dyn EngineHandle>,
    /// What it computes on, and why.
    pub choice: EngineChoice,
}

/// The end of an engine that no longer speaks.
pub trait EngineHandle: Send {
    /// Gives it a moment to end, ends it otherwise, and says why it ended, in words.
    fn end(&mut self) -> String;
}

/// Why no engine could be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields are named in each message")]
pub enum ConnectError {
    /// The program is not where it should be.
    #[error("there is no engine at {path:?}")]
    NoEngine { path: PathBuf },
    /// The program could not be started.
    #[error("cannot start {path:?}")]
    Start { path: PathBuf, source: io::Error },
    /// A GPU was asked for.
    #[error("{wanted} cannot be used")]
    NoGpu { wanted: DeviceChoice, source: NoGpu },
}

impl ConnectError {
    /// In words, for the job that needed the engine.
    pub fn to_user_error(&self) -> UserError {
        let (summary, hint) = match self {
            Self::NoEngine { path } => (
                format!("The engine is missing, {} does not exist", path.display()),
                "Install it beside this program, or name it in the variable MEAV_ENGINE",
            ),
            Self::Start { path, .. } => (
                format!("The engine {} could not be started", path.display()),
                "Check that it is a program for this machine",
            ),
            Self::NoGpu { wanted, source } => (
                format!("The device {wanted} cannot be used: {source}"),
                "Choose the device auto: it takes the CPU where no GPU can be used",
            ),
        };
        let source = std::error::Error::source(self).map(|err| format!(": {err}"));
        let detail = format!("{self}{}", source.unwrap_or_default());
        UserError { detail, ..UserError::new(summary, hint) }
    }
}
