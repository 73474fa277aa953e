use egui::{DragValue, Painter, Rect, Role, Sense, Stroke, TextEdit, Ui, WidgetInfo, pos2, vec2};
use egui_material_icons::icons as symbols;
use meav_protocol::ModuleKind;

use super::design_tokens::{GRID, ROW, Tokens};
use super::dialogs::buttons_ui;
use super::parts::{icon_button, parse_number, title, weak};
use crate::action::{Action, DialogAction};
use crate::model::{FACTOR_LIMIT, MOST_POINTS, ScopeDialog, ScopeDraft, Weights};

/// Asks where in the model the vector of a knob is added, and how strongly over its depth.
pub(super) fn scope_ui(
    ui: &mut Ui,
    weights: &Weights,
    dialog: &ScopeDialog,
    is_new: bool,
) -> Vec<Action> {
    let name = weights.knob(dialog.knob).map_or_else(String::new, crate::model::Knob::name);
    let n_layers = weights.n_layers();
    let mut draft = dialog.draft.clone();
    let mut actions = Vec::new();
    ui.heading(format!("Where {name} acts"));
    weak(ui, format!("On side {}. Elsewhere the model stays as it is.", weights.slot.name()));
    ui.add_space(GRID);
    layers_ui(ui, &mut draft.layers, n_layers, is_new);
    ui.add_space(GRID);
    modules_ui(ui, &mut draft);
    ui.add_space(GRID);
    profile_ui(ui, &mut draft.profile, Tokens::of(ui.visuals()).domain(&name));
    let checked = draft.scope(n_layers);
    if let Err(sentence) = &checked {
        ui.colored_label(Tokens::of(ui.visuals()).error, sentence);
    }
    if ui.button("Everywhere").on_hover_text("The whole vector, equally strongly").clicked() {
        draft = ScopeDraft::everywhere();
    }
    if draft != dialog.draft {
        actions.push(Action::Dialog(DialogAction::SetScope(draft)));
    }
    actions.extend(buttons_ui(ui, "Apply", checked.is_ok()));
    actions
}

fn layers_ui(ui: &mut Ui, layers: &mut String, n_layers: Option<usize>, is_new: bool) {
    let label = title(ui, "Layers");
    let hint = match n_layers {
        Some(count) => format!("All; or such as 0–{}", count.saturating_sub(1) / 2),
        None => "All; or such as 0–9, 20–29".to_owned(),
    };
    let field = TextEdit::singleline(layers).hint_text(hint).desired_width(f32::INFINITY);
    let response = ui.add(field).labelled_by(label.id);
    if is_new {
        response.request_focus();
    }
    let count = n_layers.map_or_else(String::new, |count| {
        format!("This model has {count}, counted from 0 to {}. ", count.saturating_sub(1))
    });
    weak(ui, format!("{count}With layers named, what lies outside them is left alone."));
}

fn modules_ui(ui: &mut Ui, draft: &mut ScopeDraft) {
    title(ui, "Kinds of weights");
    ui.horizontal_wrapped(|ui| {
        for kind in ModuleKind::ALL {
            let (name, tip) = kind_texts(kind);
            let mut is_in = draft.modules.contains(&kind);
            if ui.checkbox(&mut is_in, name).on_hover_text(tip).changed() {
                draft.modules.retain(|other| *other != kind);
                if is_in {
                    draft.modules.push(kind);
                    draft.modules.sort();
                }
            }
        }
    });
}

fn kind_texts(kind: ModuleKind) -> (&'static str, &'static str) {
    match kind {
        ModuleKind::Attention => ("Attention", "Queries, keys, values and output of attention"),
        ModuleKind::Mlp => ("MLP", "The feed-forward layers"),
        ModuleKind::Embeddings => ("Embeddings", "Token embeddings and output projection"),
        ModuleKind::Norms => ("Norms", "Normalisations"),
        ModuleKind::Other => ("Other", "Whatever is none of these"),
    }
}

/// Factors of λ over depth as numbers, and as the curve that they make.
fn profile_ui(ui: &mut Ui, profile: &mut Vec<f64>, color: egui::Color32) {
    title(ui, "Strength over depth");
    let mut varies = !profile.is_empty();
    let tip = "Factors of λ at even steps from the first layer to the last, in a straight line \
               between them";
    if ui.checkbox(&mut varies, "Varies over depth").on_hover_text(tip).changed() {
        *profile = if varies { vec![1.0; 3] } else { Vec::new() };
    }
    if profile.is_empty() {
        return;
    }
    ui.horizontal_wrapped(|ui| {
        let count = profile.len();
        for (index, factor) in profile.iter_mut().enumerate() {
            let field = DragValue::new(factor)
                .range(-FACTOR_LIMIT..=FACTOR_LIMIT)
                .speed(0.01)
                .max_decimals(2)
                .custom_parser(parse_number);
            ui.add_sized([11.0 * GRID, ROW], field).on_hover_text(point_name(index, count));
        }
        ui.add_enabled_ui(count > 1, |ui| {
            if icon_button(ui, symbols::ICON_REMOVE, "One factor less").clicked() {
                profile.pop();
            }
        });
        ui.add_enabled_ui(count < MOST_POINTS, |ui| {
            if icon_button(ui, symbols::ICON_ADD, "One factor more").clicked() {
                profile.extend(profile.last().copied());
            }
        });
    });
    curve_ui(ui, profile, color);
}

fn point_name(index: usize, count: usize) -> String {
    match index {
        0 => "Factor at the first layer".to_owned(),
        _ if index + 1 == count => "Factor at the last layer".to_owned(),
        _ => format!("Factor at {:.0} % of the depth", 100.0 * index as f64 / (count - 1) as f64),
    }
}

fn curve_ui(ui: &mut Ui, profile: &[f64], color: egui::Color32) {
    let size = vec2(ui.available_width(), 16.0 * GRID);
    let (rect, response) = ui.allocate_exact_size(size, Sense::hover());
    let values = profile.iter().map(f64::to_string).collect::<Vec<_>>().join(", ");
    let label = format!("Strength from the first layer to the last: {values}");
    response.widget_info(|| WidgetInfo::labeled(Role::Image, true, &label));
    if ui.is_rect_visible(rect) {
        paint_curve(ui.painter(), rect.shrink(GRID), profile, color, Tokens::of(ui.visuals()));
    }
}

/// From what is lowest to what is highest, with 0 and 1 always in sight.
fn paint_curve(
    painter: &Painter,
    rect: Rect,
    profile: &[f64],
    color: egui::Color32,
    tokens: &Tokens,
) {
    let lowest = profile.iter().copied().fold(0.0, f64::min);
    let highest = profile.iter().copied().fold(1.0, f64::max);
    let y = |factor: f64| {
        let share = (factor - lowest) / (highest - lowest);
        egui::lerp(rect.bottom()..=rect.top(), share as f32)
    };
    for level in [0.0, 1.0] {
        painter.hline(rect.x_range(), y(level), Stroke::new(1.0, tokens.line));
    }
    let steps = profile.len().saturating_sub(1).max(1) as f32;
    let x = |index: usize| egui::lerp(rect.x_range(), index as f32 / steps);
    let mut points: Vec<_> =
        profile.iter().enumerate().map(|(index, factor)| pos2(x(index), y(*factor))).collect();
    for point in &points {
        painter.circle_filled(*point, 3.0, color);
    }
    if let [only] = points[..] {
        points.push(pos2(rect.right(), only.y));
    }
    painter.line(points, Stroke::new(2.0, color));
}
