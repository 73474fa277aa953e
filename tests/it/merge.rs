//! `meav merge`: what it writes is the model that one chats with.

use std::fs;

use meav_test_support::{TINY, TinyModel, tiny_adapter, tiny_model};
use meav_weights::{Checkpoint, Values};

use crate::support::{Home, demo_vector, str};

#[test]
fn merged_folder_answers_like_the_live_recipe() {
    let home = Home::with_demo();
    let vector = format!("{}=1.2", demo_vector("medical").display());
    let question = "I have had a headache for three days. What should I do?";
    let out = home.path().join("merged");
    let merge = ["merge", "--model", "demo", "--vector", &vector, "--out", str(&out)];
    home.stdout(&[&merge[..], &["--dtype", "bf16"]].concat());
    let answer = |model: &[&str]| {
        let options = ["--prompt", question, "--temperature", "0", "--max-tokens", "24"];
        home.stdout(&[&["chat"], model, &options].concat())
    };
    assert_eq!(answer(&["--model", str(&out)]), answer(&["--model", "demo", "--vector", &vector]));
    let card = fs::read_to_string(out.join("README.md")).unwrap();
    assert!(card.contains("| medical | 1.2 | everywhere | `blake3:"), "{card}");
    let recipe: serde_json::Value =
        serde_json::from_slice(&fs::read(out.join("recipe.json")).unwrap()).unwrap();
    assert_eq!(recipe["vectors"][0]["lambda"], 1.2);
    for file in ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"]
    {
        assert!(out.join(file).is_file(), "{file}");
    }
}

#[test]
fn recipe_of_zeros_writes_the_base_bit_for_bit() {
    let home = Home::empty();
    for (index, dtype) in
        [meav_test_support::Dtype::F32, meav_test_support::Dtype::Bf16].into_iter().enumerate()
    {
        let (model, adapter) = (home.path().join(format!("m{index}")), home.path().join("adapter"));
        tiny_model(&TinyModel { dtype, sharded: true, ..TINY }).write(&model);
        tiny_adapter(&TINY, 1).write(&adapter);
        let out = home.path().join(format!("merged{index}"));
        let vector = format!("{}=0", adapter.display());
        home.stdout(&["merge", "--model", str(&model), "--vector", &vector, "--out", str(&out)]);
        let (base, merged) = (Checkpoint::open(&model).unwrap(), Checkpoint::open(&out).unwrap());
        assert!(base.names().eq(merged.names()));
        for name in base.names() {
            let (base, merged) = (base.load(name).unwrap(), merged.load(name).unwrap());
            assert!(base.bytes() == merged.bytes() && base.dtype() == merged.dtype(), "{name}");
        }
    }
}

#[test]
fn one_times_an_adapter_is_the_sum_of_the_files() {
    let home = Home::empty();
    let (model, adapter) = (home.path().join("model"), home.path().join("adapter"));
    tiny_model(&TINY).write(&model);
    tiny_adapter(&TINY, 1).write(&adapter);
    let out = home.path().join("merged");
    let vector = format!("{}=1", adapter.display());
    home.stdout(&["merge", "--model", str(&model), "--vector", &vector, "--out", str(&out)]);
    let name = "model.layers.1.mlp.up_proj.weight";
    let load =
        |path: &std::path::Path, name: &str| Checkpoint::open(path).unwrap().load(name).unwrap();
    let (base, merged) = (load(&model, name), load(&out, name));
    let factors = adapter.join("adapter_model.safetensors");
    let factor = |letter: &str| {
        load(&factors, &format!("base_model.model.model.layers.1.mlp.up_proj.lora_{letter}.weight"))
    };
    let (a, b) = (factor("A"), factor("B"));
    let (rank, columns) = (a.shape()[0], a.shape()[1]);
    let config = fs::read(adapter.join("adapter_config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    let scale = config["lora_alpha"].as_f64().unwrap() / config["r"].as_f64().unwrap();
    let (base, a, b) = (base.to_f32_vec(), a.to_f32_vec(), b.to_f32_vec());
    let Values::F32(merged) = merged.values() else { panic!("the tiny model is f32") };
    for (index, found) in merged.iter().enumerate() {
        let (row, column) = (index / columns, index % columns);
        let product: f64 = (0..rank)
            .map(|k| f64::from(b[row * rank + k]) * f64::from(a[k * columns + column]))
            .sum();
        let expected = f64::from(base[index]) + scale * product;
        assert!((f64::from(*found) - expected).abs() < 1e-6, "{name}[{row}, {column}]");
    }
}

#[test]
fn what_is_there_already_is_left_alone() {
    let home = Home::empty();
    let model = home.path().join("model");
    tiny_model(&TINY).write(&model);
    let before = fs::read(model.join("config.json")).unwrap();
    let error = home.failure(&["merge", "--model", str(&model), "--out", str(&model)]);
    assert!(error.contains("There is already something at"), "{error}");
    assert_eq!(fs::read(model.join("config.json")).unwrap(), before);
    assert!(home.leftovers().is_empty());
}
