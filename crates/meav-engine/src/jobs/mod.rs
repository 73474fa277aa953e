//! What the worker can be asked to do, one file each.

mod bench;
mod bench_train;
mod calibration;
mod chat;
mod compare_vectors;
mod compress_vector;
mod data;
mod describe;
mod extract_vector;
mod fetch_demo;
mod import_vector;
mod judge;
mod merge;
mod plan_memory;
mod recipe;
mod score;
mod separate_vector;
mod sweep;
mod vectors;

pub(crate) use bench::bench;
pub(crate) use calibration::write_calibration;
pub(crate) use chat::chat;
pub(crate) use compare_vectors::compare_vectors;
pub(crate) use compress_vector::compress_vector;
pub(crate) use data::{find_leakage, inspect_data, read_records, split_data};
pub(crate) use describe::describe;
pub(crate) use extract_vector::extract_vector;
pub(crate) use fetch_demo::{FetchError, fetch_demo};
pub(crate) use import_vector::import_vector;
pub(crate) use judge::{JudgeRun, judge};
pub(crate) use merge::merge;
pub(crate) use plan_memory::plan_memory;
pub(crate) use recipe::{open_recipe, save_recipe};
pub(crate) use score::{ScoreRun, score};
pub(crate) use separate_vector::separate_vector;
pub(crate) use sweep::{SweepRun, sweep};
