use std::time::Instant;

use meav_job::JobCtx;
use meav_model::Decoder;
use meav_protocol::{Fact, Stage, TrainEstimate, TrainSettings, TrainSpec};
use meav_train::{Pair, PairSet, Reference, TrainError, Trainer, reference_log_probs};

use super::fit::{Demand, counts, disk_bytes, make_room};
use super::open::Prepared;
use crate::error::EngineError;
use crate::words::sentence;
use crate::worker::{Running, Worker};

/// Steps that are taken before one is timed: the first ones find nothing in its place.
const WARM_UP: usize = 1;

/// Says what a run would take, from a step on a batch of typical length that leaves nothing behind.
pub(crate) fn estimate_training(
    worker: &mut Worker,
    spec: &TrainSpec,
    running: &Running<'_>,
) -> Result<(), EngineError> {
    let prepared = Prepared::open(worker, spec, running)?;
    let Prepared { base, pairs, .. } = &prepared;
    let settings = &spec.settings;
    let (counts, total_steps) = counts(base, pairs, settings);
    let demand = Demand::new(base, pairs, settings);
    let mut estimate = TrainEstimate {
        counts,
        total_steps,
        secs: 0.0,
        memory_bytes: demand.bytes(),
        available_bytes: worker.attainable_memory(),
        disk_bytes: disk_bytes(&base.files.config, settings, &counts, total_steps),
        refusal: None,
    };
    match make_room(worker, &demand, running) {
        Ok(()) => {
            let decoder = base.load(running)?;
            estimate.secs = running.stage(Stage::Measuring, |job| {
                Speed::measure(decoder, pairs, settings, job)
                    .map(|speed| speed.secs(pairs, settings, total_steps))
            })?;
        }
        Err(err @ EngineError::TooLargeToTrain { .. }) => estimate.refusal = Some(sentence(&err)),
        Err(err) => return Err(err),
    }
    running.fact(Fact::TrainEstimate(Box::new(estimate)));
    Ok(())
}

/// Seconds that a token takes.
struct Speed {
    /// When the base model is asked.
    reference: f64,
    /// Forward, backward and the optimiser's part.
    training: f64,
}

impl Speed {
    fn measure(
        decoder: Decoder,
        pairs: &PairSet,
        settings: &TrainSettings,
        job: &JobCtx<'_>,
    ) -> Result<Self, TrainError> {
        let batch = typical_batch(&pairs.train, settings.batch);
        let tokens = n_tokens(&batch);
        let n_steps = WARM_UP + 1;
        job.tick(0, n_steps + 1)?;
        let began = Instant::now();
        let log_probs =
            reference_log_probs(&decoder, &batch, &mut |_| {}, &job.without_progress())?;
        let reference = began.elapsed().as_secs_f64() / tokens;
        let settings = TrainSettings {
            epochs: n_steps,
            accumulation: 1,
            max_steps: None,
            patience: None,
            ..settings.clone()
        };
        let tried = PairSet {
            train: batch,
            validation: Vec::new(),
            left_out: Vec::new(),
            fingerprint: String::new(),
        };
        let known = Reference { train: log_probs, validation: Vec::new() };
        let mut trainer = Trainer::new(decoder, tried, known, &settings, "tried")?;
        let mut training = 0.0;
        for step in 0..n_steps {
            job.tick(step + 1, n_steps + 1)?;
            let began = Instant::now();
            trainer.step(&job.without_progress())?;
            training = began.elapsed().as_secs_f64() / tokens;
        }
        Ok(Self { reference, training })
    }

    /// What a run takes to its end. Reading alone is taken to cost what the reference costs.
    fn secs(&self, pairs: &PairSet, settings: &TrainSettings, total_steps: usize) -> f64 {
        let PairSet { train, validation, .. } = pairs;
        let per_epoch = train.len().div_ceil(settings.batch).div_ceil(settings.accumulation).max(1);
        let epochs = total_steps as f64 / per_epoch as f64;
        let validations = 2 + total_steps / settings.validate_every;
        let read = n_tokens(train) + n_tokens(validation) * (1 + validations) as f64;
        self.training * n_tokens(train) * epochs + self.reference * read
    }
}

fn n_tokens(pairs: &[Pair]) -> f64 {
    pairs.iter().map(Pair::len).sum::<usize>() as f64
}

/// Pairs of medium length, as many as go through the model together.
fn typical_batch(pairs: &[Pair], batch: usize) -> Vec<Pair> {
    let mut sorted: Vec<&Pair> = pairs.iter().collect();
    sorted.sort_by_key(|pair| pair.len());
    let n = batch.min(sorted.len());
    let first = (sorted.len() - n) / 2;
    sorted[first..first + n].iter().map(|pair| (*pair).clone()).collect()
}

#[cfg(test)]
mod tests {
    use meav_model::Question;

    use super::*;

    fn pair(tokens: usize) -> Pair {
        Pair {
            id: String::new(),
            domain: None,
            levels: [String::new(), String::new()],
            question: Question { prompt: vec![0; tokens - 2], responses: vec![vec![1], vec![2]] },
            truncated: false,
        }
    }

    #[test]
    fn batch_that_is_tried_is_of_medium_length() {
        let pairs: Vec<Pair> = [90, 10, 50, 40, 60, 1000].map(pair).into();
        let lengths =
            |batch| typical_batch(&pairs, batch).iter().map(Pair::len).collect::<Vec<_>>();
        assert_eq!(lengths(2), [50, 60]);
        assert_eq!(lengths(9).len(), 6);
    }

    #[test]
    fn time_counts_every_epoch_the_reference_and_the_validations() {
        let speed = Speed { reference: 0.5, training: 2.0 };
        let (train, validation) = ([10; 8].map(pair).into(), vec![pair(5)]);
        let left_out = Vec::new();
        let pairs = PairSet { train, validation, left_out, fingerprint: String::new() };
        let settings = TrainSettings { batch: 2, validate_every: 4, ..TrainSettings::default() };
        // 80 tokens trained on twice; 80 and 5 asked about; 5 validated at 0, 4, 8 and the end.
        let expected: f64 = 2.0 * 160.0 + 0.5 * (80.0 + 5.0 + 4.0 * 5.0);
        assert_eq!(speed.secs(&pairs, &settings, 8).to_bits(), expected.to_bits());
    }
}
