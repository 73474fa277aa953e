use std::fmt;
use std::path::PathBuf;

use meav_job::Cancelled;
use meav_weights::{Dtype, WeightsError};

/// Why an alignment vector could not be read or applied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields are named in each message")]
pub enum VectorError {
    /// λ is NaN or infinite.
    #[error("the coefficient of {domain:?} is {coefficient}, which is not a finite number")]
    NonFiniteCoefficient { domain: String, coefficient: f64 },

    /// TIES or a compression is to keep nothing, more than everything, or NaN.
    #[error("the density is {density}, which is not above 0 and up to 1")]
    Density { density: f64 },

    /// DARE is to drop everything, less than nothing, or NaN.
    #[error("the drop probability of DARE is {drop}, which is not from 0 to below 1")]
    DropRate { drop: f64 },

    /// A vector's scope names layers that the base model does not have, or ends before it begins.
    #[error(
        "layers {first} to {last} of {domain:?} are not layers of the base model, which has {n_layers}"
    )]
    Layers { domain: String, first: usize, last: usize, n_layers: usize },

    /// A vector's profile over depth is NaN or infinite somewhere.
    #[error("the depth profile of {domain:?} has the value {value}, which is not a finite number")]
    Profile { domain: String, value: f64 },

    /// The vector changes a tensor that the base model does not have.
    #[error(
        "the base model {base:?} has no tensor {name:?}, which {vector} changes: a vector is not \
         transferred between models of another architecture or size"
    )]
    MissingTensor { vector: Box<VectorName>, name: String, base: String },

    /// The vector was made for a file that calls all tensors otherwise.
    #[error(
        "the base model {base:?} calls {found:?} what {vector} calls {name:?}: the vector was made \
         for another form of the model, such as the GGUF of a model that sees, which holds its \
         text part only"
    )]
    OtherNames { vector: Box<VectorName>, name: Box<str>, found: Box<str>, base: Box<str> },

    /// The vector and the base model give a tensor different dimensions.
    #[error(
        "tensor {name:?} has shape {found:?} in {vector}, the base model {base:?} has \
         {expected:?}: a vector is not transferred between models of another architecture or size"
    )]
    ShapeMismatch {
        vector: Box<VectorName>,
        name: String,
        found: Vec<usize>,
        expected: Vec<usize>,
        base: String,
    },

    /// A whole model used as a vector lacks a tensor that the base model has.
    #[error(
        "the model {domain:?} has no tensor {name:?}, which the base model {base:?} has: only \
         models of the same architecture and size have a difference"
    )]
    MissingInAligned { domain: String, name: String, base: String },

    /// A whole model used as a vector is a difference only beside its base model.
    #[error("{domain:?} is a whole model: its base model is needed too")]
    BaseNeeded { domain: String },

    /// Two vectors, or the two models of a difference, give a tensor different dimensions.
    #[error("tensor {name:?} has shape {a_shape:?} in {a:?} and {b_shape:?} in {b:?}")]
    VectorsDiffer {
        name: Box<str>,
        a: Box<str>,
        a_shape: Box<[usize]>,
        b: Box<str>,
        b_shape: Box<[usize]>,
    },

    /// What was asked of a compression or separation is outside its range.
    #[error("{setting} must be {range}, not {found}")]
    Setting { setting: &'static str, range: &'static str, found: f64 },

    /// More elements than a sparse tensor can count.
    #[error("tensor {name:?} has 2^32 values or more, which no sparse tensor holds")]
    TooManyValues { name: String },

    /// Two models and a filter of names have no tensor in which they differ.
    #[error("the models have no difference in the tensors that were asked for")]
    NoDifference,

    /// One model has a tensor that the other has not.
    #[error(
        "tensor {name:?} is in {found:?} and not in {missing:?}: only models of the same \
         architecture and size have a difference"
    )]
    Unpaired { name: String, found: PathBuf, missing: PathBuf },

    /// The vector was made for a model with another vocabulary.
    #[error("{domain:?} was made for a model with another tokenizer")]
    TokenizerMismatch { domain: String },

    /// The file holds tensors, but says nothing about being an alignment vector.
    #[error("no alignment vector: the metadata has no \"meav.format\" in {path:?}")]
    NotAVector { path: PathBuf },

    /// The file was written by a newer version of this program.
    #[error("format {found:?} is newer than format 1, the newest known here, in {path:?}")]
    NewerFormat { found: String, path: PathBuf },

    /// The metadata lacks something or contradicts itself.
    #[error("the metadata has no usable {key:?} in {path:?}")]
    Metadata { key: String, path: PathBuf },

    /// The values are stored in a way that is not known here.
    #[error("vectors of kind {kind:?} are not supported, in {path:?}")]
    UnsupportedKind { kind: String, path: PathBuf },

    /// A low-rank tensor lacks one of its factors, or they don't fit each other.
    #[error("the low-rank factors of tensor {name:?} don't fit together in {path:?}")]
    Factors { name: String, path: PathBuf },

    /// A sparse or one-bit tensor lacks a part, or its parts contradict each other.
    #[error("the stored parts of tensor {name:?} don't fit together in {path:?}")]
    Parts { name: String, path: PathBuf },

    /// Values that are numbers become infinite in the type that they are to be stored in.
    #[error("tensor {name:?} has values that are too large for {dtype}")]
    TooLargeForDtype { name: String, dtype: Dtype },

    /// The vector has NaN or infinite values, e.g. from a training run that diverged.
    #[error("tensor {name:?} has values that are not finite numbers in {path:?}")]
    NonFiniteValues { name: String, path: PathBuf },

    /// `adapter_config.json` is missing or not what PEFT writes.
    #[error("cannot read the adapter's configuration {path:?}")]
    AdapterConfig { path: PathBuf, source: AdapterConfigError },

    /// The adapter does something that a sum of weights can't express, or not yet.
    #[error("the adapter uses {feature}, which is not supported: {reason}")]
    UnsupportedAdapter { feature: String, reason: &'static str },

    /// The backend failed, e.g. out of memory.
    #[error("arithmetic on tensor {name:?} failed")]
    Tensor { name: String, source: candle_core::Error },

    /// A file could not be read or written.
    #[error(transparent)]
    Weights(#[from] WeightsError),

    /// See [`Cancelled`].
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

/// What a vector calls itself, and the model that it was made for, as far as it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VectorName {
    /// The preference dimension, or the name of a model.
    pub domain: String,
    /// The name of its base model.
    pub made_for: Option<String>,
}

impl fmt::Display for VectorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.domain)?;
        match &self.made_for {
            Some(made_for) => write!(f, " (made for {made_for:?})"),
            None => Ok(()),
        }
    }
}

/// Why `adapter_config.json` could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdapterConfigError {
    /// It is missing or unreadable.
    #[error(transparent)]
    Read(#[from] std::io::Error),
    /// It is not JSON of the expected form.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}
