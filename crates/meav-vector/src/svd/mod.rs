//! Truncated singular value decompositions of matrices that are read a few rows at a time.
//!
//! Source: Halko, Martinsson, Tropp, 2011, arXiv:0909.4061: Alg. 4.4 finds a basis of what the
//! matrix mostly maps to, Alg. 5.1 decomposes the matrix inside that basis.

mod eigen;
mod kernels;
mod matrix;

use std::ops::Range;

use meav_job::{Cancelled, JobCtx};

pub(crate) use matrix::Matrix;

/// A matrix whose rows are computed when they are asked for.
pub(crate) trait RowSource {
    /// `(rows, columns)`.
    fn dimensions(&self) -> (usize, usize);

    /// Some rows, row-major.
    fn read(&self, rows: Range<usize>) -> Vec<f32>;
}

/// The best approximation of a rank: `left · right`.
///
/// The singular values are shared evenly, so that both factors have columns of the same size, and
/// rounding either costs the same.
pub(crate) struct Factors {
    /// `(rows, rank)`.
    pub(crate) left: Matrix,
    /// `(rank, columns)`.
    pub(crate) right: Matrix,
}

/// Vectors beyond the rank in the basis: they catch what of the wanted ones is spread over others.
const OVERSAMPLING: usize = 10;

/// Rounds that turn the basis towards the largest singular values: with two, the error of slowly
/// falling ones is within a few per cent of the least possible.
const POWER_ITERATIONS: usize = 2;

/// Matrices of no more rows or columns are decomposed exactly.
const EXACT: usize = 128;

/// Singular values so far below the largest are rounding.
const NEGLIGIBLE: f64 = 1e-6;

/// Elements of a block of rows.
const BLOCK: usize = 1 << 22;

/// `left · right` of at most `rank`: exact (to rounding) up to [`EXACT`] rows or columns and where
/// `rank` is full, randomised otherwise. The same `seed` gives the same factors.
pub(crate) fn truncate(
    source: &dyn RowSource,
    rank: usize,
    seed: u64,
    job: &JobCtx<'_>,
) -> Result<Factors, Cancelled> {
    let (m, n) = source.dimensions();
    let rank = rank.min(m).min(n);
    if n <= EXACT && n <= m {
        // A = A V Vᵀ for all eigenvectors V of AᵀA; the first are the singular vectors wanted.
        let vectors = leading(gram_of_columns(source, job)?, n, rank, job)?;
        let left = times_transposed(source, &vectors, job)?;
        return Ok(balanced(left.transposed(), vectors));
    }
    let basis = range(source, rank, seed, job)?;
    let inside = basis_times(source, &basis, job)?;
    let vectors = leading(inside.gram_of_rows(job)?, inside.rows(), rank, job)?;
    let left = vectors.times(&basis).transposed();
    Ok(balanced(left, vectors.times(&inside)))
}

/// The `rank` orthonormal vectors, as rows of length `rows`, that the columns of the matrix are
/// nearest to: its left singular vectors. Fewer where the matrix has a lower rank.
pub(crate) fn left_subspace(
    source: &dyn RowSource,
    rank: usize,
    seed: u64,
    job: &JobCtx<'_>,
) -> Result<Matrix, Cancelled> {
    let mut left = truncate(source, rank, seed, job)?.left.transposed();
    left.orthonormalise(job)?;
    left.drop_zero_rows();
    Ok(left)
}

/// The best approximation of `b · a`, `(m, r) · (r, n)`, of a lower rank, without their product.
///
/// ```text
/// B = Q_b R_b,   Aᵀ = Q_a R_a,   B A = Q_b (R_b R_aᵀ) Q_aᵀ
/// ```
pub(crate) fn truncate_product(
    b: &Matrix,
    a: &Matrix,
    rank: usize,
    job: &JobCtx<'_>,
) -> Result<Factors, Cancelled> {
    let (mut q_b, mut q_a) = (b.transposed(), a.clone());
    q_b.orthonormalise(job)?;
    q_a.orthonormalise(job)?;
    let core = q_b.times(b).times(&q_a.times(&a.transposed()).transposed());
    // C = U Uᵀ C for all eigenvectors U of C Cᵀ.
    let vectors = leading(core.gram_of_rows(job)?, core.rows(), rank, job)?;
    let left = vectors.times(&q_b).transposed();
    let right = vectors.times(&core).times(&q_a);
    Ok(balanced(left, right))
}

/// Eigenvectors of the largest eigenvalues of a Gram matrix `(n, n)`, as rows. Their roots
/// are singular values; leaves out what is [`NEGLIGIBLE`], but for the first.
fn leading(gram: Vec<f64>, n: usize, rank: usize, job: &JobCtx<'_>) -> Result<Matrix, Cancelled> {
    let eigen = eigen::symmetric(gram, n, job)?;
    let values: Vec<f64> = eigen.values.iter().map(|value| value.max(0.0).sqrt()).collect();
    let is_wanted =
        |(k, value): &(usize, &f64)| *k == 0 || (*k < rank && **value > NEGLIGIBLE * values[0]);
    let rank = values.iter().enumerate().take_while(is_wanted).count();
    let vectors = eigen.vectors[..rank * n].iter().map(|value| *value as f32).collect();
    Ok(Matrix::new(rank, n, vectors))
}

/// Makes the columns of `left` and the rows of `right` of one size each; one of both has unit size.
fn balanced(mut left: Matrix, mut right: Matrix) -> Factors {
    for k in 0..right.rows() {
        let (of_left, of_right) = (left.column_norm(k), right.row_norm(k));
        if of_left > matrix::TINY && of_right > matrix::TINY {
            let factor = (of_right / of_left).sqrt();
            left.scale_column(k, factor as f32);
            right.scale_row(k, (1.0 / factor) as f32);
        }
    }
    Factors { left, right }
}

/// Orthonormal rows that span nearly what the matrix maps to.
fn range(
    source: &dyn RowSource,
    rank: usize,
    seed: u64,
    job: &JobCtx<'_>,
) -> Result<Matrix, Cancelled> {
    let (m, n) = source.dimensions();
    if m <= EXACT {
        return Ok(Matrix::identity(m));
    }
    let n_vectors = (rank + OVERSAMPLING).min(m).min(n);
    let probes = Matrix::normal(n_vectors, n, seed);
    let mut basis = times_transposed(source, &probes, job)?;
    basis.orthonormalise(job)?;
    for _ in 0..POWER_ITERATIONS {
        let mut back = basis_times(source, &basis, job)?;
        back.orthonormalise(job)?;
        basis = times_transposed(source, &back, job)?;
        basis.orthonormalise(job)?;
    }
    Ok(basis)
}

/// `W Aᵀ`, `(l, m)`, of `W` `(l, n)`.
fn times_transposed(
    source: &dyn RowSource,
    w: &Matrix,
    job: &JobCtx<'_>,
) -> Result<Matrix, Cancelled> {
    let (m, _) = source.dimensions();
    let mut out = Matrix::zeros(w.rows(), m);
    for_blocks(source, job, |rows, block| {
        out.set_columns(rows.start, w, block);
        Ok(())
    })?;
    Ok(out)
}

/// `Q A`, `(l, n)`, of `Q` `(l, m)`.
pub(crate) fn basis_times(
    source: &dyn RowSource,
    q: &Matrix,
    job: &JobCtx<'_>,
) -> Result<Matrix, Cancelled> {
    let (_, n) = source.dimensions();
    let mut out = Matrix::zeros(q.rows(), n);
    for_blocks(source, job, |rows, block| {
        out.add_product(q, rows, block);
        Ok(())
    })?;
    Ok(out)
}

/// `Aᵀ A`, `(n, n)`.
fn gram_of_columns(source: &dyn RowSource, job: &JobCtx<'_>) -> Result<Vec<f64>, Cancelled> {
    let (_, n) = source.dimensions();
    let mut sums = vec![0.0; n * n];
    for_blocks(source, job, |_, block| {
        let gram = block.transposed().gram_of_rows(job)?;
        sums.iter_mut().zip(gram).for_each(|(sum, value)| *sum += value);
        Ok(())
    })?;
    Ok(sums)
}

fn for_blocks(
    source: &dyn RowSource,
    job: &JobCtx<'_>,
    mut visit: impl FnMut(Range<usize>, &Matrix) -> Result<(), Cancelled>,
) -> Result<(), Cancelled> {
    let (m, n) = source.dimensions();
    let step = (BLOCK / n.max(1)).max(1);
    for start in (0..m).step_by(step) {
        job.check()?;
        let rows = start..m.min(start + step);
        let block = Matrix::new(rows.len(), n, source.read(rows.clone()));
        visit(rows, &block)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
