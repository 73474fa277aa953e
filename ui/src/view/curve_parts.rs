//! What plots of curves share: how they are moved, thinned out and laid over each other.

use std::ops::RangeInclusive;

use egui::{Id, Sense, Vec2b};
use egui_plot::{LineStyle, Plot, PlotBounds, PlotPoint, PlotPoints};

use super::design_tokens::Tokens;

/// The most points of a curve that are drawn at a time; zooming in shows the others.
const MOST_DRAWN: usize = 600;

/// Curves with more points in sight are drawn without a mark at each.
pub(super) const MOST_MARKED: usize = 80;

/// A plot that is dragged and zoomed along its x axis, together with all of the same `axis`.
pub(super) fn curve_plot(name: &str, axis: Id, tokens: &Tokens) -> Plot<'static> {
    let along_x = Vec2b::new(true, false);
    Plot::new(name)
        .link_axis(axis, along_x)
        .allow_scroll(false)
        .allow_zoom(along_x)
        .allow_drag(along_x)
        .allow_boxed_zoom(false)
        .allow_axis_zoom_drag(false)
        .show_x(false)
        .show_y(false)
        .grid_color(tokens.line)
        .sense(Sense::click_and_drag())
}

/// What stands for a curve that is laid over another.
pub(super) fn number(place: usize) -> String {
    format!(" {}", place + 2)
}

/// How a curve is drawn that is laid over another.
pub(super) fn dashes(place: usize) -> LineStyle {
    match place % 3 {
        0 => LineStyle::Dashed { length: 9.0 },
        1 => LineStyle::Dashed { length: 4.0 },
        _ => LineStyle::Dotted { spacing: 7.0 },
    }
}

/// What of the x axis is in sight, told from the frame before; everything before the first.
pub(super) fn visible(bounds: PlotBounds) -> RangeInclusive<f64> {
    if bounds.is_valid() { bounds.range_x() } else { f64::NEG_INFINITY..=f64::INFINITY }
}

/// The points of a curve that are drawn.
pub(super) struct Drawn {
    /// Which of the curve's points.
    pub(super) places: Vec<usize>,
    pub(super) xs: Vec<f64>,
}

impl Drawn {
    /// Those in sight and one beyond each end; where there are too many, every so many-th.
    pub(super) fn of(xs: &[f64], visible: &RangeInclusive<f64>) -> Self {
        let first = xs.partition_point(|it| it < visible.start()).saturating_sub(1);
        let end = (xs.partition_point(|it| it <= visible.end()) + 1).min(xs.len());
        let stride = (end - first).div_ceil(MOST_DRAWN).max(1);
        let mut places: Vec<usize> = (first..end).step_by(stride).collect();
        if places.last().is_some_and(|last| last + 1 < end) {
            places.push(end - 1);
        }
        let xs = places.iter().map(|place| xs[*place]).collect();
        Self { places, xs }
    }

    pub(super) fn pick(&self, values: &[f64]) -> Vec<f64> {
        self.places.iter().map(|place| values[*place]).collect()
    }
}

pub(super) fn points(xs: &[f64], ys: &[f64]) -> PlotPoints<'static> {
    PlotPoints::Owned(xs.iter().zip(ys).map(|(x, y)| PlotPoint::new(*x, *y)).collect())
}

/// Round steps, about so many of them.
pub(super) fn round_steps((first, last): (f64, f64), count: f64) -> [f64; 3] {
    let rough = ((last - first) / count).max(1e-9);
    let power = 10.0_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|it| it * power).into_iter().find(|it| *it >= rough);
    let step = step.unwrap_or(10.0 * power);
    [step, 5.0 * step, 10.0 * step]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_curves_are_thinned_to_what_can_be_seen() {
        let xs: Vec<f64> = (0..10_001).map(|i| f64::from(i) / 5000.0 - 1.0).collect();
        let all = Drawn::of(&xs, &(f64::NEG_INFINITY..=f64::INFINITY));
        assert!(all.places.len() <= MOST_DRAWN + 1);
        assert_eq!((all.xs[0], all.xs.last()), (-1.0, Some(&1.0)));
        let part = Drawn::of(&xs, &(0.0001..=0.0099));
        // One beyond each end, so that the line leaves the picture.
        assert_eq!(part.places, (5000..=5050).collect::<Vec<_>>());
        assert!(Drawn::of(&[], &(0.0..=1.0)).places.is_empty());
        assert_eq!(Drawn::of(&[0.5], &(2.0..=3.0)).places, [0]);
    }
}
