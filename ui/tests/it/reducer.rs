//! What the window knows: actions and events in, effects out.

mod answers;
mod branches;
mod engine;
mod files;
mod knobs;
mod library;
mod recipes;
mod settings;
mod storms;
