use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

pub use candle_core::quantized::gguf_file::Value as GgufValue;

mod convention;
mod entry;
mod family;
mod header;
mod stored_type;
mod writer;

pub(crate) use entry::GgufEntry;
pub use family::{GgufFamily, GgufHeads};
pub use header::GgufHeaderError;
pub use writer::{GgufTensor, GgufType, GgufWriter};

use crate::mapped_file::MappedFile;
use crate::{MalformedReason, WeightsError};
use header::{Header, HeaderTensor};
use stored_type::StoredType;

/// A mapped GGUF file whose header has been checked against its size.
#[derive(Debug)]
pub struct GgufFile {
    file: Arc<MappedFile>,
    metadata: BTreeMap<String, GgufValue>,
    family: GgufFamily,
}

impl GgufFile {
    pub(crate) fn open(
        path: &Path,
    ) -> Result<(Arc<Self>, BTreeMap<String, GgufEntry>), WeightsError> {
        let file = Arc::new(MappedFile::open(path)?);
        let header = Header::read(file.bytes()).map_err(|err| err.at(path))?;
        refuse_split(&header.metadata, path)?;
        let family = family(&header.metadata, path)?;
        let this = Arc::new(Self { file, metadata: header.metadata, family });
        let heads = this.heads()?;
        let mut entries = BTreeMap::new();
        for (gguf_name, tensor) in header.tensors {
            let name = family
                .hugging_face_name(&gguf_name)
                .ok_or(MalformedReason::GgufTensor { name: gguf_name })
                .map_err(|err| err.at(path))?;
            let entry = this.entry(&name, &tensor, header.data_start, heads)?;
            entries.insert(name, entry);
        }
        refuse_overlaps(&entries).map_err(|err| err.at(path))?;
        Ok((this, entries))
    }

    fn entry(
        &self,
        name: &str,
        tensor: &HeaderTensor,
        data_start: u64,
        heads: GgufHeads,
    ) -> Result<GgufEntry, WeightsError> {
        let path = &self.file.path;
        let stored = StoredType::from_id(tensor.type_id).map_err(|dtype| {
            let (name, path) = (name.to_owned(), path.clone());
            WeightsError::UnsupportedGgufType { name, dtype, path }
        })?;
        let (shape, size_bytes) = checked_size(&tensor.shape, stored).ok_or_else(|| {
            let shape = tensor.shape.iter().map(|dim| *dim as usize).collect();
            MalformedReason::Shape { name: name.to_owned(), shape }.at(path)
        })?;
        let start = data_start.saturating_add(tensor.offset);
        let needed = start.saturating_add(size_bytes as u64);
        let size = self.file.bytes().len() as u64;
        if needed > size {
            let what = format!("tensor {name:?}");
            return Err(MalformedReason::CutShort { what, needed, size }.at(path));
        }
        // Blocks are read in place, which begin with a number of up to this size.
        if !start.is_multiple_of(size_of::<f32>() as u64) {
            return Err(MalformedReason::Misaligned { name: name.to_owned(), start }.at(path));
        }
        let convention = self.family.convention(name, &shape, heads).ok_or_else(|| {
            MalformedReason::Shape { name: name.to_owned(), shape: shape.clone() }.at(path)
        })?;
        let range = start as usize..start as usize + size_bytes;
        let entry = GgufEntry { file: Arc::clone(&self.file), range, stored, shape, convention };
        Ok(entry)
    }

    /// Both zero where no tensor depends on them.
    fn heads(&self) -> Result<GgufHeads, WeightsError> {
        if !self.family.has_interleaved_heads() {
            return Ok(GgufHeads { query: 0, key: 0 });
        }
        let query = self.usize(&self.key("attention.head_count"))?;
        // Without a number of its own, each query head has keys to itself.
        let key = self.key("attention.head_count_kv");
        let key = if self.get(&key).is_some() { self.usize(&key)? } else { query };
        Ok(GgufHeads { query, key })
    }

    /// Which architecture the tensors belong to.
    pub fn family(&self) -> GgufFamily {
        self.family
    }

    /// A key of the architecture's own, e.g. `llama.block_count` for `block_count`.
    pub fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.family.architecture())
    }

    /// All metadata, in the order of keys.
    pub fn metadata(&self) -> impl Iterator<Item = (&str, &GgufValue)> {
        self.metadata.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// A metadata value, if it is there.
    pub fn get(&self, key: &str) -> Option<&GgufValue> {
        self.metadata.get(key)
    }

    /// A text value.
    ///
    /// # Errors
    ///
    /// [`WeightsError::Malformed`] if it is missing or no text.
    pub fn str(&self, key: &str) -> Result<&str, WeightsError> {
        self.typed(key, as_str)
    }

    /// An integer of any width that is not negative.
    ///
    /// # Errors
    ///
    /// [`WeightsError::Malformed`] if it is missing or no such number.
    pub fn usize(&self, key: &str) -> Result<usize, WeightsError> {
        self.typed(key, as_usize)
    }

    /// A floating point number.
    ///
    /// # Errors
    ///
    /// [`WeightsError::Malformed`] if it is missing or no such number.
    pub fn f32(&self, key: &str) -> Result<f32, WeightsError> {
        self.typed(key, |value| match value {
            GgufValue::F32(number) => Some(*number),
            _ => None,
        })
    }

    /// A truth value.
    ///
    /// # Errors
    ///
    /// [`WeightsError::Malformed`] if it is missing or none.
    pub fn bool(&self, key: &str) -> Result<bool, WeightsError> {
        self.typed(key, |value| match value {
            GgufValue::Bool(value) => Some(*value),
            _ => None,
        })
    }

    /// A list.
    ///
    /// # Errors
    ///
    /// [`WeightsError::Malformed`] if it is missing or no list.
    pub fn array(&self, key: &str) -> Result<&[GgufValue], WeightsError> {
        self.typed(key, |value| match value {
            GgufValue::Array(values) => Some(values.as_slice()),
            _ => None,
        })
    }

    // Errors of candle's own conversions print the value, which may be a whole vocabulary.
    fn typed<'a, T>(
        &'a self,
        key: &str,
        get: impl FnOnce(&'a GgufValue) -> Option<T>,
    ) -> Result<T, WeightsError> {
        self.get(key)
            .and_then(get)
            .ok_or_else(|| MalformedReason::GgufKey { key: key.to_owned() }.at(&self.file.path))
    }
}

fn as_usize(value: &GgufValue) -> Option<usize> {
    match value {
        GgufValue::U8(n) => Some(usize::from(*n)),
        GgufValue::U16(n) => Some(usize::from(*n)),
        GgufValue::U32(n) => usize::try_from(*n).ok(),
        GgufValue::U64(n) => usize::try_from(*n).ok(),
        GgufValue::I8(n) => usize::try_from(*n).ok(),
        GgufValue::I16(n) => usize::try_from(*n).ok(),
        GgufValue::I32(n) => usize::try_from(*n).ok(),
        GgufValue::I64(n) => usize::try_from(*n).ok(),
        _ => None,
    }
}

fn as_str(value: &GgufValue) -> Option<&str> {
    match value {
        GgufValue::String(text) => Some(text),
        _ => None,
    }
}

/// What looks like a whole model may lack most of its layers, or all of its metadata.
fn refuse_split(metadata: &BTreeMap<String, GgufValue>, path: &Path) -> Result<(), WeightsError> {
    match metadata.get("split.count").and_then(as_usize) {
        Some(parts) if parts > 1 => Err(WeightsError::SplitGguf { parts, path: path.to_owned() }),
        _ => Ok(()),
    }
}

fn family(metadata: &BTreeMap<String, GgufValue>, path: &Path) -> Result<GgufFamily, WeightsError> {
    const KEY: &str = "general.architecture";
    let architecture = metadata
        .get(KEY)
        .and_then(as_str)
        .ok_or_else(|| MalformedReason::GgufKey { key: KEY.to_owned() }.at(path))?;
    GgufFamily::from_architecture(architecture).ok_or_else(|| {
        WeightsError::UnsupportedArchitecture {
            architecture: architecture.to_owned(),
            path: path.to_owned(),
        }
    })
}

/// The shape in memory and the size in the file; `None` for what no tensor can have.
fn checked_size(shape: &[u64], stored: StoredType) -> Option<(Vec<usize>, usize)> {
    let shape: Vec<usize> =
        shape.iter().map(|dim| usize::try_from(*dim).ok()).collect::<Option<_>>()?;
    let row_len = shape.last().copied().unwrap_or(1);
    let len = shape.iter().try_fold(1_usize, |len, dim| len.checked_mul(*dim))?;
    if len == 0 || !row_len.is_multiple_of(stored.block_len()) {
        return None;
    }
    let size_bytes = (len / stored.block_len()).checked_mul(stored.block_bytes())?;
    Some((shape, size_bytes))
}

/// Tensors that share bytes would make a small file fill the memory.
fn refuse_overlaps(entries: &BTreeMap<String, GgufEntry>) -> Result<(), MalformedReason> {
    let mut ranges: Vec<_> = entries.iter().map(|(name, entry)| (&entry.range, name)).collect();
    ranges.sort_unstable_by_key(|(range, _)| range.start);
    for pair in ranges.windows(2) {
        let [(before, _), (after, name)] = pair else { continue };
        if after.start < before.end {
            return Err(MalformedReason::Overlap { name: (*name).clone() });
        }
    }
    Ok(())
}
