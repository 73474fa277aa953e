//! TIES and DARE against their definitions, element by element.

use std::sync::Arc;

use meav_test_support::{assert_close, tolerance};
use meav_vector::{Delta, Method, VectorError, merge_tensor};
use meav_weights::{Dtype, Weight};
use proptest::collection::vec;
use proptest::prelude::*;
use rayon::ThreadPoolBuilder;

use crate::reference::{Case, DTYPES, Stored, any_case, stored};
use crate::{term, vector};

const ALL_STORED: [Stored; 6] = [
    Stored::Dense(Dtype::Bf16),
    Stored::Dense(Dtype::F32),
    Stored::LowRank { rank: 3, scale: -1.5 },
    Stored::Sparse(Dtype::F16),
    Stored::Sign,
    Stored::Aligned(Dtype::Bf16),
];

/// One of each kind, with λ of both signs.
pub(crate) fn mixture(shape: [usize; 2]) -> Case {
    let coefficients = [0.7, -0.4, 1.3, -1.1, 0.2, 0.9];
    let terms = ALL_STORED.into_iter().zip(coefficients).collect();
    Case { shape, base: Dtype::Bf16, merged: Dtype::F32, terms, seed: 11 }
}

pub(crate) const METHODS: [Method; 8] = [
    Method::TaskArithmetic,
    Method::Ties { density: 1.0 },
    Method::Ties { density: 0.5 },
    Method::Ties { density: 0.01 },
    Method::Ties { density: 1e-9 },
    Method::Dare { drop: 0.0, seed: 1 },
    Method::Dare { drop: 0.3, seed: 2 },
    Method::Dare { drop: 0.99, seed: 3 },
];

#[test]
fn every_method_is_as_defined_for_every_kind_of_vector() {
    for method in METHODS {
        for shape in [[1, 1], [1, 40], [40, 1], [5, 129], [7, 2048], [3, 4097], [683, 3]] {
            let case = mixture(shape);
            case.check(method);
            for term in &case.terms {
                Case { terms: vec![*term], ..case.clone() }.check(method);
            }
            for merged in DTYPES {
                Case { merged, base: merged, ..case.clone() }.check(method);
            }
        }
    }
}

#[test]
fn result_does_not_depend_on_the_number_of_threads() {
    for method in METHODS {
        for shape in [[37, 3001], [1, 70_001]] {
            let merged = |n_threads| {
                let pool = ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
                pool.install(|| mixture(shape).merged(method))
            };
            let expected = merged(1);
            for n_threads in [2, 3] {
                let found = merged(n_threads);
                assert!(found.bytes() == expected.bytes(), "{method:?} on {n_threads} threads");
            }
        }
    }
}

fn merged_dense(values: &[f32], dtype: Dtype, method: Method) -> Vec<f32> {
    let shape = vec![values.len()];
    let delta = Weight::from_f32(shape.clone(), values.to_vec()).to_dtype(dtype);
    let terms = [term(&Arc::new(vector("any", [("w", Delta::Dense(delta))])), 1.0)];
    let base = Weight::from_f32(shape, vec![0.0; values.len()]);
    merge_tensor("w", &base, Dtype::F32, 0, method, &terms).unwrap().to_f32_vec()
}

#[test]
fn largest_elements_are_kept_and_of_equal_ones_the_first() {
    let trimmed =
        |values: &[f32], density| merged_dense(values, Dtype::F32, Method::Ties { density });
    assert_eq!(trimmed(&[1.0, -3.0, 2.0, 0.5], 0.5), [0.0, -3.0, 2.0, 0.0]);
    assert_eq!(trimmed(&[1.0, -1.0, 1.0, -1.0], 0.5), [1.0, -1.0, 0.0, 0.0]);
    assert_eq!(trimmed(&[1.0, -1.0, 2.0, -1.0], 0.5), [1.0, 0.0, 2.0, 0.0]);
    // Rounded down, but at least one.
    assert_eq!(trimmed(&[1.0, 2.0, 3.0], 0.66), [0.0, 0.0, 3.0]);
    assert_eq!(trimmed(&[1.0, 2.0, 3.0], 0.1), [0.0, 0.0, 3.0]);
    // Across tasks: the last of the equal ones is far behind the first.
    let values: Vec<f32> = (0..50_000).map(|i| if i % 7 == 0 { 2.0 } else { -1.0 }).collect();
    let n_large = values.iter().filter(|value| **value == 2.0).count();
    let found = merged_dense(&values, Dtype::Bf16, Method::Ties { density: 0.5 });
    let mut n_small = 0;
    for (found, value) in found.iter().zip(&values) {
        let is_kept = *value == 2.0 || n_small < 25_000 - n_large;
        n_small += usize::from(*value == -1.0);
        assert_eq!(*found, if is_kept { *value } else { 0.0 });
    }
}

#[test]
fn sign_is_elected_by_what_is_added() {
    let of = |values: [[f32; 2]; 3], coefficients: [f64; 3]| {
        let terms = values.into_iter().zip(coefficients).map(|(values, coefficient)| {
            let delta = Delta::Dense(Weight::from_f32(vec![2], values.to_vec()));
            term(&Arc::new(vector("any", [("w", delta)])), coefficient)
        });
        let base = Weight::from_f32(vec![2], vec![10.0, -10.0]);
        let terms: Vec<_> = terms.collect();
        let method = Method::Ties { density: 1.0 };
        merge_tensor("w", &base, Dtype::F32, 0, method, &terms).unwrap().to_f32_vec()
    };
    let values = [[1.0, -2.0], [2.0, 1.0], [-4.0, 0.5]];
    assert_eq!(of(values, [1.0, 1.0, 1.0]), [6.0, -12.0]);
    assert_eq!(of(values, [1.0, 1.0, -1.0]), [17.0, -12.5]);
    // A draw counts as positive.
    assert_eq!(of([[1.0, 3.0], [-1.0, -3.0], [0.0, 0.0]], [1.0, 1.0, 1.0]), [11.0, -7.0]);
}

#[test]
fn dropped_elements_leave_the_base_and_the_others_are_rescaled() {
    let values = vec![1.0; 10_000];
    let found = merged_dense(&values, Dtype::F32, Method::Dare { drop: 0.75, seed: 5 });
    let n_kept = found.iter().filter(|value| **value != 0.0).count();
    assert!(found.iter().all(|value| [0.0, 4.0].contains(value)));
    assert!((2300..2700).contains(&n_kept), "{n_kept}");
    let other = merged_dense(&values, Dtype::F32, Method::Dare { drop: 0.75, seed: 6 });
    assert_ne!(found, other);
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    let base = Weight::from_f32(vec![1], vec![1.0]);
    let merged = |method| merge_tensor("w", &base, Dtype::F32, 0, method, &[]).unwrap_err();
    for density in [0.0, -0.1, 1.000_001, f64::NAN, f64::INFINITY] {
        let err = merged(Method::Ties { density });
        assert!(matches!(err, VectorError::Density { .. }), "{err:?}");
        assert_eq!(
            err.to_string(),
            format!("the density is {density}, which is not above 0 and up to 1")
        );
    }
    for drop in [1.0, -0.1, f64::NAN] {
        let err = merged(Method::Dare { drop, seed: 0 });
        assert!(matches!(err, VectorError::DropRate { .. }), "{err:?}");
        assert_eq!(
            err.to_string(),
            format!("the drop probability of DARE is {drop}, which is not from 0 to below 1")
        );
    }
}

fn any_method() -> impl Strategy<Value = Method> {
    prop_oneof![
        Just(Method::TaskArithmetic),
        (0.001..=1.0).prop_map(|density| Method::Ties { density }),
        (0.0..0.99, any::<u64>()).prop_map(|(drop, seed)| Method::Dare { drop, seed }),
    ]
}

/// Compares as shares of the largest value.
#[track_caller]
fn assert_close_by_largest(found: &Weight, expected: &Weight) {
    let (found, expected) = (found.to_f32_vec(), expected.to_f32_vec());
    let largest = expected.iter().fold(f32::MIN_POSITIVE, |largest, it| largest.max(it.abs()));
    let shares = |values: &[f32]| values.iter().map(|it| it / largest).collect::<Vec<_>>();
    assert_close(&shares(&found), &shares(&expected), tolerance::F32);
}

proptest! {
    #[test]
    fn any_recipe_is_merged_as_defined(case in any_case(), method in any_method()) {
        case.check(method);
    }

    #[test]
    fn dropping_nothing_is_task_arithmetic(case in any_case(), seed in any::<u64>()) {
        let found = case.merged(Method::Dare { drop: 0.0, seed });
        let expected = case.merged(Method::TaskArithmetic);
        prop_assert!(found.bytes() == expected.bytes());
    }

    #[test]
    fn zero_gives_back_the_rounded_base_bit_for_bit(case in any_case(), method in any_method()) {
        for zero in [0.0, -0.0, 1e-60] {
            let mut case = case.clone();
            for (_, coefficient) in &mut case.terms {
                *coefficient = zero;
            }
            prop_assert!(case.merged(method).bytes() == case.base().to_dtype(case.merged).bytes());
        }
    }

    /// All λ times a factor give the edit times that factor, whatever the method.
    #[test]
    fn edit_is_linear_in_all_coefficients(
        terms in vec((stored(), -2.0..2.0), 1..4),
        method in any_method(),
        factor in -3.0..3.0_f64,
        seed in 0..1000_u32,
    ) {
        // Without a base, so that what is seen is the edit.
        let base = Weight::from_f32(vec![5, 70], vec![0.0; 350]);
        let case = Case { shape: [5, 70], base: Dtype::F32, merged: Dtype::F32, terms, seed };
        let edit = |factor: f64| {
            let mut recipe = case.recipe();
            for term in &mut recipe {
                term.coefficient *= factor;
            }
            merge_tensor("w", &base, Dtype::F32, 0, method, &recipe).unwrap()
        };
        let scaled = edit(1.0).to_f32_vec().iter().map(|it| it * factor as f32).collect();
        let expected = Weight::from_f32(vec![5, 70], scaled);
        assert_close_by_largest(&edit(factor), &expected);
    }

    /// Two vectors only: the sum that elects a sign is then the same in both orders.
    #[test]
    fn terms_add_up_in_any_order_up_to_rounding(
        stored in (stored(), stored()),
        coefficients in (-2.0..2.0, -2.0..2.0),
        method in any_method(),
        seed in 0..1000_u32,
    ) {
        let terms = vec![(stored.0, coefficients.0), (stored.1, coefficients.1)];
        let case = Case { shape: [5, 70], base: Dtype::F32, merged: Dtype::F32, terms, seed };
        let mut recipe = case.recipe();
        let of = |recipe: &[_]| {
            merge_tensor("w", &case.base(), Dtype::F32, 0, method, recipe).unwrap()
        };
        let expected = of(&recipe);
        recipe.reverse();
        assert_close_by_largest(&of(&recipe), &expected);
    }
}
