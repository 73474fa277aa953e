use std::fs;
use std::path::PathBuf;

use meav_test_support::{
    Gguf, GgufTensor, GgufType, GgufValue, TINY, TinyModel, assert_close, tiny_gguf, tolerance,
};
use meav_weights::{Checkpoint, Dtype, GgufFamily, MalformedReason, WeightsError};
use tempfile::TempDir;

use meav_test_support::chain;

fn write(bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    fs::write(&path, bytes).unwrap();
    (folder, path)
}

/// What a tiny GGUF is refused with after `change`.
fn refusal(change: impl FnOnce(&mut Gguf)) -> WeightsError {
    let mut gguf = tiny_gguf(&TINY, GgufType::F32);
    change(&mut gguf);
    let (_folder, path) = write(&gguf.bytes());
    Checkpoint::open(&path).unwrap_err()
}

/// Compares the chain of errors behind `malformed file "…": `.
#[track_caller]
fn check(change: impl FnOnce(&mut Gguf), expected: &str) {
    let err = refusal(change);
    let WeightsError::Malformed { path, source } = &err else { panic!("{err:?}") };
    assert!(path.ends_with("tiny.gguf"));
    let found = chain(source);
    assert!(found.starts_with(expected), "\n    {found}\nnot {expected}");
}

fn set(key: &str, value: GgufValue) -> impl FnOnce(&mut Gguf) {
    move |gguf| {
        gguf.metadata.insert(key.to_owned(), value);
    }
}

#[test]
fn dequantised_weights_are_the_original_ones() {
    let model = TinyModel { tie_word_embeddings: false, n_kv_heads: 1, ..TINY };
    for (kind, stored, tolerance) in
        [(GgufType::F32, "F32", 0.0), (GgufType::Q8_0, "Q8_0", tolerance::Q8_0)]
    {
        let (_folder, path) = write(&tiny_gguf(&model, kind).bytes());
        let checkpoint = Checkpoint::open(&path).unwrap();
        assert_eq!(checkpoint.dtype(), Dtype::F32);
        for tensor in model.tensors() {
            let weight = checkpoint.load(&tensor.name).unwrap();
            assert_eq!(weight.shape(), tensor.shape);
            assert_eq!(weight.dtype(), Dtype::F32);
            assert_close(&weight.to_f32_vec(), &tensor.values, tolerance);
        }
        let info = checkpoint.info("model.layers.1.self_attn.q_proj.weight").unwrap();
        assert_eq!(info.stored_dtype, stored);
    }
}

/// Rows of a real model are longer than what one task dequantises, or thousands of them shorter.
#[test]
fn large_tensors_are_put_together_from_many_tasks() {
    for shape in [[3, 70_016], [40_000, 32]] {
        let values: Vec<f32> = (0..shape[0] * shape[1]).map(|i| (i % 255) as f32 - 127.0).collect();
        let mut gguf = tiny_gguf(&TINY, GgufType::F32);
        let name = "output.weight".to_owned();
        gguf.tensors.push(GgufTensor::new(name, GgufType::Q8_0, &shape, &values));
        let (_folder, path) = write(&gguf.bytes());
        let found = Checkpoint::open(&path).unwrap().load("lm_head.weight").unwrap();
        // Within half a step of the coarsest block.
        assert_close(&found.to_f32_vec(), &values, 0.51);
    }
}

#[test]
fn metadata_is_read_by_type() {
    let (_folder, path) = write(&tiny_gguf(&TINY, GgufType::F32).bytes());
    let checkpoint = Checkpoint::open(&path).unwrap();
    let gguf = checkpoint.gguf().unwrap();
    assert_eq!(gguf.str("tokenizer.ggml.pre").unwrap(), "smollm");
    assert_eq!(gguf.usize("llama.block_count").unwrap(), 2);
    assert_eq!(gguf.f32("llama.rope.freq_base").unwrap(), 10_000.0);
    assert_eq!(gguf.array("tokenizer.ggml.merges").unwrap().len(), 41);
    for err in [
        gguf.str("llama.block_count").unwrap_err(),
        gguf.usize("llama.rope.freq_base").unwrap_err(),
        gguf.f32("llama.block_count").unwrap_err(),
        gguf.array("general.name").map(<[_]>::len).unwrap_err(),
        gguf.str("no.such.key").unwrap_err(),
    ] {
        let is_key =
            matches!(&err, WeightsError::Malformed { source: MalformedReason::GgufKey { .. }, .. });
        assert!(is_key, "{err:?}");
    }
}

#[test]
fn other_architectures_are_refused_by_name() {
    let err = refusal(set("general.architecture", GgufValue::Text("mamba".to_owned())));
    let WeightsError::UnsupportedArchitecture { architecture, path } = &err else {
        panic!("{err:?}")
    };
    assert_eq!(architecture, "mamba");
    for family in GgufFamily::ALL {
        assert!(err.to_string().contains(family.architecture()), "{err}");
    }
    assert!(err.to_string().ends_with(&format!("{path:?}")), "{err}");
}

#[test]
fn one_file_of_several_is_refused_with_the_way_out() {
    for count in [GgufValue::U32(3), GgufValue::U64(3)] {
        let err = refusal(set("split.count", count));
        assert!(
            matches!(&err, WeightsError::SplitGguf { parts: 3, path } if path.ends_with("tiny.gguf"))
        );
        assert!(err.to_string().ends_with("llama-gguf-split --merge"), "{err}");
    }
    let mut gguf = tiny_gguf(&TINY, GgufType::F32);
    set("split.count", GgufValue::U32(1))(&mut gguf);
    let (_folder, path) = write(&gguf.bytes());
    assert!(Checkpoint::open(&path).is_ok());
}

#[test]
fn missing_or_mistyped_keys_are_named() {
    let expected = "the GGUF metadata has no usable \"general.architecture\"";
    check(|gguf| drop(gguf.metadata.remove("general.architecture")), expected);
    check(set("general.architecture", GgufValue::U32(1)), expected);
    check(
        |gguf| drop(gguf.metadata.remove("llama.attention.head_count")),
        "the GGUF metadata has no usable \"llama.attention.head_count\"",
    );
}

#[test]
fn tensors_of_other_models_are_refused_by_name() {
    check(
        |gguf| gguf.tensors[3].name = "blk.0.ffn_gate_exps.weight".to_owned(),
        "tensor \"blk.0.ffn_gate_exps.weight\" is unknown in a model of this architecture",
    );
}

#[test]
fn heads_that_do_not_divide_the_rows_are_refused() {
    let expected = "tensor \"model.layers.0.self_attn.q_proj.weight\" has the impossible shape";
    for n_heads in [0, 3, 64, 1 << 40, 1 << 63, u64::MAX] {
        check(set("llama.attention.head_count", GgufValue::U64(n_heads)), expected);
    }
}

#[test]
fn impossible_shapes_are_refused() {
    let expected = "tensor \"model.embed_tokens.weight\" has the impossible shape";
    for shape in [
        vec![0, 64],
        vec![1 << 62, 4],
        vec![1 << 62],
        vec![u64::MAX],
        vec![1 << 40, 1 << 40],
        vec![1 << 32, 1 << 16, 1 << 16],
    ] {
        check(|gguf| gguf.tensors[0].shape = shape, expected);
    }
    check(
        |gguf| {
            gguf.tensors[0].kind = GgufType::Q8_0;
            gguf.tensors[0].shape = vec![2, 33];
        },
        expected,
    );
}

#[test]
fn tensors_beyond_the_file_are_cut_short() {
    check(
        |gguf| gguf.tensors[0].shape = vec![1 << 20, 64],
        "the file is cut short: tensor \"model.embed_tokens.weight\" ends at byte",
    );
}

/// Many tensors of the same bytes would make a small file fill the memory.
#[test]
fn tensors_that_share_bytes_are_refused() {
    let mut bytes = tiny_gguf(&TINY, GgufType::F32).bytes();
    let name = b"blk.0.attn_k.weight";
    let name_at = bytes.windows(name.len()).position(|window| window == name).unwrap();
    // Behind the name: the number of dimensions, two of them, and the type.
    let offset_at = name_at + name.len() + 4 + 2 * 8 + 4;
    let offset = u64::from_le_bytes(bytes[offset_at..][..8].try_into().unwrap());
    bytes[offset_at..][..8].copy_from_slice(&(offset - 32).to_le_bytes());
    let (_folder, path) = write(&bytes);
    let err = Checkpoint::open(&path).unwrap_err();
    assert!(chain(&err).ends_with("overlaps another one"), "{err:?}");
}

/// The file may choose where tensors begin; three of four such places are misaligned.
#[test]
fn misaligned_tensors_are_refused() {
    let results: Vec<_> = (0..4)
        .map(|len| {
            let mut gguf = tiny_gguf(&TINY, GgufType::F32);
            gguf.metadata.insert("general.name".to_owned(), GgufValue::Text("x".repeat(len)));
            gguf.metadata.insert("general.alignment".to_owned(), GgufValue::U32(1));
            let (_folder, path) = write(&gguf.bytes());
            let checkpoint = Checkpoint::open(&path)?;
            checkpoint.load("model.embed_tokens.weight")
        })
        .collect();
    let is_misaligned = |result: &&Result<_, _>| {
        matches!(
            result,
            Err(WeightsError::Malformed { source: MalformedReason::Misaligned { .. }, .. })
        )
    };
    assert_eq!(results.iter().filter(is_misaligned).count(), 3, "{results:?}");
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
}

#[test]
fn alignment_of_zero_is_refused() {
    check(set("general.alignment", GgufValue::U32(0)), "the GGUF header is invalid");
}

#[test]
fn versions_and_types_of_the_future_are_refused() {
    let mut bytes = tiny_gguf(&TINY, GgufType::F32).bytes();
    bytes[4] = 9;
    let (_folder, path) = write(&bytes);
    let err = Checkpoint::open(&path).unwrap_err();
    let is_header =
        matches!(&err, WeightsError::Malformed { source: MalformedReason::Gguf(_), .. });
    assert!(is_header, "{err:?}");
}

/// Every place inside the header, and some inside the values.
#[test]
fn file_cut_short_anywhere_is_refused_by_name() {
    let model = TinyModel { n_layers: 1, ..TINY };
    let bytes = tiny_gguf(&model, GgufType::F32).bytes();
    let n_values: usize = model.tensors().iter().map(|tensor| tensor.values.len()).sum();
    let header_len = bytes.len() - 4 * n_values;
    let in_header = (0..header_len).step_by(13);
    let in_values = (header_len..bytes.len()).step_by(7919);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.gguf");
    for len in in_header.chain(in_values).chain([1, 2, 3, 4, bytes.len() - 1]) {
        fs::write(&path, &bytes[..len]).unwrap();
        match Checkpoint::open(&path) {
            Err(WeightsError::Malformed { path: named, .. }) => assert_eq!(named, path),
            other => panic!("cut at {len}: {other:?}"),
        }
    }
}
