use std::path::Path;

use crate::error::EngineError;

/// Refuses to begin a file that the disk has no room for.
///
/// # Errors
///
/// [`EngineError::DiskFull`] for `out`; none where the system does not tell.
pub(crate) fn check_disk(out: &Path, needed: u64) -> Result<(), EngineError> {
    let disk = out.ancestors().find_map(|folder| {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        rustix::fs::statvfs(folder).ok()
    });
    let Some(disk) = disk else { return Ok(()) };
    let available = disk.f_bavail * disk.f_frsize;
    if needed > available {
        return Err(EngineError::DiskFull { path: out.to_owned(), needed, available });
    }
    Ok(())
}
