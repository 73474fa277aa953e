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
    use meav_cuda::on_cpu_and_gpu;

    use super::*;

    on_cpu_and_gpu!(every_element_counts_once, other_types_are_refused);

    fn every_element_counts_once(device: &Device) {
        for n in [1, 15, 17, 1 << 15, (1 << 16) + 3] {
            let values: Vec<f32> = (0..n).map(|i| (i % 7) as f32).collect();
            let expected: f64 = values.iter().map(|x| f64::from(x * x)).sum();
            let values = Tensor::new(values, device).unwrap();
            let found = square_sum(&[&values]).unwrap();
            // Sums of whole numbers are exact.
            assert!(found.to_bits() == expected.to_bits(), "{n}: {found}, not {expected}");
            let twice = square_sum(&[&values, &values]).unwrap();
            assert!(twice.to_bits() == (2.0 * expected).to_bits(), "{n}: {twice}");
        }
    }

    fn other_types_are_refused(device: &Device) {
        let floats = Tensor::new(&[1.0_f32], device).unwrap();
        let integers = Tensor::new(&[1_u32], device).unwrap();
        assert!(square_sum(&[&floats]).is_ok());
        assert!(square_sum(&[&floats, &integers]).is_err());
    }
}
