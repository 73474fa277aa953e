use meav_weights::{Dtype, IntegerTensor, Integers, Values, Weight};

/// One bit for each element, and one scale for each row: every element is its row's scale or minus
/// that.
///
/// ```text
/// δ̂ᵢⱼ = αᵢ sign(δᵢⱼ),   αᵢ = 1/n Σⱼ |δᵢⱼ|
/// ```
///
/// Source: Liu et al., 2024, arXiv:2402.10193 (`BitDelta`), Eq. 1 to 3, which has one `α` for
/// the whole tensor; one for each row is nearer to the tensor at 32 bits a row. The mean is the scale
/// of the least squared error.
#[derive(Clone, Debug)]
pub struct Sign {
    shape: Vec<usize>,
    words: IntegerTensor,
    scales: Weight,
}

/// Elements whose signs share one word.
const WORD: usize = u32::BITS as usize;

impl Sign {
    /// Takes the parts as a file holds them.
    ///
    /// `words`, `(rows, ⌈columns / 32⌉)` of `u32`: bit `j mod 32` of word `j / 32` is set where
    /// element `j` of the row is below zero. `scales`, `(rows,)`, taken as `f32`.
    ///
    /// `None` where the parts don't fit each other.
    pub fn new(shape: Vec<usize>, words: IntegerTensor, scales: &Weight) -> Option<Self> {
        let n_elements = shape.iter().try_fold(1_usize, |n, dim| n.checked_mul(*dim))?;
        let row_len = shape.last().copied().unwrap_or(1);
        let n_rows = n_elements.checked_div(row_len).filter(|n_rows| *n_rows > 0)?;
        let fits = matches!(words.values(), Integers::U32(_))
            && words.shape() == [n_rows, row_len.div_ceil(WORD)]
            && scales.shape() == [n_rows];
        fits.then(|| Self { shape, words, scales: scales.to_dtype(Dtype::F32) })
    }

    /// The nearest such tensor; `None` for a tensor without elements.
    ///
    /// # Panics
    ///
    /// If `shape` does not hold as many elements as `values`.
    pub fn from_dense(shape: Vec<usize>, values: &[f32]) -> Option<Self> {
        assert_eq!(shape.iter().product::<usize>(), values.len(), "shape {shape:?}");
        let row_len = shape.last().copied().unwrap_or(1).max(1);
        let mut rows = SignBuilder::new(shape);
        for row in values.chunks(row_len) {
            rows.push_row(row);
        }
        rows.finish()
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
        self.scales.len()
    }

    /// A row's signs, 32 to a word from the lowest bit: set where an element is below zero.
    ///
    /// # Panics
    ///
    /// If there is no such row.
    pub fn row_words(&self, row: usize) -> &[u32] {
        let n = self.words.shape()[1];
        match self.words.values() {
            Integers::U32(words) => &words[row * n..][..n],
            Integers::U16(_) => unreachable!("checked when it was made"),
        }
    }

    /// Each row's scale.
    pub fn scales(&self) -> &[f32] {
        match self.scales.values() {
            Values::F32(scales) => scales,
            Values::F16(_) | Values::Bf16(_) => unreachable!("converted when it was made"),
        }
    }

    /// The parts in the order of [`Sign::new`].
    pub(crate) fn parts(&self) -> (&IntegerTensor, &Weight) {
        (&self.words, &self.scales)
    }

    /// Bytes of both parts.
    pub fn size_bytes(&self) -> usize {
        self.words.bytes().len() + self.scales.bytes().len()
    }

    /// Writes one row out.
    ///
    /// # Panics
    ///
    /// If there is no such row, or `out` has another length than it.
    pub fn read_row(&self, row: usize, out: &mut [f32]) {
        assert_eq!(out.len(), self.row_len(), "row");
        let scale = self.scales()[row].to_bits();
        for (out, word) in out.chunks_mut(WORD).zip(self.row_words(row)) {
            for (bit, out) in out.iter_mut().enumerate() {
                *out = f32::from_bits(scale ^ ((word >> bit) & 1) << 31);
            }
        }
    }
}

/// Takes a tensor's rows in order.
pub(crate) struct SignBuilder {
    shape: Vec<usize>,
    words: Vec<u32>,
    scales: Vec<f32>,
}

impl SignBuilder {
    pub(crate) fn new(shape: Vec<usize>) -> Self {
        Self { shape, words: Vec::new(), scales: Vec::new() }
    }

    pub(crate) fn push_row(&mut self, row: &[f32]) {
        for values in row.chunks(WORD) {
            let is_negative =
                |word, (bit, value): (usize, &f32)| word | u32::from(*value < 0.0) << bit;
            self.words.push(values.iter().enumerate().fold(0, is_negative));
        }
        let sum: f64 = row.iter().map(|value| f64::from(value.abs())).sum();
        self.scales.push((sum / row.len() as f64) as f32);
    }

    pub(crate) fn finish(self) -> Option<Sign> {
        let n_rows = self.scales.len();
        let row_words = self.words.len().checked_div(n_rows)?;
        let words = IntegerTensor::from_u32(vec![n_rows, row_words], self.words);
        Sign::new(self.shape, words, &Weight::from_f32(vec![n_rows], self.scales))
    }
}
