use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;

use super::simd::exp;
use super::{f32_slice, gpu};
use crate::Activation;

/// The gated activation of a feed-forward layer.
///
/// ```text
/// y = a(g) · u        for x = [g | u]
/// a(g) = g σ(g)                                    (SiLU)
/// a(g) = g/2 (1 + tanh(√(2/π) (g + 0.044715 g³)))  (GELU, Hendrycks and Gimpel, arXiv:1606.08415)
/// ```
///
/// Source: Shazeer, 2020, arXiv:2002.05202, Eq. 5 (`SwiGLU` with β = 1, and `GEGLU`).
///
/// # Shapes
///
/// `x` is `(T, 2 I)` and `f32`, the result `(T, I)`.
pub(crate) fn gated(x: &Tensor, activation: Activation) -> Result<Tensor> {
    if gpu::is_on_gpu(x) {
        return gpu::gated(x, activation);
    }
    x.apply_op1_no_bwd(&Gated { activation })
}

struct Gated {
    activation: Activation,
}

impl CustomOp1 for Gated {
    fn name(&self) -> &'static str {
        "gated-activation"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = f32_slice(storage, layout)?;
        let (n_rows, n_in) = layout.shape().dims2()?;
        let n = n_in / 2;
        let mut out = vec![0.0; n_rows * n];
        let arch = Arch::new();
        out.par_chunks_mut(n).zip(x.par_chunks(n_in)).with_min_len(4).for_each(|(out, x)| {
            let (gate, up) = x.split_at(n);
            match self.activation {
                Activation::Silu => arch.dispatch(GateTask { out, gate, up, activation: silu }),
                Activation::GeluTanh => {
                    arch.dispatch(GateTask { out, gate, up, activation: gelu_tanh });
                }
            }
        });
        Ok((CpuStorage::F32(out), (n_rows, n).into()))
    }
}

#[inline(always)]
fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// `2 √(2/π)`.
pub(super) const ROOT_8_OVER_PI: f32 = std::f32::consts::FRAC_2_SQRT_PI * std::f32::consts::SQRT_2;

/// The factor of GELU's cube.
pub(super) const CUBIC: f32 = 0.044_715;

/// `(1 + tanh z) / 2` is `σ(2z)`.
#[inline(always)]
fn gelu_tanh(x: f32) -> f32 {
    x / (1.0 + exp(-ROOT_8_OVER_PI * (CUBIC * x * x).mul_add(x, x)))
}

struct GateTask<'a, F> {
    out: &'a mut [f32],
    gate: &'a [f32],
    up: &'a [f32],
    activation: F,
}

impl<F: Fn(f32) -> f32> NullaryFnOnce for GateTask<'_, F> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for ((out, gate), up) in self.out.iter_mut().zip(self.gate).zip(self.up) {
            *out = (self.activation)(*gate) * up;
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use meav_cuda::on_cpu_and_gpu;

    use super::*;

    on_cpu_and_gpu!(both_activations_are_those_of_candle);

    fn both_activations_are_those_of_candle(device: &Device) {
        let gate: Vec<f32> = (-600..600).map(|i| i as f32 / 60.0).collect();
        let n = gate.len();
        let gate = Tensor::from_vec(gate, (1, n), &Device::Cpu).unwrap();
        let up = ((&gate * 0.5).unwrap() + 1.0).unwrap();
        let x = Tensor::cat(&[&gate, &up], 1).unwrap();
        for (activation, expected) in
            [(Activation::Silu, gate.silu().unwrap()), (Activation::GeluTanh, gate.gelu().unwrap())]
        {
            let expected = (expected * &up).unwrap().to_vec2::<f32>().unwrap();
            let found = gated(&x.to_device(device).unwrap(), activation).unwrap();
            let found = found.to_vec2::<f32>().unwrap();
            for (found, expected) in found[0].iter().zip(&expected[0]) {
                let close = (found - expected).abs() <= 1e-5 * expected.abs().max(1.0);
                assert!(close, "{activation:?}: {found} and {expected}");
            }
        }
    }
}
