use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::{fs, mem};

use meav_protocol::UserError;
use meav_ui::{Action, Settings};
use tempfile::NamedTempFile;

use crate::inbox::Inbox;

/// Why the settings could not be read or written.
#[derive(Debug, thiserror::Error)]
enum SettingsError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Json(#[from] serde_json::Error),
}

/// Reads the settings; where that is impossible, gives the default and says so.
///
/// A file that holds no settings is put aside, so that the next one doesn't replace it.
pub(crate) fn read(path: &Path) -> (Settings, Option<UserError>) {
    let err = match parse(path) {
        Ok(settings) => return (settings, None),
        Err(SettingsError::Io(err)) if err.kind() == io::ErrorKind::NotFound => {
            return (Settings::default(), None);
        }
        Err(err) => err,
    };
    let aside = path.with_extension("bad.json");
    let hint = match fs::rename(path, &aside) {
        Ok(()) => format!("They begin afresh; the old file is kept as {}", aside.display()),
        Err(_) => format!("They begin afresh; check the file {}", path.display()),
    };
    let detail = format!("{}: {err}", path.display());
    let problem = UserError { detail, ..UserError::new("The settings could not be read", hint) };
    (Settings::default(), Some(problem))
}

fn parse(path: &Path) -> Result<Settings, SettingsError> {
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

/// Writes the whole file or nothing.
fn write(path: &Path, settings: &Settings) -> Result<(), SettingsError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut file = NamedTempFile::new_in(folder)?;
    serde_json::to_writer_pretty(&mut file, settings)?;
    file.write_all(b"\n")?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|err| err.error)?;
    Ok(())
}

/// Writes settings on a thread of its own, the newest only.
#[derive(Debug)]
pub(crate) struct SettingsWriter {
    newest: Slot,
    /// Says that there is something in the slot; `None` once no more will come.
    bell: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

type Slot = Arc<Mutex<Option<Box<Settings>>>>;

impl SettingsWriter {
    /// Tells the inbox of the first failure, and of no other.
    ///
    /// # Errors
    ///
    /// Where the system can't start a thread.
    pub(crate) fn start(path: PathBuf, inbox: Inbox) -> io::Result<Self> {
        let newest = Slot::default();
        let (bell, rings) = sync_channel(1);
        let slot = Arc::clone(&newest);
        let run = move || write_each(&path, &slot, &rings, &inbox);
        let thread = thread::Builder::new().name("settings".to_owned()).spawn(run)?;
        Ok(Self { newest, bell: Some(bell), thread: Some(thread) })
    }

    /// Has these written; never blocks.
    pub(crate) fn save(&self, settings: Box<Settings>) {
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(settings);
        if let Some(bell) = &self.bell {
            // A full channel has rung already.
            let _rung = bell.try_send(());
        }
    }
}

/// Waits until everything is written.
impl Drop for SettingsWriter {
    fn drop(&mut self) {
        self.bell = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the settings may not have been saved");
        }
    }
}

fn write_each(path: &Path, slot: &Slot, rings: &Receiver<()>, inbox: &Inbox) {
    let mut is_told = false;
    for () in rings {
        let newest = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(settings) = newest else { continue };
        if let Err(err) = write(path, &settings) {
            tracing::warn!("{path:?}: {err}");
            if !mem::replace(&mut is_told, true) {
                inbox.send(Action::HostFailed(unsaved(path, &err)));
            }
        }
    }
}

fn unsaved(path: &Path, err: &SettingsError) -> UserError {
    UserError {
        detail: format!("{}: {err}", path.display()),
        ..UserError::new(
            "The settings could not be saved",
            "They hold until the window is closed; check the free disk space",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text_scale: f32) -> Settings {
        Settings { text_scale, ..Settings::default() }
    }

    #[test]
    fn newest_settings_are_there_after_the_writer_has_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("home").join("settings.json");
        let (inbox, waiting) = Inbox::open();
        let writer = SettingsWriter::start(path.clone(), inbox).unwrap();
        for step in 0..100 {
            writer.save(Box::new(settings(1.0 + step as f32)));
        }
        drop(writer);
        assert_eq!(read(&path), (settings(100.0), None));
        assert_eq!(waiting.try_iter().count(), 0);
        let files = fs::read_dir(path.parent().unwrap()).unwrap();
        assert_eq!(files.count(), 1, "no temporary file stays");
    }

    #[test]
    fn first_start_is_no_problem() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("settings.json");
        assert_eq!(read(&path), (Settings::default(), None));
    }

    #[test]
    fn unreadable_settings_are_kept_aside_and_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("settings.json");
        fs::write(&path, "{\"theme\": ").unwrap();
        let (found, problem) = read(&path);
        assert_eq!(found, Settings::default());
        assert_eq!(problem.unwrap().summary, "The settings could not be read");
        let aside = folder.path().join("settings.bad.json");
        assert_eq!(fs::read_to_string(aside).unwrap(), "{\"theme\": ");
        assert_eq!(read(&path).1, None);
    }

    #[test]
    fn folder_that_takes_no_file_is_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let blocked = folder.path().join("file");
        fs::write(&blocked, "").unwrap();
        let (inbox, waiting) = Inbox::open();
        let path = blocked.join("settings.json");
        for _ in 0..2 {
            let writer = SettingsWriter::start(path.clone(), inbox.clone()).unwrap();
            writer.save(Box::new(settings(2.0)));
        }
        let told: Vec<_> = waiting.try_iter().collect();
        assert_eq!(told.len(), 2, "one for each writer");
        assert!(matches!(&told[0], Action::HostFailed(err) if err.hint.is_some()));
    }
}
