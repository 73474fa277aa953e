use egui::{Frame, Label, Margin, RichText, TextEdit, Ui};
use egui_commonmark::{CommonMarkCache, CommonMarkViewer};
use egui_material_icons::icons as symbols;
use meav_protocol::{FinishReason, Message, MessageState, Role};
use uuid::Uuid;

use super::chat_panel::ChatView;
use super::composer::{new_line_keys, takes_send_key};
use super::design_tokens::{GRID, Tokens};
use super::parts::{icon_button, is_new, primary_button, recipe_chip_ui, title, weak};
use crate::action::{Action, ChatAction};
use crate::model::Conversation;
use crate::settings::SendKey;

/// What a message shows.
pub(super) struct MessageView<'a> {
    message: &'a Message,
    conversation: &'a Conversation,
    /// Its text while it is being edited.
    edit: Option<&'a str>,
    is_streaming: bool,
    send_key: SendKey,
    /// Whether an answer is on its way, so that no other can be asked for.
    is_busy: bool,
}

impl<'a> MessageView<'a> {
    pub(super) fn new(view: &ChatView<'a>, message: &'a Message) -> Self {
        let conversation = view.conversation;
        let edit = conversation.edit.as_ref();
        Self {
            message,
            conversation,
            edit: edit.filter(|(id, _)| *id == message.id).map(|(_, text)| text.as_str()),
            is_streaming: conversation
                .answer_here()
                .is_some_and(|answer| answer.message.id == message.id),
            send_key: view.send_key,
            is_busy: conversation.answer.is_some(),
        }
    }
}

/// One turn of the conversation.
pub(super) fn message_ui(
    ui: &mut Ui,
    view: &MessageView<'_>,
    markdown: &mut CommonMarkCache,
) -> Vec<Action> {
    match (view.message.role, view.edit) {
        (Role::Assistant, _) => answer_ui(ui, view, markdown),
        (_, Some(text)) => edit_ui(ui, text, view.send_key),
        (_, None) => question_ui(ui, view),
    }
}

fn question_ui(ui: &mut Ui, view: &MessageView<'_>) -> Vec<Action> {
    let tokens = Tokens::of(ui.visuals());
    let mut actions = Vec::new();
    let frame = Frame::new()
        .fill(tokens.raised)
        .corner_radius(2.0 * GRID)
        .inner_margin(Margin::symmetric(3 * GRID as i8, 2 * GRID as i8));
    frame.show(ui, |ui| {
        ui.set_width(ui.available_width());
        ui.horizontal(|ui| {
            title(ui, "You");
            ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
                actions.extend(question_buttons_ui(ui, view));
            });
        });
        ui.add(Label::new(&view.message.content).wrap());
    });
    actions
}

fn question_buttons_ui(ui: &mut Ui, view: &MessageView<'_>) -> Vec<Action> {
    let mut actions = Vec::new();
    if icon_button(ui, symbols::ICON_CONTENT_COPY, "Copy the question").clicked() {
        actions.push(Action::Copy(view.message.content.clone()));
    }
    ui.add_enabled_ui(!view.is_busy, |ui| {
        if icon_button(ui, symbols::ICON_EDIT, "Edit the question").clicked() {
            actions.push(Action::Chat(ChatAction::BeginEdit(view.message.id)));
        }
    });
    actions.extend(siblings_ui(ui, view));
    actions
}

fn edit_ui(ui: &mut Ui, text: &str, send_key: SendKey) -> Vec<Action> {
    let mut actions = Vec::new();
    let id = ui.make_persistent_id("edited question");
    let sends = ui.memory(|memory| memory.has_focus(id)) && takes_send_key(ui, send_key);
    let mut edited = text.to_owned();
    let field = TextEdit::multiline(&mut edited)
        .id(id)
        .hint_text("The question")
        .return_key(new_line_keys(send_key))
        .desired_width(f32::INFINITY)
        .desired_rows(2);
    let response = ui.add(field);
    if is_new(ui, response.id) {
        response.request_focus();
    }
    if response.changed() {
        actions.push(Action::Chat(ChatAction::SetEdit(edited)));
    }
    if sends {
        actions.push(Action::Chat(ChatAction::SubmitEdit));
    }
    ui.horizontal(|ui| {
        if primary_button(ui, "Ask this instead").clicked() {
            actions.push(Action::Chat(ChatAction::SubmitEdit));
        }
        let is_escaped =
            response.lost_focus() && ui.input(|input| input.key_pressed(egui::Key::Escape));
        if ui.button("Cancel").clicked() || is_escaped {
            actions.push(Action::Chat(ChatAction::CancelEdit));
        }
        weak(ui, "The older question and its answers are kept beside it");
    });
    actions
}

fn answer_ui(ui: &mut Ui, view: &MessageView<'_>, markdown: &mut CommonMarkCache) -> Vec<Action> {
    let mut actions = Vec::new();
    let message = view.message;
    let frame = Frame::new().inner_margin(Margin::symmetric(3 * GRID as i8, 0));
    frame.show(ui, |ui| {
        ui.set_width(ui.available_width());
        ui.horizontal(|ui| {
            title(ui, "Model");
            if let Some(recipe) = &message.recipe {
                ui.scope(|ui| {
                    // What follows needs its room.
                    ui.set_max_width((ui.available_width() - 4.0 * GRID).max(20.0 * GRID));
                    actions.extend(recipe_chip_ui(ui, recipe));
                });
            }
        });
        if message.content.is_empty() {
            weak(ui, "Reading…");
        } else {
            ui.push_id(message.id, |ui| {
                CommonMarkViewer::new().show(ui, markdown, &message.content);
            });
        }
        if !view.is_streaming {
            actions.extend(answer_footer_ui(ui, view));
        }
    });
    actions
}

/// How an answer ended, what it took, and what can be done with it.
fn answer_footer_ui(ui: &mut Ui, view: &MessageView<'_>) -> Vec<Action> {
    let tokens = Tokens::of(ui.visuals());
    let message = view.message;
    let mut actions = Vec::new();
    let mark = match (message.state, message.finish) {
        (MessageState::Partial, _) => Some("Cut off"),
        (MessageState::Stopped, _) => Some("Stopped"),
        (_, Some(FinishReason::Length)) => Some("Cut: the longest answer was reached"),
        (_, Some(FinishReason::ContextFull)) => Some("Cut: the context is full"),
        (MessageState::Complete, _) => None,
    };
    ui.horizontal_wrapped(|ui| {
        if let Some(mark) = mark {
            ui.label(RichText::new(mark).small().color(tokens.warning));
        }
        actions.extend(siblings_ui(ui, view));
        if icon_button(ui, symbols::ICON_CONTENT_COPY, "Copy the answer").clicked() {
            actions.push(Action::Copy(message.content.clone()));
        }
        ui.add_enabled_ui(!view.is_busy, |ui| {
            let is_clicked =
                icon_button(ui, symbols::ICON_REFRESH, "Regenerate the answer").clicked();
            if let Some(question) = message.parent.filter(|_| is_clicked) {
                actions.push(Action::Chat(ChatAction::Regenerate { question }));
            }
        });
        weak(ui, figures_text(message));
    });
    actions
}

/// `123 tokens · 41 tok/s · first token 60 ms · seed 7`.
fn figures_text(message: &Message) -> String {
    let mut parts = Vec::new();
    if let Some(figures) = &message.figures {
        parts.push(format!("{} tokens", figures.tokens));
        if figures.tokens > 1 {
            parts.push(format!("{:.0} tok/s", figures.tokens_per_sec));
        }
        parts.push(format!("first token {:.0} ms", figures.first_token_secs * 1e3));
    }
    if let Some(sampling) = &message.sampling {
        parts.push(if sampling.temperature == 0.0 {
            "most likely tokens".to_owned()
        } else {
            format!("seed {}", sampling.seed)
        });
    }
    parts.join(" · ")
}

/// `‹ 2/3 ›` where there are several questions or answers at this place.
fn siblings_ui(ui: &mut Ui, view: &MessageView<'_>) -> Vec<Action> {
    let (index, count) = view.conversation.sibling(view.message);
    let mut actions = Vec::new();
    if count < 2 {
        return actions;
    }
    let mut turn = |ui: &mut Ui, icon, name: &str, by: isize| {
        let other: Option<Uuid> = view.conversation.sibling_at(view.message, by);
        ui.add_enabled_ui(other.is_some(), |ui| {
            if icon_button(ui, icon, name).clicked() {
                actions.extend(other.map(|id| Action::Chat(ChatAction::ShowBranch(id))));
            }
        });
    };
    ui.scope(|ui| {
        ui.with_layout(egui::Layout::left_to_right(egui::Align::Center), |ui| {
            ui.spacing_mut().item_spacing.x = 0.0;
            turn(ui, symbols::ICON_CHEVRON_LEFT, "The version before", -1);
            weak(ui, format!("{}/{count}", index + 1));
            turn(ui, symbols::ICON_CHEVRON_RIGHT, "The version after", 1);
        });
    });
    actions
}
