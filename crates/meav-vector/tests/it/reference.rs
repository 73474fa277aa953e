//! Merges as they are defined: one element after the other, one vector written out after the other.

use std::cmp::Reverse;
use std::sync::Arc;

use half::{bf16, f16};
use meav_vector::{Delta, LowRank, Method, Sign, Sparse, Term, merge_tensor};
use meav_weights::{Dtype, Integers, Weight};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::{term, vector};

/// A recipe for one tensor.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) shape: [usize; 2],
    pub(crate) base: Dtype,
    pub(crate) merged: Dtype,
    /// How each vector is stored, and its λ.
    pub(crate) terms: Vec<(Stored, f64)>,
    pub(crate) seed: u32,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Stored {
    Dense(Dtype),
    LowRank { rank: usize, scale: f32 },
    Sparse(Dtype),
    Sign,
    Aligned(Dtype),
}

pub(crate) const DTYPES: [Dtype; 3] = [Dtype::F32, Dtype::F16, Dtype::Bf16];

/// Values of all signs and sizes, −0.0, subnormal and equal ones included.
pub(crate) fn values(len: usize, seed: u32) -> Vec<f32> {
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
                4 => 0.5_f32.copysign(unit),
                _ => unit,
            }
        })
        .collect()
}

pub(crate) fn delta(stored: Stored, shape: [usize; 2], seed: u32) -> Delta {
    let [n_out, n_in] = shape;
    let dense = || values(n_out * n_in, seed);
    match stored {
        Stored::Dense(dtype) => {
            Delta::Dense(Weight::from_f32(shape.to_vec(), dense()).to_dtype(dtype))
        }
        Stored::Aligned(dtype) => {
            Delta::Aligned(Weight::from_f32(shape.to_vec(), dense()).to_dtype(dtype))
        }
        Stored::LowRank { rank, scale } => Delta::LowRank(LowRank {
            a: values(rank * n_in, seed),
            b: values(n_out * rank, seed + 1),
            shape,
            rank,
            scale,
        }),
        Stored::Sparse(dtype) => {
            let is_kept = |value: &f32| value.to_bits().is_multiple_of(3);
            let values: Vec<_> =
                dense().iter().map(|value| if is_kept(value) { *value } else { 0.0 }).collect();
            Delta::Sparse(Sparse::from_dense(shape.to_vec(), &values, dtype).unwrap())
        }
        Stored::Sign => Delta::Sign(Sign::from_dense(shape.to_vec(), &dense()).unwrap()),
    }
}

/// What λ multiplies, element by element where there is one, and the factor that does.
fn written_out(delta: &Delta, coefficient: f64, base: &Weight) -> (f32, Vec<Option<f32>>) {
    let coefficient = coefficient as f32;
    match delta {
        Delta::Dense(weight) => (coefficient, some(&weight.to_f32_vec())),
        Delta::Aligned(weight) => {
            let (aligned, base) = (weight.to_f32_vec(), base.to_f32_vec());
            let difference: Vec<_> = aligned.iter().zip(&base).map(|(a, b)| a - b).collect();
            (coefficient, some(&difference))
        }
        Delta::LowRank(LowRank { a, b, shape: [n_out, n_in], rank, scale }) => {
            let element = |row: usize, column: usize| {
                (0..*rank).fold(0.0_f32, |product, k| {
                    b[row * rank + k].mul_add(a[k * n_in + column], product)
                })
            };
            let product: Vec<_> = (0..n_out * n_in).map(|i| element(i / n_in, i % n_in)).collect();
            (coefficient * scale, some(&product))
        }
        Delta::Sparse(sparse) => (coefficient, scattered(sparse)),
        Delta::Sign(sign) => {
            let element = |row: usize, column: usize| {
                let is_negative = sign.row_words(row)[column / 32] >> (column % 32) & 1 == 1;
                if is_negative { -sign.scales()[row] } else { sign.scales()[row] }
            };
            let n_in = sign.row_len();
            let all = (0..sign.n_rows() * n_in).map(|i| Some(element(i / n_in, i % n_in)));
            (coefficient, all.collect())
        }
    }
}

fn some(values: &[f32]) -> Vec<Option<f32>> {
    values.iter().copied().map(Some).collect()
}

fn scattered(sparse: &Sparse) -> Vec<Option<f32>> {
    let values = sparse.weight().to_f32_vec();
    let mut out = vec![None; sparse.n_rows() * sparse.row_len()];
    for row in 0..sparse.n_rows() {
        for i in sparse.row(row) {
            let column = match sparse.columns() {
                Integers::U16(columns) => usize::from(columns[i]),
                Integers::U32(columns) => columns[i] as usize,
            };
            out[row * sparse.row_len() + column] = Some(values[i]);
        }
    }
    out
}

/// Leaves the `density · n` largest.
fn trim(values: &mut [Option<f32>], density: f64) {
    let n_kept = ((density * values.len() as f64) as usize).max(1);
    let mut places: Vec<usize> = (0..values.len()).collect();
    // The sort is stable: of equal magnitudes, the first stay.
    places.sort_by_key(|i| Reverse(values[*i].unwrap_or(0.0).abs().to_bits()));
    for i in &places[n_kept.min(places.len())..] {
        values[*i] = None;
    }
}

/// Which elements a method that drops some adds of a vector: asked with a vector of ones.
fn kept(method: Method, domain: &str, len: usize) -> Vec<bool> {
    let (zeros, ones) = (vec![0.0; len], vec![1.0; len]);
    let delta = Delta::Dense(Weight::from_f32(vec![len], ones));
    let terms = [term(&Arc::new(vector(domain, [("w", delta)])), 1.0)];
    let zeros = Weight::from_f32(vec![len], zeros);
    let merged = merge_tensor("w", &zeros, Dtype::F32, 0, method, &terms).unwrap();
    merged.to_f32_vec().iter().map(|value| *value != 0.0).collect()
}

impl Case {
    pub(crate) fn base(&self) -> Weight {
        let values = values(self.shape[0] * self.shape[1], self.seed);
        Weight::from_f32(self.shape.to_vec(), values).to_dtype(self.base)
    }

    pub(crate) fn deltas(&self) -> Vec<Delta> {
        let seeds = (1..).map(|index| self.seed + 10 * index);
        let terms = self.terms.iter().zip(seeds);
        terms.map(|((stored, _), seed)| delta(*stored, self.shape, seed)).collect()
    }

    /// Each vector has its place in the recipe for its name.
    pub(crate) fn recipe(&self) -> Vec<Term> {
        let deltas = self.deltas().into_iter().enumerate();
        let terms = self.terms.iter().zip(deltas);
        terms
            .map(|((_, coefficient), (index, delta))| {
                term(&Arc::new(vector(&index.to_string(), [("w", delta)])), *coefficient)
            })
            .collect()
    }

    pub(crate) fn merged(&self, method: Method) -> Weight {
        merge_tensor("w", &self.base(), self.merged, 0, method, &self.recipe()).unwrap()
    }

    /// Merges and compares every bit.
    pub(crate) fn check(&self, method: Method) {
        let found = self.merged(method);
        let expected = rounded_bits(&self.sums(method), self.merged);
        assert_eq!((found.dtype(), found.shape()), (self.merged, &self.shape[..]));
        assert!(found.bytes() == expected, "{method:?} of {self:?}");
    }

    /// The definition.
    fn sums(&self, method: Method) -> Vec<f32> {
        let base = self.base();
        let mut addends = Vec::new();
        let terms = self.terms.iter().zip(self.deltas()).enumerate();
        for (index, ((_, coefficient), delta)) in terms.filter(|(_, (term, _))| term.1 != 0.0) {
            let rescaled = match method {
                Method::Dare { drop, .. } => f64::from(*coefficient as f32) / (1.0 - drop),
                _ => *coefficient,
            };
            let (factor, mut values) = written_out(&delta, rescaled, &base);
            match method {
                Method::TaskArithmetic | Method::Dare { drop: 0.0, .. } => {}
                Method::Ties { density } => trim(&mut values, density),
                Method::Dare { .. } => {
                    let kept = kept(method, &index.to_string(), values.len());
                    for (value, kept) in values.iter_mut().zip(kept) {
                        *value = value.filter(|value| kept && *value != 0.0);
                    }
                }
            }
            addends.push((factor, values));
        }
        if matches!(method, Method::Ties { .. }) {
            leave_elected(&mut addends, base.len());
        }
        let mut sums = base.to_f32_vec();
        for (factor, values) in addends {
            for (sum, value) in sums.iter_mut().zip(values) {
                *sum = value.map_or(*sum, |value| factor.mul_add(value, *sum));
            }
        }
        sums
    }
}

fn leave_elected(addends: &mut [(f32, Vec<Option<f32>>)], len: usize) {
    for i in 0..len {
        let contribution =
            |(factor, values): &(f32, Vec<Option<f32>>)| factor * values[i].unwrap_or(0.0);
        let vote = addends.iter().map(contribution).fold(0.0, |vote, it| vote + it);
        for addend in &mut *addends {
            let own = contribution(addend);
            if own == 0.0 || (own > 0.0) != (vote >= 0.0) {
                addend.1[i] = None;
            }
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

fn dtype() -> impl Strategy<Value = Dtype> {
    proptest::sample::select(&DTYPES[..])
}

pub(crate) fn stored() -> impl Strategy<Value = Stored> {
    prop_oneof![
        dtype().prop_map(Stored::Dense),
        (1..10_usize, -4.0..4.0_f32).prop_map(|(rank, scale)| Stored::LowRank { rank, scale }),
        dtype().prop_map(Stored::Sparse),
        Just(Stored::Sign),
        dtype().prop_map(Stored::Aligned),
    ]
}

/// Any number of vectors of any kinds.
pub(crate) fn any_case() -> impl Strategy<Value = Case> {
    let shape = (1..12_usize, prop_oneof![1..70_usize, 1020..1030_usize, 2040..2060_usize]);
    let terms = vec((stored(), prop_oneof![9 => -2.0..2.0, 1 => Just(0.0)]), 0..5);
    (shape, dtype(), dtype(), terms, 0..1000_u32).prop_map(|(shape, base, merged, terms, seed)| {
        Case { shape: shape.into(), base, merged, terms, seed }
    })
}
