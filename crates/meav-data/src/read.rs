use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _};
use std::path::Path;

use meav_job::JobCtx;
use serde_json::Value;

use crate::collector::Collector;
use crate::{DataError, Dataset, Format, readers, shapes};

/// The longest record: a line of JSONL, an element of a JSON list, a row of CSV or Parquet.
pub const MAX_RECORD_BYTES: usize = 1 << 20;

/// How much of the beginning is looked at to tell the format.
const BEGINNING: u64 = 1 << 16;

/// What to read of a file.
#[derive(Clone, Copy, Debug)]
pub struct ReadOptions {
    /// Usable records after which the rest is left; [`usize::MAX`] for all.
    pub limit: usize,
}

/// Reads and checks the records of a file; its format is told by the ending of its name, or else
/// by how it begins.
///
/// Empty lines are passed over, and so is each record with something wrong, which becomes a
/// [`Problem`](crate::Problem).
///
/// Progress is in bytes, for Parquet in rows.
///
/// # Errors
///
/// [`DataError`] where the file as a whole is unreadable, and [`DataError::NoRecords`] where every
/// record has a problem.
pub fn read(path: &Path, options: ReadOptions, job: &JobCtx<'_>) -> Result<Dataset, DataError> {
    let failed = |source| DataError::Read { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(DataError::NotAFile { path: path.to_owned() });
    }
    let format = match by_ending(path) {
        Some(format) => format,
        None => by_beginning(&mut file)
            .map_err(failed)?
            .ok_or_else(|| DataError::UnknownFormat { path: path.to_owned() })?,
    };
    let fingerprint = fingerprint(&mut file, path, job)?;
    file.rewind().map_err(failed)?;
    let mut collector = Collector::new(path, format, options);
    match format {
        Format::Jsonl => readers::jsonl(file, metadata.len(), &mut collector, job),
        Format::Json => readers::json(file, metadata.len(), &mut collector, job),
        Format::Csv => readers::csv(file, metadata.len(), &mut collector, job),
        Format::Parquet => readers::parquet(file, metadata.len(), &mut collector, job),
    }?;
    collector.finish(fingerprint)
}

fn by_ending(path: &Path) -> Option<Format> {
    match path.extension()?.to_ascii_lowercase().to_str()? {
        "jsonl" | "ndjson" => Some(Format::Jsonl),
        "json" => Some(Format::Json),
        "csv" => Some(Format::Csv),
        "parquet" => Some(Format::Parquet),
        _ => None,
    }
}

fn by_beginning(file: &mut File) -> io::Result<Option<Format>> {
    let mut bytes = Vec::new();
    file.take(BEGINNING).read_to_end(&mut bytes)?;
    file.rewind()?;
    if bytes.starts_with(b"PAR1") {
        return Ok(Some(Format::Parquet));
    }
    let text = bytes.strip_prefix(readers::BYTE_ORDER_MARK).unwrap_or(&bytes).trim_ascii_start();
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok(match text.first() {
        Some(b'[') => Some(Format::Json),
        Some(b'{') if holds_a_list(line) => Some(Format::Json),
        Some(b'{') => Some(Format::Jsonl),
        _ => str::from_utf8(line).ok().filter(|it| readers::is_header(it)).map(|_| Format::Csv),
    })
}

/// Whether a line that begins with a brace begins an object around a list rather than a record.
fn holds_a_list(line: &[u8]) -> bool {
    match serde_json::from_slice(line) {
        Ok(Value::Object(object)) => {
            !shapes::is_record(&object) && object.values().any(Value::is_array)
        }
        Ok(_) => false,
        Err(err) => err.is_eof() && (line.len() as u64) < BEGINNING / 2,
    }
}

/// `blake3:` and the digest of all that the file holds.
fn fingerprint(file: &mut File, path: &Path, job: &JobCtx<'_>) -> Result<String, DataError> {
    let failed = |source| DataError::Read { path: path.to_owned(), source };
    let mut hasher = blake3::Hasher::new();
    let mut reader = BufReader::with_capacity(1 << 20, file);
    loop {
        job.check()?;
        let bytes = reader.fill_buf().map_err(failed)?;
        if bytes.is_empty() {
            return Ok(format!("blake3:{}", hasher.finalize().to_hex()));
        }
        hasher.update(bytes);
        let len = bytes.len();
        reader.consume(len);
    }
}
