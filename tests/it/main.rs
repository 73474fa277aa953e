//! Tests of the whole application: the real programs on the real demo model.

mod bad_input;
mod chat;
mod demo;
mod disk;
mod engine;
mod merge;
mod support;
