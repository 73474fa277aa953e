use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use half::slice::HalfFloatSliceExt as _;
use half::{bf16, f16};
use rayon::prelude::*;

use super::convention::Convention;
use super::entry::{group_len, inner_len};
use super::header::ALIGNMENT;
use super::{GgufFamily, GgufHeads, GgufValue};
use crate::atomic::write_all;
use crate::{MalformedReason, Values, Weight, WeightsError};

/// How a GGUF that is written stores its matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GgufType {
    /// Single precision.
    F32,
    /// Half precision.
    F16,
    /// Brain floating point.
    Bf16,
    /// Blocks of 32 values in 8 bits each with a common scale in half precision.
    Q8_0,
}

impl GgufType {
    /// ggml's number of the type.
    const fn id(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Bf16 => 30,
            Self::Q8_0 => 8,
        }
    }

    /// The value of `general.file_type` for a file of mostly this type.
    pub const fn file_type(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Bf16 => 32,
            Self::Q8_0 => 7,
        }
    }

    /// Elements in a block, and its bytes.
    const fn block(self) -> (usize, usize) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::Bf16 => (1, 2),
            Self::Q8_0 => (32, 34),
        }
    }

    /// What llama.cpp takes instead for tensors that can't be stored so: norms and biases stay
    /// as they are, rows that are no whole number of blocks become half precision.
    fn for_shape(self, shape: &[usize]) -> Self {
        let row_len = shape.last().copied().unwrap_or(1);
        match self {
            _ if shape.len() < 2 => Self::F32,
            Self::Q8_0 if !row_len.is_multiple_of(self.block().0) => Self::F16,
            other => other,
        }
    }

    /// `values` are whole blocks, `to` has room for exactly those.
    fn encode(self, values: &[f32], to: &mut [u8]) -> candle_core::Result<()> {
        match self {
            Self::F32 => to.copy_from_slice(bytemuck::cast_slice(values)),
            Self::F16 => {
                let mut halves = vec![f16::ZERO; values.len()];
                halves.convert_from_f32_slice(values);
                to.copy_from_slice(bytemuck::cast_slice(&halves));
            }
            Self::Bf16 => {
                let mut halves = vec![bf16::ZERO; values.len()];
                halves.convert_from_f32_slice(values);
                to.copy_from_slice(bytemuck::cast_slice(&halves));
            }
            Self::Q8_0 => {
                let tensor = Tensor::from_slice(values, values.len(), &Device::Cpu)?;
                to.copy_from_slice(&QTensor::quantize(&tensor, GgmlDType::Q8_0)?.data()?);
            }
        }
        Ok(())
    }
}

/// A tensor that will be written to a GGUF, and how Hugging Face's values become those of
/// llama.cpp.
#[derive(Clone, Debug)]
pub struct GgufTensor {
    name: String,
    kind: GgufType,
    shape: Vec<usize>,
    convention: Convention,
}

impl GgufFamily {
    /// Describes the tensor of a Hugging Face name for a file of mostly `wanted`.
    ///
    /// # Errors
    ///
    /// [`WeightsError::NotInGguf`] for a tensor that the family does not have, or whose rows don't
    /// divide by the heads.
    pub fn tensor(
        self,
        hugging_face_name: &str,
        shape: &[usize],
        heads: GgufHeads,
        wanted: GgufType,
    ) -> Result<GgufTensor, WeightsError> {
        let tensor = || {
            Some(GgufTensor {
                name: self.gguf_name(hugging_face_name)?,
                kind: wanted.for_shape(shape),
                shape: shape.to_vec(),
                convention: self.convention(hugging_face_name, shape, heads)?,
            })
        };
        tensor().ok_or_else(|| WeightsError::NotInGguf {
            name: hugging_face_name.to_owned(),
            architecture: self.architecture().to_owned(),
        })
    }
}

impl GgufTensor {
    /// llama.cpp's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How the values are stored.
    pub fn kind(&self) -> GgufType {
        self.kind
    }

    /// The dimensions, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Bytes in the file, without padding; `None` where no integer holds them.
    pub fn size_bytes(&self) -> Option<usize> {
        let (block_len, block_bytes) = self.kind.block();
        let len = self.shape.iter().try_fold(1_usize, |len, dim| len.checked_mul(*dim))?;
        (len / block_len).checked_mul(block_bytes)
    }

    /// The bytes of Hugging Face's values, in parallel over groups of rows; needs no memory but
    /// that of the result.
    ///
    /// # Errors
    ///
    /// [`WeightsError::WrongSize`] if `weight` has another shape.
    pub fn encode(&self, weight: &Weight) -> Result<Vec<u8>, WeightsError> {
        let (block_len, block_bytes) = self.kind.block();
        let wrong = || WeightsError::WrongSize {
            name: self.name.clone(),
            expected: self.size_bytes().unwrap_or(usize::MAX),
            found: weight.len() / block_len * block_bytes,
        };
        if weight.shape() != self.shape {
            return Err(wrong());
        }
        let row_len = inner_len(&self.shape);
        let group_len = group_len(&self.shape, self.convention, block_len);
        let mut bytes = vec![0; weight.len() / block_len * block_bytes];
        bytes
            .par_chunks_mut((group_len / block_len * block_bytes).max(1))
            .enumerate()
            .try_for_each(|(index, bytes)| {
                let len = bytes.len() / block_bytes * block_len;
                let mut values = widened(weight.values(), index * group_len, len);
                self.convention.apply(&mut values, row_len);
                self.kind.encode(&values, bytes)
            })
            .map_err(|_source| wrong())?;
        Ok(bytes)
    }
}

fn widened(values: Values<'_>, start: usize, len: usize) -> Vec<f32> {
    let mut out = vec![0.0; len];
    match values {
        Values::F32(values) => out.copy_from_slice(&values[start..][..len]),
        Values::F16(values) => values[start..][..len].convert_to_f32_slice(&mut out),
        Values::Bf16(values) => values[start..][..len].convert_to_f32_slice(&mut out),
    }
    out
}

/// Writes a GGUF of version 3 one tensor at a time, so that no more than one is in memory.
#[derive(Debug)]
pub struct GgufWriter<'a> {
    file: &'a mut File,
    path: PathBuf,
    pending: std::vec::IntoIter<GgufTensor>,
}

/// ggml keeps a tensor's name in 64 bytes, the last of them zero.
const MAX_NAME_BYTES: usize = 63;

impl<'a> GgufWriter<'a> {
    /// Writes the header for `tensors`, whose values must follow in the same order.
    ///
    /// # Errors
    ///
    /// [`WeightsError::Write`]; [`WeightsError::Malformed`] if a key or a tensor comes twice, a
    /// list mixes types, or a tensor's name or shape is none for a GGUF.
    pub fn new(
        file: &'a mut File,
        path: &Path,
        metadata: &[(String, GgufValue)],
        tensors: Vec<GgufTensor>,
    ) -> Result<Self, WeightsError> {
        let header = header(metadata, &tensors).map_err(|err| err.at(path))?;
        write_all(file, &header, path)?;
        Ok(Self { file, path: path.to_owned(), pending: tensors.into_iter() })
    }

    /// Writes the values of the next tensor, as [`GgufTensor::encode`] gives them.
    ///
    /// # Errors
    ///
    /// [`WeightsError::WrongSize`] if it is not the one announced; [`WeightsError::Write`].
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), WeightsError> {
        let wrong = |name: String, expected| {
            Err(WeightsError::WrongSize { name, expected, found: bytes.len() })
        };
        let Some(tensor) = self.pending.next() else { return wrong("(none)".to_owned(), 0) };
        let expected = tensor.size_bytes().unwrap_or(usize::MAX);
        if bytes.len() != expected {
            return wrong(tensor.name, expected);
        }
        write_all(self.file, bytes, &self.path)?;
        let padded = (bytes.len() as u64).next_multiple_of(ALIGNMENT) as usize;
        write_all(self.file, &vec![0; padded - bytes.len()], &self.path)
    }

    /// Ends the file.
    ///
    /// # Errors
    ///
    /// [`WeightsError::MissingTensor`] if announced values never came.
    pub fn finish(mut self) -> Result<(), WeightsError> {
        match self.pending.next() {
            Some(tensor) => Err(WeightsError::MissingTensor { name: tensor.name, path: self.path }),
            None => Ok(()),
        }
    }
}

fn header(
    metadata: &[(String, GgufValue)],
    tensors: &[GgufTensor],
) -> Result<Vec<u8>, MalformedReason> {
    let mut out = b"GGUF".to_vec();
    out.extend(3_u32.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((metadata.len() as u64).to_le_bytes());
    let mut keys = BTreeSet::new();
    for (key, value) in metadata {
        let unusable = || MalformedReason::GgufKey { key: key.clone() };
        if !keys.insert(key) {
            return Err(unusable());
        }
        put_text(&mut out, key);
        put_value(&mut out, value).ok_or_else(unusable)?;
    }
    let mut names = BTreeSet::new();
    let mut offset = 0_u64;
    for tensor in tensors {
        let name = tensor.name.clone();
        if !names.insert(&tensor.name) {
            return Err(MalformedReason::DuplicateTensor { name });
        }
        put_tensor(&mut out, tensor, offset);
        offset = tensor
            .size_bytes()
            .filter(|size| *size > 0 && tensor.shape.len() <= 4 && name.len() <= MAX_NAME_BYTES)
            .and_then(|size| offset.checked_add(size as u64)?.checked_next_multiple_of(ALIGNMENT))
            .ok_or_else(|| MalformedReason::Shape { name, shape: tensor.shape.clone() })?;
    }
    out.resize((out.len() as u64).next_multiple_of(ALIGNMENT) as usize, 0);
    Ok(out)
}

fn put_tensor(out: &mut Vec<u8>, tensor: &GgufTensor, offset: u64) {
    put_text(out, &tensor.name);
    out.extend((tensor.shape.len() as u32).to_le_bytes());
    // The innermost dimension comes first in the file.
    for dim in tensor.shape.iter().rev() {
        out.extend((*dim as u64).to_le_bytes());
    }
    out.extend(tensor.kind.id().to_le_bytes());
    out.extend(offset.to_le_bytes());
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// The type and the value; `None` for a list of mixed types or of lists.
fn put_value(out: &mut Vec<u8>, value: &GgufValue) -> Option<()> {
    const LIST: u32 = 9;
    out.extend(type_id(value).to_le_bytes());
    let GgufValue::Array(values) = value else {
        put_single(out, value);
        return Some(());
    };
    let kind = values.first().map_or(0, type_id);
    out.extend(kind.to_le_bytes());
    out.extend((values.len() as u64).to_le_bytes());
    for value in values {
        if type_id(value) != kind || kind == LIST {
            return None;
        }
        put_single(out, value);
    }
    Some(())
}

fn type_id(value: &GgufValue) -> u32 {
    match value {
        GgufValue::U8(_) => 0,
        GgufValue::I8(_) => 1,
        GgufValue::U16(_) => 2,
        GgufValue::I16(_) => 3,
        GgufValue::U32(_) => 4,
        GgufValue::I32(_) => 5,
        GgufValue::F32(_) => 6,
        GgufValue::Bool(_) => 7,
        GgufValue::String(_) => 8,
        GgufValue::Array(_) => 9,
        GgufValue::U64(_) => 10,
        GgufValue::I64(_) => 11,
        GgufValue::F64(_) => 12,
    }
}

fn put_single(out: &mut Vec<u8>, value: &GgufValue) {
    match value {
        GgufValue::U8(value) => out.push(*value),
        GgufValue::I8(value) => out.extend(value.to_le_bytes()),
        GgufValue::U16(value) => out.extend(value.to_le_bytes()),
        GgufValue::I16(value) => out.extend(value.to_le_bytes()),
        GgufValue::U32(value) => out.extend(value.to_le_bytes()),
        GgufValue::I32(value) => out.extend(value.to_le_bytes()),
        GgufValue::F32(value) => out.extend(value.to_le_bytes()),
        GgufValue::Bool(value) => out.push(u8::from(*value)),
        GgufValue::String(value) => put_text(out, value),
        GgufValue::U64(value) => out.extend(value.to_le_bytes()),
        GgufValue::I64(value) => out.extend(value.to_le_bytes()),
        GgufValue::F64(value) => out.extend(value.to_le_bytes()),
        GgufValue::Array(_) => {}
    }
}
