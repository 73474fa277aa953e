//! Tensor files in and out.
//!
//! A [`Checkpoint`] is what a user points at: a folder in the Hugging Face layout, one safetensors
//! file, or a GGUF file. It lists its tensors by their Hugging Face names, whatever the file calls
//! them, and hands out [`Weight`]s: memory-mapped where the file holds plain floats, dequantised to
//! `f32` where it is a GGUF.
//!
//! What is written is written one tensor at a time: safetensors in one file or in shards, and GGUF
//! for llama.cpp.
//!
//! Files are hostile until checked: every offset and length is compared with the size of the file
//! before it is used.

mod atomic;
mod checkpoint;
mod dtype;
mod error;
mod fingerprint;
mod gguf;
mod integers;
mod mapped_file;
mod memory;
mod metadata;
mod network;
mod safetensors_file;
mod sharded_writer;
mod weight;

pub use atomic::{AtomicDir, write_file_atomically};
pub use checkpoint::{Checkpoint, CheckpointFormat, TensorInfo};
pub use dtype::Dtype;
pub use error::{MalformedReason, WeightsError};
pub use fingerprint::{Fingerprint, Fingerprinter};
pub use gguf::{
    GgufFamily, GgufFile, GgufHeaderError, GgufHeads, GgufTensor, GgufType, GgufValue, GgufWriter,
};
pub use integers::{IntegerDtype, IntegerTensor, Integers};
pub use memory::{
    available_memory_bytes, peak_memory_bytes, process_anonymous_bytes, process_memory_bytes,
    reset_peak_memory, total_memory_bytes,
};
pub use metadata::set_metadata;
pub use network::{is_copied_head, is_weight};
pub use safetensors_file::{SafetensorsWriter, StoredDtype, StoredSpec, TensorSpec};
pub use sharded_writer::{DEFAULT_SHARD_BYTES, ShardedWriter};
pub use weight::{Values, Weight};
