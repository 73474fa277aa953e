//! Tests of the whole application: the real programs on the real demo model.

#![expect(clippy::unwrap_used, reason = "what goes wrong here fails the test")]

mod bad_input;
mod chat;
mod demo;
mod device;
mod disk;
mod engine;
mod fuzz_seeds;
mod merge;
mod recipes;
mod scores;
mod support;
mod sweeps;
mod train;
mod vectors;
mod window;
mod workspace;
