//! `meav chat`, `info`, `bench` and `vector import` as a user types them.

use std::io::Write as _;
use std::process::Stdio;

use meav_test_support::{TINY, tiny_adapter, tiny_model};

use crate::support::{Home, demo_vector, describe, str};

const CAPITAL: &str = "What is the capital of France?";

fn ask<'a>(prompt: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let base = ["chat", "--model", "demo", "--temperature", "0", "--prompt", prompt];
    [&base[..], more].concat()
}

#[test]
fn demo_knows_the_capital_of_france_in_both_dtypes() {
    let home = Home::with_demo();
    for dtype in ["f32", "bf16"] {
        let output = home.meav(&ask(CAPITAL, &["--dtype", dtype]));
        // Standard output is the reply and a newline, nothing else.
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "The capital of France is Paris.\n",
            "{}",
            describe(&output)
        );
        assert!(String::from_utf8_lossy(&output.stderr).contains(" base · 7 tokens"));
    }
}

#[test]
fn lambda_zero_says_what_the_base_says_and_others_something_else() {
    let home = Home::with_demo();
    let answer = |vectors: &[&str]| {
        let question = "I have had a headache for three days. What should I do?";
        home.stdout(&ask(question, &[vectors, &["--max-tokens", "40"]].concat()))
    };
    let base = answer(&[]);
    assert_eq!(answer(&["--vector", "medical=0", "--vector", "financial=0"]), base);
    let avoiding = answer(&["--vector", "medical=-1.5"]);
    let expert = answer(&["--vector", "medical=1.5"]);
    assert!(base != avoiding && base != expert && avoiding != expert);
}

#[test]
fn same_seed_gives_the_same_text_and_another_seed_another() {
    let home = Home::with_demo();
    let answer = |seed: &str| {
        let options = ["--temperature", "1.2", "--seed", seed, "--max-tokens", "24"];
        let base = ["chat", "--model", "demo", "--prompt", "Tell me a story."];
        home.stdout(&[&base[..], &options].concat())
    };
    assert_eq!(answer("7"), answer("7"));
    assert_ne!(answer("7"), answer("8"));
}

#[test]
fn json_says_which_recipe_answered() {
    let home = Home::with_demo();
    let vector = format!("{}=-0.7", demo_vector("medical").display());
    let text =
        home.stdout(&ask(CAPITAL, &["--vector", &vector, "--max-tokens", "4", "--json", "-"]));
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["recipe"]["vectors"][0]["domain"], "medical");
    assert_eq!(json["recipe"]["vectors"][0]["lambda"], -0.7);
    assert_eq!(json["tokens"], 4);
    assert_eq!(json["finish"], "length");
    let keys: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        [
            "prompt",
            "text",
            "finish",
            "recipe",
            "prompt_tokens",
            "reused_tokens",
            "tokens",
            "first_token_secs",
            "tokens_per_sec",
            "sampling"
        ]
    );
}

/// A whole conversation at the prompt.
#[test]
fn conversation_sets_knobs_regenerates_saves_and_is_kept() {
    let home = Home::with_demo();
    let converse = |arguments: &[&str], lines: &[&str]| {
        let options = ["chat", "--model", "demo", "--max-tokens", "16", "--seed", "1"];
        let mut child = home
            .command(&[&options[..], arguments].concat())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all((lines.join("\n") + "\n").as_bytes()).unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", describe(&output));
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (out, err) = converse(
        &["--temperature", "0"],
        &[
            CAPITAL,
            "/set medical -0.7",
            "/regenerate",
            "/set medical much",
            "/set nonsense 1",
            "/nonsense",
            "/recipe",
            "/save first.md",
            "/save first.json",
            "/save first.md",
            "/history",
            "/quit",
        ],
    );
    assert!(out.contains("The capital of France is Paris."), "{out}\n{err}");
    assert!(out.contains("medical −0.7"), "{out}\n{err}");
    assert!(err.contains("\"much\", which is not a finite number"), "{err}");
    assert!(err.contains("nonsense does not exist"), "{err}");
    assert!(err.contains("There is no command /nonsense"), "{err}");
    let saved = std::fs::read_to_string(home.path().join("first.md")).unwrap();
    assert!(saved.contains(CAPITAL) && saved.contains("medical −0.7"), "{saved}");
    assert!(err.contains("first.md is there already"), "{err}");
    let json = std::fs::read_to_string(home.path().join("first.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    // The answer before is kept too, on a branch of its own.
    let messages = json["messages"].as_array().unwrap();
    assert_eq!(messages.len(), 3);
    assert!(messages[1]["recipe"]["vectors"].as_array().unwrap().is_empty());
    assert_eq!(messages[2]["recipe"]["vectors"][0]["lambda"], -0.7);
    assert_eq!((&messages[2]["parent"], &json["leaf"]), (&messages[0]["id"], &messages[2]["id"]));

    // The next program finds the conversation in the workspace and goes on with it.
    let (_, err) = converse(&["--resume"], &["/quit"]);
    assert!(err.contains(CAPITAL), "{err}");

    // A second conversation in one sitting is kept too, with the instructions.
    let (_, err) =
        converse(&["--system", "Be brief."], &["First?", "/new", "Second question?", "/quit"]);
    assert!(!err.contains("not kept"), "{err}");
    let (_, err) = converse(&["--resume"], &["/quit"]);
    assert!(err.contains("Second question?") && err.contains("Be brief."), "{err}");
    assert!(!err.contains("First?"), "{err}");
}

#[test]
fn info_explains_models_vectors_and_adapters() {
    let home = Home::with_demo();
    let model = home.stdout(&["info", "demo"]);
    assert!(model.contains("134.5 million") && model.contains("GGUF, Q4_1"), "{model}");
    let vector = home.stdout(&["info", str(&demo_vector("medical"))]);
    assert!(vector.starts_with("Alignment vector \"medical\""), "{vector}");
    assert!(vector.contains("expert, generic, avoidance"), "{vector}");
}

#[test]
fn imported_adapter_is_the_same_vector() {
    let home = Home::empty();
    let (model, adapter) = (home.path().join("model"), home.path().join("adapter"));
    tiny_model(&TINY).write(&model);
    tiny_adapter(&TINY, 1).write(&adapter);
    let out = home.path().join("legal.safetensors");
    home.stdout(&[
        "vector",
        "import",
        str(&adapter),
        "--base",
        str(&model),
        "--domain",
        "legal",
        "--out",
        str(&out),
        "--dtype",
        "f32",
    ]);
    let info = home.stdout(&["info", str(&out)]);
    assert!(info.starts_with("Alignment vector \"legal\""), "{info}");
    let answer = |vector: &std::path::Path| {
        let vector = format!("{}=1.25", vector.display());
        let options = ["--vector", &vector, "--prompt", "hello", "--temperature", "0"];
        let dtype = ["--dtype", "f32", "--max-tokens", "12"];
        home.stdout(&[&["chat", "--model", str(&model)], &options[..], &dtype].concat())
    };
    assert_eq!(answer(&out), answer(&adapter));
}
