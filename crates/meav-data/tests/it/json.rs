use meav_data::{DamageReason, DataError, Format, leakage, write_jsonl};

use crate::{ids, problems, read_as};

const A: &str = r#"{"id": "a", "prompt": "q [", "chosen": "c\"]", "rejected": "r"}"#;
const B: &str = "{\"id\": \"b\",\n \"prompt\": \"q\",\n \"chosen\": \"c\", \"rejected\": \"r\"}";

#[test]
fn list_of_records_is_read_with_the_line_of_each() {
    let dataset =
        read_as("data.json", format!("[\n{A},\n\n  {B} ,{}\n]\n", A.replace("\"a\"", "3")))
            .unwrap();
    assert_eq!(dataset.format, Format::Json);
    assert_eq!(problems(&dataset), []);
    assert_eq!(ids(&dataset), ["a", "b", "3"]);
    let lines: Vec<_> = dataset.records.iter().map(|record| record.line).collect();
    assert_eq!(lines, [2, 4, 6]);
    assert!(dataset.records.iter().all(|record| !record.source.contains('\n')));
}

/// As Python's `json.dump` writes them.
#[test]
fn records_on_one_line_have_names_of_their_own() {
    let record = r#"{"persona": "p", "prompt": "q", "chosen": "c", "rejected": "r"}"#;
    let dataset = read_as("data.json", format!("[{record},{record}, {record}]")).unwrap();
    assert_eq!(ids(&dataset), ["line-1", "line-1-2", "line-1-3"]);
    assert_eq!(dataset.statistics().duplicate_queries.len(), 2);
    assert_eq!(leakage(&dataset, &dataset).leaked_records, 3);
    let again = read_as("again.jsonl", write_jsonl(&dataset.records)).unwrap();
    assert_eq!(ids(&again), ids(&dataset));
}

#[test]
fn only_list_of_objects_in_an_object_is_taken() {
    let text = format!(
        "{{\"version\": {{\"n\": [1]}}, \"tags\": [\"x\"],\n \"train\": [{A}, {B}], \"end\": 1}}"
    );
    assert_eq!(ids(&read_as("data.json", text).unwrap()), ["a", "b"]);
}

#[test]
fn broken_element_does_not_take_the_next_ones_with_it() {
    let mut bytes = format!("[\n{A},\n{{\"id\": \"x\" \"y\"}},\n5,\n{{\"id\": \"").into_bytes();
    bytes.extend_from_slice(b"\xFF\"},\n");
    bytes.extend_from_slice(format!("{B}\n]").as_bytes());
    let dataset = read_as("data.json", bytes).unwrap();
    let expected = [
        (3, "not JSON: expected `,` or `}`, at byte 12"),
        (4, "not an object"),
        (5, "not UTF-8, from byte 9 on"),
    ];
    assert_eq!(problems(&dataset), expected.map(|(line, reason)| (line, reason.to_owned())));
    assert_eq!(ids(&dataset), ["a", "b"]);
}

#[test]
fn cut_list_is_read_as_far_as_it_goes() {
    for (text, line) in [
        (format!("[{A},\n{{\"id\": \"b"), 2),
        (format!("[{A},\n"), 2),
        (format!("[{A}"), 1),
        (format!("{{\"data\": [{A},\n{{\"id\": \"b"), 2),
    ] {
        let dataset = read_as("data.json", &text).unwrap();
        let expected = [(line, "the file ends before the list of records does".to_owned())];
        assert_eq!(problems(&dataset), expected, "{text}");
        assert_eq!(ids(&dataset), ["a"]);
    }
}

#[test]
fn more_after_the_list_is_reported() {
    let dataset = read_as("data.json", format!("[{A}]\n\n[{B}]")).unwrap();
    let expected = [(3, "there is something after the end of the list".to_owned())];
    assert_eq!(problems(&dataset), expected);
}

#[test]
fn what_is_no_list_of_records_is_refused() {
    for (text, expected) in [
        (format!("{A}\n{A}\n"), "there is something after the end of the object"),
        (
            format!("{{\"a\": [{A}], \"b\": [{B}]}}"),
            "more than one list of objects: \"a\" and \"b\"",
        ),
        (r#"{"a": [1, 2]}"#.to_owned(), "JSON of records is a list"),
        ("7".to_owned(), "JSON of records is a list"),
        ("{\"a\": 1,\n 7}".to_owned(), "the object around the list of records is broken on line 2"),
        ("{\"a\": \"".to_owned(), "the object around the list of records is broken on line 1"),
    ] {
        match read_as("data.json", &text).unwrap_err() {
            DataError::Damaged { source, .. } => {
                assert!(source.to_string().contains(expected), "{text}: {source}");
            }
            other => panic!("{text}: {other:?}"),
        }
    }
    assert!(matches!(read_as("data.json", "[]"), Err(DataError::Empty { .. })));
    assert!(matches!(read_as("data.json", ""), Err(DataError::Empty { .. })));
}

#[test]
fn several_lists_are_told_by_name() {
    let err = read_as("data.json", format!("{{\"train\": [{A}], \"test\": [{B}]}}")).unwrap_err();
    let DataError::Damaged { source: DamageReason::SeveralLists { first, second }, .. } = err
    else {
        panic!("{err:?}");
    };
    assert_eq!((first.as_str(), second.as_str()), ("train", "test"));
}

#[test]
fn element_over_the_limit_is_measured() {
    let long = format!("{{\"id\": \"{}\"}}", "x".repeat(2_000_000));
    let dataset = read_as("data.json", format!("[{A},\n{long},\n{B}]")).unwrap();
    let expected = [(2, "2000010 bytes long, the limit is 1048576".to_owned())];
    assert_eq!(problems(&dataset), expected);
    assert_eq!(ids(&dataset), ["a", "b"]);
}
