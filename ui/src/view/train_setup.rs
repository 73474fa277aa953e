use std::path::{Path, PathBuf};

use egui::{
    Align, Button, CollapsingHeader, ComboBox, Id, Key, Label, Layout, Response, RichText, Role,
    TextEdit, Ui, UiBuilder, WidgetInfo, vec2,
};
use egui_material_icons::icons as symbols;
use meav_protocol::{Dtype, MeasureName, MeasureSummary, OptimizerState, Schedule, TrainData};

use super::design_tokens::{GRID, Tokens};
use super::parts::{icon_button, weak};
use super::sweep_setup::{bad_ui, read_ui};
use super::train_help::{help, loss_help};
use crate::action::Action;
use crate::model::{DataFile, Trainings, Weights, file_label, file_name};
use crate::train_action::TrainAction;
use crate::train_form::{LossChoice, MethodChoice, TrainField, TrainForm};

/// Points, the width of the names of rows.
const NAME_WIDTH: f32 = 25.0 * GRID;

/// Points, the width of a number and its unit.
const VALUE_WIDTH: f32 = 29.0 * GRID;

/// Points, the width of a number.
const NUMBER_WIDTH: f32 = 15.0 * GRID;

/// Parts of the layers that can get factors.
const TARGETS: &[&str] =
    &["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

/// The same of a family whose layers have some of them in one.
const FUSED_TARGETS: &[&str] = &["qkv_proj", "o_proj", "gate_up_proj", "down_proj"];

/// What is trained from.
pub(super) struct BaseView {
    /// The model's name.
    name: String,
    /// Parts of its layers that can get factors.
    targets: &'static [&'static str],
}

impl From<&Weights> for BaseView {
    fn from(weights: &Weights) -> Self {
        let held = weights.held.as_ref();
        let is_fused = held.is_some_and(|held| held.family == "phi3");
        let name = held.map_or_else(|| file_name(&weights.model), |held| held.name.clone());
        Self { name, targets: if is_fused { FUSED_TARGETS } else { TARGETS } }
    }
}

/// What the form of the next run shows.
pub(super) struct TrainSetupView<'a> {
    pub(super) trainings: &'a Trainings,
    /// The data that come with the demo, as far as they are known.
    pub(super) demo_data: &'a [PathBuf],
    /// What is trained from.
    pub(super) base: &'a BaseView,
    /// Whether the system has dialogs; otherwise why not.
    pub(super) system_dialogs: Result<(), &'a str>,
    pub(super) takes_focus: bool,
}

/// What is trained on, how, and what is rarely changed.
pub(super) fn train_setup_ui(ui: &mut Ui, view: &TrainSetupView<'_>) -> Vec<Action> {
    let mut form = view.trainings.form.clone();
    row_ui(ui, "Model", "What the vector is the difference to", |ui| {
        ui.label(&view.base.name);
        weak(ui, "trained from its base: where the knobs stand does not matter");
    });
    let mut actions = data_ui(ui, view, &mut form);
    domain_ui(ui, view, &mut form);
    method_ui(ui, &mut form);
    loss_ui(ui, &mut form);
    for field in [
        TrainField::Beta,
        TrainField::Epochs,
        TrainField::Batch,
        TrainField::LearningRate,
        TrainField::MaxLength,
    ] {
        field_ui(ui, &mut form, field);
    }
    CollapsingHeader::new("More").id_salt("more of training").show_unindented(ui, |ui| {
        actions.extend(more_ui(ui, view, &mut form));
    });
    if form != view.trainings.form {
        // What is typed comes before what is done with it.
        actions.insert(0, Action::Train(TrainAction::SetForm(Box::new(form))));
    }
    actions
}

fn more_ui(ui: &mut Ui, view: &TrainSetupView<'_>, form: &mut TrainForm) -> Vec<Action> {
    if form.method == MethodChoice::Lora {
        field_ui(ui, form, TrainField::Alpha);
        targets_ui(ui, view.base, form);
    }
    pairs_ui(ui, form);
    field_ui(ui, form, TrainField::Accumulation);
    field_ui(ui, form, TrainField::MaxSteps);
    let schedules = [
        (Schedule::Cosine, "cosine", "slow at both ends: the usual choice"),
        (Schedule::Linear, "linear", "on a straight line to 0"),
        (Schedule::Constant, "constant", "not at all: for runs that are stopped by hand"),
    ];
    choice_ui(ui, "Rate falls", &mut form.schedule, &schedules);
    for field in [TrainField::WarmupSteps, TrainField::WeightDecay, TrainField::Clip] {
        field_ui(ui, form, field);
    }
    for field in [
        TrainField::Validation,
        TrainField::ValidateEvery,
        TrainField::Patience,
        TrainField::CheckpointEvery,
        TrainField::Seed,
    ] {
        field_ui(ui, form, field);
    }
    let dtypes = [
        (Dtype::F32, "f32", "exact; twice the memory of bf16"),
        (Dtype::Bf16, "bf16", "half the memory for the weights, with f32 copies of what changes"),
    ];
    choice_ui(ui, "Numbers", &mut form.dtype, &dtypes);
    let states = [
        (OptimizerState::F32, "f32", "eight bytes for each trained weight"),
        (
            OptimizerState::Int8,
            "8-bit",
            "two bytes: where all weights are trained and memory is short",
        ),
    ];
    choice_ui(ui, "Optimiser state", &mut form.optimizer_state, &states);
    let keeps = [
        (true, "less", "each layer is computed again on the way back: a fraction of the memory"),
        (false, "more", "all of the way forward is kept: faster where memory is plenty"),
    ];
    choice_ui(ui, "Memory", &mut form.checkpointing, &keeps);
    folder_ui(ui, view, form)
}

/// A row: a name, something to choose or type, and what it is for.
fn row_ui<R>(ui: &mut Ui, name: &str, tip: &str, add: impl FnOnce(&mut Ui) -> R) -> R {
    let group = UiBuilder::new().accessibility_role(Role::Group).accessibility_label(name);
    let row = |ui: &mut Ui| {
        name_ui(ui, name, tip);
        ui.horizontal_wrapped(add).inner
    };
    ui.scope_builder(group, |ui| ui.horizontal_top(row).inner).inner
}

fn name_ui(ui: &mut Ui, name: &str, tip: &str) -> Response {
    let size = vec2(NAME_WIDTH, ui.spacing().interact_size.y);
    let layout = Layout::left_to_right(Align::Center);
    let label = |ui: &mut Ui| {
        ui.set_min_width(NAME_WIDTH);
        let response = weak(ui, name);
        if tip.is_empty() { response } else { response.on_hover_text(tip) }
    };
    ui.allocate_ui_with_layout(size, layout, label).inner
}

/// A number with its unit and what it is for, or what is wrong with it.
fn field_ui(ui: &mut Ui, form: &mut TrainForm, field: TrainField) {
    let (short, details) = help(field);
    let fault = form.fault(field);
    ui.horizontal(|ui| {
        name_ui(ui, field.name(), details);
        let before = form.text(field);
        let mut text = before.clone();
        let size = vec2(VALUE_WIDTH, ui.spacing().interact_size.y);
        ui.allocate_ui_with_layout(size, Layout::left_to_right(Align::Center), |ui| {
            ui.set_min_width(VALUE_WIDTH);
            let hint = field.when_empty().unwrap_or_default();
            let edit = TextEdit::singleline(&mut text).hint_text(hint).desired_width(NUMBER_WIDTH);
            let response = ui.add(edit);
            ui.ctx().accesskit_node_builder(response.id, |node| {
                node.set_label(field.name());
                node.set_description(fault.as_deref().unwrap_or(short));
            });
            response.on_hover_text(details);
            weak(ui, field.unit());
        });
        let tokens = Tokens::of(ui.visuals());
        let (said, color) = match &fault {
            Some(fault) => (fault.as_str(), tokens.error),
            None => (short, tokens.weak),
        };
        let label = Label::new(RichText::new(said).small().color(color)).wrap();
        ui.add(label).on_hover_text(details);
        if text != before {
            form.set(field, text);
        }
    });
}

/// A row of choices, with what the chosen one means.
fn choice_ui<T: Copy + PartialEq>(
    ui: &mut Ui,
    name: &str,
    chosen: &mut T,
    choices: &[(T, &str, &str)],
) {
    row_ui(ui, name, "", |ui| {
        for (value, text, tip) in choices {
            if ui.selectable_label(chosen == value, *text).on_hover_text(*tip).clicked() {
                *chosen = *value;
            }
        }
        if let Some((_, _, tip)) = choices.iter().find(|(value, ..)| value == chosen) {
            weak(ui, *tip);
        }
    });
}

fn data_ui(ui: &mut Ui, view: &TrainSetupView<'_>, form: &mut TrainForm) -> Vec<Action> {
    let mut actions = Vec::new();
    let act = Action::Train;
    let tip = "Records with several answers to each query, from better to worse";
    row_ui(ui, "Data", tip, |ui| {
        if !view.demo_data.is_empty() {
            ui.menu_button("Add demo data", |ui| {
                for path in view.demo_data {
                    let is_new = form.place_of(path).is_none();
                    if ui.add_enabled(is_new, Button::new(file_label(path))).clicked() {
                        actions.push(act(TrainAction::AddData(path.clone())));
                    }
                }
            });
        }
        ui.add_enabled_ui(view.system_dialogs.is_ok(), |ui| {
            let why_not = view.system_dialogs.err().unwrap_or_default();
            let response = ui.button("Browse…").on_disabled_hover_text(why_not);
            if response.clicked() {
                actions.push(act(TrainAction::BrowseData));
            }
        });
        let hint = "or a path, then Enter";
        let field = TextEdit::singleline(&mut form.path).hint_text(hint);
        // The keyboard stays here while the buttons before it come and go.
        let field = field.id(Id::unique("path of training data"));
        let response = ui.add(field.desired_width(46.0 * GRID));
        ui.ctx().accesskit_node_builder(response.id, |node| node.set_label("Path of data"));
        if view.takes_focus {
            response.request_focus();
            actions.push(Action::FocusTaken);
        }
        let is_entered = response.lost_focus() && ui.input(|input| input.key_pressed(Key::Enter));
        if is_entered && !form.path.trim().is_empty() {
            actions.push(act(TrainAction::AddTyped));
            response.request_focus();
        }
    });
    for (index, data) in form.data.iter_mut().enumerate() {
        actions.extend(file_ui(ui, view.trainings, index, data));
    }
    let is_demo = |data: &TrainData| match view.trainings.files.get(&data.file) {
        Some(DataFile::Read(report)) => report.is_demo,
        _ => view.demo_data.contains(&data.file),
    };
    if form.data.iter().any(is_demo) {
        indented(ui, |ui| {
            let text = "The demo data is synthetic, and no professional has reviewed it.";
            let color = Tokens::of(ui.visuals()).warning;
            ui.add(Label::new(RichText::new(text).small().color(color)).wrap());
        });
    }
    if form.data.len() > 1 {
        indented(ui, |ui| weak(ui, "Several files are trained on jointly: one vector for all."));
    }
    actions
}

/// Below the controls of the row above.
fn indented<R>(ui: &mut Ui, add: impl FnOnce(&mut Ui) -> R) -> R {
    ui.horizontal_top(|ui| {
        ui.add_space(NAME_WIDTH + ui.spacing().item_spacing.x);
        ui.vertical(add).inner
    })
    .inner
}

fn file_ui(
    ui: &mut Ui,
    trainings: &Trainings,
    index: usize,
    data: &mut TrainData,
) -> Option<Action> {
    let name = file_label(&data.file);
    let row = |ui: &mut Ui| {
        let leave = format!("Leave {name} out");
        let is_removed = icon_button(ui, symbols::ICON_CLOSE, &leave).clicked();
        ui.label(&name).on_hover_text(data.file.display().to_string());
        match trainings.files.get(&data.file) {
            Some(DataFile::Read(report)) => {
                let levels = trainings.levels(&data.file);
                let is_safety = |it: &MeasureSummary| it.measure == MeasureName::Safety;
                let by_itself = if report.measures.iter().any(is_safety) {
                    "the safe response over the unsafe one"
                } else {
                    "each level over the next"
                };
                prefer_ui(ui, &data.file, by_itself, &levels, &mut data.prefer);
                read_ui(ui, report);
            }
            Some(DataFile::Bad(err)) => bad_ui(ui, err),
            Some(DataFile::Reading) | None => {
                weak(ui, "being read…");
            }
        }
        is_removed.then_some(Action::Train(TrainAction::RemoveData(index)))
    };
    indented(ui, |ui| ui.horizontal_wrapped(row).inner)
}

/// Which level wins; `by_itself` says what holds where none is chosen.
fn prefer_ui(
    ui: &mut Ui,
    file: &Path,
    by_itself: &str,
    levels: &[&str],
    prefer: &mut Option<String>,
) {
    let text = |prefer: &Option<String>| match prefer {
        Some(level) => format!("prefer {level}"),
        None => by_itself.to_owned(),
    };
    let response = ComboBox::from_id_salt(Id::unique(("preferred level", file)))
        .selected_text(text(prefer))
        .show_ui(ui, |ui| {
            let choices = levels.iter().map(|level| Some((*level).to_owned()));
            for choice in std::iter::once(None).chain(choices) {
                if ui.selectable_label(*prefer == choice, text(&choice)).clicked() {
                    *prefer = choice;
                }
            }
        })
        .response;
    let tip = "Each level over the next lower one makes a knob that leads through all of them. \
               Preferring one level to all others makes a vector for that level alone.";
    let name = format!("Preferred level of {}", file_label(file));
    response.widget_info(|| WidgetInfo::labeled(Role::ComboBox, true, &name));
    response.on_hover_text(tip);
}

fn domain_ui(ui: &mut Ui, view: &TrainSetupView<'_>, form: &mut TrainForm) {
    let tip = "The name of the knob: medical, legal, … It is written into the vector's file. Leave \
               it empty for that of the data";
    ui.horizontal(|ui| {
        name_ui(ui, "Domain", tip);
        let of_data = view.trainings.domain_of_data();
        let before = form.domain.clone().unwrap_or_else(|| of_data.clone());
        let mut text = before.clone();
        let field = TextEdit::singleline(&mut text).desired_width(VALUE_WIDTH - 2.0 * GRID);
        let hint = if of_data.is_empty() { "from the data" } else { of_data.as_str() };
        let response = ui.add(field.hint_text(hint));
        ui.ctx().accesskit_node_builder(response.id, |node| node.set_label("Domain"));
        if text != before {
            form.domain = Some(text);
        }
        let is_wrong = view.trainings.domain().is_empty() && !form.data.is_empty();
        let tokens = Tokens::of(ui.visuals());
        let (said, color) = if is_wrong {
            ("Name the domain", tokens.error)
        } else {
            ("what the knob will be called", tokens.weak)
        };
        let label = Label::new(RichText::new(said).small().color(color)).wrap();
        ui.add(label).on_hover_text(tip);
    });
}

fn method_ui(ui: &mut Ui, form: &mut TrainForm) {
    let choices = [
        (
            MethodChoice::Lora,
            "LoRA",
            "small factors beside frozen weights: fast, little memory, a small file",
        ),
        (
            MethodChoice::Full,
            "All weights",
            "the most that can be learnt: slower, and a file as large as the model",
        ),
    ];
    choice_ui(ui, "Method", &mut form.method, &choices);
    if form.method == MethodChoice::Lora {
        field_ui(ui, form, TrainField::Rank);
    }
}

fn targets_ui(ui: &mut Ui, base: &BaseView, form: &mut TrainForm) {
    let tip = "Parts of each layer that get factors. All of them is the usual choice; q_proj and \
               v_proj alone make a smaller file that can express less";
    row_ui(ui, "Parts", tip, |ui| {
        if ui.selectable_label(form.targets.is_empty(), "all").on_hover_text(tip).clicked() {
            form.targets.clear();
        }
        // One that another model has can be left out too.
        let others = form.targets.iter().filter(|it| !base.targets.contains(&it.as_str()));
        let others: Vec<String> = others.cloned().collect();
        for target in base.targets.iter().copied().chain(others.iter().map(String::as_str)) {
            let is_chosen = form.targets.iter().any(|it| it == target);
            if ui.selectable_label(is_chosen, target).clicked() {
                if is_chosen {
                    form.targets.retain(|it| it != target);
                } else {
                    form.targets.push(target.to_owned());
                }
            }
        }
    });
}

fn loss_ui(ui: &mut Ui, form: &mut TrainForm) {
    row_ui(ui, "Loss", "What is minimised", |ui| {
        for loss in [LossChoice::Ipo, LossChoice::Sigmoid, LossChoice::Hinge] {
            let (name, _, details) = loss_help(loss);
            if ui.selectable_label(form.loss == loss, name).on_hover_text(details).clicked() {
                form.loss = loss;
            }
        }
        let (_, short, details) = loss_help(form.loss);
        weak(ui, short).on_hover_text(details);
    });
    if form.loss == LossChoice::Sigmoid {
        field_ui(ui, form, TrainField::LabelSmoothing);
    }
}

fn pairs_ui(ui: &mut Ui, form: &mut TrainForm) {
    row_ui(ui, "Pairs", "", |ui| {
        let text = "also the highest level over the lowest";
        let tip = "Where there are three levels: a third pair for each query, the easiest of them";
        ui.checkbox(&mut form.skip_pairs, text).on_hover_text(tip);
    });
}

fn folder_ui(ui: &mut Ui, view: &TrainSetupView<'_>, form: &mut TrainForm) -> Vec<Action> {
    let mut actions = Vec::new();
    let tip = "Config, log, metrics as CSV and for TensorBoard, checkpoints, and the vector. It \
               must be empty or not be there";
    row_ui(ui, "Folder", tip, |ui| {
        let field = TextEdit::singleline(&mut form.out).hint_text("in the workspace");
        let response = ui.add(field.desired_width(60.0 * GRID)).on_hover_text(tip);
        ui.ctx().accesskit_node_builder(response.id, |node| node.set_label("Folder of the run"));
        ui.add_enabled_ui(view.system_dialogs.is_ok(), |ui| {
            let why_not = view.system_dialogs.err().unwrap_or_default();
            let response = ui.button("Browse folders…").on_disabled_hover_text(why_not);
            if response.clicked() {
                actions.push(Action::Train(TrainAction::BrowseFolder));
            }
        });
    });
    actions
}
