use candle_core::Device;
use meav_job::JobCtx;
use meav_test_support::{TINY, tiny_low_rank_vector, tiny_model};
use meav_vector::{LiveWeights, Method, ModuleKind, Recipe, RecipeTerm, Scope, Term};
use meav_weights::{Checkpoint, Dtype, Fingerprint};

use crate::{opened, term};

/// The recipe that live weights of nothing hold after `terms` were applied.
fn recipe(dtype: Dtype, terms: &[Term]) -> Recipe {
    let mut live = LiveWeights::new([].into(), dtype, &Device::Cpu, &JobCtx::detached()).unwrap();
    let method = Method::TaskArithmetic;
    live.apply(method, terms, &JobCtx::detached()).unwrap();
    let terms = live.applied().iter().map(RecipeTerm::from).collect();
    Recipe { base: Fingerprint::of_bytes(b"base"), dtype, method, terms }
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

/// Stamps of earlier versions, which knew of no other method and of no scopes, stay valid.
#[test]
fn plain_sums_are_stamped_as_they_always_were() {
    let term = |vector: &[u8], coefficient| RecipeTerm {
        vector: Fingerprint::of_bytes(vector),
        coefficient,
        scope: Scope::default(),
    };
    let recipe = Recipe {
        base: Fingerprint::of_bytes(b"base"),
        dtype: Dtype::Bf16,
        method: Method::default(),
        terms: vec![term(b"medical", -0.7), term(b"legal", 0.5)],
    };
    assert_eq!(
        recipe.fingerprint().to_string(),
        "blake3:94c18dba455f317c6f01c19bca528a5b163753b59c0a9bf94d87d0254c832cda"
    );
}

#[test]
fn methods_and_scopes_are_stamped_apart() {
    let a = opened(&tiny_low_rank_vector(&TINY, "a", 1));
    let b = opened(&tiny_low_rank_vector(&TINY, "b", 2));
    let plain = recipe(Dtype::F32, &[term(&a, 0.5), term(&b, -0.5)]);
    let with_method = |method| Recipe { method, ..plain.clone() };
    let with_scopes = |scopes: [Scope; 2]| {
        let mut recipe = plain.clone();
        for (term, scope) in recipe.terms.iter_mut().zip(scopes) {
            term.scope = scope;
        }
        recipe
    };
    let all = Scope::default;
    let layers = |layers: &[_]| Scope { layers: layers.to_vec(), ..all() };
    let modules = |modules: &[_]| Scope { modules: modules.to_vec(), ..all() };
    let profile = |profile: &[_]| Scope { profile: profile.to_vec(), ..all() };
    let recipes = [
        plain.clone(),
        with_method(Method::Ties { density: 0.5 }),
        with_method(Method::Ties { density: 0.500_001 }),
        with_method(Method::Dare { drop: 0.5, seed: 0 }),
        with_method(Method::Dare { drop: 0.4, seed: 0 }),
        with_method(Method::Dare { drop: 0.5, seed: 1 }),
        with_scopes([layers(&[0..=0]), all()]),
        with_scopes([all(), layers(&[0..=0])]),
        with_scopes([layers(&[0..=1]), all()]),
        with_scopes([layers(&[0..=0, 1..=1]), all()]),
        with_scopes([modules(&[ModuleKind::Mlp]), all()]),
        with_scopes([modules(&[ModuleKind::Attention]), all()]),
        with_scopes([modules(&[ModuleKind::Mlp, ModuleKind::Attention]), all()]),
        with_scopes([profile(&[0.5]), all()]),
        with_scopes([profile(&[0.5, 0.5]), all()]),
        with_scopes([profile(&[0.5, 1.0]), all()]),
        Recipe { method: Method::Ties { density: 0.5 }, ..with_scopes([profile(&[0.5]), all()]) },
    ];
    for (index, recipe) in recipes.iter().enumerate() {
        for other in &recipes[..index] {
            assert_ne!(recipe.fingerprint(), other.fingerprint(), "{recipe:?} and {other:?}");
        }
    }
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
