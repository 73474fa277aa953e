//! Dot products of one vector with the rows of a matrix: what decoding a token consists of.

use half::bf16;
use pulp::Simd;

use super::simd::Element;

/// `out[i] = x · wᵢ` for rows `wᵢ` of the same length as `x`.
///
/// One row after another: read from one end to the other, weights come as fast as memory gives
/// them. The order of each sum depends on the length of `x` and on the processor only.
#[inline(always)]
pub(super) fn dot_rows<S: Simd>(simd: S, x: &[f32], rows: &[f32], out: &mut [f32]) {
    let (x_head, x_tail) = S::as_simd_f32s(x);
    for (row, out) in rows.chunks_exact(x.len()).zip(out) {
        let (head, tail) = S::as_simd_f32s(row);
        // Several sums, so that one addition need not wait for the one before.
        let mut sums = [simd.splat_f32s(0.0); 4];
        let (x_blocks, x_rest) = x_head.as_chunks::<4>();
        let (blocks, rest) = head.as_chunks::<4>();
        for (x, w) in x_blocks.iter().zip(blocks) {
            prefetch_after(w);
            for i in 0..4 {
                sums[i] = simd.mul_add_f32s(x[i], w[i], sums[i]);
            }
        }
        for (x, w) in x_rest.iter().zip(rest) {
            sums[0] = simd.mul_add_f32s(*x, *w, sums[0]);
        }
        *out = reduce(simd, sums);
        for (x, w) in x_tail.iter().zip(tail) {
            *out = x.mul_add(*w, *out);
        }
    }
}

/// Bytes between what is summed and what is asked of memory.
const PREFETCH_DISTANCE: usize = 2048;

/// Asks memory for what lies as far behind `block` as the sums will be when it arrives: the
/// processor's own look-ahead ends at each page.
#[inline(always)]
fn prefetch_after<T>(block: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        const CACHE_LINE: usize = 64;
        let start = std::ptr::from_ref(block).cast::<i8>().wrapping_add(PREFETCH_DISTANCE);
        for offset in (0..size_of::<T>()).step_by(CACHE_LINE) {
            #[expect(unsafe_code, reason = "the standard library has no safe prefetch")]
            // SAFETY: a prefetch reads nothing, whatever the address, mapped or not.
            unsafe {
                _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(offset));
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = block;
}

#[inline(always)]
fn reduce<S: Simd>(simd: S, sums: [S::f32s; 4]) -> f32 {
    let [a, b, c, d] = sums;
    simd.reduce_sum_f32s(simd.add_f32s(simd.add_f32s(a, b), simd.add_f32s(c, d)))
}

/// `out[j] += Σᵢ weights[i] · rows[i, j]` for rows as long as `out`.
#[inline(always)]
pub(super) fn add_weighted_rows<S: Simd>(simd: S, weights: &[f32], rows: &[f32], out: &mut [f32]) {
    const BLOCK: usize = 4;
    let row_len = out.len();
    let (head, tail) = S::as_mut_simd_f32s(out);
    let (blocks, rest) = head.as_chunks_mut::<BLOCK>();
    let in_blocks = blocks.len() * BLOCK;
    for (index, out) in blocks.iter_mut().enumerate() {
        // The sums stay in registers for all rows.
        let mut sums = *out;
        for (weight, row) in weights.iter().zip(rows.chunks_exact(row_len)) {
            let (row, _) = S::as_simd_f32s(row);
            let weight = simd.splat_f32s(*weight);
            for (sum, value) in sums.iter_mut().zip(&row[index * BLOCK..][..BLOCK]) {
                *sum = simd.mul_add_f32s(weight, *value, *sum);
            }
        }
        *out = sums;
    }
    for (weight, row) in weights.iter().zip(rows.chunks_exact(row_len)) {
        let (row, row_tail) = S::as_simd_f32s(row);
        for (sum, value) in rest.iter_mut().zip(&row[in_blocks..]) {
            *sum = simd.mul_add_f32s(simd.splat_f32s(*weight), *value, *sum);
        }
        for (sum, value) in tail.iter_mut().zip(row_tail) {
            *sum = weight.mul_add(*value, *sum);
        }
    }
}

/// A vector whose elements at even and at odd places stand apart.
///
/// Two neighbouring `bf16` weights are one word in memory. Shifted up it is the first as an `f32`,
/// with its lower half cleared the second: no widening is needed, if the vector has been taken
/// apart in the same way.
pub(super) struct Deinterleaved {
    even: Vec<f32>,
    odd: Vec<f32>,
}

impl Deinterleaved {
    /// `None` for an odd length.
    pub(super) fn new(x: &[f32]) -> Option<Self> {
        let (pairs, rest) = x.as_chunks::<2>();
        rest.is_empty().then(|| Self {
            even: pairs.iter().map(|pair| pair[0]).collect(),
            odd: pairs.iter().map(|pair| pair[1]).collect(),
        })
    }
}

/// As [`dot_rows`], for pairs of `bf16` weights, the first in the lower half of each word.
#[inline(always)]
pub(super) fn dot_bf16_rows<S: Simd>(simd: S, x: &Deinterleaved, rows: &[u32], out: &mut [f32]) {
    let (even_head, even_tail) = S::as_simd_f32s(&x.even);
    let (odd_head, odd_tail) = S::as_simd_f32s(&x.odd);
    let sixteen = simd.splat_u32s(16);
    let upper_half = simd.splat_u32s(0xffff_0000);
    let first = |word| simd.transmute_f32s_u32s(simd.wrapping_dyn_shl_u32s(word, sixteen));
    let second = |word| simd.transmute_f32s_u32s(simd.and_u32s(word, upper_half));
    for (row, out) in rows.chunks_exact(x.even.len()).zip(out) {
        let (head, tail) = S::as_simd_u32s(row);
        let mut sums = [simd.splat_f32s(0.0); 4];
        let (even_blocks, even_rest) = even_head.as_chunks::<2>();
        let (odd_blocks, odd_rest) = odd_head.as_chunks::<2>();
        let (blocks, rest) = head.as_chunks::<2>();
        for ((even, odd), word) in even_blocks.iter().zip(odd_blocks).zip(blocks) {
            prefetch_after(word);
            for i in 0..2 {
                sums[i] = simd.mul_add_f32s(even[i], first(word[i]), sums[i]);
                sums[i + 2] = simd.mul_add_f32s(odd[i], second(word[i]), sums[i + 2]);
            }
        }
        for ((even, odd), word) in even_rest.iter().zip(odd_rest).zip(rest) {
            sums[0] = simd.mul_add_f32s(*even, first(*word), sums[0]);
            sums[2] = simd.mul_add_f32s(*odd, second(*word), sums[2]);
        }
        *out = reduce(simd, sums);
        for ((even, odd), word) in even_tail.iter().zip(odd_tail).zip(tail) {
            *out = even.mul_add(f32::from_bits(word << 16), *out);
            *out = odd.mul_add(f32::from_bits(word & 0xffff_0000), *out);
        }
    }
}

/// The rows as words, where they are aligned for it (a tensor's own storage is).
pub(super) fn as_words(rows: &[bf16]) -> Option<&[u32]> {
    if cfg!(target_endian = "big") {
        return None;
    }
    bytemuck::try_cast_slice(rows).ok()
}

/// As [`dot_rows`] for any type and alignment, as fast as the compiler makes it.
#[inline(always)]
pub(super) fn dot_any_rows<W: Element>(x: &[f32], rows: &[W], out: &mut [f32]) {
    for (row, out) in rows.chunks_exact(x.len()).zip(out) {
        *out = 0.0;
        for (x, w) in x.iter().zip(row) {
            *out = x.mul_add(w.to_f32(), *out);
        }
    }
}

#[cfg(test)]
mod tests {
    use pulp::{Arch, WithSimd};

    use super::*;

    struct Check(usize, usize);

    impl WithSimd for Check {
        type Output = ();

        fn with_simd<S: Simd>(self, simd: S) {
            let Self(len, n_rows) = self;
            let x: Vec<f32> = (0..len).map(|i| (i % 13) as f32 - 6.0).collect();
            let rows: Vec<f32> = (0..len * n_rows).map(|i| (i % 7) as f32 - 3.0).collect();
            let halves: Vec<bf16> = rows.iter().map(|w| bf16::from_f32(*w)).collect();
            // Small whole numbers: every order of the sum gives the same.
            let mut expected = vec![0.0; n_rows];
            dot_any_rows(&x, &rows, &mut expected);
            let mut found = vec![f32::NAN; n_rows];
            dot_rows(simd, &x, &rows, &mut found);
            assert_eq!(found, expected, "f32, {len} by {n_rows}");
            if let (Some(x), Some(words)) = (Deinterleaved::new(&x), as_words(&halves)) {
                found.fill(f32::NAN);
                dot_bf16_rows(simd, &x, words, &mut found);
                assert_eq!(found, expected, "bf16, {len} by {n_rows}");
            }
        }
    }

    #[test]
    fn every_length_and_number_of_rows_is_summed_whole() {
        for len in [1, 2, 15, 16, 31, 32, 33, 34, 64, 576] {
            for n_rows in [1, 3, 4, 5, 9] {
                Arch::Scalar.dispatch(Check(len, n_rows));
                Arch::new().dispatch(Check(len, n_rows));
            }
        }
    }
}
