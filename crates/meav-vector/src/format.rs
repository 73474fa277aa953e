//! Format 1: one safetensors file (or shards with an index), described by string metadata.

use std::collections::BTreeMap;
use std::path::Path;

use meav_weights::{
    Checkpoint, Dtype, Fingerprint, SafetensorsWriter, TensorSpec, Weight, write_file_atomically,
};

use crate::alignment_vector::VectorParts;
use crate::{AlignmentVector, Delta, LowRank, VectorError, VectorKind, VectorOrigin};

const FORMAT: &str = "1";
const LORA_A: &str = ".lora_A";
const LORA_B: &str = ".lora_B";

mod key {
    pub(super) const FORMAT: &str = "meav.format";
    pub(super) const KIND: &str = "meav.kind";
    pub(super) const DOMAIN: &str = "meav.domain";
    pub(super) const BASE: &str = "meav.base";
    pub(super) const BASE_FINGERPRINT: &str = "meav.base_fingerprint";
    pub(super) const TOKENIZER_FINGERPRINT: &str = "meav.tokenizer_fingerprint";
    pub(super) const LEVELS: &str = "meav.levels";
    pub(super) const TRAINING: &str = "meav.training";
    pub(super) const CALIBRATION: &str = "meav.calibration";
    pub(super) const CREATED: &str = "meav.created";
    pub(super) const SCALE: &str = "meav.scale";
}

pub(crate) fn open(path: &Path) -> Result<VectorParts, VectorError> {
    let checkpoint = Checkpoint::open(path)?;
    let metadata = Metadata { path, map: checkpoint.metadata() };
    match metadata.get(key::FORMAT) {
        Some(FORMAT) => {}
        None => return Err(VectorError::NotAVector { path: path.to_owned() }),
        Some(found) => {
            let found = found.to_owned();
            return Err(VectorError::NewerFormat { found, path: path.to_owned() });
        }
    }
    let (kind, deltas) = match metadata.required(key::KIND)? {
        "dense" => (VectorKind::Dense, dense_deltas(&checkpoint)?),
        "low_rank" => {
            let scale: f32 =
                metadata.parsed(key::SCALE)?.ok_or_else(|| metadata.unusable(key::SCALE))?;
            (VectorKind::LowRank, low_rank_deltas(&checkpoint, scale)?)
        }
        kind => {
            let (kind, path) = (kind.to_owned(), path.to_owned());
            return Err(VectorError::UnsupportedKind { kind, path });
        }
    };
    let origin = VectorOrigin {
        domain: metadata.required(key::DOMAIN)?.to_owned(),
        base_name: metadata.text(key::BASE),
        base_fingerprint: metadata.parsed(key::BASE_FINGERPRINT)?,
        tokenizer_fingerprint: metadata.parsed(key::TOKENIZER_FINGERPRINT)?,
        levels: match metadata.get(key::LEVELS) {
            Some(json) => {
                serde_json::from_str(json).map_err(|_source| metadata.unusable(key::LEVELS))?
            }
            None => Vec::new(),
        },
        training: metadata.text(key::TRAINING),
        calibration: metadata.text(key::CALIBRATION),
        created: metadata.text(key::CREATED),
    };
    Ok(VectorParts { kind, origin, deltas })
}

fn dense_deltas(checkpoint: &Checkpoint) -> Result<BTreeMap<String, Delta>, VectorError> {
    checkpoint
        .names()
        .map(|name| Ok((name.to_owned(), Delta::Dense(checkpoint.load(name)?))))
        .collect()
}

fn low_rank_deltas(
    checkpoint: &Checkpoint,
    scale: f32,
) -> Result<BTreeMap<String, Delta>, VectorError> {
    let mut deltas = BTreeMap::new();
    for factor_name in checkpoint.names() {
        let misfit = |name: &str| VectorError::Factors {
            name: name.to_owned(),
            path: checkpoint.path().to_owned(),
        };
        let (name, is_a) = match factor_name.strip_suffix(LORA_A) {
            Some(name) => (name, true),
            None => (factor_name.strip_suffix(LORA_B).ok_or_else(|| misfit(factor_name))?, false),
        };
        let (name_a, name_b) = (format!("{name}{LORA_A}"), format!("{name}{LORA_B}"));
        if checkpoint.info(&name_a).is_none() || checkpoint.info(&name_b).is_none() {
            return Err(misfit(name));
        }
        if is_a {
            let factors =
                LowRank::new(&checkpoint.load(&name_a)?, &checkpoint.load(&name_b)?, scale)
                    .ok_or_else(|| misfit(name))?;
            deltas.insert(name.to_owned(), Delta::LowRank(factors));
        }
    }
    Ok(deltas)
}

/// The metadata of one file, with the file's name for errors.
struct Metadata<'a> {
    path: &'a Path,
    map: &'a BTreeMap<String, String>,
}

impl<'a> Metadata<'a> {
    fn get(&self, key: &str) -> Option<&'a str> {
        self.map.get(key).map(String::as_str)
    }

    fn text(&self, key: &str) -> Option<String> {
        self.get(key).map(str::to_owned)
    }

    fn required(&self, key: &str) -> Result<&'a str, VectorError> {
        self.get(key).ok_or_else(|| self.unusable(key))
    }

    fn parsed<T: std::str::FromStr>(&self, key: &str) -> Result<Option<T>, VectorError> {
        self.get(key).map(|text| text.parse().map_err(|_source| self.unusable(key))).transpose()
    }

    fn unusable(&self, key: &str) -> VectorError {
        VectorError::Metadata { key: key.to_owned(), path: self.path.to_owned() }
    }
}

/// Writes a low-rank vector as one file of format 1, its factors rounded to `dtype`.
///
/// The scales of all tensors must be one and the same; it goes into the metadata.
///
/// # Errors
///
/// [`VectorError::Weights`] if it can't be written; nothing is left then.
/// [`VectorError::UnsupportedKind`] for a vector
/// with dense tensors, [`VectorError::Factors`] for the first tensor with another scale.
pub fn save_low_rank(
    vector: &AlignmentVector,
    dtype: Dtype,
    path: &Path,
) -> Result<(), VectorError> {
    let mut scale = None;
    let mut tensors = Vec::new();
    for (name, delta) in &vector.deltas {
        let Delta::LowRank(factors) = delta else {
            let (kind, path) = ("dense".to_owned(), vector.path.clone());
            return Err(VectorError::UnsupportedKind { kind, path });
        };
        #[expect(clippy::float_cmp, reason = "one and the same, not nearly so")]
        let is_other = *scale.get_or_insert(factors.scale) != factors.scale;
        if is_other {
            let (name, path) = (name.clone(), vector.path.clone());
            return Err(VectorError::Factors { name, path });
        }
        let [n_out, n_in] = factors.shape;
        let a = Weight::from_f32(vec![factors.rank, n_in], factors.a.clone());
        let b = Weight::from_f32(vec![n_out, factors.rank], factors.b.clone());
        tensors.push((format!("{name}{LORA_A}"), a.to_dtype(dtype)));
        tensors.push((format!("{name}{LORA_B}"), b.to_dtype(dtype)));
    }
    let specs = tensors
        .iter()
        .map(|(name, weight)| TensorSpec {
            name: name.clone(),
            dtype,
            shape: weight.shape().to_vec(),
        })
        .collect();
    let metadata = low_rank_metadata(&vector.origin, scale.unwrap_or(1.0));
    write_file_atomically(path, |file| {
        let mut writer = SafetensorsWriter::new(file, path, specs, metadata)?;
        for (_, weight) in &tensors {
            writer.push(weight.bytes())?;
        }
        writer.finish()
    })?;
    Ok(())
}

fn low_rank_metadata(origin: &VectorOrigin, scale: f32) -> BTreeMap<String, String> {
    let text = |fingerprint: Option<Fingerprint>| fingerprint.map(|it| it.to_string());
    [
        (key::FORMAT, Some(FORMAT.to_owned())),
        (key::KIND, Some("low_rank".to_owned())),
        (key::DOMAIN, Some(origin.domain.clone())),
        (key::SCALE, Some(scale.to_string())),
        (key::BASE, origin.base_name.clone()),
        (key::BASE_FINGERPRINT, text(origin.base_fingerprint)),
        (key::TOKENIZER_FINGERPRINT, text(origin.tokenizer_fingerprint)),
        (
            key::LEVELS,
            (!origin.levels.is_empty()).then(|| serde_json::json!(origin.levels).to_string()),
        ),
        (key::TRAINING, origin.training.clone()),
        (key::CALIBRATION, origin.calibration.clone()),
        (key::CREATED, origin.created.clone()),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some((key.to_owned(), value?)))
    .collect()
}
