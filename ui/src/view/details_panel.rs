use egui::{CollapsingHeader, Grid, Label, RichText, ScrollArea, Ui};
use meav_protocol::{AuditEntry, VectorInfo};

use super::calibration::calibration_ui;
use super::design_tokens::{GRID, Tokens};
use super::parts::{bytes, moment, signed, user_error_ui, weak};
use crate::action::{Action, KnobAction};
use crate::command::UiCommand;
use crate::model::{Details, Knob, Model, Weights};

/// What the details panel shows.
pub(super) struct DetailsView<'a> {
    details: &'a Details,
    weights: &'a Weights,
}

impl<'a> From<&'a Model> for DetailsView<'a> {
    fn from(model: &'a Model) -> Self {
        Self { details: &model.details, weights: &model.weights }
    }
}

/// The selected knob's vector, the recipe that the weights hold, and the audit log.
#[must_use]
pub(super) fn details_ui(ui: &mut Ui, view: &DetailsView<'_>) -> Vec<Action> {
    let mut actions = Vec::new();
    ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
        section(ui, "Recipe", |ui| actions.extend(recipe_ui(ui, view.weights)));
        section(ui, "Vector", |ui| actions.extend(vector_ui(ui, view)));
        section(ui, "History", |ui| actions.extend(history_ui(ui, &view.details.audit)));
    });
    actions
}

fn section(ui: &mut Ui, name: &str, add: impl FnOnce(&mut Ui)) {
    let title = RichText::new(name).strong().color(Tokens::of(ui.visuals()).strong);
    CollapsingHeader::new(title).default_open(true).show_unindented(ui, |ui| {
        add(ui);
        ui.add_space(2.0 * GRID);
    });
}

fn vector_ui(ui: &mut Ui, view: &DetailsView<'_>) -> Vec<Action> {
    let Some(knob) = view.weights.selected.and_then(|id| view.weights.knob(id)) else {
        weak(ui, "Choose a knob by its name to see what its vector is.");
        return Vec::new();
    };
    ui.label(RichText::new(knob.name()).color(Tokens::of(ui.visuals()).domain(&knob.name())));
    if let Some(info) = &knob.info {
        info_ui(ui, info);
    }
    let mut actions = scope_ui(ui, view.weights, knob);
    if let Some(fault) = &knob.fault {
        actions.extend(user_error_ui(ui, fault));
        return actions;
    }
    actions.extend(calibration_ui(ui, knob));
    match view.details.described.get(&knob.id) {
        Some(Ok(description)) => {
            let shown_above = ["domain", "kind", "tensors changed"];
            let rows = description.rows.iter();
            rows_ui(ui, rows.filter(|(name, _)| !shown_above.contains(&name.as_str())));
        }
        Some(Err(err)) => actions.extend(user_error_ui(ui, err)),
        None => {}
    }
    actions
}

/// Where the vector is added, and the way to change that.
fn scope_ui(ui: &mut Ui, weights: &Weights, knob: &Knob) -> Vec<Action> {
    let scope = weights.scope(knob).to_string();
    row_ui(ui, "acts on", &scope, &scope);
    let is_clicked = ui.button("Change where it acts…").clicked();
    is_clicked.then_some(Action::Knob(knob.id, KnobAction::EditScope)).into_iter().collect()
}

fn info_ui(ui: &mut Ui, info: &VectorInfo) {
    let base = match info.base_matches {
        Some(true) => "made from this base",
        Some(false) => "made from other weights",
        None => "not said by the file",
    };
    let rows = [
        ("kind", info.kind.clone()),
        ("in memory", bytes(info.size_bytes)),
        ("tensors", info.tensors.to_string()),
        ("base", base.to_owned()),
    ];
    for (name, value) in rows {
        row_ui(ui, name, &value, &value);
    }
    let file = info.file.file_name().unwrap_or(info.file.as_os_str()).to_string_lossy();
    row_ui(ui, "file", &file, &info.file.display().to_string());
}

/// Names and values in two columns.
fn rows_ui<'a>(ui: &mut Ui, rows: impl Iterator<Item = &'a (String, String)>) {
    for (name, value) in rows {
        row_ui(ui, name, value, value);
    }
}

/// A name and a value; hovering over the value shows all there is to it.
fn row_ui(ui: &mut Ui, name: &str, value: &str, all: &str) {
    let gap = 2.0 * GRID;
    let name_width = 22.0 * GRID;
    let value_width = (ui.available_width() - name_width - gap).max(10.0 * GRID);
    let weak = Tokens::of(ui.visuals()).weak;
    ui.horizontal_top(|ui| {
        ui.spacing_mut().item_spacing.x = gap;
        cell_ui(ui, name_width, Label::new(RichText::new(name).small().color(weak)).wrap());
        let text = Label::new(RichText::new(value).small());
        let text = if is_one_word(value) { text.truncate() } else { text.wrap() };
        cell_ui(ui, value_width, text).on_hover_text(all);
    });
}

fn cell_ui(ui: &mut Ui, width: f32, label: Label) -> egui::Response {
    let layout = egui::Layout::top_down(egui::Align::Min);
    ui.allocate_ui_with_layout(egui::vec2(width, 0.0), layout, |ui| {
        ui.set_width(width);
        ui.add(label)
    })
    .inner
}

/// Fingerprints and paths: breaking them over lines helps nobody.
fn is_one_word(value: &str) -> bool {
    !value.contains(' ')
}

fn recipe_ui(ui: &mut Ui, weights: &Weights) -> Vec<Action> {
    let Some(loaded) = &weights.held else {
        weak(ui, "The weights hold nothing yet.");
        return Vec::new();
    };
    let tokens = Tokens::of(ui.visuals());
    let recipe = &loaded.recipe;
    if recipe.vectors.is_empty() {
        ui.label("The base model, unchanged");
    } else {
        Grid::new("recipe").num_columns(2).spacing([4.0 * GRID, 0.0]).show(ui, |ui| {
            for term in &recipe.vectors {
                ui.label(RichText::new(&term.domain).color(tokens.domain(&term.domain)));
                ui.label(RichText::new(signed(term.coefficient)).monospace());
                ui.end_row();
            }
        });
    }
    for term in recipe.vectors.iter().filter(|term| !term.scope.is_everywhere()) {
        let scope = term.scope.to_string();
        row_ui(ui, &format!("{} on", term.domain), &scope, &scope);
    }
    let rows = [
        ("model", loaded.name.clone()),
        ("family", loaded.family.clone()),
        ("layers", loaded.layers.to_string()),
        ("combined by", recipe.method.to_string()),
        ("dtype", recipe.dtype.to_string()),
        ("recipe", recipe.fingerprint.clone()),
        ("base", recipe.base.clone()),
        ("merged in", format!("{:.0} ms", loaded.merge_secs * 1e3)),
    ];
    let rows = rows.map(|(name, value)| (name.to_owned(), value));
    rows_ui(ui, rows.iter());
    let mut actions = Vec::new();
    ui.horizontal_wrapped(|ui| {
        if ui.button("Copy fingerprint").clicked() {
            actions.push(Action::Copy(recipe.fingerprint.clone()));
        }
        for command in [UiCommand::SaveRecipe, UiCommand::ExportMerged] {
            if ui.button(command.text()).clicked() {
                actions.push(Action::Command(command));
            }
        }
    });
    actions
}

fn history_ui(ui: &mut Ui, audit: &[AuditEntry]) -> Vec<Action> {
    let mut actions = Vec::new();
    if ui.button(UiCommand::ExportAudit.text()).clicked() {
        actions.push(Action::Command(UiCommand::ExportAudit));
    }
    if audit.is_empty() {
        weak(ui, "Recipes and exports will be listed here.");
    }
    for entry in audit {
        weak(ui, format!("{} · {}", moment(&entry.time), entry.action));
        let text = RichText::new(&entry.detail).small();
        ui.add(Label::new(text).wrap());
    }
    actions
}
