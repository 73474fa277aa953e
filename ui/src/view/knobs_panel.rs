use egui::{
    Button, Color32, DragValue, Id, Response, RichText, Role, ScrollArea, Sense, Ui, UiBuilder,
    WidgetInfo,
};
use egui_material_icons::icons as symbols;
use meav_protocol::{LoadedModel, Method, Scope, UserError};

use super::calibration::expected_ui;
use super::combining::method_ui;
use super::design_tokens::{GRID, ROW, Tokens};
use super::knob_track::KnobTrack;
use super::parts::{
    colored_button, icon_button, more_menu, named, one_line, parse_number, recipe_text, signed,
    title, user_error_ui, weak,
};
use crate::action::{Action, KnobAction};
use crate::command::UiCommand;
use crate::model::{COEFFICIENT_LIMIT, Focus, Knob, Model, Weights};
use crate::settings::{Preset, Slot};

/// What the knobs panel shows.
pub(super) struct KnobsView<'a> {
    weights: &'a Weights,
    presets: &'a [Preset],
    /// Whether the keyboard is to go to the first knob.
    takes_focus: bool,
    /// Why the weights don't follow the knobs at once.
    waits_for_answer: bool,
    /// Whether the chat beside it has any messages.
    has_messages: bool,
}

impl<'a> From<&'a Model> for KnobsView<'a> {
    fn from(model: &'a Model) -> Self {
        Self {
            weights: &model.weights,
            presets: &model.settings.presets,
            takes_focus: model.focus == Some(Focus::Knobs),
            waits_for_answer: model.conversation.answer.is_some(),
            has_messages: !model.conversation.chat.messages.is_empty(),
        }
    }
}

/// One knob for each vector, what sets them all, and what the weights really hold.
#[must_use]
pub(super) fn knobs_ui(ui: &mut Ui, view: &KnobsView<'_>) -> Vec<Action> {
    let mut actions = header_ui(ui);
    actions.extend(sets_ui(ui, view));
    actions.extend(method_ui(ui, view.weights));
    ui.separator();
    egui::Panel::bottom("held")
        .resizable(false)
        .frame(egui::Frame::new())
        .show(ui, |ui| actions.extend(held_ui(ui, view)));
    ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
        if view.weights.knobs.is_empty() {
            actions.extend(no_knobs_ui(ui));
        }
        for (index, knob) in view.weights.knobs.iter().enumerate() {
            let takes_focus = view.takes_focus && index == 0;
            actions.extend(knob_ui(ui, view.weights, knob, index, takes_focus));
            ui.add_space(GRID);
        }
    });
    if view.takes_focus && view.weights.knobs.is_empty() {
        actions.push(Action::FocusTaken);
    }
    actions
}

fn header_ui(ui: &mut Ui) -> Vec<Action> {
    let mut actions = Vec::new();
    ui.horizontal(|ui| {
        title(ui, "Knobs");
        ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
            if icon_button(ui, symbols::ICON_ADD, "Add vector…").clicked() {
                actions.push(Action::Command(UiCommand::AddVector));
            }
        });
    });
    actions
}

/// Base, the two sides, presets.
fn sets_ui(ui: &mut Ui, view: &KnobsView<'_>) -> Vec<Action> {
    let mut actions = Vec::new();
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing.x = GRID;
        if ui.button("Base").on_hover_text(UiCommand::Base.tooltip()).clicked() {
            actions.push(Action::Command(UiCommand::Base));
        }
        for slot in [Slot::A, Slot::B] {
            let is_used = view.weights.slot == slot;
            let name = format!("Side {}", slot.name());
            let button = Button::new(slot.name()).selected(is_used);
            let response = ui.add(button);
            response.widget_info(|| WidgetInfo::selected(Role::Button, true, is_used, &name));
            let tip = format!("{name} of two sets of coefficients, to flip between");
            if response.on_hover_text(tip).clicked() && !is_used {
                actions.push(Action::Flip(slot));
            }
        }
        let (from, to) = (view.weights.slot.name(), view.weights.slot.other().name());
        let face = format!("{from}{}{to}", symbols::ICON_CHEVRON_RIGHT.codepoint);
        if named(ui.button(face), &format!("Make {to} the same as {from}")).clicked() {
            actions.push(Action::Command(UiCommand::CopySlot));
        }
        ui.menu_button("Presets", |ui| actions.extend(presets_ui(ui, view.presets)));
    });
    actions
}

fn presets_ui(ui: &mut Ui, presets: &[Preset]) -> Vec<Action> {
    let mut actions = Vec::new();
    if presets.is_empty() {
        weak(ui, "None yet");
    }
    for (index, preset) in presets.iter().enumerate() {
        ui.horizontal(|ui| {
            if ui.button(&preset.name).on_hover_text(terms_text(preset)).clicked() {
                actions.push(Action::ApplyPreset(preset.clone()));
                ui.close();
            }
            let name = format!("Delete preset {}", preset.name);
            if icon_button(ui, symbols::ICON_DELETE, &name).clicked() {
                actions.push(Action::DeletePreset(index));
            }
        });
    }
    ui.separator();
    if ui.button(UiCommand::SavePreset.text()).clicked() {
        actions.push(Action::Command(UiCommand::SavePreset));
        ui.close();
    }
    actions
}

fn terms_text(preset: &Preset) -> String {
    if preset.terms.is_empty() {
        return "base".to_owned();
    }
    let term = |(index, (file, coefficient)): (usize, &(std::path::PathBuf, f64))| {
        let scope = preset.scope(index);
        let scope = if scope.is_everywhere() { String::new() } else { format!(" ({scope})") };
        format!("{} {}{scope}", crate::model::file_name(file), signed(*coefficient))
    };
    let mut lines: Vec<_> = preset.terms.iter().enumerate().map(term).collect();
    if preset.method != Method::TaskArithmetic {
        lines.insert(0, preset.method.to_string());
    }
    lines.join("\n")
}

fn no_knobs_ui(ui: &mut Ui) -> Vec<Action> {
    ui.add_space(2.0 * GRID);
    ui.label("A knob moves the model along one alignment vector: towards expert answers, or away from them.");
    ui.add_space(GRID);
    let mut actions = Vec::new();
    if ui.button("Add vector…").clicked() {
        actions.push(Action::Command(UiCommand::AddVector));
    }
    weak(ui, "Or drop a vector file onto the window.");
    actions
}

fn knob_ui(
    ui: &mut Ui,
    weights: &Weights,
    knob: &Knob,
    index: usize,
    takes_focus: bool,
) -> Vec<Action> {
    let tokens = Tokens::of(ui.visuals());
    let side = weights.slot.index();
    let (coefficient, is_bypassed) = (knob.coefficients[side], knob.bypassed[side]);
    let name = knob.name();
    let color = tokens.domain(&name);
    let mut actions = Vec::new();
    let mut act = |action| actions.push(Action::Knob(knob.id, action));
    // Wherever the knob is moved, it keeps the keyboard and the mouse.
    let builder = UiBuilder::new().scope_id(Id::unique(("knob", knob.id)));
    ui.scope_builder(builder, |ui| {
        ui.horizontal(|ui| {
            ui.spacing_mut().item_spacing.x = GRID;
            grip_ui(ui, &name).into_iter().for_each(&mut act);
            bypass_ui(ui, &name, is_bypassed, color).into_iter().for_each(&mut act);
            let text = RichText::new(&name).strong().color(tokens.strong);
            ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
                let place = (index, weights.knobs.len());
                let is_calibrated = knob.calibration().is_some();
                menu_ui(ui, &name, place, is_calibrated).into_iter().for_each(&mut act);
                value_ui(ui, &name, coefficient).into_iter().for_each(&mut act);
                scope_mark_ui(ui, &name, weights.scope(knob)).into_iter().for_each(&mut act);
                ui.with_layout(egui::Layout::left_to_right(egui::Align::Center), |ui| {
                    let is_selected = weights.selected == Some(knob.id);
                    let label = Button::selectable(is_selected, text).truncate();
                    let tip = format!("Details of {}", knob.file.display());
                    if ui.add(label).on_hover_text(tip).clicked() {
                        act(KnobAction::Select);
                    }
                });
            });
        });
        let calibration = knob.calibration();
        let track = KnobTrack { name: &name, coefficient, color, is_bypassed, calibration };
        let (response, moved) = track.ui(ui);
        moved.map(KnobAction::Set).into_iter().for_each(&mut act);
        shifted_by_keys(ui, &response).into_iter().for_each(&mut act);
        if takes_focus {
            response.request_focus();
        }
    });
    expected_ui(ui, weights, knob);
    actions.extend(knob_notes_ui(ui, knob));
    if takes_focus {
        actions.push(Action::FocusTaken);
    }
    actions
}

/// What is to be known of a knob's vector: that it does not fit, or was made for another base.
pub(super) fn knob_notes_ui(ui: &mut Ui, knob: &Knob) -> Vec<Action> {
    let mut actions = Vec::new();
    if let Some(fault) = &knob.fault {
        actions.extend(user_error_ui(ui, fault));
        ui.horizontal(|ui| {
            if ui.button("Try again").clicked() {
                actions.push(Action::Knob(knob.id, KnobAction::Retry));
            }
            if ui.button("Remove").clicked() {
                actions.push(Action::Knob(knob.id, KnobAction::Remove));
            }
        });
    } else if knob.info.as_ref().is_some_and(|info| info.base_matches == Some(false)) {
        let color = Tokens::of(ui.visuals()).warning;
        let text = RichText::new("Made from other weights; it fits, but may act differently")
            .small()
            .color(color);
        ui.add(egui::Label::new(text).wrap());
    }
    actions
}

/// What a knob is dragged up and down by.
fn grip_ui(ui: &mut Ui, name: &str) -> Option<KnobAction> {
    let tokens = Tokens::of(ui.visuals());
    let text = RichText::new(symbols::ICON_DRAG_INDICATOR.codepoint).color(tokens.weak);
    let label = egui::Label::new(text).selectable(false).sense(Sense::drag());
    let response = ui.add(label).on_hover_cursor(egui::CursorIcon::Grab);
    let tip = format!("Drag {name} up or down");
    response.widget_info(|| WidgetInfo::labeled(Role::Label, true, &tip));
    let response = response.on_hover_text(tip);
    // Two rows: the height of a knob.
    let row = 2.5 * ROW;
    let pointer = response.dragged().then(|| response.interact_pointer_pos()).flatten()?;
    let by = pointer.y - response.rect.center().y;
    if by > row {
        return Some(KnobAction::Move(1));
    }
    (by < -row).then_some(KnobAction::Move(-1))
}

fn bypass_ui(ui: &mut Ui, name: &str, is_bypassed: bool, color: Color32) -> Option<KnobAction> {
    let (icon, color, label) = if is_bypassed {
        let weak = Tokens::of(ui.visuals()).weak;
        (symbols::ICON_TOGGLE_OFF, weak, format!("Take {name} in again"))
    } else {
        (symbols::ICON_TOGGLE_ON, color, format!("Leave {name} out for now"))
    };
    let is_clicked = colored_button(ui, icon, color, &label).clicked();
    is_clicked.then_some(KnobAction::SetBypassed(!is_bypassed))
}

/// A small mark on a vector that is not added everywhere.
fn scope_mark_ui(ui: &mut Ui, name: &str, scope: &Scope) -> Option<KnobAction> {
    if scope.is_everywhere() {
        return None;
    }
    let label = format!("{name} acts on {scope}");
    let color = Tokens::of(ui.visuals()).accent;
    let is_clicked = colored_button(ui, symbols::ICON_FILTER_ALT, color, &label).clicked();
    is_clicked.then_some(KnobAction::EditScope)
}

/// λ as a number, to drag or to type.
fn value_ui(ui: &mut Ui, name: &str, coefficient: f64) -> Option<KnobAction> {
    let mut value = coefficient;
    let field = DragValue::new(&mut value)
        .range(-COEFFICIENT_LIMIT..=COEFFICIENT_LIMIT)
        .speed(0.01)
        .fixed_decimals(2)
        .custom_formatter(|value, _| signed(value))
        .custom_parser(parse_number);
    let label = format!("λ of {name} as a number");
    let response = ui.add_sized([13.0 * GRID, ROW], field);
    response.on_hover_text(label);
    value.total_cmp(&coefficient).is_ne().then_some(KnobAction::Set(value))
}

fn menu_ui(
    ui: &mut Ui,
    name: &str,
    (index, count): (usize, usize),
    is_calibrated: bool,
) -> Option<KnobAction> {
    let mut chosen = None;
    more_menu(ui, name, |ui| {
        let mut entry = |ui: &mut Ui, text: &str, is_enabled: bool, action: KnobAction| {
            if ui.add_enabled(is_enabled, Button::new(text)).clicked() {
                chosen = Some(action);
                ui.close();
            }
        };
        entry(ui, "Set to 0", true, KnobAction::Set(0.0));
        entry(ui, "Details", true, KnobAction::Select);
        entry(ui, "Where it acts…", true, KnobAction::EditScope);
        let write = "Write calibration into its file…";
        entry(ui, write, is_calibrated, KnobAction::AskCalibration);
        entry(ui, "Move up", index > 0, KnobAction::Move(-1));
        entry(ui, "Move down", index + 1 < count, KnobAction::Move(1));
        entry(ui, "Remove", true, KnobAction::Remove);
    });
    chosen
}

/// Alt and an arrow key move a knob, as they move lines in editors.
fn shifted_by_keys(ui: &Ui, response: &Response) -> Option<KnobAction> {
    if !response.has_focus() {
        return None;
    }
    ui.input(|input| {
        if !input.modifiers.alt {
            return None;
        }
        match (input.key_pressed(egui::Key::ArrowUp), input.key_pressed(egui::Key::ArrowDown)) {
            (true, false) => Some(KnobAction::Move(-1)),
            (false, true) => Some(KnobAction::Move(1)),
            _ => None,
        }
    })
}

/// What the engine's weights really hold, and why that is not what the knobs say.
fn held_ui(ui: &mut Ui, view: &KnobsView<'_>) -> Vec<Action> {
    let weights = view.weights;
    let mut actions = Vec::new();
    ui.add_space(GRID);
    ui.horizontal(|ui| {
        weak(ui, "The weights hold");
        ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
            state_ui(ui, view);
        });
    });
    match &weights.held {
        Some(loaded) => {
            one_line(ui, recipe_text(ui, &loaded.recipe)).on_hover_text(held_text(loaded));
        }
        None => {
            weak(ui, "nothing yet");
        }
    }
    // Where there is no model at all, an empty chat says what to do.
    let is_here = |err: &&UserError| err.remedy.is_none() || view.has_messages;
    if let Some(err) = weights.error.as_ref().filter(is_here) {
        actions.extend(user_error_ui(ui, err));
        if ui.button("Try again").clicked() {
            actions.push(Action::Retry);
        }
    }
    actions
}

fn state_ui(ui: &mut Ui, view: &KnobsView<'_>) {
    let tokens = Tokens::of(ui.visuals());
    let weights = view.weights;
    let left_out: Vec<String> =
        weights.knobs.iter().filter(|knob| knob.fault.is_some()).map(Knob::name).collect();
    if weights.is_held() && !left_out.is_empty() {
        let text = format!("without {}", left_out.join(", "));
        let color = tokens.warning;
        one_line(ui, RichText::new(text).small().color(color));
    } else if weights.is_held() {
        let text = RichText::new("as set").small().color(tokens.good);
        ui.label(text).on_hover_text("The weights hold what the knobs say");
    } else if view.waits_for_answer {
        weak(ui, "follow after the answer");
    } else if weights.in_flight.is_some() {
        weak(ui, "following…");
    } else {
        let text = RichText::new("not as set").small().color(tokens.warning);
        ui.label(text).on_hover_text("The knobs say something that the weights could not follow");
    }
}

fn held_text(loaded: &LoadedModel) -> String {
    format!(
        "{}\n{} · {} · merged in {:.0} ms",
        loaded.recipe.fingerprint,
        loaded.name,
        loaded.dtype,
        loaded.merge_secs * 1e3
    )
}
