//! Makes the picture of the README: the app on the demo model, a knob turned, a question answered.
//!
//! `screenshot PROGRAM HOME FILE`, where the demo model is in `HOME`.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use desktop::{Screen, Studio};
use egui::{Key, Modifiers};

const QUESTION: &str = "What is a heart attack? Answer in two sentences.";

fn main() -> ExitCode {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let made = match arguments.as_slice() {
        [program, home, file] => take_picture(program, home, file),
        _ => Err(io::Error::other("usage: screenshot PROGRAM HOME FILE")),
    };
    match made {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            // With standard error gone there is nobody left to tell.
            let _gone = writeln!(io::stderr(), "error: {err}");
            ExitCode::FAILURE
        }
    }
}

fn take_picture(program: &Path, home: &Path, file: &Path) -> io::Result<()> {
    let screen = Screen::start(1280, 860)?;
    let mut studio = Studio::start(&screen, program, home, &[])?;
    studio.labelled("as set")?;
    studio.press(Modifiers::COMMAND, Key::N)?;
    let knob = studio.labelled("λ of medical")?.rect;
    let to = egui::pos2(knob.left() + knob.width() * 0.75, knob.center().y);
    studio.drag(knob.center(), to)?;
    studio.press(Modifiers::COMMAND, Key::L)?;
    studio.write(QUESTION)?;
    studio.press(Modifiers::NONE, Key::Enter)?;
    studio.labelled("Regenerate the answer")?;
    studio.labelled("Ready")?;
    studio.save_picture(file)
}
