//! Tensor files, real and broken, as other crates and the disk see them.

#![expect(clippy::float_cmp, reason = "values come out of files as they went in")]
#![expect(clippy::unnecessary_debug_formatting, reason = "messages quote their paths")]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod atomic_writes;
mod broken_files;
mod checkpoints;
mod gguf;
mod hostile_bytes;
mod safetensors_writer;

use std::error::Error;

/// An error and everything behind it.
fn chain(err: &dyn Error) -> String {
    let mut text = err.to_string();
    let mut source = err.source();
    while let Some(err) = source {
        text = format!("{text}: {err}");
        source = err.source();
    }
    text
}
