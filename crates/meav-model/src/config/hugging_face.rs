use serde::Deserialize;
use serde::de::Error as _;
use serde_json::{Map, Value as Json, json};

use super::{Activation, MAX_LAYERS, divide, windows};
use crate::{Config, ConfigError, Family, RopeScaling};

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
    max_position_embeddings: usize,
    original_max_position_embeddings: Option<usize>,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    hidden_act: Option<String>,
    hidden_activation: Option<String>,

    rope_theta: Option<f64>,
    rope_scaling: Option<HfRope>,
    rope_parameters: Option<HfRopeParameters>,
    rope_local_base_freq: Option<f64>,
    partial_rotary_factor: Option<f64>,

    sliding_window: Option<usize>,
    use_sliding_window: Option<bool>,
    max_window_layers: Option<usize>,
    sliding_window_pattern: Option<usize>,
    /// What later versions call it.
    #[serde(rename = "_sliding_window_pattern")]
    private_window_pattern: Option<usize>,
    layer_types: Option<Vec<String>>,

    query_pre_attn_scalar: Option<f64>,
    attn_logit_softcapping: Option<f64>,
    final_logit_softcapping: Option<f64>,
    use_bidirectional_attention: Option<bool>,
    quantization_config: Option<Json>,
}

/// transformers 5 writes one set of parameters, or one for each kind of layer.
#[derive(Deserialize)]
#[serde(untagged)]
enum HfRopeParameters {
    PerLayerType { full_attention: Box<HfRope>, sliding_attention: Option<Box<HfRope>> },
    One(Box<HfRope>),
}

#[derive(Default, Deserialize)]
struct HfRope {
    rope_type: Option<String>,
    /// The older name of `rope_type`; some files have both.
    r#type: Option<String>,
    rope_theta: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<f64>,
    short_factor: Option<Vec<f32>>,
    long_factor: Option<Vec<f32>>,
    attention_factor: Option<f64>,
    partial_rotary_factor: Option<f64>,
}

impl Config {
    /// Reads Hugging Face's `config.json`.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for a model that can't be built.
    pub fn from_json(text: &[u8]) -> Result<Self, ConfigError> {
        let (json, tensor_prefix) = text_model(serde_json::from_slice(text)?);
        let Some(Json::String(model_type)) = json.get("model_type") else {
            return Err(serde_json::Error::missing_field("model_type").into());
        };
        let family = Family::from_model_type(model_type)?;
        let raw: HfConfig = serde_json::from_value(with_defaults(family, json))?;
        raw.check(family)?;
        raw.config(family, tensor_prefix)?.checked()
    }
}

/// The part of a `config.json` that describes the decoder, and what its tensors' names begin with.
///
/// A Gemma 3 that sees has the settings of its text model inside, and tensors of two networks.
fn text_model(mut json: Map<String, Json>) -> (Map<String, Json>, &'static str) {
    if json.get("model_type").is_some_and(|kind| kind == "gemma3")
        && let Some(Json::Object(mut text)) = json.remove("text_config")
    {
        let family = Family::Gemma3.model_type();
        text.insert("model_type".to_owned(), family.into());
        for key in ["tie_word_embeddings", "quantization_config"] {
            if let Some(value) = json.remove(key) {
                text.insert(key.to_owned(), value);
            }
        }
        return (text, "language_model.");
    }
    (json, "")
}

/// What transformers assumes for keys that a file leaves out.
fn with_defaults(family: Family, mut json: Map<String, Json>) -> Json {
    let gemma = json!({
        "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
        "rms_norm_eps": 1e-6, "tie_word_embeddings": true, "query_pre_attn_scalar": 256,
        "sliding_window": 4096, "hidden_activation": "gelu_pytorch_tanh",
    });
    let defaults = match family {
        Family::Llama => json!({}),
        Family::Phi3 => json!({ "original_max_position_embeddings": 4096 }),
        Family::Mistral => json!({ "sliding_window": 4096, "num_key_value_heads": 8 }),
        Family::Qwen2 => json!({ "sliding_window": 4096, "max_window_layers": 28 }),
        Family::Qwen3 => {
            json!({ "sliding_window": 4096, "max_window_layers": 28, "head_dim": 128 })
        }
        Family::Gemma2 => with(
            gemma,
            json!({
                "max_position_embeddings": 8192, "attn_logit_softcapping": 50.0,
                "final_logit_softcapping": 30.0, "vocab_size": 256_000,
            }),
        ),
        Family::Gemma3 => with(
            gemma,
            json!({
                "max_position_embeddings": 131_072, "rope_theta": 1e6,
                "rope_local_base_freq": 1e4, "vocab_size": 262_208,
            }),
        ),
    };
    if let Json::Object(defaults) = defaults {
        for (key, value) in defaults {
            json.entry(key).or_insert(value);
        }
    }
    Json::Object(json)
}

pub(super) fn with(mut json: Json, more: Json) -> Json {
    if let (Json::Object(json), Json::Object(more)) = (&mut json, more) {
        json.extend(more);
    }
    json
}

impl HfConfig {
    /// Refuses what would otherwise be left out of the arithmetic without a word.
    fn check(&self, family: Family) -> Result<(), ConfigError> {
        let is_gemma_3 = family == Family::Gemma3;
        let refused = [
            (self.use_bidirectional_attention == Some(true), "use_bidirectional_attention"),
            (self.quantization_config.is_some(), "quantization_config"),
            (is_gemma_3 && self.attn_logit_softcapping.is_some(), "attn_logit_softcapping"),
            (self.attention_bias && !family.reads_attention_bias(), "attention_bias"),
            (self.mlp_bias && family != Family::Llama, "mlp_bias"),
        ];
        match refused.into_iter().find(|(is_refused, _)| *is_refused) {
            Some((_, feature)) => {
                let feature = format!("{feature} of a {} model", family.model_type());
                Err(ConfigError::Unsupported { feature })
            }
            None => Ok(()),
        }
    }

    fn config(self, family: Family, tensor_prefix: &'static str) -> Result<Config, ConfigError> {
        let head_dim = match self.head_dim {
            Some(head_dim) => head_dim,
            None => divide("hidden_size", self.hidden_size, self.num_attention_heads)?,
        };
        let attention_bias = self.attention_bias && family.reads_attention_bias();
        let windows = self.windows(family)?;
        let activation = self.activation(family)?;
        let Ropes { rotary_dim, rope_theta, rope_scaling, local_rope_theta } =
            self.ropes(family, head_dim)?;
        Ok(Config {
            family,
            tensor_prefix,
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            vocab_size: self.vocab_size,
            n_layers: self.num_hidden_layers,
            n_heads: self.num_attention_heads,
            n_kv_heads: self.num_key_value_heads.unwrap_or(self.num_attention_heads),
            head_dim,
            rotary_dim,
            rms_norm_eps: self.rms_norm_eps,
            rope_theta,
            rope_scaling,
            local_rope_theta,
            max_position_embeddings: self.max_position_embeddings,
            tie_word_embeddings: self.tie_word_embeddings,
            windows,
            query_pre_attn_scalar: self
                .query_pre_attn_scalar
                .filter(|_| family.is_gemma())
                .unwrap_or(head_dim as f64),
            attention_softcap: self.attn_logit_softcapping.filter(|_| family.is_gemma()),
            logit_softcap: self.final_logit_softcapping.filter(|_| family.is_gemma()),
            activation,
            qkv_bias: attention_bias || family == Family::Qwen2,
            o_bias: attention_bias,
            mlp_bias: self.mlp_bias,
            ..Config::of_family(family)
        })
    }

    fn activation(&self, family: Family) -> Result<Activation, ConfigError> {
        let (key, name) = if family.is_gemma() {
            ("hidden_activation", &self.hidden_activation)
        } else {
            ("hidden_act", &self.hidden_act)
        };
        match name.as_deref() {
            None => Ok(Config::of_family(family).activation),
            Some("silu" | "swish") => Ok(Activation::Silu),
            Some("gelu_pytorch_tanh") => Ok(Activation::GeluTanh),
            Some(other) => Err(ConfigError::Unsupported { feature: format!("{key} {other:?}") }),
        }
    }

    fn windows(&self, family: Family) -> Result<Vec<Option<usize>>, ConfigError> {
        let n_layers = self.num_hidden_layers;
        // Before room is made for a number that a file claims.
        if n_layers > MAX_LAYERS {
            let (field, value) = ("num_hidden_layers", n_layers as f64);
            return Err(ConfigError::Number { field, value });
        }
        let window = match family {
            Family::Llama => None,
            Family::Qwen2 | Family::Qwen3 => {
                self.sliding_window.filter(|_| self.use_sliding_window == Some(true))
            }
            _ => self.sliding_window,
        };
        let has_layer_types = !matches!(family, Family::Llama | Family::Mistral | Family::Phi3);
        if has_layer_types && let Some(types) = &self.layer_types {
            return windows_of_types(types, n_layers, window);
        }
        if let (Family::Qwen2 | Family::Qwen3, Some(first)) = (family, self.max_window_layers) {
            return Ok((0..n_layers).map(|index| window.filter(|_| index >= first)).collect());
        }
        let pattern = self.sliding_window_pattern.or(self.private_window_pattern);
        let pattern = match (family, pattern) {
            (Family::Gemma3, Some(pattern)) if pattern > 1 => pattern,
            _ => family.window_pattern(),
        };
        Ok(windows(n_layers, window, pattern))
    }

    fn ropes(&self, family: Family, head_dim: usize) -> Result<Ropes, ConfigError> {
        let none = HfRope::default();
        // transformers 5 writes `rope_parameters`, earlier versions the other.
        let (rope, local) = match (&self.rope_parameters, &self.rope_scaling) {
            (Some(HfRopeParameters::PerLayerType { full_attention, sliding_attention }), _) => {
                (full_attention.as_ref(), sliding_attention.as_deref())
            }
            (Some(HfRopeParameters::One(rope)), _) => (rope.as_ref(), None),
            (None, Some(rope)) => (rope, None),
            (None, None) => (&none, None),
        };
        if let Some(kind) = local.and_then(HfRope::kind).filter(|kind| *kind != "default") {
            let feature = format!("rope scaling {kind:?} of layers with a window");
            return Err(ConfigError::Unsupported { feature });
        }
        let part = rope.partial_rotary_factor.or(self.partial_rotary_factor).unwrap_or(1.0);
        let local_rope_theta = local.and_then(|rope| rope.rope_theta).or(self.rope_local_base_freq);
        Ok(Ropes {
            rotary_dim: (head_dim as f64 * part) as usize,
            rope_theta: rope.rope_theta.or(self.rope_theta).unwrap_or(10_000.0),
            rope_scaling: self.scaling(rope, family)?,
            local_rope_theta: local_rope_theta.filter(|_| family == Family::Gemma3),
        })
    }

    fn scaling(&self, rope: &HfRope, family: Family) -> Result<RopeScaling, ConfigError> {
        let missing = |field| ConfigError::Number { field, value: f64::NAN };
        let factor = || rope.factor.ok_or(missing("rope factor"));
        let kind = match rope.kind() {
            // What Phi-3's first files call it.
            Some("su" | "yarn") if family == Family::Phi3 => Some("longrope"),
            kind => kind,
        };
        match kind {
            None | Some("default") => Ok(RopeScaling::None),
            Some("linear") => Ok(RopeScaling::Linear { factor: factor()? }),
            Some("llama3") => Ok(RopeScaling::Llama3 {
                factor: factor()?,
                low_freq_factor: rope.low_freq_factor.ok_or(missing("low_freq_factor"))?,
                high_freq_factor: rope.high_freq_factor.ok_or(missing("high_freq_factor"))?,
                original: rope
                    .original_max_position_embeddings
                    .ok_or(missing("original_max_position_embeddings"))?,
            }),
            Some("longrope") => {
                let original = self
                    .original_max_position_embeddings
                    .or(rope.original_max_position_embeddings.map(|length| length as usize))
                    .unwrap_or(self.max_position_embeddings);
                let longer = self.max_position_embeddings as f64 / original as f64;
                let factor = rope.factor.unwrap_or(longer);
                Ok(RopeScaling::LongRope {
                    short: rope.short_factor.clone().ok_or(missing("short_factor"))?,
                    long: rope.long_factor.clone().ok_or(missing("long_factor"))?,
                    original,
                    attention_factor: rope
                        .attention_factor
                        .unwrap_or_else(|| RopeScaling::attention_factor(factor, original)),
                })
            }
            Some(other) => {
                Err(ConfigError::Unsupported { feature: format!("rope scaling {other:?}") })
            }
        }
    }
}

struct Ropes {
    rotary_dim: usize,
    rope_theta: f64,
    rope_scaling: RopeScaling,
    local_rope_theta: Option<f64>,
}

impl HfRope {
    fn kind(&self) -> Option<&str> {
        self.rope_type.as_deref().or(self.r#type.as_deref())
    }
}

impl Family {
    /// Whether transformers gives the attention's projections biases if `attention_bias` says so.
    fn reads_attention_bias(self) -> bool {
        !matches!(self, Self::Mistral | Self::Qwen2 | Self::Phi3)
    }
}

fn windows_of_types(
    types: &[String],
    n_layers: usize,
    window: Option<usize>,
) -> Result<Vec<Option<usize>>, ConfigError> {
    if types.len() != n_layers {
        return Err(ConfigError::LayerTypes { found: types.len(), expected: n_layers });
    }
    let window_of = |kind: &String| match kind.as_str() {
        "full_attention" => Ok(None),
        "sliding_attention" => Ok(window),
        other => Err(ConfigError::Unsupported { feature: format!("layer type {other:?}") }),
    };
    types.iter().map(window_of).collect()
}
