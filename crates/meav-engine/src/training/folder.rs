use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use meav_protocol::{RunState, TrainRun};

use crate::error::EngineError;

/// How a run was begun.
pub(crate) const CONFIG: &str = "config.json";

/// What the names of files begin with until they are whole.
const HALF_WRITTEN: &str = ".meav-";

/// Checkpoints that are kept: the newest ones.
const KEPT_CHECKPOINTS: usize = 2;

/// The folder of a run, which nobody else trains into meanwhile.
pub(crate) struct RunFolder {
    pub(crate) path: PathBuf,
    /// Locked: a run that is cut off with its engine loses the lock too.
    log: Option<File>,
}

impl RunFolder {
    /// The folder of a new run: an empty one, or one that is made; nothing is written into it yet.
    ///
    /// # Errors
    ///
    /// [`EngineError::RunFolderNotEmpty`]; [`EngineError::Write`] where it can't be made or written.
    pub(crate) fn create(path: &Path) -> Result<Self, EngineError> {
        let is_new = !path.exists();
        fs::create_dir_all(path).map_err(write_error(path))?;
        let folder = Self { path: path.to_owned(), log: None };
        if fs::read_dir(path).map_err(read_error(path))?.next().is_some() {
            return Err(EngineError::RunFolderNotEmpty { path: path.to_owned() });
        }
        let probed = folder.probe();
        if is_new {
            // Until the run has begun, there is nothing to keep.
            fs::remove_dir(path).map_err(write_error(path))?;
        }
        probed.map(|()| folder)
    }

    /// The folder of a run that goes on.
    ///
    /// # Errors
    ///
    /// [`EngineError::NoRun`]; [`EngineError::Write`] where it can't be written.
    pub(crate) fn reopen(path: &Path) -> Result<Self, EngineError> {
        let folder = Self { path: path.to_owned(), log: None };
        if !path.join(CONFIG).is_file() {
            return Err(EngineError::NoRun { path: path.to_owned() });
        }
        folder.probe()?;
        Ok(folder)
    }

    /// Whether files can be written here.
    fn probe(&self) -> Result<(), EngineError> {
        let probe = tempfile::Builder::new().prefix(HALF_WRITTEN).tempfile_in(&self.path);
        probe.map(drop).map_err(write_error(&self.path))
    }

    /// Takes the folder for this engine, and begins its log or goes on with it.
    ///
    /// # Errors
    ///
    /// [`EngineError::RunGoesOn`] if another run has it.
    pub(crate) fn take(&mut self) -> Result<(), EngineError> {
        fs::create_dir_all(self.checkpoints()).map_err(write_error(&self.path))?;
        let path = log_of(&self.path);
        let log = OpenOptions::new().create(true).append(true).open(&path);
        let log = log.map_err(write_error(&path))?;
        if matches!(log.try_lock(), Err(TryLockError::WouldBlock)) {
            return Err(EngineError::RunGoesOn { path: self.path.clone() });
        }
        self.log = Some(log);
        self.remove_half_written();
        Ok(())
    }

    /// Leaves the folder of a run that did not begin as it was.
    pub(crate) fn give_up(&mut self) {
        self.log = None;
        remove(&log_of(&self.path));
        if let Err(err) = fs::remove_dir(self.checkpoints()) {
            tracing::warn!("{} stays: {err}", self.checkpoints().display());
        }
    }

    /// What a killed engine left in the middle of writing; nobody else writes here.
    fn remove_half_written(&self) {
        for folder in [self.path.clone(), self.checkpoints()] {
            let Ok(entries) = fs::read_dir(folder) else { continue };
            for entry in entries.filter_map(Result::ok) {
                if entry.file_name().to_string_lossy().starts_with(HALF_WRITTEN) {
                    remove(&entry.path());
                }
            }
        }
    }

    /// The vector at the end.
    pub(crate) fn vector(&self) -> PathBuf {
        self.path.join("vector.safetensors")
    }

    /// The half-trained vector of a pause.
    pub(crate) fn paused(&self) -> PathBuf {
        self.path.join("paused.safetensors")
    }

    fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// Where the checkpoint of a step is.
    pub(crate) fn checkpoint(&self, step: usize) -> PathBuf {
        self.checkpoints().join(format!("step-{step:06}.safetensors"))
    }

    /// The steps of the checkpoints, the newest first.
    pub(crate) fn checkpoint_steps(&self) -> Vec<usize> {
        let Ok(entries) = fs::read_dir(self.checkpoints()) else { return Vec::new() };
        let step = |path: PathBuf| {
            let name = path.file_name()?.to_str()?;
            let step: u32 =
                name.strip_prefix("step-")?.strip_suffix(".safetensors")?.parse().ok()?;
            Some(step as usize).filter(|step| self.checkpoint(*step) == path)
        };
        let steps = entries.filter_map(|entry| step(entry.ok()?.path()));
        let mut steps: Vec<usize> = steps.collect();
        steps.sort_unstable_by(|a, b| b.cmp(a));
        steps
    }

    /// Forgets checkpoints but the newest.
    pub(crate) fn prune_checkpoints(&self) {
        for step in self.checkpoint_steps().into_iter().skip(KEPT_CHECKPOINTS) {
            remove(&self.checkpoint(step));
        }
    }

    /// Keeps a damaged checkpoint under a name that is none of a checkpoint.
    pub(crate) fn set_aside(&self, step: usize) {
        let path = self.checkpoint(step);
        if let Err(err) = fs::rename(&path, path.with_extension("damaged")) {
            tracing::warn!("{} stays: {err}", path.display());
        }
    }

    pub(crate) fn remove_paused(&self) {
        remove(&self.paused());
    }

    /// Adds a line to the log, which nothing depends on.
    pub(crate) fn log(&self, text: &str) {
        let line = format!("{:.0} {text}\n", Timestamp::now());
        if let Some(mut log) = self.log.as_ref()
            && let Err(err) = log.write_all(line.as_bytes())
        {
            tracing::warn!("the log of a run: {err}");
        }
    }
}

/// Whether a run that is kept can go on, from its newest checkpoint or from its beginning.
pub(crate) fn is_resumable(run: &TrainRun) -> bool {
    let is_free = |folder: &Path| folder.join(CONFIG).is_file() && !is_in_use(folder);
    run.state != RunState::Finished && !run.diverged && run.spec.out.as_deref().is_some_and(is_free)
}

/// Whether an engine trains into a folder, or holds a paused run that does.
pub(crate) fn is_in_use(folder: &Path) -> bool {
    let Ok(log) = File::open(log_of(folder)) else { return false };
    matches!(log.try_lock(), Err(TryLockError::WouldBlock))
}

fn log_of(folder: &Path) -> PathBuf {
    folder.join("log.txt")
}

fn remove(path: &Path) {
    match fs::remove_file(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => {
            tracing::warn!("{} stays: {err}", path.display());
        }
        _ => {}
    }
}

fn write_error(path: &Path) -> impl Fn(io::Error) -> EngineError + use<> {
    let path = path.to_owned();
    move |source| EngineError::Write { path: path.clone(), source }
}

fn read_error(path: &Path) -> impl Fn(io::Error) -> EngineError + use<> {
    let path = path.to_owned();
    move |source| EngineError::Read { path: path.clone(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_run_needs_a_folder_with_nothing_in_it() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("deep/run");
        RunFolder::create(&path).unwrap();
        assert!(!path.exists(), "it has not begun");
        fs::create_dir_all(&path).unwrap();
        RunFolder::create(&path).unwrap();
        fs::write(path.join("notes.txt"), "").unwrap();
        let err = RunFolder::create(&path).err().unwrap();
        assert!(matches!(err, EngineError::RunFolderNotEmpty { .. }), "{err:?}");
        let err = RunFolder::reopen(&path).err().unwrap();
        assert!(matches!(err, EngineError::NoRun { .. }), "{err:?}");
        fs::write(path.join(CONFIG), "{}").unwrap();
        RunFolder::reopen(&path).unwrap();
        let err = RunFolder::create(&path.join("notes.txt/run")).err().unwrap();
        assert!(matches!(err, EngineError::Write { .. }), "{err:?}");
    }

    #[test]
    fn two_runs_never_share_a_folder() {
        let home = tempfile::tempdir().unwrap();
        let mut first = RunFolder::create(home.path()).unwrap();
        assert!(!is_in_use(home.path()));
        first.take().unwrap();
        assert!(is_in_use(home.path()));
        fs::write(home.path().join(CONFIG), "{}").unwrap();
        let mut second = RunFolder::reopen(home.path()).unwrap();
        let err = second.take().unwrap_err();
        assert!(matches!(err, EngineError::RunGoesOn { .. }), "{err:?}");
        drop(first);
        second.take().unwrap();
    }

    #[test]
    fn newest_two_checkpoints_are_kept() {
        let home = tempfile::tempdir().unwrap();
        let mut folder = RunFolder::create(home.path()).unwrap();
        folder.take().unwrap();
        assert!(folder.checkpoint_steps().is_empty());
        for step in [20, 40, 1_000_000, 60] {
            fs::write(folder.checkpoint(step), "").unwrap();
        }
        // No run has written any of these.
        for name in ["18446744073709551615", "4294967296", "7", "x"] {
            let path = folder.checkpoints().join(format!("step-{name}.safetensors"));
            fs::write(path, "").unwrap();
        }
        folder.prune_checkpoints();
        assert_eq!(folder.checkpoint_steps(), [1_000_000, 60]);
        folder.set_aside(1_000_000);
        assert_eq!(folder.checkpoint_steps(), [60]);
        assert!(folder.checkpoints().join("step-1000000.damaged").is_file());
    }

    #[test]
    fn what_a_killed_engine_left_half_written_goes_once_the_folder_is_its_own() {
        let home = tempfile::tempdir().unwrap();
        let mut first = RunFolder::create(home.path()).unwrap();
        first.take().unwrap();
        fs::write(home.path().join(CONFIG), "{}").unwrap();
        let halves = [".meav-abc", "checkpoints/.meav-def"].map(|name| home.path().join(name));
        for half in &halves {
            fs::write(half, "").unwrap();
        }
        let mut second = RunFolder::reopen(home.path()).unwrap();
        second.take().unwrap_err();
        assert!(halves.iter().all(|half| half.exists()), "another engine is writing them");
        drop(first);
        second.take().unwrap();
        assert!(!halves.iter().any(|half| half.exists()));
        assert!(home.path().join(CONFIG).exists());
    }
}
