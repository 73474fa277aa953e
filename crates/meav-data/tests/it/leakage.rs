use meav_data::{Dataset, LeakedRecord, leakage};

use crate::read_lines;

fn dataset(records: &[(&str, &str)]) -> Dataset {
    let lines: Vec<_> = records
        .iter()
        .map(|(persona, query)| {
            format!(
                r#"{{"persona": "{persona}", "query": "{query}", "responses": {{"a": "x", "b": "y"}}}}"#
            )
        })
        .collect();
    read_lines(&lines.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn personas_and_queries_of_the_training_set_are_found_in_the_test_set() {
    let train =
        dataset(&[("A nurse.", "How are you?"), ("a NURSE", "What is 2+2?"), ("", "Where am I?")]);
    let test = dataset(&[
        ("A   nurse!", "WHAT is, 2+2"),
        ("A baker", "what is 2-2?"),
        ("A baker", "how are you"),
        ("", "Who?"),
        ("\u{201C}A nurse\u{201D}", "Why?"),
    ]);
    let found = leakage(&train, &test);
    let pair = |train_line, test_line| LeakedRecord { train_line, test_line };
    assert_eq!(found.by_persona, [pair(1, 1), pair(1, 5)]);
    assert_eq!(found.by_query, [pair(2, 1), pair(1, 3)]);
    assert_eq!((found.leaked_records, found.test_records), (3, 5));
}

#[test]
fn sets_with_nothing_in_common_do_not_leak() {
    let found = leakage(&dataset(&[("x", "q")]), &dataset(&[("y", "r"), ("", "s")]));
    assert_eq!((found.leaked_records, found.test_records), (0, 2));
    assert!(found.by_persona.is_empty() && found.by_query.is_empty());
}

/// Punctuation alone is still something of its own.
#[test]
fn queries_without_a_word_are_compared_as_they_are() {
    let found = leakage(&dataset(&[("x", "?!")]), &dataset(&[("y", "!?"), ("z", " ?! ")]));
    assert_eq!(found.by_query, [LeakedRecord { train_line: 1, test_line: 2 }]);
}
