//! The engine: everything that computes, in a process of its own.
//!
//! Threads: one reads commands, *control* queues them and never computes, *worker* computes and
//! never listens, *workspace* answers from the database while the worker is busy, and one writes
//! events. A job sees that it is to end at its ticks ([`meav_job::JobCtx`]).

mod background;
mod compute;
mod control;
mod convert;
mod disk;
mod error;
mod figures;
mod folders;
mod jobs;
mod judges;
mod loaded;
mod measuring;
mod one_line;
mod outbox;
mod plan;
mod probe;
mod process;
mod recipe_file;
mod secrets;
mod serve;
mod training;
mod vector_out;
mod words;
mod worker;
mod workspace;

pub use process::run_process;
