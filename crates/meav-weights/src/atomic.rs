use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::WeightsError;

/// Writes `path` by way of a temporary file beside it: afterwards there is the whole of the new
/// file, or what was there before.
///
/// # Errors
///
/// [`WeightsError::Write`] where the folder can't be written or the disk is full; whatever `write`
/// returns.
pub fn write_file_atomically<E: From<WeightsError>>(
    path: &Path,
    write: impl FnOnce(&mut File) -> Result<(), E>,
) -> Result<(), E> {
    let folder = parent(path);
    fs::create_dir_all(&folder).map_err(WeightsError::write(&folder))?;
    let mut temporary = tempfile::Builder::new()
        .prefix(".meav-")
        .permissions(plain_file_permissions())
        .tempfile_in(&folder)
        .map_err(WeightsError::write(path))?;
    write(temporary.as_file_mut())?;
    temporary.as_file().sync_all().map_err(WeightsError::write(path))?;
    temporary.persist(path).map_err(|err| WeightsError::write(path)(err.error))?;
    Ok(())
}

/// What an ordinary program would give a new file, less the user's umask, rather than the 0600 of
/// temporary files.
fn plain_file_permissions() -> fs::Permissions {
    use std::os::unix::fs::PermissionsExt as _;
    fs::Permissions::from_mode(0o666)
}

fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// A folder that appears under its name when it is complete, and not before.
///
/// Dropped without [`AtomicDir::commit`], it leaves nothing behind.
#[derive(Debug)]
pub struct AtomicDir {
    temporary: TempDir,
    target: PathBuf,
}

impl AtomicDir {
    /// Starts a folder that will be `target`.
    ///
    /// # Errors
    ///
    /// [`WeightsError::AlreadyExists`] if there is a file or a folder with contents at `target`;
    /// [`WeightsError::Write`] if nothing can be written beside it.
    pub fn create(target: &Path) -> Result<Self, WeightsError> {
        let is_empty_dir = fs::read_dir(target).is_ok_and(|mut entries| entries.next().is_none());
        if target.symlink_metadata().is_ok() && !is_empty_dir {
            return Err(WeightsError::AlreadyExists { path: target.to_owned() });
        }
        let folder = parent(target);
        fs::create_dir_all(&folder).map_err(WeightsError::write(&folder))?;
        let temporary = tempfile::Builder::new()
            .prefix(".meav-")
            .permissions(plain_dir_permissions())
            .tempdir_in(&folder)
            .map_err(WeightsError::write(target))?;
        Ok(Self { temporary, target: target.to_owned() })
    }

    /// Where to write.
    pub fn path(&self) -> &Path {
        self.temporary.path()
    }

    /// Gives the folder its name.
    ///
    /// # Errors
    ///
    /// [`WeightsError::Write`] if the name can't be given; then nothing is left.
    pub fn commit(self) -> Result<(), WeightsError> {
        fs::rename(self.temporary.path(), &self.target)
            .map_err(WeightsError::write(&self.target))?;
        // The folder has moved away: there is nothing left to remove.
        let _moved = self.temporary.keep();
        Ok(())
    }
}

fn plain_dir_permissions() -> fs::Permissions {
    use std::os::unix::fs::PermissionsExt as _;
    fs::Permissions::from_mode(0o777)
}

/// Writes all of `bytes` to `file`, naming `path` in errors.
pub(crate) fn write_all(
    file: &mut impl Write,
    bytes: &[u8],
    path: &Path,
) -> Result<(), WeightsError> {
    file.write_all(bytes).map_err(WeightsError::write(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn failed_write_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kept");
        fs::write(&path, "old").unwrap();
        let result = write_file_atomically(&path, |file| {
            write_all(file, b"half", &path)?;
            Err(WeightsError::NoWeights { path: path.clone() })
        });
        assert!(result.is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(names(folder.path()), ["kept"]);
    }

    #[test]
    fn folder_appears_when_complete_and_never_over_another() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("model");
        drop(AtomicDir::create(&target).unwrap());
        assert!(names(folder.path()).is_empty());

        let dir = AtomicDir::create(&target).unwrap();
        fs::write(dir.path().join("config.json"), "{}").unwrap();
        dir.commit().unwrap();
        assert_eq!(names(folder.path()), ["model"]);
        assert!(matches!(
            AtomicDir::create(&target),
            Err(WeightsError::AlreadyExists { path }) if path == target
        ));
    }
}
