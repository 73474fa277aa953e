//! Tensor files, real and broken, as other crates and the disk see them.

#![expect(clippy::float_cmp, reason = "values come out of files as they went in")]
#![expect(clippy::unnecessary_debug_formatting, reason = "messages quote their paths")]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod atomic_writes;
mod broken_files;
mod checkpoints;
mod gguf;
mod gguf_blocks;
mod gguf_families;
mod gguf_writer;
mod hostile_bytes;
mod integers;
mod metadata;
mod safetensors_writer;
mod sharded_writer;
