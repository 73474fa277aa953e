use std::io::{self, Write as _};
use std::path::Path;

use meav_protocol::{
    ChatTurn, Fact, JobSpec, KeepIn, LoadedModel, Message, MessageState, Outcome, Reply, Role,
    SamplingSpec, Setup, VectorTerm,
};
use uuid::Uuid;

use crate::failure::Failure;
use crate::terminal::Terminal;

/// A conversation: all of it is here, so that an engine that dies takes nothing with it.
pub(crate) struct Session {
    pub(crate) terminal: Terminal,
    pub(crate) setup: Setup,
    pub(crate) sampling: SamplingSpec,
    pub(crate) max_tokens: usize,
    /// Standing instructions; empty for those of the model's own template.
    pub(crate) system: String,
    /// The turns, each following the one before.
    pub(crate) messages: Vec<Message>,
    /// Where the workspace keeps it; `None` keeps nothing.
    pub(crate) chat: Option<Uuid>,
    /// The model, since it was last prepared.
    pub(crate) loaded: Option<LoadedModel>,
}

impl Session {
    /// Loads the model and moves its weights to the recipe.
    pub(crate) fn prepare(&mut self) -> Result<(), Failure> {
        let spec = JobSpec::Prepare(self.setup.clone());
        let facts = self.terminal.facts(spec)?;
        for fact in facts {
            if let Fact::Ready(loaded) = fact {
                self.note(*loaded)?;
            }
        }
        Ok(())
    }

    /// Sets λ of the vector that is called `name`, attaching it if it is not there yet.
    pub(crate) fn set(&mut self, name: &str, coefficient: f64) -> Result<(), Failure> {
        let before = self.setup.vectors.clone();
        match self.find_vector(name) {
            Some(index) => self.setup.vectors[index].coefficient = coefficient,
            None => self.setup.vectors.push(VectorTerm::new(name, coefficient)),
        }
        let prepared = self.prepare();
        if prepared.is_err() {
            self.setup.vectors = before;
        }
        prepared
    }

    /// By domain, by path as it was given, or by the file's name without its ending.
    fn find_vector(&self, name: &str) -> Option<usize> {
        let domains = self.loaded.iter().flat_map(|loaded| &loaded.vectors);
        let by_domain = domains.map(|vector| &vector.domain).position(|domain| domain == name);
        by_domain.filter(|index| *index < self.setup.vectors.len()).or_else(|| {
            self.setup.vectors.iter().position(|term| {
                term.file == Path::new(name)
                    || term.file.file_stem().is_some_and(|stem| stem == name)
            })
        })
    }

    /// Says what is new about the model.
    fn note(&mut self, loaded: LoadedModel) -> Result<(), Failure> {
        let before = self.loaded.as_ref();
        for note in &loaded.notes {
            if before.is_none_or(|before| !before.notes.contains(note)) {
                writeln!(io::stderr(), "note: {note}")?;
            }
        }
        self.loaded = Some(loaded);
        Ok(())
    }

    /// Adds a question.
    pub(crate) fn ask(&mut self, text: &str) {
        let parent = self.messages.last().map(|message| message.id);
        self.messages.push(Message::new(parent, Role::User, text));
    }

    /// Has the conversation answered; pieces of text go to `on_text` as they come.
    ///
    /// Whatever the end, the answer is in `messages`, as far as it came.
    pub(crate) fn answer(
        &mut self,
        mut on_text: impl FnMut(&str) -> io::Result<()>,
    ) -> Result<Option<Reply>, Failure> {
        let id = Uuid::now_v7();
        let turn = ChatTurn {
            setup: self.setup.clone(),
            system: self.system.clone(),
            messages: self.messages.clone(),
            sampling: self.sampling.clone(),
            max_tokens: self.max_tokens,
            keep: self.chat.map(|chat| KeepIn { chat, reply: id }),
        };
        let mut text = String::new();
        let (mut ready, mut reply, mut shown) = (None, None, Ok(()));
        let outcome = self.terminal.run(JobSpec::Chat(turn), |fact| match fact {
            Fact::Ready(loaded) => ready = Some(*loaded),
            Fact::Text { text: piece, .. } => {
                text.push_str(&piece);
                if shown.is_ok() {
                    shown = on_text(&piece);
                }
            }
            Fact::Note(note) => {
                // With standard error gone there is nobody left to tell.
                let _gone = writeln!(io::stderr(), "note: {note}");
            }
            Fact::Reply(end) => reply = Some(end),
            _ => {}
        });
        let state = match (&outcome, &reply) {
            (_, Some(reply)) => reply.finish.message_state(),
            (Outcome::Cancelled, None) => MessageState::Stopped,
            (_, None) => MessageState::Partial,
        };
        if !text.is_empty() || reply.is_some() {
            self.messages.push(Message {
                id,
                parent: self.messages.last().map(|message| message.id),
                role: Role::Assistant,
                content: reply.as_ref().map_or(text, |reply| reply.text.clone()),
                state,
                recipe: ready.as_ref().map(|loaded| loaded.recipe.clone()),
                sampling: Some(self.sampling.clone()),
                figures: reply.as_ref().map(|reply| reply.figures),
                finish: reply.as_ref().map(|reply| reply.finish),
            });
        }
        if let Some(loaded) = ready {
            self.note(loaded)?;
        }
        shown?;
        match outcome {
            // A stopped answer is an answer.
            Outcome::Cancelled if reply.is_some() => Ok(reply),
            outcome => Failure::check(outcome).map(|()| reply),
        }
    }
}
