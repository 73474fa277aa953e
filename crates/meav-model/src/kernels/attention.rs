use std::iter;
use std::ops::Range;

use candle_core::{CpuStorage, CustomOp3, InplaceOp2, Layout, Result, Shape, Tensor};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::dot::{add_weighted_rows, dot_rows};
use super::gemm::{Matrix, Parallelism, matmul, matmul_add};
use super::parallel::for_each_part;
use super::simd::exp;
use super::soft_cap::soft_cap_slice;
use super::{f32_slice, gpu};
use crate::rope::Angles;

/// How heads lie in a row of projected queries, keys and values: `[q … | k … | v …]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadLayout {
    pub(crate) n_heads: usize,
    pub(crate) n_kv_heads: usize,
    pub(crate) head_dim: usize,
}

impl HeadLayout {
    pub(super) fn row_len(self) -> usize {
        (self.n_heads + 2 * self.n_kv_heads) * self.head_dim
    }

    pub(super) fn keys_start(self) -> usize {
        self.n_heads * self.head_dim
    }

    pub(super) fn values_start(self) -> usize {
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
    if gpu::is_on_gpu(qkv) {
        return gpu::append_to_cache(qkv, keys, values, heads, position, angles);
    }
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

/// Turns the front of a head's row, element `i` together with `i + R/2`; the rest stays.
pub(super) fn rotate(from: &[f32], to: &mut [f32], angles: &Angles, index: usize) {
    let half = angles.half;
    let cos = &angles.cos[index * half..][..half];
    let sin = &angles.sin[index * half..][..half];
    for i in 0..half {
        to[i] = from[i] * cos[i] - from[i + half] * sin[i];
        to[i + half] = from[i + half] * cos[i] + from[i] * sin[i];
    }
    to[2 * half..].copy_from_slice(&from[2 * half..]);
}

/// What a layer's attention is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AttentionRule {
    pub(crate) heads: HeadLayout,
    /// What scores are multiplied by.
    pub(crate) scale: f32,
    /// What scaled scores are bent to lie below, plus or minus.
    pub(crate) softcap: Option<f32>,
    /// Positions that a token sees, its own included.
    pub(crate) window: Option<usize>,
}

/// Where new tokens stand: sequences one behind the other, none seeing another of them unless it
/// says so.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sequences<'a> {
    /// The first new token's place in the cache; the others follow.
    pub(crate) start: usize,
    /// In the order of the tokens.
    pub(crate) each: &'a [Sequence],
    pub(crate) angles: &'a Angles,
}

/// New tokens that lie side by side and each see those before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sequence {
    /// The places in the cache of all that they continue, first to last; some may be new as well.
    pub(crate) before: Vec<Range<usize>>,
    pub(crate) len: usize,
}

impl Sequence {
    /// What follows the first `position` places of the cache.
    pub(crate) fn behind(position: usize, len: usize) -> Self {
        Self { before: iter::once(0..position).collect(), len }
    }

    /// The first token's position in its text.
    pub(crate) fn position(&self) -> usize {
        self.before.iter().map(Range::len).sum()
    }
}

/// Causal attention of the new tokens over what they see of the cache, which already holds them.
///
/// ```text
/// softmax(c tanh(s q Kᵀ / c)) V     with scale s and soft cap c, or without cap: softmax(s q Kᵀ) V
/// ```
///
/// Source: Vaswani et al., 2017, arXiv:1706.03762, Eq. 1, with grouped queries (Ainslie et al.,
/// 2023, arXiv:2305.13245), sliding windows (Jiang et al., 2023, arXiv:2310.06825) and soft caps
/// (Gemma Team, 2024, arXiv:2408.00118); keys and values are read in place, not repeated.
///
/// # Shapes
///
/// As [`append_to_cache`]; the result is `(T, heads D)`.
pub(crate) fn attention(
    qkv: &Tensor,
    keys: &Tensor,
    values: &Tensor,
    rule: AttentionRule,
    sequences: Sequences<'_>,
) -> Result<Tensor> {
    if gpu::is_on_gpu(qkv) {
        return gpu::attention(qkv, keys, values, rule, sequences);
    }
    qkv.apply_op3_no_bwd(keys, values, &Attention { rule, sequences })
}

struct Attention<'a> {
    rule: AttentionRule,
    sequences: Sequences<'a>,
}

/// Queries of one head that are taken together: enough for a matrix product to pay, few enough to
/// leave out most of what causality forbids.
const QUERY_BLOCK: usize = 64;

/// Queries of one sequence, one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block<'a> {
    pub(super) sequence: &'a Sequence,
    /// The row of the sequence's first token among all new tokens.
    pub(super) start: usize,
    /// The first query's row.
    pub(super) row: usize,
    pub(super) len: usize,
}

impl<'a> Sequences<'a> {
    /// Of up to `block_len` queries each.
    pub(super) fn blocks(&self, block_len: usize) -> Vec<Block<'a>> {
        let mut blocks = Vec::new();
        let mut start = 0;
        for sequence in self.each {
            for first in (0..sequence.len).step_by(block_len) {
                let len = block_len.min(sequence.len - first);
                blocks.push(Block { sequence, start, row: start + first, len });
            }
            start += sequence.len;
        }
        blocks
    }
}

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
        let HeadLayout { n_heads, n_kv_heads, head_dim } = self.rule.heads;
        let qkv = f32_slice(qkv, qkv_layout)?;
        let keys = f32_slice(keys, keys_layout)?;
        let values = f32_slice(values, values_layout)?;
        let (_, capacity, _) = keys_layout.shape().dims3()?;
        let n_rows = qkv.len() / self.rule.heads.row_len();
        let lengths = self.sequences.each.iter().map(|sequence| sequence.len);
        if lengths.sum::<usize>() != n_rows {
            candle_core::bail!("the sequences' lengths do not add up to {n_rows} tokens");
        }
        // Head-major while the heads work apart: (heads, T, D).
        let mut by_head = vec![0.0; n_heads * n_rows * head_dim];
        let blocks = self.sequences.blocks(QUERY_BLOCK);
        let arch = Arch::new();
        let work = |head: usize, block: Block<'_>, out: &mut [f32]| {
            let kv_head = head / (n_heads / n_kv_heads);
            let cached = kv_head * capacity * head_dim..(kv_head + 1) * capacity * head_dim;
            arch.dispatch(BlockTask {
                op: self,
                qkv,
                keys: &keys[cached.clone()],
                values: &values[cached],
                head,
                block,
                out,
            });
        };
        if n_rows == 1 {
            for_each_part(&mut by_head, head_dim, |head, out| work(head, blocks[0], out));
        } else {
            by_head.par_chunks_mut(n_rows * head_dim).enumerate().for_each(|(head, out)| {
                parts(out, &blocks, head_dim)
                    .into_par_iter()
                    .for_each(|(block, out)| work(head, block, out));
            });
        }
        let out = to_rows(by_head, n_heads, n_rows, head_dim);
        Ok((CpuStorage::F32(out), (n_rows, n_heads * head_dim).into()))
    }
}

/// Each block's part of one head's results.
fn parts<'a, 'b>(
    mut out: &'a mut [f32],
    blocks: &[Block<'b>],
    head_dim: usize,
) -> Vec<(Block<'b>, &'a mut [f32])> {
    let mut parts = Vec::with_capacity(blocks.len());
    for block in blocks {
        let (part, rest) = out.split_at_mut(block.len * head_dim);
        parts.push((*block, part));
        out = rest;
    }
    parts
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
    block: Block<'a>,
    out: &'a mut [f32],
}

/// What the queries of a block see between them.
pub(super) struct View {
    /// The first query's position in its sequence.
    pub(super) position: usize,
    /// The first position that any of them sees.
    pub(super) lowest: usize,
    /// The places of these positions in the cache, neighbours taken together.
    pub(super) slots: Vec<Range<usize>>,
}

impl View {
    /// `first` is the first new token's place in the cache.
    pub(super) fn new(rule: &AttentionRule, first: usize, block: Block<'_>) -> Self {
        let Block { sequence, start, row, len } = block;
        let position = sequence.position() + row - start;
        let lowest = rule.lowest(position);
        let own = first + start..first + row + len;
        let mut slots: Vec<Range<usize>> = Vec::new();
        let mut hidden = lowest;
        for range in sequence.before.iter().chain([&own]) {
            let skipped = hidden.min(range.len());
            hidden -= skipped;
            match slots.last_mut() {
                Some(last) if last.end == range.start + skipped => last.end = range.end,
                _ => slots.push(range.start + skipped..range.end),
            }
        }
        slots.retain(|range| !range.is_empty());
        Self { position, lowest, slots }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.iter().map(Range::len).sum()
    }

    /// Which of the positions the query at `index` sees.
    pub(super) fn visible(&self, index: usize, rule: &AttentionRule) -> Range<usize> {
        let position = self.position + index;
        rule.lowest(position) - self.lowest..position + 1 - self.lowest
    }
}

impl AttentionRule {
    /// The first position that a token at `position` sees.
    fn lowest(&self, position: usize) -> usize {
        self.window.map_or(0, |window| (position + 1).saturating_sub(window))
    }
}

impl WithSimd for BlockTask<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let queries = self.queries();
        let Self { op, keys, values, block, out, .. } = self;
        let head_dim = op.rule.heads.head_dim;
        let view = View::new(&op.rule, op.sequences.start, block);
        let row_len = view.len();
        let mut scores = vec![0.0; block.len * row_len];
        let mut column = 0;
        for slots in &view.slots {
            let keys = &keys[slots.start * head_dim..slots.end * head_dim];
            if block.len == 1 {
                dot_rows(simd, &queries, keys, &mut scores[column..]);
            } else {
                let queries = row_major(&queries, block.len, head_dim);
                let keys = transposed(keys, slots.len(), head_dim);
                matmul(&mut scores[column..], row_len, queries, keys, Parallelism::None);
            }
            column += slots.len();
        }
        for (index, scores) in scores.chunks_exact_mut(row_len).enumerate() {
            soft_weights(scores, view.visible(index, &op.rule), &op.rule);
        }
        let mut column = 0;
        for slots in &view.slots {
            let values = &values[slots.start * head_dim..slots.end * head_dim];
            if block.len == 1 {
                add_weighted_rows(simd, &scores[column..], values, out);
            } else {
                let weights = Matrix {
                    values: &scores[column..],
                    cols: slots.len(),
                    ..row_major(&scores, block.len, row_len)
                };
                let values = row_major(values, slots.len(), head_dim);
                matmul_add(out, head_dim, weights, values, Parallelism::None);
            }
            column += slots.len();
        }
    }
}

impl BlockTask<'_> {
    /// The block's queries, turned.
    fn queries(&self) -> Vec<f32> {
        let HeadLayout { head_dim, .. } = self.op.rule.heads;
        let mut queries = vec![0.0; self.out.len()];
        for (index, query) in queries.chunks_exact_mut(head_dim).enumerate() {
            let row = self.block.row + index;
            let start = row * self.op.rule.heads.row_len() + self.head * head_dim;
            rotate(&self.qkv[start..][..head_dim], query, self.op.sequences.angles, row);
        }
        queries
    }
}

pub(super) fn row_major(values: &[f32], rows: usize, cols: usize) -> Matrix<'_> {
    Matrix { values, rows, cols, row_stride: cols, col_stride: 1 }
}

/// The `rows` of a matrix as its columns.
pub(super) fn transposed(values: &[f32], rows: usize, cols: usize) -> Matrix<'_> {
    Matrix { values, rows: cols, cols: rows, row_stride: 1, col_stride: cols }
}

/// Softmax of the visible scores, zero around them.
#[inline(always)]
pub(super) fn soft_weights(scores: &mut [f32], visible: Range<usize>, rule: &AttentionRule) {
    scores[..visible.start].fill(0.0);
    scores[visible.end..].fill(0.0);
    let scores = &mut scores[visible];
    match rule.softcap {
        None => softmax(scores, rule.scale),
        Some(cap) => {
            soft_cap_slice(scores, rule.scale, cap);
            softmax(scores, 1.0);
        }
    }
}

#[inline(always)]
fn softmax(scores: &mut [f32], scale: f32) {
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
    use meav_cuda::{on_cpu_and_gpu, on_gpu};

    use super::*;
    use crate::kernels::gpu::PassOnGpu;

    on_cpu_and_gpu!(
        tree_of_sequences_sees_what_each_path_would_see_alone,
        window_of_one_sees_only_its_own_value,
        the_first_token_sees_only_itself,
        cache_takes_no_more_than_it_holds,
    );

    const HEADS: HeadLayout = HeadLayout { n_heads: 4, n_kv_heads: 2, head_dim: 8 };

    fn rule(window: Option<usize>) -> AttentionRule {
        AttentionRule { heads: HEADS, scale: 8.0_f32.sqrt().recip(), softcap: None, window }
    }

    fn angles(positions: impl Iterator<Item = usize>) -> Angles {
        let angles: Vec<f32> = positions
            .flat_map(|position| (0..3).map(move |i| (position * 4 + i) as f32 * 0.01))
            .collect();
        Angles {
            cos: angles.iter().map(|angle| angle.cos()).collect(),
            sin: angles.iter().map(|angle| angle.sin()).collect(),
            half: 3,
            on_gpu: PassOnGpu::default(),
        }
    }

    fn some_rows(n: usize) -> Tensor {
        let values: Vec<f32> = (0..n * 64).map(|i| ((i * 37 % 101) as f32 - 50.0) / 40.0).collect();
        Tensor::from_vec(values, (n, 64), &Device::Cpu).unwrap()
    }

    fn rows(tensor: &Tensor, start: usize, len: usize) -> Tensor {
        tensor.narrow(0, start, len).unwrap().contiguous().unwrap()
    }

    struct Cache(Tensor, Tensor);

    impl Cache {
        fn new(device: &Device) -> Self {
            let zeros = || Tensor::zeros((2, 400, 8), DType::F32, device).unwrap();
            Self(zeros(), zeros())
        }

        /// Puts sequences behind the first `start` places.
        fn run(
            &self,
            qkv: &Tensor,
            rule: AttentionRule,
            start: usize,
            sequences: &[Sequence],
        ) -> Vec<Vec<f32>> {
            let positions = sequences.iter().flat_map(|it| (it.position()..).take(it.len));
            let angles = angles(positions);
            append_to_cache(qkv, &self.0, &self.1, HEADS, start, &angles).unwrap();
            let sequences = Sequences { start, each: sequences, angles: &angles };
            attention(qkv, &self.0, &self.1, rule, sequences).unwrap().to_vec2().unwrap()
        }

        /// One sequence behind the first `start` places.
        fn run_one(&self, qkv: &Tensor, rule: AttentionRule, start: usize) -> Vec<Vec<f32>> {
            self.run(qkv, rule, start, &[Sequence::behind(start, qkv.dim(0).unwrap())])
        }
    }

    fn run(qkv: &Tensor, rule: AttentionRule, chunks: &[usize]) -> Vec<Vec<f32>> {
        let cache = Cache::new(qkv.device());
        let mut position = 0;
        let mut found = Vec::new();
        for len in chunks {
            found.extend(cache.run_one(&rows(qkv, position, *len), rule, position));
            position += len;
        }
        found
    }

    #[track_caller]
    fn assert_rows(found: &[Vec<f32>], expected: &[Vec<f32>]) {
        assert_eq!(found.len(), expected.len());
        for (row, (found, expected)) in found.iter().zip(expected).enumerate() {
            for (a, b) in found.iter().zip(expected) {
                assert!((a - b).abs() < 1e-5, "row {row}: {a} and {b}");
            }
        }
    }

    const RULES: [(Option<usize>, Option<f32>); 6] = [
        (None, None),
        (None, Some(1.5)),
        (Some(1), None),
        (Some(20), None),
        (Some(70), Some(1.5)),
        (Some(usize::MAX), None),
    ];

    /// Other sums than the CPU's, of the same keys and values.
    #[test]
    fn gpu_sees_what_the_cpu_sees() {
        let n = 90;
        let qkv = some_rows(n);
        for (window, softcap) in RULES {
            let rule = AttentionRule { softcap, ..rule(window) };
            let expected = run(&qkv, rule, &[n]);
            for chunks in [&[n][..], &[3, 70, 17], &[87, 1, 1, 1]] {
                let found = on_gpu(|device| run(&qkv.to_device(device).unwrap(), rule, chunks));
                assert_rows(&found, &expected);
            }
        }
    }

    #[test]
    fn one_by_one_and_all_at_once_agree() {
        let n = 130;
        let qkv = some_rows(n);
        for (window, softcap) in RULES {
            let rule = AttentionRule { softcap, ..rule(window) };
            let at_once = run(&qkv, rule, &[n]);
            assert_rows(&run(&qkv, rule, &vec![1; n]), &at_once);
            assert_rows(&run(&qkv, rule, &[3, 70, 57]), &at_once);
        }
    }

    #[test]
    fn sequences_side_by_side_see_what_each_would_see_alone() {
        let lengths = [70, 1, 30, 66];
        let qkv = some_rows(100 + 167);
        for prefix_len in [0, 1, 100] {
            for (window, softcap) in RULES {
                let rule = AttentionRule { softcap, ..rule(window) };
                let cache = Cache::new(&Device::Cpu);
                if prefix_len > 0 {
                    cache.run_one(&rows(&qkv, 0, prefix_len), rule, 0);
                }
                let batch = rows(&qkv, 100, 167);
                let sequences = lengths.map(|len| Sequence::behind(prefix_len, len));
                let together = cache.run(&batch, rule, prefix_len, &sequences);
                let mut start = 0;
                for len in lengths {
                    let alone = cache.run_one(&rows(&batch, start, len), rule, prefix_len);
                    assert_rows(&together[start..start + len], &alone);
                    start += len;
                }
            }
        }
    }

    fn tree_of_sequences_sees_what_each_path_would_see_alone(device: &Device) {
        // Each sequence's length, and those that it continues; the first two were read before.
        let tree: [(usize, &[usize]); 7] = [
            (30, &[]),
            (5, &[0]),
            (20, &[0]),
            (70, &[0, 2]),
            (1, &[0, 2]),
            (9, &[0]),
            (66, &[0, 5]),
        ];
        let starts: Vec<usize> = tree
            .iter()
            .scan(0, |end, (len, _)| Some(*end + len).map(|it| std::mem::replace(end, it)))
            .collect();
        let slots = |index: usize| starts[index]..starts[index] + tree[index].0;
        let sequence = |index: usize| Sequence {
            before: tree[index].1.iter().map(|it| slots(*it)).collect(),
            len: tree[index].0,
        };
        let qkv = some_rows(201).to_device(device).unwrap();
        for (window, softcap) in RULES {
            let rule = AttentionRule { softcap, ..rule(window) };
            let cache = Cache::new(device);
            let all: Vec<Sequence> = (0..tree.len()).map(sequence).collect();
            let mut found = cache.run(&rows(&qkv, 0, 35), rule, 0, &all[..2]);
            found.extend(cache.run(&rows(&qkv, 35, 166), rule, 35, &all[2..]));
            for (index, (len, before)) in tree.iter().enumerate() {
                let path: Vec<Tensor> = before
                    .iter()
                    .chain([&index])
                    .map(|it| rows(&qkv, starts[*it], tree[*it].0))
                    .collect();
                let alone = Cache::new(device).run_one(&Tensor::cat(&path, 0).unwrap(), rule, 0);
                assert_rows(&found[slots(index)], &alone[alone.len() - len..]);
            }
        }
    }

    fn window_of_one_sees_only_its_own_value(device: &Device) {
        let qkv = some_rows(70).to_device(device).unwrap();
        let own = qkv.to_vec2::<f32>().unwrap();
        let expected: Vec<Vec<f32>> = own
            .iter()
            .map(|row| [&row[48..56], &row[48..56], &row[56..64], &row[56..64]].concat())
            .collect();
        assert_rows(&run(&qkv, rule(Some(1)), &[69, 1]), &expected);
        let all = run(&qkv, rule(None), &[70]);
        assert!((all[69][0] - expected[69][0]).abs() > 1e-3);
    }

    fn the_first_token_sees_only_itself(device: &Device) {
        let values: Vec<f32> = (0..64).map(|i| i as f32).collect();
        let qkv = Tensor::from_vec(values, (1, 64), device).unwrap();
        let expected: Vec<f32> = [48, 48, 56, 56]
            .into_iter()
            .flat_map(|start| (start..start + 8).map(|i| i as f32))
            .collect();
        assert_eq!(run(&qkv, rule(None), &[1]), [expected]);
    }

    fn cache_takes_no_more_than_it_holds(device: &Device) {
        let (qkv, angles) = (some_rows(2).to_device(device).unwrap(), angles(0..2));
        let cache = Cache::new(device);
        let append = |position| append_to_cache(&qkv, &cache.0, &cache.1, HEADS, position, &angles);
        assert!(append(398).is_ok());
        assert!(append(399).is_err());
    }
}
