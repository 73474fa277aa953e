use serde_json::{Value as Json, json};

use super::hugging_face::with;
use crate::{Config, ConfigError, Family, RopeScaling};

impl Config {
    /// `config.json` for a checkpoint whose base was a GGUF; `special` are the ids that begin a
    /// text and end an answer.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Unsupported`] for a decoder that a `config.json` of its family can't express.
    pub fn to_json(&self, special: [Option<u32>; 2]) -> Result<Json, ConfigError> {
        let json = json!({
            "architectures": [self.family.class()],
            "model_type": self.family.model_type(),
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "vocab_size": self.vocab_size,
            "num_hidden_layers": self.n_layers,
            "num_attention_heads": self.n_heads,
            "num_key_value_heads": self.n_kv_heads,
            "head_dim": self.head_dim,
            "rms_norm_eps": self.rms_norm_eps,
            "rope_theta": self.rope_theta,
            "rope_scaling": self.rope_scaling_json(),
            "max_position_embeddings": self.max_position_embeddings,
            "tie_word_embeddings": self.tie_word_embeddings,
            "bos_token_id": special[0],
            "eos_token_id": special[1],
        });
        let json = with(json, self.of_family_json());
        // What is not written would be lost without a word.
        let read = Self::from_json(json.to_string().as_bytes())?;
        let same = Self { rope_scaling: self.rope_scaling.clone(), ..read } == *self;
        if !same {
            let kind = self.family.model_type();
            let feature = format!("writing this decoder as a {kind} model");
            return Err(ConfigError::Unsupported { feature });
        }
        Ok(json)
    }

    fn of_family_json(&self) -> Json {
        let activation = self.activation.name();
        let window = self.window();
        let layer_types: Vec<&str> = self
            .windows
            .iter()
            .map(|window| if window.is_some() { "sliding_attention" } else { "full_attention" })
            .collect();
        match self.family {
            Family::Llama => json!({
                "hidden_act": activation,
                "attention_bias": self.qkv_bias,
                "mlp_bias": self.mlp_bias,
            }),
            Family::Mistral => json!({ "hidden_act": activation, "sliding_window": window }),
            Family::Qwen2 | Family::Qwen3 => json!({
                "hidden_act": activation,
                "attention_bias": self.o_bias,
                "use_sliding_window": window.is_some(),
                "sliding_window": window,
                "max_window_layers": self.n_layers,
                "layer_types": layer_types,
            }),
            Family::Gemma2 | Family::Gemma3 => json!({
                "hidden_act": activation,
                "hidden_activation": activation,
                "attention_bias": self.qkv_bias,
                "sliding_window": window,
                "layer_types": layer_types,
                "query_pre_attn_scalar": whole(self.query_pre_attn_scalar),
                "attn_logit_softcapping": self.attention_softcap,
                "final_logit_softcapping": self.logit_softcap,
                "rope_local_base_freq": self.local_rope_theta,
            }),
            Family::Phi3 => json!({
                "hidden_act": activation,
                "sliding_window": window,
                "partial_rotary_factor": self.rotary_dim as f64 / self.head_dim as f64,
                "original_max_position_embeddings": match self.rope_scaling {
                    RopeScaling::LongRope { original, .. } => original,
                    _ => self.max_position_embeddings,
                },
                // transformers' own guess lies beyond smaller vocabularies.
                "pad_token_id": null,
            }),
        }
    }

    fn rope_scaling_json(&self) -> Json {
        match &self.rope_scaling {
            RopeScaling::None => Json::Null,
            RopeScaling::Linear { factor } => json!({ "rope_type": "linear", "factor": factor }),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original } => json!({
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": low_freq_factor,
                "high_freq_factor": high_freq_factor,
                "original_max_position_embeddings": *original as usize,
            }),
            RopeScaling::Factors(factors) => {
                match RopeScaling::llama3_of_factors(factors, self.rope_theta) {
                    Some(scaling) => {
                        Self { rope_scaling: scaling, ..self.clone() }.rope_scaling_json()
                    }
                    // Factors that don't depend on the length.
                    None => json!({
                        "rope_type": "longrope",
                        "short_factor": factors,
                        "long_factor": factors,
                        "attention_factor": 1.0,
                        "factor": 1.0,
                        "original_max_position_embeddings": self.max_position_embeddings,
                    }),
                }
            }
            RopeScaling::LongRope { short, long, original, attention_factor } => {
                let mut json =
                    json!({ "type": "longrope", "short_factor": short, "long_factor": long });
                let factor = self.max_position_embeddings as f64 / *original as f64;
                let guess = RopeScaling::attention_factor(factor, *original);
                // Earlier versions of transformers take no more than these three keys for Phi-3.
                if (attention_factor / guess - 1.0).abs() > 1e-6 {
                    json["attention_factor"] = (*attention_factor).into();
                }
                json
            }
        }
    }
}

/// transformers wants an integer.
fn whole(value: f64) -> Json {
    if value.fract() == 0.0 { json!(value as u64) } else { json!(value) }
}
