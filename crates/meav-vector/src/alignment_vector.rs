use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};

use meav_job::JobCtx;
use meav_weights::{
    Checkpoint, CheckpointFormat, Fingerprint, Fingerprinter, Values, Weight, is_copied_head,
    is_weight,
};
use rayon::prelude::*;

use crate::rows::base_name;
use crate::{Sign, Sparse, VectorError, VectorName, format, peft};

/// `aligned weights − base weights` for one preference dimension.
#[derive(Debug)]
pub struct AlignmentVector {
    /// Where it was read from.
    pub path: PathBuf,
    /// How its values are stored.
    pub kind: VectorKind,
    /// Where it comes from, as far as the file tells.
    pub origin: VectorOrigin,
    /// The identity of its values.
    pub fingerprint: Fingerprint,
    /// What it adds, by the tensor's name in the base model.
    pub deltas: BTreeMap<String, Delta>,
}

/// How a vector's values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VectorKind {
    /// Every element of every tensor that it changes.
    Dense,
    /// Two factors for each tensor.
    LowRank,
    /// The elements that were kept, and their places.
    Sparse,
    /// A bit for each element and a scale for each row.
    Sign,
    /// A whole aligned model; what it adds is its difference from the base model at hand.
    Checkpoint,
}

/// Where a vector comes from.
#[derive(Clone, Debug, Default)]
pub struct VectorOrigin {
    /// The preference dimension's name, e.g. `medical`.
    pub domain: String,
    /// The name of the base model.
    pub base_name: Option<String>,
    /// The fingerprint of the base model's tensors.
    pub base_fingerprint: Option<Fingerprint>,
    /// The fingerprint of the vocabulary.
    pub tokenizer_fingerprint: Option<Fingerprint>,
    /// The levels it was trained on, highest preference first.
    pub levels: Vec<String>,
    /// How it was trained, as JSON.
    pub training: Option<String>,
    /// The sweep it was measured by, as JSON.
    pub calibration: Option<String>,
    /// When it was made, RFC 3339.
    pub created: Option<String>,
    /// How far the base and the vector are from the aligned model, as JSON.
    pub extraction: Option<String>,
    /// How it was made smaller, and how far it is from what it was, as JSON.
    pub compression: Option<String>,
}

/// What a vector adds to one tensor at λ = 1.
#[derive(Clone, Debug)]
pub enum Delta {
    /// Added element by element.
    Dense(Weight),
    /// Added as a product.
    LowRank(LowRank),
    /// Added where there is a value.
    Sparse(Sparse),
    /// Added with one size in each row.
    Sign(Sign),
    /// The aligned weight itself: what is added is `aligned − base`, in `f32`, with the base
    /// widened but not rounded.
    Aligned(Weight),
}

/// `scale · B · A`.
#[derive(Clone, Debug)]
pub struct LowRank {
    /// `A`, `(r, in)`, row-major.
    pub a: Vec<f32>,
    /// `B`, `(out, r)`, row-major.
    pub b: Vec<f32>,
    /// `(out, in)`: the dimensions of the product.
    pub shape: [usize; 2],
    /// `r`.
    pub rank: usize,
    /// The factor in front.
    pub scale: f32,
}

impl LowRank {
    /// `None` unless `a` is `(r, in)` and `b` is `(out, r)`, both with elements.
    pub(crate) fn new(a: &Weight, b: &Weight, scale: f32) -> Option<Self> {
        match (a.shape(), b.shape()) {
            (&[rank, n_in], &[n_out, b_rank]) if rank == b_rank && rank * n_in * n_out > 0 => {
                let shape = [n_out, n_in];
                Some(Self { a: a.to_f32_vec(), b: b.to_f32_vec(), shape, rank, scale })
            }
            _ => None,
        }
    }
}

impl Delta {
    /// The dimensions of what is added.
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::Dense(weight) | Self::Aligned(weight) => weight.shape(),
            Self::LowRank(factors) => &factors.shape,
            Self::Sparse(sparse) => sparse.shape(),
            Self::Sign(sign) => sign.shape(),
        }
    }

    /// Bytes of the values.
    pub fn size_bytes(&self) -> usize {
        match self {
            Self::Dense(weight) | Self::Aligned(weight) => weight.bytes().len(),
            Self::LowRank(factors) => size_of_val(&*factors.a) + size_of_val(&*factors.b),
            Self::Sparse(sparse) => sparse.size_bytes(),
            Self::Sign(sign) => sign.size_bytes(),
        }
    }

    pub(crate) fn is_finite(&self) -> bool {
        match self {
            Self::Dense(weight) | Self::Aligned(weight) => is_finite(weight),
            Self::Sparse(sparse) => is_finite(sparse.weight()),
            Self::Sign(sign) => sign.scales().iter().all(|scale| scale.is_finite()),
            Self::LowRank(factors) => {
                let mut values = factors.a.iter().chain(&factors.b);
                factors.scale.is_finite() && values.all(|value| value.is_finite())
            }
        }
    }
}

/// Whether every value is a number, and none infinite.
pub(crate) fn is_finite(weight: &Weight) -> bool {
    match weight.values() {
        Values::F32(values) => values.par_iter().all(|value| value.is_finite()),
        Values::F16(values) => values.par_iter().all(|value| value.is_finite()),
        Values::Bf16(values) => values.par_iter().all(|value| value.is_finite()),
    }
}

impl AlignmentVector {
    /// Reads a file of format 1, a PEFT adapter folder, or a whole aligned model.
    ///
    /// The domain of an adapter or a model is the name of its folder or file. A model is a vector
    /// whose values are its difference from the base model at hand; its fingerprint is that of its
    /// weights, without what else its files hold. A GGUF is dequantised into memory.
    /// `known_fingerprint`, kept from an earlier reading of the same unchanged file, saves reading
    /// all of a large vector but the places of sparse values.
    ///
    /// # Errors
    ///
    /// [`VectorError`] that names the file, what is wrong with it, and the first tensor concerned.
    pub fn open(
        path: &Path,
        known_fingerprint: Option<Fingerprint>,
        job: &JobCtx<'_>,
    ) -> Result<Self, VectorError> {
        let VectorParts { kind, origin, deltas } = open_parts(path, job)?;
        let fingerprint = match known_fingerprint {
            Some(fingerprint) => {
                check_places(&deltas, path)?;
                fingerprint
            }
            None => check_and_fingerprint(&deltas, path, job)?,
        };
        Ok(Self { path: path.to_owned(), kind, origin, fingerprint, deltas })
    }

    /// A vector that was computed: checks its values and takes their fingerprint.
    pub(crate) fn computed(
        parts: VectorParts,
        path: &Path,
        job: &JobCtx<'_>,
    ) -> Result<Self, VectorError> {
        let VectorParts { kind, origin, deltas } = parts;
        let fingerprint = check_and_fingerprint(&deltas, path, job)?;
        Ok(Self { path: path.to_owned(), kind, origin, fingerprint, deltas })
    }

    /// Bytes of its values in memory or in the mapped file.
    pub fn size_bytes(&self) -> u64 {
        self.deltas.values().map(|delta| delta.size_bytes() as u64).sum()
    }

    /// Checks that every tensor can be added to the base model's tensor of that name, and that a
    /// whole model has all weights of the base model.
    ///
    /// A whole model may have an output projection that the base model has not, as long as it is
    /// the copy of its own embeddings; it is not applied.
    ///
    /// # Errors
    ///
    /// [`VectorError::TokenizerMismatch`], [`VectorError::MissingTensor`],
    /// [`VectorError::OtherNames`], [`VectorError::ShapeMismatch`] or
    /// [`VectorError::MissingInAligned`] for the first misfit in name order.
    pub fn check_fit(&self, base: &Checkpoint, tokenizer: Fingerprint) -> Result<(), VectorError> {
        let domain = || self.origin.domain.clone();
        for (name, delta) in &self.deltas {
            let Some(info) = base.info(name) else {
                if self.is_copied_head(name) {
                    continue;
                }
                return Err(self.misnamed(name, delta.shape(), base));
            };
            if info.shape != delta.shape() {
                return Err(VectorError::ShapeMismatch {
                    vector: self.name().into(),
                    name: name.clone(),
                    found: delta.shape().to_vec(),
                    expected: info.shape,
                    base: base_name(base),
                });
            }
        }
        let is_missing = |name: &&str| is_weight(name) && !self.deltas.contains_key(*name);
        if self.kind == VectorKind::Checkpoint
            && let Some(name) = base.names().find(is_missing)
        {
            let (name, base) = (name.to_owned(), base_name(base));
            return Err(VectorError::MissingInAligned { domain: domain(), name, base });
        }
        match self.origin.tokenizer_fingerprint {
            Some(own) if own != tokenizer => {
                Err(VectorError::TokenizerMismatch { domain: domain() })
            }
            _ => Ok(()),
        }
    }

    /// What is wrong with a name that the base model does not have.
    fn misnamed(&self, name: &str, shape: &[usize], base: &Checkpoint) -> VectorError {
        let others = match name.strip_prefix(TEXT_MODEL) {
            Some(bare) => bare.to_owned(),
            None => format!("{TEXT_MODEL}{name}"),
        };
        let vector = self.name().into();
        if base.info(&others).is_some_and(|info| info.shape == shape) {
            let (found, base) = (others.into(), base_name(base).into());
            return VectorError::OtherNames { vector, name: name.into(), found, base };
        }
        VectorError::MissingTensor { vector, name: name.to_owned(), base: base_name(base) }
    }

    /// Whether the tensor is one of a whole model's that is there twice.
    pub(crate) fn is_copied_head(&self, name: &str) -> bool {
        let aligned = |name: &str| match self.deltas.get(name) {
            Some(Delta::Aligned(weight)) => Some(weight.clone()),
            _ => None,
        };
        let Ok(is_copied) = is_copied_head(name, |name| Ok::<_, Infallible>(aligned(name)));
        is_copied
    }

    /// What errors call it.
    pub(crate) fn name(&self) -> VectorName {
        let VectorOrigin { domain, base_name, .. } = &self.origin;
        VectorName { domain: domain.clone(), made_for: base_name.clone() }
    }
}

/// In front of the names of the text part of Gemma 3, where its files hold other parts too.
const TEXT_MODEL: &str = "language_model.";

fn open_parts(path: &Path, job: &JobCtx<'_>) -> Result<VectorParts, VectorError> {
    if peft::is_adapter(path) {
        return peft::open(path);
    }
    let checkpoint = Checkpoint::open(path)?;
    if format::is_vector(&checkpoint) || !is_model(&checkpoint) {
        return format::read(&checkpoint);
    }
    let names: Vec<_> = checkpoint.names().filter(|name| is_weight(name)).collect();
    let mut deltas = BTreeMap::new();
    for (index, name) in names.iter().enumerate() {
        job.tick(index, names.len())?;
        deltas.insert((*name).to_owned(), Delta::Aligned(checkpoint.load(name)?));
    }
    let origin = VectorOrigin { domain: base_name(&checkpoint), ..VectorOrigin::default() };
    Ok(VectorParts { kind: VectorKind::Checkpoint, origin, deltas })
}

/// A lone safetensors file is none: it could be differences that lost their metadata.
pub(crate) fn is_model(checkpoint: &Checkpoint) -> bool {
    checkpoint.format() == CheckpointFormat::Gguf || checkpoint.path().join("config.json").is_file()
}

/// What a file says, before its values have been looked at.
pub(crate) struct VectorParts {
    pub(crate) kind: VectorKind,
    pub(crate) origin: VectorOrigin,
    pub(crate) deltas: BTreeMap<String, Delta>,
}

/// Refuses values outside their row: places are not checked again where they are added.
fn check_places(deltas: &BTreeMap<String, Delta>, path: &Path) -> Result<(), VectorError> {
    let is_broken = |delta: &Delta| matches!(delta, Delta::Sparse(it) if !it.columns_fit());
    match deltas.iter().find(|(_, delta)| is_broken(delta)) {
        Some((name, _)) => Err(VectorError::Parts { name: name.clone(), path: path.to_owned() }),
        None => Ok(()),
    }
}

/// The identity of a vector: that of what it adds to each tensor. Refuses NaN and infinity.
fn check_and_fingerprint(
    deltas: &BTreeMap<String, Delta>,
    path: &Path,
    job: &JobCtx<'_>,
) -> Result<Fingerprint, VectorError> {
    check_places(deltas, path)?;
    let mut fingerprinter = Fingerprinter::default();
    for (index, (name, delta)) in deltas.iter().enumerate() {
        job.tick(index, deltas.len())?;
        if !delta.is_finite() {
            return Err(VectorError::NonFiniteValues { name: name.clone(), path: path.to_owned() });
        }
        match delta {
            Delta::Dense(weight) | Delta::Aligned(weight) => fingerprinter.add(name, weight),
            Delta::Sparse(sparse) => {
                let (offsets, columns, values) = sparse.parts();
                fingerprinter.add(name, values);
                add_shape(&mut fingerprinter, b"sparse", sparse.shape());
                fingerprinter.add_bytes(Fingerprint::of_bytes(offsets.bytes()).as_bytes());
                fingerprinter.add_bytes(Fingerprint::of_bytes(columns.bytes()).as_bytes());
            }
            Delta::Sign(sign) => {
                let (words, scales) = sign.parts();
                fingerprinter.add(name, scales);
                add_shape(&mut fingerprinter, b"sign", sign.shape());
                fingerprinter.add_bytes(Fingerprint::of_bytes(words.bytes()).as_bytes());
            }
            Delta::LowRank(LowRank { a, b, shape: [n_out, n_in], rank, scale }) => {
                fingerprinter.add(name, &Weight::from_f32(vec![*rank, *n_in], a.clone()));
                fingerprinter.add(name, &Weight::from_f32(vec![*n_out, *rank], b.clone()));
                fingerprinter.add_bytes(&scale.to_le_bytes());
            }
        }
    }
    Ok(fingerprinter.finish())
}

fn add_shape(fingerprinter: &mut Fingerprinter, kind: &[u8], shape: &[usize]) {
    fingerprinter.add_bytes(kind);
    for dim in shape {
        fingerprinter.add_bytes(&(*dim as u64).to_le_bytes());
    }
}
