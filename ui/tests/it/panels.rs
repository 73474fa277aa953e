//! What the window shows, and what pressing it does.

mod bars;
mod chat;
mod combining;
mod data;
mod details;
mod dialogs;
mod judge;
mod knobs;
mod library;
mod memory;
mod notices;
mod reading;
mod recipe_files;
mod sweep;
mod train;
mod vectors;
