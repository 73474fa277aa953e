use meav_data::{Dataset, Record, Responses, SplitSpec, split};
use meav_protocol::TrainSettings;

use super::Source;
use super::build::RecordPairs;

/// Records below which none is held back: of fewer, 3 % are less than one.
const FEWEST: usize = 34;

/// Which of `records` are for validation.
pub(super) fn held_back(
    sources: &[Source<'_>],
    records: &[RecordPairs],
    settings: &TrainSettings,
) -> Vec<bool> {
    let mut is_held_back = vec![false; records.len()];
    let first = sources.first().filter(|_| settings.validation > 0.0);
    let Some(source) = first.filter(|_| records.len() >= FEWEST) else { return is_held_back };
    // Only the queries: records of one persona may be most of a file.
    let query = |it: &RecordPairs| {
        let record = &sources[it.source].dataset.records[it.record];
        let (id, source) = (String::new(), String::new());
        let responses = Responses::Levels(Vec::new());
        let (domain, method, persona) = (None, None, None);
        let (line, query) = (record.line, record.query.clone());
        Record { line, id, domain, method, persona, query, responses, source }
    };
    let dataset = Dataset {
        path: source.dataset.path.clone(),
        fingerprint: String::new(),
        format: source.dataset.format,
        shape: source.dataset.shape,
        levels: Vec::new(),
        records: records.iter().map(query).collect(),
        problems: Vec::new(),
    };
    let spec = SplitSpec { test: 0.0, validation: settings.validation, seed: settings.seed };
    // It fails only where there is nothing to separate.
    if let Ok(split) = split(&dataset, &spec) {
        for index in split.validation {
            is_held_back[index] = true;
        }
    }
    is_held_back
}
