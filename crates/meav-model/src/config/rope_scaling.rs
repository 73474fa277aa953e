use std::f64::consts::TAU;
use std::fmt;

use crate::ConfigError;

/// How rotary frequencies were changed for longer contexts.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// Divided by one factor.
    Linear {
        /// The factor.
        factor: f64,
    },
    /// Llama 3.1's: low frequencies divided by a factor, high ones kept, those between blended.
    Llama3 {
        /// The factor.
        factor: f64,
        /// Wavelengths above `original / low_freq_factor` are divided.
        low_freq_factor: f64,
        /// Wavelengths below `original / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// The context length before.
        original: f64,
    },
    /// Divided one by one, as a GGUF stores the factors.
    Factors(Vec<f32>),
    /// Phi-3's: divided one by one, by other factors once the context is longer than the original.
    ///
    /// Source: Ding et al., 2024, arXiv:2402.13753.
    LongRope {
        /// Up to the original context length.
        short: Vec<f32>,
        /// Beyond it.
        long: Vec<f32>,
        /// The context length before.
        original: usize,
        /// What cosines and sines are multiplied by at any length.
        attention_factor: f64,
    },
}

impl RopeScaling {
    /// Radians per position of pair `index`, whose unscaled frequency is `frequency`.
    pub(crate) fn apply(&self, frequency: f64, index: usize, is_long: bool) -> f64 {
        let divided = |factors: &[f32]| frequency / f64::from(factors[index]);
        match self {
            Self::None => frequency,
            Self::Linear { factor } => frequency / factor,
            Self::Factors(factors) => divided(factors),
            Self::LongRope { short, long, .. } => divided(if is_long { long } else { short }),
            Self::Llama3 { factor, low_freq_factor, high_freq_factor, original } => {
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

    /// What `LongRope` multiplies cosines and sines by if a file doesn't say.
    pub(super) fn attention_factor(factor: f64, original: usize) -> f64 {
        if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / (original as f64).ln()).sqrt() }
    }

    pub(super) fn check(&self, n_frequencies: usize) -> Result<(), ConfigError> {
        for factors in self.factor_lists() {
            if factors.len() != n_frequencies {
                let (found, expected) = (factors.len(), n_frequencies);
                return Err(ConfigError::RopeFactors { found, expected });
            }
        }
        let factors = self.factor_lists().into_iter().flatten().map(|factor| f64::from(*factor));
        let numbers: Vec<f64> = match self {
            Self::None => Vec::new(),
            Self::Linear { factor } => vec![*factor],
            Self::Llama3 { factor, low_freq_factor, high_freq_factor, original } => {
                vec![*factor, *low_freq_factor, *original, high_freq_factor - low_freq_factor]
            }
            Self::Factors(_) => factors.collect(),
            Self::LongRope { original, attention_factor, .. } => {
                factors.chain([*original as f64 - 1.0, *attention_factor]).collect()
            }
        };
        match numbers.into_iter().find(|number| !(number.is_finite() && *number > 0.0)) {
            Some(value) => Err(ConfigError::Number { field: "rope scaling", value }),
            None => Ok(()),
        }
    }

    fn factor_lists(&self) -> Vec<&[f32]> {
        match self {
            Self::Factors(factors) => vec![factors],
            Self::LongRope { short, long, .. } => vec![short, long],
            _ => Vec::new(),
        }
    }

    /// Llama 3's settings if they give these factors. llama.cpp's converter stores the factors
    /// only; every Llama 3.x has the same three other numbers.
    pub(super) fn llama3_of_factors(factors: &[f32], theta: f64) -> Option<Self> {
        let factor = factors.iter().fold(1.0_f32, |max, factor| max.max(*factor));
        let scaling = Self::Llama3 {
            factor: f64::from(factor),
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original: 8192.0,
        };
        let rotary_dim = 2 * factors.len();
        let is_same = factors.iter().enumerate().all(|(index, found)| {
            let frequency = unscaled_frequency(theta, index, rotary_dim);
            let expected = frequency / scaling.apply(frequency, index, false);
            (f64::from(*found) / expected - 1.0).abs() < 1e-4
        });
        is_same.then_some(scaling)
    }
}

/// Radians per position of pair `index` before any scaling.
///
/// Source: Su et al., 2021, arXiv:2104.09864.
pub(crate) fn unscaled_frequency(theta: f64, index: usize, rotary_dim: usize) -> f64 {
    theta.powf(-2.0 * index as f64 / rotary_dim as f64)
}

impl fmt::Display for RopeScaling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => write!(f, "unscaled"),
            Self::Linear { factor } => write!(f, "linear, factor {factor}"),
            Self::Llama3 { factor, original, .. } => {
                write!(f, "llama3, factor {factor} beyond {original} tokens")
            }
            Self::Factors(factors) => write!(f, "{} factors of the file", factors.len()),
            Self::LongRope { original, .. } => write!(f, "longrope beyond {original} tokens"),
        }
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "what is kept is kept exactly")]
mod tests {
    use super::*;

    const LLAMA_3_1: RopeScaling = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original: 8192.0,
    };

    /// Values of `transformers.modeling_rope_utils._compute_llama3_parameters` for Llama-3.1's
    /// settings and frequencies 1, 0.002 and 1e-5.
    #[test]
    fn llama3_keeps_short_waves_and_stretches_long_ones() {
        assert_eq!(LLAMA_3_1.apply(1.0, 0, false), 1.0);
        assert!((LLAMA_3_1.apply(0.002, 0, false) - 0.001_187_763_5).abs() < 1e-9);
        assert!((LLAMA_3_1.apply(1e-5, 0, false) - 1.25e-6).abs() < 1e-12);
    }

    #[test]
    fn factors_of_a_gguf_are_recognised_as_those_of_llama_3() {
        let mut factors: Vec<f32> = (0..64)
            .map(|index| {
                let frequency = unscaled_frequency(5e5, index, 128);
                (frequency / LLAMA_3_1.apply(frequency, index, false)) as f32
            })
            .collect();
        assert_eq!(RopeScaling::llama3_of_factors(&factors, 5e5), Some(LLAMA_3_1));
        assert_eq!(RopeScaling::llama3_of_factors(&factors, 1e4), None);
        factors[30] *= 1.01;
        assert_eq!(RopeScaling::llama3_of_factors(&factors, 5e5), None);
    }
}
