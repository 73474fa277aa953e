//! What the tests of all gradients share.

use candle_core::{DType, Device, Shape, Tensor, Var};
use meav_test_support::{assert_close, tolerance};

/// Values between −1 and 1, others for each seed.
pub(super) fn some_values(shape: impl Into<Shape>, seed: u64) -> Tensor {
    let shape = shape.into();
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1;
    let values: Vec<f32> = (0..shape.elem_count())
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// A copy on `device`.
pub(super) fn on(device: &Device, tensor: &Tensor) -> Tensor {
    tensor.to_device(device).unwrap().copy().unwrap()
}

/// The same values in double precision, as what candle differentiates by.
pub(super) fn variable(tensor: &Tensor) -> Var {
    Var::from_tensor(&doubles(tensor)).unwrap()
}

pub(super) fn doubles(tensor: &Tensor) -> Tensor {
    tensor.to_dtype(DType::F64).unwrap()
}

pub(super) fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_dtype(DType::F32).unwrap().to_vec1().unwrap()
}

/// What `Σ y dy` changes by with each of the variables, by candle.
pub(super) fn by_candle(y: &Tensor, dy: &Tensor, variables: &[&Var]) -> Vec<Vec<f32>> {
    let gradients = (y * doubles(dy)).unwrap().sum_all().unwrap().backward().unwrap();
    variables.iter().map(|it| values(gradients.get(it).unwrap())).collect()
}

/// Compares a gradient with central differences of the forward pass, of fourth order so that the
/// step can be large enough for single precision.
#[track_caller]
pub(super) fn assert_slopes(
    found: &[f32],
    x: &Tensor,
    dy: &Tensor,
    forward: impl Fn(&Tensor) -> Tensor,
) {
    const STEP: f32 = 0.03;
    let dy = values(dy);
    let start = values(x);
    let loss = |index: usize, step: f32| -> f64 {
        let mut moved = start.clone();
        moved[index] += step;
        let y = values(&forward(&Tensor::from_vec(moved, x.dims(), &Device::Cpu).unwrap()));
        assert_eq!(y.len(), dy.len());
        y.iter().zip(&dy).map(|(y, dy)| f64::from(*y) * f64::from(*dy)).sum()
    };
    let slope = |index: usize| {
        let difference = |step: f32| loss(index, step) - loss(index, -step);
        ((8.0 * difference(STEP) - difference(2.0 * STEP)) / (12.0 * f64::from(STEP))) as f32
    };
    let expected: Vec<f32> = (0..start.len()).map(slope).collect();
    assert!(expected.iter().any(|it| it.abs() > 0.01), "a gradient of nothing");
    assert_close(found, &expected, tolerance::DIFFERENCES);
}

/// Asserts that `work` gives the same bits on any number of threads.
#[track_caller]
pub(super) fn assert_deterministic(work: impl Fn() -> Vec<f32> + Sync) {
    let on = |n_threads: usize| -> Vec<u32> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
        pool.install(|| work().into_iter().map(f32::to_bits).collect())
    };
    let expected = on(1);
    for n_threads in [2, 3, 7] {
        assert!(on(n_threads) == expected, "{n_threads} threads give something else");
    }
}
