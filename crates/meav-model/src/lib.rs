//! Language models: everything between a user's message and the next token.
//!
//! [`ModelFiles::open`] reads configuration, tokenizer and chat template of a folder or a GGUF;
//! [`Decoder`] is the network over tensors that somebody else owns and may change between two
//! tokens; [`Generator`] turns a prompt into a streamed reply; [`Decoder::score`] scores given
//! replies, and [`Decoder::differentiable_forward`] does so for training. One decoder serves every
//! [`Family`]: a [`Config`] says what each has and lacks.
//!
//! Shapes use these letters: `T` tokens, `H` hidden size, `I` intermediate size, `V` vocabulary,
//! `D` head dimension. Activations are `f32` on the CPU whatever the dtype of the weights.
//!
//! The decoder is our own because those of candle-transformers return only the last position's
//! logits, rebuild their cache for each token, and cut gradients.

mod chat_template;
mod config;
mod decoder;
mod differentiable;
mod error;
mod generator;
mod gguf_export;
mod kernels;
mod kv_cache;
mod layer;
mod model_files;
mod passes;
mod rope;
mod sampling;
mod score;
mod scoring;
mod tokenizer;
mod tree;

pub use chat_template::{ChatTemplate, Message, with_known_roles};
pub use config::{Activation, Config, Family, RopeScaling};
pub use decoder::{Decoder, Logits};
pub use differentiable::{
    Adapter, Adapters, Checkpointing, ForwardPass, Gradients, ResponseLogProb, Trainable,
};
pub use error::{ConfigError, GgufExportError, ModelError, TokenizerError};
pub use generator::{Finish, Generation, Generator};
pub use gguf_export::GgufExport;
pub use kv_cache::KvCache;
pub use meav_weights::is_weight;
pub use model_files::{ModelFiles, SpecialTokens};
pub use sampling::Sampling;
pub use score::Question;
pub use scoring::ResponseTokens;
pub use tokenizer::vocabulary_fingerprint;
