//! How preference accuracies move with λ: a panel for each data set and measure.

use std::ops::RangeInclusive;

use egui::containers::Tooltip;
use egui::{
    Align2, Color32, EventFilter, Grid, Id, Key, PopupAnchor, Response, RichText, Role, Sense,
    Stroke, TextStyle, Ui, WidgetInfo, vec2,
};
use egui_plot::{
    AxisHints, FilledArea, HLine, Line, LineStyle, MarkerShape, PlotPoint, PlotPoints, PlotUi,
    Points, Text, VLine, uniform_grid_spacer,
};
use meav_protocol::{DatasetScores, LambdaRange, SweepPoint, SweptData};

use super::curve_parts::{
    Drawn, MOST_MARKED, curve_plot, dashes, number, points, round_steps, visible,
};
use super::design_tokens::{GRID, Tokens, ink_on, level_place};
use super::parts::{one_line, signed, weak};
use crate::action::{Action, SweepAction};
use crate::model::{Curves, Run, Sweeps};

/// Points, the height of a plot.
const HEIGHT: f32 = 58.0 * GRID;

/// Points, the least width of a plot that stands beside another.
const LEAST_WIDTH: f32 = 92.0 * GRID;

/// How opaque a band of intervals is.
const BAND: f32 = 0.18;

/// A mark for each place of a level, so that colour is not all that tells them apart.
const MARKS: [MarkerShape; 9] = [
    MarkerShape::Up,
    MarkerShape::Square,
    MarkerShape::Down,
    MarkerShape::Circle,
    MarkerShape::Cross,
    MarkerShape::Diamond,
    MarkerShape::Plus,
    MarkerShape::Left,
    MarkerShape::Right,
];

fn mark(level: &str) -> MarkerShape {
    MARKS[level_place(level)]
}

/// The sweep that is shown, and those that are laid over it.
pub(super) struct PlotsView<'a> {
    run: &'a Run,
    others: Vec<&'a Run>,
    is_stacked: bool,
    picked: Option<f64>,
}

impl<'a> PlotsView<'a> {
    pub(super) fn new(sweeps: &'a Sweeps) -> Option<Self> {
        let run = sweeps.shown_run()?;
        let others = sweeps.chosen_runs().into_iter().skip(1).collect();
        Some(Self { run, others, is_stacked: sweeps.is_stacked, picked: sweeps.picked })
    }
}

/// A panel for each data set, side by side where there is room; λ is the same in all of them.
pub(super) fn plots_ui(ui: &mut Ui, view: &PlotsView<'_>) -> Vec<Action> {
    let mut actions = Vec::new();
    let run = view.run.sweep.spec.run;
    // A λ under the pointer in one panel is marked in all of them, a frame later.
    let key = Id::unique("sweep hover");
    let hovered = ui.data(|data| data.get_temp::<Option<f64>>(key)).flatten();
    let mut next = None;
    let gap = 4.0 * GRID;
    let n_columns = (((ui.available_width() + gap) / (LEAST_WIDTH + gap)) as usize).clamp(1, 3);
    let n_columns = n_columns.min(view.run.curves.len().max(1));
    let width = (ui.available_width() - gap * (n_columns - 1) as f32) / n_columns as f32;
    let indices: Vec<usize> = (0..view.run.curves.len()).collect();
    for row in indices.chunks(n_columns) {
        ui.horizontal_top(|ui| {
            ui.spacing_mut().item_spacing.x = gap;
            for index in row {
                let layout = egui::Layout::top_down(egui::Align::Min);
                ui.allocate_ui_with_layout(vec2(width, 0.0), layout, |ui| {
                    ui.set_width(width);
                    ui.push_id((run, index), |ui| {
                        let panel = PanelView { view, index: *index, hovered };
                        let (found, acted) = panel.ui(ui);
                        next = next.or(found);
                        actions.extend(acted);
                    });
                });
            }
        });
        ui.add_space(2.0 * GRID);
    }
    if next != hovered {
        ui.ctx().request_repaint();
    }
    ui.data_mut(|data| data.insert_temp(key, next));
    actions
}

/// One data set.
struct PanelView<'a> {
    view: &'a PlotsView<'a>,
    index: usize,
    hovered: Option<f64>,
}

impl<'a> PanelView<'a> {
    fn data(&self) -> &'a SweptData {
        &self.view.run.sweep.datasets[self.index]
    }

    fn curves(&self) -> &'a Curves {
        &self.view.run.curves[self.index]
    }

    fn scores(&self, point: &'a SweepPoint) -> Option<&'a DatasetScores> {
        point.datasets.get(self.index)
    }

    /// Gives back the measured λ under the pointer, and what the user did.
    fn ui(&self, ui: &mut Ui) -> (Option<f64>, Vec<Action>) {
        self.title_ui(ui);
        let tokens = Tokens::of(ui.visuals());
        let run = self.view.run.sweep.spec.run;
        let range = &self.view.run.sweep.spec.range;
        let font = TextStyle::Small.resolve(ui.style());
        let weak_text = |text: String| RichText::new(text).small().color(tokens.weak);
        let x_axis = AxisHints::new_x()
            .label(weak_text(format!("λ of {}", self.view.run.sweep.vector.domain)))
            .formatter(|mark, _| signed_tick(mark.value))
            .tick_label_color(tokens.weak)
            .tick_label_font(font.clone());
        let y_axis = AxisHints::new_y()
            .label(weak_text("preference accuracy".to_owned()))
            .formatter(|mark, _| share_tick(mark.value))
            .tick_label_color(tokens.weak)
            .tick_label_font(font)
            .min_thickness(7.0 * GRID);
        let axis = Id::unique(("sweep axis", run));
        let plot = curve_plot("curves", axis, tokens)
            .height(HEIGHT)
            .custom_x_axes(vec![x_axis])
            .custom_y_axes(vec![y_axis])
            .include_x(range.first)
            .include_x(range.last)
            .include_y(0.0)
            .include_y(1.0)
            .set_margin_fraction(vec2(0.02, 0.03))
            .x_grid_spacer(uniform_grid_spacer(|input| lambda_steps(input.bounds)))
            .y_grid_spacer(uniform_grid_spacer(|_| [0.25, 0.5, 1.0]));
        let shown = plot.show(ui, |plot| self.draw(plot, tokens));
        let response = shown.response;
        let at = |x: f32| shown.transform.value_from_position(egui::pos2(x, 0.0)).x;
        let under = response.hover_pos().and_then(|pos| self.view.run.nearest(at(pos.x)));
        self.describe(&response);
        let mut actions = self.stepped_by(ui, &response);
        if let Some(point) = under {
            self.tooltip(ui, &response, point);
        }
        if let Some(point) = under.filter(|_| response.clicked()) {
            response.request_focus();
            actions.push(Action::Sweep(SweepAction::Pick(point.lambda)));
        }
        if response.has_focus() {
            let stroke = Stroke::new(2.0, tokens.accent);
            let rect = response.rect.shrink(1.0);
            ui.painter().rect_stroke(rect, 0.0, stroke, egui::StrokeKind::Inside);
        }
        (under.map(|point| point.lambda), actions)
    }

    /// The file, what is measured on it, on how many records, and how many were left out.
    fn title_ui(&self, ui: &mut Ui) {
        let tokens = Tokens::of(ui.visuals());
        let data = self.data();
        ui.horizontal(|ui| {
            ui.spacing_mut().item_spacing.x = 2.0 * GRID;
            let skipped = self.view.run.sweep.points.first().and_then(|it| self.scores(it));
            let skipped = skipped.map_or(&[][..], |scores| &scores.skipped);
            let text = RichText::new(&data.name).strong().color(tokens.strong);
            one_line(ui, text).on_hover_text(data.file.display().to_string());
            weak(ui, format!("{} · n = {}", data.measure, data.n));
            if !skipped.is_empty() {
                let text = format!("{} skipped", skipped.len());
                let label = ui.label(RichText::new(text).small().color(tokens.warning));
                let reason =
                    |it: &meav_protocol::DataProblem| format!("line {}: {}", it.line, it.reason);
                let reasons: Vec<String> = skipped.iter().take(12).map(reason).collect();
                let more = skipped.len().saturating_sub(12);
                let more = if more > 0 { format!("\nand {more} more") } else { String::new() };
                label.on_hover_text(format!("{}{more}", reasons.join("\n")));
            }
        });
    }

    fn draw(&self, plot: &mut PlotUi<'a>, tokens: &Tokens) {
        let visible = visible(plot.plot_bounds());
        let drawn = Drawn::of(&self.curves().lambdas, &visible);
        if self.view.is_stacked {
            self.draw_stack(plot, tokens, &drawn);
        } else {
            self.draw_bands(plot, tokens, &drawn);
            self.draw_others(plot, tokens, &visible);
            self.draw_lines(plot, tokens, &drawn);
            self.draw_baselines(plot, tokens);
        }
        let mut line = |lambda: f64, color: Color32, width: f32| {
            plot.vline(VLine::new("", lambda).stroke(Stroke::new(width, color)).allow_hover(false));
        };
        if let Some(lambda) = self.hovered {
            line(lambda, tokens.weak, 1.0);
        }
        if let Some(lambda) = self.view.picked {
            line(lambda, tokens.accent, 1.5);
        }
    }

    /// Levels upon each other, the first one at the bottom.
    fn draw_stack(&self, plot: &mut PlotUi<'a>, tokens: &Tokens, drawn: &Drawn) {
        let mut below = vec![0.0; drawn.places.len()];
        for (name, level) in self.data().levels.iter().zip(&self.curves().levels) {
            let shares = drawn.pick(&level.shares);
            let above: Vec<f64> = below.iter().zip(&shares).map(|(low, it)| low + it).collect();
            let area = FilledArea::new("", &drawn.xs, &below, &above);
            plot.add(area.fill_color(tokens.level_ground(name)).allow_hover(false));
            let edge: PlotPoints<'_> = points(&drawn.xs, &above);
            plot.line(Line::new("", edge).color(tokens.level(name)).width(1.5).allow_hover(false));
            if let Some(place) = widest(&shares) {
                let at = PlotPoint::new(drawn.xs[place], f64::midpoint(below[place], above[place]));
                let text = Text::new("", at, RichText::new(format!(" {name} ")).small());
                // At either end of the curve there is room on one side only.
                let anchor = match place as f32 / shares.len() as f32 {
                    share if share < 0.15 => Align2::LEFT_CENTER,
                    share if share > 0.8 => Align2::RIGHT_CENTER,
                    _ => Align2::CENTER_CENTER,
                };
                let ink = ink_on(tokens.level_ground(name));
                plot.text(text.color(ink).anchor(anchor).allow_hover(false));
            }
            below = above;
        }
    }

    fn draw_bands(&self, plot: &mut PlotUi<'a>, tokens: &Tokens, drawn: &Drawn) {
        for (name, level) in self.data().levels.iter().zip(&self.curves().levels) {
            let (low, high) = (drawn.pick(&level.low), drawn.pick(&level.high));
            let color = tokens.level(name).gamma_multiply(BAND);
            let band = FilledArea::new("", &drawn.xs, &low, &high);
            plot.add(band.fill_color(color).allow_hover(false));
        }
    }

    fn draw_lines(&self, plot: &mut PlotUi<'a>, tokens: &Tokens, drawn: &Drawn) {
        for (name, level) in self.data().levels.iter().zip(&self.curves().levels) {
            let color = tokens.level(name);
            let shares = drawn.pick(&level.shares);
            let line = Line::new("", points(&drawn.xs, &shares));
            plot.line(line.color(color).width(1.75).allow_hover(false));
            if drawn.places.len() <= MOST_MARKED {
                let marks = Points::new("", points(&drawn.xs, &shares)).shape(mark(name));
                plot.points(marks.radius(3.5).color(color).allow_hover(false));
            }
            // The model as it was made.
            if let Some(place) = drawn.xs.iter().position(|lambda| *lambda == 0.0) {
                let ring = points(&drawn.xs[place..=place], &shares[place..=place]);
                let ring = Points::new("", ring).shape(MarkerShape::Circle).filled(false);
                plot.points(ring.radius(6.5).color(color).allow_hover(false));
            }
        }
    }

    /// What an instruction for a level makes of that level.
    fn draw_baselines(&self, plot: &mut PlotUi<'a>, tokens: &Tokens) {
        let data = self.data();
        for prompted in &self.view.run.sweep.prompting {
            let is_it = |it: &&DatasetScores| it.file == data.name && it.measure == data.measure;
            let Some(scores) = prompted.datasets.iter().find(is_it) else { continue };
            let Some(share) = scores.preference_accuracy.get(&prompted.level) else { continue };
            let color = tokens.level(&prompted.level);
            let line = HLine::new("", *share).style(LineStyle::dotted_dense());
            plot.hline(line.color(color).width(1.5).allow_hover(false));
            // The very end has the numbers of other sweeps.
            let LambdaRange { first, last, .. } = self.view.run.sweep.spec.range;
            let at = PlotPoint::new(last - 0.04 * (last - first), *share);
            let text = RichText::new(format!(" prompted: {} ", prompted.level)).small();
            let text = text.background_color(tokens.field.gamma_multiply(0.8));
            let text = Text::new("", at, text).color(color).anchor(Align2::RIGHT_BOTTOM);
            plot.text(text.allow_hover(false));
        }
    }

    /// The same data in the sweeps that are laid over this one.
    fn draw_others(&self, plot: &mut PlotUi<'a>, tokens: &Tokens, visible: &RangeInclusive<f64>) {
        for (place, other) in self.view.others.iter().enumerate() {
            let data = self.data();
            let is_it = |it: &SweptData| {
                it.measure == data.measure
                    && (it.fingerprint == data.fingerprint || it.name == data.name)
            };
            let Some(index) = other.sweep.datasets.iter().position(is_it) else { continue };
            let (data, curves) = (&other.sweep.datasets[index], &other.curves[index]);
            let drawn = Drawn::of(&curves.lambdas, visible);
            for (name, level) in data.levels.iter().zip(&curves.levels) {
                let color = tokens.level(name);
                let shares = drawn.pick(&level.shares);
                let line = Line::new("", points(&drawn.xs, &shares)).style(dashes(place));
                plot.line(line.color(color).width(1.25).allow_hover(false));
                if let (Some(x), Some(y)) = (drawn.xs.last(), shares.last()) {
                    let text = RichText::new(number(place)).small();
                    let text = Text::new("", PlotPoint::new(*x, *y), text).color(color);
                    plot.text(text.anchor(Align2::RIGHT_BOTTOM).allow_hover(false));
                }
            }
        }
    }

    /// All there is to know of the λ under the pointer.
    fn tooltip(&self, ui: &Ui, response: &Response, point: &SweepPoint) {
        let Some(scores) = point.datasets.get(self.index) else { return };
        let id = response.id.with("values");
        let anchor = PopupAnchor::Pointer;
        Tooltip::always_open(ui.ctx().clone(), response.layer_id, id, anchor).gap(4.0 * GRID).show(
            |ui| {
                ui.set_max_width(120.0 * GRID);
                values_ui(ui, point.lambda, scores);
            },
        );
    }

    /// A name for those who can't see the curves, with the values at the point that was picked.
    fn describe(&self, response: &Response) {
        let data = self.data();
        let picked = self.view.picked.and_then(|lambda| self.view.run.nearest(lambda));
        let values = picked.and_then(|point| Some((point.lambda, self.scores(point)?)));
        let mut name = format!("Curves of {}, {}", data.name, data.measure);
        if let Some((lambda, scores)) = values {
            let values: Vec<String> = scores
                .preference_accuracy
                .iter()
                .map(|(level, share)| format!("{level} {:.0} %", share * 100.0))
                .collect();
            name = format!("{name}; at λ {}: {}", signed(lambda).trim(), values.join(", "));
        }
        response.widget_info(|| WidgetInfo::labeled(Role::Button, true, &name));
    }

    /// Arrow keys lead from point to point.
    fn stepped_by(&self, ui: &Ui, response: &Response) -> Vec<Action> {
        if !response.has_focus() {
            return Vec::new();
        }
        let filter = EventFilter { horizontal_arrows: true, ..Default::default() };
        ui.memory_mut(|memory| memory.set_focus_lock_filter(response.id, filter));
        let (left, right) = ui
            .input(|input| (input.key_pressed(Key::ArrowLeft), input.key_pressed(Key::ArrowRight)));
        let from = self.view.picked.unwrap_or_default();
        let [below, above] = self.view.run.beside(from);
        let next = match (left, right) {
            (true, false) => below,
            (false, true) => above,
            _ => None,
        };
        next.map(|lambda| Action::Sweep(SweepAction::Pick(lambda))).into_iter().collect()
    }
}

/// The values at a λ: each level with its interval and what other kinds of score make of it.
pub(super) fn values_ui(ui: &mut Ui, lambda: f64, scores: &DatasetScores) {
    let tokens = Tokens::of(ui.visuals());
    let number = |text: String| RichText::new(text).small().monospace();
    ui.label(RichText::new(format!("λ = {}", signed(lambda).trim())).strong());
    ui.spacing_mut().interact_size.y = 0.0;
    Grid::new("values").spacing([3.0 * GRID, 0.0]).show(ui, |ui| {
        for heading in ["level", "share", "95 % interval"] {
            weak(ui, heading);
        }
        for kind in scores.other_kinds.keys() {
            weak(ui, kind.to_string());
        }
        ui.end_row();
        for (level, share) in &scores.preference_accuracy {
            ui.label(RichText::new(level).small().color(tokens.level(level)));
            ui.label(number(percent(*share)));
            let interval = scores.intervals.get(level).copied();
            ui.label(number(interval.map_or_else(|| "–".to_owned(), interval_text)));
            for shares in scores.other_kinds.values() {
                let share = shares.get(level).copied();
                ui.label(number(share.map_or_else(|| "–".to_owned(), percent)));
            }
            ui.end_row();
        }
    });
    let (some, all) = (scores.disagreements, scores.n);
    weak(ui, format!("The kinds of score disagree on {some} of {all} records."));
}

/// ` 26.2 %`, so that numbers in a column align.
pub(super) fn percent(share: f64) -> String {
    format!("{:>5.1} %", share * 100.0)
}

/// `18–35 %`.
pub(super) fn interval_text([low, high]: [f64; 2]) -> String {
    format!("{:.0}–{:.0} %", low * 100.0, high * 100.0)
}

/// Where a level is widest, if its name has room there.
fn widest(shares: &[f64]) -> Option<usize> {
    let place = (0..shares.len()).max_by(|a, b| shares[*a].total_cmp(&shares[*b]))?;
    (shares[place] > 0.12).then_some(place)
}

/// Round steps of λ, few enough of them that each has a number.
fn lambda_steps(bounds: (f64, f64)) -> [f64; 3] {
    round_steps(bounds, 7.0)
}

fn signed_tick(value: f64) -> String {
    let text = format!("{:.2}", value.abs());
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if value < -1e-9 { format!("−{text}") } else { text.to_owned() }
}

/// No tick beyond what a share can be.
fn share_tick(value: f64) -> String {
    let is_share = (-1e-9..=1.0 + 1e-9).contains(&value);
    if is_share { signed_tick(value.abs()) } else { String::new() }
}

/// Which colour and mark is which level, and which line which sweep.
pub(super) fn legend_ui(ui: &mut Ui, view: &PlotsView<'_>) {
    let tokens = Tokens::of(ui.visuals());
    let mut levels: Vec<&str> = Vec::new();
    for level in view.run.sweep.datasets.iter().flat_map(|data| &data.levels) {
        if !levels.contains(&level.as_str()) {
            levels.push(level);
        }
    }
    ui.horizontal_wrapped(|ui| {
        for level in levels {
            level_ui(ui, level);
        }
        let has_default = view.run.nearest(0.0).is_some_and(|point| point.lambda == 0.0);
        if !view.is_stacked && has_default {
            weak(ui, "○ default, λ = 0");
        }
        if !view.is_stacked && !view.run.sweep.prompting.is_empty() {
            weak(ui, "··· prompted");
        }
        if view.is_stacked && !view.others.is_empty() {
            let text = "Other sweeps are drawn over lines, not over areas.";
            ui.label(RichText::new(text).small().color(tokens.warning));
        }
    });
}

/// A level's mark and name, in its colour.
pub(super) fn level_ui(ui: &mut Ui, level: &str) {
    let color = Tokens::of(ui.visuals()).level(level);
    ui.horizontal(|ui| {
        ui.spacing_mut().item_spacing.x = GRID;
        let (rect, _) = ui.allocate_exact_size(vec2(5.0 * GRID, 3.0 * GRID), Sense::hover());
        let (left, right) = (rect.left_center(), rect.right_center());
        ui.painter().line_segment([left, right], Stroke::new(1.75, color));
        ui.painter().extend(mark_shapes(mark(level), rect.center(), color));
        ui.label(RichText::new(level).small());
    });
}

fn mark_shapes(mark: MarkerShape, at: egui::Pos2, color: Color32) -> Vec<egui::Shape> {
    use egui::Shape;
    let polygon = |corners: &[(f32, f32)]| {
        let corners = corners.iter().map(|(x, y)| at + vec2(*x, *y) * GRID).collect();
        vec![Shape::convex_polygon(corners, color, Stroke::NONE)]
    };
    let cross = |ends: [(f32, f32); 4]| {
        let end = |index: usize| at + vec2(ends[index].0, ends[index].1) * GRID;
        let stroke = Stroke::new(2.0, color);
        vec![
            Shape::line_segment([end(0), end(1)], stroke),
            Shape::line_segment([end(2), end(3)], stroke),
        ]
    };
    match mark {
        MarkerShape::Up => polygon(&[(0.0, -1.0), (1.0, 0.8), (-1.0, 0.8)]),
        MarkerShape::Down => polygon(&[(0.0, 1.0), (-1.0, -0.8), (1.0, -0.8)]),
        MarkerShape::Left => polygon(&[(-1.0, 0.0), (0.8, -1.0), (0.8, 1.0)]),
        MarkerShape::Right => polygon(&[(1.0, 0.0), (-0.8, 1.0), (-0.8, -1.0)]),
        MarkerShape::Square => polygon(&[(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)]),
        MarkerShape::Diamond => polygon(&[(0.0, -1.1), (1.1, 0.0), (0.0, 1.1), (-1.1, 0.0)]),
        MarkerShape::Cross => cross([(-0.8, -0.8), (0.8, 0.8), (-0.8, 0.8), (0.8, -0.8)]),
        MarkerShape::Plus | MarkerShape::Asterisk => {
            cross([(-1.0, 0.0), (1.0, 0.0), (0.0, -1.0), (0.0, 1.0)])
        }
        MarkerShape::Circle => vec![Shape::circle_filled(at, GRID, color)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_read_like_lambda_and_like_shares() {
        assert_eq!(signed_tick(-1.5), "−1.5");
        assert_eq!(signed_tick(0.0), "0");
        assert_eq!(signed_tick(0.25), "0.25");
        assert_eq!(share_tick(0.25), "0.25");
        assert_eq!(share_tick(1.0), "1");
        assert_eq!(share_tick(1.25), "");
        assert!((lambda_steps((-1.53, 1.53))[0] - 0.5).abs() < 1e-12);
        assert!((lambda_steps((0.0, 0.3))[0] - 0.05).abs() < 1e-12);
    }
}
