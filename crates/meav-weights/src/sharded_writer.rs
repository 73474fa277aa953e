use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::checkpoint::{INDEX_FILE, SINGLE_FILE};
use crate::safetensors_file::TensorSpec;
use crate::{MalformedReason, SafetensorsWriter, WeightsError, write_file_atomically};

/// Bytes of tensors in a file, as transformers has it: 5 GB.
pub const DEFAULT_SHARD_BYTES: u64 = 5_000_000_000;

/// Writes a checkpoint in the Hugging Face layout one tensor at a time: `model.safetensors` where
/// everything fits into one file, otherwise shards and their index.
#[derive(Debug)]
pub struct ShardedWriter {
    folder: PathBuf,
    metadata: BTreeMap<String, String>,
    /// Those not begun yet.
    shards: VecDeque<Shard>,
    current: Option<OpenShard>,
    index: Option<serde_json::Value>,
}

/// A file and the tensors that go into it.
#[derive(Debug)]
struct Shard {
    name: String,
    tensors: Vec<TensorSpec>,
}

#[derive(Debug)]
struct OpenShard {
    path: PathBuf,
    /// A second handle of the writer's file.
    file: File,
    writer: SafetensorsWriter<File>,
    n_missing: usize,
}

impl ShardedWriter {
    /// Plans the files of `folder`, which is there already, for `tensors`, whose values must
    /// follow in the same order. No file holds more than `max_shard_bytes` of tensors, unless it
    /// holds a single larger one. `metadata` goes into each file.
    ///
    /// # Errors
    ///
    /// [`WeightsError::Malformed`] if two tensors share a name or the size of all together
    /// overflows.
    pub fn new(
        folder: &Path,
        tensors: Vec<TensorSpec>,
        metadata: BTreeMap<String, String>,
        max_shard_bytes: u64,
    ) -> Result<Self, WeightsError> {
        let (shards, index) = plan(tensors, max_shard_bytes).map_err(|err| err.at(folder))?;
        let folder = folder.to_owned();
        Ok(Self { folder, metadata, shards: shards.into(), current: None, index })
    }

    /// Writes the values of the next tensor.
    ///
    /// # Errors
    ///
    /// [`WeightsError::WrongSize`] if it is not the one announced; [`WeightsError::Write`].
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), WeightsError> {
        if self.current.as_ref().is_none_or(|shard| shard.n_missing == 0) {
            self.finish_shard()?;
            self.begin_shard()?;
        }
        let Some(shard) = &mut self.current else {
            let name = "(none)".to_owned();
            return Err(WeightsError::WrongSize { name, expected: 0, found: bytes.len() });
        };
        shard.writer.push(bytes)?;
        shard.n_missing -= 1;
        Ok(())
    }

    /// Ends the last file and writes the index, if there is one.
    ///
    /// # Errors
    ///
    /// [`WeightsError::MissingTensor`] if announced values never came; [`WeightsError::Write`].
    pub fn finish(mut self) -> Result<(), WeightsError> {
        // A model of no tensors still has a file.
        if self.current.is_none() {
            self.begin_shard()?;
        }
        self.finish_shard()?;
        if let Some(shard) = self.shards.pop_front() {
            let path = self.folder.join(shard.name);
            let name = shard.tensors.into_iter().next().map_or(String::new(), |tensor| tensor.name);
            return Err(WeightsError::MissingTensor { name, path });
        }
        let Some(index) = &self.index else { return Ok(()) };
        let path = self.folder.join(INDEX_FILE);
        write_file_atomically(&path, |file| {
            serde_json::to_writer_pretty(file, index)
                .map_err(|err| WeightsError::write(&path)(err.into()))
        })
    }

    fn begin_shard(&mut self) -> Result<(), WeightsError> {
        let Some(Shard { name, tensors }) = self.shards.pop_front() else { return Ok(()) };
        let path = self.folder.join(name);
        let file = File::create(&path).map_err(WeightsError::write(&path))?;
        let handle = file.try_clone().map_err(WeightsError::write(&path))?;
        let n_missing = tensors.len();
        let writer = SafetensorsWriter::new(handle, &path, tensors, self.metadata.clone())?;
        self.current = Some(OpenShard { path, file, writer, n_missing });
        Ok(())
    }

    fn finish_shard(&mut self) -> Result<(), WeightsError> {
        let Some(shard) = self.current.take() else { return Ok(()) };
        shard.writer.finish()?;
        shard.file.sync_all().map_err(WeightsError::write(&shard.path))
    }
}

/// The files in order, and the index where there is more than one.
fn plan(
    tensors: Vec<TensorSpec>,
    max_shard_bytes: u64,
) -> Result<(Vec<Shard>, Option<serde_json::Value>), MalformedReason> {
    let mut shards: Vec<Vec<TensorSpec>> = vec![Vec::new()];
    let mut weight_map = BTreeMap::new();
    let (mut shard_bytes, mut total_bytes) = (0_u64, 0_u64);
    for tensor in tensors {
        let (name, shape) = (tensor.name.clone(), tensor.shape.clone());
        let size = tensor.size_bytes().map(|size| size as u64);
        let totals = size.and_then(|size| Some((size, total_bytes.checked_add(size)?)));
        let Some((size, total)) = totals else {
            return Err(MalformedReason::Shape { name, shape });
        };
        total_bytes = total;
        let is_full = shard_bytes.saturating_add(size) > max_shard_bytes;
        if is_full && shards.last().is_some_and(|shard| !shard.is_empty()) {
            shards.push(Vec::new());
            shard_bytes = 0;
        }
        shard_bytes += size;
        if weight_map.insert(name.clone(), shards.len()).is_some() {
            return Err(MalformedReason::DuplicateTensor { name });
        }
        if let Some(shard) = shards.last_mut() {
            shard.push(tensor);
        }
    }
    let n_shards = shards.len();
    let file_name = |number: usize| match n_shards {
        1 => SINGLE_FILE.to_owned(),
        _ => format!("model-{number:05}-of-{n_shards:05}.safetensors"),
    };
    let index = (n_shards > 1).then(|| {
        let weight_map: BTreeMap<_, _> =
            weight_map.into_iter().map(|(name, number)| (name, file_name(number))).collect();
        json!({ "metadata": { "total_size": total_bytes }, "weight_map": weight_map })
    });
    let shards = (1..).zip(shards);
    let shards = shards.map(|(number, tensors)| Shard { name: file_name(number), tensors });
    Ok((shards.collect(), index))
}
