//! The arithmetic of the forward pass, as candle custom operations.
//!
//! Each file holds one operation and its CPU implementation. Loops are written so that the
//! compiler vectorises them for whatever the processor offers, chosen when the program starts.

#![expect(
    clippy::inline_always,
    reason = "what is not inlined into the dispatched function is compiled without its SIMD"
)]

mod add;
mod attention;
mod dot;
mod gated;
mod gemm;
mod linear;
mod log_probs;
mod norm;
mod parallel;
mod simd;
mod soft_cap;

pub(crate) use add::add_to;
pub(crate) use attention::{
    AttentionRule, HeadLayout, Sequence, Sequences, append_to_cache, attention,
};
pub(crate) use gated::gated;
pub(crate) use linear::linear;
pub(crate) use log_probs::{Target, token_log_probs};
pub(crate) use norm::{NormRule, norm_heads, rms_norm};
pub(crate) use soft_cap::soft_cap;

use candle_core::{CpuStorage, Layout, Result};

/// A contiguous tensor's values.
fn f32_slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((start, end))) => Ok(&values[start..end]),
        _ => candle_core::bail!("activations must be contiguous and f32"),
    }
}
