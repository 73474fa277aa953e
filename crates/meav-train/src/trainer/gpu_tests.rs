//! Training on a GPU, or where there is none by the same kernels on the CPU, against that of the CPU.

use std::fs;

use candle_core::{DType, Device};
use meav_cuda::on_gpu;
use meav_protocol::OptimizerState;
use meav_test_support::{assert_close, tolerance};

use super::tests::{settings, step, trainer_on, validate, weights};
use super::*;
use crate::test_support::lora;

const STATES: [OptimizerState; 2] = [OptimizerState::F32, OptimizerState::Int8];
const DTYPES: [DType; 2] = [DType::F32, DType::BF16];

fn methods() -> [TrainMethod; 2] {
    [TrainMethod::Full, lora(2)]
}

/// One pair in each pass, two passes in each step.
fn short(method: TrainMethod, optimizer_state: OptimizerState) -> TrainSettings {
    TrainSettings { batch: 1, optimizer_state, ..settings(method) }
}

/// What is trained, tensor by tensor.
fn values(trainer: &Trainer) -> Vec<(String, Vec<f32>)> {
    let floats = |bits: Vec<u32>| bits.into_iter().map(f32::from_bits).collect();
    weights(trainer).into_iter().map(|(name, bits)| (name, floats(bits))).collect()
}

struct Run {
    steps: Vec<TrainStep>,
    validation: TrainValidation,
    start: Vec<(String, Vec<f32>)>,
    end: Vec<(String, Vec<f32>)>,
    /// Of the last step.
    gradients: Vec<Vec<f32>>,
}

impl Run {
    fn on(device: &Device, settings: &TrainSettings, dtype: DType) -> Self {
        let mut trainer = trainer_on(device, settings, dtype);
        assert!(trainer.decoder().device().same_device(device));
        let start = values(&trainer);
        let steps = (0..3).map(|_| step(&mut trainer)).collect();
        let flat = |it: &Tensor| it.flatten_all().unwrap().to_vec1().unwrap();
        let gradient = |(name, _): &(String, _)| flat(trainer.gradients.get(name).unwrap());
        let gradients = start.iter().map(gradient).collect();
        let (validation, end) = (validate(&mut trainer), values(&trainer));
        Self { steps, validation, start, end, gradients }
    }

    /// The way from start to end of one tensor.
    fn way(&self, index: usize) -> Vec<f32> {
        let (start, end) = (&self.start[index].1, &self.end[index].1);
        start.iter().zip(end).map(|(start, end)| end - start).collect()
    }
}

/// How far `found` is from `expected`, relative to the latter's length.
fn distance(found: &[f32], expected: &[f32]) -> f32 {
    let square = |values: &mut dyn Iterator<Item = f32>| -> f64 {
        values.map(|x| f64::from(x) * f64::from(x)).sum()
    };
    let length = square(&mut expected.iter().copied()).sqrt();
    assert!(length > 0.0);
    let apart = square(&mut found.iter().zip(expected).map(|(a, b)| a - b));
    (apart.sqrt() / length) as f32
}

/// How far two runs may lie apart.
#[derive(Clone, Copy)]
struct Close {
    /// Losses and norms.
    numbers: f32,
    /// Gradients, relative to their length.
    gradients: f32,
    /// Likewise the ways that tensors go.
    ways: f32,
}

impl Close {
    fn of(dtype: DType, state: OptimizerState) -> Self {
        let (single, rounded) = (tolerance::F32_LOGITS, tolerance::BF16);
        match (dtype, state) {
            (DType::F32, OptimizerState::F32) => {
                Self { numbers: single, gradients: single, ways: single }
            }
            // Where moments lie at the border of two codes, they become either.
            (DType::F32, OptimizerState::Int8) => {
                Self { numbers: single, gradients: rounded, ways: rounded }
            }
            _ => Self {
                numbers: rounded,
                gradients: tolerance::BF16_GRADIENTS,
                ways: tolerance::BF16_STEPS,
            },
        }
    }
}

fn check(name: &str, found: &Run, expected: &Run, close: Close) {
    for (found, expected) in found.steps.iter().zip(&expected.steps) {
        let numbers = |it: &TrainStep| {
            [it.loss, it.grad_norm, it.rewards.margins, it.rewards.chosen_log_prob]
                .map(|it| it as f32)
        };
        assert_close(&numbers(found), &numbers(expected), close.numbers);
        assert_eq!((found.num_tokens, found.step), (expected.num_tokens, expected.step));
    }
    let [loss, expected_loss] = [found, expected].map(|it| it.validation.loss as f32);
    assert_close(&[loss], &[expected_loss], close.numbers);
    for (index, (tensor, _)) in expected.end.iter().enumerate() {
        assert_eq!(found.end[index].0, *tensor);
        let apart = distance(&found.gradients[index], &expected.gradients[index]);
        assert!(apart <= close.gradients, "{name}: the gradient of {tensor} is {apart} away");
        let apart = distance(&found.way(index), &expected.way(index));
        assert!(apart <= close.ways, "{name}: {tensor} ends {apart} away");
    }
}

#[test]
fn steps_are_those_of_the_cpu() {
    for method in methods() {
        for dtype in DTYPES {
            for state in STATES {
                let name = format!("{method:?} {dtype:?} {state:?}");
                let settings = short(method.clone(), state);
                let found = on_gpu(|device| Run::on(device, &settings, dtype));
                let expected = Run::on(&Device::Cpu, &settings, dtype);
                check(&name, &found, &expected, Close::of(dtype, state));
                assert!(found.gradients != expected.gradients, "the kernels were not asked");
            }
        }
    }
}

/// To the same bits, with less memory.
#[test]
fn layers_are_computed_again_as_they_were() {
    for method in methods() {
        let [kept, again] = [false, true].map(|checkpointing| {
            let settings =
                TrainSettings { checkpointing, ..short(method.clone(), OptimizerState::F32) };
            on_gpu(|device| Run::on(device, &settings, DType::BF16))
        });
        assert_eq!(kept.steps, again.steps);
        assert!(kept.end == again.end, "{method:?}");
        assert!(kept.end != kept.start, "{method:?}");
    }
}

/// Where a run goes on is another thing than where it began.
#[test]
fn checkpoints_go_from_the_cpu_to_a_gpu_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let [saved, again] =
        ["saved", "again"].map(|name| folder.path().join(name).with_extension("safetensors"));
    for method in methods() {
        for dtype in DTYPES {
            for state in STATES {
                let settings = short(method.clone(), state);
                let begin = |device: &Device| {
                    let mut trainer = trainer_on(device, &settings, dtype);
                    step(&mut trainer);
                    step(&mut trainer);
                    trainer.save(&saved).unwrap();
                    step(&mut trainer).loss as f32
                };
                let go_on = |device: &Device| {
                    let mut trainer = trainer_on(device, &settings, dtype);
                    trainer.resume(&saved).unwrap();
                    trainer.save(&again).unwrap();
                    step(&mut trainer).loss as f32
                };
                let close = if dtype == DType::F32 { tolerance::F32 } else { tolerance::BF16 };
                for is_begun_on_gpu in [false, true] {
                    let (expected, found) = if is_begun_on_gpu {
                        (on_gpu(begin), go_on(&Device::Cpu))
                    } else {
                        (begin(&Device::Cpu), on_gpu(go_on))
                    };
                    assert_close(&[found], &[expected], close);
                    assert!(fs::read(&saved).unwrap() == fs::read(&again).unwrap(), "{dtype:?}");
                }
            }
        }
    }
}
