use std::collections::BTreeMap;
use std::slice;

use candle_core::{DType, Device, Tensor};
use meav_job::JobCtx;

use crate::kernels::{Sequence, Sequences, linear, soft_cap};
use crate::layer::{Layer, Norm, Parameter, Weights};
use crate::rope::{Angles, Reach, Rope};
use crate::{Config, KvCache, ModelError};

/// A decoder over tensors whose storage it shares with their owner: when the owner changes them in
/// place, the next token is computed with the new weights.
///
/// Source: Touvron et al., 2023, arXiv:2302.13971, with Hugging Face's names and conventions; what
/// other families add is told by [`Config`].
#[derive(Debug)]
pub struct Decoder {
    config: Config,
    rope: Rope,
    /// For layers with a window, if they differ.
    local_rope: Option<Rope>,
    embeddings: Parameter,
    pub(crate) layers: Vec<Layer>,
    pub(crate) norm: Norm,
    /// What turns hidden states into logits, unless the embeddings do.
    output: Option<Parameter>,
}

/// Which positions to compute logits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logits {
    /// Only what follows the last token.
    Last,
    /// What follows each token.
    All,
}

/// Tokens that are read at once where nothing asks for more.
const CHUNK: usize = 512;

impl Decoder {
    /// Builds the network over `tensors`, named as in a Hugging Face checkpoint.
    ///
    /// # Errors
    ///
    /// [`ModelError::MissingTensor`] or [`ModelError::ShapeMismatch`] for the first misfit.
    pub fn new(config: &Config, tensors: &BTreeMap<String, Tensor>) -> Result<Self, ModelError> {
        let weights = Weights { tensors, prefix: config.tensor_prefix };
        let embedding_shape = [config.vocab_size, config.hidden_size];
        let embeddings = weights.get("model.embed_tokens.weight", &embedding_shape)?;
        let output = (!config.tie_word_embeddings)
            .then(|| weights.get("lm_head.weight", &embedding_shape))
            .transpose()?;
        let layers = (0..config.n_layers)
            .map(|index| Layer::new(&weights, index, config))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            rope: Rope::global(config),
            local_rope: Rope::local(config),
            embeddings,
            layers,
            norm: Norm::new(&weights, "model.norm", config)?,
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
    /// A context that outgrows the original one of a Phi-3 is read again from its first token,
    /// whose position is then turned otherwise; transformers does the same when it generates.
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
        let mut x = self.read(tokens, cache, self.rope.reach(cache.len() + tokens.len()), job)?;
        if logits == Logits::Last {
            x = x.narrow(0, tokens.len() - 1, 1)?;
        }
        Ok(self.logits(&x)?)
    }

    /// All of its tensors by their owner's names, each once.
    pub fn parameters(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        let outer = [&self.embeddings, &self.norm.weight].into_iter().chain(&self.output);
        let layers = self.layers.iter().flat_map(Layer::parameters);
        outer.map(|it| (it.name.as_str(), &it.tensor)).chain(layers)
    }

    /// The weights of its linear layers, `(out, in)`, by their owner's names: those that
    /// [`Adapters`](crate::Adapters) may stand beside.
    pub fn linear_layers(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        let projections = self.layers.iter().flat_map(Layer::projections);
        projections.flat_map(|it| it.weight_names.iter().map(String::as_str).zip(&it.weights))
    }

    /// What its tensors are on.
    pub fn device(&self) -> &Device {
        self.embeddings.tensor.device()
    }

    pub(crate) fn embeddings(&self) -> &Parameter {
        &self.embeddings
    }

    /// What turns normalised hidden states into logits.
    pub(crate) fn output(&self) -> &Parameter {
        self.output.as_ref().unwrap_or(&self.embeddings)
    }

    /// What a context of `len` tokens is.
    pub(crate) fn reach(&self, len: usize) -> Reach {
        self.rope.reach(len)
    }

    /// Reads `tokens` behind what `cache` holds, as part of a context of `reach`.
    ///
    /// # Shapes
    ///
    /// `(T, H)`, before the last norm.
    pub(crate) fn read(
        &self,
        tokens: &[u32],
        cache: &mut KvCache,
        reach: Reach,
        job: &JobCtx<'_>,
    ) -> Result<Tensor, ModelError> {
        let (start, limit) = (cache.len(), cache.capacity());
        if start + tokens.len() > limit {
            return Err(ModelError::ContextExceeded { tokens: start + tokens.len(), limit });
        }
        if cache.reach != Some(reach) {
            self.read_again(cache, reach, job)?;
        }
        let sequence = Sequence::behind(start, tokens.len());
        let x = self.hidden(tokens, start, &[sequence], reach, cache, job)?;
        cache.tokens.extend(tokens);
        Ok(x)
    }

    /// Replaces keys and values that were turned for a context of another reach.
    fn read_again(
        &self,
        cache: &mut KvCache,
        reach: Reach,
        job: &JobCtx<'_>,
    ) -> Result<(), ModelError> {
        cache.reach = None;
        for (index, tokens) in cache.tokens.chunks(CHUNK).enumerate() {
            let sequence = Sequence::behind(index * CHUNK, tokens.len());
            self.hidden(tokens, index * CHUNK, &[sequence], reach, cache, job)?;
        }
        cache.reach = Some(reach);
        Ok(())
    }

    /// Takes the tokens of several sequences, one behind the other, through all layers. Their keys
    /// and values go to `start` and behind, over what stood there.
    ///
    /// # Shapes
    ///
    /// `(T, H)` for `T` tokens of all sequences, before the last norm.
    pub(crate) fn hidden(
        &self,
        tokens: &[u32],
        start: usize,
        sequences: &[Sequence],
        reach: Reach,
        cache: &KvCache,
        job: &JobCtx<'_>,
    ) -> Result<Tensor, ModelError> {
        assert!(!tokens.is_empty(), "no tokens");
        let angles = self.angles(sequences, reach);
        let mut x = self.embed(tokens)?;
        for (layer, cache) in self.layers.iter().zip(&cache.layers) {
            job.check()?;
            let angles = angles.of(layer);
            x = layer.apply(&x, cache, Sequences { start, each: sequences, angles })?;
        }
        Ok(x)
    }

    pub(crate) fn angles(&self, sequences: &[Sequence], reach: Reach) -> LayerAngles {
        let positions = || sequences.iter().flat_map(|it| (it.position()..).take(it.len));
        LayerAngles {
            global: self.rope.angles(positions(), reach),
            local: self.local_rope.as_ref().map(|rope| rope.angles(positions(), reach)),
        }
    }

    pub(crate) fn embed(&self, tokens: &[u32]) -> candle_core::Result<Tensor> {
        let ids = Tensor::new(tokens, self.device())?;
        let x = self.embeddings.tensor.index_select(&ids, 0)?.to_dtype(DType::F32)?;
        if !self.config.scaled_embeddings {
            return Ok(x);
        }
        x.affine(self.embedding_scale()?, 0.0)
    }

    /// What embeddings are multiplied by, if they are.
    pub(crate) fn embedding_scale(&self) -> candle_core::Result<f64> {
        // transformers keeps the factor in the weights' type: 27.75, not 27.71, for 768 in bf16.
        let scale = Tensor::new((self.config.hidden_size as f64).sqrt() as f32, &Device::Cpu)?;
        let scale = scale.to_dtype(self.embeddings.tensor.dtype())?.to_dtype(DType::F32)?;
        Ok(f64::from(scale.to_scalar::<f32>()?))
    }

    /// Logits of rows of hidden states.
    pub(crate) fn logits(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let logits = linear(&self.norm.apply(x)?, slice::from_ref(&self.output().tensor), &[])?;
        if let Some(cap) = self.config.logit_softcap {
            soft_cap(&logits, cap as f32)?;
        }
        Ok(logits)
    }
}

/// What the tokens of a pass are turned by.
#[derive(Debug)]
pub(crate) struct LayerAngles {
    global: Angles,
    /// In layers with a window, if they differ.
    local: Option<Angles>,
}

impl LayerAngles {
    pub(crate) fn of(&self, layer: &Layer) -> &Angles {
        self.local.as_ref().filter(|_| layer.has_window()).unwrap_or(&self.global)
    }
}
