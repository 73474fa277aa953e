use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use safetensors::SafeTensors;
use safetensors::tensor::{Metadata, TensorInfo as HeaderEntry};

use crate::atomic::write_all;
use crate::mapped_file::MappedFile;
use crate::{Dtype, MalformedReason, Weight, WeightsError};

/// A mapped safetensors file whose header has been checked against its size.
#[derive(Debug)]
pub(crate) struct SafetensorsFile {
    pub(crate) entries: BTreeMap<String, SafetensorsEntry>,
    pub(crate) metadata: BTreeMap<String, String>,
}

/// Where one tensor lies.
#[derive(Clone, Debug)]
pub(crate) struct SafetensorsEntry {
    pub(crate) file: Arc<MappedFile>,
    pub(crate) range: Range<usize>,
    pub(crate) dtype: safetensors::Dtype,
    pub(crate) shape: Vec<usize>,
}

/// Bytes before the JSON header: its length.
const LENGTH_PREFIX: usize = 8;

impl SafetensorsFile {
    pub(crate) fn open(path: &Path) -> Result<Self, WeightsError> {
        let file = Arc::new(MappedFile::open(path)?);
        let bytes = file.bytes();
        let (header_len, header) = read_header(bytes).map_err(|err| err.at(path))?;
        let data_start = LENGTH_PREFIX + header_len;
        let entries = header
            .tensors()
            .into_iter()
            .map(|(name, info)| {
                let (start, end) = info.data_offsets;
                let entry = SafetensorsEntry {
                    file: Arc::clone(&file),
                    range: data_start + start..data_start + end,
                    dtype: info.dtype,
                    shape: info.shape.clone(),
                };
                (name, entry)
            })
            .collect();
        let metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
        Ok(Self { entries, metadata })
    }
}

/// The header and its length; tells a file that was cut short from one that was never right.
fn read_header(bytes: &[u8]) -> Result<(usize, Metadata), MalformedReason> {
    use safetensors::SafeTensorError as E;
    let size = bytes.len() as u64;
    let cut_short =
        |what: &str, needed| MalformedReason::CutShort { what: what.to_owned(), needed, size };
    // Asked first, since the library adds up an end beyond all integers without a check.
    if let Some(needed) = announced_end(bytes).filter(|end| *end > size) {
        return Err(cut_short("the last tensor", needed));
    }
    SafeTensors::read_metadata(bytes).map_err(|err| match err {
        E::HeaderTooSmall => cut_short("the header length", LENGTH_PREFIX as u64),
        E::InvalidHeaderLength => {
            let len = bytes.first_chunk().map_or(0, |prefix| u64::from_le_bytes(*prefix));
            cut_short("the header", len.saturating_add(LENGTH_PREFIX as u64))
        }
        other => MalformedReason::Safetensors(other),
    })
}

/// The end of the last tensor according to the header.
fn announced_end(bytes: &[u8]) -> Option<u64> {
    let header_len = u64::from_le_bytes(*bytes.first_chunk()?);
    let header_end = header_len.checked_add(LENGTH_PREFIX as u64)?;
    let header: Metadata =
        serde_json::from_slice(bytes.get(LENGTH_PREFIX..usize::try_from(header_end).ok()?)?)
            .ok()?;
    Some(header_end.saturating_add(header.data_len() as u64))
}

impl SafetensorsEntry {
    pub(crate) fn load(&self, name: &str) -> Result<Weight, WeightsError> {
        let path = &self.file.path;
        let dtype = Dtype::from_safetensors(self.dtype).ok_or_else(|| {
            WeightsError::unsupported_dtype(name, &format!("{:?}", self.dtype), path)
        })?;
        Ok(Weight::mapped(&self.file, self.range.clone(), dtype, self.shape.clone())
            .unwrap_or_else(|| {
                let bytes = &self.file.bytes()[self.range.clone()];
                Weight::from_bytes(bytes, dtype, self.shape.clone())
            }))
    }
}

/// A tensor that will be written.
#[derive(Clone, Debug)]
pub struct TensorSpec {
    /// Its name in the file.
    pub name: String,
    /// Its element type.
    pub dtype: Dtype,
    /// Its dimensions, outermost first.
    pub shape: Vec<usize>,
}

impl TensorSpec {
    /// Bytes in the file; `None` where no integer holds them.
    pub(crate) fn size_bytes(&self) -> Option<usize> {
        let size = self.dtype.size_bytes();
        self.shape.iter().try_fold(size, |size, dim| size.checked_mul(*dim))
    }
}

/// Tensors one behind the other.
fn header_entries(tensors: &[TensorSpec]) -> Result<Vec<(String, HeaderEntry)>, MalformedReason> {
    let mut names = BTreeSet::new();
    let mut end = 0_usize;
    tensors
        .iter()
        .map(|tensor| {
            let name = tensor.name.clone();
            if !names.insert(name.clone()) {
                return Err(MalformedReason::DuplicateTensor { name });
            }
            let start = end;
            end =
                tensor.size_bytes().and_then(|size| start.checked_add(size)).ok_or_else(|| {
                    let shape = tensor.shape.clone();
                    MalformedReason::Shape { name: name.clone(), shape }
                })?;
            let (dtype, shape) = (tensor.dtype.to_safetensors(), tensor.shape.clone());
            Ok((name, HeaderEntry { dtype, shape, data_offsets: (start, end) }))
        })
        .collect()
}

/// Writes a safetensors file one tensor at a time, so that no more than one is in memory.
#[derive(Debug)]
pub struct SafetensorsWriter<W> {
    file: W,
    path: PathBuf,
    pending: std::vec::IntoIter<TensorSpec>,
}

impl<W: Write> SafetensorsWriter<W> {
    /// Writes the header for `tensors`, whose values must follow in the same order.
    ///
    /// # Errors
    ///
    /// [`WeightsError::Write`]; [`WeightsError::Malformed`] if two tensors share a name or the
    /// size of all together overflows.
    pub fn new(
        mut file: W,
        path: &Path,
        tensors: Vec<TensorSpec>,
        metadata: BTreeMap<String, String>,
    ) -> Result<Self, WeightsError> {
        let entries = header_entries(&tensors).map_err(|err| err.at(path))?;
        let metadata = (!metadata.is_empty()).then(|| metadata.into_iter().collect());
        let header = Metadata::new(metadata, entries)
            .and_then(|header| Ok(serde_json::to_vec(&header)?))
            .map_err(|err| MalformedReason::Safetensors(err).at(path))?;
        let padded_len = header.len().next_multiple_of(LENGTH_PREFIX);
        let padding = vec![b' '; padded_len - header.len()];
        write_all(&mut file, &(padded_len as u64).to_le_bytes(), path)?;
        write_all(&mut file, &header, path)?;
        write_all(&mut file, &padding, path)?;
        Ok(Self { file, path: path.to_owned(), pending: tensors.into_iter() })
    }

    /// Writes the values of the next tensor.
    ///
    /// # Errors
    ///
    /// [`WeightsError::WrongSize`] if it is not the one announced; [`WeightsError::Write`].
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), WeightsError> {
        let Some(spec) = self.pending.next() else {
            return Err(WeightsError::wrong_size("(none)", Dtype::F32, &[0], bytes.len()));
        };
        let expected = spec.shape.iter().product::<usize>() * spec.dtype.size_bytes();
        if bytes.len() != expected {
            return Err(WeightsError::wrong_size(&spec.name, spec.dtype, &spec.shape, bytes.len()));
        }
        write_all(&mut self.file, bytes, &self.path)
    }

    /// Ends the file.
    ///
    /// # Errors
    ///
    /// [`WeightsError::MissingTensor`] if announced values never came; [`WeightsError::Write`].
    pub fn finish(mut self) -> Result<(), WeightsError> {
        match self.pending.next() {
            Some(spec) => Err(WeightsError::MissingTensor { name: spec.name, path: self.path }),
            None => self.file.flush().map_err(WeightsError::write(&self.path)),
        }
    }
}
