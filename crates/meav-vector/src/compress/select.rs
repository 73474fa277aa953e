use meav_job::JobCtx;
use meav_weights::Weight;

use super::Task;
use crate::kernels::{Draw, find_cut};
use crate::save::stored_bytes;
use crate::sparse::SparseBuilder;
use crate::{Delta, VectorError};

impl Task<'_> {
    pub(super) fn trimmed(
        &self,
        density: f64,
        job: &JobCtx<'_>,
    ) -> Result<Option<Delta>, VectorError> {
        let cut = find_cut(&self.source.base_or_zeros(), self.source.delta(), density);
        self.selected(density, job, |start, values| {
            cut.trim(start, values);
            self.source.scale(values);
        })
    }

    pub(super) fn drawn(
        &self,
        density: f64,
        seed: u64,
        job: &JobCtx<'_>,
    ) -> Result<Option<Delta>, VectorError> {
        let draw = Draw::new(seed, &self.vector.fingerprint, self.name, 1.0 - density);
        let factor = (1.0 / density) as f32;
        self.selected(density, job, |start, values| {
            self.source.scale(values);
            for (index, value) in values.iter_mut().enumerate() {
                *value = if draw.keeps(start + index) { *value * factor } else { 0.0 };
            }
        })
    }

    /// What `select` leaves: it gets runs of elements that are not scaled yet, with the place of
    /// the first in the tensor.
    ///
    /// Sparse, or dense with zeros where that is smaller; `None` where neither is smaller than
    /// factors or signs.
    fn selected(
        &self,
        density: f64,
        job: &JobCtx<'_>,
        select: impl Fn(usize, &mut [f32]),
    ) -> Result<Option<Delta>, VectorError> {
        let (source, dtype) = (self.source, self.source.dtype());
        let (sparse_bytes, dense_bytes) =
            (self.sparse_bytes(density), source.len() * dtype.size_bytes());
        let is_sparse = sparse_bytes < dense_bytes;
        if matches!(source.delta(), Delta::LowRank(_) | Delta::Sign(_))
            && sparse_bytes.min(dense_bytes) as u64 >= stored_bytes(source.delta())
        {
            return Ok(None);
        }
        let mut sparse = SparseBuilder::new(source.shape().to_vec());
        let mut dense = Vec::new();
        for rows in source.blocks() {
            job.check()?;
            let start = rows.start * source.row_len();
            let mut values = source.read_unscaled(rows);
            select(start, &mut values);
            if !is_sparse {
                dense.append(&mut values);
            } else if values.chunks(source.row_len()).any(|row| sparse.push_row(row).is_none()) {
                return Err(VectorError::TooManyValues { name: self.name.to_owned() });
            }
        }
        if is_sparse {
            return Ok(sparse.finish(dtype).map(Delta::Sparse));
        }
        let weight = Weight::from_f32(source.shape().to_vec(), dense).to_dtype(dtype);
        Ok(Some(Delta::Dense(weight)))
    }

    /// About what the selected values, their columns and the rows' offsets take.
    fn sparse_bytes(&self, density: f64) -> usize {
        let n_values = match self.source.delta() {
            Delta::Sparse(sparse) => sparse.weight().len() as f64,
            _ => self.source.len() as f64,
        };
        let value_bytes = self.source.dtype().size_bytes();
        let column_bytes = SparseBuilder::column_bytes(self.source.row_len());
        let values = (density * n_values) as usize * (value_bytes + column_bytes);
        values + size_of::<u32>() * (self.source.n_rows() + 1)
    }
}
