//! What the model looks like: pure functions from views to actions.

mod app;
mod bars;
mod chat_panel;
mod chat_settings;
mod composer;
mod design_tokens;
mod details_panel;
mod dialogs;
mod knob_track;
mod knobs_panel;
mod library_panel;
mod message;
mod message_list;
mod notices;
mod palette;
mod parts;

pub use app::app_ui;
pub use design_tokens::apply_style;
