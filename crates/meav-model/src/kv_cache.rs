use candle_core::{DType, Device, Tensor};

use crate::rope::Reach;
use crate::{Config, ModelError};

/// Keys and values of the tokens that a decoder has read, allocated once.
///
/// Belongs to one recipe: after the weights change, [`KvCache::truncate`] it to nothing.
#[derive(Debug)]
pub struct KvCache {
    /// Per layer, `(kv_heads, capacity, D)`.
    pub(crate) layers: Vec<LayerCache>,
    /// What it holds.
    pub(crate) tokens: Vec<u32>,
    /// For how long a context the tokens were turned; `None` after a change that was broken off.
    pub(crate) reach: Option<Reach>,
    capacity: usize,
}

#[derive(Debug)]
pub(crate) struct LayerCache {
    pub(crate) keys: Tensor,
    pub(crate) values: Tensor,
}

impl KvCache {
    /// Room for `capacity` tokens. Pages that stay unused cost address space only.
    ///
    /// # Errors
    ///
    /// [`ModelError::Tensor`] if the device is out of memory.
    pub fn new(config: &Config, capacity: usize, device: &Device) -> Result<Self, ModelError> {
        let layers = (0..config.n_layers)
            .map(|_| LayerCache::new(config.n_kv_heads, capacity, config.head_dim, device))
            .collect::<candle_core::Result<_>>()?;
        Ok(Self { layers, tokens: Vec::new(), reach: None, capacity })
    }

    /// Tokens in the cache.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether no token is in the cache.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Tokens that fit.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Forgets all but the first `len` tokens.
    pub fn truncate(&mut self, len: usize) {
        self.tokens.truncate(len);
    }
}

impl LayerCache {
    pub(crate) fn new(
        n_kv_heads: usize,
        capacity: usize,
        head_dim: usize,
        device: &Device,
    ) -> candle_core::Result<Self> {
        let zeros = || Tensor::zeros((n_kv_heads, capacity, head_dim), DType::F32, device);
        Ok(Self { keys: zeros()?, values: zeros()? })
    }
}
