//! The serialised types that the engine and its clients exchange.
//!
//! Down go [`Command`]s, up come [`Event`]s. The client picks the [`JobId`]s; every
//! [`Command::Start`] is answered by exactly one [`Event::Finished`], after the [`Event::Fact`]s
//! that the job found. Progress is advisory: it may be dropped, facts may not.
//!
//! Each job says in full what it needs ([`Setup`]: which model, which vectors, which λ), and the
//! engine makes itself so before it begins. An engine that was restarted therefore needs no
//! history.

mod chat;
mod command;
mod data;
mod event;
mod frame;
mod gpu;
mod judge;
mod method;
mod outcome;
mod report;
mod scores;
mod setup;
mod sweep;
mod train;

pub use chat::{Chat, ChatHit, ChatSummary, Message, MessageState, Role};
pub use command::{
    BenchSpec, ChatTurn, Command, Compression, ExportTarget, GgufForm, JobId, JobSpec, KeepIn,
    MergeFormat, MergeSpec, ModelShape, Probe, SeededKind, VectorCompress, VectorExtract,
    VectorImport, VectorSeparate,
};
pub use data::{
    DataProblem, DataRecord, DataReport, LeakageReport, LengthSummary, MeasureSummary, RecordPage,
    SplitSpec,
};
pub use event::{
    AuditEntry, BenchReport, Description, Event, Fact, FileKind, FinishReason, LoadedModel,
    Measure, MemoryUse, Reply, ReplyFigures, Stage, VectorInfo,
};
pub use frame::{FrameError, MAX_FRAME_BYTES, read_frame, write_frame};
pub use gpu::{DeviceChoice, EngineChoice, EngineDevice, Gpu, GpuProbe, ParseDeviceError};
pub use judge::{
    Judge, JudgeReport, JudgeSpec, JudgedAnswer, JudgedPair, JudgedRecipe, LevelDescription,
    Rubric, Secret,
};
pub use method::{Method, ModuleKind, Scope};
pub use outcome::{Outcome, Remedy, UserError};
pub use report::{
    ComparedVector, Comparison, ComparisonCell, ComparisonPair, CompressReport, LogProbShift,
    MemoryPlan, MissingPart, OpenedRecipe, Place, PlanChange, PlanPart, SeparateReport, WayOut,
};
pub use scores::{
    DatasetScores, InstructionTurn, LengthOnly, MeasureName, Prompting, PromptingScores,
    RecordScores, ResponseScores, ScoreKind, ScoreReport, ScoreSpec, Shares,
};
pub use setup::{Dtype, RecipeStamp, SamplingSpec, Setup, StampTerm, VectorTerm};
pub use sweep::{
    Calibration, CalibrationPoint, CrossColumn, CrossDomain, LambdaRange, Movement,
    ParseRangeError, RunState, Sweep, SweepPoint, SweepSpec, SweepSummary, SweptData,
};
pub use train::{
    OptimizerState, PreferenceLoss, Rewards, Schedule, TrainCounts, TrainData, TrainEstimate,
    TrainMethod, TrainRun, TrainSettings, TrainSpec, TrainStep, TrainSummary, TrainValidation,
};

/// Incremented with every change that older peers can't read.
pub const PROTOCOL_VERSION: u32 = 6;
