use egui::{Button, Grid, Key, RichText, Role, ScrollArea, Sense, Ui, Vec2, WidgetInfo};

use super::design_tokens::{GRID, Tokens};
use super::knobs_panel::knob_notes_ui;
use super::parts::{bytes, one_line, signed, weak};
use crate::action::{Action, KnobAction, VectorsAction};
use crate::model::{Knob, Vectors, Weights};

/// What stands in the columns, and whether those are numbers.
const COLUMNS: [(&str, bool); 8] = [
    ("", false),
    ("Domain", false),
    ("Kind", false),
    ("Size", true),
    ("Tensors", true),
    ("λ", true),
    ("Made from", false),
    ("File", false),
];

/// The vectors on knobs, one line each. The arrow keys go from one to the next.
pub(super) fn vector_table_ui(
    ui: &mut Ui,
    weights: &Weights,
    vectors: &Vectors,
    takes_focus: bool,
) -> Vec<Action> {
    let mut actions = Vec::new();
    ScrollArea::horizontal().id_salt("vectors").show(ui, |ui| {
        let table = Grid::new("vectors").num_columns(COLUMNS.len()).min_col_width(0.0);
        table.spacing([4.0 * GRID, GRID]).show(ui, |ui| {
            for (name, is_number) in COLUMNS {
                if is_number {
                    at_right(ui, |ui| weak(ui, name));
                } else {
                    weak(ui, name);
                }
            }
            ui.end_row();
            for (index, knob) in weights.knobs.iter().enumerate() {
                let is_compared = !vectors.left_out.contains(&knob.id);
                actions.extend(compared_ui(ui, weights, knob, is_compared));
                actions.extend(name_ui(ui, weights, index, takes_focus && index == 0));
                facts_ui(ui, weights, knob);
                ui.end_row();
            }
        });
    });
    for knob in weights.knobs.iter().filter(|knob| knob.fault.is_some()) {
        ui.push_id(("fault", knob.id), |ui| {
            ui.add_space(GRID);
            ui.label(RichText::new(knob.name()).strong());
            actions.extend(knob_notes_ui(ui, knob));
        });
    }
    actions
}

fn compared_ui(ui: &mut Ui, weights: &Weights, knob: &Knob, is_compared: bool) -> Option<Action> {
    let mut is_on = is_compared;
    let response = ui.add_enabled(knob.fault.is_none(), egui::Checkbox::without_text(&mut is_on));
    let name = format!("Take {} into comparisons", weights.name_among(knob));
    response
        .widget_info(|| WidgetInfo::selected(Role::CheckBox, knob.fault.is_none(), is_on, &name));
    let is_changed = response.changed();
    response.on_hover_text(&name);
    is_changed.then_some(Action::Vectors(VectorsAction::Compare(knob.id, is_on)))
}

/// The domain, which is what is selected; with its colour.
fn name_ui(ui: &mut Ui, weights: &Weights, index: usize, takes_focus: bool) -> Vec<Action> {
    let mut actions = Vec::new();
    let knob = &weights.knobs[index];
    let name = knob.name();
    let color = Tokens::of(ui.visuals()).domain(&name);
    let is_selected = weights.selected == Some(knob.id);
    ui.horizontal(|ui| {
        ui.spacing_mut().item_spacing.x = GRID;
        let (rect, chip) = ui.allocate_exact_size(Vec2::splat(3.0 * GRID), Sense::hover());
        ui.painter().circle_filled(rect.center(), GRID, color);
        chip.widget_info(|| WidgetInfo::labeled(Role::Image, true, format!("Colour of {name}")));
        let response = ui.add(Button::selectable(is_selected, RichText::new(&name).strong()));
        let label = format!("Vector {}", weights.name_among(knob));
        response.widget_info(|| WidgetInfo::selected(Role::Button, true, is_selected, &label));
        if takes_focus {
            response.request_focus();
            actions.push(Action::FocusTaken);
        }
        if response.clicked() {
            actions.push(Action::Knob(knob.id, KnobAction::Select));
        }
        // Whoever goes through the list by keys sees what is reached.
        let key = egui::Id::unique("vector to focus");
        if ui.data(|data| data.get_temp::<crate::KnobId>(key)) == Some(knob.id) {
            ui.data_mut(|data| data.remove::<crate::KnobId>(key));
            response.request_focus();
        }
        if response.has_focus() {
            let filter = egui::EventFilter { vertical_arrows: true, ..Default::default() };
            ui.memory_mut(|memory| memory.set_focus_lock_filter(response.id, filter));
            let (down, up) = ui.input(|input| {
                (input.num_presses(Key::ArrowDown), input.num_presses(Key::ArrowUp))
            });
            let next = (index + down).saturating_sub(up).min(weights.knobs.len() - 1);
            if next != index {
                let next = weights.knobs[next].id;
                ui.data_mut(|data| data.insert_temp(key, next));
                ui.ctx().request_repaint();
                actions.push(Action::Knob(next, KnobAction::Select));
            }
        }
    });
    actions
}

/// Numbers stand under each other.
fn at_right(ui: &mut Ui, add: impl FnOnce(&mut Ui) -> egui::Response) {
    ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), add);
}

fn facts_ui(ui: &mut Ui, weights: &Weights, knob: &Knob) {
    let side = weights.slot.index();
    let tokens = Tokens::of(ui.visuals());
    let small = |text: &str| RichText::new(text).small();
    match (&knob.info, &knob.fault) {
        (_, Some(_)) => {
            ui.label(small("does not fit").color(tokens.error));
            (0..2).for_each(|_| {
                weak(ui, "–");
            });
        }
        (Some(info), None) => {
            ui.label(small(&info.kind));
            at_right(ui, |ui| ui.label(small(&bytes(info.size_bytes)).monospace()));
            at_right(ui, |ui| ui.label(small(&info.tensors.to_string()).monospace()));
        }
        (None, None) => (0..3).for_each(|_| {
            weak(ui, "…");
        }),
    }
    let lambda = if knob.bypassed[side] {
        small("left out")
    } else {
        small(&signed(knob.coefficients[side])).monospace()
    };
    at_right(ui, |ui| ui.label(lambda));
    let base = knob.info.as_ref().filter(|_| knob.fault.is_none()).map(|info| info.base_matches);
    match base {
        Some(Some(true)) => {
            ui.label(small("this base").color(tokens.good));
        }
        Some(Some(false)) => {
            let tip = "It was made from other weights; it fits, but may act differently";
            ui.label(small("another base").color(tokens.warning)).on_hover_text(tip);
        }
        Some(None) => {
            weak(ui, "not said");
        }
        None => {
            weak(ui, "–");
        }
    }
    let file = knob.file.file_name().unwrap_or(knob.file.as_os_str()).to_string_lossy();
    one_line(ui, small(&file)).on_hover_text(knob.file.display().to_string());
}
