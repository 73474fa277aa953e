//! What a separation promises.

use std::sync::Arc;

use meav_job::{CancelToken, JobCtx};
use meav_test_support::{TINY, TinyModel, tiny_dense_vector, tiny_low_rank_vector, tiny_model};
use meav_vector::{AlignmentVector, Delta, Separation, VectorError, VectorKind, save, separate};
use meav_weights::{Checkpoint, Dtype, Weight};
use proptest::prelude::*;

use crate::reference::{Stored, delta};
use crate::{opened, sum_tensor, term, vector};

fn separated(vector: &AlignmentVector, others: &[&AlignmentVector], rank: usize) -> Separation {
    separate(vector, others, rank, None, &JobCtx::detached()).unwrap()
}

fn elements(vector: &Arc<AlignmentVector>, name: &str) -> Vec<f64> {
    let Some(delta) = vector.deltas.get(name) else { return Vec::new() };
    let shape = delta.shape().to_vec();
    let zeros = Weight::from_f32(shape.clone(), vec![0.0; shape.iter().product()]);
    let sum = sum_tensor(name, &zeros, Dtype::F32, &[term(vector, 1.0)]).unwrap();
    sum.to_f32_vec().into_iter().map(f64::from).collect()
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum::<f64>().sqrt()
}

fn stored() -> impl Strategy<Value = Stored> {
    prop_oneof![
        Just(Stored::Dense(Dtype::F32)),
        Just(Stored::Sparse(Dtype::F32)),
        Just(Stored::Sign),
        (1..5_usize).prop_map(|rank| Stored::LowRank { rank, scale: 0.3 }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn parts_add_up_are_orthogonal_and_have_nothing_more_to_separate(
        own in stored(),
        others in prop::collection::vec(stored(), 1..4),
        n_out in 2..30_usize,
        n_in in 2..30_usize,
        rank in 1..6_usize,
        seed in 0..1000_u32,
    ) {
        let shape = [n_out, n_in];
        let whole = Arc::new(vector("medical", [("w", delta(own, shape, seed))]));
        let others: Vec<_> = others
            .iter()
            .zip(1..)
            .map(|(stored, index)| vector("other", [("w", delta(*stored, shape, seed + 10 * index))]))
            .collect();
        let others: Vec<&AlignmentVector> = others.iter().collect();
        let first = separated(&whole, &others, rank);
        let (share, again) = (first.share, separated(&first.own, &others, rank));
        let (own, shared) = (Arc::new(first.own), Arc::new(first.shared));
        let (all, own, shared) =
            (elements(&whole, "w"), elements(&own, "w"), elements(&shared, "w"));
        let size = norm(&all).max(1e-30);
        let rest: Vec<_> =
            (0..all.len()).map(|i| all[i] - own[i] - shared.get(i).unwrap_or(&0.0)).collect();
        prop_assert!(norm(&rest) < 1e-5 * size);
        // Row by row of its transpose, U U' δ and δ − U U' δ are orthogonal: so is each column.
        for column in 0..n_in {
            let dot: f64 = (0..n_out)
                .map(|row| row * n_in + column)
                .map(|i| own[i] * shared.get(i).unwrap_or(&0.0))
                .sum();
            prop_assert!(dot.abs() < 1e-5 * size * size, "{}", dot);
        }
        prop_assert!((share - (norm(&shared) / size).powi(2)).abs() < 1e-4);
        prop_assert!(again.share * norm(&own).powi(2) < 1e-9 * size * size, "{}", again.share);
    }
}

/// `a bᵀ`
fn outer(a: &[f32], b: &[f32]) -> Delta {
    let values = a.iter().flat_map(|a| b.iter().map(move |b| a * b)).collect();
    Delta::Dense(Weight::from_f32(vec![a.len(), b.len()], values))
}

#[test]
fn shared_is_what_lies_in_the_directions_of_the_others() {
    // Columns along (3, 4, 0), of which the other has the first axis only.
    let whole = vector("medical", [("w", outer(&[3.0, 4.0, 0.0], &[1.0, 2.0]))]);
    let other = vector("legal", [("w", outer(&[-7.0, 0.0, 0.0], &[5.0, 1.0]))]);
    let Separation { own, shared, share, layers, tensors } = separated(&whole, &[&other], 1);
    assert!((share - 9.0 / 25.0).abs() < 1e-6, "{share}");
    assert_eq!((layers.len(), layers[0].layer), (1, None));
    assert!((layers[0].share - share).abs() < 1e-12 && (tensors[0].share - share).abs() < 1e-12);
    assert_eq!((own.kind, shared.kind), (VectorKind::Dense, VectorKind::LowRank));
    let close = |found: Vec<f64>, expected: [f64; 6]| {
        let error: Vec<_> = found.iter().zip(expected).map(|(a, b)| a - b).collect();
        assert!(norm(&error) < 1e-5, "{found:?}");
    };
    close(elements(&Arc::new(shared), "w"), [3.0, 6.0, 0.0, 0.0, 0.0, 0.0]);
    close(elements(&Arc::new(own), "w"), [0.0, 0.0, 4.0, 8.0, 0.0, 0.0]);
}

/// However large the other vectors are beside each other.
#[test]
fn every_other_vector_has_the_same_say() {
    let whole = vector("medical", [("w", outer(&[1.0, 1.0, 1.0], &[1.0, 1.0]))]);
    let large = vector("legal", [("w", outer(&[1000.0, 0.0, 0.0], &[1.0, 0.0]))]);
    let small = vector("financial", [("w", outer(&[0.0, 1e-3, 0.0], &[1.0, 0.0]))]);
    let shares: Vec<_> =
        (1..=3).map(|rank| separated(&whole, &[&large, &small], rank).share).collect();
    for (found, expected) in shares.iter().zip([1.0 / 3.0, 2.0 / 3.0, 2.0 / 3.0]) {
        assert!((found - expected).abs() < 1e-5, "{shares:?}");
    }
}

#[test]
fn vector_among_the_others_has_nothing_of_its_own() {
    for file in [tiny_dense_vector(&TINY, "medical", 1), tiny_low_rank_vector(&TINY, "medical", 1)]
    {
        let whole = opened(&file);
        let Separation { own, share, layers, tensors, .. } = separated(&whole, &[&whole], 128);
        assert!((share - 1.0).abs() < 1e-5, "{share}");
        assert!(layers.iter().all(|layer| layer.share > 0.9999));
        assert_eq!(tensors.len(), whole.deltas.len());
        let own = Arc::new(own);
        for name in whole.deltas.keys() {
            let (own, all) = (elements(&own, name), elements(&whole, name));
            assert!(norm(&own) < 1e-4 * norm(&all), "{name}");
        }
    }
}

#[test]
fn norms_are_one_column() {
    let of = |values: [f32; 3]| Delta::Dense(Weight::from_f32(vec![3], values.to_vec()));
    let name = "model.norm.weight";
    let whole = vector("medical", [(name, of([3.0, 4.0, 0.0]))]);
    let other = vector("legal", [(name, of([0.0, -2.0, 0.0]))]);
    let Separation { own, shared, share, .. } = separated(&whole, &[&other], 8);
    assert!((share - 16.0 / 25.0).abs() < 1e-6, "{share}");
    assert_eq!(elements(&Arc::new(own), name), [3.0, 0.0, 0.0]);
    assert_eq!(elements(&Arc::new(shared), name), [0.0, 4.0, 0.0]);
}

#[test]
fn without_others_or_with_zeros_all_is_its_own() {
    let whole = opened(&tiny_low_rank_vector(&TINY, "medical", 1));
    let zeros = vector(
        "legal",
        [(
            "model.layers.0.mlp.up_proj.weight",
            Delta::Dense(Weight::from_f32(vec![96, 64], vec![0.0; 96 * 64])),
        )],
    );
    for others in [&[][..], &[&zeros]] {
        let Separation { own, shared, share, .. } = separated(&whole, others, 2);
        assert_eq!((share, own.fingerprint), (0.0, whole.fingerprint));
        assert!(shared.deltas.is_empty());
    }
}

#[test]
fn both_parts_are_saved_and_read_back() {
    let (whole, other) = (
        opened(&tiny_dense_vector(&TINY, "medical", 1)),
        opened(&tiny_low_rank_vector(&TINY, "legal", 2)),
    );
    let Separation { own, shared, .. } = separated(&whole, &[&other], 3);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("part.safetensors");
    for part in [own, shared] {
        save(&part, None, &path, &JobCtx::detached()).unwrap();
        let again = AlignmentVector::open(&path, None, &JobCtx::detached()).unwrap();
        assert_eq!((again.fingerprint, again.kind), (part.fingerprint, part.kind));
        assert_eq!(again.origin.domain, "medical");
    }
}

#[test]
fn models_need_their_base() {
    let (folder, base_folder) =
        (tiny_model(&TinyModel { seed: 2, ..TINY }).in_temp_dir(), tiny_model(&TINY).in_temp_dir());
    let model = AlignmentVector::open(folder.path(), None, &JobCtx::detached()).unwrap();
    let base = Checkpoint::open(base_folder.path()).unwrap();
    let other = opened(&tiny_low_rank_vector(&TINY, "legal", 2));
    let job = JobCtx::detached();
    for (vector, others) in [(&model, [&*other]), (&*other, [&model])] {
        let err = separate(vector, &others, 2, None, &job).unwrap_err();
        assert!(matches!(err, VectorError::BaseNeeded { .. }), "{err:?}");
        let Separation { own, share, .. } =
            separate(vector, &others, 2, Some(&base), &job).unwrap();
        assert!(share > 0.0 && share < 1.0, "{share}");
        assert!(!own.deltas.values().any(|delta| matches!(delta, Delta::Aligned(_))));
    }
}

#[test]
fn misfits_and_settings_are_refused() {
    let a = vector("medical", [("w", outer(&[1.0], &[1.0, 2.0]))]);
    let b = vector("legal", [("w", outer(&[1.0, 2.0], &[1.0]))]);
    let job = JobCtx::detached();
    let err = separate(&a, &[&b], 1, None, &job).unwrap_err();
    assert_eq!(
        err.to_string(),
        "tensor \"w\" has shape [1, 2] in \"medical\" and [2, 1] in \"legal\""
    );
    let err = separate(&a, &[&a], 0, None, &job).unwrap_err();
    assert_eq!(err.to_string(), "the rank must be at least 1, not 0");
    let cancel = CancelToken::default();
    cancel.cancel();
    let err = separate(&a, &[&a], 1, None, &JobCtx::new(cancel, &|_| {})).unwrap_err();
    assert!(matches!(err, VectorError::Cancelled(_)), "{err:?}");
}
