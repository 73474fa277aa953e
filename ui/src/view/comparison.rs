use std::collections::BTreeSet;

use egui::{Button, Color32, Grid, Label, RichText, Role, ScrollArea, Ui, WidgetInfo, vec2};
use meav_protocol::{Comparison, ComparisonCell, ComparisonPair, ModuleKind};

use super::design_tokens::{GRID, ROW, Tokens, ink_on};
use super::heat_map::{HeatCell, HeatMap, HeatRow, legend_ui};
use super::parts::{figures, named, signed, title, user_error_ui, weak};
use crate::action::{Action, CompareMeasure, VectorsAction};
use crate::model::{Job, Vectors};

/// How far the scale of a map goes: the least of these that has room for all of its numbers.
const REACHES: [f64; 5] = [0.05, 0.1, 0.2, 0.5, 1.0];

/// Points, the width of a cell of the matrix.
const CELL_WIDTH: f32 = 16.0 * GRID;

/// Points, the width that the names of its rows have in any case.
const LEAST_NAME_WIDTH: f32 = 22.0 * GRID;

/// How vectors get in each other's way: every two as a whole, and two of them part by part.
pub(super) fn comparison_ui(
    ui: &mut Ui,
    vectors: &Vectors,
    job: Option<&Job>,
    is_outdated: bool,
) -> Vec<Action> {
    let mut actions = Vec::new();
    title(ui, "Interference");
    if let Some(err) = &vectors.error {
        actions.extend(user_error_ui(ui, err));
    }
    if job.is_some() {
        weak(ui, "Comparing…");
    }
    let Some(comparison) = &vectors.comparison else {
        if job.is_none() && vectors.error.is_none() {
            let text = "Tick two vectors or more above and press Compare vectors: a map shows \
                        layer by layer where they agree and where they are in each other's way.";
            ui.add(Label::new(text).wrap());
        }
        return actions;
    };
    if is_outdated && job.is_none() {
        weak(ui, "Other vectors are ticked now than were compared: compare again to see them.");
    }
    let map = Map::new(vectors, comparison);
    actions.extend(map.matrix_ui(ui));
    ui.add_space(2.0 * GRID);
    actions.extend(map.choices_ui(ui));
    map.parts_ui(ui);
    ui.add_space(2.0 * GRID);
    actions.extend(export_ui(ui));
    actions
}

fn export_ui(ui: &mut Ui) -> Vec<Action> {
    let mut actions = Vec::new();
    ui.horizontal_wrapped(|ui| {
        for (text, ending) in
            [("Export CSV…", "csv"), ("Export PNG…", "png"), ("Export SVG…", "svg")]
        {
            if ui.button(text).clicked() {
                actions.push(Action::Vectors(VectorsAction::Export(ending)));
            }
        }
        weak(ui, "A name that ends in .json writes every number.");
    });
    actions
}

struct Map<'a> {
    comparison: &'a Comparison,
    measure: CompareMeasure,
    pair: (usize, usize),
    vector: usize,
}

impl<'a> Map<'a> {
    fn new(vectors: &'a Vectors, comparison: &'a Comparison) -> Self {
        let Vectors { measure, pair, vector, .. } = *vectors;
        Self { comparison, measure, pair, vector }
    }

    fn domain(&self, index: usize) -> &'a str {
        self.comparison.vectors.get(index).map_or("?", |vector| vector.domain.as_str())
    }

    fn name(&self, index: usize) -> String {
        self.comparison.name(index)
    }

    /// What is shown of every two vectors: norms are no matter of two.
    fn pairwise(&self) -> CompareMeasure {
        match self.measure {
            CompareMeasure::Norms => CompareMeasure::Cosine,
            measure => measure,
        }
    }

    /// The vectors as a whole: norms on the diagonal, every two beside it.
    fn matrix_ui(&self, ui: &mut Ui) -> Vec<Action> {
        let mut actions = Vec::new();
        let count = self.comparison.vectors.len();
        let pairs = self.comparison.overall.pairs.iter();
        let reach = reach(self.pairwise(), pairs.filter_map(|it| pair_value(self.pairwise(), it)));
        weak(
            ui,
            "Whole vectors: norms, and for every two how they get on. Press one to see it part by part.",
        );
        let is_narrow = !self.has_room(ui);
        let cells = CELL_WIDTH * count as f32;
        let row_width = (ui.available_width() - cells - 8.0 * GRID).max(LEAST_NAME_WIDTH);
        ScrollArea::horizontal().id_salt("matrix").show(ui, |ui| {
            Grid::new("matrix").spacing([1.0, 1.0]).show(ui, |ui| {
                weak(ui, "");
                for column in 0..count {
                    let text = if is_narrow { place(column) } else { self.name(column) };
                    self.heading_ui(ui, column, text, f32::INFINITY);
                }
                ui.end_row();
                for row in 0..count {
                    if is_narrow {
                        let text = format!("{}  {}", place(row), self.name(row));
                        self.heading_ui(ui, row, text, row_width);
                    } else {
                        self.heading_ui(ui, row, self.name(row), f32::INFINITY);
                    }
                    for column in 0..count {
                        actions.extend(self.matrix_cell_ui(ui, row, column, reach));
                    }
                    ui.end_row();
                }
            });
        });
        actions
    }

    /// Whether the matrix fits into the width with every name over its column.
    fn has_room(&self, ui: &Ui) -> bool {
        let font = egui::TextStyle::Small.resolve(ui.style());
        let width = |index: usize| {
            let text = self.name(index);
            let galley = ui.painter().layout_no_wrap(text, font.clone(), Color32::PLACEHOLDER);
            galley.size().x + 2.0 * GRID
        };
        let widths: Vec<f32> = (0..self.comparison.vectors.len()).map(width).collect();
        let columns: f32 = widths.iter().map(|width| width.max(CELL_WIDTH)).sum();
        let rows = widths.into_iter().fold(0.0, f32::max);
        rows + columns <= ui.available_width()
    }

    /// The name of a row or a column, in the colour of its domain.
    fn heading_ui(&self, ui: &mut Ui, index: usize, text: String, width: f32) {
        let color = Tokens::of(ui.visuals()).domain(self.domain(index));
        ui.horizontal(|ui| {
            ui.set_max_width(width);
            let label = Label::new(RichText::new(text).small().color(color));
            let label = if width.is_finite() { label.truncate() } else { label.extend() };
            let response = ui.add(label);
            ui.add_space(GRID);
            // Files in two folders may be called the same.
            if let Some(vector) = self.comparison.vectors.get(index) {
                response.on_hover_text(format!("{}\n{}", vector.domain, vector.file.display()));
            }
        });
    }

    fn matrix_cell_ui(&self, ui: &mut Ui, row: usize, column: usize, reach: f64) -> Option<Action> {
        let tokens = Tokens::of(ui.visuals());
        let overall = &self.comparison.overall;
        let (a, b) = (row.min(column), row.max(column));
        let (text, name, color, is_shown, action) = if a == b {
            let norm = overall.norms.get(a).copied().unwrap_or_default();
            let is_shown = self.measure == CompareMeasure::Norms && self.vector == a;
            let name = format!("{}: norm {}", self.name(a), figures(norm));
            (figures(norm), name, tokens.raised, is_shown, VectorsAction::ShowNorms(a))
        } else {
            let pair = pair_of(overall, (a, b))?;
            let is_shown = self.measure != CompareMeasure::Norms && self.pair == (a, b);
            let (first, second) = (self.name(row), self.name(column));
            let name = format!("{first} and {second}: {}", pair_text(pair));
            let measure = self.pairwise();
            let value = pair_value(measure, pair);
            let color = color(tokens, measure, value, reach);
            (short(measure, value), name, color, is_shown, VectorsAction::ShowPair(a, b))
        };
        let face = RichText::new(text).small().monospace().color(ink_on(color));
        let mut button = Button::new(face).fill(color).corner_radius(0).selected(false);
        if is_shown {
            button = button.stroke(egui::Stroke::new(2.0, tokens.strong));
        }
        let response = ui.add(button.min_size(vec2(CELL_WIDTH, ROW)));
        response.widget_info(|| WidgetInfo::selected(Role::Button, true, is_shown, &name));
        response.on_hover_text(&name).clicked().then_some(Action::Vectors(action))
    }

    /// What of the two vectors the parts show, or whose norms.
    fn choices_ui(&self, ui: &mut Ui) -> Vec<Action> {
        let mut actions = Vec::new();
        ui.horizontal_wrapped(|ui| {
            for (measure, text) in [
                (CompareMeasure::Cosine, "Cosine"),
                (CompareMeasure::SignConflict, "Sign conflict"),
                (CompareMeasure::Norms, "Norms"),
            ] {
                if ui.selectable_label(self.measure == measure, text).clicked() {
                    actions.push(Action::Vectors(VectorsAction::ShowMeasure(measure)));
                }
            }
            if self.has_room(ui) {
                ui.separator();
            } else {
                ui.end_row();
            }
            let tokens = Tokens::of(ui.visuals());
            let domain = |index: usize| {
                let color = tokens.domain(self.domain(index));
                RichText::new(self.name(index)).strong().color(color)
            };
            if self.measure == CompareMeasure::Norms {
                for index in 0..self.comparison.vectors.len() {
                    let is_shown = self.vector == index;
                    let button = Button::selectable(is_shown, domain(index));
                    if named(ui.add(button), &format!("Norms of {}", self.name(index))).clicked() {
                        actions.push(Action::Vectors(VectorsAction::ShowNorms(index)));
                    }
                }
            } else {
                ui.label(domain(self.pair.0));
                ui.label("and");
                ui.label(domain(self.pair.1));
            }
        });
        actions
    }

    /// Layers from the first to the last, module kinds beside each other.
    fn parts_ui(&self, ui: &mut Ui) {
        let tokens = Tokens::of(ui.visuals());
        let cells = &self.comparison.cells;
        let reach = reach(self.measure, cells.iter().filter_map(|cell| self.value(cell)));
        weak(ui, self.explanation());
        match self.measure {
            CompareMeasure::Cosine => {
                let ends = [format!("−{reach} opposed"), "0".to_owned(), format!("+{reach} alike")];
                legend_ui(ui, ends.each_ref().map(String::as_str), |share| {
                    tokens.between(share * 2.0 - 1.0)
                });
            }
            CompareMeasure::SignConflict => {
                let ends = [percent(0.5 - reach / 2.0), percent(0.5), percent(0.5 + reach / 2.0)];
                legend_ui(ui, ends.each_ref().map(String::as_str), |share| {
                    tokens.between(1.0 - share * 2.0)
                });
            }
            CompareMeasure::Norms => {
                let ends = ["0".to_owned(), figures(reach / 2.0), figures(reach)];
                legend_ui(ui, ends.each_ref().map(String::as_str), |share| tokens.between(share));
            }
        }
        ui.add_space(GRID);
        let kinds: BTreeSet<ModuleKind> = cells.iter().filter_map(|cell| cell.module).collect();
        let kinds: Vec<_> = kinds.into_iter().collect();
        let mut layers: Vec<Option<usize>> = Vec::new();
        for cell in cells {
            if !layers.contains(&cell.layer) {
                layers.push(cell.layer);
            }
        }
        let row = |layer: &Option<usize>| HeatRow {
            name: place_text(*layer),
            cells: kinds
                .iter()
                .map(|kind| {
                    let is_it =
                        |it: &&ComparisonCell| (it.layer, it.module) == (*layer, Some(*kind));
                    let cell = cells.iter().find(is_it)?;
                    Some(self.cell(tokens, cell, *kind, reach))
                })
                .collect(),
        };
        HeatMap {
            name: "Layers and kinds of tensors",
            name_width: 16.0 * GRID,
            groups: Vec::new(),
            columns: kinds.iter().map(ModuleKind::to_string).collect(),
            rows: layers.iter().map(row).collect(),
        }
        .ui(ui);
    }

    fn cell(
        &self,
        tokens: &Tokens,
        cell: &ComparisonCell,
        kind: ModuleKind,
        reach: f64,
    ) -> HeatCell {
        let value = self.value(cell);
        let mut tip = format!("{}, {kind}", place_text(cell.layer));
        if self.measure != CompareMeasure::Norms
            && let Some(pair) = pair_of(cell, self.pair)
        {
            tip = format!("{tip}: {}", pair_text(pair));
        }
        let shown = match self.measure {
            CompareMeasure::Norms => vec![self.vector],
            _ => vec![self.pair.0, self.pair.1],
        };
        for index in shown {
            let norm = cell.norms.get(index).copied().unwrap_or_default();
            tip = format!("{tip}\nnorm of {} {}", self.name(index), figures(norm));
        }
        HeatCell {
            text: short(self.measure, value),
            tip,
            color: color(tokens, self.measure, value, reach),
        }
    }

    /// What the map shows of a part.
    fn value(&self, cell: &ComparisonCell) -> Option<f64> {
        match self.measure {
            CompareMeasure::Norms => cell.norms.get(self.vector).copied(),
            _ => pair_value(self.measure, pair_of(cell, self.pair)?),
        }
    }

    fn explanation(&self) -> &'static str {
        match self.measure {
            CompareMeasure::Cosine => {
                "Cosine: +1 where both move the weights the same way, 0 where they have nothing \
                 to do with each other, −1 where one undoes the other."
            }
            CompareMeasure::SignConflict => {
                "Sign conflict: of the elements that both change, the share that they move in \
                 opposite ways; 50 % is what chance would give."
            }
            CompareMeasure::Norms => "Norm: how far the vector moves the weights, at λ = 1.",
        }
    }
}

/// What stands for a vector where there is no room for its name.
fn place(index: usize) -> String {
    (index + 1).to_string()
}

fn pair_of(cell: &ComparisonCell, (a, b): (usize, usize)) -> Option<&ComparisonPair> {
    cell.pairs.iter().find(|pair| (pair.a, pair.b) == (a, b))
}

fn pair_value(measure: CompareMeasure, pair: &ComparisonPair) -> Option<f64> {
    match measure {
        CompareMeasure::Cosine => pair.cosine,
        CompareMeasure::SignConflict => pair.sign_conflict,
        CompareMeasure::Norms => None,
    }
}

/// How far the scale for these values goes from its middle; for norms, its end.
fn reach(measure: CompareMeasure, values: impl Iterator<Item = f64>) -> f64 {
    let distance = |value: f64| match measure {
        CompareMeasure::SignConflict => (value - 0.5).abs() * 2.0,
        CompareMeasure::Cosine | CompareMeasure::Norms => value.abs(),
    };
    let furthest = values.map(distance).fold(0.0, f64::max);
    match measure {
        CompareMeasure::Norms => furthest,
        _ => REACHES.into_iter().find(|reach| furthest <= *reach).unwrap_or(1.0),
    }
}

fn color(tokens: &Tokens, measure: CompareMeasure, value: Option<f64>, reach: f64) -> Color32 {
    let Some(value) = value.filter(|_| reach > 0.0) else { return tokens.even };
    match measure {
        CompareMeasure::SignConflict => tokens.between((0.5 - value) * 2.0 / reach),
        CompareMeasure::Cosine | CompareMeasure::Norms => tokens.between(value / reach),
    }
}

fn short(measure: CompareMeasure, value: Option<f64>) -> String {
    let Some(value) = value else { return "–".to_owned() };
    match measure {
        CompareMeasure::Cosine => signed(value),
        CompareMeasure::SignConflict => percent(value),
        CompareMeasure::Norms => figures(value),
    }
}

/// Exact to four places.
fn pair_text(pair: &ComparisonPair) -> String {
    let cosine = pair.cosine.map_or_else(|| "none".to_owned(), |value| format!("{value:+.4}"));
    let cosine = cosine.replace('-', "−");
    let conflict =
        pair.sign_conflict.map_or_else(|| "none".to_owned(), |it| format!("{:.2} %", it * 100.0));
    format!("cosine {cosine}, sign conflict {conflict}")
}

fn place_text(layer: Option<usize>) -> String {
    layer.map_or_else(|| "outside".to_owned(), |layer| format!("layer {layer}"))
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}
