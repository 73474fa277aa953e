use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::database::{Workspace, WorkspaceError};

/// Each entry takes the schema one version further. Never edit one: add another.
const MIGRATIONS: [&str; 5] = [
    "
    CREATE TABLE chats (
        id TEXT PRIMARY KEY,
        title TEXT NOT NULL,
        updated TEXT NOT NULL
    ) STRICT;
    CREATE TABLE messages (
        id TEXT PRIMARY KEY,
        chat_id TEXT NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
        position INTEGER NOT NULL,
        role TEXT NOT NULL,
        content TEXT NOT NULL,
        state TEXT NOT NULL,
        recipe TEXT,
        sampling TEXT
    ) STRICT;
    CREATE INDEX messages_of_chat ON messages (chat_id, position);
    CREATE TABLE recipes (
        fingerprint TEXT PRIMARY KEY,
        recipe TEXT NOT NULL,
        first_used TEXT NOT NULL
    ) STRICT;
    CREATE TABLE audit (
        id INTEGER PRIMARY KEY,
        time TEXT NOT NULL,
        action TEXT NOT NULL,
        detail TEXT NOT NULL
    ) STRICT;
    CREATE TRIGGER audit_keeps_entries BEFORE DELETE ON audit
        BEGIN SELECT RAISE (ABORT, 'the audit log is append-only'); END;
    CREATE TRIGGER audit_keeps_values BEFORE UPDATE ON audit
        BEGIN SELECT RAISE (ABORT, 'the audit log is append-only'); END;
    CREATE TABLE fingerprints (
        stamp TEXT PRIMARY KEY,
        fingerprint TEXT NOT NULL
    ) STRICT;
",
    "
    ALTER TABLE chats ADD COLUMN system TEXT NOT NULL DEFAULT '';
    ALTER TABLE chats ADD COLUMN leaf TEXT;
    ALTER TABLE chats ADD COLUMN deleted TEXT;
    UPDATE chats SET system = coalesce (
        (SELECT content FROM messages
         WHERE chat_id = chats.id AND position = 0 AND role = 'system'),
        ''
    );
    DELETE FROM messages WHERE position = 0 AND role = 'system';
    -- The order of writing has a column of its own: a hidden rowid may change.
    CREATE TABLE branched_messages (
        written INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        chat_id TEXT NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
        parent TEXT,
        role TEXT NOT NULL,
        content TEXT NOT NULL,
        state TEXT NOT NULL,
        recipe TEXT,
        sampling TEXT,
        figures TEXT
    ) STRICT;
    INSERT INTO branched_messages (id, chat_id, parent, role, content, state, recipe, sampling)
        SELECT id, chat_id, lag (id) OVER (PARTITION BY chat_id ORDER BY position),
               role, content, state, recipe, sampling
        FROM messages ORDER BY chat_id, position;
    DROP TABLE messages;
    ALTER TABLE branched_messages RENAME TO messages;
    CREATE INDEX messages_of_chat ON messages (chat_id, written);
    UPDATE chats SET leaf =
        (SELECT id FROM messages WHERE chat_id = chats.id ORDER BY written DESC LIMIT 1);
",
    "
    ALTER TABLE messages ADD COLUMN finish TEXT;
",
    "
    -- What a model made of texts: the sum of log-probabilities (f64) and the number of tokens (u32)
    -- of each response, little-endian, one after the other.
    CREATE TABLE scores (
        recipe TEXT NOT NULL,
        questions TEXT NOT NULL,
        computed_by TEXT NOT NULL,
        answers BLOB NOT NULL,
        PRIMARY KEY (recipe, questions, computed_by)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE sweeps (
        run TEXT PRIMARY KEY,
        started TEXT NOT NULL,
        settings TEXT NOT NULL,
        sweep TEXT NOT NULL
    ) STRICT;
    CREATE TABLE sweep_points (
        run TEXT NOT NULL REFERENCES sweeps (run) ON DELETE CASCADE,
        lambda REAL NOT NULL,
        point TEXT NOT NULL,
        PRIMARY KEY (run, lambda)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE calibrations (
        vector TEXT NOT NULL,
        base TEXT NOT NULL,
        calibration TEXT NOT NULL,
        PRIMARY KEY (vector, base)
    ) STRICT, WITHOUT ROWID;
",
    "
    CREATE TABLE trainings (
        run TEXT PRIMARY KEY,
        started TEXT NOT NULL,
        training TEXT NOT NULL
    ) STRICT;
    CREATE TABLE training_steps (
        run TEXT NOT NULL REFERENCES trainings (run) ON DELETE CASCADE,
        step INTEGER NOT NULL,
        measured TEXT NOT NULL,
        PRIMARY KEY (run, step)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE training_validations (
        run TEXT NOT NULL REFERENCES trainings (run) ON DELETE CASCADE,
        step INTEGER NOT NULL,
        measured TEXT NOT NULL,
        PRIMARY KEY (run, step)
    ) STRICT, WITHOUT ROWID;
    -- What a base model made of pairs: the log-probabilities (f64, little-endian) of each pair's
    -- chosen and rejected response, one after the other, as far as it was asked.
    CREATE TABLE reference_log_probs (
        base TEXT NOT NULL,
        pairs TEXT NOT NULL,
        computed_by TEXT NOT NULL,
        log_probs BLOB NOT NULL,
        PRIMARY KEY (base, pairs, computed_by)
    ) STRICT, WITHOUT ROWID;
",
];

impl Workspace {
    /// Takes the schema to the newest version.
    pub(super) fn migrate(&mut self) -> Result<(), WorkspaceError> {
        let at = self.sqlite();
        let known = MIGRATIONS.len();
        if version(&self.connection).map_err(&at)? == known {
            return Ok(());
        }
        let path = self.path.clone();
        // Taken for writing at once, so that two engines that start together don't both migrate.
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(&at)?;
        let found = version(&transaction).map_err(&at)?;
        if found > known {
            return Err(WorkspaceError::Newer { found, known, path });
        }
        apply(transaction, &MIGRATIONS[found..]).map_err(at)
    }
}

fn version(connection: &Connection) -> rusqlite::Result<usize> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

fn apply(transaction: Transaction<'_>, migrations: &[&str]) -> rusqlite::Result<()> {
    for migration in migrations {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "user_version", MIGRATIONS.len())?;
    transaction.commit()
}

#[cfg(test)]
mod tests {
    use meav_protocol::{MessageState, Role};
    use rusqlite::params;
    use uuid::Uuid;

    use super::*;

    /// A chat of schema 1: an id, a title and the role and content of each turn.
    fn insert(connection: &Connection, title: &str, turns: &[(&str, &str)]) -> Uuid {
        let chat = Uuid::now_v7();
        let chats = "INSERT INTO chats VALUES (?1, ?2, '2026-11-20T07:00:00.000Z')";
        connection.execute(chats, params![chat.to_string(), title]).unwrap();
        for (position, (role, content)) in turns.iter().enumerate() {
            connection
                .execute(
                    "INSERT INTO messages VALUES (?1, ?2, ?3, ?4, ?5, 'complete', NULL, NULL)",
                    params![Uuid::now_v7().to_string(), chat.to_string(), position, role, content],
                )
                .unwrap();
        }
        chat
    }

    #[test]
    fn chats_of_the_first_schema_become_one_branch_each() {
        let folder = tempfile::tempdir().unwrap();
        let connection = Connection::open(folder.path().join("workspace.sqlite")).unwrap();
        connection.execute_batch(MIGRATIONS[0]).unwrap();
        connection.pragma_update(None, "user_version", 1).unwrap();
        let turns = [("user", "q1"), ("assistant", "a1"), ("user", "q2"), ("assistant", "a2")];
        let instructed = [&[("system", "Be brief.")], &turns[..]].concat();
        let with_system = insert(&connection, "brief", &instructed);
        let plain = insert(&connection, "plain", &turns);
        let empty = insert(&connection, "empty", &[]);
        drop(connection);

        let workspace = Workspace::open(folder.path()).unwrap();
        for (id, title, system) in [(with_system, "brief", "Be brief."), (plain, "plain", "")] {
            let chat = workspace.load_chat(Some(id)).unwrap().unwrap();
            assert_eq!((chat.title.as_str(), chat.system.as_str()), (title, system));
            assert_eq!(chat.messages.len(), 4);
            let branch = chat.branch();
            let said: Vec<_> = branch.iter().map(|message| message.content.as_str()).collect();
            assert_eq!(said, ["q1", "a1", "q2", "a2"]);
            assert_eq!((branch[0].role, branch[0].parent), (Role::User, None));
            assert_eq!((branch[3].state, branch[3].finish), (MessageState::Complete, None));
        }
        assert_eq!(workspace.load_chat(Some(empty)).unwrap().unwrap().leaf, None);
        assert_eq!(workspace.list_chats().unwrap().len(), 3);
    }

    #[test]
    fn sweeps_of_the_fourth_schema_are_still_there_beside_training_runs() {
        let folder = tempfile::tempdir().unwrap();
        let connection = Connection::open(folder.path().join("workspace.sqlite")).unwrap();
        for migration in &MIGRATIONS[..4] {
            connection.execute_batch(migration).unwrap();
        }
        connection.pragma_update(None, "user_version", 4).unwrap();
        let run = Uuid::now_v7();
        let values = params![run.to_string(), "2026-11-20T07:00:00.000Z", "settings", "{}"];
        connection.execute("INSERT INTO sweeps VALUES (?1, ?2, ?3, ?4)", values).unwrap();
        drop(connection);

        let workspace = Workspace::open(folder.path()).unwrap();
        assert_eq!(version(&workspace.connection).unwrap(), 5);
        assert_eq!(workspace.sweep_settings(run).unwrap().as_deref(), Some("settings"));
        assert_eq!(workspace.list_trainings().unwrap(), []);
    }
}
