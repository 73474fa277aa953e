//! What the worker can be asked to do, one file each.

mod bench;
mod chat;
mod describe;
mod fetch_demo;
mod import_vector;
mod merge;

pub(crate) use bench::bench;
pub(crate) use chat::chat;
pub(crate) use describe::describe;
pub(crate) use fetch_demo::{FetchError, fetch_demo};
pub(crate) use import_vector::import_vector;
pub(crate) use merge::merge;
