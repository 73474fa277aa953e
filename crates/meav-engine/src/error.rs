use std::io;
use std::path::{Path, PathBuf};

use meav_data::{DataError, SplitError};
use meav_eval::judge::{EndpointError, InvalidAddress, InvalidKey, RubricError};
use meav_job::Cancelled;
use meav_model::{GgufExportError, ModelError};
use meav_protocol::{LambdaRange, PlanPart};
use meav_train::TrainError;
use meav_vector::VectorError;
use meav_weights::WeightsError;

use crate::jobs::FetchError;
use crate::recipe_file::RecipeFileError;
use crate::secrets::SecretsError;
use crate::workspace::WorkspaceError;

/// Why a job failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum EngineError {
    /// A model could not be loaded or run.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A vector could not be read or applied.
    #[error(transparent)]
    Vector(#[from] VectorError),
    /// A vector of the request, named as the request named it, could not be used.
    #[error("{source}")]
    InVector { file: PathBuf, source: Box<EngineError> },
    /// A tensor file could not be read or written.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The database could not be read or written.
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    /// The demo model could not be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The demo model has not been fetched.
    #[error("the demo model is not at {path:?}")]
    NoDemo { path: PathBuf },
    /// The processor can't compute in this dtype.
    #[error("models run in f32 or bf16 on the CPU, not in f16")]
    HalfOnCpu,
    /// The GPU refuses everything from now on.
    #[error("the GPU does not work any more: {message}")]
    GpuFailed { message: String },
    /// The model with its vectors is larger than what is free.
    #[error("{needed} bytes of memory are needed, {available} are free")]
    OutOfMemory { needed: u64, available: u64, parts: Vec<PlanPart>, fits_in_bf16: bool },
    /// The disk has less room than the result needs.
    #[error("{path:?} needs {needed} bytes, {available} are free")]
    DiskFull { path: PathBuf, needed: u64, available: u64 },
    /// There is a file where an export is to go, and nobody said that it may.
    #[error("{path:?} exists")]
    WouldReplace { path: PathBuf },
    /// There is a folder where a file is to go.
    #[error("{path:?} is a folder")]
    IsFolder { path: PathBuf },
    /// A vector file of another ending could not be opened again.
    #[error("{path:?} does not end in .safetensors")]
    VectorEnding { path: PathBuf },
    /// The result would take the place of what it is made from.
    #[error("{path:?} would be written over {input:?}, which it is made from")]
    OutputIsInput { path: PathBuf, input: PathBuf },
    /// Two results are to go to one place.
    #[error("{path:?} is named for two files")]
    SameOutput { path: PathBuf },
    /// Rows of two models' embeddings stand for different tokens.
    #[error("the tokens of {aligned:?} are not those of {base:?}")]
    TokenizersDiffer { base: String, aligned: String },
    /// A file beside the weights could not be written.
    #[error("cannot write {path:?}")]
    Write { path: PathBuf, source: io::Error },
    /// A file beside the weights could not be read.
    #[error("cannot read {path:?}")]
    Read { path: PathBuf, source: io::Error },
    /// A drawing could not be made into a picture.
    #[error("cannot draw the figure")]
    Figure(#[source] resvg::usvg::Error),
    /// Preference records could not be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A recipe file could not be read.
    #[error("cannot use the recipe {path:?}")]
    Recipe { path: PathBuf, source: RecipeFileError },
    /// A regular expression that picks tensors is none.
    #[error("{pattern:?} is no regular expression")]
    Pattern { pattern: String, source: Box<regex::Error> },
    /// A comparison needs something to compare with.
    #[error("a comparison needs two vectors, not {found}")]
    TooFewVectors { found: usize },
    /// A model can't be written as a GGUF.
    #[error("{path:?} cannot be written as a GGUF")]
    GgufExport { path: PathBuf, source: GgufExportError },
    /// Preferences are asked for without records to ask about.
    #[error("no data")]
    NoData,
    /// A model's log-probabilities are infinite, or no numbers.
    #[error("the log-probabilities are no numbers under {recipe}")]
    NoNumbers { recipe: String },
    /// A range of λ holds none.
    #[error("the range {range} holds no λ")]
    EmptyRange { range: LambdaRange },
    /// A sweep names a vector that it does not have.
    #[error("no vector is swept")]
    NothingSwept,
    /// A sweep is to go on with other settings.
    #[error("the sweep begun {started} was of something else")]
    OtherSweep { started: String },
    /// A file can't be cut into parts.
    #[error("cannot split {path:?}")]
    Split { path: PathBuf, source: SplitError },
    /// A vector is no file that can say more about itself.
    #[error("{path:?} cannot hold a calibration")]
    NoPlaceForCalibration { path: PathBuf },
    /// A rubric can't be judged by.
    #[error(transparent)]
    Rubric(#[from] RubricError),
    /// A judge's server gave no answer.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// What was given as a judge's address is none.
    #[error(transparent)]
    Address(#[from] InvalidAddress),
    /// What was given as a judge's key can be none.
    #[error(transparent)]
    Key(#[from] InvalidKey),
    /// The system's secret store can't be used.
    #[error(transparent)]
    Secrets(#[from] SecretsError),
    /// A vector can't be trained.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// A new run is to go where there is something already.
    #[error("the folder {path:?} is not empty")]
    RunFolderNotEmpty { path: PathBuf },
    /// A run is to go on where there is none.
    #[error("there is no training run in {path:?}")]
    NoRun { path: PathBuf },
    /// A run is to go on, or to be forgotten, that some engine is at.
    #[error("the training run in {path:?} is going on")]
    RunGoesOn { path: PathBuf },
    /// A run is to go on that has come to its end.
    #[error("the training run in {path:?} has ended after step {step}")]
    RunFinished { path: PathBuf, step: usize },
    /// A run is to go on that would come to what is no number again.
    #[error("the training run in {path:?} has diverged in step {step}")]
    RunDiverged { path: PathBuf, step: usize },
    /// A run is to go on, and all of its checkpoints are damaged.
    #[error("no checkpoint of the training run in {path:?} can be used")]
    NoGoodCheckpoint { path: PathBuf, source: Box<TrainError> },
    /// A run is to go on with other settings, another model or other data.
    #[error("the training run in {path:?} was begun with another {what}: {there}, not {here}")]
    OtherRun { path: PathBuf, what: String, there: String, here: String },
    /// The configuration of a run is unreadable.
    #[error("cannot use {path:?}")]
    RunConfig { path: PathBuf, source: serde_json::Error },
    /// A run is to end with what it has before it has anything.
    #[error("the run has not changed anything yet")]
    NothingTrained,
    /// A run would take more memory than there is.
    #[error("training needs {needed} bytes of memory, {available} are free")]
    TooLargeToTrain { needed: u64, available: u64, what_fits: String },
    /// A bug in a job; the log has more.
    #[error("{message}")]
    Panicked { message: String, log: Option<PathBuf> },
    /// See [`Cancelled`].
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl EngineError {
    /// Says which vector of the request it is about.
    pub(crate) fn in_vector(self, file: &Path) -> Self {
        Self::InVector { file: file.to_owned(), source: Box::new(self) }
    }
}
