//! The arithmetic of the forward pass, as candle custom operations.
//!
//! Each file holds one operation and its CPU implementation. Loops are written so that the
//! compiler vectorises them for whatever the processor offers, chosen when the program starts.

#![expect(
    clippy::inline_always,
    reason = "what is not inlined into the dispatched function is compiled without its SIMD"
)]

mod attention;
mod dot;
mod gemm;
mod linear;
mod norm;
mod parallel;
mod simd;
mod swiglu;

pub(crate) use attention::{HeadLayout, append_to_cache, attention};
pub(crate) use linear::linear;
pub(crate) use norm::rms_norm;
pub(crate) use swiglu::swiglu;

use candle_core::{CpuStorage, Layout, Result};

/// A contiguous tensor's values.
fn f32_slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((start, end))) => Ok(&values[start..end]),
        _ => candle_core::bail!("activations must be contiguous and f32"),
    }
}
