use std::ops::Range;
use std::sync::Arc;

use half::slice::HalfFloatSliceExt as _;
use half::{bf16, f16};
use rayon::prelude::*;

use crate::Dtype;
use crate::mapped_file::MappedFile;

/// One tensor's values, row-major: memory-mapped, or owned and shared between clones.
#[derive(Clone, Debug)]
pub struct Weight {
    shape: Vec<usize>,
    storage: Storage,
}

#[derive(Clone, Debug)]
enum Storage {
    /// `range` is aligned for `dtype` and lies inside the file.
    Mapped {
        file: Arc<MappedFile>,
        range: Range<usize>,
        dtype: Dtype,
    },
    F32(Arc<Vec<f32>>),
    F16(Arc<Vec<f16>>),
    Bf16(Arc<Vec<bf16>>),
}

/// A tensor's values as a slice of their own type.
#[derive(Clone, Copy, Debug)]
pub enum Values<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// Half precision.
    F16(&'a [f16]),
    /// Brain floating point.
    Bf16(&'a [bf16]),
}

/// Elements that one task converts: large enough to hide the cost of a task, small enough to stay
/// in the second-level cache.
const CHUNK: usize = 1 << 15;

impl Weight {
    /// A tensor of single precision values.
    ///
    /// # Panics
    ///
    /// If `shape` does not hold as many elements as `values`.
    pub fn from_f32(shape: Vec<usize>, values: Vec<f32>) -> Self {
        Self::owned(shape, values.len(), Storage::F32(values.into()))
    }

    /// A tensor of half precision values; panics as [`Weight::from_f32`].
    pub fn from_f16(shape: Vec<usize>, values: Vec<f16>) -> Self {
        Self::owned(shape, values.len(), Storage::F16(values.into()))
    }

    /// A tensor of brain floating point values; panics as [`Weight::from_f32`].
    pub fn from_bf16(shape: Vec<usize>, values: Vec<bf16>) -> Self {
        Self::owned(shape, values.len(), Storage::Bf16(values.into()))
    }

    fn owned(shape: Vec<usize>, len: usize, storage: Storage) -> Self {
        assert_eq!(shape.iter().product::<usize>(), len, "shape {shape:?}");
        Self { shape, storage }
    }

    /// `None` where the bytes are not aligned for `dtype`.
    pub(crate) fn mapped(
        file: &Arc<MappedFile>,
        range: Range<usize>,
        dtype: Dtype,
        shape: Vec<usize>,
    ) -> Option<Self> {
        let address = file.bytes()[range.clone()].as_ptr() as usize;
        address.is_multiple_of(dtype.size_bytes()).then(|| Self {
            shape,
            storage: Storage::Mapped { file: Arc::clone(file), range, dtype },
        })
    }

    /// Copies little-endian bytes of any alignment.
    pub(crate) fn from_bytes(bytes: &[u8], dtype: Dtype, shape: Vec<usize>) -> Self {
        let storage = match dtype {
            Dtype::F32 => Storage::F32(bytemuck::pod_collect_to_vec(bytes).into()),
            Dtype::F16 => Storage::F16(bytemuck::pod_collect_to_vec(bytes).into()),
            Dtype::Bf16 => Storage::Bf16(bytemuck::pod_collect_to_vec(bytes).into()),
        };
        Self { shape, storage }
    }

    /// The dimensions, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Elements in a row: the last dimension, 1 for a scalar.
    pub fn row_len(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// The element type.
    pub fn dtype(&self) -> Dtype {
        match &self.storage {
            Storage::Mapped { dtype, .. } => *dtype,
            Storage::F32(_) => Dtype::F32,
            Storage::F16(_) => Dtype::F16,
            Storage::Bf16(_) => Dtype::Bf16,
        }
    }

    /// The elements.
    pub fn values(&self) -> Values<'_> {
        match &self.storage {
            Storage::Mapped { file, range, dtype } => {
                let bytes = &file.bytes()[range.clone()];
                match dtype {
                    Dtype::F32 => Values::F32(bytemuck::cast_slice(bytes)),
                    Dtype::F16 => Values::F16(bytemuck::cast_slice(bytes)),
                    Dtype::Bf16 => Values::Bf16(bytemuck::cast_slice(bytes)),
                }
            }
            Storage::F32(values) => Values::F32(values),
            Storage::F16(values) => Values::F16(values),
            Storage::Bf16(values) => Values::Bf16(values),
        }
    }

    /// The elements as they stand in a file: little-endian.
    pub fn bytes(&self) -> &[u8] {
        match self.values() {
            Values::F32(values) => bytemuck::cast_slice(values),
            Values::F16(values) => bytemuck::cast_slice(values),
            Values::Bf16(values) => bytemuck::cast_slice(values),
        }
    }

    /// The elements widened to single precision.
    pub fn to_f32_vec(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.len()];
        match self.values() {
            Values::F32(values) => out.copy_from_slice(values),
            Values::F16(values) => widen(values, &mut out, <[f16]>::convert_to_f32_slice),
            Values::Bf16(values) => widen(values, &mut out, <[bf16]>::convert_to_f32_slice),
        }
        out
    }

    /// The same tensor in another element type, rounded to nearest, ties to even; shares the
    /// values where the type is the same already.
    #[must_use]
    pub fn to_dtype(&self, dtype: Dtype) -> Self {
        if dtype == self.dtype() {
            return self.clone();
        }
        let values = self.to_f32_vec();
        let storage = match dtype {
            Dtype::F32 => Storage::F32(values.into()),
            Dtype::F16 => Storage::F16(narrow(&values, |from, to| to.convert_from_f32_slice(from))),
            Dtype::Bf16 => {
                Storage::Bf16(narrow(&values, |from, to| to.convert_from_f32_slice(from)))
            }
        };
        Self { shape: self.shape.clone(), storage }
    }
}

fn widen<T: Sync>(from: &[T], to: &mut [f32], convert: impl Fn(&[T], &mut [f32]) + Sync) {
    to.par_chunks_mut(CHUNK).zip(from.par_chunks(CHUNK)).for_each(|(to, from)| convert(from, to));
}

fn narrow<T: Default + Copy + Send>(
    from: &[f32],
    convert: impl Fn(&[f32], &mut [T]) + Sync,
) -> Arc<Vec<T>> {
    let mut to = vec![T::default(); from.len()];
    to.par_chunks_mut(CHUNK).zip(from.par_chunks(CHUNK)).for_each(|(to, from)| convert(from, to));
    to.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `value` rounded to `dtype`, as the number that comes out.
    fn check(value: f32, dtype: Dtype, expected: f32) {
        let rounded = Weight::from_f32(vec![1], vec![value]).to_dtype(dtype);
        assert_eq!(rounded.dtype(), dtype);
        assert_eq!(rounded.to_f32_vec()[0].to_bits(), expected.to_bits(), "{value} in {dtype}");
    }

    #[test]
    fn rounding_goes_to_the_nearest_and_ties_to_even() {
        // bf16 has 7 bits behind the point: steps of 1/128 from 1.
        check(1.0 + 1.0 / 256.0, Dtype::Bf16, 1.0);
        check(1.0 + 3.0 / 256.0, Dtype::Bf16, 1.0 + 2.0 / 128.0);
        check(1.0 + 1.1 / 256.0, Dtype::Bf16, 1.0 + 1.0 / 128.0);
        // f16 has 10: steps of 1/1024.
        check(1.0 + 1.0 / 2048.0, Dtype::F16, 1.0);
        check(1.0 + 3.0 / 2048.0, Dtype::F16, 1.0 + 2.0 / 1024.0);
        check(-1.0 - 1.1 / 2048.0, Dtype::F16, -1.0 - 1.0 / 1024.0);
    }

    #[test]
    fn zeros_and_infinities_keep_their_signs_and_what_is_too_large_becomes_one() {
        for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
            for value in [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY] {
                check(value, dtype, value);
            }
        }
        check(1e6, Dtype::F16, f32::INFINITY);
        check(f32::MAX, Dtype::Bf16, f32::INFINITY);
    }

    #[test]
    fn every_length_converts_alike() {
        for len in [0, 1, 7, 8, 9, CHUNK - 1, CHUNK, CHUNK + 1] {
            // Whole numbers below 128 are exact in all three types.
            let values: Vec<f32> = (0..len).map(|i| (i % 251) as f32 / 2.0).collect();
            let weight = Weight::from_f32(vec![len], values.clone());
            for dtype in [Dtype::F16, Dtype::Bf16] {
                let there = weight.to_dtype(dtype);
                assert_eq!(there.bytes().len(), 2 * len);
                assert_eq!(there.to_f32_vec(), values, "{len} in {dtype}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "shape [2, 3]")]
    fn values_that_do_not_fill_the_shape_are_a_mistake() {
        Weight::from_f32(vec![2, 3], vec![0.0; 5]);
    }
}
