use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use meav_job::JobCtx;
use meav_test_support::{Adapter, TINY, Tensor, assert_close, chain, tiny_adapter, tolerance};
use meav_vector::{AlignmentVector, Delta, VectorError, VectorKind};
use meav_weights::{Dtype, Weight};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use crate::{sum_tensor, term};

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
    check(set("alora_invocation_tokens", json!([1])), "alora_invocation_tokens, ");
    check(set("use_qalora", json!(true)), "use_qalora, ");
    check(set("layer_replication", json!([[0, 2], [1, 2]])), "layer_replication, ");
    check(set("target_parameters", json!(["mlp.experts"])), "target_parameters, ");
    check(
        set("trainable_token_indices", json!({ "embed_tokens": [1] })),
        "trainable_token_indices, ",
    );
    check(set("kasa_config", json!({ "beta": 1.0 })), "kasa_config, ");
    for method in ["pissa", "pissa_niter_16", "olora", "corda", "loftq", "lora_ga"] {
        check(set("init_lora_weights", json!(method)), "init_lora_weights, ");
    }
}

#[test]
fn tensors_other_than_factors_of_linear_layers_are_refused_by_name() {
    for name in [
        "base_model.model.model.embed_tokens.lora_embedding_A.weight",
        "base_model.model.model.embed_tokens.base_layer.weight",
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

/// Adapters of peft, and what peft itself makes of them; `peft_adapters.py` beside the file made it.
#[test]
fn patterns_ranks_and_embeddings_add_what_peft_adds() {
    let fixture: Json = serde_json::from_str(FIXTURE).unwrap();
    let cases = fixture["cases"].as_object().unwrap();
    assert_eq!(cases.len(), 3);
    for (case, Case { config, tensors, deltas }) in
        cases.iter().map(|(name, case)| (name, serde_json::from_value(case.clone()).unwrap()))
    {
        let (_folder, path) = write(|adapter| {
            let tensor = |(name, Values { shape, values })| Tensor {
                name,
                dtype: meav_test_support::Dtype::F32,
                shape,
                values,
            };
            *adapter = Adapter { config, tensors: tensors.into_iter().map(tensor).collect() };
        });
        let vector = Arc::new(open(&path).unwrap());
        assert!(vector.deltas.keys().eq(deltas.keys()), "{case}");
        for (name, Values { shape, values }) in &deltas {
            let zeros = Weight::from_f32(shape.clone(), vec![0.0; values.len()]);
            let merged = sum_tensor(name, &zeros, Dtype::F32, &[term(&vector, 1.0)]).unwrap();
            assert_eq!(merged.shape(), shape, "{case}: {name}");
            assert_close(&merged.to_f32_vec(), values, tolerance::F32);
        }
    }
}

const FIXTURE: &str = include_str!("../../../meav-test-support/fixtures/peft_adapters.json");

#[derive(Deserialize)]
struct Case {
    config: Json,
    tensors: BTreeMap<String, Values>,
    deltas: BTreeMap<String, Values>,
}

#[derive(Deserialize)]
struct Values {
    shape: Vec<usize>,
    values: Vec<f32>,
}

#[test]
fn first_pattern_of_the_file_that_matches_the_end_of_a_name_holds() {
    let scales = |patterns: Json| {
        let (_folder, path) = write(set("alpha_pattern", patterns));
        let vector = open(&path).unwrap();
        ["layers.0.self_attn.q_proj", "layers.1.self_attn.q_proj", "layers.1.mlp.up_proj"].map(
            |module| {
                let Delta::LowRank(factors) = &vector.deltas[&format!("model.{module}.weight")]
                else {
                    panic!("{module}")
                };
                4.0 * factors.scale
            },
        )
    };
    assert_eq!(scales(Json::Null), [8.0, 8.0, 8.0]);
    assert_eq!(scales(json!({ "q_proj": 1 })), [1.0, 1.0, 8.0]);
    assert_eq!(scales(json!({ "proj": 1, "q": 2, "layers.1": 3 })), [8.0, 8.0, 8.0]);
    assert_eq!(scales(json!({ "self_attn.q_proj": 1, "q_proj": 2 })), [1.0, 1.0, 8.0]);
    assert_eq!(scales(json!({ "q_proj": 2, "self_attn.q_proj": 1 })), [2.0, 2.0, 8.0]);
    assert_eq!(scales(json!({ r"layers\.1\..*": 0.5 })), [8.0, 0.5, 0.5]);
    assert_eq!(scales(json!({ "^model.layers.0.+|up_proj": 3 })), [3.0, 8.0, 3.0]);
    check(set("rank_pattern", json!({ "(?=q)": 8 })), "the pattern \"(?=q)\", ");
    check(set("rank_pattern", json!({ "a{1000}{1000}": 8 })), "the pattern \"a{1000}{1000}\", ");
}

#[test]
fn rank_that_a_pattern_does_not_tell_is_refused_by_name() {
    let (_folder, path) = write(set("rank_pattern", json!({ "layers.1.mlp.up_proj": 8 })));
    let err = open(&path).unwrap_err();
    let name = "model.layers.1.mlp.up_proj.weight";
    assert!(matches!(&err, VectorError::Factors { name: n, .. } if n == name), "{err:?}");
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
        ("[]", "invalid type: sequence"),
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
