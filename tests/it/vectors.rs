//! `meav vector`: making vectors, making them smaller, and looking at several.

use std::fs;
use std::path::{Path, PathBuf};

use meav_test_support::{TINY, TinyModel, tiny_dense_vector, tiny_model};
use meav_weights::Checkpoint;
use serde_json::Value as Json;

use crate::support::{Home, demo_vector, str};

/// The tiny model as `base`, and one that is aligned by a dense vector as `aligned`.
fn two_models(home: &Home) -> (PathBuf, PathBuf) {
    let (base, aligned) = (home.path().join("base"), home.path().join("aligned"));
    tiny_model(&TINY).write(&base);
    let vector = home.path().join("made-of.safetensors");
    tiny_dense_vector(&TINY, "medical", 1).write(&vector);
    let term = format!("{}=1", vector.display());
    home.stdout(&["merge", "--model", str(&base), "--vector", &term, "--out", str(&aligned)]);
    (base, aligned)
}

fn extract(home: &Home, base: &Path, aligned: &Path, options: &[&str]) -> PathBuf {
    let out = home.path().join("medical.safetensors");
    let fixed = ["--base", str(base), "--aligned", str(aligned), "--out", str(&out)];
    let fixed = [&["vector", "extract", "--domain", "medical"], &fixed[..], options].concat();
    home.stdout(&fixed);
    out
}

fn assert_same_weights(a: &Path, b: &Path, tolerance: f32) {
    let (a, b) = (Checkpoint::open(a).unwrap(), Checkpoint::open(b).unwrap());
    assert!(a.names().eq(b.names()));
    for name in a.names() {
        let (a, b) = (a.load(name).unwrap().to_f32_vec(), b.load(name).unwrap().to_f32_vec());
        for (a, b) in a.iter().zip(&b) {
            assert!((a - b).abs() <= tolerance * a.abs().max(0.01), "{name}: {a} and {b}");
        }
    }
}

#[test]
fn extracted_vector_leads_back_to_the_aligned_model_and_says_what_it_is() {
    let home = Home::empty();
    let (base, aligned) = two_models(&home);
    let vector = extract(&home, &base, &aligned, &["--levels", "expert,generic,avoidance"]);
    let back = home.path().join("back");
    let term = format!("{}=1", vector.display());
    home.stdout(&["merge", "--model", str(&base), "--vector", &term, "--out", str(&back)]);
    assert_same_weights(&aligned, &back, 2.0 * f32::EPSILON);

    let info = home.stdout(&["info", str(&vector)]);
    for words in
        ["dense: every element", "expert, generic, avoidance", "max relative error", "base"]
    {
        assert!(info.contains(words), "{words} in {info}");
    }
    assert!(home.leftovers().is_empty());
}

#[test]
fn filters_choose_what_is_extracted_and_an_aligned_model_is_a_vector_itself() {
    let home = Home::empty();
    let (base, aligned) = two_models(&home);
    let vector = extract(&home, &base, &aligned, &["--include", "layers", "--exclude", "mlp|norm"]);
    let names: Vec<String> =
        Checkpoint::open(&vector).unwrap().names().map(str::to_owned).collect();
    assert_eq!(names.len(), 2 * 4);
    assert!(names.iter().all(|name| name.contains("self_attn")), "{names:?}");

    let on_the_fly = home.path().join("on-the-fly");
    let term = format!("{}=1", aligned.display());
    home.stdout(&["merge", "--model", str(&base), "--vector", &term, "--out", str(&on_the_fly)]);
    assert_same_weights(&aligned, &on_the_fly, 2.0 * f32::EPSILON);
}

#[test]
fn vectors_of_other_models_are_refused_by_name() {
    let home = Home::empty();
    let (base, aligned) = two_models(&home);
    let vector = extract(&home, &base, &aligned, &[]);
    let larger = home.path().join("larger");
    tiny_model(&TinyModel { intermediate_size: 128, ..TINY }).write(&larger);
    let term = format!("{}=1", vector.display());
    let chat = ["chat", "--model", str(&larger), "--vector", &term, "--prompt", "a"];
    let words = home.failure(&chat);
    assert!(words.contains("mlp.down_proj") && words.contains("larger"), "{words}");
    let out = home.path().join("none.safetensors");
    let models = ["--base", str(&larger), "--aligned", str(&aligned), "--out", str(&out)];
    let words = home.failure(&[&["vector", "extract", "--domain", "x"], &models[..]].concat());
    assert!(words.contains("mlp.down_proj"), "{words}");
    assert!(!out.exists() && home.leftovers().is_empty());
}

#[test]
fn every_compression_says_what_it_costs_and_can_be_merged() {
    let home = Home::with_demo();
    let vector = demo_vector("medical");
    let data = home.path().join("data.jsonl");
    let record = r#"{"query": "Why do I cough?", "responses": {"expert": "Post-nasal drip is common.", "generic": "There are many causes."}}"#;
    fs::write(&data, record).unwrap();
    for (name, options, smaller) in [
        ("rank-2", &["--rank", "2"][..], true),
        ("trim", &["--density", "0.001"], true),
        ("dare", &["--method", "dare", "--density", "0.001"], true),
        ("sign", &["--method", "sign"], false),
    ] {
        let out = home.path().join(name).with_extension("safetensors");
        let measured = name == "rank-2";
        let probe = ["--model", "demo", "--data", str(&data)];
        let probe = if measured { &probe[..] } else { &[] };
        let fixed = ["vector", "compress", str(&vector), "--out", str(&out), "--json", "-"];
        let report: Json =
            serde_json::from_str(&home.stdout(&[&fixed, options, probe].concat())).unwrap();
        let bytes = |key: &str| report[key].as_u64().unwrap();
        assert_eq!(bytes("bytes_after") < bytes("bytes_before"), smaller, "{name}: {report}");
        let error = report["relative_error"].as_f64().unwrap();
        // Factors of rank 8 are smaller than signs: they stay.
        assert!((error > 0.0) == smaller && error.is_finite(), "{name}: {report}");
        let shifts = report["shifts"].as_array().unwrap();
        let lambdas: Vec<f64> = shifts.iter().map(|it| it["lambda"].as_f64().unwrap()).collect();
        assert_eq!(lambdas, if measured { vec![-1.5, -1.0, 0.5, 1.0, 1.5] } else { vec![] });
        let term = format!("{}=0.5", out.display());
        let chat = ["--prompt", "Hello", "--temperature", "0", "--max-tokens", "2"];
        home.stdout(&[&["chat", "--model", "demo", "--vector", &term], &chat[..]].concat());
        assert!(home.stdout(&["info", str(&out)]).contains("compression: method"), "{name}");
    }
}

#[test]
fn comparison_is_written_for_people_programs_and_slides() {
    let home = Home::empty();
    let (medical, financial) = (demo_vector("medical"), demo_vector("financial"));
    let file = |name: &str| home.path().join(name);
    let (csv, png, json) = (file("map.csv"), file("map.png"), file("map.json"));
    let files = ["--csv", str(&csv), "--png", str(&png), "--json", str(&json)];
    let vectors = ["vector", "compare", str(&medical), str(&financial)];
    let text = home.stdout(&[&vectors[..], &files].concat());
    assert!(text.contains("layer 29 MLP: medical and financial"), "{text}");
    let report: Json = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    let pair = &report["overall"]["pairs"][0];
    let cosine = pair["cosine"].as_f64().unwrap();
    let conflict = pair["sign_conflict"].as_f64().unwrap();
    assert!(cosine.abs() < 1.0 && (0.0..=1.0).contains(&conflict), "{pair}");
    // 30 layers, each with attention and MLP, and the whole.
    assert_eq!(fs::read_to_string(&csv).unwrap().lines().count(), 1 + 1 + 60);
    assert_eq!(&fs::read(&png).unwrap()[1..4], b"PNG");
    let words = home.failure(&["vector", "compare", str(&medical), str(&home.path().join("no"))]);
    assert!(words.contains("does not exist"), "{words}");
}

#[test]
fn separated_parts_add_up_to_the_vector() {
    let home = Home::empty();
    let base = home.path().join("base");
    tiny_model(&TINY).write(&base);
    let file = |name: &str| home.path().join(name).with_extension("safetensors");
    let (medical, legal, own, shared) =
        (file("medical"), file("legal"), file("own"), file("shared"));
    tiny_dense_vector(&TINY, "medical", 1).write(&medical);
    tiny_dense_vector(&TINY, "legal", 2).write(&legal);
    let parts = ["--out", str(&own), "--shared", str(&shared)];
    let fixed = ["vector", "separate", str(&medical), "--from", str(&legal), "--rank", "3"];
    let text = home.stdout(&[&fixed[..], &parts].concat());
    assert!(text.contains("of the squared norm") && text.contains("layer 1"), "{text}");
    let merged = |name: &str, vectors: &[&PathBuf]| {
        let out = home.path().join(name);
        let terms: Vec<String> = vectors.iter().map(|it| format!("{}=1", it.display())).collect();
        let mut options = vec!["merge", "--model", str(&base), "--out", str(&out)];
        options.extend(terms.iter().flat_map(|term| ["--vector", term.as_str()]));
        home.stdout(&options);
        out
    };
    let whole = merged("whole", &[&medical]);
    assert_same_weights(&whole, &merged("parts", &[&own, &shared]), 1e-5);
}

#[test]
fn vectors_from_an_aligned_model_say_which_model_they_are_differences_from() {
    let home = Home::empty();
    let (base, aligned) = two_models(&home);
    let other = home.path().join("legal.safetensors");
    tiny_dense_vector(&TINY, "legal", 2).write(&other);
    let base_fingerprint = |text: String| {
        let row = text.lines().find(|line| line.contains("base fingerprint")).unwrap();
        assert!(!row.contains("not said"), "{text}");
        row.split_whitespace().last().unwrap().to_owned()
    };
    let expected =
        base_fingerprint(home.stdout(&["info", str(&extract(&home, &base, &aligned, &[]))]));
    let (smaller, own) =
        (home.path().join("small.safetensors"), home.path().join("own.safetensors"));
    let to = ["--base", str(&base), "--out"];
    let compress = [&["vector", "compress", str(&aligned), "--density", "0.1"], &to[..]].concat();
    home.stdout(&[&compress[..], &[str(&smaller)]].concat());
    let separate = ["vector", "separate", str(&aligned), "--from", str(&other)];
    home.stdout(&[&separate[..], &to, &[str(&own)]].concat());
    for out in [&smaller, &own] {
        let info = home.stdout(&["info", str(out)]);
        assert!(info.contains("created") && info.contains("made for"), "{info}");
        assert!(!info.contains("max relative error"), "{info}");
        assert_eq!(base_fingerprint(info), expected);
    }
    // A model that lacks a layer is no difference from this one.
    let shorter = home.path().join("shorter");
    tiny_model(&TinyModel { n_layers: 1, ..TINY }).write(&shorter);
    let out = home.path().join("none.safetensors");
    let compress = ["vector", "compress", str(&shorter), "--method", "sign", "--base", str(&base)];
    let words = home.failure(&[&compress[..], &["--out", str(&out)]].concat());
    assert!(words.contains("model.layers.1.") && !out.exists(), "{words}");
}

#[test]
fn results_go_to_vector_files_that_are_no_inputs() {
    let home = Home::empty();
    let (base, aligned) = two_models(&home);
    let vector = home.path().join("made-of.safetensors");
    let before = fs::read(&vector).unwrap();
    let check = |command: &[&str], out: &str, expected: &str| {
        let words = home.failure(&[command, &["--out", out]].concat());
        assert!(words.contains(expected), "{expected} in {words}");
    };
    let compress = ["vector", "compress", str(&vector), "--density", "0.1"];
    let extract = ["vector", "extract", "--domain", "x", "--base", str(&base)];
    let extract = [&extract[..], &["--aligned", str(&aligned)]].concat();
    let separate = ["vector", "separate", str(&vector), "--from", str(&vector), "--shared"];
    let part = home.path().join("part.safetensors");
    let separate = [&separate[..], &[str(&part)]].concat();
    for command in [&compress[..], &extract, &separate] {
        check(command, "medical", "Name it medical.safetensors");
        check(command, str(&base), "is a folder");
    }
    check(&compress, "base/../made-of.safetensors", "what it is made from");
    check(&extract, "aligned/model.safetensors", "what it is made from");
    check(&separate, "made-of.safetensors", "what it is made from");
    check(&separate, "part.safetensors", "Both parts");
    assert_eq!(fs::read(&vector).unwrap(), before);
    assert!(!part.exists() && !home.path().join("medical").exists());
}

#[test]
fn compressed_vector_outlives_the_questions_about_it_but_not_unreadable_ones() {
    let home = Home::empty();
    let (base, _) = two_models(&home);
    let (vector, out) =
        (home.path().join("made-of.safetensors"), home.path().join("small.safetensors"));
    let data = home.path().join("data.jsonl");
    fs::write(&data, "no record").unwrap();
    let fixed = ["vector", "compress", str(&vector), "--density", "0.1", "--out", str(&out)];
    let probe = ["--model", str(&base), "--data", str(&data)];
    let words = home.failure(&[&fixed[..], &probe].concat());
    assert!(words.contains("no record that can be used") && !out.exists(), "{words}");
    // A vector that needs no base does not have it looked for.
    home.stdout(&[&fixed[..], &["--base", "demo"]].concat());
    assert!(out.exists());
}

#[test]
fn vectors_that_have_nothing_to_do_with_each_other_are_noted_and_told_apart() {
    let home = Home::empty();
    let (base, aligned) = two_models(&home);
    let part = |name: &str, include: &str| {
        let from = extract(&home, &base, &aligned, &["--include", include]);
        let to = home.path().join(name).with_extension("safetensors");
        fs::rename(from, &to).unwrap();
        to
    };
    let (attention, mlp) = (part("attention", "self_attn"), part("feed", "mlp"));
    let output = home.meav(&["vector", "compare", str(&attention), str(&mlp)]);
    assert!(output.status.success(), "{output:?}");
    let (text, notes) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(
        text.contains("medical (attention.safetensors) and medical (feed.safetensors)"),
        "{text}"
    );
    assert!(notes.contains("change no tensor in common"), "{notes}");
}

#[test]
fn figures_are_written_without_a_workspace() {
    let home = Home::empty();
    fs::write(home.path().join("workspace"), "no folder").unwrap();
    let (medical, csv) = (demo_vector("medical"), home.path().join("map.csv"));
    let vectors = ["vector", "compare", str(&medical), str(&medical)];
    home.stdout(&[&vectors[..], &["--csv", str(&csv)]].concat());
    assert_eq!(fs::read_to_string(&csv).unwrap().lines().count(), 1 + 1 + 60);
}

#[test]
fn models_of_two_tokenizers_differ_in_all_but_their_embeddings() {
    let home = Home::empty();
    let (base, aligned) = two_models(&home);
    let tokenizer = aligned.join("tokenizer.json");
    let mut json: Json = serde_json::from_slice(&fs::read(&tokenizer).unwrap()).unwrap();
    let vocabulary = &mut json["model"]["vocab"];
    let ids = ["A", "B"].map(|token| vocabulary[token].as_u64().unwrap());
    (vocabulary["A"], vocabulary["B"]) = (ids[1].into(), ids[0].into());
    fs::write(&tokenizer, json.to_string()).unwrap();
    let out = home.path().join("x.safetensors");
    let command = ["vector", "extract", "--domain", "x", "--base", str(&base)];
    let command = [&command[..], &["--aligned", str(&aligned), "--out", str(&out)]].concat();
    let words = home.failure(&command);
    assert!(words.contains("different tokenizers") && words.contains("lm_head"), "{words}");
    let output = home.meav(&[&command[..], &["--exclude", "embed_tokens|lm_head"]].concat());
    let notes = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && notes.contains("different tokenizers"), "{notes}");
}
