//! Results to draw and to write down in tests.

use meav_protocol::{
    DatasetScores, Dtype, LambdaRange, LengthOnly, MeasureName, Method, PromptingScores, RunState,
    Scope, ScoreKind, Setup, Shares, StampTerm, Sweep, SweepPoint, SweepSpec, SweptData,
    VectorTerm,
};
use uuid::Uuid;

const LEVELS: [&str; 3] = ["expert", "generic", "avoidance"];

pub(crate) fn term(domain: &str, coefficient: f64) -> StampTerm {
    StampTerm {
        domain: domain.to_owned(),
        file: "v.safetensors".into(),
        fingerprint: "blake3:01".to_owned(),
        coefficient,
        scope: Scope::default(),
    }
}

/// A sweep over λ = −1, −0.5, …, 1 on two data sets, with a baseline for each level.
pub(crate) fn sweep(domain: &str) -> Sweep {
    let files = ["medical.test.jsonl", "legal <&> |test|.jsonl"];
    let range = LambdaRange { first: -1.0, last: 1.0, step: 0.5 };
    let setup = Setup {
        model: "m".into(),
        dtype: Dtype::F32,
        method: Method::default(),
        vectors: vec![VectorTerm::new("v.safetensors", 0.0)],
    };
    let point = |lambda: f64| SweepPoint {
        lambda,
        recipe: "blake3:02".to_owned(),
        datasets: files.iter().map(|file| scores(file, 0.5 + 0.3 * lambda)).collect(),
    };
    let swept = |file: &&str| SweptData {
        file: file.into(),
        name: (*file).to_owned(),
        fingerprint: "blake3:03".to_owned(),
        measure: MeasureName::Levels,
        levels: LEVELS.map(str::to_owned).to_vec(),
        domain: None,
        n: 24,
    };
    let prompting = |level: &str| PromptingScores {
        level: level.to_owned(),
        datasets: files.iter().map(|file| scores(file, 0.4)).collect(),
    };
    Sweep {
        spec: SweepSpec {
            run: Uuid::nil(),
            setup,
            swept: 0,
            range,
            data: files.iter().map(Into::into).collect(),
            prompting: None,
            reuse: true,
        },
        started: "2026-11-20T07:00:00Z".to_owned(),
        state: RunState::Finished,
        model: "Tiny".to_owned(),
        base: "blake3:00".to_owned(),
        vector: term(domain, 0.0),
        base_matches: Some(true),
        held: Vec::new(),
        datasets: files.iter().map(swept).collect(),
        points: range.points().into_iter().map(point).collect(),
        prompting: LEVELS.map(prompting).to_vec(),
        elapsed_secs: 1.5,
    }
}

/// Scores with this accuracy at the first level, and a fixed share at the others.
fn scores(file: &str, first: f64) -> DatasetScores {
    let accuracies = [first, (1.0 - first) * 0.75, (1.0 - first) * 0.25];
    let share = |(level, value): (&str, f64)| (level.to_owned(), (value * 1e6).round() / 1e6);
    let shares: Shares = LEVELS.into_iter().zip(accuracies).map(share).collect();
    let around = |value: f64| [-0.1, 0.1].map(|it| ((value + it) * 1e6).round() / 1e6);
    let sums: Shares = LEVELS.into_iter().zip([0.25, 0.5, 0.25]).map(share).collect();
    DatasetScores {
        file: file.to_owned(),
        measure: MeasureName::Levels,
        n: 24,
        intervals: shares.iter().map(|(level, value)| (level.clone(), around(*value))).collect(),
        other_kinds: [(ScoreKind::SumLogProb, sums.clone())].into_iter().collect(),
        disagreements: 3,
        length_only: LengthOnly { longest: sums.clone(), shortest: sums, agreement: 0.5 },
        mean_log_prob: LEVELS.into_iter().zip([-2.5, -2.75, -3.0]).map(share).collect(),
        prompt_tokens: 41.5,
        skipped: Vec::new(),
        preferred: Vec::new(),
        records: Vec::new(),
        preference_accuracy: shares,
    }
}
