use std::f64::consts::TAU;

use crate::{Config, RopeScaling};

/// Rotary position embedding: what each pair of a head's elements is turned by per position.
///
/// Source: Su et al., 2021, arXiv:2104.09864; halves paired as in Hugging Face's Llama.
#[derive(Clone, Debug)]
pub(crate) struct Rope {
    /// Radians per position, `(D/2,)`.
    frequencies: Vec<f32>,
}

/// Cosines and sines for a run of positions, both `(T, D/2)`.
#[derive(Clone, Debug)]
pub(crate) struct Angles {
    pub(crate) cos: Vec<f32>,
    pub(crate) sin: Vec<f32>,
}

impl Rope {
    pub(crate) fn new(config: &Config) -> Self {
        let half = config.head_dim / 2;
        let frequencies = (0..half)
            .map(|i| {
                let exponent = 2.0 * i as f64 / config.head_dim as f64;
                let frequency = 1.0 / config.rope_theta.powf(exponent);
                scaled(frequency, i, &config.rope_scaling) as f32
            })
            .collect();
        Self { frequencies }
    }

    /// For `len` positions from `start`, in single precision like transformers.
    pub(crate) fn angles(&self, start: usize, len: usize) -> Angles {
        let angles: Vec<f32> = (start..start + len)
            .flat_map(|position| {
                self.frequencies.iter().map(move |frequency| position as f32 * frequency)
            })
            .collect();
        Angles {
            cos: angles.iter().map(|angle| angle.cos()).collect(),
            sin: angles.iter().map(|angle| angle.sin()).collect(),
        }
    }
}

fn scaled(frequency: f64, index: usize, scaling: &RopeScaling) -> f64 {
    match scaling {
        RopeScaling::None => frequency,
        RopeScaling::Linear { factor } => frequency / factor,
        RopeScaling::Factors(factors) => {
            frequency / factors.get(index).map_or(1.0, |factor| f64::from(*factor))
        }
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original } => {
            let wavelength = TAU / frequency;
            if wavelength < original / high_freq_factor {
                frequency
            } else if wavelength > original / low_freq_factor {
                frequency / factor
            } else {
                let smooth = (original / wavelength - low_freq_factor)
                    / (high_freq_factor - low_freq_factor);
                (1.0 - smooth) * frequency / factor + smooth * frequency
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "what is kept is kept exactly")]
mod tests {
    use super::*;

    /// Values of `transformers.modeling_rope_utils._compute_llama3_parameters` for Llama-3.1's
    /// settings and frequencies 1, 0.002 and 1e-5.
    #[test]
    fn llama3_keeps_short_waves_and_stretches_long_ones() {
        let scaling = RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original: 8192.0,
        };
        assert_eq!(scaled(1.0, 0, &scaling), 1.0);
        assert!((scaled(0.002, 0, &scaling) - 0.001_187_763_5).abs() < 1e-9);
        assert!((scaled(1e-5, 0, &scaling) - 1.25e-6).abs() < 1e-12);
    }
}
