use meav_data::{Count, Distribution, IdenticalResponses, RepeatedQuery};

use crate::read_lines;

#[test]
fn records_are_counted_by_method_domain_and_persona() {
    let record = |id: &str, keys: &str| {
        format!(r#"{{"id": "{id}", {keys} "query": "{id}", "responses": {{"a": "x", "b": "y"}}}}"#)
    };
    let lines = [
        record("1", r#""method": "m", "domain": "medical", "persona": "p","#),
        record("2", r#""method": "n", "domain": "legal", "persona": "q","#),
        record("3", r#""method": "n", "domain": "medical", "persona": "p","#),
        record("4", r#""method": "","#),
    ];
    let statistics = read_lines(&lines.each_ref().map(String::as_str)).statistics();
    let count = |name: Option<&str>, count| Count { name: name.map(str::to_owned), count };
    assert_eq!(statistics.records, 4);
    assert_eq!(statistics.methods, [count(Some("n"), 2), count(None, 1), count(Some("m"), 1)]);
    let domains = [count(Some("medical"), 2), count(None, 1), count(Some("legal"), 1)];
    assert_eq!(statistics.domains, domains);
    assert_eq!(statistics.personas, 2);
}

/// numpy.quantile([1, 2, 4, 10], [0.25, 0.5, 0.75]) is [1.75, 3.0, 5.5].
#[test]
fn lengths_are_those_of_numpy() {
    let record = |query: &str, text: &str| {
        format!(r#"{{"query": "{query}", "responses": {{"long": "{text}", "short": "é"}}}}"#)
    };
    let lines = [
        record("one", "abcdefghij"),
        record("one two", "a"),
        record("one  two three", "éé"),
        record("x y z w v", "ab c"),
    ];
    let statistics = read_lines(&lines.each_ref().map(String::as_str)).statistics();
    let [long, short] = &statistics.levels[..] else { panic!("not two levels") };
    assert_eq!((long.level.as_str(), long.count), ("long", 4));
    let expected = Distribution {
        min: 1.0,
        lower_quartile: 1.75,
        median: 3.0,
        upper_quartile: 5.5,
        max: 10.0,
        mean: 4.25,
    };
    assert_eq!(long.lengths.characters, expected);
    assert_eq!((long.lengths.words.max, long.lengths.words.mean), (2.0, 1.25));
    assert_eq!((short.lengths.characters.min, short.lengths.characters.max), (1.0, 1.0));
    assert_eq!((statistics.queries.words.median, statistics.queries.words.max), (2.5, 5.0));
}

#[test]
fn repeated_queries_and_identical_responses_are_warned_of() {
    let dataset = read_lines(&[
        r#"{"id": "1", "query": "What now?", "responses": {"a": "x", "b": "y", "c": "z"}}"#,
        r#"{"id": "2", "query": "Else", "responses": {"a": "x", "b": "same", "c": " same "}}"#,
        "",
        r#"{"id": "3", "query": "what -- NOW", "responses": {"a": "x", "b": "y", "c": "z"}}"#,
        r#"{"id": "4", "query": "What, now!", "responses": {"a": "x", "b": "y", "c": "Z"}}"#,
    ]);
    assert!(dataset.problems.is_empty());
    let statistics = dataset.statistics();
    let repeated = |line| RepeatedQuery { first: 1, line };
    assert_eq!(statistics.duplicate_queries, [repeated(4), repeated(5)]);
    let levels = ["b".to_owned(), "c".to_owned()];
    let expected = [IdenticalResponses { line: 2, id: "2".to_owned(), levels }];
    assert_eq!(statistics.identical_responses, expected);
}

#[test]
fn each_safe_rlhf_response_is_counted_by_both_judgements() {
    let record = |id: u8, safe: [bool; 2], better: u8| {
        let [first, second] = safe;
        format!(
            r#"{{"id": {id}, "prompt": "q{id}", "response_0": "aa", "response_1": "b", "is_response_0_safe": {first}, "is_response_1_safe": {second}, "better_response_id": {better}, "safer_response_id": 0}}"#
        )
    };
    let lines = [record(1, [true, true], 0), record(2, [true, false], 1)];
    let statistics = read_lines(&lines.each_ref().map(String::as_str)).statistics();
    let levels: Vec<_> = statistics
        .levels
        .iter()
        .map(|it| (it.level.as_str(), it.count, it.lengths.characters.mean))
        .collect();
    assert_eq!(
        levels,
        [("safe", 3, 5.0 / 3.0), ("unsafe", 1, 1.0), ("helpful", 2, 1.5), ("unhelpful", 2, 1.5)]
    );
}
