use std::fs;

use meav_data::{Dataset, ReadOptions, read};
use meav_model::ModelFiles;
use meav_test_support::{TINY, chain, tiny_model};
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use super::*;

/// A tiny model of 256 tokens of context, whose tokens are bytes but for a few words.
struct Model {
    files: ModelFiles,
    template: ChatTemplate,
    _folder: TempDir,
}

fn model() -> Model {
    let folder = tiny_model(&TINY).in_temp_dir();
    let files = ModelFiles::open(folder.path()).unwrap();
    let template = files.compile_chat_template().unwrap();
    Model { files, template, _folder: folder }
}

fn dataset(records: &[Json]) -> Dataset {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.jsonl");
    let lines: Vec<String> = records.iter().map(Json::to_string).collect();
    fs::write(&path, lines.join("\n")).unwrap();
    read(&path, ReadOptions { limit: usize::MAX }, &JobCtx::detached()).unwrap()
}

fn levels(query: &str, responses: [&str; 3]) -> Json {
    let [expert, generic, avoidance] = responses;
    json!({
        "query": query,
        "responses": { "expert": expert, "generic": generic, "avoidance": avoidance },
    })
}

/// Records that differ by their numbers.
fn numbered(n: usize) -> Vec<Json> {
    let record = |i: usize| levels(&format!("q{i}"), [&format!("e{i}"), &format!("g{i}"), "no"]);
    (0..n).map(record).collect()
}

fn settings() -> TrainSettings {
    TrainSettings::default()
}

fn made(
    sources: &[(&Dataset, Option<&str>)],
    settings: &TrainSettings,
) -> Result<PairSet, TrainError> {
    let model = model();
    let sources: Vec<Source<'_>> =
        sources.iter().map(|(dataset, prefer)| Source { dataset, prefer: *prefer }).collect();
    pair_set(&sources, &model.files, &model.template, settings, &JobCtx::detached())
}

/// Chosen and rejected texts.
type Texts<'a> = &'a [[&'a str; 2]];

/// What each pair's responses say, without the end of the turn.
fn texts(pairs: &[Pair]) -> Vec<[String; 2]> {
    let tokenizer = model().files.tokenizer;
    let text = |tokens: &[u32]| tokenizer.decode(tokens, true).unwrap();
    let pair = |pair: &Pair| [0, 1].map(|it| text(&pair.question.responses[it]));
    pairs.iter().map(pair).collect()
}

#[test]
fn each_level_is_preferred_to_the_next_lower_one() {
    let records = [levels("Why?", ["A", "B", "C"])];
    let dataset = dataset(&records);
    let skipping = TrainSettings { skip_pairs: true, ..settings() };
    let cases: [(Option<&str>, &TrainSettings, Texts<'_>); 5] = [
        (None, &settings(), &[["A", "B"], ["B", "C"]]),
        (None, &skipping, &[["A", "B"], ["B", "C"], ["A", "C"]]),
        (Some("expert"), &skipping, &[["A", "B"], ["A", "C"]]),
        (Some("generic"), &settings(), &[["B", "A"], ["B", "C"]]),
        (Some("avoidance"), &settings(), &[["C", "A"], ["C", "B"]]),
    ];
    for (prefer, settings, expected) in cases {
        let found = made(&[(&dataset, prefer)], settings).unwrap();
        assert_eq!(texts(&found.train), expected, "{prefer:?}");
        assert!(found.validation.is_empty() && found.left_out.is_empty());
        let name = |text: &str| match text {
            "A" => "expert",
            "B" => "generic",
            _ => "avoidance",
        };
        for (pair, expected) in found.train.iter().zip(expected) {
            assert_eq!(pair.levels, expected.map(name), "{prefer:?}");
            assert!(!pair.truncated && pair.id == "line-1", "{pair:?}");
        }
    }
}

fn safe_rlhf(is_safe: [bool; 2], better: usize) -> Json {
    json!({
        "prompt": "How?", "response_0": "A", "response_1": "B",
        "is_response_0_safe": is_safe[0], "is_response_1_safe": is_safe[1],
        "better_response_id": better, "safer_response_id": 0,
    })
}

#[test]
fn safe_responses_are_preferred_where_the_flags_differ() {
    let records =
        [safe_rlhf([true, false], 1), safe_rlhf([false, false], 0), safe_rlhf([false, true], 1)];
    let safety = dataset(&records);
    let cases: [(Option<&str>, Texts<'_>, usize); 4] = [
        (None, &[["A", "B"], ["B", "A"]], 1),
        (Some("safe"), &[["A", "B"], ["B", "A"]], 1),
        (Some("unsafe"), &[["B", "A"], ["A", "B"]], 1),
        (Some("helpful"), &[["B", "A"], ["A", "B"], ["B", "A"]], 0),
    ];
    for (prefer, expected, n_left_out) in cases {
        let found = made(&[(&safety, prefer)], &settings()).unwrap();
        assert_eq!(texts(&found.train), expected, "{prefer:?}");
        let lines: Vec<usize> = found.left_out.iter().map(|it| it.line).collect();
        assert_eq!(lines, [2][..n_left_out], "{prefer:?}");
    }
    let alike = dataset(&[safe_rlhf([true, true], 0)]);
    let message = made(&[(&alike, None)], &settings()).unwrap_err().to_string();
    assert!(message.contains("judged alike"), "{message}");
}

#[test]
fn chosen_is_preferred_to_rejected() {
    let record = json!({ "prompt": "Why?", "chosen": "A", "rejected": "B" });
    let found = made(&[(&dataset(&[record]), None)], &settings()).unwrap();
    assert_eq!(texts(&found.train), [["A", "B"]]);
}

#[test]
fn responses_are_cut_at_their_ends_and_prompts_never() {
    let long = "xyz ".repeat(100);
    let records = [
        levels("Why?", ["A", &long, "C"]),
        levels(&"why ".repeat(100), ["A", "B", "C"]),
        levels("How?", [&format!("{long}1"), &format!("{long}2"), "C"]),
    ];
    let dataset = dataset(&records);
    // Beyond the model's own context, a longer limit changes nothing.
    for (max_length, limit) in [(100, 100), (5000, 256)] {
        let settings = TrainSettings { max_length, ..settings() };
        let found = made(&[(&dataset, None)], &settings).unwrap();
        let lengths: Vec<usize> = found
            .train
            .iter()
            .flat_map(|pair| {
                let Question { prompt, responses } = &pair.question;
                responses.iter().map(|response| prompt.len() + response.len())
            })
            .collect();
        assert!(lengths.iter().all(|len| *len <= limit) && lengths.contains(&limit));
        let truncated: Vec<bool> = found.train.iter().map(|pair| pair.truncated).collect();
        assert_eq!(truncated, [true, true, true], "{:?}", found.left_out);
        let reasons: Vec<(usize, &str)> =
            found.left_out.iter().map(|it| (it.line, it.reason.as_str())).collect();
        let [(2, prompt), (3, equal)] = reasons[..] else { panic!("{reasons:?}") };
        assert!(prompt.contains("leaves no room"), "{prompt}");
        assert!(equal.contains("expert and generic are the same; its other"), "{equal}");
    }
}

#[test]
fn what_cannot_be_used_is_named_once_and_what_is_left_can() {
    let records = [
        levels("Why?", ["A", "A", "C"]),
        json!({ "query": "How?" }),
        levels("Who?", ["A", "A", "A"]),
        levels("What?", ["A", "B", "C"]),
    ];
    let dataset = dataset(&records);
    let found = made(&[(&dataset, None)], &settings()).unwrap();
    assert_eq!(texts(&found.train), [["A", "C"], ["A", "B"], ["B", "C"]]);
    let lines: Vec<usize> = found.left_out.iter().map(|it| it.line).collect();
    assert_eq!(lines, [1, 2, 3]);
    assert!(found.left_out.iter().all(|it| it.file == dataset.path && !it.reason.is_empty()));
}

#[test]
fn files_without_a_preference_are_refused_by_name() {
    let three = dataset(&numbered(3));
    let mut one_level = three.clone();
    one_level.levels.truncate(1);
    let mut empty = three.clone();
    empty.records.clear();
    let equal = dataset(&[levels("Why?", ["A", "A", "A"])]);
    let cases: [(&Dataset, Option<&str>, &str); 4] = [
        (&one_level, None, "there is only one level, \"expert\""),
        (&empty, None, "no file has a record"),
        (&three, Some("best"), "there is no level \"best\", only expert, generic, avoidance"),
        (&equal, None, "none of 1 records makes a pair"),
    ];
    for (dataset, prefer, expected) in cases {
        let found = chain(&made(&[(dataset, prefer)], &settings()).unwrap_err());
        assert!(found.contains(expected), "{found}");
    }
    let both = made(&[(&three, None), (&equal, None)], &settings());
    assert!(matches!(both, Err(TrainError::NoPairs { file, .. }) if file == equal.path));
}

#[test]
fn a_share_of_the_records_is_held_back_whole() {
    for (n, share, expected) in
        [(33, 0.03, 0), (34, 0.03, 1), (96, 0.03, 3), (100, 0.5, 50), (40, 0.001, 1), (40, 0.0, 0)]
    {
        let settings = TrainSettings { validation: share, ..settings() };
        let found = made(&[(&dataset(&numbered(n)), None)], &settings).unwrap();
        assert_eq!(found.validation.len(), 2 * expected, "{n} records, {share}");
        assert_eq!(found.train.len() + found.validation.len(), 2 * n);
        for pair in &found.validation {
            assert!(found.train.iter().all(|it| it.id != pair.id), "{}", pair.id);
        }
    }
}

#[test]
fn records_of_one_query_stay_together_also_across_files() {
    let (left, right) = (dataset(&numbered(30)), dataset(&numbered(30)));
    let settings = TrainSettings { validation: 0.2, ..settings() };
    let found = made(&[(&left, None), (&right, Some("avoidance"))], &settings).unwrap();
    assert_eq!(found.validation.len(), 24);
    for pair in &found.validation {
        let prompt = &pair.question.prompt;
        assert!(found.train.iter().all(|it| it.question.prompt != *prompt));
    }
}

#[test]
fn seed_and_settings_decide_and_the_fingerprint_tells() {
    let dataset = dataset(&numbered(60));
    let found = |settings: &TrainSettings| made(&[(&dataset, None)], settings).unwrap();
    let first = found(&settings());
    assert_eq!(found(&settings()), first);
    for other in [
        TrainSettings { seed: 1, ..settings() },
        TrainSettings { validation: 0.1, ..settings() },
        TrainSettings { skip_pairs: true, ..settings() },
    ] {
        assert_ne!(found(&other).fingerprint, first.fingerprint, "{other:?}");
    }
    let another_rate = TrainSettings { learning_rate: 1.0, ..settings() };
    assert_eq!(found(&another_rate), first);
}

#[test]
fn cancelled_between_two_records() {
    let model = model();
    let dataset = dataset(&numbered(3));
    let cancel = meav_job::CancelToken::default();
    let on_progress = |progress: meav_job::Progress| {
        if progress.done == 1 {
            cancel.cancel();
        }
    };
    let job = JobCtx::new(cancel.clone(), &on_progress);
    let sources = [Source { dataset: &dataset, prefer: None }];
    let found = pair_set(&sources, &model.files, &model.template, &settings(), &job);
    assert!(matches!(found, Err(TrainError::Cancelled(_))));
}
