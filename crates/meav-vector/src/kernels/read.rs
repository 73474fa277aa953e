use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::low_rank::add_low_rank;
use super::tile::{COLUMNS, Layout, ROWS, round_tile};
use crate::LowRank;

/// Writes some rows of `B · A` out, without their scale: bit for bit what a merge adds.
///
/// # Panics
///
/// Unless `out` has room for just these rows.
pub(crate) fn read_product(factors: &LowRank, rows: Range<usize>, out: &mut [f32]) {
    let [_, row_len] = factors.shape;
    assert_eq!(out.len(), rows.len() * row_len, "output and rows");
    let arch = Arch::new();
    let layout = Layout::of_rows(row_len);
    out.par_chunks_mut(layout.task_len).enumerate().for_each(|(index, out)| {
        let start = rows.start * row_len + index * layout.task_len;
        arch.dispatch(ProductTask { out, start, layout, factors });
    });
}

/// Whole rows; `start` is the first one's place in the whole tensor.
struct ProductTask<'a> {
    out: &'a mut [f32],
    start: usize,
    layout: Layout,
    factors: &'a LowRank,
}

impl WithSimd for ProductTask<'_> {
    type Output = ();

    #[inline(always)]
    #[expect(clippy::large_stack_arrays, reason = "32 KiB, which a thread's stack has to spare")]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { out, start, layout, factors } = self;
        let mut values = [[0.0; COLUMNS]; ROWS];
        for tile in layout.tiles(start, out.len()) {
            for row in &mut values[..tile.n_rows] {
                row[..tile.len].fill(0.0);
            }
            add_low_rank(simd, &mut values, tile, 1.0, factors);
            round_tile(tile, &values, &mut out[tile.place(0) - start..]);
        }
    }
}
