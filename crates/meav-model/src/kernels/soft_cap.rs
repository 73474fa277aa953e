use candle_core::{CpuStorage, InplaceOp1, Layout, Result, Tensor};
use pulp::Arch;
use rayon::prelude::*;

use super::gpu;
use super::simd::tanh;

/// Bends values to lie between plus and minus `cap`, in place.
///
/// ```text
/// y = c tanh(x / c)
/// ```
///
/// Source: Gemma Team, 2024, arXiv:2408.00118, Section 2.
///
/// # Shapes
///
/// Any; contiguous and `f32`.
pub(crate) fn soft_cap(x: &Tensor, cap: f32) -> Result<()> {
    if gpu::is_on_gpu(x) {
        return gpu::soft_cap(x, cap);
    }
    x.inplace_op1(&SoftCap { cap })
}

struct SoftCap {
    cap: f32,
}

impl InplaceOp1 for SoftCap {
    fn name(&self) -> &'static str {
        "soft-cap"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        const TASK: usize = 1 << 13;
        let (CpuStorage::F32(values), Some((start, end))) = (storage, layout.contiguous_offsets())
        else {
            candle_core::bail!("capped values must be contiguous and f32");
        };
        let arch = Arch::new();
        values[start..end].par_chunks_mut(TASK).for_each(|values| {
            arch.dispatch(
                #[inline(always)]
                || soft_cap_slice(values, 1.0, self.cap),
            );
        });
        Ok(())
    }
}

/// `c tanh(s x / c)`.
#[inline(always)]
pub(super) fn soft_cap_slice(values: &mut [f32], scale: f32, cap: f32) {
    let scale = scale / cap;
    for value in values {
        *value = cap * tanh(*value * scale);
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use meav_cuda::on_cpu_and_gpu;
    use meav_test_support::{assert_close, tolerance};

    use super::*;

    on_cpu_and_gpu!(values_are_bent_below_the_cap);

    fn values_are_bent_below_the_cap(device: &Device) {
        for (n, cap) in [(1, 30.0), (257, 30.0), (20_000, 2.5)] {
            let values: Vec<f32> = (0..n).map(|i| 90.0 - i as f32 * 0.7 % 180.0).collect();
            let bent = |x: &f32| f64::from(cap) * (f64::from(*x) / f64::from(cap)).tanh();
            let expected: Vec<f32> = values.iter().map(|x| bent(x) as f32).collect();
            let x = Tensor::new(values, device).unwrap();
            soft_cap(&x, cap).unwrap();
            assert_close(&x.to_vec1().unwrap(), &expected, tolerance::F32);
        }
    }
}
