use pulp::Simd;

use super::tile::{Block, COLUMNS, ROWS, Tile};
use crate::LowRank;

/// `sum += factor (B A)` for a tile; `scale` is part of the factor.
#[inline(always)]
pub(super) fn add_low_rank<S: Simd>(
    simd: S,
    sums: &mut Block,
    tile: Tile,
    factor: f32,
    factors: &LowRank,
) {
    if tile.n_rows == ROWS {
        return add_rows(simd, sums, tile, factor, factors);
    }
    for (row, sum) in sums[..tile.n_rows].iter_mut().enumerate() {
        add_rows(simd, std::array::from_mut(sum), tile.row(row), factor, factors);
    }
}

#[inline(always)]
fn add_rows<S: Simd, const R: usize>(
    simd: S,
    sums: &mut [[f32; COLUMNS]; R],
    tile: Tile,
    factor: f32,
    factors: &LowRank,
) {
    let LowRank { a, b, rank, shape: [_, n_in], .. } = factors;
    let b: [&[f32]; R] = std::array::from_fn(|row| &b[(tile.first_row + row) * rank..][..*rank]);
    let a_block = |k: usize, i: usize, len: usize| &a[k * n_in + tile.column + i..][..len];
    let splat_factor = simd.splat_f32s(factor);
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
            sum[0] = simd.mul_add_f32s(splat_factor, product[0], sum[0]);
            sum[1] = simd.mul_add_f32s(splat_factor, product[1], sum[1]);
        }
    }
    for i in vector_len..tile.len {
        for (sum, b) in sums.iter_mut().zip(b) {
            let product = b
                .iter()
                .enumerate()
                .fold(0.0, |product: f32, (k, b)| b.mul_add(a_block(k, i, 1)[0], product));
            sum[i] = factor.mul_add(product, sum[i]);
        }
    }
}
