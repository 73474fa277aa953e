use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// Names the contents of files without reading them: path, size and time of change of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileStamp(String);

impl FileStamp {
    /// All files that decide a model: of a folder, its safetensors and JSON files.
    pub(crate) fn of_model(path: &Path) -> Self {
        Self::of_folder_or_file(path, "model")
    }

    /// All files that decide a vector.
    pub(crate) fn of_vector(path: &Path) -> Self {
        Self::of_folder_or_file(path, "vector")
    }

    fn of_folder_or_file(path: &Path, kind: &str) -> Self {
        let decides = |path: &PathBuf| {
            path.extension().is_some_and(|extension| {
                ["safetensors", "json", "jinja"].iter().any(|it| extension == *it)
            })
        };
        let mut files = match fs::read_dir(path) {
            Ok(entries) => {
                entries.filter_map(|entry| Some(entry.ok()?.path())).filter(decides).collect()
            }
            // A tokenizer.json beside a GGUF goes before the GGUF's own vocabulary.
            Err(_) => vec![path.to_owned(), path.with_file_name("tokenizer.json")],
        };
        files.sort();
        let mut text = kind.to_owned();
        for file in files {
            let metadata = fs::metadata(&file).ok();
            let size = metadata.as_ref().map_or(0, fs::Metadata::len);
            let changed = metadata.and_then(|metadata| metadata.modified().ok());
            let nanos = changed
                .and_then(|changed| changed.duration_since(UNIX_EPOCH).ok())
                .map_or(0, |since| since.as_nanos());
            let file = file.canonicalize().unwrap_or(file);
            // Writing to a string cannot fail.
            let _infallible = write!(text, "\n{size} {nanos} {}", file.display());
        }
        Self(text)
    }

    /// What a stamp may have been taken of: its first file, or the folder around it.
    pub(crate) fn places(stamp: &str) -> Vec<PathBuf> {
        let first = stamp.lines().nth(1).and_then(|line| line.splitn(3, ' ').nth(2));
        let Some(file) = first.map(PathBuf::from) else { return Vec::new() };
        let folder = file.parent().map(Path::to_owned);
        [file].into_iter().chain(folder).collect()
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}
