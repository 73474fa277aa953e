use half::slice::HalfFloatSliceExt as _;
use half::{bf16, f16};
use meav_weights::{Values, Weight};
use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;

use crate::{Delta, LowRank};

/// Elements summed at a time: 8 KiB of `f32`, which stay in the first-level cache.
const BLOCK: usize = 2048;

/// Elements that one task merges.
const TASK: usize = 1 << 15;

/// One addend of a tensor's sum.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addend<'a> {
    /// λ.
    pub(crate) coefficient: f32,
    /// What it multiplies.
    pub(crate) delta: &'a Delta,
}

/// An element type that a sum is rounded to.
pub(crate) trait Element: Copy + Send + Sync + Default {
    /// A tensor of such values.
    fn weight(shape: Vec<usize>, values: Vec<Self>) -> Weight;

    /// To nearest, ties to even.
    fn round(from: &[f32], to: &mut [Self]);
}

impl Element for f32 {
    fn weight(shape: Vec<usize>, values: Vec<Self>) -> Weight {
        Weight::from_f32(shape, values)
    }

    #[inline(always)]
    fn round(from: &[f32], to: &mut [Self]) {
        to.copy_from_slice(from);
    }
}

impl Element for bf16 {
    fn weight(shape: Vec<usize>, values: Vec<Self>) -> Weight {
        Weight::from_bf16(shape, values)
    }

    #[inline(always)]
    fn round(from: &[f32], to: &mut [Self]) {
        for (to, from) in to.iter_mut().zip(from) {
            let bits = from.to_bits();
            let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
            // Rounding could carry a NaN over into another value: keep it a quiet NaN.
            let nan = (bits >> 16) | 0x40;
            *to = bf16::from_bits(if from.is_nan() { nan } else { rounded } as u16);
        }
    }
}

impl Element for f16 {
    fn weight(shape: Vec<usize>, values: Vec<Self>) -> Weight {
        Weight::from_f16(shape, values)
    }

    fn round(from: &[f32], to: &mut [Self]) {
        to.convert_from_f32_slice(from);
    }
}

/// `out = base + Σᵢ λᵢ Δᵢ`, in parallel over groups of rows.
///
/// Every element is summed in `f32` with fused multiply-add, in the order of `addends`, and rounded
/// once. A low-rank delta's element is `Σₖ bₖ aₖ`, likewise in order, then scaled by `λ · scale`.
/// The result does not depend on the number of threads.
///
/// # Panics
///
/// Unless `out` has as many elements as `base`, and every delta its shape.
pub(crate) fn merge<T: Element>(out: &mut [T], base: &Weight, addends: &[Addend<'_>]) {
    assert_eq!(out.len(), base.len(), "output and base");
    for addend in addends {
        assert_eq!(addend.delta.shape(), base.shape(), "delta and base");
    }
    if base.is_empty() {
        return;
    }
    let arch = Arch::new();
    let row_len = base.row_len();
    let task_len = TASK.div_ceil(row_len) * row_len;
    out.par_chunks_mut(task_len).enumerate().for_each(|(index, out)| {
        let start = index * task_len;
        arch.dispatch(MergeTask { out, base: base.values(), start, row_len, addends });
    });
}

/// The rows of one task; `start` is the first one's place in the whole tensor.
struct MergeTask<'a, T> {
    out: &'a mut [T],
    base: Values<'a>,
    start: usize,
    row_len: usize,
    addends: &'a [Addend<'a>],
}

impl<T: Element> NullaryFnOnce for MergeTask<'_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let mut sum = [0.0; BLOCK];
        let mut product = [0.0; BLOCK];
        let has_low_rank =
            self.addends.iter().any(|addend| matches!(addend.delta, Delta::LowRank(_)));
        // Blocks of factors must not cross a row; blocks of dense vectors need not care.
        let run = if has_low_rank { self.row_len } else { self.out.len() };
        for run_start in (0..self.out.len()).step_by(run) {
            for offset in (0..run).step_by(BLOCK) {
                let at = run_start + offset;
                let len = BLOCK.min(run - offset);
                let sum = &mut sum[..len];
                let start = self.start + at;
                widen(window(self.base, start, len), sum);
                for addend in self.addends {
                    match addend.delta {
                        Delta::Dense(weight) => {
                            let values = window(weight.values(), start, len);
                            add_values(sum, addend.coefficient, values, &mut product);
                        }
                        Delta::LowRank(factors) => {
                            let product = &mut product[..len];
                            let row = start / self.row_len;
                            multiply_row(factors, row, start % self.row_len, product);
                            add_scaled(sum, addend.coefficient * factors.scale, product);
                        }
                    }
                }
                T::round(sum, &mut self.out[at..at + len]);
            }
        }
    }
}

fn window(values: Values<'_>, start: usize, len: usize) -> Values<'_> {
    match values {
        Values::F32(values) => Values::F32(&values[start..start + len]),
        Values::F16(values) => Values::F16(&values[start..start + len]),
        Values::Bf16(values) => Values::Bf16(&values[start..start + len]),
    }
}

#[inline(always)]
fn widen(values: Values<'_>, to: &mut [f32]) {
    match values {
        Values::F32(values) => to.copy_from_slice(values),
        Values::F16(values) => values.convert_to_f32_slice(to),
        Values::Bf16(values) => {
            for (to, value) in to.iter_mut().zip(values) {
                *to = widened(*value);
            }
        }
    }
}

/// Exact, and without the branches of the library's conversion, so that it can be vectorised.
#[inline(always)]
fn widened(value: bf16) -> f32 {
    f32::from_bits(u32::from(value.to_bits()) << 16)
}

#[inline(always)]
fn add_values(sum: &mut [f32], coefficient: f32, values: Values<'_>, scratch: &mut [f32; BLOCK]) {
    match values {
        Values::F32(values) => add_scaled(sum, coefficient, values),
        Values::Bf16(values) => {
            for (sum, value) in sum.iter_mut().zip(values) {
                *sum = coefficient.mul_add(widened(*value), *sum);
            }
        }
        Values::F16(values) => {
            let scratch = &mut scratch[..values.len()];
            values.convert_to_f32_slice(scratch);
            add_scaled(sum, coefficient, scratch);
        }
    }
}

#[inline(always)]
fn add_scaled(sum: &mut [f32], coefficient: f32, values: &[f32]) {
    for (sum, value) in sum.iter_mut().zip(values) {
        *sum = coefficient.mul_add(*value, *sum);
    }
}

/// `product = (B · A)[row, column ..]`.
#[inline(always)]
fn multiply_row(factors: &LowRank, row: usize, column: usize, product: &mut [f32]) {
    let LowRank { a, b, rank, shape: [_, n_in], .. } = factors;
    let b = &b[row * rank..][..*rank];
    let a_row = |k: usize, len: usize| &a[k * n_in + column..][..len];
    product.fill(0.0);
    let len = product.len();
    let mut k = 0;
    // Four rows of A at a time: the sum is then read and written a quarter as often.
    while k + 4 <= *rank {
        let [a0, a1, a2, a3] = [0, 1, 2, 3].map(|i| a_row(k + i, len));
        let (b0, b1, b2, b3) = (b[k], b[k + 1], b[k + 2], b[k + 3]);
        for (i, product) in product.iter_mut().enumerate() {
            let sum = b0.mul_add(a0[i], *product);
            let sum = b1.mul_add(a1[i], sum);
            let sum = b2.mul_add(a2[i], sum);
            *product = b3.mul_add(a3[i], sum);
        }
        k += 4;
    }
    while k < *rank {
        add_scaled(product, b[k], a_row(k, len));
        k += 1;
    }
}
