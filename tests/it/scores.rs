//! Preference accuracy, held to an independent implementation.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::support::{Home, demo_data, describe, str};

/// What a script with PyTorch 2.15 and transformers computed; see the file's `made_by`.
fn reference() -> Value {
    serde_json::from_str(include_str!("fixtures/reference_scores.json")).unwrap()
}

/// The report of `meav score` in f32.
fn score(home: &Home, vectors: &[String], data: &[&str], more: &[&str]) -> Value {
    let data: Vec<PathBuf> = data.iter().map(|name| demo_data(name)).collect();
    let mut arguments = vec!["score", "--model", "demo", "--json", "-"];
    for vector in vectors {
        arguments.extend(["--vector", vector]);
    }
    for path in &data {
        arguments.extend(["--data", str(path)]);
    }
    arguments.extend(more);
    serde_json::from_str(&home.stdout(&arguments)).unwrap()
}

#[test]
fn scores_are_those_of_an_independent_implementation() {
    let home = Home::with_demo();
    let reference = reference();
    for recipe in reference["recipes"].as_array().unwrap() {
        let vectors: Vec<String> = recipe["vectors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| format!("{}={}", it[0].as_str().unwrap(), it[1]))
            .collect();
        let datasets = recipe["datasets"].as_array().unwrap();
        let mut files: Vec<&str> =
            datasets.iter().map(|data| data["file"].as_str().unwrap()).collect();
        files.dedup();
        let report = score(&home, &vectors, &files, &[]);
        let found = report["datasets"].as_array().unwrap();
        assert_eq!(found.len(), datasets.len());
        for (found, expected) in found.iter().zip(datasets) {
            assert_eq!(found["measure"], expected["measure"]);
            hold(found, expected);
        }
    }
}

/// Mean log-probabilities to 1e-3, numbers of tokens exactly, and the same preferred level wherever
/// it is told by more than 2e-3.
fn hold(found: &Value, expected: &Value) {
    let records = found["records"].as_array().unwrap();
    let own = expected["records"].as_array().unwrap();
    assert!(records.len() == own.len() && !own.is_empty(), "{}", found["file"]);
    for (record, expected) in records.iter().zip(own) {
        let id = &expected[0];
        assert_eq!(record["id"], *id);
        let scores = record["scores"].as_object().unwrap();
        let expected: Vec<(f64, u64)> = expected[1]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| (it[0].as_f64().unwrap(), it[1].as_u64().unwrap()))
            .collect();
        assert_eq!(scores.len(), expected.len());
        for (score, (mean, tokens)) in scores.values().zip(&expected) {
            let found = score["mean_log_prob"].as_f64().unwrap();
            assert!((found - mean).abs() < 1e-3, "{id}: {found} {mean}");
            assert_eq!(score["tokens"].as_u64().unwrap(), *tokens, "{id}");
        }
        let mut places: Vec<usize> = (0..expected.len()).collect();
        places.sort_by(|a, b| expected[*b].0.total_cmp(&expected[*a].0));
        if expected[places[0]].0 - expected[places[1]].0 > 2e-3 {
            let preferred = scores.keys().nth(places[0]).unwrap();
            assert_eq!(record["preferred"], preferred.as_str(), "{id}");
        }
    }
}

/// The window leaves itself a core; its numbers are those of the command.
#[test]
fn scores_do_not_depend_on_the_number_of_threads() {
    let home = Home::with_demo();
    let on = |threads| {
        let vectors = ["medical=0.7".to_owned(), "financial=-0.3".to_owned()];
        let mut report = score(&home, &vectors, &["general.test.jsonl"], &["--threads", threads]);
        report["elapsed_secs"] = Value::Null;
        report
    };
    assert_eq!(on("1"), on("2"));
}

fn record(id: &str, expert: &str) -> String {
    serde_json::json!({
        "id": id,
        "query": "Is tea good for a cold?",
        "responses": {"expert": expert, "generic": "Some people like it.", "avoidance": "No idea."},
    })
    .to_string()
}

#[test]
fn bad_records_are_named_by_line_and_the_rest_is_scored() {
    let home = Home::with_demo();
    let path = home.path().join("data.jsonl");
    let missing = r#"{"id": "m", "query": "q", "responses": {"expert": "a", "generic": "b"}}"#;
    let too_long = "mucus ".repeat(9000);
    let lines: [&[u8]; 9] = [
        record("first", "Tea thins mucus.").as_bytes(),
        missing.as_bytes(),
        record("empty", "  ").as_bytes(),
        b"{\"id\": \"\xff\xfe\"}",
        &b"x".repeat(10 << 20),
        record("first", "The same id again.").as_bytes(),
        record("long", &too_long).as_bytes(),
        b"not JSON",
        record("last", "Warm drinks soothe the throat.").as_bytes(),
    ]
    .map(|line: &[u8]| -> &[u8] { Box::leak(line.to_vec().into_boxed_slice()) });
    fs::write(&path, lines.join(&b'\n')).unwrap();
    let output = home.meav(&["score", "--model", "demo", "--data", str(&path), "--json", "-"]);
    assert!(output.status.success(), "{}", describe(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let scores = &report["datasets"][0];
    assert_eq!(scores["n"], 2);
    let ids: Vec<&Value> =
        scores["records"].as_array().unwrap().iter().map(|record| &record["id"]).collect();
    assert_eq!(ids, ["first", "last"]);
    let mut told = String::new();
    for problem in scores["skipped"].as_array().unwrap() {
        writeln!(told, "{}: {}", problem["line"], problem["reason"].as_str().unwrap()).unwrap();
    }
    for (line, words) in [
        (2, "avoidance"),
        (3, "empty"),
        (4, "UTF-8"),
        (5, "the limit is"),
        (6, "line 1"),
        (7, "the model takes 8192"),
        (8, "JSON"),
    ] {
        let own = told.lines().find(|it| it.starts_with(&format!("{line}: ")));
        assert!(own.is_some_and(|own| own.contains(words)), "{line}: {words}\n{told}");
    }
    assert_eq!(told.lines().count(), 7, "{told}");
    let words = String::from_utf8_lossy(&output.stderr);
    for line in 2..=8 {
        let place = format!("data.jsonl:{line}");
        let named = words.lines().filter(|it| it.starts_with(&format!("warning: {place}")));
        assert_eq!(named.count(), 1, "{place}\n{words}");
    }
}

#[test]
fn data_that_cannot_be_scored_is_refused_in_words() {
    let home = Home::with_demo();
    let path = home.path().join("data.jsonl");
    for (text, words) in [("", "no record"), ("{}\n[]\n", "no record that can be used")] {
        fs::write(&path, text).unwrap();
        let error = home.failure(&["score", "--model", "demo", "--data", str(&path)]);
        assert!(error.contains(words), "{error}");
    }
    let error = home.failure(&["score", "--model", "demo", "--data", "nowhere.jsonl"]);
    assert!(error.contains("nowhere.jsonl"), "{error}");
}

#[test]
fn prompting_is_a_baseline_with_its_cost() {
    let home = Home::with_demo();
    let path = home.path().join("data.jsonl");
    fs::write(&path, record("one", "Tea thins mucus.")).unwrap();
    for turn in ["system", "user"] {
        let arguments = ["score", "--model", "demo", "--vector", "medical=1", "--data", str(&path)];
        let more = ["--prompting", turn, "--instruction", "expert=Be exact.", "--json", "-"];
        let report: Value =
            serde_json::from_str(&home.stdout(&[&arguments[..], &more[..]].concat())).unwrap();
        let prompting = report["prompting"].as_array().unwrap();
        let levels: Vec<&Value> = prompting.iter().map(|it| &it["level"]).collect();
        assert_eq!(levels, ["expert", "generic", "avoidance"], "{turn}");
        let tokens = |scores: &Value| scores["prompt_tokens"].as_f64().unwrap();
        let (with, without) = (&prompting[0]["datasets"][0], &report["datasets"][0]);
        // In the system's turn it stands in place of the template's own words.
        let is_longer = tokens(with) > tokens(without);
        assert_eq!(is_longer, turn == "user", "{} {}", tokens(with), tokens(without));
    }
}
