use std::slice;

use candle_core::{CpuStorage, InplaceOp2, Layout, Result, Tensor};
use rayon::prelude::*;

use super::{f32_slice, f32_slice_mut, gpu, linear};

/// Adds `x` to the columns of `y` from `start` on, in place.
///
/// # Shapes
///
/// `y` is `(T, n)`, `x` `(T, m)` with `start + m ≤ n`; contiguous and `f32`.
fn add_to_columns(y: &Tensor, x: &Tensor, start: usize) -> Result<()> {
    y.inplace_op2(x, &AddToColumns { start })
}

/// Adds `x Wᵀ` to the columns of `y` from `start` on, in place.
///
/// # Shapes
///
/// `y` is `(T, n)`, `x` `(T, in)` and `weight` `(m, in)` with `start + m ≤ n`; contiguous and `f32`.
pub(crate) fn add_linear_to_columns(
    y: &Tensor,
    x: &Tensor,
    weight: &Tensor,
    start: usize,
) -> Result<()> {
    if gpu::is_on_gpu(y) {
        return gpu::add_linear_to_columns(y, x, weight, start);
    }
    add_to_columns(y, &linear(x, slice::from_ref(weight), &[])?, start)
}

struct AddToColumns {
    start: usize,
}

impl InplaceOp2 for AddToColumns {
    fn name(&self) -> &'static str {
        "add-to-columns"
    }

    fn cpu_fwd(
        &self,
        y: &mut CpuStorage,
        y_layout: &Layout,
        x: &CpuStorage,
        x_layout: &Layout,
    ) -> Result<()> {
        /// Fewer rows are added sooner than another thread takes them.
        const TASK: usize = 16;
        let (y_rows, y_len) = y_layout.shape().dims2()?;
        let (x_rows, x_len) = x_layout.shape().dims2()?;
        if y_rows != x_rows || self.start + x_len > y_len {
            candle_core::bail!(
                "{:?} has no columns {} to {} for {:?}",
                y_layout.shape(),
                self.start,
                self.start + x_len,
                x_layout.shape()
            );
        }
        let x = f32_slice(x, x_layout)?;
        let rows =
            f32_slice_mut(y, y_layout)?.par_chunks_exact_mut(y_len).zip(x.par_chunks_exact(x_len));
        rows.with_min_len(TASK).for_each(|(y, x)| {
            for (y, x) in y[self.start..].iter_mut().zip(x) {
                *y += x;
            }
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{D, Device};
    use meav_cuda::on_cpu_and_gpu;

    use super::*;

    on_cpu_and_gpu!(products_are_added_to_these_columns, products_beyond_the_columns_are_refused);

    fn ramp(rows: usize, cols: usize) -> Tensor {
        let values: Vec<f32> = (0..rows * cols).map(|i| (i % 23) as f32).collect();
        Tensor::from_vec(values, (rows, cols), &Device::Cpu).unwrap()
    }

    #[test]
    fn only_these_columns_change() {
        for (rows, cols, start) in [(1, 3, 0), (40, 3, 2), (40, 5, 0), (100, 2, 3)] {
            let (y, x) = (ramp(rows, 5), ramp(rows, cols));
            let padded = x.pad_with_zeros(1, start, 5 - start - cols).unwrap();
            let expected = (&y + padded).unwrap();
            add_to_columns(&y, &x, start).unwrap();
            assert!(y.to_vec2::<f32>().unwrap() == expected.to_vec2::<f32>().unwrap());
        }
    }

    fn products_are_added_to_these_columns(device: &Device) {
        for (rows, n_in, n_out, start) in [(1, 2, 3, 0), (40, 8, 3, 2), (40, 1, 5, 0)] {
            let [y, x, weight] = [ramp(rows, 5), ramp(rows, n_in), ramp(n_out, n_in)];
            let product = x.matmul(&weight.t().unwrap()).unwrap();
            let padded = product.pad_with_zeros(D::Minus1, start, 5 - start - n_out).unwrap();
            let expected = (&y + padded).unwrap();
            let [y, x, weight] = [y, x, weight].map(|it| it.to_device(device).unwrap());
            add_linear_to_columns(&y, &x, &weight, start).unwrap();
            assert!(y.to_vec2::<f32>().unwrap() == expected.to_vec2::<f32>().unwrap());
        }
    }

    fn products_beyond_the_columns_are_refused(device: &Device) {
        let add = |start| {
            let [y, x, weight] =
                [ramp(4, 5), ramp(4, 2), ramp(3, 2)].map(|it| it.to_device(device).unwrap());
            add_linear_to_columns(&y, &x, &weight, start)
        };
        assert!(add(2).is_ok());
        assert!(add(3).is_err());
    }

    #[test]
    fn columns_that_are_not_there_are_refused() {
        assert!(add_to_columns(&ramp(4, 5), &ramp(4, 3), 3).is_err());
        assert!(add_to_columns(&ramp(4, 5), &ramp(3, 5), 0).is_err());
    }
}
