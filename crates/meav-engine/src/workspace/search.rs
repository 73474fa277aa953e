use meav_protocol::ChatHit;
use rusqlite::Row;
use uuid::Uuid;

use super::chats::uuid;
use super::database::{Workspace, WorkspaceError};

/// Characters of an excerpt.
const EXCERPT_CHARS: usize = 80;

/// Characters of an excerpt that stand before what was found.
const LEAD_CHARS: usize = 30;

/// All that can be found, chat by chat, the last one spoken in and what was last said first.
const EVERYTHING: &str = "
    SELECT chats.id, chats.title, messages.id, messages.content
    FROM chats LEFT JOIN messages ON messages.chat_id = chats.id
    WHERE chats.deleted IS NULL
    ORDER BY chats.updated DESC, chats.id DESC, messages.written DESC";

impl Workspace {
    /// Finds text in titles and messages, not minding case and line breaks.
    ///
    /// Compares here: SQLite knows the case of ASCII only.
    pub(crate) fn search_chats(
        &self,
        text: &str,
        limit: usize,
    ) -> Result<Vec<ChatHit>, WorkspaceError> {
        let wanted = fold(&one_line(text));
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let mut statement = self.connection.prepare(EVERYTHING).map_err(self.sqlite())?;
        let mut rows = statement.query([]).map_err(self.sqlite())?;
        let mut hits: Vec<ChatHit> = Vec::new();
        let mut last = None;
        while let Some(row) = rows.next().map_err(self.sqlite())? {
            if hits.len() >= limit {
                break;
            }
            let chat = uuid(row, 0).map_err(self.sqlite())?;
            let is_new = last.replace(chat) != Some(chat);
            hits.extend(hits_in(row, chat, is_new, &wanted).map_err(self.sqlite())?);
        }
        hits.truncate(limit);
        Ok(hits)
    }
}

/// What one row has: the chat's title, looked at once for each chat, and a message.
fn hits_in(
    row: &Row<'_>,
    chat: Uuid,
    with_title: bool,
    wanted: &str,
) -> rusqlite::Result<Vec<ChatHit>> {
    let title: String = row.get(1)?;
    let hit = |message, excerpt| ChatHit { chat, title: title.clone(), message, excerpt };
    let mut hits = Vec::new();
    if with_title {
        hits.extend(excerpt(&title, wanted).map(|excerpt| hit(None, excerpt)));
    }
    // A chat without a message still is a row.
    if let Some(content) = row.get::<_, Option<String>>(3)?
        && let Some(excerpt) = excerpt(&content, wanted)
    {
        hits.push(hit(Some(uuid(row, 2)?), excerpt));
    }
    Ok(hits)
}

/// The words around the first place where `text` has what is wanted.
fn excerpt(text: &str, wanted: &str) -> Option<String> {
    let line = one_line(text);
    let folded = fold(&line);
    let found = folded[..folded.find(wanted)?].chars().count();
    let chars: Vec<char> = line.chars().collect();
    let start = found.saturating_sub(LEAD_CHARS).min(chars.len().saturating_sub(EXCERPT_CHARS));
    let end = chars.len().min(start + EXCERPT_CHARS);
    let before = if start > 0 { "…" } else { "" };
    let after = if end < chars.len() { "…" } else { "" };
    let words: String = chars[start..end].iter().collect();
    Some(format!("{before}{}{after}", words.trim()))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Lower case, one character for each, so that places in both texts are the same.
fn fold(text: &str) -> String {
    let folded = |letter: char| match letter {
        // One letter with two forms.
        'ς' => 'σ',
        letter => letter.to_lowercase().next().unwrap_or(letter),
    };
    text.chars().map(folded).collect()
}

#[cfg(test)]
mod tests {
    use meav_protocol::{Message, Role};

    use super::*;

    #[test]
    fn case_is_ignored_beyond_ascii_and_signs_mean_themselves() {
        for (text, wanted) in [
            ("Was hilft gegen ÜBELKEIT?", "übelkeit"),
            ("ο οίκος", "ΟΊΚΟΣ"),
            ("100 % sure", "% s"),
            ("chest\n  pain", "Chest pain"),
        ] {
            assert!(excerpt(text, &fold(&one_line(wanted))).is_some(), "{wanted:?} in {text:?}");
        }
        for (text, wanted) in [("chest pain", "c%n"), ("chest", "ch_st"), ("chest", "chest pain")] {
            assert_eq!(excerpt(text, wanted), None);
        }
    }

    #[test]
    fn excerpt_is_one_short_line_around_the_hit() {
        let text = format!("{}the\nneedle {}", "before ".repeat(20), "after ".repeat(20));
        let excerpt = excerpt(&text, "needle").unwrap();
        assert!(excerpt.contains("the needle after"), "{excerpt}");
        assert!(excerpt.starts_with('…') && excerpt.ends_with('…'), "{excerpt}");
        assert!(excerpt.chars().count() <= EXCERPT_CHARS + 2, "{excerpt}");
    }

    #[test]
    fn titles_and_messages_are_found_newest_first_and_deleted_chats_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let mut workspace = Workspace::open(folder.path()).unwrap();
        let [older, newer, deleted] = [(); 3].map(|()| Uuid::now_v7());
        let question = Message::new(None, Role::User, "Why is the sky blue?");
        let answer = Message::new(Some(question.id), Role::Assistant, "Blue light scatters.");
        let (first, second) = (question.id, answer.id);
        workspace.save_chat(older, "", &[question, answer]).unwrap();
        for id in [newer, deleted] {
            let question = Message::new(None, Role::User, "What is BLUE cheese?");
            workspace.save_chat(id, "", &[question]).unwrap();
        }
        workspace.delete_chat(deleted).unwrap();
        workspace.rename_chat(newer, "Cheese").unwrap();

        let hits = workspace.search_chats(" blue ", 10).unwrap();
        let found: Vec<_> = hits.iter().map(|hit| (hit.chat, hit.message)).collect();
        assert_eq!(found[0].0, newer);
        assert_eq!(found[1..], [(older, None), (older, Some(second)), (older, Some(first))]);
        assert_eq!(hits[0].title, "Cheese");
        assert_eq!(workspace.search_chats("blue", 2).unwrap(), hits[..2]);
        assert!(workspace.search_chats(" ", 10).unwrap().is_empty());
    }
}
