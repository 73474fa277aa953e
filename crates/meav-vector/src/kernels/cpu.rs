use half::slice::HalfFloatSliceExt as _;
use half::{bf16, f16};
use meav_weights::{Dtype, Values, Weight};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::{Delta, LowRank};

/// Columns summed at a time. Most rows fit, so that memory is read from one end to the other.
const COLUMNS: usize = 2048;

/// Rows summed at a time: each factor `A` is then loaded once for all of them.
const ROWS: usize = 4;

/// Elements that one task merges: few, so that all threads read from the same pages of memory.
const TASK: usize = 1 << 12;

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

    /// Whether [`Element::round_in_line`] is as fast as [`Element::round`].
    const ROUNDS_IN_LINE: bool;

    /// As [`Element::round`], of one value.
    fn round_in_line(value: f32) -> Self;
}

impl Element for f32 {
    fn weight(shape: Vec<usize>, values: Vec<Self>) -> Weight {
        Weight::from_f32(shape, values)
    }

    const ROUNDS_IN_LINE: bool = true;

    #[inline(always)]
    fn round_in_line(value: f32) -> Self {
        value
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

    const ROUNDS_IN_LINE: bool = true;

    #[inline(always)]
    fn round_in_line(value: f32) -> Self {
        let bits = value.to_bits();
        let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
        // Rounding could carry a NaN over into another value: keep it a quiet NaN.
        let nan = (bits >> 16) | 0x40;
        bf16::from_bits(if value.is_nan() { nan } else { rounded } as u16)
    }

    #[inline(always)]
    fn round(from: &[f32], to: &mut [Self]) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = Self::round_in_line(*from);
        }
    }
}

impl Element for f16 {
    fn weight(shape: Vec<usize>, values: Vec<Self>) -> Weight {
        Weight::from_f16(shape, values)
    }

    const ROUNDS_IN_LINE: bool = false;

    fn round_in_line(value: f32) -> Self {
        f16::from_f32(value)
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
    if merge_dense(out, base, addends) {
        return;
    }
    let arch = Arch::new();
    // Without factors, rows mean nothing, and one long one is read fastest.
    let has_factors = addends.iter().any(|addend| matches!(addend.delta, Delta::LowRank(_)));
    let row_len = if has_factors { base.row_len() } else { base.len() };
    let task_len = if has_factors { TASK.div_ceil(row_len) * row_len } else { TASK };
    out.par_chunks_mut(task_len).enumerate().for_each(|(index, out)| {
        let start = index * task_len;
        let row_len = row_len.min(out.len());
        arch.dispatch(MergeTask { out, base: base.values(), start, row_len, addends });
    });
}

/// The common case in one loop without a detour: up to [`MAX_FUSED`] dense `bf16` vectors over a
/// base of `f32` or `bf16`. `false` where the case is another.
fn merge_dense<T: Element>(out: &mut [T], base: &Weight, addends: &[Addend<'_>]) -> bool {
    let mut vectors: [(f32, &[bf16]); MAX_FUSED] = [(0.0, &[]); MAX_FUSED];
    if !T::ROUNDS_IN_LINE || addends.len() > MAX_FUSED {
        return false;
    }
    for (vector, addend) in vectors.iter_mut().zip(addends) {
        match addend.delta {
            Delta::Dense(weight) => match weight.values() {
                Values::Bf16(values) => *vector = (addend.coefficient, values),
                _ => return false,
            },
            _ => return false,
        }
    }
    match (base.values(), addends.len()) {
        (Values::F32(base), 1) => merge_fused::<T, f32, 1>(out, base, &vectors),
        (Values::F32(base), 2) => merge_fused::<T, f32, 2>(out, base, &vectors),
        (Values::F32(base), 3) => merge_fused::<T, f32, 3>(out, base, &vectors),
        (Values::F32(base), MAX_FUSED) => merge_fused::<T, f32, MAX_FUSED>(out, base, &vectors),
        (Values::Bf16(base), 1) => merge_fused::<T, bf16, 1>(out, base, &vectors),
        (Values::Bf16(base), 2) => merge_fused::<T, bf16, 2>(out, base, &vectors),
        (Values::Bf16(base), 3) => merge_fused::<T, bf16, 3>(out, base, &vectors),
        (Values::Bf16(base), MAX_FUSED) => merge_fused::<T, bf16, MAX_FUSED>(out, base, &vectors),
        _ => return false,
    }
    true
}

fn merge_fused<T: Element, B: InLine, const N: usize>(
    out: &mut [T],
    base: &[B],
    vectors: &[(f32, &[bf16]); MAX_FUSED],
) {
    let arch = Arch::new();
    out.par_chunks_mut(TASK).enumerate().for_each(|(index, out)| {
        let start = index * TASK;
        let base = &base[start..][..out.len()];
        let coefficients: [f32; N] = std::array::from_fn(|n| vectors[n].0);
        let vectors: [&[bf16]; N] = std::array::from_fn(|n| &vectors[n].1[start..][..out.len()]);
        arch.dispatch(FusedTask { out, base, coefficients, vectors });
    });
}

/// A run of elements of tensors that are alike.
struct FusedTask<'a, T, B, const N: usize> {
    out: &'a mut [T],
    base: &'a [B],
    coefficients: [f32; N],
    vectors: [&'a [bf16]; N],
}

impl<T: Element, B: InLine, const N: usize> WithSimd for FusedTask<'_, T, B, N> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let Self { out, base, coefficients, vectors } = self;
        let base = &base[..out.len()];
        let vectors = vectors.map(|vector| &vector[..out.len()]);
        for i in 0..out.len() {
            let mut sum = base[i].to_f32();
            for n in 0..N {
                sum = coefficients[n].mul_add(vectors[n][i].to_f32(), sum);
            }
            out[i] = T::round_in_line(sum);
        }
    }
}

/// An element type whose conversion is a few instructions that can be vectorised.
trait InLine: Copy + Sync {
    fn to_f32(self) -> f32;
}

impl InLine for f32 {
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }
}

impl InLine for bf16 {
    #[inline(always)]
    fn to_f32(self) -> f32 {
        widened(self)
    }
}

/// The rows of one task; `start` is the first element's place in the whole tensor.
struct MergeTask<'a, T> {
    out: &'a mut [T],
    base: Values<'a>,
    start: usize,
    row_len: usize,
    addends: &'a [Addend<'a>],
}

impl<T: Element> WithSimd for MergeTask<'_, T> {
    type Output = ();

    #[inline(always)]
    #[expect(clippy::large_stack_arrays, reason = "32 KiB, which a thread's stack has to spare")]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { out, base, start, row_len, addends } = self;
        let mut sums = [[0.0; COLUMNS]; ROWS];
        for (index, rows) in out.chunks_mut(ROWS * row_len).enumerate() {
            let n_rows = rows.len() / row_len;
            let at = start + index * ROWS * row_len;
            for column in (0..row_len).step_by(COLUMNS) {
                let len = COLUMNS.min(row_len - column);
                let place = |row: usize| at + row * row_len + column;
                for (row, sum) in sums[..n_rows].iter_mut().enumerate() {
                    widen(window(base, place(row), len), &mut sum[..len]);
                }
                let tile = Tile { first_row: at / row_len, column, len };
                add_all(simd, &mut sums[..n_rows], tile, place, addends);
                for (row, sum) in sums[..n_rows].iter().enumerate() {
                    T::round(&sum[..len], &mut rows[row * row_len + column..][..len]);
                }
            }
        }
    }
}

/// Where a block of sums lies in its tensor.
#[derive(Clone, Copy)]
struct Tile {
    first_row: usize,
    column: usize,
    len: usize,
}

/// Adds every addend in order; `place` gives a row's first element in the whole tensor.
#[inline(always)]
fn add_all<S: Simd>(
    simd: S,
    sums: &mut [[f32; COLUMNS]],
    tile: Tile,
    place: impl Fn(usize) -> usize,
    addends: &[Addend<'_>],
) {
    let mut rest = addends;
    while let Some(addend) = rest.first() {
        if let Delta::LowRank(factors) = addend.delta {
            add_low_rank(simd, sums, tile, addend.coefficient, factors);
            rest = &rest[1..];
            continue;
        }
        let n = leading_dense(rest);
        for (row, sum) in sums.iter_mut().enumerate() {
            add_dense(&mut sum[..tile.len], place(row), &rest[..n]);
        }
        rest = &rest[n..];
    }
}

/// Dense addends at the front that can be added in one pass: several only where all are `bf16`.
#[inline(always)]
fn leading_dense(addends: &[Addend<'_>]) -> usize {
    let is_bf16 = |addend: &&Addend<'_>| matches!(addend.delta, Delta::Dense(weight) if weight.dtype() == Dtype::Bf16);
    addends.iter().take(MAX_FUSED).take_while(is_bf16).count().max(1)
}

/// Vectors that are read side by side: memory answers several streams faster than one.
const MAX_FUSED: usize = 4;

#[inline(always)]
fn add_dense(sum: &mut [f32], start: usize, addends: &[Addend<'_>]) {
    match addends.len() {
        1 => {
            let Addend { coefficient, delta: Delta::Dense(weight) } = addends[0] else { return };
            match window(weight.values(), start, sum.len()) {
                Values::F32(values) => add_scaled(sum, coefficient, values),
                Values::F16(values) => {
                    let mut widened = [0.0; COLUMNS];
                    let widened = &mut widened[..sum.len()];
                    values.convert_to_f32_slice(widened);
                    add_scaled(sum, coefficient, widened);
                }
                Values::Bf16(_) => add_bf16::<1>(sum, start, addends),
            }
        }
        2 => add_bf16::<2>(sum, start, addends),
        3 => add_bf16::<3>(sum, start, addends),
        _ => add_bf16::<MAX_FUSED>(sum, start, addends),
    }
}

#[inline(always)]
fn add_bf16<const N: usize>(sum: &mut [f32], start: usize, addends: &[Addend<'_>]) {
    let mut coefficients = [0.0; N];
    let mut vectors: [&[bf16]; N] = [&[]; N];
    for (index, addend) in addends[..N].iter().enumerate() {
        let Delta::Dense(weight) = addend.delta else { return };
        let Values::Bf16(values) = weight.values() else { return };
        coefficients[index] = addend.coefficient;
        vectors[index] = &values[start..][..sum.len()];
    }
    for (i, sum) in sum.iter_mut().enumerate() {
        for (coefficient, values) in coefficients.iter().zip(vectors) {
            *sum = coefficient.mul_add(widened(values[i]), *sum);
        }
    }
}

/// `sum += λ scale (B A)` for a tile.
#[inline(always)]
fn add_low_rank<S: Simd>(
    simd: S,
    sums: &mut [[f32; COLUMNS]],
    tile: Tile,
    coefficient: f32,
    factors: &LowRank,
) {
    let coefficient = coefficient * factors.scale;
    match <&mut [_; ROWS]>::try_from(&mut *sums) {
        Ok(sums) => add_low_rank_rows(simd, sums, tile, coefficient, factors),
        Err(_) => {
            for (row, sum) in sums.iter_mut().enumerate() {
                let tile = Tile { first_row: tile.first_row + row, ..tile };
                add_low_rank_rows(simd, std::array::from_mut(sum), tile, coefficient, factors);
            }
        }
    }
}

#[inline(always)]
fn add_low_rank_rows<S: Simd, const R: usize>(
    simd: S,
    sums: &mut [[f32; COLUMNS]; R],
    tile: Tile,
    coefficient: f32,
    factors: &LowRank,
) {
    let LowRank { a, b, rank, shape: [_, n_in], .. } = factors;
    let b: [&[f32]; R] = std::array::from_fn(|row| &b[(tile.first_row + row) * rank..][..*rank]);
    let a_block = |k: usize, i: usize, len: usize| &a[k * n_in + tile.column + i..][..len];
    let coefficients = simd.splat_f32s(coefficient);
    // Two registers for each row, so that one addition need not wait for the one before.
    let step = 2 * S::F32_LANES;
    let vector_len = tile.len - tile.len % step;
    for i in (0..vector_len).step_by(step) {
        let mut products = [[simd.splat_f32s(0.0); 2]; R];
        for k in 0..*rank {
            let (a, _) = S::as_simd_f32s(a_block(k, i, step));
            for r in 0..R {
                let b = simd.splat_f32s(b[r][k]);
                products[r][0] = simd.mul_add_f32s(b, a[0], products[r][0]);
                products[r][1] = simd.mul_add_f32s(b, a[1], products[r][1]);
            }
        }
        for (sum, product) in sums.iter_mut().zip(products) {
            let (sum, _) = S::as_mut_simd_f32s(&mut sum[i..i + step]);
            sum[0] = simd.mul_add_f32s(coefficients, product[0], sum[0]);
            sum[1] = simd.mul_add_f32s(coefficients, product[1], sum[1]);
        }
    }
    for i in vector_len..tile.len {
        for (sum, b) in sums.iter_mut().zip(b) {
            let product = b
                .iter()
                .enumerate()
                .fold(0.0, |product: f32, (k, b)| b.mul_add(a_block(k, i, 1)[0], product));
            sum[i] = coefficient.mul_add(product, sum[i]);
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
fn add_scaled(sum: &mut [f32], coefficient: f32, values: &[f32]) {
    for (sum, value) in sum.iter_mut().zip(values) {
        *sum = coefficient.mul_add(*value, *sum);
    }
}
