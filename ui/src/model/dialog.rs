use meav_protocol::{JobId, UserError};

use crate::action::PathPurpose;

/// What is open over the window and waits for the user.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Dialog {
    /// Every command by its name.
    Palette {
        /// What is typed.
        text: String,
    },
    /// A path is asked for.
    Path(PathDialog),
    /// The knobs get a name.
    PresetName {
        /// What is typed.
        text: String,
    },
    /// Theme, text size, keys and notifications.
    Settings,
    /// Version, engine and licence.
    About,
    /// The window is to close while a job runs.
    Close,
}

/// A dialog that asks for a path.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PathDialog {
    /// What for.
    pub purpose: PathPurpose,
    /// What is typed.
    pub text: String,
    /// The job that looks at it.
    pub(crate) job: Option<JobId>,
    /// What is wrong with it.
    pub error: Option<UserError>,
}

impl PathDialog {
    pub(crate) fn new(purpose: PathPurpose, text: impl Into<String>) -> Self {
        Self { purpose, text: text.into(), job: None, error: None }
    }

    /// Whether the engine is looking at it.
    pub(crate) fn is_busy(&self) -> bool {
        self.job.is_some()
    }
}
