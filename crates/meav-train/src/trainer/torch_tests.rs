//! The steps of `fixtures/dpo_steps.py`, which PyTorch took.

use meav_protocol::{PreferenceLoss, Schedule};
use meav_test_support::families;
use serde::Deserialize;

use super::*;
use crate::reference_log_probs;
use crate::test_support::family;

/// Relative, of losses and norms; what is asked of every trainer here.
const CLOSE: f64 = 1e-3;

#[derive(Deserialize)]
struct Fixture {
    beta: f64,
    max_grad_norm: f64,
    steps: Vec<Vec<FixturePair>>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct FixturePair {
    prompt: Vec<u32>,
    chosen: Vec<u32>,
    rejected: Vec<u32>,
}

#[derive(Deserialize)]
struct Case {
    model: String,
    loss: String,
    lora: Option<Lora>,
    learning_rate: f64,
    schedule: String,
    warmup_steps: usize,
    steps: Vec<FixtureStep>,
    loss_after: f64,
}

#[derive(Deserialize)]
struct Lora {
    rank: usize,
    alpha: f64,
}

#[derive(Deserialize)]
struct FixtureStep {
    loss: f64,
    grad_norm: f64,
    learning_rate: f64,
    chosen_reward: f64,
    rejected_reward: f64,
    chosen_log_prob: f64,
    rejected_log_prob: f64,
}

fn pairs(batch: &[FixturePair]) -> Vec<Pair> {
    let pair = |it: &FixturePair| Pair {
        id: String::new(),
        domain: None,
        levels: ["chosen", "rejected"].map(str::to_owned),
        question: Question {
            prompt: it.prompt.clone(),
            responses: vec![it.chosen.clone(), it.rejected.clone()],
        },
        truncated: false,
    };
    batch.iter().map(pair).collect()
}

fn settings(fixture: &Fixture, case: &Case) -> TrainSettings {
    assert_eq!(case.schedule, "cosine");
    TrainSettings {
        method: match &case.lora {
            None => TrainMethod::Full,
            Some(Lora { rank, alpha }) => {
                TrainMethod::Lora { rank: *rank, alpha: *alpha, targets: Vec::new() }
            }
        },
        loss: match case.loss.as_str() {
            "ipo" => PreferenceLoss::Ipo,
            "sigmoid" => PreferenceLoss::Sigmoid { label_smoothing: 0.0 },
            other => panic!("the loss {other}"),
        },
        beta: fixture.beta,
        // Each epoch has the one batch of its step.
        epochs: fixture.steps.len(),
        batch: fixture.steps[0].len(),
        learning_rate: case.learning_rate,
        schedule: Schedule::Cosine,
        warmup_steps: case.warmup_steps,
        max_grad_norm: Some(fixture.max_grad_norm),
        ..TrainSettings::default()
    }
}

/// `sin(0.7 (i + 1) (j + 1) + 7 layer + m) / √columns`, with `m` the module's place.
fn set_first_factors(adapters: &Adapters) {
    const MODULES: [&str; 7] =
        ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];
    for (name, adapter) in adapters {
        let parts: Vec<&str> = name.split('.').collect();
        let layer: f64 = parts[2].parse().unwrap();
        let module = MODULES.iter().position(|it| parts.contains(it)).unwrap() as f64;
        let (rows, columns) = adapter.a.dims2().unwrap();
        let value = |index: usize| {
            let (i, j) = ((index / columns + 1) as f64, (index % columns + 1) as f64);
            let angle = (0.7 * i).mul_add(j, 7.0f64.mul_add(layer, module));
            (angle.sin() / (columns as f64).sqrt()) as f32
        };
        let values: Vec<f32> = (0..rows * columns).map(value).collect();
        let a = Tensor::from_vec(values, (rows, columns), adapter.a.device()).unwrap();
        adapter.a.slice_set(&a, 0, 0).unwrap();
    }
}

fn hold(found: f64, expected: f64, scale: f64, what: &str) {
    assert!((found - expected).abs() <= CLOSE * scale, "{what}: {found}, torch has {expected}");
}

#[test]
fn steps_are_those_of_pytorch() {
    let text = include_str!("../../../meav-test-support/fixtures/dpo_steps.json");
    let fixture: Fixture = serde_json::from_str(text).unwrap();
    let (mut losses, mut n_adapted) = (Vec::new(), 0);
    for case in &fixture.cases {
        let model = families().case(&case.model);
        let decoder = family(model);
        let job = JobCtx::detached();
        let ask = |batch: &Vec<FixturePair>| {
            reference_log_probs(&decoder, &pairs(batch), &mut |_| {}, &job).unwrap()
        };
        let references: Vec<Vec<[f64; 2]>> = fixture.steps.iter().map(ask).collect();
        let first = || pairs(&fixture.steps[0]);
        let set = PairSet {
            train: first(),
            validation: first(),
            left_out: Vec::new(),
            fingerprint: String::new(),
        };
        let reference =
            Reference { train: references[0].clone(), validation: references[0].clone() };
        let settings = settings(&fixture, case);
        let mut trainer = Trainer::new(decoder, set, reference, &settings).unwrap();
        if let Some(adapters) = trainer.adapters() {
            set_first_factors(adapters);
            n_adapted += 1;
        }
        let batches = fixture.steps.iter().zip(&references);
        for ((batch, reference), expected) in batches.zip(&case.steps) {
            trainer.pairs.train = pairs(batch);
            trainer.lengths = trainer.pairs.train.iter().map(Pair::len).collect();
            trainer.reference.train.clone_from(reference);
            let found = trainer.step(&job).unwrap();
            let what =
                |name: &str| format!("{} {}, step {}: {name}", case.model, case.loss, found.step);
            for (name, found, expected) in [
                ("loss", found.loss, expected.loss),
                ("gradient norm", found.grad_norm, expected.grad_norm),
                ("learning rate", found.learning_rate, expected.learning_rate),
                ("chosen", found.rewards.chosen_log_prob, expected.chosen_log_prob),
                ("rejected", found.rewards.rejected_log_prob, expected.rejected_log_prob),
            ] {
                hold(found, expected, expected.abs(), &what(name));
            }
            // Differences of the sums above.
            let scale = fixture.beta * expected.chosen_log_prob.abs();
            hold(found.rewards.chosen, expected.chosen_reward, scale, &what("chosen reward"));
            hold(found.rewards.rejected, expected.rejected_reward, scale, &what("rejected reward"));
        }
        let after = trainer.validate(&job).unwrap();
        hold(after.loss, case.loss_after, case.loss_after, "the loss after the last update");
        assert!(trainer.is_finished() && after.loss < 0.9 * case.steps[0].loss);
        losses.push(case.loss.as_str());
    }
    assert_eq!((losses.len(), n_adapted), (5, 2));
    assert!(losses.contains(&"ipo") && losses.contains(&"sigmoid"));
}
