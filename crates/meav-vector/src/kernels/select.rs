use meav_weights::{Values, Weight};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::addend::read;
use super::tile::{Block, COLUMNS, Layout, ROWS, Tile, round_tile, widen_tile};
use super::{Addend, Cut, Draw, Element};

/// Adds what is left of each vector after its cut where its sign is that of the sum of all.
///
/// The sign is elected from `Σᵢ λᵢ Δᵢ` over what the cuts leave, rounded at every step; a sum of 0
/// counts as positive.
pub(super) fn merge_elected<T: Element>(
    out: &mut [T],
    base: &Weight,
    addends: &[Addend<'_>],
    cuts: &[Cut],
) {
    let arch = Arch::new();
    let layout = Layout::new(base, addends.iter().map(|addend| addend.delta));
    let base = base.values();
    out.par_chunks_mut(layout.task_len).enumerate().for_each_init(
        || blocks(addends.len()),
        |values, (index, out)| {
            let start = index * layout.task_len;
            arch.dispatch(ElectTask { out, base, start, layout, addends, cuts, values });
        },
    );
}

/// Adds what was drawn of each vector.
pub(super) fn merge_drawn<T: Element>(
    out: &mut [T],
    base: &Weight,
    addends: &[Addend<'_>],
    draws: &[Draw],
) {
    let arch = Arch::new();
    let layout = Layout::new(base, addends.iter().map(|addend| addend.delta));
    let base = base.values();
    out.par_chunks_mut(layout.task_len).enumerate().for_each_init(
        || blocks(1),
        |values, (index, out)| {
            let start = index * layout.task_len;
            let values = &mut values[0];
            arch.dispatch(DrawTask { out, base, start, layout, addends, draws, values });
        },
    );
}

#[expect(clippy::large_stack_arrays, reason = "32 KiB, which a thread's stack has to spare")]
fn blocks(n: usize) -> Vec<Block> {
    vec![[[0.0; COLUMNS]; ROWS]; n]
}

struct ElectTask<'a, T> {
    out: &'a mut [T],
    base: Values<'a>,
    start: usize,
    layout: Layout,
    addends: &'a [Addend<'a>],
    cuts: &'a [Cut],
    /// Room for a tile of each addend.
    values: &'a mut [Block],
}

impl<T: Element> WithSimd for ElectTask<'_, T> {
    type Output = ();

    #[inline(always)]
    #[expect(clippy::large_stack_arrays, reason = "64 KiB, which a thread's stack has to spare")]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { out, base, start, layout, addends, cuts, values } = self;
        let (mut sums, mut votes) = ([[0.0; COLUMNS]; ROWS], [[0.0; COLUMNS]; ROWS]);
        for tile in layout.tiles(start, out.len()) {
            widen_tile(tile, base, &mut sums);
            for row in &mut votes[..tile.n_rows] {
                row[..tile.len].fill(0.0);
            }
            for ((addend, cut), values) in addends.iter().zip(cuts).zip(values.iter_mut()) {
                read(simd, values, tile, base, addend.delta);
                vote(tile, addend.factor(), *cut, values, &mut votes);
            }
            for (addend, values) in addends.iter().zip(values.iter()) {
                add_elected(tile, addend.factor(), values, &votes, &mut sums);
            }
            round_tile(tile, &sums, &mut out[tile.place(0) - start..]);
        }
    }
}

/// Sets what is below the cut to 0, and adds the rest to the election.
#[inline(always)]
fn vote(tile: Tile, factor: f32, cut: Cut, values: &mut Block, votes: &mut Block) {
    let rows = values[..tile.n_rows].iter_mut().zip(&mut votes[..tile.n_rows]);
    for (row, (values, votes)) in rows.enumerate() {
        cut.trim(tile.place(row), &mut values[..tile.len]);
        for (vote, value) in votes[..tile.len].iter_mut().zip(&values[..tile.len]) {
            *vote += factor * value;
        }
    }
}

#[inline(always)]
fn add_elected(tile: Tile, factor: f32, values: &Block, votes: &Block, sums: &mut Block) {
    for row in 0..tile.n_rows {
        let (values, votes) = (&values[row][..tile.len], &votes[row][..tile.len]);
        for (sum, (value, vote)) in sums[row][..tile.len].iter_mut().zip(values.iter().zip(votes)) {
            let contribution = factor * value;
            let agrees = if *vote >= 0.0 { contribution > 0.0 } else { contribution < 0.0 };
            *sum = if agrees { factor.mul_add(*value, *sum) } else { *sum };
        }
    }
}

struct DrawTask<'a, T> {
    out: &'a mut [T],
    base: Values<'a>,
    start: usize,
    layout: Layout,
    addends: &'a [Addend<'a>],
    draws: &'a [Draw],
    values: &'a mut Block,
}

impl<T: Element> WithSimd for DrawTask<'_, T> {
    type Output = ();

    #[inline(always)]
    #[expect(clippy::large_stack_arrays, reason = "32 KiB, which a thread's stack has to spare")]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { out, base, start, layout, addends, draws, values } = self;
        let mut sums = [[0.0; COLUMNS]; ROWS];
        for tile in layout.tiles(start, out.len()) {
            widen_tile(tile, base, &mut sums);
            for (addend, draw) in addends.iter().zip(draws) {
                read(simd, values, tile, base, addend.delta);
                add_drawn(tile, addend.factor(), *draw, values, &mut sums);
            }
            round_tile(tile, &sums, &mut out[tile.place(0) - start..]);
        }
    }
}

#[inline(always)]
fn add_drawn(tile: Tile, factor: f32, draw: Draw, values: &Block, sums: &mut Block) {
    for row in 0..tile.n_rows {
        let place = tile.place(row);
        let values = &values[row][..tile.len];
        for (i, (sum, value)) in sums[row][..tile.len].iter_mut().zip(values).enumerate() {
            // Adding 0 would take the sign from a −0.0 of the base where a vector has nothing.
            let is_added = draw.keeps(place + i) && *value != 0.0;
            *sum = if is_added { factor.mul_add(*value, *sum) } else { *sum };
        }
    }
}
