//! Training of alignment vectors from preferences.
//!
//! [`pair_set`] turns files of records into pairs of tokens, [`reference_log_probs`] asks the base
//! model about them, and a [`Trainer`] takes one step of the optimiser after the other. Who calls
//! it decides when to validate, to save and to stop; nothing here has a thread of its own or
//! writes where it was not told to.
//!
//! Losses and metrics are TRL's `DPOTrainer`'s, names included. With the same model, pairs and
//! settings, an interrupted run that goes on from a checkpoint comes to the same numbers, bit for
//! bit, on any number of threads.

mod batches;
mod error;
mod loss;
mod memory;
mod optimizer;
mod pairs;
mod reference;
mod schedule;
mod settings;
mod trainer;

#[cfg(test)]
mod test_support;

pub use batches::{batches, longest_batch};
pub use error::{CheckpointError, TrainError};
pub use loss::pair_loss;
pub use memory::{GpuMemory, gpu_memory_estimate, memory_estimate, trainable_parameters};
pub use pairs::{LeftOut, Pair, PairSet, Source, pair_set};
pub use reference::{Reference, reference_log_probs};
pub use schedule::learning_rate;
pub use settings::{check_settings, deciding_settings};
pub use trainer::{Trainer, check_rank, check_targets, total_steps};
