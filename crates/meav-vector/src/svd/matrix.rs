use std::ops::Range;

use meav_job::{Cancelled, JobCtx};
use rayon::prelude::*;

use super::kernels::{Output, View, matmul};

/// A matrix in memory, row-major.
#[derive(Clone, Debug)]
pub(crate) struct Matrix {
    rows: usize,
    cols: usize,
    values: Vec<f32>,
}

/// Of a vector's length: what is left of it after taking away the vectors before it is rounding.
const DEPENDENT: f64 = 1e-6;

/// Shorter vectors have no direction: their elements have lost digits, and 1 divided by their
/// length may be infinite.
pub(super) const TINY: f64 = f32::MIN_POSITIVE as f64;

impl Matrix {
    pub(crate) fn new(rows: usize, cols: usize, values: Vec<f32>) -> Self {
        assert_eq!(rows * cols, values.len(), "matrix of {rows} by {cols}");
        Self { rows, cols, values }
    }

    pub(super) fn zeros(rows: usize, cols: usize) -> Self {
        Self { rows, cols, values: vec![0.0; rows * cols] }
    }

    pub(super) fn identity(n: usize) -> Self {
        let mut out = Self::zeros(n, n);
        out.values.iter_mut().step_by(n + 1).for_each(|diagonal| *diagonal = 1.0);
        out
    }

    /// Independent numbers of the standard normal distribution, by Box and Muller's transform of
    /// `SplitMix64`'s.
    pub(super) fn normal(rows: usize, cols: usize, seed: u64) -> Self {
        let mut state = seed;
        let mut uniform = || {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let z = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
        };
        let normal = |_| {
            let radius = (-2.0 * (1.0 - uniform()).ln()).sqrt();
            (radius * (std::f64::consts::TAU * uniform()).cos()) as f32
        };
        Self { rows, cols, values: (0..rows * cols).map(normal).collect() }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn values(&self) -> &[f32] {
        &self.values
    }

    pub(crate) fn into_values(self) -> Vec<f32> {
        self.values
    }

    fn view(&self) -> View<'_> {
        let Self { rows, cols, ref values } = *self;
        View { values, rows, cols, row_stride: cols, col_stride: 1 }
    }

    pub(crate) fn transposed(&self) -> Self {
        let mut values = vec![0.0; self.values.len()];
        values.par_chunks_mut(self.rows.max(1)).enumerate().for_each(|(column, out)| {
            for (out, row) in out.iter_mut().zip(self.values.chunks(self.cols)) {
                *out = row[column];
            }
        });
        Self { rows: self.cols, cols: self.rows, values }
    }

    pub(crate) fn times(&self, other: &Self) -> Self {
        let mut out = Self::zeros(self.rows, other.cols);
        let (row_stride, values) = (other.cols.max(1), &mut out.values[..]);
        let mut output = Output { values, row_stride, col_stride: 1, adds: false };
        matmul(&mut output, self.view(), other.view());
        out
    }

    /// Writes `w · blockᵀ` over the columns from `start` on.
    pub(super) fn set_columns(&mut self, start: usize, w: &Self, block: &Self) {
        let (row_stride, values) = (self.cols, &mut self.values[start..]);
        let mut output = Output { values, row_stride, col_stride: 1, adds: false };
        matmul(&mut output, w.view(), block.view().transposed());
    }

    /// Adds `q[:, columns] · block`.
    pub(super) fn add_product(&mut self, q: &Self, columns: Range<usize>, block: &Self) {
        let values = &q.values[columns.start..];
        let q = View { values, rows: q.rows, cols: columns.len(), ..q.view() };
        let (row_stride, values) = (self.cols, &mut self.values[..]);
        let mut output = Output { values, row_stride, col_stride: 1, adds: true };
        matmul(&mut output, q, block.view());
    }

    /// The dot products of all pairs of rows, summed in `f64`.
    pub(super) fn gram_of_rows(&self, job: &JobCtx<'_>) -> Result<Vec<f64>, Cancelled> {
        let n = self.rows;
        let mut gram = vec![0.0; n * n];
        gram.par_chunks_mut(n.max(1)).enumerate().try_for_each(|(i, out)| {
            for (j, out) in out.iter_mut().enumerate().take(i + 1) {
                *out = dot(self.row(i), self.row(j));
            }
            job.check()
        })?;
        for i in 0..n {
            for j in i + 1..n {
                gram[i * n + j] = gram[j * n + i];
            }
        }
        Ok(gram)
    }

    fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.cols..][..self.cols]
    }

    pub(super) fn row_norm(&self, row: usize) -> f64 {
        dot(self.row(row), self.row(row)).sqrt()
    }

    pub(super) fn column_norm(&self, column: usize) -> f64 {
        let values = self.values.iter().skip(column).step_by(self.cols);
        values.map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt()
    }

    pub(super) fn scale_row(&mut self, row: usize, factor: f32) {
        for value in &mut self.values[row * self.cols..][..self.cols] {
            *value *= factor;
        }
    }

    pub(super) fn scale_column(&mut self, column: usize, factor: f32) {
        for value in self.values.iter_mut().skip(column).step_by(self.cols) {
            *value *= factor;
        }
    }

    /// Gram and Schmidt's method, twice for each row; a row that depends on those before it becomes
    /// zero.
    ///
    /// Source: Giraud et al., 2005, Numerische Mathematik 101: "twice is enough".
    pub(super) fn orthonormalise(&mut self, job: &JobCtx<'_>) -> Result<(), Cancelled> {
        for row in 0..self.rows {
            job.check()?;
            let length = self.row_norm(row);
            for _ in 0..2 {
                self.take_away_rows_before(row);
            }
            let rest = self.row_norm(row);
            let is_independent = rest > (DEPENDENT * length).max(TINY);
            self.scale_row(row, if is_independent { (1.0 / rest) as f32 } else { 0.0 });
        }
        Ok(())
    }

    fn take_away_rows_before(&mut self, row: usize) {
        let (before, rest) = self.values.split_at_mut(row * self.cols);
        let Some(target) = rest.get_mut(..self.cols) else { return };
        let cols = self.cols.max(1);
        let shares: Vec<f32> =
            before.par_chunks(cols).map(|other| dot(other, target) as f32).collect();
        target.par_chunks_mut(CHUNK).enumerate().for_each(|(index, target)| {
            for (other, share) in before.chunks(cols).zip(&shares) {
                for (value, other) in target.iter_mut().zip(&other[index * CHUNK..]) {
                    *value -= share * other;
                }
            }
        });
    }

    pub(super) fn drop_zero_rows(&mut self) {
        let cols = self.cols.max(1);
        let is_kept = |row: &&[f32]| row.iter().any(|value| *value != 0.0);
        self.values = self.values.chunks(cols).filter(is_kept).flatten().copied().collect();
        self.rows = self.values.len() / cols;
    }
}

/// Elements of a row that one task changes.
const CHUNK: usize = 1 << 11;

/// Summed in `f64`, in eight sums side by side.
fn dot(a: &[f32], b: &[f32]) -> f64 {
    const LANES: usize = 8;
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0_f64; LANES];
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..LANES {
            sums[lane] += f64::from(a[lane]) * f64::from(b[lane]);
        }
    }
    let rest = a_rest.iter().zip(b_rest).map(|(a, b)| f64::from(*a) * f64::from(*b));
    sums.into_iter().sum::<f64>() + rest.sum::<f64>()
}
