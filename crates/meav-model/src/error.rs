use std::path::PathBuf;

use meav_job::Cancelled;
use meav_weights::WeightsError;

use crate::Family;

/// Why a model could not be loaded or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields are named in each message")]
pub enum ModelError {
    /// A file that every model folder needs is not there.
    #[error("there is no {file} in {path:?}")]
    MissingFile { file: &'static str, path: PathBuf },

    /// A file is there and can't be read.
    #[error("cannot read {path:?}")]
    Read { path: PathBuf, source: std::io::Error },

    /// A model that is put together in a way that is not known here.
    #[error(
        "architecture {architecture:?} is not supported, only {} are, in {path:?}",
        known_families()
    )]
    UnsupportedArchitecture { architecture: String, path: PathBuf },

    /// `config.json` or a GGUF's metadata describe no model that can be built.
    #[error("cannot use the model's configuration {path:?}")]
    Config { path: PathBuf, source: ConfigError },

    /// The tokenizer can't be built.
    #[error("cannot use the tokenizer of {path:?}")]
    Tokenizer { path: PathBuf, source: Box<TokenizerError> },

    /// Text that the tokenizer can't turn into tokens.
    #[error("the conversation could not be tokenised")]
    Encode(#[source] tokenizers::Error),

    /// Tokens that the tokenizer can't turn into text.
    #[error("the reply could not be decoded")]
    Decode(#[source] tokenizers::Error),

    /// The model's files hold no chat template, so that messages can't be turned into a prompt.
    #[error("the model has no chat template")]
    NoChatTemplate,

    /// The chat template is broken, or refuses these messages.
    #[error("the chat template failed")]
    ChatTemplate(#[source] minijinja::Error),

    /// The weights lack a tensor that the configuration promises.
    #[error("tensor {name:?} is missing")]
    MissingTensor { name: String },

    /// A tensor has other dimensions than the configuration says.
    #[error("tensor {name:?} has shape {found:?}, the configuration says {expected:?}")]
    ShapeMismatch { name: String, found: Vec<usize>, expected: Vec<usize> },

    /// Factors were made for something else than a linear layer of this model.
    #[error("no linear layer of the model has a weight called {name:?}")]
    NoLinearLayer { name: String },

    /// The conversation leaves no room for an answer.
    #[error("the conversation has {tokens} tokens, the model can take {limit}")]
    ContextExceeded { tokens: usize, limit: usize },

    /// There is no token in front of the first that is to be scored.
    #[error("there is no prompt in front of the text to be scored")]
    EmptyPrompt,

    /// The tokens of a prompt change when a response follows, so that nothing tells where the
    /// response begins.
    #[error("the prompt's tokens are not those that the whole conversation begins with")]
    PromptNotPrefix,

    /// A sampling setting is out of range.
    #[error("{setting} is {value}, it must be {allowed}")]
    Sampling { setting: &'static str, value: f64, allowed: &'static str },

    /// The backend failed, e.g. out of memory.
    #[error("the model's arithmetic failed")]
    Tensor(#[from] candle_core::Error),

    /// The weights could not be read.
    #[error(transparent)]
    Weights(#[from] WeightsError),

    /// See [`Cancelled`].
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

fn known_families() -> String {
    let names: Vec<&str> = Family::ALL.into_iter().map(Family::model_type).collect();
    names.join(", ")
}

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields are named in each message")]
pub enum ConfigError {
    /// Not JSON of the expected form.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// A number that no model can have.
    #[error("{field} is {value}")]
    Number { field: &'static str, value: f64 },
    /// Two numbers that don't go together.
    #[error("{field} is {value}, which does not divide by {divisor}")]
    Indivisible { field: &'static str, value: usize, divisor: usize },
    /// A list of rotary factors is not as long as half of what is turned in each head.
    #[error("rope scaling has {found} factors, {expected} are needed")]
    RopeFactors { found: usize, expected: usize },
    /// The list of the layers' kinds is not as long as the model is deep.
    #[error("there are {found} layer_types for {expected} layers")]
    LayerTypes { found: usize, expected: usize },
    /// A kind of model that is not known here.
    #[error("architecture {model_type:?} is not supported")]
    ModelType { model_type: String },
    /// A variation of the architecture that is not known here.
    #[error("{feature} is not supported")]
    Unsupported { feature: String },
}

/// What is wrong with a tokenizer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields are named in each message")]
pub enum TokenizerError {
    /// The tokenizers library refuses it.
    #[error(transparent)]
    Library(#[from] tokenizers::Error),
    /// A GGUF's vocabulary of a kind that can't be rebuilt exactly.
    #[error("a GGUF vocabulary of kind {kind:?} cannot be rebuilt exactly")]
    UnsupportedGguf { kind: String },
    /// A GGUF's lists contradict each other.
    #[error("the GGUF's {key} is damaged")]
    DamagedGguf { key: &'static str },
    /// A GGUF's vocabulary that was made to fill the memory.
    #[error("the GGUF's tokens can be put together in more ways than those of any model")]
    TooManyMerges,
    /// It knows more tokens than the model has embeddings.
    #[error("the tokenizer has {tokens} tokens, the model {embeddings} embeddings")]
    TooManyTokens { tokens: usize, embeddings: usize },
    /// The model's turns are written with a token that it has no embedding for.
    #[error("the token {token:?} has the id {id}, the model only {embeddings} embeddings")]
    NoEmbedding { token: String, id: u32, embeddings: usize },
    /// The GGUF lacks a list.
    #[error(transparent)]
    Weights(#[from] WeightsError),
}

/// Why a model can't be written as a GGUF.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields are named in each message")]
pub enum GgufExportError {
    /// llama.cpp would load it, and compute something else.
    #[error("llama.cpp does not compute {feature}")]
    Unsupported { feature: String },
    /// Of a kind that no GGUF has, or none known here.
    #[error("the tokenizer is of a kind that a GGUF cannot hold")]
    Tokenizer,
    /// A tensor that has no place in a GGUF, or a file that can't be read or written.
    #[error(transparent)]
    Weights(#[from] WeightsError),
}
