//! Preference records, as a person looks at them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{ExportTarget, MeasureName};

/// What a file of preference records holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataReport {
    /// The file, as it was asked for.
    pub file: PathBuf,
    /// Where it was found.
    pub path: PathBuf,
    /// `blake3:` of its bytes.
    pub fingerprint: String,
    /// `JSONL`, `JSON`, `CSV` or `Parquet`.
    pub format: String,
    /// Which records it holds, in words: `levels`, `SafeRLHF`, `pairs`.
    pub shape: String,
    /// Whether it is part of the demo: synthetic, and reviewed by no professional.
    pub is_demo: bool,
    /// What can be measured on it.
    pub measures: Vec<MeasureSummary>,
    /// Records that can be used.
    pub records: usize,
    /// What is wrong with the others, as far as [`DataReport::MAX_PROBLEMS`].
    pub problems: Vec<DataProblem>,
    /// All that are wrong.
    pub n_problems: usize,
    /// Records of each domain, method, …: a name, and values with their counts.
    pub counts: Vec<(String, Vec<(String, usize)>)>,
    /// Different personas.
    pub personas: usize,
    /// How long queries and the responses at each level are, in words.
    pub lengths: Vec<LengthSummary>,
    /// Pairs of lines that ask the same.
    pub duplicate_queries: Vec<(usize, usize)>,
    /// Lines whose responses are the same text at two levels.
    pub identical_responses: Vec<usize>,
}

impl DataReport {
    /// The most problems, counts, pairs and lines that are told one by one.
    pub const MAX_PROBLEMS: usize = 500;

    /// What counts of records that say nothing are listed under.
    pub const UNSAID: &str = "none";

    /// The preference dimensions that records are of; records that don't say have none.
    pub fn domains(&self) -> impl Iterator<Item = &str> {
        let of_domain = self.counts.iter().filter(|(name, _)| name == "domain");
        let names = of_domain.flat_map(|(_, values)| values).map(|(name, _)| name.as_str());
        names.filter(|name| *name != Self::UNSAID)
    }
}

/// What can be measured on a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeasureSummary {
    /// What.
    pub measure: MeasureName,
    /// Its levels; a tie goes to the one listed first.
    pub levels: Vec<String>,
    /// Records that it is measured on.
    pub n: usize,
}

/// A record that can't be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataProblem {
    /// Counted from 1; the row in a Parquet file.
    pub line: usize,
    /// The record's id, where it is known.
    pub id: Option<String>,
    /// What is wrong, in words.
    pub reason: String,
}

/// How long texts are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LengthSummary {
    /// `query`, or a level.
    pub name: String,
    /// Texts.
    pub n: usize,
    /// Words: the least, the quartiles, and the most.
    pub quantiles: [f64; 5],
    /// Words on average.
    pub mean: f64,
}

/// Some records of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordPage {
    /// The file, as it was asked for.
    pub file: PathBuf,
    /// The words that were looked for.
    pub search: String,
    /// Records in which they were found.
    pub total: usize,
    /// The place of the first record among those.
    pub start: usize,
    /// The records.
    pub records: Vec<DataRecord>,
}

/// A record, for reading.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataRecord {
    /// Counted from 1; the row in a Parquet file.
    pub line: usize,
    /// As the file has it, else `line-N`.
    pub id: String,
    /// The preference dimension.
    pub domain: Option<String>,
    /// How it was made.
    pub method: Option<String>,
    /// Who asks.
    pub persona: Option<String>,
    /// What is asked; several turns one below the other.
    pub query: String,
    /// Names of levels, and what is answered there.
    pub responses: Vec<(String, String)>,
}

/// A file that is cut into parts for training and testing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SplitSpec {
    /// The file.
    pub data: PathBuf,
    /// The share of records for testing.
    pub test: f64,
    /// The share of records for validation.
    pub validation: f64,
    /// The same seed cuts the same way.
    pub seed: u64,
    /// The folder for `NAME.train.jsonl`, `NAME.validation.jsonl` and `NAME.test.jsonl`.
    pub out: ExportTarget,
}

/// What one file shares with another, which a test should not share with training data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeakageReport {
    /// Records of the test file.
    pub records: usize,
    /// Lines of the training file and the test file with the same persona.
    pub personas: Vec<(usize, usize)>,
    /// Lines of the training file and the test file with the same query.
    pub queries: Vec<(usize, usize)>,
}
