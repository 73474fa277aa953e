use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;

use super::simd::exp;
use super::{f32_slice, gpu};

/// Elements of the logits that are kept at a time: 64 MiB.
pub(crate) const LOGITS: usize = 1 << 24;

/// A token whose probability is asked for, and the row of logits that tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) row: usize,
    pub(crate) token: u32,
}

/// Log-softmax of each target's row at its token, without the others.
///
/// ```text
/// log p = zₜ − max z − log Σ exp(z − max z)
/// ```
///
/// # Shapes
///
/// `logits` is `(n, V)` and `f32`, the result `(targets,)`, in nats.
pub(crate) fn token_log_probs(logits: &Tensor, targets: &[Target]) -> Result<Vec<f32>> {
    if gpu::is_on_gpu(logits) {
        return gpu::token_log_probs(logits, targets);
    }
    logits.apply_op1_no_bwd(&TokenLogProbs { targets })?.to_vec1()
}

struct TokenLogProbs<'a> {
    targets: &'a [Target],
}

impl CustomOp1 for TokenLogProbs<'_> {
    fn name(&self) -> &'static str {
        "token-log-probs"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let logits = f32_slice(storage, layout)?;
        let (_, n) = layout.shape().dims2()?;
        let arch = Arch::new();
        let normalisers: Vec<Normaliser> =
            logits.par_chunks_exact(n).map(|row| arch.dispatch(NormaliserTask { row })).collect();
        let log_prob = |target: &Target| {
            let Target { row, token } = *target;
            let Some(logit) = logits[row * n..][..n].get(token as usize) else {
                candle_core::bail!("token {token} is beyond the vocabulary of {n}");
            };
            Ok(logit - normalisers[row].max - normalisers[row].log_sum())
        };
        let out = self.targets.iter().map(log_prob).collect::<Result<Vec<_>>>()?;
        let shape = out.len().into();
        Ok((CpuStorage::F32(out), shape))
    }
}

/// What a row's logits lack to be log-probabilities, in two parts: their sum would round away what
/// tells likely tokens apart.
pub(super) struct Normaliser {
    pub(super) max: f32,
    /// `Σ exp(z − max z)`.
    pub(super) sum: f64,
}

impl Normaliser {
    fn log_sum(&self) -> f32 {
        self.sum.ln() as f32
    }
}

pub(super) struct NormaliserTask<'a> {
    pub(super) row: &'a [f32],
}

impl NullaryFnOnce for NormaliserTask<'_> {
    type Output = Normaliser;

    #[inline(always)]
    fn call(self) -> Normaliser {
        const LANES: usize = 16;
        /// Few enough for single precision to sum.
        const BLOCK: usize = 1 << 10;
        let mut maxima = [f32::NEG_INFINITY; LANES];
        for lanes in self.row.chunks(LANES) {
            for (max, logit) in maxima.iter_mut().zip(lanes) {
                *max = if logit > max { *logit } else { *max };
            }
        }
        let max = maxima.into_iter().fold(f32::NEG_INFINITY, f32::max);
        let mut sum = 0.0_f64;
        for block in self.row.chunks(BLOCK) {
            let mut sums = [0.0; LANES];
            for lanes in block.chunks(LANES) {
                for (sum, logit) in sums.iter_mut().zip(lanes) {
                    *sum += exp(logit - max);
                }
            }
            sum += f64::from(sums.into_iter().sum::<f32>());
        }
        Normaliser { max, sum }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use meav_cuda::on_cpu_and_gpu;

    use super::*;

    on_cpu_and_gpu!(
        log_probs_are_those_of_double_precision,
        token_beyond_the_vocabulary_is_refused,
    );

    fn log_probs_are_those_of_double_precision(device: &Device) {
        for n in [1, 15, 16, 1000, 1025, 49_152] {
            let row = |scale: f64| (0..n).map(move |i| (f64::from(i) * 0.7).sin() * scale);
            let rows: Vec<Vec<f64>> = [1.0, 300.0].map(|scale| row(scale).collect()).into();
            let values: Vec<f32> = rows.concat().into_iter().map(|x| x as f32).collect();
            let logits = Tensor::from_vec(values, (2, n as usize), device).unwrap();
            let targets = [(0, 0), (1, n - 1), (0, n / 2), (1, n / 2)]
                .map(|(row, token)| Target { row, token: token as u32 });
            let found = token_log_probs(&logits, &targets).unwrap();
            for (found, Target { row, token }) in found.into_iter().zip(targets) {
                let max = rows[row].iter().copied().fold(f64::MIN, f64::max);
                let sum: f64 = rows[row].iter().map(|x| (x - max).exp()).sum();
                let expected = rows[row][token as usize] - max - sum.ln();
                let close = (f64::from(found) - expected).abs() < 1e-6 * expected.abs().max(10.0);
                assert!(close, "{n}: {found} and {expected}");
            }
        }
    }

    fn token_beyond_the_vocabulary_is_refused(device: &Device) {
        let logits = Tensor::from_vec(vec![0.0_f32; 8], (2, 4), device).unwrap();
        let target = |token| token_log_probs(&logits, &[Target { row: 0, token }]);
        assert!(target(3).is_ok());
        assert!(target(4).is_err());
    }
}
