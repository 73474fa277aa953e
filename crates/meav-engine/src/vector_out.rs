//! Where a vector may be written.

use std::fs;
use std::path::{Path, PathBuf};

use meav_protocol::ExportTarget;

use crate::error::EngineError;
use crate::workspace::free_path;

/// What a vector file must end in to be read again.
const ENDING: &str = "safetensors";

/// The file of `out`, before any work is done for it: one that can be read again, and none of those
/// that it is made from. `inputs` are files, and folders of files.
///
/// # Errors
///
/// [`EngineError::IsFolder`], [`EngineError::VectorEnding`], [`EngineError::OutputIsInput`] or
/// [`EngineError::WouldReplace`].
pub(crate) fn vector_out<'a>(
    out: &'a ExportTarget,
    inputs: &[PathBuf],
) -> Result<&'a Path, EngineError> {
    let path = || out.path.clone();
    if out.path.is_dir() {
        return Err(EngineError::IsFolder { path: path() });
    }
    if out.path.extension().is_none_or(|extension| extension != ENDING) {
        return Err(EngineError::VectorEnding { path: path() });
    }
    if let Some(input) = inputs.iter().find(|input| is_part(&out.path, input)) {
        return Err(EngineError::OutputIsInput { path: path(), input: input.clone() });
    }
    free_path(out)
}

/// Refuses two results of the same name.
///
/// # Errors
///
/// [`EngineError::SameOutput`].
pub(crate) fn refuse_same_out(a: &Path, b: &Path) -> Result<(), EngineError> {
    if place(a) == place(b) {
        return Err(EngineError::SameOutput { path: b.to_owned() });
    }
    Ok(())
}

/// Whether a file is an input, or one of the files in it.
fn is_part(path: &Path, input: &Path) -> bool {
    let Ok(target) = path.canonicalize() else { return false };
    let is_target = |file: &Path| file.canonicalize().is_ok_and(|file| file == target);
    match fs::read_dir(input) {
        Ok(entries) => entries.filter_map(Result::ok).any(|entry| is_target(&entry.path())),
        Err(_) => is_target(input),
    }
}

/// What names the same place however it is written, also before there is something.
fn place(path: &Path) -> PathBuf {
    let there = || {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new(".")).canonicalize().ok()?;
        Some(folder.join(path.file_name()?))
    };
    path.canonicalize().ok().or_else(there).unwrap_or_else(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(path: &Path, replace: bool, inputs: &[&Path]) -> Result<(), EngineError> {
        let inputs: Vec<PathBuf> = inputs.iter().map(|input| (*input).to_owned()).collect();
        vector_out(&ExportTarget { path: path.to_owned(), replace }, &inputs).map(|_| ())
    }

    #[test]
    fn only_files_that_can_be_read_again_are_written() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("medical.safetensors");
        assert!(checked(&file, false, &[]).is_ok());
        for name in ["medical", "medical.bin", "medical.SAFETENSORS"] {
            let err = checked(&folder.path().join(name), true, &[]).unwrap_err();
            assert!(matches!(err, EngineError::VectorEnding { .. }), "{name}: {err:?}");
        }
        fs::create_dir(&file).unwrap();
        let err = checked(&file, true, &[]).unwrap_err();
        assert!(matches!(err, EngineError::IsFolder { .. }), "{err:?}");
    }

    #[test]
    fn nothing_is_written_over_what_it_is_made_from() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("model");
        fs::create_dir(&model).unwrap();
        let (weights, link) =
            (model.join("model.safetensors"), folder.path().join("a.safetensors"));
        fs::write(&weights, "").unwrap();
        std::os::unix::fs::symlink(&weights, &link).unwrap();
        let roundabout = model.join("../model/model.safetensors");
        for (out, input) in [(&roundabout, &weights), (&weights, &model), (&link, &model)] {
            let err = checked(out, true, &[input]).unwrap_err();
            assert!(matches!(err, EngineError::OutputIsInput { .. }), "{out:?}: {err:?}");
        }
        let beside = model.join("vector.safetensors");
        assert!(checked(&beside, false, &[&model]).is_ok());
        fs::write(&beside, "").unwrap();
        let err = checked(&beside, false, &[&weights]).unwrap_err();
        assert!(matches!(err, EngineError::WouldReplace { .. }), "{err:?}");
    }

    #[test]
    fn two_results_need_two_names() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("own.safetensors");
        let same = folder.path().join(".").join("own.safetensors");
        let err = refuse_same_out(&own, &same).unwrap_err();
        assert!(matches!(err, EngineError::SameOutput { .. }), "{err:?}");
        assert!(refuse_same_out(&own, &own.with_file_name("shared.safetensors")).is_ok());
    }
}
