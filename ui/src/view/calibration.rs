//! What a sweep has told of a vector, beside its knob.

use egui::{
    Align2, CornerRadius, Label, Rect, RichText, Role, Stroke, TextStyle, Ui, WidgetInfo, lerp,
    pos2,
};
use meav_protocol::Calibration;

use super::design_tokens::{GRID, Tokens, ink_on};
use super::dialogs::{at_the_right, buttons_ui};
use super::parts::{moment, signed, weak};
use crate::action::{Action, DialogAction, KnobAction};
use crate::model::{COEFFICIENT_LIMIT, Knob, SweepDialog, Weights};

/// Points from one place to the next where the likeliest level is looked up.
const SAMPLE: f32 = 2.0;

/// Points, half the height of the zones.
const HALF_BAND: f32 = 2.0 * GRID;

/// Where a track is coloured: one level is to be expected most often from `left` to `right`.
struct Zone {
    level: usize,
    left: f32,
    right: f32,
}

/// The zones of a track that reaches from −1.5 to 1.5; none beyond the swept range.
fn zones(calibration: &Calibration, rail: Rect) -> Vec<Zone> {
    let mut zones: Vec<Zone> = Vec::new();
    let n_samples = (rail.width() / SAMPLE).ceil() as usize;
    for sample in 0..n_samples {
        let share = (sample as f32 + 0.5) / n_samples as f32;
        let lambda = lerp(-COEFFICIENT_LIMIT..=COEFFICIENT_LIMIT, f64::from(share));
        let Some(level) = calibration.dominant_at(lambda) else { continue };
        let edge = |step: usize| lerp(rail.x_range(), step as f32 / n_samples as f32);
        let (left, right) = (edge(sample), edge(sample + 1));
        match zones.last_mut().filter(|last| last.level == level && last.right >= left - 0.1) {
            Some(last) => last.right = right,
            None => zones.push(Zone { level, left, right }),
        }
    }
    zones
}

/// Colours a track by the level that is to be expected most often, with its name where there is
/// room, and marks the λ that lead to most of each level.
pub(super) fn paint_zones(ui: &Ui, calibration: &Calibration, rail: Rect, is_bypassed: bool) {
    let tokens = Tokens::of(ui.visuals());
    let font = TextStyle::Small.resolve(ui.style());
    let y = rail.center().y;
    for zone in zones(calibration, rail) {
        let name = calibration.levels.get(zone.level).map_or("", String::as_str);
        let ground = if is_bypassed { tokens.raised } else { tokens.level_ground(name) };
        let rect = Rect::from_x_y_ranges(zone.left..=zone.right, y - HALF_BAND..=y + HALF_BAND);
        ui.painter().rect_filled(rect, CornerRadius::ZERO, ground);
        let text = ui.painter().layout_no_wrap(name.to_owned(), font.clone(), ink_on(ground));
        if text.size().x + GRID <= rect.width() {
            let at = Align2::CENTER_CENTER.anchor_size(rect.center(), text.size()).min;
            ui.painter().galley(at, text, ink_on(ground));
        }
    }
    for (name, best) in calibration.levels.iter().zip(&calibration.best) {
        let Some(lambda) = best.filter(|it| it.abs() <= COEFFICIENT_LIMIT) else { continue };
        let share = egui::remap(lambda, -COEFFICIENT_LIMIT..=COEFFICIENT_LIMIT, 0.0..=1.0);
        let x = lerp(rail.x_range(), share as f32);
        let color = if is_bypassed { tokens.track } else { tokens.level(name) };
        let top = y - HALF_BAND - GRID;
        let tip = pos2(x, y - HALF_BAND);
        let corners = vec![pos2(x - GRID, top), pos2(x + GRID, top), tip];
        ui.painter().add(egui::Shape::convex_polygon(corners, color, Stroke::NONE));
    }
}

/// What is to be expected at this λ: the shares of the levels, or why they are not known.
pub(super) fn expected_ui(ui: &mut Ui, weights: &Weights, knob: &Knob) {
    let side = weights.slot.index();
    let Some(calibration) = knob.calibration().filter(|_| !knob.bypassed[side]) else { return };
    let lambda = knob.coefficients[side];
    let name = knob.name();
    // In line with the track.
    let margin = egui::Margin { left: 2 * GRID as i8, ..egui::Margin::ZERO };
    egui::Frame::new().inner_margin(margin).show(ui, |ui| match calibration.shares_at(lambda) {
        Some(shares) => shares_ui(ui, calibration, &shares, &name, is_alone(weights, knob)),
        None => beyond_ui(ui, calibration),
    });
}

fn beyond_ui(ui: &mut Ui, calibration: &Calibration) {
    let [first, last] = calibration.range().unwrap_or_default();
    let (first, last) = (signed(first), signed(last));
    let text = format!("Beyond the swept range, {} to {}", first.trim(), last.trim());
    let color = Tokens::of(ui.visuals()).warning;
    let label = ui.add(Label::new(RichText::new(text).small().color(color)).wrap());
    label.on_hover_text("Nobody has measured what this λ leads to");
}

fn shares_ui(ui: &mut Ui, calibration: &Calibration, shares: &[f64], name: &str, is_alone: bool) {
    let numbers: Vec<String> = shares.iter().map(|it| format!("{:.0}", it * 100.0)).collect();
    let levels = calibration.levels.iter().zip(&numbers);
    let spoken: Vec<String> = levels.map(|(level, it)| format!("{level} {it} %")).collect();
    let alone = if is_alone { "" } else { ", measured alone" };
    let spoken = format!("Expected of {name}: {}{alone}", spoken.join(", "));
    ui.spacing_mut().interact_size.y = 0.0;
    ui.horizontal(|ui| {
        ui.spacing_mut().item_spacing.x = GRID;
        let label = ui.label(RichText::new(format!("{} %", numbers.join("/"))).small());
        label.widget_info(|| WidgetInfo::labeled(Role::Label, true, &spoken));
        label.on_hover_text(tip(calibration, shares, is_alone));
        if !is_alone {
            weak(ui, "measured alone");
        }
    });
}

/// Whether no other vector is in the recipe.
fn is_alone(weights: &Weights, knob: &Knob) -> bool {
    let side = weights.slot.index();
    let is_active = |other: &&Knob| {
        other.fault.is_none() && !other.bypassed[side] && other.coefficients[side] != 0.0
    };
    !weights.knobs.iter().filter(|other| other.id != knob.id).any(|other| is_active(&other))
}

fn tip(calibration: &Calibration, shares: &[f64], is_alone: bool) -> String {
    let mut lines: Vec<String> = calibration
        .levels
        .iter()
        .zip(shares)
        .map(|(level, share)| format!("{level} {:.1} %", share * 100.0))
        .collect();
    lines
        .push(format!("on {}: {} records, {}", calibration.data, calibration.n, calibration.dtype));
    if !is_alone {
        lines.push(
            "Measured alone: with other knobs turned as well, it may be otherwise".to_owned(),
        );
    }
    lines.join("\n")
}

/// What the calibration comes from, and the way to write it into the vector's file.
pub(super) fn calibration_ui(ui: &mut Ui, knob: &Knob) -> Option<Action> {
    let Some(calibration) = knob.calibration() else {
        weak(ui, "Never swept on this base: nobody has measured what each λ leads to.");
        return None;
    };
    let [first, last] = calibration.range().unwrap_or_default();
    weak(
        ui,
        format!(
            "Swept from {} to {} on {} ({} records, {}), {}",
            signed(first).trim(),
            signed(last).trim(),
            calibration.data,
            calibration.n,
            calibration.dtype,
            moment(&calibration.created)
        ),
    );
    let best = calibration.levels.iter().zip(&calibration.best);
    let best: Vec<String> = best
        .filter_map(|(level, best)| Some(format!("{level} at {}", signed((*best)?).trim())))
        .collect();
    if !best.is_empty() {
        weak(ui, format!("Most {}", best.join(", ")));
    }
    let response = ui.button("Write calibration into the file…");
    response.clicked().then_some(Action::Knob(knob.id, KnobAction::AskCalibration))
}

/// What the Sweep screen asks before it is done.
pub(super) fn sweep_dialog_ui(
    ui: &mut Ui,
    dialog: &SweepDialog,
    weights: &Weights,
    is_new: bool,
) -> Vec<Action> {
    match dialog {
        SweepDialog::Delete(_) => {
            ui.heading("Delete the sweep?");
            ui.label(
                "Its points are forgotten for good. Vectors and calibrations stay as they are.",
            );
            accept_ui(ui, "Delete", is_new)
        }
        SweepDialog::WriteCalibration(knob) => {
            let knob = weights.knob(*knob);
            let known = knob.and_then(|knob| Some((knob.info.as_ref()?, knob.calibration()?)));
            let Some((info, calibration)) = known else {
                ui.label("The vector is no longer on a knob");
                return buttons_ui(ui, "Write", false);
            };
            ui.heading("Write calibration into the vector's file");
            ui.label(format!(
                "Into the header of {}: the preference accuracies at {} λ, the levels, the data's \
                 name and fingerprint, the base's name and fingerprint, and when it was measured. \
                 No text of the data is written, and no weight is changed.",
                info.file.display(),
                calibration.points.len()
            ));
            ui.add_space(GRID);
            weak(ui, "Whoever is given the file sees the coloured knob too.");
            accept_ui(ui, "Write", is_new)
        }
    }
}

/// Asks whether a training run is to be forgotten.
pub(super) fn forget_training_ui(ui: &mut Ui, is_new: bool) -> Vec<Action> {
    ui.heading("Delete the run?");
    ui.label("Its curves are forgotten. Its folder stays where it is, with the vector in it.");
    accept_ui(ui, "Delete", is_new)
}

/// Buttons, of which the one that does nothing has the keyboard.
fn accept_ui(ui: &mut Ui, accept: &str, is_new: bool) -> Vec<Action> {
    let mut actions = Vec::new();
    ui.add_space(2.0 * GRID);
    at_the_right(ui, |ui| {
        if ui.button(accept).clicked() {
            actions.push(Action::Dialog(DialogAction::Accept));
        }
        let cancel = ui.button("Cancel");
        if is_new {
            cancel.request_focus();
        }
        if cancel.clicked() {
            actions.push(Action::Dialog(DialogAction::Close));
        }
    });
    actions
}

#[cfg(test)]
mod tests {
    use meav_protocol::{CalibrationPoint, Dtype, MeasureName};

    use super::*;

    #[test]
    fn zones_meet_where_levels_cross_and_end_with_the_range() {
        let point = |lambda: f64, shares: [f64; 3]| CalibrationPoint {
            lambda,
            preference_accuracy: shares.to_vec(),
        };
        let calibration = Calibration {
            run: uuid::Uuid::nil(),
            created: String::new(),
            model: String::new(),
            base: String::new(),
            dtype: Dtype::F32,
            data: String::new(),
            data_fingerprint: String::new(),
            measure: MeasureName::Levels,
            n: 10,
            levels: ["expert", "generic", "avoidance"].map(str::to_owned).to_vec(),
            points: vec![
                point(-1.0, [0.0, 0.2, 0.8]),
                point(0.0, [0.2, 0.6, 0.2]),
                point(1.0, [0.8, 0.2, 0.0]),
            ],
            best: vec![Some(1.0), Some(0.0), Some(-1.0)],
        };
        let rail = Rect::from_x_y_ranges(0.0..=300.0, 0.0..=24.0);
        let zones = zones(&calibration, rail);
        let levels: Vec<usize> = zones.iter().map(|zone| zone.level).collect();
        assert_eq!(levels, [2, 1, 0]);
        // −1 and 1 are at 50 and 250; generic and avoidance are equal at λ = −0.4, expert and
        // generic at 0.4.
        let edges = [zones[0].left, zones[1].left, zones[2].left, zones[2].right];
        for (edge, expected) in edges.iter().zip([50.0, 110.0, 190.0, 250.0]) {
            assert!((edge - expected).abs() <= SAMPLE, "{edge} and {expected}");
        }
    }
}
