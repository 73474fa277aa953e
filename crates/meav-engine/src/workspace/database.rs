use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use meav_protocol::{AuditEntry, RecipeStamp};
use meav_weights::Fingerprint;
use rusqlite::{Connection, OptionalExtension as _, params};
use uuid::Uuid;

use super::FileStamp;

/// The database, over one connection of its own.
pub(crate) struct Workspace {
    pub(super) path: PathBuf,
    pub(super) connection: Connection,
}

/// Why the database could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum WorkspaceError {
    /// The folder can't be made.
    #[error("cannot write {path:?}")]
    Folder { path: PathBuf, source: io::Error },
    /// A newer version of this program has changed the database.
    #[error(
        "the workspace has schema {found}, this version knows schemas up to {known}, in {path:?}"
    )]
    Newer { found: usize, known: usize, path: PathBuf },
    /// The database is damaged, locked or can't be written.
    #[error("cannot use the workspace {path:?}")]
    Sqlite { path: PathBuf, source: rusqlite::Error },
    /// A column holds something that this program never wrote.
    #[error("{what} is unreadable in the workspace {path:?}")]
    Damaged { what: &'static str, path: PathBuf },
    /// A chat is named that was never kept, or is deleted for good.
    #[error("no chat has the id {id}")]
    NoChat { id: Uuid },
    /// The last chat is asked for before there is one.
    #[error("no chat has been kept")]
    NoChats,
    /// A branch is to end with a message that is not in the chat.
    #[error("the chat {chat} has no message {message}")]
    NoMessage { chat: Uuid, message: Uuid },
    /// A sweep is named that was never kept, or was forgotten.
    #[error("no sweep has the id {run}")]
    NoSweep { run: Uuid },
    /// A training run is named that was never kept, or was forgotten.
    #[error("no training run has the id {run}")]
    NoTraining { run: Uuid },
    /// A chat is to have a title without a letter.
    #[error("the title is empty")]
    EmptyTitle,
}

impl Workspace {
    /// Opens or makes the database in `folder`.
    ///
    /// # Errors
    ///
    /// [`WorkspaceError`].
    pub(crate) fn open(folder: &Path) -> Result<Self, WorkspaceError> {
        fs::create_dir_all(folder)
            .map_err(|source| WorkspaceError::Folder { path: folder.to_owned(), source })?;
        let path = folder.join("workspace.sqlite");
        let at = |source| WorkspaceError::Sqlite { path: path.clone(), source };
        let connection = Connection::open(&path).map_err(at)?;
        // The window and the command may have an engine each.
        connection.busy_timeout(Duration::from_secs(5)).map_err(at)?;
        connection.pragma_update(None, "journal_mode", "WAL").map_err(at)?;
        connection.pragma_update(None, "synchronous", "NORMAL").map_err(at)?;
        connection.pragma_update(None, "foreign_keys", true).map_err(at)?;
        let mut workspace = Self { path, connection };
        workspace.migrate()?;
        Ok(workspace)
    }

    pub(super) fn sqlite(&self) -> impl Fn(rusqlite::Error) -> WorkspaceError + use<> {
        let path = self.path.clone();
        move |source| WorkspaceError::Sqlite { path: path.clone(), source }
    }

    pub(super) fn damaged(&self, what: &'static str) -> WorkspaceError {
        WorkspaceError::Damaged { what, path: self.path.clone() }
    }

    /// The fingerprint that files had when they last had this stamp.
    pub(crate) fn known_fingerprint(&self, stamp: &FileStamp) -> Option<Fingerprint> {
        let text: String = self
            .connection
            .query_row(
                "SELECT fingerprint FROM fingerprints WHERE stamp = ?1",
                [stamp.as_str()],
                |row| row.get(0),
            )
            .ok()?;
        text.parse().ok()
    }

    pub(crate) fn remember_fingerprint(
        &self,
        stamp: &FileStamp,
        fingerprint: Fingerprint,
    ) -> Result<(), WorkspaceError> {
        self.connection
            .execute(
                "INSERT OR REPLACE INTO fingerprints VALUES (?1, ?2)",
                [stamp.as_str(), &fingerprint.to_string()],
            )
            .map_err(self.sqlite())?;
        Ok(())
    }

    /// Files and folders that had a fingerprint when they were last read, and still have the stamp
    /// of that time; the one read last comes first.
    pub(crate) fn paths_with(
        &self,
        fingerprint: Fingerprint,
        stamp_of: impl Fn(&Path) -> FileStamp,
    ) -> Result<Vec<PathBuf>, WorkspaceError> {
        let mut statement = self
            .connection
            .prepare("SELECT stamp FROM fingerprints WHERE fingerprint = ?1 ORDER BY rowid DESC")
            .map_err(self.sqlite())?;
        let stamps: Vec<String> = statement
            .query_map([fingerprint.to_string()], |row| row.get(0))
            .and_then(Iterator::collect)
            .map_err(self.sqlite())?;
        let unchanged = |stamp: &String| {
            FileStamp::places(stamp).into_iter().find(|path| stamp_of(path).as_str() == stamp)
        };
        Ok(stamps.iter().filter_map(unchanged).collect())
    }

    /// Keeps a recipe, and a line in the audit log if it is another than the last one.
    pub(crate) fn record_recipe(&self, stamp: &RecipeStamp) -> Result<(), WorkspaceError> {
        let recipe = serde_json::to_string(stamp).map_err(|_source| self.damaged("a recipe"))?;
        self.connection
            .execute(
                "INSERT OR IGNORE INTO recipes VALUES (?1, ?2, ?3)",
                params![stamp.fingerprint, recipe, now()],
            )
            .map_err(self.sqlite())?;
        let last: Option<String> = self
            .connection
            .query_row(
                "SELECT detail FROM audit WHERE action = 'recipe' ORDER BY id DESC LIMIT 1",
                [],
                |row| row.get(0),
            )
            .optional()
            .map_err(self.sqlite())?;
        let detail = format!("{} · {} · {stamp}", stamp.model, stamp.dtype);
        if last.as_ref() == Some(&detail) {
            return Ok(());
        }
        self.record("recipe", &detail)
    }

    /// Adds a line to the audit log.
    pub(crate) fn record(&self, action: &str, detail: &str) -> Result<(), WorkspaceError> {
        self.connection
            .execute(
                "INSERT INTO audit (time, action, detail) VALUES (?1, ?2, ?3)",
                params![now(), action, detail],
            )
            .map_err(self.sqlite())?;
        Ok(())
    }

    /// The newest lines of the audit log, newest first.
    pub(crate) fn audit(&self, limit: usize) -> Result<Vec<AuditEntry>, WorkspaceError> {
        let mut statement = self
            .connection
            .prepare("SELECT time, action, detail FROM audit ORDER BY id DESC LIMIT ?1")
            .map_err(self.sqlite())?;
        statement
            .query_map([i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
                Ok(AuditEntry { time: row.get(0)?, action: row.get(1)?, detail: row.get(2)? })
            })
            .and_then(Iterator::collect)
            .map_err(self.sqlite())
    }
}

/// RFC 3339, to the millisecond: the order of such texts is that of the times.
pub(super) fn rfc3339(time: Timestamp) -> String {
    format!("{time:.3}")
}

pub(super) fn now() -> String {
    rfc3339(Timestamp::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audit_log_can_only_grow() {
        let folder = tempfile::tempdir().unwrap();
        let workspace = Workspace::open(folder.path()).unwrap();
        workspace.record("merge", "first").unwrap();
        workspace.record("merge", "second").unwrap();
        for statement in ["DELETE FROM audit", "UPDATE audit SET detail = ''"] {
            assert!(workspace.connection.execute(statement, []).is_err());
        }
        let details: Vec<_> =
            workspace.audit(5).unwrap().into_iter().map(|entry| entry.detail).collect();
        assert_eq!(details, ["second", "first"]);
    }

    #[test]
    fn newer_schema_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let workspace = Workspace::open(folder.path()).unwrap();
        workspace.connection.pragma_update(None, "user_version", 99).unwrap();
        drop(workspace);
        let Err(err) = Workspace::open(folder.path()) else { panic!("it was opened") };
        assert!(matches!(err, WorkspaceError::Newer { found: 99, .. }));
    }

    #[test]
    fn fingerprint_is_forgotten_when_the_file_changes() {
        let folder = tempfile::tempdir().unwrap();
        let workspace = Workspace::open(folder.path()).unwrap();
        let file = folder.path().join("vector.safetensors");
        fs::write(&file, "one").unwrap();
        let fingerprint = Fingerprint::of_bytes(b"one");
        let stamp = FileStamp::of_vector(&file);
        workspace.remember_fingerprint(&stamp, fingerprint).unwrap();
        assert_eq!(workspace.known_fingerprint(&FileStamp::of_vector(&file)), Some(fingerprint));
        fs::write(&file, "three").unwrap();
        assert_eq!(workspace.known_fingerprint(&FileStamp::of_vector(&file)), None);
    }

    #[test]
    fn files_are_found_by_their_fingerprint_as_long_as_they_have_their_stamp() {
        let folder = tempfile::tempdir_in(".").unwrap();
        let workspace = Workspace::open(folder.path()).unwrap();
        let fingerprint = Fingerprint::of_bytes(b"one");
        let adapter = folder.path().join("adapter");
        fs::create_dir(&adapter).unwrap();
        fs::write(adapter.join("adapter_config.json"), "{}").unwrap();
        // One is named before tokenizer.json, one behind it, and the path is relative.
        let relative = Path::new(folder.path().file_name().unwrap()).join("tone.safetensors");
        let files = [folder.path().join("legal.safetensors"), relative, adapter];
        for path in &files {
            if !path.is_dir() {
                fs::write(path, "one").unwrap();
            }
            workspace.remember_fingerprint(&FileStamp::of_vector(path), fingerprint).unwrap();
        }
        let mut expected: Vec<_> = files.iter().map(|path| path.canonicalize().unwrap()).collect();
        expected.reverse();
        let found = workspace.paths_with(fingerprint, FileStamp::of_vector).unwrap();
        assert_eq!(found, expected);
        fs::write(&files[0], "another").unwrap();
        let found = workspace.paths_with(fingerprint, FileStamp::of_vector).unwrap();
        assert_eq!(found, expected[..2]);
    }
}
