use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    Calibration, Comparison, CrossDomain, Dtype, JudgeReport, JudgeSpec, Message, Method,
    SamplingSpec, ScoreSpec, Secret, Setup, SplitSpec, Sweep, SweepSpec, TrainMethod, TrainSpec,
};

/// Names a job; picked by the client, never used twice in the life of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobId(pub u64);

/// What a client tells the engine.
#[expect(clippy::large_enum_variant, reason = "one is made now and then, and sent at once")]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// Queues a job.
    Start {
        /// The name to report under.
        job_id: JobId,
        /// What to do.
        spec: JobSpec,
    },
    /// Ends a job, queued or running, at its next tick.
    Cancel {
        /// Which.
        job_id: JobId,
    },
    /// Holds a training run, queued or running, at its next tick; everything it has stays loaded.
    /// [`crate::Fact::Train`], with the half-trained vector.
    Pause {
        /// Which.
        job_id: JobId,
    },
    /// Lets a paused run go on.
    GoOn {
        /// Which.
        job_id: JobId,
    },
    /// Ends a training run after its last whole step, and keeps the vector as it is there.
    WrapUp {
        /// Which.
        job_id: JobId,
    },
}

impl Command {
    /// The job that it starts, if it does.
    pub fn starts(&self) -> Option<JobId> {
        match self {
            Self::Start { job_id, .. } => Some(*job_id),
            Self::Cancel { .. } | Self::Pause { .. } | Self::GoOn { .. } | Self::WrapUp { .. } => {
                None
            }
        }
    }
}

/// What a job does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum JobSpec {
    /// Loads the model and moves its weights to the recipe; [`crate::Fact::Ready`].
    Prepare(Setup),
    /// Answers a conversation; [`crate::Fact::Ready`], [`crate::Fact::Text`]s,
    /// [`crate::Fact::Reply`].
    Chat(ChatTurn),
    /// Says what a file is; [`crate::Fact::Described`].
    Describe {
        /// A model, vector or adapter.
        path: PathBuf,
    },
    /// Brings the demo model into the local store; [`crate::Fact::Written`].
    FetchDemo,
    /// Writes a model of this shape with seeded weights into the local store, to measure with;
    /// [`crate::Fact::Written`] names the folder.
    SeedModel(ModelShape),
    /// Turns an adapter into a vector file; [`crate::Fact::Written`].
    ImportVector(VectorImport),
    /// Takes a base model from an aligned one; [`crate::Fact::Written`].
    ExtractVector(Box<VectorExtract>),
    /// Writes a smaller form of a vector; [`crate::Fact::Compressed`], [`crate::Fact::Written`].
    CompressVector(VectorCompress),
    /// Takes from a vector what it shares with others; [`crate::Fact::Separated`],
    /// [`crate::Fact::Written`].
    SeparateVector(VectorSeparate),
    /// Says how vectors get in each other's way; [`crate::Fact::Compared`].
    CompareVectors {
        /// Two or more.
        vectors: Vec<PathBuf>,
        /// The model that they belong to: needed where one of them is a whole aligned model.
        base: Option<PathBuf>,
    },
    /// Writes a comparison as CSV, JSON, SVG or PNG, by the ending of `out`;
    /// [`crate::Fact::Written`].
    ExportComparison {
        /// The comparison.
        comparison: Comparison,
        /// Where to.
        out: ExportTarget,
    },
    /// Writes a merged model; [`crate::Fact::Written`].
    Merge(MergeSpec),
    /// Writes a recipe without weights; [`crate::Fact::Written`].
    SaveRecipe {
        /// What is to be written down.
        setup: Setup,
        /// Where to.
        out: ExportTarget,
    },
    /// Reads a recipe and looks for its model and vectors; [`crate::Fact::Recipe`].
    OpenRecipe {
        /// The file.
        path: PathBuf,
    },
    /// Says what memory a model would take, without loading it; [`crate::Fact::Plan`].
    PlanMemory(Setup),
    /// Measures; [`crate::Fact::Bench`].
    Bench(BenchSpec),
    /// Says which level's responses a model prefers; [`crate::Fact::Scored`].
    Score(Box<ScoreSpec>),
    /// Scores along λ; [`crate::Fact::Sweep`] at the beginning and at the end, between them
    /// [`crate::Fact::SweepPoint`]s, coarse steps first.
    Sweep(Box<SweepSpec>),
    /// Has a model answer and a judge say at which level; [`crate::Fact::Judged`].
    Judge(Box<JudgeSpec>),
    /// Writes a judgement as CSV, JSON or Markdown, by the ending of `out`;
    /// [`crate::Fact::Written`].
    ExportJudgement {
        /// The judgement.
        report: Box<JudgeReport>,
        /// Where to.
        out: ExportTarget,
    },
    /// The sweeps that were kept, newest first; [`crate::Fact::Sweeps`].
    ListSweeps,
    /// [`crate::Fact::Sweep`].
    LoadSweep {
        /// Which.
        run: Uuid,
    },
    /// Forgets a sweep; [`crate::Fact::Sweeps`].
    DeleteSweep {
        /// Which.
        run: Uuid,
    },
    /// Writes sweeps as CSV, JSON, Markdown, SVG or PNG, by the ending of `out`: one, or several
    /// over each other; [`crate::Fact::Written`].
    ExportSweeps {
        /// The sweeps.
        sweeps: Vec<Sweep>,
        /// Where to.
        out: ExportTarget,
    },
    /// Says how far each sweep's vector moves each level of each data set;
    /// [`crate::Fact::CrossDomain`].
    CrossDomain {
        /// The sweeps.
        sweeps: Vec<Sweep>,
    },
    /// Writes such a matrix as CSV, JSON, Markdown, SVG or PNG, by the ending of `out`;
    /// [`crate::Fact::Written`].
    ExportCrossDomain {
        /// The matrix.
        matrix: CrossDomain,
        /// Where to.
        out: ExportTarget,
    },
    /// Writes a calibration into its vector's file; [`crate::Fact::Written`].
    WriteCalibration {
        /// The vector's file.
        vector: PathBuf,
        /// What was measured.
        calibration: Box<Calibration>,
    },
    /// Trains a vector; [`crate::Fact::Train`] at the beginning, at a pause and at the end, between
    /// them [`crate::Fact::TrainStep`]s, [`crate::Fact::TrainValidation`]s and
    /// [`crate::Fact::TrainCheckpoint`]s; [`crate::Fact::Written`] for the vector.
    Train(Box<TrainSpec>),
    /// Says what a run would take, from a step that is tried; [`crate::Fact::TrainEstimate`].
    EstimateTraining(Box<TrainSpec>),
    /// The runs that are known, newest first; [`crate::Fact::Trainings`].
    ListTrainings,
    /// [`crate::Fact::Train`].
    LoadTraining {
        /// Which.
        run: Uuid,
    },
    /// Forgets a run that is not running; its folder stays. [`crate::Fact::Trainings`].
    DeleteTraining {
        /// Which.
        run: Uuid,
    },
    /// The preference data that come with the demo; [`crate::Fact::DemoData`].
    ListDemoData,
    /// Reads a file of preference records; [`crate::Fact::Data`].
    InspectData {
        /// The file.
        path: PathBuf,
    },
    /// Some records of a file; [`crate::Fact::Records`].
    ReadRecords {
        /// The file.
        path: PathBuf,
        /// Only those in which these words are found, not minding case; empty for all.
        search: String,
        /// How many to leave out first.
        start: usize,
        /// The most records to read.
        count: usize,
    },
    /// Cuts a file into parts; [`crate::Fact::Written`] for each.
    SplitData(SplitSpec),
    /// Says what a file for testing shares with one for training; [`crate::Fact::Leakage`].
    FindLeakage {
        /// The file for training.
        train: PathBuf,
        /// The file for testing.
        test: PathBuf,
    },
    /// Keeps a judge's key in the system's secret store, or forgets it; [`crate::Fact::Key`].
    KeepKey {
        /// The judge's address.
        address: String,
        /// Its key; `None` to forget it.
        key: Option<Secret>,
    },
    /// Whether there is a key for a judge; [`crate::Fact::Key`].
    FindKey {
        /// The judge's address.
        address: String,
    },
    /// [`crate::Fact::Chat`].
    LoadChat {
        /// Which; `None` for the last one spoken in.
        id: Option<Uuid>,
    },
    /// [`crate::Fact::Chats`].
    ListChats,
    /// Gives a chat another title; [`crate::Fact::Chats`].
    RenameChat {
        /// Which.
        id: Uuid,
        /// Its title from now on.
        title: String,
    },
    /// Takes a chat off the list; it is forgotten for good after a month. [`crate::Fact::Chats`].
    DeleteChat {
        /// Which.
        id: Uuid,
    },
    /// Puts a deleted chat back on the list; [`crate::Fact::Chats`].
    RestoreChat {
        /// Which.
        id: Uuid,
    },
    /// Remembers which branch of a chat is shown; finds nothing.
    SetBranch {
        /// Which chat.
        chat: Uuid,
        /// The last turn of the branch.
        leaf: Uuid,
    },
    /// Looks for words in titles and messages, not minding case; [`crate::Fact::Found`].
    SearchChats {
        /// What to look for.
        text: String,
        /// The most messages to name.
        limit: usize,
    },
    /// Writes the branch of a chat that was spoken in last, as Markdown, or everything as JSON if
    /// `out` ends in `.json`; [`crate::Fact::Written`].
    ExportChat {
        /// Which; `None` for the last one spoken in.
        id: Option<Uuid>,
        /// Where to.
        out: ExportTarget,
    },
    /// The newest entries of the audit log; [`crate::Fact::Audit`].
    ListAudit {
        /// How many.
        limit: usize,
    },
    /// Writes the whole audit log as CSV, or as JSON if `out` ends in `.json`;
    /// [`crate::Fact::Written`].
    ExportAudit {
        /// Where to.
        out: ExportTarget,
    },
}

/// A file that an export writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportTarget {
    /// Where it will be; its ending decides the format.
    pub path: PathBuf,
    /// Whether what is there now may go.
    pub replace: bool,
}

/// A conversation that waits for an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChatTurn {
    /// Who answers.
    pub setup: Setup,
    /// Standing instructions; empty for those of the model's own template.
    pub system: String,
    /// The turns so far, oldest first, each following the one before.
    pub messages: Vec<Message>,
    /// How tokens are chosen.
    pub sampling: SamplingSpec,
    /// Tokens after which the answer is cut.
    pub max_tokens: usize,
    /// Where the workspace keeps the conversation, and the answer as it is written; `None` keeps
    /// nothing.
    pub keep: Option<KeepIn>,
}

/// A place in the workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeepIn {
    /// The chat, made if there is none of this id; the turns of the job are added to it, and its
    /// branch becomes the one that ends with the answer.
    pub chat: Uuid,
    /// The answer's id.
    pub reply: Uuid,
}

/// An adapter that becomes a vector file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VectorImport {
    /// The adapter's folder.
    pub adapter: PathBuf,
    /// The model it was trained on.
    pub base: PathBuf,
    /// The preference dimension's name.
    pub domain: String,
    /// The file to write.
    pub out: ExportTarget,
    /// What the factors are rounded to.
    pub dtype: Dtype,
    /// The levels it was trained on, highest preference first.
    pub levels: Vec<String>,
    /// How it was trained, as JSON.
    pub training: Option<String>,
}

/// Two checkpoints whose difference becomes a vector file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VectorExtract {
    /// The model that is taken away.
    pub base: PathBuf,
    /// The model that it is taken from.
    pub aligned: PathBuf,
    /// The preference dimension's name.
    pub domain: String,
    /// The file to write.
    pub out: ExportTarget,
    /// What the differences are rounded to; `None` for the wider of the two models' types.
    pub dtype: Option<Dtype>,
    /// Only tensors whose name this regular expression finds itself in.
    pub include: Option<String>,
    /// No tensors whose name this regular expression finds itself in.
    pub exclude: Option<String>,
    /// The levels it was trained on, highest preference first.
    pub levels: Vec<String>,
    /// How it was trained, as JSON.
    pub training: Option<String>,
}

/// A vector that is written in a smaller form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VectorCompress {
    /// The vector.
    pub vector: PathBuf,
    /// The model that it belongs to: needed where a vector is a whole aligned model.
    pub base: Option<PathBuf>,
    /// How it becomes smaller.
    pub how: Compression,
    /// The file to write.
    pub out: ExportTarget,
    /// What to measure the loss on; without it, only the weights' error is known.
    pub probe: Option<Probe>,
}

/// Ways to make a vector smaller.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Compression {
    /// The best factors of a rank, by truncated singular value decomposition.
    LowRank {
        /// Columns of `B` and rows of `A`.
        rank: usize,
    },
    /// The largest elements of each tensor.
    Trim {
        /// The share that is kept.
        density: f64,
    },
    /// Elements taken at random and scaled up to make good for the others.
    Dare {
        /// The share that is kept.
        density: f64,
        /// The same seed keeps the same elements.
        seed: u64,
    },
    /// Signs, and one scale for each row.
    Sign,
}

/// Where the loss of a compression is measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// The model that the vector is added to, in `f32`.
    pub model: PathBuf,
    /// Preference records, JSONL.
    pub data: Vec<PathBuf>,
    /// The most records that are read of each file.
    pub limit: usize,
}

/// A vector and those with which it shares something.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VectorSeparate {
    /// The vector.
    pub vector: PathBuf,
    /// The others.
    pub others: Vec<PathBuf>,
    /// The model that it belongs to: needed where a vector is a whole aligned model.
    pub base: Option<PathBuf>,
    /// Directions of the others that count as shared, in each tensor.
    pub rank: usize,
    /// The file for what is its own.
    pub out: ExportTarget,
    /// The file for what is shared.
    pub shared_out: Option<ExportTarget>,
}

/// A merged model that is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MergeSpec {
    /// The model.
    pub model: PathBuf,
    /// How the vectors are combined.
    pub method: Method,
    /// The vectors, in the order of the sum.
    pub vectors: Vec<crate::VectorTerm>,
    /// What the weights are rounded to; `None` for the base's own. A GGUF's form may round once
    /// more.
    pub dtype: Option<Dtype>,
    /// What is written.
    pub format: MergeFormat,
    /// The folder or the file to write.
    pub out: ExportTarget,
}

/// How a merged model is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MergeFormat {
    /// A folder in the Hugging Face layout.
    Folder {
        /// The size of a file beyond which another one is begun.
        max_shard_bytes: u64,
    },
    /// A file for llama.cpp.
    Gguf(GgufForm),
}

/// How a GGUF holds its matrices; vectors are always `f32` there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GgufForm {
    /// Half precision.
    F16,
    /// Brain floating point.
    Bf16,
    /// Blocks of 32 elements, 8 bits each.
    Q8_0,
}

/// What is measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum BenchSpec {
    /// The fused merge, in bytes per second against the machine's copy bandwidth.
    Merge {
        /// The model, and vectors; where fewer than three are given, seeded ones are added.
        setup: Setup,
        /// What the seeded ones are.
        seeded: SeededKind,
    },
    /// Tokens per second, in `f32` and `bf16`.
    Decode {
        /// The model and vectors, or else three seeded low-rank ones; the dtype is not looked at.
        setup: Setup,
    },
    /// Preference records scored together, against one forward pass for each response.
    Score {
        /// The model and vectors.
        setup: Setup,
        /// Files of preference records.
        data: Vec<PathBuf>,
    },
    /// Steps of training on seeded tokens, half of each sequence a prompt that both responses
    /// share.
    Train {
        /// The model.
        model: PathBuf,
        /// Which weights change.
        method: TrainMethod,
        /// What the model computes with.
        dtype: Dtype,
        /// As in [`crate::TrainSettings`].
        checkpointing: bool,
        /// Pairs of a step.
        pairs: usize,
        /// Tokens of a prompt with its response.
        tokens: usize,
    },
}

/// Shapes of well-known models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ModelShape {
    /// Mistral 7B: 14.5 GB in `bf16`.
    Mistral7b,
    /// SmolLM2 135M, the demo model, with a head of its own: 0.3 GB in `bf16`.
    Smollm2135m,
}

impl ModelShape {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Mistral7b, Self::Smollm2135m];

    /// The name that it is asked for by.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mistral7b => "mistral-7b",
            Self::Smollm2135m => "smollm2-135m",
        }
    }
}

impl fmt::Display for ModelShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Vectors that a measurement makes for itself, over all tensors of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SeededKind {
    /// Every element, `bf16`.
    Dense,
    /// Factors of rank 16.
    LowRank,
    /// One element in ten, `bf16`.
    Sparse,
    /// One bit for each element, and a scale for each row.
    Sign,
}
