use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::dot::dot_rows;
use super::f32_slice;

/// Root mean square normalisation over the last dimension.
///
/// ```text
/// y = x / √(mean(x²) + ε) · w
/// ```
///
/// Source: Zhang and Sennrich, 2019, arXiv:1910.07467, Eq. 4.
///
/// # Shapes
///
/// `x` is `(T, H)` and `f32`, `weight` `(H,)` of any floating point type.
pub(crate) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let weight = weight.to_dtype(DType::F32)?.to_vec1()?;
    x.apply_op1_no_bwd(&RmsNorm { weight, eps: eps as f32 })
}

struct RmsNorm {
    weight: Vec<f32>,
    eps: f32,
}

impl CustomOp1 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        /// Rows that one task normalises.
        const TASK: usize = 16;
        let x = f32_slice(storage, layout)?;
        let n = self.weight.len();
        let mut out = vec![0.0; x.len()];
        let arch = Arch::new();
        out.par_chunks_mut(n * TASK).zip(x.par_chunks(n * TASK)).for_each(|(out, x)| {
            arch.dispatch(NormTask { out, x, weight: &self.weight, eps: self.eps });
        });
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }
}

struct NormTask<'a> {
    out: &'a mut [f32],
    x: &'a [f32],
    weight: &'a [f32],
    eps: f32,
}

impl WithSimd for NormTask<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let n = self.weight.len();
        for (out, x) in self.out.chunks_exact_mut(n).zip(self.x.chunks_exact(n)) {
            let mut square = [0.0];
            dot_rows(simd, x, x, &mut square);
            let scale = 1.0 / (square[0] / n as f32 + self.eps).sqrt();
            for ((out, x), weight) in out.iter_mut().zip(x).zip(self.weight) {
                *out = x * scale * weight;
            }
        }
    }
}
