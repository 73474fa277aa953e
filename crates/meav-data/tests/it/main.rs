//! Files of preference records, sound and broken, in each format.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod csv;
mod formats;
mod hostile_bytes;
mod json;
mod leakage;
mod levels;
mod measures;
mod pairs;
mod parquet;
mod problems;
mod split;
mod statistics;
mod written;

use std::fs;
use std::path::Path;

use meav_data::{DataError, Dataset, ReadOptions, Record, Turn, read};
use meav_job::JobCtx;

const ALL: ReadOptions = ReadOptions { limit: usize::MAX };

/// Reads `bytes` as a file of that name.
fn read_as(name: &str, bytes: impl AsRef<[u8]>) -> Result<Dataset, DataError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    read_path(&path)
}

fn read_path(path: &Path) -> Result<Dataset, DataError> {
    read(path, ALL, &JobCtx::detached())
}

/// Reads sound and unsound lines of JSON.
fn read_lines(lines: &[&str]) -> Dataset {
    read_as("data.jsonl", lines.join("\n")).unwrap()
}

/// Where each problem is and what it is.
fn problems(dataset: &Dataset) -> Vec<(usize, String)> {
    dataset.problems.iter().map(|problem| (problem.line, problem.kind.to_string())).collect()
}

fn ids(dataset: &Dataset) -> Vec<&str> {
    dataset.records.iter().map(|record| record.id.as_str()).collect()
}

/// A conversation as `role: content`.
fn talk(query: &[Turn]) -> Vec<String> {
    query.iter().map(|turn| format!("{}: {}", turn.role, turn.content)).collect()
}

/// All that a record is, wherever it lay.
fn contents(dataset: &Dataset) -> Vec<Record> {
    let anywhere = |record: &Record| Record { line: 0, source: String::new(), ..record.clone() };
    dataset.records.iter().map(anywhere).collect()
}

/// The cause of an error behind its own words.
fn chain(err: &dyn std::error::Error) -> String {
    std::iter::successors(Some(err), |err| err.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
