//! Every form of vector into a file and back.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use meav_job::{CancelToken, JobCtx};
use meav_test_support::{TINY, broken, tiny_dense_vector, tiny_low_rank_vector};
use meav_vector::{
    AlignmentVector, Delta, LowRank, Sparse, VectorError, VectorKind, save, save_low_rank,
};
use meav_weights::{Dtype, Fingerprint, IntegerTensor, Weight};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;

use crate::reference::{DTYPES, Stored, delta};
use crate::{bits, opened, sum_tensor, term, vector};

fn open(path: &Path) -> Result<AlignmentVector, VectorError> {
    AlignmentVector::open(path, None, &JobCtx::detached())
}

/// Writes and reads.
fn again(vector: &AlignmentVector, dtype: Option<Dtype>) -> AlignmentVector {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new").join("saved.safetensors");
    save(vector, dtype, &path, &JobCtx::detached()).unwrap();
    open(&path).unwrap()
}

/// What a vector adds to zeros, bit for bit.
fn added(vector: AlignmentVector) -> BTreeMap<String, Vec<u8>> {
    let vector = Arc::new(vector);
    let sums: BTreeMap<_, _> = vector
        .deltas
        .iter()
        .map(|(name, delta)| {
            let n = delta.shape().iter().product();
            let zeros = Weight::from_f32(delta.shape().to_vec(), vec![0.0; n]);
            let terms = [term(&vector, 1.0)];
            (name.clone(), sum_tensor(name, &zeros, Dtype::F32, &terms).unwrap())
        })
        .collect();
    bits(&sums)
}

fn stored() -> impl Strategy<Value = Stored> {
    let dtype = || prop::sample::select(&DTYPES[..]);
    prop_oneof![
        dtype().prop_map(Stored::Dense),
        dtype().prop_map(Stored::Sparse),
        Just(Stored::Sign),
        (1..5_usize, prop_oneof![Just(2.0), Just(-1.0 / 3.0), Just(1e-20)])
            .prop_map(|(rank, scale)| Stored::LowRank { rank, scale }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn saved_vector_is_read_back(
        forms in vec((stored(), 1..6_usize, 1..70_usize), 1..5),
        seed in 0..1000_u32,
    ) {
        let names = ["a.weight", "b.weight", "c.weight", "d.weight"];
        let deltas = forms.iter().zip(names).map(|((stored, n_out, n_in), name)| {
            (name, delta(*stored, [*n_out, *n_in], seed))
        });
        let before = vector("medical", deltas);
        // The first knows its own fingerprint only after it was read once.
        let (once, twice) = (again(&before, None), again(&again(&before, None), None));
        prop_assert_eq!(once.fingerprint, twice.fingerprint);
        prop_assert_eq!(once.kind, twice.kind);
        prop_assert_eq!(once.size_bytes(), before.size_bytes());
        for (name, delta) in &before.deltas {
            let found = &once.deltas[name];
            prop_assert_eq!(std::mem::discriminant(found), std::mem::discriminant(delta));
            prop_assert_eq!(found.shape(), delta.shape());
        }
        prop_assert!(added(once) == added(before));
    }
}

#[test]
fn every_key_is_read_back() {
    let mut file = tiny_dense_vector(&TINY, "medical", 1);
    for (key, value) in [
        ("meav.base_fingerprint", &*Fingerprint::of_bytes(b"base").to_string()),
        ("meav.tokenizer_fingerprint", &Fingerprint::of_bytes(b"vocabulary").to_string()),
        ("meav.calibration", r#"{"points": 1}"#),
        ("meav.extraction", r#"{"tensors": 1}"#),
        ("meav.compression", r#"{"method": "trim"}"#),
    ] {
        file.metadata.insert(key.to_owned(), value.to_owned());
    }
    let before = opened(&file);
    let all = format!("{:?}", before.origin);
    assert!(!all.contains("None") && !all.contains("[]"), "{all}");
    let after = again(&before, None);
    assert_eq!(format!("{:?}", after.origin), all);
    assert_eq!((after.kind, after.fingerprint), (before.kind, before.fingerprint));
}

#[test]
fn dtype_rounds_what_is_saved() {
    let file = tiny_low_rank_vector(&TINY, "medical", 1);
    let before = opened(&file);
    for dtype in DTYPES {
        let after = again(&before, Some(dtype));
        assert_eq!(after.fingerprint == before.fingerprint, dtype == Dtype::F32);
        for (name, delta) in &before.deltas {
            let (Delta::LowRank(found), Delta::LowRank(factors)) = (&after.deltas[name], delta)
            else {
                panic!("{name}")
            };
            let rounded = |values: &[f32]| {
                let weight = Weight::from_f32(vec![values.len()], values.to_vec());
                weight.to_dtype(dtype).to_f32_vec()
            };
            assert_eq!((found.shape, found.rank, found.scale), (factors.shape, 4, factors.scale));
            assert!(found.a == rounded(&factors.a) && found.b == rounded(&factors.b), "{name}");
        }
    }
}

/// Factors that were `bf16` in a file take no more room in the next.
#[test]
fn factors_are_saved_in_the_narrowest_type_that_holds_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("saved.safetensors");
    let vector = opened(&tiny_low_rank_vector(&TINY, "medical", 1));
    let bytes = |dtype: Option<Dtype>| {
        let rounded = match dtype {
            Some(dtype) => again(&vector, Some(dtype)),
            None => again(&vector, None),
        };
        save(&rounded, None, &path, &JobCtx::detached()).unwrap();
        fs::metadata(&path).unwrap().len()
    };
    let values = vector.size_bytes();
    assert!(bytes(None) > values);
    assert!(bytes(Some(Dtype::Bf16)) < values / 2 + 4096);
    assert!(bytes(Some(Dtype::F16)) < values / 2 + 4096);
}

#[test]
fn scales_of_their_own_are_kept() {
    let mut vector = Arc::into_inner(opened(&tiny_low_rank_vector(&TINY, "medical", 1))).unwrap();
    for (index, delta) in vector.deltas.values_mut().enumerate() {
        let Delta::LowRank(factors) = delta else { panic!() };
        factors.scale = [2.0, 0.1, -1.0 / 3.0][index % 3];
    }
    let after = again(&vector, None);
    for (name, delta) in &after.deltas {
        let (Delta::LowRank(found), Delta::LowRank(expected)) = (delta, &vector.deltas[name])
        else {
            panic!()
        };
        assert_eq!(found.scale, expected.scale, "{name}");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("saved.safetensors");
    save_low_rank(&vector, Dtype::F32, &path, &JobCtx::detached()).unwrap();
    let cancel = CancelToken::default();
    cancel.cancel();
    let job = JobCtx::new(cancel, &|_| {});
    let err = save_low_rank(&vector, Dtype::F32, &path, &job).unwrap_err();
    assert!(matches!(err, VectorError::Cancelled(_)), "{err:?}");
}

#[test]
fn other_forms_are_not_saved_as_low_rank() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("saved.safetensors");
    let vector = opened(&tiny_dense_vector(&TINY, "medical", 1));
    let err = save_low_rank(&vector, Dtype::F32, &path, &JobCtx::detached()).unwrap_err();
    assert!(matches!(&err, VectorError::UnsupportedKind { kind, .. } if kind == "dense"));
    assert!(!path.exists());
}

#[test]
fn value_beyond_the_dtype_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("saved.safetensors");
    let weight = Weight::from_f32(vec![2], vec![1.0, 1e6]);
    let vector = vector("medical", [("w", Delta::Dense(weight))]);
    let err = save(&vector, Some(Dtype::F16), &path, &JobCtx::detached()).unwrap_err();
    assert_eq!(err.to_string(), "tensor \"w\" has values that are too large for f16");
    let cancel = CancelToken::default();
    cancel.cancel();
    let err = save(&vector, None, &path, &JobCtx::new(cancel, &|_| {})).unwrap_err();
    assert!(matches!(err, VectorError::Cancelled(_)), "{err:?}");
    assert!(!path.exists());
}

/// A header's tensor.
type Entry = (&'static str, &'static str, Vec<u8>);

/// A file of one sparse tensor `w` `(2, 4)`: 5 at (0, 1), 6 at (0, 3), 7 at (1, 0).
fn sparse_entries() -> [Entry; 3] {
    let bytes_32 = |values: &[u32]| values.iter().flat_map(|value| value.to_le_bytes()).collect();
    [
        ("w.columns", "U16", [1_u16, 3, 0].iter().flat_map(|value| value.to_le_bytes()).collect()),
        ("w.offsets", "U32", bytes_32(&[0, 2, 3])),
        ("w.values", "F32", [5.0_f32, 6.0, 7.0].iter().flat_map(|it| it.to_le_bytes()).collect()),
    ]
}

/// A file of one tensor of signs `w` `(2, 4)`.
fn sign_entries() -> [Entry; 2] {
    [
        ("w.scales", "F32", [0.5_f32, 2.0].iter().flat_map(|it| it.to_le_bytes()).collect()),
        ("w.signs", "U32", [1_u32, 0b1010].iter().flat_map(|it| it.to_le_bytes()).collect()),
    ]
}

fn open_file(kind: &str, shape: &str, entries: &[Entry]) -> Result<AlignmentVector, VectorError> {
    let metadata = json!({
        "meav.format": "1", "meav.kind": kind, "meav.domain": "x",
        "meav.shapes": format!(r#"{{"w": {shape}}}"#),
    });
    let mut header = json!({ "__metadata__": metadata });
    let mut data = Vec::new();
    for (name, dtype, bytes) in entries {
        let size = if *dtype == "U16" { 2 } else { 4 };
        let (start, end) = (data.len(), data.len() + bytes.len());
        let n = bytes.len() / size;
        // Words of signs are a matrix.
        let shape = if name.ends_with("signs") { json!([2, n / 2]) } else { json!([n]) };
        header[*name] = json!({ "dtype": dtype, "shape": shape, "data_offsets": [start, end] });
        data.extend(bytes);
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vector.safetensors");
    fs::write(&path, broken::with_header(&header.to_string(), &data)).unwrap();
    let vector = open(&path);
    if matches!(vector, Err(VectorError::Parts { .. })) {
        // Nor does a fingerprint that is known help it.
        let known = Some(Fingerprint::of_bytes(b"known"));
        let err = AlignmentVector::open(&path, known, &JobCtx::detached()).unwrap_err();
        assert!(matches!(err, VectorError::Parts { .. }), "{err:?}");
    }
    vector
}

#[test]
fn sparse_and_sign_files_are_read_as_described() {
    let added_to_zeros = |vector: AlignmentVector| -> Vec<f32> {
        added(vector)["w"].chunks(4).map(|it| f32::from_le_bytes(it.try_into().unwrap())).collect()
    };
    let vector = open_file("sparse", "[2, 4]", &sparse_entries()).unwrap();
    assert_eq!(vector.kind, VectorKind::Sparse);
    assert_eq!(added_to_zeros(vector), [0.0, 5.0, 0.0, 6.0, 7.0, 0.0, 0.0, 0.0]);
    let wide = open_file("sparse", "[2, 16777216]", &sparse_entries()).unwrap();
    assert_eq!(wide.deltas["w"].shape(), [2, 1 << 24]);
    let vector = open_file("sign", "[2, 4]", &sign_entries()).unwrap();
    assert_eq!(vector.kind, VectorKind::Sign);
    assert_eq!(added_to_zeros(vector), [-0.5, 0.5, 0.5, 0.5, 2.0, -2.0, 2.0, -2.0]);
}

#[test]
fn parts_that_contradict_each_other_are_refused_by_name() {
    let check = |kind: &str, shape: &str, entries: &[Entry]| {
        let err = open_file(kind, shape, entries).unwrap_err();
        let is_parts = matches!(&err, VectorError::Parts { name, .. } if name == "w");
        assert!(is_parts, "{kind} {shape} {entries:?}: {err:?}");
    };
    let offsets =
        |values: [u32; 3]| -> Vec<u8> { values.iter().flat_map(|it| it.to_le_bytes()).collect() };
    let columns =
        |values: [u16; 3]| -> Vec<u8> { values.iter().flat_map(|it| it.to_le_bytes()).collect() };
    for values in [[1, 2, 3], [0, 2, 2], [0, 2, 4], [0, 4, 3], [0, u32::MAX, 3], [0, 3, 3]] {
        let mut entries = sparse_entries();
        entries[1].2 = offsets(values);
        // The last of them is sound, but its columns don't rise.
        check("sparse", "[2, 4]", &entries);
    }
    for values in [[1, 1, 0], [3, 1, 0], [1, 4, 0], [1, 3, 65535]] {
        let mut entries = sparse_entries();
        entries[0].2 = columns(values);
        check("sparse", "[2, 4]", &entries);
    }
    for shape in [
        "[2]",
        "[]",
        "[3, 4]",
        "[2, 3]",
        "[2, 0]",
        "[0, 4]",
        "[1, 2, 1]",
        "[2, 16777217]",
        "[2, 4294967297]",
        "[4294967296, 4294967296, 4294967296]",
    ] {
        check("sparse", shape, &sparse_entries());
    }
    for shape in ["[2]", "[3, 4]", "[2, 33]", "[2, 0]", "[4294967296, 4294967296, 4294967296]"] {
        check("sign", shape, &sign_entries());
    }
    for missing in 0..3 {
        let mut entries = sparse_entries().to_vec();
        entries.remove(missing);
        check("sparse", "[2, 4]", &entries);
    }
    for missing in 0..2 {
        let mut entries = sign_entries().to_vec();
        entries.remove(missing);
        check("sign", "[2, 4]", &entries);
    }
}

#[test]
fn parts_of_other_types_and_values_that_are_no_numbers_are_refused_by_name() {
    let mut entries = sparse_entries();
    entries[1].1 = "F32";
    let err = open_file("sparse", "[2, 4]", &entries).unwrap_err();
    assert!(
        err.to_string().starts_with("tensor \"w.offsets\" has dtype F32, it should hold"),
        "{err}"
    );
    let mut entries = sparse_entries();
    entries[2].1 = "U32";
    let err = open_file("sparse", "[2, 4]", &entries).unwrap_err();
    assert!(err.to_string().starts_with("tensor \"w.values\" has dtype U32"), "{err}");
    let mut entries = sparse_entries();
    entries[2].2[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    let err = open_file("sparse", "[2, 4]", &entries).unwrap_err();
    assert!(matches!(&err, VectorError::NonFiniteValues { name, .. } if name == "w"), "{err:?}");
    let mut entries = sign_entries();
    entries[0].2[4..].copy_from_slice(&f32::INFINITY.to_le_bytes());
    let err = open_file("sign", "[2, 4]", &entries).unwrap_err();
    assert!(matches!(&err, VectorError::NonFiniteValues { name, .. } if name == "w"), "{err:?}");
    let err = open_file("sparse", "\"two\"", &sparse_entries()).unwrap_err();
    assert!(matches!(&err, VectorError::Metadata { key, .. } if key == "meav.shapes"), "{err:?}");
}

proptest! {
    /// Whatever stands in a file, it is refused or can be added to a model.
    #[test]
    fn damaged_files_are_refused_or_sound(
        stored in stored(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        in_header in any::<bool>(),
    ) {
        let before = vector("medical", [("w", delta(stored, [3, 40], 1))]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("saved.safetensors");
        save(&before, None, &path, &JobCtx::detached()).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        let data = 8 + u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
        for (index, value) in damage {
            let place = if in_header {
                index.index(data)
            } else {
                data + index.index(bytes.len() - data)
            };
            bytes[place] = value;
        }
        fs::write(&path, bytes).unwrap();
        if let Ok(vector) = open(&path) {
            added(vector);
        }
    }
}

/// Rows of more than 65,536 columns have wider places.
#[test]
fn long_rows_are_kept() {
    let n = 70_000;
    let mut values = vec![0.0; 2 * n];
    (values[3], values[n - 1], values[n]) = (1.0, 2.0, 3.0);
    let sparse = Sparse::from_dense(vec![2, n], &values, Dtype::Bf16).unwrap();
    assert_eq!((sparse.row(0), sparse.row(1)), (0..2, 2..3));
    let before = vector("medical", [("w", Delta::Sparse(sparse))]);
    let after = again(&before, None);
    assert!(after.size_bytes() < 100);
    assert!(added(after) == added(before));
    let columns = IntegerTensor::from_u16(vec![1], vec![1]);
    let offsets = IntegerTensor::from_u32(vec![2], vec![0, 1]);
    let weight = Weight::from_f32(vec![1], vec![1.0]);
    // Narrow columns serve in a long row too, where they reach.
    assert!(Sparse::new(vec![1, n], offsets, columns, weight).is_some());
}

#[test]
fn factors_without_rank_are_none() {
    let factors = LowRank { a: vec![], b: vec![], shape: [2, 2], rank: 0, scale: 1.0 };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("saved.safetensors");
    let vector = vector("medical", [("w", Delta::LowRank(factors))]);
    save(&vector, None, &path, &JobCtx::detached()).unwrap();
    let err = open(&path).unwrap_err();
    assert!(matches!(&err, VectorError::Factors { name, .. } if name == "w"), "{err:?}");
}
