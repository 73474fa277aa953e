//! What a compression does to a model's judgement of texts.

use std::sync::Arc;

use meav_eval::{QuestionSet, RawScore};
use meav_job::JobCtx;
use meav_model::{Decoder, ModelFiles};
use meav_protocol::{Dtype, LogProbShift, Probe, Stage};
use meav_vector::{AlignmentVector, LiveWeights, Method, Term};

use crate::error::EngineError;
use crate::measuring::{file_name, read_data, tell_left_out};
use crate::plan::Placement;
use crate::worker::{Running, Worker};

/// Where the two vectors are compared.
const COEFFICIENTS: [f64; 5] = [-1.5, -1.0, 0.5, 1.0, 1.5];

/// A model that is not loaded yet, and what it will be asked.
pub(crate) struct Questions {
    files: ModelFiles,
    placed: Placement,
    sets: Vec<QuestionSet>,
}

/// A model in `f32`, and what it is asked.
pub(crate) struct ProbeModel {
    live: LiveWeights,
    decoder: Decoder,
    questions: Vec<QuestionSet>,
    /// Passes over the questions that are done.
    passes: usize,
}

/// What was measured.
pub(crate) struct Probed {
    pub(crate) shifts: Vec<LogProbShift>,
    /// Responses that were asked for.
    pub(crate) responses: usize,
}

impl Questions {
    /// Reads the data, and checks that the model takes the vector and memory takes the model; what
    /// was loaded before goes.
    pub(crate) fn read(
        worker: &mut Worker,
        probe: &Probe,
        vector: &AlignmentVector,
        running: &Running<'_>,
    ) -> Result<Self, EngineError> {
        let files = ModelFiles::open(&worker.folders.model(&probe.model)?)?;
        let tokenizer = meav_model::vocabulary_fingerprint(&files.tokenizer);
        vector.check_fit(&files.checkpoint, tokenizer)?;
        let template = files.compile_chat_template()?;
        let mut questions = Vec::new();
        for path in &probe.data {
            let dataset = read_data(worker, path, probe.limit, running)?;
            let name = file_name(&dataset.path);
            let set = running.stage(Stage::ReadingData, |job| {
                QuestionSet::new(&name, &dataset, &files, &template, None, job)
            })?;
            tell_left_out(&dataset, &set, running);
            questions.push(set);
        }
        worker.unload(running.job_id);
        let placed = worker.place(&files, Dtype::F32, &[])?;
        Ok(Self { files, placed, sets: questions })
    }
}

impl ProbeModel {
    /// Loads the model.
    pub(crate) fn load(questions: Questions, running: &Running<'_>) -> Result<Self, EngineError> {
        let Questions { files, placed, sets: questions } = questions;
        let weights = running.stage(Stage::Loading, |job| files.load_weights(job))?;
        let live = running.stage(Stage::Loading, |job| {
            let (device, residency) = (placed.compute.device(), placed.residency);
            let dtype = meav_weights::Dtype::F32;
            LiveWeights::with_residency(weights, dtype, device, residency, job)
        })?;
        let decoder = Decoder::new(&files.config, live.tensors())?;
        Ok(Self { live, decoder, questions, passes: 0 })
    }

    /// The mean log-probabilities of all responses under `vector` and under `smaller`, side by
    /// side at each λ.
    pub(crate) fn compare(
        mut self,
        vector: &Arc<AlignmentVector>,
        smaller: &Arc<AlignmentVector>,
        running: &Running<'_>,
    ) -> Result<Probed, EngineError> {
        running.stage(Stage::Scoring, |job| {
            let base = self.score(&[], job)?;
            let mut shifts = Vec::new();
            for coefficient in COEFFICIENTS {
                let whole = self.score(&[Term::new(Arc::clone(vector), coefficient)], job)?;
                let small = self.score(&[Term::new(Arc::clone(smaller), coefficient)], job)?;
                shifts.push(shift(coefficient, &base, &whole, &small));
            }
            Ok(Probed { shifts, responses: base.len() })
        })
    }

    fn score(&mut self, terms: &[Term], job: &JobCtx<'_>) -> Result<Vec<f64>, EngineError> {
        let per_pass: usize = self.questions.iter().map(QuestionSet::len).sum();
        let total = (1 + 2 * COEFFICIENTS.len()) * per_pass;
        // Inside, layers would tell their own progress.
        let quiet = job.without_progress();
        self.live.apply(Method::TaskArithmetic, terms, &quiet)?;
        let mut done = self.passes * per_pass;
        let mut scores = Vec::new();
        for set in &self.questions {
            let mut answers = Vec::new();
            set.ask(&self.decoder, &mut answers, |n| job.report(done + n, total), &quiet)?;
            scores.extend(answers.iter().flatten().map(RawScore::mean_log_prob));
            done += set.len();
        }
        self.passes += 1;
        Ok(scores)
    }
}

fn shift(coefficient: f64, base: &[f64], whole: &[f64], small: &[f64]) -> LogProbShift {
    let n = base.len().max(1) as f64;
    let changes = || small.iter().zip(whole).map(|(small, whole)| small - whole);
    let effects = base.iter().zip(whole).map(|(base, whole)| (whole - base).abs());
    LogProbShift {
        coefficient,
        mean_change: changes().sum::<f64>() / n,
        mean_absolute_change: changes().map(f64::abs).sum::<f64>() / n,
        largest_change: changes().map(f64::abs).fold(0.0, f64::max),
        mean_effect: effects.sum::<f64>() / n,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_keep_their_sign_in_the_mean_only() {
        let found = shift(1.5, &[-3.0, -2.0], &[-2.0, -2.5], &[-2.25, -2.25]);
        let expected = LogProbShift {
            coefficient: 1.5,
            mean_change: 0.0,
            mean_absolute_change: 0.25,
            largest_change: 0.25,
            mean_effect: 0.75,
        };
        assert_eq!(found, expected);
    }
}
