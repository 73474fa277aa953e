use crate::config::unscaled_frequency;
use crate::kernels::gpu::PassOnGpu;
use crate::{Config, RopeScaling};

/// Rotary position embedding: what each pair of a head's elements is turned by per position.
///
/// Source: Su et al., 2021, arXiv:2104.09864; halves paired as in Hugging Face's Llama.
#[derive(Clone, Debug)]
pub(crate) struct Rope {
    /// Radians per position, `(R/2,)` for `R` turned elements.
    frequencies: Vec<f32>,
    /// The same for contexts longer than the original.
    long: Option<LongFrequencies>,
    /// What cosines and sines are multiplied by.
    attention_factor: f32,
}

#[derive(Clone, Debug)]
struct LongFrequencies {
    frequencies: Vec<f32>,
    /// Tokens in the longest context that is not long.
    original: usize,
}

/// Whether a context is so long that its tokens are turned by other frequencies, all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    Short,
    Long,
}

/// Cosines and sines for the tokens of a pass, both `(T, R/2)`.
#[derive(Debug)]
pub(crate) struct Angles {
    pub(crate) cos: Vec<f32>,
    pub(crate) sin: Vec<f32>,
    /// `R/2`.
    pub(crate) half: usize,
    /// What the pass has brought to a GPU.
    pub(crate) on_gpu: PassOnGpu,
}

impl Rope {
    /// For layers that see the whole context.
    pub(crate) fn global(config: &Config) -> Self {
        Self::new(config.rope_theta, config.rotary_dim, &config.rope_scaling)
    }

    /// For layers with a window, if they differ.
    pub(crate) fn local(config: &Config) -> Option<Self> {
        let theta = config.local_rope_theta?;
        Some(Self::new(theta, config.rotary_dim, &RopeScaling::None))
    }

    fn new(theta: f64, rotary_dim: usize, scaling: &RopeScaling) -> Self {
        let frequencies = |is_long: bool| {
            (0..rotary_dim / 2)
                .map(|index| {
                    let frequency = unscaled_frequency(theta, index, rotary_dim);
                    scaling.apply(frequency, index, is_long) as f32
                })
                .collect()
        };
        let (long, attention_factor) = match scaling {
            RopeScaling::LongRope { original, attention_factor, .. } => {
                let long = LongFrequencies { frequencies: frequencies(true), original: *original };
                (Some(long), *attention_factor as f32)
            }
            _ => (None, 1.0),
        };
        Self { frequencies: frequencies(false), long, attention_factor }
    }

    fn frequencies(&self, reach: Reach) -> &[f32] {
        match (&self.long, reach) {
            (Some(long), Reach::Long) => &long.frequencies,
            _ => &self.frequencies,
        }
    }

    /// What a context of `len` tokens is.
    pub(crate) fn reach(&self, len: usize) -> Reach {
        match &self.long {
            Some(long) if len > long.original => Reach::Long,
            _ => Reach::Short,
        }
    }

    /// For tokens at these positions of contexts of `reach`, in single precision like transformers.
    pub(crate) fn angles(&self, positions: impl Iterator<Item = usize>, reach: Reach) -> Angles {
        let frequencies = self.frequencies(reach);
        let angles: Vec<f32> = positions
            .flat_map(|position| {
                frequencies.iter().map(move |frequency| position as f32 * frequency)
            })
            .collect();
        let scaled = |value: f32| value * self.attention_factor;
        Angles {
            cos: angles.iter().map(|angle| scaled(angle.cos())).collect(),
            sin: angles.iter().map(|angle| scaled(angle.sin())).collect(),
            half: self.frequencies.len(),
            on_gpu: PassOnGpu::default(),
        }
    }
}
