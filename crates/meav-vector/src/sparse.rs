use std::ops::Range;

use meav_weights::{Dtype, IntegerTensor, Integers, Values, Weight};

/// The few elements of a tensor that are not zero, row by row (compressed sparse rows).
///
/// The tensor's rows are its last dimension: a tensor `(out, in)` has `out` rows of `in` columns.
#[derive(Clone, Debug)]
pub struct Sparse {
    shape: Vec<usize>,
    offsets: IntegerTensor,
    columns: IntegerTensor,
    values: Weight,
}

/// Rows of at most this many columns have theirs in 16 bits.
const MAX_U16_ROW: usize = 1 << 16;

/// No tensor of a model has longer rows; a small file that names some is after the memory that
/// reading a row takes.
const MAX_ROW: usize = 1 << 24;

impl Sparse {
    /// Takes the parts as a file holds them.
    ///
    /// `offsets`, `(rows + 1,)` of `u32`: where each row's elements begin among the values, and at
    /// last where they end. `columns`, `(n,)` of `u16` or `u32`: each value's place in its row,
    /// rising within the row. `values`, `(n,)`.
    ///
    /// `None` where the parts don't fit each other, rows overlap or leave a gap; columns are
    /// looked at by [`Sparse::columns_fit`].
    pub fn new(
        shape: Vec<usize>,
        offsets: IntegerTensor,
        columns: IntegerTensor,
        values: Weight,
    ) -> Option<Self> {
        let n_elements = shape.iter().try_fold(1_usize, |n, dim| n.checked_mul(*dim))?;
        let row_len = shape.last().copied().unwrap_or(1);
        let n_rows = n_elements.checked_div(row_len).filter(|n_rows| *n_rows > 0)?;
        let Integers::U32(starts) = offsets.values() else { return None };
        let n_values = values.len();
        let is_rising = starts
            .windows(2)
            .all(|pair| pair[0] <= pair[1] && (pair[1] - pair[0]) as usize <= row_len);
        let fits = row_len <= MAX_ROW
            && starts.len() == n_rows + 1
            && starts.first() == Some(&0)
            && starts.last().is_some_and(|end| *end as usize == n_values)
            && is_rising
            && columns.shape() == [n_values]
            && values.shape() == [n_values];
        fits.then_some(Self { shape, offsets, columns, values })
    }

    /// The elements of `values` that are not zero, rounded to `dtype`; `None` for a tensor
    /// without elements or with 2³² and more of them that are not zero.
    ///
    /// # Panics
    ///
    /// If `shape` does not hold as many elements as `values`.
    pub fn from_dense(shape: Vec<usize>, values: &[f32], dtype: Dtype) -> Option<Self> {
        assert_eq!(shape.iter().product::<usize>(), values.len(), "shape {shape:?}");
        let row_len = shape.last().copied().unwrap_or(1).max(1);
        let mut rows = SparseBuilder::new(shape);
        for row in values.chunks(row_len) {
            rows.push_row(row)?;
        }
        rows.finish(dtype)
    }

    /// The dimensions of the tensor that it is added to.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Columns: the last dimension.
    pub fn row_len(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Rows: all dimensions but the last.
    pub fn n_rows(&self) -> usize {
        self.offsets.shape()[0] - 1
    }

    /// Where each row's elements begin, and at last where they end.
    pub fn offsets(&self) -> &[u32] {
        match self.offsets.values() {
            Integers::U32(offsets) => offsets,
            Integers::U16(_) => unreachable!("checked when it was made"),
        }
    }

    /// Which of [`Sparse::columns`] and [`Sparse::values`] belong to a row.
    ///
    /// # Panics
    ///
    /// If there is no such row.
    pub fn row(&self, row: usize) -> Range<usize> {
        let offsets = self.offsets();
        offsets[row] as usize..offsets[row + 1] as usize
    }

    /// Each value's place in its row, rising within the row.
    pub fn columns(&self) -> Integers<'_> {
        self.columns.values()
    }

    /// The values.
    pub fn values(&self) -> Values<'_> {
        self.values.values()
    }

    /// The values as a tensor.
    pub fn weight(&self) -> &Weight {
        &self.values
    }

    /// The parts in the order of [`Sparse::new`].
    pub(crate) fn parts(&self) -> (&IntegerTensor, &IntegerTensor, &Weight) {
        (&self.offsets, &self.columns, &self.values)
    }

    /// Bytes of all parts.
    pub fn size_bytes(&self) -> usize {
        self.offsets.bytes().len() + self.columns.bytes().len() + self.values.bytes().len()
    }

    /// Whether every column is inside the row, and behind the one before.
    pub fn columns_fit(&self) -> bool {
        let row_len = self.row_len();
        (0..self.n_rows()).all(|row| match self.columns() {
            Integers::U16(columns) => is_rising(&columns[self.row(row)], row_len),
            Integers::U32(columns) => is_rising(&columns[self.row(row)], row_len),
        })
    }
}

fn is_rising<T: Copy + Ord + TryInto<usize>>(columns: &[T], row_len: usize) -> bool {
    let last = columns.last().map_or(Ok(0), |last| (*last).try_into());
    columns.windows(2).all(|pair| pair[0] < pair[1])
        && (columns.is_empty() || last.is_ok_and(|last| last < row_len))
}

/// Takes a tensor's rows in order.
pub(crate) struct SparseBuilder {
    shape: Vec<usize>,
    offsets: Vec<u32>,
    columns: Columns,
    values: Vec<f32>,
}

enum Columns {
    U16(Vec<u16>),
    U32(Vec<u32>),
}

impl SparseBuilder {
    pub(crate) fn new(shape: Vec<usize>) -> Self {
        let row_len = shape.last().copied().unwrap_or(1);
        let columns = match Self::column_bytes(row_len) {
            2 => Columns::U16(Vec::new()),
            _ => Columns::U32(Vec::new()),
        };
        Self { shape, offsets: vec![0], columns, values: Vec::new() }
    }

    /// Bytes of a value's place in a row of this length.
    pub(crate) const fn column_bytes(row_len: usize) -> usize {
        if row_len > MAX_U16_ROW { 4 } else { 2 }
    }

    /// Keeps what is not zero; `None` beyond 2³² − 1 values.
    pub(crate) fn push_row(&mut self, row: &[f32]) -> Option<()> {
        for (column, value) in row.iter().enumerate().filter(|(_, value)| **value != 0.0) {
            match &mut self.columns {
                Columns::U16(columns) => columns.push(column as u16),
                Columns::U32(columns) => columns.push(column as u32),
            }
            self.values.push(*value);
        }
        self.offsets.push(u32::try_from(self.values.len()).ok()?);
        Some(())
    }

    pub(crate) fn finish(self, dtype: Dtype) -> Option<Sparse> {
        let n = self.values.len();
        let columns = match self.columns {
            Columns::U16(columns) => IntegerTensor::from_u16(vec![n], columns),
            Columns::U32(columns) => IntegerTensor::from_u32(vec![n], columns),
        };
        let offsets = IntegerTensor::from_u32(vec![self.offsets.len()], self.offsets);
        let values = Weight::from_f32(vec![n], self.values).to_dtype(dtype);
        Sparse::new(self.shape, offsets, columns, values)
    }
}
