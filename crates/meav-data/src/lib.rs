//! Preference records: queries whose responses stand at different levels.
//!
//! [`read`] takes JSONL, JSON, CSV and Parquet, with records of three shapes, told apart by their
//! keys:
//!
//! - levels: `{"query", "responses": {"expert": …, "generic": …, …}}`, any level names;
//! - PKU-SafeRLHF: `{"prompt", "response_0", "response_1", "is_response_0_safe",
//!   "is_response_1_safe", "better_response_id", "safer_response_id"}`;
//! - pairs as TRL has them: `{"prompt", "chosen", "rejected"}`, as text or as messages, where
//!   without a prompt what `chosen` and `rejected` begin with in common is it.
//!
//! `id`, `domain`, `method` and `persona` are optional in all of them. What is wrong with a record
//! is a [`Problem`] beside the others, not the end of the reading.

mod dataset;
mod error;
mod problem;
mod read;

mod collector;
mod readers;
mod shapes;

mod measures;
mod statistics;

mod leakage;
mod split;

mod text;

pub use dataset::{
    Dataset, Format, PAIR_LEVELS, Record, Responses, Shape, Turn, Unit, write_jsonl,
};
pub use error::{DamageReason, DataError};
pub use leakage::{Leakage, LeakedRecord, leakage};
pub use measures::{Item, Measure, MeasureName};
pub use problem::{Problem, ProblemKind};
pub use read::{MAX_RECORD_BYTES, ReadOptions, read};
pub use split::{Part, Split, SplitError, SplitSpec, split};
pub use statistics::{
    Count, Distribution, IdenticalResponses, LevelStatistics, RepeatedQuery, Statistics,
    TextLengths,
};
