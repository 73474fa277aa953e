//! Vectors into files of format 1.

use std::collections::BTreeMap;
use std::path::Path;

use half::f16;
use meav_job::JobCtx;
use meav_weights::{
    Checkpoint, Dtype, IntegerTensor, SafetensorsWriter, StoredDtype, StoredSpec, Weight,
    WeightsError, set_metadata, write_file_atomically,
};
use serde_json::json;

use crate::alignment_vector::is_finite;
use crate::format::{self, key, kind_name, part};
use crate::{AlignmentVector, Delta, VectorError, VectorKind, VectorOrigin};

/// Writes a vector as one file of format 1, which appears under its name when it is whole.
///
/// `dtype` rounds dense tensors, factors and the values of sparse tensors; `None` keeps each as it
/// is, factors in the narrowest type that holds them exactly, so that reading the file gives back
/// the same vector. The scales of one-bit tensors always stay `f32`.
///
/// # Errors
///
/// [`VectorError::UnsupportedKind`] for a plain checkpoint, whose difference must be extracted;
/// [`VectorError::TooLargeForDtype`] for the first tensor with a value that `dtype` can't hold;
/// [`VectorError::Weights`] if it can't be written; [`VectorError::Cancelled`] between two tensors.
/// Nothing is left then.
pub fn save(
    vector: &AlignmentVector,
    dtype: Option<Dtype>,
    path: &Path,
    job: &JobCtx<'_>,
) -> Result<(), VectorError> {
    let mut pieces = Vec::new();
    for (name, delta) in &vector.deltas {
        pieces.extend(split(name, delta, dtype).ok_or_else(|| {
            let kind = kind_name(VectorKind::Checkpoint).to_owned();
            VectorError::UnsupportedKind { kind, path: vector.path.clone() }
        })?);
    }
    // Wide elements first: then all are aligned, and can be mapped.
    pieces.sort_by_key(|piece| std::cmp::Reverse(piece.spec.dtype.size_bytes()));
    let specs = pieces.iter().map(|piece| piece.spec.clone()).collect();
    write_file_atomically(path, |file| {
        let mut writer = SafetensorsWriter::with_integers(file, path, specs, metadata(vector))?;
        for (index, piece) in pieces.iter().enumerate() {
            job.tick(index, pieces.len())?;
            piece.write(&mut writer)?;
        }
        Ok::<_, VectorError>(writer.finish()?)
    })
}

/// Writes a vector of dense tensors as [`save`] does, of which memory holds one at a time: `deltas`
/// are those of `tensors`, names with shapes, in their order.
///
/// # Errors
///
/// As [`save`], and those of `deltas`.
pub fn save_dense<E: From<VectorError> + From<WeightsError>>(
    origin: &VectorOrigin,
    tensors: &[(String, Vec<usize>)],
    dtype: Dtype,
    path: &Path,
    deltas: impl IntoIterator<Item = Result<Weight, E>>,
) -> Result<(), E> {
    let spec = |(name, shape): &(String, Vec<usize>)| StoredSpec {
        name: name.clone(),
        dtype: StoredDtype::Float(dtype),
        shape: shape.clone(),
    };
    let specs: Vec<StoredSpec> = tensors.iter().map(spec).collect();
    let metadata = format::origin_metadata(origin, VectorKind::Dense);
    write_file_atomically(path, |file| {
        let mut writer = SafetensorsWriter::with_integers(file, path, specs.clone(), metadata)?;
        for (spec, delta) in specs.into_iter().zip(deltas) {
            Piece { spec, values: PieceValues::Weight(&delta?) }.write(&mut writer)?;
        }
        Ok(writer.finish()?)
    })
}

/// Writes a vector of low-rank tensors as [`save`] does, its factors rounded to `dtype`.
///
/// # Errors
///
/// As [`save`]; [`VectorError::UnsupportedKind`] for a vector with tensors of another form.
pub fn save_low_rank(
    vector: &AlignmentVector,
    dtype: Dtype,
    path: &Path,
    job: &JobCtx<'_>,
) -> Result<(), VectorError> {
    match vector.deltas.values().find(|delta| !matches!(delta, Delta::LowRank(_))) {
        Some(delta) => {
            let kind = kind_name(form(delta)).to_owned();
            Err(VectorError::UnsupportedKind { kind, path: vector.path.clone() })
        }
        None => save(vector, Some(dtype), path, job),
    }
}

/// Writes into a vector's file where it was measured to lead; its tensors, and with them its
/// fingerprint, stay as they are. `calibration` is JSON.
///
/// # Errors
///
/// [`VectorError::NotAVector`] for a file of something else; [`VectorError::Weights`] for one that
/// can't be written. Then it is what it was.
pub fn write_calibration(
    path: &Path,
    calibration: &str,
    job: &JobCtx<'_>,
) -> Result<(), VectorError> {
    if !format::is_vector(&Checkpoint::open(path)?) {
        return Err(VectorError::NotAVector { path: path.to_owned() });
    }
    Ok(set_metadata(path, key::CALIBRATION, calibration, job)?)
}

fn form(delta: &Delta) -> VectorKind {
    match delta {
        Delta::Dense(_) => VectorKind::Dense,
        Delta::LowRank(_) => VectorKind::LowRank,
        Delta::Sparse(_) => VectorKind::Sparse,
        Delta::Sign(_) => VectorKind::Sign,
        Delta::Aligned(_) => VectorKind::Checkpoint,
    }
}

/// One tensor of the file.
struct Piece<'a> {
    spec: StoredSpec,
    values: PieceValues<'a>,
}

enum PieceValues<'a> {
    Weight(&'a Weight),
    Factor(&'a [f32]),
    Integers(&'a IntegerTensor),
}

/// `None` for the weights of a checkpoint, which are no difference.
fn split<'a>(name: &str, delta: &'a Delta, dtype: Option<Dtype>) -> Option<Vec<Piece<'a>>> {
    let weight = |part: &str, weight: &'a Weight, dtype: Option<Dtype>| Piece {
        spec: StoredSpec {
            name: format!("{name}{part}"),
            dtype: StoredDtype::Float(dtype.unwrap_or(weight.dtype())),
            shape: weight.shape().to_vec(),
        },
        values: PieceValues::Weight(weight),
    };
    let factor = |part: &str, values: &'a [f32], shape: [usize; 2]| Piece {
        spec: StoredSpec {
            name: format!("{name}{part}"),
            dtype: StoredDtype::Float(dtype.unwrap_or_else(|| narrowest(values))),
            shape: shape.to_vec(),
        },
        values: PieceValues::Factor(values),
    };
    let integers = |part: &str, values: &'a IntegerTensor| Piece {
        spec: StoredSpec {
            name: format!("{name}{part}"),
            dtype: StoredDtype::Integer(values.dtype()),
            shape: values.shape().to_vec(),
        },
        values: PieceValues::Integers(values),
    };
    Some(match delta {
        Delta::Dense(values) => vec![weight("", values, dtype)],
        Delta::LowRank(factors) => {
            let [n_out, n_in] = factors.shape;
            vec![
                factor(part::LORA_A, &factors.a, [factors.rank, n_in]),
                factor(part::LORA_B, &factors.b, [n_out, factors.rank]),
            ]
        }
        Delta::Sparse(sparse) => {
            let (offsets, columns, values) = sparse.parts();
            vec![
                integers(part::OFFSETS, offsets),
                integers(part::COLUMNS, columns),
                weight(part::VALUES, values, dtype),
            ]
        }
        Delta::Sign(sign) => {
            let (words, scales) = sign.parts();
            vec![integers(part::SIGNS, words), weight(part::SCALES, scales, None)]
        }
        Delta::Aligned(_) => return None,
    })
}

/// Bytes of the values that [`save`] writes for a tensor with `dtype` left open.
pub(crate) fn stored_bytes(delta: &Delta) -> u64 {
    let of = |values: &[f32]| (values.len() * narrowest(values).size_bytes()) as u64;
    match delta {
        Delta::LowRank(factors) => of(&factors.a) + of(&factors.b),
        _ => delta.size_bytes() as u64,
    }
}

/// The narrowest type that holds every value exactly.
pub(crate) fn narrowest(values: &[f32]) -> Dtype {
    let is_bf16 = |value: &f32| value.to_bits().trailing_zeros() >= 16;
    let is_f16 = |value: &f32| f16::from_f32(*value).to_f32().to_bits() == value.to_bits();
    if values.iter().all(is_bf16) {
        Dtype::Bf16
    } else if values.iter().all(is_f16) {
        Dtype::F16
    } else {
        Dtype::F32
    }
}

impl Piece<'_> {
    fn write(
        &self,
        writer: &mut SafetensorsWriter<impl std::io::Write>,
    ) -> Result<(), VectorError> {
        let weight = match (&self.values, self.spec.dtype) {
            (PieceValues::Integers(values), _) => return Ok(writer.push(values.bytes())?),
            (PieceValues::Weight(weight), StoredDtype::Float(dtype)) => weight.to_dtype(dtype),
            (PieceValues::Factor(values), StoredDtype::Float(dtype)) => {
                Weight::from_f32(self.spec.shape.clone(), values.to_vec()).to_dtype(dtype)
            }
            (_, StoredDtype::Integer(_)) => unreachable!("weights are floats"),
        };
        if !is_finite(&weight) {
            let (name, dtype) = (self.spec.name.clone(), weight.dtype());
            return Err(VectorError::TooLargeForDtype { name, dtype });
        }
        Ok(writer.push(weight.bytes())?)
    }
}

fn metadata(vector: &AlignmentVector) -> BTreeMap<String, String> {
    let deltas = &vector.deltas;
    // A file of dense tensors only has no other forms.
    let other = || deltas.values().map(form).find(|kind| *kind != VectorKind::Dense);
    let kind = match vector.kind {
        VectorKind::Dense | VectorKind::Checkpoint => other().unwrap_or(VectorKind::Dense),
        kind => kind,
    };
    let mut metadata = format::origin_metadata(&vector.origin, kind);
    let mut add = |key: &str, value: String| drop(metadata.insert(key.to_owned(), value));
    let scales: BTreeMap<&str, f32> = deltas
        .iter()
        .filter_map(|(name, delta)| match delta {
            Delta::LowRank(factors) => Some((name.as_str(), factors.scale)),
            _ => None,
        })
        .collect();
    let first = scales.values().next().copied();
    if first.is_some() || kind == VectorKind::LowRank {
        add(key::SCALE, first.unwrap_or(1.0).to_string());
    }
    let others: BTreeMap<_, _> =
        scales.into_iter().filter(|(_, scale)| Some(*scale) != first).collect();
    if !others.is_empty() {
        add(key::SCALES, json!(others).to_string());
    }
    let shapes: BTreeMap<&str, &[usize]> = deltas
        .iter()
        .filter(|(_, delta)| matches!(delta, Delta::Sparse(_) | Delta::Sign(_)))
        .map(|(name, delta)| (name.as_str(), delta.shape()))
        .collect();
    if !shapes.is_empty() {
        add(key::SHAPES, json!(shapes).to_string());
    }
    metadata
}
