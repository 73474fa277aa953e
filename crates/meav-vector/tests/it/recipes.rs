use candle_core::Device;
use meav_job::JobCtx;
use meav_test_support::{TINY, tiny_low_rank_vector, tiny_model};
use meav_vector::{LiveWeights, Recipe, RecipeTerm, Term};
use meav_weights::{Checkpoint, Dtype, Fingerprint};

use crate::{opened, term};

/// The recipe that live weights of nothing hold after `terms` were applied.
fn recipe(dtype: Dtype, terms: &[Term]) -> Recipe {
    let mut live = LiveWeights::new([].into(), dtype, &Device::Cpu, &JobCtx::detached()).unwrap();
    live.apply(terms, &JobCtx::detached()).unwrap();
    let terms = live
        .applied()
        .iter()
        .map(|term| RecipeTerm { vector: term.vector.fingerprint, coefficient: term.coefficient })
        .collect();
    Recipe { base: Fingerprint::of_bytes(b"base"), dtype, terms }
}

#[test]
fn fingerprint_changes_with_everything_that_changes_the_weights() {
    let a = opened(&tiny_low_rank_vector(&TINY, "a", 1));
    let b = opened(&tiny_low_rank_vector(&TINY, "b", 2));
    let both = [term(&a, 0.5), term(&b, -0.5)];
    let original = recipe(Dtype::F32, &both);
    let others = [
        recipe(Dtype::Bf16, &both),
        recipe(Dtype::F32, &[term(&a, 0.5), term(&b, 0.5)]),
        recipe(Dtype::F32, &[term(&a, 0.5), term(&b, -0.500_001)]),
        recipe(Dtype::F32, &[term(&b, -0.5), term(&a, 0.5)]),
        recipe(Dtype::F32, &[term(&a, 0.5)]),
        recipe(Dtype::F32, &[]),
        Recipe { base: Fingerprint::of_bytes(b"another"), ..original.clone() },
    ];
    for other in others {
        assert_ne!(other.fingerprint(), original.fingerprint(), "{other:?}");
    }
    assert_eq!(recipe(Dtype::F32, &both).fingerprint(), original.fingerprint());
}

#[test]
fn vectors_at_zero_are_no_part_of_the_recipe() {
    let a = opened(&tiny_low_rank_vector(&TINY, "a", 1));
    let b = opened(&tiny_low_rank_vector(&TINY, "b", 2));
    let alone = recipe(Dtype::F32, &[term(&a, 0.5)]);
    for zero in [0.0, -0.0, 1e-60] {
        let beside = recipe(Dtype::F32, &[term(&b, zero), term(&a, 0.5), term(&b, zero)]);
        assert_eq!(beside, alone);
    }
}

#[test]
fn base_is_named_by_its_tensors() {
    let folder = tiny_model(&TINY).in_temp_dir();
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let base = checkpoint.fingerprint(&JobCtx::detached()).unwrap();
    let recipe = Recipe { base, ..recipe(Dtype::F32, &[]) };
    assert_ne!(recipe.fingerprint(), base);
}
