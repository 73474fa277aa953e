use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Dtype, Message, SamplingSpec, Setup};

/// Names a job; picked by the client, never used twice in the life of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobId(pub u64);

/// What a client tells the engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// Queues a job.
    Start {
        /// The name to report under.
        job_id: JobId,
        /// What to do.
        spec: JobSpec,
    },
    /// Ends a job, queued or running, at its next tick.
    Cancel {
        /// Which.
        job_id: JobId,
    },
}

/// What a job does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum JobSpec {
    /// Loads the model and moves its weights to the recipe; [`crate::Fact::Ready`].
    Prepare(Setup),
    /// Answers a conversation; [`crate::Fact::Ready`], [`crate::Fact::Text`]s,
    /// [`crate::Fact::Reply`].
    Chat(ChatTurn),
    /// Says what a file is; [`crate::Fact::Described`].
    Describe {
        /// A model, vector or adapter.
        path: PathBuf,
    },
    /// Brings the demo model into the local store; [`crate::Fact::Written`].
    FetchDemo,
    /// Turns an adapter into a vector file; [`crate::Fact::Written`].
    ImportVector(VectorImport),
    /// Writes a merged model; [`crate::Fact::Written`].
    Merge(MergeSpec),
    /// Measures; [`crate::Fact::Bench`].
    Bench(BenchSpec),
    /// [`crate::Fact::Chat`].
    LoadChat {
        /// Which; `None` for the last one spoken in.
        id: Option<Uuid>,
    },
    /// [`crate::Fact::Chats`].
    ListChats,
    /// Gives a chat another title; [`crate::Fact::Chats`].
    RenameChat {
        /// Which.
        id: Uuid,
        /// Its title from now on.
        title: String,
    },
    /// Takes a chat off the list; it is forgotten for good after a month. [`crate::Fact::Chats`].
    DeleteChat {
        /// Which.
        id: Uuid,
    },
    /// Puts a deleted chat back on the list; [`crate::Fact::Chats`].
    RestoreChat {
        /// Which.
        id: Uuid,
    },
    /// Remembers which branch of a chat is shown; finds nothing.
    SetBranch {
        /// Which chat.
        chat: Uuid,
        /// The last turn of the branch.
        leaf: Uuid,
    },
    /// Looks for words in titles and messages, not minding case; [`crate::Fact::Found`].
    SearchChats {
        /// What to look for.
        text: String,
        /// The most messages to name.
        limit: usize,
    },
    /// Writes the branch of a chat that was spoken in last, as Markdown, or everything as JSON if
    /// `out` ends in `.json`; [`crate::Fact::Written`].
    ExportChat {
        /// Which; `None` for the last one spoken in.
        id: Option<Uuid>,
        /// Where to.
        out: ExportTarget,
    },
    /// The newest entries of the audit log; [`crate::Fact::Audit`].
    ListAudit {
        /// How many.
        limit: usize,
    },
    /// Writes the whole audit log as CSV, or as JSON if `out` ends in `.json`;
    /// [`crate::Fact::Written`].
    ExportAudit {
        /// Where to.
        out: ExportTarget,
    },
}

/// A file that an export writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportTarget {
    /// Where it will be; its ending decides the format.
    pub path: PathBuf,
    /// Whether what is there now may go.
    pub replace: bool,
}

/// A conversation that waits for an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChatTurn {
    /// Who answers.
    pub setup: Setup,
    /// Standing instructions; empty for those of the model's own template.
    pub system: String,
    /// The turns so far, oldest first, each following the one before.
    pub messages: Vec<Message>,
    /// How tokens are chosen.
    pub sampling: SamplingSpec,
    /// Tokens after which the answer is cut.
    pub max_tokens: usize,
    /// Where the workspace keeps the conversation, and the answer as it is written; `None` keeps
    /// nothing.
    pub keep: Option<KeepIn>,
}

/// A place in the workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeepIn {
    /// The chat, made if there is none of this id; the turns of the job are added to it, and its
    /// branch becomes the one that ends with the answer.
    pub chat: Uuid,
    /// The answer's id.
    pub reply: Uuid,
}

/// An adapter that becomes a vector file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VectorImport {
    /// The adapter's folder.
    pub adapter: PathBuf,
    /// The model it was trained on.
    pub base: PathBuf,
    /// The preference dimension's name.
    pub domain: String,
    /// The file to write.
    pub out: PathBuf,
    /// What the factors are rounded to.
    pub dtype: Dtype,
    /// The levels it was trained on, highest preference first.
    pub levels: Vec<String>,
    /// How it was trained, as JSON.
    pub training: Option<String>,
}

/// A merged model that is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MergeSpec {
    /// The model.
    pub model: PathBuf,
    /// The vectors, in the order of the sum.
    pub vectors: Vec<crate::VectorTerm>,
    /// What the weights are rounded to; `None` for the base's own.
    pub dtype: Option<Dtype>,
    /// The folder to write.
    pub out: PathBuf,
}

/// What is measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum BenchSpec {
    /// The fused merge, in bytes per second against the machine's copy bandwidth.
    Merge {
        /// The model, and vectors; where fewer than three are given, seeded dense ones of the
        /// model's dtype are added.
        setup: Setup,
    },
    /// Tokens per second, in `f32` and `bf16`.
    Decode {
        /// The model and vectors; the dtype is not looked at.
        setup: Setup,
    },
}
