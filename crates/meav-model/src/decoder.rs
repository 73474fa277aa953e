use std::collections::BTreeMap;

use candle_core::{DType, Tensor};
use meav_job::JobCtx;

use crate::kernels::{HeadLayout, append_to_cache, attention, linear, rms_norm, swiglu};
use crate::kv_cache::LayerCache;
use crate::rope::{Angles, Rope};
use crate::{Config, KvCache, ModelError};

/// A Llama decoder over tensors whose storage it shares with their owner: when the owner changes
/// them in place, the next token is computed with the new weights.
///
/// Source: Touvron et al., 2023, arXiv:2302.13971, with Hugging Face's names and conventions.
#[derive(Debug)]
pub struct Decoder {
    config: Config,
    rope: Rope,
    embeddings: Tensor,
    layers: Vec<Layer>,
    norm: Tensor,
    output: Tensor,
}

#[derive(Debug)]
struct Layer {
    attention_norm: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    o: Tensor,
    mlp_norm: Tensor,
    gate: Tensor,
    up: Tensor,
    down: Tensor,
}

/// Which positions to compute logits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logits {
    /// Only what follows the last token.
    Last,
    /// What follows each token.
    All,
}

/// Takes tensors by name and checks their dimensions.
struct Weights<'a>(&'a BTreeMap<String, Tensor>);

impl Weights<'_> {
    fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor, ModelError> {
        let tensor =
            self.0.get(name).ok_or_else(|| ModelError::MissingTensor { name: name.to_owned() })?;
        if tensor.dims() != shape {
            return Err(ModelError::ShapeMismatch {
                name: name.to_owned(),
                found: tensor.dims().to_vec(),
                expected: shape.to_vec(),
            });
        }
        Ok(tensor.clone())
    }

    fn layer(&self, index: usize, config: &Config) -> Result<Layer, ModelError> {
        let Config { hidden_size, intermediate_size, .. } = *config;
        let q_len = config.n_heads * config.head_dim;
        let kv_len = config.n_kv_heads * config.head_dim;
        let get = |name: &str, shape: &[usize]| {
            self.get(&format!("model.layers.{index}.{name}.weight"), shape)
        };
        Ok(Layer {
            attention_norm: get("input_layernorm", &[hidden_size])?,
            q: get("self_attn.q_proj", &[q_len, hidden_size])?,
            k: get("self_attn.k_proj", &[kv_len, hidden_size])?,
            v: get("self_attn.v_proj", &[kv_len, hidden_size])?,
            o: get("self_attn.o_proj", &[hidden_size, q_len])?,
            mlp_norm: get("post_attention_layernorm", &[hidden_size])?,
            gate: get("mlp.gate_proj", &[intermediate_size, hidden_size])?,
            up: get("mlp.up_proj", &[intermediate_size, hidden_size])?,
            down: get("mlp.down_proj", &[hidden_size, intermediate_size])?,
        })
    }
}

impl Decoder {
    /// Builds the network over `tensors`, named as in a Hugging Face checkpoint.
    ///
    /// # Errors
    ///
    /// [`ModelError::MissingTensor`] or [`ModelError::ShapeMismatch`] for the first misfit.
    pub fn new(config: &Config, tensors: &BTreeMap<String, Tensor>) -> Result<Self, ModelError> {
        let weights = Weights(tensors);
        let embedding_shape = [config.vocab_size, config.hidden_size];
        let embeddings = weights.get("model.embed_tokens.weight", &embedding_shape)?;
        let output = if config.tie_word_embeddings {
            embeddings.clone()
        } else {
            weights.get("lm_head.weight", &embedding_shape)?
        };
        let layers = (0..config.n_layers)
            .map(|index| weights.layer(index, config))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            rope: Rope::new(config),
            embeddings,
            layers,
            norm: weights.get("model.norm.weight", &[config.hidden_size])?,
            output,
            config: config.clone(),
        })
    }

    /// The dimensions.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Reads `tokens` behind what `cache` holds and gives the logits of what comes next.
    ///
    /// # Shapes
    ///
    /// `(T, V)` for [`Logits::All`], `(1, V)` for [`Logits::Last`]; `f32`, before any softmax.
    ///
    /// # Errors
    ///
    /// [`ModelError::ContextExceeded`] if the cache has no room for them;
    /// [`ModelError::Cancelled`] between two layers. Then the cache holds what it held.
    ///
    /// # Panics
    ///
    /// Without tokens.
    pub fn forward(
        &self,
        tokens: &[u32],
        cache: &mut KvCache,
        logits: Logits,
        job: &JobCtx<'_>,
    ) -> Result<Tensor, ModelError> {
        assert!(!tokens.is_empty(), "no tokens");
        let (position, n) = (cache.len, tokens.len());
        if position + n > cache.capacity() {
            let limit = cache.capacity();
            return Err(ModelError::ContextExceeded { tokens: position + n, limit });
        }
        let angles = self.rope.angles(position, n);
        let ids = Tensor::new(tokens, self.embeddings.device())?;
        let mut x = self.embeddings.index_select(&ids, 0)?.to_dtype(DType::F32)?;
        for (layer, cache) in self.layers.iter().zip(&cache.layers) {
            job.check()?;
            x = self.layer(&x, layer, cache, position, &angles)?;
        }
        cache.len += n;
        if logits == Logits::Last {
            x = x.narrow(0, n - 1, 1)?;
        }
        let x = rms_norm(&x, &self.norm, self.config.rms_norm_eps)?;
        Ok(linear(&x, &[&self.output])?)
    }

    fn layer(
        &self,
        x: &Tensor,
        layer: &Layer,
        cache: &LayerCache,
        position: usize,
        angles: &Angles,
    ) -> candle_core::Result<Tensor> {
        let Config { n_heads, n_kv_heads, head_dim, rms_norm_eps: eps, .. } = self.config;
        let heads = HeadLayout { n_heads, n_kv_heads, head_dim };
        let LayerCache { keys, values } = cache;

        let qkv = rms_norm(x, &layer.attention_norm, eps)?;
        let qkv = linear(&qkv, &[&layer.q, &layer.k, &layer.v])?;
        append_to_cache(&qkv, keys, values, heads, position, angles)?;
        let attended = attention(&qkv, keys, values, heads, position, angles)?;
        let x = (x + linear(&attended, &[&layer.o])?)?;

        let gate_up = rms_norm(&x, &layer.mlp_norm, eps)?;
        let gate_up = linear(&gate_up, &[&layer.gate, &layer.up])?;
        &x + linear(&swiglu(&gate_up)?, &[&layer.down])?
    }
}
