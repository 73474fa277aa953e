use std::ops::Range;

use meav_job::JobCtx;
use meav_weights::Weight;

use super::Task;
use crate::rows::DeltaRows;
use crate::save::stored_bytes;
use crate::svd::{Factors, Matrix, RowSource, truncate, truncate_product};
use crate::{Delta, LowRank, VectorError};

/// The probes of the randomised decomposition: the same for the same tensor.
const SEED: u64 = 0x6D65_6176;

impl RowSource for DeltaRows<'_> {
    fn dimensions(&self) -> (usize, usize) {
        (self.n_rows(), self.row_len())
    }

    fn read(&self, rows: Range<usize>) -> Vec<f32> {
        DeltaRows::read(self, rows)
    }
}

impl Task<'_> {
    /// `None` where factors of this rank would be no smaller.
    pub(super) fn low_rank(
        &self,
        rank: usize,
        job: &JobCtx<'_>,
    ) -> Result<Option<Delta>, VectorError> {
        let (m, n) = self.source.dimensions();
        let dtype = self.source.dtype();
        let factors_bytes = ((m + n) * rank.min(m).min(n) * dtype.size_bytes()) as u64;
        if factors_bytes >= stored_bytes(self.source.delta()) {
            return Ok(None);
        }
        let (Factors { left, right }, scale) = match self.source.delta() {
            Delta::LowRank(LowRank { a, b, rank: own, scale, .. }) => {
                let (a, b) = (Matrix::new(*own, n, a.clone()), Matrix::new(m, *own, b.clone()));
                (truncate_product(&b, &a, rank, job)?, *scale)
            }
            _ => (truncate(self.source, rank, SEED, job)?, 1.0),
        };
        let rank = right.rows();
        let rounded = |shape: [usize; 2], values: Matrix| {
            Weight::from_f32(shape.to_vec(), values.into_values()).to_dtype(dtype)
        };
        let (a, b) = (rounded([rank, n], right), rounded([m, rank], left));
        Ok(LowRank::new(&a, &b, scale).map(Delta::LowRank))
    }
}
