use half::f16;
use meav_weights::{Integers, Values};

use super::element::InLine;
use super::tile::{Block, Tile};
use crate::Sparse;

/// `sum += λ Δ` for a tile, at the places that have a value; the others are left as they are.
#[inline(always)]
pub(super) fn add_sparse(sums: &mut Block, tile: Tile, factor: f32, sparse: &Sparse) {
    for (row, sum) in sums[..tile.n_rows].iter_mut().enumerate() {
        let (sum, row) = (&mut sum[..tile.len], sparse.row(tile.first_row + row));
        match sparse.columns() {
            Integers::U16(columns) => {
                let columns = &columns[row.clone()];
                scatter_any(sum, tile.column, factor, columns, sparse.values(), row.start);
            }
            Integers::U32(columns) => {
                let columns = &columns[row.clone()];
                scatter_any(sum, tile.column, factor, columns, sparse.values(), row.start);
            }
        }
    }
}

/// `start` is the place of the row's first value.
#[inline(always)]
fn scatter_any<C: Copy + Into<u32>>(
    sum: &mut [f32],
    first_column: usize,
    factor: f32,
    columns: &[C],
    values: Values<'_>,
    start: usize,
) {
    let place = |column: &C| (*column).into() as usize;
    let skipped = columns.partition_point(|column| place(column) < first_column);
    let columns = &columns[skipped..];
    let (start, end) = (start + skipped, start + skipped + columns.len());
    match values {
        Values::F32(values) => {
            scatter(sum, first_column, factor, columns, &values[start..end], InLine::to_f32);
        }
        Values::Bf16(values) => {
            scatter(sum, first_column, factor, columns, &values[start..end], InLine::to_f32);
        }
        Values::F16(values) => {
            scatter(sum, first_column, factor, columns, &values[start..end], f16::to_f32);
        }
    }
}

/// Ends with the first column that is beyond the tile.
#[inline(always)]
fn scatter<C: Copy + Into<u32>, V: Copy>(
    sum: &mut [f32],
    first_column: usize,
    factor: f32,
    columns: &[C],
    values: &[V],
    widen: impl Fn(V) -> f32,
) {
    for (column, value) in columns.iter().zip(values) {
        let column = (*column).into() as usize;
        let Some(sum) = sum.get_mut(column.wrapping_sub(first_column)) else { return };
        *sum = factor.mul_add(widen(*value), *sum);
    }
}
