use std::collections::BTreeMap;
use std::fs;

use meav_test_support::broken;
use meav_weights::{Checkpoint, Dtype, MalformedReason, WeightsError};
use safetensors::SafeTensorError;

use meav_test_support::chain;

/// Opens `bytes` as a safetensors file and compares what it is refused with.
fn check(name: &str, bytes: &[u8], expected: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(format!("{name}.safetensors"));
    fs::write(&path, bytes).unwrap();
    let err = Checkpoint::open(&path).expect_err(name);
    assert!(matches!(err, WeightsError::Malformed { .. }), "{name}: {err:?}");
    let found = chain(&err);
    let expected = format!("malformed file {path:?}: {expected}");
    assert!(found.starts_with(&expected), "{name}:\n   {found}\nnot {expected}");
}

#[test]
fn every_broken_file_is_refused_with_its_name_and_reason() {
    let mut reasons = BTreeMap::from([
        ("empty", "the file is empty"),
        (
            "three_bytes",
            "the file is cut short: the header length ends at byte 8, the file at byte 3",
        ),
        (
            "header_beyond_file",
            "the file is cut short: the header ends at byte 1008, the file at byte 10",
        ),
        ("header_too_long", "the safetensors header is invalid: header too large"),
        ("header_not_json", "the safetensors header is invalid: invalid JSON in header: "),
        ("header_not_utf8", "the safetensors header is invalid: invalid UTF-8 in header: "),
        ("overlapping_offsets", "the safetensors header is invalid: invalid offset for tensor `b`"),
        ("duplicate_names", "the safetensors header is invalid: invalid offset for tensor `a`"),
        ("gap_between_tensors", "the safetensors header is invalid: invalid offset for tensor `b`"),
        ("backward_offsets", "the safetensors header is invalid: invalid offset for tensor `a`"),
        (
            "offsets_beyond_file",
            "the file is cut short: the last tensor ends at byte 4068, the file at byte 68",
        ),
        (
            "truncated_data",
            "the file is cut short: the last tensor ends at byte 70, the file at byte 66",
        ),
        ("trailing_data", "the safetensors header is invalid: incomplete metadata"),
        (
            "shape_without_room",
            "the safetensors header is invalid: invalid shape, data type, or offset",
        ),
        ("endless_shape", "the safetensors header is invalid: overflow computing buffer size"),
        (
            "endless_file",
            "the file is cut short: the last tensor ends at byte 18446744073709551615",
        ),
        (
            "unknown_dtype",
            "the safetensors header is invalid: invalid JSON in header: unknown variant `F31`",
        ),
    ]);
    for (name, bytes) in broken::all() {
        check(name, &bytes, reasons.remove(name).expect(name));
    }
    assert!(reasons.is_empty(), "{reasons:?}");
}

#[test]
fn invalid_headers_keep_the_librarys_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    fs::write(&path, broken::overlapping_offsets()).unwrap();
    let WeightsError::Malformed { source: MalformedReason::Safetensors(source), .. } =
        Checkpoint::open(&path).unwrap_err()
    else {
        panic!("another error");
    };
    assert!(matches!(source, SafeTensorError::InvalidOffset(name) if name == "b"));
}

#[test]
fn broken_file_inside_a_folder_is_named_itself() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    fs::write(&path, broken::truncated_data()).unwrap();
    let err = Checkpoint::open(folder.path()).unwrap_err();
    assert!(matches!(&err, WeightsError::Malformed { path: p, .. } if *p == path), "{err:?}");
}

#[test]
fn integers_can_be_listed_but_not_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    fs::write(&path, broken::integers()).unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    assert_eq!(checkpoint.info("a").unwrap().stored_dtype, "I64");
    let expected =
        format!("tensor \"a\" has dtype I64, only F32, F16 and BF16 are supported, in {path:?}");
    assert_eq!(checkpoint.load("a").unwrap_err().to_string(), expected);
}

#[test]
fn values_at_an_odd_byte_are_copied_into_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    fs::write(&path, broken::misaligned()).unwrap();
    let weight = Checkpoint::open(&path).unwrap().load("a").unwrap();
    assert_eq!(weight.dtype(), Dtype::F32);
    assert_eq!(weight.to_f32_vec(), [1.0, 2.0]);
}

#[test]
fn tensors_without_elements_are_sound() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let header = r#"{"a":{"dtype":"BF16","shape":[0,4],"data_offsets":[0,0]},
        "b":{"dtype":"F16","shape":[],"data_offsets":[0,2]}}"#;
    fs::write(&path, broken::with_header(header, &[0, 0x3C])).unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    assert!(checkpoint.load("a").unwrap().is_empty());
    let scalar = checkpoint.load("b").unwrap();
    assert_eq!((scalar.row_len(), scalar.to_f32_vec()), (1, vec![1.0]));
}
