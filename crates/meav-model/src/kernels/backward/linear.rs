use std::ops::Range;
use std::slice;

use candle_core::{CpuStorage, DType, InplaceOp2, InplaceOp3, Layout, Result, Tensor};

use super::{add_row_sums, gpu};
use crate::kernels::add::add;
use crate::kernels::gemm::{Matrix, Parallelism, matmul_add};
use crate::kernels::gpu::is_on_gpu;
use crate::kernels::panel::{WeightGuard, for_each_panel_part, read};
use crate::kernels::{f32_slice, f32_slice_mut};

/// The gradient of the input of [`linear`](crate::kernels::linear); the weights' own is not
/// computed.
///
/// ```text
/// dX = dY₁ W₁ + dY₂ W₂ + …     for dY = [dY₁ | dY₂ | …]
/// ```
///
/// # Shapes
///
/// `dy` is `(T, Σ outᵢ)` and `f32`, each weight `(outᵢ, in)` of any floating point type, the result
/// `(T, in)`.
pub(crate) fn linear_backward_input(dy: &Tensor, weights: &[Tensor]) -> Result<Tensor> {
    if is_on_gpu(dy) {
        return gpu::linear_backward_input(dy, weights);
    }
    let Some(first) = weights.first() else { candle_core::bail!("there are no weights") };
    let dx = Tensor::zeros((dy.dim(0)?, first.dim(1)?), DType::F32, dy.device())?;
    add_linear_backward_input(&dx, dy, weights)?;
    Ok(dx)
}

/// As [`linear_backward_input`], added to what `dx` holds.
pub(crate) fn add_linear_backward_input(
    dx: &Tensor,
    dy: &Tensor,
    weights: &[Tensor],
) -> Result<()> {
    if is_on_gpu(dx) {
        return gpu::add_linear_backward_input(dx, dy, weights);
    }
    dx.inplace_op2(dy, &AddInput { weights })
}

struct AddInput<'a> {
    weights: &'a [Tensor],
}

impl InplaceOp2 for AddInput<'_> {
    fn name(&self) -> &'static str {
        "linear-backward-input"
    }

    fn cpu_fwd(
        &self,
        dx: &mut CpuStorage,
        dx_layout: &Layout,
        dy: &CpuStorage,
        dy_layout: &Layout,
    ) -> Result<()> {
        let (n_rows, n_in) = dx_layout.shape().dims2()?;
        let dx = f32_slice_mut(dx, dx_layout)?;
        let guards =
            self.weights.iter().map(|weight| read(weight, n_in)).collect::<Result<Vec<_>>>()?;
        let panels = guards.iter().map(WeightGuard::values).collect::<Result<Vec<_>>>()?;
        let n_out: usize = guards.iter().map(|guard| guard.n_out).sum();
        if dy_layout.shape().dims() != [n_rows, n_out] {
            candle_core::bail!("the output's gradient is {:?}", dy_layout.shape());
        }
        let dy = f32_slice(dy, dy_layout)?;
        for_each_panel_part(&panels, n_in, |column, values| {
            let rows = values.len() / n_in;
            let weight = Matrix { values, rows, cols: n_in, row_stride: n_in, col_stride: 1 };
            let dy = Matrix {
                values: &dy[column..],
                rows: n_rows,
                cols: rows,
                row_stride: n_out,
                col_stride: 1,
            };
            matmul_add(dx, n_in, dy, weight, Parallelism::Rayon(0));
        });
        Ok(())
    }
}

/// Adds the gradients of weights and biases of [`linear`](crate::kernels::linear) to what `grads`
/// and `bias_grads` hold.
///
/// ```text
/// dWᵢ += dYᵢᵀ X,   dbᵢ += Σ rows of dYᵢ
/// ```
///
/// # Shapes
///
/// `dy` is `(T, Σ outᵢ)`, `x` `(T, in)`, each of `grads` `(outᵢ, in)`; all `f32`. There are no
/// `bias_grads`, or as many, `(outᵢ,)`.
///
/// `dtype` is the weights'. On a GPU, factors of their gradients are rounded to `bf16` where these
/// are; the sums are `f32`.
pub(crate) fn linear_backward_weights(
    dy: &Tensor,
    x: &Tensor,
    grads: &[Tensor],
    bias_grads: &[Tensor],
    dtype: DType,
) -> Result<()> {
    let n_out = grads.iter().map(|grad| grad.dim(0)).sum::<Result<usize>>()?;
    if dy.dim(1)? != n_out || !(bias_grads.is_empty() || bias_grads.len() == grads.len()) {
        candle_core::bail!("the gradients do not belong to {:?} outputs", dy.dims());
    }
    if is_on_gpu(dy) {
        return gpu::linear_backward_weights(dy, x, grads, bias_grads, dtype);
    }
    let mut column = 0;
    for (index, grad) in grads.iter().enumerate() {
        grad.inplace_op3(dy, x, &AddWeight { column })?;
        if let Some(bias_grad) = bias_grads.get(index) {
            if bias_grad.dims() != [grad.dim(0)?] {
                candle_core::bail!("a bias's gradient is {:?}", bias_grad.dims());
            }
            bias_grad.inplace_op2(dy, &AddBias { column })?;
        }
        column += grad.dim(0)?;
    }
    Ok(())
}

/// The gradient of the input of a linear layer whose output was added to some `columns` of another;
/// adds that of its weight to `grad`.
///
/// # Shapes
///
/// `dy` is `(T, n)`, `x`, what the layer took, `(T, in)`, `weight` and `grad` are `(columns, in)`,
/// the result is `(T, in)`; contiguous and `f32`.
pub(crate) fn linear_backward_of_columns(
    dy: &Tensor,
    columns: Range<usize>,
    x: &Tensor,
    weight: &Tensor,
    grad: &Tensor,
) -> Result<Tensor> {
    if is_on_gpu(dy) {
        return gpu::linear_backward_of_columns(dy, columns, x, weight, grad);
    }
    let dy = dy.narrow(1, columns.start, columns.len())?.contiguous()?;
    linear_backward_weights(&dy, x, slice::from_ref(grad), &[], weight.dtype())?;
    linear_backward_input(&dy, slice::from_ref(weight))
}

struct AddWeight {
    /// Where the weight's outputs start.
    column: usize,
}

impl InplaceOp3 for AddWeight {
    fn name(&self) -> &'static str {
        "linear-backward-weight"
    }

    fn cpu_fwd(
        &self,
        grad: &mut CpuStorage,
        grad_layout: &Layout,
        dy: &CpuStorage,
        dy_layout: &Layout,
        x: &CpuStorage,
        x_layout: &Layout,
    ) -> Result<()> {
        let (rows, n_in) = grad_layout.shape().dims2()?;
        let (n_rows, n_out) = dy_layout.shape().dims2()?;
        if x_layout.shape().dims() != [n_rows, n_in] {
            candle_core::bail!("the input is {:?}", x_layout.shape());
        }
        let dy = &f32_slice(dy, dy_layout)?[self.column..];
        let dy = Matrix { values: dy, rows, cols: n_rows, row_stride: 1, col_stride: n_out };
        let values = f32_slice(x, x_layout)?;
        let x = Matrix { values, rows: n_rows, cols: n_in, row_stride: n_in, col_stride: 1 };
        matmul_add(f32_slice_mut(grad, grad_layout)?, n_in, dy, x, Parallelism::Rayon(0));
        Ok(())
    }
}

struct AddBias {
    /// Where the bias's outputs start.
    column: usize,
}

impl InplaceOp2 for AddBias {
    fn name(&self) -> &'static str {
        "linear-backward-bias"
    }

    fn cpu_fwd(
        &self,
        grad: &mut CpuStorage,
        grad_layout: &Layout,
        dy: &CpuStorage,
        dy_layout: &Layout,
    ) -> Result<()> {
        let (n_rows, n_out) = dy_layout.shape().dims2()?;
        let dy = f32_slice(dy, dy_layout)?;
        add_row_sums(f32_slice_mut(grad, grad_layout)?, n_rows, |rows, sums| {
            for row in rows {
                add(sums, &dy[row * n_out + self.column..], 1.0);
            }
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use meav_cuda::on_cpu_and_gpu;
    use meav_test_support::{assert_close, tolerance};

    use super::super::testing::{
        assert_deterministic, assert_slopes, by_candle, doubles, on, some_values, values, variable,
    };
    use super::*;
    use crate::kernels::linear;

    on_cpu_and_gpu!(
        gradient_of_the_input_is_candles_for_every_dtype,
        gradients_of_weights_and_biases_are_added_to_what_was_there,
        gradients_of_columns_are_those_of_their_own_product,
        gradients_of_other_shapes_are_refused,
    );

    const DTYPES: [DType; 3] = [DType::F32, DType::F16, DType::BF16];

    /// On a GPU gradients are rounded to `bf16` before they are multiplied by weights of that type.
    fn close(device: &Device, dtype: DType) -> f32 {
        let weights = Tensor::zeros(1, dtype, device).unwrap();
        if is_on_gpu(&weights) && dtype == DType::BF16 { tolerance::BF16 } else { tolerance::F32 }
    }

    /// Two weights; the second case is more than one panel.
    fn weights(n_in: usize, dtype: DType) -> [Tensor; 2] {
        let n_out = if n_in > 100 { 1100 } else { 33 };
        [some_values((n_out, n_in), 1), some_values((5, n_in), 2)]
            .map(|weight| weight.to_dtype(dtype).unwrap())
    }

    fn gradient_of_the_input_is_candles_for_every_dtype(device: &Device) {
        for (n_rows, n_in) in [(1, 7), (20, 70), (9, 1000)] {
            for dtype in DTYPES {
                let weights = weights(n_in, dtype);
                let x = variable(&some_values((n_rows, n_in), 3));
                let all = doubles(&Tensor::cat(&weights, 0).unwrap());
                let y = x.matmul(&all.t().unwrap()).unwrap();
                // So small that sums over all outputs of the largest case are of order 1.
                let dy = (some_values(y.dims(), 4) * 0.05).unwrap();
                let expected = by_candle(&y, &dy, &[&x]).remove(0);
                let close = close(device, dtype);
                let (dy, weights) = (on(device, &dy), weights.map(|it| on(device, &it)));
                let found = values(&linear_backward_input(&dy, &weights).unwrap());
                assert_close(&found, &expected, close);

                let dx = on(device, &some_values((n_rows, n_in), 5));
                let start = values(&dx);
                add_linear_backward_input(&dx, &dy, &weights).unwrap();
                let sum: Vec<f32> = start.iter().zip(&expected).map(|(a, b)| a + b).collect();
                assert_close(&values(&dx), &sum, close);
            }
        }
    }

    fn gradients_of_weights_and_biases_are_added_to_what_was_there(device: &Device) {
        for n_rows in [1, 20, 130] {
            let x = some_values((n_rows, 70), 1);
            let weights = weights(70, DType::F32).map(|it| variable(&it));
            let biases = [some_values(33, 2), some_values(5, 3)].map(|it| variable(&it));
            let y = |i: usize| {
                let y = doubles(&x).matmul(&weights[i].t().unwrap()).unwrap();
                y.broadcast_add(&biases[i]).unwrap()
            };
            let y = Tensor::cat(&[y(0), y(1)], 1).unwrap();
            let dy = some_values(y.dims(), 4);
            let variables = [&weights[0], &weights[1], &biases[0], &biases[1]];
            let expected = by_candle(&y, &dy, &variables);
            let found = variables.map(|it| on(device, &some_values(it.dims(), 5)));
            let start: Vec<Vec<f32>> = found.iter().map(values).collect();
            let (dy, x) = (on(device, &dy), on(device, &x));
            linear_backward_weights(&dy, &x, &found[..2], &found[2..], DType::F32).unwrap();
            for ((found, start), expected) in found.iter().zip(start).zip(expected) {
                let sum: Vec<f32> = start.iter().zip(expected).map(|(a, b)| a + b).collect();
                assert_close(&values(found), &sum, tolerance::F32);
            }
        }
    }

    fn gradients_of_columns_are_those_of_their_own_product(device: &Device) {
        for (columns, n_in) in [(0..9, 5), (3..5, 5), (8..9, 40)] {
            let [dy, x] = [(20, 9), (20, n_in)].map(|shape| some_values(shape, 1));
            let weight = some_values((columns.len(), n_in), 2);
            let own = doubles(&dy).narrow(1, columns.start, columns.len()).unwrap();
            let dx = own.matmul(&doubles(&weight)).unwrap();
            let product = own.t().unwrap().matmul(&doubles(&x)).unwrap();
            let grad = some_values(weight.dims(), 3);
            let sum = (doubles(&grad) + product).unwrap();
            let [dy, x, weight, grad] = [&dy, &x, &weight, &grad].map(|it| on(device, it));
            let found = linear_backward_of_columns(&dy, columns, &x, &weight, &grad).unwrap();
            assert_close(&values(&found), &values(&dx), tolerance::F32);
            assert_close(&values(&grad), &values(&sum), tolerance::F32);
        }
    }

    #[test]
    fn gradients_are_the_slopes_of_the_forward_pass() {
        let x = some_values((12, 6), 1);
        let weights = [some_values((4, 6), 2), some_values((3, 6), 3)];
        let biases = [some_values(4, 4), some_values(3, 5)];
        let dy = some_values((12, 7), 6);
        let dx = linear_backward_input(&dy, &weights).unwrap();
        assert_slopes(&values(&dx), &x, &dy, |x| linear(x, &weights, &biases).unwrap());
        let grads =
            [&weights[0], &weights[1], &biases[0], &biases[1]].map(|it| it.zeros_like().unwrap());
        linear_backward_weights(&dy, &x, &grads[..2], &grads[2..], DType::F32).unwrap();
        assert_slopes(&values(&grads[1]), &weights[1], &dy, |weight| {
            linear(&x, &[weights[0].clone(), weight.clone()], &biases).unwrap()
        });
        assert_slopes(&values(&grads[3]), &biases[1], &dy, |bias| {
            linear(&x, &weights, &[biases[0].clone(), bias.clone()]).unwrap()
        });
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let (x, dy) = (some_values((300, 200), 1), some_values((300, 1105), 2));
        let weights = weights(200, DType::BF16);
        assert_deterministic(|| {
            let grads = [some_values((1100, 200), 3), some_values((5, 200), 4)];
            let biases = [some_values(1100, 5), some_values(5, 6)];
            linear_backward_weights(&dy, &x, &grads, &biases, DType::F32).unwrap();
            let dx = linear_backward_input(&dy, &weights).unwrap();
            grads.iter().chain(&biases).chain([&dx]).flat_map(values).collect()
        });
    }

    fn gradients_of_other_shapes_are_refused(device: &Device) {
        let [x, dy] = [some_values((9, 4), 1), some_values((9, 5), 2)].map(|it| on(device, &it));
        let grads = |n_out: usize, n_in: usize| [on(device, &some_values((n_out, n_in), 3))];
        let some_values = |n: usize, seed: u64| on(device, &some_values(n, seed));
        let add = |x: &Tensor, grads: &[Tensor], biases: &[Tensor]| {
            linear_backward_weights(&dy, x, grads, biases, DType::F32)
        };
        assert!(add(&x, &grads(5, 4), &[some_values(5, 4)]).is_ok());
        assert!(add(&x, &grads(4, 4), &[]).is_err());
        assert!(add(&x, &grads(5, 3), &[]).is_err());
        assert!(add(&x.t().unwrap(), &grads(5, 4), &[]).is_err());
        assert!(add(&x, &grads(5, 4), &[some_values(4, 4)]).is_err());
        assert!(add(&x, &grads(5, 4), &[some_values(5, 4), some_values(5, 4)]).is_err());
        assert!(linear_backward_input(&dy, &grads(5, 4)).is_ok());
        assert!(linear_backward_input(&dy, &grads(4, 4)).is_err());
        assert!(linear_backward_input(&dy, &[]).is_err());
    }
}
