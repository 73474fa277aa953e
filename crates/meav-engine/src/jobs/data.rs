use std::io::Write as _;
use std::path::Path;

use meav_data::{
    Count, Dataset, Distribution, PAIR_LEVELS, Record, Responses, Statistics, Turn, leakage, split,
    write_jsonl,
};
use meav_eval::{data_problem, measure_name};
use meav_protocol::{
    DataRecord, DataReport, ExportTarget, Fact, LeakageReport, LengthSummary, MeasureSummary,
    RecordPage, SplitSpec,
};
use meav_weights::write_file_atomically;

use crate::error::EngineError;
use crate::measuring::read_data;
use crate::worker::{Running, Worker};
use crate::workspace::{FileStamp, free_path};

/// What a page of records holds at most; more than the longest record.
const MAX_PAGE_BYTES: usize = 16 << 20;

/// Says what a file of preference records holds.
pub(crate) fn inspect_data(
    worker: &mut Worker,
    file: &Path,
    running: &Running<'_>,
) -> Result<(), EngineError> {
    let is_demo = worker.folders.demo_data().contains(&worker.folders.data(file));
    let dataset = dataset(worker, file, running)?;
    let report = report(file, dataset, is_demo);
    running.fact(Fact::Data(Box::new(report)));
    Ok(())
}

/// Some records of a file, for reading.
pub(crate) fn read_records(
    worker: &mut Worker,
    file: &Path,
    search: &str,
    start: usize,
    count: usize,
    running: &Running<'_>,
) -> Result<(), EngineError> {
    let dataset = dataset(worker, file, running)?;
    let wanted = search.to_lowercase();
    let found = || {
        let is_found = |record: &&Record| wanted.is_empty() || has_words(record, &wanted);
        dataset.records.iter().filter(is_found)
    };
    running.fact(Fact::Records(RecordPage {
        file: file.to_owned(),
        search: search.to_owned(),
        total: found().count(),
        start,
        records: page(found().skip(start).take(count), dataset),
    }));
    Ok(())
}

/// Records for reading, as far as a message holds them.
fn page<'a>(records: impl Iterator<Item = &'a Record>, dataset: &Dataset) -> Vec<DataRecord> {
    let mut bytes = 0;
    records
        .take_while(|record| {
            bytes += record.source.len();
            bytes <= MAX_PAGE_BYTES
        })
        .map(|record| shown(record, dataset))
        .collect()
}

/// Cuts a file into parts for training, validation and testing.
pub(crate) fn split_data(
    worker: &mut Worker,
    spec: &SplitSpec,
    running: &Running<'_>,
) -> Result<(), EngineError> {
    let SplitSpec { data, test, validation, seed, out } = spec;
    let dataset = dataset(worker, data, running)?;
    let shares = meav_data::SplitSpec { test: *test, validation: *validation, seed: *seed };
    let path = dataset.path.clone();
    let parts = split(dataset, &shares)
        .map_err(|source| EngineError::Split { path: path.clone(), source })?;
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let parts = [("train", parts.train), ("validation", parts.validation), ("test", parts.test)];
    let parts: Vec<_> = parts.into_iter().filter(|(_, records)| !records.is_empty()).collect();
    let target = |part: &str| ExportTarget {
        path: out.path.join(format!("{stem}.{part}.jsonl")),
        replace: out.replace,
    };
    // Before the first is written, so that not some of them are.
    for (part, _) in &parts {
        free_path(&target(part))?;
    }
    let texts: Vec<_> = parts
        .iter()
        .map(|(part, places)| {
            let records = places.iter().map(|place| &dataset.records[*place]);
            (*part, places.len(), write_jsonl(records))
        })
        .collect();
    std::fs::create_dir_all(&out.path)
        .map_err(|source| EngineError::Write { path: out.path.clone(), source })?;
    for (part, n, text) in texts {
        let path = target(part).path;
        write_file_atomically(&path, |file| {
            let failed = |source| EngineError::Write { path: path.clone(), source };
            file.write_all(text.as_bytes()).map_err(failed)
        })?;
        worker.record_written("data", &path, format!("{n} records for {part}"), running);
    }
    Ok(())
}

/// Says what a file for testing shares with one for training.
pub(crate) fn find_leakage(
    worker: &mut Worker,
    train: &Path,
    test: &Path,
    running: &Running<'_>,
) -> Result<(), EngineError> {
    let train = read_data(worker, train, usize::MAX, running)?;
    let found = leakage(&train, dataset(worker, test, running)?);
    let lines = |leaked: &[meav_data::LeakedRecord]| {
        leaked.iter().map(|it| (it.train_line, it.test_line)).collect()
    };
    running.fact(Fact::Leakage(LeakageReport {
        records: found.test_records,
        personas: lines(&found.by_persona),
        queries: lines(&found.by_query),
    }));
    Ok(())
}

/// The records of a file; read again only if the file has changed, since people turn pages.
fn dataset<'a>(
    worker: &'a mut Worker,
    file: &Path,
    running: &Running<'_>,
) -> Result<&'a Dataset, EngineError> {
    let stamp = FileStamp::of_vector(&worker.folders.data(file));
    let is_known = worker.data.as_ref().is_some_and(|(known, _)| *known == stamp);
    if !is_known {
        let dataset = read_data(worker, file, usize::MAX, running)?;
        worker.data = Some((stamp, dataset));
    }
    match &worker.data {
        Some((_, dataset)) => Ok(dataset),
        None => unreachable!("it has just been read"),
    }
}

fn report(file: &Path, dataset: &Dataset, is_demo: bool) -> DataReport {
    let Statistics {
        records,
        levels,
        methods,
        domains,
        personas,
        queries,
        duplicate_queries,
        identical_responses,
    } = dataset.statistics();
    let measures = dataset.measures().into_iter().map(|measure| MeasureSummary {
        measure: measure_name(measure.name),
        n: measure.items.len(),
        levels: measure.levels,
    });
    let by_level = levels.iter().map(|it| (it.level.clone(), it.count)).collect();
    let counts =
        [("level", by_level), ("domain", counted(&domains)), ("method", counted(&methods))];
    let lengths = levels.iter().map(|it| length(&it.level, it.count, &it.lengths.words));
    DataReport {
        file: file.to_owned(),
        path: dataset.path.clone(),
        fingerprint: dataset.fingerprint.clone(),
        format: dataset.format.to_string(),
        shape: dataset.shape.to_string(),
        is_demo,
        measures: measures.collect(),
        records,
        problems: dataset
            .problems
            .iter()
            .take(DataReport::MAX_PROBLEMS)
            .map(data_problem)
            .collect(),
        n_problems: dataset.problems.len(),
        counts: counts.map(|(name, counts)| (name.to_owned(), counts)).into(),
        personas,
        lengths: std::iter::once(length("query", records, &queries.words)).chain(lengths).collect(),
        duplicate_queries: duplicate_queries
            .iter()
            .take(DataReport::MAX_PROBLEMS)
            .map(|it| (it.first, it.line))
            .collect(),
        identical_responses: identical_responses
            .iter()
            .take(DataReport::MAX_PROBLEMS)
            .map(|it| it.line)
            .collect(),
    }
}

fn counted(counts: &[Count]) -> Vec<(String, usize)> {
    let name = |count: &Count| count.name.clone().unwrap_or_else(|| DataReport::UNSAID.to_owned());
    counts.iter().take(DataReport::MAX_PROBLEMS).map(|it| (name(it), it.count)).collect()
}

fn length(name: &str, n: usize, words: &Distribution) -> LengthSummary {
    let Distribution { min, lower_quartile, median, upper_quartile, max, mean } = *words;
    let quantiles = [min, lower_quartile, median, upper_quartile, max];
    LengthSummary { name: name.to_owned(), n, quantiles, mean }
}

/// Whether any text of a record has the words, not minding case.
fn has_words(record: &Record, wanted: &str) -> bool {
    let Record { id, domain, method, persona, query, responses, .. } = record;
    let texts = [domain, method, persona].into_iter().flatten().map(String::as_str);
    let query = query.iter().map(|turn| turn.content.as_str());
    texts
        .chain([id.as_str()])
        .chain(query)
        .chain(responses.texts())
        .any(|text| text.to_lowercase().contains(wanted))
}

fn shown(record: &Record, dataset: &Dataset) -> DataRecord {
    let Record { line, id, domain, method, persona, query, responses, .. } = record.clone();
    let names: Vec<String> = match &responses {
        Responses::Levels(_) => dataset.levels.clone(),
        Responses::Pair { .. } => PAIR_LEVELS.map(str::to_owned).into(),
        Responses::SafeRlhf { is_safe, better, .. } => [0, 1]
            .map(|place| {
                let helpful = if place == *better { "helpful" } else { "unhelpful" };
                format!("{helpful}, {}", if is_safe[place] { "safe" } else { "unsafe" })
            })
            .into(),
    };
    let texts = responses.texts().into_iter().map(str::to_owned);
    let query = match query.as_slice() {
        [Turn { content, .. }] => content.clone(),
        turns => {
            let turn = |turn: &Turn| format!("{}: {}", turn.role, turn.content);
            turns.iter().map(turn).collect::<Vec<_>>().join("\n\n")
        }
    };
    let responses = names.into_iter().zip(texts).collect();
    DataRecord { line, id, domain, method, persona, query, responses }
}
