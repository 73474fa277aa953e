use std::collections::BTreeMap;

use candle_core::Tensor;

use crate::kernels::{
    AttentionRule, HeadLayout, NormRule, Sequences, add_to, append_to_cache, attention, gated,
    linear, norm_heads, rms_norm,
};
use crate::kv_cache::LayerCache;
use crate::{Activation, Adapters, Config, ModelError};

/// Takes tensors by name and checks their dimensions.
pub(crate) struct Weights<'a> {
    pub(crate) tensors: &'a BTreeMap<String, Tensor>,
    /// What stands before each name.
    pub(crate) prefix: &'a str,
}

impl Weights<'_> {
    pub(crate) fn get(&self, name: &str, shape: &[usize]) -> Result<Parameter, ModelError> {
        let name = format!("{}{name}", self.prefix);
        let Some(tensor) = self.tensors.get(&name) else {
            return Err(ModelError::MissingTensor { name });
        };
        if tensor.dims() != shape {
            let (found, expected) = (tensor.dims().to_vec(), shape.to_vec());
            return Err(ModelError::ShapeMismatch { name, found, expected });
        }
        Ok(Parameter { name, tensor: tensor.clone() })
    }
}

/// One of a decoder's tensors.
#[derive(Debug)]
pub(crate) struct Parameter {
    /// As its owner calls it.
    pub(crate) name: String,
    pub(crate) tensor: Tensor,
}

/// One layer of a decoder.
///
/// Gemma's tensors have other names for the same places: its `post_attention_layernorm` stands
/// behind the attention, not before the feed-forward layer.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) attention_norm: Norm,
    pub(crate) qkv: Projection,
    pub(crate) qk_norm: Option<QkNorm>,
    pub(crate) o: Projection,
    pub(crate) post_attention_norm: Option<Norm>,
    pub(crate) mlp_norm: Norm,
    pub(crate) gate_up: Projection,
    pub(crate) down: Projection,
    pub(crate) post_mlp_norm: Option<Norm>,
    pub(crate) rule: AttentionRule,
    pub(crate) activation: Activation,
}

#[derive(Debug)]
pub(crate) struct Norm {
    pub(crate) weight: Parameter,
    pub(crate) rule: NormRule,
}

/// Norms of queries and keys, head by head.
#[derive(Debug)]
pub(crate) struct QkNorm {
    pub(crate) q: Parameter,
    pub(crate) k: Parameter,
    pub(crate) rule: NormRule,
}

/// Linear layers over the same input, their outputs side by side.
#[derive(Debug)]
pub(crate) struct Projection {
    pub(crate) weights: Vec<Tensor>,
    pub(crate) weight_names: Vec<String>,
    pub(crate) biases: Vec<Tensor>,
    pub(crate) bias_names: Vec<String>,
}

/// What a forward pass does for the backward pass behind it; nothing by default.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Training<'a> {
    /// What stands beside the weights.
    pub(crate) adapters: Option<&'a Adapters>,
    /// Whether what is changed in place is copied before.
    pub(crate) keeps: bool,
}

impl Projection {
    fn new(weights: Vec<Parameter>, biases: Vec<Parameter>) -> Self {
        let unzip =
            |parts: Vec<Parameter>| parts.into_iter().map(|it| (it.tensor, it.name)).unzip();
        let ((weights, weight_names), (biases, bias_names)) = (unzip(weights), unzip(biases));
        Self { weights, weight_names, biases, bias_names }
    }

    fn apply(&self, x: &Tensor, training: Training<'_>) -> candle_core::Result<Tensor> {
        let y = linear(x, &self.weights, &self.biases)?;
        if let Some(adapters) = training.adapters {
            self.add_adapters(x, &y, adapters)?;
        }
        Ok(y)
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
        rms_norm(x, &self.weight.tensor, self.rule)
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

    fn get(&self, name: &str, shape: &[usize]) -> Result<Parameter, ModelError> {
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
        Ok(Projection::new(
            outputs.iter().map(weight).collect::<Result<_, _>>()?,
            with_bias.iter().map(bias).collect::<Result<_, _>>()?,
        ))
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
        let AttentionPass { y, .. } = self.attend(x, cache, sequences, Training::default())?;
        Ok(self.feed_forward(&y, Training::default())?.y)
    }

    /// The layer's first half.
    pub(crate) fn attend(
        &self,
        x: &Tensor,
        cache: &LayerCache,
        sequences: Sequences<'_>,
        training: Training<'_>,
    ) -> candle_core::Result<AttentionPass> {
        let LayerCache { keys, values } = cache;
        let (heads, Sequences { start, angles, .. }) = (self.rule.heads, sequences);
        let qkv = self.qkv.apply(&self.attention_norm.apply(x)?, training)?;
        let mut before_head_norms = None;
        if let Some(QkNorm { q, k, rule }) = &self.qk_norm {
            before_head_norms = training.keeps.then(|| qkv.copy()).transpose()?;
            norm_heads(&qkv, &q.tensor, &k.tensor, *rule, heads)?;
        }
        append_to_cache(&qkv, keys, values, heads, start, angles)?;
        let attended = attention(&qkv, keys, values, self.rule, sequences)?;
        let o = self.o.apply(&attended, training)?;
        let (y, before_norm) = normed(o, self.post_attention_norm.as_ref())?;
        add_to(&y, x)?;
        Ok(AttentionPass { before_head_norms, qkv, attended, before_norm, y })
    }

    /// The layer's second half.
    pub(crate) fn feed_forward(
        &self,
        x: &Tensor,
        training: Training<'_>,
    ) -> candle_core::Result<FeedForwardPass> {
        let gate_up = self.gate_up.apply(&self.mlp_norm.apply(x)?, training)?;
        let down = self.down.apply(&gated(&gate_up, self.activation)?, training)?;
        let (y, before_norm) = normed(down, self.post_mlp_norm.as_ref())?;
        add_to(&y, x)?;
        Ok(FeedForwardPass { gate_up, before_norm, y })
    }

    pub(crate) fn projections(&self) -> [&Projection; 4] {
        [&self.qkv, &self.o, &self.gate_up, &self.down]
    }

    fn norms(&self) -> impl Iterator<Item = &Parameter> {
        let always = [&self.attention_norm, &self.mlp_norm];
        let behind = [&self.post_attention_norm, &self.post_mlp_norm];
        let norms = always.into_iter().chain(behind.into_iter().flatten());
        let of_heads = self.qk_norm.iter().flat_map(|norm| [&norm.q, &norm.k]);
        norms.map(|norm| &norm.weight).chain(of_heads)
    }

    /// All of its tensors, by name.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        let named = |(name, tensor)| (String::as_str(name), tensor);
        let linear = self.projections().into_iter().flat_map(move |it| {
            let weights = it.weight_names.iter().zip(&it.weights);
            weights.chain(it.bias_names.iter().zip(&it.biases)).map(named)
        });
        linear.chain(self.norms().map(|it| (it.name.as_str(), &it.tensor)))
    }
}

/// What the first half of a layer computes.
#[derive(Debug)]
pub(crate) struct AttentionPass {
    /// A copy, if the layer has norms of heads and the copy was asked for.
    pub(crate) before_head_norms: Option<Tensor>,
    pub(crate) qkv: Tensor,
    pub(crate) attended: Tensor,
    /// What went into the norm behind, if the layer has one.
    pub(crate) before_norm: Option<Tensor>,
    /// The result, its input added.
    pub(crate) y: Tensor,
}

/// What the second half of a layer computes.
#[derive(Debug)]
pub(crate) struct FeedForwardPass {
    pub(crate) gate_up: Tensor,
    /// What went into the norm behind, if the layer has one.
    pub(crate) before_norm: Option<Tensor>,
    /// The result, its input added.
    pub(crate) y: Tensor,
}

/// The normalised `x`, and `x` itself; without a norm `x` and nothing.
fn normed(x: Tensor, norm: Option<&Norm>) -> candle_core::Result<(Tensor, Option<Tensor>)> {
    match norm {
        Some(norm) => Ok((norm.apply(&x)?, Some(x))),
        None => Ok((x, None)),
    }
}
