use std::fs;
use std::path::Path;

use meav_job::{CancelToken, JobCtx};
use meav_test_support::{
    Dtype as FileDtype, TINY, Tensor, TinyModel, VectorFile, broken, tiny_dense_vector,
    tiny_low_rank_vector, tiny_model,
};
use meav_vector::{AlignmentVector, Delta, VectorError, VectorHeader, VectorKind};
use meav_weights::{Fingerprint, WeightsError};
use serde_json::json;

use meav_test_support::chain;

use crate::opened;

fn open(path: &Path) -> Result<AlignmentVector, VectorError> {
    AlignmentVector::open(path, None, &JobCtx::detached())
}

fn dense() -> VectorFile {
    tiny_dense_vector(&TINY, "medical", 1)
}

fn low_rank() -> VectorFile {
    tiny_low_rank_vector(&TINY, "medical", 1)
}

/// Opens `file` and compares what it is refused with; `expected` ends before the path.
#[track_caller]
fn check(file: &VectorFile, expected: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vector.safetensors");
    file.write(&path);
    let found = open(&path).unwrap_err().to_string();
    assert_eq!(found, format!("{expected} {path:?}"));
}

fn with(mut file: VectorFile, key: &str, value: &str) -> VectorFile {
    file.metadata.insert(key.to_owned(), value.to_owned());
    file
}

fn without(mut file: VectorFile, key: &str) -> VectorFile {
    file.metadata.remove(key).unwrap();
    file
}

#[test]
fn dense_vector_is_read_whole() {
    let vector = opened(&dense());
    assert_eq!(vector.kind, VectorKind::Dense);
    assert_eq!(vector.deltas.len(), dense().tensors.len());
    for Tensor { name, shape, values, .. } in dense().tensors {
        let Delta::Dense(weight) = &vector.deltas[&name] else { panic!("{name}") };
        assert_eq!((weight.shape(), weight.to_f32_vec()), (&shape[..], values));
    }
    let n_elements: usize = dense().tensors.iter().map(|tensor| tensor.values.len()).sum();
    assert_eq!(vector.size_bytes(), 4 * n_elements as u64);
}

#[test]
fn low_rank_vector_is_read_as_factors() {
    let vector = opened(&low_rank());
    assert_eq!(vector.kind, VectorKind::LowRank);
    assert_eq!(vector.deltas.len(), TINY.linear_layers().len());
    for (name, shape) in TINY.linear_layers() {
        let Delta::LowRank(factors) = &vector.deltas[&name] else { panic!("{name}") };
        assert_eq!((factors.shape, factors.rank, factors.scale), (shape, 4, 2.0));
        let values = |suffix: &str| {
            let named = |tensor: &Tensor| tensor.name == format!("{name}.{suffix}");
            low_rank().tensors.into_iter().find(named).unwrap().values
        };
        assert!(factors.a == values("lora_A") && factors.b == values("lora_B"), "{name}");
    }
}

#[test]
fn origin_is_read_from_the_metadata() {
    let base = Fingerprint::of_bytes(b"base");
    let file = with(dense(), "meav.base_fingerprint", &base.to_string());
    let origin = opened(&with(file, "meav.calibration", "{}")).origin.clone();
    assert_eq!(origin.domain, "medical");
    assert_eq!(origin.base_name.as_deref(), Some("tiny"));
    assert_eq!(origin.base_fingerprint, Some(base));
    assert_eq!(origin.tokenizer_fingerprint, None);
    assert_eq!(origin.levels, ["expert", "generic", "avoidance"]);
    assert_eq!(origin.training.as_deref(), Some(r#"{"method": "seeded", "seed": 1}"#));
    assert_eq!(origin.calibration.as_deref(), Some("{}"));
    assert_eq!(origin.created.as_deref(), Some("2026-11-01T12:00:00Z"));
}

#[test]
fn shards_are_one_vector() {
    let folder = tempfile::tempdir().unwrap();
    let mut weight_map = serde_json::Map::new();
    for (index, tensors) in dense().tensors.chunks(8).enumerate() {
        let shard = format!("model-{index}.safetensors");
        for tensor in tensors {
            weight_map.insert(tensor.name.clone(), shard.clone().into());
        }
        let file = VectorFile { tensors: tensors.to_vec(), ..dense() };
        file.write(&folder.path().join(shard));
    }
    let index = json!({ "weight_map": weight_map }).to_string();
    fs::write(folder.path().join("model.safetensors.index.json"), index).unwrap();
    let vector = open(folder.path()).unwrap();
    assert_eq!(vector.origin.domain, "medical");
    assert_eq!(vector.fingerprint, opened(&dense()).fingerprint);
}

#[test]
fn tensors_that_say_nothing_of_themselves_are_no_vector() {
    let expected = "no alignment vector: the metadata has no \"meav.format\" in";
    check(&without(dense(), "meav.format"), expected);
    let folder = tiny_model(&TINY).in_temp_dir();
    fs::remove_file(folder.path().join("config.json")).unwrap();
    let err = open(folder.path()).unwrap_err();
    assert_eq!(err.to_string(), format!("{expected} {:?}", folder.path()));
}

#[test]
fn newer_format_is_refused() {
    check(
        &with(dense(), "meav.format", "2"),
        "format \"2\" is newer than format 1, the newest known here, in",
    );
}

#[test]
fn unknown_kind_is_refused() {
    check(
        &with(dense(), "meav.kind", "one_bit"),
        "vectors of kind \"one_bit\" are not supported, in",
    );
}

#[test]
fn missing_keys_are_named() {
    for (file, key) in [
        (dense(), "meav.kind"),
        (dense(), "meav.domain"),
        (low_rank(), "meav.kind"),
        (low_rank(), "meav.domain"),
        (low_rank(), "meav.scale"),
    ] {
        check(&without(file, key), &format!("the metadata has no usable {key:?} in"));
    }
}

#[test]
fn unreadable_keys_are_named() {
    for (key, value) in [
        ("meav.scale", ""),
        ("meav.scale", "2/3"),
        ("meav.scale", "two"),
        ("meav.base_fingerprint", "blake3:12"),
        ("meav.tokenizer_fingerprint", "sha256:00"),
        ("meav.levels", "expert"),
        ("meav.levels", r#"{"expert": 1}"#),
    ] {
        let expected = format!("the metadata has no usable {key:?} in");
        check(&with(low_rank(), key, value), &expected);
    }
}

#[test]
fn scale_that_is_no_number_is_refused() {
    for scale in ["NaN", "inf", "-inf", "1e39"] {
        check(
            &with(low_rank(), "meav.scale", scale),
            "tensor \"model.layers.0.mlp.down_proj.weight\" has values that are not finite \
             numbers in",
        );
    }
}

#[test]
fn values_that_are_no_numbers_are_refused_by_name() {
    for dtype in [FileDtype::F32, FileDtype::F16, FileDtype::Bf16] {
        let model = TinyModel { dtype, ..TINY };
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut file = tiny_dense_vector(&model, "medical", 1);
            let name = file.tensors[2].name.clone();
            *file.tensors[2].values.last_mut().unwrap() = value;
            check(&file, &format!("tensor {name:?} has values that are not finite numbers in"));
            let mut file = tiny_low_rank_vector(&model, "medical", 1);
            let name = file.tensors[3].name.strip_suffix(".lora_B").unwrap().to_owned();
            file.tensors[3].values[0] = value;
            check(&file, &format!("tensor {name:?} has values that are not finite numbers in"));
        }
    }
}

#[test]
fn factors_that_do_not_fit_together_are_refused_by_name() {
    let name = "model.layers.0.self_attn.q_proj.weight";
    let expected = format!("the low-rank factors of tensor {name:?} don't fit together in");
    let changes: [fn(&mut Vec<Tensor>); 6] = [
        |tensors| drop(tensors.remove(0)),
        |tensors| drop(tensors.remove(1)),
        |tensors| tensors[0].shape = vec![8, 32],
        |tensors| tensors[1].shape = vec![256],
        |tensors| tensors[1].shape = vec![64, 2, 2],
        |tensors| {
            for factor in &mut tensors[..2] {
                factor.values.clear();
            }
            tensors[0].shape = vec![0, 64];
            tensors[1].shape = vec![64, 0];
        },
    ];
    for change in changes {
        let mut file = low_rank();
        assert_eq!(file.tensors[0].name, format!("{name}.lora_A"));
        change(&mut file.tensors);
        check(&file, &expected);
    }
}

#[test]
fn tensors_of_every_form_may_share_a_file() {
    let mut file = low_rank();
    let embeddings = dense().tensors.remove(0);
    file.tensors.push(embeddings.clone());
    let vector = opened(&file);
    assert_eq!((vector.kind, vector.deltas.len()), (VectorKind::LowRank, 15));
    let Delta::Dense(weight) = &vector.deltas[&embeddings.name] else { panic!() };
    assert_eq!(weight.to_f32_vec(), embeddings.values);
}

#[test]
fn header_says_what_is_widened_into_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vector.safetensors");
    let mut file = low_rank();
    let factors: usize = file.tensors.iter().map(|tensor| tensor.values.len()).sum();
    file.tensors.push(dense().tensors.remove(0));
    for (file, n_widened) in [(file, factors), (dense(), 0)] {
        file.write(&path);
        let header = VectorHeader::read(&path).unwrap();
        assert_eq!(header.memory_bytes, n_widened as u64 * 4, "{:?}", header.kind);
        assert_eq!(header.file_bytes, fs::metadata(&path).unwrap().len());
    }
}

#[test]
fn tensor_of_two_forms_is_refused_by_name() {
    let mut file = low_rank();
    let name = file.tensors[0].name.strip_suffix(".lora_A").unwrap().to_owned();
    file.tensors.push(Tensor { name: name.clone(), ..file.tensors[0].clone() });
    check(&file, &format!("the stored parts of tensor {name:?} don't fit together in"));
}

#[test]
fn integers_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vector.safetensors");
    let header = r#"{"__metadata__":{"meav.format":"1","meav.kind":"dense","meav.domain":"x"},
        "a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}"#;
    fs::write(&path, broken::with_header(header, &[0; 8])).unwrap();
    let err = open(&path).unwrap_err();
    let is_dtype = matches!(err, VectorError::Weights(WeightsError::UnsupportedDtype { .. }));
    assert!(is_dtype, "{err:?}");
}

#[test]
fn broken_files_are_refused_like_those_of_models() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vector.safetensors");
    for (name, bytes) in broken::all() {
        fs::write(&path, bytes).unwrap();
        let err = open(&path).unwrap_err();
        let is_malformed = matches!(&err, VectorError::Weights(WeightsError::Malformed { path: p, .. }) if *p == path);
        assert!(is_malformed, "{name}: {}", chain(&err));
    }
}

#[test]
fn reading_the_values_can_be_cancelled_and_a_known_fingerprint_saves_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vector.safetensors");
    dense().write(&path);
    let cancel = CancelToken::default();
    cancel.cancel();
    let job = JobCtx::new(cancel, &|_| {});
    assert!(matches!(AlignmentVector::open(&path, None, &job), Err(VectorError::Cancelled(_))));
    let known = Fingerprint::of_bytes(b"known");
    let vector = AlignmentVector::open(&path, Some(known), &job).unwrap();
    assert_eq!(vector.fingerprint, known);
}

#[test]
fn fingerprint_is_that_of_what_is_added() {
    let of = |file: &VectorFile| opened(file).fingerprint;
    assert_eq!(of(&low_rank()), of(&with(low_rank(), "meav.domain", "legal")));
    assert_ne!(of(&low_rank()), of(&with(low_rank(), "meav.scale", "2.5")));
    assert_ne!(of(&low_rank()), of(&tiny_low_rank_vector(&TINY, "medical", 2)));
    let mut file = dense();
    file.tensors[0].values[0] += 1.0;
    assert_ne!(of(&dense()), of(&file));
}
