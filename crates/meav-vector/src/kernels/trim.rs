use meav_weights::{Values, Weight};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::addend::read;
use super::tile::{COLUMNS, Layout, ROWS};
use crate::Delta;

/// Which elements of a tensor are its largest by magnitude: of equal ones, those that come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    /// The bits of the smallest magnitude that is kept; the order of bits is that of magnitudes.
    pub(super) magnitude: u32,
    /// Elements of just this magnitude are kept before this place only.
    pub(super) ties_end: usize,
}

impl Cut {
    /// Keeps everything.
    pub(crate) const NONE: Self = Self { magnitude: 0, ties_end: usize::MAX };

    /// Sets what is not kept to 0; `start` is the place of the first value in its tensor.
    #[inline(always)]
    pub(crate) fn trim(self, start: usize, values: &mut [f32]) {
        let n_before = self.ties_end.saturating_sub(start).min(values.len());
        let (before, behind) = values.split_at_mut(n_before);
        for value in before {
            *value = if magnitude(*value) >= self.magnitude { *value } else { 0.0 };
        }
        for value in behind {
            *value = if magnitude(*value) > self.magnitude { *value } else { 0.0 };
        }
    }
}

#[inline(always)]
fn magnitude(value: f32) -> u32 {
    value.to_bits() & 0x7fff_ffff
}

/// Bits of a magnitude that are looked at first, and those behind them.
const HIGH_BITS: u32 = 16;
const LOW_BITS: u32 = 15;

/// Finds the `density · n` largest of a tensor's `n` elements: rounded down, but at least one.
///
/// Exact, and never with more than a tile of a low-rank tensor at a time: counts magnitudes by
/// their upper bits, then those of the right upper bits by their lower ones, then looks for the
/// last of the equal ones that is kept.
///
/// # Panics
///
/// Unless `delta` has the shape of `base`.
pub(crate) fn find_cut(base: &Weight, delta: &Delta, density: f64) -> Cut {
    assert_eq!(delta.shape(), base.shape(), "delta and base");
    let n_kept = ((density * base.len() as f64) as usize).max(1);
    if n_kept >= base.len() {
        return Cut::NONE;
    }
    let scan = Scan { base: base.values(), delta, layout: Layout::new(base, [delta]) };
    let highs = scan.count(base.len(), HIGH_BITS, |bits| Some(bits >> LOW_BITS));
    let (high, n_rest) = nth_largest(&highs, n_kept);
    let in_high = |bits: u32| (bits >> LOW_BITS == high).then_some(bits & ((1 << LOW_BITS) - 1));
    let lows = scan.count(base.len(), LOW_BITS, in_high);
    let (low, n_ties) = nth_largest(&lows, n_rest);
    let magnitude = high << LOW_BITS | low;
    if magnitude == 0 || lows[low as usize] == n_ties {
        return Cut { magnitude, ties_end: usize::MAX };
    }
    Cut { magnitude, ties_end: scan.nth_tie(base.len(), magnitude, n_ties) + 1 }
}

/// The bin of the `n`-th largest value, and which of the values in it that is, from 1.
fn nth_largest(bins: &[usize], n: usize) -> (u32, usize) {
    let mut rest = n;
    for (bin, n_values) in bins.iter().enumerate().rev() {
        if *n_values >= rest {
            return (bin as u32, rest);
        }
        rest -= n_values;
    }
    unreachable!("there are at least {n} values")
}

/// Reads a tensor from one end to the other.
#[derive(Clone, Copy)]
struct Scan<'a> {
    base: Values<'a>,
    delta: &'a Delta,
    layout: Layout,
}

impl Scan<'_> {
    /// Counts the magnitudes in each bin.
    fn count(self, len: usize, bits: u32, bin: impl Fn(u32) -> Option<u32> + Sync) -> Vec<usize> {
        let n_tasks = len.div_ceil(self.layout.task_len);
        // Few and long runs: each has a table of its own.
        let run = n_tasks.div_ceil(4 * rayon::current_num_threads()) * self.layout.task_len;
        let runs = (0..len).into_par_iter().step_by(run).map(|start| {
            let mut table = vec![0_usize; 1 << bits];
            for start in (start..len.min(start + run)).step_by(self.layout.task_len) {
                self.visit(start, len, |_, value| {
                    if let Some(bin) = bin(magnitude(value)) {
                        table[bin as usize] += 1;
                    }
                });
            }
            table
        });
        runs.reduce(|| vec![0; 1 << bits], add_tables)
    }

    /// The place of the `n`-th element of this magnitude, from 1.
    fn nth_tie(self, len: usize, bits: u32, n: usize) -> usize {
        let task_len = self.layout.task_len;
        let ties = |start: usize| {
            let mut places = Vec::new();
            self.visit(start, len, |place, value| {
                if magnitude(value) == bits {
                    places.push(place);
                }
            });
            places
        };
        let counts: Vec<usize> =
            (0..len).into_par_iter().step_by(task_len).map(|start| ties(start).len()).collect();
        let mut rest = n;
        for (task, n_ties) in counts.into_iter().enumerate() {
            if n_ties >= rest {
                let mut places = ties(task * task_len);
                // Tiles of several rows are not read in the order of places.
                return *places.select_nth_unstable(rest - 1).1;
            }
            rest -= n_ties;
        }
        unreachable!("there are at least {n} of them")
    }

    /// Shows each element of the task that begins at `start`, with its place in the tensor.
    fn visit(self, start: usize, len: usize, visitor: impl FnMut(usize, f32)) {
        let len = self.layout.task_len.min(len - start);
        Arch::new().dispatch(VisitTask { scan: self, start, len, visitor });
    }
}

fn add_tables(mut sums: Vec<usize>, others: Vec<usize>) -> Vec<usize> {
    for (sum, other) in sums.iter_mut().zip(others) {
        *sum += other;
    }
    sums
}

struct VisitTask<'a, V> {
    scan: Scan<'a>,
    start: usize,
    len: usize,
    visitor: V,
}

impl<V: FnMut(usize, f32)> WithSimd for VisitTask<'_, V> {
    type Output = ();

    #[inline(always)]
    #[expect(clippy::large_stack_arrays, reason = "32 KiB, which a thread's stack has to spare")]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { scan: Scan { base, delta, layout }, start, len, mut visitor } = self;
        let mut values = [[0.0; COLUMNS]; ROWS];
        for tile in layout.tiles(start, len) {
            read(simd, &mut values, tile, base, delta);
            for (row, values) in values[..tile.n_rows].iter().enumerate() {
                for (i, value) in values[..tile.len].iter().enumerate() {
                    visitor(tile.place(row) + i, *value);
                }
            }
        }
    }
}
