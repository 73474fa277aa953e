//! What the window knows: actions and events in, effects out.

mod answers;
mod branches;
mod combining;
mod engine;
mod files;
mod knobs;
mod library;
mod memory;
mod recipe_files;
mod recipes;
mod settings;
mod storms;
mod vectors;
