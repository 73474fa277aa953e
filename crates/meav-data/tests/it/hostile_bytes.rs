use std::fs::{self, File};
use std::path::Path;

use meav_data::{DataError, Dataset, ReadOptions, read, write_jsonl};
use meav_job::JobCtx;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

const LEVELS: &[u8] = include_bytes!("../fixtures/levels.parquet");
const PKU: &[u8] = include_bytes!("../fixtures/pku.parquet");
const PAIRS: &[u8] = include_bytes!("../fixtures/pairs.parquet");
const NAMES: [&str; 5] = ["a.jsonl", "a.json", "a.csv", "a.parquet", "a"];

/// Whatever the bytes are, this returns, and what it read can be used.
fn read_and_use(name: &str, bytes: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    read_path_and_use(&path);
}

fn read_path_and_use(path: &Path) {
    if let Ok(dataset) = read(path, ReadOptions { limit: 1000 }, &JobCtx::detached()) {
        use_all(&dataset);
    }
}

fn use_all(dataset: &Dataset) {
    assert!(!dataset.records.is_empty());
    assert_eq!(dataset.statistics().records, dataset.records.len());
    for measure in dataset.measures() {
        assert!(measure.items.iter().all(|item| item.responses.len() == measure.levels.len()));
    }
    assert_eq!(write_jsonl(&dataset.records).lines().count(), dataset.records.len());
}

fn cut_and_changed() -> impl Strategy<Value = Vec<u8>> {
    let changes = vec((any::<Index>(), any::<u8>()), 0..4);
    (select(vec![LEVELS, PKU, PAIRS]), changes, any::<bool>(), any::<Index>()).prop_map(
        |(file, changes, is_cut, end)| {
            let mut bytes = file.to_vec();
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            if is_cut {
                let end = end.index(bytes.len());
                bytes.drain(4..4 + end.min(bytes.len() - 4));
            }
            bytes
        },
    )
}

#[test]
fn unchanged_files_are_sound() -> Result<(), DataError> {
    for file in [LEVELS, PKU, PAIRS] {
        use_all(&crate::read_as("a.parquet", file)?);
    }
    Ok(())
}

#[test]
fn every_beginning_and_many_an_end_of_a_parquet_file_is_read_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    for bytes in [LEVELS, PKU, PAIRS] {
        for cut in (1..bytes.len()).step_by(13) {
            fs::write(&path, &bytes[cut..]).unwrap();
            read_path_and_use(&path);
        }
        fs::write(&path, bytes).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        for len in (0..bytes.len()).rev() {
            file.set_len(len as u64).unwrap();
            read_path_and_use(&path);
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(
        name in select(NAMES.to_vec()),
        bytes in vec(any::<u8>(), 0..400),
    ) {
        read_and_use(name, &bytes);
    }

    #[test]
    fn any_text_of_brackets_and_quotes_is_read_or_refused(
        name in select(NAMES.to_vec()),
        text in "(\\{\"query\":|[\\[\\]{}\":,\\\\\r\n abéq0-1]){0,60}",
    ) {
        read_and_use(name, text.as_bytes());
    }

    #[test]
    fn any_footer_is_read_or_refused(footer in vec(prop_oneof![Just(0_u8), 0..32_u8, any::<u8>()], 0..200)) {
        let length = u32::try_from(footer.len()).unwrap().to_le_bytes();
        read_and_use("a.parquet", &[b"PAR1", &footer[..], &length, b"PAR1"].concat());
    }

    #[test]
    fn changed_parquet_files_are_read_or_refused(bytes in cut_and_changed()) {
        read_and_use("a.parquet", &bytes);
    }
}
