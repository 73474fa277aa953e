use std::error::Error as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

/// Why the program could not start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum StudioError {
    /// There is none, or it does not let us in.
    #[error("there is no display to open a window on")]
    NoDisplay(#[source] gtk::glib::BoolError),
    /// E.g. where the web view's libraries don't fit together.
    #[error("the desktop integration could not start")]
    Shell(#[from] tauri::Error),
    /// E.g. where the display can't draw with OpenGL.
    #[error("the window could not be opened")]
    Window(#[from] eframe::Error),
    /// The system is out of threads.
    #[error("the window's thread could not be started")]
    Thread(#[source] io::Error),
}

impl StudioError {
    /// Says it and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        let mut text = format!("error: {self}");
        if let Some(source) = self.source() {
            text = format!("{text}: {source}");
        }
        // With standard error gone there is nobody left to tell.
        let _gone = writeln!(
            io::stderr(),
            "{text}\nhint: `meav chat` works in a terminal, without a display"
        );
        ExitCode::FAILURE
    }
}
