use std::sync::{Arc, Mutex, PoisonError};

use egui::{Id, RichText, Ui};
use egui_commonmark::CommonMarkCache;
use egui_material_icons::icons as symbols;
use meav_protocol::{Message, Role, UserError};
use uuid::Uuid;

use super::chat_settings::chat_settings_ui;
use super::composer::composer_ui;
use super::design_tokens::GRID;
use super::message::{MessageView, message_ui};
use super::message_list::{Entry, MessageList};
use super::parts::{icon_button, one_line, primary_button, remedy_ui, user_error_ui, weak};
use crate::action::{Action, ChatAction};
use crate::command::UiCommand;
use crate::model::{Conversation, Focus, Job, Model, Weights};
use crate::settings::{SamplingSettings, SendKey};

/// What the chat shows.
pub(super) struct ChatView<'a> {
    pub(super) conversation: &'a Conversation,
    pub(super) sampling: &'a SamplingSettings,
    pub(super) send_key: SendKey,
    pub(super) weights: &'a Weights,
    /// The job that fetches the demo model or loads a model, while nothing is loaded.
    pub(super) loading: Option<&'a Job>,
    /// Whether the keyboard is to go to the message field.
    pub(super) takes_focus: bool,
    pub(super) now: f64,
}

impl<'a> ChatView<'a> {
    pub(crate) fn new(model: &'a Model, now: f64) -> Self {
        let is_loaded = model.weights.held.is_some();
        Self {
            conversation: &model.conversation,
            sampling: &model.settings.sampling,
            send_key: model.settings.send_key,
            weights: &model.weights,
            loading: model.jobs.iter().find(|job| job.brings_model()).filter(|_| !is_loaded),
            takes_focus: model.focus == Some(Focus::Composer),
            now,
        }
    }
}

/// The conversation: its messages and the field for the next one.
#[must_use]
pub(super) fn chat_ui(ui: &mut Ui, view: &ChatView<'_>) -> Vec<Action> {
    let mut actions = header_ui(ui, view);
    egui::Panel::bottom("composer")
        .resizable(false)
        .frame(egui::Frame::new().inner_margin(egui::Margin::symmetric(0, 2 * GRID as i8)))
        .show(ui, |ui| actions.extend(composer_ui(ui, view)));
    let branch = view.conversation.branch();
    if branch.is_empty() {
        actions.extend(empty_ui(ui, view));
    } else {
        actions.extend(messages_ui(ui, view, &branch));
    }
    actions
}

fn header_ui(ui: &mut Ui, view: &ChatView<'_>) -> Vec<Action> {
    let mut actions = Vec::new();
    ui.horizontal(|ui| {
        ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
            actions.extend(chat_settings_ui(ui, view));
            if icon_button(ui, symbols::ICON_DOWNLOAD, "Export chat…").clicked() {
                actions.push(Action::Command(UiCommand::ExportChat));
            }
            if icon_button(ui, symbols::ICON_ADD_COMMENT, "New chat").clicked() {
                actions.push(Action::Command(UiCommand::NewChat));
            }
            ui.with_layout(egui::Layout::left_to_right(egui::Align::Center), |ui| {
                let title = match view.conversation.chat.title.as_str() {
                    "" => "New chat",
                    title => title,
                };
                one_line(ui, RichText::new(title).strong());
                let system = &view.conversation.chat.system;
                if !system.trim().is_empty() {
                    weak(ui, "with a system prompt").on_hover_text(system);
                }
            });
        });
    });
    ui.add_space(GRID);
    actions
}

fn messages_ui(ui: &mut Ui, view: &ChatView<'_>, branch: &[&Message]) -> Vec<Action> {
    let width = ui.available_width();
    let entries: Vec<Entry> = branch
        .iter()
        .map(|message| Entry { id: message.id, guess: guessed_height(message, width) })
        .collect();
    let list_id = Id::unique(("messages", view.conversation.chat.id));
    let reveal = view.conversation.reveal.and_then(|id| index_of(branch, id));
    let list = MessageList {
        id: list_id,
        entries: &entries,
        reveal,
        to_end: asked_anew(ui, list_id, view.conversation),
    };
    let markdown = markdown_cache(ui);
    let mut markdown = markdown.lock().unwrap_or_else(PoisonError::into_inner);
    let mut actions = Vec::new();
    let (rect, is_at_end) = list.ui(ui, |ui, index| {
        let message = branch[index];
        let shown = MessageView::new(view, message);
        actions.extend(message_ui(ui, &shown, &mut markdown));
        let is_last = index + 1 == branch.len();
        if let Some((question, err)) = &view.conversation.error
            && (message.id == *question || message.parent == Some(*question))
            && is_last
        {
            actions.extend(user_error_ui(ui, err));
            actions.extend(ask_again_ui(ui, *question));
        } else if is_last && message.role == Role::User && view.conversation.answer.is_none() {
            actions.extend(ask_again_ui(ui, message.id));
        }
    });
    if view.conversation.reveal.is_some() {
        actions.push(Action::Chat(ChatAction::Revealed));
    }
    if !is_at_end {
        end_button_ui(ui, list_id, rect);
    }
    actions
}

/// What can be done about a question that found no answer, or no whole one.
fn ask_again_ui(ui: &mut Ui, question: Uuid) -> Option<Action> {
    let is_clicked = ui.button("Ask again").clicked();
    is_clicked.then_some(Action::Chat(ChatAction::Regenerate { question }))
}

fn index_of(branch: &[&Message], id: Uuid) -> Option<usize> {
    branch.iter().position(|message| message.id == id)
}

/// Whether an answer has just been asked for: whoever did wants to see it.
fn asked_anew(ui: &Ui, list_id: Id, conversation: &Conversation) -> bool {
    let answer = conversation.answer_here().map(|answer| answer.message.id);
    let key = list_id.with("answer");
    let before = ui.data(|data| data.get_temp::<Option<Uuid>>(key)).flatten();
    ui.data_mut(|data| data.insert_temp(key, answer));
    (answer.is_some() && before != answer) || is_end_wanted(ui, list_id)
}

/// A button over the list's end that leads there, for those who read further up.
fn end_button_ui(ui: &mut Ui, list_id: Id, rect: egui::Rect) {
    let at = egui::Rect::from_center_size(
        rect.center_bottom() - egui::vec2(0.0, 6.0 * GRID),
        egui::Vec2::splat(7.0 * GRID),
    );
    let builder = egui::UiBuilder::new().scope_id(list_id.with("to end")).max_rect(at);
    ui.scope_builder(builder, |ui| {
        let face = RichText::new(symbols::ICON_ARROW_DOWNWARD.codepoint).size(18.0);
        let response = ui.add_sized(at.size(), egui::Button::new(face).corner_radius(16));
        if super::parts::named(response, "To the end of the chat").clicked() {
            ui.data_mut(|data| data.insert_temp(list_id.with("wanted"), true));
        }
    });
}

fn is_end_wanted(ui: &Ui, list_id: Id) -> bool {
    ui.data_mut(|data| data.remove_temp::<bool>(list_id.with("wanted"))).unwrap_or_default()
}

/// From the length of the text; near enough for a scroll bar.
fn guessed_height(message: &Message, width: f32) -> f32 {
    let chars_per_line = (width / 7.0).max(10.0);
    (message.content.len() as f32 / chars_per_line + 4.0) * 5.0 * GRID
}

type SharedMarkdown = Arc<Mutex<CommonMarkCache>>;

/// What the Markdown viewer remembers from frame to frame.
fn markdown_cache(ui: &Ui) -> SharedMarkdown {
    ui.data_mut(|data| {
        data.get_temp_mut_or_default::<SharedMarkdown>(Id::unique("markdown cache")).clone()
    })
}

/// What a chat shows before its first message.
fn empty_ui(ui: &mut Ui, view: &ChatView<'_>) -> Vec<Action> {
    let mut actions = Vec::new();
    egui::ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
        ui.add_space(ui.available_height() * 0.1);
        ui.vertical_centered(|ui| {
            ui.set_max_width(ui.available_width().min(120.0 * GRID));
            if let Some(job) = view.loading {
                loading_ui(ui, job, view.now);
            } else if let Some(err) =
                view.weights.error.as_ref().filter(|_| view.weights.held.is_none())
            {
                actions.extend(no_model_ui(ui, err));
            } else if view.weights.held.is_some() {
                actions.extend(suggestions_ui(ui));
            } else {
                ui.heading("No model is loaded");
                if ui.button("Try again").clicked() {
                    actions.push(Action::Retry);
                }
            }
        });
    });
    actions
}

/// What to do where there is no model to talk to.
fn no_model_ui(ui: &mut Ui, err: &UserError) -> Vec<Action> {
    let mut actions = Vec::new();
    ui.heading("Welcome to MEAV Studio");
    ui.add_space(2.0 * GRID);
    if let Some(remedy) = err.remedy {
        ui.label(
            "To begin with, there is a small demo model with a medical and a financial knob. \
             It is fetched once; afterwards everything works with the network off.",
        );
        ui.add_space(2.0 * GRID);
        actions.extend(remedy_ui(ui, remedy));
    } else {
        actions.extend(user_error_ui(ui, err));
        if ui.button("Try again").clicked() {
            actions.push(Action::Retry);
        }
    }
    ui.add_space(2.0 * GRID);
    if ui.button("Open a model of your own…").clicked() {
        actions.push(Action::Command(UiCommand::OpenModel));
    }
    actions
}

fn loading_ui(ui: &mut Ui, job: &Job, now: f64) {
    ui.heading(job.title().unwrap_or_default());
    ui.add_space(2.0 * GRID);
    let bar = egui::ProgressBar::new(job.fraction().unwrap_or_default()).show_percentage();
    let response = ui.add(bar.desired_width(60.0 * GRID));
    response.widget_info(|| {
        egui::WidgetInfo::labeled(
            egui::Role::ProgressIndicator,
            true,
            job.title().unwrap_or_default(),
        )
    });
    if let Some(secs) = job.secs_left(now) {
        weak(ui, format!("{} left", super::parts::clock(secs)));
    }
}

/// Questions that show what the demo's vectors do.
const SUGGESTIONS: [&str; 3] = [
    "What could cause chest pain after exercise?",
    "How should I save for retirement?",
    "What is the capital of France?",
];

fn suggestions_ui(ui: &mut Ui) -> Vec<Action> {
    let mut actions = Vec::new();
    ui.heading("Ask, turn a knob, ask again");
    ui.add_space(GRID);
    ui.label("Each knob moves the model along one alignment vector. To the right its answers become those of an expert, to the left it avoids the subject, at 0 it is the model as it was made.");
    ui.add_space(2.0 * GRID);
    for question in SUGGESTIONS {
        if ui.button(question).clicked() {
            actions.push(Action::Chat(ChatAction::SetDraft(question.to_owned())));
            actions.push(Action::Command(UiCommand::FocusComposer));
        }
    }
    ui.add_space(2.0 * GRID);
    if primary_button(ui, "Read the guide").clicked() {
        actions.push(Action::Command(UiCommand::Guide));
    }
    ui.add_space(GRID);
    weak(ui, "The demo model is small: an expert tone is no proof that what it says is right.");
    actions
}
