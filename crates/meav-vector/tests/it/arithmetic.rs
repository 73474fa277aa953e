//! The fused kernels against a plain loop over elements.

use std::sync::Arc;

use half::{bf16, f16};
use meav_vector::{Delta, LowRank, merge_tensor};
use meav_weights::{Dtype, Weight};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::{term, vector};

/// A recipe for one tensor.
#[derive(Clone, Debug)]
struct Case {
    shape: [usize; 2],
    base: Dtype,
    merged: Dtype,
    /// How each vector is stored, and its λ.
    terms: Vec<(Stored, f64)>,
    seed: u32,
}

#[derive(Clone, Copy, Debug)]
enum Stored {
    Dense(Dtype),
    LowRank { rank: usize, scale: f32 },
}

const DTYPES: [Dtype; 3] = [Dtype::F32, Dtype::F16, Dtype::Bf16];

/// Values of all signs and sizes, −0.0 and subnormal ones included.
fn values(len: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12345);
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let unit = (state >> 8) as f32 / (1 << 23) as f32 - 1.0;
            match state >> 28 {
                0 => -0.0,
                1 => unit * 1e-39,
                2 => unit * 1e-6,
                3 => unit * 100.0,
                _ => unit,
            }
        })
        .collect()
}

fn delta(stored: Stored, shape: [usize; 2], seed: u32) -> Delta {
    let [n_out, n_in] = shape;
    match stored {
        Stored::Dense(dtype) => {
            let values = values(n_out * n_in, seed);
            Delta::Dense(Weight::from_f32(shape.to_vec(), values).to_dtype(dtype))
        }
        Stored::LowRank { rank, scale } => Delta::LowRank(LowRank {
            a: values(rank * n_in, seed),
            b: values(n_out * rank, seed + 1),
            shape,
            rank,
            scale,
        }),
    }
}

/// What λ multiplies, element by element, and the factor that does: the definition.
fn written_out(delta: &Delta, coefficient: f64) -> (f32, Vec<f32>) {
    let coefficient = coefficient as f32;
    match delta {
        Delta::Dense(weight) => (coefficient, weight.to_f32_vec()),
        Delta::LowRank(LowRank { a, b, shape: [n_out, n_in], rank, scale }) => {
            let element = |row: usize, column: usize| {
                (0..*rank).fold(0.0_f32, |product, k| {
                    b[row * rank + k].mul_add(a[k * n_in + column], product)
                })
            };
            let product = (0..n_out * n_in).map(|i| element(i / n_in, i % n_in)).collect();
            (coefficient * scale, product)
        }
    }
}

fn rounded_bits(values: &[f32], dtype: Dtype) -> Vec<u8> {
    let values = values.iter();
    match dtype {
        Dtype::F32 => values.flat_map(|value| value.to_le_bytes()).collect(),
        Dtype::F16 => values.flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect(),
        Dtype::Bf16 => values.flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect(),
    }
}

/// Merges and compares every bit.
fn check(case: &Case) {
    let Case { shape, base, merged, ref terms, seed } = *case;
    let len = shape[0] * shape[1];
    let base = Weight::from_f32(shape.to_vec(), values(len, seed)).to_dtype(base);
    let deltas: Vec<_> = terms
        .iter()
        .zip(1..)
        .map(|((stored, _), index)| delta(*stored, shape, seed + 10 * index))
        .collect();
    let recipe: Vec<_> = terms
        .iter()
        .zip(&deltas)
        .map(|((_, coefficient), delta)| {
            term(&Arc::new(vector("any", [("w", delta.clone())])), *coefficient)
        })
        .collect();
    let found = merge_tensor("w", &base, merged, &recipe).unwrap();
    let mut sums = base.to_f32_vec();
    for ((_, coefficient), delta) in terms.iter().zip(&deltas) {
        let (factor, addends) = written_out(delta, *coefficient);
        for (sum, addend) in sums.iter_mut().zip(addends) {
            *sum = factor.mul_add(addend, *sum);
        }
    }
    assert_eq!((found.dtype(), found.shape()), (merged, &shape[..]));
    assert!(found.bytes() == rounded_bits(&sums, merged), "{case:?}");
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
        // One task is 32,768 elements, rounded up to whole rows.
        [17, 2047],
        [16, 2048],
        [2, 32_768],
        [2, 32_769],
        [33_000, 1],
    ] {
        for terms in [&terms[..], &terms[1..]] {
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
    let merged = |terms: &[_]| merge_tensor("w", &base, Dtype::F32, terms).unwrap().to_f32_vec();
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
    let merged = merge_tensor("w", &base, Dtype::F32, &terms).unwrap();
    assert_eq!(merged.to_f32_vec(), [epsilon * epsilon]);
}

fn dtype() -> impl Strategy<Value = Dtype> {
    proptest::sample::select(&DTYPES[..])
}

fn stored() -> impl Strategy<Value = Stored> {
    prop_oneof![
        dtype().prop_map(Stored::Dense),
        (1..10_usize, -4.0..4.0_f32).prop_map(|(rank, scale)| Stored::LowRank { rank, scale }),
    ]
}

proptest! {
    #[test]
    fn any_recipe_is_summed_as_defined(
        shape in (1..12_usize, prop_oneof![1..70_usize, 1020..1030_usize, 2040..2060_usize]),
        base in dtype(),
        merged in dtype(),
        terms in vec((stored(), -2.0..2.0), 0..5),
        seed in 0..1000_u32,
    ) {
        check(&Case { shape: shape.into(), base, merged, terms, seed });
    }
}
