use meav_protocol::{DatasetScores, MeasureName, Sweep, SweepPoint, SweptData};

use super::drawing::{Anchor, Drawing, Stroke, text_width};
use super::palette::{FAINT, GRID, INK, LEVELS};
use crate::one_line::{NAME_CHARS, one_line};

const MARGIN: f64 = 24.0;
const TITLE: f64 = 16.0;
const HEADING: f64 = 12.0;
const TEXT: f64 = 10.5;
const PLOT_WIDTH: f64 = 380.0;
const PLOT_HEIGHT: f64 = 210.0;
/// Room for the numbers and the name of an axis.
const LEFT_AXIS: f64 = 58.0;
const LOWER_AXIS: f64 = 44.0;
const PANEL_GAP: f64 = 26.0;
const LEGEND_LINE: f64 = 20.0;
const SWATCH: f64 = 24.0;
/// Panels side by side.
const COLUMNS: usize = 2;
/// The λ axis has about as many numbers.
const TICKS: f64 = 6.0;
/// How the lines of several sweeps are told apart.
const DASHES: [Option<&str>; 5] = [None, Some("7 3"), Some("2 2"), Some("8 3 2 3"), Some("14 4")];
const PROMPTING: Stroke<'static> = Stroke { colour: FAINT, width: 1.0, dashes: Some("1 3") };
const DEFAULT: Stroke<'static> = Stroke { colour: FAINT, width: 0.8, dashes: Some("4 4") };

/// Preference accuracy over λ: a panel for each data set and measure, a line with its 95 % band for
/// each level, the sweeps over each other.
pub(crate) fn sweeps_svg(sweeps: &[Sweep]) -> String {
    let figure = Figure::new(sweeps);
    let mut drawing = Drawing::default();
    let title = figure.title();
    drawing.text(MARGIN, MARGIN + TITLE, TITLE, Anchor::Start, INK, &title);
    drawing.reach(MARGIN + text_width(&title, TITLE), MARGIN);
    let mut top = figure.draw_legend(&mut drawing, MARGIN + TITLE + 22.0) + 22.0;
    for row in figure.panels.chunks(COLUMNS) {
        for (column, panel) in row.iter().enumerate() {
            let step = LEFT_AXIS + PLOT_WIDTH + PANEL_GAP;
            let plot = Plot {
                left: MARGIN + LEFT_AXIS + column as f64 * step,
                top: top + HEADING + 10.0,
                lambdas: figure.lambdas,
            };
            figure.draw_panel(&mut drawing, panel, &plot);
        }
        top += HEADING + 10.0 + PLOT_HEIGHT + LOWER_AXIS + PANEL_GAP;
    }
    drawing.finish(MARGIN)
}

/// What the panels have in common.
struct Figure<'a> {
    sweeps: &'a [Sweep],
    panels: Vec<Panel<'a>>,
    /// Every level of any panel: its place decides its colour.
    levels: Vec<&'a str>,
    /// The ends of the λ axis.
    lambdas: [f64; 2],
}

/// A data set and a measure of it.
struct Panel<'a> {
    name: &'a str,
    /// Tells files of the same name apart.
    fingerprint: &'a str,
    measure: MeasureName,
    n: usize,
    levels: Vec<&'a str>,
}

impl<'a> Figure<'a> {
    fn new(sweeps: &'a [Sweep]) -> Self {
        let mut panels: Vec<Panel<'a>> = Vec::new();
        for data in sweeps.iter().flat_map(|sweep| &sweep.datasets) {
            let levels = data.levels.iter().map(String::as_str);
            match panels.iter_mut().find(|panel| panel.is_of(data)) {
                Some(panel) => add_missing(&mut panel.levels, levels),
                None => panels.push(Panel {
                    name: &data.name,
                    fingerprint: &data.fingerprint,
                    measure: data.measure,
                    n: data.n,
                    levels: levels.collect(),
                }),
            }
        }
        let mut levels = Vec::new();
        for panel in &panels {
            add_missing(&mut levels, panel.levels.iter().copied());
        }
        Self { sweeps, panels, levels, lambdas: lambdas(sweeps) }
    }

    fn title(&self) -> String {
        let [sweep] = self.sweeps else {
            return "Preference accuracy along λ".to_owned();
        };
        let held: Vec<String> = sweep
            .held
            .iter()
            .map(|term| format!(", {} {} held", name(&term.domain), signed(term.coefficient)))
            .collect();
        let held = held.concat();
        format!("{} on {}{held}", name(&sweep.vector.domain), name(&sweep.model))
    }

    /// The vector's name, if all sweeps are of one.
    fn axis_name(&self) -> String {
        let mut domains = self.sweeps.iter().map(|sweep| &sweep.vector.domain);
        match domains.next() {
            Some(first) if domains.all(|it| it == first) => format!("λ of {}", name(first)),
            _ => "λ".to_owned(),
        }
    }

    fn colour(&self, level: &str) -> &'static str {
        let place = self.levels.iter().position(|it| *it == level).unwrap_or(0);
        LEVELS[place % LEVELS.len()]
    }

    /// The first baseline of instructions that there is.
    fn prompted(&self) -> Option<&'a Sweep> {
        self.sweeps.iter().find(|sweep| !sweep.prompting.is_empty())
    }

    /// Whether λ = 0 is the base model in every sweep.
    fn has_default(&self) -> bool {
        let is_alone = |sweep: &Sweep| sweep.held.iter().all(|term| term.coefficient == 0.0);
        (self.lambdas[0]..=self.lambdas[1]).contains(&0.0) && self.sweeps.iter().all(is_alone)
    }

    /// Draws what the lines mean and gives the lower edge.
    fn draw_legend(&self, drawing: &mut Drawing, top: f64) -> f64 {
        let mut legend = Legend { drawing, left: MARGIN, base_line: top, right: self.right() };
        for level in &self.levels {
            let colour = self.colour(level);
            legend.line(&Stroke { colour, width: 2.0, dashes: None }, &name(level));
        }
        if self.sweeps.len() > 1 {
            for (index, series) in series_names(self.sweeps).iter().enumerate() {
                let dashes = DASHES[index % DASHES.len()];
                legend.line(&Stroke { colour: INK, width: 1.6, dashes }, series);
            }
        }
        legend.band("95 % interval");
        if self.has_default() {
            legend.line(&DEFAULT, "default (λ = 0)");
        }
        if let Some(sweep) = self.prompted() {
            let of = if self.sweeps.len() > 1 {
                format!(" ({})", name(&sweep.model))
            } else {
                String::new()
            };
            legend.line(&PROMPTING, &format!("prompting for the level, without vectors{of}"));
        }
        legend.base_line
    }

    fn right(&self) -> f64 {
        let columns = self.panels.len().clamp(1, COLUMNS) as f64;
        MARGIN + columns * (LEFT_AXIS + PLOT_WIDTH + PANEL_GAP) - PANEL_GAP
    }

    fn draw_panel(&self, drawing: &mut Drawing, panel: &Panel<'_>, plot: &Plot) {
        let heading = format!("{} · {} · n = {}", name(panel.name), panel.measure, panel.n);
        let left = plot.left - LEFT_AXIS;
        drawing.text(left, plot.top - 10.0, HEADING, Anchor::Start, INK, &heading);
        plot.draw_axes(drawing, &self.axis_name());
        if self.has_default() {
            drawing.polyline(&[plot.at(0.0, 0.0), plot.at(0.0, 1.0)], &DEFAULT);
        }
        self.draw_prompting(drawing, panel, plot);
        for (index, sweep) in self.sweeps.iter().enumerate() {
            for level in &panel.levels {
                let curve = curve(sweep, panel, level);
                self.draw_curve(drawing, &curve, plot, self.colour(level), index);
            }
        }
    }

    /// What an instruction to answer at a level reaches at that level.
    fn draw_prompting(&self, drawing: &mut Drawing, panel: &Panel<'_>, plot: &Plot) {
        let Some(sweep) = self.prompted() else { return };
        for level in &panel.levels {
            let reached = prompted_scores(sweep, panel, level)
                .and_then(|scores| scores.preference_accuracy.get(*level));
            let Some(reached) = reached.filter(|it| it.is_finite()) else { continue };
            let [first, last] = self.lambdas;
            let colour = self.colour(level);
            let line = [plot.at(first, *reached), plot.at(last, *reached)];
            drawing.polyline(&line, &Stroke { colour, width: 1.4, ..PROMPTING });
        }
    }

    fn draw_curve(
        &self,
        drawing: &mut Drawing,
        curve: &[CurvePoint],
        plot: &Plot,
        colour: &str,
        sweep: usize,
    ) {
        let with_interval = |point: &CurvePoint| Some((point.lambda, point.interval?));
        let band: Vec<_> = curve.iter().filter_map(with_interval).collect();
        let upper = band.iter().map(|(lambda, [_, high])| plot.at(*lambda, *high));
        let lower = band.iter().rev().map(|(lambda, [low, _])| plot.at(*lambda, *low));
        if band.len() > 1 {
            let opacity = if self.sweeps.len() > 1 { 0.08 } else { 0.16 };
            drawing.polygon(&upper.chain(lower).collect::<Vec<_>>(), colour, opacity);
        }
        let line: Vec<_> = curve.iter().map(|it| plot.at(it.lambda, it.accuracy)).collect();
        let dashes = DASHES[sweep % DASHES.len()];
        drawing.polyline(&line, &Stroke { colour, width: 1.8, dashes });
        for point in line {
            drawing.circle(point, 2.0, colour);
        }
    }
}

impl Panel<'_> {
    fn is_of(&self, data: &SweptData) -> bool {
        self.name == data.name
            && self.fingerprint == data.fingerprint
            && self.measure == data.measure
    }
}

/// What was measured on a panel's data under the instruction for a level.
fn prompted_scores<'a>(
    sweep: &'a Sweep,
    panel: &Panel<'_>,
    level: &str,
) -> Option<&'a DatasetScores> {
    let place = sweep.datasets.iter().position(|data| panel.is_of(data))?;
    // Only data with the level are there, and files of the same name in the order of the sweep.
    let is_alike = |data: &&SweptData| {
        data.name == panel.name
            && data.measure == panel.measure
            && data.levels.iter().any(|it| it == level)
    };
    let before = sweep.datasets[..place].iter().filter(is_alike).count();
    let prompting = sweep.prompting.iter().find(|prompting| prompting.level == level)?;
    let named =
        |scores: &&DatasetScores| scores.file == panel.name && scores.measure == panel.measure;
    prompting.datasets.iter().filter(named).nth(before)
}

struct CurvePoint {
    lambda: f64,
    accuracy: f64,
    interval: Option<[f64; 2]>,
}

/// What is known of a level; nothing is drawn where something is not a number.
fn curve(sweep: &Sweep, panel: &Panel<'_>, level: &str) -> Vec<CurvePoint> {
    let Some(place) = sweep.datasets.iter().position(|data| panel.is_of(data)) else {
        return Vec::new();
    };
    let point = |point: &SweepPoint| {
        let scores = point.datasets.get(place)?;
        let accuracy = *scores.preference_accuracy.get(level)?;
        let interval = scores.intervals.get(level).copied();
        (point.lambda.is_finite() && accuracy.is_finite()).then_some(CurvePoint {
            lambda: point.lambda,
            accuracy,
            interval: interval.filter(|it| it.iter().all(|end| end.is_finite())),
        })
    };
    sweep.points.iter().filter_map(point).collect()
}

/// A rectangle with λ from left to right and shares from 0 below to 1 above.
struct Plot {
    left: f64,
    top: f64,
    lambdas: [f64; 2],
}

impl Plot {
    fn at(&self, lambda: f64, share: f64) -> [f64; 2] {
        let [first, last] = self.lambdas;
        let x = self.left + (lambda - first) / (last - first) * PLOT_WIDTH;
        [x, self.top + (1.0 - share.clamp(0.0, 1.0)) * PLOT_HEIGHT]
    }

    fn draw_axes(&self, drawing: &mut Drawing, axis_name: &str) {
        let grid = Stroke { colour: GRID, width: 0.8, dashes: None };
        let axis = Stroke { colour: INK, width: 1.0, dashes: None };
        let [first, last] = self.lambdas;
        for share in [0.0, 0.25, 0.5, 0.75, 1.0] {
            let [x, y] = self.at(first, share);
            drawing.polyline(&[[x, y], self.at(last, share)], &grid);
            drawing.polyline(&[[x - 4.0, y], [x, y]], &axis);
            let label = format!("{share:.2}");
            drawing.text(x - 8.0, y + TEXT * 0.35, TEXT, Anchor::End, INK, &label);
        }
        let bottom = self.top + PLOT_HEIGHT;
        for lambda in ticks(first, last) {
            let [x, _] = self.at(lambda, 0.0);
            drawing.polyline(&[[x, self.top], [x, bottom]], &grid);
            drawing.polyline(&[[x, bottom], [x, bottom + 4.0]], &axis);
            let label = number(lambda);
            drawing.text(x, bottom + 6.0 + TEXT, TEXT, Anchor::Middle, INK, &label);
        }
        let corners = [self.at(first, 1.0), self.at(first, 0.0), self.at(last, 0.0)];
        drawing.polyline(&corners, &axis);
        let middle = self.left + PLOT_WIDTH / 2.0;
        drawing.text(middle, bottom + 22.0 + TEXT, TEXT, Anchor::Middle, INK, axis_name);
        let name = "preference accuracy";
        drawing.upward_text(self.left - 42.0, self.top + PLOT_HEIGHT / 2.0, TEXT, INK, name);
    }
}

/// Names beside pieces of the lines that they stand for.
struct Legend<'a> {
    drawing: &'a mut Drawing,
    left: f64,
    base_line: f64,
    right: f64,
}

impl Legend<'_> {
    fn line(&mut self, stroke: &Stroke<'_>, text: &str) {
        self.make_room(text);
        let y = self.base_line - TEXT * 0.35;
        self.drawing.polyline(&[[self.left, y], [self.left + SWATCH, y]], stroke);
        self.name(text);
    }

    fn band(&mut self, text: &str) {
        self.make_room(text);
        let (left, right) = (self.left, self.left + SWATCH);
        let (upper, lower) = (self.base_line - TEXT * 0.8, self.base_line + 1.0);
        let corners = [[left, upper], [right, upper], [right, lower], [left, lower]];
        self.drawing.polygon(&corners, INK, 0.16);
        self.name(text);
    }

    fn make_room(&mut self, text: &str) {
        let is_first = self.left <= MARGIN;
        if !is_first && self.left + SWATCH + 6.0 + text_width(text, TEXT) > self.right {
            self.left = MARGIN;
            self.base_line += LEGEND_LINE;
        }
    }

    fn name(&mut self, text: &str) {
        let left = self.left + SWATCH + 6.0;
        self.drawing.text(left, self.base_line, TEXT, Anchor::Start, INK, text);
        let end = left + text_width(text, TEXT);
        self.drawing.reach(end, self.base_line);
        self.left = end + 18.0;
    }
}

fn add_missing<'a>(known: &mut Vec<&'a str>, names: impl Iterator<Item = &'a str>) {
    for name in names {
        if !known.contains(&name) {
            known.push(name);
        }
    }
}

/// From the lowest λ that was measured to the highest; never empty.
fn lambdas(sweeps: &[Sweep]) -> [f64; 2] {
    let measured = sweeps.iter().flat_map(|sweep| &sweep.points).map(|point| point.lambda);
    let measured: Vec<f64> = measured.filter(|it| it.is_finite()).collect();
    let first = measured.iter().copied().fold(f64::INFINITY, f64::min);
    let last = measured.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    match (first.is_finite(), last - first > 1e-9) {
        (false, _) => [-1.5, 1.5],
        (true, false) => [first - 0.5, last + 0.5],
        (true, true) => [first, last],
    }
}

/// Round numbers within a range.
fn ticks(first: f64, last: f64) -> Vec<f64> {
    let rough = (last - first) / TICKS;
    let decade = 10_f64.powf(rough.log10().floor());
    let steps = [1.0, 2.0, 2.5, 5.0, 10.0].map(|step| step * decade);
    let step = steps.into_iter().find(|step| *step >= rough * (1.0 - 1e-9)).unwrap_or(rough);
    let (lowest, highest) = ((first / step - 1e-6).ceil(), (last / step + 1e-6).floor());
    let count = (highest - lowest).clamp(0.0, 100.0) as usize;
    (0..=count).map(|i| ((lowest + i as f64) * step * 1e9).round() / 1e9 + 0.0).collect()
}

/// With the typographic minus.
fn number(value: f64) -> String {
    value.to_string().replace('-', "−")
}

fn signed(value: f64) -> String {
    format!("{}{}", if value < 0.0 { '−' } else { '+' }, value.abs())
}

fn name(text: &str) -> String {
    one_line(text, NAME_CHARS)
}

/// Model and vector; numbered where several are alike.
fn series_names(sweeps: &[Sweep]) -> Vec<String> {
    let names: Vec<String> = sweeps
        .iter()
        .map(|sweep| format!("{} · {}", name(&sweep.model), name(&sweep.vector.domain)))
        .collect();
    let numbered = |(index, name): (usize, &String)| {
        if names.iter().filter(|it| *it == name).count() == 1 {
            return name.clone();
        }
        let nth = names[..=index].iter().filter(|it| *it == name).count();
        format!("{name} ({nth})")
    };
    names.iter().enumerate().map(numbered).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::{png, samples};

    #[test]
    fn drawing_shows_every_level_and_names_axes_and_baselines() {
        let sweep = samples::sweep("med & co");
        let svg = sweeps_svg(std::slice::from_ref(&sweep));
        for text in [
            "med &amp; co on Tiny",
            "λ of med &amp; co",
            "legal &lt;&amp;&gt; |test|.jsonl · levels · n = 24",
            "preference accuracy",
            ">expert<",
            ">avoidance<",
            "default (λ = 0)",
            "prompting for the level, without vectors",
            ">−0.5<",
            ">0.75<",
        ] {
            assert!(svg.contains(text), "{text}\n{svg}");
        }
        let curves = sweep.datasets.len() * 3;
        assert_eq!(svg.matches("<polygon").count(), 1 + curves);
        assert_eq!(svg.matches("<circle").count(), curves * sweep.points.len());
        let picture = png(&svg).unwrap();
        assert_eq!(&picture[1..4], b"PNG");
        // With all that is drawn it compresses badly; an empty sheet would be a tenth of that.
        assert!(picture.len() > 40_000, "{}", picture.len());
    }

    #[test]
    fn curve_goes_through_what_was_measured() {
        let svg = sweeps_svg(&[samples::sweep("medical")]);
        // λ from −1 to 1 with accuracy from 0.2 to 0.8 at the first level.
        let left = MARGIN + LEFT_AXIS;
        let top = MARGIN + TITLE + 22.0 + 22.0 + HEADING + 10.0;
        let at = |share: f64, accuracy: f64| {
            let (x, y) = (left + share * PLOT_WIDTH, top + (1.0 - accuracy) * PLOT_HEIGHT);
            format!("{x:.2},{y:.2}")
        };
        let points = [(0.0, 0.2), (0.25, 0.35), (0.5, 0.5), (0.75, 0.65), (1.0, 0.8)];
        let points = points.map(|(share, accuracy)| at(share, accuracy)).join(" ");
        let line = format!("<polyline points=\"{points}\" fill=\"none\" stroke=\"{}\"", LEVELS[0]);
        assert!(svg.contains(&line), "{line}\n{svg}");
    }

    #[test]
    fn several_sweeps_share_panels_and_differ_in_dashes() {
        let mut sibling = samples::sweep("medical");
        sibling.model = "Sibling".to_owned();
        sibling.points.truncate(3);
        let svg = sweeps_svg(&[samples::sweep("medical"), sibling.clone(), sibling]);
        for text in ["Tiny · medical", "Sibling · medical (1)", "Sibling · medical (2)"] {
            assert!(svg.contains(text), "{text}");
        }
        assert_eq!(svg.matches("n = 24").count(), 2);
        for dashes in [DASHES[1], DASHES[2]].into_iter().flatten() {
            // In the legend, and for each level in each panel.
            assert_eq!(svg.matches(&format!("\"{dashes}\"")).count(), 7, "{dashes}");
        }
    }

    #[test]
    fn what_is_missing_or_no_number_is_left_out() {
        let mut sweep = samples::sweep("medical");
        sweep.points[0].datasets.clear();
        sweep.points[1].datasets[0].preference_accuracy["expert"] = f64::NAN;
        sweep.points[2].datasets[0].intervals.clear();
        let svg = sweeps_svg(&[sweep.clone()]);
        assert!(!svg.contains("NaN"), "{svg}");
        assert_eq!(svg.matches("<circle").count(), 2 * 3 * 4 - 1);
        sweep.points.clear();
        sweep.prompting.clear();
        assert!(png(&sweeps_svg(&[sweep])).is_ok());
        assert!(png(&sweeps_svg(&[])).is_ok());
    }

    #[test]
    fn files_of_the_same_name_have_panels_of_their_own() {
        let mut sweep = samples::sweep("medical");
        let name = sweep.datasets[0].name.clone();
        (sweep.datasets[1].name, sweep.datasets[1].fingerprint) = (name.clone(), "2".to_owned());
        for prompting in &mut sweep.prompting {
            prompting.datasets[1].file.clone_from(&name);
            prompting.datasets[1].preference_accuracy["expert"] = 0.875;
        }
        let figure = Figure::new(std::slice::from_ref(&sweep));
        assert_eq!(figure.panels.len(), 2);
        let prompted = |panel: usize| {
            let scores = prompted_scores(&sweep, &figure.panels[panel], "expert").unwrap();
            scores.preference_accuracy["expert"]
        };
        assert_eq!((prompted(0), prompted(1)), (0.4, 0.875));
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(ticks(-1.5, 1.5), [-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5]);
        assert_eq!(ticks(0.0, 1.0), [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]);
        assert_eq!(ticks(-0.03, 0.02), [-0.03, -0.02, -0.01, 0.0, 0.01, 0.02]);
        assert!(ticks(-1e6, 1e6).len() < 12);
    }
}
