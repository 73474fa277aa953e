use std::fs::File;
use std::io::{BufReader, Read as _, Write as _};
use std::path::Path;

use meav_job::JobCtx;
use serde_json::{Map, Value};

use crate::{Checkpoint, CheckpointFormat, WeightsError, write_file_atomically};

/// Bytes that are copied between two looks at the job.
const CHUNK: usize = 8 << 20;

/// Sets one entry of a safetensors file's metadata; its tensors stay as they are, bit for bit.
///
/// # Errors
///
/// [`WeightsError::UnknownFormat`] for what is no single safetensors file, other [`WeightsError`]s
/// for one that is damaged or can't be written; [`WeightsError::Cancelled`] between two pieces.
/// Then the file is what it was.
pub fn set_metadata(
    path: &Path,
    key: &str,
    value: &str,
    job: &JobCtx<'_>,
) -> Result<(), WeightsError> {
    let is_whole =
        path.is_file() && Checkpoint::open(path)?.format() == CheckpointFormat::Safetensors;
    if !is_whole {
        return Err(WeightsError::UnknownFormat { path: path.to_owned() });
    }
    let file = File::open(path).map_err(WeightsError::read(path))?;
    let size = file.metadata().map_err(WeightsError::read(path))?.len();
    let mut reader = BufReader::new(file);
    let mut prefix = [0; 8];
    reader.read_exact(&mut prefix).map_err(WeightsError::read(path))?;
    let header_len = u64::from_le_bytes(prefix).min(size);
    let mut header = vec![0; header_len as usize];
    reader.read_exact(&mut header).map_err(WeightsError::read(path))?;
    let header = with_entry(&header, key, value)
        .ok_or_else(|| WeightsError::UnknownFormat { path: path.to_owned() })?;
    let data_len = size.saturating_sub(8 + header_len);
    write_file_atomically(path, |out| {
        let failed = WeightsError::write(path);
        let len = (header.len() as u64).to_le_bytes();
        out.write_all(&len).and_then(|()| out.write_all(&header)).map_err(failed)?;
        let mut chunk = vec![0; CHUNK];
        let mut done = 0;
        loop {
            job.tick(done, data_len as usize)?;
            let n = reader.read(&mut chunk).map_err(WeightsError::read(path))?;
            if n == 0 {
                return Ok(());
            }
            out.write_all(&chunk[..n]).map_err(WeightsError::write(path))?;
            done += n;
        }
    })
}

/// The header with one more entry, as long as a multiple of 8: tensors are to stay aligned.
fn with_entry(header: &[u8], key: &str, value: &str) -> Option<Vec<u8>> {
    let mut header: Map<String, Value> = serde_json::from_slice(header).ok()?;
    let metadata = header.entry("__metadata__").or_insert_with(|| Value::Object(Map::new()));
    metadata.as_object_mut()?.insert(key.to_owned(), Value::String(value.to_owned()));
    let mut bytes = serde_json::to_vec(&header).ok()?;
    bytes.resize(bytes.len().next_multiple_of(8), b' ');
    Some(bytes)
}
