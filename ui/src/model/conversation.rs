use std::collections::BTreeSet;

use meav_protocol::{Chat, JobId, Message, MessageState, Outcome, Reply, Role, UserError};
use uuid::Uuid;

/// The chat that is shown, and the answer that is being written, here or in another one.
#[derive(Debug)]
pub(crate) struct Conversation {
    pub(crate) chat: Chat,
    /// What is typed for the next message.
    pub(crate) draft: String,
    /// The question that is being edited, and its text.
    pub(crate) edit: Option<(Uuid, String)>,
    pub(crate) answer: Option<Answer>,
    /// The question that found no answer, or no whole one, and why.
    pub(crate) error: Option<(Uuid, UserError)>,
    /// A message to bring into view.
    pub(crate) reveal: Option<Uuid>,
}

/// An answer that is being written.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) job: JobId,
    pub(crate) chat: Uuid,
    /// What it answers.
    pub(crate) question: Message,
    /// The answer, as far as it has come.
    pub(crate) message: Message,
    /// When it was asked for.
    pub(crate) asked: f64,
    /// When its first word came.
    pub(crate) first_text: Option<f64>,
    /// When its last word came, and how many tokens there were then.
    pub(crate) last_text: (f64, usize),
}

impl Answer {
    /// Tokens per second so far, once there is something to tell it from.
    pub(crate) fn tokens_per_sec(&self) -> Option<f64> {
        let (last, tokens) = self.last_text;
        let secs = last - self.first_text?;
        (secs > 0.1).then(|| tokens.saturating_sub(1) as f64 / secs)
    }
}

impl Conversation {
    pub(crate) fn new() -> Self {
        let id = Uuid::now_v7();
        let chat = Chat {
            id,
            title: String::new(),
            system: String::new(),
            messages: Vec::new(),
            leaf: None,
        };
        Self { chat, draft: String::new(), edit: None, answer: None, error: None, reveal: None }
    }

    /// Begins an empty chat; what is typed and an answer on its way stay.
    pub(crate) fn begin(&mut self) {
        let (answer, draft) = (self.answer.take(), std::mem::take(&mut self.draft));
        *self = Self { draft, answer, ..Self::new() };
    }

    /// Shows another chat.
    pub(crate) fn show(&mut self, mut chat: Chat, reveal: Option<Uuid>) {
        // The workspace has the answer that is on its way as it was a moment ago, or not even its
        // question yet.
        if let Some(answer) = self.answer.as_ref().filter(|answer| answer.chat == chat.id) {
            let (question, reply) = (&answer.question, answer.message.id);
            chat.messages.retain(|message| message.id != reply);
            let is_new = chat.messages.iter().all(|message| message.id != question.id);
            if is_new {
                chat.messages.push(question.clone());
            }
            if is_new || chat.leaf == Some(reply) {
                chat.leaf = Some(question.id);
            }
        }
        self.chat = chat;
        self.edit = None;
        self.error = None;
        if let Some(message) = reveal {
            self.show_branch(message);
        }
        self.reveal = reveal;
    }

    /// The messages of the branch that is shown, with the answer that is on its way.
    pub(crate) fn branch(&self) -> Vec<&Message> {
        let mut branch = self.chat.branch();
        branch.extend(self.answer_here().map(|answer| &answer.message));
        branch
    }

    /// The answer that is being written at the end of the branch that is shown.
    pub(crate) fn answer_here(&self) -> Option<&Answer> {
        self.answer
            .as_ref()
            .filter(|answer| answer.chat == self.chat.id && answer.message.parent == self.chat.leaf)
    }

    /// What follows the same message and is said by the same, in the order in which it was
    /// written, the message itself and the answer on its way included.
    fn siblings(&self, message: &Message) -> impl Iterator<Item = &Message> {
        let (parent, role) = (message.parent, message.role);
        let streaming = self.answer.iter().filter(|answer| answer.chat == self.chat.id);
        let all = self.chat.messages.iter().chain(streaming.map(|answer| &answer.message));
        all.filter(move |other| other.parent == parent && other.role == role)
    }

    /// A message's place among its siblings, and how many they are.
    pub(crate) fn sibling(&self, message: &Message) -> (usize, usize) {
        let index = self.siblings(message).position(|other| other.id == message.id);
        (index.unwrap_or_default(), self.siblings(message).count())
    }

    /// The sibling so many places away from a message, if there is one.
    pub(crate) fn sibling_at(&self, message: &Message, by: isize) -> Option<Uuid> {
        let wanted = self.sibling(message).0.checked_add_signed(by)?;
        self.siblings(message).nth(wanted).map(|other| other.id)
    }

    /// Shows the branch through a message, to its newest end. Gives back that end, unless it is
    /// the answer on its way.
    pub(crate) fn show_branch(&mut self, message: Uuid) -> Option<Uuid> {
        let answer = self.answer.iter().find(|answer| answer.chat == self.chat.id);
        // What follows a message was written after it, and the answer on its way last of all.
        let from = self.chat.messages.iter().position(|other| other.id == message);
        let later = from.map_or(&[][..], |from| &self.chat.messages[from..]);
        let mut branches = BTreeSet::from([message]);
        let mut leaf = from.map(|_| message);
        for other in later {
            if other.parent.is_some_and(|parent| branches.contains(&parent)) {
                branches.insert(other.id);
                leaf = Some(other.id);
            }
        }
        let is_at = |answer: &&Answer| {
            let question = answer.question.id;
            answer.message.id == message || (from.is_some() && branches.contains(&question))
        };
        if let Some(answer) = answer.filter(is_at) {
            self.chat.leaf = Some(answer.question.id);
            self.edit = None;
            return None;
        }
        self.chat.leaf = Some(leaf?);
        self.edit = None;
        leaf
    }

    /// Adds a question to the end of the branch. One that found no answer makes room for it: two
    /// in a row confuse models.
    pub(crate) fn ask(&mut self, text: &str) -> Uuid {
        let last = self.chat.branch().last().map(|message| (message.role, message.parent));
        let parent = match last {
            Some((Role::User, parent)) => parent,
            _ => self.chat.leaf,
        };
        self.push_question(parent, text)
    }

    /// Adds a question beside the one that is edited.
    pub(crate) fn ask_instead(&mut self, question: Uuid, text: &str) -> Option<Uuid> {
        let old = self.chat.messages.iter().find(|message| message.id == question)?;
        let parent = old.parent;
        Some(self.push_question(parent, text))
    }

    fn push_question(&mut self, parent: Option<Uuid>, text: &str) -> Uuid {
        let question = Message::new(parent, Role::User, text);
        let id = question.id;
        if self.chat.title.is_empty() {
            text.lines().next().unwrap_or_default().clone_into(&mut self.chat.title);
        }
        self.chat.messages.push(question);
        self.chat.leaf = Some(id);
        self.error = None;
        id
    }

    /// The last question of the branch.
    pub(crate) fn last_question(&self) -> Option<&Message> {
        self.chat.branch().into_iter().rev().find(|message| message.role == Role::User)
    }

    /// More of the answer.
    pub(crate) fn push_text(&mut self, text: &str, tokens: usize, now: f64) {
        if let Some(answer) = &mut self.answer {
            answer.message.content.push_str(text);
            answer.first_text.get_or_insert(now);
            answer.last_text = (now, tokens);
        }
    }

    /// The end of the answer, as the engine tells it.
    pub(crate) fn complete(&mut self, reply: Reply) {
        if let Some(answer) = &mut self.answer {
            answer.message.content = reply.text;
            answer.message.state = reply.finish.message_state();
            answer.message.finish = Some(reply.finish);
            answer.message.recipe = Some(reply.recipe);
            answer.message.figures = Some(reply.figures);
        }
    }

    /// The job has ended: what there is of the answer becomes part of its chat. Gives back what
    /// went wrong where that chat is not shown.
    pub(crate) fn end_answer(&mut self, outcome: &Outcome) -> Option<UserError> {
        let mut answer = self.answer.take()?;
        let mut failure = match outcome {
            Outcome::Failed(err) => Some(err.clone()),
            Outcome::Done | Outcome::Cancelled => None,
        };
        if answer.chat != self.chat.id {
            return failure;
        }
        let question = answer.question.id;
        if answer.message.state == MessageState::Partial && *outcome == Outcome::Cancelled {
            answer.message.state = MessageState::Stopped;
        }
        if !answer.message.content.is_empty() {
            if self.chat.leaf == Some(question) {
                self.chat.leaf = Some(answer.message.id);
            }
            self.chat.messages.push(answer.message);
        } else if *outcome == Outcome::Done {
            // The workspace does not keep an answer without a word either.
            let hint = "Ask again, or turn a knob and ask again";
            failure = Some(UserError::new("The model answered without a word", hint));
        }
        if let Some(err) = failure {
            self.error = Some((question, err));
        }
        None
    }
}
