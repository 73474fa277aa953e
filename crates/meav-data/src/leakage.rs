use std::collections::HashMap;

use crate::text::{normalised, normalised_query};
use crate::{Dataset, Record};

/// What a test set has in common with what a model was trained on, so that it measures memory.
///
/// Personas and queries are compared in lower case and without regard to punctuation and white
/// space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leakage {
    /// Records of the test set.
    pub test_records: usize,
    /// Those whose persona is also in the training set.
    pub by_persona: Vec<LeakedRecord>,
    /// Those whose query is also in the training set.
    pub by_query: Vec<LeakedRecord>,
    /// How many are in either list.
    pub leaked_records: usize,
}

/// A record of the test set, and the first of the training set that it shares something with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeakedRecord {
    /// In the training set.
    pub train_line: usize,
    /// In the test set.
    pub test_line: usize,
}

/// Compares a training set with a test set.
pub fn leakage(train: &Dataset, test: &Dataset) -> Leakage {
    let by_persona = shared(train, test, persona);
    let by_query = shared(train, test, |record| Some(normalised_query(&record.query)));
    let leaked_records =
        by_persona.iter().zip(&by_query).filter(|(left, right)| left.or(**right).is_some()).count();
    Leakage {
        test_records: test.records.len(),
        by_persona: by_persona.into_iter().flatten().collect(),
        by_query: by_query.into_iter().flatten().collect(),
        leaked_records,
    }
}

/// A persona as it is compared with others.
pub(crate) fn persona(record: &Record) -> Option<String> {
    record.persona.as_deref().map(normalised)
}

/// For each record of the test set what it shares its key with.
fn shared(
    train: &Dataset,
    test: &Dataset,
    key: impl Fn(&Record) -> Option<String>,
) -> Vec<Option<LeakedRecord>> {
    let mut lines = HashMap::new();
    for record in &train.records {
        if let Some(key) = key(record) {
            lines.entry(key).or_insert(record.line);
        }
    }
    let leaked = |record: &Record| {
        let train_line = *lines.get(&key(record)?)?;
        Some(LeakedRecord { train_line, test_line: record.line })
    };
    test.records.iter().map(leaked).collect()
}
