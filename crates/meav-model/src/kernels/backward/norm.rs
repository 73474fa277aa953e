use candle_core::{CpuStorage, CustomOp2, InplaceOp2, InplaceOp3, Layout, Result, Shape, Tensor};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::{add_row_sums, gpu};
use crate::kernels::attention::HeadLayout;
use crate::kernels::dot::dot_rows;
use crate::kernels::gpu::is_on_gpu;
use crate::kernels::norm::{NormRule, inverse_root_mean_square};
use crate::kernels::{f32_slice, f32_slice_mut};

/// The gradient of the input of [`rms_norm`](crate::kernels::rms_norm); the weight's own is added
/// to `dweight`.
///
/// ```text
/// dx = r ((w + offset) dy) − r³ x mean((w + offset) dy x)
/// dw += Σ rows of r x dy                                  with r = 1 / √(mean(x²) + ε)
/// ```
///
/// # Shapes
///
/// `x` and `dy` are `(T, H)` and `f32`, as is the result; `weight` is `(H,)` of any floating point
/// type, `dweight` `(H,)` and `f32`.
pub(crate) fn rms_norm_backward(
    x: &Tensor,
    weight: &Tensor,
    rule: NormRule,
    dy: &Tensor,
    dweight: Option<&Tensor>,
) -> Result<Tensor> {
    if x.dims() != dy.dims() || x.dims2()?.1 != weight.dims1()? {
        candle_core::bail!("{:?} and {:?} for a norm of {:?}", x.dims(), dy.dims(), weight.dims());
    }
    if is_on_gpu(x) {
        return gpu::rms_norm_backward(x, weight, rule, dy, dweight);
    }
    if let Some(dweight) = dweight {
        let heads = Heads { start: 0, count: 1, head_dim: weight.dims1()? };
        dweight.inplace_op3(x, dy, &AddNormWeight { eps: rule.eps, heads })?;
    }
    x.apply_op2_no_bwd(dy, &RmsNormBackward { weight: rule.read(weight)?, eps: rule.eps })
}

/// As [`rms_norm_backward`] for [`norm_heads`](crate::kernels::norm_heads), in place: what `dqkv`
/// holds for queries and keys is replaced. `dweights` are those of queries and of keys.
///
/// # Shapes
///
/// `qkv_before_norm` and `dqkv` are `(T, (heads + 2 kv_heads) D)`, both weights `(D,)` of any
/// floating point type, their gradients `(D,)` and `f32`.
pub(crate) fn norm_heads_backward(
    qkv_before_norm: &Tensor,
    q_weight: &Tensor,
    k_weight: &Tensor,
    rule: NormRule,
    heads: HeadLayout,
    dqkv: &Tensor,
    dweights: Option<(&Tensor, &Tensor)>,
) -> Result<()> {
    let qkv = qkv_before_norm;
    if qkv.dims() != dqkv.dims() || qkv.dims2()?.1 != heads.row_len() {
        candle_core::bail!("{:?} and {:?} for {heads:?}", qkv.dims(), dqkv.dims());
    }
    let HeadLayout { n_heads, n_kv_heads, head_dim } = heads;
    if [q_weight, k_weight].iter().any(|weight| weight.dims() != [head_dim]) {
        candle_core::bail!("{:?} and {:?} norm {heads:?}", q_weight.dims(), k_weight.dims());
    }
    if is_on_gpu(qkv) {
        let weights = [q_weight, k_weight];
        return gpu::norm_heads_backward(qkv, weights, rule, heads, dqkv, dweights);
    }
    let parts = [(0, n_heads, q_weight), (heads.keys_start(), n_kv_heads, k_weight)];
    for (index, (start, count, weight)) in parts.into_iter().enumerate() {
        let heads = Heads { start, count, head_dim };
        if let Some((q, k)) = dweights {
            let dweight = if index == 0 { q } else { k };
            dweight.inplace_op3(qkv, dqkv, &AddNormWeight { eps: rule.eps, heads })?;
        }
        let weight = rule.read(weight)?;
        dqkv.inplace_op2(qkv, &HeadNormBackward { weight, eps: rule.eps, heads })?;
    }
    Ok(())
}

struct RmsNormBackward {
    weight: Vec<f32>,
    eps: f32,
}

impl CustomOp2 for RmsNormBackward {
    fn name(&self) -> &'static str {
        "rms-norm-backward"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        dy: &CpuStorage,
        dy_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let n = self.weight.len();
        let x = f32_slice(x, x_layout)?;
        let mut dx = f32_slice(dy, dy_layout)?.to_vec();
        let arch = Arch::new();
        let heads = Heads { start: 0, count: 1, head_dim: n };
        dx.par_chunks_mut(n * TASK).zip(x.par_chunks(n * TASK)).for_each(|(dx, x)| {
            let (weight, eps) = (&self.weight[..], self.eps);
            arch.dispatch(NormTask { dx, x, row_len: n, heads, weight, eps });
        });
        Ok((CpuStorage::F32(dx), x_layout.shape().clone()))
    }
}

/// Rows that one task takes.
const TASK: usize = 16;

/// Neighbouring parts of a row that are each normalised by themselves.
#[derive(Clone, Copy)]
struct Heads {
    /// Where in the row the first starts.
    start: usize,
    count: usize,
    head_dim: usize,
}

impl Heads {
    #[inline(always)]
    fn of<'a>(&self, row: &'a [f32]) -> impl Iterator<Item = &'a [f32]> {
        row[self.start..][..self.count * self.head_dim].chunks_exact(self.head_dim)
    }
}

/// Some rows; `dx` holds the output's gradient.
struct NormTask<'a> {
    dx: &'a mut [f32],
    x: &'a [f32],
    row_len: usize,
    heads: Heads,
    weight: &'a [f32],
    eps: f32,
}

impl WithSimd for NormTask<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { dx, x, row_len, heads, weight, eps } = self;
        let Heads { start, count, head_dim } = heads;
        for (dx, x) in dx.chunks_exact_mut(row_len).zip(x.chunks_exact(row_len)) {
            let dx = &mut dx[start..][..count * head_dim];
            for (dx, x) in dx.chunks_exact_mut(head_dim).zip(heads.of(x)) {
                norm_backward(simd, dx, x, weight, eps);
            }
        }
    }
}

#[inline(always)]
fn norm_backward<S: Simd>(simd: S, dx: &mut [f32], x: &[f32], weight: &[f32], eps: f32) {
    let scale = inverse_root_mean_square(simd, x, eps);
    for (dx, weight) in dx.iter_mut().zip(weight) {
        *dx *= weight;
    }
    let mut along = [0.0];
    dot_rows(simd, x, dx, &mut along);
    let along = along[0] / x.len() as f32 * scale * scale;
    for (dx, x) in dx.iter_mut().zip(x) {
        *dx = scale * (*dx - along * x);
    }
}

struct HeadNormBackward {
    weight: Vec<f32>,
    eps: f32,
    heads: Heads,
}

impl InplaceOp2 for HeadNormBackward {
    fn name(&self) -> &'static str {
        "head-norm-backward"
    }

    fn cpu_fwd(
        &self,
        dqkv: &mut CpuStorage,
        dqkv_layout: &Layout,
        qkv: &CpuStorage,
        qkv_layout: &Layout,
    ) -> Result<()> {
        let (_, row_len) = qkv_layout.shape().dims2()?;
        let qkv = f32_slice(qkv, qkv_layout)?;
        let dqkv = f32_slice_mut(dqkv, dqkv_layout)?;
        let arch = Arch::new();
        let task = row_len * TASK;
        dqkv.par_chunks_mut(task).zip(qkv.par_chunks(task)).for_each(|(dx, x)| {
            let Self { weight, eps, heads } = self;
            arch.dispatch(NormTask { dx, x, row_len, heads: *heads, weight, eps: *eps });
        });
        Ok(())
    }
}

struct AddNormWeight {
    eps: f32,
    heads: Heads,
}

impl InplaceOp3 for AddNormWeight {
    fn name(&self) -> &'static str {
        "norm-backward-weight"
    }

    fn cpu_fwd(
        &self,
        dweight: &mut CpuStorage,
        dweight_layout: &Layout,
        x: &CpuStorage,
        x_layout: &Layout,
        dy: &CpuStorage,
        dy_layout: &Layout,
    ) -> Result<()> {
        let (n_rows, row_len) = x_layout.shape().dims2()?;
        let (x, dy) = (f32_slice(x, x_layout)?, f32_slice(dy, dy_layout)?);
        let dweight = f32_slice_mut(dweight, dweight_layout)?;
        if dweight.len() != self.heads.head_dim {
            candle_core::bail!("a norm's gradient has {} elements", dweight.len());
        }
        let arch = Arch::new();
        add_row_sums(dweight, n_rows, |rows, sums| {
            let rows = rows.start * row_len..rows.end * row_len;
            let (x, dy) = (&x[rows.clone()], &dy[rows]);
            arch.dispatch(WeightTask { op: self, sums, x, dy, row_len });
        });
        Ok(())
    }
}

struct WeightTask<'a> {
    op: &'a AddNormWeight,
    sums: &'a mut [f32],
    x: &'a [f32],
    dy: &'a [f32],
    row_len: usize,
}

impl WithSimd for WeightTask<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { op: AddNormWeight { eps, heads }, sums, x, dy, row_len } = self;
        for (x, dy) in x.chunks_exact(row_len).zip(dy.chunks_exact(row_len)) {
            for (x, dy) in heads.of(x).zip(heads.of(dy)) {
                let scale = inverse_root_mean_square(simd, x, *eps);
                for ((sum, x), dy) in sums.iter_mut().zip(x).zip(dy) {
                    *sum += scale * x * dy;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{D, DType, Device};
    use meav_cuda::on_cpu_and_gpu;
    use meav_test_support::{assert_close, tolerance};

    use super::super::testing::{
        assert_deterministic, assert_slopes, by_candle, on, some_values, values, variable,
    };
    use super::*;
    use crate::kernels::{norm_heads, rms_norm};

    on_cpu_and_gpu!(
        norms_and_their_gradients_are_candles,
        norms_of_heads_and_their_gradients_are_candles,
        other_shapes_are_refused,
    );

    const RULES: [NormRule; 2] =
        [NormRule { eps: 1e-5, offset: 0.0 }, NormRule { eps: 0.1, offset: 1.0 }];

    const HEADS: HeadLayout = HeadLayout { n_heads: 4, n_kv_heads: 2, head_dim: 9 };

    fn slow(x: &Tensor, weight: &Tensor, rule: NormRule) -> Tensor {
        let square = x.sqr().unwrap().mean_keepdim(D::Minus1).unwrap();
        let root = (square + f64::from(rule.eps)).unwrap().sqrt().unwrap();
        let weight = (weight + f64::from(rule.offset)).unwrap();
        x.broadcast_div(&root).unwrap().broadcast_mul(&weight).unwrap()
    }

    fn slow_heads(qkv: &Tensor, q: &Tensor, k: &Tensor, rule: NormRule) -> Tensor {
        let n = qkv.dim(0).unwrap();
        let heads = qkv.reshape((n, 8, 9)).unwrap();
        let part = |start, len| heads.narrow(1, start, len).unwrap();
        let parts = [slow(&part(0, 4), q, rule), slow(&part(4, 2), k, rule), part(6, 2)];
        Tensor::cat(&parts, 1).unwrap().reshape((n, 72)).unwrap()
    }

    #[track_caller]
    fn assert_added(found: &Tensor, start: &[f32], expected: &[f32]) {
        let sum: Vec<f32> = start.iter().zip(expected).map(|(a, b)| a + b).collect();
        assert_close(&values(found), &sum, tolerance::F32);
    }

    /// The two rules, and each type.
    const CASES: [(NormRule, DType); 3] =
        [(RULES[0], DType::F32), (RULES[1], DType::BF16), (RULES[1], DType::F16)];

    fn norms_and_their_gradients_are_candles(device: &Device) {
        for (n_rows, n) in [(1, 5), (70, 33), (130, 64), (2, 600)] {
            for (rule, dtype) in CASES {
                let x = some_values((n_rows, n), 1);
                let weight = some_values(n, 2).to_dtype(dtype).unwrap();
                let (x64, weight64) = (variable(&x), variable(&weight));
                let dy = some_values((n_rows, n), 3);
                let y = slow(&x64, &weight64, rule);
                let expected = by_candle(&y, &dy, &[&x64, &weight64]);
                let [x, weight, dy] = [&x, &weight, &dy].map(|it| on(device, it));
                assert_close(
                    &values(&rms_norm(&x, &weight, rule).unwrap()),
                    &values(&y),
                    tolerance::F32,
                );
                let dweight = on(device, &some_values(n, 4));
                let start = values(&dweight);
                let dx = rms_norm_backward(&x, &weight, rule, &dy, Some(&dweight)).unwrap();
                assert_close(&values(&dx), &expected[0], tolerance::F32);
                assert_added(&dweight, &start, &expected[1]);
                let again = rms_norm_backward(&x, &weight, rule, &dy, None).unwrap();
                assert_eq!(values(&again), values(&dx));
            }
        }
    }

    #[test]
    fn gradients_of_a_norm_are_the_slopes_of_the_forward_pass() {
        for rule in RULES {
            let (x, weight) = (some_values((3, 10), 1), some_values(10, 2));
            let dy = some_values((3, 10), 3);
            let dweight = weight.zeros_like().unwrap();
            let dx = rms_norm_backward(&x, &weight, rule, &dy, Some(&dweight)).unwrap();
            assert_slopes(&values(&dx), &x, &dy, |x| rms_norm(x, &weight, rule).unwrap());
            assert_slopes(&values(&dweight), &weight, &dy, |it| rms_norm(&x, it, rule).unwrap());
        }
    }

    fn norms_of_heads_and_their_gradients_are_candles(device: &Device) {
        for n_rows in [1, 70] {
            for (rule, dtype) in CASES {
                let qkv = some_values((n_rows, 72), 1);
                let [q, k] = [2, 3].map(|seed| some_values(9, seed).to_dtype(dtype).unwrap());
                let all = [&qkv, &q, &k].map(variable);
                let y = slow_heads(&all[0], &all[1], &all[2], rule);
                let dqkv = some_values((n_rows, 72), 4);
                let expected = by_candle(&y, &dqkv, &[&all[0], &all[1], &all[2]]);
                let [qkv, q, k, dqkv] = [&qkv, &q, &k, &dqkv].map(|it| on(device, it));
                let normed = qkv.copy().unwrap();
                norm_heads(&normed, &q, &k, rule, HEADS).unwrap();
                assert_close(&values(&normed), &values(&y), tolerance::F32);
                let [dq, dk] = [5, 6].map(|seed| on(device, &some_values(9, seed)));
                let start = [values(&dq), values(&dk)];
                let without = dqkv.copy().unwrap();
                let back = |dqkv: &Tensor, dweights| {
                    norm_heads_backward(&qkv, &q, &k, rule, HEADS, dqkv, dweights).unwrap();
                };
                back(&dqkv, Some((&dq, &dk)));
                back(&without, None);
                assert_close(&values(&dqkv), &expected[0], tolerance::F32);
                assert_added(&dq, &start[0], &expected[1]);
                assert_added(&dk, &start[1], &expected[2]);
                assert_eq!(values(&without), values(&dqkv));
            }
        }
    }

    #[test]
    fn gradients_of_norms_of_heads_are_the_slopes_of_the_forward_pass() {
        let (qkv, rule) = (some_values((2, 72), 1), RULES[1]);
        let (q, k) = (some_values(9, 2), some_values(9, 3));
        let forward = |qkv: &Tensor, q: &Tensor, k: &Tensor| {
            let y = qkv.copy().unwrap();
            norm_heads(&y, q, k, rule, HEADS).unwrap();
            y
        };
        let dy = some_values((2, 72), 4);
        let dqkv = dy.copy().unwrap();
        let (dq, dk) = (q.zeros_like().unwrap(), k.zeros_like().unwrap());
        norm_heads_backward(&qkv, &q, &k, rule, HEADS, &dqkv, Some((&dq, &dk))).unwrap();
        assert_slopes(&values(&dqkv), &qkv, &dy, |it| forward(it, &q, &k));
        assert_slopes(&values(&dq), &q, &dy, |it| forward(&qkv, it, &k));
        assert_slopes(&values(&dk), &k, &dy, |it| forward(&qkv, &q, it));
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let (x, dy) = (some_values((300, 72), 1), some_values((300, 72), 2));
        let (weight, q, k) = (some_values(72, 3), some_values(9, 4), some_values(9, 5));
        assert_deterministic(|| {
            let grads = [some_values(72, 6), some_values(9, 7), some_values(9, 8)];
            let dx = rms_norm_backward(&x, &weight, RULES[0], &dy, Some(&grads[0])).unwrap();
            let dweights = Some((&grads[1], &grads[2]));
            norm_heads_backward(&x, &q, &k, RULES[0], HEADS, &dx, dweights).unwrap();
            grads.iter().chain([&dx]).flat_map(values).collect()
        });
    }

    fn other_shapes_are_refused(device: &Device) {
        let some = |shape: &[usize], seed: u64| on(device, &some_values(shape, seed));
        let (x, weight) = (some(&[3, 72], 1), some(&[72], 2));
        let (rule, short) = (RULES[0], some(&[9], 3));
        let norm = |dy: &Tensor, weight: &Tensor, dweight: Option<&Tensor>| {
            rms_norm_backward(&x, weight, rule, dy, dweight)
        };
        assert!(norm(&x, &weight, Some(&weight.copy().unwrap())).is_ok());
        assert!(norm(&some(&[2, 72], 4), &weight, None).is_err());
        assert!(norm(&x, &short, None).is_err());
        assert!(norm(&x, &weight, Some(&short)).is_err());
        let heads =
            |dqkv: &Tensor, q: &Tensor| norm_heads_backward(&x, q, &short, rule, HEADS, dqkv, None);
        assert!(heads(&some(&[3, 72], 4), &short).is_ok());
        assert!(heads(&some(&[2, 72], 4), &short).is_err());
        assert!(heads(&some(&[3, 72], 4), &weight).is_err());
    }
}
