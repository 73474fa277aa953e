use super::tile::{Block, COLUMNS, Tile};
use crate::Sign;

/// Elements whose signs share one word.
const WORD: usize = u32::BITS as usize;

/// Tiles begin with a whole word.
const _: () = assert!(COLUMNS.is_multiple_of(WORD));

/// `sum += λ (±scale)` for a tile.
#[inline(always)]
pub(super) fn add_sign(sums: &mut Block, tile: Tile, factor: f32, sign: &Sign) {
    for (row, sum) in sums[..tile.n_rows].iter_mut().enumerate() {
        let words = &sign.row_words(tile.first_row + row)[tile.column / WORD..];
        let scale = sign.scales()[tile.first_row + row];
        let mut whole = sum[..tile.len].chunks_exact_mut(WORD);
        for (sum, word) in whole.by_ref().zip(words) {
            add_word(sum, factor, scale, *word);
        }
        let rest = whole.into_remainder();
        if let Some(word) = words.get(tile.len / WORD) {
            add_word(rest, factor, scale, *word);
        }
    }
}

#[inline(always)]
fn add_word(sum: &mut [f32], factor: f32, scale: f32, word: u32) {
    for (bit, sum) in (0..).zip(sum) {
        let value = f32::from_bits(scale.to_bits() ^ (((word >> bit) & 1) << 31));
        *sum = factor.mul_add(value, *sum);
    }
}
