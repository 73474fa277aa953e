use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// Names the contents of files without reading them: path, size and time of change of each.
///
/// The same files have the same stamp however their path is spelled.
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
        let files = deciding_files(path).unwrap_or_else(|| {
            let file = absolute(path);
            // A tokenizer.json beside a GGUF goes before the GGUF's own vocabulary.
            let tokenizer = file.with_file_name("tokenizer.json");
            vec![file, tokenizer]
        });
        let mut text = kind.to_owned();
        for file in files {
            let metadata = fs::metadata(&file).ok();
            let size = metadata.as_ref().map_or(0, fs::Metadata::len);
            let changed = metadata.and_then(|metadata| metadata.modified().ok());
            let nanos = changed
                .and_then(|changed| changed.duration_since(UNIX_EPOCH).ok())
                .map_or(0, |since| since.as_nanos());
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

/// Of a folder, the files that decide what it is, in order.
fn deciding_files(path: &Path) -> Option<Vec<PathBuf>> {
    let entries = fs::read_dir(path).ok()?;
    let folder = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let decides = |path: &PathBuf| {
        path.extension().is_some_and(|extension| {
            ["safetensors", "json", "jinja"].iter().any(|it| extension == *it)
        })
    };
    let mut files: Vec<_> = entries
        .filter_map(|entry| Some(folder.join(entry.ok()?.file_name())))
        .filter(decides)
        .collect();
    files.sort();
    Some(files)
}

/// The path from the root, with the folder's links followed but not the file's own: what a link
/// leads to may be named in another way. A path into no folder stays as it is.
pub(crate) fn absolute(path: &Path) -> PathBuf {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let place = match path.file_name() {
        Some(name) => {
            folder.unwrap_or(Path::new(".")).canonicalize().map(|folder| folder.join(name))
        }
        None => path.canonicalize(),
    };
    place.unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamp_does_not_depend_on_how_the_path_is_spelled() {
        let here = Path::new(".").canonicalize().unwrap();
        let inside = tempfile::tempdir_in(&here).unwrap();
        let folder = inside.path().file_name().map(PathBuf::from).unwrap();
        // Before and behind the tokenizer's name.
        for name in ["legal.safetensors", "tone.safetensors"] {
            let file = folder.join(name);
            fs::write(&file, name).unwrap();
            let stamp = FileStamp::of_vector(&file);
            for spelling in
                [here.join(&file), folder.join(".").join(name), here.join(".").join(&file)]
            {
                assert_eq!(FileStamp::of_vector(&spelling), stamp, "{spelling:?}");
            }
            assert_eq!(FileStamp::places(stamp.as_str())[0], here.join(&file));
        }
        assert_eq!(FileStamp::of_model(&folder), FileStamp::of_model(inside.path()));
        let places = FileStamp::places(FileStamp::of_model(&folder).as_str());
        assert!(places.contains(&here.join(&folder)), "{places:?}");
    }

    #[test]
    fn link_keeps_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let (blob, link) = (folder.path().join("0a1b"), folder.path().join("v.safetensors"));
        fs::write(&blob, "values").unwrap();
        std::os::unix::fs::symlink(&blob, &link).unwrap();
        assert_eq!(absolute(&link).file_name(), link.file_name());
        assert_eq!(absolute(Path::new("..")), Path::new("..").canonicalize().unwrap());
    }
}
