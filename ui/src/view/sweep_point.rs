use egui::{Button, Grid, RichText, Ui};
use egui_material_icons::icons as symbols;

use super::design_tokens::{GRID, Tokens};
use super::parts::{icon_button, primary_button, signed, title, weak};
use super::sweep_plot::{interval_text, percent};
use crate::action::{Action, SweepAction};
use crate::model::Run;

/// The point that the knobs were set to: its values, the steps beside it, and the way to a chat.
pub(super) fn point_ui(ui: &mut Ui, run: &Run, picked: Option<f64>) -> Vec<Action> {
    let mut actions = Vec::new();
    let pick = |lambda: f64| Action::Sweep(SweepAction::Pick(lambda));
    let point = picked.and_then(|lambda| run.nearest(lambda));
    ui.horizontal_wrapped(|ui| {
        title(ui, "Point");
        let from = point.map_or(0.0, |point| point.lambda);
        let [below, above] = run.beside(from);
        let mut step = |ui: &mut Ui, icon, name: &str, to: Option<f64>| {
            ui.add_enabled_ui(to.is_some(), |ui| {
                if let (true, Some(lambda)) = (icon_button(ui, icon, name).clicked(), to) {
                    actions.push(pick(lambda));
                }
            });
        };
        step(ui, symbols::ICON_CHEVRON_LEFT, "Knobs to the next lower λ", below);
        match point {
            Some(point) => ui.label(
                RichText::new(format!("λ = {}", signed(point.lambda).trim())).monospace().strong(),
            ),
            None => weak(ui, "none yet"),
        };
        step(ui, symbols::ICON_CHEVRON_RIGHT, "Knobs to the next higher λ", above);
        if point.is_some() {
            if primary_button(ui, "Chat here").clicked() {
                actions.push(Action::Sweep(SweepAction::ChatHere));
            }
            weak(ui, "The knobs are set to this point.");
        } else {
            weak(ui, "Press a curve, or step from λ = 0: the knobs are set to that point.");
        }
    });
    if let Some(point) = point {
        values_ui(ui, run, point);
    }
    actions.extend(best_ui(ui, run, picked));
    actions
}

/// A row for each data set.
fn values_ui(ui: &mut Ui, run: &Run, point: &meav_protocol::SweepPoint) {
    let tokens = Tokens::of(ui.visuals());
    Grid::new("point").spacing([2.0 * GRID, 0.0]).show(ui, |ui| {
        for (data, scores) in run.sweep.datasets.iter().zip(&point.datasets) {
            weak(ui, format!("{} · {}", data.name, data.measure));
            for (level, share) in &scores.preference_accuracy {
                // Levels of different names have their numbers below each other, too.
                ui.label(RichText::new(level).small().color(tokens.level(level)));
                ui.label(RichText::new(percent(*share)).small().monospace());
                let interval = scores.intervals.get(level);
                weak(ui, interval.map_or_else(String::new, |it| interval_text(*it)));
            }
            ui.end_row();
        }
    });
}

/// The λ that leads to most of each level of the first data set.
fn best_ui(ui: &mut Ui, run: &Run, picked: Option<f64>) -> Vec<Action> {
    let mut actions = Vec::new();
    let (Some(data), Some(curves)) = (run.sweep.datasets.first(), run.curves.first()) else {
        return actions;
    };
    if curves.lambdas.len() < 2 {
        return actions;
    }
    ui.horizontal_wrapped(|ui| {
        weak(ui, format!("Most on {}:", data.name));
        for (name, level) in data.levels.iter().zip(&curves.levels) {
            let Some(place) = first_highest(&level.shares) else { continue };
            let lambda = curves.lambdas[place];
            let text = format!("{name} at {}", signed(lambda).trim());
            let face = RichText::new(text).small();
            let button = Button::new(face).small().selected(picked == Some(lambda));
            if ui.add(button).on_hover_text("Set the knobs to this point").clicked() {
                actions.push(Action::Sweep(SweepAction::Pick(lambda)));
            }
        }
    });
    actions
}

/// The place of the highest share, of equal ones that nearest to the beginning; `None` where all
/// are 0.
fn first_highest(shares: &[f64]) -> Option<usize> {
    let higher = |best: usize, at: usize| if shares[at] > shares[best] { at } else { best };
    (0..shares.len()).reduce(higher).filter(|place| shares[*place] > 0.0)
}
