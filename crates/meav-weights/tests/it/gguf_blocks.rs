use std::collections::BTreeSet;
use std::fs;

use meav_test_support::{Gguf, GgufTensor, GgufType as FileType, TINY, tiny_gguf};
use meav_weights::{Checkpoint, GgufFamily, GgufHeads, GgufType, Weight};
use serde_json::Value as Json;

/// What the Python package gguf makes of blocks of each type.
const BLOCKS: &str = include_str!("../../../meav-test-support/fixtures/gguf_blocks.json");

fn fixture() -> Json {
    serde_json::from_str(BLOCKS).unwrap()
}

fn hex(text: &Json) -> Vec<u8> {
    let text = text.as_str().unwrap();
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

fn floats(values: &Json) -> Vec<f32> {
    values.as_array().unwrap().iter().map(|value| value.as_f64().unwrap() as f32).collect()
}

/// A file with one matrix of `bytes`, in rows of one block.
fn with_output(id: u32, shape: [u64; 2], bytes: Vec<u8>) -> Gguf {
    let mut gguf = tiny_gguf(&TINY, FileType::F32);
    let (name, kind) = ("output.weight".to_owned(), FileType::Other(id));
    gguf.tensors.push(GgufTensor { name, kind, shape: shape.to_vec(), bytes });
    gguf
}

#[test]
fn blocks_of_each_type_are_read_as_gguf_reads_them() {
    let fixture = fixture();
    let cases = fixture["decoded"].as_array().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("blocks.gguf");
    let mut names = BTreeSet::new();
    for case in cases {
        let expected = floats(&case["values"]);
        let id = case["type"].as_u64().unwrap() as u32;
        with_output(id, [2, expected.len() as u64 / 2], hex(&case["bytes"])).write(&path);
        let checkpoint = Checkpoint::open(&path).unwrap();
        let name = case["name"].as_str().unwrap();
        assert_eq!(checkpoint.info("lm_head.weight").unwrap().stored_dtype, name);
        let found = checkpoint.load("lm_head.weight").unwrap().to_f32_vec();
        assert_eq!(found.len(), expected.len());
        // Products of small integers and half precision numbers, summed once.
        let largest = expected.iter().fold(0.0_f32, |max, value| max.max(value.abs()));
        assert!(largest > 1e-3, "{name} tests nothing");
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() <= 2e-7 * largest, "{name}: {found}, not {expected}");
        }
        names.insert(name.to_owned());
    }
    for required in
        ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "BF16"]
    {
        assert!(names.contains(required), "{required} is not tested");
    }
}

#[test]
fn values_are_written_bit_for_bit_as_gguf_writes_them() {
    let fixture = fixture();
    let encoded = &fixture["encoded"];
    let values = floats(&encoded["values"]);
    let shape = [values.len() / 32, 32];
    let weight = Weight::from_f32(shape.to_vec(), values);
    let kinds = [
        ("F32", GgufType::F32),
        ("F16", GgufType::F16),
        ("BF16", GgufType::Bf16),
        ("Q8_0", GgufType::Q8_0),
    ];
    for (case, (name, kind)) in encoded["types"].as_array().unwrap().iter().zip(kinds) {
        assert_eq!(case["name"], name);
        let heads = GgufHeads { query: 1, key: 1 };
        let tensor = GgufFamily::Qwen2.tensor("lm_head.weight", &shape, heads, kind).unwrap();
        assert_eq!(tensor.kind(), kind);
        let bytes = tensor.encode(&weight).unwrap();
        assert_eq!(bytes.len(), tensor.size_bytes().unwrap());
        assert!(bytes == hex(&case["bytes"]), "{name} differs");
    }
}

#[test]
fn types_that_cannot_be_read_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("iq.gguf");
    for (id, name) in [(23, "IQ4_XS"), (39, "MXFP4"), (15, "Q8_K"), (77, "type 77")] {
        with_output(id, [2, 256], vec![0; 1024]).write(&path);
        let message = Checkpoint::open(&path).unwrap_err().to_string();
        let expected = format!(
            "tensor \"lm_head.weight\" is stored as {name}, which cannot be read, in {path:?}"
        );
        assert_eq!(message, expected);
    }
}

#[test]
fn rows_that_are_no_whole_number_of_blocks_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("odd.gguf");
    // Two rows of half a block of Q4_K make one block, and are impossible all the same.
    with_output(12, [2, 128], vec![0; 144]).write(&path);
    assert!(Checkpoint::open(&path).is_err());
    with_output(12, [1, 256], vec![0; 144]).write(&path);
    assert!(Checkpoint::open(&path).is_ok());
    fs::remove_file(&path).unwrap();
}
