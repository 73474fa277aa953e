use candle_core::{CpuStorage, InplaceOp2, Layout, Result, Tensor};
use rayon::prelude::*;

use super::{f32_slice, f32_slice_mut, gpu};

/// Adds `x` to `y`, in place.
///
/// candle's own addition leaves a thread waiting in a busy loop, which the next product could use.
///
/// # Shapes
///
/// Two of the same; contiguous and `f32`.
pub(crate) fn add_to(y: &Tensor, x: &Tensor) -> Result<()> {
    scaled_add(y, x, 1.0)
}

/// Adds `scale · x` to `y`, in place; see [`add_to`].
pub(crate) fn scaled_add(y: &Tensor, x: &Tensor, scale: f32) -> Result<()> {
    if gpu::is_on_gpu(y) {
        return gpu::add_to(y, x, scale);
    }
    y.inplace_op2(x, &AddTo { scale })
}

struct AddTo {
    scale: f32,
}

impl InplaceOp2 for AddTo {
    fn name(&self) -> &'static str {
        "add-to"
    }

    fn cpu_fwd(
        &self,
        y: &mut CpuStorage,
        y_layout: &Layout,
        x: &CpuStorage,
        x_layout: &Layout,
    ) -> Result<()> {
        /// Fewer are added sooner than another thread takes them.
        const TASK: usize = 1 << 15;
        if y_layout.shape() != x_layout.shape() {
            candle_core::bail!("shapes {:?} and {:?} differ", y_layout.shape(), x_layout.shape());
        }
        let x = f32_slice(x, x_layout)?;
        let y = f32_slice_mut(y, y_layout)?;
        let scale = self.scale;
        if y.len() <= TASK {
            add(y, x, scale);
        } else {
            y.par_chunks_mut(TASK).zip(x.par_chunks(TASK)).for_each(|(y, x)| add(y, x, scale));
        }
        Ok(())
    }
}

pub(super) fn add(y: &mut [f32], x: &[f32], scale: f32) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += scale * x;
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use meav_cuda::on_cpu_and_gpu;

    use super::*;

    on_cpu_and_gpu!(
        every_length_is_added_to_its_end,
        what_is_added_is_scaled,
        other_shapes_are_refused,
    );

    fn ramp(n: usize, scale: f32, device: &Device) -> Tensor {
        let values: Vec<f32> = (0..n).map(|i| i as f32 * scale).collect();
        Tensor::from_vec(values, (n / 4, 4), device).unwrap()
    }

    fn every_length_is_added_to_its_end(device: &Device) {
        for n in [4, 1 << 15, (1 << 16) + 4] {
            let y = ramp(n, 0.5, device);
            let expected = (&y + ramp(n, 0.25, device)).unwrap();
            add_to(&y, &ramp(n, 0.25, device)).unwrap();
            assert!(y.to_vec2::<f32>().unwrap() == expected.to_vec2::<f32>().unwrap());
        }
    }

    fn what_is_added_is_scaled(device: &Device) {
        let y = ramp(8, 0.5, device);
        scaled_add(&y, &ramp(8, 0.25, device), -3.0).unwrap();
        let expected = ramp(8, -0.25, device);
        assert!(y.to_vec2::<f32>().unwrap() == expected.to_vec2::<f32>().unwrap());
    }

    fn other_shapes_are_refused(device: &Device) {
        let add = |n| add_to(&ramp(8, 1.0, device), &ramp(n, 1.0, device));
        assert!(add(8).is_ok());
        assert!(add(4).is_err());
    }
}
