//! The operations of this module by CUDA kernels; each does what its namesake does.

use std::ops::Range;

use candle_core::{DType, Result, Tensor};
use meav_cuda::{Grid, Launch, Matrix, multiply};

use crate::Activation;
use crate::kernels::attention::{AttentionRule, HeadLayout, Sequences};
use crate::kernels::gpu::{
    ATTENTION_WARPS, ROW_THREADS, Seen, Turns, WARP, cache_capacity, kernel, kernel_for,
    kernel_for_heads, room,
};
use crate::kernels::norm::NormRule;

/// Neighbouring parts of each row that are normalised by themselves.
struct Parts {
    row_len: usize,
    start: usize,
    count: usize,
    dim: usize,
}

impl Parts {
    fn words(&self) -> [i32; 4] {
        [self.row_len, self.start, self.count, self.dim].map(|n| n as i32)
    }

    /// Turns `dy` into the gradient of `x`, in place, and adds that of the weight.
    fn backward(
        &self,
        x: &Tensor,
        weight: &Tensor,
        rule: NormRule,
        dy: &Tensor,
        dweight: Option<&Tensor>,
    ) -> Result<()> {
        let n_rows = x.dim(0)?;
        let threads = if self.count == 1 { ROW_THREADS } else { WARP };
        let grid = Grid::of_blocks([n_rows, self.count], threads);
        if let Some(dweight) = dweight {
            if dweight.dims() != [self.dim] {
                candle_core::bail!("a norm's gradient is {:?}", dweight.shape());
            }
            let d_normed = room((n_rows, self.count * self.dim), x)?;
            let launch = Launch::new(kernel("norm_backward", "norm_weight_parts"), grid)
                .tensor(&d_normed)
                .tensor(dy)
                .tensor(x)
                .value(rule.eps)
                .value(self.words());
            // SAFETY: x and dy have rows with these parts, the result has a row for each.
            unsafe { launch.run(x) }?;
            add_rows(dweight, &d_normed.reshape((n_rows * self.count, self.dim))?)?;
        }
        let names = ["norm_backward_f32", "norm_backward_f16", "norm_backward_bf16"];
        let launch = Launch::new(kernel_for(weight.dtype(), "norm_backward", names)?, grid)
            .tensor(dy)
            .tensor(x)
            .tensor(weight)
            .value(rule.offset)
            .value(rule.eps)
            .value(self.words());
        // SAFETY: x and dy have rows with these parts, the weight is that of one.
        unsafe { launch.run(x) }
    }
}

/// Adds all rows of `x` to `sums`; in the same order each time.
fn add_rows(sums: &Tensor, x: &Tensor) -> Result<()> {
    /// Rows that a thread adds up, where there are more.
    const TASK: usize = 64;
    let (n_rows, n) = x.dims2()?;
    if sums.dims() != [n] {
        candle_core::bail!("{:?} are the sums of {:?}", sums.shape(), x.shape());
    }
    let grid = Grid::of_elements(n);
    if n_rows > TASK {
        let n_parts = n_rows.div_ceil(TASK);
        let parts = room((n_parts, n), x)?;
        let blocks = [grid.blocks[0], n_parts, 1];
        let launch = Launch::new(kernel("norm_backward", "sum_rows"), Grid { blocks, ..grid })
            .tensor(&parts)
            .tensor(x)
            .value(n_rows as u64)
            .value(TASK as u64)
            .value(n as i32);
        // SAFETY: there is a part for each block of rows.
        unsafe { launch.run(x) }?;
        return add_rows(sums, &parts);
    }
    let launch = Launch::new(kernel("norm_backward", "add_rows"), grid)
        .tensor(sums)
        .tensor(x)
        .value(n_rows as u64)
        .value(n as i32);
    // SAFETY: x has rows as long as the sums.
    unsafe { launch.run(x) }
}

pub(super) fn rms_norm_backward(
    x: &Tensor,
    weight: &Tensor,
    rule: NormRule,
    dy: &Tensor,
    dweight: Option<&Tensor>,
) -> Result<Tensor> {
    let (_, n) = x.dims2()?;
    let dx = dy.copy()?;
    let parts = Parts { row_len: n, start: 0, count: 1, dim: n };
    parts.backward(x, weight, rule, &dx, dweight)?;
    Ok(dx)
}

pub(super) fn norm_heads_backward(
    qkv: &Tensor,
    [q_weight, k_weight]: [&Tensor; 2],
    rule: NormRule,
    heads: HeadLayout,
    dqkv: &Tensor,
    dweights: Option<(&Tensor, &Tensor)>,
) -> Result<()> {
    let HeadLayout { n_heads, n_kv_heads, head_dim } = heads;
    let (row_len, keys) = (heads.row_len(), heads.keys_start());
    let queries = Parts { row_len, start: 0, count: n_heads, dim: head_dim };
    queries.backward(qkv, q_weight, rule, dqkv, dweights.map(|it| it.0))?;
    let keys = Parts { start: keys, count: n_kv_heads, ..queries };
    keys.backward(qkv, k_weight, rule, dqkv, dweights.map(|it| it.1))
}

pub(super) fn gated_backward(
    gate_up: &Tensor,
    activation: Activation,
    dy: &Tensor,
) -> Result<Tensor> {
    let (n_rows, n_in) = gate_up.dims2()?;
    let n = n_in / 2;
    if dy.dims() != [n_rows, n] {
        candle_core::bail!("the gradient is {:?} for {n_rows} × {n}", dy.shape());
    }
    let dx = room((n_rows, n_in), gate_up)?;
    let grid = Grid::of_elements(n_rows * n);
    let launch = Launch::new(kernel("gated_backward", "gated_backward"), grid)
        .tensor(&dx)
        .tensor(gate_up)
        .tensor(dy)
        .value(n_rows as u64)
        .value(n as i32)
        .value(i32::from(activation == Activation::GeluTanh));
    // SAFETY: gate_up and dx are (T, 2 n), dy (T, n).
    unsafe { launch.run(gate_up) }?;
    Ok(dx)
}

pub(super) fn attention_backward(
    qkv: &Tensor,
    keys: &Tensor,
    values: &Tensor,
    rule: AttentionRule,
    sequences: Sequences<'_>,
    dout: &Tensor,
) -> Result<Tensor> {
    /// Floats of a struct `Stats`.
    const STATS: usize = 3;
    let heads = rule.heads;
    let (n_rows, row_len) = qkv.dims2()?;
    let kernel_named = |names| kernel_for_heads(heads, "attention_backward", names);
    let of_queries = kernel_named([
        "attention_backward_queries_64",
        "attention_backward_queries_128",
        "attention_backward_queries_256",
    ])?;
    let of_keys = kernel_named([
        "attention_backward_keys_64",
        "attention_backward_keys_128",
        "attention_backward_keys_256",
    ])?;
    let capacity = cache_capacity(keys, values, heads)?;
    let turns = Turns::of(sequences.angles, n_rows, qkv)?;
    let seen = Seen::of(&rule, sequences, n_rows, capacity, qkv)?;
    let queries = room((n_rows, heads.n_heads * heads.head_dim), qkv)?;
    let grid = Grid::of_blocks([n_rows, heads.n_heads], WARP);
    let words = heads.words(sequences.angles);
    let launch = Launch::new(kernel("attention_backward", "rotate_queries"), grid)
        .tensor(&queries)
        .tensor(qkv)
        .tensor(&turns.cos)
        .tensor(&turns.sin)
        .value(words);
    // SAFETY: queries are those columns of qkv.
    unsafe { launch.run(qkv) }?;

    let (dqkv, stats) = (room((n_rows, row_len), qkv)?, room((n_rows, heads.n_heads, STATS), qkv)?);
    let shared = ATTENTION_WARPS * heads.head_dim * size_of::<f32>();
    let grid = Grid::of_blocks([n_rows, heads.n_heads], ATTENTION_WARPS * WARP).sharing(shared);
    let launch = Launch::new(of_queries, grid)
        .tensor(&dqkv)
        .tensor(&stats)
        .tensor(&queries)
        .tensor(keys)
        .tensor(values)
        .tensor(dout)
        .tensor(&turns.cos)
        .tensor(&turns.sin)
        .tensor(&seen.blocks)
        .tensor(&seen.block_of_row)
        .tensor(&seen.slots)
        .value(words)
        .value(rule.words())
        .value(capacity as i32);
    // SAFETY: places lie in the cache and rows in qkv, as was looked at.
    unsafe { launch.run(qkv) }?;

    let grid = Grid::of_blocks([n_rows, heads.n_kv_heads], ATTENTION_WARPS * WARP);
    let launch = Launch::new(of_keys, grid.sharing(2 * shared))
        .tensor(&dqkv)
        .tensor(&stats)
        .tensor(&queries)
        .tensor(keys)
        .tensor(values)
        .tensor(dout)
        .tensor(&turns.cos)
        .tensor(&turns.sin)
        .tensor(&seen.blocks)
        .value(seen.n_blocks as i32)
        .tensor(&seen.slots)
        .value(words)
        .value(rule.words())
        .value(capacity as i32);
    // SAFETY: likewise; the token of each row is at the place of its number.
    unsafe { launch.run(qkv) }?;
    Ok(dqkv)
}

pub(super) fn embedding_backward(tokens: &[u32], dx: &Tensor, grad: &Tensor) -> Result<()> {
    let (n_tokens, n) = grad.dims2()?;
    if dx.dims() != [tokens.len(), n] {
        candle_core::bail!("{:?} for {} tokens", dx.shape(), tokens.len());
    }
    if let Some(token) = tokens.iter().find(|token| **token as usize >= n_tokens) {
        candle_core::bail!("token {token} is beyond the vocabulary of {n_tokens}");
    }
    if tokens.is_empty() {
        return Ok(());
    }
    let mut order: Vec<u32> = (0..tokens.len() as u32).collect();
    order.sort_by_key(|row| tokens[*row as usize]);
    let mut starts = vec![0];
    for rows in order.chunk_by(|a, b| tokens[*a as usize] == tokens[*b as usize]) {
        starts.push(starts[starts.len() - 1] + rows.len() as u32);
    }
    let n_groups = starts.len() - 1;
    let list = |values: Vec<u32>| {
        let n = values.len();
        Tensor::from_vec(values, n, dx.device())
    };
    let [tokens, order, starts] = [list(tokens.to_vec())?, list(order)?, list(starts)?];
    let grid = Grid::of_blocks([n_groups, 1], ROW_THREADS);
    let launch = Launch::new(kernel("train", "embedding_backward"), grid)
        .tensor(grad)
        .tensor(dx)
        .tensor(&tokens)
        .tensor(&order)
        .tensor(&starts)
        .value(n as i32);
    // SAFETY: tokens are rows of grad, the order's are rows of dx.
    unsafe { launch.run(dx) }
}

pub(super) fn linear_backward_input(dy: &Tensor, weights: &[Tensor]) -> Result<Tensor> {
    let Some(first) = weights.first() else { candle_core::bail!("there are no weights") };
    let dx = room((dy.dim(0)?, first.dim(1)?), dy)?;
    multiply_backward(&dx, dy, weights, false)?;
    Ok(dx)
}

pub(super) fn add_linear_backward_input(
    dx: &Tensor,
    dy: &Tensor,
    weights: &[Tensor],
) -> Result<()> {
    multiply_backward(dx, dy, weights, true)
}

/// What gradients are rounded to before they are multiplied, where the weights are of `dtype`: what
/// `bf16` holds, but `f16` has no exponents for gradients.
fn product_dtype(dtype: DType) -> DType {
    if dtype == DType::BF16 { dtype } else { DType::F32 }
}

fn multiply_backward(dx: &Tensor, dy: &Tensor, weights: &[Tensor], adds: bool) -> Result<()> {
    let n_outs = weights.iter().map(|it| it.dim(0)).collect::<Result<Vec<_>>>()?;
    if n_outs.iter().sum::<usize>() != dy.dim(1)? {
        candle_core::bail!("the output's gradient is {:?}", dy.shape());
    }
    let dtype = weights.first().map_or(DType::F32, |it| product_dtype(it.dtype()));
    let (dy, mut start) = (dy.to_dtype(dtype)?, 0);
    for (index, (weight, n)) in weights.iter().zip(n_outs).enumerate() {
        let (own, weight) = (Matrix::of(&dy)?.columns(start, n), weight.to_dtype(dtype)?);
        multiply(own, Matrix::of(&weight)?, Matrix::of(dx)?, adds || index > 0)?;
        start += n;
    }
    Ok(())
}

pub(super) fn linear_backward_weights(
    dy: &Tensor,
    x: &Tensor,
    grads: &[Tensor],
    bias_grads: &[Tensor],
    dtype: DType,
) -> Result<()> {
    let dtype = product_dtype(dtype);
    let (x, rounded, mut start) = (x.to_dtype(dtype)?, dy.to_dtype(dtype)?, 0);
    for grad in grads {
        let n = grad.dim(0)?;
        let own = Matrix::of(&rounded)?.columns(start, n);
        multiply(own.transposed(), Matrix::of(&x)?, Matrix::of(grad)?, true)?;
        start += n;
    }
    if start != dy.dim(1)? {
        candle_core::bail!("the output's gradient is {:?}", dy.shape());
    }
    let mut start = 0;
    for (weight_grad, grad) in grads.iter().zip(bias_grads) {
        let n = weight_grad.dim(0)?;
        add_rows(grad, &dy.narrow(1, start, n)?.contiguous()?)?;
        start += n;
    }
    Ok(())
}

pub(super) fn linear_backward_of_columns(
    dy: &Tensor,
    columns: Range<usize>,
    x: &Tensor,
    weight: &Tensor,
    grad: &Tensor,
) -> Result<Tensor> {
    if columns.end > dy.dim(1)? {
        candle_core::bail!("{:?} has no columns {columns:?}", dy.shape());
    }
    let dx = room((dy.dim(0)?, weight.dim(1)?), dy)?;
    let own = Matrix::of(dy)?.columns(columns.start, columns.len());
    multiply(own.transposed(), Matrix::of(x)?, Matrix::of(grad)?, true)?;
    multiply(own, Matrix::of(weight)?, Matrix::of(&dx)?, false)?;
    Ok(dx)
}

/// A kernel that takes the states of rows, `(R, 4)`, an element at a time.
fn over_rows(name: &'static str, values: &Tensor, states: &Tensor) -> Result<(usize, usize)> {
    let (n_rows, n) = values.dims2()?;
    if states.dims() != [n_rows, 4] || states.dtype() != DType::F64 {
        candle_core::bail!("{name} takes a state for each of {n_rows} rows");
    }
    Ok((n_rows, n))
}

pub(super) fn head_fold(
    states: &Tensor,
    logits: &Tensor,
    targets: &[u32],
    first: usize,
) -> Result<()> {
    let (n_rows, n) = over_rows("head_fold", logits, states)?;
    let targets = Tensor::from_slice(targets, targets.len(), logits.device())?;
    let grid = Grid::of_blocks([n_rows, 1], ROW_THREADS);
    let launch = Launch::new(kernel("head", "head_fold"), grid)
        .tensor(states)
        .tensor(logits)
        .tensor(&targets)
        .value(first as u32)
        .value(n as i32);
    // SAFETY: there are a state and a target for each row.
    unsafe { launch.run(logits) }
}

pub(super) fn head_shrink(sums: &Tensor, states: &Tensor) -> Result<()> {
    let (n_rows, n) = over_rows("head_shrink", sums, states)?;
    let launch = Launch::new(kernel("head", "head_shrink"), Grid::of_elements(n_rows * n))
        .tensor(sums)
        .tensor(states)
        .value(n_rows as u64)
        .value(n as i32);
    // SAFETY: there is a state for each row.
    unsafe { launch.run(sums) }
}

pub(super) fn head_weigh(logits: &Tensor, states: &Tensor, soft_cap: Option<f32>) -> Result<()> {
    let (n_rows, n) = over_rows("head_weigh", logits, states)?;
    let launch = Launch::new(kernel("head", "head_weigh"), Grid::of_elements(n_rows * n))
        .tensor(logits)
        .tensor(states)
        .value(n_rows as u64)
        .value(n as i32)
        .value(soft_cap.unwrap_or(0.0));
    // SAFETY: there is a state for each row.
    unsafe { launch.run(logits) }
}

pub(super) fn head_finish(
    sums: &Tensor,
    states: &Tensor,
    own: &Tensor,
    soft_cap: Option<f32>,
) -> Result<()> {
    let (n_rows, n) = over_rows("head_finish", sums, states)?;
    let launch = Launch::new(kernel("head", "head_finish"), Grid::of_elements(n_rows * n))
        .tensor(sums)
        .tensor(states)
        .tensor(own)
        .value(n_rows as u64)
        .value(n as i32)
        .value(soft_cap.unwrap_or(0.0));
    // SAFETY: there is a state for each row, and own is as large as sums.
    unsafe { launch.run(sums) }
}

pub(super) fn head_logit_gradient(
    logits: &Tensor,
    targets: &[u32],
    upstream: &[f32],
    soft_cap: Option<f32>,
) -> Result<()> {
    let (n_rows, n) = logits.dims2()?;
    let targets = Tensor::from_slice(targets, targets.len(), logits.device())?;
    let upstream = Tensor::from_slice(upstream, upstream.len(), logits.device())?;
    let grid = Grid::of_blocks([n_rows, 1], ROW_THREADS);
    let launch = Launch::new(kernel("head", "head_logit_gradient"), grid)
        .tensor(logits)
        .tensor(&targets)
        .tensor(&upstream)
        .value(n as i32)
        .value(soft_cap.unwrap_or(0.0));
    // SAFETY: there are a target and a gradient for each row.
    unsafe { launch.run(logits) }
}
