use std::collections::BTreeMap;

use candle_core::Tensor;

use crate::kernels::{
    AttentionRule, HeadLayout, NormRule, Sequences, add_to, append_to_cache, attention, gated,
    linear, norm_heads, rms_norm,
};
use crate::kv_cache::LayerCache;
use crate::{Activation, Config, ModelError};

/// Takes tensors by name and checks their dimensions.
pub(crate) struct Weights<'a> {
    pub(crate) tensors: &'a BTreeMap<String, Tensor>,
    /// What stands before each name.
    pub(crate) prefix: &'a str,
}

impl Weights<'_> {
    pub(crate) fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor, ModelError> {
        let name = format!("{}{name}", self.prefix);
        let Some(tensor) = self.tensors.get(&name) else {
            return Err(ModelError::MissingTensor { name });
        };
        if tensor.dims() != shape {
            let (found, expected) = (tensor.dims().to_vec(), shape.to_vec());
            return Err(ModelError::ShapeMismatch { name, found, expected });
        }
        Ok(tensor.clone())
    }
}

/// One layer of a decoder.
///
/// Gemma's tensors have other names for the same places: its `post_attention_layernorm` stands
/// behind the attention, not before the feed-forward layer.
#[derive(Debug)]
pub(crate) struct Layer {
    attention_norm: Norm,
    qkv: Projection,
    qk_norm: Option<QkNorm>,
    o: Projection,
    post_attention_norm: Option<Norm>,
    mlp_norm: Norm,
    gate_up: Projection,
    down: Projection,
    post_mlp_norm: Option<Norm>,
    rule: AttentionRule,
    activation: Activation,
}

#[derive(Debug)]
pub(crate) struct Norm {
    weight: Tensor,
    rule: NormRule,
}

/// Norms of queries and keys, head by head.
#[derive(Debug)]
struct QkNorm {
    q: Tensor,
    k: Tensor,
    rule: NormRule,
}

/// Linear layers over the same input, their outputs side by side.
#[derive(Debug)]
struct Projection {
    weights: Vec<Tensor>,
    biases: Vec<Tensor>,
}

impl Projection {
    fn apply(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        linear(x, &self.weights, &self.biases)
    }
}

impl Norm {
    pub(crate) fn new(
        weights: &Weights<'_>,
        name: &str,
        config: &Config,
    ) -> Result<Self, ModelError> {
        let weight = weights.get(&format!("{name}.weight"), &[config.hidden_size])?;
        Ok(Self { weight, rule: norm_rule(config) })
    }

    pub(crate) fn apply(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        rms_norm(x, &self.weight, self.rule)
    }
}

fn norm_rule(config: &Config) -> NormRule {
    NormRule { eps: config.rms_norm_eps as f32, offset: config.norm_offset as f32 }
}

/// Makes the parts of one layer.
struct Parts<'a> {
    weights: &'a Weights<'a>,
    config: &'a Config,
    index: usize,
}

impl Parts<'_> {
    fn norm(&self, name: &str) -> Result<Norm, ModelError> {
        Norm::new(self.weights, &format!("model.layers.{}.{name}", self.index), self.config)
    }

    fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor, ModelError> {
        self.weights.get(&format!("model.layers.{}.{name}", self.index), shape)
    }

    /// Projections from `n_in` elements to as many as stand beside each name.
    fn projection(
        &self,
        n_in: usize,
        outputs: &[(&str, usize)],
        has_bias: bool,
    ) -> Result<Projection, ModelError> {
        let weight =
            |(name, n_out): &(&str, usize)| self.get(&format!("{name}.weight"), &[*n_out, n_in]);
        let bias = |(name, n_out): &(&str, usize)| self.get(&format!("{name}.bias"), &[*n_out]);
        let with_bias = if has_bias { outputs } else { &[] };
        Ok(Projection {
            weights: outputs.iter().map(weight).collect::<Result<_, _>>()?,
            biases: with_bias.iter().map(bias).collect::<Result<_, _>>()?,
        })
    }

    fn qk_norm(&self) -> Result<Option<QkNorm>, ModelError> {
        if !self.config.qk_norm {
            return Ok(None);
        }
        let get = |name| self.get(name, &[self.config.head_dim]);
        Ok(Some(QkNorm {
            q: get("self_attn.q_norm.weight")?,
            k: get("self_attn.k_norm.weight")?,
            rule: norm_rule(self.config),
        }))
    }
}

impl Layer {
    pub(crate) fn new(
        weights: &Weights<'_>,
        index: usize,
        config: &Config,
    ) -> Result<Self, ModelError> {
        let Config { hidden_size, intermediate_size, n_heads, n_kv_heads, head_dim, .. } = *config;
        let (q_len, kv_len) = (n_heads * head_dim, n_kv_heads * head_dim);
        let qkv: &[_] = if config.fused_projections {
            &[("self_attn.qkv_proj", q_len + 2 * kv_len)]
        } else {
            &[
                ("self_attn.q_proj", q_len),
                ("self_attn.k_proj", kv_len),
                ("self_attn.v_proj", kv_len),
            ]
        };
        let gate_up: &[_] = if config.fused_projections {
            &[("mlp.gate_up_proj", 2 * intermediate_size)]
        } else {
            &[("mlp.gate_proj", intermediate_size), ("mlp.up_proj", intermediate_size)]
        };
        let (mlp_norm, post_norms) = if config.post_norms {
            let behind = ("post_attention_layernorm", "post_feedforward_layernorm");
            ("pre_feedforward_layernorm", Some(behind))
        } else {
            ("post_attention_layernorm", None)
        };
        let parts = Parts { weights, config, index };
        let (mlp_bias, down) = (config.mlp_bias, [("mlp.down_proj", hidden_size)]);
        Ok(Self {
            attention_norm: parts.norm("input_layernorm")?,
            qkv: parts.projection(hidden_size, qkv, config.qkv_bias)?,
            qk_norm: parts.qk_norm()?,
            o: parts.projection(q_len, &[("self_attn.o_proj", hidden_size)], config.o_bias)?,
            post_attention_norm: post_norms.map(|(name, _)| parts.norm(name)).transpose()?,
            mlp_norm: parts.norm(mlp_norm)?,
            gate_up: parts.projection(hidden_size, gate_up, mlp_bias)?,
            down: parts.projection(intermediate_size, &down, mlp_bias)?,
            post_mlp_norm: post_norms.map(|(_, name)| parts.norm(name)).transpose()?,
            rule: AttentionRule {
                heads: HeadLayout { n_heads, n_kv_heads, head_dim },
                scale: config.query_pre_attn_scalar.sqrt().recip() as f32,
                softcap: config.attention_softcap.map(|cap| cap as f32),
                window: config.windows.get(index).copied().flatten(),
            },
            activation: config.activation,
        })
    }

    pub(crate) fn has_window(&self) -> bool {
        self.rule.window.is_some()
    }

    /// Takes new tokens through the layer; their keys and values go into the cache.
    pub(crate) fn apply(
        &self,
        x: &Tensor,
        cache: &LayerCache,
        sequences: Sequences<'_>,
    ) -> candle_core::Result<Tensor> {
        let LayerCache { keys, values } = cache;
        let (heads, Sequences { start, angles, .. }) = (self.rule.heads, sequences);

        let qkv = self.qkv.apply(&self.attention_norm.apply(x)?)?;
        if let Some(QkNorm { q, k, rule }) = &self.qk_norm {
            norm_heads(&qkv, q, k, *rule, heads)?;
        }
        append_to_cache(&qkv, keys, values, heads, start, angles)?;
        let attended = attention(&qkv, keys, values, self.rule, sequences)?;
        let y = normed(self.o.apply(&attended)?, self.post_attention_norm.as_ref())?;
        add_to(&y, x)?;

        let gate_up = self.gate_up.apply(&self.mlp_norm.apply(&y)?)?;
        let down = self.down.apply(&gated(&gate_up, self.activation)?)?;
        let x = normed(down, self.post_mlp_norm.as_ref())?;
        add_to(&x, &y)?;
        Ok(x)
    }
}

fn normed(x: Tensor, norm: Option<&Norm>) -> candle_core::Result<Tensor> {
    match norm {
        Some(norm) => norm.apply(&x),
        None => Ok(x),
    }
}
