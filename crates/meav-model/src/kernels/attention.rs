use candle_core::{CpuStorage, CustomOp3, InplaceOp2, Layout, Result, Shape, Tensor};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::dot::{add_weighted_rows, dot_rows};
use super::f32_slice;
use super::gemm::{Matrix, Parallelism, matmul};
use super::parallel::for_each_part;
use super::simd::exp;
use crate::rope::Angles;

/// How heads lie in a row of projected queries, keys and values: `[q … | k … | v …]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadLayout {
    pub(crate) n_heads: usize,
    pub(crate) n_kv_heads: usize,
    pub(crate) head_dim: usize,
}

impl HeadLayout {
    fn row_len(self) -> usize {
        (self.n_heads + 2 * self.n_kv_heads) * self.head_dim
    }

    fn keys_start(self) -> usize {
        self.n_heads * self.head_dim
    }

    fn values_start(self) -> usize {
        (self.n_heads + self.n_kv_heads) * self.head_dim
    }
}

/// Turns the new keys and puts them and the new values behind what the cache holds.
///
/// # Shapes
///
/// `qkv` is `(T, (heads + 2 kv_heads) D)`, `keys` and `values` are `(kv_heads, capacity, D)`.
pub(crate) fn append_to_cache(
    qkv: &Tensor,
    keys: &Tensor,
    values: &Tensor,
    heads: HeadLayout,
    position: usize,
    angles: &Angles,
) -> Result<()> {
    let start = heads.keys_start();
    keys.inplace_op2(qkv, &Append { heads, start, position, angles: Some(angles) })?;
    let start = heads.values_start();
    values.inplace_op2(qkv, &Append { heads, start, position, angles: None })
}

struct Append<'a> {
    heads: HeadLayout,
    /// Where the part to be copied starts in each row.
    start: usize,
    position: usize,
    angles: Option<&'a Angles>,
}

impl InplaceOp2 for Append<'_> {
    fn name(&self) -> &'static str {
        "append-to-cache"
    }

    fn cpu_fwd(
        &self,
        cache: &mut CpuStorage,
        cache_layout: &Layout,
        qkv: &CpuStorage,
        qkv_layout: &Layout,
    ) -> Result<()> {
        let (CpuStorage::F32(cache), Some((0, _))) = (cache, cache_layout.contiguous_offsets())
        else {
            candle_core::bail!("the cache must be contiguous and f32");
        };
        let (_, capacity, head_dim) = cache_layout.shape().dims3()?;
        let rows = f32_slice(qkv, qkv_layout)?.chunks_exact(self.heads.row_len());
        if self.position + rows.len() > capacity {
            candle_core::bail!("the cache holds {capacity} positions");
        }
        for (index, row) in rows.enumerate() {
            for head in 0..self.heads.n_kv_heads {
                let from = &row[self.start + head * head_dim..][..head_dim];
                let at = (head * capacity + self.position + index) * head_dim;
                let to = &mut cache[at..at + head_dim];
                match self.angles {
                    Some(angles) => rotate(from, to, angles, index),
                    None => to.copy_from_slice(from),
                }
            }
        }
        Ok(())
    }
}

fn rotate(from: &[f32], to: &mut [f32], angles: &Angles, index: usize) {
    let half = from.len() / 2;
    let cos = &angles.cos[index * half..][..half];
    let sin = &angles.sin[index * half..][..half];
    for i in 0..half {
        to[i] = from[i] * cos[i] - from[i + half] * sin[i];
        to[i + half] = from[i + half] * cos[i] + from[i] * sin[i];
    }
}

/// Causal attention of the new tokens over everything in the cache, which already holds them.
///
/// ```text
/// softmax(q Kᵀ / √D) V
/// ```
///
/// Source: Vaswani et al., 2017, arXiv:1706.03762, Eq. 1, with grouped queries (Ainslie et al.,
/// 2023, arXiv:2305.13245); keys and values are read in place, not repeated.
///
/// # Shapes
///
/// As [`append_to_cache`]; the result is `(T, heads D)`.
pub(crate) fn attention(
    qkv: &Tensor,
    keys: &Tensor,
    values: &Tensor,
    heads: HeadLayout,
    position: usize,
    angles: &Angles,
) -> Result<Tensor> {
    qkv.apply_op3_no_bwd(keys, values, &Attention { heads, position, angles })
}

struct Attention<'a> {
    heads: HeadLayout,
    position: usize,
    angles: &'a Angles,
}

/// Queries of one head that are taken together: enough for a matrix product to pay, few enough to
/// leave out most of what causality forbids.
const QUERY_BLOCK: usize = 64;

impl CustomOp3 for Attention<'_> {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        qkv: &CpuStorage,
        qkv_layout: &Layout,
        keys: &CpuStorage,
        keys_layout: &Layout,
        values: &CpuStorage,
        values_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let HeadLayout { n_heads, n_kv_heads, head_dim } = self.heads;
        let qkv = f32_slice(qkv, qkv_layout)?;
        let keys = f32_slice(keys, keys_layout)?;
        let values = f32_slice(values, values_layout)?;
        let (_, capacity, _) = keys_layout.shape().dims3()?;
        let n_rows = qkv.len() / self.heads.row_len();
        // Head-major while the heads work apart: (heads, T, D).
        let mut by_head = vec![0.0; n_heads * n_rows * head_dim];
        let block_len = QUERY_BLOCK.min(n_rows) * head_dim;
        let arch = Arch::new();
        let work = |head: usize, block: usize, out: &mut [f32]| {
            let kv_head = head / (n_heads / n_kv_heads);
            let cached = kv_head * capacity * head_dim..(kv_head + 1) * capacity * head_dim;
            arch.dispatch(BlockTask {
                op: self,
                qkv,
                keys: &keys[cached.clone()],
                values: &values[cached],
                head,
                first: block * QUERY_BLOCK,
                out,
            });
        };
        if n_rows == 1 {
            for_each_part(&mut by_head, head_dim, |head, out| work(head, 0, out));
        } else {
            by_head.par_chunks_mut(n_rows * head_dim).enumerate().for_each(|(head, out)| {
                out.par_chunks_mut(block_len)
                    .enumerate()
                    .for_each(|(block, out)| work(head, block, out));
            });
        }
        let out = to_rows(by_head, n_heads, n_rows, head_dim);
        Ok((CpuStorage::F32(out), (n_rows, n_heads * head_dim).into()))
    }
}

fn to_rows(by_head: Vec<f32>, n_heads: usize, n_rows: usize, head_dim: usize) -> Vec<f32> {
    if n_rows == 1 {
        return by_head;
    }
    let mut out = vec![0.0; by_head.len()];
    for (index, values) in by_head.chunks_exact(head_dim).enumerate() {
        let (head, row) = (index / n_rows, index % n_rows);
        out[(row * n_heads + head) * head_dim..][..head_dim].copy_from_slice(values);
    }
    out
}

/// Up to [`QUERY_BLOCK`] queries of one head.
struct BlockTask<'a> {
    op: &'a Attention<'a>,
    qkv: &'a [f32],
    keys: &'a [f32],
    values: &'a [f32],
    head: usize,
    /// The first query's row.
    first: usize,
    out: &'a mut [f32],
}

impl WithSimd for BlockTask<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { op, qkv, keys, values, head, first, out } = self;
        let head_dim = op.heads.head_dim;
        let n_queries = out.len() / head_dim;
        let visible = op.position + first + n_queries;
        let mut queries = vec![0.0; out.len()];
        for (index, query) in queries.chunks_exact_mut(head_dim).enumerate() {
            let row = first + index;
            let from = &qkv[row * op.heads.row_len() + head * head_dim..][..head_dim];
            rotate(from, query, op.angles, row);
        }
        let mut scores = vec![0.0; n_queries * visible];
        if n_queries == 1 {
            dot_rows(simd, &queries, &keys[..visible * head_dim], &mut scores);
        } else {
            let transposed_keys = Matrix {
                values: keys,
                rows: head_dim,
                cols: visible,
                row_stride: 1,
                col_stride: head_dim,
            };
            let queries = row_major(&queries, n_queries, head_dim);
            matmul(&mut scores, visible, queries, transposed_keys, Parallelism::None);
        }
        let scale = 1.0 / (head_dim as f32).sqrt();
        for (index, scores) in scores.chunks_exact_mut(visible).enumerate() {
            softmax(scores, op.position + first + index + 1, scale);
        }
        if n_queries == 1 {
            add_weighted_rows(simd, &scores, values, out);
        } else {
            let weights = row_major(&scores, n_queries, visible);
            let values = row_major(values, visible, head_dim);
            matmul(out, head_dim, weights, values, Parallelism::None);
        }
    }
}

fn row_major(values: &[f32], rows: usize, cols: usize) -> Matrix<'_> {
    Matrix { values, rows, cols, row_stride: cols, col_stride: 1 }
}

/// Softmax of the first `visible` scores, zero behind them.
#[inline(always)]
fn softmax(scores: &mut [f32], visible: usize, scale: f32) {
    let (scores, hidden) = scores.split_at_mut(visible);
    hidden.fill(0.0);
    let mut maxima = [f32::NEG_INFINITY; 16];
    for block in scores.chunks(16) {
        for (max, score) in maxima.iter_mut().zip(block) {
            *max = if score > max { *score } else { *max };
        }
    }
    let max = maxima.into_iter().fold(f32::NEG_INFINITY, f32::max);
    let mut sums = [0.0; 16];
    for block in scores.chunks_mut(16) {
        for (sum, score) in sums.iter_mut().zip(block) {
            *score = exp((*score - max) * scale);
            *sum += *score;
        }
    }
    let inverse = 1.0 / sums.into_iter().sum::<f32>();
    for score in scores {
        *score *= inverse;
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    const HEADS: HeadLayout = HeadLayout { n_heads: 4, n_kv_heads: 2, head_dim: 8 };

    fn angles(start: usize, len: usize) -> Angles {
        let angle = |i: usize| (start * 4 + i) as f32 * 0.01;
        Angles {
            cos: (0..len * 4).map(|i| angle(i).cos()).collect(),
            sin: (0..len * 4).map(|i| angle(i).sin()).collect(),
        }
    }

    fn run(qkv: &Tensor, chunks: &[usize]) -> Vec<Vec<f32>> {
        let cache = || Tensor::zeros((2, 200, 8), DType::F32, &Device::Cpu).unwrap();
        let (keys, values) = (cache(), cache());
        let mut position = 0;
        let mut rows = Vec::new();
        for len in chunks {
            let part = qkv.narrow(0, position, *len).unwrap().contiguous().unwrap();
            let angles = angles(position, *len);
            append_to_cache(&part, &keys, &values, HEADS, position, &angles).unwrap();
            let out = attention(&part, &keys, &values, HEADS, position, &angles).unwrap();
            rows.extend(out.to_vec2::<f32>().unwrap());
            position += len;
        }
        rows
    }

    #[test]
    fn one_by_one_and_all_at_once_agree() {
        let n = 130;
        let values: Vec<f32> = (0..n * 64).map(|i| ((i * 37 % 101) as f32 - 50.0) / 40.0).collect();
        let qkv = Tensor::from_vec(values, (n, 64), &Device::Cpu).unwrap();
        let at_once = run(&qkv, &[n]);
        let one_by_one = run(&qkv, &vec![1; n]);
        let in_parts = run(&qkv, &[3, 70, 57]);
        for (row, expected) in at_once.iter().enumerate() {
            for other in [&one_by_one[row], &in_parts[row]] {
                for (a, b) in expected.iter().zip(other) {
                    assert!((a - b).abs() < 1e-5, "row {row}: {a} and {b}");
                }
            }
        }
    }

    #[test]
    fn the_first_token_sees_only_itself() {
        let values: Vec<f32> = (0..64).map(|i| i as f32).collect();
        let qkv = Tensor::from_vec(values, (1, 64), &Device::Cpu).unwrap();
        let expected: Vec<f32> = [48, 48, 56, 56]
            .into_iter()
            .flat_map(|start| (start..start + 8).map(|i| i as f32))
            .collect();
        assert_eq!(run(&qkv, &[1]), [expected]);
    }
}
