//! The difference between two models as a file.

use std::collections::BTreeSet;
use std::path::Path;

use meav_job::JobCtx;
use meav_weights::{
    Checkpoint, Dtype, SafetensorsWriter, StoredDtype, StoredSpec, Weight, write_file_atomically,
};
use rayon::prelude::*;
use serde_json::json;

use crate::alignment_vector::is_finite;
use crate::format::{key, origin_metadata};
use crate::rows::{base_name, widen};
use crate::{VectorError, VectorKind, VectorOrigin};

/// What to extract.
pub struct Extraction<'a> {
    /// The model that the vector is to lead to, at λ = 1.
    pub aligned: &'a Checkpoint,
    /// The model that it starts from.
    pub base: &'a Checkpoint,
    /// What the file says of itself beside [`VectorOrigin::extraction`], which is measured.
    pub origin: VectorOrigin,
    /// What the differences are rounded to; `None` for the wider dtype of each tensor.
    pub dtype: Option<Dtype>,
    /// Which tensors to take, by their names.
    pub includes: &'a (dyn Fn(&str) -> bool + Sync),
}

/// How near `base + 1 · vector` comes to the aligned model.
///
/// An element's error is `|base + vector − aligned| / max(|base|, |aligned|)`, with the vector as
/// it was rounded and the sum in `f32`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExtractReport {
    /// Tensors in the vector.
    pub tensors: usize,
    /// Tensors that were left out because all of their values are the same in both models.
    pub unchanged: usize,
    /// The largest error of an element.
    pub max_relative_error: f64,
    /// The mean error of the elements of the tensors in the vector.
    pub mean_relative_error: f64,
    /// Bytes of the vector's values.
    pub size_bytes: u64,
}

/// Room in the header for what is known only after the last tensor.
const EXTRACTION_ROOM: usize = 1024;

/// Elements at a time.
const CHUNK: usize = 1 << 20;

/// Writes `aligned − base` to `path` as a dense vector of format 1, tensor by tensor.
///
/// ```text
/// θ_AV = θ_aligned − θ_base
/// ```
///
/// Source: Shahriar et al., 2024, arXiv:2410.19206, Eq. 1. Differences are taken in `f32` and
/// rounded once. Memory holds a few chunks of a tensor, and the whole tensor of both models where
/// it must be dequantised. A first pass finds the tensors that differ, each up to its first
/// difference; the second reads those.
///
/// # Errors
///
/// [`VectorError::Unpaired`], [`VectorError::VectorsDiffer`], [`VectorError::NonFiniteValues`] or
/// [`VectorError::TooLargeForDtype`] for the first such tensor in name order;
/// [`VectorError::NoDifference`];
/// [`VectorError::Weights`] if a file can't be read or written; [`VectorError::Cancelled`] between
/// two chunks. Whatever was at `path` is then still there.
pub fn extract(
    extraction: &Extraction<'_>,
    path: &Path,
    job: &JobCtx<'_>,
) -> Result<ExtractReport, VectorError> {
    let names = paired_names(extraction)?;
    let mut changed = Vec::new();
    for (index, name) in names.iter().enumerate() {
        job.tick(index, 2 * names.len())?;
        let pair = Pair::load(extraction, name)?;
        if pair.differs(job)? {
            let shape = pair.base.shape().to_vec();
            let (name, dtype) = ((*name).to_owned(), StoredDtype::Float(pair.dtype));
            changed.push(StoredSpec { name, dtype, shape });
        }
    }
    if changed.is_empty() {
        return Err(VectorError::NoDifference);
    }
    changed.sort_by_key(|spec| std::cmp::Reverse(spec.dtype.size_bytes()));
    let mut errors = Errors::default();
    write_file_atomically(path, |file| {
        let mut metadata = origin_metadata(&extraction.origin, VectorKind::Dense);
        metadata.insert(key::EXTRACTION.to_owned(), " ".repeat(EXTRACTION_ROOM));
        let mut writer =
            SafetensorsWriter::with_integers(file, path, changed.clone(), metadata.clone())?;
        for (index, spec) in changed.iter().enumerate() {
            job.tick(names.len() + index * names.len() / changed.len(), 2 * names.len())?;
            let pair = Pair::load(extraction, &spec.name)?;
            pair.write(&mut writer, &mut errors, job)?;
        }
        let report = errors.report(changed.len(), names.len());
        let mut aligned = base_name(extraction.aligned);
        aligned.truncate(aligned.floor_char_boundary(MAX_NAME));
        let measured = json!({
            "aligned": aligned,
            "max_relative_error": report.max_relative_error,
            "mean_relative_error": report.mean_relative_error,
            "tensors": report.tensors,
            "unchanged": report.unchanged,
        });
        metadata.insert(key::EXTRACTION.to_owned(), measured.to_string());
        Ok::<_, VectorError>(writer.finish_with(metadata)?)
    })?;
    Ok(errors.report(changed.len(), names.len()))
}

/// Bytes of a model's name: JSON escapes a byte as six at most, twice.
const MAX_NAME: usize = 60;

/// The names that both models have and the filter lets pass, in order.
fn paired_names<'a>(extraction: &Extraction<'a>) -> Result<Vec<&'a str>, VectorError> {
    let Extraction { aligned, base, includes, .. } = extraction;
    let names: BTreeSet<&str> = aligned.names().chain(base.names()).collect();
    let mut names: Vec<_> = names.into_iter().filter(|name| includes(name)).collect();
    let mut copied_heads = BTreeSet::new();
    for name in &names {
        let (found, missing) = match (base.info(name), aligned.info(name)) {
            (Some(own), Some(other)) if own.shape == other.shape => continue,
            (Some(own), Some(other)) => {
                return Err(VectorError::VectorsDiffer {
                    name: (*name).into(),
                    a: base_name(aligned).into(),
                    a_shape: other.shape.into(),
                    b: base_name(base).into(),
                    b_shape: own.shape.into(),
                });
            }
            (Some(_), None) => (base, aligned),
            (None, _) if aligned.is_copied_head(name)? => {
                copied_heads.insert(*name);
                continue;
            }
            (None, _) => (aligned, base),
        };
        return Err(VectorError::Unpaired {
            name: (*name).to_owned(),
            found: found.path().to_owned(),
            missing: missing.path().to_owned(),
        });
    }
    names.retain(|name| !copied_heads.contains(name));
    Ok(names)
}

/// One tensor in both models.
struct Pair<'a> {
    name: &'a str,
    extraction: &'a Extraction<'a>,
    aligned: Weight,
    base: Weight,
    /// Of the difference.
    dtype: Dtype,
}

impl<'a> Pair<'a> {
    fn load(extraction: &'a Extraction<'a>, name: &'a str) -> Result<Self, VectorError> {
        let (aligned, base) = (extraction.aligned.load(name)?, extraction.base.load(name)?);
        let dtype = extraction.dtype.unwrap_or_else(|| wider(aligned.dtype(), base.dtype()));
        Ok(Self { name, extraction, aligned, base, dtype })
    }

    fn chunks(&self) -> impl Iterator<Item = (Vec<f32>, Vec<f32>)> {
        let len = self.base.len();
        (0..len).step_by(CHUNK).map(move |start| {
            let read = |weight: &Weight| {
                let mut values = vec![0.0; CHUNK.min(len - start)];
                widen(weight.values(), start, &mut values);
                values
            };
            (read(&self.aligned), read(&self.base))
        })
    }

    /// Whether there are two elements that are not equal, or no numbers, which writing refuses.
    fn differs(&self, job: &JobCtx<'_>) -> Result<bool, VectorError> {
        for (aligned, base) in self.chunks() {
            job.check()?;
            #[expect(clippy::float_cmp, reason = "any difference at all")]
            let differs = |(aligned, base): (&f32, f32)| *aligned != base || !base.is_finite();
            if aligned.par_iter().zip(base).any(differs) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn write(
        &self,
        writer: &mut SafetensorsWriter<impl std::io::Write>,
        errors: &mut Errors,
        job: &JobCtx<'_>,
    ) -> Result<(), VectorError> {
        for (aligned, base) in self.chunks() {
            job.check()?;
            self.check_finite(self.extraction.aligned, &aligned)?;
            self.check_finite(self.extraction.base, &base)?;
            let delta: Vec<f32> =
                aligned.par_iter().zip(&base).map(|(aligned, base)| aligned - base).collect();
            let delta = Weight::from_f32(vec![delta.len()], delta).to_dtype(self.dtype);
            let rounded = delta.to_f32_vec();
            if !is_finite(&delta) {
                let (name, dtype) = (self.name.to_owned(), self.dtype);
                return Err(VectorError::TooLargeForDtype { name, dtype });
            }
            errors.add(&aligned, &base, &rounded);
            errors.size_bytes += delta.bytes().len() as u64;
            writer.push_part(delta.bytes())?;
        }
        Ok(())
    }

    fn check_finite(&self, model: &Checkpoint, values: &[f32]) -> Result<(), VectorError> {
        if values.par_iter().all(|value| value.is_finite()) {
            return Ok(());
        }
        let (name, path) = (self.name.to_owned(), model.path().to_owned());
        Err(VectorError::NonFiniteValues { name, path })
    }
}

/// The one with more bits for a value; `f32` for two of the same size that hold different values.
fn wider(a: Dtype, b: Dtype) -> Dtype {
    match (a, b) {
        _ if a == b => a,
        _ => Dtype::F32,
    }
}

#[derive(Default)]
struct Errors {
    max: f64,
    sum: f64,
    n: u64,
    size_bytes: u64,
}

impl Errors {
    fn add(&mut self, aligned: &[f32], base: &[f32], delta: &[f32]) {
        let errors = aligned.par_chunks(1 << 12).zip(base.par_chunks(1 << 12));
        let errors: Vec<(f64, f64)> = errors
            .zip(delta.par_chunks(1 << 12))
            .map(|((aligned, base), delta)| {
                let elements = aligned.iter().zip(base).zip(delta);
                elements.fold((0.0, 0.0), |(max, sum): (f64, f64), ((aligned, base), delta)| {
                    let error = f64::from((base + delta - aligned).abs());
                    let size = f64::from(base.abs().max(aligned.abs()));
                    let relative = if error == 0.0 { 0.0 } else { error / size };
                    (max.max(relative), sum + relative)
                })
            })
            .collect();
        for (max, sum) in errors {
            self.max = self.max.max(max);
            self.sum += sum;
        }
        self.n += delta.len() as u64;
    }

    fn report(&self, tensors: usize, n_names: usize) -> ExtractReport {
        ExtractReport {
            tensors,
            unchanged: n_names - tensors,
            max_relative_error: self.max,
            mean_relative_error: self.sum / (self.n as f64).max(1.0),
            size_bytes: self.size_bytes,
        }
    }
}
