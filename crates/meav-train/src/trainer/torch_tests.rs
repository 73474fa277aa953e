//! The steps of `fixtures/dpo_steps.py`, which PyTorch took.

use meav_protocol::{PreferenceLoss, Schedule};
use meav_test_support::{
    DpoCase, DpoLora, DpoPair, DpoStep, DpoSteps, dpo_steps, families, first_lora_factor,
};

use super::*;
use crate::reference_log_probs;
use crate::test_support::family;

fn pairs(batch: &[DpoPair]) -> Vec<Pair> {
    let pair = |it: &DpoPair| Pair {
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

fn settings(fixture: &DpoSteps, case: &DpoCase) -> TrainSettings {
    assert_eq!(case.schedule, "cosine");
    TrainSettings {
        method: match &case.lora {
            None => TrainMethod::Full,
            Some(DpoLora { rank, alpha }) => {
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

fn set_first_factors(adapters: &Adapters) {
    for (name, adapter) in adapters {
        let (rows, columns) = adapter.a.dims2().unwrap();
        let values = first_lora_factor(name, rows, columns);
        let a = Tensor::from_vec(values, (rows, columns), adapter.a.device()).unwrap();
        adapter.a.slice_set(&a, 0, 0).unwrap();
    }
}

fn measured(step: &TrainStep) -> DpoStep {
    DpoStep {
        loss: step.loss,
        grad_norm: step.grad_norm,
        learning_rate: step.learning_rate,
        chosen_reward: step.rewards.chosen,
        rejected_reward: step.rewards.rejected,
        chosen_log_prob: step.rewards.chosen_log_prob,
        rejected_log_prob: step.rewards.rejected_log_prob,
    }
}

#[test]
fn steps_are_those_of_pytorch() {
    let fixture = dpo_steps();
    let (mut losses, mut n_adapted) = (Vec::new(), 0);
    for case in &fixture.cases {
        let model = families().case(&case.model);
        let decoder = family(model);
        let job = JobCtx::detached();
        let ask = |batch: &Vec<DpoPair>| {
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
        let mut trainer = Trainer::new(decoder, set, reference, &settings, "fixture").unwrap();
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
            let what = format!("{} {}, step {}", case.model, case.loss, found.step);
            fixture.check(expected, &measured(&found), &what);
        }
        case.check_loss_after(trainer.validate(&job).unwrap().loss);
        assert!(trainer.is_finished());
        losses.push(case.loss.as_str());
    }
    assert_eq!((losses.len(), n_adapted), (5, 2));
    assert!(losses.contains(&"ipo") && losses.contains(&"sigmoid"));
}
