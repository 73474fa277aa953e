use std::fmt;
use std::path::PathBuf;

use crate::Problem;

/// How records lie in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// One JSON object per line.
    Jsonl,
    /// A list of objects, or an object with one such list in it.
    Json,
    /// A header and one row per record.
    Csv,
    /// Apache Parquet.
    Parquet,
}

impl Format {
    /// What [`Record::line`] counts, from 1.
    pub fn unit(self) -> Unit {
        match self {
            Self::Jsonl | Self::Json | Self::Csv => Unit::Line,
            Self::Parquet => Unit::Row,
        }
    }

    /// `JSONL`, `JSON`, `CSV` or `Parquet`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Jsonl => "JSONL",
            Self::Json => "JSON",
            Self::Csv => "CSV",
            Self::Parquet => "Parquet",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What places in a file are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// A physical line: that on which a record begins.
    Line,
    /// A row of a table.
    Row,
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Line => "line",
            Self::Row => "row",
        })
    }
}

/// Which keys the records of a file have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// `query` and `responses`.
    Levels,
    /// PKU-SafeRLHF's.
    SafeRlhf,
    /// `chosen` and `rejected`.
    Pairs,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Levels => "levels",
            Self::SafeRlhf => "PKU-SafeRLHF",
            Self::Pairs => "pairs",
        })
    }
}

/// The levels of [`Shape::Pairs`], preferred first.
pub const PAIR_LEVELS: [&str; 2] = ["chosen", "rejected"];

/// A file of preference records.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// The file.
    pub path: PathBuf,
    /// `blake3:` and 64 hexadecimal digits, of the file's bytes.
    pub fingerprint: String,
    /// How the records lay in it.
    pub format: Format,
    /// Which keys they have.
    pub shape: Shape,
    /// Preferred first, where the shape has levels for all its records: the key order of
    /// `responses` in the first record, or the first list `levels` that a record has;
    /// [`PAIR_LEVELS`] for pairs; none for PKU-SafeRLHF, whose measures have their own.
    pub levels: Vec<String>,
    /// In the order of the file, at least one.
    pub records: Vec<Record>,
    /// What was passed over, in the order of the file.
    pub problems: Vec<Problem>,
}

/// A query and its responses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where it begins, counted from 1 in [`Format::unit`].
    pub line: usize,
    /// As the file has it, else `line-N`, for more records on that line `line-N-2` and so on; no
    /// two records share one.
    pub id: String,
    /// The preference dimension.
    pub domain: Option<String>,
    /// How it was made.
    pub method: Option<String>,
    /// Who asks.
    pub persona: Option<String>,
    /// What is asked: one turn of the user, or a conversation up to the response.
    pub query: Vec<Turn>,
    /// What is answered.
    pub responses: Responses,
    /// The record as one line of JSON, with every key that the file has and with its `id`, so that
    /// it keeps its name in a part of a split.
    pub source: String,
}

/// A turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// `user`, `assistant`, `system`, …
    pub role: String,
    /// What is said.
    pub content: String,
}

/// The responses of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Responses {
    /// In the order of [`Dataset::levels`].
    Levels(Vec<String>),
    /// Two responses, judged twice.
    SafeRlhf {
        /// `response_0` and `response_1`.
        texts: [String; 2],
        /// Whether each is safe.
        is_safe: [bool; 2],
        /// Index of the more helpful one.
        better: usize,
        /// Index of the safer one.
        safer: usize,
    },
    /// One preferred to another.
    Pair {
        /// The preferred one.
        chosen: String,
        /// The other.
        rejected: String,
    },
}

impl Responses {
    /// The texts, in the order that the record's shape has.
    pub fn texts(&self) -> Vec<&str> {
        match self {
            Self::Levels(texts) => texts.iter().map(String::as_str).collect(),
            Self::SafeRlhf { texts, .. } => texts.iter().map(String::as_str).collect(),
            Self::Pair { chosen, rejected } => vec![chosen, rejected],
        }
    }
}

/// Records as JSONL, with every key that they were read with: what [`read`](crate::read) reads
/// again as the same records.
pub fn write_jsonl<'a>(records: impl IntoIterator<Item = &'a Record>) -> String {
    records.into_iter().flat_map(|record| [record.source.as_str(), "\n"]).collect()
}
