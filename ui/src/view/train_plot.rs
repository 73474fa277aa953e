//! The curves of a training run: six plots whose steps are linked.

use egui::containers::Tooltip;
use egui::{
    Align2, EventFilter, Grid, Id, Key, Label, PopupAnchor, Response, RichText, Role, Sense,
    Stroke, TextStyle, Ui, WidgetInfo, vec2,
};
use egui_plot::{
    AxisHints, HLine, Line, LineStyle, MarkerShape, PlotPoint, PlotUi, Points, Text, VLine,
    uniform_grid_spacer,
};

use super::curve_parts::{
    Drawn, MOST_MARKED, curve_plot, dashes, number, points, round_steps, visible,
};
use super::design_tokens::{GRID, Tokens};
use super::parts::{figures, weak};
use super::train_curves::{Look, Panel, Series, tick};
use crate::model::TrainCurves;

/// Points, the height of a plot.
const HEIGHT: f32 = 43.0 * GRID;

/// Points, the least width of a plot that stands beside another.
const LEAST_WIDTH: f32 = 60.0 * GRID;

/// How opaque the dots of single steps are.
const LIGHT: f32 = 0.45;

/// The run that is shown, and those that are laid over it.
pub(super) struct TrainPlotsView<'a> {
    pub(super) curves: &'a TrainCurves,
    pub(super) others: &'a [&'a TrainCurves],
}

/// The plots, side by side where there is room. A step under the pointer in one of them, or that
/// the arrow keys have come to, is marked in all.
pub(super) fn train_plots_ui(ui: &mut Ui, view: &TrainPlotsView<'_>) {
    let run = view.curves.run.spec.run;
    let (hover_key, mark_key) =
        (Id::unique("training hover"), Id::unique("training mark").with(run));
    let remembered = |ui: &Ui, key| ui.data(|data| data.get_temp::<Option<usize>>(key)).flatten();
    let (hovered, marked) = (remembered(ui, hover_key), remembered(ui, mark_key));
    let (mut next_hovered, mut next_marked) = (None, marked);
    let gap = 4.0 * GRID;
    let n_columns = (((ui.available_width() + gap) / (LEAST_WIDTH + gap)) as usize).clamp(1, 3);
    let width = (ui.available_width() - gap * (n_columns - 1) as f32) / n_columns as f32;
    for row in Panel::ALL.chunks(n_columns) {
        ui.horizontal_top(|ui| {
            ui.spacing_mut().item_spacing.x = gap;
            for panel in row {
                let layout = egui::Layout::top_down(egui::Align::Min);
                ui.allocate_ui_with_layout(vec2(width, 0.0), layout, |ui| {
                    ui.set_width(width);
                    ui.spacing_mut().item_spacing.x = 2.0 * GRID;
                    ui.push_id((run, panel.title()), |ui| {
                        let shown = PanelView { view, panel: *panel, step: hovered.or(marked) };
                        let (under, stepped) = shown.ui(ui);
                        next_hovered = next_hovered.or(under);
                        next_marked = stepped.or(next_marked);
                    });
                });
            }
        });
        ui.add_space(GRID);
    }
    if (next_hovered, next_marked) != (hovered, marked) {
        ui.ctx().request_repaint();
    }
    ui.data_mut(|data| {
        data.insert_temp(hover_key, next_hovered);
        data.insert_temp(mark_key, next_marked);
    });
}

struct PanelView<'a> {
    view: &'a TrainPlotsView<'a>,
    panel: Panel,
    /// The step that is marked in all plots.
    step: Option<usize>,
}

impl PanelView<'_> {
    /// Gives back the step under the pointer, and the one that the arrow keys have come to.
    fn ui(&self, ui: &mut Ui) -> (Option<usize>, Option<usize>) {
        let tokens = Tokens::of(ui.visuals());
        let curves = self.view.curves;
        let series = self.panel.series(curves, self.view.others, tokens);
        self.title_ui(ui, &series);
        let font = TextStyle::Small.resolve(ui.style());
        let weak_text = |text: &str| RichText::new(text).small().color(tokens.weak);
        let x_axis = AxisHints::new_x()
            .label(weak_text("step"))
            .formatter(|mark, _| step_tick(mark.value))
            .label_spacing(30.0..=40.0)
            .tick_label_color(tokens.weak)
            .tick_label_font(font.clone());
        let y_axis = AxisHints::new_y()
            .label(weak_text(self.panel.unit()))
            .formatter(|mark, _| tick(mark.value))
            .tick_label_color(tokens.weak)
            .tick_label_font(font)
            .min_thickness(9.0 * GRID);
        let last = curves.run.steps.last().map_or(1, |it| it.step.max(1));
        let axis = Id::unique(("training axis", curves.run.spec.run));
        let mut plot = curve_plot("training", axis, tokens)
            .height(HEIGHT)
            .custom_x_axes(vec![x_axis])
            .custom_y_axes(vec![y_axis])
            .include_x(0.0)
            .include_x(last as f64)
            .set_margin_fraction(vec2(0.02, 0.06))
            .x_grid_spacer(uniform_grid_spacer(|input| whole_steps(input.bounds)))
            .y_grid_spacer(uniform_grid_spacer(|input| round_steps(input.bounds, 4.0)));
        for value in self.panel.least_range() {
            plot = plot.include_y(*value);
        }
        for rule in self.panel.rules(curves) {
            plot = plot.include_y(rule.value);
        }
        let shown = plot.show(ui, |plot| self.draw(plot, tokens, &series));
        let response = shown.response;
        let at = |x: f32| shown.transform.value_from_position(egui::pos2(x, 0.0)).x;
        let under = response.hover_pos().and_then(|pos| curves.nearest(at(pos.x)));
        let under = under.map(|it| it.step);
        self.describe(&response, &series);
        if response.clicked() {
            response.request_focus();
        }
        if let Some(step) = under.or(self.step.filter(|_| response.has_focus())) {
            tooltip(ui, &response, &series, (step, under.is_some()));
        }
        if response.has_focus() {
            let rect = response.rect.shrink(1.0);
            let stroke = Stroke::new(2.0, tokens.accent);
            ui.painter().rect_stroke(rect, 0.0, stroke, egui::StrokeKind::Inside);
        }
        (under, self.stepped_to(ui, &response))
    }

    /// What it shows, and which line is which.
    fn title_ui(&self, ui: &mut Ui, series: &[Series]) {
        let tokens = Tokens::of(ui.visuals());
        let help = self.panel.help(self.view.curves);
        ui.horizontal(|ui| {
            ui.spacing_mut().item_spacing.x = 1.5 * GRID;
            let name = RichText::new(self.panel.title()).strong().color(tokens.strong);
            ui.add(Label::new(name)).on_hover_text(help);
            let own = series.iter().filter(|it| !matches!(it.look, Look::Other(_)));
            let own: Vec<&Series> = own.collect();
            for series in own.iter().filter(|_| own.len() > 1) {
                legend_ui(ui, series);
            }
        });
    }

    fn draw(&self, plot: &mut PlotUi<'_>, tokens: &Tokens, series: &[Series]) {
        let visible = visible(plot.plot_bounds());
        let rules = self.panel.rules(self.view.curves);
        for rule in &rules {
            let line = HLine::new("", rule.value).style(LineStyle::dotted_dense());
            plot.hline(line.color(tokens.weak).width(1.0).allow_hover(false));
        }
        for series in series {
            draw_series(plot, tokens, series, &Drawn::of(&series.steps, &visible));
        }
        let bounds = plot.plot_bounds();
        for rule in rules.iter().filter(|rule| !rule.name.is_empty() && bounds.is_valid()) {
            let x = bounds.max()[0] - 0.02 * bounds.width();
            // Away from the curves, and never out of the picture.
            let is_high = rule.value > bounds.center().y;
            let anchor = if is_high { Align2::RIGHT_TOP } else { Align2::RIGHT_BOTTOM };
            let text = RichText::new(&rule.name).small();
            let text = text.background_color(tokens.field.gamma_multiply(0.8));
            let text = Text::new("", PlotPoint::new(x, rule.value), text);
            plot.text(text.color(tokens.weak).anchor(anchor).allow_hover(false));
        }
        if let Some(step) = self.step {
            let line = VLine::new("", step as f64).stroke(Stroke::new(1.0, tokens.weak));
            plot.vline(line.allow_hover(false));
        }
    }

    /// A name for those who can't see the curves, with the values at the step that is marked.
    fn describe(&self, response: &Response, series: &[Series]) {
        let last = self.view.curves.run.steps.last().map(|it| it.step);
        let mut name = format!("Curve of {}", self.panel.title().to_lowercase());
        if let Some(step) = self.step.or(last) {
            let rows = rows(series, step);
            let values: Vec<String> =
                rows.iter().map(|(name, value)| format!("{name} {}", figures(*value))).collect();
            name = format!("{name}, step {step}: {}", values.join(", "));
        }
        response.widget_info(|| WidgetInfo::labeled(Role::Button, true, &name));
    }

    /// Arrow keys lead from step to step.
    fn stepped_to(&self, ui: &Ui, response: &Response) -> Option<usize> {
        if !response.has_focus() {
            return None;
        }
        let filter = EventFilter { horizontal_arrows: true, ..Default::default() };
        ui.memory_mut(|memory| memory.set_focus_lock_filter(response.id, filter));
        let pressed = |key| ui.input(|input| input.key_pressed(key));
        let steps = &self.view.curves.run.steps;
        let from = self.step.or_else(|| steps.last().map(|it| it.step + 1))?;
        let [before, after] = self.view.curves.beside(from);
        match (pressed(Key::ArrowLeft), pressed(Key::ArrowRight)) {
            (true, false) => before,
            (false, true) => after,
            _ => None,
        }
    }
}

/// The values at a step: beside the pointer, or below the plot.
fn tooltip(
    ui: &Ui,
    response: &Response,
    series: &[Series],
    (step, is_under_pointer): (usize, bool),
) {
    let anchor = if is_under_pointer {
        PopupAnchor::Pointer
    } else {
        PopupAnchor::ParentRect(response.rect)
    };
    let id = response.id.with("values");
    let tip = Tooltip::always_open(ui.ctx().clone(), response.layer_id, id, anchor);
    tip.gap(4.0 * GRID).show(|ui| {
        ui.set_max_width(70.0 * GRID);
        ui.label(RichText::new(format!("Step {step}")).strong());
        ui.spacing_mut().interact_size.y = 0.0;
        Grid::new("values").spacing([3.0 * GRID, 0.0]).show(ui, |ui| {
            for (name, value) in rows(series, step) {
                weak(ui, name);
                ui.label(RichText::new(figures(value)).small().monospace());
                ui.end_row();
            }
        });
    });
}

/// Names of series and their values at a step.
fn rows(series: &[Series], step: usize) -> Vec<(String, f64)> {
    let row = |it: &Series| {
        let name = match it.look {
            Look::Other(place) => format!("{} of{}", it.name, number(place)),
            _ => it.name.to_owned(),
        };
        Some((name, it.at(step as f64)?))
    };
    series.iter().filter_map(row).collect()
}

fn draw_series(plot: &mut PlotUi<'_>, tokens: &Tokens, series: &Series, drawn: &Drawn) {
    let values = drawn.pick(&series.values);
    // What is no number is not drawn.
    let (steps, values): (Vec<f64>, Vec<f64>) = drawn
        .xs
        .iter()
        .zip(values)
        .map(|(step, value)| (*step, value))
        .filter(|(_, value)| value.is_finite())
        .unzip();
    let line = |width: f32| {
        Line::new("", points(&steps, &values)).color(series.color).width(width).allow_hover(false)
    };
    match series.look {
        Look::Dots => {
            let dots = Points::new("", points(&steps, &values)).shape(MarkerShape::Circle);
            let color = series.color.gamma_multiply(LIGHT);
            plot.points(dots.radius(1.75).color(color).allow_hover(false));
        }
        Look::Line => plot.line(line(1.75)),
        Look::Marks => {
            plot.line(line(1.25));
            if steps.len() <= MOST_MARKED {
                let marks = Points::new("", points(&steps, &values)).shape(MarkerShape::Diamond);
                plot.points(marks.radius(4.0).color(series.color).allow_hover(false));
            }
        }
        Look::Other(place) => {
            plot.line(line(1.25).style(dashes(place)));
            if let (Some(x), Some(y)) = (steps.last(), values.last()) {
                let text = RichText::new(number(place)).small();
                let text = Text::new("", PlotPoint::new(*x, *y), text).color(tokens.text);
                let is_high = *y > plot.plot_bounds().center().y;
                let anchor = if is_high { Align2::RIGHT_TOP } else { Align2::RIGHT_BOTTOM };
                plot.text(text.anchor(anchor).allow_hover(false));
            }
        }
    }
}

/// A line's look and name.
fn legend_ui(ui: &mut Ui, series: &Series) {
    ui.horizontal(|ui| {
        ui.spacing_mut().item_spacing.x = 0.75 * GRID;
        let (rect, _) = ui.allocate_exact_size(vec2(3.0 * GRID, 3.0 * GRID), Sense::hover());
        let painter = ui.painter();
        let (center, color) = (rect.center(), series.color);
        if series.look == Look::Dots {
            for x in [-1.0, 0.0, 1.0] {
                let at = center + vec2(x * GRID, 0.0);
                painter.circle_filled(at, 1.75, color.gamma_multiply(LIGHT));
            }
        } else {
            let ends = [rect.left_center(), rect.right_center()];
            painter.line_segment(ends, Stroke::new(1.75, color));
        }
        if series.look == Look::Marks {
            let corner = |x: f32, y: f32| center + vec2(x, y) * GRID;
            let corners =
                vec![corner(0.0, -1.1), corner(1.1, 0.0), corner(0.0, 1.1), corner(-1.1, 0.0)];
            painter.add(egui::Shape::convex_polygon(corners, color, Stroke::NONE));
        }
        ui.label(RichText::new(series.name).small());
    });
}

/// Round steps of training, of which there is no half.
fn whole_steps(bounds: (f64, f64)) -> [f64; 3] {
    round_steps(bounds, 5.0).map(|step| step.max(1.0).round())
}

/// Only whole steps have a number.
fn step_tick(value: f64) -> String {
    let is_whole = (value - value.round()).abs() < 1e-6 && value > -0.5;
    if is_whole { format!("{value:.0}") } else { String::new() }
}
