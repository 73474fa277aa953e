/// How llama.cpp keeps the values of a tensor other than Hugging Face does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Convention {
    /// Not at all.
    Same,
    /// The two halves of each head interleaved: `(d/2, 2, in)`, where Hugging Face has
    /// `(2, d/2, in)`. A head has `head_rows` = `d` rows, an even number.
    Interleaved {
        /// `d`.
        head_rows: usize,
    },
    /// Plus one, since Gemma multiplies by `1 + weight`.
    PlusOne,
}

impl Convention {
    /// Rows that can only be converted together.
    pub(crate) fn group_rows(self) -> Option<usize> {
        match self {
            Self::Interleaved { head_rows } => Some(head_rows),
            Self::Same | Self::PlusOne => None,
        }
    }

    /// From llama.cpp's values to Hugging Face's, in place; `values` are whole groups of rows.
    pub(crate) fn undo(self, values: &mut [f32], row_len: usize) {
        match self {
            Self::Same => {}
            Self::PlusOne => values.iter_mut().for_each(|value| *value -= 1.0),
            Self::Interleaved { head_rows } => {
                let half = head_rows / 2;
                permute(values, head_rows, row_len, |row| (row % half) * 2 + row / half);
            }
        }
    }

    /// From Hugging Face's values to llama.cpp's, in place; `values` are whole groups of rows.
    pub(crate) fn apply(self, values: &mut [f32], row_len: usize) {
        match self {
            Self::Same => {}
            Self::PlusOne => values.iter_mut().for_each(|value| *value += 1.0),
            Self::Interleaved { head_rows } => {
                let half = head_rows / 2;
                permute(values, head_rows, row_len, |row| (row % 2) * half + row / 2);
            }
        }
    }
}

/// Puts row `source(i)` of each head at its place `i`.
fn permute(values: &mut [f32], head_rows: usize, row_len: usize, source: impl Fn(usize) -> usize) {
    for head in values.chunks_exact_mut(head_rows * row_len) {
        let from = head.to_vec();
        for (index, row) in head.chunks_exact_mut(row_len).enumerate() {
            row.copy_from_slice(&from[source(index) * row_len..][..row_len]);
        }
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these values are moved, not computed")]
mod tests {
    use super::*;

    #[test]
    fn interleaved_rows_go_back_to_halves() {
        // Rows are numbered by their place in the Hugging Face layout: 0 1 | 2 3.
        let mut rows = [0.0, 2.0, 1.0, 3.0];
        Convention::Interleaved { head_rows: 4 }.undo(&mut rows, 1);
        assert_eq!(rows, [0.0, 1.0, 2.0, 3.0]);
    }

    #[test]
    fn there_and_back_is_where_it_was() {
        for (head_rows, row_len, n_heads) in [(2, 1, 1), (4, 3, 2), (6, 5, 3), (64, 2, 9)] {
            let before: Vec<f32> = (0..head_rows * row_len * n_heads).map(|i| i as f32).collect();
            let convention = Convention::Interleaved { head_rows };
            let mut values = before.clone();
            convention.apply(&mut values, row_len);
            assert_eq!(values == before, head_rows == 2, "{head_rows} rows per head");
            convention.undo(&mut values, row_len);
            assert_eq!(values, before);
        }
        let mut norm = [0.5, -0.25];
        Convention::PlusOne.apply(&mut norm, 2);
        assert_eq!(norm, [1.5, 0.75]);
        Convention::PlusOne.undo(&mut norm, 2);
        assert_eq!(norm, [0.5, -0.25]);
    }
}
