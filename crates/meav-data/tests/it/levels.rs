use meav_data::{Format, Responses, Shape};

use crate::{contents, ids, problems, read_as, read_lines, talk};

#[test]
fn record_is_read_with_all_that_it_says() {
    let dataset = read_lines(&[
        r#"{"id": "m-1", "domain": "medical", "method": "persona_hub", "persona": "A nurse.", "query": "How much?", "responses": {"expert": "Two.", "generic": "It depends."}, "note": [1]}"#,
    ]);
    assert_eq!((dataset.format, dataset.shape), (Format::Jsonl, Shape::Levels));
    assert_eq!(dataset.levels, ["expert", "generic"]);
    let record = &dataset.records[0];
    assert_eq!((record.line, record.id.as_str()), (1, "m-1"));
    assert_eq!(record.domain.as_deref(), Some("medical"));
    assert_eq!(record.method.as_deref(), Some("persona_hub"));
    assert_eq!(record.persona.as_deref(), Some("A nurse."));
    assert_eq!(talk(&record.query), ["user: How much?"]);
    assert_eq!(record.responses, Responses::Levels(vec!["Two.".into(), "It depends.".into()]));
    assert!(record.source.ends_with(r#""note": [1]}"#));
}

#[test]
fn levels_stand_in_the_order_of_the_first_record() {
    let dataset = read_lines(&[
        r#"{"query": "q", "responses": {"high": "h1", "low": "l1"}}"#,
        r#"{"query": "q", "responses": {"low": "l2", "high": "h2"}}"#,
    ]);
    assert_eq!(dataset.levels, ["high", "low"]);
    assert_eq!(dataset.records[1].responses.texts(), ["h2", "l2"]);
    assert_eq!(ids(&dataset), ["line-1", "line-2"]);
}

#[test]
fn list_of_levels_orders_all_records() {
    let dataset = read_lines(&[
        r#"{"query": "q", "responses": {"a": "a1", "b": "b1", "c": "c1"}}"#,
        r#"{"query": "q", "responses": {"b": "b2", "c": "c2", "a": "a2"}, "levels": ["c", "a", "b"]}"#,
        r#"{"query": "q", "responses": {"a": "a3", "b": "b3", "c": "c3"}}"#,
    ]);
    assert_eq!(problems(&dataset), []);
    assert_eq!(dataset.levels, ["c", "a", "b"]);
    let texts: Vec<_> = dataset.records.iter().map(|record| record.responses.texts()).collect();
    assert_eq!(texts, [["c1", "a1", "b1"], ["c2", "a2", "b2"], ["c3", "a3", "b3"]]);
}

#[test]
fn bad_first_record_says_nothing_about_the_others() {
    let dataset = read_lines(&[
        r#"{"query": "", "responses": {"x": "x", "y": "y"}}"#,
        r#"{"query": "q", "responses": {"a": "a1"}}"#,
        r#"{"query": "q", "responses": {"a": "a1", "b": "b1"}}"#,
    ]);
    let expected = [(1, "the query is empty"), (2, "it has fewer than two responses")];
    assert_eq!(problems(&dataset), expected.map(|(line, reason)| (line, reason.to_owned())));
    assert_eq!(dataset.levels, ["a", "b"]);
}

#[test]
fn byte_order_mark_and_other_line_ends_change_nothing() {
    let lines = concat!(
        r#"{"id": 7, "query": "q", "responses": {"a": "a1", "b": "b1"}}"#,
        "\n\n",
        r#"{"id": 8, "query": "q", "responses": {"a": "a1", "b": "b1"}}"#,
        "\n"
    );
    let plain = read_as("data.jsonl", lines).unwrap();
    let marked = format!("\u{FEFF}{}", lines.replace('\n', "\r\n"));
    let marked = read_as("data.jsonl", marked).unwrap();
    assert_eq!(marked.records, plain.records);
    assert_eq!(ids(&marked), ["7", "8"]);
    assert_eq!(contents(&marked).len(), 2);
    assert_ne!(marked.fingerprint, plain.fingerprint);
}
