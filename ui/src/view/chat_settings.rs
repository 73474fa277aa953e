use egui::{DragValue, Popup, PopupCloseBehavior, TextEdit, Ui};
use egui_material_icons::icons as symbols;

use super::chat_panel::ChatView;
use super::design_tokens::GRID;
use super::parts::{icon_button, parse_number, title, weak};
use crate::action::{Action, ChatAction};
use crate::settings::SamplingSettings;

/// The button that opens the system prompt and the sampling settings, and these.
pub(super) fn chat_settings_ui(ui: &mut Ui, view: &ChatView<'_>) -> Vec<Action> {
    let mut actions = Vec::new();
    let button = icon_button(ui, symbols::ICON_TUNE, "System prompt and sampling");
    Popup::from_toggle_button_response(&button)
        .close_behavior(PopupCloseBehavior::CloseOnClickOutside)
        .width(80.0 * GRID)
        .frame(egui::Frame::popup(ui.style()).inner_margin(3.0 * GRID))
        .show(|ui| {
            actions.extend(system_ui(ui, &view.conversation.chat.system));
            ui.separator();
            actions.extend(sampling_ui(ui, view.sampling));
        });
    actions
}

fn system_ui(ui: &mut Ui, system: &str) -> Option<Action> {
    title(ui, "System prompt");
    let mut text = system.to_owned();
    let field = TextEdit::multiline(&mut text)
        .hint_text("Standing instructions; empty for the model's own")
        .desired_rows(3)
        .desired_width(f32::INFINITY);
    let changed = ui.add(field).changed();
    weak(ui, "Holds for this chat from the next message on.");
    changed.then_some(Action::Chat(ChatAction::SetSystem(text)))
}

fn sampling_ui(ui: &mut Ui, sampling: &SamplingSettings) -> Option<Action> {
    let mut new = sampling.clone();
    title(ui, "How tokens are chosen");
    egui::Grid::new("sampling").num_columns(2).spacing([4.0 * GRID, GRID]).show(ui, |ui| {
        number_ui(ui, "Temperature", "0 always takes the most likely token", {
            DragValue::new(&mut new.temperature).range(0.0..=5.0).speed(0.01).fixed_decimals(2)
        });
        number_ui(ui, "Top-k", "Keep this many of the most likely tokens; 0 keeps all", {
            DragValue::new(&mut new.top_k).range(0..=1000)
        });
        number_ui(ui, "Top-p", "Keep the likely tokens that reach this probability together", {
            DragValue::new(&mut new.top_p).range(0.01..=1.0).speed(0.005).fixed_decimals(2)
        });
        number_ui(ui, "Min-p", "Drop tokens less likely than this share of the likeliest", {
            DragValue::new(&mut new.min_p).range(0.0..=1.0).speed(0.005).fixed_decimals(2)
        });
        number_ui(ui, "Repeat penalty", "Makes recent tokens less likely; 1 leaves them alone", {
            DragValue::new(&mut new.repeat_penalty).range(1.0..=3.0).speed(0.005).fixed_decimals(2)
        });
        number_ui(ui, "Longest answer", "Tokens after which an answer is cut", {
            DragValue::new(&mut new.max_tokens).range(1..=100_000).suffix(" tokens")
        });
        seed_ui(ui, &mut new);
    });
    if ui.button("Defaults").clicked() {
        new = SamplingSettings::default();
    }
    (new != *sampling).then_some(Action::Chat(ChatAction::SetSampling(new)))
}

fn number_ui(ui: &mut Ui, name: &str, tip: &str, field: DragValue<'_>) {
    let label = ui.label(name).on_hover_text(tip);
    ui.add(field.custom_parser(parse_number)).labelled_by(label.id).on_hover_text(tip);
    ui.end_row();
}

fn seed_ui(ui: &mut Ui, sampling: &mut SamplingSettings) {
    let tip = "The same seed gives the same text; otherwise each answer has its own";
    let mut is_fixed = sampling.seed.is_some();
    ui.checkbox(&mut is_fixed, "Fixed seed").on_hover_text(tip);
    sampling.seed = is_fixed.then_some(sampling.seed.unwrap_or(1));
    if let Some(seed) = &mut sampling.seed {
        ui.add(DragValue::new(seed).range(0..=u32::MAX)).on_hover_text("Seed");
    }
    ui.end_row();
}
