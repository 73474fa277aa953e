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

/// The definition, element by element.
fn reference(base: &[f32], n_in: usize, terms: &[(f32, &Delta)]) -> Vec<f32> {
    let mut out = base.to_vec();
    for (index, sum) in out.iter_mut().enumerate() {
        for (coefficient, delta) in terms {
            match delta {
                Delta::Dense(weight) => {
                    *sum = coefficient.mul_add(weight.to_f32_vec()[index], *sum);
                }
                Delta::LowRank(LowRank { a, b, rank, scale, .. }) => {
                    let (row, column) = (index / n_in, index % n_in);
                    let product = (0..*rank).fold(0.0_f32, |product, k| {
                        b[row * rank + k].mul_add(a[k * n_in + column], product)
                    });
                    *sum = (coefficient * scale).mul_add(product, *sum);
                }
            }
        }
    }
    out
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
    let widened: Vec<_> = deltas
        .iter()
        .map(|delta| match delta {
            Delta::Dense(weight) => Delta::Dense(weight.to_dtype(Dtype::F32)),
            low_rank @ Delta::LowRank(_) => low_rank.clone(),
        })
        .collect();
    let addends: Vec<_> =
        terms.iter().map(|(_, coefficient)| *coefficient as f32).zip(&widened).collect();
    let sums = reference(&base.to_f32_vec(), shape[1], &addends);
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
