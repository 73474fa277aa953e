use std::io::{self, Write as _};

use meav_protocol::{Dtype, Fact, JobSpec, Reply, Role, SamplingSpec};
use serde::Serialize;
use uuid::Uuid;

use crate::args::{ChatArgs, JsonTarget};
use crate::failure::Failure;
use crate::interactive::converse;
use crate::recipe;
use crate::session::Session;
use crate::terminal::{Terminal, write_json};

/// `meav chat`.
pub(crate) fn chat(args: &ChatArgs) -> Result<(), Failure> {
    let mut terminal = Terminal::with_model(args.compute)?;
    let setup = recipe::setup(&mut terminal, &args.recipe, args.dtype, Dtype::Bf16)?;
    let mut session = Session {
        terminal,
        setup,
        sampling: SamplingSpec {
            temperature: args.temperature,
            top_k: args.top_k,
            top_p: args.top_p,
            min_p: args.min_p,
            repeat_penalty: args.repeat_penalty,
            // A fresh id is as good a seed as any.
            seed: args.seed.unwrap_or_else(|| Uuid::now_v7().as_u128() as u64),
        },
        max_tokens: args.max_tokens,
        system: args.system.clone().unwrap_or_default(),
        messages: Vec::new(),
        chat: None,
        loaded: None,
    };
    if let Some(prompt) = &args.prompt {
        return answer_once(session, prompt, args);
    }
    resume(&mut session, args)?;
    converse(session)
}

/// Takes up a kept conversation, or begins one that will be kept.
fn resume(session: &mut Session, args: &ChatArgs) -> Result<(), Failure> {
    session.chat = Some(Uuid::now_v7());
    let Some(wanted) = args.resume else { return Ok(()) };
    for fact in session.terminal.facts(JobSpec::LoadChat { id: wanted.0 })? {
        let Fact::Chat(Some(chat)) = fact else {
            return Err(Failure::new("There is no such chat", "Start without --resume"));
        };
        session.chat = Some(chat.id);
        session.messages = chat.branch().into_iter().cloned().collect();
        session.system = chat.system;
    }
    Ok(())
}

/// What `--json` writes.
#[derive(Serialize)]
struct Answer<'a> {
    prompt: &'a str,
    #[serde(flatten)]
    reply: &'a Reply,
    sampling: &'a SamplingSpec,
}

fn answer_once(mut session: Session, prompt: &str, args: &ChatArgs) -> Result<(), Failure> {
    session.ask(prompt);
    let is_quiet = args.json.as_ref().is_some_and(JsonTarget::is_stdout);
    let reply = session.answer(|piece| if is_quiet { Ok(()) } else { print_piece(piece) });
    let answered = session.messages.last().is_some_and(|message| message.role == Role::Assistant);
    if answered && !is_quiet {
        writeln!(io::stdout())?;
    }
    let Some(reply) = reply? else { return Ok(()) };
    writeln!(io::stderr(), "{}", stamp_line(&reply, &session.sampling))?;
    if let Some(json) = &args.json {
        write_json(json, &Answer { prompt, reply: &reply, sampling: &session.sampling })?;
    }
    match reply.finish {
        meav_protocol::FinishReason::Cancelled => Err(Failure::Cancelled),
        _ => Ok(()),
    }
}

/// Shows text as it comes.
pub(crate) fn print_piece(piece: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(piece.as_bytes())?;
    out.flush()
}

/// The recipe that answered, and how fast.
pub(crate) fn stamp_line(reply: &Reply, sampling: &SamplingSpec) -> String {
    let end = match reply.finish {
        meav_protocol::FinishReason::Stop => "",
        meav_protocol::FinishReason::Length => " · cut at --max-tokens",
        meav_protocol::FinishReason::ContextFull => " · the context is full",
        meav_protocol::FinishReason::Cancelled => " · stopped",
    };
    format!(
        "[{} · {} tokens · {:.0} tok/s · first token {:.0} ms · seed {}{end}]",
        reply.recipe,
        reply.figures.tokens,
        reply.figures.tokens_per_sec,
        reply.figures.first_token_secs * 1e3,
        sampling.seed
    )
}
