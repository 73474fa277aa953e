use std::path::{Path, PathBuf};

use egui::{
    Align, Button, ComboBox, Id, Key, Label, Layout, Response, RichText, TextEdit, Ui, vec2,
};
use egui_material_icons::icons as symbols;
use meav_protocol::{DataReport, Dtype, InstructionTurn, UserError};

use super::design_tokens::{GRID, Tokens};
use super::parts::{group_ui, icon_button, one_line, weak};
use super::sweep_plot::level_ui;
use crate::action::{Action, SweepAction};
use crate::model::{DataFile, Knob, Sweeps, Weights, file_label};
use crate::sweep_form::SweepForm;

/// Points, the width of the names of rows.
const NAME_WIDTH: f32 = 20.0 * GRID;

/// What the form of the next sweep shows.
pub(super) struct SetupView<'a> {
    pub(super) sweeps: &'a Sweeps,
    pub(super) weights: &'a Weights,
    /// The data that come with the demo, as far as they are known.
    pub(super) demo_data: &'a [PathBuf],
    /// The knob whose vector would be swept.
    pub(super) knob: Option<&'a Knob>,
    /// Whether the system has dialogs; otherwise why not.
    pub(super) system_dialogs: Result<(), &'a str>,
    pub(super) takes_focus: bool,
}

/// What is swept, over which λ, on which data, beside which baselines.
pub(super) fn setup_ui(ui: &mut Ui, view: &SetupView<'_>) -> Vec<Action> {
    let mut form = view.sweeps.form.clone();
    let mut actions = Vec::new();
    actions.extend(vector_ui(ui, view, &mut form));
    others_ui(ui, view, &mut form);
    range_ui(ui, &mut form);
    row_ui(ui, "Numbers", |ui| {
        for (dtype, tip) in [
            (Dtype::F32, "As the paper's formula has them; twice the memory of bf16"),
            (Dtype::Bf16, "Half the memory; preferences may differ where they are close"),
        ] {
            let response = ui.selectable_label(form.dtype == dtype, dtype.to_string());
            if response.on_hover_text(tip).clicked() {
                form.dtype = dtype;
            }
        }
    });
    actions.extend(data_ui(ui, view, &mut form));
    baselines_ui(ui, view, &mut form);
    if form != view.sweeps.form {
        // What is typed comes before what is done with it.
        actions.insert(0, Action::Sweep(SweepAction::SetForm(Box::new(form))));
    }
    actions
}

fn row_ui<R>(ui: &mut Ui, name: &str, add: impl FnOnce(&mut Ui) -> R) -> R {
    group_ui(ui, name, |ui| {
        name_ui(ui, name);
        add(ui)
    })
}

fn name_ui(ui: &mut Ui, name: &str) -> Response {
    let size = vec2(NAME_WIDTH, ui.spacing().interact_size.y);
    let layout = Layout::left_to_right(Align::Center);
    let label = |ui: &mut Ui| {
        ui.set_min_width(NAME_WIDTH);
        weak(ui, name)
    };
    ui.allocate_ui_with_layout(size, layout, label).inner
}

fn vector_ui(ui: &mut Ui, view: &SetupView<'_>, form: &mut SweepForm) -> Vec<Action> {
    let mut actions = Vec::new();
    row_ui(ui, "Vector", |ui| {
        let chosen = view.knob.map(|knob| view.weights.name_among(knob));
        let list = ComboBox::from_id_salt(Id::unique("swept vector"))
            .selected_text(chosen.unwrap_or_else(|| "none".to_owned()))
            .show_ui(ui, |ui| {
                for knob in &view.weights.knobs {
                    let is_chosen = view.knob.is_some_and(|it| it.id == knob.id);
                    let name = view.weights.name_among(knob);
                    if ui.selectable_label(is_chosen, name).clicked() {
                        form.knob = Some(knob.id);
                    }
                }
            });
        let response = list.response;
        response.widget_info(|| {
            egui::WidgetInfo::labeled(egui::Role::ComboBox, true, "Vector to sweep")
        });
        if view.takes_focus {
            response.request_focus();
            actions.push(Action::FocusTaken);
        }
        match view.weights.held.as_ref() {
            Some(held) => weak(ui, format!("on {}", held.name)),
            None => weak(ui, "no model yet"),
        };
    });
    actions
}

fn others_ui(ui: &mut Ui, view: &SetupView<'_>, form: &mut SweepForm) {
    row_ui(ui, "Other knobs", |ui| {
        for (holds, text, tip) in [
            (false, "left out", "The vector is measured alone: its calibration is told from that"),
            (true, "held", "Each other vector keeps the λ that its knob has when the sweep starts"),
        ] {
            let response = ui.selectable_label(form.holds_others == holds, text);
            if response.on_hover_text(tip).clicked() {
                form.holds_others = holds;
            }
        }
        if form.holds_others {
            let held = held_text(view);
            weak(ui, if held.is_empty() { "all of them are at 0".to_owned() } else { held });
        }
    });
}

fn held_text(view: &SetupView<'_>) -> String {
    let side = view.weights.slot.index();
    let is_held = |knob: &&Knob| {
        view.knob.is_none_or(|swept| swept.id != knob.id)
            && knob.fault.is_none()
            && !knob.bypassed[side]
            && knob.coefficients[side] != 0.0
    };
    let knobs = view.weights.knobs.iter().filter(is_held);
    let text =
        |knob: &Knob| format!("{} {}", knob.name(), super::parts::signed(knob.coefficients[side]));
    knobs.map(text).collect::<Vec<_>>().join(", ")
}

fn range_ui(ui: &mut Ui, form: &mut SweepForm) {
    let said = match form.range() {
        Ok(range) => format!("{} points", range.points().len()),
        Err(said) => said,
    };
    let is_wrong = form.range().is_err();
    row_ui(ui, "λ", |ui| {
        let field = |ui: &mut Ui, before: &str, name: &str, text: &mut String| {
            weak(ui, before);
            let response = ui.add(TextEdit::singleline(text).desired_width(11.0 * GRID));
            response.widget_info(|| {
                egui::WidgetInfo::text_edit(true, text.as_str(), text.as_str(), name)
            });
            ui.ctx().accesskit_node_builder(response.id, |node| node.set_label(name));
        };
        field(ui, "from", "Lowest λ", &mut form.first);
        field(ui, "to", "Highest λ", &mut form.last);
        field(ui, "in steps of", "Step of λ", &mut form.step);
        let tokens = Tokens::of(ui.visuals());
        let color = if is_wrong { tokens.warning } else { tokens.weak };
        ui.label(RichText::new(said).small().color(color));
    });
}

fn data_ui(ui: &mut Ui, view: &SetupView<'_>, form: &mut SweepForm) -> Vec<Action> {
    let mut actions = Vec::new();
    row_ui(ui, "Data", |ui| {
        if !view.demo_data.is_empty() {
            ui.menu_button("Add demo data", |ui| {
                for path in view.demo_data {
                    let is_new = !form.data.contains(path);
                    if ui.add_enabled(is_new, Button::new(file_label(path))).clicked() {
                        actions.push(Action::Sweep(SweepAction::AddData(path.clone())));
                    }
                }
            });
        }
        ui.add_enabled_ui(view.system_dialogs.is_ok(), |ui| {
            let why_not = view.system_dialogs.err().unwrap_or_default();
            let response = ui.button("Browse…").on_disabled_hover_text(why_not);
            if response.clicked() {
                actions.push(Action::Sweep(SweepAction::BrowseData));
            }
        });
        let hint = "or type a path and press Enter";
        let field = TextEdit::singleline(&mut form.path).hint_text(hint);
        let response = ui.add(field.desired_width(52.0 * GRID));
        ui.ctx().accesskit_node_builder(response.id, |node| node.set_label("Path of data"));
        let is_entered = response.lost_focus() && ui.input(|input| input.key_pressed(Key::Enter));
        if is_entered && !form.path.trim().is_empty() {
            actions.push(Action::Sweep(SweepAction::AddTyped));
            response.request_focus();
        }
    });
    for (index, path) in form.data.iter().enumerate() {
        actions.extend(file_ui(ui, view.sweeps, index, path));
    }
    let is_demo = |path: &PathBuf| match view.sweeps.files.get(path) {
        Some(DataFile::Read(report)) => report.is_demo,
        _ => view.demo_data.contains(path),
    };
    if form.data.iter().any(is_demo) {
        indented(ui, |ui| {
            let text = "The demo data is synthetic, and no professional has reviewed it. An \
                        expert tone is no proof of correctness.";
            let color = Tokens::of(ui.visuals()).warning;
            ui.add(Label::new(RichText::new(text).small().color(color)).wrap());
        });
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

fn file_ui(ui: &mut Ui, sweeps: &Sweeps, index: usize, path: &Path) -> Option<Action> {
    let tokens = Tokens::of(ui.visuals());
    let name = file_label(path);
    let row = |ui: &mut Ui| {
        let is_removed =
            icon_button(ui, symbols::ICON_CLOSE, &format!("Leave {name} out")).clicked();
        ui.label(&name).on_hover_text(path.display().to_string());
        match sweeps.files.get(path) {
            Some(DataFile::Read(report)) => read_ui(ui, report),
            Some(DataFile::Bad(err)) => bad_ui(ui, err),
            Some(DataFile::Reading) | None => {
                ui.label(RichText::new("being read…").small().color(tokens.weak));
            }
        }
        is_removed.then_some(Action::Sweep(SweepAction::RemoveData(index)))
    };
    indented(ui, |ui| ui.horizontal(row).inner)
}

pub(super) fn read_ui(ui: &mut Ui, report: &DataReport) {
    let measures: Vec<String> =
        report.measures.iter().map(|it| format!("{} on {} records", it.measure, it.n)).collect();
    weak(ui, measures.join(", "));
    if report.n_problems > 0 {
        let text = format!("{} left out", report.n_problems);
        let color = Tokens::of(ui.visuals()).warning;
        let problems = report.problems.iter().take(12);
        let lines: Vec<String> =
            problems.map(|it| format!("line {}: {}", it.line, it.reason)).collect();
        ui.label(RichText::new(text).small().color(color)).on_hover_text(lines.join("\n"));
    }
}

pub(super) fn bad_ui(ui: &mut Ui, err: &UserError) {
    let color = Tokens::of(ui.visuals()).error;
    one_line(ui, RichText::new(&err.summary).small().color(color)).on_hover_text(err.to_string());
}

fn baselines_ui(ui: &mut Ui, view: &SetupView<'_>, form: &mut SweepForm) {
    row_ui(ui, "Baselines", |ui| {
        let tip = "Each level's instruction instead of a vector, on the model as it was made";
        ui.checkbox(&mut form.prompts, "Prompting").on_hover_text(tip);
        if form.prompts {
            for (turn, text, tip) in [
                (InstructionTurn::System, "system turn", "In place of the template's own"),
                (InstructionTurn::User, "user turn", "In front of the question"),
            ] {
                let response = ui.selectable_label(form.turn == turn, text);
                if response.on_hover_text(tip).clicked() {
                    form.turn = turn;
                }
            }
        }
        weak(ui, "Default is λ = 0.");
    });
    let levels = view.sweeps.levels();
    if !form.prompts || levels.is_empty() {
        return;
    }
    indented(ui, |ui| {
        egui::CollapsingHeader::new("Instructions").show_unindented(ui, |ui| {
            for level in levels {
                let known = form.instructions.iter_mut().find(|(known, _)| known == level);
                let Some((_, text)) = known else { continue };
                level_ui(ui, level);
                let field = TextEdit::multiline(text).desired_rows(2);
                let response = ui.add(field.desired_width(f32::INFINITY));
                let name = format!("Instruction for {level}");
                ui.ctx().accesskit_node_builder(response.id, |node| node.set_label(name));
            }
            weak(ui, "A level whose field is empty gets no baseline.");
        });
    });
}
