use std::borrow::Cow;
use std::env;

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::Hinter;
use rustyline::history::MemHistory;
use rustyline::validate::Validator;
use rustyline::{ColorMode, Config, Editor, Helper};

use crate::failure::Failure;

/// Terminals on which the line editor can hide nothing.
const PLAIN_TERMINALS: [&str; 3] = ["dumb", "cons25", "emacs"];

/// Asks at the terminal for a line that is not shown, and not remembered.
pub(crate) fn read_hidden(prompt: &str) -> Result<String, Failure> {
    let terminal = env::var("TERM").unwrap_or_default();
    if PLAIN_TERMINALS.contains(&terminal.as_str()) {
        let summary = "This terminal would show what is typed";
        return Err(Failure::new(summary, "Give it on standard input, from a file or a program"));
    }
    let config = Config::builder().color_mode(ColorMode::Forced).auto_add_history(false).build();
    let failed = |err: ReadlineError| match err {
        ReadlineError::Interrupted | ReadlineError::Eof => Failure::Cancelled,
        err => Failure::new("The terminal could not be used", err.to_string()),
    };
    let mut editor =
        Editor::<Mask, MemHistory>::with_history(config, MemHistory::new()).map_err(failed)?;
    editor.set_helper(Some(Mask));
    editor.readline(prompt).map_err(failed)
}

/// Shows nothing of the line.
struct Mask;

impl Helper for Mask {}

impl Completer for Mask {
    type Candidate = String;
}

impl Hinter for Mask {
    type Hint = String;
}

impl Validator for Mask {}

impl Highlighter for Mask {
    fn highlight<'l>(&self, line: &'l str, _pos: usize) -> Cow<'l, str> {
        Cow::Owned(" ".repeat(line.chars().count()))
    }

    fn highlight_char(&self, _line: &str, _pos: usize, _kind: CmdKind) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_the_line_is_shown() {
        let shown = Mask.highlight("sk-1234", 7);
        assert_eq!(shown, "       ");
        assert!(Mask.highlight_char("sk-1234", 7, CmdKind::Other));
    }
}
