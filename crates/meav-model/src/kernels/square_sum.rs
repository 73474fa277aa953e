use candle_core::{CpuStorage, Result, Storage, Tensor};
use rayon::prelude::*;

use super::{f32_slice, gpu};

/// `Σ x²` over all tensors in double precision, the same bits on any number of threads.
///
/// # Shapes
///
/// Any, on one device; contiguous and `f32`.
pub(crate) fn square_sum(tensors: &[&Tensor]) -> Result<f64> {
    if tensors.iter().any(|it| gpu::is_on_gpu(it)) {
        return gpu::square_sum(tensors);
    }
    tensors.iter().try_fold(0.0, |sum, x| Ok(sum + square_sum_of(x)?))
}

fn square_sum_of(x: &Tensor) -> Result<f64> {
    /// Elements of one task.
    const TASK: usize = 1 << 15;
    let (storage, layout) = x.storage_and_layout();
    let Storage::Cpu(storage @ CpuStorage::F32(_)) = &*storage else {
        candle_core::bail!("only what is f32 and on the CPU is summed");
    };
    let sums: Vec<f64> = f32_slice(storage, layout)?.par_chunks(TASK).map(sum).collect();
    Ok(sums.into_iter().sum())
}

fn sum(values: &[f32]) -> f64 {
    const LANES: usize = 16;
    let mut sums = [0.0_f64; LANES];
    for lanes in values.chunks(LANES) {
        for (sum, value) in sums.iter_mut().zip(lanes) {
            *sum += f64::from(*value) * f64::from(*value);
        }
    }
    sums.into_iter().sum()
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn every_element_counts_once() {
        for n in [1, 15, 17, 1 << 15, (1 << 16) + 3] {
            let values: Vec<f32> = (0..n).map(|i| (i % 7) as f32).collect();
            let expected: f64 = values.iter().map(|x| f64::from(x * x)).sum();
            let found = square_sum(&[&Tensor::new(values, &Device::Cpu).unwrap()]).unwrap();
            // Sums of whole numbers are exact.
            assert!(found.to_bits() == expected.to_bits(), "{n}: {found}, not {expected}");
        }
    }

    #[test]
    fn other_types_are_refused() {
        assert!(square_sum(&[&Tensor::new(&[1_u32], &Device::Cpu).unwrap()]).is_err());
    }
}
