//! Training runs, as an engine would send them.

use std::path::PathBuf;

use meav_protocol::{
    Dtype, Fact, JobSpec, PreferenceLoss, Rewards, RunState, TrainCounts, TrainData, TrainEstimate,
    TrainMethod, TrainRun, TrainSettings, TrainSpec, TrainStep, TrainSummary, TrainValidation,
};
use uuid::Uuid;

pub(crate) const MEDICAL_TRAIN: &str = "/home/me/demo/medical.train.jsonl";

/// Steps of each run.
pub(crate) const STEPS: usize = 60;

/// What an engine with nothing kept would find.
pub(crate) fn facts(spec: &JobSpec) -> Vec<Fact> {
    match spec {
        JobSpec::ListTrainings | JobSpec::DeleteTraining { .. } => {
            vec![Fact::Trainings(Vec::new())]
        }
        JobSpec::EstimateTraining(_) => vec![Fact::TrainEstimate(Box::new(estimate()))],
        JobSpec::Train(spec) => {
            let run = trained(spec);
            let mut facts = vec![Fact::Train(Box::new(begun(spec)))];
            facts.extend(run.steps.iter().map(|step| step_fact(spec, step.step)));
            let path = run.vector.clone().expect("it is trained");
            facts.push(Fact::Written { path, summary: "a vector".to_owned() });
            facts.push(Fact::Train(Box::new(run)));
            facts
        }
        other => crate::sweeps::facts(other),
    }
}

pub(crate) fn estimate() -> TrainEstimate {
    TrainEstimate {
        counts: counts(),
        total_steps: STEPS,
        secs: 754.0,
        memory_bytes: 1_900_000_000,
        available_bytes: Some(24_000_000_000),
        disk_bytes: 41_000_000,
        refusal: None,
    }
}

fn counts() -> TrainCounts {
    TrainCounts {
        pairs: 236,
        validation_pairs: 8,
        truncated: 3,
        left_out: 1,
        trainable_parameters: 2_442_240,
    }
}

/// As it is before the first step.
pub(crate) fn begun(spec: &TrainSpec) -> TrainRun {
    let folder = PathBuf::from(format!("/home/me/meav/runs/{}", spec.run));
    let out = spec.out.clone().or(Some(folder));
    TrainRun {
        spec: TrainSpec { out, ..spec.clone() },
        started: "2026-11-20".to_owned(),
        state: RunState::Running,
        is_paused: false,
        ended: None,
        model: "SmolLM2-135M-Instruct".to_owned(),
        base: "blake3:base".to_owned(),
        counts: counts(),
        total_steps: STEPS,
        steps: Vec::new(),
        validations: vec![validation(spec, 0)],
        checkpoint: None,
        vector: None,
        elapsed_secs: 0.0,
        diverged: false,
    }
}

/// Numbers that jump, the same each time.
fn jump(step: usize) -> f64 {
    (step as f64 * 12.9898).sin() * 0.5 + (step as f64 * 4.137).cos() * 0.5
}

/// How far a run has come at a step, from 0 to 1.
fn progress(step: usize) -> f64 {
    1.0 - (-2.5 * step as f64 / STEPS as f64).exp()
}

fn loss(spec: &TrainSpec, step: usize) -> f64 {
    let settings = &spec.settings;
    let start = settings.loss.at_start(settings.beta);
    start * (1.0 - 0.45 * progress(step))
}

pub(crate) fn step(spec: &TrainSpec, step: usize) -> TrainStep {
    let far = progress(step.saturating_sub(1));
    let start = loss(spec, 0);
    let margins = 0.9 * far + 0.08 * far * jump(step);
    let rejected = -1.3 * far + 0.05 * jump(step + 7);
    let warm = (step as f64 / 5.0).min(1.0);
    let fall = 0.5 + 0.5 * (std::f64::consts::PI * step as f64 / STEPS as f64).cos();
    TrainStep {
        step,
        epoch: step as f64 / STEPS as f64,
        loss: loss(spec, step - 1) + 0.06 * start * far.min(0.6) * jump(step + 3),
        rewards: Rewards {
            chosen: rejected + margins,
            rejected,
            margins,
            accuracies: (0.5 + 0.45 * far + 0.1 * jump(step + 11)).clamp(0.0, 1.0),
            chosen_log_prob: -180.0,
            rejected_log_prob: -150.0,
        },
        grad_norm: 74.0 - 30.0 * far + 6.0 * jump(step + 5),
        learning_rate: spec.settings.learning_rate * warm * fall,
        num_tokens: 1_900 * step as u64,
        tokens_per_second: 240.0 + 12.0 * jump(step + 9),
    }
}

pub(crate) fn validation(spec: &TrainSpec, step: usize) -> TrainValidation {
    let far = progress(step);
    let rewards = Rewards {
        chosen: -0.4 * far,
        rejected: -1.2 * far,
        margins: 0.8 * far,
        accuracies: 0.5 + 0.35 * far,
        ..Rewards::default()
    };
    TrainValidation { step, loss: loss(spec, step) * 1.03, rewards }
}

pub(crate) fn step_fact(spec: &TrainSpec, at: usize) -> Fact {
    Fact::TrainStep { run: spec.run, step: step(spec, at) }
}

/// As far as a step.
pub(crate) fn so_far(spec: &TrainSpec, last: usize) -> TrainRun {
    TrainRun {
        steps: (1..=last).map(|at| step(spec, at)).collect(),
        validations: (0..=last).step_by(10).map(|at| validation(spec, at)).collect(),
        checkpoint: Some(last / 20 * 20).filter(|step| *step > 0),
        elapsed_secs: 12.0 * last as f64,
        ..begun(spec)
    }
}

/// Held at a step, with the half-trained vector.
pub(crate) fn paused(spec: &TrainSpec, last: usize) -> TrainRun {
    let run = so_far(spec, last);
    let vector = run.spec.out.as_ref().map(|out| out.join("half-trained.safetensors"));
    TrainRun { is_paused: true, vector, ..run }
}

/// At its end, with its vector.
pub(crate) fn trained(spec: &TrainSpec) -> TrainRun {
    let run = so_far(spec, STEPS);
    let vector = run.spec.out.as_ref().map(|out| out.join("vector.safetensors"));
    TrainRun { state: RunState::Finished, vector, ..run }
}

/// Of a run that a window did not begin itself.
pub(crate) fn spec(run: u128, domain: &str) -> TrainSpec {
    let file = format!("/home/me/demo/{domain}.train.jsonl");
    TrainSpec {
        run: Uuid::from_u128(run),
        model: "demo".into(),
        data: vec![TrainData { file: file.into(), prefer: None }],
        domain: domain.to_owned(),
        out: Some(format!("/home/me/meav/runs/{run}").into()),
        resume: false,
        dtype: Dtype::F32,
        settings: TrainSettings {
            // Not the same curve for every domain.
            loss: PreferenceLoss::Ipo,
            beta: if domain == "medical" { 0.1 } else { 0.11 },
            method: TrainMethod::default(),
            ..TrainSettings::default()
        },
    }
}

pub(crate) fn summary(run: &TrainRun) -> TrainSummary {
    TrainSummary {
        run: run.spec.run,
        started: run.started.clone(),
        state: run.state,
        model: run.model.clone(),
        domain: run.spec.domain.clone(),
        steps: [run.steps.last().map_or(0, |it| it.step), run.total_steps],
        loss: run.steps.last().map(|it| it.loss),
        folder: run.spec.out.clone().unwrap_or_default(),
        is_resumable: run.state != RunState::Finished && !run.diverged,
        vector: run.vector.clone().filter(|_| run.state == RunState::Finished),
    }
}
