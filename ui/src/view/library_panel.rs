use egui::{Button, Key, Label, RichText, Role, ScrollArea, Sense, TextEdit, Ui, WidgetInfo, vec2};
use egui_material_icons::icons as symbols;
use meav_protocol::{ChatHit, ChatSummary};
use uuid::Uuid;

use super::design_tokens::{GRID, ROW, Tokens};
use super::parts::{icon_button, is_new, moment, more_menu, title, user_error_ui, weak};
use crate::action::{Action, LibraryAction};
use crate::command::UiCommand;
use crate::model::{Focus, Library, Model};

/// What the list of chats shows.
pub(super) struct LibraryView<'a> {
    library: &'a Library,
    /// The chat that is shown beside it.
    open: Uuid,
    /// Whether the keyboard is to go to the search field.
    takes_focus: bool,
}

impl<'a> From<&'a Model> for LibraryView<'a> {
    fn from(model: &'a Model) -> Self {
        Self {
            library: &model.library,
            open: model.conversation.chat.id,
            takes_focus: model.focus == Some(Focus::Search),
        }
    }
}

/// The chats, the last one spoken in first, and the search in them.
#[must_use]
pub(super) fn library_ui(ui: &mut Ui, view: &LibraryView<'_>) -> Vec<Action> {
    let mut actions = Vec::new();
    ui.horizontal(|ui| {
        title(ui, "Chats");
        ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
            if icon_button(ui, symbols::ICON_ADD_COMMENT, "Begin a new chat").clicked() {
                actions.push(Action::Command(UiCommand::NewChat));
            }
        });
    });
    actions.extend(search_ui(ui, view));
    ui.add_space(GRID);
    if let Some(err) = &view.library.error {
        actions.extend(user_error_ui(ui, err));
    }
    match (&view.library.found, &view.library.chats) {
        (Some((words, hits)), _) => actions.extend(hits_ui(ui, words, hits)),
        (None, Some(chats)) if chats.is_empty() => {
            weak(ui, "What you talk about is kept here, on this machine only.");
        }
        (None, Some(chats)) => actions.extend(chats_ui(ui, view, chats)),
        (None, None) => {}
    }
    actions
}

fn search_ui(ui: &mut Ui, view: &LibraryView<'_>) -> Vec<Action> {
    let mut actions = Vec::new();
    let mut text = view.library.search.clone();
    let field =
        TextEdit::singleline(&mut text).hint_text("Search chats").desired_width(f32::INFINITY);
    let response = ui.add(field);
    if view.takes_focus {
        response.request_focus();
        actions.push(Action::FocusTaken);
    }
    // The key has already taken the keyboard from the field.
    let is_escaped = response.lost_focus() && ui.input(|input| input.key_pressed(Key::Escape));
    if is_escaped && !text.is_empty() {
        text.clear();
    }
    if text != view.library.search {
        actions.push(Action::Library(LibraryAction::SetSearch(text)));
    }
    actions
}

fn chats_ui(ui: &mut Ui, view: &LibraryView<'_>, chats: &[ChatSummary]) -> Vec<Action> {
    let mut actions = Vec::new();
    ScrollArea::vertical().auto_shrink(false).show_rows(ui, ROW, chats.len(), |ui, rows| {
        for chat in &chats[rows] {
            let renaming = view.library.renaming.as_ref().filter(|(id, _)| *id == chat.id);
            ui.push_id(chat.id, |ui| match renaming {
                Some((_, text)) => actions.extend(rename_ui(ui, text)),
                None => actions.extend(chat_ui(ui, chat, view.open)),
            });
        }
    });
    actions
}

fn chat_ui(ui: &mut Ui, chat: &ChatSummary, open: Uuid) -> Vec<Action> {
    let mut actions = Vec::new();
    let mut act = |action| actions.push(Action::Library(action));
    let title = if chat.title.is_empty() { "Chat" } else { &chat.title };
    ui.horizontal(|ui| {
        let width = ui.available_width() - ROW - ui.spacing().item_spacing.x;
        let size = vec2(width, ROW);
        // The empty text at the right keeps the title at the left.
        let row = Button::selectable(chat.id == open, title).right_text("").truncate();
        let tip = format!("{title}\n{} · {} messages", moment(&chat.updated), chat.n_messages);
        let response = ui.add_sized(size, row).on_hover_text(tip);
        let is_open = chat.id == open;
        response.widget_info(|| WidgetInfo::selected(Role::Button, true, is_open, title));
        if response.clicked() {
            response.request_focus();
            act(LibraryAction::Open(chat.id));
        }
        let pressed = |key| response.has_focus() && ui.input(|input| input.key_pressed(key));
        if pressed(Key::Delete) {
            act(LibraryAction::Delete(chat.id));
        }
        if pressed(Key::F2) {
            act(LibraryAction::BeginRename(chat.id));
        }
        more_menu(ui, title, |ui| {
            if ui.button("Rename…").clicked() {
                act(LibraryAction::BeginRename(chat.id));
                ui.close();
            }
            if ui.button("Delete").clicked() {
                act(LibraryAction::Delete(chat.id));
                ui.close();
            }
        });
    });
    actions
}

fn rename_ui(ui: &mut Ui, text: &str) -> Vec<Action> {
    let mut new = text.to_owned();
    let field = TextEdit::singleline(&mut new).hint_text("Title").desired_width(f32::INFINITY);
    let response = ui.add(field);
    let (is_entered, is_escaped) =
        ui.input(|input| (input.key_pressed(Key::Enter), input.key_pressed(Key::Escape)));
    let is_first = is_new(ui, response.id);
    if is_first {
        response.request_focus();
        select_all(ui, response.id, text);
    }
    let is_left = response.lost_focus() && !is_first;
    if is_left && is_escaped {
        return vec![Action::Library(LibraryAction::CancelRename)];
    }
    let mut actions = Vec::new();
    if response.changed() {
        actions.push(Action::Library(LibraryAction::SetRename(new.clone())));
    }
    if is_left && (is_entered || new == text) {
        actions.push(Action::Library(LibraryAction::SubmitRename));
    }
    actions
}

/// What is typed takes the place of what is there.
fn select_all(ui: &Ui, id: egui::Id, text: &str) {
    use egui::text::{CCursor, CCursorRange};
    let mut state = egui::widgets::text_edit::TextEditState::load(ui.ctx(), id).unwrap_or_default();
    let all = CCursorRange::two(CCursor::new(0), CCursor::new(text.chars().count()));
    state.cursor.set_char_range(Some(all));
    state.store(ui.ctx(), id);
}

fn hits_ui(ui: &mut Ui, words: &str, hits: &[ChatHit]) -> Vec<Action> {
    let mut actions = Vec::new();
    if hits.is_empty() {
        ui.label(format!("No chat has “{words}”"));
    }
    // A title and a line of small text.
    let height = ROW + 5.0 * GRID;
    ScrollArea::vertical().auto_shrink(false).show_rows(ui, height, hits.len(), |ui, rows| {
        for (index, hit) in hits[rows.clone()].iter().enumerate() {
            ui.push_id(rows.start + index, |ui| actions.extend(hit_ui(ui, hit, height)));
        }
    });
    actions
}

/// A message that was found: its chat, and the words around what was looked for.
fn hit_ui(ui: &mut Ui, hit: &ChatHit, height: f32) -> Option<Action> {
    let size = vec2(ui.available_width(), height);
    let layout = egui::Layout::top_down(egui::Align::Min);
    let is_clicked = ui.allocate_ui_with_layout(size, layout, |ui| {
        ui.set_min_size(size);
        ui.spacing_mut().item_spacing.y = 0.0;
        let row = Button::selectable(false, &hit.title).right_text("").truncate();
        let title = ui.add_sized(vec2(size.x, ROW), row).on_hover_text(&hit.excerpt);
        let name = format!("{}: {}", hit.title, hit.excerpt);
        title.widget_info(|| WidgetInfo::labeled(Role::Button, true, &name));
        let color = Tokens::of(ui.visuals()).weak;
        let words = RichText::new(&hit.excerpt).small().color(color);
        let words = Label::new(words).truncate().selectable(false).sense(Sense::CLICK);
        // Below the title, which has a button's margin.
        let indented = |ui: &mut Ui| {
            ui.add_space(2.0 * GRID);
            ui.add(words)
        };
        let words = ui.horizontal(indented).inner;
        title.clicked() || words.clicked()
    });
    let (chat, message) = (hit.chat, hit.message);
    is_clicked.inner.then_some(Action::Library(LibraryAction::Reveal { chat, message }))
}
