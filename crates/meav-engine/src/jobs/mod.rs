//! What the worker can be asked to do, one file each.

mod bench;
mod chat;
mod compare_vectors;
mod compress_vector;
mod describe;
mod extract_vector;
mod fetch_demo;
mod import_vector;
mod merge;
mod plan_memory;
mod recipe;
mod separate_vector;
mod vectors;

pub(crate) use bench::bench;
pub(crate) use chat::chat;
pub(crate) use compare_vectors::compare_vectors;
pub(crate) use compress_vector::compress_vector;
pub(crate) use describe::describe;
pub(crate) use extract_vector::extract_vector;
pub(crate) use fetch_demo::{FetchError, fetch_demo};
pub(crate) use import_vector::import_vector;
pub(crate) use merge::merge;
pub(crate) use plan_memory::plan_memory;
pub(crate) use recipe::{open_recipe, save_recipe};
pub(crate) use separate_vector::separate_vector;
