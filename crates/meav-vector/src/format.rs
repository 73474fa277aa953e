//! Format 1: one safetensors file (or shards with an index), described by string metadata.
//!
//! | kind | tensors of `NAME` |
//! |---|---|
//! | `dense` | `NAME` |
//! | `low_rank` | `NAME.lora_A` `(r, in)`, `NAME.lora_B` `(out, r)`; times `meav.scale` |
//! | `sparse` | `NAME.offsets`, `NAME.columns`, `NAME.values`; see [`Sparse::new`] |
//! | `sign` | `NAME.signs`, `NAME.scales`; see [`Sign::new`] |
//!
//! The kind names the main form: a file of any kind but `dense` may hold tensors of every form.
//! `meav.scales` is a JSON object of the scales that differ from `meav.scale`, and `meav.shapes`
//! one of the dimensions of sparse tensors and signs, which their parts don't tell.

use std::collections::BTreeMap;
use std::path::Path;

use meav_weights::{Checkpoint, Fingerprint};

use crate::alignment_vector::VectorParts;
use crate::{Delta, LowRank, Sign, Sparse, VectorError, VectorKind, VectorOrigin};

pub(crate) const FORMAT: &str = "1";

/// What is appended to a tensor's name for each of its parts.
pub(crate) mod part {
    pub(crate) const LORA_A: &str = ".lora_A";
    pub(crate) const LORA_B: &str = ".lora_B";
    pub(crate) const OFFSETS: &str = ".offsets";
    pub(crate) const COLUMNS: &str = ".columns";
    pub(crate) const VALUES: &str = ".values";
    pub(crate) const SIGNS: &str = ".signs";
    pub(crate) const SCALES: &str = ".scales";

    /// Every form, its first part first.
    pub(crate) const FORMS: [&[&str]; 3] =
        [&[LORA_A, LORA_B], &[OFFSETS, COLUMNS, VALUES], &[SIGNS, SCALES]];
}

pub(crate) mod key {
    pub(crate) const FORMAT: &str = "meav.format";
    pub(crate) const KIND: &str = "meav.kind";
    pub(crate) const DOMAIN: &str = "meav.domain";
    pub(crate) const BASE: &str = "meav.base";
    pub(crate) const BASE_FINGERPRINT: &str = "meav.base_fingerprint";
    pub(crate) const TOKENIZER_FINGERPRINT: &str = "meav.tokenizer_fingerprint";
    pub(crate) const LEVELS: &str = "meav.levels";
    pub(crate) const TRAINING: &str = "meav.training";
    pub(crate) const CALIBRATION: &str = "meav.calibration";
    pub(crate) const CREATED: &str = "meav.created";
    pub(crate) const SCALE: &str = "meav.scale";
    pub(crate) const SCALES: &str = "meav.scales";
    pub(crate) const SHAPES: &str = "meav.shapes";
    pub(crate) const EXTRACTION: &str = "meav.extraction";
    pub(crate) const COMPRESSION: &str = "meav.compression";
}

/// Whether a file's metadata says that it is a vector.
pub(crate) fn is_vector(checkpoint: &Checkpoint) -> bool {
    checkpoint.metadata().contains_key(key::FORMAT)
}

pub(crate) fn read(checkpoint: &Checkpoint) -> Result<VectorParts, VectorError> {
    let metadata = checked_metadata(checkpoint)?;
    let kind = read_kind(&metadata)?;
    let deltas = match kind {
        VectorKind::Dense => dense_deltas(checkpoint)?,
        _ => Reader::new(checkpoint, &metadata, kind)?.deltas()?,
    };
    Ok(VectorParts { kind, origin: read_origin(&metadata)?, deltas })
}

/// Kind and domain of a file, from its metadata alone.
pub(crate) fn read_summary(checkpoint: &Checkpoint) -> Result<(VectorKind, String), VectorError> {
    let metadata = checked_metadata(checkpoint)?;
    Ok((read_kind(&metadata)?, metadata.required(key::DOMAIN)?.to_owned()))
}

fn checked_metadata(checkpoint: &Checkpoint) -> Result<Metadata<'_>, VectorError> {
    let path = checkpoint.path();
    let metadata = Metadata { path, map: checkpoint.metadata() };
    match metadata.get(key::FORMAT) {
        Some(FORMAT) => Ok(metadata),
        None => Err(VectorError::NotAVector { path: path.to_owned() }),
        Some(found) => {
            let found = found.to_owned();
            Err(VectorError::NewerFormat { found, path: path.to_owned() })
        }
    }
}

pub(crate) const fn kind_name(kind: VectorKind) -> &'static str {
    match kind {
        VectorKind::Dense => "dense",
        VectorKind::LowRank => "low_rank",
        VectorKind::Sparse => "sparse",
        VectorKind::Sign => "sign",
        VectorKind::Checkpoint => "checkpoint",
    }
}

fn read_kind(metadata: &Metadata<'_>) -> Result<VectorKind, VectorError> {
    use VectorKind::{Dense, LowRank, Sign, Sparse};
    let name = metadata.required(key::KIND)?;
    let kind = [Dense, LowRank, Sparse, Sign].into_iter().find(|kind| kind_name(*kind) == name);
    kind.ok_or_else(|| {
        let (kind, path) = (name.to_owned(), metadata.path.to_owned());
        VectorError::UnsupportedKind { kind, path }
    })
}

fn read_origin(metadata: &Metadata<'_>) -> Result<VectorOrigin, VectorError> {
    Ok(VectorOrigin {
        domain: metadata.required(key::DOMAIN)?.to_owned(),
        base_name: metadata.text(key::BASE),
        base_fingerprint: metadata.parsed(key::BASE_FINGERPRINT)?,
        tokenizer_fingerprint: metadata.parsed(key::TOKENIZER_FINGERPRINT)?,
        levels: metadata.json(key::LEVELS)?,
        training: metadata.text(key::TRAINING),
        calibration: metadata.text(key::CALIBRATION),
        created: metadata.text(key::CREATED),
        extraction: metadata.text(key::EXTRACTION),
        compression: metadata.text(key::COMPRESSION),
    })
}

/// The metadata that tells where a vector comes from.
pub(crate) fn origin_metadata(origin: &VectorOrigin, kind: VectorKind) -> BTreeMap<String, String> {
    let text = |fingerprint: Option<Fingerprint>| fingerprint.map(|it| it.to_string());
    [
        (key::FORMAT, Some(FORMAT.to_owned())),
        (key::KIND, Some(kind_name(kind).to_owned())),
        (key::DOMAIN, Some(origin.domain.clone())),
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
        (key::EXTRACTION, origin.extraction.clone()),
        (key::COMPRESSION, origin.compression.clone()),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some((key.to_owned(), value?)))
    .collect()
}

fn dense_deltas(checkpoint: &Checkpoint) -> Result<BTreeMap<String, Delta>, VectorError> {
    checkpoint
        .names()
        .map(|name| Ok((name.to_owned(), Delta::Dense(checkpoint.load(name)?))))
        .collect()
}

/// Puts tensors together from their parts.
struct Reader<'a> {
    checkpoint: &'a Checkpoint,
    /// The scale of the tensors that `scales` does not name.
    scale: f32,
    scales: BTreeMap<String, f32>,
    shapes: BTreeMap<String, Vec<usize>>,
}

impl<'a> Reader<'a> {
    fn new(
        checkpoint: &'a Checkpoint,
        metadata: &Metadata<'_>,
        kind: VectorKind,
    ) -> Result<Self, VectorError> {
        let scale = match metadata.parsed(key::SCALE)? {
            None if kind == VectorKind::LowRank => return Err(metadata.unusable(key::SCALE)),
            scale => scale.unwrap_or(1.0),
        };
        let scales = metadata.json(key::SCALES)?;
        let shapes = metadata.json(key::SHAPES)?;
        Ok(Self { checkpoint, scale, scales, shapes })
    }

    fn deltas(&self) -> Result<BTreeMap<String, Delta>, VectorError> {
        let mut deltas = BTreeMap::new();
        for stored in self.checkpoint.names() {
            let Some((name, form, is_first)) = split(stored) else {
                let weight = self.checkpoint.load(stored)?;
                self.insert(&mut deltas, stored, Delta::Dense(weight))?;
                continue;
            };
            let part = |part: &&&str| self.checkpoint.info(&format!("{name}{part}")).is_none();
            if form.iter().find(part).is_some() {
                return Err(self.misfit(name, form));
            }
            if is_first {
                let delta = self.form(name, form)?.ok_or_else(|| self.misfit(name, form))?;
                self.insert(&mut deltas, name, delta)?;
            }
        }
        Ok(deltas)
    }

    fn insert(
        &self,
        deltas: &mut BTreeMap<String, Delta>,
        name: &str,
        delta: Delta,
    ) -> Result<(), VectorError> {
        match deltas.insert(name.to_owned(), delta) {
            None => Ok(()),
            Some(_) => Err(self.misfit(name, &[])),
        }
    }

    /// `None` where the parts don't fit each other.
    fn form(&self, name: &str, form: &[&str]) -> Result<Option<Delta>, VectorError> {
        let weight = |part: &str| self.checkpoint.load(&format!("{name}{part}"));
        let integers = |part: &str| self.checkpoint.load_integers(&format!("{name}{part}"));
        if form[0] == part::LORA_A {
            let scale = self.scales.get(name).copied().unwrap_or(self.scale);
            let factors = LowRank::new(&weight(part::LORA_A)?, &weight(part::LORA_B)?, scale);
            return Ok(factors.map(Delta::LowRank));
        }
        let Some(shape) = self.shapes.get(name).cloned() else { return Ok(None) };
        Ok(if form[0] == part::OFFSETS {
            let (offsets, columns) = (integers(part::OFFSETS)?, integers(part::COLUMNS)?);
            Sparse::new(shape, offsets, columns, weight(part::VALUES)?).map(Delta::Sparse)
        } else {
            Sign::new(shape, integers(part::SIGNS)?, &weight(part::SCALES)?).map(Delta::Sign)
        })
    }

    fn misfit(&self, name: &str, form: &[&str]) -> VectorError {
        let (name, path) = (name.to_owned(), self.checkpoint.path().to_owned());
        match form.first() {
            Some(&part::LORA_A) => VectorError::Factors { name, path },
            _ => VectorError::Parts { name, path },
        }
    }
}

/// The tensor that a part belongs to, its form, and whether it is the first part of that.
fn split(stored: &str) -> Option<(&str, &'static [&'static str], bool)> {
    part::FORMS.into_iter().find_map(|form| {
        form.iter().enumerate().find_map(|(index, part)| {
            let name = stored.strip_suffix(part)?;
            Some((name, form, index == 0))
        })
    })
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

    /// The default where there is no such key.
    fn json<T: serde::de::DeserializeOwned + Default>(&self, key: &str) -> Result<T, VectorError> {
        let Some(json) = self.get(key) else { return Ok(T::default()) };
        serde_json::from_str(json).map_err(|_source| self.unusable(key))
    }

    fn unusable(&self, key: &str) -> VectorError {
        VectorError::Metadata { key: key.to_owned(), path: self.path.to_owned() }
    }
}
