use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use meav_job::{CancelToken, JobCtx};
use meav_model::{
    Config, Decoder, GgufExport, GgufExportError, ModelFiles, RopeScaling, vocabulary_fingerprint,
};
use meav_test_support::{
    FamilyCase, Gguf, GgufType as FileType, GgufValue as FileValue, ModelFolder, TINY, TinyModel,
    assert_close, families, special, tiny_gguf, tiny_model, tolerance,
};
use meav_weights::{Dtype, GgufTensor, GgufType, Weight, WeightsError, write_file_atomically};
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use crate::{Running, load, some_tokens};

fn write(
    files: &ModelFiles,
    export: &GgufExport,
    path: &Path,
    job: &JobCtx<'_>,
) -> Result<(), WeightsError> {
    write_file_atomically(path, |file| {
        export.write(file, path, |name| files.checkpoint.load(name), job)
    })
}

/// The model as it comes out of the GGUF that is made of it.
fn exported(files: &ModelFiles, kind: GgufType) -> Running {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("exported.gguf");
    let export = GgufExport::new(files, "Tiny", kind).unwrap();
    write(files, &export, &path, &JobCtx::detached()).unwrap();
    let files = ModelFiles::open(&path).unwrap();
    let tensors = load(&files, Dtype::F32);
    let decoder = Decoder::new(&files.config, &tensors).unwrap();
    Running { files, tensors, decoder, _folder: folder }
}

fn refusal(model: &ModelFolder) -> String {
    let folder = model.in_temp_dir();
    let files = ModelFiles::open(folder.path()).unwrap();
    GgufExport::new(&files, "Tiny", GgufType::F16).unwrap_err().to_string()
}

/// As the fixture has it, but Gemma with what llama.cpp assumes of it.
fn model(case: &FamilyCase) -> ModelFolder {
    let mut model = case.model();
    if model.config.get("query_pre_attn_scalar").is_some() {
        model.config["query_pre_attn_scalar"] = model.config["head_dim"].clone();
        model.config.as_object_mut().unwrap().remove("sliding_window_pattern");
    }
    model
}

/// Equal, but for what a GGUF says in other words.
#[track_caller]
fn assert_same_config(found: &Config, expected: &Config, name: &str) {
    let mut found = found.clone();
    match (&mut found.rope_scaling, &expected.rope_scaling) {
        (RopeScaling::Factors(factors), scaling @ RopeScaling::Llama3 { .. }) => {
            assert_eq!(factors.len(), expected.rotary_dim / 2);
            found.rope_scaling = scaling.clone();
        }
        (
            RopeScaling::LongRope { attention_factor: found, .. },
            RopeScaling::LongRope { attention_factor: expected, .. },
        ) => {
            // Single precision in the file.
            assert!((*found / expected - 1.0).abs() < 1e-6, "{name}");
            *found = *expected;
        }
        _ => {}
    }
    assert_eq!(found.family.gguf_architecture(), expected.family.gguf_architecture());
    found.family = expected.family;
    assert_eq!(&found, expected, "{name}");
}

#[test]
fn every_family_says_the_same_from_its_gguf() {
    let mut architectures = BTreeSet::new();
    let mut refused = Vec::new();
    for case in &families().cases {
        let folder = Running::of(&model(case));
        if let Err(err) = GgufExport::new(&folder.files, "Tiny", GgufType::F32) {
            refused.push(format!("{}: {err}", case.name));
            continue;
        }
        let gguf = exported(&folder.files, GgufType::F32);
        assert_same_config(&gguf.files.config, &folder.files.config, &case.name);
        let tokens = &families().tokens;
        let found = gguf.logits(tokens, &mut gguf.cache());
        let expected = folder.logits(tokens, &mut folder.cache());
        assert_close(&found, &expected, tolerance::F32_LOGITS);
        architectures.insert(folder.files.config.family.gguf_architecture());
    }
    assert_eq!(
        refused,
        ["qwen2 with window: llama.cpp does not compute sliding windows of a qwen2 model"]
    );
    assert_eq!(architectures.len(), meav_weights::GgufFamily::ALL.len());
}

#[test]
fn everything_beside_the_weights_comes_along() {
    let folder = Running::tiny(&TINY);
    let gguf = exported(&folder.files, GgufType::F32);
    assert_eq!(gguf.files.chat_template, folder.files.chat_template);
    let (a, b) = (&gguf.files.special, &folder.files.special);
    assert_eq!((&a.bos, &a.eos, a.bos_id), (&b.bos, &b.eos, b.bos_id));
    assert_eq!(a.stop, b.stop);
    assert_eq!(a.stop, [special::END_OF_TEXT, special::IM_END]);
    let fingerprint = |files: &ModelFiles| vocabulary_fingerprint(&files.tokenizer);
    assert_eq!(fingerprint(&gguf.files), fingerprint(&folder.files));
    let tokens = some_tokens(40);
    let found = gguf.logits(&tokens, &mut gguf.cache());
    assert!(found == folder.logits(&tokens, &mut folder.cache()));
}

/// What is in front of each text and behind it, through every form of the model.
#[test]
fn ends_of_a_text_come_along() {
    let token = |id: u32, token: &str| {
        (json!({ "SpecialToken": { "id": token, "type_id": 0 } }), (token.to_owned(), id))
    };
    let (begin, end) =
        (token(special::IM_START, "<|im_start|>"), token(special::IM_END, "<|im_end|>"));
    let text = json!({ "Sequence": { "id": "A", "type_id": 0 } });
    for ends in [[true, false], [true, true], [false, true], [false, false]] {
        let [has_begin, has_end] = ends;
        let mut model = tiny_model(&TINY);
        let mut single = vec![text.clone()];
        if has_begin {
            single.insert(0, begin.0.clone());
        }
        if has_end {
            single.push(end.0.clone());
        }
        let special: serde_json::Map<_, _> = [&begin.1, &end.1]
            .map(|(token, id)| {
                (token.clone(), json!({ "id": token, "ids": [id], "tokens": [token] }))
            })
            .into_iter()
            .collect();
        model.tokenizer["post_processor"] = json!({
            "type": "TemplateProcessing", "single": single, "pair": single,
            "special_tokens": special,
        });
        for _ in 0..2 {
            let gguf = exported(&Running::of(&model).files, GgufType::F32).files;
            let metadata = gguf.checkpoint.gguf().unwrap();
            let found = ["bos", "eos"]
                .map(|end| metadata.bool(&format!("tokenizer.ggml.add_{end}_token")).unwrap());
            assert_eq!(found, ends);
            let encoded =
                |add_special| gguf.tokenizer.encode("he", add_special).unwrap().get_ids().to_vec();
            let mut expected = encoded(false);
            assert_eq!(expected.len(), 1);
            if has_begin {
                expected.insert(0, special::IM_START);
            }
            if has_end {
                expected.push(special::IM_END);
            }
            assert_eq!(encoded(true), expected);
            // As a folder has it that is made of the GGUF.
            model.tokenizer =
                serde_json::from_str(&gguf.tokenizer.to_string(true).unwrap()).unwrap();
        }
    }
}

/// Llama 3.1 has three tokens that end an answer; none of these is known by its text.
#[test]
fn three_tokens_that_end_an_answer_come_along() {
    let mut model = tiny_model(&TINY);
    model.generation_config["eos_token_id"] = json!([40, 50, special::IM_END]);
    let folder = Running::of(&model);
    let found = exported(&folder.files, GgufType::F32).files.special;
    assert_eq!(folder.files.special.stop, [special::IM_END, 40, 50]);
    assert!([special::IM_END, 40, 50].iter().all(|id| found.stop.contains(id)), "{found:?}");
    assert_eq!(found.eos.as_deref(), Some("<|im_end|>"));
}

/// Its text model has a prefix in the folder and none in the GGUF; the other networks stay behind.
#[test]
fn gemma_that_sees_is_exported_without_its_eyes() {
    let mut text = model(families().case("gemma3"));
    let expected = Running::of(&text);
    for tensor in &mut text.tensors {
        tensor.name.insert_str(0, "language_model.");
    }
    let mut eye = text.tensors[0].clone();
    "vision_tower.encoder.weight".clone_into(&mut eye.name);
    text.tensors.push(eye);
    let mut inner = text.config.clone();
    inner["model_type"] = "gemma3_text".into();
    text.config = json!({ "model_type": "gemma3", "vision_config": {}, "text_config": inner });
    let folder = text.in_temp_dir();
    let files = ModelFiles::open(folder.path()).unwrap();
    let gguf = exported(&files, GgufType::F32);
    let names = |running: &Running| -> Vec<String> {
        running.files.weight_names().into_iter().map(str::to_owned).collect()
    };
    assert_eq!(names(&gguf), names(&expected));
    let tokens = some_tokens(20);
    let found = gguf.logits(&tokens, &mut gguf.cache());
    let expected = expected.logits(&tokens, &mut expected.cache());
    assert_close(&found, &expected, tolerance::F32_LOGITS);
}

#[test]
fn coarser_types_say_nearly_the_same() {
    let folder = Running::tiny(&TINY);
    let tokens = some_tokens(40);
    let expected = folder.logits(&tokens, &mut folder.cache());
    for (kind, stored, file_type, tolerance) in [
        (GgufType::F16, "F16", 1, 1e-2),
        (GgufType::Bf16, "BF16", 32, tolerance::Q8_0_LOGITS),
        (GgufType::Q8_0, "Q8_0", 7, tolerance::Q8_0_LOGITS),
    ] {
        let gguf = exported(&folder.files, kind);
        let checkpoint = &gguf.files.checkpoint;
        let stored_dtype = |name| checkpoint.info(name).unwrap().stored_dtype;
        assert_eq!(stored_dtype("model.layers.1.mlp.down_proj.weight"), stored);
        assert_eq!(stored_dtype("model.norm.weight"), "F32");
        let metadata = checkpoint.gguf().unwrap();
        assert_eq!(metadata.usize("general.file_type").unwrap(), file_type);
        let found = gguf.logits(&tokens, &mut gguf.cache());
        assert_close(&found, &expected, tolerance);
        assert_ne!(found, expected, "{stored} changes nothing");
    }
}

/// What llama.cpp needs, by its names.
#[test]
fn metadata_are_those_of_llama_cpp() {
    let folder = tiny_model(&TINY).in_temp_dir();
    let files = ModelFiles::open(folder.path()).unwrap();
    let export = GgufExport::new(&files, "Name", GgufType::Q8_0).unwrap();
    let values: BTreeMap<&str, String> =
        export.metadata().iter().map(|(key, value)| (key.as_str(), format!("{value:?}"))).collect();
    for (key, expected) in [
        ("general.architecture", "String(\"llama\")"),
        ("general.name", "String(\"Name\")"),
        ("general.file_type", "U32(7)"),
        ("general.quantization_version", "U32(2)"),
        ("llama.vocab_size", "U32(300)"),
        ("llama.context_length", "U32(256)"),
        ("llama.embedding_length", "U32(64)"),
        ("llama.block_count", "U32(2)"),
        ("llama.feed_forward_length", "U32(96)"),
        ("llama.attention.head_count", "U32(4)"),
        ("llama.attention.head_count_kv", "U32(2)"),
        ("llama.attention.key_length", "U32(16)"),
        ("llama.attention.value_length", "U32(16)"),
        ("llama.attention.layer_norm_rms_epsilon", "F32(1e-5)"),
        ("llama.rope.dimension_count", "U32(16)"),
        ("llama.rope.freq_base", "F32(10000.0)"),
        ("tokenizer.ggml.model", "String(\"gpt2\")"),
        ("tokenizer.ggml.pre", "String(\"smollm\")"),
        ("tokenizer.ggml.bos_token_id", "U32(1)"),
        ("tokenizer.ggml.eos_token_id", "U32(2)"),
        ("tokenizer.ggml.eot_token_id", "U32(0)"),
        ("tokenizer.ggml.add_bos_token", "Bool(false)"),
    ] {
        assert_eq!(values.get(key).map(String::as_str), Some(expected), "{key}");
    }
    assert_eq!(export.metadata()[0].0, "general.architecture");
    assert_eq!(values.len(), export.metadata().len(), "a key stands twice");
    let names: BTreeSet<&str> = export.tensors().map(GgufTensor::name).collect();
    assert!(names.contains("blk.1.attn_output.weight"));
    assert!(!names.contains("output.weight"), "the embeddings are there twice");
}

#[test]
fn padding_token_is_written_where_there_is_one() {
    let mut model = tiny_model(&TINY);
    for (token, expected) in [
        (json!("<|endoftext|>"), Some(0)),
        (json!({ "content": "<|im_end|>" }), Some(2)),
        (json!("nothing"), None),
        (Json::Null, None),
    ] {
        model.tokenizer_config["pad_token"] = token;
        let folder = model.in_temp_dir();
        let files = ModelFiles::open(folder.path()).unwrap();
        let export = GgufExport::new(&files, "Tiny", GgufType::F32).unwrap();
        let key = "tokenizer.ggml.padding_token_id";
        let found = export.metadata().iter().find(|(found, _)| found == key);
        assert_eq!(found.map(|(_, id)| id.to_u32().unwrap()), expected);
    }
}

fn opened(gguf: &Gguf) -> (TempDir, PathBuf, ModelFiles) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("source.gguf");
    gguf.write(&path);
    let files = ModelFiles::open(&path).unwrap();
    (folder, path, files)
}

#[test]
fn metadata_of_a_gguf_are_kept_where_they_are_still_true() {
    let mut gguf = tiny_gguf(&TINY, FileType::Q8_0);
    for (key, value) in [
        ("general.license", FileValue::Text("apache-2.0".to_owned())),
        ("general.file_type", FileValue::U32(3)),
        ("general.alignment", FileValue::U32(32)),
        ("llama.of.the.future", FileValue::U64(1 << 40)),
        ("quantize.imatrix.file", FileValue::Text("x".to_owned())),
        ("tokenizer.ggml.of.the.future", FileValue::F32s(vec![0.5])),
    ] {
        gguf.metadata.insert(key.to_owned(), value);
    }
    let (_folder, _, files) = opened(&gguf);
    let export = GgufExport::new(&files, "Tiny again", GgufType::Bf16).unwrap();
    let get = |key: &str| {
        let found = export.metadata().iter().find(|(found, _)| found == key);
        found.map(|(_, value)| format!("{value:?}"))
    };
    let source = files.checkpoint.gguf().unwrap();
    for (key, value) in source.metadata() {
        let expected = match key {
            "general.name" => Some("String(\"Tiny again\")".to_owned()),
            "general.file_type" => Some("U32(32)".to_owned()),
            "general.alignment" | "quantize.imatrix.file" => None,
            _ => Some(format!("{value:?}")),
        };
        assert_eq!(get(key), expected, "{key}");
    }
    let running = exported(&files, GgufType::F32);
    assert_eq!(running.files.config, files.config);
    for name in files.weight_names() {
        let values = |files: &ModelFiles| files.checkpoint.load(name).unwrap().to_f32_vec();
        assert!(values(&running.files) == values(&files), "{name}");
    }
    let fingerprint = |files: &ModelFiles| vocabulary_fingerprint(&files.tokenizer);
    assert_eq!(fingerprint(&running.files), fingerprint(&files));
}

#[test]
fn rotary_factors_of_a_gguf_come_along() {
    let mut gguf = tiny_gguf(&TINY, FileType::F32);
    let factors = [1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 8.0];
    let name = "rope_freqs.weight".to_owned();
    let tensor = meav_test_support::GgufTensor::new(name, FileType::F32, &[8], &factors);
    gguf.tensors.push(tensor);
    let (_folder, _, files) = opened(&gguf);
    let found = exported(&files, GgufType::Q8_0).files.config.rope_scaling;
    assert_eq!(found, RopeScaling::Factors(factors.to_vec()));
}

#[test]
fn networks_that_llama_cpp_computes_otherwise_are_refused() {
    let case = |name: &str| model(families().case(name));
    let mut gemma = case("gemma3");
    gemma.config["query_pre_attn_scalar"] = 24.into();
    let expected = "llama.cpp does not compute query_pre_attn_scalar of a gemma3 model";
    assert_eq!(refusal(&gemma), expected);
    for family in ["gemma2", "gemma3"] {
        let mut gemma = case(family);
        gemma.config["layer_types"] = json!(vec!["full_attention"; 4]);
        let expected = format!("llama.cpp does not compute sliding windows of a {family} model");
        assert_eq!(refusal(&gemma), expected);
    }
    let mut untied = case("gemma2");
    untied.config["tie_word_embeddings"] = false.into();
    let mut output = untied.tensors[0].clone();
    let embeddings = untied.tensors.iter().find(|tensor| tensor.name.contains("embed")).unwrap();
    output.clone_from(embeddings);
    "lm_head.weight".clone_into(&mut output.name);
    untied.tensors.push(output);
    let expected = "tensor \"lm_head.weight\" has no place in a GGUF of architecture \"gemma2\"";
    assert_eq!(refusal(&untied), expected);
}

#[test]
fn tokenizers_that_no_gguf_holds_are_refused() {
    let mut model = tiny_model(&TINY);
    model.tokenizer["normalizer"] = json!({ "type": "Lowercase" });
    let folder = model.in_temp_dir();
    let files = ModelFiles::open(folder.path()).unwrap();
    let err = GgufExport::new(&files, "Tiny", GgufType::F16).unwrap_err();
    assert!(matches!(err, GgufExportError::Tokenizer), "{err:?}");
}

#[test]
fn other_weights_of_the_same_shapes_may_be_written() {
    let (ours, theirs) = (Running::tiny(&TINY), Running::tiny(&TinyModel { seed: 2, ..TINY }));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.gguf");
    let export = GgufExport::new(&ours.files, "Other", GgufType::F32).unwrap();
    write(&theirs.files, &export, &path, &JobCtx::detached()).unwrap();
    let found = ModelFiles::open(&path).unwrap();
    let name = "model.layers.1.self_attn.k_proj.weight";
    let values = |files: &ModelFiles| files.checkpoint.load(name).unwrap().to_f32_vec();
    assert_eq!(values(&found), values(&theirs.files));
    assert_ne!(values(&found), values(&ours.files));

    let wrong = write_file_atomically(&path, |file| {
        let weight = |_: &str| Ok(Weight::from_f32(vec![1], vec![0.0]));
        export.write(file, &path, weight, &JobCtx::detached())
    });
    assert!(matches!(wrong, Err(WeightsError::WrongSize { .. })), "{wrong:?}");
    assert!(ModelFiles::open(&path).is_ok(), "the file before is gone");
}

#[test]
fn cancelled_export_leaves_no_file() {
    let running = Running::tiny(&TINY);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cancelled.gguf");
    let export = GgufExport::new(&running.files, "Tiny", GgufType::F32).unwrap();
    let cancel = CancelToken::default();
    let on_progress = |progress: meav_job::Progress| {
        if progress.done == 3 {
            cancel.cancel();
        }
    };
    let job = JobCtx::new(cancel.clone(), &on_progress);
    let err = write(&running.files, &export, &path, &job).unwrap_err();
    assert!(matches!(err, WeightsError::Cancelled(_)), "{err:?}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn windows_that_llama_cpp_leaves_out_are_told() {
    let noted: BTreeSet<_> = (families().cases.iter())
        .filter_map(|case| {
            let running = Running::of(&model(case));
            let export = GgufExport::new(&running.files, "Tiny", GgufType::F32).ok()?;
            let notes = export.notes();
            if let [note] = notes {
                assert!(note.starts_with("llama.cpp leaves out the attention window"), "{note}");
            }
            (!notes.is_empty()).then_some(running.files.config.family.model_type())
        })
        .collect();
    assert_eq!(noted, BTreeSet::from(["mistral", "phi3"]));
}
