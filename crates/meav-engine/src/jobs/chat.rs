use std::sync::OnceLock;
use std::time::{Duration, Instant};

use meav_job::{Cancelled, JobCtx, Progress};
use meav_model::{Finish, Generation, ModelError, Sampling};
use meav_protocol::{
    ChatTurn, Fact, FinishReason, KeepIn, Message, MessageState, RecipeStamp, Reply, ReplyFigures,
    Role, SamplingSpec, Stage,
};

use crate::error::EngineError;
use crate::worker::{Running, Worker};
use crate::workspace::Workspace;

/// Text is handed on this often, so that a fast model does not flood the client.
const TEXT_INTERVAL: Duration = Duration::from_millis(30);

/// An answer that is being written is kept this often: what a crash can cost.
const KEEP_INTERVAL: Duration = Duration::from_millis(250);

/// Tokens that the repeat penalty looks back.
const REPEAT_LAST_N: usize = 64;

/// Answers a conversation.
pub(crate) fn chat(
    worker: &mut Worker,
    turn: &ChatTurn,
    running: &Running<'_>,
) -> Result<(), EngineError> {
    keep_question(worker, turn, running);
    let recipe = worker.prepare(&turn.setup, running)?;
    let Worker { loaded: Some(loaded), workspace, .. } = worker else {
        unreachable!("the model has just been prepared")
    };
    let template = loaded.template.as_ref().ok_or(ModelError::NoChatTemplate)?;
    let prompt = template.render(&template_messages(turn), true)?;
    let prompt = loaded.files.tokenizer.encode(prompt, false).map_err(ModelError::Encode)?;
    let mut keeper = Keeper::new(turn, &recipe, workspace.as_mut().ok(), running);
    let mut text = String::new();
    let mut unsent = Unsent::new(running);
    let mut on_text = |piece: &str, n_tokens: usize| {
        text.push_str(piece);
        unsent.push(piece, n_tokens);
        keeper.update(&text);
    };
    let generation = reading_prompt(running, |job| {
        loaded.generator.generate(
            &loaded.decoder,
            &loaded.files.tokenizer,
            &loaded.files.special.stop,
            prompt.get_ids(),
            &sampling(&turn.sampling),
            turn.max_tokens,
            &mut on_text,
            job,
        )
    });
    unsent.flush();
    let generation = match generation {
        Ok(generation) => generation,
        Err(err) => {
            let cancelled = matches!(err, ModelError::Cancelled(_));
            let state = if cancelled { MessageState::Stopped } else { MessageState::Partial };
            keeper.end(&text, state, None);
            return Err(err.into());
        }
    };
    let reply = reply(generation, recipe);
    keeper.end(&reply.text, reply.finish.message_state(), Some(&reply));
    let cancelled = reply.finish == FinishReason::Cancelled;
    running.fact(Fact::Reply(reply));
    if cancelled { Err(Cancelled.into()) } else { Ok(()) }
}

/// Keeps the turns before anything can fail: whatever does, the question can be asked again.
fn keep_question(worker: &mut Worker, turn: &ChatTurn, running: &Running<'_>) {
    let Some(keep) = turn.keep else { return };
    let kept = match &mut worker.workspace {
        Ok(workspace) => workspace.save_chat(keep.chat, &turn.system, &turn.messages),
        Err(err) => return running.unkept("nothing is kept", err),
    };
    if let Err(err) = kept {
        running.unkept("the chat is not kept", &err);
    }
}

/// Like [`Running::stage`], but what an earlier turn has read counts for nothing: the time that is
/// left follows from the pace.
fn reading_prompt<T>(running: &Running<'_>, run: impl FnOnce(&JobCtx<'_>) -> T) -> T {
    let meter = running.outbox.progress(running.job_id, Stage::ReadingPrompt);
    let reused = OnceLock::new();
    let on_progress = |Progress { done, total }| {
        let reused = *reused.get_or_init(|| done);
        let done = done.saturating_sub(reused);
        meter.report(Progress { done, total: total.saturating_sub(reused) });
    };
    run(&JobCtx::new(running.cancel.clone(), &on_progress))
}

/// The conversation as templates take it, standing instructions in front.
fn template_messages(turn: &ChatTurn) -> Vec<meav_model::Message> {
    let message = |role: Role, content: &String| meav_model::Message {
        role: role.as_str().to_owned(),
        content: content.clone(),
    };
    let system = (!turn.system.is_empty()).then(|| message(Role::System, &turn.system));
    let turns = turn.messages.iter().map(|turn| message(turn.role, &turn.content));
    system.into_iter().chain(turns).collect()
}

pub(super) fn sampling(spec: &SamplingSpec) -> Sampling {
    let SamplingSpec { temperature, top_k, top_p, min_p, repeat_penalty, seed } = *spec;
    let repeat_last_n = REPEAT_LAST_N;
    Sampling { temperature, top_k, top_p, min_p, repeat_penalty, repeat_last_n, seed }
}

fn reply(generation: Generation, recipe: RecipeStamp) -> Reply {
    let decoding = generation.decoding.as_secs_f64();
    let after_first = generation.tokens.len().saturating_sub(1) as f64;
    Reply {
        finish: match generation.finish {
            Finish::Stop => FinishReason::Stop,
            Finish::Length => FinishReason::Length,
            Finish::ContextFull => FinishReason::ContextFull,
            Finish::Cancelled => FinishReason::Cancelled,
        },
        recipe,
        figures: ReplyFigures {
            prompt_tokens: generation.prompt_tokens,
            reused_tokens: generation.reused_tokens,
            tokens: generation.tokens.len(),
            first_token_secs: generation.first_token.as_secs_f64(),
            tokens_per_sec: if decoding > 0.0 { after_first / decoding } else { 0.0 },
        },
        text: generation.text,
    }
}

/// Text on its way to the client.
struct Unsent<'a> {
    running: &'a Running<'a>,
    text: String,
    /// Of the answer up to here.
    n_tokens: usize,
    last: Option<Instant>,
}

impl<'a> Unsent<'a> {
    fn new(running: &'a Running<'a>) -> Self {
        Self { running, text: String::new(), n_tokens: 0, last: None }
    }

    /// The first piece goes at once: somebody is waiting for it.
    fn push(&mut self, piece: &str, n_tokens: usize) {
        self.text.push_str(piece);
        self.n_tokens = n_tokens;
        if self.last.is_none_or(|last| last.elapsed() >= TEXT_INTERVAL) {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if !self.text.is_empty() {
            let (text, tokens) = (std::mem::take(&mut self.text), self.n_tokens);
            self.running.fact(Fact::Text { text, tokens });
            self.last = Some(Instant::now());
        }
    }
}

/// Keeps a conversation in the workspace while its answer is written.
///
/// The answer is marked partial from its first moment; that it is whole is what has to be said, so
/// that an engine that dies needs to say nothing.
struct Keeper<'a> {
    kept: Option<(&'a mut Workspace, KeepIn)>,
    running: &'a Running<'a>,
    last: Instant,
}

impl<'a> Keeper<'a> {
    fn new(
        turn: &ChatTurn,
        recipe: &RecipeStamp,
        workspace: Option<&'a mut Workspace>,
        running: &'a Running<'a>,
    ) -> Self {
        let mut kept = workspace.zip(turn.keep);
        if let Some((workspace, keep)) = &mut kept {
            let mut messages = turn.messages.clone();
            messages.push(Message {
                id: keep.reply,
                parent: turn.messages.last().map(|message| message.id),
                role: Role::Assistant,
                content: String::new(),
                state: MessageState::Partial,
                recipe: Some(recipe.clone()),
                sampling: Some(turn.sampling.clone()),
                figures: None,
                finish: None,
            });
            if let Err(err) = workspace.save_chat(keep.chat, &turn.system, &messages) {
                running.unkept("the chat is not kept", &err);
                kept = None;
            }
        }
        Self { kept, running, last: Instant::now() }
    }

    fn update(&mut self, text: &str) {
        if self.last.elapsed() >= KEEP_INTERVAL {
            self.write(text, MessageState::Partial, None);
            self.last = Instant::now();
        }
    }

    /// An answer without a word is none.
    fn end(mut self, text: &str, state: MessageState, end: Option<&Reply>) {
        match &mut self.kept {
            Some((workspace, keep)) if text.is_empty() => {
                if let Err(err) = workspace.delete_message(keep.reply) {
                    tracing::warn!("an empty answer is kept: {err}");
                }
            }
            _ => self.write(text, state, end),
        }
    }

    fn write(&mut self, text: &str, state: MessageState, end: Option<&Reply>) {
        if let Some((workspace, keep)) = &self.kept
            && let Err(err) = workspace.update_message(keep.reply, text, state, end)
        {
            self.running.unkept("the answer is not kept", &err);
        }
    }
}
