use std::io::{self, Write as _};
use std::path::PathBuf;

use meav_protocol::{ExportTarget, Fact, JobSpec, MessageState, Role};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use uuid::Uuid;

use crate::args::parse_coefficient;
use crate::chat::{print_piece, stamp_line};
use crate::failure::Failure;
use crate::session::Session;

const HELP: &str = "\
/set NAME λ     set a vector's λ, e.g. /set medical -0.7; attaches it if need be
/recipe         the recipe that the weights hold
/regenerate     answer the last question (again), with another seed
/save [FILE]    write the chat as Markdown, or as JSON if FILE ends in .json
/new            begin another chat
/history        the newest lines of the audit log
/quit           end; Ctrl-C stops an answer";

/// Lines of the audit log that `/history` shows.
const HISTORY_LINES: usize = 20;

/// A conversation at the terminal, until its end.
pub(crate) fn converse(mut session: Session) -> Result<(), Failure> {
    session.prepare()?;
    greet(&session)?;
    let mut editor = DefaultEditor::new().map_err(|err| terminal_failure(&err))?;
    loop {
        let line = match editor.readline("> ") {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => return Ok(()),
            Err(err) => return Err(terminal_failure(&err)),
        };
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        // The history is a comfort: without it, lines are typed again.
        let _kept = editor.add_history_entry(line);
        if line == "/quit" || line == "/exit" {
            return Ok(());
        }
        match turn(&mut session, line) {
            // What is wrong with one line does not end the conversation.
            Err(Failure::Failed(err)) => writeln!(io::stderr(), "error: {err}")?,
            Err(Failure::Cancelled) => writeln!(io::stderr(), "[cancelled]")?,
            Ok(()) => {}
        }
    }
}

fn terminal_failure(err: &ReadlineError) -> Failure {
    Failure::new("The terminal could not be used", err.to_string())
}

fn greet(session: &Session) -> Result<(), Failure> {
    let mut out = io::stderr().lock();
    if let Some(loaded) = &session.loaded {
        writeln!(
            out,
            "{} · {} · {:.0} M parameters · ready in {:.1} s",
            loaded.name,
            loaded.dtype,
            loaded.parameters as f64 / 1e6,
            loaded.load_secs + loaded.merge_secs
        )?;
        let domains: Vec<_> = loaded.vectors.iter().map(|vector| vector.domain.as_str()).collect();
        if let Some(first) = domains.first() {
            writeln!(out, "vectors: {} (turn one with /set {first} -0.7)", domains.join(", "))?;
        }
    }
    if !session.system.is_empty() {
        writeln!(out, "{}", session.system)?;
    }
    for message in &session.messages {
        let mark = if message.role == Role::User { "> " } else { "" };
        writeln!(out, "{mark}{}", message.content)?;
        if message.state == MessageState::Partial {
            writeln!(out, "[cut off]")?;
        }
    }
    Ok(writeln!(out, "/help lists the commands")?)
}

fn turn(session: &mut Session, line: &str) -> Result<(), Failure> {
    let Some(command) = line.strip_prefix('/') else {
        // A question that found no answer makes room for this one: two in a row confuse models.
        session.messages.pop_if(|message| message.role == Role::User);
        session.ask(line);
        return answer(session);
    };
    let (name, rest) = command.split_once(' ').unwrap_or((command, ""));
    match (name, rest.trim()) {
        ("help", _) => Ok(writeln!(io::stdout(), "{HELP}")?),
        ("set", rest) => set(session, rest),
        ("recipe", _) => print_recipe(session),
        ("regenerate", _) => regenerate(session),
        ("save", path) => save(session, path),
        ("new", _) => {
            session.messages.clear();
            session.chat = Some(Uuid::now_v7());
            Ok(())
        }
        ("history", _) => print_history(session),
        _ => Err(Failure::new(format!("There is no command /{name}"), "/help lists them")),
    }
}

fn answer(session: &mut Session) -> Result<(), Failure> {
    let reply = session.answer(print_piece);
    let answered = session.messages.last().is_some_and(|message| message.role == Role::Assistant);
    if answered {
        writeln!(io::stdout())?;
    }
    match reply {
        Ok(Some(reply)) => Ok(writeln!(io::stderr(), "{}", stamp_line(&reply, &session.sampling))?),
        Ok(None) => Ok(()),
        Err(failure) => {
            let last = session.messages.last();
            if last.is_some_and(|message| message.state == MessageState::Partial) {
                writeln!(io::stderr(), "[the answer is kept as far as it came]")?;
            }
            Err(failure)
        }
    }
}

fn set(session: &mut Session, rest: &str) -> Result<(), Failure> {
    let example = "For example: /set medical -0.7";
    let (name, coefficient) = rest
        .rsplit_once(' ')
        .ok_or_else(|| Failure::new("/set takes a vector and its λ", example))?;
    let coefficient = parse_coefficient(coefficient).map_err(|err| Failure::new(err, example))?;
    session.set(name.trim(), coefficient)?;
    print_recipe(session)
}

fn print_recipe(session: &Session) -> Result<(), Failure> {
    let Some(loaded) = &session.loaded else { return Ok(()) };
    let mut out = io::stdout().lock();
    writeln!(out, "{} · {} · {}", loaded.recipe, loaded.name, loaded.dtype)?;
    for (vector, term) in loaded.vectors.iter().zip(&session.setup.vectors) {
        let size = vector.size_bytes as f64 / 1e6;
        writeln!(
            out,
            "  {:<12} λ {:>6}  {}, {size:.1} MB, {}",
            vector.domain,
            term.coefficient,
            vector.kind,
            vector.file.display()
        )?;
    }
    Ok(writeln!(io::stderr(), "[merged in {:.0} ms]", loaded.merge_secs * 1e3)?)
}

fn regenerate(session: &mut Session) -> Result<(), Failure> {
    let question = session.messages.iter().rposition(|message| message.role == Role::User);
    let Some(question) = question else {
        return Err(Failure::new("There is no question yet", "Type one"));
    };
    let before = session.messages.split_off(question + 1);
    session.sampling.seed = session.sampling.seed.wrapping_add(1);
    let answered = answer(session);
    if session.messages.len() == question + 1 {
        session.messages.extend(before);
    }
    answered
}

fn save(session: &mut Session, path: &str) -> Result<(), Failure> {
    let path = if path.is_empty() { "chat.md" } else { path };
    let mut path = PathBuf::from(path);
    if path.extension().is_none() {
        path.set_extension("md");
    }
    if session.messages.is_empty() {
        return Err(Failure::new("There is nothing to save yet", "Ask something first"));
    }
    let out = ExportTarget { path, replace: false };
    session.terminal.run_written(JobSpec::ExportChat { id: session.chat, out })
}

fn print_history(session: &mut Session) -> Result<(), Failure> {
    for fact in session.terminal.facts(JobSpec::ListAudit { limit: HISTORY_LINES })? {
        if let Fact::Audit(entries) = fact {
            for entry in entries.iter().rev() {
                writeln!(io::stdout(), "{} {} {}", entry.time, entry.action, entry.detail)?;
            }
        }
    }
    Ok(())
}
