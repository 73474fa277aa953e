use candle_core::{CpuStorage, CustomOp1, DType, InplaceOp1, Layout, Result, Shape, Tensor};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::attention::HeadLayout;
use super::dot::dot_rows;
use super::{f32_slice, gpu};

/// What root mean square norms of one model share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NormRule {
    /// `ε`.
    pub(crate) eps: f32,
    /// Added to the weights.
    pub(crate) offset: f32,
}

/// Root mean square normalisation over the last dimension.
///
/// ```text
/// y = x / √(mean(x²) + ε) · (w + offset)
/// ```
///
/// Source: Zhang and Sennrich, 2019, arXiv:1910.07467, Eq. 4.
///
/// # Shapes
///
/// `x` is `(T, H)` and `f32`, `weight` `(H,)` of any floating point type.
pub(crate) fn rms_norm(x: &Tensor, weight: &Tensor, rule: NormRule) -> Result<Tensor> {
    if gpu::is_on_gpu(x) {
        return gpu::rms_norm(x, weight, rule);
    }
    x.apply_op1_no_bwd(&RmsNorm { weight: rule.read(weight)?, eps: rule.eps })
}

/// Normalises queries and keys head by head, in place; see [`rms_norm`].
///
/// # Shapes
///
/// `qkv` is `(T, (heads + 2 kv_heads) D)`, both weights are `(D,)` of any floating point type.
pub(crate) fn norm_heads(
    qkv: &Tensor,
    q_weight: &Tensor,
    k_weight: &Tensor,
    rule: NormRule,
    heads: HeadLayout,
) -> Result<()> {
    if gpu::is_on_gpu(qkv) {
        return gpu::norm_heads(qkv, q_weight, k_weight, rule, heads);
    }
    let (q_weight, k_weight) = (rule.read(q_weight)?, rule.read(k_weight)?);
    qkv.inplace_op1(&HeadNorm { q_weight, k_weight, eps: rule.eps, heads })
}

impl NormRule {
    pub(super) fn read(self, weight: &Tensor) -> Result<Vec<f32>> {
        let mut weight: Vec<f32> = weight.to_dtype(DType::F32)?.to_vec1()?;
        if self.offset != 0.0 {
            for value in &mut weight {
                *value += self.offset;
            }
        }
        Ok(weight)
    }
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
            let scale = inverse_root_mean_square(simd, x, self.eps);
            for ((out, x), weight) in out.iter_mut().zip(x).zip(self.weight) {
                *out = x * scale * weight;
            }
        }
    }
}

#[inline(always)]
pub(super) fn inverse_root_mean_square<S: Simd>(simd: S, x: &[f32], eps: f32) -> f32 {
    let mut square = [0.0];
    dot_rows(simd, x, x, &mut square);
    1.0 / (square[0] / x.len() as f32 + eps).sqrt()
}

struct HeadNorm {
    q_weight: Vec<f32>,
    k_weight: Vec<f32>,
    eps: f32,
    heads: HeadLayout,
}

impl InplaceOp1 for HeadNorm {
    fn name(&self) -> &'static str {
        "head-norm"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let (CpuStorage::F32(values), Some((start, end))) = (storage, layout.contiguous_offsets())
        else {
            candle_core::bail!("queries and keys must be contiguous and f32");
        };
        let arch = Arch::new();
        let rows = values[start..end].par_chunks_exact_mut(self.heads.row_len());
        rows.with_min_len(4).for_each(|row| arch.dispatch(HeadNormTask { op: self, row }));
        Ok(())
    }
}

struct HeadNormTask<'a> {
    op: &'a HeadNorm,
    row: &'a mut [f32],
}

impl WithSimd for HeadNormTask<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { op, row } = self;
        let (queries, rest) = row.split_at_mut(op.heads.keys_start());
        let (keys, _) = rest.split_at_mut(op.heads.values_start() - op.heads.keys_start());
        for (heads, weight) in [(queries, &op.q_weight), (keys, &op.k_weight)] {
            for head in heads.chunks_exact_mut(op.heads.head_dim) {
                let scale = inverse_root_mean_square(simd, head, op.eps);
                for (value, weight) in head.iter_mut().zip(weight) {
                    *value *= scale * weight;
                }
            }
        }
    }
}
