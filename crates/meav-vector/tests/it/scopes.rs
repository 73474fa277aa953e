//! Vectors that are applied to a part of the model, or not everywhere alike.

use std::collections::BTreeMap;
use std::slice;
use std::sync::Arc;

use candle_core::Device;
use meav_job::JobCtx;
use meav_test_support::{TINY, TinyModel, tiny_dense_vector, tiny_model};
use meav_vector::{
    Delta, LiveWeights, Method, ModuleKind, Scope, Term, VectorError, count_layers, merge_tensor,
};
use meav_weights::{Checkpoint, Dtype, Weight};

use crate::live_weights::live_bits;
use crate::{opened, sum_tensor, term, vector};

const N_LAYERS: usize = 3;
const MODEL: TinyModel = TinyModel { n_layers: N_LAYERS, tie_word_embeddings: false, ..TINY };

const METHODS: [Method; 3] =
    [Method::TaskArithmetic, Method::Ties { density: 0.4 }, Method::Dare { drop: 0.4, seed: 9 }];

fn base() -> BTreeMap<String, Weight> {
    let folder = tiny_model(&MODEL).in_temp_dir();
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    checkpoint.names().map(|name| (name.to_owned(), checkpoint.load(name).unwrap())).collect()
}

fn live(base: &BTreeMap<String, Weight>) -> LiveWeights {
    LiveWeights::new(base.clone(), Dtype::Bf16, &Device::Cpu, &JobCtx::detached()).unwrap()
}

fn scoped(scope: Scope) -> Term {
    let vector = opened(&tiny_dense_vector(&MODEL, "medical", 4));
    Term { scope, ..term(&vector, 0.8) }
}

/// Compares a scope with a plain λ for each tensor, `None` for the base as it is, and counts the
/// tensors of the scope.
fn check(scope: Scope, coefficient: impl Fn(&str) -> Option<f64>) -> usize {
    let base = base();
    let scoped = scoped(scope);
    let mut n_scoped = 0;
    for method in METHODS {
        let mut live = live(&base);
        let report = live.apply(method, slice::from_ref(&scoped), &JobCtx::detached()).unwrap();
        let live = live_bits(&live);
        n_scoped = 0;
        for (name, weight) in &base {
            let plain = coefficient(name).map(|it| term(&scoped.vector, it));
            let plain = plain.as_slice();
            let expected =
                merge_tensor(name, weight, Dtype::Bf16, N_LAYERS, method, plain).unwrap();
            assert!(live[name] == expected.bytes(), "{method:?} of {name}");
            let untouched = weight.to_dtype(Dtype::Bf16);
            assert_eq!(expected.bytes() == untouched.bytes(), plain.is_empty(), "{name}");
            n_scoped += plain.len();
        }
        assert_eq!(report.tensors, n_scoped);
    }
    n_scoped
}

#[test]
fn layers_outside_the_scope_are_the_base() {
    assert_eq!(count_layers(base().keys().map(String::as_str)), N_LAYERS);
    let scope = Scope { layers: vec![1..=2], ..Scope::default() };
    let is_in = |name: &str| name.contains(".layers.1.") || name.contains(".layers.2.");
    assert_eq!(check(scope, |name| is_in(name).then_some(0.8)), 18);
}

#[test]
fn modules_outside_the_scope_are_the_base() {
    let modules = vec![ModuleKind::Attention];
    let attention = |name: &str| name.contains("self_attn").then_some(0.8);
    assert_eq!(check(Scope { modules: modules.clone(), ..Scope::default() }, attention), 12);
    let scope = Scope { modules, layers: vec![0..=0, 2..=2], ..Scope::default() };
    let ends = |name: &str| attention(name).filter(|_| !name.contains(".1."));
    assert_eq!(check(scope, ends), 8);
    let modules = vec![ModuleKind::Embeddings, ModuleKind::Mlp];
    let others = |name: &str| {
        let is_in = ["mlp", "embed_tokens", "lm_head"].iter().any(|part| name.contains(part));
        is_in.then_some(0.8)
    };
    assert_eq!(check(Scope { modules, ..Scope::default() }, others), 11);
}

#[test]
fn profile_multiplies_the_coefficient_along_the_depth() {
    let scope = Scope { profile: vec![0.5, -1.0], ..Scope::default() };
    let at = |name: &str| {
        let first = f64::from(0.8_f32) * 0.5;
        match name.split('.').nth(2) {
            Some("0") => first,
            Some("1") => f64::from(0.8_f32) * -0.25,
            _ if name.contains("embed_tokens") => first,
            _ => f64::from(-0.8_f32),
        }
    };
    assert_eq!(check(scope, |name| Some(at(name))), 30);
    // Zero somewhere is the base there.
    let scope = Scope { profile: vec![0.0, 0.0, 1.0], ..Scope::default() };
    let is_last =
        |name: &str| !(name.contains("embed") || name.contains("s.0.") || name.contains("s.1."));
    assert_eq!(check(scope, |name| is_last(name).then_some(0.8)), 11);
}

#[test]
fn only_what_another_profile_changes_is_recomputed() {
    let base = base();
    let mut live = live(&base);
    let mut apply = |profile: &[f64]| {
        let scope = Scope { profile: profile.to_vec(), ..Scope::default() };
        live.apply(Method::TaskArithmetic, &[scoped(scope)], &JobCtx::detached()).unwrap().tensors
    };
    assert_eq!(apply(&[]), 30);
    assert_eq!(apply(&[1.0]), 0);
    assert_eq!(apply(&[1.0, 1.0, 1.0]), 0);
    // The last layer, the last norm and the output head.
    assert_eq!(apply(&[1.0, 1.0, 0.5]), 11);
    assert_eq!(apply(&[0.0, 1.0, 0.5]), 10);
    assert_eq!(apply(&[0.0, 0.0, 0.5]), 9);
    assert_eq!(apply(&[]), 30);
}

#[test]
fn scopes_that_the_model_does_not_have_are_refused_by_name() {
    let mut live = live(&base());
    let mut refused = |scope: Scope| {
        let terms = [scoped(scope)];
        let err = live.apply(Method::TaskArithmetic, &terms, &JobCtx::detached()).unwrap_err();
        assert!(live.applied().is_empty());
        err
    };
    #[expect(clippy::reversed_empty_ranges, reason = "which is refused")]
    let ranges = [1..=3, 3..=3, 2..=1, 0..=usize::MAX];
    for range in ranges {
        let (first, last) = range.clone().into_inner();
        let err = refused(Scope { layers: vec![0..=0, range], ..Scope::default() });
        assert!(matches!(err, VectorError::Layers { .. }), "{err:?}");
        assert_eq!(
            err.to_string(),
            format!(
                "layers {first} to {last} of \"medical\" are not layers of the base model, which has 3"
            )
        );
    }
    for value in [f64::NAN, f64::INFINITY] {
        let err = refused(Scope { profile: vec![1.0, value], ..Scope::default() });
        assert!(matches!(err, VectorError::Profile { .. }), "{err:?}");
        assert_eq!(
            err.to_string(),
            format!(
                "the depth profile of \"medical\" has the value {value}, which is not a finite number"
            )
        );
    }
    // Finite, but not by the coefficient.
    let err = refused(Scope { profile: vec![1.0, -1e39], ..Scope::default() });
    assert!(matches!(err, VectorError::NonFiniteCoefficient { .. }), "{err:?}");
}

#[test]
fn name_that_tells_no_place_is_behind_the_layers() {
    let base = Weight::from_f32(vec![2], vec![1.0, 2.0]);
    let delta = Delta::Dense(Weight::from_f32(vec![2], vec![1.0, 1.0]));
    let vector = Arc::new(vector("any", [("w", delta)]));
    let scope = Scope { profile: vec![0.0, 2.0], ..Scope::default() };
    let found = sum_tensor("w", &base, Dtype::F32, &[Term { scope, ..term(&vector, 1.0) }]);
    assert_eq!(found.unwrap().to_f32_vec(), [3.0, 4.0]);
}
