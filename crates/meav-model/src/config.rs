use meav_weights::{GgufFile, WeightsError};
use serde::Deserialize;

use crate::ConfigError;

/// The dimensions of a Llama model.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `H`.
    pub hidden_size: usize,
    /// `I`.
    pub intermediate_size: usize,
    /// `V`.
    pub vocab_size: usize,
    /// Decoder layers.
    pub n_layers: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; each serves `n_heads / n_kv_heads` query heads.
    pub n_kv_heads: usize,
    /// `D`.
    pub head_dim: usize,
    /// Added to the mean square before the root.
    pub rms_norm_eps: f64,
    /// The base of the rotary frequencies.
    pub rope_theta: f64,
    /// How the rotary frequencies were changed for longer contexts.
    pub rope_scaling: RopeScaling,
    /// Tokens in the longest context.
    pub max_position_embeddings: usize,
    /// Whether the embeddings serve as the output projection too.
    pub tie_word_embeddings: bool,
}

/// How rotary frequencies were changed for longer contexts.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// Divided by one factor.
    Linear {
        /// The factor.
        factor: f64,
    },
    /// Llama 3.1's: low frequencies divided by a factor, high ones kept, those between blended.
    Llama3 {
        /// The factor.
        factor: f64,
        /// Wavelengths above `original / low_freq_factor` are divided.
        low_freq_factor: f64,
        /// Wavelengths below `original / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// The context length before.
        original: f64,
    },
    /// Divided one by one, as a GGUF stores the factors.
    Factors(Vec<f32>),
}

/// `config.json`, as far as it decides the network.
#[derive(Deserialize)]
struct HfConfig {
    hidden_size: usize,
    intermediate_size: usize,
    vocab_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    rms_norm_eps: f64,
    rope_theta: Option<f64>,
    rope_scaling: Option<HfRope>,
    rope_parameters: Option<HfRope>,
    max_position_embeddings: usize,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    hidden_act: Option<String>,
}

#[derive(Deserialize)]
struct HfRope {
    #[serde(alias = "type")]
    rope_type: Option<String>,
    rope_theta: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<f64>,
}

impl HfRope {
    fn scaling(&self) -> Result<RopeScaling, ConfigError> {
        let missing = |field| ConfigError::Number { field, value: f64::NAN };
        match self.rope_type.as_deref() {
            None | Some("default") => Ok(RopeScaling::None),
            Some("linear") => {
                Ok(RopeScaling::Linear { factor: self.factor.ok_or(missing("rope factor"))? })
            }
            Some("llama3") => Ok(RopeScaling::Llama3 {
                factor: self.factor.ok_or(missing("rope factor"))?,
                low_freq_factor: self.low_freq_factor.ok_or(missing("low_freq_factor"))?,
                high_freq_factor: self.high_freq_factor.ok_or(missing("high_freq_factor"))?,
                original: self
                    .original_max_position_embeddings
                    .ok_or(missing("original_max_position_embeddings"))?,
            }),
            Some(other) => {
                Err(ConfigError::Unsupported { feature: format!("rope scaling {other:?}") })
            }
        }
    }
}

impl Config {
    /// Reads Hugging Face's `config.json`.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for a model that can't be built.
    pub fn from_json(text: &[u8]) -> Result<Self, ConfigError> {
        let raw: HfConfig = serde_json::from_slice(text)?;
        for (unsupported, feature) in
            [(raw.attention_bias, "attention_bias"), (raw.mlp_bias, "mlp_bias")]
        {
            if unsupported {
                return Err(ConfigError::Unsupported { feature: feature.to_owned() });
            }
        }
        if let Some(activation) = raw.hidden_act.filter(|activation| activation != "silu") {
            return Err(ConfigError::Unsupported { feature: format!("hidden_act {activation:?}") });
        }
        // transformers 5 writes `rope_parameters`, earlier versions the other two.
        let rope = raw.rope_parameters.or(raw.rope_scaling);
        let head_dim = match raw.head_dim {
            Some(head_dim) => head_dim,
            None => divide("hidden_size", raw.hidden_size, raw.num_attention_heads)?,
        };
        Self {
            hidden_size: raw.hidden_size,
            intermediate_size: raw.intermediate_size,
            vocab_size: raw.vocab_size,
            n_layers: raw.num_hidden_layers,
            n_heads: raw.num_attention_heads,
            n_kv_heads: raw.num_key_value_heads.unwrap_or(raw.num_attention_heads),
            head_dim,
            rms_norm_eps: raw.rms_norm_eps,
            rope_theta: rope
                .as_ref()
                .and_then(|rope| rope.rope_theta)
                .or(raw.rope_theta)
                .unwrap_or(10_000.0),
            rope_scaling: rope.map_or(Ok(RopeScaling::None), |rope| rope.scaling())?,
            max_position_embeddings: raw.max_position_embeddings,
            tie_word_embeddings: raw.tie_word_embeddings,
        }
        .checked()
    }

    /// Reads a GGUF's metadata. `rope_factors` is its tensor `rope_freqs.weight`.
    ///
    /// # Errors
    ///
    /// [`WeightsError`] for a missing key; inside, [`ConfigError`] for a model that can't be built.
    pub(crate) fn from_gguf(
        gguf: &GgufFile,
        has_output_tensor: bool,
        rope_factors: Option<Vec<f32>>,
    ) -> Result<Result<Self, ConfigError>, WeightsError> {
        let hidden_size = gguf.usize("llama.embedding_length")?;
        let n_heads = gguf.usize("llama.attention.head_count")?;
        let head_dim = match gguf.usize("llama.attention.key_length") {
            Ok(head_dim) => head_dim,
            Err(_) if n_heads > 0 => hidden_size / n_heads,
            Err(_) => 0,
        };
        let config = Self {
            hidden_size,
            intermediate_size: gguf.usize("llama.feed_forward_length")?,
            vocab_size: gguf.array("tokenizer.ggml.tokens")?.len(),
            n_layers: gguf.usize("llama.block_count")?,
            n_heads,
            n_kv_heads: gguf.usize("llama.attention.head_count_kv").unwrap_or(n_heads),
            head_dim,
            rms_norm_eps: shortest(gguf.f32("llama.attention.layer_norm_rms_epsilon")?),
            rope_theta: gguf.f32("llama.rope.freq_base").map_or(10_000.0, shortest),
            rope_scaling: rope_factors.map_or(RopeScaling::None, RopeScaling::Factors),
            max_position_embeddings: gguf.usize("llama.context_length")?,
            tie_word_embeddings: !has_output_tensor,
        };
        Ok(config.with_gguf_scaling(gguf).and_then(Self::checked))
    }

    /// Factors of a tensor go before a factor in the metadata.
    fn with_gguf_scaling(self, gguf: &GgufFile) -> Result<Self, ConfigError> {
        let rope_scaling = match gguf.str("llama.rope.scaling.type") {
            _ if self.rope_scaling != RopeScaling::None => return Ok(self),
            Err(_) | Ok("none") => return Ok(self),
            Ok("linear") => {
                let factor = gguf.f32("llama.rope.scaling.factor").unwrap_or(f32::NAN);
                RopeScaling::Linear { factor: shortest(factor) }
            }
            Ok(other) => {
                let feature = format!("rope scaling {other:?}");
                return Err(ConfigError::Unsupported { feature });
            }
        };
        Ok(Self { rope_scaling, ..self })
    }

    fn checked(self) -> Result<Self, ConfigError> {
        for (field, value) in [
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("vocab_size", self.vocab_size),
            ("num_hidden_layers", self.n_layers),
            ("num_attention_heads", self.n_heads),
            ("num_key_value_heads", self.n_kv_heads),
            ("head_dim", self.head_dim),
            ("max_position_embeddings", self.max_position_embeddings),
        ] {
            // No model comes near a thousand million of anything.
            if value == 0 || value > 1 << 30 {
                return Err(ConfigError::Number { field, value: value as f64 });
            }
        }
        for (field, value) in [("rms_norm_eps", self.rms_norm_eps), ("rope_theta", self.rope_theta)]
        {
            if !(value.is_finite() && value > 0.0) {
                return Err(ConfigError::Number { field, value });
            }
        }
        let rope_numbers = match self.rope_scaling {
            RopeScaling::None | RopeScaling::Factors(_) => Vec::new(),
            RopeScaling::Linear { factor } => vec![factor],
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original } => {
                vec![factor, low_freq_factor, original, high_freq_factor - low_freq_factor]
            }
        };
        if let Some(value) = rope_numbers.into_iter().find(|it| !(it.is_finite() && *it > 0.0)) {
            return Err(ConfigError::Number { field: "rope scaling", value });
        }
        divide("num_attention_heads", self.n_heads, self.n_kv_heads)?;
        divide("head_dim", self.head_dim, 2)?;
        Ok(self)
    }

    /// `config.json` for a checkpoint whose base was a GGUF.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Unsupported`] for frequencies that a `config.json` can't express.
    pub fn to_json(&self, special: [Option<u32>; 2]) -> Result<serde_json::Value, ConfigError> {
        let mut json = serde_json::json!({
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_act": "silu",
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "vocab_size": self.vocab_size,
            "num_hidden_layers": self.n_layers,
            "num_attention_heads": self.n_heads,
            "num_key_value_heads": self.n_kv_heads,
            "head_dim": self.head_dim,
            "rms_norm_eps": self.rms_norm_eps,
            "rope_theta": self.rope_theta,
            "max_position_embeddings": self.max_position_embeddings,
            "tie_word_embeddings": self.tie_word_embeddings,
            "attention_bias": false,
            "mlp_bias": false,
            "bos_token_id": special[0],
            "eos_token_id": special[1],
        });
        match &self.rope_scaling {
            RopeScaling::None => {}
            RopeScaling::Linear { factor } => {
                json["rope_scaling"] =
                    serde_json::json!({ "rope_type": "linear", "factor": factor });
            }
            RopeScaling::Llama3 { .. } | RopeScaling::Factors(_) => {
                let feature = "writing a config.json for a GGUF with rope_freqs".to_owned();
                return Err(ConfigError::Unsupported { feature });
            }
        }
        Ok(json)
    }
}

fn divide(field: &'static str, value: usize, divisor: usize) -> Result<usize, ConfigError> {
    if divisor == 0 || !value.is_multiple_of(divisor) {
        return Err(ConfigError::Indivisible { field, value, divisor });
    }
    Ok(value / divisor)
}

/// The shortest decimal that reads back as `value`: 1e-5, where widening gives 9.999999747e-6.
fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "numbers are read, not computed")]
mod tests {
    use super::*;

    fn config(change: impl FnOnce(&mut serde_json::Value)) -> Result<Config, ConfigError> {
        let mut json = serde_json::json!({
            "hidden_size": 8, "intermediate_size": 16, "vocab_size": 32, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-5,
            "max_position_embeddings": 64,
        });
        change(&mut json);
        Config::from_json(json.to_string().as_bytes())
    }

    #[test]
    fn defaults_are_those_of_transformers() {
        let config = config(|_| {}).unwrap();
        assert_eq!(config.head_dim, 2);
        assert_eq!(config.rope_theta, 10_000.0);
        assert!(!config.tie_word_embeddings);
    }

    #[test]
    fn rope_parameters_of_transformers_5_are_read() {
        let config = config(|json| {
            json["rope_parameters"] = serde_json::json!({
                "rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
            });
        })
        .unwrap();
        assert_eq!(config.rope_theta, 5e5);
        assert!(matches!(config.rope_scaling, RopeScaling::Llama3 { original: 8192.0, .. }));
    }

    #[test]
    fn impossible_and_unknown_models_are_refused_by_name() {
        let message = |change: fn(&mut serde_json::Value)| config(change).unwrap_err().to_string();
        assert_eq!(
            message(|json| json["num_attention_heads"] = 0.into()),
            "hidden_size is 8, which does not divide by 0"
        );
        assert_eq!(
            message(|json| json["num_key_value_heads"] = 3.into()),
            "num_attention_heads is 4, which does not divide by 3"
        );
        assert_eq!(
            message(|json| json["vocab_size"] = (1_u64 << 40).into()),
            "vocab_size is 1099511627776"
        );
        assert_eq!(
            message(|json| json["attention_bias"] = true.into()),
            "attention_bias is not supported"
        );
        assert_eq!(
            message(|json| json["rope_scaling"] = serde_json::json!({ "type": "yarn" })),
            "rope scaling \"yarn\" is not supported"
        );
    }

    #[test]
    fn gguf_numbers_lose_the_noise_of_single_precision() {
        assert_eq!(shortest(1e-5), 1e-5);
        assert_eq!(shortest(100_000.0), 100_000.0);
    }
}
