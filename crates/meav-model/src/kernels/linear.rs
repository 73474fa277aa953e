use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor};
use pulp::{Arch, Simd, WithSimd};

use super::dot::{Deinterleaved, as_words, dot_any_rows, dot_bf16_rows, dot_rows};
use super::gemm::{Matrix, Parallelism, matmul};
use super::panel::{Panel, WeightGuard, for_each_panel_part, read};
use super::parallel::{for_each_part, n_threads};
use super::{f32_slice, gpu};

/// Rows up to which a product is bound by reading the weights, not by arithmetic.
const MAX_VECTOR_ROWS: usize = 8;

/// `[x W₁ᵀ + b₁ | x W₂ᵀ + b₂ | …]`: several projections of the same input, side by side, in one
/// pass.
///
/// # Shapes
///
/// `x` is `(T, in)` and `f32`, each weight `(outᵢ, in)` of any floating point type, the result
/// `(T, Σ outᵢ)` and `f32`. There are no biases, or as many as weights, `(outᵢ,)` of any type.
pub(crate) fn linear(x: &Tensor, weights: &[Tensor], biases: &[Tensor]) -> Result<Tensor> {
    if gpu::is_on_gpu(x) {
        return gpu::linear(x, weights, biases);
    }
    let mut bias = Vec::new();
    for part in biases {
        bias.extend(part.to_dtype(DType::F32)?.to_vec1::<f32>()?);
    }
    x.apply_op1_no_bwd(&Linear { weights, bias })
}

struct Linear<'a> {
    weights: &'a [Tensor],
    /// Of all outputs, or empty.
    bias: Vec<f32>,
}

impl CustomOp1 for Linear<'_> {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = f32_slice(storage, layout)?;
        let (n_rows, n_in) = layout.shape().dims2()?;
        let guards =
            self.weights.iter().map(|weight| read(weight, n_in)).collect::<Result<Vec<_>>>()?;
        let panels = guards.iter().map(WeightGuard::values).collect::<Result<Vec<_>>>()?;
        let n_out: usize = guards.iter().map(|guard| guard.n_out).sum();
        let mut out = vec![0.0; n_rows * n_out];
        if n_rows <= MAX_VECTOR_ROWS {
            multiply_vectors(&mut out, x, n_rows, n_in, &panels);
        } else {
            multiply_matrix(&mut out, x, n_rows, n_in, n_out, &panels);
        }
        if !self.bias.is_empty() {
            if self.bias.len() != n_out {
                candle_core::bail!("{} biases for {n_out} outputs", self.bias.len());
            }
            for row in out.chunks_exact_mut(n_out) {
                for (value, bias) in row.iter_mut().zip(&self.bias) {
                    *value += bias;
                }
            }
        }
        Ok((CpuStorage::F32(out), (n_rows, n_out).into()))
    }
}

/// One dot product for each output, every weight read from memory once.
fn multiply_vectors(out: &mut [f32], x: &[f32], n_rows: usize, n_in: usize, panels: &[Panel<'_>]) {
    let arch = Arch::new();
    let n_out = out.len() / n_rows;
    let inputs: Vec<Input<'_>> = x.chunks_exact(n_in).map(Input::new).collect();
    // A task's outputs lie together, row after row; a handful of rows is sorted out at the end.
    let task_outputs = n_out.div_ceil(n_threads()).max(MIN_TASK_OUTPUTS);
    let mut by_task = vec![0.0; if n_rows == 1 { 0 } else { out.len() }];
    let target = if n_rows == 1 { &mut *out } else { &mut by_task[..] };
    for_each_part(target, task_outputs * n_rows, |index, target| {
        let first = index * task_outputs;
        arch.dispatch(DotTask { target, inputs: &inputs, n_in, first, panels });
    });
    for (index, values) in by_task.chunks(task_outputs * n_rows).enumerate() {
        let n = values.len() / n_rows;
        for (row, values) in values.chunks_exact(n).enumerate() {
            out[row * n_out + index * task_outputs..][..n].copy_from_slice(values);
        }
    }
}

/// Fewer are done sooner than another thread takes them.
const MIN_TASK_OUTPUTS: usize = 16;

/// One row of activations, in the forms that weights of each type want.
struct Input<'a> {
    plain: &'a [f32],
    deinterleaved: Option<Deinterleaved>,
}

impl<'a> Input<'a> {
    fn new(plain: &'a [f32]) -> Self {
        Self { plain, deinterleaved: Deinterleaved::new(plain) }
    }
}

/// A run of outputs, which may cross from one panel into the next.
struct DotTask<'a> {
    target: &'a mut [f32],
    inputs: &'a [Input<'a>],
    n_in: usize,
    /// The first output's place among those of all panels.
    first: usize,
    panels: &'a [Panel<'a>],
}

impl WithSimd for DotTask<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { target, inputs, n_in, first, panels } = self;
        let n = target.len() / inputs.len();
        let mut panel_start = 0;
        for panel in panels {
            let panel_end = panel_start + panel.len() / n_in;
            let (from, to) = (first.max(panel_start), (first + n).min(panel_end));
            if from < to {
                let rows = panel.range((from - panel_start) * n_in, (to - panel_start) * n_in);
                for (input, target) in inputs.iter().zip(target.chunks_exact_mut(n)) {
                    dot_panel(simd, input, rows, &mut target[from - first..to - first]);
                }
            }
            panel_start = panel_end;
        }
    }
}

#[inline(always)]
fn dot_panel<S: Simd>(simd: S, input: &Input<'_>, rows: Panel<'_>, out: &mut [f32]) {
    match rows {
        Panel::F32(rows) => dot_rows(simd, input.plain, rows, out),
        Panel::F16(rows) => dot_any_rows(input.plain, rows, out),
        Panel::Bf16(rows) => match (&input.deinterleaved, as_words(rows)) {
            (Some(x), Some(words)) => dot_bf16_rows(simd, x, words, out),
            _ => dot_any_rows(input.plain, rows, out),
        },
    }
}

fn multiply_matrix(
    out: &mut [f32],
    x: &[f32],
    n_rows: usize,
    n_in: usize,
    n_out: usize,
    panels: &[Panel<'_>],
) {
    let x = Matrix { values: x, rows: n_rows, cols: n_in, row_stride: n_in, col_stride: 1 };
    for_each_panel_part(panels, n_in, |column, values| {
        let cols = values.len() / n_in;
        let weight = Matrix { values, rows: n_in, cols, row_stride: 1, col_stride: n_in };
        matmul(&mut out[column..], n_out, x, weight, Parallelism::Rayon(0));
    });
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use meav_cuda::{on_cpu_and_gpu, on_gpu};

    use super::*;

    on_cpu_and_gpu!(
        every_number_of_rows_agrees_with_candle_for_every_dtype,
        biases_are_added_to_each_row,
        weights_of_another_width_are_refused,
    );

    const DTYPES: [DType; 3] = [DType::F32, DType::F16, DType::BF16];

    fn ramp(rows: usize, cols: usize, step: f32) -> Tensor {
        let values: Vec<f32> = (0..rows * cols).map(|i| ((i % 17) as f32 - 8.0) * step).collect();
        Tensor::from_vec(values, (rows, cols), &Device::Cpu).unwrap()
    }

    #[test]
    fn what_f16_does_not_hold_is_cut_on_a_gpu() {
        on_gpu(|device| {
            let x = Tensor::new(&[[1e6_f32, -2.0], [-1e6, 0.5]], device).unwrap();
            let x = x.repeat((10, 1)).unwrap();
            let weight = Tensor::new(&[[0.5_f32, 0.0], [0.0, 1.0]], device).unwrap();
            let weight = weight.to_dtype(DType::F16).unwrap();
            let found = linear(&x, &[weight], &[]).unwrap().to_vec2::<f32>().unwrap();
            assert_eq!(found[..2], [[32_752.0, -2.0], [-32_752.0, 0.5]]);
        });
    }

    /// Both ways, and on a GPU those of widths that its kernels read in one go and others.
    fn every_number_of_rows_agrees_with_candle_for_every_dtype(device: &Device) {
        let product = |x: &Tensor, weight: &Tensor| x.matmul(&weight.t().unwrap()).unwrap();
        for n_in in [8, 70, 264] {
            let weights = [33, 5, 1].map(|n_out| ramp(n_out, n_in, 0.125));
            for n_rows in (1..=MAX_VECTOR_ROWS + 1).chain([20]) {
                let x = ramp(n_rows, n_in, 0.25);
                let products = weights.each_ref().map(|weight| product(&x, weight));
                let expected = Tensor::cat(&products, 1).unwrap().to_vec2::<f32>().unwrap();
                for dtype in DTYPES {
                    // These values are exact in all three types, and so are their sums.
                    let weights = weights
                        .each_ref()
                        .map(|weight| weight.to_dtype(dtype).unwrap().to_device(device).unwrap());
                    let found = linear(&x.to_device(device).unwrap(), &weights, &[]).unwrap();
                    let found = found.to_vec2::<f32>().unwrap();
                    assert_eq!(found, expected, "{n_rows} rows of {n_in}, {dtype:?}");
                }
            }
        }
    }

    fn weights_of_another_width_are_refused(device: &Device) {
        let ramp = |rows, cols| ramp(rows, cols, 1.0).to_device(device).unwrap();
        assert!(linear(&ramp(1, 4), &[ramp(2, 4)], &[]).is_ok());
        assert!(linear(&ramp(1, 4), &[ramp(2, 5)], &[]).is_err());
    }

    fn biases_are_added_to_each_row(device: &Device) {
        let bias = |values: &[f32]| Tensor::new(values, device).unwrap();
        let biases = [bias(&[1.0, 2.0, 3.0]), bias(&[4.0, 5.0])];
        for (n_rows, n_in) in [(2, 8), (2, 4), (20, 4)] {
            let ramp = |rows| ramp(rows, n_in, 1.0).to_device(device).unwrap();
            let (x, weights) = (ramp(n_rows), [ramp(3), ramp(2)]);
            let plain = linear(&x, &weights, &[]).unwrap();
            let expected = plain.broadcast_add(&bias(&[1.0, 2.0, 3.0, 4.0, 5.0])).unwrap();
            let found = linear(&x, &weights, &biases).unwrap();
            assert_eq!(found.to_vec2::<f32>().unwrap(), expected.to_vec2::<f32>().unwrap());
            assert!(linear(&x, &weights, &biases[..1]).is_err());
        }
    }
}
