use std::collections::BTreeSet;

use candle_core::{DType, Result, Tensor};
use meav_cuda::{Grid, Kernel, Launch};

use crate::Sampling;

/// The next token, drawn on the GPU that `logits` are on, `(V,)` or `(1, V)`, in `f32`. `recent` tokens
/// are penalised; `draw`, in `[0, 1)`, decides among those that are left.
///
/// Of tokens that are equally likely at the edge of top-k or top-p all stay.
///
/// # Errors
///
/// If the logits are no numbers, or the GPU refuses.
pub(crate) fn sample(
    logits: &Tensor,
    sampling: &Sampling,
    recent: &[u32],
    draw: f32,
) -> Result<u32> {
    /// Threads of its one block.
    const THREADS: usize = 1024;
    /// As in `sample.cu`.
    const NO_TOKEN: u32 = u32::MAX;
    /// Lower temperatures always take the likeliest token, as on the CPU.
    const LOWEST_TEMPERATURE: f64 = 1e-6;
    let n = logits.elem_count();
    let recent: BTreeSet<u32> = recent.iter().copied().filter(|it| (*it as usize) < n).collect();
    let n_recent = recent.len();
    // No tensor is empty: kernels are given addresses.
    let recent: Vec<u32> = if recent.is_empty() { vec![0] } else { recent.into_iter().collect() };
    let recent = Tensor::new(recent, logits.device())?;
    // The kernel writes over them.
    let logits = logits.to_dtype(DType::F32)?.copy()?;
    let token = Tensor::zeros(1, DType::U32, logits.device())?;
    let is_greedy = sampling.temperature < LOWEST_TEMPERATURE;
    let sharpness = if is_greedy { 0.0 } else { (1.0 / sampling.temperature) as f32 };
    let numbers = [sharpness, sampling.top_p as f32, sampling.min_p as f32];
    let [sharpness, top_p, min_p] = numbers.map(f32::to_bits);
    let penalty = (sampling.repeat_penalty as f32).to_bits();
    let top_k = u32::try_from(sampling.top_k).unwrap_or(0);
    let launch =
        Launch::new(Kernel { module: "sample", name: "sample" }, Grid::of_blocks([1, 1], THREADS))
            .tensor(&token)
            .tensor(&logits)
            .tensor(&recent)
            .value(n_recent as u32)
            .value([sharpness, top_p, min_p, penalty, top_k, draw.to_bits()])
            .value(n as u32);
    // SAFETY: there are n logits, and recent tokens are below n.
    unsafe { launch.run(&logits) }?;
    let token = token.to_vec1::<u32>()?[0];
    if token == NO_TOKEN {
        candle_core::bail!("the model's logits are no numbers");
    }
    Ok(token)
}
