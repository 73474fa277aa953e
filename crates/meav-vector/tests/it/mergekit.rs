//! The numbers that mergekit gives for the same tensors and settings.
//!
//! `mergekit_merges.py` in the fixtures of the test support made them, and describes them.

use std::collections::BTreeMap;
use std::sync::Arc;

use meav_test_support::{assert_close, tolerance};
use meav_vector::{Delta, Method, Scope, Term, count_layers, merge_tensor};
use meav_weights::{Dtype, Weight};
use serde_json::Value as Json;

use crate::vector;

const FIXTURE: &str = include_str!("../../../meav-test-support/fixtures/mergekit_merges.json");

type Tensors = BTreeMap<String, Weight>;

/// The generator of the fixture's script.
fn units(n: usize, seed: usize) -> Vec<f32> {
    let mut state = seed as u32;
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (f64::from(state >> 8) / f64::from(1 << 23) - 1.0) as f32
        })
        .collect()
}

/// 0 is the base; 1 to 3 are the aligned models.
fn model(fixture: &Json, which: usize) -> Tensors {
    let tensor = |(index, (name, shape)): (usize, (&String, &Json))| {
        let shape: Vec<usize> = serde_json::from_value(shape.clone()).unwrap();
        let n = shape.iter().product();
        let mut values = units(n, 1000 * index);
        if which > 0 {
            let step = (0.05 * which as f64) as f32;
            let moves = units(n, 1000 * index + which);
            values.iter_mut().zip(moves).for_each(|(value, it)| *value += it * step);
        }
        (name.clone(), Weight::from_f32(shape, values))
    };
    fixture["shapes"].as_object().unwrap().iter().enumerate().map(tensor).collect()
}

/// λ, or a gradient as the profile of λ = 1.
fn scaled(aligned: &Tensors, which: usize, weight: &Json) -> Term {
    let mut vector = vector(&which.to_string(), []);
    for (name, weight) in aligned {
        vector.deltas.insert(name.clone(), Delta::Aligned(weight.clone()));
    }
    if let Some(coefficient) = weight.as_f64() {
        return Term::new(Arc::new(vector), coefficient);
    }
    let profile = serde_json::from_value(weight.clone()).unwrap();
    Term { scope: Scope { profile, ..Scope::default() }, ..Term::new(Arc::new(vector), 1.0) }
}

fn method(case: &Json) -> Method {
    let density = case["density"].as_f64();
    match (case["method"].as_str().unwrap(), density) {
        ("task_arithmetic", None) => Method::TaskArithmetic,
        ("ties", Some(density)) => Method::Ties { density },
        ("dare_linear", Some(density)) => Method::Dare { drop: 1.0 - density, seed: 3 },
        other => panic!("{other:?}"),
    }
}

#[test]
fn merges_agree_with_mergekit() {
    let fixture: Json = serde_json::from_str(FIXTURE).unwrap();
    let [base, aligned @ ..] = [0, 1, 2, 3].map(|which| model(&fixture, which));
    let n_layers = count_layers(base.keys().map(String::as_str));
    assert_eq!(fixture["n_layers"], n_layers);
    let mut n_values = 0;
    for case in fixture["cases"].as_array().unwrap() {
        let weights = case["weights"].as_array().unwrap();
        let terms = aligned.iter().zip(weights).zip(1..);
        let terms: Vec<_> =
            terms.map(|((aligned, weight), which)| scaled(aligned, which, weight)).collect();
        for (name, expected) in case["tensors"].as_object().unwrap() {
            let base = &base[name];
            let merged =
                merge_tensor(name, base, Dtype::F32, n_layers, method(case), &terms).unwrap();
            let expected: Vec<f32> = serde_json::from_value(expected.clone()).unwrap();
            assert_close(&merged.to_f32_vec(), &expected, tolerance::F32_SUM);
            n_values += expected.len();
        }
    }
    assert_eq!(n_values, 4535);
}

fn settings(case: &Json) -> String {
    format!("{} {} {}", case["method"], case["weights"], case["density"])
}

/// Otherwise a method that does nothing would agree too.
#[test]
fn cases_differ_from_each_other() {
    let fixture: Json = serde_json::from_str(FIXTURE).unwrap();
    let cases = fixture["cases"].as_array().unwrap();
    let is_sum = |case: &Json| case["method"] != "ties";
    for (index, a) in cases.iter().enumerate() {
        for b in &cases[..index] {
            if is_sum(a) && is_sum(b) && a["weights"] == b["weights"] {
                continue;
            }
            assert_ne!(a["tensors"], b["tensors"], "{} and {}", settings(a), settings(b));
        }
    }
}
