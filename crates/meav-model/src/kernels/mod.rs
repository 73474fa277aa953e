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
pub(crate) mod backward;
mod columns;
mod dot;
mod gated;
mod gemm;
#[expect(
    unsafe_code,
    clippy::cast_possible_wrap,
    reason = "kernels take addresses, and sizes far below 2³¹ as signed words"
)]
pub(crate) mod gpu;
mod linear;
mod log_probs;
mod norm;
mod panel;
mod parallel;
#[expect(unsafe_code, reason = "kernels take addresses")]
mod sample;
mod simd;
mod soft_cap;
mod square_sum;

pub(crate) use add::add_to;
pub(crate) use attention::{
    AttentionRule, HeadLayout, Sequence, Sequences, append_to_cache, attention,
};
pub(crate) use columns::add_linear_to_columns;
pub(crate) use gated::gated;
pub(crate) use linear::linear;
pub(crate) use log_probs::{LOGITS, Target, token_log_probs};
pub(crate) use norm::{NormRule, norm_heads, rms_norm};
pub(crate) use sample::sample;
pub(crate) use soft_cap::soft_cap;
pub(crate) use square_sum::square_sum;

use candle_core::{CpuStorage, Layout, Result};

/// A contiguous tensor's values.
fn f32_slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((start, end))) => Ok(&values[start..end]),
        _ => candle_core::bail!("activations must be contiguous and f32"),
    }
}

/// As [`f32_slice`], to be changed.
fn f32_slice_mut<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> Result<&'a mut [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((start, end))) => Ok(&mut values[start..end]),
        _ => candle_core::bail!("what is changed in place must be contiguous and f32"),
    }
}
