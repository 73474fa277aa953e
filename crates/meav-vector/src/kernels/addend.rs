use meav_weights::{Dtype, Values};
use pulp::Simd;

use super::Addend;
use super::dense::{add_aligned, add_bf16, add_dense};
use super::fused::MAX_FUSED;
use super::low_rank::add_low_rank;
use super::sign::add_sign;
use super::sparse::add_sparse;
use super::tile::{Block, Tile};
use crate::Delta;

impl Addend<'_> {
    /// What the values that [`read`] gives are multiplied by.
    pub(super) fn factor(&self) -> f32 {
        match self.delta {
            Delta::LowRank(factors) => self.coefficient * factors.scale,
            _ => self.coefficient,
        }
    }
}

/// Adds every addend in order.
#[inline(always)]
pub(super) fn add_all<S: Simd>(
    simd: S,
    sums: &mut Block,
    tile: Tile,
    base: Values<'_>,
    addends: &[Addend<'_>],
) {
    let mut rest = addends;
    while let Some(addend) = rest.first() {
        let n_bf16 = leading_bf16(rest);
        if n_bf16 > 1 {
            add_bf16(sums, tile, &rest[..n_bf16]);
            rest = &rest[n_bf16..];
        } else {
            add(simd, sums, tile, base, addend.factor(), addend.delta);
            rest = &rest[1..];
        }
    }
}

/// How many dense `bf16` vectors at the front can be added in one pass.
#[inline(always)]
fn leading_bf16(addends: &[Addend<'_>]) -> usize {
    let is_bf16 = |addend: &&Addend<'_>| matches!(addend.delta, Delta::Dense(weight) if weight.dtype() == Dtype::Bf16);
    addends.iter().take(MAX_FUSED).take_while(is_bf16).count()
}

/// Writes a tile's values, low-rank ones without their scale, over what was there.
#[inline(always)]
pub(super) fn read<S: Simd>(
    simd: S,
    values: &mut Block,
    tile: Tile,
    base: Values<'_>,
    delta: &Delta,
) {
    for row in &mut values[..tile.n_rows] {
        row[..tile.len].fill(0.0);
    }
    add(simd, values, tile, base, 1.0, delta);
}

#[inline(always)]
fn add<S: Simd>(
    simd: S,
    sums: &mut Block,
    tile: Tile,
    base: Values<'_>,
    factor: f32,
    delta: &Delta,
) {
    match delta {
        Delta::Dense(weight) => add_dense(sums, tile, factor, weight.values()),
        Delta::Aligned(weight) => add_aligned(sums, tile, factor, weight.values(), base),
        Delta::LowRank(factors) => add_low_rank(simd, sums, tile, factor, factors),
        Delta::Sparse(sparse) => add_sparse(sums, tile, factor, sparse),
        Delta::Sign(sign) => add_sign(sums, tile, factor, sign),
    }
}
