//! Whether a run fits into memory and onto the disk, and what would.

use std::path::Path;

use meav_model::Config;
use meav_protocol::{Dtype, OptimizerState, TrainCounts, TrainMethod, TrainSettings};
use meav_train::{
    Pair, PairSet, gpu_memory_estimate, longest_batch, memory_estimate, total_steps,
    trainable_parameters,
};
use meav_weights::process_anonymous_bytes;

use super::base::Base;
use crate::convert::weights_dtype;
use crate::disk::check_disk;
use crate::error::EngineError;
use crate::plan::GPU_OVERHEAD_BYTES;
use crate::worker::{Running, Worker};

/// Room for the program itself, and for what the allocator keeps.
const OVERHEAD_BYTES: u64 = 128 << 20;

/// Checkpoints on the disk at a time: the two that are kept, and the one that is being written.
const CHECKPOINTS: u64 = 3;

/// Bytes on the disk of what is measured at a step: a row, an event, and a line of the workspace.
const STEP_BYTES: u64 = 2048;

/// Bytes that the names and shapes of a layer's tensors take in a file.
const HEADER_BYTES: u64 = 16 << 10;

/// What a run is trained on, and its steps.
pub(crate) fn counts(
    base: &Base,
    pairs: &PairSet,
    settings: &TrainSettings,
) -> (TrainCounts, usize) {
    let PairSet { train, validation, left_out, .. } = pairs;
    let counts = TrainCounts {
        pairs: train.len(),
        validation_pairs: validation.len(),
        truncated: train.iter().chain(validation).filter(|pair| pair.truncated).count(),
        left_out: left_out.len(),
        trainable_parameters: trainable_parameters(&base.files.config, settings),
    };
    (counts, total_steps(train.len(), settings))
}

/// What a run takes of the memory.
pub(crate) struct Demand<'a> {
    config: &'a Config,
    settings: &'a TrainSettings,
    dtype: Dtype,
    /// Whether it is a GPU's memory.
    is_on_gpu: bool,
    pairs: Vec<&'a Pair>,
    /// What can be changed to save memory, the one that changes the result least first.
    savings: &'static [Saving],
}

impl<'a> Demand<'a> {
    pub(crate) fn new(base: &'a Base, pairs: &'a PairSet, settings: &'a TrainSettings) -> Self {
        let (config, dtype) = (&base.files.config, base.dtype);
        let is_on_gpu = base.compute.is_gpu();
        let pairs = pairs.train.iter().chain(&pairs.validation).collect();
        Self { config, settings, dtype, is_on_gpu, pairs, savings: &SAVINGS }
    }

    /// Of a run that must come to the curve that it was begun with.
    pub(crate) fn of_begun_run(self) -> Self {
        Self { savings: &SAVINGS[..1], ..self }
    }

    /// Bytes at its longest batch.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes_of(self.settings, self.dtype)
    }

    fn bytes_of(&self, settings: &TrainSettings, dtype: Dtype) -> u64 {
        let lengths: Vec<usize> =
            self.pairs.iter().map(|pair| cut_len(pair, settings.max_length)).collect();
        let tokens = longest_batch(&lengths, settings.batch);
        let (config, dtype) = (self.config, weights_dtype(dtype));
        let (bytes, overhead) = if self.is_on_gpu {
            (gpu_memory_estimate(config, settings, dtype, tokens).gpu, GPU_OVERHEAD_BYTES)
        } else {
            (memory_estimate(config, settings, dtype, tokens), OVERHEAD_BYTES)
        };
        bytes.saturating_add(overhead)
    }

    /// What would fit into `available` bytes, in a sentence.
    pub(crate) fn what_fits(&self, available: u64) -> String {
        let mut together = (self.settings.clone(), self.dtype);
        let mut alone = Vec::new();
        let mut names = Vec::new();
        let mut first_together = None;
        for saving in self.savings.iter().copied() {
            let mut only_this = (self.settings.clone(), self.dtype);
            if let Some((text, bytes)) = self.save(saving, &mut only_this, available)
                && bytes <= available
            {
                alone.push(format!("{text} ({})", gigabytes(bytes)));
            }
            if let Some((text, bytes)) = self.save(saving, &mut together, available) {
                names.push(text);
                if bytes <= available && first_together.is_none() {
                    let names = names.join(" and ");
                    first_together = Some(format!("{names} ({})", gigabytes(bytes)));
                }
            }
        }
        match (alone.is_empty(), first_together) {
            (false, _) => format!("It would fit with {}", alone.join(", or with ")),
            (true, Some(together)) => format!("It would fit with {together}"),
            (true, None) if names.is_empty() && self.is_begun() => {
                "Nothing that it could save changes no number: close other programs".to_owned()
            }
            (true, None) => format!(
                "Even with {} it would take {}; {}close other programs",
                if names.is_empty() {
                    "the smallest settings".to_owned()
                } else {
                    names.join(" and ")
                },
                gigabytes(self.bytes_of(&together.0, together.1)),
                if self.is_begun() { "" } else { "take a smaller model or " },
            ),
        }
    }

    fn is_begun(&self) -> bool {
        self.savings.len() < SAVINGS.len()
    }

    /// Changes `run` so that it takes less; gives the change in words and what it takes then, or
    /// nothing where there is nothing to save.
    fn save(
        &self,
        saving: Saving,
        run: &mut (TrainSettings, Dtype),
        available: u64,
    ) -> Option<(String, u64)> {
        let before = self.bytes_of(&run.0, run.1);
        let mut changed = run.clone();
        let (settings, dtype) = &mut changed;
        let text = match saving {
            Saving::Checkpointing => {
                settings.checkpointing = true;
                "activations computed again instead of kept".to_owned()
            }
            Saving::Lora => {
                settings.method = match &settings.method {
                    TrainMethod::Full => TrainMethod::default(),
                    lora @ TrainMethod::Lora { .. } => lora.clone(),
                };
                "LoRA instead of full parameters".to_owned()
            }
            Saving::SmallerRank => {
                while self.bytes_of(settings, *dtype) > available && halve_rank(settings) {}
                let rank = match settings.method {
                    TrainMethod::Full => 0,
                    TrainMethod::Lora { rank, .. } => rank,
                };
                format!("factors of rank {rank}")
            }
            Saving::SmallerBatch => {
                // More than all pairs are all pairs.
                settings.batch = settings.batch.min(self.pairs.len()).max(1);
                while settings.batch > 1 && self.bytes_of(settings, *dtype) > available {
                    divide_batch(settings);
                }
                let (batch, accumulation) = (settings.batch, settings.accumulation);
                format!("batches of {batch}, of which {accumulation} make a step")
            }
            Saving::SmallState => {
                settings.optimizer_state = OptimizerState::Int8;
                "8-bit optimiser state".to_owned()
            }
            Saving::Bf16 => {
                *dtype = Dtype::Bf16;
                "bf16 weights".to_owned()
            }
            Saving::ShorterTexts => {
                while settings.max_length > SHORTEST && self.bytes_of(settings, *dtype) > available
                {
                    settings.max_length = (settings.max_length / 2).max(SHORTEST);
                }
                format!("texts of at most {} tokens", settings.max_length)
            }
        };
        let bytes = self.bytes_of(settings, *dtype);
        if bytes >= before {
            return None;
        }
        *run = changed;
        Some((text, bytes))
    }
}

/// Texts are not cut shorter to save memory.
const SHORTEST: usize = 128;

/// A change that saves memory.
#[derive(Clone, Copy)]
enum Saving {
    Checkpointing,
    Lora,
    SmallerRank,
    SmallerBatch,
    SmallState,
    Bf16,
    ShorterTexts,
}

/// Those that change the result least come first.
const SAVINGS: [Saving; 7] = [
    Saving::Checkpointing,
    Saving::SmallerBatch,
    Saving::SmallState,
    Saving::Lora,
    Saving::SmallerRank,
    Saving::Bf16,
    Saving::ShorterTexts,
];

/// Takes a smaller batch so that a step has the same pairs.
fn divide_batch(settings: &mut TrainSettings) {
    let batch = settings.batch;
    let smaller = (1..=batch / 2).rev().find(|smaller| batch.is_multiple_of(*smaller));
    settings.batch = smaller.unwrap_or(1);
    settings.accumulation = settings.accumulation.saturating_mul(batch / settings.batch);
}

/// Whether there is a smaller rank.
fn halve_rank(settings: &mut TrainSettings) -> bool {
    match &mut settings.method {
        TrainMethod::Lora { rank, .. } if *rank > 1 => {
            *rank /= 2;
            true
        }
        TrainMethod::Lora { .. } | TrainMethod::Full => false,
    }
}

/// Tokens of a pair whose responses are cut to a length.
fn cut_len(pair: &Pair, max_length: usize) -> usize {
    let prompt = pair.question.prompt.len();
    let room = max_length.saturating_sub(prompt);
    let response = |response: &Vec<u32>| response.len().min(room);
    prompt + pair.question.responses.iter().map(response).sum::<usize>()
}

fn gigabytes(bytes: u64) -> String {
    format!("{:.2} GB", bytes as f64 / 1e9)
}

impl Worker {
    /// Memory that there would be if everything that is loaded went.
    pub(crate) fn attainable_memory(&self) -> Option<u64> {
        let holds_something = self.loaded.is_some() || self.background.hold_memory();
        let freed = self.held_bytes().filter(|_| holds_something).unwrap_or(0);
        self.compute.available_bytes().map(|available| available.saturating_add(freed))
    }

    /// What is taken of the memory of the device that models run on; of a GPU's, by the loaded one.
    pub(crate) fn held_bytes(&self) -> Option<u64> {
        if self.compute.is_gpu() {
            self.loaded.as_ref().map(|loaded| loaded.live.device_bytes())
        } else {
            process_anonymous_bytes()
        }
    }
}

/// Makes room for a run: takes the memory of the model that is chatted with, and then that of what
/// waits in the background, where there is not enough without.
///
/// # Errors
///
/// [`EngineError::TooLargeToTrain`].
pub(crate) fn make_room(
    worker: &mut Worker,
    demand: &Demand<'_>,
    running: &Running<'_>,
) -> Result<(), EngineError> {
    let needed = demand.bytes();
    let refusal = |available| {
        let what_fits = demand.what_fits(available);
        EngineError::TooLargeToTrain { needed, available, what_fits }
    };
    // Not for nothing.
    if let Some(most) = worker.attainable_memory().filter(|most| needed > *most) {
        return Err(refusal(most));
    }
    let compute = worker.compute.clone();
    let lacks = || compute.available_bytes().filter(|available| needed > *available);
    if lacks().is_some() {
        worker.unload(running.job_id);
    }
    if lacks().is_some() {
        worker.free_background(running);
    }
    lacks().map_or(Ok(()), |available| Err(refusal(available)))
}

/// What a run takes of the disk at most.
pub(crate) fn disk_bytes(
    config: &Config,
    settings: &TrainSettings,
    counts: &TrainCounts,
    total_steps: usize,
) -> u64 {
    let n = counts.trainable_parameters;
    let moments = match settings.optimizer_state {
        OptimizerState::F32 => n.saturating_mul(8),
        OptimizerState::Int8 => n.saturating_mul(2).saturating_add(n / 32),
    };
    let headers = HEADER_BYTES * config.n_layers as u64;
    let checkpoint = n.saturating_mul(4).saturating_add(moments).saturating_add(headers);
    // The vector in bf16, and the half-trained one of a pause.
    let vectors = n.saturating_mul(2).saturating_add(headers).saturating_mul(2);
    let metrics = STEP_BYTES.saturating_mul(total_steps as u64);
    checkpoint.saturating_mul(CHECKPOINTS).saturating_add(vectors).saturating_add(metrics)
}

/// Refuses a run that the disk has no room for.
///
/// # Errors
///
/// [`EngineError::DiskFull`].
pub(crate) fn refuse_small_disk(
    folder: &Path,
    base: &Base,
    config: &super::config::RunConfig,
) -> Result<(), EngineError> {
    let settings = &config.spec.settings;
    let needed = disk_bytes(&base.files.config, settings, &config.counts, config.total_steps);
    check_disk(folder, needed)
}

#[cfg(test)]
mod tests {
    use meav_model::Question;

    use super::*;

    /// The demo model's dimensions.
    fn config() -> Config {
        let text = br#"{
            "model_type": "llama", "hidden_size": 576, "intermediate_size": 1536,
            "vocab_size": 49152, "num_hidden_layers": 30, "num_attention_heads": 9,
            "num_key_value_heads": 3, "rms_norm_eps": 1e-5, "max_position_embeddings": 8192,
            "rope_theta": 100000.0, "tie_word_embeddings": true
        }"#;
        Config::from_json(text).unwrap()
    }

    fn pairs() -> Vec<Pair> {
        let pair = |tokens: usize| Pair {
            id: String::new(),
            domain: None,
            levels: [String::new(), String::new()],
            question: Question { prompt: vec![0; 50], responses: vec![vec![1; tokens]; 2] },
            truncated: false,
        };
        (1..=16).map(|n| pair(50 * n)).collect()
    }

    fn costly() -> TrainSettings {
        TrainSettings {
            method: TrainMethod::Full,
            batch: 16,
            checkpointing: false,
            ..TrainSettings::default()
        }
    }

    fn with_demand<T>(settings: &TrainSettings, run: impl FnOnce(Demand<'_>) -> T) -> T {
        let (config, pairs) = (config(), pairs());
        let pairs = pairs.iter().collect();
        run(Demand {
            config: &config,
            settings,
            dtype: Dtype::F32,
            is_on_gpu: false,
            pairs,
            savings: &SAVINGS,
        })
    }

    #[test]
    fn one_change_that_is_enough_is_named_with_what_it_takes() {
        let smaller = TrainSettings { checkpointing: true, ..costly() };
        let small = with_demand(&smaller, |demand: Demand<'_>| -> u64 { demand.bytes() });
        with_demand(&costly(), |demand| {
            assert!(demand.bytes() > small);
            let text = demand.what_fits(small);
            let expected =
                format!("activations computed again instead of kept ({})", gigabytes(small));
            assert!(text.starts_with("It would fit with ") && text.contains(&expected), "{text}");
            // What is a little smaller but still too large is not offered.
            assert!(!text.contains("8-bit"), "{text}");
        });
    }

    #[test]
    fn changes_are_joined_until_they_are_enough_and_no_more_is_promised() {
        let smaller = TrainSettings { checkpointing: true, batch: 1, accumulation: 16, ..costly() };
        let small = with_demand(&smaller, |demand: Demand<'_>| -> u64 { demand.bytes() });
        with_demand(&costly(), |demand| {
            let text = demand.what_fits(small);
            for part in ["activations computed again", " and batches of 1, of which 16 make a step"]
            {
                assert!(text.contains(part), "{text}");
            }
            let text = demand.what_fits(1);
            assert!(
                text.starts_with("Even with ") && text.contains("texts of at most 128"),
                "{text}"
            );
        });
    }

    #[test]
    fn nothing_is_offered_that_is_so_already() {
        let smallest = TrainSettings {
            batch: 1,
            max_length: 64,
            optimizer_state: OptimizerState::Int8,
            method: TrainMethod::Lora { rank: 1, alpha: 8.0, targets: Vec::new() },
            ..TrainSettings::default()
        };
        let text = with_demand(&smallest, |demand| demand.what_fits(1));
        assert!(text.starts_with("Even with bf16 weights it would take"), "{text}");
    }

    #[test]
    fn giant_rank_is_told_of() {
        let method = |rank| TrainMethod::Lora { rank, alpha: 8.0, targets: Vec::new() };
        let settings = |rank| TrainSettings { method: method(rank), ..TrainSettings::default() };
        let small = with_demand(&settings(32), |demand: Demand<'_>| -> u64 { demand.bytes() });
        let text = with_demand(&settings(512), |demand| demand.what_fits(small));
        assert!(text.contains(&format!("factors of rank 32 ({})", gigabytes(small))), "{text}");
    }

    #[test]
    fn smaller_batches_leave_the_steps_as_they_are() {
        for (batch, expected) in [
            (6, [(3, 2), (1, 6)].as_slice()),
            (8, &[(4, 2), (2, 4), (1, 8)]),
            (5, &[(1, 5)]),
            (1, &[(1, 1)]),
        ] {
            let mut settings = TrainSettings { batch, ..TrainSettings::default() };
            for expected in expected {
                divide_batch(&mut settings);
                assert_eq!((settings.batch, settings.accumulation), *expected, "{batch}");
            }
        }
        let giant = TrainSettings { batch: usize::MAX, accumulation: usize::MAX, ..costly() };
        let text = with_demand(&giant, |demand| demand.what_fits(1));
        assert!(text.contains("batches of 1"), "{text}");
    }

    #[test]
    fn run_that_has_begun_is_offered_only_what_changes_no_number() {
        let smaller = TrainSettings { checkpointing: true, ..costly() };
        let small = with_demand(&smaller, |demand: Demand<'_>| -> u64 { demand.bytes() });
        let of = |settings: &TrainSettings, available| {
            with_demand(settings, |demand: Demand<'_>| -> String {
                demand.of_begun_run().what_fits(available)
            })
        };
        let offered = of(&costly(), small);
        assert!(offered.starts_with("It would fit with activations computed again"), "{offered}");
        for refused in [of(&costly(), 1), of(&smaller, 1)] {
            assert!(refused.ends_with("close other programs"), "{refused}");
            for other in ["LoRA", "batches", "bf16", "8-bit", "texts", "smaller model"] {
                assert!(!refused.contains(other) && !offered.contains(other), "{refused}");
            }
        }
    }

    #[test]
    fn disk_holds_the_checkpoints_the_vector_and_what_is_measured() {
        let config = config();
        let bytes = |settings: &TrainSettings, steps| {
            let trainable_parameters = trainable_parameters(&config, settings);
            let counts = TrainCounts { trainable_parameters, ..TrainCounts::default() };
            disk_bytes(&config, settings, &counts, steps)
        };
        let full = bytes(&costly(), 10);
        // Three checkpoints of 12 bytes for each of 134.5 million elements, and two vectors.
        assert!((5.3e9..5.5e9).contains(&(full as f64)), "{full}");
        assert!(bytes(&TrainSettings::default(), 10) < full / 20);
        assert_eq!(bytes(&costly(), 11) - full, STEP_BYTES);
        assert_eq!(bytes(&costly(), usize::MAX), u64::MAX);
    }
}
