//! How a model's preferences are measured: which level's response it finds most likely, and how
//! that moves with λ.
//!
//! A [`QuestionSet`] is what a model is asked about a file of records. [`dataset_scores`] makes
//! preferences of what a model computed, [`coarse_to_fine`] says in which order a sweep measures,
//! and [`calibration`], [`cross_domain`] and [`table`] read a sweep. A [`judge`] says at which
//! level an answer stands.

mod bootstrap;
mod dataset;
pub mod judge;
mod length;
mod preference;
mod questions;
mod raw;
mod sweep;
mod table;
#[cfg(test)]
mod test_sweep;

pub use dataset::dataset_scores;
pub use meav_model::with_known_roles;
pub use questions::{QuestionSet, conversation, data_problem, measure_name};
pub use raw::{RawScore, ScoredItem, ScoredResponse};
pub use sweep::{calibration, coarse_to_fine, cross_domain};
pub use table::table;
