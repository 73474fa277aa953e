//! What the window knows: actions and events in, effects out.

mod answers;
mod branches;
mod combining;
mod data;
mod engine;
mod files;
mod judge;
mod knobs;
mod library;
mod memory;
mod recipe_files;
mod recipes;
mod settings;
mod storms;
mod sweep;
mod train;
mod train_ends;
mod vectors;
