use meav_data::{Responses, Shape};

use crate::{read_lines, talk};

fn check(line: &str, query: &[&str], chosen: &str, rejected: &str) {
    let dataset = read_lines(&[line]);
    assert_eq!(dataset.shape, Shape::Pairs);
    assert_eq!(dataset.levels, ["chosen", "rejected"]);
    let record = &dataset.records[0];
    assert_eq!(talk(&record.query), query, "{line}");
    let expected = Responses::Pair { chosen: chosen.to_owned(), rejected: rejected.to_owned() };
    assert_eq!(record.responses, expected, "{line}");
}

#[test]
fn text_has_its_prompt_or_begins_with_it() {
    check(r#"{"prompt": "q", "chosen": "c", "rejected": "r"}"#, &["user: q"], "c", "r");
    check(
        r#"{"chosen": "What is blue? The sky.", "rejected": "What is blue? This sea."}"#,
        &["user: What is blue?"],
        "The sky.",
        "This sea.",
    );
}

#[test]
fn messages_have_their_prompt_or_begin_with_it() {
    check(
        r#"{"prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}],
            "chosen": [{"role": "assistant", "content": "c"}],
            "rejected": [{"role": "assistant", "content": "r"}]}"#
            .replace('\n', " ")
            .as_str(),
        &["system: s", "user: q"],
        "c",
        "r",
    );
    check(
        r#"{"chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "c"}], "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "r"}]}"#,
        &["user: q"],
        "c",
        "r",
    );
}

#[test]
fn same_response_twice_is_no_part_of_the_query() {
    let turns = r#"[{"role": "user", "content": "q"}, {"role": "assistant", "content": "c"}]"#;
    let line = format!(r#"{{"chosen": {turns}, "rejected": {turns}}}"#);
    check(&line, &["user: q"], "c", "c");
}

/// As `UltraFeedback` has it.
#[test]
fn prompt_that_is_also_in_the_messages_counts_once() {
    check(
        r#"{"prompt": "q", "chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "c"}], "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "r"}]}"#,
        &["user: q"],
        "c",
        "r",
    );
}
