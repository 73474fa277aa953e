use half::bf16;
use half::slice::HalfFloatSliceExt as _;
use meav_weights::Values;

use super::Addend;
use super::element::{InLine, widen, window};
use super::fused::MAX_FUSED;
use super::tile::{Block, COLUMNS, Tile};
use crate::Delta;

/// `sum += λ Δ` for a tile.
#[inline(always)]
pub(super) fn add_dense(sums: &mut Block, tile: Tile, factor: f32, values: Values<'_>) {
    for (row, sum) in sums[..tile.n_rows].iter_mut().enumerate() {
        let sum = &mut sum[..tile.len];
        match window(values, tile.place(row), tile.len) {
            Values::F32(values) => add_scaled(sum, factor, values),
            Values::Bf16(values) => add_scaled(sum, factor, values),
            Values::F16(values) => {
                let mut widened = [0.0; COLUMNS];
                let widened = &mut widened[..sum.len()];
                values.convert_to_f32_slice(widened);
                add_scaled(sum, factor, widened);
            }
        }
    }
}

/// As [`add_dense`] for two and more vectors of `bf16`, read side by side.
#[inline(always)]
pub(super) fn add_bf16(sums: &mut Block, tile: Tile, addends: &[Addend<'_>]) {
    for (row, sum) in sums[..tile.n_rows].iter_mut().enumerate() {
        let (sum, start) = (&mut sum[..tile.len], tile.place(row));
        match addends.len() {
            2 => add_bf16_row::<2>(sum, start, addends),
            3 => add_bf16_row::<3>(sum, start, addends),
            _ => add_bf16_row::<MAX_FUSED>(sum, start, addends),
        }
    }
}

#[inline(always)]
fn add_bf16_row<const N: usize>(sum: &mut [f32], start: usize, addends: &[Addend<'_>]) {
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
            *sum = coefficient.mul_add(values[i].to_f32(), *sum);
        }
    }
}

/// `sum += λ (aligned − base)` for a tile.
#[inline(always)]
pub(super) fn add_aligned(
    sums: &mut Block,
    tile: Tile,
    factor: f32,
    aligned: Values<'_>,
    base: Values<'_>,
) {
    for (row, sum) in sums[..tile.n_rows].iter_mut().enumerate() {
        let sum = &mut sum[..tile.len];
        let place = tile.place(row);
        match (window(aligned, place, tile.len), window(base, place, tile.len)) {
            (Values::F32(aligned), Values::F32(base)) => add_difference(sum, factor, aligned, base),
            (Values::F32(aligned), Values::Bf16(base)) => {
                add_difference(sum, factor, aligned, base);
            }
            (Values::Bf16(aligned), Values::F32(base)) => {
                add_difference(sum, factor, aligned, base);
            }
            (Values::Bf16(aligned), Values::Bf16(base)) => {
                add_difference(sum, factor, aligned, base);
            }
            (aligned, base) => {
                let (mut left, mut right) = ([0.0; COLUMNS], [0.0; COLUMNS]);
                let (left, right) = (&mut left[..tile.len], &mut right[..tile.len]);
                widen(aligned, left);
                widen(base, right);
                add_difference(sum, factor, left, right);
            }
        }
    }
}

#[inline(always)]
fn add_scaled<T: InLine>(sum: &mut [f32], factor: f32, values: &[T]) {
    for (sum, value) in sum.iter_mut().zip(values) {
        *sum = factor.mul_add(value.to_f32(), *sum);
    }
}

#[inline(always)]
fn add_difference<A: InLine, B: InLine>(sum: &mut [f32], factor: f32, aligned: &[A], base: &[B]) {
    for (sum, (aligned, base)) in sum.iter_mut().zip(aligned.iter().zip(base)) {
        *sum = factor.mul_add(aligned.to_f32() - base.to_f32(), *sum);
    }
}
