//! Recipes: how vectors are combined and where, and recipes as files.

use std::fs;

use meav_test_support::{TINY, tiny_dense_vector, tiny_model};
use meav_weights::Checkpoint;
use serde_json::Value as Json;

use crate::support::{Home, demo_vector, str};

#[test]
fn methods_and_scopes_change_the_weights_that_they_name_and_the_recipe() {
    let home = Home::empty();
    let base = home.path().join("base");
    tiny_model(&TINY).write(&base);
    let file = |name: &str| home.path().join(name).with_extension("safetensors");
    let (medical, legal) = (file("medical"), file("legal"));
    tiny_dense_vector(&TINY, "medical", 1).write(&medical);
    tiny_dense_vector(&TINY, "legal", 2).write(&legal);
    let terms = [&medical, &legal].map(|path| format!("{}=0.8", path.display()));
    let merged = |name: &str, options: &[&str]| {
        let out = home.path().join(name);
        let fixed = ["merge", "--model", str(&base), "--out", str(&out)];
        let vectors = ["--vector", &terms[0], "--vector", &terms[1]];
        home.stdout(&[&fixed[..], &vectors, options].concat());
        let stamp = fs::read(out.join("recipe.json")).unwrap();
        let stamp: Json = serde_json::from_slice(&stamp).unwrap();
        (Checkpoint::open(&out).unwrap(), stamp)
    };
    let (plain, plain_stamp) = merged("plain", &[]);
    let (none, _) = merged("dare-0", &["--method", "dare", "--drop", "0"]);
    let differing = |other: &Checkpoint| -> Vec<String> {
        let differs =
            |name: &&str| plain.load(name).unwrap().bytes() != other.load(name).unwrap().bytes();
        plain.names().filter(differs).map(str::to_owned).collect()
    };
    assert!(differing(&none).is_empty(), "dropping nothing changes nothing");
    for (name, options) in [
        ("ties", &["--method", "ties", "--density", "0.3"][..]),
        ("dare", &["--method", "dare", "--drop", "0.5", "--method-seed", "3"]),
    ] {
        let (other, stamp) = merged(name, options);
        assert_eq!(differing(&other).len(), plain.names().len(), "{name}");
        assert_ne!(stamp["fingerprint"], plain_stamp["fingerprint"]);
        assert_eq!(stamp["method"]["name"], name);
    }
    let ties = home.path().join("ties").join("recipe.json");
    let info = home.stdout(&["info", str(&ties)]);
    assert!(!info.contains("missing") && !info.contains("edited"), "{info}");

    let only = format!("{}=1", medical.display());
    let modules = format!("{}=attention", legal.display());
    let (scoped, stamp) = merged("scoped", &["--layers", &only, "--modules", &modules]);
    assert_eq!(stamp["vectors"][0]["scope"]["layers"], serde_json::json!([[1, 1]]));
    assert_eq!(stamp["vectors"][1]["scope"]["modules"], serde_json::json!(["attention"]));
    let is_same = |name: &str| !differing(&scoped).contains(&name.to_owned());
    assert!(is_same("model.layers.1.self_attn.q_proj.weight"), "both act there");
    assert!(!is_same("model.layers.1.mlp.up_proj.weight"), "legal does not act there");
    let beyond = ["merge", "--model", str(&base), "--vector", &terms[0], "--layers", "0-2"];
    let out = home.path().join("beyond");
    let words = home.failure(&[&beyond[..], &["--out", str(&out)]].concat());
    assert!(words.contains("layers"), "{words}");

    let save = ["recipe", "save", "--model", str(&base), "--vector", &terms[0]];
    let out = home.path().join("bad.meav");
    for (options, reason) in [
        (&["--method", "ties", "--density", "2"][..], "density"),
        (&["--method", "dare", "--drop", "1"], "drop"),
        (&["--layers", "0-2"], "layers"),
        (&["--density", "0.5"], "--method ties"),
    ] {
        let words = home.failure(&[&save[..], options, &["--out", str(&out)]].concat());
        assert!(words.contains(reason), "{reason} in {words}");
        assert!(!out.exists(), "{options:?}");
    }
}

#[test]
fn recipe_of_a_merged_model_is_a_recipe_file_with_the_model() {
    let home = Home::empty();
    let base = home.path().join("base");
    tiny_model(&TINY).write(&base);
    tiny_dense_vector(&TINY, "medical", 1).write(&home.path().join("medical.safetensors"));
    let setup = ["--model", "base", "--vector", "medical.safetensors=0.8", "--dtype", "f32"];
    home.stdout(&[&["merge", "--out", "merged"], &setup[..]].concat());
    home.stdout(&[&["recipe", "save", "--out", "saved.meav"], &setup[..]].concat());
    let read = |path: &str| fs::read_to_string(home.path().join(path)).unwrap();
    assert_eq!(read("merged/recipe.json"), read("saved.meav"));
    let info = home.stdout(&["info", "merged/recipe.json"]);
    assert!(!info.contains("missing"), "{info}");
    let again = ["recipe", "save", "--recipe", "saved.meav", "--out", "again.meav"];
    home.stdout(&again);
    assert_eq!(read("again.meav"), read("saved.meav"), "also what it is rounded to");
}

#[test]
fn recipe_that_was_edited_says_so_and_is_another() {
    let home = Home::empty();
    let base = home.path().join("base");
    tiny_model(&TINY).write(&base);
    tiny_dense_vector(&TINY, "medical", 1).write(&home.path().join("medical.safetensors"));
    let save = |lambda: &str, out: &str| {
        let term = format!("medical.safetensors={lambda}");
        home.stdout(&["recipe", "save", "--model", "base", "--vector", &term, "--out", out]);
        let path = home.path().join(out);
        let text = fs::read_to_string(&path).unwrap();
        let json: Json = serde_json::from_str(&text).unwrap();
        (path, text, json)
    };
    let (path, text, json) = save("0.8", "a.meav");
    let (_, other_text, other) = save("0.9", "b.meav");
    let own = json["fingerprint"].as_str().unwrap();
    assert!(home.stdout(&["info", str(&path)]).contains(own));
    let edited = text.replace("0.8", "0.9");
    assert_ne!(edited, text);
    fs::write(&path, edited).unwrap();
    let info = home.stdout(&["info", str(&path)]);
    assert!(info.contains("edited since it was saved") && !info.contains(own), "{info}");
    assert!(info.contains(other["fingerprint"].as_str().unwrap()), "{info}");
    let again = home.meav(&["recipe", "save", "--recipe", str(&path), "--out", "again.meav"]);
    assert!(again.status.success());
    assert!(String::from_utf8_lossy(&again.stderr).contains("was edited"));
    assert_eq!(fs::read_to_string(home.path().join("again.meav")).unwrap(), other_text);
}

#[test]
fn saved_recipe_gives_the_same_answer_and_says_what_is_missing() {
    let home = Home::with_demo();
    // One that does not come with the demo, where it would be found.
    let vector = home.path().join("smaller.safetensors");
    let medical = demo_vector("medical");
    let compress = ["vector", "compress", str(&medical), "--rank", "4", "--out", str(&vector)];
    home.stdout(&compress);
    let recipe = home.path().join("ward.meav");
    let term = format!("{}=0.9", vector.display());
    let setup = ["--model", "demo", "--vector", &term, "--profile", "0.5,1"];
    home.stdout(&[&["recipe", "save", "--out", str(&recipe)], &setup[..]].concat());
    assert!(fs::metadata(&recipe).unwrap().len() < 2000);
    let ask = ["--prompt", "I have a rash.", "--temperature", "0", "--max-tokens", "16"];
    let answer = |setup: &[&str]| home.stdout(&[&["chat"], setup, &ask].concat());
    let expected = answer(&setup);
    assert_eq!(answer(&["--recipe", str(&recipe)]), expected);

    // Moved to where the workspace has seen it since.
    let elsewhere = home.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let moved = elsewhere.join("tone.safetensors");
    fs::rename(&vector, &moved).unwrap();
    home.stdout(&["info", "elsewhere/tone.safetensors"]);
    assert_eq!(answer(&["--recipe", str(&recipe)]), expected);

    fs::remove_file(&moved).unwrap();
    fs::copy(demo_vector("financial"), &vector).unwrap();
    let words = home.failure(&["chat", "--recipe", str(&recipe), "--prompt", "a"]);
    for part in ["lacks medical", "smaller.safetensors", "other values", "blake3:"] {
        assert!(words.contains(part), "{part} in {words}");
    }
    let info = home.stdout(&["info", str(&recipe)]);
    assert!(info.contains("medical") && info.contains("0.9") && info.contains("missing"), "{info}");
}

#[test]
fn files_that_are_no_recipes_are_refused_with_a_reason() {
    let home = Home::empty();
    let file = home.path().join("no.meav");
    for (text, reason) in
        [("{", "no recipe"), ("{}", "no recipe"), (r#"{"meav.recipe": 2}"#, "newest known here")]
    {
        fs::write(&file, text).unwrap();
        let words = home.failure(&["chat", "--recipe", str(&file), "--prompt", "a"]);
        assert!(words.contains(reason), "{reason} in {words}");
    }
}

#[test]
fn gguf_of_a_merged_model_is_the_same_model() {
    let home = Home::with_demo();
    let term = format!("{}=1", demo_vector("medical").display());
    let out = home.path().join("merged.gguf");
    let merge = ["merge", "--model", "demo", "--vector", &term, "--out", str(&out)];
    home.stdout(&[&merge[..], &["--gguf", "bf16", "--dtype", "bf16"]].concat());
    let ask = ["--prompt", "I have a rash.", "--temperature", "0", "--max-tokens", "24"];
    let answer = |setup: &[&str]| home.stdout(&[&["chat"], setup, &ask].concat());
    let live = answer(&["--model", "demo", "--vector", &term, "--dtype", "bf16"]);
    assert_eq!(answer(&["--model", str(&out), "--dtype", "bf16"]), live);
    let words = home.failure(&[&merge[..], &["--gguf", "f16"]].concat());
    assert!(words.contains("there already"), "{words}");
}

#[test]
fn memory_plan_adds_up() {
    let home = Home::with_demo();
    let vector = demo_vector("medical");
    let options = ["info", "demo", "--plan", "--dtype", "f32", "--vector", str(&vector)];
    let plan: Json =
        serde_json::from_str(&home.stdout(&[&options[..], &["--json", "-"]].concat())).unwrap();
    let parts = plan["parts"].as_array().unwrap();
    let in_memory = parts.iter().filter(|part| part["place"] == "Memory");
    let sum: u64 = in_memory.map(|part| part["bytes"].as_u64().unwrap()).sum();
    assert_eq!(plan["needed_bytes"].as_u64().unwrap(), sum);
    assert!(sum > 2 * 4 * 134_000_000, "base and live weights in f32: {sum}");
    assert!(parts.iter().any(|part| part["name"] == "medical"));
    let saves = plan["ways_out"][0]["saves_bytes"].as_u64().unwrap();
    assert!(saves > 0 && home.stdout(&options).contains("bf16"));
}
