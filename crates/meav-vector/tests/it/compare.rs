use meav_job::{CancelToken, JobCtx};
use meav_test_support::{TINY, TinyModel, tiny_dense_vector, tiny_low_rank_vector, tiny_model};
use meav_vector::{
    AlignmentVector, Delta, Interference, ModuleKind, Pair, Sparse, VectorError, compare,
};
use meav_weights::{Checkpoint, IntegerTensor, Weight};

use crate::reference::{DTYPES, Stored, delta};
use crate::{opened, vector};

fn compared(vectors: &[&AlignmentVector]) -> Interference {
    compare(vectors, None, &JobCtx::detached()).unwrap()
}

fn dense(values: &[f32]) -> Delta {
    Delta::Dense(Weight::from_f32(vec![1, values.len()], values.to_vec()))
}

#[track_caller]
fn assert_pair(pair: &Pair, cosine: Option<f64>, sign_conflict: Option<f64>) {
    let is_close = |found: Option<f64>, expected: Option<f64>| match (found, expected) {
        (Some(found), Some(expected)) => (found - expected).abs() < 1e-7,
        (found, expected) => found == expected,
    };
    let is_right = is_close(pair.cosine, cosine) && is_close(pair.sign_conflict, sign_conflict);
    assert!(is_right, "{pair:?}, not {cosine:?} and {sign_conflict:?}");
}

#[test]
fn figures_are_those_of_the_elements() {
    let up = "model.layers.3.mlp.up_proj.weight";
    let down = "model.layers.3.mlp.down_proj.weight";
    let a = vector("medical", [(up, dense(&[3.0, 4.0])), ("model.norm.weight", dense(&[2.0]))]);
    let b = vector("legal", [(up, dense(&[3.0, -4.0])), (down, dense(&[0.0, 12.0]))]);
    let c = vector("financial", [("lm_head.weight", dense(&[1.0]))]);
    let Interference { vectors, cells, norms, pairs } = compared(&[&a, &b, &c]);
    assert_eq!(vectors, ["medical", "legal", "financial"]);
    let places: Vec<_> = cells.iter().map(|cell| (cell.layer, cell.module)).collect();
    let expected =
        [(None, ModuleKind::Embeddings), (None, ModuleKind::Norms), (Some(3), ModuleKind::Mlp)];
    assert_eq!(places, expected);
    assert_eq!(cells[2].norms, [5.0, 13.0, 0.0]);
    assert_eq!(cells[0].norms, [0.0, 0.0, 1.0]);
    let places: Vec<_> = cells[2].pairs.iter().map(|pair| (pair.a, pair.b)).collect();
    assert_eq!(places, [(0, 1), (0, 2), (1, 2)]);
    // 9 − 16, of norms 5 and 13; of two elements that both change, one in opposite directions.
    assert_pair(&cells[2].pairs[0], Some(-7.0 / 65.0), Some(0.5));
    assert_pair(&cells[2].pairs[1], None, None);
    assert_pair(&cells[0].pairs[0], None, None);
    assert_eq!(norms, [29.0_f64.sqrt(), 13.0, 1.0]);
    assert_pair(&pairs[0], Some(-7.0 / (29.0_f64.sqrt() * 13.0)), Some(0.5));
    assert_pair(&pairs[2], Some(0.0), None);
}

#[test]
fn vector_and_its_opposite_are_at_the_ends() {
    for file in [tiny_dense_vector(&TINY, "medical", 1), tiny_low_rank_vector(&TINY, "medical", 1)]
    {
        let vector = opened(&file);
        let mut opposite = file.clone();
        for tensor in opposite.tensors.iter_mut().filter(|tensor| !tensor.name.ends_with("lora_A"))
        {
            tensor.values.iter_mut().for_each(|value| *value *= -2.0);
        }
        let opposite = opened(&opposite);
        let Interference { cells, norms, pairs, .. } = compared(&[&vector, &vector, &opposite]);
        assert!((norms[2] / norms[0] - 2.0).abs() < 1e-6 && norms[0] == norms[1]);
        assert!(cells.len() >= 4, "{}", cells.len());
        for pairs in cells.iter().map(|cell| &cell.pairs).chain([&pairs]) {
            assert_pair(&pairs[0], Some(1.0), Some(0.0));
            assert_pair(&pairs[1], Some(-1.0), Some(1.0));
        }
    }
}

/// One vector of every form, against the same one written out.
#[test]
fn form_of_a_vector_does_not_matter() {
    let name = "model.layers.0.self_attn.q_proj.weight";
    let shape = [33, 70];
    let other = vector("legal", [(name, delta(Stored::Dense(DTYPES[0]), shape, 5))]);
    for stored in [
        Stored::Dense(DTYPES[2]),
        Stored::LowRank { rank: 3, scale: 0.5 },
        Stored::Sparse(DTYPES[1]),
        Stored::Sign,
    ] {
        let of_form = std::sync::Arc::new(vector("medical", [(name, delta(stored, shape, 2))]));
        let zeros = Weight::from_f32(shape.to_vec(), vec![0.0; shape[0] * shape[1]]);
        let terms = [crate::term(&of_form, 1.0)];
        let written_out = crate::sum_tensor(name, &zeros, DTYPES[0], &terms).unwrap();
        let written_out = vector("medical", [(name, Delta::Dense(written_out))]);
        let found = compared(&[&of_form, &other]);
        let expected = compared(&[&written_out, &other]);
        assert!((found.norms[0] / expected.norms[0] - 1.0).abs() < 1e-6, "{stored:?}");
        let Pair { cosine, sign_conflict, .. } = expected.pairs[0];
        assert!(cosine.is_some() && sign_conflict.is_some_and(|share| share > 0.0));
        assert_pair(&found.pairs[0], cosine, sign_conflict);
    }
}

#[test]
fn models_are_compared_by_their_differences() {
    let folder = tiny_model(&TinyModel { seed: 2, ..TINY }).in_temp_dir();
    let base_folder = tiny_model(&TINY).in_temp_dir();
    let job = JobCtx::detached();
    let model = AlignmentVector::open(folder.path(), None, &job).unwrap();
    let base = Checkpoint::open(base_folder.path()).unwrap();
    let err = compare(&[&model], None, &job).unwrap_err();
    assert!(matches!(err, VectorError::BaseNeeded { .. }), "{err:?}");
    let found = compare(&[&model, &model], Some(&base), &job).unwrap();
    assert_pair(&found.pairs[0], Some(1.0), Some(0.0));
    let same = Checkpoint::open(folder.path()).unwrap();
    let found = compare(&[&model, &model], Some(&same), &job).unwrap();
    assert_eq!(found.norms, [0.0, 0.0]);
    assert_pair(&found.pairs[0], None, None);
}

#[test]
fn one_vector_and_none_have_no_pairs() {
    let vector = opened(&tiny_low_rank_vector(&TINY, "medical", 1));
    let Interference { cells, norms, pairs, .. } = compared(&[&vector]);
    assert!(norms[0] > 0.0 && pairs.is_empty() && cells.iter().all(|cell| cell.pairs.is_empty()));
    assert_eq!(cells.len(), 2 * TINY.n_layers);
    assert!(compared(&[]).cells.is_empty());
}

#[test]
fn misfits_are_refused_by_name_and_work_can_be_cancelled() {
    let (a, b) =
        (vector("medical", [("w", dense(&[1.0]))]), vector("legal", [("w", dense(&[1.0, 2.0]))]));
    let err = compare(&[&a, &b], None, &JobCtx::detached()).unwrap_err();
    assert_eq!(
        err.to_string(),
        "tensor \"w\" has shape [1, 1] in \"medical\" and [1, 2] in \"legal\""
    );
    let cancel = CancelToken::default();
    cancel.cancel();
    let err = compare(&[&a], None, &JobCtx::new(cancel, &|_| {})).unwrap_err();
    assert!(matches!(err, VectorError::Cancelled(_)), "{err:?}");
}

/// A file that was changed after it was read once, with its fingerprint kept, may hold such.
#[test]
fn sparse_values_outside_their_rows_are_refused_by_name() {
    let offsets = IntegerTensor::from_u32(vec![2], vec![0, 1]);
    let columns = IntegerTensor::from_u16(vec![1], vec![7]);
    let values = Weight::from_f32(vec![1], vec![1.0]);
    let sparse = Sparse::new(vec![1, 4], offsets, columns, values).unwrap();
    let mut broken = vector("medical", [("w", dense(&[1.0; 4]))]);
    broken.deltas.insert("w".to_owned(), Delta::Sparse(sparse));
    let err = compare(&[&broken, &broken], None, &JobCtx::detached()).unwrap_err();
    assert!(matches!(&err, VectorError::Parts { name, .. } if name == "w"), "{err:?}");
}
