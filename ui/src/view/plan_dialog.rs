use egui::{Align, Grid, Label, Layout, Rect, RichText, Role, Sense, Ui, WidgetInfo, vec2};
use meav_protocol::{MemoryPlan, Place, PlanChange, PlanPart, WayOut};

use super::design_tokens::{GRID, Tokens};
use super::dialogs::done_ui;
use super::parts::{bytes, named, title, user_error_ui, weak};
use crate::action::{Action, DialogAction};
use crate::model::{PlanDialog, Weights};

/// What the model with its vectors takes of the memory, and what would make it less.
pub(super) fn plan_ui(ui: &mut Ui, dialog: &PlanDialog, weights: &Weights) -> Vec<Action> {
    let mut actions = Vec::new();
    ui.heading("Memory plan");
    ui.label("What the model takes with the knobs as they are, told from the files.");
    ui.add_space(GRID);
    if let Some(err) = &dialog.error {
        actions.extend(user_error_ui(ui, err));
    }
    match &dialog.plan {
        Some(plan) => {
            parts_ui(ui, plan);
            verdict_ui(ui, plan);
            actions.extend(ways_out_ui(ui, plan, weights, dialog.job.is_none()));
        }
        None if dialog.job.is_some() => {
            weak(ui, "Reading the files…");
        }
        None => {}
    }
    actions.extend(done_ui(ui));
    actions
}

/// Name, form, place, size, and a bar that is as long as it is large.
fn parts_ui(ui: &mut Ui, plan: &MemoryPlan) {
    let largest = plan.parts.iter().map(|part| part.bytes).max().unwrap_or(0).max(1);
    egui::ScrollArea::vertical().max_height(70.0 * GRID).show(ui, |ui| {
        Grid::new("memory plan").num_columns(4).spacing([3.0 * GRID, GRID]).show(ui, |ui| {
            for part in &plan.parts {
                part_ui(ui, part, part.bytes as f32 / largest as f32);
                ui.end_row();
            }
        });
    });
}

fn part_ui(ui: &mut Ui, part: &PlanPart, share: f32) {
    let place = match part.place {
        Place::Memory => "in memory",
        Place::MappedFile => "in its file",
        Place::Gpu => "on the GPU",
    };
    ui.vertical(|ui| {
        ui.set_max_width(40.0 * GRID);
        ui.add(Label::new(&part.name).truncate());
        let color = Tokens::of(ui.visuals()).weak;
        ui.add(Label::new(RichText::new(&part.form).small().color(color)).truncate());
    });
    weak(ui, place);
    ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
        ui.label(RichText::new(bytes(part.bytes)).monospace());
    });
    bar_ui(ui, part, share);
}

/// Hollow for what needs no memory of its own.
fn bar_ui(ui: &mut Ui, part: &PlanPart, share: f32) {
    let tokens = Tokens::of(ui.visuals());
    let size = vec2(ui.available_width().max(20.0 * GRID), 2.0 * GRID);
    let (rect, response) = ui.allocate_exact_size(size, Sense::hover());
    let label = format!("{}: {}", part.name, bytes(part.bytes));
    response.widget_info(|| WidgetInfo::labeled(Role::Image, true, &label));
    let bar = Rect::from_min_size(rect.min, vec2((rect.width() * share).max(1.0), size.y));
    match part.place {
        Place::Memory | Place::Gpu => ui.painter().rect_filled(bar, 0.0, tokens.accent),
        Place::MappedFile => {
            let stroke = egui::Stroke::new(1.0, tokens.track);
            ui.painter().rect_stroke(bar, 0.0, stroke, egui::StrokeKind::Inside)
        }
    };
}

fn verdict_ui(ui: &mut Ui, plan: &MemoryPlan) {
    let tokens = Tokens::of(ui.visuals());
    ui.add_space(GRID);
    let needed = bytes(plan.needed_bytes);
    let (text, color) = match plan.available_bytes {
        Some(free) if plan.fits() => {
            (format!("It needs {needed} of memory; {} are free: it fits", bytes(free)), tokens.good)
        }
        Some(free) => {
            let text = format!("It needs {needed} of memory; only {} are free", bytes(free));
            (text, tokens.error)
        }
        None => {
            (format!("It needs {needed} of memory; how much is free is not known"), tokens.text)
        }
    };
    ui.label(RichText::new(text).color(color));
}

fn ways_out_ui(ui: &mut Ui, plan: &MemoryPlan, weights: &Weights, is_settled: bool) -> Vec<Action> {
    let mut actions = Vec::new();
    if plan.ways_out.is_empty() {
        if !plan.fits() {
            ui.label("Close other programs, or take a smaller model.");
        }
        return actions;
    }
    ui.add_space(GRID);
    title(ui, if plan.fits() { "What would make it smaller" } else { "What would help" });
    for way in &plan.ways_out {
        ui.horizontal_top(|ui| {
            let has_gone = match &way.change {
                PlanChange::CompressVector { file } => weights.find(file).is_none(),
                PlanChange::Dtype(_) | PlanChange::ConvertModel => false,
            };
            ui.add_enabled_ui(is_settled && !has_gone, |ui| {
                let (face, name) = texts(&way.change);
                let button = ui.button(face);
                let button = if has_gone {
                    button.on_disabled_hover_text("The vector is no longer on a knob")
                } else {
                    button
                };
                if named(button, &name).clicked() {
                    let change = way.change.clone();
                    actions.push(Action::Dialog(DialogAction::TakeWayOut(change)));
                }
            });
            ui.vertical(|ui| {
                ui.add(Label::new(&way.text).wrap());
                weak(ui, saving(way, plan.fits()));
            });
        });
    }
    actions
}

fn saving(way: &WayOut, fits_already: bool) -> String {
    let fits = match (fits_already, way.fits) {
        (true, _) => "",
        (false, true) => ", then it fits",
        (false, false) => ", which is not enough alone",
    };
    format!("saves {}{fits}", bytes(way.saves_bytes))
}

/// What stands on the button, and its name.
fn texts(change: &PlanChange) -> (String, String) {
    match change {
        PlanChange::Dtype(dtype) => (format!("Use {dtype}"), format!("Use {dtype}")),
        PlanChange::CompressVector { file } => {
            ("Compress…".to_owned(), format!("Compress {}", crate::model::file_name(file)))
        }
        PlanChange::ConvertModel => ("Convert…".to_owned(), "Convert the model".to_owned()),
    }
}
