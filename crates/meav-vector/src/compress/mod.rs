//! Smaller vectors, and what that costs.

mod low_rank;
mod select;

use std::collections::BTreeMap;

use meav_job::JobCtx;
use meav_weights::Checkpoint;
use serde_json::{Value as Json, json};

use crate::alignment_vector::VectorParts;
use crate::rows::DeltaRows;
use crate::save::stored_bytes;
use crate::sign::SignBuilder;
use crate::{AlignmentVector, Delta, VectorError, VectorKind, VectorOrigin};

/// How a vector is made smaller.
///
/// Biases and norms, which are tensors of one dimension, stay as they are, and so do tensors that
/// would not become smaller; but dense ones are always trimmed and drawn from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Compression {
    /// The nearest matrices of a rank: truncated singular value decompositions. Tensors of three
    /// dimensions stay as they are.
    LowRank {
        /// The largest rank of each tensor.
        rank: usize,
    },
    /// The largest elements of each tensor: `density · n` of `n`, rounded down, but at least one;
    /// of equal ones those that come first.
    Trim {
        /// The share of elements that is kept, above 0 and up to 1.
        density: f64,
    },
    /// Elements drawn at random, divided by the density.
    ///
    /// The same elements as [`Method::Dare`](crate::Method::Dare) draws from this vector with this
    /// seed and `drop = 1 − density`. Source: Yu et al., 2023, arXiv:2311.03099, Eq. 2.
    Dare {
        /// The probability of each element to be kept, above 0 and up to 1.
        density: f64,
        /// Other seeds draw other elements.
        seed: u64,
    },
    /// One bit for each element and a scale for each row; see [`Sign`](crate::Sign).
    Sign,
}

/// What a compression saved, and what it cost.
#[derive(Clone, Debug, PartialEq)]
pub struct CompressReport {
    /// Bytes of the values in a file, before.
    pub bytes_before: u64,
    /// Bytes of the values in a file, after.
    pub bytes_after: u64,
    /// `‖δ − δ̂‖ / ‖δ‖` (Frobenius) of all tensors together.
    pub relative_error: f64,
    /// The same of each tensor, by name.
    pub tensors: Vec<TensorError>,
}

/// How far one tensor is from what it was.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorError {
    /// Its name.
    pub name: String,
    /// `‖δ − δ̂‖ / ‖δ‖`; 0 for a tensor of zeros.
    pub relative_error: f64,
}

impl CompressReport {
    /// The tensor that lost most; `None` for a vector without tensors.
    pub fn worst(&self) -> Option<&TensorError> {
        self.tensors.iter().max_by(|a, b| a.relative_error.total_cmp(&b.relative_error))
    }
}

/// A smaller vector of nearly the same effect, in memory; [`save`](crate::save) writes it.
///
/// Takes vectors of any form, reading them a few rows at a time. `base` is needed for a whole model
/// only. The result has no calibration and no extraction: those were measured of another vector.
///
/// # Errors
///
/// [`VectorError::Density`] or [`VectorError::Setting`] before any work;
/// [`VectorError::BaseNeeded`]; [`VectorError::TooLargeForDtype`] where dividing by a small density
/// goes beyond the dtype; [`VectorError::Cancelled`] between two tensors.
pub fn compress(
    vector: &AlignmentVector,
    compression: Compression,
    base: Option<&Checkpoint>,
    job: &JobCtx<'_>,
) -> Result<(AlignmentVector, CompressReport), VectorError> {
    compression.check()?;
    let mut deltas = BTreeMap::new();
    let mut tally = Tally::default();
    for (index, (name, delta)) in vector.deltas.iter().enumerate() {
        job.tick(index, vector.deltas.len())?;
        let Some(source) = DeltaRows::of(vector, name, base)? else { continue };
        let task = Task { vector, name, source: &source, compression };
        let compressed = task.run(job)?;
        let is_model = matches!(delta, Delta::Aligned(_));
        // What a model leaves as its base has it is no part of the vector.
        if tally.add(name, &source, &compressed, job)? || !is_model {
            deltas.insert(name.clone(), compressed);
        }
    }
    let report = tally.report(vector, &deltas);
    let origin = VectorOrigin {
        compression: Some(compression.metadata(&report).to_string()),
        calibration: None,
        extraction: None,
        ..vector.origin.clone()
    };
    let parts = VectorParts { kind: compression.kind(), origin, deltas };
    Ok((AlignmentVector::computed(parts, &vector.path, job)?, report))
}

impl Compression {
    fn check(self) -> Result<(), VectorError> {
        match self {
            Self::LowRank { rank: 0 } => {
                Err(VectorError::Setting { setting: "the rank", range: "at least 1", found: 0.0 })
            }
            // So written, NaN is in no range.
            Self::Trim { density } | Self::Dare { density, .. }
                if !(density > 0.0 && density <= 1.0) =>
            {
                Err(VectorError::Density { density })
            }
            _ => Ok(()),
        }
    }

    fn kind(self) -> VectorKind {
        match self {
            Self::LowRank { .. } => VectorKind::LowRank,
            Self::Trim { .. } | Self::Dare { .. } => VectorKind::Sparse,
            Self::Sign => VectorKind::Sign,
        }
    }

    fn metadata(self, report: &CompressReport) -> Json {
        let mut json = match self {
            Self::LowRank { rank } => json!({ "method": "low_rank", "rank": rank }),
            Self::Trim { density } => json!({ "method": "trim", "density": density }),
            Self::Dare { density, seed } => {
                json!({ "method": "dare", "density": density, "seed": seed })
            }
            Self::Sign => json!({ "method": "sign" }),
        };
        json["relative_error"] = report.relative_error.into();
        if let Some(TensorError { name, relative_error }) = report.worst() {
            json["worst_tensor"] = name.as_str().into();
            json["worst_relative_error"] = (*relative_error).into();
        }
        json
    }
}

/// One tensor to be made smaller.
struct Task<'a> {
    vector: &'a AlignmentVector,
    name: &'a str,
    source: &'a DeltaRows<'a>,
    compression: Compression,
}

impl Task<'_> {
    fn run(&self, job: &JobCtx<'_>) -> Result<Delta, VectorError> {
        let n_dimensions = self.source.shape().len();
        let is_low_rank = matches!(self.compression, Compression::LowRank { .. });
        if n_dimensions < 2 || (is_low_rank && n_dimensions > 2) || self.source.len() == 0 {
            return Ok(self.as_it_is());
        }
        let smaller = match self.compression {
            Compression::LowRank { rank } => self.low_rank(rank, job)?,
            Compression::Trim { density } => self.trimmed(density, job)?,
            Compression::Dare { density, seed } => self.drawn(density, seed, job)?,
            Compression::Sign => self.signs(job)?,
        };
        match smaller {
            Some(delta) if !delta.is_finite() => {
                let (name, dtype) = (self.name.to_owned(), self.source.dtype());
                Err(VectorError::TooLargeForDtype { name, dtype })
            }
            smaller => Ok(smaller.unwrap_or_else(|| self.as_it_is())),
        }
    }

    fn as_it_is(&self) -> Delta {
        match self.source.delta() {
            Delta::Aligned(aligned) => Delta::Dense(self.source.to_weight(aligned.dtype())),
            delta => delta.clone(),
        }
    }

    fn signs(&self, job: &JobCtx<'_>) -> Result<Option<Delta>, VectorError> {
        let mut signs = SignBuilder::new(self.source.shape().to_vec());
        for rows in self.source.blocks() {
            job.check()?;
            self.source
                .read(rows)
                .chunks(self.source.row_len())
                .for_each(|row| signs.push_row(row));
        }
        let sign = signs
            .finish()
            .filter(|sign| (sign.size_bytes() as u64) < stored_bytes(self.source.delta()));
        Ok(sign.map(Delta::Sign))
    }
}

/// Errors so far.
#[derive(Default)]
struct Tally {
    squared_error: f64,
    squared_norm: f64,
    tensors: Vec<TensorError>,
}

impl Tally {
    /// Whether there was anything but zeros.
    fn add(
        &mut self,
        name: &str,
        source: &DeltaRows<'_>,
        compressed: &Delta,
        job: &JobCtx<'_>,
    ) -> Result<bool, VectorError> {
        let compressed = DeltaRows::alone(compressed);
        let (mut squared_error, mut squared_norm) = (0.0, 0.0);
        for rows in source.blocks() {
            job.check()?;
            let (before, after) = (source.read(rows.clone()), compressed.read(rows));
            for (before, after) in before.iter().zip(after) {
                squared_error += f64::from(before - after).powi(2);
                squared_norm += f64::from(*before).powi(2);
            }
        }
        let relative_error =
            if squared_norm > 0.0 { (squared_error / squared_norm).sqrt() } else { 0.0 };
        self.squared_error += squared_error;
        self.squared_norm += squared_norm;
        self.tensors.push(TensorError { name: name.to_owned(), relative_error });
        Ok(squared_norm > 0.0)
    }

    fn report(self, before: &AlignmentVector, after: &BTreeMap<String, Delta>) -> CompressReport {
        let of_all = self.squared_error / self.squared_norm;
        CompressReport {
            bytes_before: before.deltas.values().map(stored_bytes).sum(),
            bytes_after: after.values().map(stored_bytes).sum(),
            relative_error: if self.squared_norm > 0.0 { of_all.sqrt() } else { 0.0 },
            tensors: self.tensors,
        }
    }
}
