//! Sweeps of which only the preferences matter.

use std::path::PathBuf;

use indexmap::IndexMap;
use meav_protocol::{
    DatasetScores, Dtype, LambdaRange, LengthOnly, MeasureName, Method, PromptingScores, RunState,
    Scope, Setup, Shares, StampTerm, Sweep, SweepPoint, SweepSpec, SweptData, VectorTerm,
};
use uuid::Uuid;

use crate::bootstrap::share_interval;
use crate::preference::{counts, shares};

/// The data of a sweep, and at each λ the preferred level of each record.
pub(crate) struct Data {
    pub(crate) name: &'static str,
    pub(crate) domain: Option<&'static str>,
    pub(crate) measure: MeasureName,
    pub(crate) preferred: Vec<Vec<u8>>,
}

impl Data {
    pub(crate) fn levels(name: &'static str, preferred: &[&[u8]]) -> Self {
        let domain = name.split_once('.').map(|(domain, _)| domain);
        let preferred = preferred.iter().map(|places| places.to_vec()).collect();
        Self { name, domain, measure: MeasureName::Levels, preferred }
    }

    fn level_names(&self) -> Vec<String> {
        match self.measure {
            MeasureName::Levels => ["expert", "generic", "avoidance"].map(str::to_owned).into(),
            MeasureName::Safety => ["safe", "unsafe"].map(str::to_owned).into(),
            MeasureName::Helpfulness => ["helpful", "unhelpful"].map(str::to_owned).into(),
            MeasureName::Pairs => ["chosen", "rejected"].map(str::to_owned).into(),
        }
    }

    fn swept(&self) -> SweptData {
        SweptData {
            file: PathBuf::from("data").join(self.name),
            name: self.name.to_owned(),
            fingerprint: format!("blake3:{}", self.name),
            measure: self.measure,
            levels: self.level_names(),
            domain: self.domain.map(str::to_owned),
            n: self.preferred.first().map_or(0, Vec::len),
        }
    }

    pub(crate) fn scores(&self, point: usize, prompt_tokens: f64) -> DatasetScores {
        let levels = self.level_names();
        let places: Vec<_> = self.preferred[point].iter().copied().map(usize::from).collect();
        let intervals: Vec<_> = counts(&places, levels.len())
            .into_iter()
            .map(|count| share_interval(count, places.len()))
            .collect();
        DatasetScores {
            file: self.name.to_owned(),
            measure: self.measure,
            n: places.len(),
            preference_accuracy: shares(&levels, &places),
            intervals: levels.iter().cloned().zip(intervals).collect(),
            other_kinds: IndexMap::new(),
            disagreements: 0,
            length_only: LengthOnly {
                longest: Shares::new(),
                shortest: Shares::new(),
                agreement: 0.0,
            },
            mean_log_prob: Shares::new(),
            prompt_tokens,
            skipped: Vec::new(),
            preferred: self.preferred[point].clone(),
            records: Vec::new(),
        }
    }
}

pub(crate) fn term(domain: &str, coefficient: f64) -> StampTerm {
    StampTerm {
        domain: domain.to_owned(),
        file: PathBuf::from("vectors").join(format!("{domain}.safetensors")),
        fingerprint: format!("blake3:{domain}"),
        coefficient,
        scope: Scope::default(),
    }
}

/// A sweep of a vector with the domain over these λ.
pub(crate) fn sweep(domain: &str, lambdas: &[f64], data: &[Data]) -> Sweep {
    let vector = term(domain, 0.0);
    let setup = Setup {
        model: "demo".into(),
        dtype: Dtype::F32,
        method: Method::TaskArithmetic,
        vectors: vec![VectorTerm::new(vector.file.clone(), 0.0)],
    };
    let point = |(place, lambda): (usize, &f64)| SweepPoint {
        lambda: *lambda,
        recipe: format!("blake3:{lambda}"),
        datasets: data.iter().map(|it| it.scores(place, 40.0)).collect(),
    };
    Sweep {
        spec: SweepSpec {
            run: Uuid::nil(),
            setup,
            swept: 0,
            range: LambdaRange::default(),
            data: data.iter().map(|it| PathBuf::from("data").join(it.name)).collect(),
            prompting: None,
            reuse: true,
        },
        started: "2026-11-05T12:00:00Z".to_owned(),
        state: RunState::Finished,
        model: "SmolLM2-135M-Instruct".to_owned(),
        base: "blake3:base".to_owned(),
        vector,
        base_matches: Some(true),
        held: Vec::new(),
        datasets: data.iter().map(Data::swept).collect(),
        points: lambdas.iter().enumerate().map(point).collect(),
        prompting: Vec::new(),
        elapsed_secs: 1.0,
    }
}

/// As the base model would answer under an instruction: one point for each data set.
pub(crate) fn prompting(level: &str, prompt_tokens: f64, data: &[Data]) -> PromptingScores {
    let datasets = data.iter().map(|it| it.scores(0, prompt_tokens)).collect();
    PromptingScores { level: level.to_owned(), datasets }
}
