use std::path::Path;

use meav_data::{DataError, Format, ReadOptions, read};
use meav_job::{CancelToken, JobCtx};

use crate::{ids, read_as, read_lines, read_path};

const RECORD: &str = r#"{"id": "a", "prompt": "q", "chosen": "c", "rejected": "r"}"#;
const PARQUET: &[u8] = include_bytes!("../fixtures/pku.parquet");

#[test]
fn ending_tells_the_format_and_else_the_beginning_does() {
    let line = format!("{RECORD}\n");
    let list = format!(" [{RECORD}]");
    let object = format!("{{\"version\": 1, \"data\": [{RECORD}]}}");
    let pretty = format!("{{\n  \"data\": [{RECORD}]\n}}");
    let message = r#"{"chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "c"}], "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "r"}]}"#;
    let csv = "\u{FEFF}id,\"prompt\",chosen,rejected\na,q,c,r\n";
    for (name, bytes, expected) in [
        ("a.jsonl", line.as_bytes(), Format::Jsonl),
        ("a.NDJSON", line.as_bytes(), Format::Jsonl),
        ("a.json", list.as_bytes(), Format::Json),
        ("a.csv", csv.as_bytes(), Format::Csv),
        ("a.parquet", PARQUET, Format::Parquet),
        ("a.txt", line.as_bytes(), Format::Jsonl),
        ("a", format!("{line}{{broken\n").as_bytes(), Format::Jsonl),
        ("a", message.as_bytes(), Format::Jsonl),
        ("a", list.as_bytes(), Format::Json),
        ("a", object.as_bytes(), Format::Json),
        ("a", pretty.as_bytes(), Format::Json),
        ("a", csv.as_bytes(), Format::Csv),
        ("a.data", PARQUET, Format::Parquet),
    ] {
        let dataset = read_as(name, bytes).unwrap_or_else(|err| panic!("{name}: {err:?}"));
        assert_eq!(dataset.format, expected, "{name}");
        assert!(!dataset.records.is_empty());
    }
    for bytes in ["", "hello", "hello, world\n", "\u{1F}\u{8B}"] {
        let err = read_as("a.txt", bytes).unwrap_err();
        assert!(matches!(err, DataError::UnknownFormat { .. }), "{bytes}: {err:?}");
    }
}

#[test]
fn fingerprint_is_that_of_the_bytes() {
    let dataset = read_lines(&[RECORD]);
    let expected = format!("blake3:{}", blake3::hash(RECORD.as_bytes()).to_hex());
    assert_eq!(dataset.fingerprint, expected);
}

#[test]
fn reading_ends_at_the_limit_in_every_format() {
    let folder = tempfile::tempdir().unwrap();
    let bad = "{}";
    let other = RECORD.replace("\"a\"", "\"b\"");
    let list = format!("[{RECORD}, {bad}, {other}, {bad}]");
    for (name, text) in [
        ("a.jsonl", format!("{RECORD}\n{bad}\n{other}\n{bad}\n")),
        ("a.json", list),
        ("a.csv", "id,prompt,chosen,rejected\na,q,c,r\n,,c,r\nb,q,c,r\n,,c,r\n".to_owned()),
    ] {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        for (limit, expected, n_problems) in
            [(1, vec!["a"], 0), (2, vec!["a", "b"], 1), (3, vec!["a", "b"], 2)]
        {
            let dataset = read(&path, ReadOptions { limit }, &JobCtx::detached()).unwrap();
            assert_eq!(ids(&dataset), expected, "{name}");
            assert_eq!(dataset.problems.len(), n_problems, "{name}");
        }
    }
}

/// Of four rows in two groups the last two have problems.
#[test]
fn limit_counts_over_row_groups() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    std::fs::write(&path, include_bytes!("../fixtures/levels.parquet")).unwrap();
    for (limit, n_records, n_problems) in [(1, 1, 0), (2, 2, 0), (3, 2, 2)] {
        let dataset = read(&path, ReadOptions { limit }, &JobCtx::detached()).unwrap();
        assert_eq!((dataset.records.len(), dataset.problems.len()), (n_records, n_problems));
    }
}

#[test]
fn cancelled_reading_ends() {
    let folder = tempfile::tempdir().unwrap();
    let cancel = CancelToken::default();
    cancel.cancel();
    let job = JobCtx::new(cancel, &|_| {});
    let path = folder.path().join("a.jsonl");
    std::fs::write(&path, RECORD).unwrap();
    let result = read(&path, ReadOptions { limit: 1 }, &job);
    assert!(matches!(result, Err(DataError::Cancelled(_))));
}

#[test]
fn example_of_each_shape_is_read() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    for (name, shape, levels) in [
        ("levels.jsonl", "levels", vec!["expert", "generic", "avoidance"]),
        ("pku.jsonl", "PKU-SafeRLHF", vec![]),
        ("pairs.jsonl", "pairs", vec!["chosen", "rejected"]),
    ] {
        let dataset = read_path(&fixtures.join(name)).unwrap();
        assert_eq!(dataset.shape.to_string(), shape);
        assert_eq!(dataset.levels, levels);
        assert_eq!(dataset.records.len(), 3);
        assert!(dataset.problems.is_empty(), "{:?}", dataset.problems);
    }
}

#[test]
fn missing_file_and_folder_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let missing = read_path(&folder.path().join("none.jsonl")).unwrap_err();
    assert!(missing.to_string().starts_with("cannot read"), "{missing}");
    let not_a_file = read_path(folder.path()).unwrap_err();
    assert!(not_a_file.to_string().starts_with("not a file"), "{not_a_file}");
}
