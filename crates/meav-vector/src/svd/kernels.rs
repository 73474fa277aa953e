use gemm::Parallelism;

/// A matrix inside a slice: element `(row, column)` is at `row · row_stride + column · col_stride`.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) values: &'a [f32],
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) row_stride: usize,
    pub(super) col_stride: usize,
}

/// Where a product goes: its dimensions are those of the factors.
pub(super) struct Output<'a> {
    pub(super) values: &'a mut [f32],
    pub(super) row_stride: usize,
    pub(super) col_stride: usize,
    /// Whether the product is added to what is there.
    pub(super) adds: bool,
}

impl View<'_> {
    #[must_use]
    pub(super) fn transposed(self) -> Self {
        let Self { values, rows, cols, row_stride, col_stride } = self;
        Self { values, rows: cols, cols: rows, row_stride: col_stride, col_stride: row_stride }
    }
}

/// `out[row, column] = Σₖ a[row, k] b[k, column]`, on all threads.
///
/// # Panics
///
/// If the inner dimensions differ, a matrix does not lie inside its slice, or two elements of `out`
/// share a place.
pub(super) fn matmul(out: &mut Output<'_>, a: View<'_>, b: View<'_>) {
    let (m, n, k) = (a.rows, b.cols, a.cols);
    assert_eq!(k, b.rows, "inner dimensions");
    if m == 0 || n == 0 {
        return;
    }
    let last = |rows: usize, cols: usize, row_stride: usize, col_stride: usize| {
        (rows - 1) * row_stride + (cols - 1) * col_stride
    };
    assert!(last(m, n, out.row_stride, out.col_stride) < out.values.len(), "output");
    let is_apart = (out.col_stride > 0 && out.row_stride > (n - 1) * out.col_stride)
        || (out.row_stride > 0 && out.col_stride > (m - 1) * out.row_stride);
    assert!(is_apart, "elements of the output");
    if k > 0 {
        assert!(last(m, k, a.row_stride, a.col_stride) < a.values.len(), "left matrix");
        assert!(last(k, n, b.row_stride, b.col_stride) < b.values.len(), "right matrix");
    }
    #[expect(unsafe_code, reason = "the gemm crate takes pointers and strides")]
    // SAFETY: the asserts above keep every element that is read or written inside its slice, and
    // `out` is borrowed exclusively, so it overlaps neither input.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.values.as_mut_ptr(),
            out.col_stride.cast_signed(),
            out.row_stride.cast_signed(),
            out.adds,
            a.values.as_ptr(),
            a.col_stride.cast_signed(),
            a.row_stride.cast_signed(),
            b.values.as_ptr(),
            b.col_stride.cast_signed(),
            b.row_stride.cast_signed(),
            1.0,
            1.0,
            false,
            false,
            false,
            Parallelism::Rayon(0),
        );
    }
}
