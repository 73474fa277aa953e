//! A screen that nobody sees, with a window manager and a session bus, and the real app on it.
//!
//! The app is driven through egui's inspection protocol: what a screen reader would hear says what
//! is there and where, events are those of a mouse and a keyboard.

mod screen;
mod studio;

pub use screen::Screen;
pub use studio::{Studio, Widget};
