use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::Mutex;

use tracing_subscriber::EnvFilter;

/// A log beyond this becomes the previous one at the next start.
const FULL_BYTES: u64 = 1 << 20;

/// The window's libraries warn of displays and locales that are merely unusual.
const USUAL: &str = "warn,egui=error,winit=error";

/// Writes warnings to `studio.log` in `folder`, or to standard error where that is impossible.
/// `MEAV_LOG` says what is logged, e.g. `info`.
pub(crate) fn start(folder: &Path) {
    let filter = EnvFilter::try_from_env("MEAV_LOG").unwrap_or_else(|_| EnvFilter::new(USUAL));
    let log = tracing_subscriber::fmt().with_env_filter(filter);
    match open(folder) {
        Ok(file) => log.with_ansi(false).with_writer(Mutex::new(file)).init(),
        Err(err) => {
            log.with_writer(io::stderr).init();
            tracing::warn!("no log in {folder:?}: {err}");
        }
    }
}

fn open(folder: &Path) -> io::Result<File> {
    fs::create_dir_all(folder)?;
    let path = folder.join("studio.log");
    if fs::metadata(&path).is_ok_and(|log| log.len() > FULL_BYTES) {
        fs::rename(&path, folder.join("studio.previous.log"))?;
    }
    OpenOptions::new().create(true).append(true).open(path)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn full_log_makes_room_and_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = open(folder.path()).unwrap();
        log.write_all(&vec![b'x'; FULL_BYTES as usize + 1]).unwrap();
        assert_eq!(open(folder.path()).unwrap().metadata().unwrap().len(), 0);
        let previous = folder.path().join("studio.previous.log");
        assert_eq!(fs::metadata(previous).unwrap().len(), FULL_BYTES + 1);
    }
}
