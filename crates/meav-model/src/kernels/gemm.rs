pub(super) use gemm::Parallelism;

/// A matrix inside a slice: element `(row, column)` is at `row · row_stride + column · col_stride`.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    pub(super) values: &'a [f32],
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) row_stride: usize,
    pub(super) col_stride: usize,
}

/// `out[row · out_row_stride + column] = Σₖ a[row, k] b[k, column]`.
///
/// # Panics
///
/// If the inner dimensions differ or a matrix does not lie inside its slice.
pub(super) fn matmul(
    out: &mut [f32],
    out_row_stride: usize,
    a: Matrix<'_>,
    b: Matrix<'_>,
    parallelism: Parallelism,
) {
    multiply(out, out_row_stride, a, b, parallelism, false);
}

/// As [`matmul`], added to what `out` holds.
pub(super) fn matmul_add(
    out: &mut [f32],
    out_row_stride: usize,
    a: Matrix<'_>,
    b: Matrix<'_>,
    parallelism: Parallelism,
) {
    multiply(out, out_row_stride, a, b, parallelism, true);
}

fn multiply(
    out: &mut [f32],
    out_row_stride: usize,
    a: Matrix<'_>,
    b: Matrix<'_>,
    parallelism: Parallelism,
    keep: bool,
) {
    let (m, n, k) = (a.rows, b.cols, a.cols);
    assert_eq!(k, b.rows, "inner dimensions");
    if m == 0 || n == 0 {
        return;
    }
    let last = |rows: usize, cols: usize, row_stride: usize, col_stride: usize| {
        (rows - 1) * row_stride + (cols - 1) * col_stride
    };
    assert!(out_row_stride >= n && last(m, n, out_row_stride, 1) < out.len(), "output");
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
            out.as_mut_ptr(),
            1,
            out_row_stride.cast_signed(),
            keep,
            a.values.as_ptr(),
            a.col_stride.cast_signed(),
            a.row_stride.cast_signed(),
            b.values.as_ptr(),
            b.col_stride.cast_signed(),
            b.row_stride.cast_signed(),
            if keep { 1.0 } else { 0.0 },
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}
