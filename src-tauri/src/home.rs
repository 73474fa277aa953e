use std::env;
use std::path::{self, PathBuf};

use directories::{ProjectDirs, UserDirs};

/// The user's own folder, and the one for documents in it.
pub(crate) fn user_folders() -> (PathBuf, PathBuf) {
    let dirs = UserDirs::new();
    let home = dirs.as_ref().map_or_else(env::temp_dir, |dirs| dirs.home_dir().to_owned());
    let documents = dirs.as_ref().and_then(UserDirs::document_dir);
    // Named by the desktop's settings, whether it is there or not.
    let documents = documents.filter(|folder| folder.is_dir()).unwrap_or(&home).to_owned();
    (home, documents)
}

/// The folder that everything is kept below, the same as the engine's.
#[derive(Clone, Debug)]
pub(crate) struct Home(PathBuf);

impl Home {
    /// `MEAV_HOME`, or the platform's folder for application data.
    pub(crate) fn from_environment() -> Self {
        let home = env::var_os("MEAV_HOME").map_or_else(
            || match ProjectDirs::from("", "", "meav-studio") {
                Some(dirs) => dirs.data_dir().to_owned(),
                None => env::temp_dir().join("meav-studio"),
            },
            PathBuf::from,
        );
        Self(path::absolute(&home).unwrap_or(home))
    }

    /// What is kept from one start to the next.
    pub(crate) fn settings(&self) -> PathBuf {
        self.0.join("settings.json")
    }

    /// Reports of panics.
    pub(crate) fn crashes(&self) -> PathBuf {
        self.0.join("crashes")
    }

    /// What the guide's web view writes.
    pub(crate) fn guide(&self) -> PathBuf {
        self.0.join("guide")
    }

    /// Log files.
    pub(crate) fn logs(&self) -> PathBuf {
        self.0.join("logs")
    }
}
