use crate::ConfigError;

/// A line of models that share one way of putting a decoder together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// Llama 2 and 3.x, and what is built like them (`SmolLM2`, …).
    Llama,
    /// Mistral 7B v0.1 to v0.3: Llama with an optional window.
    Mistral,
    /// Qwen2 and Qwen2.5: biases of queries, keys and values.
    Qwen2,
    /// Qwen3: normalised queries and keys.
    Qwen3,
    /// Gemma 2: norms before and after, soft caps, every other layer with a window.
    Gemma2,
    /// The text part of Gemma 3: normalised queries and keys, five layers of six with a window.
    Gemma3,
    /// Phi-3: fused projections, factors for long contexts.
    Phi3,
}

impl Family {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Llama,
        Self::Mistral,
        Self::Qwen2,
        Self::Qwen3,
        Self::Gemma2,
        Self::Gemma3,
        Self::Phi3,
    ];

    /// The `model_type` of a `config.json`.
    pub fn model_type(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Gemma2 => "gemma2",
            Self::Gemma3 => "gemma3_text",
            Self::Phi3 => "phi3",
        }
    }

    /// transformers' name of the class with an output projection.
    pub fn class(self) -> &'static str {
        match self {
            Self::Llama => "LlamaForCausalLM",
            Self::Mistral => "MistralForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
            Self::Qwen3 => "Qwen3ForCausalLM",
            Self::Gemma2 => "Gemma2ForCausalLM",
            Self::Gemma3 => "Gemma3ForCausalLM",
            Self::Phi3 => "Phi3ForCausalLM",
        }
    }

    /// `general.architecture` of a GGUF. Mistral is a Llama there.
    pub fn gguf_architecture(self) -> &'static str {
        match self {
            Self::Llama | Self::Mistral => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Gemma2 => "gemma2",
            Self::Gemma3 => "gemma3",
            Self::Phi3 => "phi3",
        }
    }

    pub(super) fn from_model_type(model_type: &str) -> Result<Self, ConfigError> {
        Self::find(model_type, Self::model_type)
    }

    /// The first of the families that share an architecture.
    pub(super) fn from_gguf_architecture(architecture: &str) -> Result<Self, ConfigError> {
        Self::find(architecture, Self::gguf_architecture)
    }

    fn find(name: &str, name_of: impl Fn(Self) -> &'static str) -> Result<Self, ConfigError> {
        Self::ALL
            .into_iter()
            .find(|family| name_of(*family) == name)
            .ok_or_else(|| ConfigError::ModelType { model_type: name.to_owned() })
    }

    pub(super) fn is_gemma(self) -> bool {
        matches!(self, Self::Gemma2 | Self::Gemma3)
    }

    /// Every how many layers one sees the whole context; 1 if the windows follow another rule.
    pub(super) fn window_pattern(self) -> usize {
        match self {
            Self::Gemma2 => 2,
            Self::Gemma3 => 6,
            _ => 1,
        }
    }
}
