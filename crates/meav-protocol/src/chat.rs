use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{FinishReason, RecipeStamp, ReplyFigures, SamplingSpec};

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Standing instructions.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// As chat templates spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// Whether a message is all there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MessageState {
    /// It ended by itself.
    Complete,
    /// It is being written, or something went wrong while it was.
    Partial,
    /// The user stopped it.
    Stopped,
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Unique among all messages.
    pub id: Uuid,
    /// The message that it follows; `None` for a first one. Several may follow the same: a
    /// question that was edited, an answer that was given again.
    pub parent: Option<Uuid>,
    /// Who speaks.
    pub role: Role,
    /// What was said.
    pub content: String,
    /// Whether that is all of it.
    pub state: MessageState,
    /// The recipe that answered; of answers only.
    pub recipe: Option<RecipeStamp>,
    /// The settings it was drawn with; of answers only.
    pub sampling: Option<SamplingSpec>,
    /// How long and how fast it was; of answers that came to an end.
    pub figures: Option<ReplyFigures>,
    /// Why it ended; of answers that came to an end.
    pub finish: Option<FinishReason>,
}

impl Message {
    /// A complete message with an id of its own.
    pub fn new(parent: Option<Uuid>, role: Role, content: impl Into<String>) -> Self {
        Self {
            id: Uuid::now_v7(),
            parent,
            role,
            content: content.into(),
            state: MessageState::Complete,
            recipe: None,
            sampling: None,
            figures: None,
            finish: None,
        }
    }
}

/// A conversation as the workspace keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chat {
    /// Unique among all chats.
    pub id: Uuid,
    /// What the list of chats shows.
    pub title: String,
    /// Standing instructions; empty for those of the model's own template.
    pub system: String,
    /// The turns of all branches, in the order in which they were written.
    pub messages: Vec<Message>,
    /// The last turn of the branch that was spoken in last.
    pub leaf: Option<Uuid>,
}

impl Chat {
    /// The turns from the first one to [`Chat::leaf`].
    pub fn branch(&self) -> Vec<&Message> {
        let mut branch = Vec::new();
        let mut next = self.leaf;
        // A message is written after the one it follows, so one pass backwards finds them all,
        // and a circle in a damaged workspace ends.
        for message in self.messages.iter().rev() {
            if next == Some(message.id) {
                branch.push(message);
                next = message.parent;
            }
        }
        branch.reverse();
        branch
    }
}

/// A line in the list of chats.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatSummary {
    /// Unique among all chats.
    pub id: Uuid,
    /// Its first question, shortened.
    pub title: String,
    /// When something was last said, RFC 3339.
    pub updated: String,
    /// Turns of all branches.
    pub n_messages: usize,
}

/// A message that a search has found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatHit {
    /// The chat that it stands in.
    pub chat: Uuid,
    /// That chat's title.
    pub title: String,
    /// The message; `None` where the title itself was found.
    pub message: Option<Uuid>,
    /// The words around what was found, on one line.
    pub excerpt: String,
}
