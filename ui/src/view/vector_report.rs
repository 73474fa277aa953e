use egui::{Frame, Grid, Label, RichText, Role, Stroke, Ui, WidgetInfo};
use egui_plot::{Bar, BarChart, Plot};
use meav_protocol::{CompressReport, LogProbShift, SeparateReport};

use super::design_tokens::{GRID, ROW, Tokens};
use super::parts::{bytes, figures, icon_button, primary_button, signed, title, weak};
use crate::action::{Action, VectorsAction};
use crate::form::Form;
use crate::model::{Made, Weights};

/// The vector that was made last: what it is, what it cost, and what can be done with it.
pub(super) fn vector_report_ui(ui: &mut Ui, made: &Made, weights: &Weights) -> Vec<Action> {
    let tokens = Tokens::of(ui.visuals());
    let mut actions = Vec::new();
    let frame = Frame::new()
        .stroke(Stroke::new(1.0, tokens.line))
        .corner_radius(4)
        .inner_margin(3.0 * GRID);
    frame.show(ui, |ui| {
        ui.set_width(ui.available_width());
        ui.with_layout(egui::Layout::right_to_left(egui::Align::Min), |ui| {
            if icon_button(ui, egui_material_icons::icons::ICON_CLOSE, "Close the report").clicked()
            {
                actions.push(Action::Vectors(VectorsAction::DismissMade));
            }
            ui.with_layout(egui::Layout::top_down(egui::Align::Min), |ui| {
                let word = match made.form {
                    Form::Extract(_) => "Extracted",
                    Form::Import(_) => "Imported",
                    Form::Compress(_) => "Compressed",
                    Form::Separate(_) => "Separated",
                };
                title(ui, &format!("{word}: {}", made.name));
                ui.add(Label::new(RichText::new(made.file.display().to_string()).small()).wrap());
                if !made.summary.is_empty() {
                    weak(ui, &made.summary);
                }
            });
        });
        ui.add_space(GRID);
        if let Some(report) = &made.compressed {
            compressed_ui(ui, report);
        }
        if let Some(report) = &made.separated {
            separated_ui(ui, &made.name, report);
        }
        ui.add_space(2.0 * GRID);
        actions.extend(uses_ui(ui, made, weights));
    });
    actions
}

fn uses_ui(ui: &mut Ui, made: &Made, weights: &Weights) -> Vec<Action> {
    let mut actions = Vec::new();
    let is_on_knob = |file: &std::path::Path| weights.knobs.iter().any(|knob| knob.file == file);
    ui.horizontal_wrapped(|ui| {
        let mut act = |action| actions.push(Action::Vectors(action));
        if is_on_knob(&made.file) {
            weak(ui, "It is on a knob.");
        } else {
            if primary_button(ui, "Add to knobs").clicked() {
                act(VectorsAction::AddMade);
            }
            if let Some(knob) = made.form.knob().and_then(|id| weights.knob(id)) {
                let text = format!("Replace the vector of {}", knob.name());
                if ui.button(text).clicked() {
                    act(VectorsAction::ReplaceByMade);
                }
            }
        }
        if made.shared.as_ref().is_some_and(|shared| !is_on_knob(shared))
            && ui.button("Add the shared part to knobs").clicked()
        {
            act(VectorsAction::AddShared);
        }
    });
    actions
}

fn compressed_ui(ui: &mut Ui, report: &CompressReport) {
    let ratio = report.bytes_before as f64 / report.bytes_after.max(1) as f64;
    ui.label(format!(
        "{} became {} ({} times smaller)",
        bytes(report.bytes_before),
        bytes(report.bytes_after),
        figures(ratio),
    ));
    ui.label(format!(
        "Relative error of the weights: {} %",
        figures(report.relative_error * 100.0)
    ));
    if let Some((tensor, error)) = &report.worst_tensor {
        let text = format!("Worst tensor: {tensor}, {} %", figures(error * 100.0));
        ui.add(Label::new(RichText::new(text).small()).wrap());
    }
    if report.shifts.is_empty() {
        weak(ui, "What it does to answers was not measured: no data was given.");
        return;
    }
    ui.add_space(GRID);
    ui.add(Label::new(growth_text(&report.shifts)).wrap());
    shifts_ui(ui, &report.shifts);
    weak(
        ui,
        format!("Mean log-probabilities in nats per token, over {} responses.", report.responses),
    );
}

/// Whether the error grows with |λ|, by the numbers.
fn growth_text(shifts: &[LogProbShift]) -> String {
    let sizes = || shifts.iter().map(|shift| shift.coefficient.abs()).filter(|size| *size > 0.0);
    let ends = (sizes().min_by(f64::total_cmp), sizes().max_by(f64::total_cmp));
    let (Some(near), Some(far)) = ends else { return String::new() };
    // Over λ and −λ, where both were measured.
    let mean = |size: f64| {
        let is_it = |shift: &&LogProbShift| shift.coefficient.abs().total_cmp(&size).is_eq();
        let changes = || shifts.iter().filter(is_it).map(|shift| shift.mean_absolute_change);
        changes().sum::<f64>() / changes().count() as f64
    };
    let (small, large) = (mean(near), mean(far));
    let numbers = format!(
        "{} nats per token at |λ| = {near}, {} at |λ| = {far}",
        figures(small),
        figures(large)
    );
    if near < far && large > small {
        format!("Compression error grows with |λ|: on average {numbers}.")
    } else {
        format!("Compression error does not grow with |λ| here: on average {numbers}.")
    }
}

fn shifts_ui(ui: &mut Ui, shifts: &[LogProbShift]) {
    let table = Grid::new("shifts").num_columns(5).striped(true).spacing([5.0 * GRID, GRID / 2.0]);
    table.show(ui, |ui| {
        for (name, tip) in [
            ("λ", "The coefficient at which it was measured"),
            ("mean change", "By how much responses became likelier, on average"),
            ("mean |change|", "By how much they changed either way, on average"),
            ("largest", "By how much the one that changed most did"),
            ("effect of the vector", "What the vector itself changes, to compare with"),
        ] {
            weak(ui, name).on_hover_text(tip);
        }
        ui.end_row();
        for shift in shifts {
            let number = |ui: &mut Ui, text: String| {
                ui.label(RichText::new(text).small().monospace());
            };
            number(ui, signed(shift.coefficient));
            number(ui, four_places(shift.mean_change));
            number(ui, format!("{:.4}", shift.mean_absolute_change));
            number(ui, format!("{:.4}", shift.largest_change));
            number(ui, format!("{:.4}", shift.mean_effect));
            ui.end_row();
        }
    });
}

fn four_places(value: f64) -> String {
    format!("{value:+.4}").replace('-', "−")
}

fn separated_ui(ui: &mut Ui, name: &str, report: &SeparateReport) {
    ui.label(format!(
        "{:.1} % of its squared norm lies in directions of the others; the rest is its own.",
        report.shared * 100.0
    ));
    let layers: Vec<(usize, f64)> =
        report.layers.iter().filter_map(|(layer, share)| Some(((*layer)?, *share))).collect();
    if let Some((_, share)) = report.layers.iter().find(|(layer, _)| layer.is_none()) {
        weak(ui, format!("Outside the layers: {:.1} %", share * 100.0));
    }
    if layers.is_empty() {
        return;
    }
    let tokens = Tokens::of(ui.visuals());
    let color = tokens.domain(name);
    let bar = |layer: usize, share: f64| Bar::new(layer as f64, share * 100.0).fill(color);
    let bars = layers.iter().map(|(layer, share)| bar(*layer, *share).width(0.8)).collect();
    let chart = BarChart::new("shared", bars).color(color);
    let plot = Plot::new("shared shares")
        .height(6.0 * ROW)
        .include_y(0.0)
        .x_axis_label("layer")
        .y_axis_label("shared, %")
        .show_grid([false, true])
        .allow_drag(false)
        .allow_zoom(false)
        .allow_scroll(false)
        .allow_boxed_zoom(false)
        .allow_axis_zoom_drag(false);
    let response = plot.show(ui, |plot| plot.bar_chart(chart)).response;
    let words: Vec<_> = layers
        .iter()
        .map(|(layer, share)| format!("layer {layer} {:.1} %", share * 100.0))
        .collect();
    let text = format!("Shared per layer: {}", words.join(", "));
    response.widget_info(|| WidgetInfo::labeled(Role::Image, true, &text));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shifts(changes: &[(f64, f64)]) -> Vec<LogProbShift> {
        let shift = |(coefficient, change): &(f64, f64)| LogProbShift {
            coefficient: *coefficient,
            mean_change: 0.0,
            mean_absolute_change: *change,
            largest_change: *change,
            mean_effect: 1.0,
        };
        changes.iter().map(shift).collect()
    }

    #[test]
    fn growth_is_told_only_where_the_numbers_show_it() {
        let grows = growth_text(&shifts(&[(-1.5, 0.02), (0.5, 0.01), (1.5, 0.04), (0.0, 0.0)]));
        assert!(grows.contains("grows with |λ|: on average 0.0100"), "{grows}");
        assert!(grows.contains("0.0300 at |λ| = 1.5"), "{grows}");
        let shrinks = growth_text(&shifts(&[(0.5, 0.03), (1.5, 0.01)]));
        assert!(shrinks.contains("does not grow"), "{shrinks}");
        assert!(growth_text(&shifts(&[(1.0, 0.03)])).contains("does not grow"));
        assert_eq!(growth_text(&shifts(&[(0.0, 0.0)])), "");
    }
}
