use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use super::convention::Convention;
use super::stored_type::StoredType;
use crate::mapped_file::MappedFile;
use crate::{Weight, WeightsError};

/// Where one tensor lies, and how its values become Hugging Face's.
#[derive(Debug)]
pub(crate) struct GgufEntry {
    pub(crate) file: Arc<MappedFile>,
    /// Inside the file; as many blocks of `stored` as `shape` needs, and a whole number per row.
    pub(crate) range: Range<usize>,
    pub(crate) stored: StoredType,
    pub(crate) shape: Vec<usize>,
    pub(crate) convention: Convention,
}

/// Elements that one task dequantises.
const CHUNK: usize = 1 << 16;

impl GgufEntry {
    /// Dequantises to `f32`, in parallel over groups of rows.
    pub(crate) fn load(&self, name: &str) -> Result<Weight, WeightsError> {
        let len: usize = self.shape.iter().product();
        let row_len = inner_len(&self.shape);
        let group_len = group_len(&self.shape, self.convention, self.stored.block_len());
        let group_bytes = group_len / self.stored.block_len() * self.stored.block_bytes();
        let mut values = vec![0.0; len];
        let bytes = &self.file.bytes()[self.range.clone()];
        values
            .par_chunks_mut(group_len)
            .zip(bytes.par_chunks(group_bytes))
            .try_for_each(|(values, bytes)| {
                self.stored.dequantize(bytes, values)?;
                self.convention.undo(values, row_len);
                Ok(())
            })
            .map_err(|_source: candle_core::Error| {
                WeightsError::unsupported_dtype(name, &self.stored.to_string(), &self.file.path)
            })?;
        Ok(Weight::from_f32(self.shape.clone(), values))
    }
}

/// Elements behind one index of the first dimension.
pub(crate) fn inner_len(shape: &[usize]) -> usize {
    shape.iter().skip(1).product()
}

/// Elements that one task converts: whole blocks, and whole heads where their rows change places.
pub(crate) fn group_len(shape: &[usize], convention: Convention, block_len: usize) -> usize {
    if let Some(rows) = convention.group_rows() {
        let head_len = rows * inner_len(shape);
        // The heads of a bias may be smaller than a block.
        if head_len.is_multiple_of(block_len) { head_len } else { head_len * block_len }
    } else {
        let row_len = shape.last().copied().unwrap_or(1).max(1);
        (CHUNK.div_ceil(row_len) * row_len).next_multiple_of(block_len)
    }
}
