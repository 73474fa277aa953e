use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{RecipeStamp, SamplingSpec};

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
    /// It is being written, or the engine died while it was.
    Partial,
    /// The user stopped it.
    Stopped,
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Unique among all messages.
    pub id: Uuid,
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
}

impl Message {
    /// A complete message with an id of its own.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self {
            id: Uuid::now_v7(),
            role,
            content: content.into(),
            state: MessageState::Complete,
            recipe: None,
            sampling: None,
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
    /// The turns, oldest first.
    pub messages: Vec<Message>,
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
    /// Turns.
    pub n_messages: usize,
}
