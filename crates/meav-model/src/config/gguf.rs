use meav_weights::{Checkpoint, GgufFile, GgufValue, WeightsError};

use super::windows;
use crate::{Config, ConfigError, Family, RopeScaling};

/// The metadata of one architecture.
struct Metadata<'a> {
    gguf: &'a GgufFile,
    architecture: &'a str,
}

impl Metadata<'_> {
    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    fn has(&self, key: &str) -> bool {
        self.gguf.get(&self.key(key)).is_some()
    }

    fn usize(&self, key: &str) -> Result<usize, WeightsError> {
        self.gguf.usize(&self.key(key))
    }

    fn usize_or(&self, key: &str, default: usize) -> Result<usize, WeightsError> {
        if self.has(key) { self.usize(key) } else { Ok(default) }
    }

    fn f64(&self, key: &str) -> Result<f64, WeightsError> {
        self.gguf.f32(&self.key(key)).map(shortest)
    }

    fn f64_or(&self, key: &str, default: f64) -> Result<f64, WeightsError> {
        if self.has(key) { self.f64(key) } else { Ok(default) }
    }

    fn optional_f64(&self, key: &str) -> Result<Option<f64>, WeightsError> {
        if self.has(key) { self.f64(key).map(Some) } else { Ok(None) }
    }
}

impl Config {
    /// Reads a GGUF's metadata, and from its tensors what metadata don't say.
    ///
    /// # Errors
    ///
    /// [`WeightsError`] for a missing key; inside, [`ConfigError`] for a model that can't be built.
    pub(crate) fn from_gguf(
        gguf: &GgufFile,
        checkpoint: &Checkpoint,
    ) -> Result<Result<Self, ConfigError>, WeightsError> {
        let architecture = gguf.str("general.architecture")?;
        let metadata = Metadata { gguf, architecture };
        let family = match Family::from_gguf_architecture(architecture) {
            Ok(Family::Llama) if metadata.has("attention.sliding_window") => Family::Mistral,
            Ok(family) => family,
            Err(err) => return Ok(Err(err)),
        };
        let rope_scaling = match metadata.rope_scaling(checkpoint)? {
            Ok(scaling) => scaling,
            Err(err) => return Ok(Err(err)),
        };
        let hidden_size = metadata.usize("embedding_length")?;
        let n_heads = metadata.usize("attention.head_count")?;
        let n_layers = metadata.usize("block_count")?;
        let head_dim = hidden_size.checked_div(n_heads).unwrap_or(0);
        let head_dim = metadata.usize_or("attention.key_length", head_dim)?;
        let has = |name: &str| checkpoint.info(name).is_some();
        let in_first_layer = |name: &str| has(&format!("model.layers.0.{name}"));
        let mut config = Self {
            hidden_size,
            intermediate_size: metadata.usize("feed_forward_length")?,
            vocab_size: gguf.array("tokenizer.ggml.tokens")?.len(),
            n_layers,
            n_heads,
            n_kv_heads: metadata.usize_or("attention.head_count_kv", n_heads)?,
            head_dim,
            rotary_dim: metadata.usize_or("rope.dimension_count", head_dim)?,
            rms_norm_eps: metadata.f64("attention.layer_norm_rms_epsilon")?,
            rope_theta: metadata.f64_or("rope.freq_base", family.default_theta())?,
            rope_scaling,
            local_rope_theta: match family {
                Family::Gemma3 => Some(metadata.f64_or("rope.freq_base_swa", 10_000.0)?),
                _ => None,
            },
            max_position_embeddings: metadata.usize("context_length")?,
            tie_word_embeddings: !has("lm_head.weight"),
            windows: metadata.windows(family, n_layers)?,
            attention_softcap: metadata.optional_f64("attn_logit_softcapping")?,
            logit_softcap: metadata.optional_f64("final_logit_softcapping")?,
            qkv_bias: family == Family::Qwen2 || in_first_layer("self_attn.q_proj.bias"),
            o_bias: in_first_layer("self_attn.o_proj.bias"),
            mlp_bias: in_first_layer("mlp.gate_proj.bias"),
            ..Self::of_family(family)
        };
        config.query_pre_attn_scalar =
            metadata.query_scalar()?.unwrap_or_else(|| config.assumed_query_scalar());
        Ok(config.checked())
    }
}

impl Family {
    /// The base of the rotary frequencies where a GGUF doesn't say.
    fn default_theta(self) -> f64 {
        if self == Self::Gemma3 { 1e6 } else { 1e4 }
    }
}

impl Metadata<'_> {
    /// Factors of a tensor go before a factor in the metadata.
    fn rope_scaling(
        &self,
        checkpoint: &Checkpoint,
    ) -> Result<Result<RopeScaling, ConfigError>, WeightsError> {
        let factors = |name: &str| match checkpoint.info(name) {
            Some(_) => Ok(Some(checkpoint.load(name)?.to_f32_vec())),
            None => Ok::<_, WeightsError>(None),
        };
        if let Some(factors) = factors("rope_freqs.weight")? {
            return Ok(Ok(RopeScaling::Factors(factors)));
        }
        let [short, long] = ["rope_factors_short.weight", "rope_factors_long.weight"].map(factors);
        if let (Some(short), Some(long)) = (short?, long?) {
            return self.long_rope(short, long).map(Ok);
        }
        let kind = self.key("rope.scaling.type");
        Ok(match self.gguf.str(&kind) {
            Err(_) | Ok("none") => Ok(RopeScaling::None),
            Ok("linear") => {
                let factor = self.f64_or("rope.scaling.factor", f64::NAN)?;
                Ok(RopeScaling::Linear { factor })
            }
            Ok(other) => {
                Err(ConfigError::Unsupported { feature: format!("rope scaling {other:?}") })
            }
        })
    }

    fn long_rope(&self, short: Vec<f32>, long: Vec<f32>) -> Result<RopeScaling, WeightsError> {
        let context = self.usize("context_length")?;
        let original = self.usize_or("rope.scaling.original_context_length", context)?;
        let attention_factor = match self.optional_f64("rope.scaling.attn_factor")? {
            Some(factor) => factor,
            None => RopeScaling::attention_factor(context as f64 / original as f64, original),
        };
        Ok(RopeScaling::LongRope { short, long, original, attention_factor })
    }

    /// Which layers have a window is known from the family; llama.cpp writes its length only, and
    /// 0 for none.
    fn windows(&self, family: Family, n_layers: usize) -> Result<Vec<Option<usize>>, WeightsError> {
        let default = if family.is_gemma() { 4096 } else { 0 };
        let window = self.usize_or("attention.sliding_window", default)?;
        let window = Some(window).filter(|window| *window > 0);
        let pattern = "attention.sliding_window_pattern";
        let n_layers = n_layers.min(super::MAX_LAYERS);
        if let Some(GgufValue::Array(layers)) = self.gguf.get(&self.key(pattern)) {
            let has_window = |index: usize| {
                layers.get(index).is_some_and(|value| value.to_bool().unwrap_or(false))
            };
            return Ok((0..n_layers).map(|index| window.filter(|_| has_window(index))).collect());
        }
        if matches!(family, Family::Qwen2 | Family::Qwen3) {
            return Ok(vec![None; n_layers]);
        }
        let pattern = self.usize_or(pattern, family.window_pattern())?;
        Ok(windows(n_layers, window, pattern))
    }

    fn query_scalar(&self) -> Result<Option<f64>, WeightsError> {
        let scale = self.optional_f64("attention.scale")?;
        Ok(scale.map(|scale| shortest((1.0 / (scale * scale)) as f32)))
    }
}

/// The shortest decimal that reads back as `value`: 1e-5, where widening gives 9.999999747e-6.
fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "numbers are read, not computed")]
mod tests {
    use super::*;

    #[test]
    fn gguf_numbers_lose_the_noise_of_single_precision() {
        assert_eq!(shortest(1e-5), 1e-5);
        assert_eq!(shortest(100_000.0), 100_000.0);
    }
}
