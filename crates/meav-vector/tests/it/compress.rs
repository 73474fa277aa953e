//! Smaller vectors against what they are defined to be.

use std::sync::Arc;

use meav_job::{CancelToken, JobCtx};
use meav_test_support::{
    TINY, TinyModel, tiny_dense_vector, tiny_low_rank_vector, tiny_model, tolerance,
};
use meav_vector::{
    AlignmentVector, CompressReport, Compression, Delta, LowRank, Method, Sign, Sparse,
    VectorError, VectorKind, compress, merge_tensor, save,
};
use meav_weights::{Checkpoint, Dtype, Weight};
use proptest::prelude::*;

use crate::reference::{DTYPES, Stored, delta};
use crate::{opened, sum_tensor, term, vector};

fn compressed(
    vector: &AlignmentVector,
    compression: Compression,
) -> (AlignmentVector, CompressReport) {
    compress(vector, compression, None, &JobCtx::detached()).unwrap()
}

/// What a vector adds to zeros.
fn elements(vector: &Arc<AlignmentVector>, name: &str) -> Vec<f32> {
    let shape = vector.deltas[name].shape().to_vec();
    let zeros = Weight::from_f32(shape.clone(), vec![0.0; shape.iter().product()]);
    sum_tensor(name, &zeros, Dtype::F32, &[term(vector, 1.0)]).unwrap().to_f32_vec()
}

/// `‖a − b‖ / ‖a‖`; numbers that have lost their digits count for nothing.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|it| it * it).sum::<f64>();
    let error = square(&mut a.iter().zip(b).map(|(a, b)| f64::from(a - b)));
    (error / square(&mut a.iter().map(|it| f64::from(*it))).max(1e-60)).sqrt()
}

fn dense(shape: &[usize], values: Vec<f32>) -> Delta {
    Delta::Dense(Weight::from_f32(shape.to_vec(), values))
}

/// Smooth, and of every rank.
fn wave(shape: [usize; 2]) -> Vec<f32> {
    (0..shape[0] * shape[1]).map(|i| ((i * i) as f32).sin() + 0.1 * (i as f32).cos()).collect()
}

const EVERYTHING: [Compression; 3] = [
    Compression::LowRank { rank: usize::MAX },
    Compression::Trim { density: 1.0 },
    Compression::Dare { density: 1.0, seed: 1 },
];

fn stored() -> impl Strategy<Value = Stored> {
    let dtype = || prop::sample::select(&DTYPES[..]);
    prop_oneof![
        dtype().prop_map(Stored::Dense),
        dtype().prop_map(Stored::Sparse),
        Just(Stored::Sign),
        (1..5_usize).prop_map(|rank| Stored::LowRank { rank, scale: 0.3 }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn keeping_everything_changes_nothing(
        stored in stored(),
        n_out in 1..12_usize,
        n_in in 1..40_usize,
        seed in 0..1000_u32,
    ) {
        let before = Arc::new(vector("medical", [("w", delta(stored, [n_out, n_in], seed))]));
        for compression in EVERYTHING {
            let (after, report) = compressed(&before, compression);
            let (found, expected) = (elements(&Arc::new(after), "w"), elements(&before, "w"));
            // Factors of a full rank may be smaller than more factors, signs and offsets.
            let is_dense = matches!(stored, Stored::Dense(_));
            if matches!(compression, Compression::LowRank { .. }) && !is_dense {
                prop_assert!(distance(&expected, &found) < f64::from(tolerance::BF16));
            } else {
                prop_assert_eq!(&found, &expected, "{:?}", compression);
                prop_assert_eq!(report.relative_error, 0.0);
            }
            prop_assert!(report.bytes_after <= report.bytes_before);
        }
    }

    /// As `int(density * numel)` of mergekit, and what is left out is no larger than what is kept.
    #[test]
    fn trimming_keeps_the_largest(
        stored in stored(),
        n_out in 1..12_usize,
        n_in in 1..40_usize,
        density in 0.01..1.0_f64,
        seed in 0..1000_u32,
    ) {
        let before = Arc::new(vector("medical", [("w", delta(stored, [n_out, n_in], seed))]));
        let (after, report) = compressed(&before, Compression::Trim { density });
        let is_kept_whole = after.deltas["w"].size_bytes() == before.deltas["w"].size_bytes()
            && report.relative_error == 0.0;
        let (found, all) = (elements(&Arc::new(after), "w"), elements(&before, "w"));
        let n_kept = ((density * all.len() as f64) as usize).max(1);
        let n_found = found.iter().filter(|value| **value != 0.0).count();
        let n_nonzero = all.iter().filter(|value| **value != 0.0).count();
        let is_factored = matches!(stored, Stored::LowRank { .. } | Stored::Sign);
        if !(is_factored && is_kept_whole) {
            prop_assert_eq!(n_found, n_kept.min(n_nonzero));
        }
        let magnitude = |values: &mut dyn Iterator<Item = f32>, start: f32, pick: fn(f32, f32) -> f32| {
            values.fold(start, |a, b| pick(a, b.abs()))
        };
        let pairs = || all.iter().zip(&found);
        let smallest = magnitude(
            &mut pairs().filter(|(_, found)| **found != 0.0).map(|(all, _)| *all),
            f32::INFINITY,
            f32::min,
        );
        let largest = magnitude(
            &mut pairs().filter(|(_, found)| **found == 0.0).map(|(all, _)| *all),
            0.0,
            f32::max,
        );
        prop_assert!(largest <= smallest, "{} above {}", largest, smallest);
    }
}

#[test]
fn trimmed_tensor_is_written_out() {
    let values = [0.5, -3.0, 0.25, 1.0, -0.5, 2.0, 0.0, 0.1, 0.2, 0.3, 0.4, -0.25];
    let before = vector("medical", [("w", dense(&[3, 4], values.to_vec()))]);
    // 4.2 of 12, and the first of the two of 0.5.
    let (after, report) = compressed(&before, Compression::Trim { density: 0.35 });
    assert_eq!(after.kind, VectorKind::Sparse);
    let Delta::Sparse(sparse) = &after.deltas["w"] else { panic!() };
    assert_eq!(sparse.weight().to_f32_vec(), [0.5, -3.0, 1.0, 2.0]);
    assert_eq!((sparse.row(0), sparse.row(1), sparse.row(2)), (0..3, 3..4, 4..4));
    let mut kept = vec![0.0; 12];
    (kept[0], kept[1], kept[3], kept[5]) = (0.5, -3.0, 1.0, 2.0);
    assert!((report.relative_error - distance(&values, &kept)).abs() < 1e-9);
    assert_eq!(report.bytes_before, 48);
    // Four values with two bytes of place each, and four offsets.
    assert_eq!(report.bytes_after, 4 * 4 + 4 * 2 + 4 * 4);
}

#[test]
fn what_is_drawn_is_what_the_method_draws() {
    let before = Arc::new(vector("medical", [("w", dense(&[40, 50], wave([40, 50])))]));
    let base = Weight::from_f32(vec![40, 50], vec![0.0; 2000]);
    for (density, seed) in [(0.2, 7), (0.2, 8), (0.7, 7)] {
        let (after, report) = compressed(&before, Compression::Dare { density, seed });
        let method = Method::Dare { drop: 1.0 - density, seed };
        let expected =
            merge_tensor("w", &base, Dtype::F32, 0, method, &[term(&before, 1.0)]).unwrap();
        let (expected, found) = (expected.to_f32_vec(), elements(&Arc::new(after), "w"));
        assert!(distance(&expected, &found) < 1e-6, "{density}, {seed}");
        let n_kept = found.iter().filter(|value| **value != 0.0).count() as f64;
        // Four standard deviations of a binomial distribution.
        let allowed = 4.0 * (2000.0 * density * (1.0 - density)).sqrt();
        assert!((n_kept - 2000.0 * density).abs() < allowed, "{n_kept}");
        assert!((report.relative_error - distance(&elements(&before, "w"), &found)).abs() < 1e-9);
    }
}

#[test]
fn signs_keep_every_sign_and_the_mean_size_of_a_row() {
    let values = [1.0, -3.0, 2.0, 0.0, 0.5, 0.5, -0.5, -0.5];
    let before = vector("medical", [("w", dense(&[2, 4], values.to_vec()))]);
    let (after, report) = compressed(&before, Compression::Sign);
    assert_eq!(after.kind, VectorKind::Sign);
    let found = elements(&Arc::new(after), "w");
    assert_eq!(found, [1.5, -1.5, 1.5, 1.5, 0.5, 0.5, -0.5, -0.5]);
    assert!((report.relative_error - distance(&values, &found)).abs() < 1e-9);
    assert_eq!(report.bytes_after, 2 * (4 + 4));
}

/// Each scale is the best one: a little more or less is further away.
#[test]
fn scales_of_signs_are_of_least_squared_error() {
    let values = wave([3, 70]);
    let sign = Sign::from_dense(vec![3, 70], &values).unwrap();
    for row in 0..3 {
        let values = &values[row * 70..][..70];
        let error = |factor: f32| {
            let mut found = vec![0.0; 70];
            sign.read_row(row, &mut found);
            let found: Vec<_> = found.into_iter().map(|value| factor * value).collect();
            distance(values, &found)
        };
        assert!(error(1.0) < error(1.01) && error(1.0) < error(0.99));
    }
}

#[test]
fn low_rank_is_the_nearest_of_its_rank() {
    let shape = [48, 160];
    let (b, a) = (wave([48, 3]), wave([3, 160]));
    let mut values = vec![0.0; shape[0] * shape[1]];
    for (i, value) in values.iter_mut().enumerate() {
        let (row, column) = (i / shape[1], i % shape[1]);
        *value = (0..3).map(|k| b[row * 3 + k] * a[k * shape[1] + column]).sum();
    }
    let before = Arc::new(vector("medical", [("w", dense(&shape, values.clone()))]));
    let (after, report) = compressed(&before, Compression::LowRank { rank: 3 });
    assert_eq!(after.kind, VectorKind::LowRank);
    assert!(report.relative_error < 1e-6, "{}", report.relative_error);
    assert_eq!(report.bytes_after, 4 * 3 * (48 + 160));
    let errors: Vec<_> = (1..=3)
        .map(|rank| {
            let (after, report) = compressed(&before, Compression::LowRank { rank });
            let found = elements(&Arc::new(after), "w");
            assert!((report.relative_error - distance(&values, &found)).abs() < 1e-6);
            report.relative_error
        })
        .collect();
    assert!(errors.is_sorted_by(|a, b| a > b), "{errors:?}");
}

/// The same whether a vector is there as elements or as factors.
#[test]
fn factors_are_shortened_as_their_product_is() {
    let (b, a) = (wave([60, 6]), wave([6, 80]));
    let factors = LowRank { a, b, shape: [60, 80], rank: 6, scale: -0.5 };
    let as_factors = Arc::new(vector("medical", [("w", Delta::LowRank(factors))]));
    let as_elements = dense(&[60, 80], elements(&as_factors, "w"));
    let as_elements = vector("medical", [("w", as_elements)]);
    for rank in [1, 2, 5] {
        let found = compressed(&as_factors, Compression::LowRank { rank }).0;
        let Delta::LowRank(factors) = &found.deltas["w"] else { panic!() };
        assert_eq!((factors.rank, factors.scale), (rank, -0.5));
        let expected = compressed(&as_elements, Compression::LowRank { rank }).0;
        let (found, expected) =
            (elements(&Arc::new(found), "w"), elements(&Arc::new(expected), "w"));
        assert!(distance(&expected, &found) < 1e-4, "rank {rank}");
    }
    let same = compressed(&as_factors, Compression::LowRank { rank: 6 }).0;
    assert!(elements(&Arc::new(same), "w") == elements(&as_factors, "w"));
}

#[test]
fn whole_vectors_become_smaller_and_stay_so_in_a_file() {
    let model = TinyModel { dtype: meav_test_support::Dtype::Bf16, ..TINY };
    let mut dense = opened(&tiny_dense_vector(&model, "medical", 1));
    Arc::get_mut(&mut dense).unwrap().origin.extraction = Some("{}".to_owned());
    let low_rank = opened(&tiny_low_rank_vector(&model, "medical", 1));
    let folder = tempfile::tempdir().unwrap();
    for (before, compression, at_most) in [
        (&dense, Compression::LowRank { rank: 4 }, 0.2),
        (&dense, Compression::Trim { density: 0.1 }, 0.25),
        (&dense, Compression::Dare { density: 0.1, seed: 3 }, 0.25),
        (&dense, Compression::Sign, 0.12),
        (&low_rank, Compression::LowRank { rank: 2 }, 0.51),
    ] {
        let (after, report) = compressed(before, compression);
        let share = report.bytes_after as f64 / report.bytes_before as f64;
        assert!(share < at_most, "{compression:?}: {share}");
        assert!(report.relative_error > 0.0, "{compression:?}");
        let worst = report.worst().unwrap();
        assert!(worst.relative_error >= report.relative_error, "{compression:?}");
        assert_eq!(report.tensors.len(), before.deltas.len());
        // Norms stay as they are.
        let norms = report.tensors.iter().filter(|it| it.name.contains("norm"));
        assert!(norms.map(|norm| norm.relative_error).all(|error| error == 0.0));
        assert_eq!(after.origin.extraction, None, "it was measured of another vector");
        let origin = after.origin.compression.as_ref().unwrap();
        let json: serde_json::Value = serde_json::from_str(origin).unwrap();
        assert_eq!(json["worst_tensor"], *worst.name);
        assert_eq!(json["relative_error"].as_f64(), Some(report.relative_error));

        let path = folder.path().join("smaller.safetensors");
        save(&after, None, &path, &JobCtx::detached()).unwrap();
        let again = AlignmentVector::open(&path, None, &JobCtx::detached()).unwrap();
        assert_eq!((again.fingerprint, again.kind), (after.fingerprint, after.kind));
        let header = 16_384;
        assert!(std::fs::metadata(&path).unwrap().len() < report.bytes_after + header);
    }
}

#[test]
fn compression_of_a_model_needs_its_base() {
    let (folder, base) =
        (tiny_model(&TinyModel { seed: 2, ..TINY }).in_temp_dir(), tiny_model(&TINY).in_temp_dir());
    let model = AlignmentVector::open(folder.path(), None, &JobCtx::detached()).unwrap();
    let base = Checkpoint::open(base.path()).unwrap();
    let job = JobCtx::detached();
    let compression = Compression::LowRank { rank: 3 };
    let err = compress(&model, compression, None, &job).unwrap_err();
    assert!(matches!(err, VectorError::BaseNeeded { .. }), "{err:?}");
    let (after, report) = compress(&model, compression, Some(&base), &job).unwrap();
    assert_eq!(after.kind, VectorKind::LowRank);
    assert!(!after.deltas.values().any(|delta| matches!(delta, Delta::Aligned(_))));
    assert!(report.relative_error > 0.1 && report.relative_error < 1.0);
    // Of a model that is its own base, nothing is left.
    let same = Checkpoint::open(folder.path()).unwrap();
    let (after, _) = compress(&model, compression, Some(&same), &job).unwrap();
    assert!(after.deltas.is_empty());
}

#[test]
fn small_numbers_of_elements_and_zeros_are_no_trouble() {
    let one = vector("medical", [("w", dense(&[1, 1], vec![0.5]))]);
    let zeros = vector("medical", [("w", dense(&[20, 30], vec![0.0; 600]))]);
    for compression in [
        Compression::LowRank { rank: 1 },
        Compression::Trim { density: 1e-9 },
        Compression::Dare { density: 0.5, seed: 1 },
        Compression::Sign,
    ] {
        let (after, report) = compressed(&zeros, compression);
        assert!(elements(&Arc::new(after), "w").iter().all(|value| *value == 0.0));
        assert_eq!(report.relative_error, 0.0);
        compressed(&one, compression);
    }
    let (after, _) = compressed(&one, Compression::Trim { density: 1e-9 });
    assert_eq!(elements(&Arc::new(after), "w"), [0.5]);
}

#[test]
fn settings_out_of_range_are_refused_before_any_work() {
    let before = vector("medical", [("w", dense(&[1, 1], vec![0.5]))]);
    let check = |compression: Compression| {
        compress(&before, compression, None, &JobCtx::detached()).unwrap_err().to_string()
    };
    assert_eq!(check(Compression::LowRank { rank: 0 }), "the rank must be at least 1, not 0");
    for density in [0.0, -0.5, 1.5, f64::NAN, f64::INFINITY] {
        for compression in [Compression::Trim { density }, Compression::Dare { density, seed: 1 }] {
            let err = compress(&before, compression, None, &JobCtx::detached()).unwrap_err();
            assert!(matches!(err, VectorError::Density { .. }), "{err:?}");
        }
    }
    let large =
        Delta::Dense(Weight::from_f32(vec![1, 2], vec![60_000.0, 60_000.0]).to_dtype(Dtype::F16));
    let large = vector("medical", [("w", large)]);
    let beyond = (0..9).any(|seed| {
        let compression = Compression::Dare { density: 0.5, seed };
        match compress(&large, compression, None, &JobCtx::detached()) {
            Err(VectorError::TooLargeForDtype { name, dtype }) => {
                (name.as_str(), dtype) == ("w", Dtype::F16)
            }
            _ => false,
        }
    });
    assert!(beyond, "twice 60,000 is beyond f16");
}

#[test]
fn compression_can_be_cancelled() {
    let before = vector("medical", [("w", dense(&[2, 2], vec![0.5; 4]))]);
    let cancel = CancelToken::default();
    cancel.cancel();
    let job = JobCtx::new(cancel, &|_| {});
    let err = compress(&before, Compression::Sign, None, &job).unwrap_err();
    assert!(matches!(err, VectorError::Cancelled(_)), "{err:?}");
}

#[test]
fn sparse_vectors_are_trimmed_among_what_they_have() {
    let mut values = vec![0.0; 100];
    (values[3], values[50], values[99]) = (1.0, -2.0, 3.0);
    let sparse = Sparse::from_dense(vec![10, 10], &values, Dtype::F32).unwrap();
    let before = vector("medical", [("w", Delta::Sparse(sparse))]);
    let (after, _) = compressed(&before, Compression::Trim { density: 0.02 });
    values[3] = 0.0;
    assert_eq!(elements(&Arc::new(after), "w"), values);
}
