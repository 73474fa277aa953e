use std::io::{self, Write as _};
use std::process::ExitCode;

use meav_protocol::{Outcome, UserError};

/// The exit code of a command that the user ended.
pub(crate) const CANCELLED: u8 = 130;

/// Why the command did not do what it was asked to.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It could not.
    Failed(UserError),
    /// The user ended it.
    Cancelled,
}

impl Failure {
    /// The outcome of a job that had to succeed.
    pub(crate) fn check(outcome: Outcome) -> Result<(), Self> {
        match outcome {
            Outcome::Done => Ok(()),
            Outcome::Cancelled => Err(Self::Cancelled),
            Outcome::Failed(err) => Err(Self::Failed(err)),
        }
    }

    pub(crate) fn new(summary: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Failed(UserError::new(summary, hint))
    }

    /// Says it and gives the exit code.
    pub(crate) fn report(self) -> ExitCode {
        match self {
            Self::Failed(err) => {
                // With standard error gone there is nobody left to tell.
                let _gone = writeln!(io::stderr(), "error: {err}");
                ExitCode::FAILURE
            }
            Self::Cancelled => ExitCode::from(CANCELLED),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(err: io::Error) -> Self {
        if err.kind() == io::ErrorKind::BrokenPipe {
            // `meav … | head` has read enough.
            return Self::Cancelled;
        }
        Self::Failed(UserError {
            summary: "The terminal or a file could not be used".to_owned(),
            hint: None,
            detail: err.to_string(),
            about: None,
            remedy: None,
        })
    }
}
