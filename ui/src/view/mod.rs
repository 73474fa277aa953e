//! What the model looks like: pure functions from views to actions.

mod app;
mod bars;
mod chat_panel;
mod chat_settings;
mod combining;
mod comparison;
mod composer;
mod design_tokens;
mod details_panel;
mod dialogs;
mod export_options;
mod form_dialog;
mod heat_map;
mod knob_track;
mod knobs_panel;
mod library_panel;
mod message;
mod message_list;
mod notices;
mod palette;
mod parts;
mod plan_dialog;
mod recipe_dialog;
mod scope_dialog;
mod vector_report;
mod vector_table;
mod vectors_panel;

pub use app::app_ui;
pub use design_tokens::apply_style;
