//! Sweeps, as an engine would send them.

use std::path::{Path, PathBuf};

use meav_protocol::{
    Calibration, CalibrationPoint, CrossColumn, CrossDomain, DataProblem, DataReport,
    DatasetScores, Dtype, Fact, JobSpec, LengthOnly, MeasureName, MeasureSummary, Movement,
    Prompting, PromptingScores, RunState, ScoreKind, Shares, StampTerm, Sweep, SweepPoint,
    SweepSpec, SweepSummary, SweptData,
};
use uuid::Uuid;

pub(crate) const MEDICAL_DATA: &str = "/home/me/demo/medical.test.jsonl";
pub(crate) const FINANCIAL_DATA: &str = "/home/me/demo/financial.test.jsonl";
pub(crate) const SAFETY_DATA: &str = "/home/me/demo/safety.jsonl";

/// What an engine with nothing kept would find.
pub(crate) fn facts(spec: &JobSpec) -> Vec<Fact> {
    match spec {
        JobSpec::InspectData { path } => vec![Fact::Data(Box::new(data(path)))],
        JobSpec::ListSweeps | JobSpec::DeleteSweep { .. } => vec![Fact::Sweeps(Vec::new())],
        JobSpec::Sweep(spec) => {
            let mut facts = vec![Fact::Sweep(Box::new(begun(spec)))];
            facts.extend(spec.range.points().into_iter().map(|lambda| point_fact(spec, lambda)));
            let file = spec.setup.vectors[spec.swept].file.clone();
            let calibration = Box::new(calibration(spec));
            facts.push(Fact::Calibrated { file, calibration });
            facts.push(Fact::Sweep(Box::new(finished(spec))));
            facts
        }
        JobSpec::CrossDomain { sweeps } => vec![Fact::CrossDomain(cross_domain(sweeps))],
        JobSpec::ExportSweeps { out, .. } | JobSpec::ExportCrossDomain { out, .. } => {
            vec![Fact::Written { path: out.path.clone(), summary: "Written".to_owned() }]
        }
        JobSpec::WriteCalibration { vector, .. } => {
            vec![Fact::Written { path: vector.clone(), summary: "a calibration".to_owned() }]
        }
        _ => Vec::new(),
    }
}

fn levels_of(path: &Path) -> (MeasureName, Vec<String>) {
    let (measure, levels): (_, &[&str]) = if path.ends_with("safety.jsonl") {
        (MeasureName::Safety, &["safe", "unsafe"])
    } else {
        (MeasureName::Levels, &["expert", "generic", "avoidance"])
    };
    (measure, levels.iter().map(|level| (*level).to_owned()).collect())
}

fn name(path: &Path) -> String {
    path.file_name().expect("a file has a name").to_string_lossy().into_owned()
}

pub(crate) fn data(path: &Path) -> DataReport {
    let (measure, levels) = levels_of(path);
    DataReport {
        file: path.to_owned(),
        path: path.to_owned(),
        fingerprint: format!("blake3:{}", path.display()),
        format: "JSONL".to_owned(),
        shape: "levels".to_owned(),
        is_demo: path.starts_with("/home/me/demo"),
        measures: vec![MeasureSummary { measure, levels, n: 52 }],
        records: 52,
        problems: Vec::new(),
        n_problems: 0,
        counts: Vec::new(),
        personas: 0,
        lengths: Vec::new(),
        duplicate_queries: Vec::new(),
        identical_responses: Vec::new(),
    }
}

/// As it is before anything was measured.
pub(crate) fn begun(spec: &SweepSpec) -> Sweep {
    let term = |term: &meav_protocol::VectorTerm| StampTerm {
        domain: term.file.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        file: term.file.clone(),
        fingerprint: format!("blake3:{}", term.file.display()),
        coefficient: term.coefficient,
        scope: term.scope.clone(),
    };
    let others = spec.setup.vectors.iter().enumerate().filter(|(index, _)| *index != spec.swept);
    Sweep {
        spec: spec.clone(),
        started: "2026-11-20".to_owned(),
        state: RunState::Running,
        model: "SmolLM2-135M-Instruct".to_owned(),
        base: "blake3:base".to_owned(),
        vector: term(&spec.setup.vectors[spec.swept]),
        base_matches: Some(true),
        held: others.map(|(_, other)| term(other)).collect(),
        datasets: spec.data.iter().map(|path| swept(path)).collect(),
        points: Vec::new(),
        prompting: Vec::new(),
        elapsed_secs: 0.0,
    }
}

fn swept(path: &Path) -> SweptData {
    let (measure, levels) = levels_of(path);
    SweptData {
        file: path.to_owned(),
        name: name(path),
        fingerprint: format!("blake3:{}", path.display()),
        measure,
        levels,
        domain: None,
        n: 52,
    }
}

/// With all of its points, and what instructions make of it.
pub(crate) fn finished(spec: &SweepSpec) -> Sweep {
    let levels = spec.prompting.iter().flat_map(|it| it.instructions.keys());
    let prompted = |level: &String| PromptingScores {
        level: level.clone(),
        datasets: spec.data.iter().map(|path| scores(path, 0.2)).collect(),
    };
    Sweep {
        state: RunState::Finished,
        points: spec.range.points().into_iter().map(|lambda| point(spec, lambda)).collect(),
        prompting: levels.map(prompted).collect(),
        elapsed_secs: 402.0,
        ..begun(spec)
    }
}

pub(crate) fn point(spec: &SweepSpec, lambda: f64) -> SweepPoint {
    SweepPoint {
        lambda,
        recipe: format!("blake3:{lambda}"),
        datasets: spec.data.iter().map(|path| scores(path, lambda)).collect(),
    }
}

pub(crate) fn point_fact(spec: &SweepSpec, lambda: f64) -> Fact {
    Fact::SweepPoint { run: spec.run, point: Box::new(point(spec, lambda)) }
}

/// Shares that lead from the last level to the first as λ rises.
pub(crate) fn shares(path: &Path, lambda: f64) -> Vec<f64> {
    let (_, levels) = levels_of(path);
    let pull = if path.starts_with(MEDICAL_DATA) { 2.2 } else { 0.9 };
    let middle = (levels.len() - 1) as f64 / 2.0;
    let weight = |place: usize| {
        let side = middle - place as f64;
        let favour = if levels.len() == 3 && place == 1 { 0.9 } else { 0.0 };
        (pull * side * lambda + favour).exp()
    };
    let weights: Vec<f64> = (0..levels.len()).map(weight).collect();
    let sum: f64 = weights.iter().sum();
    // Shares of 52 records.
    let mut records: Vec<f64> =
        weights.iter().map(|weight| (weight / sum * 52.0).floor()).collect();
    records[levels.len() / 2] += 52.0 - records.iter().sum::<f64>();
    records.into_iter().map(|some| some / 52.0).collect()
}

fn scores(path: &Path, lambda: f64) -> DatasetScores {
    let (measure, levels) = levels_of(path);
    let shares = shares(path, lambda);
    let named = |by: f64| -> Shares {
        levels.iter().cloned().zip(shares.iter().map(|it| (it * by).min(1.0))).collect()
    };
    let interval = |share: &f64| {
        let half = 1.96 * (share * (1.0 - share) / 52.0).sqrt();
        [(share - half).max(0.0), (share + half).min(1.0)]
    };
    let kinds = ScoreKind::ALL.into_iter().skip(1);
    let skipped = path.starts_with(FINANCIAL_DATA).then(|| DataProblem {
        line: 17,
        id: None,
        reason: "the response is longer than the context".to_owned(),
    });
    DatasetScores {
        file: name(path),
        measure,
        n: 52,
        preference_accuracy: named(1.0),
        intervals: levels.iter().cloned().zip(shares.iter().map(interval)).collect(),
        other_kinds: kinds.map(|kind| (kind, named(0.95))).collect(),
        disagreements: 4,
        length_only: LengthOnly { longest: named(1.0), shortest: named(1.0), agreement: 0.5 },
        mean_log_prob: named(-1.0),
        prompt_tokens: 40.0,
        skipped: skipped.into_iter().collect(),
        preferred: Vec::new(),
        records: Vec::new(),
    }
}

pub(crate) fn calibration(spec: &SweepSpec) -> Calibration {
    let path = &spec.data[0];
    let (measure, levels) = levels_of(path);
    let point =
        |lambda: f64| CalibrationPoint { lambda, preference_accuracy: shares(path, lambda) };
    let last = *spec.range.points().last().expect("a range has points");
    Calibration {
        run: spec.run,
        created: "2026-11-20".to_owned(),
        model: "SmolLM2-135M-Instruct".to_owned(),
        base: "blake3:base".to_owned(),
        dtype: Dtype::F32,
        data: name(path),
        data_fingerprint: format!("blake3:{}", path.display()),
        measure,
        n: 52,
        best: vec![Some(last), Some(0.0), Some(spec.range.first)],
        levels,
        points: spec.range.points().into_iter().map(point).collect(),
    }
}

pub(crate) fn summary(sweep: &Sweep) -> SweepSummary {
    SweepSummary {
        run: sweep.spec.run,
        started: sweep.started.clone(),
        state: sweep.state,
        model: sweep.model.clone(),
        domain: sweep.vector.domain.clone(),
        range: sweep.spec.range,
        data: sweep.datasets.iter().map(|data| data.name.clone()).collect(),
        points: sweep.points.len(),
    }
}

/// A sweep of a vector over data that a window did not begin itself.
pub(crate) fn kept(run: u128, vector: &str, data: &[&str]) -> Sweep {
    let setup = meav_protocol::Setup {
        model: "demo".into(),
        dtype: Dtype::F32,
        method: meav_protocol::Method::default(),
        vectors: vec![meav_protocol::VectorTerm::new(vector, 0.0)],
    };
    let mut sweep = finished(&SweepSpec {
        run: Uuid::from_u128(run),
        setup,
        swept: 0,
        range: meav_protocol::LambdaRange { first: -1.5, last: 1.5, step: 0.25 },
        data: data.iter().map(PathBuf::from).collect(),
        prompting: Some(Prompting::of(["expert", "avoidance"])),
        reuse: true,
    });
    // Not the same curves for every vector.
    for (point, scores) in sweep.points.iter_mut().map(|it| (it.lambda, &mut it.datasets)) {
        for scores in scores {
            let path = Path::new("/home/me/demo").join(&scores.file);
            let lambda = if vector == "medical" { point } else { 0.6 * point + 0.3 };
            *scores = self::scores(&path, lambda);
        }
    }
    sweep
}

fn cross_domain(sweeps: &[Sweep]) -> CrossDomain {
    let first = &sweeps[0];
    let column = |data: &SweptData, level: &String| CrossColumn {
        data: data.name.clone(),
        measure: data.measure,
        level: level.clone(),
    };
    let columns: Vec<CrossColumn> = first
        .datasets
        .iter()
        .flat_map(|data| data.levels.iter().map(|level| column(data, level)))
        .collect();
    let cell = |row: usize, place: usize| {
        let per_unit = 0.3 * (1.0 + row as f64 + 2.0 * place as f64).sin();
        (row + place != 3)
            .then_some(Movement { per_unit, interval: [per_unit - 0.08, per_unit + 0.08] })
    };
    CrossDomain {
        vectors: sweeps.iter().map(|sweep| sweep.vector.domain.clone()).collect(),
        cells: (0..sweeps.len())
            .map(|row| (0..columns.len()).map(|place| cell(row, place)).collect())
            .collect(),
        columns,
    }
}
