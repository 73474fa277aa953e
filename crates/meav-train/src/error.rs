use std::path::PathBuf;

use meav_job::Cancelled;
use meav_model::ModelError;
use meav_weights::WeightsError;

/// Why a training run can't begin or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields are named in each message")]
pub enum TrainError {
    /// A setting is out of range.
    #[error("{setting} is {value}, it must be {allowed}")]
    Setting { setting: &'static str, value: f64, allowed: &'static str },

    /// The factors are to be wider than any matrix.
    #[error("the rank is {rank}, no matrix of the model is larger than {largest}")]
    Rank { rank: usize, largest: usize },

    /// No linear layer is called so.
    #[error("the model has no linear layer {target:?}, only {}", .known.join(", "))]
    UnknownTarget { target: String, known: Vec<String> },

    /// The level to prefer is none of the file's.
    #[error("there is no level {level:?}, only {}, in {file:?}", .known.join(", "))]
    UnknownLevel { level: String, known: Vec<String>, file: PathBuf },

    /// There is nothing to prefer to what there is.
    #[error("there is only one level, {level:?}, so that nothing is preferred, in {file:?}")]
    OneLevel { level: String, file: PathBuf },

    /// A file without records, or none at all.
    #[error("no file has a record")]
    NoRecords,

    /// Every record is left out.
    #[error("none of {left_out} records makes a pair, the first one because {reason}, in {file:?}")]
    NoPairs { left_out: usize, reason: String, file: PathBuf },

    /// The reference log-probabilities are those of other pairs.
    #[error("there are reference log-probabilities of {found} pairs, there should be {expected}")]
    ReferenceLength { found: usize, expected: usize },

    /// The model is far from anything that can be computed with; nothing of it was changed.
    #[error("the {quantity} is {value} in step {step}")]
    NotFinite { step: usize, quantity: &'static str, value: f64 },

    /// A validation without anything held back.
    #[error("no pair is held back for validation")]
    NothingHeldBack,

    /// What a run can't go on from.
    #[error("cannot go on from checkpoint {path:?}")]
    Checkpoint { path: PathBuf, source: CheckpointError },

    /// The model can't be run.
    #[error(transparent)]
    Model(ModelError),

    /// The optimiser can't reach a tensor.
    #[error("cannot change tensor {name:?}")]
    Tensor { name: String, source: candle_core::Error },

    /// A checkpoint can't be read or written.
    #[error(transparent)]
    Weights(WeightsError),

    /// See [`Cancelled`].
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

/// What is wrong with a checkpoint of a training run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields are named in each message")]
pub enum CheckpointError {
    /// A file of tensors, and no more.
    #[error("it has no {key:?}: it is not a checkpoint of a training run")]
    NoState { key: &'static str },

    /// The state is not what was written.
    #[error("its state is damaged")]
    State(#[from] serde_json::Error),

    /// Of a later version of the program.
    #[error("it has format {found}, only {supported} is known")]
    Format { found: u32, supported: u32 },

    /// It belongs to another run.
    #[error("it was made with another {what}: {there} there, {here} here")]
    OtherRun { what: String, there: String, here: String },

    /// More steps than the run has.
    #[error("it is at step {found} of {total}")]
    Step { found: usize, total: usize },

    /// A tensor that the run has is not there.
    #[error("tensor {name:?} is missing")]
    MissingTensor { name: String },

    /// A tensor that the run doesn't have.
    #[error("tensor {name:?} is none that is trained")]
    UnknownTensor { name: String },

    /// A tensor of another kind.
    #[error("tensor {name:?} is {found}, it should be {expected}")]
    Shape { name: String, found: String, expected: String },

    /// A number that no run comes to.
    #[error("tensor {name:?} has the impossible value {value}")]
    Value { name: String, value: f32 },

    /// The file is none of tensors.
    #[error(transparent)]
    Weights(#[from] WeightsError),
}

impl From<ModelError> for TrainError {
    fn from(err: ModelError) -> Self {
        match err {
            ModelError::Cancelled(cancelled) => Self::Cancelled(cancelled),
            err => Self::Model(err),
        }
    }
}

impl From<WeightsError> for TrainError {
    fn from(err: WeightsError) -> Self {
        match err {
            WeightsError::Cancelled(cancelled) => Self::Cancelled(cancelled),
            err => Self::Weights(err),
        }
    }
}
