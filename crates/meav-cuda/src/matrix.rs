use candle_core::{DType, Result, Tensor};

use crate::kernels;

/// A part of a tensor as a matrix, row by row.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    /// Contiguous.
    pub tensor: &'a Tensor,
    /// Of the first element in the tensor.
    pub start: usize,
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
    /// Elements from a row to the next.
    pub row_stride: usize,
    /// Whether its transpose is meant; the other dimensions are those before that.
    pub is_transposed: bool,
}

impl<'a> Matrix<'a> {
    /// A whole tensor of two dimensions.
    ///
    /// # Errors
    ///
    /// For other dimensions.
    pub fn of(tensor: &'a Tensor) -> Result<Self> {
        let (rows, cols) = tensor.dims2()?;
        Ok(Self { tensor, start: 0, rows, cols, row_stride: cols, is_transposed: false })
    }

    /// Some of its columns.
    #[must_use]
    pub fn columns(self, start: usize, cols: usize) -> Self {
        Self { start: self.start + start, cols, ..self }
    }

    /// Its transpose.
    #[must_use]
    pub fn transposed(self) -> Self {
        Self { is_transposed: !self.is_transposed, ..self }
    }

    /// Rows and columns of what is meant.
    pub(crate) fn shape(&self) -> [usize; 2] {
        if self.is_transposed { [self.cols, self.rows] } else { [self.rows, self.cols] }
    }

    fn fits(&self) -> bool {
        let end = self.rows.saturating_sub(1) * self.row_stride + self.cols;
        self.cols <= self.row_stride
            && self.rows * self.cols > 0
            && self.start + end <= self.tensor.elem_count()
            && self.tensor.is_contiguous()
    }
}

/// `to = a b`, or with `adds` `to += a b`, summed in `f32`.
///
/// # Shapes
///
/// `a` and `b` are of one type out of `f32`, `f16` and `bf16`, `to` of `f32` and not transposed.
///
/// # Errors
///
/// Where shapes or types don't fit, or the GPU refuses.
pub fn multiply(a: Matrix<'_>, b: Matrix<'_>, to: Matrix<'_>, adds: bool) -> Result<()> {
    let ([m, k], [b_k, n]) = (a.shape(), b.shape());
    let is_float = matches!(a.tensor.dtype(), DType::F32 | DType::F16 | DType::BF16);
    let fits = [a, b, to].iter().all(Matrix::fits) && !to.is_transposed && to.shape() == [m, n];
    if k != b_k || !fits {
        candle_core::bail!("{:?} times {:?} is not {:?}", a.shape(), b.shape(), to.shape());
    }
    if !is_float || a.tensor.dtype() != b.tensor.dtype() || to.tensor.dtype() != DType::F32 {
        candle_core::bail!("no product of {:?} and {:?}", a.tensor.dtype(), b.tensor.dtype());
    }
    kernels::multiply(a, b, to, adds)
}
