use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{
    Calibration, Chat, ChatHit, ChatSummary, Comparison, CompressReport, CrossDomain, DataProblem,
    DataReport, Dtype, EngineChoice, JobId, JudgeReport, LeakageReport, MemoryPlan, MessageState,
    OpenedRecipe, Outcome, RecipeStamp, RecordPage, ScoreReport, SeparateReport, Sweep, SweepPoint,
    SweepSummary, TrainEstimate, TrainRun, TrainStep, TrainSummary, TrainValidation,
};
use uuid::Uuid;

/// What the engine tells its client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// An engine has been started; sent by the client, before anything that the engine says.
    EngineChosen(EngineChoice),
    /// The first event of an engine.
    Hello {
        /// See [`crate::PROTOCOL_VERSION`].
        protocol: u32,
        /// The engine's version.
        version: String,
        /// What it computes on, in words.
        device: String,
        /// Its log file.
        log: Option<PathBuf>,
    },
    /// A job has come further; may be dropped.
    Progress {
        /// Which.
        job_id: JobId,
        /// What it is doing.
        stage: Stage,
        /// Units finished.
        done: u64,
        /// Units in all.
        total: u64,
    },
    /// A job has found something.
    Fact {
        /// Which.
        job_id: JobId,
        /// What.
        fact: Fact,
    },
    /// A job has ended.
    Finished {
        /// Which.
        job_id: JobId,
        /// How.
        outcome: Outcome,
    },
    /// The engine process has ended; sent by the client, after the outcome of each job it had.
    EngineLost {
        /// What is known of the reason, in words.
        reason: String,
    },
}

/// What a job is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// Reading a file's values to know them again.
    Fingerprinting,
    /// Reading the model.
    Loading,
    /// Moving the weights to a recipe.
    Merging,
    /// Reading the conversation.
    ReadingPrompt,
    /// Bringing a file from elsewhere.
    Downloading,
    /// Taking one model from another.
    Extracting,
    /// Making a vector smaller.
    Compressing,
    /// Taking from a vector what it shares with others.
    Separating,
    /// Looking at several vectors side by side.
    Comparing,
    /// Reading preference records.
    ReadingData,
    /// Asking a model how likely texts are.
    Scoring,
    /// Answering the queries of a data set.
    Answering,
    /// Asking a judge.
    Judging,
    /// Asking the base model how likely the pairs are.
    Referencing,
    /// Training.
    Training,
    /// Writing a file.
    Writing,
    /// Timing.
    Measuring,
}

/// What a job has found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Fact {
    /// The weights hold this recipe now.
    Ready(Box<LoadedModel>),
    /// No model is loaded any more: another one is about to be, or a bug was met.
    Unloaded,
    /// Something that was to be kept is not; it will not go away by itself.
    Unkept(String),
    /// Something that the user should know while the job goes on.
    Note(String),
    /// More of an answer.
    Text {
        /// The words since the last piece.
        text: String,
        /// Tokens of the answer up to here.
        tokens: usize,
    },
    /// The end of an answer.
    Reply(Reply),
    /// What a file is.
    Described(Description),
    /// Something was written here, or was there already.
    Written {
        /// Where.
        path: PathBuf,
        /// What, in words.
        summary: String,
    },
    /// What a compression has cost.
    Compressed(CompressReport),
    /// How much a vector shares with others.
    Separated(SeparateReport),
    /// What a model prefers.
    Scored(Box<ScoreReport>),
    /// A sweep as far as it has come.
    Sweep(Box<Sweep>),
    /// One more λ of a sweep.
    SweepPoint {
        /// Which sweep.
        run: Uuid,
        /// What was measured there.
        point: Box<SweepPoint>,
    },
    /// The sweeps that were kept, newest first.
    Sweeps(Vec<SweepSummary>),
    /// What a sweep has told of a vector; kept, and found again with the vector.
    Calibrated {
        /// The vector's file.
        file: PathBuf,
        /// Where it leads to which level.
        calibration: Box<Calibration>,
    },
    /// A training run as far as it has come.
    Train(Box<TrainRun>),
    /// One more step of a training run.
    TrainStep {
        /// Which run.
        run: Uuid,
        /// What was measured.
        step: TrainStep,
    },
    /// A training run was measured on the pairs held back.
    TrainValidation {
        /// Which run.
        run: Uuid,
        /// What was measured.
        validation: TrainValidation,
    },
    /// A training run can be resumed from this step.
    TrainCheckpoint {
        /// Which run.
        run: Uuid,
        /// The step.
        step: usize,
    },
    /// The training runs that are known, newest first.
    Trainings(Vec<TrainSummary>),
    /// What a training run would take.
    TrainEstimate(Box<TrainEstimate>),
    /// How far vectors move the levels of data sets.
    CrossDomain(CrossDomain),
    /// What a judge said of answers.
    Judged(Box<JudgeReport>),
    /// Records of a file that the job goes on without.
    LeftOut {
        /// The file's name.
        file: String,
        /// The first of them, as far as [`crate::DataReport::MAX_PROBLEMS`].
        problems: Vec<DataProblem>,
        /// All of them.
        total: usize,
    },
    /// What a file of preference records holds.
    Data(Box<DataReport>),
    /// Some records of a file.
    Records(RecordPage),
    /// What two files share.
    Leakage(LeakageReport),
    /// The preference data that come with the demo.
    DemoData(Vec<PathBuf>),
    /// Whether there is a key for a judge.
    Key {
        /// The judge's address.
        address: String,
        /// Whether it is in the system's secret store.
        is_kept: bool,
    },
    /// How vectors get in each other's way.
    Compared(Comparison),
    /// A recipe that was read.
    Recipe(Box<OpenedRecipe>),
    /// What memory a model would take.
    Plan(MemoryPlan),
    /// A measurement.
    Bench(BenchReport),
    /// A chat; `None` if there is none.
    Chat(Option<Chat>),
    /// All chats, the last one spoken in first.
    Chats(Vec<ChatSummary>),
    /// What a search in the chats has found, the newest first.
    Found(Vec<ChatHit>),
    /// Entries of the audit log, newest first.
    Audit(Vec<AuditEntry>),
}

/// A model whose weights hold a recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadedModel {
    /// What to call it.
    pub name: String,
    /// Where it was read from.
    pub path: PathBuf,
    /// The family that it belongs to: `llama`, `qwen2`, …
    pub family: String,
    /// The weights' elements.
    pub parameters: u64,
    /// Decoder layers.
    pub layers: usize,
    /// Tokens in the longest context.
    pub context: usize,
    /// What the weights are rounded to.
    pub dtype: Dtype,
    /// Which recipe they hold.
    pub recipe: RecipeStamp,
    /// The vectors, those with λ = 0 too.
    pub vectors: Vec<VectorInfo>,
    /// What loading the model took, if it was not loaded yet.
    pub load_secs: f64,
    /// What moving the weights took.
    pub merge_secs: f64,
    /// What it runs on: `CPU, 2 threads`, `CUDA 0 · NVIDIA H200`.
    pub device: String,
    /// What is taken of the device's memory, if that is known.
    pub memory: Option<MemoryUse>,
    /// What the user should know, e.g. that a vector was made for another base.
    pub notes: Vec<String>,
}

/// Memory of the device that a model runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryUse {
    /// Bytes that the engine holds; of a GPU's memory those that anybody does.
    pub used_bytes: u64,
    /// Bytes that there are.
    pub total_bytes: u64,
}

/// A vector, as far as its file tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VectorInfo {
    /// The preference dimension's name.
    pub domain: String,
    /// Where it was read from.
    pub file: PathBuf,
    /// `blake3:` of its values.
    pub fingerprint: String,
    /// `dense`, `low-rank`, `sparse`, `sign` or `checkpoint`.
    pub kind: String,
    /// Bytes of its values.
    pub size_bytes: u64,
    /// Tensors that it changes.
    pub tensors: usize,
    /// Whether it was made from this base; `None` if the file doesn't say.
    pub base_matches: Option<bool>,
    /// Where it leads to which level, if that was measured on this base.
    pub calibration: Option<Box<Calibration>>,
}

/// The end of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// All of it.
    pub text: String,
    /// Why it ended.
    pub finish: FinishReason,
    /// The recipe that answered.
    pub recipe: RecipeStamp,
    /// How long and how fast.
    #[serde(flatten)]
    pub figures: ReplyFigures,
}

/// How long an answer is and how fast it came.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReplyFigures {
    /// Tokens of the conversation.
    pub prompt_tokens: usize,
    /// Of those, how many an earlier turn had read already.
    pub reused_tokens: usize,
    /// Tokens of the answer.
    pub tokens: usize,
    /// From the start of reading to the first token.
    pub first_token_secs: f64,
    /// Tokens per second after the first.
    pub tokens_per_sec: f64,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model ended its turn.
    Stop,
    /// It has as many tokens as were asked for.
    Length,
    /// The model can take no more tokens.
    ContextFull,
    /// The user stopped it.
    Cancelled,
}

impl FinishReason {
    /// How the answer is marked.
    pub fn message_state(self) -> MessageState {
        match self {
            Self::Stop | Self::Length | Self::ContextFull => MessageState::Complete,
            Self::Cancelled => MessageState::Stopped,
        }
    }
}

/// What a file can be used as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileKind {
    /// A base model.
    Model,
    /// An alignment vector, or an adapter that is read as one.
    Vector,
    /// A recipe without weights; [`crate::JobSpec::OpenRecipe`].
    Recipe,
    /// Preference records; [`crate::JobSpec::InspectData`].
    Data,
}

/// What a file is, in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// What it can be used as.
    pub kind: FileKind,
    /// One line: `Alignment vector "medical"`, …
    pub title: String,
    /// Names and values, in reading order.
    pub rows: Vec<(String, String)>,
}

/// Figures of one measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BenchReport {
    /// What was measured.
    pub name: String,
    /// The figures, in reading order.
    pub measures: Vec<Measure>,
}

/// One figure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    /// What it is.
    pub name: String,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: String,
}

/// One line of the audit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// When, RFC 3339.
    pub time: String,
    /// `recipe`, `merge`, …
    pub action: String,
    /// What exactly.
    pub detail: String,
}
