use jiff::{SignedDuration, Timestamp};
use meav_protocol::{Chat, ChatSummary, Message, MessageState, Reply, Role};
use rusqlite::{Connection, OptionalExtension as _, Row, ToSql, params};
use uuid::Uuid;

use super::database::{Workspace, WorkspaceError, now, rfc3339};

/// Characters of the first question that name a chat.
const TITLE_CHARS: usize = 60;

/// How long a deleted chat can be restored.
const RETENTION: SignedDuration = SignedDuration::from_hours(30 * 24);

impl Workspace {
    /// Adds the turns of a branch, each following the one before, to a chat, which is made if
    /// there is none, and makes it the branch that is shown if any of them is new.
    ///
    /// What is there stays as it is, on other branches too; only of an answer that was cut off,
    /// more may have been read than was kept.
    pub(crate) fn save_chat(
        &mut self,
        id: Uuid,
        system: &str,
        branch: &[Message],
    ) -> Result<(), WorkspaceError> {
        let failed = self.sqlite();
        let transaction = self.connection.transaction().map_err(&failed)?;
        save_branch(&transaction, id, system, branch)
            .and_then(|()| transaction.commit())
            .map_err(failed)
    }

    /// Overwrites the text of an answer that is being written, and says how it ended if it did.
    pub(crate) fn update_message(
        &self,
        id: Uuid,
        content: &str,
        state: MessageState,
        end: Option<&Reply>,
    ) -> Result<(), WorkspaceError> {
        self.connection
            .execute(
                "UPDATE messages SET content = ?2, state = ?3, figures = ?4, finish = ?5
                 WHERE id = ?1",
                params![
                    id.to_string(),
                    content,
                    state_name(state),
                    json(end.map(|reply| &reply.figures)),
                    json(end.map(|reply| &reply.finish)),
                ],
            )
            .map_err(self.sqlite())?;
        Ok(())
    }

    /// Forgets a message that nothing follows; a branch that ended with it ends one before.
    pub(crate) fn delete_message(&mut self, id: Uuid) -> Result<(), WorkspaceError> {
        let failed = self.sqlite();
        let transaction = self.connection.transaction().map_err(&failed)?;
        for statement in [
            "UPDATE chats SET leaf = (SELECT parent FROM messages WHERE id = ?1) WHERE leaf = ?1",
            "DELETE FROM messages WHERE id = ?1",
        ] {
            transaction.execute(statement, [id.to_string()]).map_err(&failed)?;
        }
        transaction.commit().map_err(failed)
    }

    /// Gives a chat another title.
    pub(crate) fn rename_chat(&self, id: Uuid, title: &str) -> Result<(), WorkspaceError> {
        let title = title.split_whitespace().collect::<Vec<_>>().join(" ");
        if title.is_empty() {
            return Err(WorkspaceError::EmptyTitle);
        }
        self.change_chat(id, "UPDATE chats SET title = ?2 WHERE id = ?1", title)
    }

    /// Takes a chat off the list.
    pub(crate) fn delete_chat(&self, id: Uuid) -> Result<(), WorkspaceError> {
        let statement = "UPDATE chats SET deleted = coalesce (deleted, ?2) WHERE id = ?1";
        self.change_chat(id, statement, now())
    }

    /// Puts a deleted chat back on the list.
    pub(crate) fn restore_chat(&self, id: Uuid) -> Result<(), WorkspaceError> {
        let statement = "UPDATE chats SET deleted = ?2 WHERE id = ?1";
        self.change_chat(id, statement, None::<String>)
    }

    /// Changes a chat, which has to be there.
    fn change_chat(
        &self,
        id: Uuid,
        statement: &str,
        value: impl ToSql,
    ) -> Result<(), WorkspaceError> {
        let changed = self.connection.execute(statement, params![id.to_string(), value]);
        match changed.map_err(self.sqlite())? {
            0 => Err(WorkspaceError::NoChat { id }),
            _ => Ok(()),
        }
    }

    /// Remembers which branch of a chat is shown.
    pub(crate) fn set_branch(&self, chat: Uuid, leaf: Uuid) -> Result<(), WorkspaceError> {
        let changed = self.connection.execute(
            "UPDATE chats SET leaf = ?2 WHERE id = ?1
             AND EXISTS (SELECT 1 FROM messages WHERE id = ?2 AND chat_id = ?1)",
            [chat.to_string(), leaf.to_string()],
        );
        if changed.map_err(self.sqlite())? > 0 {
            return Ok(());
        }
        match self.load_chat(Some(chat))? {
            Some(_) => Err(WorkspaceError::NoMessage { chat, message: leaf }),
            None => Err(WorkspaceError::NoChat { id: chat }),
        }
    }

    /// Forgets the chats for good that were deleted a month before `time`.
    pub(crate) fn purge_chats(&self, time: Timestamp) -> Result<(), WorkspaceError> {
        self.connection
            .execute("DELETE FROM chats WHERE deleted < ?1", [rfc3339(time - RETENTION)])
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
                 FROM chats WHERE deleted IS NULL ORDER BY updated DESC, id DESC",
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

    /// A chat, even if it is deleted, or the last one spoken in of those that are not.
    pub(crate) fn load_chat(&self, id: Option<Uuid>) -> Result<Option<Chat>, WorkspaceError> {
        let id = id.map(|id| id.to_string());
        let found = self
            .connection
            .query_row(
                "SELECT id, title, system, leaf FROM chats
                 WHERE id = ?1 OR (?1 IS NULL AND deleted IS NULL)
                 ORDER BY updated DESC, id DESC LIMIT 1",
                [id],
                |row| {
                    let (id, leaf) = (uuid(row, 0)?, optional_uuid(row, 3)?);
                    let (title, system) = (row.get(1)?, row.get(2)?);
                    Ok(Chat { id, title, system, messages: Vec::new(), leaf })
                },
            )
            .optional()
            .map_err(self.sqlite())?;
        let Some(mut chat) = found else { return Ok(None) };
        let mut statement = self
            .connection
            .prepare(
                "SELECT id, role, content, state, recipe, sampling, parent, figures, finish
                 FROM messages WHERE chat_id = ?1 ORDER BY written",
            )
            .map_err(self.sqlite())?;
        chat.messages = statement
            .query_map([chat.id.to_string()], message)
            .and_then(Iterator::collect)
            .map_err(self.sqlite())?;
        Ok(Some(chat))
    }
}

fn save_branch(
    connection: &Connection,
    id: Uuid,
    system: &str,
    branch: &[Message],
) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT INTO chats (id, title, updated, system) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (id) DO UPDATE SET updated = ?3, system = ?4, deleted = NULL",
        params![id.to_string(), title(branch), now(), system],
    )?;
    let mut parent = None;
    let mut changed = 0;
    for message in branch {
        changed += connection.execute(
            "INSERT INTO messages
             (id, chat_id, parent, role, content, state, recipe, sampling, figures, finish)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
             ON CONFLICT (id) DO UPDATE SET content = excluded.content
             WHERE state = 'partial' AND length (excluded.content) > length (content)",
            params![
                message.id.to_string(),
                id.to_string(),
                parent,
                message.role.as_str(),
                message.content,
                state_name(message.state),
                json(message.recipe.as_ref()),
                json(message.sampling.as_ref()),
                json(message.figures.as_ref()),
                json(message.finish.as_ref()),
            ],
        )?;
        parent = Some(message.id.to_string());
    }
    // A question that is there already may have answers: one of them stays shown until there is
    // another.
    if changed > 0 {
        let leaf = "UPDATE chats SET leaf = ?2 WHERE id = ?1";
        connection.execute(leaf, params![id.to_string(), parent])?;
    }
    Ok(())
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
    let figures: Option<String> = row.get(7)?;
    let finish: Option<String> = row.get(8)?;
    Ok(Message {
        id: uuid(row, 0)?,
        parent: optional_uuid(row, 6)?,
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
        figures: figures.and_then(|text| serde_json::from_str(&text).ok()),
        finish: finish.and_then(|text| serde_json::from_str(&text).ok()),
    })
}

pub(super) fn uuid(row: &Row<'_>, index: usize) -> rusqlite::Result<Uuid> {
    let text: String = row.get(index)?;
    Uuid::parse_str(&text).map_err(|err| {
        rusqlite::Error::FromSqlConversionFailure(index, rusqlite::types::Type::Text, err.into())
    })
}

fn optional_uuid(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<Uuid>> {
    let text: Option<String> = row.get(index)?;
    text.map(|_| uuid(row, index)).transpose()
}

#[cfg(test)]
mod tests {
    use meav_protocol::{FinishReason, ReplyFigures};
    use tempfile::TempDir;

    use super::*;

    fn workspace() -> (TempDir, Workspace) {
        let folder = tempfile::tempdir().expect("a folder");
        let workspace = Workspace::open(folder.path()).expect("a workspace");
        (folder, workspace)
    }

    fn load(workspace: &Workspace, id: Uuid) -> Chat {
        workspace.load_chat(Some(id)).expect("it can be read").expect("it is there")
    }

    fn ids(workspace: &Workspace) -> Vec<Uuid> {
        workspace.list_chats().expect("a list").into_iter().map(|chat| chat.id).collect()
    }

    fn question(text: &str) -> Message {
        Message::new(None, Role::User, text)
    }

    fn answer_to(question: &Message, text: &str) -> Message {
        Message::new(Some(question.id), Role::Assistant, text)
    }

    #[test]
    fn chat_comes_back_as_it_was_and_a_partial_answer_stays_marked() {
        let (folder, mut workspace) = workspace();
        let (older, newer) = (Uuid::now_v7(), Uuid::now_v7());
        workspace.save_chat(older, "", &[question("first")]).unwrap();
        let question = question(&"q".repeat(100));
        let mut answer = answer_to(&question, "");
        answer.state = MessageState::Partial;
        workspace.save_chat(newer, "Be brief.", &[question.clone(), answer.clone()]).unwrap();
        workspace.update_message(answer.id, "half", MessageState::Partial, None).unwrap();
        drop(workspace);

        let workspace = Workspace::open(folder.path()).unwrap();
        let chat = workspace.load_chat(None).unwrap().unwrap();
        answer.content = "half".to_owned();
        assert_eq!(chat.branch(), [&question, &answer]);
        assert_eq!(chat.system, "Be brief.");
        assert_eq!(chat.title.chars().count(), TITLE_CHARS + 1);
        assert_eq!(ids(&workspace), [newer, older]);
        assert_eq!(workspace.load_chat(Some(Uuid::nil())).unwrap(), None);
    }

    #[test]
    fn other_branches_stay_when_a_turn_is_given_again() {
        let (_folder, mut workspace) = workspace();
        let id = Uuid::now_v7();
        let question = question("q");
        let (first, mut second) = (answer_to(&question, "a1"), answer_to(&question, "a2"));
        second.figures = Some(ReplyFigures {
            prompt_tokens: 3,
            reused_tokens: 0,
            tokens: 2,
            first_token_secs: 0.25,
            tokens_per_sec: 100.0,
        });
        second.finish = Some(FinishReason::Length);
        workspace.save_chat(id, "", &[question.clone(), first.clone()]).unwrap();
        workspace.save_chat(id, "", &[question.clone(), second.clone()]).unwrap();
        let chat = load(&workspace, id);
        assert_eq!(chat.messages, [question.clone(), first.clone(), second.clone()]);
        assert_eq!(chat.branch(), [&question, &second]);

        // The question alone says nothing new.
        workspace.save_chat(id, "Be brief.", std::slice::from_ref(&question)).unwrap();
        let chat = load(&workspace, id);
        assert_eq!((chat.leaf, chat.system.as_str()), (Some(second.id), "Be brief."));

        // The branch that is shown can be chosen, if it is one of the chat.
        workspace.set_branch(id, first.id).unwrap();
        assert_eq!(load(&workspace, id).branch(), [&question, &first]);
        let nowhere = Uuid::nil();
        let foreign = workspace.set_branch(id, nowhere);
        assert!(matches!(foreign, Err(WorkspaceError::NoMessage { .. })));
        let missing = workspace.set_branch(nowhere, first.id);
        assert!(matches!(missing, Err(WorkspaceError::NoChat { .. })));
        assert_eq!(load(&workspace, id).leaf, Some(first.id));
    }

    #[test]
    fn answer_without_a_word_gives_the_branch_back_to_its_question() {
        let (_folder, mut workspace) = workspace();
        let id = Uuid::now_v7();
        let question = question("q");
        let answer = answer_to(&question, "");
        workspace.save_chat(id, "", &[question.clone(), answer.clone()]).unwrap();
        workspace.delete_message(answer.id).unwrap();
        let chat = load(&workspace, id);
        assert_eq!((chat.leaf, chat.messages), (Some(question.id), vec![question]));
    }

    #[test]
    fn more_of_a_partial_answer_is_kept_and_whole_ones_stay_as_they_are() {
        let (_folder, mut workspace) = workspace();
        let id = Uuid::now_v7();
        let question = question("q");
        let mut answer = answer_to(&question, "half");
        answer.state = MessageState::Partial;
        let said = |workspace: &mut Workspace, text: &str| {
            let answer = Message { content: text.to_owned(), ..answer.clone() };
            workspace.save_chat(id, "", &[question.clone(), answer]).unwrap();
            load(workspace, id).messages[1].content.clone()
        };
        assert_eq!(said(&mut workspace, "half"), "half");
        assert_eq!(said(&mut workspace, "half of it"), "half of it");
        assert_eq!(said(&mut workspace, "half"), "half of it");
        workspace.update_message(answer.id, "done", MessageState::Complete, None).unwrap();
        assert_eq!(said(&mut workspace, "half of it"), "done");
    }

    #[test]
    fn renamed_chat_keeps_its_name_and_needs_one() {
        let (_folder, mut workspace) = workspace();
        let id = Uuid::now_v7();
        let question = question("q");
        workspace.save_chat(id, "", std::slice::from_ref(&question)).unwrap();
        workspace.rename_chat(id, " Two\nwords ").unwrap();
        let answer = answer_to(&question, "a");
        workspace.save_chat(id, "", &[question, answer]).unwrap();
        let empty = workspace.rename_chat(id, " \n");
        assert!(matches!(empty, Err(WorkspaceError::EmptyTitle)));
        let missing = workspace.rename_chat(Uuid::nil(), "name");
        assert!(matches!(missing, Err(WorkspaceError::NoChat { .. })));
        assert_eq!(load(&workspace, id).title, "Two words");
    }

    #[test]
    fn deleted_chat_can_be_restored_for_a_month() {
        let (_folder, mut workspace) = workspace();
        let (kept, deleted) = (Uuid::now_v7(), Uuid::now_v7());
        let turns = [question("q")];
        workspace.save_chat(kept, "", &[question("kept")]).unwrap();
        workspace.save_chat(deleted, "", &turns).unwrap();
        workspace.delete_chat(deleted).unwrap();
        assert_eq!(ids(&workspace), [kept]);
        assert_eq!(workspace.load_chat(None).unwrap().unwrap().id, kept);
        workspace.restore_chat(deleted).unwrap();
        assert_eq!(ids(&workspace), [deleted, kept]);
        workspace.delete_chat(deleted).unwrap();
        // To speak in it is to want it back.
        workspace.save_chat(deleted, "", &turns).unwrap();
        assert_eq!(ids(&workspace), [deleted, kept]);

        workspace.delete_chat(deleted).unwrap();
        let after = |days: i64| Timestamp::now() + SignedDuration::from_hours(24 * days);
        workspace.purge_chats(after(29)).unwrap();
        assert_eq!(load(&workspace, deleted).messages, turns);
        workspace.purge_chats(after(31)).unwrap();
        assert_eq!(workspace.load_chat(Some(deleted)).unwrap(), None);
        let count = "SELECT count(*) FROM messages";
        let left: i64 = workspace.connection.query_row(count, [], |row| row.get(0)).unwrap();
        assert_eq!((left, ids(&workspace)), (1, vec![kept]));
        for result in [workspace.delete_chat(deleted), workspace.restore_chat(deleted)] {
            assert!(matches!(result, Err(WorkspaceError::NoChat { .. })));
        }
    }
}
