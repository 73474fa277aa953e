//! `AdamW`, in place.

#![expect(
    clippy::inline_always,
    reason = "what is dispatched on the processor must be inlined into the dispatch to be vectorised"
)]

mod eight_bit;
mod kernels;
mod moments;
mod parameter;

#[cfg(test)]
mod tests;

use candle_core::Tensor;
use meav_protocol::TrainSettings;

use crate::TrainError;
pub(crate) use eight_bit::{BLOCK, EightBit};
use kernels::Update;
pub(crate) use moments::{Moments, Quantised};
pub(crate) use parameter::Parameter;

/// Decay of the mean of gradients, of that of their squares, and what keeps the step finite:
/// the values of the paper, `PyTorch` and TRL.
const BETA_1: f64 = 0.9;
const BETA_2: f64 = 0.999;
const EPS: f64 = 1e-8;

/// Adam with decoupled weight decay, fused into one pass over each tensor.
///
/// ```text
/// g ← c g                          c scales the gradient down to the norm that is allowed
/// θ ← θ − η λ θ                    weight decay, but for norms and biases
/// m ← β₁ m + (1 − β₁) g
/// v ← β₂ v + (1 − β₂) g²
/// θ ← θ − η / (1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + ε)
/// ```
///
/// Source: Loshchilov and Hutter, 2019, arXiv:1711.05101, Algorithm 2, in the order of `PyTorch`'s
/// `AdamW`; `t` counts from 1.
///
/// All of it is computed in `f32`. Weights of another type have master copies here in `f32`, which
/// are what is updated; the tensor is given the rounded value. No sum runs over elements, so that
/// the result is the same, bit for bit, on any number of threads, and on a GPU, where master copies
/// and moments of the tensors that are there stay from step to step.
#[derive(Debug)]
pub(crate) struct AdamW {
    weight_decay: f64,
    parameters: Vec<Parameter>,
}

/// What an update is made with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    /// `t`, from 1.
    pub(crate) number: usize,
    /// `η`.
    pub(crate) learning_rate: f64,
    /// `c`.
    pub(crate) gradient_scale: f64,
}

impl AdamW {
    /// Takes tensors by name, which it will change where they stand.
    ///
    /// # Errors
    ///
    /// [`TrainError::Tensor`] for one that is no floating point tensor, or if the device is out of
    /// memory.
    pub(crate) fn new<'a>(
        tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>,
        settings: &TrainSettings,
    ) -> Result<Self, TrainError> {
        let state = settings.optimizer_state;
        let parameter = |(name, tensor): (&str, &Tensor)| Parameter::new(name, tensor, state);
        let parameters = tensors.into_iter().map(parameter).collect::<Result<_, _>>()?;
        Ok(Self { weight_decay: settings.weight_decay, parameters })
    }

    pub(crate) fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    pub(crate) fn parameters_mut(&mut self) -> &mut [Parameter] {
        &mut self.parameters
    }

    /// Updates every tensor; `gradient` gives its gradient by its name, contiguous and `f32`.
    ///
    /// # Errors
    ///
    /// [`TrainError::Tensor`] for a gradient of another shape or type.
    pub(crate) fn update<'a>(
        &mut self,
        gradient: impl Fn(&str) -> Option<&'a Tensor>,
        step: Step,
    ) -> Result<(), TrainError> {
        let gradients: Vec<&Tensor> = self
            .parameters
            .iter()
            .map(|parameter| parameter.check_gradient(gradient(parameter.name())))
            .collect::<Result<_, _>>()?;
        let Step { number, learning_rate, gradient_scale } = step;
        let correction = |beta: f64| 1.0 - beta.powf(number as f64);
        for (index, (parameter, gradient)) in self.parameters.iter_mut().zip(gradients).enumerate()
        {
            let decay = if parameter.decays() { self.weight_decay } else { 0.0 };
            let update = Update {
                gradient_scale: gradient_scale as f32,
                keep: (1.0 - learning_rate * decay) as f32,
                rate: (learning_rate / correction(BETA_1)) as f32,
                root_correction: correction(BETA_2).sqrt() as f32,
                seed: ((number as u64) << 32) | index as u64,
            };
            parameter.update(gradient, update)?;
        }
        Ok(())
    }
}
