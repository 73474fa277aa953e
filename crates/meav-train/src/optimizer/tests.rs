use std::borrow::Cow;

use candle_core::{DType, Device, Tensor};
use fastrand::Rng;
use meav_cuda::on_gpu;
use meav_protocol::OptimizerState;

use super::*;

const SIZES: [usize; 4] = [1, 255, 256 + 17, 40_000];

fn settings(optimizer_state: OptimizerState, weight_decay: f64) -> TrainSettings {
    TrainSettings { optimizer_state, weight_decay, ..TrainSettings::default() }
}

fn tensor(values: Vec<f32>) -> Tensor {
    let n = values.len();
    Tensor::from_vec(values, (1, n), &Device::Cpu).unwrap()
}

/// Takes steps with the gradients that `gradient` gives for the values and the step's number.
fn run(
    start: &Tensor,
    settings: &TrainSettings,
    rate: f64,
    n_steps: usize,
    mut gradient: impl FnMut(&[f32], usize) -> Vec<f32>,
) -> AdamW {
    let mut optimizer = AdamW::new([("w", start)], settings).unwrap();
    for number in 1..=n_steps {
        let values = optimizer.parameters()[0].values().unwrap();
        let gradient = tensor(gradient(&values, number)).reshape(start.shape()).unwrap();
        let gradient = gradient.to_device(start.device()).unwrap();
        let step = Step { number, learning_rate: rate, gradient_scale: 0.5 };
        optimizer.update(|_| Some(&gradient), step).unwrap();
    }
    optimizer
}

fn values(optimizer: &AdamW) -> Vec<f32> {
    optimizer.parameters()[0].values().unwrap()
}

fn noise(n: usize, number: usize) -> Vec<f32> {
    let mut rng = Rng::with_seed(number as u64);
    // Sizes over six orders of magnitude.
    (0..n).map(|i| (rng.f32() - 0.4) * 10.0_f32.powf(-((i % 7) as f32))).collect()
}

/// `AdamW` as it is written in the paper, one element at a time, in double precision.
fn plain(start: &[f32], rate: f64, decay: f64, n_steps: usize) -> Vec<f64> {
    let n = start.len();
    let (mut m, mut v) = (vec![0.0; n], vec![0.0; n]);
    let mut x: Vec<f64> = start.iter().map(|x| f64::from(*x)).collect();
    for number in 1..=n_steps {
        for (i, g) in noise(n, number).into_iter().enumerate() {
            let g = 0.5 * f64::from(g);
            m[i] = 0.9 * m[i] + 0.1 * g;
            v[i] = 0.999 * v[i] + 0.001 * g * g;
            let m_hat = m[i] / (1.0 - 0.9_f64.powf(number as f64));
            let v_hat: f64 = v[i] / (1.0 - 0.999_f64.powf(number as f64));
            x[i] -= rate * decay * x[i];
            x[i] -= rate * m_hat / (v_hat.sqrt() + 1e-8);
        }
    }
    x
}

#[test]
fn steps_are_those_of_the_formula() {
    for n in SIZES {
        for decay in [0.0, 0.1] {
            let start = noise(n, 1000);
            let settings = settings(OptimizerState::F32, decay);
            let found =
                values(&run(&tensor(start.clone()), &settings, 0.01, 150, |_, t| noise(n, t)));
            let expected = plain(&start, 0.01, decay, 150);
            let largest = found.iter().zip(&expected).map(|(a, b)| (f64::from(*a) - b).abs());
            let largest = largest.fold(0.0, f64::max);
            assert!(largest < 2e-5, "{n} elements, decay {decay}: {largest} away");
            let moved = start.iter().zip(&expected).any(|(a, b)| (f64::from(*a) - b).abs() > 0.05);
            assert!(moved, "{n} elements, decay {decay}");
        }
    }
}

/// Without a gradient only the decay is left.
#[test]
fn norms_and_biases_do_not_decay() {
    let settings = settings(OptimizerState::F32, 0.1);
    for (shape, expected) in [(vec![4], 1.0), (vec![2, 2], 0.99_f32.powi(10))] {
        let start = Tensor::ones(shape.as_slice(), DType::F32, &Device::Cpu).unwrap();
        let found = values(&run(&start, &settings, 0.1, 10, |_, _| vec![0.0; 4]));
        assert!(found.iter().all(|x| (x - expected).abs() < 1e-6), "{shape:?}: {found:?}");
    }
}

#[test]
fn masters_add_up_what_is_too_small_for_the_weights() {
    for (dtype, half_step) in [(DType::BF16, 1.0 / 512.0), (DType::F16, 1.0 / 4096.0)] {
        let start = Tensor::ones((1, 300), dtype, &Device::Cpu).unwrap();
        let rate = half_step / 10.0;
        let n_steps = 40;
        let settings = settings(OptimizerState::F32, 0.0);
        let optimizer = run(&start, &settings, rate, n_steps, |_, _| vec![1.0; 300]);
        let expected = (1.0 - rate * n_steps as f64) as f32;
        let masters = values(&optimizer);
        assert!(masters.iter().all(|x| (x - expected).abs() < 5e-6), "{masters:?}");
        let weights = start.to_dtype(DType::F32).unwrap().flatten_all().unwrap();
        let rounded = tensor(masters).to_dtype(dtype).unwrap().to_dtype(DType::F32).unwrap();
        let weights = weights.to_vec1::<f32>().unwrap();
        assert_eq!(weights, rounded.flatten_all().unwrap().to_vec1::<f32>().unwrap());
        assert!(weights.iter().all(|x| *x < 1.0), "{dtype:?}: {weights:?}");
    }
}

#[test]
fn results_are_the_same_on_any_number_of_threads() {
    for state in [OptimizerState::F32, OptimizerState::Int8] {
        for dtype in [DType::F32, DType::BF16] {
            let found = [1, 3].map(|n_threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
                pool.install(|| {
                    let n = 100_000;
                    let start = tensor(noise(n, 1000)).to_dtype(dtype).unwrap();
                    let found = run(&start, &settings(state, 0.1), 0.01, 5, |_, t| noise(n, t));
                    values(&found).into_iter().map(f32::to_bits).collect::<Vec<_>>()
                })
            });
            assert!(found[0] == found[1], "{state:?}, {dtype:?}");
        }
    }
}

/// All bits that five steps leave: of what the model reads, what is trained, and the moments.
fn bits(device: &Device, n: usize, dtype: DType, state: OptimizerState) -> (bool, Vec<Vec<u32>>) {
    let start = tensor(noise(n, 1000)).to_dtype(dtype).unwrap().to_device(device).unwrap();
    let optimizer = run(&start, &settings(state, 0.1), 0.01, 5, |_, t| noise(n, t));
    let read = start.to_dtype(DType::F32).unwrap().flatten_all().unwrap();
    let moments = optimizer.parameters()[0].moments().unwrap();
    let mut all = vec![read.to_vec1().unwrap(), values(&optimizer)];
    match &*moments {
        Moments::F32 { m, v } => all.extend([m.clone(), v.clone()]),
        Moments::Int8 { m, v } => {
            for Quantised { codes, scales } in [m, v] {
                let codes = codes.iter().map(|code| f32::from(*code)).collect();
                all.extend([codes, scales.clone()]);
            }
        }
    }
    let bits = all.into_iter().map(|it| it.into_iter().map(f32::to_bits).collect()).collect();
    (matches!(moments, Cow::Owned(_)), bits)
}

#[test]
fn gpu_takes_the_steps_of_the_cpu_bit_for_bit() {
    for n in [1, 255, 256 + 17, 5000] {
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            for state in [OptimizerState::F32, OptimizerState::Int8] {
                let (is_on_gpu, found) = on_gpu(|device| bits(device, n, dtype, state));
                let (is_copied, expected) = bits(&Device::Cpu, n, dtype, state);
                assert!(is_on_gpu && !is_copied, "the kernels were not asked");
                assert!(found == expected, "{n} elements of {dtype:?}, {state:?}");
                assert!(expected.iter().all(|it| it.iter().any(|bits| *bits != 0)));
            }
        }
    }
}

/// `½ Σ aᵢ (xᵢ − tᵢ)²` with curvatures over three orders of magnitude in each block.
fn quadratic(state: OptimizerState) -> (Vec<f32>, f64) {
    let n = 1000;
    let curvature = |i: usize| 10.0_f32.powf(-3.0 * (i % 100) as f32 / 99.0);
    let targets = |i: usize| ((i * 37 % 101) as f32 - 50.0) / 50.0;
    let optimizer = run(&tensor(vec![0.0; n]), &settings(state, 0.0), 0.01, 200, |x, _| {
        x.iter().enumerate().map(|(i, x)| curvature(i) * (x - targets(i))).collect()
    });
    let x = values(&optimizer);
    let term = |(i, x): (usize, &f32)| f64::from(curvature(i) * (x - targets(i)).powi(2)) / 2.0;
    let loss = x.iter().enumerate().map(term).sum();
    (x, loss)
}

/// Half way to the targets' last digits, where the steps are still of many sizes: the loss began
/// at 25.5.
#[test]
fn eight_bits_stay_near_single_precision_on_a_quadratic() {
    let ((exact, loss), (found, eight_bit_loss)) =
        (quadratic(OptimizerState::F32), quadratic(OptimizerState::Int8));
    let distances: Vec<f32> = exact.iter().zip(&found).map(|(a, b)| (a - b).abs()).collect();
    let largest = distances.iter().copied().fold(0.0, f32::max);
    let mean = distances.iter().sum::<f32>() / distances.len() as f32;
    assert!((eight_bit_loss / loss - 1.0).abs() < 0.2, "{loss} and {eight_bit_loss}");
    assert!(loss > 1e-4 && loss < 0.01, "{loss}");
    assert!(mean < 2e-3 && largest < 0.02, "{mean} on average, at most {largest}");
}

/// Squares too small for their block's codes must not become 0: the step would be `m / ε`.
#[test]
fn no_step_explodes_beside_a_large_gradient() {
    let n = 512;
    for small in [1e-3_f32, 1e-5, 1e-7, 1e-9, 0.0] {
        for is_spike in [false, true] {
            let mut last = vec![0.0; n];
            let mut largest = 0.0_f32;
            run(&tensor(last.clone()), &settings(OptimizerState::Int8, 0.0), 0.01, 120, |x, t| {
                let steps = x.iter().zip(&last).map(|(a, b)| (a - b).abs());
                largest = steps.fold(largest, f32::max);
                last = x.to_vec();
                let sizes = noise(n, t).into_iter();
                let mut gradient: Vec<f32> = sizes.map(|g| g.signum() * small).collect();
                gradient[3] = if is_spike && t % 40 != 1 { 0.0 } else { 1.0 };
                gradient
            });
            // In single precision none is larger than the rate.
            assert!(largest < 0.015, "{small}, {is_spike}: a step of {largest}");
        }
    }
}

#[test]
fn gradients_of_another_shape_are_refused() {
    let weights = tensor(vec![0.0; 6]);
    let mut optimizer = AdamW::new([("w", &weights)], &settings(OptimizerState::F32, 0.0)).unwrap();
    let step = Step { number: 1, learning_rate: 0.1, gradient_scale: 1.0 };
    let other = tensor(vec![1.0; 5]);
    let integers = weights.to_dtype(DType::U32).unwrap();
    for gradient in [None, Some(&other), Some(&integers)] {
        let result = optimizer.update(|_| gradient, step);
        assert!(matches!(result, Err(TrainError::Tensor { name, .. }) if name == "w"));
    }
    assert_eq!(values(&optimizer), [0.0; 6]);
}
