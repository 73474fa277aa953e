use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;

use super::gpu;
use crate::Activation;
use crate::kernels::f32_slice;
use crate::kernels::gated::{CUBIC, ROOT_8_OVER_PI};
use crate::kernels::gpu::is_on_gpu;
use crate::kernels::simd::exp;

/// The gradient of the input of [`gated`](crate::kernels::gated).
///
/// ```text
/// dx = [a′(g) u dy | a(g) dy]                     for x = [g | u]
/// a′(g) = σ(g) (1 + g (1 − σ(g)))                 (SiLU)
/// a′(g) = s + g s (1 − s) z′   with a(g) = g s,
///     s = σ(z),  z = √(8/π) (g + 0.044715 g³)     (GELU)
/// ```
///
/// # Shapes
///
/// `gate_up` is `(T, 2 I)`, `dy` `(T, I)`, the result `(T, 2 I)`; all `f32`.
pub(crate) fn gated_backward(
    gate_up: &Tensor,
    activation: Activation,
    dy: &Tensor,
) -> Result<Tensor> {
    if is_on_gpu(gate_up) {
        return gpu::gated_backward(gate_up, activation, dy);
    }
    gate_up.apply_op2_no_bwd(dy, &GatedBackward { activation })
}

struct GatedBackward {
    activation: Activation,
}

impl CustomOp2 for GatedBackward {
    fn name(&self) -> &'static str {
        "gated-activation-backward"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        dy: &CpuStorage,
        dy_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (n_rows, n_in) = x_layout.shape().dims2()?;
        let n = n_in / 2;
        if dy_layout.shape().dims() != [n_rows, n] {
            candle_core::bail!("the gradient is {:?} for {n_rows} × {n}", dy_layout.shape());
        }
        let (x, dy) = (f32_slice(x, x_layout)?, f32_slice(dy, dy_layout)?);
        let mut dx = vec![0.0; x.len()];
        let arch = Arch::new();
        let rows = dx.par_chunks_mut(n_in).zip(x.par_chunks(n_in)).zip(dy.par_chunks(n));
        rows.with_min_len(4).for_each(|((dx, x), dy)| match self.activation {
            Activation::Silu => arch.dispatch(GateTask { dx, x, dy, activation: silu }),
            Activation::GeluTanh => arch.dispatch(GateTask { dx, x, dy, activation: gelu_tanh }),
        });
        Ok((CpuStorage::F32(dx), x_layout.shape().clone()))
    }
}

/// The activation and its slope.
#[inline(always)]
fn silu(x: f32) -> (f32, f32) {
    let sigmoid = 1.0 / (1.0 + exp(-x));
    let value = x * sigmoid;
    (value, value.mul_add(1.0 - sigmoid, sigmoid))
}

/// The activation and its slope.
#[inline(always)]
fn gelu_tanh(x: f32) -> (f32, f32) {
    let square = CUBIC * x * x;
    let sigmoid = 1.0 / (1.0 + exp(-ROOT_8_OVER_PI * square.mul_add(x, x)));
    let value = x * sigmoid;
    let slope = ROOT_8_OVER_PI * square.mul_add(3.0, 1.0);
    (value, (value * slope).mul_add(1.0 - sigmoid, sigmoid))
}

struct GateTask<'a, F> {
    dx: &'a mut [f32],
    x: &'a [f32],
    dy: &'a [f32],
    activation: F,
}

impl<F: Fn(f32) -> (f32, f32)> NullaryFnOnce for GateTask<'_, F> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let n = self.dy.len();
        let (d_gate, d_up) = self.dx.split_at_mut(n);
        let (gate, up) = self.x.split_at(n);
        for ((((d_gate, d_up), gate), up), dy) in
            d_gate.iter_mut().zip(d_up).zip(gate).zip(up).zip(self.dy)
        {
            let (value, slope) = (self.activation)(*gate);
            *d_gate = slope * up * dy;
            *d_up = value * dy;
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use meav_cuda::on_cpu_and_gpu;
    use meav_test_support::{assert_close, tolerance};

    use super::super::testing::{
        assert_deterministic, assert_slopes, by_candle, on, some_values, values, variable,
    };
    use super::*;
    use crate::kernels::gated;

    on_cpu_and_gpu!(
        gradients_are_candles,
        gates_far_from_zero_pass_all_or_nothing,
        gradient_of_another_shape_is_refused,
    );

    const BOTH: [Activation; 2] = [Activation::Silu, Activation::GeluTanh];

    fn slow(x: &Tensor, activation: Activation) -> Tensor {
        let n = x.dim(1).unwrap() / 2;
        let (gate, up) = (x.narrow(1, 0, n).unwrap(), x.narrow(1, n, n).unwrap());
        let sigmoid =
            |x: Tensor| ((x.neg().unwrap().exp().unwrap() + 1.0).unwrap()).recip().unwrap();
        let factor = match activation {
            Activation::Silu => sigmoid(gate.clone()),
            Activation::GeluTanh => {
                let cube = (gate.powf(3.0).unwrap() * 0.044_715).unwrap();
                let z = ((&gate + cube).unwrap() * std::f64::consts::FRAC_2_PI.sqrt()).unwrap();
                ((z.tanh().unwrap() + 1.0).unwrap() * 0.5).unwrap()
            }
        };
        ((gate * factor).unwrap() * up).unwrap()
    }

    fn gradients_are_candles(device: &Device) {
        for (n_rows, n) in [(1, 3), (7, 200)] {
            for activation in BOTH {
                let x = (some_values((n_rows, 2 * n), 1) * 12.0).unwrap();
                let dy = some_values((n_rows, n), 2);
                let x64 = variable(&x);
                let expected = by_candle(&slow(&x64, activation), &dy, &[&x64]).remove(0);
                let (x, dy) = (on(device, &x), on(device, &dy));
                let found = values(&gated_backward(&x, activation, &dy).unwrap());
                assert_close(&found, &expected, tolerance::F32);
            }
        }
    }

    #[test]
    fn gradients_are_the_slopes_of_the_forward_pass() {
        for activation in BOTH {
            let x = (some_values((3, 20), 1) * 3.0).unwrap();
            let dy = some_values((3, 10), 2);
            let dx = gated_backward(&x, activation, &dy).unwrap();
            assert_slopes(&values(&dx), &x, &dy, |x| gated(x, activation).unwrap());
        }
    }

    fn gates_far_from_zero_pass_all_or_nothing(device: &Device) {
        for activation in BOTH {
            let gates = [-1e9, -1e4, -200.0, 200.0, 1e4, 1e9, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0];
            let x = Tensor::new(&[gates.map(|it: f64| it as f32)], device).unwrap();
            let dy = Tensor::new(&[[1.0_f32; 6]], device).unwrap();
            let found = values(&gated_backward(&x, activation, &dy).unwrap());
            assert_close(&found[1..6], &[0.0, 0.0, 2.0, 2.0, 2.0], tolerance::F32);
            assert_close(&found[7..], &[0.0, 0.0, 200.0, 1e4, 1e9], tolerance::F32);
        }
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let (x, dy) = (some_values((90, 66), 1), some_values((90, 33), 2));
        assert_deterministic(|| values(&gated_backward(&x, Activation::Silu, &dy).unwrap()));
    }

    fn gradient_of_another_shape_is_refused(device: &Device) {
        let x = on(device, &some_values((3, 8), 1));
        let back = |shape: (usize, usize)| {
            gated_backward(&x, Activation::Silu, &on(device, &some_values(shape, 2)))
        };
        assert!(back((3, 4)).is_ok());
        assert!(back((3, 8)).is_err());
        assert!(back((2, 4)).is_err());
    }
}
