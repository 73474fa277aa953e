use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;

use super::f32_slice;
use super::simd::exp;

/// The gated activation of Llama's feed-forward layers.
///
/// ```text
/// y = g σ(g) · u        for x = [g | u]
/// ```
///
/// Source: Shazeer, 2020, arXiv:2002.05202, Eq. 5 (`SwiGLU` with β = 1).
///
/// # Shapes
///
/// `x` is `(T, 2 I)` and `f32`, the result `(T, I)`.
pub(crate) fn swiglu(x: &Tensor) -> Result<Tensor> {
    x.apply_op1_no_bwd(&Swiglu)
}

struct Swiglu;

impl CustomOp1 for Swiglu {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = f32_slice(storage, layout)?;
        let (n_rows, n_in) = layout.shape().dims2()?;
        let n = n_in / 2;
        let mut out = vec![0.0; n_rows * n];
        let arch = Arch::new();
        out.par_chunks_mut(n).zip(x.par_chunks(n_in)).with_min_len(4).for_each(|(out, x)| {
            let (gate, up) = x.split_at(n);
            arch.dispatch(SwigluTask { out, gate, up });
        });
        Ok((CpuStorage::F32(out), (n_rows, n).into()))
    }
}

struct SwigluTask<'a> {
    out: &'a mut [f32],
    gate: &'a [f32],
    up: &'a [f32],
}

impl NullaryFnOnce for SwigluTask<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for ((out, gate), up) in self.out.iter_mut().zip(self.gate).zip(self.up) {
            *out = gate / (1.0 + exp(-gate)) * up;
        }
    }
}
