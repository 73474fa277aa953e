use std::fs::{self, File};
use std::path::Path;

use meav_test_support::{TINY, TinyModel, assert_close, tolerance};
use meav_weights::{
    Checkpoint, GgufFamily, GgufHeads, GgufTensor, GgufType, GgufValue, GgufWriter,
    MalformedReason, Weight, WeightsError, write_file_atomically,
};
use proptest::prelude::*;

const HEADS: GgufHeads = GgufHeads { query: 4, key: 2 };

fn metadata(family: GgufFamily) -> Vec<(String, GgufValue)> {
    let architecture = family.architecture();
    let key = |key: &str| format!("{architecture}.{key}");
    vec![
        ("general.architecture".to_owned(), GgufValue::String(architecture.to_owned())),
        (key("attention.head_count"), GgufValue::U32(4)),
        (key("attention.head_count_kv"), GgufValue::U32(2)),
        ("general.name".to_owned(), GgufValue::String("naïve".to_owned())),
        ("one".to_owned(), GgufValue::I64(-1)),
        ("two".to_owned(), GgufValue::F64(0.5)),
        ("three".to_owned(), GgufValue::Bool(true)),
        ("scores".to_owned(), list([1.5, -2.0].map(GgufValue::F32))),
        ("tokens".to_owned(), list(["a", "é"].map(|text| GgufValue::String(text.to_owned())))),
        ("none".to_owned(), GgufValue::Array(Vec::new())),
    ]
}

fn list<const N: usize>(values: [GgufValue; N]) -> GgufValue {
    GgufValue::Array(values.into())
}

fn write(
    path: &Path,
    family: GgufFamily,
    weights: &[(String, Weight)],
    kind: GgufType,
) -> Result<Vec<GgufTensor>, WeightsError> {
    let tensors: Vec<_> = weights
        .iter()
        .map(|(name, weight)| family.tensor(name, weight.shape(), HEADS, kind))
        .collect::<Result<_, _>>()?;
    write_file_atomically(path, |file| {
        let mut writer = GgufWriter::new(file, path, &metadata(family), tensors.clone())?;
        for (tensor, (_, weight)) in tensors.iter().zip(weights) {
            writer.push(&tensor.encode(weight)?)?;
        }
        writer.finish()
    })?;
    Ok(tensors)
}

fn tiny_weights() -> Vec<(String, Weight)> {
    let model = TinyModel { tie_word_embeddings: false, ..TINY };
    let weight = |tensor: meav_test_support::Tensor| {
        (tensor.name, Weight::from_f32(tensor.shape, tensor.values))
    };
    model.tensors().into_iter().map(weight).collect()
}

#[test]
fn what_is_written_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new").join("tiny.gguf");
    for (kind, tolerance) in [
        (GgufType::F32, 0.0),
        (GgufType::F16, 1e-3),
        (GgufType::Bf16, 1e-2),
        (GgufType::Q8_0, tolerance::Q8_0),
    ] {
        let weights = tiny_weights();
        let tensors = write(&path, GgufFamily::Llama, &weights, kind).unwrap();
        let checkpoint = Checkpoint::open(&path).unwrap();
        assert_eq!(checkpoint.names().len(), weights.len());
        for ((name, weight), tensor) in weights.iter().zip(&tensors) {
            let is_norm = weight.shape().len() == 1;
            assert_eq!(tensor.kind(), if is_norm { GgufType::F32 } else { kind });
            let found = checkpoint.load(name).unwrap();
            assert_eq!(found.shape(), weight.shape());
            let tolerance = if is_norm { 0.0 } else { tolerance };
            assert_close(&found.to_f32_vec(), &weight.to_f32_vec(), tolerance);
            // Written a second time, the same bytes come out: nothing wears off.
            assert_eq!(tensor.encode(&found).unwrap(), tensor.encode(weight).unwrap());
        }
        let gguf = checkpoint.gguf().unwrap();
        for (key, value) in metadata(GgufFamily::Llama) {
            assert_eq!(format!("{:?}", gguf.get(&key).unwrap()), format!("{value:?}"));
        }
        assert_eq!(gguf.metadata().count(), metadata(GgufFamily::Llama).len());
    }
}

#[test]
fn norms_of_gemma_come_back_from_one_more() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gemma.gguf");
    let values = vec![0.5, -0.25, 3.0, 0.0];
    let weights = [("model.norm.weight".to_owned(), Weight::from_f32(vec![4], values.clone()))];
    let tensors = write(&path, GgufFamily::Gemma3, &weights, GgufType::Bf16).unwrap();
    let plus_one: Vec<u8> =
        values.iter().flat_map(|value| (value + 1.0_f32).to_le_bytes()).collect();
    assert_eq!(tensors[0].encode(&weights[0].1).unwrap(), plus_one);
    let found = Checkpoint::open(&path).unwrap().load("model.norm.weight").unwrap();
    assert_eq!(found.to_f32_vec(), values);
}

/// Larger than what one task converts, in heads and out of them, from each type.
#[test]
fn large_tensors_are_put_together_from_many_tasks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.gguf");
    for (name, shape) in [
        ("lm_head.weight", [3, 70_016]),
        ("lm_head.weight", [40_000, 32]),
        ("model.layers.0.self_attn.q_proj.weight", [4_000, 32]),
        ("model.layers.0.self_attn.k_proj.weight", [12, 10_016]),
    ] {
        let values: Vec<f32> = (0..shape[0] * shape[1]).map(|i| (i % 127) as f32).collect();
        for dtype in [meav_weights::Dtype::F32, meav_weights::Dtype::F16, meav_weights::Dtype::Bf16]
        {
            let weight = Weight::from_f32(shape.to_vec(), values.clone()).to_dtype(dtype);
            let weights = [(name.to_owned(), weight)];
            write(&path, GgufFamily::Llama, &weights, GgufType::F16).unwrap();
            let found = Checkpoint::open(&path).unwrap().load(name).unwrap();
            assert_eq!(found.to_f32_vec(), values, "{name} from {dtype}");
        }
    }
}

#[test]
fn rows_that_are_no_whole_number_of_blocks_become_half_precision() {
    let kind = |shape: &[usize]| {
        GgufFamily::Llama.tensor("lm_head.weight", shape, HEADS, GgufType::Q8_0).unwrap().kind()
    };
    assert_eq!(kind(&[4, 64]), GgufType::Q8_0);
    assert_eq!(kind(&[32, 33]), GgufType::F16);
    assert_eq!(kind(&[64]), GgufType::F32);
}

#[test]
fn tensors_without_a_place_are_refused_by_name() {
    let refusal = |name, shape: &[usize]| {
        GgufFamily::Llama.tensor(name, shape, HEADS, GgufType::F16).unwrap_err().to_string()
    };
    let expected =
        |name| format!("tensor {name:?} has no place in a GGUF of architecture \"llama\"");
    let unknown = "model.layers.0.mlp.experts.0.weight";
    assert_eq!(refusal(unknown, &[2, 2]), expected(unknown));
    // Ten rows are no four heads, and four rows are four heads without halves.
    let q = "model.layers.0.self_attn.q_proj.weight";
    for rows in [0, 4, 10] {
        assert_eq!(refusal(q, &[rows, 2]), expected(q));
    }
}

#[test]
fn values_of_another_size_than_announced_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    let tensor = |name| GgufFamily::Qwen2.tensor(name, &[2, 3], HEADS, GgufType::F16).unwrap();
    let announced = vec![tensor("lm_head.weight"), tensor("model.embed_tokens.weight")];
    let check = |tensors: &[&[u8]], expected: &str| {
        let result = write_file_atomically(&path, |file| {
            let mut writer = GgufWriter::new(file, &path, &[], announced.clone())?;
            for bytes in tensors {
                writer.push(bytes)?;
            }
            writer.finish()
        });
        assert_eq!(result.unwrap_err().to_string(), expected);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "something was left");
    };
    check(&[&[0; 7]], "tensor \"output.weight\" was announced with 12 bytes and came with 7");
    check(
        &[&[0; 12], &[]],
        "tensor \"token_embd.weight\" was announced with 12 bytes and came with 0",
    );
    check(
        &[&[0; 12], &[0; 12], &[0; 1]],
        "tensor \"(none)\" was announced with 0 bytes and came with 1",
    );
    check(&[&[0; 12]], &format!("tensor \"token_embd.weight\" is missing from {path:?}"));
    let weight = Weight::from_f32(vec![3, 2], vec![0.0; 6]);
    assert!(matches!(announced[0].encode(&weight), Err(WeightsError::WrongSize { .. })));
}

#[test]
fn headers_that_no_file_can_have_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    let refusal = |metadata: &[(String, GgufValue)], tensors: Vec<GgufTensor>| {
        let mut file = File::create(&path).unwrap();
        match GgufWriter::new(&mut file, &path, metadata, tensors).unwrap_err() {
            WeightsError::Malformed { source, .. } => source,
            err => panic!("{err:?}"),
        }
    };
    let key = |value| vec![("key".to_owned(), value)];
    let mixed = list([GgufValue::U32(1), GgufValue::I32(1)]);
    let nested = list([GgufValue::Array(Vec::new())]);
    let twice = [key(GgufValue::U8(1)), key(GgufValue::U8(2))].concat();
    for metadata in [key(mixed), key(nested), twice] {
        let reason = refusal(&metadata, vec![]);
        assert!(matches!(&reason, MalformedReason::GgufKey { key } if key == "key"), "{reason:?}");
    }
    let tensor = |shape: &[usize]| {
        GgufFamily::Qwen2.tensor("lm_head.weight", shape, HEADS, GgufType::F32).unwrap()
    };
    let reason = refusal(&[], vec![tensor(&[2]), tensor(&[2])]);
    assert!(matches!(reason, MalformedReason::DuplicateTensor { .. }));
    for shape in [&[0, 2][..], &[1, 1, 1, 1, 1], &[1 << 40, 1 << 40], &[usize::MAX / 4, 1]] {
        let reason = refusal(&[], vec![tensor(shape)]);
        assert!(matches!(reason, MalformedReason::Shape { .. }), "{shape:?}: {reason:?}");
    }
    assert_eq!(tensor(&[0, 2]).encode(&Weight::from_f32(vec![0, 2], vec![])).unwrap(), b"");
    assert_eq!(tensor(&[2, 0]).encode(&Weight::from_f32(vec![2, 0], vec![])).unwrap(), b"");
}

#[test]
fn full_disk_is_reported_with_the_files_name() {
    let mut file = File::options().write(true).open("/dev/full").unwrap();
    let path = Path::new("tiny.gguf");
    let err = GgufWriter::new(&mut file, path, &[], vec![]).unwrap_err();
    let WeightsError::Write { path: named, source } = &err else { panic!("{err:?}") };
    assert_eq!(named, path);
    assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
}

proptest! {
    #[test]
    fn any_values_come_back_within_half_a_step(
        scale in -20_i32..15,
        values in proptest::collection::vec(-1.0_f32..1.0, 64),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("any.gguf");
        let values: Vec<f32> = values.iter().map(|value| value * 2.0_f32.powi(scale)).collect();
        let weights = [("lm_head.weight".to_owned(), Weight::from_f32(vec![2, 32], values.clone()))];
        write(&path, GgufFamily::Llama, &weights, GgufType::Q8_0).unwrap();
        let found = Checkpoint::open(&path).unwrap().load("lm_head.weight").unwrap().to_f32_vec();
        for (found, values) in found.chunks(32).zip(values.chunks(32)) {
            let largest = values.iter().fold(0.0_f32, |max, value| max.max(value.abs()));
            // Half a step of the scale, and the scale's own rounding over 127 steps; below
            // 6e-8 half precision has no scale at all.
            let allowed = largest * (0.5 / 127.0 + 1.0 / 2048.0) + 127.0 * 6e-8;
            for (found, value) in found.iter().zip(values) {
                prop_assert!((found - value).abs() <= allowed, "{found} for {value}");
            }
        }
    }
}
