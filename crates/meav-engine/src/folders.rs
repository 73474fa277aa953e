use std::path::{Path, PathBuf};
use std::{env, fs};

use directories::ProjectDirs;

use crate::error::EngineError;

/// Where the engine keeps and finds things.
#[derive(Clone, Debug)]
pub(crate) struct Folders {
    /// Fetched models.
    pub models: PathBuf,
    /// The workspace database and its files.
    pub workspace: PathBuf,
    /// Log files.
    pub logs: PathBuf,
    /// The vectors that come with the demo, where they are installed; its data lie in the folder
    /// `data` there.
    pub demo_vectors: Option<PathBuf>,
}

/// The name that stands for the demo model.
const DEMO: &str = "demo";

impl Folders {
    /// `MEAV_HOME`, or the platform's folder for application data.
    pub(crate) fn from_environment() -> Self {
        let home = env::var_os("MEAV_HOME").map_or_else(
            || match ProjectDirs::from("", "", "meav-studio") {
                Some(dirs) => dirs.data_dir().to_owned(),
                None => env::temp_dir().join("meav-studio"),
            },
            PathBuf::from,
        );
        Self::at(&home)
    }

    /// Everything below `home`.
    pub(crate) fn at(home: &Path) -> Self {
        Self {
            models: home.join("models"),
            workspace: home.join("workspace"),
            logs: home.join("logs"),
            demo_vectors: find_demo_vectors(),
        }
    }

    /// Where the demo model is, once it has been fetched.
    pub(crate) fn demo_model(&self) -> PathBuf {
        self.models.join("smollm2-135m-instruct").join("SmolLM2-135M-Instruct.Q4_1.gguf")
    }

    /// The path of a model: as given, or that of the demo model for its name.
    ///
    /// # Errors
    ///
    /// [`EngineError::NoDemo`] if it is asked for and has not been fetched.
    pub(crate) fn model(&self, given: &Path) -> Result<PathBuf, EngineError> {
        if given != Path::new(DEMO) || given.exists() {
            return Ok(given.to_owned());
        }
        let path = self.demo_model();
        if path.is_file() { Ok(path) } else { Err(EngineError::NoDemo { path }) }
    }

    /// The path of a vector: as given, or that of a demo vector for a bare name.
    pub(crate) fn vector(&self, given: &Path) -> PathBuf {
        let is_bare_name = given.components().count() == 1 && given.extension().is_none();
        match &self.demo_vectors {
            Some(folder) if is_bare_name && !given.exists() => {
                let file = folder.join(given).with_extension("safetensors");
                if file.is_file() { file } else { given.to_owned() }
            }
            _ => given.to_owned(),
        }
    }

    /// The path of a data file: as given, or that of demo data for a bare name such as
    /// `medical.test`.
    pub(crate) fn data(&self, given: &Path) -> PathBuf {
        let is_bare_name = given.components().count() == 1 && !given.exists();
        let named = |path: &PathBuf| {
            path.file_name() == given.file_name() || path.file_stem() == given.file_name()
        };
        let found = self.demo_data().into_iter().find(|path| is_bare_name && named(path));
        found.unwrap_or_else(|| given.to_owned())
    }

    /// The preference data that come with the demo, by name.
    pub(crate) fn demo_data(&self) -> Vec<PathBuf> {
        let Some(folder) = &self.demo_vectors else { return Vec::new() };
        let Ok(entries) = fs::read_dir(folder.join("data")) else { return Vec::new() };
        let mut files: Vec<PathBuf> =
            entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        files.retain(|path| path.extension().is_some_and(|it| it == "jsonl"));
        files.sort();
        files
    }
}

/// Beside the program where it is installed, in the source tree where it was built.
fn find_demo_vectors() -> Option<PathBuf> {
    let program = env::current_exe().ok()?;
    program.ancestors().skip(1).find_map(|folder| {
        ["resources/demo", "lib/meav-studio/resources/demo", "src-tauri/resources/demo"]
            .iter()
            .map(|below| folder.join(below))
            .find(|candidate| candidate.is_dir())
    })
}
