//! Earlier sweeps, and how far vectors move levels across domains.

use egui::{Button, Grid, Label, RichText, Role, ScrollArea, Ui, WidgetInfo};
use meav_protocol::{CrossDomain, Movement, RunState, SweepSummary};

use super::design_tokens::{GRID, Tokens};
use super::heat_map::{HeatCell, HeatMap, HeatRow, legend_ui};
use super::parts::{moment, more_menu, title, weak};
use super::sweep_panel::EXPORTS;
use crate::action::{Action, SweepAction};
use crate::model::Sweeps;

/// How far the scale of the matrix goes: the least of these that has room for all of its numbers.
const REACHES: [f64; 5] = [0.1, 0.2, 0.5, 1.0, 2.0];

/// The sweeps that were kept, newest first: to open, to lay over each other, to go on with.
pub(super) fn runs_ui(ui: &mut Ui, sweeps: &Sweeps) -> Vec<Action> {
    let mut actions = Vec::new();
    title(ui, "Earlier sweeps");
    match &sweeps.list {
        None => {
            weak(ui, "Being read…");
        }
        Some(list) if list.is_empty() => {
            weak(ui, "Every sweep is kept here, point by point, on this machine only.");
        }
        Some(list) => {
            ScrollArea::horizontal().id_salt("sweeps").show(ui, |ui| {
                let grid = Grid::new("sweeps").min_col_width(0.0);
                grid.spacing([4.0 * GRID, 0.0]).show(ui, |ui| {
                    for heading in ["", "vector", "", "points", "λ", "data", "began", "model"] {
                        weak(ui, heading);
                    }
                    ui.end_row();
                    for summary in list {
                        actions.extend(run_ui(ui, sweeps, summary));
                        ui.end_row();
                    }
                });
            });
        }
    }
    actions
}

fn run_ui(ui: &mut Ui, sweeps: &Sweeps, summary: &SweepSummary) -> Vec<Action> {
    let mut actions = Vec::new();
    let mut act = |action| actions.push(Action::Sweep(action));
    let SweepSummary { run, domain, .. } = summary;
    let tokens = Tokens::of(ui.visuals());
    let name = format!("{domain}, {}", moment(&summary.started));
    let is_shown = sweeps.shown == Some(*run);
    let mut is_compared = is_shown || sweeps.compared.contains(run);
    let tick = ui.add_enabled(!is_shown, egui::Checkbox::without_text(&mut is_compared));
    let label = format!("Lay over: {name}");
    tick.widget_info(|| WidgetInfo::selected(Role::CheckBox, !is_shown, is_compared, &label));
    if tick.changed() {
        act(SweepAction::Compare(*run, is_compared));
    }
    tick.on_hover_text("Lay over the sweep that is shown");
    let face = RichText::new(domain).small().strong().color(tokens.domain(domain));
    let open = ui.add(Button::selectable(is_shown, face));
    let label = format!("Open sweep: {name}");
    open.widget_info(|| WidgetInfo::selected(Role::Button, true, is_shown, &label));
    if open.clicked() {
        act(SweepAction::Open(*run));
    }
    let is_open = sweeps.is_open(*run, summary.state);
    more_menu(ui, &name, |ui| {
        let can_go_on = is_open && sweeps.running.is_none();
        if ui.add_enabled(can_go_on, Button::new("Resume")).clicked() {
            act(SweepAction::Resume(*run));
            ui.close();
        }
        if ui.add_enabled(!sweeps.is_running(*run), Button::new("Delete…")).clicked() {
            act(SweepAction::AskDelete(*run));
            ui.close();
        }
    });
    let points = sweeps.runs.get(run).map_or(summary.points, |run| run.sweep.points.len());
    let state = match summary.state {
        _ if sweeps.is_running(*run) => " running",
        RunState::Finished => "",
        RunState::Running => " cut off",
        RunState::Stopped => " stopped",
    };
    let small = |text: String| RichText::new(text).small();
    ui.label(small(format!("{points}{state}")));
    let range = format!("{} … {}", summary.range.first, summary.range.last).replace('-', "−");
    ui.label(small(range));
    data_ui(ui, &summary.data);
    ui.label(small(moment(&summary.started)));
    ui.label(small(summary.model.clone()));
    actions
}

/// The first name, and how many more there are.
fn data_ui(ui: &mut Ui, data: &[String]) {
    let text = match data {
        [] => "–".to_owned(),
        [one] => one.clone(),
        [first, others @ ..] => format!("{first} + {}", others.len()),
    };
    ui.label(RichText::new(text).small()).on_hover_text(data.join("\n"));
}

/// How far one unit of each vector moves each level of each data set.
pub(super) fn matrix_ui(ui: &mut Ui, sweeps: &Sweeps) -> Vec<Action> {
    let mut actions = Vec::new();
    title(ui, "Cross-domain matrix");
    let chosen = sweeps.chosen();
    let is_read = sweeps.chosen_runs().len() == chosen.len();
    ui.horizontal_wrapped(|ui| {
        let can = chosen.len() > 1 && is_read && sweeps.comparing.is_none();
        let why_not = if chosen.len() < 2 {
            "Open a sweep and tick another one first"
        } else {
            "The sweeps are being read"
        };
        let button = ui.add_enabled(can, Button::new("Make the matrix"));
        if button.on_disabled_hover_text(why_not).clicked() {
            actions.push(Action::Sweep(SweepAction::Matrix));
        }
        if sweeps.matrix.is_some() {
            ui.menu_button("Export matrix…", |ui| {
                for (text, ending) in EXPORTS {
                    if ui.button(text).clicked() {
                        actions.push(Action::Sweep(SweepAction::ExportMatrix(ending)));
                    }
                }
            });
        }
        if chosen.len() < 2 && sweeps.matrix.is_none() {
            weak(
                ui,
                "Takes two sweeps: open one and tick others, of several vectors on several data.",
            );
        }
    });
    if sweeps.comparing.is_some() {
        weak(ui, "Comparing…");
    }
    let Some((of, matrix)) = &sweeps.matrix else { return actions };
    if *of != chosen {
        weak(ui, "Other sweeps are ticked now than this was made of.");
    }
    map_ui(ui, matrix);
    actions
}

fn map_ui(ui: &mut Ui, matrix: &CrossDomain) {
    let tokens = Tokens::of(ui.visuals());
    let cells = || matrix.cells.iter().flatten().flatten();
    let largest = cells().map(|cell| cell.per_unit.abs()).fold(0.0, f64::max);
    let reach = REACHES.into_iter().find(|reach| largest <= *reach).unwrap_or(largest);
    let text = "Measured: how far one unit of λ moves the preference accuracy at each level, in \
                percentage points, between λ = −1 and 1. In brackets where the 95 % interval has 0 in it.";
    ui.add(Label::new(RichText::new(text).small().color(tokens.weak)).wrap());
    let end = |sign: &str| format!("{sign}{:.0}", reach * 100.0);
    let ends = [end("−"), "0".to_owned(), end("+")];
    legend_ui(ui, ends.each_ref().map(String::as_str), |share| tokens.between(share * 2.0 - 1.0));
    ui.add_space(GRID);
    let longest = matrix.vectors.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let name_width = (longest as f32 * 1.75 * GRID).clamp(16.0 * GRID, 40.0 * GRID);
    let row = |(vector, cells): (&String, &Vec<Option<Movement>>)| HeatRow {
        name: vector.clone(),
        cells: cells
            .iter()
            .zip(&matrix.columns)
            .map(|(cell, column)| {
                let cell = (*cell)?;
                let tip = format!(
                    "{vector} on {}, {}, {}: {}\n95 % interval {} to {}",
                    column.data,
                    column.measure,
                    column.level,
                    points(cell.per_unit),
                    points(cell.interval[0]),
                    points(cell.interval[1])
                );
                let color = tokens.between(cell.per_unit / reach.max(f64::MIN_POSITIVE));
                Some(HeatCell { text: cell_text(cell), tip, color })
            })
            .collect(),
    };
    ScrollArea::horizontal().id_salt("matrix").show(ui, |ui| {
        HeatMap {
            name: "Vectors and levels of data sets",
            name_width,
            groups: groups(matrix),
            columns: matrix.columns.iter().map(|column| column.level.clone()).collect(),
            rows: matrix.vectors.iter().zip(&matrix.cells).map(row).collect(),
        }
        .ui(ui);
    });
}

/// `+12.3 points per unit`.
fn points(value: f64) -> String {
    format!("{} points per unit", short(value))
}

/// In brackets where the interval has 0 in it.
fn cell_text(cell: Movement) -> String {
    let [low, high] = cell.interval;
    let text = short(cell.per_unit);
    if low <= 0.0 && high >= 0.0 { format!("({text})") } else { text }
}

fn short(value: f64) -> String {
    let magnitude = format!("{:.1}", (value * 100.0).abs());
    match value {
        _ if magnitude == "0.0" => magnitude,
        value if value < 0.0 => format!("−{magnitude}"),
        _ => format!("+{magnitude}"),
    }
}

/// Data sets, and how many columns each has.
fn groups(matrix: &CrossDomain) -> Vec<(String, usize)> {
    let mut groups: Vec<(String, usize)> = Vec::new();
    let mut last = None;
    for column in &matrix.columns {
        let it = (&column.data, column.measure);
        if let Some((_, count)) = groups.last_mut().filter(|_| last == Some(it)) {
            *count += 1;
            continue;
        }
        let stem = column.data.split('.').next().unwrap_or(&column.data);
        let measure = column.measure.to_string();
        let name = if stem == measure { measure } else { format!("{stem} {measure}") };
        groups.push((name, 1));
        last = Some(it);
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_may_be_nothing_stand_in_brackets() {
        let cell = |per_unit, interval| cell_text(Movement { per_unit, interval });
        assert_eq!(cell(0.123, [0.05, 0.2]), "+12.3");
        assert_eq!(cell(-0.02, [-0.1, 0.06]), "(−2.0)");
        assert_eq!(cell(0.0, [0.0, 0.0]), "(0.0)");
    }
}
