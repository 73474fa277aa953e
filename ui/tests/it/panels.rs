//! What the window shows, and what pressing it does.

mod bars;
mod chat;
mod details;
mod dialogs;
mod knobs;
mod library;
mod notices;
mod reading;
