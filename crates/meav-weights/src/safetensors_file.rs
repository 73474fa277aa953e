use std::collections::{BTreeMap, BTreeSet};
use std::io::{Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use safetensors::SafeTensors;
use safetensors::tensor::{Metadata, TensorInfo as HeaderEntry};

use crate::atomic::write_all;
use crate::mapped_file::MappedFile;
use crate::{Dtype, IntegerDtype, IntegerTensor, MalformedReason, Weight, WeightsError};

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

/// The format's own limit. In memory a header takes several times its room in the file.
const MAX_HEADER: u64 = 100_000_000;

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
    // Before anything of it is read.
    if bytes.first_chunk().is_some_and(|prefix| u64::from_le_bytes(*prefix) > MAX_HEADER) {
        return Err(MalformedReason::Safetensors(E::HeaderTooLarge));
    }
    // Asked next, since the library adds up an end beyond all integers without a check.
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

    pub(crate) fn load_integers(&self, name: &str) -> Result<IntegerTensor, WeightsError> {
        let dtype = IntegerDtype::from_safetensors(self.dtype).ok_or_else(|| {
            WeightsError::NotIntegers {
                name: name.to_owned(),
                dtype: format!("{:?}", self.dtype),
                path: self.file.path.clone(),
            }
        })?;
        Ok(IntegerTensor::read(&self.file, self.range.clone(), dtype, self.shape.clone()))
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
        size_bytes(self.dtype.size_bytes(), &self.shape)
    }
}

fn size_bytes(element: usize, shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(element, |size, dim| size.checked_mul(*dim))
}

/// What a tensor's elements are in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredDtype {
    /// Weights.
    Float(Dtype),
    /// Unsigned whole numbers.
    Integer(IntegerDtype),
}

/// As [`TensorSpec`], of weights or whole numbers.
#[derive(Clone, Debug)]
pub struct StoredSpec {
    /// Its name in the file.
    pub name: String,
    /// Its element type.
    pub dtype: StoredDtype,
    /// Its dimensions, outermost first.
    pub shape: Vec<usize>,
}

impl StoredDtype {
    /// Bytes per element.
    pub const fn size_bytes(self) -> usize {
        match self {
            Self::Float(dtype) => dtype.size_bytes(),
            Self::Integer(dtype) => dtype.size_bytes(),
        }
    }

    const fn to_safetensors(self) -> safetensors::Dtype {
        match self {
            Self::Float(dtype) => dtype.to_safetensors(),
            Self::Integer(dtype) => dtype.to_safetensors(),
        }
    }
}

impl StoredSpec {
    /// As [`TensorSpec::size_bytes`].
    fn checked_size_bytes(&self) -> Option<usize> {
        size_bytes(self.dtype.size_bytes(), &self.shape)
    }

    /// Fits into an integer, as the header's entries were checked to do.
    fn size_bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.size_bytes()
    }
}

impl From<TensorSpec> for StoredSpec {
    fn from(TensorSpec { name, dtype, shape }: TensorSpec) -> Self {
        Self { name, dtype: StoredDtype::Float(dtype), shape }
    }
}

/// Tensors one behind the other.
fn header_entries(tensors: &[StoredSpec]) -> Result<Vec<(String, HeaderEntry)>, MalformedReason> {
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
            let size = tensor.checked_size_bytes();
            end = size.and_then(|size| start.checked_add(size)).ok_or_else(|| {
                let shape = tensor.shape.clone();
                MalformedReason::Shape { name: name.clone(), shape }
            })?;
            let (dtype, shape) = (tensor.dtype.to_safetensors(), tensor.shape.clone());
            Ok((name, HeaderEntry { dtype, shape, data_offsets: (start, end) }))
        })
        .collect()
}

/// The header without padding.
fn header_bytes(
    tensors: &[StoredSpec],
    metadata: BTreeMap<String, String>,
) -> Result<Vec<u8>, MalformedReason> {
    let metadata = (!metadata.is_empty()).then(|| metadata.into_iter().collect());
    Metadata::new(metadata, header_entries(tensors)?)
        .and_then(|header| Ok(serde_json::to_vec(&header)?))
        .map_err(MalformedReason::Safetensors)
}

/// Writes a safetensors file one tensor at a time, so that no more than one is in memory.
#[derive(Debug)]
pub struct SafetensorsWriter<W> {
    file: W,
    path: PathBuf,
    header_len: usize,
    tensors: Vec<StoredSpec>,
    pending: std::vec::IntoIter<StoredSpec>,
    /// The tensor of which some bytes have come, and how many.
    begun: Option<(StoredSpec, usize)>,
}

impl<W: Write> SafetensorsWriter<W> {
    /// Writes the header for `tensors`, whose values must follow in the same order.
    ///
    /// # Errors
    ///
    /// [`WeightsError::Write`]; [`WeightsError::Malformed`] if two tensors share a name or the
    /// size of all together overflows.
    pub fn new(
        file: W,
        path: &Path,
        tensors: Vec<TensorSpec>,
        metadata: BTreeMap<String, String>,
    ) -> Result<Self, WeightsError> {
        let tensors = tensors.into_iter().map(StoredSpec::from).collect();
        Self::with_integers(file, path, tensors, metadata)
    }

    /// As [`SafetensorsWriter::new`], where some tensors hold whole numbers.
    ///
    /// # Errors
    ///
    /// As [`SafetensorsWriter::new`].
    pub fn with_integers(
        mut file: W,
        path: &Path,
        tensors: Vec<StoredSpec>,
        metadata: BTreeMap<String, String>,
    ) -> Result<Self, WeightsError> {
        let mut header = header_bytes(&tensors, metadata).map_err(|err| err.at(path))?;
        header.resize(header.len().next_multiple_of(LENGTH_PREFIX), b' ');
        write_all(&mut file, &(header.len() as u64).to_le_bytes(), path)?;
        write_all(&mut file, &header, path)?;
        let pending = tensors.clone().into_iter();
        Ok(Self {
            file,
            path: path.to_owned(),
            header_len: header.len(),
            tensors,
            pending,
            begun: None,
        })
    }

    /// Writes the values of the next tensor.
    ///
    /// # Errors
    ///
    /// [`WeightsError::WrongSize`] if it is not the one announced; [`WeightsError::Write`].
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), WeightsError> {
        let expected = match (&self.begun, self.pending.as_slice().first()) {
            (Some((spec, _)), _) | (None, Some(spec)) => spec.size_bytes(),
            (None, None) => 0,
        };
        if self.begun.is_some() || bytes.len() != expected {
            return Err(WeightsError::wrong_size(self.name(), expected, bytes.len()));
        }
        self.push_part(bytes)
    }

    /// Writes the next values of the tensor at hand; the one after it begins when it is full.
    ///
    /// # Errors
    ///
    /// [`WeightsError::WrongSize`] if they are more than it has left; [`WeightsError::Write`].
    pub fn push_part(&mut self, bytes: &[u8]) -> Result<(), WeightsError> {
        let begun = self.begun.take().or_else(|| Some((self.pending.next()?, 0)));
        let Some((spec, written)) = begun else {
            return Err(WeightsError::wrong_size("(none)", 0, bytes.len()));
        };
        let (expected, written) = (spec.size_bytes(), written + bytes.len());
        if written > expected {
            return Err(WeightsError::wrong_size(&spec.name, expected, written));
        }
        self.begun = (written < expected).then_some((spec, written));
        write_all(&mut self.file, bytes, &self.path)
    }

    /// The tensor that the next bytes belong to.
    fn name(&self) -> &str {
        let begun = self.begun.as_ref().map(|(spec, _)| spec);
        begun.or_else(|| self.pending.as_slice().first()).map_or("(none)", |spec| &spec.name)
    }

    /// Ends the file.
    ///
    /// # Errors
    ///
    /// [`WeightsError::MissingTensor`] if announced values never came,
    /// [`WeightsError::WrongSize`] if those of the last tensor came in part;
    /// [`WeightsError::Write`].
    pub fn finish(mut self) -> Result<(), WeightsError> {
        if let Some((spec, written)) = self.begun {
            return Err(WeightsError::wrong_size(&spec.name, spec.size_bytes(), written));
        }
        match self.pending.next() {
            Some(spec) => Err(WeightsError::MissingTensor { name: spec.name, path: self.path }),
            None => self.file.flush().map_err(WeightsError::write(&self.path)),
        }
    }
}

impl<W: Write + Seek> SafetensorsWriter<W> {
    /// Ends the file with other metadata than it was begun with: what is known only now.
    ///
    /// # Errors
    ///
    /// As [`SafetensorsWriter::finish`]; [`WeightsError::WrongSize`] if the header is longer now.
    pub fn finish_with(mut self, metadata: BTreeMap<String, String>) -> Result<(), WeightsError> {
        let mut header = header_bytes(&self.tensors, metadata).map_err(|err| err.at(&self.path))?;
        if header.len() > self.header_len {
            return Err(WeightsError::wrong_size("(header)", self.header_len, header.len()));
        }
        header.resize(self.header_len, b' ');
        let start = SeekFrom::Start(LENGTH_PREFIX as u64);
        self.file.seek(start).map_err(WeightsError::write(&self.path))?;
        write_all(&mut self.file, &header, &self.path)?;
        self.file.seek(SeekFrom::End(0)).map_err(WeightsError::write(&self.path))?;
        self.finish()
    }
}
