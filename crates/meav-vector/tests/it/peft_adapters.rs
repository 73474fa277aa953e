use std::fs;
use std::path::{Path, PathBuf};

use meav_job::JobCtx;
use meav_test_support::{Adapter, TINY, Tensor, tiny_adapter};
use meav_vector::{AlignmentVector, Delta, VectorError, VectorKind};
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use meav_test_support::chain;

fn write(change: impl FnOnce(&mut Adapter)) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("medical");
    let mut adapter = tiny_adapter(&TINY, 1);
    change(&mut adapter);
    adapter.write(&path);
    (folder, path)
}

fn open(path: &Path) -> Result<AlignmentVector, VectorError> {
    AlignmentVector::open(path, None, &JobCtx::detached())
}

fn set(key: &str, value: Json) -> impl FnOnce(&mut Adapter) {
    move |adapter| adapter.config[key] = value
}

/// Compares what an adapter is refused with.
#[track_caller]
fn check(change: impl FnOnce(&mut Adapter), expected: &str) {
    let (_folder, path) = write(change);
    let err = open(&path).unwrap_err();
    assert!(matches!(err, VectorError::UnsupportedAdapter { .. }), "{err:?}");
    let found = err.to_string();
    assert!(found.starts_with(&format!("the adapter uses {expected}")), "{found}");
}

fn scale(change: impl FnOnce(&mut Adapter)) -> f32 {
    let (_folder, path) = write(change);
    let vector = open(&path).unwrap();
    let Some(Delta::LowRank(factors)) = vector.deltas.values().next() else { panic!() };
    factors.scale
}

#[test]
fn adapter_folder_is_a_vector_of_its_name() {
    let (_folder, path) = write(|_| {});
    let vector = open(&path).unwrap();
    assert_eq!(vector.kind, VectorKind::LowRank);
    assert_eq!(vector.origin.domain, "medical");
    assert_eq!(vector.origin.base_name.as_deref(), Some("tiny"));
    let adapter = tiny_adapter(&TINY, 1);
    for (index, (name, shape)) in TINY.linear_layers().into_iter().enumerate() {
        let Delta::LowRank(factors) = &vector.deltas[&name] else { panic!("{name}") };
        assert_eq!((factors.shape, factors.rank), (shape, 4));
        assert!(factors.a == adapter.tensors[2 * index].values, "{name}");
        assert!(factors.b == adapter.tensors[2 * index + 1].values, "{name}");
    }
    assert_eq!(vector.deltas.len(), TINY.linear_layers().len());
}

#[test]
fn scale_is_alpha_by_rank_or_by_its_root() {
    assert_eq!(scale(|_| {}), 2.0);
    assert_eq!(scale(set("lora_alpha", json!(10))), 2.5);
    assert_eq!(scale(set("lora_alpha", json!(0.5))), 0.125);
    assert_eq!(scale(set("use_rslora", json!(true))), 4.0);
}

/// What PEFT 0.21 writes for an ordinary adapter, beyond the keys that matter.
#[test]
fn defaults_of_newer_versions_are_accepted() {
    let expected = scale(|_| {});
    let found = scale(|adapter| {
        for (key, value) in [
            ("alora_invocation_tokens", Json::Null),
            ("loftq_config", json!({})),
            ("layer_replication", Json::Null),
            ("modules_to_save", json!([])),
            ("init_lora_weights", json!("gaussian")),
            ("bias", Json::Null),
            ("peft_version", json!("0.21.2")),
        ] {
            adapter.config[key] = value;
        }
    });
    assert_eq!(found, expected);
}

#[test]
fn what_a_sum_of_weights_cannot_express_is_refused_by_name() {
    check(set("peft_type", json!("LOHA")), "LOHA, ");
    check(set("peft_type", json!("IA3")), "IA3, ");
    check(set("r", json!(0)), "r = 0, ");
    check(set("use_dora", json!(true)), "DoRA, ");
    check(set("alora_invocation_tokens", json!([1, 2])), "alora_invocation_tokens, ");
    check(set("modules_to_save", json!(["lm_head"])), "modules_to_save, ");
    check(set("bias", json!("lora_only")), "bias, ");
    check(set("bias", json!("all")), "bias, ");
    check(set("lora_bias", json!(true)), "bias, ");
    check(set("fan_in_fan_out", json!(true)), "fan_in_fan_out, ");
    let patterns = "rank_pattern or alpha_pattern, ";
    check(set("rank_pattern", json!({ "q_proj": 8 })), patterns);
    check(set("alpha_pattern", json!({ "q_proj": 32 })), patterns);
    for method in ["pissa", "pissa_niter_16", "olora", "corda", "loftq", "lora_ga"] {
        check(set("init_lora_weights", json!(method)), "init_lora_weights, ");
    }
}

#[test]
fn tensors_other_than_factors_of_linear_layers_are_refused_by_name() {
    for name in [
        "base_model.model.model.embed_tokens.lora_embedding_A",
        "base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector",
        "base_model.model.lm_head.weight",
        "model.layers.0.self_attn.q_proj.lora_A.weight",
        "base_model.model.model.layers.0.self_attn.q_proj.lora_A.bias",
    ] {
        let add = |adapter: &mut Adapter| {
            adapter.tensors.push(Tensor { name: name.to_owned(), ..adapter.tensors[0].clone() });
        };
        check(add, &format!("the tensor {name:?}, "));
    }
}

#[test]
fn missing_or_misshapen_factors_are_refused_by_name() {
    let changes: [fn(&mut Adapter); 5] = [
        |adapter| drop(adapter.tensors.remove(0)),
        |adapter| drop(adapter.tensors.remove(1)),
        |adapter| adapter.tensors[0].shape = vec![2, 128],
        |adapter| adapter.tensors[1].shape = vec![256],
        // Sound factors of rank 4, but α is divided by something else.
        |adapter| adapter.config["r"] = json!(8),
    ];
    for (index, change) in changes.into_iter().enumerate() {
        let (_folder, path) = write(change);
        let err = open(&path).unwrap_err();
        let VectorError::Factors { name, path } = &err else { panic!("{index}: {err:?}") };
        // All are of rank 4 in the last case: the first in name order is named.
        let expected = if index == 4 { "mlp.down_proj" } else { "self_attn.q_proj" };
        assert_eq!(*name, format!("model.layers.0.{expected}.weight"));
        assert!(path.ends_with("adapter_model.safetensors"));
    }
}

#[test]
fn folder_without_configuration_is_no_adapter() {
    let (_folder, path) = write(|_| {});
    fs::remove_file(path.join("adapter_config.json")).unwrap();
    let err = open(&path).unwrap_err();
    assert_eq!(
        err.to_string(),
        format!("no model.safetensors or model.safetensors.index.json in {path:?}")
    );
}

#[test]
fn folder_without_weights_is_refused_by_the_files_name() {
    let (_folder, path) = write(|_| {});
    fs::remove_file(path.join("adapter_model.safetensors")).unwrap();
    let err = open(&path).unwrap_err();
    let expected = format!("cannot read {:?}", path.join("adapter_model.safetensors"));
    assert!(err.to_string().starts_with(&expected), "{err}");
}

#[test]
fn unreadable_configuration_is_refused_with_its_reason() {
    for (text, reason) in [
        ("", "EOF while parsing"),
        ("[]", "invalid length 0"),
        (r#"{"peft_type": "LORA", "r": 4}"#, "missing field `lora_alpha`"),
        (r#"{"peft_type": "LORA", "r": -4, "lora_alpha": 8}"#, "invalid value: integer `-4`"),
    ] {
        let (_folder, path) = write(|_| {});
        let config = path.join("adapter_config.json");
        fs::write(&config, text).unwrap();
        let err = open(&path).unwrap_err();
        let found = chain(&err);
        let expected = format!("cannot read the adapter's configuration {config:?}: {reason}");
        assert!(found.starts_with(&expected), "{found}");
    }
}
