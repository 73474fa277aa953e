//! Training runs: their folders, their course, and what they leave.

mod base;
mod config;
mod estimate;
mod fit;
mod folder;
mod metrics;
mod open;
mod parked;
mod reference;
mod run;
mod tfevents;
mod vector;

pub(crate) use base::Base;
pub(crate) use estimate::estimate_training;
pub(crate) use fit::{Demand, make_room};
pub(crate) use folder::{is_in_use, is_resumable};
pub(crate) use parked::ParkedRun;
#[cfg(test)]
pub(crate) use parked::tests::parked_run;
pub(crate) use run::{TrainingRun, train};
