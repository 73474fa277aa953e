use meav_protocol::{ChatHit, ChatSummary, JobId, UserError};
use uuid::Uuid;

/// The list of chats, and the search in them.
#[derive(Debug, Default)]
pub(crate) struct Library {
    /// The last one spoken in first; `None` until the engine has told.
    pub chats: Option<Vec<ChatSummary>>,
    /// The chat whose title is being edited, and the text.
    pub renaming: Option<(Uuid, String)>,
    /// What is looked for.
    pub search: String,
    /// What was found, and for which words.
    pub found: Option<(String, Vec<ChatHit>)>,
    /// Why the workspace could not do what it was asked.
    pub error: Option<UserError>,
    pub(crate) search_job: Option<JobId>,
    /// The chats that were deleted since the start, and whether they were open then.
    pub(crate) deleted: Vec<(Uuid, bool)>,
}

/// The most messages that a search names.
pub(crate) const MOST_HITS: usize = 100;

impl Library {
    pub(crate) fn title(&self, id: Uuid) -> Option<&str> {
        let chat = self.chats.iter().flatten().find(|chat| chat.id == id)?;
        Some(&chat.title)
    }
}
