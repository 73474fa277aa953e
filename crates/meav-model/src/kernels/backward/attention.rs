use std::ops::Range;

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::{gpu, with_values};
use crate::kernels::add::add;
use crate::kernels::attention::{
    AttentionRule, Block, HeadLayout, Sequences, View, rotate, row_major, soft_weights, transposed,
};
use crate::kernels::dot::dot_rows;
use crate::kernels::f32_slice;
use crate::kernels::gemm::{Matrix, Parallelism, matmul, matmul_add};
use crate::kernels::gpu::is_on_gpu;
use crate::kernels::simd::tanh;
use crate::rope::Angles;

/// The gradient of what [`append_to_cache`](crate::kernels::append_to_cache) and
/// [`attention`](crate::kernels::attention) took, for tokens that are all new: what several
/// sequences continue gets the gradients of all of them.
///
/// ```text
/// dV = Pᵀ dO,   dA = P ∘ (dO Vᵀ − rows(P ∘ dO Vᵀ)),   dS = s (1 − tanh²) ∘ dA
/// dQ = dS K,    dK = dSᵀ Q,      both turned back
/// ```
///
/// Probabilities are computed again, some queries at a time, so that none need be kept. Source:
/// Dao et al., 2022, arXiv:2205.14135, Appendix B.2.
///
/// # Shapes
///
/// `qkv` is `(T, (heads + 2 kv_heads) D)` before the rotation, as is the result; `keys` and
/// `values` are the cache that it was appended to at place 0, `dout` is `(T, heads D)`.
pub(crate) fn attention_backward(
    qkv: &Tensor,
    keys: &Tensor,
    values: &Tensor,
    rule: AttentionRule,
    sequences: Sequences<'_>,
    dout: &Tensor,
) -> Result<Tensor> {
    let op = AttentionBackward { rule, sequences, dout };
    op.check(qkv, keys, values)?;
    if is_on_gpu(qkv) {
        return gpu::attention_backward(qkv, keys, values, rule, sequences, dout);
    }
    qkv.apply_op3_no_bwd(keys, values, &op)
}

struct AttentionBackward<'a> {
    rule: AttentionRule,
    sequences: Sequences<'a>,
    dout: &'a Tensor,
}

/// Queries of one sequence whose gradients one task computes for one head of keys.
const UNIT: usize = 512;

/// Rows of queries, those of all heads that share a key, that are taken together: enough for a
/// matrix product to pay, few enough to leave out most of what causality forbids.
const ROWS: usize = 192;

impl CustomOp3 for AttentionBackward<'_> {
    fn name(&self) -> &'static str {
        "attention-backward"
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
        let (n_rows, _) = qkv_layout.shape().dims2()?;
        let qkv = f32_slice(qkv, qkv_layout)?;
        let keys = f32_slice(keys, keys_layout)?;
        let values = f32_slice(values, values_layout)?;
        let out = with_values(self.dout, |dout| {
            Ok(self.gradients(&Inputs { qkv, keys, values, dout }, n_rows))
        })?;
        Ok((CpuStorage::F32(out), qkv_layout.shape().clone()))
    }
}

#[derive(Clone, Copy)]
struct Inputs<'a> {
    qkv: &'a [f32],
    keys: &'a [f32],
    values: &'a [f32],
    dout: &'a [f32],
}

impl AttentionBackward<'_> {
    fn check(&self, qkv: &Tensor, keys: &Tensor, values: &Tensor) -> Result<()> {
        let HeadLayout { n_heads, n_kv_heads, head_dim } = self.rule.heads;
        let ((n_rows, row_len), (_, capacity, _)) = (qkv.dims2()?, keys.dims3()?);
        let cache = [n_kv_heads, capacity, head_dim];
        let n_new: usize = self.sequences.each.iter().map(|it| it.len).sum();
        let seen = self.sequences.each.iter().flat_map(|it| &it.before).map(|it| it.end).max();
        if row_len != self.rule.heads.row_len()
            || self.dout.dims() != [n_rows, n_heads * head_dim]
            || keys.dims() != cache
            || values.dims() != cache
        {
            candle_core::bail!("{:?} does not fit {:?}", self.dout.dims(), self.rule.heads);
        }
        let are_new = self.sequences.start == 0 && seen <= Some(n_rows) && capacity >= n_rows;
        if n_rows == 0 || n_new != n_rows || !are_new {
            candle_core::bail!("not all that is seen by the {n_rows} tokens is new");
        }
        Ok(())
    }

    fn gradients(&self, inputs: &Inputs<'_>, n_rows: usize) -> Vec<f32> {
        let HeadLayout { n_kv_heads, head_dim, .. } = self.rule.heads;
        let units = self.sequences.blocks(UNIT);
        let arch = Arch::new();
        let parts: Vec<UnitGradient> = (0..n_kv_heads * units.len())
            .into_par_iter()
            .with_max_len(1)
            .map(|task| {
                let (kv_head, unit) = (task / units.len(), units[task % units.len()]);
                arch.dispatch(UnitTask { op: self, inputs, kv_head, unit })
            })
            .collect();
        let sum = |part: fn(&UnitGradient) -> &[f32]| {
            let mut sums = vec![0.0; n_kv_heads * n_rows * head_dim];
            let heads = sums.par_chunks_exact_mut(n_rows * head_dim);
            heads.zip(parts.par_chunks(units.len())).for_each(|(sums, parts)| {
                for gradient in parts {
                    let mut from = part(gradient);
                    for slots in &gradient.slots {
                        let to = &mut sums[slots.start * head_dim..slots.end * head_dim];
                        let (own, rest) = from.split_at(to.len());
                        add(to, own, 1.0);
                        from = rest;
                    }
                }
            });
            sums
        };
        let (keys, values) = (sum(|it| &it.keys), sum(|it| &it.values));
        self.to_rows(&parts, &units, &keys, &values)
    }

    /// Turns queries and keys back and puts them beside the values.
    fn to_rows(
        &self,
        parts: &[UnitGradient],
        units: &[Block<'_>],
        keys: &[f32],
        values: &[f32],
    ) -> Vec<f32> {
        let HeadLayout { n_heads, n_kv_heads, head_dim } = self.rule.heads;
        let group_len = n_heads / n_kv_heads * head_dim;
        let n_rows = keys.len() / (n_kv_heads * head_dim);
        let angles = self.sequences.angles;
        let mut out = vec![0.0; n_rows * self.rule.heads.row_len()];
        out.par_chunks_exact_mut(self.rule.heads.row_len()).enumerate().with_min_len(4).for_each(
            |(row, out)| {
                let (d_queries, rest) = out.split_at_mut(n_heads * head_dim);
                let (d_keys, d_values) = rest.split_at_mut(n_kv_heads * head_dim);
                let unit = units.partition_point(|unit| unit.row <= row) - 1;
                for kv_head in 0..n_kv_heads {
                    let part = &parts[kv_head * units.len() + unit];
                    let from = &part.queries[(row - units[unit].row) * group_len..][..group_len];
                    let to = &mut d_queries[kv_head * group_len..][..group_len];
                    for (from, to) in from.chunks_exact(head_dim).zip(to.chunks_exact_mut(head_dim))
                    {
                        rotate_back(from, to, angles, row);
                    }
                    let from = (kv_head * n_rows + row) * head_dim..;
                    let to = kv_head * head_dim..(kv_head + 1) * head_dim;
                    rotate_back(
                        &keys[from.clone()][..head_dim],
                        &mut d_keys[to.clone()],
                        angles,
                        row,
                    );
                    d_values[to].copy_from_slice(&values[from][..head_dim]);
                }
            },
        );
        out
    }
}

/// The gradient of what [`rotate`] takes, given that of what it gives.
fn rotate_back(from: &[f32], to: &mut [f32], angles: &Angles, index: usize) {
    let half = angles.half;
    let cos = &angles.cos[index * half..][..half];
    let sin = &angles.sin[index * half..][..half];
    for i in 0..half {
        to[i] = from[i] * cos[i] + from[i + half] * sin[i];
        to[i + half] = from[i + half] * cos[i] - from[i] * sin[i];
    }
    to[2 * half..].copy_from_slice(&from[2 * half..]);
}

/// What some queries of the heads that share a key bring about.
struct UnitGradient {
    /// Of the turned queries, `(queries, heads, D)`.
    queries: Vec<f32>,
    /// The places of what they see.
    slots: Vec<Range<usize>>,
    /// Of the turned keys at these places, `(places, D)`.
    keys: Vec<f32>,
    /// Of the values at these places.
    values: Vec<f32>,
}

struct UnitTask<'a> {
    op: &'a AttentionBackward<'a>,
    inputs: &'a Inputs<'a>,
    kv_head: usize,
    unit: Block<'a>,
}

impl WithSimd for UnitTask<'_> {
    type Output = UnitGradient;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> UnitGradient {
        let HeadLayout { n_heads, n_kv_heads, head_dim } = self.op.rule.heads;
        let (rule, start, unit) = (&self.op.rule, self.op.sequences.start, self.unit);
        let group = n_heads / n_kv_heads;
        let view = View::new(rule, start, unit);
        let mut out = UnitGradient {
            queries: vec![0.0; unit.len * group * head_dim],
            keys: vec![0.0; view.len() * head_dim],
            values: vec![0.0; view.len() * head_dim],
            slots: view.slots.clone(),
        };
        let (keys, values) =
            (self.seen(self.inputs.keys, &view), self.seen(self.inputs.values, &view));
        let mut scratch = Scratch::default();
        let block_len = (ROWS / group).clamp(16, 64);
        for first in (0..unit.len).step_by(block_len) {
            let len = block_len.min(unit.len - first);
            let block = Block { row: unit.row + first, len, ..unit };
            let block_view = View::new(rule, start, block);
            let from = (block_view.lowest - view.lowest) * head_dim;
            let seen = from..from + block_view.len() * head_dim;
            let queries = first * group * head_dim..(first + len) * group * head_dim;
            self.load(block, &mut scratch);
            BlockTask {
                rule,
                view: &block_view,
                group,
                keys: &keys[seen.clone()],
                values: &values[seen.clone()],
                d_queries: &mut out.queries[queries],
                d_keys: &mut out.keys[seen.clone()],
                d_values: &mut out.values[seen],
            }
            .run(simd, &mut scratch);
        }
        out
    }
}

/// What one block after the other needs room for.
#[derive(Default)]
struct Scratch {
    /// Turned, `(queries · heads, D)`.
    queries: Vec<f32>,
    /// The output's gradient, `(queries · heads, D)`.
    d_out: Vec<f32>,
    /// `(queries · heads, places)`.
    weights: Vec<f32>,
    d_scores: Vec<f32>,
    /// Of the soft cap.
    slopes: Vec<f32>,
}

impl UnitTask<'_> {
    /// What is seen of one head of the cache, side by side.
    fn seen(&self, cache: &[f32], view: &View) -> Vec<f32> {
        let HeadLayout { n_kv_heads, head_dim, .. } = self.op.rule.heads;
        let head_len = cache.len() / n_kv_heads;
        let head = &cache[self.kv_head * head_len..][..head_len];
        let slots = view.slots.iter();
        slots.flat_map(|it| &head[it.start * head_dim..it.end * head_dim]).copied().collect()
    }

    /// Queries and gradients of a block, those of all heads for one token after the other.
    fn load(&self, block: Block<'_>, scratch: &mut Scratch) {
        let heads = self.op.rule.heads;
        let head_dim = heads.head_dim;
        let group_len = heads.n_heads / heads.n_kv_heads * head_dim;
        scratch.queries.resize(block.len * group_len, 0.0);
        scratch.d_out.clear();
        for (row, queries) in (block.row..).zip(scratch.queries.chunks_exact_mut(group_len)) {
            let start = self.kv_head * group_len;
            let from = &self.inputs.qkv[row * heads.row_len() + start..][..group_len];
            for (from, to) in from.chunks_exact(head_dim).zip(queries.chunks_exact_mut(head_dim)) {
                rotate(from, to, self.op.sequences.angles, row);
            }
            let from = row * heads.n_heads * head_dim + start;
            scratch.d_out.extend_from_slice(&self.inputs.dout[from..from + group_len]);
        }
    }
}

/// Some queries of a unit, and what they see.
struct BlockTask<'a> {
    rule: &'a AttentionRule,
    view: &'a View,
    /// Heads that share a key.
    group: usize,
    keys: &'a [f32],
    values: &'a [f32],
    d_queries: &'a mut [f32],
    d_keys: &'a mut [f32],
    d_values: &'a mut [f32],
}

impl BlockTask<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S, scratch: &mut Scratch) {
        let head_dim = self.rule.heads.head_dim;
        let n_seen = self.view.len();
        let Scratch { queries, d_out, weights, d_scores, slopes } = scratch;
        let n_rows = queries.len() / head_dim;
        let queries = row_major(queries, n_rows, head_dim);
        let d_out = row_major(d_out, n_rows, head_dim);
        let none = Parallelism::None;
        weights.resize(n_rows * n_seen, 0.0);
        d_scores.resize(n_rows * n_seen, 0.0);
        matmul(weights, n_seen, queries, transposed(self.keys, n_seen, head_dim), none);
        matmul(d_scores, n_seen, d_out, transposed(self.values, n_seen, head_dim), none);
        let rows = weights.chunks_exact_mut(n_seen).zip(d_scores.chunks_exact_mut(n_seen));
        for (index, (weights, d_scores)) in rows.enumerate() {
            self.score_gradient(simd, index, weights, d_scores, slopes);
        }
        let by_place = |values| Matrix {
            row_stride: 1,
            col_stride: n_seen,
            ..row_major(values, n_seen, n_rows)
        };
        matmul_add(self.d_values, head_dim, by_place(weights), d_out, none);
        matmul_add(self.d_keys, head_dim, by_place(d_scores), queries, none);
        let (keys, d_scores) =
            (row_major(self.keys, n_seen, head_dim), row_major(d_scores, n_rows, n_seen));
        matmul(self.d_queries, head_dim, d_scores, keys, none);
    }

    /// Turns a row's scores into weights and the weights' gradient into that of the scores.
    #[inline(always)]
    fn score_gradient<S: Simd>(
        &self,
        simd: S,
        index: usize,
        weights: &mut [f32],
        d_scores: &mut [f32],
        slopes: &mut Vec<f32>,
    ) {
        let scale = self.rule.scale;
        if let Some(cap) = self.rule.softcap {
            slopes.clear();
            slopes.extend(weights.iter().map(|score| {
                let bent = tanh(score * scale / cap);
                bent.mul_add(-bent, 1.0)
            }));
        }
        soft_weights(weights, self.view.visible(index / self.group, self.rule), self.rule);
        let mut along = [0.0];
        dot_rows(simd, weights, d_scores, &mut along);
        for (d_score, weight) in d_scores.iter_mut().zip(weights) {
            *d_score = scale * *weight * (*d_score - along[0]);
        }
        if self.rule.softcap.is_some() {
            for (d_score, slope) in d_scores.iter_mut().zip(slopes) {
                *d_score *= *slope;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{D, DType, Device};
    use meav_cuda::{on_cpu_and_gpu, on_gpu};
    use meav_test_support::{assert_close, tolerance};

    use super::super::testing::{
        assert_deterministic, assert_slopes, by_candle, on, some_values, values, variable,
    };
    use super::*;
    use crate::kernels::gpu::PassOnGpu;
    use crate::kernels::{Sequence, append_to_cache, attention};

    on_cpu_and_gpu!(what_is_not_new_and_other_shapes_are_refused);

    const HEADS: HeadLayout = HeadLayout { n_heads: 4, n_kv_heads: 2, head_dim: 8 };

    /// Windows and soft caps.
    const RULES: [(Option<usize>, Option<f32>); 5] =
        [(None, None), (None, Some(0.7)), (Some(1), None), (Some(4), None), (Some(70), Some(0.7))];

    fn rule((window, softcap): (Option<usize>, Option<f32>)) -> AttentionRule {
        AttentionRule { heads: HEADS, scale: 0.6, softcap, window }
    }

    /// Each sequence's length and those that it continues: a prompt with two responses, the second
    /// with a sequence behind it, and one that stands alone; the prompt is as long as told.
    fn sequences(prompt_len: usize) -> Vec<Sequence> {
        let tree: [(usize, &[usize]); 5] =
            [(prompt_len, &[]), (3, &[0]), (4, &[0]), (2, &[0, 2]), (5, &[])];
        let start = |index: usize| tree[..index].iter().map(|(len, _)| len).sum::<usize>();
        let places = |index: &usize| start(*index)..start(*index) + tree[*index].0;
        let sequence = |(len, before): &(usize, &[usize])| Sequence {
            before: before.iter().map(places).collect(),
            len: *len,
        };
        tree.iter().map(sequence).collect()
    }

    /// Six of eight elements are turned, and stretched.
    fn angles(sequences: &[Sequence]) -> Angles {
        let positions = sequences.iter().flat_map(|it| (it.position()..).take(it.len));
        let angles: Vec<f32> = positions
            .flat_map(|position| (0..3).map(move |i| (position * 4 + i) as f32 * 0.1))
            .collect();
        Angles {
            cos: angles.iter().map(|angle| 1.2 * angle.cos()).collect(),
            sin: angles.iter().map(|angle| 1.2 * angle.sin()).collect(),
            half: 3,
            on_gpu: PassOnGpu::default(),
        }
    }

    struct Batch {
        each: Vec<Sequence>,
        angles: Angles,
        n_rows: usize,
    }

    impl Batch {
        fn new(each: Vec<Sequence>) -> Self {
            let n_rows = each.iter().map(|it| it.len).sum();
            Self { angles: angles(&each), each, n_rows }
        }

        fn sequences(&self) -> Sequences<'_> {
            Sequences { start: 0, each: &self.each, angles: &self.angles }
        }

        fn cache(&self, qkv: &Tensor) -> (Tensor, Tensor) {
            let shape = (2, self.n_rows + 3, 8);
            let zeros = || Tensor::zeros(shape, DType::F32, qkv.device()).unwrap();
            let (keys, values) = (zeros(), zeros());
            append_to_cache(qkv, &keys, &values, HEADS, 0, &self.angles).unwrap();
            (keys, values)
        }

        fn forward(&self, qkv: &Tensor, rule: AttentionRule) -> Tensor {
            let (keys, values) = self.cache(qkv);
            attention(qkv, &keys, &values, rule, self.sequences()).unwrap()
        }

        fn backward(&self, qkv: &Tensor, rule: AttentionRule, dout: &Tensor) -> Vec<f32> {
            let (keys, cached) = self.cache(qkv);
            let sequences = self.sequences();
            values(&attention_backward(qkv, &keys, &cached, rule, sequences, dout).unwrap())
        }

        /// Row by row and head by head, `(T, heads D)`.
        fn slow(&self, qkv: &Tensor, rule: AttentionRule) -> Tensor {
            let mut row = 0;
            let mut rows = Vec::new();
            for sequence in &self.each {
                let start = row;
                row += sequence.len;
                let before = sequence.before.iter().cloned().flatten();
                let path: Vec<u32> = before.chain(start..row).map(|it| it as u32).collect();
                let path = Tensor::new(path, &Device::Cpu).unwrap();
                let heads: Vec<Tensor> = (0..4)
                    .map(|head| {
                        let all = |head: usize, turned: bool| {
                            self.head(qkv, head, turned).index_select(&path, 0).unwrap()
                        };
                        let queries = self.head(qkv, head, true);
                        let queries = queries.narrow(0, start, sequence.len).unwrap();
                        let (keys, values) = (all(4 + head / 2, true), all(6 + head / 2, false));
                        slow_head(&queries, &keys, &values, rule)
                    })
                    .collect();
                rows.push(Tensor::cat(&heads, 1).unwrap());
            }
            Tensor::cat(&rows, 0).unwrap()
        }

        fn head(&self, qkv: &Tensor, head: usize, turned: bool) -> Tensor {
            let part =
                |start, len| qkv.narrow(1, head * 8 + start, len).unwrap().contiguous().unwrap();
            if !turned {
                return part(0, 8);
            }
            let factors = |factors: &[f32]| {
                let factors = Tensor::new(factors, &Device::Cpu).unwrap();
                factors.reshape((self.n_rows, 3)).unwrap().to_dtype(DType::F64).unwrap()
            };
            let (cos, sin) = (factors(&self.angles.cos), factors(&self.angles.sin));
            let (a, b) = (part(0, 3), part(3, 3));
            let first = ((&a * &cos).unwrap() - (&b * &sin).unwrap()).unwrap();
            let second = ((b * cos).unwrap() + (a * sin).unwrap()).unwrap();
            Tensor::cat(&[first, second, part(6, 2)], 1).unwrap()
        }
    }

    fn slow_head(queries: &Tensor, keys: &Tensor, values: &Tensor, rule: AttentionRule) -> Tensor {
        let (n_queries, n_seen) = (queries.dim(0).unwrap(), keys.dim(0).unwrap());
        let mut scores = queries.matmul(&keys.t().unwrap()).unwrap();
        scores = (scores * f64::from(rule.scale)).unwrap();
        if let Some(cap) = rule.softcap.map(f64::from) {
            scores = ((scores / cap).unwrap().tanh().unwrap() * cap).unwrap();
        }
        let sees = |query: usize, place: usize| {
            let position = n_seen - n_queries + query;
            place <= position && rule.window.is_none_or(|window| position - place < window)
        };
        let mask: Vec<f64> = (0..n_queries * n_seen)
            .map(|i| f64::from(u8::from(sees(i / n_seen, i % n_seen))))
            .collect();
        let mask = Tensor::from_vec(mask, (n_queries, n_seen), &Device::Cpu).unwrap();
        let weights = (scores.exp().unwrap() * mask).unwrap();
        let sums = weights.sum_keepdim(D::Minus1).unwrap();
        weights.broadcast_div(&sums).unwrap().matmul(values).unwrap()
    }

    #[test]
    fn gradients_are_candles() {
        // The last prompt has queries of two units, each of several blocks.
        check_gradients(&Device::Cpu, &[1, 40, UNIT + 90]);
    }

    #[test]
    fn gradients_on_a_gpu_are_candles() {
        on_gpu(|device| check_gradients(device, &[1, 80]));
    }

    fn check_gradients(device: &Device, prompt_lengths: &[usize]) {
        for prompt_len in prompt_lengths {
            let prompt_len = *prompt_len;
            let batch = Batch::new(sequences(prompt_len));
            let qkv = some_values((batch.n_rows, 64), 1);
            let dout = some_values((batch.n_rows, 32), 2);
            for both in RULES {
                let rule = rule(both);
                let qkv64 = variable(&qkv);
                let y = batch.slow(&qkv64, rule);
                let expected = by_candle(&y, &dout, &[&qkv64]).remove(0);
                // The kernels keep what they have of the sequences for the pass.
                let batch = Batch::new(sequences(prompt_len));
                let (qkv, dout) = (on(device, &qkv), on(device, &dout));
                assert_close(&values(&batch.forward(&qkv, rule)), &values(&y), tolerance::F32);
                assert_close(&batch.backward(&qkv, rule, &dout), &expected, tolerance::F32);
            }
        }
    }

    #[test]
    fn gradients_are_the_slopes_of_the_forward_pass() {
        let batch = Batch::new(sequences(3));
        let qkv = some_values((batch.n_rows, 64), 1);
        let dout = some_values((batch.n_rows, 32), 2);
        for both in &RULES[..4] {
            let rule = rule(*both);
            let found = batch.backward(&qkv, rule, &dout);
            assert_slopes(&found, &qkv, &dout, |qkv| batch.forward(qkv, rule));
        }
    }

    #[test]
    fn shared_prompt_gets_the_gradients_of_both_responses() {
        let batch = Batch::new(sequences(6));
        let qkv = some_values((batch.n_rows, 64), 1);
        let rule = rule(RULES[0]);
        // Only what the rows in this range put out is asked about.
        let of = |rows: Range<usize>| {
            let mut dout = values(&some_values((batch.n_rows, 32), 2));
            dout[..rows.start * 32].fill(0.0);
            dout[rows.end * 32..].fill(0.0);
            let dout = Tensor::from_vec(dout, (batch.n_rows, 32), &Device::Cpu).unwrap();
            batch.backward(&qkv, rule, &dout)
        };
        let (one, other, both) = (of(6..9), of(9..13), of(6..13));
        let sum: Vec<f32> = one.iter().zip(&other).map(|(a, b)| a + b).collect();
        assert_close(&both, &sum, tolerance::F32);
        for part in [&one, &other] {
            assert!(part[32..64].iter().any(|it| it.abs() > 1e-3), "the prompt's first keys");
        }
        assert!(one[9 * 64..].iter().all(|it| *it == 0.0), "what follows is not seen");
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let batch = Batch::new(sequences(UNIT + 90));
        let qkv = some_values((batch.n_rows, 64), 1);
        let dout = some_values((batch.n_rows, 32), 2);
        assert_deterministic(|| batch.backward(&qkv, rule(RULES[0]), &dout));
    }

    fn what_is_not_new_and_other_shapes_are_refused(device: &Device) {
        let batch = Batch::new(sequences(6));
        let qkv = on(device, &some_values((batch.n_rows, 64), 1));
        let (keys, cached) = batch.cache(&qkv);
        let back = |sequences: Sequences<'_>, n_rows: usize, width: usize| {
            let dout = on(device, &some_values((n_rows, width), 2));
            attention_backward(&qkv, &keys, &cached, rule(RULES[0]), sequences, &dout)
        };
        let sequences = batch.sequences();
        assert!(back(sequences, batch.n_rows, 32).is_ok());
        assert!(back(sequences, batch.n_rows, 64).is_err());
        assert!(back(sequences, batch.n_rows - 1, 32).is_err());
        assert!(back(Sequences { start: 1, ..sequences }, batch.n_rows, 32).is_err());
        assert!(back(Sequences { each: &batch.each[1..], ..sequences }, batch.n_rows, 32).is_err());
        let later = [Sequence::behind(100, batch.n_rows)];
        assert!(back(Sequences { each: &later, ..sequences }, batch.n_rows, 32).is_err());
    }
}
