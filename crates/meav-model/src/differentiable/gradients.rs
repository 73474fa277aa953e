use std::collections::BTreeMap;

use candle_core::{DType, Tensor};

use super::Trainable;
use super::adapters::{LORA_A, LORA_B};
use crate::kernels::square_sum;
use crate::{Decoder, ModelError};

/// Sums of gradients by the names of their tensors, of the same shapes, in `f32`.
///
/// A decoder's own tensors go by their owner's names; the factors beside a weight `NAME` are
/// `NAME.lora_A` and `NAME.lora_B`. Tied embeddings are one tensor with one sum.
#[derive(Debug)]
pub struct Gradients {
    sums: BTreeMap<String, Tensor>,
}

impl Gradients {
    /// Zeros for everything that is trainable.
    ///
    /// # Errors
    ///
    /// [`ModelError::Tensor`] if the device is out of memory.
    pub fn zeros(decoder: &Decoder, trainable: Trainable<'_>) -> Result<Self, ModelError> {
        let zeros = |tensor: &Tensor| Tensor::zeros(tensor.shape(), DType::F32, decoder.device());
        let mut sums = BTreeMap::new();
        match trainable {
            Trainable::Weights => {
                for (name, tensor) in decoder.parameters() {
                    sums.insert(name.to_owned(), zeros(tensor)?);
                }
            }
            Trainable::Adapters(adapters) => {
                for (name, adapter) in adapters {
                    sums.insert(format!("{name}{LORA_A}"), zeros(&adapter.a)?);
                    sums.insert(format!("{name}{LORA_B}"), zeros(&adapter.b)?);
                }
            }
            Trainable::Nothing(_) => {}
        }
        Ok(Self { sums })
    }

    /// Sets all of them to zero, in place.
    ///
    /// # Errors
    ///
    /// [`ModelError::Tensor`] if the device fails.
    pub fn zero(&mut self) -> Result<(), ModelError> {
        for sum in self.sums.values() {
            sum.zero_set()?;
        }
        Ok(())
    }

    /// All of them, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.sums.iter().map(|(name, sum)| (name.as_str(), sum))
    }

    /// That of the tensor called `name`, if it is trainable.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.sums.get(name)
    }

    /// The square of the length of all of them as one vector, summed in double precision; the same
    /// bits on any number of threads. Not finite if one of the elements is not.
    ///
    /// # Errors
    ///
    /// [`ModelError::Tensor`] if the device fails.
    pub fn square_norm(&self) -> Result<f64, ModelError> {
        Ok(square_sum(&self.sums.values().collect::<Vec<_>>())?)
    }
}

/// Where a backward pass adds gradients.
#[derive(Clone, Copy)]
pub(super) struct Sink<'a> {
    pub(super) trainable: Trainable<'a>,
    pub(super) gradients: &'a Gradients,
}

impl<'a> Sink<'a> {
    /// The sum for one of the decoder's own tensors, if they are trainable.
    pub(super) fn weight(&self, name: &str) -> Result<Option<&'a Tensor>, ModelError> {
        match self.trainable {
            Trainable::Weights => self.sum(name).map(Some),
            Trainable::Adapters(_) | Trainable::Nothing(_) => Ok(None),
        }
    }

    pub(super) fn sum(&self, name: &str) -> Result<&'a Tensor, ModelError> {
        let missing = || ModelError::MissingTensor { name: name.to_owned() };
        self.gradients.get(name).ok_or_else(missing)
    }
}
