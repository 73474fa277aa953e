//! Which tensors of a file are weights of the network.

use crate::{Checkpoint, Weight, WeightsError};

/// Tensors that some files carry without being weights of the network.
const NOT_WEIGHTS: [&str; 4] = [
    "rope_freqs.weight",
    "rope_factors_long.weight",
    "rope_factors_short.weight",
    ".rotary_emb.inv_freq",
];

const HEAD: &str = "lm_head.weight";
const EMBEDDINGS: &str = "model.embed_tokens.weight";

/// Whether a tensor of this name is a weight of the network, and not one of the numbers that some
/// files carry beside them.
pub fn is_weight(name: &str) -> bool {
    !NOT_WEIGHTS.iter().any(|suffix| name.ends_with(suffix))
}

/// Whether `name` is an output projection with the dtype, shape and bits of the embeddings of the
/// same model, as programs write it that don't know of embeddings that serve as both.
///
/// `weight` gives the model's weights; nothing where there is none.
///
/// # Errors
///
/// Whatever `weight` returns.
pub fn is_copied_head<E>(
    name: &str,
    mut weight: impl FnMut(&str) -> Result<Option<Weight>, E>,
) -> Result<bool, E> {
    let Some(prefix) = name.strip_suffix(HEAD) else { return Ok(false) };
    let (Some(head), Some(embeddings)) = (weight(name)?, weight(&format!("{prefix}{EMBEDDINGS}"))?)
    else {
        return Ok(false);
    };
    Ok(head.dtype() == embeddings.dtype()
        && head.shape() == embeddings.shape()
        && head.bytes() == embeddings.bytes())
}

impl Checkpoint {
    /// [`is_copied_head`] of the tensors in these files.
    ///
    /// # Errors
    ///
    /// As [`Checkpoint::load`].
    pub fn is_copied_head(&self, name: &str) -> Result<bool, WeightsError> {
        is_copied_head(name, |name| self.info(name).map(|_| self.load(name)).transpose())
    }
}
