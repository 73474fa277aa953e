use egui::{Key, KeyboardShortcut, Modifiers, TextEdit, Ui};
use egui_material_icons::icons as symbols;

use super::chat_panel::ChatView;
use super::design_tokens::{GRID, ROW};
use super::parts::{icon_button, weak};
use crate::action::{Action, ChatAction};
use crate::model::Answer;
use crate::settings::SendKey;

/// Lines of the message field before it scrolls.
const MOST_ROWS: f32 = 8.0;

/// The field for the next message, and what the answer on its way is doing.
pub(super) fn composer_ui(ui: &mut Ui, view: &ChatView<'_>) -> Vec<Action> {
    let mut actions = Vec::new();
    let answer = view.conversation.answer.as_ref();
    ui.horizontal(|ui| {
        let button = ROW + 2.0 * GRID;
        let width = ui.available_width() - button - ui.spacing().item_spacing.x;
        ui.vertical(|ui| {
            ui.set_width(width);
            egui::ScrollArea::vertical()
                .max_height(MOST_ROWS * 5.0 * GRID)
                .show(ui, |ui| actions.extend(field_ui(ui, view)));
        });
        actions.extend(send_button_ui(ui, view));
    });
    ui.horizontal(|ui| match answer {
        Some(answer) => {
            weak(ui, meter_text(answer, view));
        }
        None => {
            weak(ui, keys_text(view.send_key));
        }
    });
    actions
}

/// Sends the message, or stops the answer.
fn send_button_ui(ui: &mut Ui, view: &ChatView<'_>) -> Option<Action> {
    if view.conversation.answer.is_some() {
        let is_clicked = icon_button(ui, symbols::ICON_STOP_CIRCLE, "Stop the answer").clicked();
        return is_clicked.then_some(Action::Chat(ChatAction::Stop));
    }
    let can_send = !view.conversation.draft.trim().is_empty();
    let button = ui.add_enabled_ui(can_send, |ui| icon_button(ui, symbols::ICON_SEND, "Send"));
    button.inner.clicked().then_some(Action::Chat(ChatAction::Send))
}

fn field_ui(ui: &mut Ui, view: &ChatView<'_>) -> Vec<Action> {
    let mut actions = Vec::new();
    let id = ui.make_persistent_id("message");
    let has_focus = ui.memory(|memory| memory.has_focus(id));
    // The keys must not reach the field; what was typed before them goes first.
    let sends = has_focus && takes_send_key(ui, view.send_key);
    let new_line = new_line_keys(view.send_key);
    let mut draft = view.conversation.draft.clone();
    let rows = draft.lines().count().clamp(2, MOST_ROWS as usize);
    let field = TextEdit::multiline(&mut draft)
        .id(id)
        .hint_text("Message")
        .return_key(new_line)
        .desired_rows(rows)
        .desired_width(f32::INFINITY);
    let response = ui.add(field);
    if response.changed() {
        actions.push(Action::Chat(ChatAction::SetDraft(draft)));
    }
    if sends {
        actions.push(Action::Chat(ChatAction::Send));
    }
    if view.takes_focus {
        response.request_focus();
        actions.push(Action::FocusTaken);
    }
    actions
}

/// The keys that begin a line where others send.
pub(super) fn new_line_keys(key: SendKey) -> KeyboardShortcut {
    let modifiers = match key {
        SendKey::Enter => Modifiers::SHIFT,
        SendKey::CtrlEnter => Modifiers::NONE,
    };
    KeyboardShortcut::new(modifiers, Key::Enter)
}

/// Whether the keys that send were pressed; the field does not see them then.
pub(super) fn takes_send_key(ui: &Ui, key: SendKey) -> bool {
    let modifiers = match key {
        SendKey::Enter => Modifiers::NONE,
        SendKey::CtrlEnter => Modifiers::COMMAND,
    };
    ui.input_mut(|input| {
        let before = input.events.len();
        input.events.retain(|event| {
            let egui::Event::Key { key: Key::Enter, pressed: true, modifiers: held, .. } = event
            else {
                return true;
            };
            !held.matches_exact(modifiers)
        });
        input.events.len() < before
    })
}

fn keys_text(key: SendKey) -> &'static str {
    match key {
        SendKey::Enter => "Enter sends, Shift+Enter begins a line",
        SendKey::CtrlEnter => "Ctrl+Enter sends, Enter begins a line",
    }
}

/// What the answer on its way is doing, and how fast.
fn meter_text(answer: &Answer, view: &ChatView<'_>) -> String {
    let elsewhere = if answer.chat == view.conversation.chat.id { "" } else { " in another chat" };
    let waited = match answer.first_text {
        None => {
            return format!("Reading{elsewhere}… {:.1} s", (view.now - answer.asked).max(0.0));
        }
        Some(first) => first - answer.asked,
    };
    let tokens = answer.last_text.1;
    let speed = answer.tokens_per_sec().map(|speed| format!(" · {speed:.0} tok/s"));
    format!(
        "Answering{elsewhere} · {tokens} tokens{} · first after {:.0} ms",
        speed.unwrap_or_default(),
        waited * 1e3
    )
}
