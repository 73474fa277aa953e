//! The operations of this module by CUDA kernels; each does what its namesake does.

mod pass;

use candle_core::{DType, Device, Result, Tensor};
use meav_cuda::{Grid, Kernel, Launch, Matrix, multiply};

pub(crate) use meav_cuda::is_on_gpu;
pub(crate) use pass::PassOnGpu;
pub(super) use pass::{Seen, Turns};

use super::attention::{AttentionRule, HeadLayout, Sequences};
use super::log_probs::Target;
use super::norm::NormRule;
use crate::Activation;
use crate::rope::Angles;

pub(super) const fn kernel(module: &'static str, name: &'static str) -> Kernel {
    Kernel { module, name }
}

/// Threads of a block that takes a row.
pub(super) const ROW_THREADS: usize = 256;

pub(super) const WARP: usize = 32;

/// Room for `f32` that kernels write, all of it, before anybody reads it.
pub(super) fn room(shape: impl Into<candle_core::Shape>, like: &Tensor) -> Result<Tensor> {
    match like.device() {
        // In tests, what a kernel forgets to write is to be seen.
        Device::Cpu => Tensor::full(f32::NAN, shape, like.device()),
        // SAFETY: any bits are numbers, and kernels write all of them.
        device => unsafe { Tensor::empty(shape, DType::F32, device) },
    }
}

/// The kernel for tensors of this type, out of those for `f32`, `f16` and `bf16`.
pub(super) fn kernel_for(
    dtype: DType,
    module: &'static str,
    names: [&'static str; 3],
) -> Result<Kernel> {
    let [f32, f16, bf16] = names;
    let name = match dtype {
        DType::F32 => f32,
        DType::F16 => f16,
        DType::BF16 => bf16,
        dtype => candle_core::bail!("{f32} is not for {dtype:?}"),
    };
    Ok(kernel(module, name))
}

pub(super) fn rms_norm(x: &Tensor, weight: &Tensor, rule: NormRule) -> Result<Tensor> {
    let (n_rows, n) = x.dims2()?;
    if weight.dims() != [n] {
        candle_core::bail!("{:?} norms {n} elements", weight.dims());
    }
    let y = room((n_rows, n), x)?;
    let names = ["rms_norm_f32", "rms_norm_f16", "rms_norm_bf16"];
    let grid = Grid::of_blocks([n_rows, 1], ROW_THREADS);
    let launch = Launch::new(kernel_for(weight.dtype(), "norm", names)?, grid)
        .tensor(&y)
        .tensor(x)
        .tensor(weight)
        .value(rule.offset)
        .value(rule.eps)
        .value(n as i32);
    // SAFETY: x and y are (T, n), the weight (n,).
    unsafe { launch.run(x) }?;
    Ok(y)
}

pub(super) fn norm_heads(
    qkv: &Tensor,
    q_weight: &Tensor,
    k_weight: &Tensor,
    rule: NormRule,
    heads: HeadLayout,
) -> Result<()> {
    let n_rows = heads.rows_of(qkv)?;
    let dtype = q_weight.dtype();
    let fits = |it: &Tensor| it.dims() == [heads.head_dim] && it.dtype() == dtype;
    if !fits(q_weight) || !fits(k_weight) {
        candle_core::bail!("{:?} and {:?} norm {heads:?}", q_weight, k_weight);
    }
    let names = ["head_norm_f32", "head_norm_f16", "head_norm_bf16"];
    let grid = Grid::of_blocks([n_rows, heads.n_heads + heads.n_kv_heads], WARP);
    let launch = Launch::new(kernel_for(dtype, "norm", names)?, grid)
        .tensor(qkv)
        .tensor(q_weight)
        .tensor(k_weight)
        .value(rule.offset)
        .value(rule.eps)
        .value(heads.n_heads as i32)
        .value(heads.head_dim as i32)
        .value(heads.row_len() as i32);
    // SAFETY: qkv has rows of these heads, the weights are those of one.
    unsafe { launch.run(qkv) }
}

pub(super) fn gated(x: &Tensor, activation: Activation) -> Result<Tensor> {
    let (n_rows, n_in) = x.dims2()?;
    let n = n_in / 2;
    let y = room((n_rows, n), x)?;
    let launch = Launch::new(kernel("elementwise", "gated"), Grid::of_elements(n_rows * n))
        .tensor(&y)
        .tensor(x)
        .value(n_rows as u64)
        .value(n as i32)
        .value(i32::from(activation == Activation::GeluTanh));
    // SAFETY: x is (T, 2 n), y (T, n).
    unsafe { launch.run(x) }?;
    Ok(y)
}

pub(super) fn soft_cap(x: &Tensor, cap: f32) -> Result<()> {
    let n = x.elem_count();
    let launch = Launch::new(kernel("elementwise", "soft_cap"), Grid::of_elements(n))
        .tensor(x)
        .value(n as u64)
        .value(cap);
    // SAFETY: x has n elements.
    unsafe { launch.run(x) }
}

pub(super) fn add_to(y: &Tensor, x: &Tensor, scale: f32) -> Result<()> {
    if y.shape() != x.shape() {
        candle_core::bail!("shapes {:?} and {:?} differ", y.shape(), x.shape());
    }
    let n = y.elem_count();
    let launch = Launch::new(kernel("elementwise", "add_to"), Grid::of_elements(n))
        .tensor(y)
        .tensor(x)
        .value(scale)
        .value(n as u64);
    // SAFETY: both have n elements.
    unsafe { launch.run(y) }
}

pub(super) fn add_linear_to_columns(
    y: &Tensor,
    x: &Tensor,
    weight: &Tensor,
    start: usize,
) -> Result<()> {
    let ((_, y_len), (n, _)) = (y.dims2()?, weight.dims2()?);
    if start + n > y_len {
        candle_core::bail!("{:?} has no columns {start} to {}", y.shape(), start + n);
    }
    let to = Matrix::of(y)?.columns(start, n);
    multiply(Matrix::of(x)?, Matrix::of(weight)?.transposed(), to, true)
}

/// Rows up to which a product is bound by reading the weights.
const MAX_VECTOR_ROWS: usize = 8;

/// Elements that a thread reads of a weight at once.
const CHUNK: usize = 8;

/// Weights that one kernel takes.
const MAX_PANELS: usize = 4;

pub(super) fn linear(x: &Tensor, weights: &[Tensor], biases: &[Tensor]) -> Result<Tensor> {
    let (n_rows, n_in) = x.dims2()?;
    let mut ends = Vec::with_capacity(weights.len());
    for weight in weights {
        let (n_out, n) = weight.dims2()?;
        if n != n_in || weight.dtype() != weights[0].dtype() {
            candle_core::bail!("{:?} of {:?} for {n_in}", weight.shape(), weight.dtype());
        }
        ends.push(ends.last().copied().unwrap_or(0) + n_out);
    }
    let Some(n_out) = ends.last().copied() else { candle_core::bail!("there are no weights") };
    let y = room((n_rows, n_out), x)?;
    let is_narrow =
        n_rows <= MAX_VECTOR_ROWS && n_in.is_multiple_of(CHUNK) && weights.len() <= MAX_PANELS;
    if is_narrow {
        multiply_vectors(&y, x, weights, &ends)?;
    } else {
        let x = rounded(x, weights[0].dtype())?;
        for (weight, end) in weights.iter().zip(&ends) {
            let n = weight.dim(0)?;
            let to = Matrix::of(&y)?.columns(end - n, n);
            multiply(Matrix::of(&x)?, Matrix::of(weight)?.transposed(), to, false)?;
        }
    }
    add_biases(&y, biases)?;
    Ok(y)
}

/// What goes into a product with weights of a type. In `f16` what is beyond its numbers becomes the
/// largest of them: infinities would leave no number behind a softmax.
fn rounded(x: &Tensor, dtype: DType) -> Result<Tensor> {
    const LARGEST: f32 = 65_504.0;
    if dtype == DType::F16 {
        x.clamp(-LARGEST, LARGEST)?.to_dtype(dtype)
    } else {
        x.to_dtype(dtype)
    }
}

/// Adds biases that stand side by side, as they are: they move with the knobs.
fn add_biases(y: &Tensor, biases: &[Tensor]) -> Result<()> {
    let (n_rows, row_len) = y.dims2()?;
    let mut start = 0;
    for bias in biases {
        let n = bias.dims1()?;
        if start + n > row_len {
            candle_core::bail!("biases for more than {row_len} outputs");
        }
        let names = ["add_bias_f32", "add_bias_f16", "add_bias_bf16"];
        let grid = Grid::of_blocks([n_rows, n.div_ceil(ROW_THREADS)], ROW_THREADS);
        let launch = Launch::new(kernel_for(bias.dtype(), "linear", names)?, grid)
            .tensor(y)
            .tensor(bias)
            .value(row_len as i32)
            .value(start as i32)
            .value(n as i32);
        // SAFETY: y has these columns.
        unsafe { launch.run(y) }?;
        start += n;
    }
    if !biases.is_empty() && start != row_len {
        candle_core::bail!("{start} biases for {row_len} outputs");
    }
    Ok(())
}

fn multiply_vectors(y: &Tensor, x: &Tensor, weights: &[Tensor], ends: &[usize]) -> Result<()> {
    /// Outputs of a block, each by a warp.
    const OUTPUTS: usize = 4;
    let (n_rows, n_in) = x.dims2()?;
    let names = ["linear_f32", "linear_f16", "linear_bf16"];
    let n_out = y.dim(1)?;
    let grid = Grid::of_blocks([n_out.div_ceil(OUTPUTS), 1], OUTPUTS * WARP);
    let mut panel_ends = [0_i32; MAX_PANELS];
    for (to, end) in panel_ends.iter_mut().zip(ends) {
        *to = *end as i32;
    }
    // The last one again where there are fewer.
    let panel = |index: usize| &weights[index.min(weights.len() - 1)];
    let launch = Launch::new(kernel_for(weights[0].dtype(), "linear", names)?, grid)
        .tensor(y)
        .tensor(x)
        .tensor(panel(0))
        .tensor(panel(1))
        .tensor(panel(2))
        .tensor(panel(3))
        .value(panel_ends)
        .value(weights.len() as i32)
        .value(n_rows as i32)
        .value(n_in as i32);
    // SAFETY: x is (T, in), each weight (outᵢ, in), y (T, Σ outᵢ).
    unsafe { launch.run(x) }
}

impl HeadLayout {
    /// Rows of a tensor of projected queries, keys and values.
    fn rows_of(self, qkv: &Tensor) -> Result<usize> {
        let (n_rows, row_len) = qkv.dims2()?;
        if row_len != self.row_len() {
            candle_core::bail!("rows of {row_len} elements for {self:?}");
        }
        Ok(n_rows)
    }

    /// As kernels take it.
    pub(super) fn words(self, angles: &Angles) -> [i32; 4] {
        [self.n_heads, self.n_kv_heads, self.head_dim, angles.half].map(|n| n as i32)
    }
}

impl AttentionRule {
    /// As kernels take it.
    pub(super) fn words(self) -> [u32; 3] {
        let window = self.window.map_or(0, |it| i32::try_from(it).unwrap_or(i32::MAX) as u32);
        [self.scale.to_bits(), self.softcap.unwrap_or(0.0).to_bits(), window]
    }
}

pub(super) fn append_to_cache(
    qkv: &Tensor,
    keys: &Tensor,
    values: &Tensor,
    heads: HeadLayout,
    position: usize,
    angles: &Angles,
) -> Result<()> {
    let n_rows = heads.rows_of(qkv)?;
    let capacity = cache_capacity(keys, values, heads)?;
    if position + n_rows > capacity {
        candle_core::bail!("the cache holds {capacity} positions");
    }
    let turns = Turns::of(angles, n_rows, qkv)?;
    let grid = Grid::of_blocks([n_rows, heads.n_kv_heads], WARP);
    let launch = Launch::new(kernel("attention", "append_to_cache"), grid)
        .tensor(keys)
        .tensor(values)
        .tensor(qkv)
        .tensor(&turns.cos)
        .tensor(&turns.sin)
        .value(heads.words(angles))
        .value(position as i32)
        .value(capacity as i32);
    // SAFETY: the cache has room for the rows, as was looked at.
    unsafe { launch.run(qkv) }
}

/// Positions of a cache, `(kv_heads, capacity, D)`.
pub(super) fn cache_capacity(keys: &Tensor, values: &Tensor, heads: HeadLayout) -> Result<usize> {
    let (n_kv_heads, capacity, head_dim) = keys.dims3()?;
    if [n_kv_heads, head_dim] != [heads.n_kv_heads, heads.head_dim] || values.dims() != keys.dims()
    {
        candle_core::bail!("{:?} and {:?} for {heads:?}", keys.shape(), values.shape());
    }
    Ok(capacity)
}

/// Warps that share a query's keys.
pub(super) const ATTENTION_WARPS: usize = 4;

/// As many where there are so few queries that they would leave most of a GPU idle.
const LONELY_WARPS: usize = 16;

/// Heads of queries from which on a GPU is busy.
const MANY_HEADS: usize = 512;

pub(super) fn attention(
    qkv: &Tensor,
    keys: &Tensor,
    values: &Tensor,
    rule: AttentionRule,
    sequences: Sequences<'_>,
) -> Result<Tensor> {
    let heads = rule.heads;
    let n_rows = heads.rows_of(qkv)?;
    let names = ["attention_64", "attention_128", "attention_256"];
    let kernel = kernel_for_heads(heads, "attention", names)?;
    let capacity = cache_capacity(keys, values, heads)?;
    let turns = Turns::of(sequences.angles, n_rows, qkv)?;
    let seen = Seen::of(&rule, sequences, n_rows, capacity, qkv)?;
    let out = room((n_rows, heads.n_heads * heads.head_dim), qkv)?;
    let is_lonely = heads.n_heads * n_rows < MANY_HEADS;
    let n_warps = if is_lonely { LONELY_WARPS } else { ATTENTION_WARPS };
    let shared = n_warps * (2 + heads.head_dim) * size_of::<f32>();
    let grid = Grid::of_blocks([n_rows, heads.n_heads], n_warps * WARP).sharing(shared);
    let launch = Launch::new(kernel, grid)
        .tensor(&out)
        .tensor(qkv)
        .tensor(keys)
        .tensor(values)
        .tensor(&turns.cos)
        .tensor(&turns.sin)
        .tensor(&seen.blocks)
        .tensor(&seen.block_of_row)
        .tensor(&seen.slots)
        .value(heads.words(sequences.angles))
        .value(rule.words())
        .value(capacity as i32);
    // SAFETY: places lie in the cache and rows in qkv, as was looked at.
    unsafe { launch.run(qkv) }?;
    Ok(out)
}

/// The kernel for heads of this size, out of those for up to 64, 128 and 256 elements.
pub(super) fn kernel_for_heads(
    heads: HeadLayout,
    module: &'static str,
    names: [&'static str; 3],
) -> Result<Kernel> {
    let name = match heads.head_dim {
        0..=64 => names[0],
        65..=128 => names[1],
        129..=256 => names[2],
        n => candle_core::bail!("heads of {n} elements are not for the GPU"),
    };
    Ok(kernel(module, name))
}

pub(super) fn token_log_probs(logits: &Tensor, targets: &[Target]) -> Result<Vec<f32>> {
    let (n_rows, n) = logits.dims2()?;
    if targets.is_empty() {
        return Ok(Vec::new());
    }
    for Target { row, token } in targets {
        if *token as usize >= n || *row >= n_rows {
            candle_core::bail!("token {token} is beyond the vocabulary of {n}");
        }
    }
    let list = |each: fn(&Target) -> u32| {
        Tensor::from_vec(
            targets.iter().map(each).collect::<Vec<_>>(),
            targets.len(),
            logits.device(),
        )
    };
    let (rows, tokens) = (list(|it| it.row as u32)?, list(|it| it.token)?);
    let out = room(targets.len(), logits)?;
    let grid = Grid::of_blocks([targets.len(), 1], ROW_THREADS);
    let launch = Launch::new(kernel("log_probs", "token_log_probs"), grid)
        .tensor(&out)
        .tensor(logits)
        .tensor(&rows)
        .tensor(&tokens)
        .value(n as i32);
    // SAFETY: rows and tokens are within the logits.
    unsafe { launch.run(logits) }?;
    out.to_vec1()
}

pub(super) fn square_sum(tensors: &[&Tensor]) -> Result<f64> {
    /// Parts of each sum, at most.
    const BLOCKS: usize = 256;
    /// Elements of a part, at least.
    const PART: usize = 1 << 12;
    let Some(first) = tensors.first() else { return Ok(0.0) };
    // All parts come to the host together.
    let parts = Tensor::zeros((tensors.len(), BLOCKS), DType::F64, first.device())?;
    for (index, x) in tensors.iter().enumerate() {
        if x.dtype() != DType::F32 {
            candle_core::bail!("only what is f32 is summed");
        }
        let own = parts.narrow(0, index, 1)?;
        let n = x.elem_count();
        let grid = Grid::of_blocks([n.div_ceil(PART).clamp(1, BLOCKS), 1], ROW_THREADS);
        let launch = Launch::new(kernel("train", "square_sums"), grid)
            .tensor(&own)
            .tensor(x)
            .value(n as u64);
        // SAFETY: x has as many elements, and there is a part for each block.
        unsafe { launch.run(x) }?;
    }
    Ok(parts.flatten_all()?.to_vec1::<f64>()?.into_iter().sum())
}
