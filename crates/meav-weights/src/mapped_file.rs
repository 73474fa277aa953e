use std::fs::{self, File};
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::{MalformedReason, WeightsError};

/// A file in the address space, with the path it came from.
#[derive(Debug)]
pub(crate) struct MappedFile {
    pub(crate) path: PathBuf,
    map: Mmap,
}

impl MappedFile {
    pub(crate) fn open(path: &Path) -> Result<Self, WeightsError> {
        // Asked of the path first: opening a named pipe would wait for a writer.
        if !fs::metadata(path).map_err(WeightsError::read(path))?.is_file() {
            return Err(WeightsError::UnknownFormat { path: path.to_owned() });
        }
        let file = File::open(path).map_err(WeightsError::read(path))?;
        let metadata = file.metadata().map_err(WeightsError::read(path))?;
        if metadata.len() == 0 {
            return Err(MalformedReason::Empty.at(path));
        }
        #[expect(
            unsafe_code,
            reason = "mapping is how multi-gigabyte weights open at once; a file that another \
                      program cuts short meanwhile raises SIGBUS, which ends the engine process \
                      and leaves its client alive"
        )]
        // SAFETY: the mapping is private and read-only, and every bit pattern is a valid `u8`.
        let map = unsafe { Mmap::map(&file) }.map_err(WeightsError::read(path))?;
        Ok(Self { path: path.to_owned(), map })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.map
    }
}
