use half::bf16;
use meav_weights::{Values, Weight};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::Addend;
use super::element::{Element, InLine};
use super::tile::TASK;
use crate::Delta;

/// Vectors that are read side by side: memory answers several streams faster than one.
pub(super) const MAX_FUSED: usize = 4;

/// The common case in one loop without a detour: up to [`MAX_FUSED`] dense `bf16` vectors over a
/// base of `f32` or `bf16`. `false` where the case is another.
pub(super) fn merge<T: Element>(out: &mut [T], base: &Weight, addends: &[Addend<'_>]) -> bool {
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
