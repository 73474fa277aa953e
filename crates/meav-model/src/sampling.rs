use candle_core::Tensor;
use candle_transformers::generation::{LogitsProcessor, Sampling as Method};
use candle_transformers::utils::apply_repeat_penalty;
use meav_cuda::is_on_gpu;

use crate::ModelError;
use crate::kernels::sample;

/// How the next token is chosen from the logits.
///
/// Applied in this order: repeat penalty, temperature, min-p, top-k, top-p.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 always takes the most likely token.
    pub temperature: f64,
    /// Keeps this many of the most likely tokens; 0 keeps all.
    pub top_k: usize,
    /// Keeps the most likely tokens that reach this probability together; 1 keeps all.
    pub top_p: f64,
    /// Drops tokens less likely than this share of the most likely one; 0 keeps all.
    pub min_p: f64,
    /// Divides the logits of recent tokens (multiplies negative ones); 1 leaves them alone.
    pub repeat_penalty: f64,
    /// Recent tokens that the penalty looks at.
    pub repeat_last_n: usize,
    /// The same seed gives the same text.
    pub seed: u64,
}

impl Sampling {
    /// # Errors
    ///
    /// [`ModelError::Sampling`] for the first setting that is out of range.
    pub(crate) fn check(&self) -> Result<(), ModelError> {
        let unit = |value: f64| (0.0..=1.0).contains(&value);
        let checks = [
            (
                "temperature",
                self.temperature,
                (0.0..=100.0).contains(&self.temperature),
                "0 to 100",
            ),
            ("top-p", self.top_p, unit(self.top_p), "0 to 1"),
            ("min-p", self.min_p, unit(self.min_p), "0 to 1"),
            (
                "repeat penalty",
                self.repeat_penalty,
                self.repeat_penalty > 0.0 && self.repeat_penalty.is_finite(),
                "above 0",
            ),
        ];
        match checks.into_iter().find(|(_, _, ok, _)| !ok) {
            Some((setting, value, _, allowed)) => {
                Err(ModelError::Sampling { setting, value, allowed })
            }
            None => Ok(()),
        }
    }
}

/// Draws tokens; the same settings and logits give the same tokens.
pub(crate) struct Sampler {
    sampling: Sampling,
    processor: LogitsProcessor,
    /// Decides on a GPU.
    draws: fastrand::Rng,
}

impl Sampler {
    pub(crate) fn new(sampling: &Sampling) -> Self {
        let Sampling { temperature, top_k: k, top_p: p, seed, .. } = *sampling;
        // candle takes 0 for all tokens; the smallest number above it leaves the likeliest.
        let p = p.max(f64::from(f32::MIN_POSITIVE));
        let method = match (k, p) {
            _ if temperature < 1e-6 => Method::ArgMax,
            (0, p) if p >= 1.0 => Method::All { temperature },
            (0, p) => Method::TopP { p, temperature },
            (k, p) if p >= 1.0 => Method::TopK { k, temperature },
            (k, p) => Method::TopKThenTopP { k, p, temperature },
        };
        let processor = LogitsProcessor::from_sampling(seed, method);
        let draws = fastrand::Rng::with_seed(seed);
        Self { sampling: sampling.clone(), processor, draws }
    }

    /// The token after `context`, from logits `(V,)`.
    ///
    /// On a GPU it is drawn there, from the same set of tokens, but with other random numbers.
    #[expect(clippy::float_cmp, reason = "a penalty of exactly 1 changes nothing")]
    pub(crate) fn next(&mut self, logits: &Tensor, context: &[u32]) -> Result<u32, ModelError> {
        let Sampling { repeat_penalty, repeat_last_n, min_p, .. } = self.sampling;
        let penalises = repeat_penalty != 1.0 && repeat_last_n != 0;
        let n_recent = if penalises { repeat_last_n.min(context.len()) } else { 0 };
        let recent = &context[context.len() - n_recent..];
        if is_on_gpu(logits) {
            return Ok(sample(logits, &self.sampling, recent, self.draws.f32())?);
        }
        let penalised;
        let logits = if recent.is_empty() {
            logits
        } else {
            penalised = apply_repeat_penalty(logits, repeat_penalty as f32, recent)?;
            &penalised
        };
        Ok(self.processor.sample_f(logits, |probabilities| drop_unlikely(probabilities, min_p))?)
    }
}

fn drop_unlikely(probabilities: &mut [f32], min_p: f64) {
    if min_p == 0.0 {
        return;
    }
    let max = probabilities.iter().copied().fold(0.0, f32::max);
    let threshold = max * min_p as f32;
    for probability in probabilities {
        if *probability < threshold {
            *probability = 0.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use candle_core::Device;
    use meav_cuda::{on_cpu_and_gpu, on_gpu};

    use super::*;

    const PLAIN: Sampling = Sampling {
        temperature: 1.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        repeat_penalty: 1.0,
        repeat_last_n: 64,
        seed: 7,
    };

    const PROBABILITIES: [f32; 4] = [0.5, 0.3, 0.15, 0.05];

    fn logits(probabilities: &[f32], device: &Device) -> Tensor {
        let logits: Vec<f32> = probabilities.iter().map(|p| p.ln()).collect();
        Tensor::new(logits, device).unwrap()
    }

    on_cpu_and_gpu!(
        each_filter_keeps_the_set_that_its_definition_says,
        repeat_penalty_turns_away_from_recent_tokens,
    );

    /// Of 80 draws the least likely token is missing once in 60 times; seeds are always the same.
    fn each_filter_keeps_the_set_that_its_definition_says(device: &Device) {
        let logits = logits(&PROBABILITIES, device);
        let drawn = |sampling: &Sampling| -> BTreeSet<u32> {
            let mut sampler = Sampler::new(sampling);
            (0..80).map(|_| sampler.next(&logits, &[]).unwrap()).collect()
        };
        let set = |tokens: &[u32]| tokens.iter().copied().collect::<BTreeSet<_>>();
        assert_eq!(drawn(&PLAIN), set(&[0, 1, 2, 3]));
        assert_eq!(drawn(&Sampling { temperature: 0.0, ..PLAIN }), set(&[0]));
        assert_eq!(drawn(&Sampling { top_k: 2, ..PLAIN }), set(&[0, 1]));
        assert_eq!(drawn(&Sampling { top_p: 0.7, ..PLAIN }), set(&[0, 1]));
        assert_eq!(drawn(&Sampling { top_p: 0.0, ..PLAIN }), set(&[0]));
        assert_eq!(drawn(&Sampling { top_k: 3, top_p: 0.0, ..PLAIN }), set(&[0]));
        assert_eq!(drawn(&Sampling { top_k: 9, ..PLAIN }), set(&[0, 1, 2, 3]));
        assert_eq!(drawn(&Sampling { top_k: 3, top_p: 0.4, ..PLAIN }), set(&[0]));
        assert_eq!(drawn(&Sampling { min_p: 0.25, ..PLAIN }), set(&[0, 1, 2]));
    }

    /// Of a vocabulary that no block of threads divides.
    #[test]
    fn tokens_are_drawn_on_a_gpu_as_often_as_they_are_likely() {
        const N: usize = 2500;
        const DRAWS: usize = 400;
        let mut probabilities = vec![1e-9_f32; N];
        let likely = [(3, 0.1), (1024, 0.2), (1025, 0.3), (N - 1, 0.4)];
        for (token, probability) in likely {
            probabilities[token] = probability;
        }
        on_gpu(|device| {
            let logits = logits(&probabilities, device);
            let mut sampler = Sampler::new(&PLAIN);
            let mut counts = vec![0; N];
            for _ in 0..DRAWS {
                counts[sampler.next(&logits, &[]).unwrap() as usize] += 1;
            }
            for (token, probability) in likely {
                let expected = DRAWS as f32 * probability;
                // Four standard deviations of a binomial distribution.
                let allowed = 4.0 * (expected * (1.0 - probability)).sqrt();
                let count = counts[token] as f32;
                assert!((count - expected).abs() < allowed, "{token}: {count} for {expected}");
            }
            let mut again = Sampler::new(&PLAIN);
            let mut first = Sampler::new(&PLAIN);
            for _ in 0..5 {
                let tokens = [&mut again, &mut first].map(|it| it.next(&logits, &[]).unwrap());
                assert_eq!(tokens[0], tokens[1]);
            }
        });
    }

    #[test]
    fn likeliest_of_equals_on_a_gpu_is_the_first() {
        let greedy = Sampling { temperature: 0.0, ..PLAIN };
        on_gpu(|device| {
            // The first and the last are one thread's.
            let mut values = vec![-1.0_f32; 3000];
            for likeliest in [1975, 2047, 2999] {
                values[likeliest] = 4.0;
            }
            let logits = Tensor::new(values, device).unwrap();
            assert_eq!(Sampler::new(&greedy).next(&logits, &[]).unwrap(), 1975);
        });
    }

    fn repeat_penalty_turns_away_from_recent_tokens(device: &Device) {
        let logits = Tensor::new(&[2.0_f32, 1.5], device).unwrap();
        let greedy = Sampling { temperature: 0.0, repeat_penalty: 2.0, ..PLAIN };
        let mut sampler = Sampler::new(&greedy);
        assert_eq!(sampler.next(&logits, &[]).unwrap(), 0);
        assert_eq!(sampler.next(&logits, &[0]).unwrap(), 1);
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let error = Sampling { top_p: 1.5, ..PLAIN }.check().unwrap_err();
        assert_eq!(error.to_string(), "top-p is 1.5, it must be 0 to 1");
        assert!(Sampling { temperature: f64::NAN, ..PLAIN }.check().is_err());
    }
}
