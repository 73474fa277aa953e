use std::path::Path;
use std::time::Instant;

use meav_model::{ModelError, Question};
use meav_protocol::{BenchReport, Dtype, Measure, Stage, TrainMethod, TrainSettings};
use meav_train::{Pair, PairSet, Reference, Trainer, reference_log_probs};
use meav_weights::{peak_memory_bytes, reset_peak_memory};

use super::bench::{measure, median};
use crate::compute::Compute;
use crate::error::EngineError;
use crate::training::{Base, Demand, make_room};
use crate::worker::{Running, Worker};

/// Steps that are taken before those that are timed: the first ones find nothing in its place.
const WARM_UP: usize = 2;

/// Steps that are timed; the median counts.
const STEPS: usize = 5;

/// So small that a step on random tokens leads nowhere.
const LEARNING_RATE: f64 = 1e-7;

/// What a step is measured on.
#[derive(Clone, Copy)]
pub(super) struct TrainSubject<'a> {
    pub(super) model: &'a Path,
    pub(super) method: &'a TrainMethod,
    pub(super) dtype: Dtype,
    pub(super) checkpointing: bool,
    pub(super) pairs: usize,
    pub(super) tokens: usize,
}

/// Steps of training on seeded tokens, and the most memory that the process takes from reading the
/// model to the last step.
pub(super) fn bench_train(
    worker: &mut Worker,
    subject: TrainSubject<'_>,
    running: &Running<'_>,
) -> Result<BenchReport, EngineError> {
    let meter = MemoryMeter::start(&worker.compute);
    let TrainSubject { model, method, dtype, checkpointing, tokens, .. } = subject;
    let settings = settings(subject);
    let base = Base::open(worker, model, dtype, running)?;
    base.files.config.check_context(tokens)?;
    let pairs = seeded_pairs(base.files.config.vocab_size, subject.pairs, tokens);
    make_room(worker, &Demand::new(&base, &pairs, &settings), running)?;
    let decoder = base.load(running)?;
    let (elements, mut steps) = running.stage(Stage::Measuring, |job| {
        let quiet = job.without_progress();
        let train = reference_log_probs(&decoder, &pairs.train, &mut |_| {}, &quiet)?;
        let reference = Reference { train, ..Reference::default() };
        let mut trainer = Trainer::new(decoder, pairs, reference, &settings, "bench")?;
        let mut steps = Vec::new();
        for step in 0..WARM_UP + STEPS {
            job.tick(step, WARM_UP + STEPS)?;
            let start = Instant::now();
            trainer.step(&quiet)?;
            base.compute.device().synchronize().map_err(ModelError::from)?;
            if step >= WARM_UP {
                steps.push(start.elapsed().as_secs_f64());
            }
        }
        Ok::<_, EngineError>((trainer.counts().trainable_parameters, steps))
    })?;
    let step_secs = median(&mut steps);
    let read = (2 * subject.pairs * tokens) as f64;
    let mut measures = vec![
        measure("step", step_secs, "s"),
        measure("fastest step", steps[0], "s"),
        measure("each response with its prompt", read / step_secs, "tokens/s"),
        measure("trained elements", elements as f64 / 1e6, "M"),
    ];
    measures.extend(meter.measure(&base.compute));
    let method = match method {
        TrainMethod::Full => "all weights".to_owned(),
        TrainMethod::Lora { rank, .. } => format!("factors of rank {rank}"),
    };
    let kept = if checkpointing { "layers computed again" } else { "everything kept" };
    let name = format!(
        "Training of {}, {method}, {dtype}, {kept}, {} pairs of {tokens} tokens, {}",
        base.files.name,
        subject.pairs,
        base.compute.name()
    );
    Ok(BenchReport { name, measures })
}

/// The most memory that is taken from here on.
struct MemoryMeter {
    is_reset: bool,
}

impl MemoryMeter {
    fn start(compute: &Compute) -> Self {
        let is_reset = if compute.is_gpu() {
            compute.take_peak_bytes().is_some()
        } else {
            reset_peak_memory()
        };
        Self { is_reset }
    }

    /// Of the process, or of tensors on the GPU.
    fn measure(&self, compute: &Compute) -> Option<Measure> {
        let peak = if compute.is_gpu() { compute.take_peak_bytes() } else { peak_memory_bytes() }?;
        let name = match (compute.is_gpu(), self.is_reset) {
            (true, _) => "peak memory of tensors on the GPU",
            (false, true) => "peak memory",
            (false, false) => "peak memory since the engine began",
        };
        Some(measure(name, peak as f64 / 1e9, "GB"))
    }
}

/// One step an epoch.
fn settings(subject: TrainSubject<'_>) -> TrainSettings {
    TrainSettings {
        method: subject.method.clone(),
        epochs: WARM_UP + STEPS,
        batch: subject.pairs,
        learning_rate: LEARNING_RATE,
        checkpointing: subject.checkpointing,
        max_length: subject.tokens,
        validation: 0.0,
        patience: None,
        ..TrainSettings::default()
    }
}

/// Pairs of random tokens: half a prompt, which both responses share, half a response.
fn seeded_pairs(vocab_size: usize, n: usize, n_tokens: usize) -> PairSet {
    let mut random = fastrand::Rng::with_seed(0);
    let mut tokens =
        |n: usize| -> Vec<u32> { (0..n).map(|_| random.u32(..vocab_size as u32)).collect() };
    let prompt_len = n_tokens / 2;
    let pair = |place: usize| {
        let prompt = tokens(prompt_len);
        let responses = vec![tokens(n_tokens - prompt_len), tokens(n_tokens - prompt_len)];
        Pair {
            id: place.to_string(),
            domain: None,
            levels: ["chosen", "rejected"].map(str::to_owned),
            question: Question { prompt, responses },
            truncated: false,
        }
    };
    PairSet {
        train: (0..n).map(pair).collect(),
        validation: Vec::new(),
        left_out: Vec::new(),
        fingerprint: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeded_sequences_are_as_long_as_asked_for_and_always_the_same() {
        for n_tokens in [2, 7, 256] {
            let pairs = seeded_pairs(100, 3, n_tokens);
            assert_eq!(pairs, seeded_pairs(100, 3, n_tokens));
            assert_eq!(pairs.train.len(), 3);
            for Pair { question: Question { prompt, responses }, .. } in &pairs.train {
                assert_eq!((prompt.len(), responses.len()), (n_tokens / 2, 2));
                for response in responses {
                    assert_eq!(prompt.len() + response.len(), n_tokens);
                    assert!(response.iter().all(|token| *token < 100));
                }
            }
            assert_ne!(pairs.train[0], Pair { id: "0".to_owned(), ..pairs.train[1].clone() });
        }
    }
}
