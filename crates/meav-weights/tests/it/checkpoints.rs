use std::fs;
use std::path::Path;

use meav_job::JobCtx;
use meav_test_support::{Dtype as FileDtype, GgufType, TINY, TinyModel, tiny_gguf, tiny_model};
use meav_weights::{Checkpoint, CheckpointFormat, Dtype, MalformedReason, WeightsError};
use serde_json::json;

use meav_test_support::chain;

/// Opens what was written from `model` and compares every tensor.
fn check(path: &Path, model: &TinyModel, format: CheckpointFormat, files: &[&str]) {
    let checkpoint = Checkpoint::open(path).unwrap();
    let mut tensors = model.tensors();
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(checkpoint.path(), path);
    assert_eq!(checkpoint.format(), format);
    assert_eq!(checkpoint.gguf().is_some(), format == CheckpointFormat::Gguf);
    let found: Vec<_> = checkpoint.files().iter().map(|file| file.file_name().unwrap()).collect();
    assert_eq!(found, files);
    let names: Vec<_> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(checkpoint.names().collect::<Vec<_>>(), names);
    for tensor in &tensors {
        let weight = checkpoint.load(&tensor.name).unwrap();
        assert_eq!(weight.shape(), tensor.shape, "{}", tensor.name);
        assert_eq!(weight.to_f32_vec(), tensor.values, "{}", tensor.name);
        assert_eq!(checkpoint.info(&tensor.name).unwrap().shape, tensor.shape);
    }
    let n_elements: usize = tensors.iter().map(|tensor| tensor.values.len()).sum();
    assert_eq!(checkpoint.parameter_count(), n_elements as u64);
}

#[test]
fn folder_is_opened_with_every_tensor() {
    let folder = tiny_model(&TINY).in_temp_dir();
    check(folder.path(), &TINY, CheckpointFormat::Safetensors, &["model.safetensors"]);
}

#[test]
fn file_is_opened_without_its_folder() {
    let folder = tiny_model(&TINY).in_temp_dir();
    let path = folder.path().join("model.safetensors");
    check(&path, &TINY, CheckpointFormat::Safetensors, &["model.safetensors"]);
}

#[test]
fn shards_are_one_checkpoint() {
    let model = TinyModel { sharded: true, tie_word_embeddings: false, ..TINY };
    let folder = tiny_model(&model).in_temp_dir();
    let files = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    check(folder.path(), &model, CheckpointFormat::Safetensors, &files);
    assert_eq!(Checkpoint::open(folder.path()).unwrap().metadata()["format"], "pt");
}

#[test]
fn gguf_is_opened_by_hugging_face_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    tiny_gguf(&TINY, GgufType::F32).write(&path);
    check(&path, &TINY, CheckpointFormat::Gguf, &["tiny.gguf"]);
}

#[test]
fn gguf_is_known_by_its_first_bytes_whatever_it_is_called() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("download.safetensors");
    tiny_gguf(&TINY, GgufType::F32).write(&path);
    check(&path, &TINY, CheckpointFormat::Gguf, &["download.safetensors"]);
}

#[test]
fn each_type_is_mapped_as_it_stands_in_the_file() {
    for (file_dtype, dtype, stored) in [
        (FileDtype::F32, Dtype::F32, "F32"),
        (FileDtype::F16, Dtype::F16, "F16"),
        (FileDtype::Bf16, Dtype::Bf16, "BF16"),
    ] {
        let model = TinyModel { dtype: file_dtype, ..TINY };
        let folder = tiny_model(&model).in_temp_dir();
        check(folder.path(), &model, CheckpointFormat::Safetensors, &["model.safetensors"]);
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        assert_eq!(checkpoint.dtype(), dtype);
        let info = checkpoint.info("model.norm.weight").unwrap();
        assert_eq!(info.stored_dtype, stored);
        assert_eq!(checkpoint.load("model.norm.weight").unwrap().dtype(), dtype);
    }
}

#[test]
fn fingerprint_is_that_of_the_values_not_of_the_files() {
    let fingerprint = |model: &TinyModel| {
        let folder = tiny_model(model).in_temp_dir();
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        checkpoint.fingerprint(&JobCtx::detached()).unwrap()
    };
    let single = fingerprint(&TINY);
    assert_eq!(fingerprint(&TinyModel { sharded: true, ..TINY }), single);
    assert_ne!(fingerprint(&TinyModel { seed: 2, ..TINY }), single);
    assert_ne!(fingerprint(&TinyModel { dtype: FileDtype::Bf16, ..TINY }), single);
}

#[test]
fn gguf_has_the_fingerprint_of_the_f32_checkpoint_it_dequantises_to() {
    let folder = tiny_model(&TINY).in_temp_dir();
    let path = folder.path().join("tiny.gguf");
    tiny_gguf(&TINY, GgufType::F32).write(&path);
    let fingerprint =
        |path: &Path| Checkpoint::open(path).unwrap().fingerprint(&JobCtx::detached()).unwrap();
    assert_eq!(fingerprint(&path), fingerprint(folder.path()));
}

#[test]
fn unknown_tensor_is_missing_by_name() {
    let folder = tiny_model(&TINY).in_temp_dir();
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    assert!(checkpoint.info("lm_head.weight").is_none());
    let err = checkpoint.load("lm_head.weight").unwrap_err();
    assert!(matches!(&err, WeightsError::MissingTensor { name, .. } if name == "lm_head.weight"));
    assert!(err.to_string().ends_with(&format!("{:?}", folder.path())), "{err}");
}

#[test]
fn path_of_nothing_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nothing");
    let err = Checkpoint::open(&path).unwrap_err();
    assert!(matches!(&err, WeightsError::Read { path: named, .. } if *named == path), "{err:?}");
}

#[test]
fn folder_without_weights_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.json"), "{}").unwrap();
    let err = Checkpoint::open(folder.path()).unwrap_err();
    assert!(matches!(&err, WeightsError::NoWeights { path } if path == folder.path()), "{err:?}");
}

#[test]
fn files_of_other_kinds_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in [("model.bin", &b"PK\x03\x04"[..]), ("notes.txt", b"GG"), ("x", b"1")] {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        let err = Checkpoint::open(&path).unwrap_err();
        let is_refused = matches!(&err, WeightsError::UnknownFormat { path: p } if *p == path);
        assert!(is_refused, "{name}: {err:?}");
    }
}

/// Reading a pipe would wait for ever for somebody to write.
#[test]
fn named_pipe_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let status = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(status.success());
    for path in [path.as_path(), folder.path()] {
        let err = Checkpoint::open(path).unwrap_err();
        let is_refused =
            matches!(err, WeightsError::UnknownFormat { .. } | WeightsError::NoWeights { .. });
        assert!(is_refused, "{path:?}: {err:?}");
    }
    let index = json!({ "weight_map": { "a": "model.safetensors" } }).to_string();
    fs::write(folder.path().join("model.safetensors.index.json"), index).unwrap();
    let err = Checkpoint::open(folder.path()).unwrap_err();
    assert!(matches!(err, WeightsError::UnknownFormat { .. }), "{err:?}");
}

/// What a sharded folder with this index is refused with.
fn refusal(index: &str) -> WeightsError {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("model");
    tiny_model(&TinyModel { sharded: true, ..TINY }).write(&folder);
    fs::write(folder.join("model.safetensors.index.json"), index).unwrap();
    // Sound files lie where a hostile index could point to.
    let shard = folder.join("model-00001-of-00002.safetensors");
    fs::create_dir(folder.join("inner")).unwrap();
    fs::copy(&shard, folder.join("inner").join("a")).unwrap();
    fs::copy(&shard, temporary.path().join("outside.safetensors")).unwrap();
    Checkpoint::open(&folder).unwrap_err()
}

#[test]
fn index_may_only_name_files_of_its_own_folder() {
    for shard in ["../x", "../outside.safetensors", "/etc/hostname", "inner/a", "..", ".", "", "a/"]
    {
        let err = refusal(&json!({ "weight_map": { "a": shard } }).to_string());
        let WeightsError::Malformed { path, source } = &err else { panic!("{shard:?}: {err:?}") };
        assert!(path.ends_with("model.safetensors.index.json"), "{path:?}");
        let MalformedReason::ShardOutsideFolder { name } = source else { panic!("{err:?}") };
        assert_eq!(name, shard);
    }
}

#[test]
fn folder_in_place_of_a_shard_is_refused() {
    let err = refusal(&json!({ "weight_map": { "a": "inner" } }).to_string());
    assert!(matches!(&err, WeightsError::UnknownFormat { path } if path.ends_with("inner")));
}

#[test]
fn missing_shard_is_named() {
    let err = refusal(&json!({ "weight_map": { "a": "model-3.safetensors" } }).to_string());
    let WeightsError::Read { path, .. } = &err else { panic!("{err:?}") };
    assert!(path.ends_with("model-3.safetensors"), "{path:?}");
}

#[test]
fn tensor_that_its_shard_lacks_is_named() {
    let shard = "model-00001-of-00002.safetensors";
    let err = refusal(&json!({ "weight_map": { "a": shard } }).to_string());
    let expected = format!("the shard index promises tensor \"a\" in {shard:?}, where it is not");
    assert!(chain(&err).ends_with(&expected), "{}", chain(&err));
}

#[test]
fn index_of_another_form_is_refused() {
    for index in ["", "[]", "{}", r#"{"weight_map": []}"#, r#"{"weight_map": {"a": 1}}"#, "\u{0}"] {
        let err = refusal(index);
        let WeightsError::Malformed { path, source } = &err else { panic!("{index}: {err:?}") };
        assert!(path.ends_with("model.safetensors.index.json"), "{path:?}");
        assert!(matches!(source, MalformedReason::Index(_)), "{index}: {source:?}");
    }
}
