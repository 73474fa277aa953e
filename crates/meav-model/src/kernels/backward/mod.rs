//! Gradients of what the forward pass is made of: what a loss changes by with an operation's
//! input, given what it changes by with its output.
//!
//! Nothing here is recorded: who applies the operations keeps their inputs and goes back through
//! them by hand. What a gradient is a sum over is cut in the same places on any number of threads,
//! so that the result is the same, bit for bit.

mod attention;
mod embedding;
mod gated;
#[expect(
    unsafe_code,
    clippy::cast_possible_wrap,
    reason = "kernels take addresses, and sizes far below 2³¹ as signed words"
)]
mod gpu;
mod head;
mod linear;
mod norm;
#[cfg(test)]
mod testing;

pub(crate) use attention::attention_backward;
pub(crate) use embedding::embedding_backward;
pub(crate) use gated::gated_backward;
pub(crate) use head::{HeadPass, head_backward_weights, head_log_probs};
pub(crate) use linear::{
    add_linear_backward_input, linear_backward_input, linear_backward_of_columns,
    linear_backward_weights,
};
pub(crate) use norm::{norm_heads_backward, rms_norm_backward};

use std::ops::Range;

use candle_core::{Result, Storage, Tensor};
use rayon::prelude::*;

use super::add::add;
use super::f32_slice;

/// Lends the values of a tensor that an operation takes beside its arguments.
fn with_values<R>(tensor: &Tensor, work: impl FnOnce(&[f32]) -> Result<R>) -> Result<R> {
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else {
        candle_core::bail!("activations must be on the CPU");
    };
    work(f32_slice(storage, layout)?)
}

/// Adds to `sums` what `work` adds up over each of the rows that it is given.
fn add_row_sums(sums: &mut [f32], n_rows: usize, work: impl Fn(Range<usize>, &mut [f32]) + Sync) {
    /// Rows that one task adds up.
    const TASK: usize = 64;
    let parts: Vec<Vec<f32>> = (0..n_rows.div_ceil(TASK))
        .into_par_iter()
        .map(|task| {
            let mut part = vec![0.0; sums.len()];
            work(task * TASK..n_rows.min((task + 1) * TASK), &mut part);
            part
        })
        .collect();
    for part in parts {
        add(sums, &part, 1.0);
    }
}
