use std::path::PathBuf;

use meav_protocol::{Command, DeviceChoice};

use crate::{PathPurpose, Settings};

/// What the reducer asks of its host; the reducer itself touches nothing outside.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// To the engine, without waiting.
    Send(Command),
    /// Asks for paths with a dialog of the system; answered by [`crate::Action::Picked`].
    Pick(PickRequest),
    /// Keeps the settings where the next start finds them.
    SaveSettings(Box<Settings>),
    /// Where the engine computes, from its next start on.
    UseDevice(DeviceChoice),
    /// Shows the user guide in a window of its own.
    OpenGuide,
    /// Puts text on the clipboard.
    Copy(String),
    /// A message of the desktop, for someone who is looking elsewhere.
    Notify {
        /// Its first line.
        title: String,
        /// The rest.
        body: String,
    },
    /// The jobs that run or wait, one line each, for the tray.
    ShowJobs(Vec<String>),
    /// Takes the window off the screen; jobs go on. Into the tray, or minimised where there is
    /// none.
    HideWindow,
    /// Brings the window back and to the front.
    ShowWindow,
    /// Ends the program.
    Quit,
}

/// A dialog of the system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PickRequest {
    /// What the paths are for; given back with them.
    pub purpose: PathPurpose,
    /// The dialog's title.
    pub title: &'static str,
    /// What is picked.
    pub kind: PickKind,
}

/// What a dialog picks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PickKind {
    /// Files that exist.
    Files {
        /// What they may end in; a word for them first.
        filter: (&'static str, &'static [&'static str]),
    },
    /// One folder that exists.
    Folder,
    /// A file to write.
    Save {
        /// The path to begin with.
        path: PathBuf,
    },
}
