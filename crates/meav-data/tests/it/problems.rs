use std::fs::File;
use std::io::{BufWriter, Write as _};

use meav_data::{DataError, MAX_RECORD_BYTES, ProblemKind};

use crate::{chain, ids, problems, read_as, read_lines, read_path};

const LEVELS: &str =
    r#"{"id": "a", "query": "q", "responses": {"expert": "e", "generic": "g", "avoidance": "v"}}"#;
const PKU: &str = r#"{"id": "a", "prompt": "q", "response_0": "x", "response_1": "y", "is_response_0_safe": true, "is_response_1_safe": false, "better_response_id": 1, "safer_response_id": 0}"#;
const PAIR: &str = r#"{"id": "a", "prompt": "q", "chosen": "c", "rejected": "r"}"#;

/// Reads a bad record between two good ones and compares the reason that is given for it.
fn check(good: &str, bad: &str, reason: &str) {
    let last = good.replace(r#""id": "a""#, r#""id": "z""#);
    let dataset = read_lines(&[good, bad, "", &last]);
    assert_eq!(problems(&dataset), [(2, reason.to_owned())], "{bad}");
    assert_eq!(ids(&dataset), ["a", "z"], "{bad}");
    assert_eq!(dataset.records[1].line, 4);
}

#[test]
fn records_with_levels_are_checked() {
    for (bad, reason) in [
        ("not json", "not JSON: expected ident, at byte 2"),
        (r#"{"id": "b", "query": "#, "not JSON: EOF while parsing a value, at byte 20"),
        ("[1, 2]", "not an object"),
        (
            r#"{"id": "b", "text": "t"}"#,
            "it has neither \"query\" and \"responses\", nor \"prompt\", \"response_0\" and \
             \"response_1\", nor \"chosen\" and \"rejected\"",
        ),
        (r#"{"query": "q"}"#, "\"responses\" is missing"),
        (
            r#"{"query": null, "responses": {"expert": "e", "generic": "g", "avoidance": "v"}}"#,
            "\"query\" is missing",
        ),
        (
            r#"{"query": "q", "responses": ["e", "g"]}"#,
            "\"responses\" is not an object with one text per level",
        ),
        (
            r#"{"query": "q", "responses": {"expert": "e", "generic": "g"}}"#,
            "there is no response at level \"avoidance\", which the first record (line 1) has",
        ),
        (
            r#"{"query": "q", "responses": {"expert": "e", "generic": "g", "avoidance": null}}"#,
            "there is no response at level \"avoidance\", which the first record (line 1) has",
        ),
        (
            r#"{"query": "q", "responses": {"expert": "e", "generic": "g", "avoidance": "v", "x": "x"}}"#,
            "there is a response at level \"x\", which the first record (line 1) lacks",
        ),
        (
            r#"{"query": "q", "responses": {"expert": "e", "generic": 7, "avoidance": "v"}}"#,
            "\"generic\" is not text",
        ),
        (
            r#"{"query": " \n", "responses": {"expert": "e", "generic": "g", "avoidance": "v"}}"#,
            "the query is empty",
        ),
        (
            r#"{"query": "q", "responses": {"expert": "e", "generic": "\t", "avoidance": "v"}}"#,
            "the response \"generic\" is empty",
        ),
        (
            r#"{"id": "a", "query": "other", "responses": {"expert": "e", "generic": "g", "avoidance": "v"}}"#,
            "line 1 has the same id",
        ),
        (
            r#"{"id": 1.5, "query": "q", "responses": {"expert": "e", "generic": "g", "avoidance": "v"}}"#,
            "\"id\" is not text or a whole number",
        ),
        (
            r#"{"domain": 3, "query": "q", "responses": {"expert": "e", "generic": "g", "avoidance": "v"}}"#,
            "\"domain\" is not text",
        ),
        (
            r#"{"levels": ["expert", "generic", "other"], "query": "q", "responses": {"expert": "e", "generic": "g", "avoidance": "v"}}"#,
            "\"levels\" does not name the levels of the responses: \"avoidance\"",
        ),
        (
            r#"{"prompt": "q", "chosen": "c", "rejected": "r"}"#,
            "it has the shape pairs, the first record (line 1) has levels",
        ),
    ] {
        check(LEVELS, bad, reason);
    }
}

#[test]
fn safe_rlhf_records_are_checked() {
    for (from, to, reason) in [
        (
            "\"better_response_id\": 1",
            "\"better_response_id\": 2",
            "\"better_response_id\" is 2, neither 0 nor 1",
        ),
        (
            "\"better_response_id\": 1",
            "\"better_response_id\": -1",
            "\"better_response_id\" is -1, neither 0 nor 1",
        ),
        (
            "\"safer_response_id\": 0",
            "\"safer_response_id\": \"x\"",
            "\"safer_response_id\" is \"x\", neither 0 nor 1",
        ),
        (", \"safer_response_id\": 0", "", "\"safer_response_id\" is missing"),
        ("\"is_response_0_safe\": true, ", "", "\"is_response_0_safe\" is missing"),
        (
            "\"is_response_1_safe\": false",
            "\"is_response_1_safe\": null",
            "\"is_response_1_safe\" is missing",
        ),
        (
            "\"is_response_1_safe\": false",
            "\"is_response_1_safe\": \"no\"",
            "\"is_response_1_safe\" is not true or false",
        ),
        ("\"response_1\": \"y\", ", "", "\"response_1\" is missing"),
        ("\"response_1\": \"y\"", "\"response_1\": \"\"", "the response \"response_1\" is empty"),
        ("\"prompt\": \"q\"", "\"prompt\": \"\"", "the query is empty"),
        ("\"prompt\": \"q\", ", "", "\"prompt\" is missing"),
    ] {
        assert!(PKU.contains(from), "{from}");
        check(PKU, &PKU.replace("\"a\"", "\"b\"").replace(from, to), reason);
    }
}

#[test]
fn pairs_are_checked() {
    let user = r#"{"role": "user", "content": "q"}"#;
    let assistant = r#"{"role": "assistant", "content": "a"}"#;
    let other = r#"{"role": "assistant", "content": "b"}"#;
    let no_turn = "\"rejected\" is not one turn of the assistant after what both begin with";
    let not_messages = "\"rejected\" is not text or a list of messages with role and content";
    for (bad, reason) in [
        (r#"{"prompt": "q", "chosen": "c"}"#.to_owned(), "\"rejected\" is missing"),
        (r#"{"prompt": "", "chosen": "c", "rejected": "r"}"#.to_owned(), "the query is empty"),
        (r#"{"chosen": "yes", "rejected": "no"}"#.to_owned(), "the query is empty"),
        (
            r#"{"prompt": "q", "chosen": "c", "rejected": " "}"#.to_owned(),
            "the response \"rejected\" is empty",
        ),
        (format!(r#"{{"chosen": [{user}, {assistant}], "rejected": [{user}]}}"#), no_turn),
        (
            format!(
                r#"{{"chosen": [{user}, {assistant}], "rejected": [{user}, {other}, {user}]}}"#
            ),
            no_turn,
        ),
        (format!(r#"{{"chosen": [{user}, {assistant}], "rejected": [{user}, {user}]}}"#), no_turn),
        (
            format!(r#"{{"prompt": [], "chosen": [{assistant}], "rejected": [{other}]}}"#),
            "the query is empty",
        ),
        (format!(r#"{{"chosen": [{assistant}], "rejected": [{other}]}}"#), "the query is empty"),
        (
            format!(r#"{{"chosen": [{user}, {assistant}], "rejected": [{{"role": "user"}}]}}"#),
            not_messages,
        ),
        (
            format!(r#"{{"prompt": "q", "chosen": [{assistant}], "rejected": "b"}}"#),
            "\"chosen\" is not text",
        ),
    ] {
        let bad = bad.replacen('{', r#"{"id": "b", "#, 1);
        check(PAIR, &bad, reason);
    }
}

#[test]
fn problem_has_the_id_of_its_record() {
    let bad = LEVELS.replace("\"a\"", "\"b\"").replace("\"q\"", "\"\"");
    let dataset = read_lines(&[LEVELS, &bad, "?"]);
    let ids: Vec<_> = dataset.problems.iter().map(|problem| problem.id.as_deref()).collect();
    assert_eq!(ids, [Some("b"), None]);
}

#[test]
fn only_the_line_that_is_not_utf8_is_passed_over() {
    let mut bytes = format!("{PAIR}\n").into_bytes();
    bytes.extend_from_slice(b"{\"prompt\": \"caf\xE9\", \"chosen\": \"c\", \"rejected\": \"r\"}\n");
    bytes.extend_from_slice(PAIR.replace("\"a\"", "\"b\"").as_bytes());
    let dataset = read_as("data.jsonl", bytes).unwrap();
    assert_eq!(problems(&dataset), [(2, "not UTF-8, from byte 16 on".to_owned())]);
    assert_eq!(ids(&dataset), ["a", "b"]);
}

#[test]
fn line_of_ten_megabytes_is_measured_and_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.jsonl");
    let mut file = BufWriter::new(File::create(&path).unwrap());
    write!(file, "{PAIR}\n{{\"prompt\": \"").unwrap();
    for _ in 0..10_000 {
        file.write_all(&[b'x'; 1000]).unwrap();
    }
    write!(file, "\"}}\r\n{}", PAIR.replace("\"a\"", "\"b\"")).unwrap();
    file.into_inner().unwrap();
    let dataset = read_path(&path).unwrap();
    let [problem] = &dataset.problems[..] else { panic!("{:?}", dataset.problems) };
    assert_eq!(
        (problem.line, &problem.kind),
        (2, &ProblemKind::TooLong { length: 10_000_015, limit: MAX_RECORD_BYTES })
    );
    assert_eq!(problem.kind.to_string(), "10000015 bytes long, the limit is 1048576");
    assert_eq!(ids(&dataset), ["a", "b"]);
}

#[test]
fn line_of_just_the_limit_is_read() {
    let record =
        |len: usize| PAIR.replace("\"c\"", &format!("\"{}\"", "c".repeat(len + 1 - PAIR.len())));
    let longest = record(MAX_RECORD_BYTES);
    assert_eq!(longest.len(), MAX_RECORD_BYTES);
    assert!(read_as("data.jsonl", &longest).is_ok());
    let err = read_as("data.jsonl", record(MAX_RECORD_BYTES + 1)).unwrap_err();
    assert!(matches!(err, DataError::NoRecords { source: ProblemKind::TooLong { .. }, .. }));
}

#[test]
fn deep_nesting_is_a_problem_like_others() {
    let bomb = "[".repeat(500_000);
    let dataset = read_lines(&[PAIR, &bomb]);
    assert_eq!(
        problems(&dataset),
        [(2, "not JSON: recursion limit exceeded, at byte 128".to_owned())]
    );
}

#[test]
fn file_without_a_usable_record_names_its_first_problem() {
    let err = read_as("data.jsonl", "\n\n{}\n?\n").unwrap_err();
    assert!(matches!(err, DataError::NoRecords { line: 3, .. }), "{err:?}");
    let chain = chain(&err);
    assert!(chain.contains("no usable record in"), "{chain}");
    assert!(chain.contains("line 3: it has neither \"query\""), "{chain}");
    assert!(matches!(read_as("data.jsonl", "\n \r\n"), Err(DataError::Empty { .. })));
    assert!(matches!(read_as("data.jsonl", ""), Err(DataError::Empty { .. })));
}

#[test]
fn file_of_something_else_is_given_up() {
    let err = read_as("data.jsonl", "2026-03-01 started\n".repeat(20_000)).unwrap_err();
    assert!(matches!(err, DataError::TooManyProblems { count: 10_000, line: 1, .. }), "{err:?}");
}
