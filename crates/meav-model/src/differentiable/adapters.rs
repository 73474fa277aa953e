use std::collections::BTreeMap;
use std::ops::Range;
use std::slice;

use candle_core::Tensor;

use super::gradients::Sink;
use crate::kernels::backward::{
    add_linear_backward_input, linear_backward_of_columns, linear_backward_weights,
};
use crate::kernels::{add_linear_to_columns, linear};
use crate::layer::Projection;
use crate::{Decoder, ModelError};

/// Low-rank factors beside a frozen linear layer.
///
/// ```text
/// y = x Wᵀ + s (x Aᵀ) Bᵀ
/// ```
///
/// Source: Hu et al., 2021, arXiv:2106.09685, Section 4.1.
///
/// # Shapes
///
/// For a weight `(out, in)` and rank `r`; both factors are contiguous and `f32`.
#[derive(Clone, Debug)]
pub struct Adapter {
    /// `A`, `(r, in)`.
    pub a: Tensor,
    /// `B`, `(out, r)`.
    pub b: Tensor,
    /// `s`, mostly `α / r`.
    pub scale: f32,
}

/// Adapters by the names of the weights that they stand beside, for example
/// `model.layers.0.self_attn.q_proj.weight`; see [`Decoder::linear_layers`].
pub type Adapters = BTreeMap<String, Adapter>;

/// Behind the name of the weight, as in a file of low-rank factors.
pub(super) const LORA_A: &str = ".lora_A";
pub(super) const LORA_B: &str = ".lora_B";

impl Adapter {
    /// `(x Aᵀ)`, times the scale.
    fn scaled_down(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        self.scaled(linear(x, slice::from_ref(&self.a), &[])?)
    }

    fn scaled(&self, x: Tensor) -> candle_core::Result<Tensor> {
        if self.scale.to_bits() == 1.0_f32.to_bits() {
            return Ok(x);
        }
        x.affine(f64::from(self.scale), 0.0)
    }

    fn check(&self, name: &str, weight: &Tensor) -> Result<(), ModelError> {
        let (n_out, n_in) = weight.dims2()?;
        let rank = self.a.dims().first().copied().unwrap_or(0).max(1);
        let factors = [(&self.a, LORA_A, [rank, n_in]), (&self.b, LORA_B, [n_out, rank])];
        for (factor, suffix, expected) in factors {
            if factor.dims() != expected {
                let (found, expected) = (factor.dims().to_vec(), expected.to_vec());
                let name = format!("{name}{suffix}");
                return Err(ModelError::ShapeMismatch { name, found, expected });
            }
        }
        Ok(())
    }
}

impl Decoder {
    /// Whether each of them fits a linear layer.
    pub(super) fn check_adapters(&self, adapters: &Adapters) -> Result<(), ModelError> {
        let layers: BTreeMap<&str, &Tensor> = self.linear_layers().collect();
        for (name, adapter) in adapters {
            let Some(weight) = layers.get(name.as_str()) else {
                return Err(ModelError::NoLinearLayer { name: name.clone() });
            };
            adapter.check(name, weight)?;
        }
        Ok(())
    }
}

impl Projection {
    /// Its adapters, each with its weight's name and columns of the output.
    fn adapters<'a>(
        &'a self,
        adapters: &'a Adapters,
    ) -> impl Iterator<Item = (&'a str, &'a Adapter, Range<usize>)> {
        let mut end = 0;
        self.weight_names.iter().zip(&self.weights).filter_map(move |(name, weight)| {
            let start = end;
            end += weight.dims()[0];
            Some((name.as_str(), adapters.get(name)?, start..end))
        })
    }

    /// Whether any of them stands beside one of its weights.
    pub(super) fn is_adapted(&self, adapters: &Adapters) -> bool {
        self.adapters(adapters).next().is_some()
    }

    /// Adds to its output `y` what the adapters make of its input `x`.
    pub(crate) fn add_adapters(
        &self,
        x: &Tensor,
        y: &Tensor,
        adapters: &Adapters,
    ) -> candle_core::Result<()> {
        for (_, adapter, columns) in self.adapters(adapters) {
            add_linear_to_columns(y, &adapter.scaled_down(x)?, &adapter.b, columns.start)?;
        }
        Ok(())
    }

    /// Adds the adapters' part to `dx`, and the gradients of their factors.
    ///
    /// ```text
    /// dX += s (dY B) A        dA += s (dY B)ᵀ X        dB += s dYᵀ (X Aᵀ)
    /// ```
    pub(super) fn adapters_backward(
        &self,
        dy: &Tensor,
        x: &Tensor,
        dx: &Tensor,
        adapters: &Adapters,
        sink: Sink<'_>,
    ) -> Result<(), ModelError> {
        for (name, adapter, columns) in self.adapters(adapters) {
            let [da, db] = [LORA_A, LORA_B].map(|suffix| sink.sum(&format!("{name}{suffix}")));
            let (low, dtype) = (adapter.scaled_down(x)?, adapter.a.dtype());
            let d_low = linear_backward_of_columns(dy, columns, &low, &adapter.b, db?)?;
            let d_low = adapter.scaled(d_low)?;
            linear_backward_weights(&d_low, x, slice::from_ref(da?), &[], dtype)?;
            add_linear_backward_input(dx, &d_low, slice::from_ref(&adapter.a))?;
        }
        Ok(())
    }
}
