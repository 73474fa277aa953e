use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use meav_job::JobCtx;

use super::BYTE_ORDER_MARK;
use crate::DataError;

/// The bytes of a file, a piece at a time.
pub(super) struct Source<'a> {
    reader: BufReader<File>,
    path: &'a Path,
    job: &'a JobCtx<'a>,
    position: usize,
    size: u64,
}

impl<'a> Source<'a> {
    /// Begins behind a byte order mark.
    pub(super) fn new(
        file: File,
        size: u64,
        path: &'a Path,
        job: &'a JobCtx<'a>,
    ) -> Result<Self, DataError> {
        let reader = BufReader::with_capacity(1 << 16, file);
        let mut source = Self { reader, path, job, position: 0, size };
        if source.fill()?.starts_with(BYTE_ORDER_MARK) {
            source.consume(BYTE_ORDER_MARK.len());
        }
        Ok(source)
    }

    /// The bytes that come next; none at the end of the file.
    pub(super) fn fill(&mut self) -> Result<&[u8], DataError> {
        self.job.tick(self.position, self.size as usize)?;
        let path = self.path;
        self.reader.fill_buf().map_err(|source| DataError::Read { path: path.to_owned(), source })
    }

    /// Passes over bytes that [`Self::fill`] has given.
    pub(super) fn consume(&mut self, len: usize) {
        self.position += len;
        self.reader.consume(len);
    }
}
