use candle_core::Tensor;

use super::gradients::Sink;
use super::{Checkpointing, Trainable};
use crate::ModelError;
use crate::kernels::backward::{
    attention_backward, gated_backward, linear_backward_input, linear_backward_weights,
    norm_heads_backward, rms_norm_backward,
};
use crate::kernels::{Sequences, add_to, gated};
use crate::kv_cache::LayerCache;
use crate::layer::{AttentionPass, FeedForwardPass, Layer, Norm, Projection, QkNorm, Training};

/// What a layer's backward pass starts with.
pub(super) enum Kept {
    /// The layer's input.
    Input(Tensor),
    Pass(Box<LayerPass>),
}

/// All that a layer has computed but the cheap: outputs of norms, and of the gate.
pub(super) struct LayerPass {
    x: Tensor,
    cache: LayerCache,
    attention: AttentionPass,
    feed_forward: FeedForwardPass,
}

impl LayerPass {
    /// The layer's output.
    pub(super) fn output(&self) -> Tensor {
        self.feed_forward.y.clone()
    }

    pub(super) fn kept(self, checkpointing: Checkpointing) -> Kept {
        match checkpointing {
            Checkpointing::Off => Kept::Pass(Box::new(self)),
            Checkpointing::Layers => Kept::Input(self.x),
        }
    }
}

impl Layer {
    /// Takes tokens that continue nothing but one another through the layer.
    pub(super) fn run(
        &self,
        x: Tensor,
        sequences: Sequences<'_>,
        training: Training<'_>,
    ) -> candle_core::Result<LayerPass> {
        let heads = self.rule.heads;
        let cache = LayerCache::new(heads.n_kv_heads, x.dims()[0], heads.head_dim, x.device())?;
        let attention = self.attend(&x, &cache, sequences, training)?;
        let feed_forward = self.feed_forward(&attention.y, training)?;
        Ok(LayerPass { x, cache, attention, feed_forward })
    }

    /// The gradient of the layer's input, given that of its output; adds those of its tensors.
    ///
    /// # Shapes
    ///
    /// `(T, H)` both.
    pub(super) fn backward(
        &self,
        pass: LayerPass,
        dy: &Tensor,
        sequences: Sequences<'_>,
        sink: Sink<'_>,
    ) -> Result<Tensor, ModelError> {
        let LayerPass { x, cache, attention, feed_forward } = pass;
        let dy = self.feed_forward_backward(feed_forward, &attention.y, dy, sink)?;
        self.attend_backward(attention, &cache, &x, &dy, sequences, sink)
    }

    fn feed_forward_backward(
        &self,
        FeedForwardPass { gate_up, before_norm, .. }: FeedForwardPass,
        x: &Tensor,
        dy: &Tensor,
        sink: Sink<'_>,
    ) -> Result<Tensor, ModelError> {
        let d_down = normed_backward(before_norm, self.post_mlp_norm.as_ref(), dy, sink)?;
        let gated = || gated(&gate_up, self.activation);
        let d_gated = self.down.backward(&d_down, gated, sink)?;
        drop(d_down);
        let d_gate_up = gated_backward(&gate_up, self.activation, &d_gated)?;
        drop((gate_up, d_gated));
        let d_input = self.gate_up.backward(&d_gate_up, || self.mlp_norm.apply(x), sink)?;
        let dx = self.mlp_norm.backward(x, &d_input, sink)?;
        add_to(&dx, dy)?;
        Ok(dx)
    }

    fn attend_backward(
        &self,
        pass: AttentionPass,
        cache: &LayerCache,
        x: &Tensor,
        dy: &Tensor,
        sequences: Sequences<'_>,
        sink: Sink<'_>,
    ) -> Result<Tensor, ModelError> {
        let AttentionPass { before_head_norms, qkv, attended, before_norm, y: _ } = pass;
        let LayerCache { keys, values } = cache;
        let d_o = normed_backward(before_norm, self.post_attention_norm.as_ref(), dy, sink)?;
        let d_attended = self.o.backward(&d_o, || Ok(attended.clone()), sink)?;
        drop((attended, d_o));
        let d_qkv = attention_backward(&qkv, keys, values, self.rule, sequences, &d_attended)?;
        drop((qkv, d_attended));
        if let (Some(norm), Some(x)) = (&self.qk_norm, before_head_norms) {
            norm.backward(&x, &d_qkv, self, sink)?;
        }
        let d_input = self.qkv.backward(&d_qkv, || self.attention_norm.apply(x), sink)?;
        let dx = self.attention_norm.backward(x, &d_input, sink)?;
        add_to(&dx, dy)?;
        Ok(dx)
    }

    /// Whether a gradient is asked for of anything in the layer.
    pub(super) fn is_trained(&self, trainable: Trainable<'_>) -> bool {
        match trainable {
            Trainable::Weights => true,
            Trainable::Adapters(adapters) => {
                self.projections().iter().any(|it| it.is_adapted(adapters))
            }
            Trainable::Nothing(_) => false,
        }
    }
}

impl Projection {
    /// The gradient of its input `x`, which is made only if another needs it.
    fn backward(
        &self,
        dy: &Tensor,
        x: impl FnOnce() -> candle_core::Result<Tensor>,
        sink: Sink<'_>,
    ) -> Result<Tensor, ModelError> {
        let dx = linear_backward_input(dy, &self.weights)?;
        match sink.trainable {
            Trainable::Weights => {
                let sums = |names: &[String]| {
                    names.iter().map(|name| sink.sum(name).cloned()).collect::<Result<Vec<_>, _>>()
                };
                let (weights, biases) = (sums(&self.weight_names)?, sums(&self.bias_names)?);
                linear_backward_weights(dy, &x()?, &weights, &biases, self.weights[0].dtype())?;
            }
            Trainable::Adapters(adapters) if self.is_adapted(adapters) => {
                self.adapters_backward(dy, &x()?, &dx, adapters, sink)?;
            }
            Trainable::Adapters(_) | Trainable::Nothing(_) => {}
        }
        Ok(dx)
    }
}

impl Norm {
    pub(super) fn backward(
        &self,
        x: &Tensor,
        dy: &Tensor,
        sink: Sink<'_>,
    ) -> Result<Tensor, ModelError> {
        let d_weight = sink.weight(&self.weight.name)?;
        Ok(rms_norm_backward(x, &self.weight.tensor, self.rule, dy, d_weight)?)
    }
}

impl QkNorm {
    /// Turns the gradient of what was normalised into that of `x`, in place.
    fn backward(
        &self,
        x: &Tensor,
        d_qkv: &Tensor,
        layer: &Layer,
        sink: Sink<'_>,
    ) -> Result<(), ModelError> {
        let (q, k) = (&self.q, &self.k);
        let d_weights = sink.weight(&q.name)?.zip(sink.weight(&k.name)?);
        let heads = layer.rule.heads;
        Ok(norm_heads_backward(x, &q.tensor, &k.tensor, self.rule, heads, d_qkv, d_weights)?)
    }
}

/// The gradient of what a norm took, if there is a norm.
fn normed_backward(
    x: Option<Tensor>,
    norm: Option<&Norm>,
    dy: &Tensor,
    sink: Sink<'_>,
) -> Result<Tensor, ModelError> {
    match (x, norm) {
        (Some(x), Some(norm)) => norm.backward(&x, dy, sink),
        _ => Ok(dy.clone()),
    }
}
