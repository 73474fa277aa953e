use std::slice;

use candle_core::{CpuStorage, DType, InplaceOp1, InplaceOp2, InplaceOp3, Layout, Tensor};
use meav_job::JobCtx;
use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;

use super::gpu;
use super::linear::{add_linear_backward_input, linear_backward_weights};
use crate::ModelError;
use crate::kernels::gpu::is_on_gpu;
use crate::kernels::log_probs::{LOGITS, NormaliserTask};
use crate::kernels::panel::PANEL;
use crate::kernels::simd::exp;
use crate::kernels::{f32_slice, f32_slice_mut, linear, soft_cap as apply_soft_cap};

/// What rows of hidden states say about the tokens that follow them.
#[derive(Debug)]
pub(crate) struct HeadPass {
    /// Of each row's target, `(R,)`, in nats.
    pub(crate) log_probs: Vec<f32>,
    /// What each row's log-probability changes by with the row, `(R, H)`.
    pub(crate) unit_gradient: Option<Tensor>,
}

/// Rows that are taken together through the vocabulary.
const ROWS: usize = 1024;

/// Log-softmax of each row's logits at its target, and the gradient of that, without ever holding
/// the logits of the whole vocabulary.
///
/// ```text
/// z = c tanh(W x / c)                  with soft cap c, or without: z = W x
/// log p = zₜ − log Σ exp z
/// d log p / dx = Σᵢ ([i = t] − exp zᵢ / Σ exp z) (1 − zᵢ² / c²) Wᵢ
/// ```
///
/// The vocabulary is passed through once: sums so far are scaled down whenever a larger logit
/// turns up (Milakov and Gimelshein, 2018, arXiv:1805.02867).
///
/// # Shapes
///
/// `x` is `(R, H)` and `f32`, behind the last norm, `output` `(V, H)` of any floating point type,
/// with one target for each row.
///
/// # Errors
///
/// [`ModelError::Cancelled`] between two parts of the vocabulary.
pub(crate) fn head_log_probs(
    x: &Tensor,
    output: &Tensor,
    soft_cap: Option<f32>,
    targets: &[u32],
    wants_gradient: bool,
    job: &JobCtx<'_>,
) -> Result<HeadPass, ModelError> {
    check(x, output, targets)?;
    let mut log_probs = Vec::with_capacity(targets.len());
    let mut gradients = Vec::new();
    for (index, targets) in targets.chunks(ROWS).enumerate() {
        let mut rows = Rows::new(x.narrow(0, index * ROWS, targets.len())?, targets, soft_cap)?;
        if wants_gradient {
            rows.gradient = Some(rows.x.zeros_like()?);
        }
        rows.pass(output, job)?;
        log_probs.extend(rows.log_probs()?);
        gradients.extend(rows.unit_gradient(output)?);
    }
    let unit_gradient = wants_gradient.then(|| Tensor::cat(&gradients, 0)).transpose()?;
    Ok(HeadPass { log_probs, unit_gradient })
}

fn check(x: &Tensor, output: &Tensor, targets: &[u32]) -> candle_core::Result<()> {
    let (n_tokens, n) = output.dims2()?;
    if x.dims() != [targets.len(), n] {
        candle_core::bail!("{:?} for {} targets of {n_tokens} × {n}", x.dims(), targets.len());
    }
    if let Some(token) = targets.iter().find(|token| **token as usize >= n_tokens) {
        candle_core::bail!("token {token} is beyond the vocabulary of {n_tokens}");
    }
    Ok(())
}

fn check_gradient(
    output: &Tensor,
    targets: &[u32],
    upstream: &[f32],
    grad: &Tensor,
) -> candle_core::Result<()> {
    if upstream.len() != targets.len() || grad.dims() != output.dims() {
        let n = upstream.len();
        candle_core::bail!("{n} gradients for {} targets, {:?}", targets.len(), grad.dims());
    }
    Ok(())
}

/// What is known of some rows after a part of the vocabulary.
struct Rows<'a> {
    x: Tensor,
    targets: &'a [u32],
    soft_cap: Option<f32>,
    /// A [`State`] for each row, `(R, 4)` and `f64`.
    states: Tensor,
    /// `Σᵢ exp(zᵢ − max z) (1 − zᵢ² / c²) Wᵢ`, `(R, H)`.
    gradient: Option<Tensor>,
}

/// A row's `max z`, `Σ exp(z − max z)`, `zₜ`, and what sums over `exp(z − max z)` have last shrunk
/// by.
type State = [f64; 4];

const MAX: usize = 0;
const SUM: usize = 1;
const TARGET: usize = 2;
const SHRINKAGE: usize = 3;

impl<'a> Rows<'a> {
    fn new(x: Tensor, targets: &'a [u32], soft_cap: Option<f32>) -> candle_core::Result<Self> {
        let nothing: State = [f64::NEG_INFINITY, 0.0, f64::NAN, 1.0];
        let shape = (targets.len(), nothing.len());
        let states = Tensor::from_vec(nothing.repeat(targets.len()), shape, x.device())?;
        Ok(Self { x, targets, soft_cap, states, gradient: None })
    }

    /// Passes through the vocabulary.
    fn pass(&self, output: &Tensor, job: &JobCtx<'_>) -> Result<(), ModelError> {
        let (n_tokens, n) = output.dims2()?;
        // Each part costs a GPU some launches, and its memory is large.
        let panel_len = if is_on_gpu(&self.x) { LOGITS / ROWS } else { PANEL.div_ceil(n) };
        for first in (0..n_tokens).step_by(panel_len) {
            job.check()?;
            let panel = output.narrow(0, first, panel_len.min(n_tokens - first))?;
            self.fold(first, slice::from_ref(&panel))?;
        }
        Ok(())
    }

    fn fold(&self, first: usize, panel: &[Tensor]) -> candle_core::Result<()> {
        let Self { x, targets, soft_cap, states, gradient } = self;
        let logits = capped_logits(x, panel, *soft_cap)?;
        let is_on_gpu = is_on_gpu(x);
        if is_on_gpu {
            gpu::head_fold(states, &logits, targets, first)?;
        } else {
            states.inplace_op2(&logits, &Fold { targets, first })?;
        }
        if let Some(gradient) = gradient {
            if is_on_gpu {
                gpu::head_shrink(gradient, states)?;
                gpu::head_weigh(&logits, states, *soft_cap)?;
            } else {
                gradient.inplace_op2(states, &Shrink)?;
                logits.inplace_op2(states, &Weigh { soft_cap: *soft_cap })?;
            }
            add_linear_backward_input(gradient, &logits, panel)?;
        }
        Ok(())
    }

    fn states(&self) -> candle_core::Result<Vec<State>> {
        let states = self.states.flatten_all()?.to_vec1::<f64>()?;
        Ok(states.as_chunks().0.to_vec())
    }

    fn log_probs(&self) -> candle_core::Result<Vec<f32>> {
        let log_prob = |state: State| (state[TARGET] - state[MAX] - state[SUM].ln()) as f32;
        Ok(self.states()?.into_iter().map(log_prob).collect())
    }

    fn unit_gradient(&self, output: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let Some(gradient) = &self.gradient else { return Ok(None) };
        let targets = Tensor::new(self.targets, output.device())?;
        let own = output.index_select(&targets, 0)?.to_dtype(DType::F32)?;
        if is_on_gpu(gradient) {
            gpu::head_finish(gradient, &self.states, &own, self.soft_cap)?;
        } else {
            gradient.inplace_op3(&self.states, &own, &Finish { soft_cap: self.soft_cap })?;
        }
        Ok(Some(gradient.clone()))
    }
}

fn capped_logits(
    x: &Tensor,
    output: &[Tensor],
    soft_cap: Option<f32>,
) -> candle_core::Result<Tensor> {
    let logits = linear(x, output, &[])?;
    if let Some(cap) = soft_cap {
        apply_soft_cap(&logits, cap)?;
    }
    Ok(logits)
}

/// The slope of the soft cap where it gives `capped`.
#[inline(always)]
fn cap_slope(capped: f32, soft_cap: Option<f32>) -> f32 {
    soft_cap.map_or(1.0, |cap| (capped / cap).mul_add(-capped / cap, 1.0))
}

fn read_states<'a>(storage: &'a CpuStorage, layout: &Layout) -> candle_core::Result<&'a [State]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F64(values), Some((start, end))) => Ok(values[start..end].as_chunks().0),
        _ => candle_core::bail!("the rows' states must be contiguous and f64"),
    }
}

/// Takes a part of the vocabulary into the rows' states.
struct Fold<'a> {
    targets: &'a [u32],
    /// The part's first token.
    first: usize,
}

impl InplaceOp2 for Fold<'_> {
    fn name(&self) -> &'static str {
        "head-fold"
    }

    fn cpu_fwd(
        &self,
        states: &mut CpuStorage,
        states_layout: &Layout,
        logits: &CpuStorage,
        logits_layout: &Layout,
    ) -> candle_core::Result<()> {
        let (CpuStorage::F64(states), Some((start, end))) =
            (states, states_layout.contiguous_offsets())
        else {
            candle_core::bail!("the rows' states must be contiguous and f64");
        };
        let states: &mut [State] = states[start..end].as_chunks_mut().0;
        let (_, n) = logits_layout.shape().dims2()?;
        let rows = f32_slice(logits, logits_layout)?.par_chunks_exact(n);
        let arch = Arch::new();
        states.par_iter_mut().zip(rows).zip(self.targets).for_each(|((state, row), target)| {
            let part = arch.dispatch(NormaliserTask { row });
            let max = state[MAX].max(f64::from(part.max));
            state[SHRINKAGE] = (state[MAX] - max).exp();
            state[SUM] *= state[SHRINKAGE];
            state[SUM] += part.sum * (f64::from(part.max) - max).exp();
            state[MAX] = max;
            let own = (*target as usize).checked_sub(self.first).and_then(|index| row.get(index));
            if let Some(logit) = own {
                state[TARGET] = f64::from(*logit);
            }
        });
        Ok(())
    }
}

/// Scales sums over `exp(z − max z)` down to a new maximum.
struct Shrink;

impl InplaceOp2 for Shrink {
    fn name(&self) -> &'static str {
        "head-shrink"
    }

    fn cpu_fwd(
        &self,
        sums: &mut CpuStorage,
        sums_layout: &Layout,
        states: &CpuStorage,
        states_layout: &Layout,
    ) -> candle_core::Result<()> {
        let (_, n) = sums_layout.shape().dims2()?;
        let rows = f32_slice_mut(sums, sums_layout)?.par_chunks_exact_mut(n);
        rows.zip(read_states(states, states_layout)?).for_each(|(row, state)| {
            if state[SHRINKAGE] < 1.0 {
                for sum in row {
                    *sum *= state[SHRINKAGE] as f32;
                }
            }
        });
        Ok(())
    }
}

/// Turns capped logits into `exp(z − max z) (1 − z² / c²)`.
struct Weigh {
    soft_cap: Option<f32>,
}

impl InplaceOp2 for Weigh {
    fn name(&self) -> &'static str {
        "head-weigh"
    }

    fn cpu_fwd(
        &self,
        logits: &mut CpuStorage,
        logits_layout: &Layout,
        states: &CpuStorage,
        states_layout: &Layout,
    ) -> candle_core::Result<()> {
        let (_, n) = logits_layout.shape().dims2()?;
        let rows = f32_slice_mut(logits, logits_layout)?.par_chunks_exact_mut(n);
        let arch = Arch::new();
        rows.zip(read_states(states, states_layout)?).for_each(|(row, state)| {
            let (max, soft_cap) = (state[MAX] as f32, self.soft_cap);
            arch.dispatch(WeighTask { row, max, scale: 1.0, soft_cap });
        });
        Ok(())
    }
}

/// `s exp(z − max z) (1 − z² / c²)` for a row of capped logits.
struct WeighTask<'a> {
    row: &'a mut [f32],
    max: f32,
    scale: f32,
    soft_cap: Option<f32>,
}

impl NullaryFnOnce for WeighTask<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { row, max, scale, soft_cap } = self;
        match soft_cap {
            None => {
                for value in row {
                    *value = scale * exp(*value - max);
                }
            }
            Some(_) => {
                for value in row {
                    *value = scale * exp(*value - max) * cap_slope(*value, soft_cap);
                }
            }
        }
    }
}

/// `(1 − zₜ² / c²) Wₜ − Σᵢ exp(zᵢ − max z) (1 − zᵢ² / c²) Wᵢ / Σ exp(z − max z)`
struct Finish {
    soft_cap: Option<f32>,
}

impl InplaceOp3 for Finish {
    fn name(&self) -> &'static str {
        "head-finish"
    }

    fn cpu_fwd(
        &self,
        sums: &mut CpuStorage,
        sums_layout: &Layout,
        states: &CpuStorage,
        states_layout: &Layout,
        own: &CpuStorage,
        own_layout: &Layout,
    ) -> candle_core::Result<()> {
        let (_, n) = sums_layout.shape().dims2()?;
        let rows = f32_slice_mut(sums, sums_layout)?.par_chunks_exact_mut(n);
        let own = f32_slice(own, own_layout)?.par_chunks_exact(n);
        rows.zip(own).zip(read_states(states, states_layout)?).for_each(|((row, own), state)| {
            let slope = cap_slope(state[TARGET] as f32, self.soft_cap);
            let inverse = state[SUM].recip() as f32;
            for (sum, own) in row.iter_mut().zip(own) {
                *sum = slope * own - inverse * *sum;
            }
        });
        Ok(())
    }
}

/// Adds the gradient of the output's weights to what `grad` holds; see [`head_log_probs`]. The
/// logits are computed again, some rows at a time.
///
/// ```text
/// dWᵢ += Σ uᵣ ([i = tᵣ] − pᵣᵢ) (1 − zᵣᵢ² / c²) xᵣ     over the rows r
/// ```
///
/// # Shapes
///
/// As there; `upstream` is `u`, what the loss changes by with each row's log-probability, `(R,)`,
/// `grad` `(V, H)` and `f32`.
///
/// # Errors
///
/// [`ModelError::Cancelled`] between some rows and the next.
pub(crate) fn head_backward_weights(
    x: &Tensor,
    output: &Tensor,
    soft_cap: Option<f32>,
    targets: &[u32],
    upstream: &[f32],
    grad: &Tensor,
    job: &JobCtx<'_>,
) -> Result<(), ModelError> {
    check(x, output, targets)?;
    check_gradient(output, targets, upstream, grad)?;
    let n_rows = (LOGITS / output.dim(0)?).max(1);
    let chunks = targets.chunks(n_rows).zip(upstream.chunks(n_rows));
    for (index, (targets, upstream)) in chunks.enumerate() {
        job.check()?;
        let x = x.narrow(0, index * n_rows, targets.len())?;
        let logits = capped_logits(&x, slice::from_ref(output), soft_cap)?;
        if is_on_gpu(&logits) {
            gpu::head_logit_gradient(&logits, targets, upstream, soft_cap)?;
        } else {
            logits.inplace_op1(&LogitGradient { soft_cap, targets, upstream })?;
        }
        linear_backward_weights(&logits, &x, slice::from_ref(grad), &[], output.dtype())?;
    }
    Ok(())
}

/// Turns capped logits into the loss's gradient with respect to what was capped.
struct LogitGradient<'a> {
    soft_cap: Option<f32>,
    targets: &'a [u32],
    upstream: &'a [f32],
}

impl InplaceOp1 for LogitGradient<'_> {
    fn name(&self) -> &'static str {
        "head-logit-gradient"
    }

    fn cpu_fwd(&self, logits: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let (_, n) = layout.shape().dims2()?;
        let rows = f32_slice_mut(logits, layout)?.par_chunks_exact_mut(n);
        let soft_cap = self.soft_cap;
        let arch = Arch::new();
        rows.zip(self.targets).zip(self.upstream).for_each(|((row, target), upstream)| {
            let target = *target as usize;
            let own = upstream * cap_slope(row[target], soft_cap);
            let part = arch.dispatch(NormaliserTask { row });
            let scale = (f64::from(-upstream) / part.sum) as f32;
            arch.dispatch(WeighTask { row, max: part.max, scale, soft_cap });
            row[target] += own;
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use meav_cuda::{on_cpu_and_gpu, on_gpu};
    use meav_job::CancelToken;
    use meav_test_support::{assert_close, tolerance};

    use super::super::testing::{
        assert_deterministic, assert_slopes, by_candle, on, some_values, values, variable,
    };
    use super::*;

    on_cpu_and_gpu!(targets_beyond_the_vocabulary_and_other_shapes_are_refused);

    struct Case {
        n_rows: usize,
        n: usize,
        n_tokens: usize,
        soft_cap: Option<f32>,
        dtype: DType,
        /// What hidden states are multiplied by.
        scale: f64,
    }

    const CASE: Case =
        Case { n_rows: 5, n: 12, n_tokens: 70, soft_cap: None, dtype: DType::F32, scale: 1.0 };

    /// The third passes over the vocabulary in parts, the fourth takes the rows in two, the fifth
    /// has probabilities of almost one and of almost zero.
    const CASES: [Case; 6] = [
        CASE,
        Case { soft_cap: Some(1.5), ..CASE },
        Case { n: 600, n_tokens: 4000, scale: 0.3, dtype: DType::BF16, ..CASE },
        Case { n_rows: ROWS + 6, n: 4, n_tokens: 20, dtype: DType::F16, ..CASE },
        Case { n: 600, n_tokens: 4000, scale: 4.0, ..CASE },
        Case { n: 600, n_tokens: 4000, soft_cap: Some(5.0), dtype: DType::BF16, ..CASE },
    ];

    struct Head {
        x: Tensor,
        output: Tensor,
        targets: Vec<u32>,
    }

    impl Case {
        fn head(&self) -> Head {
            let last = self.n_tokens as u32 - 1;
            Head {
                x: (some_values((self.n_rows, self.n), 1) * self.scale).unwrap(),
                output: some_values((self.n_tokens, self.n), 2).to_dtype(self.dtype).unwrap(),
                targets: (0..self.n_rows as u32).map(|i| last - (i * i * 7) % (last + 1)).collect(),
            }
        }

        fn slow(&self, x: &Tensor, output: &Tensor, targets: &[u32]) -> Tensor {
            let mut logits = x.matmul(&output.t().unwrap()).unwrap();
            if let Some(cap) = self.soft_cap.map(f64::from) {
                logits = ((logits / cap).unwrap().tanh().unwrap() * cap).unwrap();
            }
            let log_sum = logits.exp().unwrap().sum_keepdim(1).unwrap().log().unwrap();
            let targets = Tensor::new(targets, &Device::Cpu).unwrap().unsqueeze(1).unwrap();
            (logits.gather(&targets, 1).unwrap() - log_sum).unwrap().squeeze(1).unwrap()
        }
    }

    #[test]
    fn log_probs_and_gradients_are_candles() {
        for case in CASES {
            let Head { x, output, targets } = case.head();
            let (x64, output64) = (variable(&x), variable(&output));
            let expected = case.slow(&x64, &output64, &targets);
            let job = JobCtx::detached();
            let pass = |wants| head_log_probs(&x, &output, case.soft_cap, &targets, wants, &job);
            let found = pass(true).unwrap();
            assert_close(&found.log_probs, &values(&expected), tolerance::F32);
            let ones = Tensor::ones(case.n_rows, DType::F32, &Device::Cpu).unwrap();
            let dx = by_candle(&expected, &ones, &[&x64]).remove(0);
            assert_close(&values(&found.unit_gradient.unwrap()), &dx, tolerance::F32);
            let without = pass(false).unwrap();
            assert_eq!(without.log_probs, found.log_probs);
            assert!(without.unit_gradient.is_none());

            let upstream = some_values(case.n_rows, 3);
            let expected = by_candle(&expected, &upstream, &[&output64]).remove(0);
            let grad = some_values((case.n_tokens, case.n), 4);
            let start = values(&grad);
            let upstream = values(&upstream);
            head_backward_weights(&x, &output, case.soft_cap, &targets, &upstream, &grad, &job)
                .unwrap();
            let sum: Vec<f32> = start.iter().zip(expected).map(|(a, b)| a + b).collect();
            assert_close(&values(&grad), &sum, tolerance::F32);
        }
    }

    #[test]
    fn gradients_are_the_slopes_of_the_forward_pass() {
        for case in &CASES[..2] {
            let Head { x, output, targets } = case.head();
            let job = JobCtx::detached();
            let forward = |x: &Tensor, output: &Tensor| {
                let pass = head_log_probs(x, output, case.soft_cap, &targets, false, &job);
                Tensor::new(pass.unwrap().log_probs, &Device::Cpu).unwrap()
            };
            let pass = head_log_probs(&x, &output, case.soft_cap, &targets, true, &job).unwrap();
            let upstream = Tensor::ones(case.n_rows, DType::F32, &Device::Cpu).unwrap();
            let dx = values(&pass.unit_gradient.unwrap());
            assert_slopes(&dx, &x, &upstream, |x| forward(x, &output));
            let (grad, ones) = (output.zeros_like().unwrap(), values(&upstream));
            head_backward_weights(&x, &output, case.soft_cap, &targets, &ones, &grad, &job)
                .unwrap();
            assert_slopes(&values(&grad), &output, &upstream, |output| forward(&x, output));
        }
    }

    /// The vocabulary is passed through in parts of other sizes than on the CPU.
    #[test]
    fn gpu_gives_the_log_probs_and_gradients_of_the_cpu() {
        let cases = [
            (Case { n: 8, n_tokens: LOGITS / ROWS + 900, ..CASE }, tolerance::F32),
            (Case { soft_cap: Some(1.5), ..CASE }, tolerance::F32),
            (Case { n_rows: 20, scale: 4.0, ..CASE }, tolerance::F32),
            (Case { n_rows: 20, dtype: DType::F16, ..CASE }, tolerance::F16),
            (Case { soft_cap: Some(1.5), dtype: DType::BF16, ..CASE }, tolerance::BF16),
        ];
        for (case, close) in cases {
            let Head { x, output, targets } = case.head();
            // The last part's logits are the largest: sums over those before are scaled down.
            let is_last = |token: usize| token >= LOGITS / ROWS;
            let scales = (0..case.n_tokens).map(|token| if is_last(token) { 3.0 } else { 1.0_f32 });
            let scales = Tensor::from_iter(scales, &Device::Cpu).unwrap().to_dtype(case.dtype);
            let output = output.broadcast_mul(&scales.unwrap().unsqueeze(1).unwrap()).unwrap();
            let upstream = values(&some_values(case.n_rows, 3));
            let all = |device: &Device| {
                let (x, output) = (on(device, &x), on(device, &output));
                let (job, cap) = (JobCtx::detached(), case.soft_cap);
                let pass = head_log_probs(&x, &output, cap, &targets, true, &job).unwrap();
                let grad = on(device, &some_values((case.n_tokens, case.n), 4));
                head_backward_weights(&x, &output, cap, &targets, &upstream, &grad, &job).unwrap();
                [pass.log_probs, values(&pass.unit_gradient.unwrap()), values(&grad)].concat()
            };
            let (found, expected) = (on_gpu(all), all(&Device::Cpu));
            assert_close(&found, &expected, close);
            assert!(found != expected, "the kernels were not asked");
        }
    }

    #[test]
    fn rows_are_taken_in_parts_where_the_vocabulary_is_large() {
        let case = Case { n_rows: 57, n: 2, n_tokens: 300_000, ..CASE };
        let n_at_once = LOGITS / case.n_tokens;
        assert!(n_at_once < case.n_rows);
        let Head { x, output, targets } = case.head();
        let upstream = values(&some_values(case.n_rows, 3));
        let add = |from: usize, to: usize, grad: &Tensor| {
            let x = x.narrow(0, from, to - from).unwrap();
            let (targets, upstream) = (&targets[from..to], &upstream[from..to]);
            let job = JobCtx::detached();
            head_backward_weights(&x, &output, None, targets, upstream, grad, &job).unwrap();
        };
        let [found, expected] = [0; 2].map(|_| output.zeros_like().unwrap());
        add(0, 57, &found);
        add(0, 20, &expected);
        add(20, 57, &expected);
        assert!(values(&expected).iter().any(|it| it.abs() > 0.1));
        assert_close(&values(&found), &values(&expected), tolerance::F32);
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let case = Case { n_rows: 90, ..CASES[5] };
        let Head { x, output, targets } = case.head();
        let upstream = values(&some_values(case.n_rows, 3));
        assert_deterministic(|| {
            let job = JobCtx::detached();
            let pass = head_log_probs(&x, &output, Some(5.0), &targets, true, &job).unwrap();
            let grad = some_values((case.n_tokens, case.n), 4);
            head_backward_weights(&x, &output, Some(5.0), &targets, &upstream, &grad, &job)
                .unwrap();
            [pass.log_probs, values(&pass.unit_gradient.unwrap()), values(&grad)].concat()
        });
    }

    fn targets_beyond_the_vocabulary_and_other_shapes_are_refused(device: &Device) {
        let Head { x, output, .. } = CASE.head();
        let (x, output) = (on(device, &x), on(device, &output));
        let some_values = |shape: (usize, usize), seed: u64| on(device, &some_values(shape, seed));
        let job = JobCtx::detached();
        let pass =
            |x: &Tensor, targets: &[u32]| head_log_probs(x, &output, None, targets, false, &job);
        assert!(pass(&x, &[0, 1, 2, 3, 69]).is_ok());
        assert!(pass(&x, &[0, 1, 2, 3, 70]).is_err());
        assert!(pass(&x, &[0, 1, 2, 3]).is_err());
        assert!(pass(&some_values((5, 11), 1), &[0, 1, 2, 3, 4]).is_err());
        let back = |upstream: &[f32], grad: &Tensor| {
            head_backward_weights(&x, &output, None, &[0, 1, 2, 3, 4], upstream, grad, &job)
        };
        assert!(back(&[1.0; 5], &some_values((70, 12), 1)).is_ok());
        assert!(back(&[1.0; 4], &some_values((70, 12), 1)).is_err());
        assert!(back(&[1.0; 6], &some_values((70, 12), 1)).is_err());
        assert!(back(&[1.0; 5], &some_values((71, 12), 1)).is_err());
    }

    #[test]
    fn a_cancelled_job_ends() {
        let Head { x, output, targets } = CASE.head();
        let cancel = CancelToken::default();
        cancel.cancel();
        let job = JobCtx::new(cancel, &|_| {});
        let found = head_log_probs(&x, &output, None, &targets, true, &job);
        assert!(matches!(found, Err(ModelError::Cancelled(_))));
        let grad = output.zeros_like().unwrap();
        let found = head_backward_weights(&x, &output, None, &targets, &[1.0; 5], &grad, &job);
        assert!(matches!(found, Err(ModelError::Cancelled(_))));
    }
}
