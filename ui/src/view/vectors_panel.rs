use egui::{Button, Key, Label, Modifiers, ScrollArea, Ui, vec2};

use super::comparison::comparison_ui;
use super::design_tokens::GRID;
use super::parts::{scroll_to_focus, title, weak};
use super::vector_report::vector_report_ui;
use super::vector_table::vector_table_ui;
use crate::action::Action;
use crate::command::UiCommand;
use crate::model::{Focus, Job, Model, Vectors, Weights};

/// What the Vectors screen shows.
pub(super) struct VectorsView<'a> {
    weights: &'a Weights,
    vectors: &'a Vectors,
    /// The job that compares vectors.
    comparing: Option<&'a Job>,
    /// Whether a comparison would be of other vectors than the one that is shown.
    is_outdated: bool,
    /// Whether the keyboard is to go to the first vector.
    takes_focus: bool,
}

impl<'a> From<&'a Model> for VectorsView<'a> {
    fn from(model: &'a Model) -> Self {
        Self {
            weights: &model.weights,
            vectors: &model.vectors,
            comparing: model.vectors.comparing.and_then(|job| model.jobs.get(job)),
            is_outdated: model.vectors.compared != model.vectors_to_compare(),
            takes_focus: model.focus == Some(Focus::Vectors),
        }
    }
}

/// The commands of the screen, in the order in which they are needed.
const COMMANDS: [UiCommand; 6] = [
    UiCommand::AddVector,
    UiCommand::ImportAdapter,
    UiCommand::ExtractVector,
    UiCommand::CompressVector,
    UiCommand::SeparateVector,
    UiCommand::CompareVectors,
];

/// The vectors: what they are, how more are made of them, and how they get in each other's way.
#[must_use]
pub(super) fn vectors_ui(ui: &mut Ui, view: &VectorsView<'_>) -> Vec<Action> {
    let mut actions = Vec::new();
    ScrollArea::vertical().id_salt("vectors screen").auto_shrink(false).show(ui, |ui| {
        turn_pages(ui);
        actions.extend(commands_ui(ui, view.weights));
        ui.add_space(2.0 * GRID);
        title(ui, "Vectors");
        if view.weights.knobs.is_empty() {
            no_vectors_ui(ui);
            if view.takes_focus {
                actions.push(Action::FocusTaken);
            }
        } else {
            let (weights, vectors) = (view.weights, view.vectors);
            actions.extend(vector_table_ui(ui, weights, vectors, view.takes_focus));
        }
        if let Some(made) = &view.vectors.made {
            ui.add_space(3.0 * GRID);
            actions.extend(vector_report_ui(ui, made, view.weights));
        }
        ui.add_space(3.0 * GRID);
        actions.extend(comparison_ui(ui, view.vectors, view.comparing, view.is_outdated));
        ui.add_space(4.0 * GRID);
        scroll_to_focus(ui);
    });
    actions
}

/// The page keys, for those who can't scroll a map that has nothing to press in it.
pub(super) fn turn_pages(ui: &mut Ui) {
    let (down, up) = ui.input_mut(|input| {
        let mut turns = |key| input.count_and_consume_key(Modifiers::NONE, key) as f32;
        (turns(Key::PageDown), turns(Key::PageUp))
    });
    let page = ui.clip_rect().height() - 10.0 * GRID;
    ui.scroll_with_delta(vec2(0.0, (up - down) * page));
}

fn commands_ui(ui: &mut Ui, weights: &Weights) -> Vec<Action> {
    let mut actions = Vec::new();
    ui.horizontal_wrapped(|ui| {
        for command in COMMANDS {
            let least = match command {
                UiCommand::CompressVector => 1,
                UiCommand::SeparateVector | UiCommand::CompareVectors => 2,
                _ => 0,
            };
            let can = weights.knobs.len() >= least;
            let response = ui.add_enabled(can, Button::new(command.text()));
            let response = response.on_hover_text(command.tooltip());
            let why_not = if least == 1 { "Add a vector first" } else { "Add two vectors first" };
            if response.on_disabled_hover_text(why_not).clicked() {
                actions.push(Action::Command(command));
            }
        }
    });
    actions
}

fn no_vectors_ui(ui: &mut Ui) {
    let text = "None yet. Add a vector file or a PEFT LoRA adapter, take one from two models, or \
                drop files onto the window.";
    ui.add(Label::new(text).wrap());
    weak(ui, "A vector is what sets an aligned model apart from its base.");
}
