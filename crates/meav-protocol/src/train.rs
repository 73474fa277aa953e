//! Training of an alignment vector from preferences.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Dtype, RunState};

/// One training run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainSpec {
    /// Names the run.
    pub run: Uuid,
    /// The base model.
    pub model: PathBuf,
    /// Files of preference records; several are trained on jointly.
    pub data: Vec<TrainData>,
    /// The preference dimension's name in the vector.
    pub domain: String,
    /// The run's folder: config, log, metrics, checkpoints and at last `vector.safetensors`; `None`
    /// for one in the workspace.
    pub out: Option<PathBuf>,
    /// Whether it goes on from the newest checkpoint in its folder. Without, the folder must be
    /// empty or not be there.
    pub resume: bool,
    /// What the model computes with: [`Dtype::Bf16`] weights have `f32` master copies.
    pub dtype: Dtype,
    /// How it is trained.
    pub settings: TrainSettings,
}

/// A file to train on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainData {
    /// The file.
    pub file: PathBuf,
    /// The level to prefer to all others; `None` prefers each level to the next lower one.
    pub prefer: Option<String>,
}

/// How a vector is trained. The default is what worked on the demo model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainSettings {
    /// Which weights change.
    pub method: TrainMethod,
    /// What is minimised.
    pub loss: PreferenceLoss,
    /// The losses' `β`, above 0.
    pub beta: f64,
    /// Whether the highest level is also preferred to the lowest, where there are three.
    pub skip_pairs: bool,
    /// Times that each pair is seen.
    pub epochs: usize,
    /// Pairs that go through the model together.
    pub batch: usize,
    /// Batches whose gradients are added up for one step.
    pub accumulation: usize,
    /// Steps after which the run ends, however many epochs are left.
    pub max_steps: Option<usize>,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// How the learning rate falls.
    pub schedule: Schedule,
    /// Steps in which the learning rate rises from 0.
    pub warmup_steps: usize,
    /// `AdamW`'s decoupled weight decay; norms and biases have none.
    pub weight_decay: f64,
    /// The gradient's norm above which it is scaled down to it; `None` for no clipping.
    pub max_grad_norm: Option<f64>,
    /// What the optimiser's moments are kept as.
    pub optimizer_state: OptimizerState,
    /// Whether only each layer's input is kept for the backward pass, the rest computed again.
    pub checkpointing: bool,
    /// Tokens of a prompt with its response; a longer response is cut at its end.
    pub max_length: usize,
    /// The share of the records that is held back for validation; none of fewer than 34 records.
    pub validation: f64,
    /// Steps between two validations.
    pub validate_every: usize,
    /// Validations without a lower loss after which the run ends; `None` never ends early.
    pub patience: Option<usize>,
    /// Steps between two checkpoints.
    pub checkpoint_every: usize,
    /// Of the order of the pairs, of what is held back and of the first factors.
    pub seed: u64,
}

impl Default for TrainSettings {
    fn default() -> Self {
        Self {
            method: TrainMethod::default(),
            loss: PreferenceLoss::Ipo,
            beta: 0.1,
            skip_pairs: false,
            epochs: 1,
            batch: 4,
            accumulation: 1,
            max_steps: None,
            learning_rate: 5e-4,
            schedule: Schedule::Cosine,
            warmup_steps: 5,
            weight_decay: 0.0,
            max_grad_norm: Some(1.0),
            optimizer_state: OptimizerState::F32,
            checkpointing: true,
            max_length: 1024,
            validation: 0.03,
            validate_every: 10,
            patience: Some(3),
            checkpoint_every: 20,
            seed: 0,
        }
    }
}

/// Which weights change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrainMethod {
    /// All of them.
    Full,
    /// Low-rank factors beside frozen weights.
    Lora {
        /// `r`.
        rank: usize,
        /// The product of the factors is multiplied by `α / r`.
        alpha: f64,
        /// Parts of the layers that get factors, e.g. `q_proj`; empty for all linear ones.
        targets: Vec<String>,
    },
}

impl Default for TrainMethod {
    fn default() -> Self {
        Self::Lora { rank: 8, alpha: 8.0, targets: Vec::new() }
    }
}

impl TrainMethod {
    /// The learning rate to begin with: full parameters bear a smaller one.
    pub fn default_learning_rate(&self) -> f64 {
        match self {
            Self::Full => 1e-5,
            Self::Lora { .. } => 5e-4,
        }
    }
}

/// What is minimised, with `h` the difference between chosen and rejected of how far the
/// log-probability has moved from the base model's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PreferenceLoss {
    /// `(h − 1/(2β))²`, with log-probabilities per token.
    Ipo,
    /// `−(1 − ε) log σ(βh) − ε log σ(−βh)`, with log-probabilities summed.
    Sigmoid {
        /// `ε`, at least 0 and below ½.
        label_smoothing: f64,
    },
    /// `max(0, 1 − βh)`, with log-probabilities summed.
    Hinge,
}

impl PreferenceLoss {
    /// The loss of a model that has not moved yet.
    pub fn at_start(self, beta: f64) -> f64 {
        match self {
            Self::Ipo => 0.25 / (beta * beta),
            Self::Sigmoid { .. } => std::f64::consts::LN_2,
            Self::Hinge => 1.0,
        }
    }
}

/// How the learning rate falls after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// Along half a cosine to 0.
    Cosine,
    /// On a straight line to 0.
    Linear,
    /// Not at all.
    Constant,
}

/// What the optimiser's moments are kept as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerState {
    /// Eight bytes for each trained element.
    F32,
    /// Two bytes for each, in blocks with a scale of their own.
    Int8,
}

/// A run as far as it has come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainRun {
    /// What was asked for; `out` is the folder that it got.
    pub spec: TrainSpec,
    /// When it began, RFC 3339.
    pub started: String,
    /// How far it is.
    pub state: RunState,
    /// Whether somebody has paused it.
    pub is_paused: bool,
    /// Why it has ended, where that is not the last step: a sentence.
    pub ended: Option<String>,
    /// The base model's name.
    pub model: String,
    /// `blake3:` of the base model's tensors.
    pub base: String,
    /// What it is trained on.
    pub counts: TrainCounts,
    /// Steps that it takes if nothing ends it early.
    pub total_steps: usize,
    /// What was measured at each step, from step 1.
    pub steps: Vec<TrainStep>,
    /// What was measured on the pairs held back.
    pub validations: Vec<TrainValidation>,
    /// The step of the newest checkpoint.
    pub checkpoint: Option<usize>,
    /// The vector: the half-trained one while it is paused, the result at the end.
    pub vector: Option<PathBuf>,
    /// How long it has computed so far.
    pub elapsed_secs: f64,
    /// Whether it came to what is no number any more, which it would come to again.
    #[serde(default)]
    pub diverged: bool,
}

/// What a run is trained on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainCounts {
    /// Pairs that are trained on.
    pub pairs: usize,
    /// Pairs that are held back.
    pub validation_pairs: usize,
    /// Pairs of which a response was cut.
    pub truncated: usize,
    /// Records that are left out.
    pub left_out: usize,
    /// Elements that change.
    pub trainable_parameters: u64,
}

/// One step of the optimiser. Names are TRL's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainStep {
    /// From 1.
    pub step: usize,
    /// Epochs that are done, with the share of the running one.
    pub epoch: f64,
    /// The mean over the step's pairs, before its update.
    pub loss: f64,
    /// What holds for the pairs of the step.
    pub rewards: Rewards,
    /// The norm of the gradient, before clipping.
    pub grad_norm: f64,
    /// What the update was made with.
    pub learning_rate: f64,
    /// Tokens so far, each response with its prompt, as TRL counts them.
    pub num_tokens: u64,
    /// The same of this step alone, per second.
    pub tokens_per_second: f64,
}

/// What holds for some pairs, means over them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rewards {
    /// `β` times how far the chosen responses' log-probability has moved from the base model's.
    pub chosen: f64,
    /// The same for the rejected ones.
    pub rejected: f64,
    /// Chosen less rejected.
    pub margins: f64,
    /// The share of pairs whose chosen response has the higher reward.
    pub accuracies: f64,
    /// The summed log-probability of the chosen responses, nats.
    pub chosen_log_prob: f64,
    /// The same of the rejected ones.
    pub rejected_log_prob: f64,
}

/// The pairs held back, after a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainValidation {
    /// The step; 0 before the first.
    pub step: usize,
    /// The mean loss.
    pub loss: f64,
    /// What else holds for them.
    pub rewards: Rewards,
}

/// A run in a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainSummary {
    /// The run.
    pub run: Uuid,
    /// When it began, RFC 3339.
    pub started: String,
    /// How far it is.
    pub state: RunState,
    /// The base model's name.
    pub model: String,
    /// The preference dimension.
    pub domain: String,
    /// Steps that are done, and all.
    pub steps: [usize; 2],
    /// The loss of the last step.
    pub loss: Option<f64>,
    /// The run's folder.
    pub folder: PathBuf,
    /// Whether it can go on, from a checkpoint or from its beginning: its folder is there, nothing
    /// else is at it, and it has neither finished nor diverged.
    pub is_resumable: bool,
    /// The vector of a run that has finished.
    pub vector: Option<PathBuf>,
}

/// What a run would take, from a step that was tried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainEstimate {
    /// What it would be trained on.
    pub counts: TrainCounts,
    /// Steps.
    pub total_steps: usize,
    /// What it would take to its end, validations and reference included; 0 where it can't start.
    pub secs: f64,
    /// Memory that it would take at its longest batch, model included.
    pub memory_bytes: u64,
    /// Memory that there is for it, if that is known.
    pub available_bytes: Option<u64>,
    /// Disk space that it would take at most.
    pub disk_bytes: u64,
    /// Why it can't start as it is, in a sentence that says what would fit.
    pub refusal: Option<String>,
}
