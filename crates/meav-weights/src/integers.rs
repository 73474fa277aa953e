use std::ops::Range;
use std::sync::Arc;

use crate::mapped_file::MappedFile;

/// A tensor of unsigned whole numbers, row-major: memory-mapped, or owned and shared between clones.
///
/// Not weights: places and bits that say where or how values are to be used.
#[derive(Clone, Debug)]
pub struct IntegerTensor {
    shape: Vec<usize>,
    storage: Storage,
}

#[derive(Clone, Debug)]
enum Storage {
    /// `range` is aligned for `dtype` and lies inside the file.
    Mapped {
        file: Arc<MappedFile>,
        range: Range<usize>,
        dtype: IntegerDtype,
    },
    U16(Arc<Vec<u16>>),
    U32(Arc<Vec<u32>>),
}

/// The types of whole numbers that a file can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntegerDtype {
    /// Below 2¹⁶.
    U16,
    /// Below 2³².
    U32,
}

/// Whole numbers as a slice of their own type.
#[derive(Clone, Copy, Debug)]
pub enum Integers<'a> {
    /// Below 2¹⁶.
    U16(&'a [u16]),
    /// Below 2³².
    U32(&'a [u32]),
}

impl IntegerDtype {
    /// Bytes per element.
    pub const fn size_bytes(self) -> usize {
        match self {
            Self::U16 => 2,
            Self::U32 => 4,
        }
    }

    pub(crate) const fn to_safetensors(self) -> safetensors::Dtype {
        match self {
            Self::U16 => safetensors::Dtype::U16,
            Self::U32 => safetensors::Dtype::U32,
        }
    }

    pub(crate) const fn from_safetensors(dtype: safetensors::Dtype) -> Option<Self> {
        match dtype {
            safetensors::Dtype::U16 => Some(Self::U16),
            safetensors::Dtype::U32 => Some(Self::U32),
            _ => None,
        }
    }
}

impl IntegerTensor {
    /// A tensor of small numbers.
    ///
    /// # Panics
    ///
    /// If `shape` does not hold as many elements as `values`.
    pub fn from_u16(shape: Vec<usize>, values: Vec<u16>) -> Self {
        assert_eq!(shape.iter().product::<usize>(), values.len(), "shape {shape:?}");
        Self { shape, storage: Storage::U16(values.into()) }
    }

    /// A tensor of larger numbers.
    ///
    /// # Panics
    ///
    /// As [`IntegerTensor::from_u16`].
    pub fn from_u32(shape: Vec<usize>, values: Vec<u32>) -> Self {
        assert_eq!(shape.iter().product::<usize>(), values.len(), "shape {shape:?}");
        Self { shape, storage: Storage::U32(values.into()) }
    }

    /// Maps the numbers, or copies them where the file has them unaligned.
    pub(crate) fn read(
        file: &Arc<MappedFile>,
        range: Range<usize>,
        dtype: IntegerDtype,
        shape: Vec<usize>,
    ) -> Self {
        let bytes = &file.bytes()[range.clone()];
        let storage = if (bytes.as_ptr() as usize).is_multiple_of(dtype.size_bytes()) {
            Storage::Mapped { file: Arc::clone(file), range, dtype }
        } else {
            match dtype {
                IntegerDtype::U16 => Storage::U16(bytemuck::pod_collect_to_vec(bytes).into()),
                IntegerDtype::U32 => Storage::U32(bytemuck::pod_collect_to_vec(bytes).into()),
            }
        };
        Self { shape, storage }
    }

    /// The dimensions, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The element type.
    pub fn dtype(&self) -> IntegerDtype {
        match &self.storage {
            Storage::Mapped { dtype, .. } => *dtype,
            Storage::U16(_) => IntegerDtype::U16,
            Storage::U32(_) => IntegerDtype::U32,
        }
    }

    /// The elements.
    pub fn values(&self) -> Integers<'_> {
        match &self.storage {
            Storage::Mapped { file, range, dtype } => {
                let bytes = &file.bytes()[range.clone()];
                match dtype {
                    IntegerDtype::U16 => Integers::U16(bytemuck::cast_slice(bytes)),
                    IntegerDtype::U32 => Integers::U32(bytemuck::cast_slice(bytes)),
                }
            }
            Storage::U16(values) => Integers::U16(values),
            Storage::U32(values) => Integers::U32(values),
        }
    }

    /// The elements as they stand in a file: little-endian.
    pub fn bytes(&self) -> &[u8] {
        match self.values() {
            Integers::U16(values) => bytemuck::cast_slice(values),
            Integers::U32(values) => bytemuck::cast_slice(values),
        }
    }
}
