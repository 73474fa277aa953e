//! Tiny seeded things that the tests of all crates use.
//!
//! Each maker returns plain data, which a test may change before it writes it:
//!
//! ```
//! use meav_test_support::{TINY, TinyModel, tiny_model};
//!
//! let mut model = tiny_model(&TinyModel { sharded: true, ..TINY });
//! model.config["hidden_act"] = "gelu".into();
//! let folder = model.in_temp_dir();
//! assert!(folder.path().join("model.safetensors.index.json").is_file());
//! ```
//!
//! The same options give the same bytes. This crate depends on none of the others, so that it
//! can't share their mistakes.

#![expect(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "what can't be made fails the test, which is all that anybody wants here"
)]

mod adapter;
pub mod broken;
mod chain;
mod dpo_steps;
mod family;
mod gguf;
mod model;
mod tensor;
mod tokenizer;
pub mod tolerance;
mod vector_file;

pub use adapter::{Adapter, tiny_adapter};
pub use chain::chain;
pub use dpo_steps::{
    DpoCase, DpoLora, DpoPair, DpoStep, DpoSteps, demo_dpo_steps, dpo_steps, first_lora_factor,
};
pub use family::{FamilyCase, FamilyCases, families};
pub use gguf::{Gguf, GgufTensor, GgufType, GgufValue, tiny_gguf};
pub use model::{ModelFolder, TINY, TinyModel, tiny_model};
pub use tensor::{Dtype, Tensor, safetensors_bytes};
pub use tokenizer::{CHAT_TEMPLATE, PreTokenizer, VOCAB_SIZE, special};
pub use tolerance::assert_close;
pub use vector_file::{VectorFile, tiny_dense_vector, tiny_low_rank_vector};
