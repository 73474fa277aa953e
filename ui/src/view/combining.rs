use egui::{Button, DragValue, Ui};
use egui_material_icons::icons as symbols;
use meav_protocol::Method;

use super::design_tokens::GRID;
use super::parts::{icon_button, named, parse_number, weak};
use crate::action::Action;
use crate::model::{DARE_DROP, TIES_DENSITY, Weights};

/// How the vectors of this side are combined, with the settings of that method.
pub(super) fn method_ui(ui: &mut Ui, weights: &Weights) -> Vec<Action> {
    let method = weights.method();
    let mut new = method;
    let mut actions = Vec::new();
    ui.horizontal(|ui| {
        ui.spacing_mut().item_spacing.x = GRID;
        actions.extend(choice_ui(ui, method));
        share_ui(ui, &mut new);
    });
    if let Method::Dare { seed, .. } = &mut new {
        ui.horizontal(|ui| {
            ui.spacing_mut().item_spacing.x = GRID;
            weak(ui, "seed");
            let tip = "Seed: the same one drops the same elements";
            // As a number of the toolkit, a long one would lose its last digits.
            let exact = *seed;
            let text = move |value: f64, _| {
                if value.total_cmp(&(exact as f64)).is_eq() {
                    exact.to_string()
                } else {
                    format!("{value:.0}")
                }
            };
            ui.add(DragValue::new(seed).custom_formatter(text)).on_hover_text(tip);
            if icon_button(ui, symbols::ICON_CASINO, "New seed").clicked() {
                actions.push(Action::NewSeed);
            }
        });
    }
    if new != method {
        actions.push(Action::SetMethod(new));
    }
    actions
}

fn choice_ui(ui: &mut Ui, method: Method) -> Option<Action> {
    let mut chosen = None;
    let face = format!("{}  {}", symbols::ICON_FUNCTIONS.codepoint, name(method));
    let menu = ui.menu_button(face, |ui| {
        for choice in choices() {
            let is_chosen = name(choice) == name(method);
            let entry = Button::selectable(is_chosen, name(choice));
            if ui.add(entry).on_hover_text(explanation(choice)).clicked() {
                chosen = (!is_chosen).then_some(Action::SetMethod(choice));
                ui.close();
            }
        }
        weak(ui, "λ is used as it is set, never normalised.");
    });
    let label = format!("Combine vectors by {}", name(method));
    named(menu.response, &label).on_hover_text(explanation(method));
    chosen
}

/// Each method with the settings that it begins with.
fn choices() -> [Method; 3] {
    [
        Method::TaskArithmetic,
        Method::Ties { density: TIES_DENSITY },
        Method::Dare { drop: DARE_DROP, seed: 1 },
    ]
}

fn name(method: Method) -> &'static str {
    match method {
        Method::TaskArithmetic => "Task arithmetic",
        Method::Ties { .. } => "TIES",
        Method::Dare { .. } => "DARE",
    }
}

fn explanation(method: Method) -> &'static str {
    match method {
        Method::TaskArithmetic => "Adds the vectors up, each times its λ",
        Method::Ties { .. } => {
            "Keeps the largest elements of each vector, and adds only those of the sign that prevails"
        }
        Method::Dare { .. } => {
            "Drops elements at random, scales the others up to make good for them, then adds them up"
        }
    }
}

/// The share of elements that a method keeps or drops.
fn share_ui(ui: &mut Ui, method: &mut Method) {
    let (word, tip, share, range) = match method {
        Method::TaskArithmetic => return,
        Method::Ties { density } => {
            let tip = "Density: the share of each tensor's elements that is kept";
            ("keep", tip, density, 0.001..=1.0)
        }
        Method::Dare { drop, .. } => {
            ("drop", "The share of elements that is dropped", drop, 0.0..=0.999)
        }
    };
    weak(ui, word);
    let field = DragValue::new(share).range(range).speed(0.01).max_decimals(3);
    ui.add(field.custom_parser(parse_number)).on_hover_text(tip);
}
