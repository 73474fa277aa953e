//! The `meav-studio` program: the shell on the main thread, the window on a thread of its own, and
//! the wiring between them and the engine.
//!
//! Exit codes: 0 closed, 1 could not start, 2 bad usage, 101 internal error.

mod args;
mod crash;
mod desktop;
mod dialogs;
mod error;
mod guide;
mod home;
mod host;
mod inbox;
mod logging;
mod settings_file;
mod shell;
mod tray;
mod window;

use std::process::ExitCode;

use clap::Parser as _;

use crate::args::Args;
use crate::home::Home;

fn main() -> ExitCode {
    let args = Args::parse();
    let home = Home::from_environment();
    crash::report_panics_to(home.crashes());
    logging::start(&home.logs());
    shell::run(args, home).unwrap_or_else(|err| err.report())
}
