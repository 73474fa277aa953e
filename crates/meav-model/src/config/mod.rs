mod family;
mod gguf;
mod hugging_face;
mod rope_scaling;
mod to_json;

pub use family::Family;
pub use rope_scaling::RopeScaling;
pub(crate) use rope_scaling::unscaled_frequency;

use crate::{ConfigError, ModelError};

/// A decoder described by data: its dimensions, and what sets its family apart.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "families differ in what they have and lack")]
pub struct Config {
    /// What the files call it.
    pub family: Family,
    /// What stands before the names of the decoder's tensors: nothing, but in a checkpoint that
    /// holds other networks too.
    pub tensor_prefix: &'static str,
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
    /// Elements at the front of each head that are turned by position.
    pub rotary_dim: usize,
    /// Added to the mean square before the root.
    pub rms_norm_eps: f64,
    /// The base of the rotary frequencies.
    pub rope_theta: f64,
    /// How the rotary frequencies were changed for longer contexts.
    pub rope_scaling: RopeScaling,
    /// The base in layers with a window if it is another; not scaled.
    pub local_rope_theta: Option<f64>,
    /// Tokens in the longest context.
    pub max_position_embeddings: usize,
    /// Whether the embeddings serve as the output projection too.
    pub tie_word_embeddings: bool,
    /// For each layer, how many positions a token sees, its own included; `None` is all before it.
    pub windows: Vec<Option<usize>>,
    /// Attention scores are divided by the root of this, mostly `D`.
    pub query_pre_attn_scalar: f64,
    /// Attention scores are bent to lie between plus and minus this.
    pub attention_softcap: Option<f64>,
    /// Logits are bent to lie between plus and minus this.
    pub logit_softcap: Option<f64>,
    /// The gate of the feed-forward layers.
    pub activation: Activation,
    /// Added to the weights of each norm, which Gemma stores less 1.
    pub norm_offset: f64,
    /// Whether embeddings are multiplied by `√H` before the first layer.
    pub scaled_embeddings: bool,
    /// Whether queries and keys are normalised head by head before they are turned.
    pub qk_norm: bool,
    /// Whether the results of attention and feed-forward are normalised too.
    pub post_norms: bool,
    /// Whether queries, keys and values are one tensor, and gate and up another.
    pub fused_projections: bool,
    /// Whether queries, keys and values have biases.
    pub qkv_bias: bool,
    /// Whether the projection behind the attention has a bias.
    pub o_bias: bool,
    /// Whether the feed-forward projections have biases.
    pub mlp_bias: bool,
}

/// The gate of a feed-forward layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x σ(x)`.
    Silu,
    /// The Gaussian error linear unit by its hyperbolic approximation, `gelu_pytorch_tanh`.
    GeluTanh,
}

impl Activation {
    fn name(self) -> &'static str {
        match self {
            Self::Silu => "silu",
            Self::GeluTanh => "gelu_pytorch_tanh",
        }
    }
}

/// Above what any model has of anything; sums and products of such numbers stay in range.
const MAX_SIZE: usize = 1 << 30;

/// Far above the depth of any model.
const MAX_LAYERS: usize = 1 << 16;

impl Config {
    /// Whether the model can take so many tokens, a prompt and a response together.
    ///
    /// # Errors
    ///
    /// [`ModelError::ContextExceeded`] if it can't, with both numbers.
    pub fn check_context(&self, tokens: usize) -> Result<(), ModelError> {
        let limit = self.max_position_embeddings;
        if tokens > limit {
            return Err(ModelError::ContextExceeded { tokens, limit });
        }
        Ok(())
    }

    /// What sets a family apart, with dimensions yet to be filled in.
    fn of_family(family: Family) -> Self {
        let is_gemma = family.is_gemma();
        Self {
            family,
            tensor_prefix: "",
            hidden_size: 0,
            intermediate_size: 0,
            vocab_size: 0,
            n_layers: 0,
            n_heads: 0,
            n_kv_heads: 0,
            head_dim: 0,
            rotary_dim: 0,
            rms_norm_eps: 0.0,
            rope_theta: 0.0,
            rope_scaling: RopeScaling::None,
            local_rope_theta: None,
            max_position_embeddings: 0,
            tie_word_embeddings: is_gemma,
            windows: Vec::new(),
            query_pre_attn_scalar: 0.0,
            attention_softcap: None,
            logit_softcap: None,
            activation: if is_gemma { Activation::GeluTanh } else { Activation::Silu },
            norm_offset: if is_gemma { 1.0 } else { 0.0 },
            scaled_embeddings: is_gemma,
            qk_norm: matches!(family, Family::Qwen3 | Family::Gemma3),
            post_norms: is_gemma,
            fused_projections: family == Family::Phi3,
            qkv_bias: family == Family::Qwen2,
            o_bias: false,
            mlp_bias: false,
        }
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
            ("rotary dimensions", self.rotary_dim),
            ("max_position_embeddings", self.max_position_embeddings),
        ]
        .into_iter()
        .chain(self.windows.iter().flatten().map(|window| ("sliding_window", *window)))
        {
            let limit = if field == "num_hidden_layers" { MAX_LAYERS } else { MAX_SIZE };
            if value == 0 || value > limit {
                return Err(ConfigError::Number { field, value: value as f64 });
            }
        }
        let numbers = [
            ("rms_norm_eps", Some(self.rms_norm_eps)),
            ("rope_theta", Some(self.rope_theta)),
            ("rope_local_base_freq", self.local_rope_theta),
            ("query_pre_attn_scalar", Some(self.query_pre_attn_scalar)),
            ("attn_logit_softcapping", self.attention_softcap),
            ("final_logit_softcapping", self.logit_softcap),
        ];
        for (field, value) in numbers.into_iter().filter_map(|(field, value)| Some((field, value?)))
        {
            if !(value.is_finite() && value > 0.0) {
                return Err(ConfigError::Number { field, value });
            }
        }
        divide("num_attention_heads", self.n_heads, self.n_kv_heads)?;
        divide("rotary dimensions", self.rotary_dim, 2)?;
        if self.rotary_dim > self.head_dim {
            let value = self.rotary_dim as f64;
            return Err(ConfigError::Number { field: "rotary dimensions", value });
        }
        self.rope_scaling.check(self.rotary_dim / 2)?;
        Ok(self)
    }

    /// What llama.cpp takes [`query_pre_attn_scalar`](Self::query_pre_attn_scalar) for, which no
    /// GGUF says: another number than `D` in the models of Gemma with 27 billion parameters, which
    /// it knows by their layers.
    pub(crate) fn assumed_query_scalar(&self) -> f64 {
        match (self.family, self.n_layers) {
            (Family::Gemma2, 46) | (Family::Gemma3, 62) => {
                self.hidden_size as f64 / self.n_heads as f64
            }
            _ => self.head_dim as f64,
        }
    }

    /// The layers' window, where they have one.
    pub(crate) fn window(&self) -> Option<usize> {
        self.windows.iter().copied().flatten().next()
    }
}

fn divide(field: &'static str, value: usize, divisor: usize) -> Result<usize, ConfigError> {
    if divisor == 0 || !value.is_multiple_of(divisor) {
        return Err(ConfigError::Indivisible { field, value, divisor });
    }
    Ok(value / divisor)
}

/// Layers of which every `pattern`th sees the whole context; a pattern of 1 gives all a window.
fn windows(n_layers: usize, window: Option<usize>, pattern: usize) -> Vec<Option<usize>> {
    let sees_all = |index: usize| pattern > 1 && (index + 1).is_multiple_of(pattern);
    (0..n_layers).map(|index| window.filter(|_| !sees_all(index))).collect()
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "numbers are read, not computed")]
mod tests {
    use serde_json::json;

    use super::*;

    /// A change to a configuration.
    type Change = fn(&mut serde_json::Value);

    fn config_of(
        model_type: &str,
        change: impl FnOnce(&mut serde_json::Value),
    ) -> Result<Config, ConfigError> {
        let mut json = json!({
            "model_type": model_type, "hidden_size": 8, "intermediate_size": 16, "vocab_size": 32,
            "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
            "rms_norm_eps": 1e-5, "max_position_embeddings": 64,
        });
        change(&mut json);
        Config::from_json(json.to_string().as_bytes())
    }

    fn config(change: impl FnOnce(&mut serde_json::Value)) -> Result<Config, ConfigError> {
        config_of("llama", change)
    }

    #[test]
    fn defaults_are_those_of_transformers() {
        let config = config(|_| {}).unwrap();
        assert_eq!((config.head_dim, config.rotary_dim), (2, 2));
        assert_eq!(config.rope_theta, 10_000.0);
        assert!(!config.tie_word_embeddings);
        assert_eq!(config_of("mistral", |_| {}).unwrap().windows, [Some(4096); 3]);
        assert_eq!(config_of("qwen2", |_| {}).unwrap().windows, [None; 3]);
        let gemma = config_of("gemma2", |_| {}).unwrap();
        assert_eq!(gemma.windows, [Some(4096), None, Some(4096)]);
        assert_eq!((gemma.attention_softcap, gemma.logit_softcap), (Some(50.0), Some(30.0)));
        assert_eq!((gemma.head_dim, gemma.query_pre_attn_scalar), (256, 256.0));
        assert!(gemma.tie_word_embeddings);
        let phi = |json: &mut serde_json::Value| {
            json["rope_scaling"] =
                json!({ "type": "su", "short_factor": [1.0], "long_factor": [2.0] });
        };
        let RopeScaling::LongRope { original, .. } = config_of("phi3", phi).unwrap().rope_scaling
        else {
            panic!("Phi-3's factors are read");
        };
        assert_eq!(original, 4096);
        let gemma = config_of("gemma3_text", |_| {}).unwrap();
        assert_eq!((gemma.rope_theta, gemma.local_rope_theta), (1e6, Some(1e4)));
        assert_eq!((gemma.attention_softcap, gemma.logit_softcap), (None, None));
    }

    #[test]
    fn rope_parameters_of_transformers_5_are_read() {
        let config = config(|json| {
            json["rope_parameters"] = json!({
                "rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
            });
        })
        .unwrap();
        assert_eq!(config.rope_theta, 5e5);
        assert!(matches!(config.rope_scaling, RopeScaling::Llama3 { original: 8192.0, .. }));
    }

    #[test]
    fn gemma_that_sees_is_read_for_its_text_model() {
        let outer = config_of("gemma3", |json| {
            *json = json!({
                "model_type": "gemma3", "vision_config": {}, "mm_tokens_per_image": 256,
                "text_config": {
                    "model_type": "gemma3_text", "hidden_size": 8, "intermediate_size": 16,
                    "num_hidden_layers": 7, "sliding_window": 5,
                    "rope_scaling": { "rope_type": "linear", "factor": 8.0 },
                },
            });
        })
        .unwrap();
        assert_eq!(outer.tensor_prefix, "language_model.");
        assert_eq!((outer.family, outer.vocab_size), (Family::Gemma3, 262_208));
        assert_eq!((outer.n_heads, outer.n_kv_heads, outer.head_dim), (8, 4, 256));
        let w = Some(5);
        assert_eq!(outer.windows, [w, w, w, w, w, None, w]);
        assert_eq!(outer.rope_scaling, RopeScaling::Linear { factor: 8.0 });
    }

    #[test]
    fn pattern_of_windows_may_go_by_either_name() {
        for (keys, expected) in [
            (json!({}), [Some(4096); 3]),
            (json!({ "sliding_window_pattern": 2 }), [Some(4096), None, Some(4096)]),
            (json!({ "_sliding_window_pattern": 3 }), [Some(4096), Some(4096), None]),
            (
                json!({ "sliding_window_pattern": 2, "_sliding_window_pattern": 2 }),
                [Some(4096), None, Some(4096)],
            ),
            (
                json!({
                    "sliding_window_pattern": 2,
                    "layer_types": ["full_attention", "sliding_attention", "full_attention"],
                }),
                [None, Some(4096), None],
            ),
        ] {
            let change = |json: &mut serde_json::Value| {
                json.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
            };
            assert_eq!(config_of("gemma3_text", change).unwrap().windows, expected, "{keys}");
        }
    }

    /// What a configuration is refused with.
    fn refusal(model_type: &str, change: Change) -> String {
        config_of(model_type, change).unwrap_err().to_string()
    }

    #[test]
    fn impossible_models_are_refused_by_the_number() {
        let cases: [(Change, &str); 9] = [
            (
                |json| json["num_attention_heads"] = 0.into(),
                "hidden_size is 8, which does not divide by 0",
            ),
            (
                |json| json["num_key_value_heads"] = 3.into(),
                "num_attention_heads is 4, which does not divide by 3",
            ),
            (|json| json["vocab_size"] = (1_u64 << 40).into(), "vocab_size is 1099511627776"),
            (
                |json| json["num_hidden_layers"] = (1_u64 << 30).into(),
                "num_hidden_layers is 1073741824",
            ),
            (|json| json["sliding_window"] = 0.into(), "sliding_window is 0"),
            (
                |json| json["partial_rotary_factor"] = 1.5.into(),
                "rotary dimensions is 3, which does not divide by 2",
            ),
            (|json| json["partial_rotary_factor"] = 2.into(), "rotary dimensions is 4"),
            (
                |json| {
                    json["rope_scaling"] = json!({
                        "type": "longrope", "short_factor": [1.0, 1.0], "long_factor": [1.0],
                    });
                },
                "rope scaling has 2 factors, 1 are needed",
            ),
            (
                |json| {
                    json["rope_scaling"] = json!({
                        "type": "longrope", "short_factor": [1.0], "long_factor": [0.0],
                    });
                },
                "rope scaling is 0",
            ),
        ];
        for (change, expected) in cases {
            assert_eq!(refusal("mistral", change), expected);
        }
    }

    #[test]
    fn unknown_models_and_features_are_refused_by_name() {
        assert_eq!(refusal("mamba", |_| {}), "architecture \"mamba\" is not supported");
        assert_eq!(refusal("", |json| json["model_type"] = 3.into()), "missing field `model_type`");
        let cases: [(&str, Change, &str); 9] = [
            ("llama", |json| json["hidden_act"] = "relu".into(), "hidden_act \"relu\""),
            (
                "llama",
                |json| json["rope_scaling"] = json!({ "type": "yarn" }),
                "rope scaling \"yarn\"",
            ),
            (
                "llama",
                |json| json["quantization_config"] = json!({}),
                "quantization_config of a llama model",
            ),
            ("qwen2", |json| json["mlp_bias"] = true.into(), "mlp_bias of a qwen2 model"),
            (
                "mistral",
                |json| json["attention_bias"] = true.into(),
                "attention_bias of a mistral model",
            ),
            (
                "gemma2",
                |json| json["use_bidirectional_attention"] = true.into(),
                "use_bidirectional_attention of a gemma2 model",
            ),
            (
                "gemma3_text",
                |json| json["attn_logit_softcapping"] = 30.0.into(),
                "attn_logit_softcapping of a gemma3_text model",
            ),
            (
                "qwen3",
                |json| json["layer_types"] = json!(["full_attention", "linear_attention", ""]),
                "layer type \"linear_attention\"",
            ),
            (
                "gemma3_text",
                |json| {
                    json["rope_parameters"] = json!({
                        "full_attention": {},
                        "sliding_attention": { "rope_type": "linear", "factor": 2.0 },
                    });
                },
                "rope scaling \"linear\" of layers with a window",
            ),
        ];
        for (model_type, change, feature) in cases {
            assert_eq!(refusal(model_type, change), format!("{feature} is not supported"));
        }
        assert_eq!(
            refusal("qwen3", |json| json["layer_types"] = json!(["full_attention"])),
            "there are 1 layer_types for 3 layers"
        );
    }
}
