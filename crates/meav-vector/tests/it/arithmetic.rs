//! The fused kernels against a plain loop over elements.

use std::sync::Arc;

use meav_vector::{Delta, Method};
use meav_weights::{Dtype, Weight};
use proptest::prelude::*;

use crate::reference::{Case, DTYPES, Stored, any_case};
use crate::{sum_tensor, term, vector};

/// Merges and compares every bit.
fn check(case: &Case) {
    case.check(Method::TaskArithmetic);
}

#[test]
fn every_mixture_of_types_is_summed_as_defined() {
    for base in DTYPES {
        for merged in DTYPES {
            let terms = vec![
                (Stored::Dense(Dtype::Bf16), 0.7),
                (Stored::LowRank { rank: 5, scale: 2.0 }, -1.3),
                (Stored::Dense(Dtype::F32), 1.0),
                (Stored::Dense(Dtype::F16), -0.1),
                (Stored::LowRank { rank: 8, scale: 0.37 }, 0.9),
                (Stored::Sparse(Dtype::Bf16), 1.1),
                (Stored::Sign, -0.6),
                (Stored::Aligned(Dtype::F16), 0.4),
                (Stored::Sparse(Dtype::F16), -0.2),
                (Stored::Aligned(Dtype::Bf16), -1.5),
                (Stored::Sparse(Dtype::F32), 0.8),
                (Stored::Aligned(Dtype::F32), 0.3),
            ];
            check(&Case { shape: [3, 129], base, merged, terms, seed: 1 });
        }
    }
}

#[test]
fn any_number_of_vectors_in_a_row_is_summed_as_defined() {
    let low_rank = (Stored::LowRank { rank: 2, scale: 0.5 }, 1.25);
    for dtype in DTYPES {
        for n in 1..=9 {
            let dense = |index: usize| (Stored::Dense(dtype), 0.3 * index as f64 - 1.0);
            let mut terms: Vec<_> = (0..n).map(dense).collect();
            let case = Case { shape: [5, 300], base: dtype, merged: dtype, terms, seed: 3 };
            check(&case);
            terms = case.terms.clone();
            terms.insert(n / 2, low_rank);
            terms.push(low_rank);
            check(&Case { terms, ..case });
        }
    }
}

#[test]
fn any_number_of_rows_and_ranks_is_summed_as_defined() {
    for n_rows in 1..=17 {
        for rank in [1, 2, 7, 16] {
            let terms = vec![
                (Stored::LowRank { rank, scale: 2.0 }, 0.7),
                (Stored::LowRank { rank: 3, scale: -1.0 }, 0.2),
            ];
            let (base, merged) = (Dtype::Bf16, Dtype::F32);
            check(&Case { shape: [n_rows, 77], base, merged, terms, seed: n_rows as u32 });
        }
    }
}

#[test]
fn blocks_and_tasks_leave_no_seams() {
    let terms = [
        (Stored::LowRank { rank: 3, scale: 1.5 }, 0.5),
        (Stored::Dense(Dtype::F16), 1.5),
        (Stored::Sparse(Dtype::Bf16), 2.5),
        (Stored::Sign, 0.75),
        (Stored::Aligned(Dtype::Bf16), -0.25),
        (Stored::Dense(Dtype::Bf16), -0.25),
    ];
    for shape in [
        [1, 1],
        [9, 1023],
        [9, 1025],
        [5, 511],
        [5, 513],
        [7, 1],
        [2, 2047],
        [2, 2048],
        [2, 2049],
        [3, 4097],
        [683, 3],
        // One task is 4,096 elements, rounded up to whole rows.
        [17, 2047],
        [16, 2048],
        [2, 32_768],
        [2, 32_769],
        // Columns that need more than 16 bits.
        [2, 65_600],
        [33_000, 1],
    ] {
        // With and without such as are made of rows.
        for terms in [&terms[..], &terms[1..], &terms[2..], &terms[3..], &terms[4..]] {
            for (base, merged) in [(Dtype::F32, Dtype::Bf16), (Dtype::Bf16, Dtype::F16)] {
                check(&Case { shape, base, merged, terms: terms.to_vec(), seed: 7 });
            }
        }
    }
}

#[test]
fn the_order_of_the_recipe_is_the_order_of_the_sum() {
    let large = vector("large", [("w", Delta::Dense(Weight::from_f32(vec![1], vec![1e8])))]);
    let small = vector("small", [("w", Delta::Dense(Weight::from_f32(vec![1], vec![1.0])))]);
    let (large, small) = (Arc::new(large), Arc::new(small));
    let base = Weight::from_f32(vec![1], vec![0.0]);
    let merged = |terms: &[_]| sum_tensor("w", &base, Dtype::F32, terms).unwrap().to_f32_vec();
    let (plus, minus) = (term(&large, 1.0), term(&large, -1.0));
    assert_eq!(merged(&[plus.clone(), term(&small, 1.0), minus.clone()]), [0.0]);
    assert_eq!(merged(&[plus, minus, term(&small, 1.0)]), [1.0]);
}

/// Two roundings would give 0.
#[test]
fn multiplication_and_addition_are_fused() {
    let epsilon = f32::EPSILON;
    let delta = Delta::Dense(Weight::from_f32(vec![1], vec![1.0 + epsilon]));
    let vector = Arc::new(vector("any", [("w", delta)]));
    let base = Weight::from_f32(vec![1], vec![-(1.0 + 2.0 * epsilon)]);
    let terms = [term(&vector, f64::from(1.0 + epsilon))];
    let merged = sum_tensor("w", &base, Dtype::F32, &terms).unwrap();
    assert_eq!(merged.to_f32_vec(), [epsilon * epsilon]);
}

proptest! {
    #[test]
    fn any_recipe_is_summed_as_defined(case in any_case()) {
        check(&case);
    }
}
