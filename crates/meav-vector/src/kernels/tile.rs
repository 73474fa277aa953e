use meav_weights::{Values, Weight};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::Addend;
use super::addend::add_all;
use super::element::{Element, widen, window};
use crate::Delta;

/// Columns summed at a time. Most rows fit, so that memory is read from one end to the other.
pub(super) const COLUMNS: usize = 2048;

/// Rows summed at a time: each factor `A` is then loaded once for all of them.
pub(super) const ROWS: usize = 4;

/// Elements that one task merges: few, so that all threads read from the same pages of memory.
pub(super) const TASK: usize = 1 << 12;

/// The sums, or values, of one tile, of which its own rows and columns are used.
pub(super) type Block = [[f32; COLUMNS]; ROWS];

/// At most [`ROWS`] by [`COLUMNS`] elements of a tensor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tile {
    /// The place of the first row's column 0 in the whole tensor.
    row_start: usize,
    row_len: usize,
    pub(super) first_row: usize,
    pub(super) n_rows: usize,
    pub(super) column: usize,
    /// Columns.
    pub(super) len: usize,
}

impl Tile {
    /// The place of a row's first element in the whole tensor.
    #[inline(always)]
    pub(super) fn place(&self, row: usize) -> usize {
        self.row_start + row * self.row_len + self.column
    }

    /// One of its rows.
    #[inline(always)]
    pub(super) fn row(&self, row: usize) -> Self {
        let row_start = self.row_start + row * self.row_len;
        Self { row_start, first_row: self.first_row + row, n_rows: 1, ..*self }
    }
}

/// How a tensor is cut into tasks, and tasks into tiles.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    row_len: usize,
    /// Elements of a task, the last of which may have fewer.
    pub(super) task_len: usize,
}

impl Layout {
    /// Tasks of whole rows, if `deltas` are made of rows.
    pub(super) fn new<'a>(base: &Weight, deltas: impl IntoIterator<Item = &'a Delta>) -> Self {
        let has_rows = |delta: &Delta| !matches!(delta, Delta::Dense(_) | Delta::Aligned(_));
        if deltas.into_iter().any(has_rows) {
            return Self::of_rows(base.row_len());
        }
        // Otherwise rows mean nothing, and one long one is read fastest.
        Self { row_len: base.len(), task_len: TASK }
    }

    /// Tasks of whole rows.
    pub(super) fn of_rows(row_len: usize) -> Self {
        Self { row_len, task_len: TASK.div_ceil(row_len) * row_len }
    }

    /// The tiles of the task that is `len` elements from `start`, row by row.
    #[inline(always)]
    pub(super) fn tiles(self, start: usize, len: usize) -> impl Iterator<Item = Tile> {
        let row_len = self.row_len.min(len);
        (0..len).step_by(ROWS * row_len).flat_map(move |row_start| {
            let n_rows = ROWS.min((len - row_start) / row_len);
            let row_start = start + row_start;
            let first_row = row_start / row_len;
            (0..row_len).step_by(COLUMNS).map(move |column| {
                let len = COLUMNS.min(row_len - column);
                Tile { row_start, row_len, first_row, n_rows, column, len }
            })
        })
    }
}

/// Any number of vectors of any kind: tile by tile, so that sums stay in the cache.
pub(super) fn merge<T: Element>(out: &mut [T], base: &Weight, addends: &[Addend<'_>]) {
    let arch = Arch::new();
    let layout = Layout::new(base, addends.iter().map(|addend| addend.delta));
    let base = base.values();
    out.par_chunks_mut(layout.task_len).enumerate().for_each(|(index, out)| {
        let start = index * layout.task_len;
        arch.dispatch(MergeTask { out, base, start, layout, addends });
    });
}

/// A run of elements; `start` is the first one's place in the whole tensor.
struct MergeTask<'a, T> {
    out: &'a mut [T],
    base: Values<'a>,
    start: usize,
    layout: Layout,
    addends: &'a [Addend<'a>],
}

impl<T: Element> WithSimd for MergeTask<'_, T> {
    type Output = ();

    #[inline(always)]
    #[expect(clippy::large_stack_arrays, reason = "32 KiB, which a thread's stack has to spare")]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { out, base, start, layout, addends } = self;
        let mut sums = [[0.0; COLUMNS]; ROWS];
        for tile in layout.tiles(start, out.len()) {
            widen_tile(tile, base, &mut sums);
            add_all(simd, &mut sums, tile, base, addends);
            round_tile(tile, &sums, &mut out[tile.place(0) - start..]);
        }
    }
}

/// Reads a tile of the base.
#[inline(always)]
pub(super) fn widen_tile(tile: Tile, base: Values<'_>, sums: &mut Block) {
    for (row, sum) in sums[..tile.n_rows].iter_mut().enumerate() {
        widen(window(base, tile.place(row), tile.len), &mut sum[..tile.len]);
    }
}

/// Writes a tile; `out` begins with its first element.
#[inline(always)]
pub(super) fn round_tile<T: Element>(tile: Tile, sums: &Block, out: &mut [T]) {
    for (row, sum) in sums[..tile.n_rows].iter().enumerate() {
        let at = tile.place(row) - tile.place(0);
        T::round(&sum[..tile.len], &mut out[at..][..tile.len]);
    }
}
