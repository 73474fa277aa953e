//! What a vector adds, a few rows at a time, however it is stored.

use std::ops::Range;

use half::slice::HalfFloatSliceExt as _;
use meav_weights::{Checkpoint, Dtype, Integers, Values, Weight};
use rayon::prelude::*;

use crate::kernels::read_product;
use crate::save::narrowest;
use crate::{AlignmentVector, Delta, LowRank, Sparse, VectorError};

/// Elements in a block: few enough for any memory, enough to hide the cost of starting on it.
const BLOCK: usize = 1 << 20;

/// The elements of one tensor of a vector.
///
/// Rows are the last dimension; a bias or a norm is one row.
pub(crate) struct DeltaRows<'a> {
    delta: &'a Delta,
    /// What an aligned weight is the difference from.
    base: Option<Weight>,
}

impl<'a> DeltaRows<'a> {
    /// `None` where the vector does not change the tensor.
    ///
    /// # Errors
    ///
    /// [`VectorError::BaseNeeded`] or [`VectorError::ShapeMismatch`] for the weight of a whole
    /// model; [`VectorError::Parts`] for sparse values outside their rows.
    pub(crate) fn of(
        vector: &'a AlignmentVector,
        name: &str,
        base: Option<&Checkpoint>,
    ) -> Result<Option<Self>, VectorError> {
        let Some(delta) = vector.deltas.get(name) else { return Ok(None) };
        let base = match (delta, base) {
            (Delta::Sparse(sparse), _) if !sparse.columns_fit() => {
                let (name, path) = (name.to_owned(), vector.path.clone());
                return Err(VectorError::Parts { name, path });
            }
            (Delta::Aligned(_), None) => {
                let domain = vector.origin.domain.clone();
                return Err(VectorError::BaseNeeded { domain });
            }
            (Delta::Aligned(_), Some(base))
                if base.info(name).is_none() && vector.is_copied_head(name) =>
            {
                return Ok(None);
            }
            (Delta::Aligned(aligned), Some(base)) => {
                let weight = base.load(name)?;
                if weight.shape() != aligned.shape() {
                    return Err(VectorError::ShapeMismatch {
                        vector: vector.name().into(),
                        name: name.to_owned(),
                        found: aligned.shape().to_vec(),
                        expected: weight.shape().to_vec(),
                        base: base_name(base),
                    });
                }
                Some(weight)
            }
            _ => None,
        };
        Ok(Some(Self { delta, base }))
    }

    /// Rows of a delta that needs no base.
    ///
    /// # Panics
    ///
    /// For the weight of a whole model.
    pub(crate) fn alone(delta: &'a Delta) -> Self {
        assert!(!matches!(delta, Delta::Aligned(_)), "needs a base");
        Self { delta, base: None }
    }

    pub(crate) fn delta(&self) -> &'a Delta {
        self.delta
    }

    pub(crate) fn shape(&self) -> &'a [usize] {
        self.delta.shape()
    }

    pub(crate) fn len(&self) -> usize {
        self.shape().iter().product()
    }

    pub(crate) fn row_len(&self) -> usize {
        self.shape().last().copied().unwrap_or(1)
    }

    pub(crate) fn n_rows(&self) -> usize {
        self.len().checked_div(self.row_len()).unwrap_or(0)
    }

    /// What its values are stored in.
    pub(crate) fn dtype(&self) -> Dtype {
        match self.delta {
            Delta::Dense(weight) | Delta::Aligned(weight) => weight.dtype(),
            Delta::Sparse(sparse) => sparse.weight().dtype(),
            Delta::LowRank(factors) => match (narrowest(&factors.a), narrowest(&factors.b)) {
                (a, b) if a == b => a,
                _ => Dtype::F32,
            },
            Delta::Sign(_) => Dtype::F32,
        }
    }

    /// What an aligned weight is the difference from; for others zeros, which take no memory until
    /// they are looked at.
    pub(crate) fn base_or_zeros(&self) -> Weight {
        self.base
            .clone()
            .unwrap_or_else(|| Weight::from_f32(self.shape().to_vec(), vec![0.0; self.len()]))
    }

    /// All elements as one tensor.
    pub(crate) fn to_weight(&self, dtype: Dtype) -> Weight {
        let values = self.read(0..self.n_rows());
        Weight::from_f32(self.shape().to_vec(), values).to_dtype(dtype)
    }

    /// All rows in order, a block at a time.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (n_rows, step) = (self.n_rows(), (BLOCK / self.row_len().max(1)).max(1));
        (0..n_rows).step_by(step).map(move |start| start..n_rows.min(start + step))
    }

    /// The elements of `rows`, in `f32`.
    pub(crate) fn read(&self, rows: Range<usize>) -> Vec<f32> {
        let mut out = self.read_unscaled(rows);
        self.scale(&mut out);
        out
    }

    /// Multiplies what [`DeltaRows::read_unscaled`] gave by what it left out.
    pub(crate) fn scale(&self, values: &mut [f32]) {
        if let Delta::LowRank(LowRank { scale, .. }) = self.delta {
            values.par_iter_mut().for_each(|value| *value *= scale);
        }
    }

    /// As [`DeltaRows::read`], low-rank products without their scale.
    pub(crate) fn read_unscaled(&self, rows: Range<usize>) -> Vec<f32> {
        let row_len = self.row_len();
        let mut out = vec![0.0; rows.len() * row_len];
        match self.delta {
            Delta::Dense(weight) => {
                widen(weight.values(), rows.start * row_len, &mut out);
            }
            Delta::Aligned(weight) => {
                widen(weight.values(), rows.start * row_len, &mut out);
                if let Some(base) = &self.base {
                    subtract(base.values(), rows.start * row_len, &mut out);
                }
            }
            Delta::LowRank(factors) => read_product(factors, rows, &mut out),
            Delta::Sparse(sparse) => out
                .par_chunks_mut(row_len)
                .zip(rows)
                .for_each(|(out, row)| read_sparse(sparse, row, out)),
            Delta::Sign(sign) => {
                out.par_chunks_mut(row_len)
                    .zip(rows)
                    .for_each(|(out, row)| sign.read_row(row, out));
            }
        }
        out
    }
}

/// Refuses vectors that give a tensor different dimensions.
pub(crate) fn check_same_shape(
    name: &str,
    a: (&AlignmentVector, &DeltaRows<'_>),
    b: (&AlignmentVector, &DeltaRows<'_>),
) -> Result<(), VectorError> {
    if a.1.shape() == b.1.shape() {
        return Ok(());
    }
    Err(VectorError::VectorsDiffer {
        name: name.into(),
        a: a.0.origin.domain.as_str().into(),
        a_shape: a.1.shape().into(),
        b: b.0.origin.domain.as_str().into(),
        b_shape: b.1.shape().into(),
    })
}

/// The name that a base model goes by in messages: that of its folder or file.
pub(crate) fn base_name(base: &Checkpoint) -> String {
    let path = base.path().canonicalize().unwrap_or_else(|_| base.path().to_owned());
    let name = if path.is_dir() { path.file_name() } else { path.file_stem() };
    name.unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Elements that one task converts.
const TASK: usize = 1 << 14;

/// The elements from `start` on, widened to `f32`.
pub(crate) fn widen(values: Values<'_>, start: usize, out: &mut [f32]) {
    out.par_chunks_mut(TASK).enumerate().for_each(|(index, out)| {
        let range = start + index * TASK..start + index * TASK + out.len();
        match values {
            Values::F32(values) => out.copy_from_slice(&values[range]),
            Values::F16(values) => values[range].convert_to_f32_slice(out),
            Values::Bf16(values) => values[range].convert_to_f32_slice(out),
        }
    });
}

fn subtract(values: Values<'_>, start: usize, from: &mut [f32]) {
    let mut subtrahend = vec![0.0; from.len()];
    widen(values, start, &mut subtrahend);
    from.par_iter_mut().zip(subtrahend).for_each(|(value, subtrahend)| *value -= subtrahend);
}

fn read_sparse(sparse: &Sparse, row: usize, out: &mut [f32]) {
    let entries = sparse.row(row);
    let mut values = vec![0.0; entries.len()];
    widen(sparse.values(), entries.start, &mut values);
    match sparse.columns() {
        Integers::U16(columns) => scatter(&columns[entries], &values, out),
        Integers::U32(columns) => scatter(&columns[entries], &values, out),
    }
}

fn scatter<T: Copy + Into<u32>>(columns: &[T], values: &[f32], out: &mut [f32]) {
    for (column, value) in columns.iter().zip(values) {
        let column: u32 = (*column).into();
        out[column as usize] = *value;
    }
}
