use meav_protocol::{Chat, ChatSummary, Message, MessageState, Role};
use rusqlite::{OptionalExtension as _, Row, params};
use uuid::Uuid;

use super::database::{Workspace, WorkspaceError, now};

/// Characters of the first question that name a chat.
const TITLE_CHARS: usize = 60;

impl Workspace {
    /// Makes the turns of a chat those that are given.
    pub(crate) fn save_chat(
        &mut self,
        id: Uuid,
        messages: &[Message],
    ) -> Result<(), WorkspaceError> {
        let failed = self.sqlite();
        let transaction = self.connection.transaction().map_err(&failed)?;
        transaction
            .execute(
                "INSERT INTO chats VALUES (?1, ?2, ?3)
                 ON CONFLICT (id) DO UPDATE SET updated = ?3",
                params![id.to_string(), title(messages), now()],
            )
            .map_err(&failed)?;
        transaction
            .execute("DELETE FROM messages WHERE chat_id = ?1", [id.to_string()])
            .map_err(&failed)?;
        for (position, message) in messages.iter().enumerate() {
            transaction
                .execute(
                    "INSERT INTO messages VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                    params![
                        message.id.to_string(),
                        id.to_string(),
                        position,
                        message.role.as_str(),
                        message.content,
                        state_name(message.state),
                        json(message.recipe.as_ref()),
                        json(message.sampling.as_ref()),
                    ],
                )
                .map_err(&failed)?;
        }
        transaction.commit().map_err(&failed)
    }

    /// Overwrites the text of an answer that is being written.
    pub(crate) fn update_message(
        &self,
        id: Uuid,
        content: &str,
        state: MessageState,
    ) -> Result<(), WorkspaceError> {
        self.connection
            .execute(
                "UPDATE messages SET content = ?2, state = ?3 WHERE id = ?1",
                params![id.to_string(), content, state_name(state)],
            )
            .map_err(self.sqlite())?;
        Ok(())
    }

    /// Forgets a message.
    pub(crate) fn delete_message(&self, id: Uuid) -> Result<(), WorkspaceError> {
        self.connection
            .execute("DELETE FROM messages WHERE id = ?1", [id.to_string()])
            .map_err(self.sqlite())?;
        Ok(())
    }

    /// All chats, the last one spoken in first.
    pub(crate) fn list_chats(&self) -> Result<Vec<ChatSummary>, WorkspaceError> {
        let mut statement = self
            .connection
            .prepare(
                "SELECT id, title, updated,
                        (SELECT count(*) FROM messages WHERE chat_id = chats.id)
                 FROM chats ORDER BY updated DESC, id DESC",
            )
            .map_err(self.sqlite())?;
        statement
            .query_map([], |row| {
                Ok(ChatSummary {
                    id: uuid(row, 0)?,
                    title: row.get(1)?,
                    updated: row.get(2)?,
                    n_messages: row.get(3)?,
                })
            })
            .and_then(Iterator::collect)
            .map_err(self.sqlite())
    }

    /// A chat, or the last one spoken in.
    pub(crate) fn load_chat(&self, id: Option<Uuid>) -> Result<Option<Chat>, WorkspaceError> {
        let id = id.map(|id| id.to_string());
        let found = self
            .connection
            .query_row(
                "SELECT id, title FROM chats WHERE ?1 IS NULL OR id = ?1
                 ORDER BY updated DESC, id DESC LIMIT 1",
                [id],
                |row| Ok((uuid(row, 0)?, row.get(1)?)),
            )
            .optional()
            .map_err(self.sqlite())?;
        let Some((id, title)) = found else { return Ok(None) };
        let mut statement = self
            .connection
            .prepare(
                "SELECT id, role, content, state, recipe, sampling
                 FROM messages WHERE chat_id = ?1 ORDER BY position",
            )
            .map_err(self.sqlite())?;
        let messages = statement
            .query_map([id.to_string()], message)
            .and_then(Iterator::collect)
            .map_err(self.sqlite())?;
        Ok(Some(Chat { id, title, messages }))
    }
}

fn title(messages: &[Message]) -> String {
    let question = messages.iter().find(|message| message.role == Role::User);
    let line = question.and_then(|message| message.content.lines().next()).unwrap_or_default();
    let mut title: String = line.chars().take(TITLE_CHARS).collect();
    if title.len() < line.len() {
        title.push('…');
    }
    title
}

fn state_name(state: MessageState) -> &'static str {
    match state {
        MessageState::Complete => "complete",
        MessageState::Partial => "partial",
        MessageState::Stopped => "stopped",
    }
}

fn json<T: serde::Serialize>(value: Option<&T>) -> Option<String> {
    value.and_then(|value| serde_json::to_string(value).ok())
}

fn message(row: &Row<'_>) -> rusqlite::Result<Message> {
    let role: String = row.get(1)?;
    let state: String = row.get(3)?;
    let recipe: Option<String> = row.get(4)?;
    let sampling: Option<String> = row.get(5)?;
    Ok(Message {
        id: uuid(row, 0)?,
        role: match role.as_str() {
            "system" => Role::System,
            "assistant" => Role::Assistant,
            _ => Role::User,
        },
        content: row.get(2)?,
        state: match state.as_str() {
            "complete" => MessageState::Complete,
            "stopped" => MessageState::Stopped,
            _ => MessageState::Partial,
        },
        recipe: recipe.and_then(|text| serde_json::from_str(&text).ok()),
        sampling: sampling.and_then(|text| serde_json::from_str(&text).ok()),
    })
}

fn uuid(row: &Row<'_>, index: usize) -> rusqlite::Result<Uuid> {
    let text: String = row.get(index)?;
    Uuid::parse_str(&text).map_err(|err| {
        rusqlite::Error::FromSqlConversionFailure(index, rusqlite::types::Type::Text, err.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chat_comes_back_as_it_was_and_a_partial_answer_stays_marked() {
        let folder = tempfile::tempdir().unwrap();
        let mut workspace = Workspace::open(folder.path()).unwrap();
        let (older, newer) = (Uuid::now_v7(), Uuid::now_v7());
        workspace.save_chat(older, &[Message::new(Role::User, "first")]).unwrap();
        let question = Message::new(Role::User, "q".repeat(100));
        let mut answer = Message::new(Role::Assistant, "");
        answer.state = MessageState::Partial;
        workspace.save_chat(newer, &[question.clone(), answer.clone()]).unwrap();
        workspace.update_message(answer.id, "half", MessageState::Partial).unwrap();
        drop(workspace);

        let workspace = Workspace::open(folder.path()).unwrap();
        let chat = workspace.load_chat(None).unwrap().unwrap();
        answer.content = "half".to_owned();
        assert_eq!(chat.messages, [question, answer]);
        assert_eq!(chat.title.chars().count(), TITLE_CHARS + 1);
        let ids: Vec<_> = workspace.list_chats().unwrap().into_iter().map(|chat| chat.id).collect();
        assert_eq!(ids, [newer, older]);
        assert_eq!(workspace.load_chat(Some(Uuid::nil())).unwrap(), None);
    }
}
