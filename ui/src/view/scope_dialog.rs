use egui::{
    Align2, Color32, DragValue, Key, Painter, Pos2, Rect, Role, Sense, Stroke, TextEdit, TextStyle,
    Ui, WidgetInfo, pos2, vec2,
};
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
    let name = weights.knob(dialog.knob).map_or_else(String::new, |knob| weights.name_among(knob));
    let n_layers = weights.n_layers();
    let mut draft = dialog.draft.clone();
    let mut actions = Vec::new();
    ui.heading(format!("Where {name} acts"));
    weak(ui, format!("On side {}. Elsewhere the model stays as it is.", weights.slot.name()));
    ui.add_space(GRID);
    let entered = layers_ui(ui, &mut draft.layers, n_layers, is_new);
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
    actions.extend(entered);
    actions.extend(buttons_ui(ui, "Apply", checked.is_ok()));
    actions
}

fn layers_ui(
    ui: &mut Ui,
    layers: &mut String,
    n_layers: Option<usize>,
    is_new: bool,
) -> Option<Action> {
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
    let is_entered = response.lost_focus() && ui.input(|input| input.key_pressed(Key::Enter));
    is_entered.then_some(Action::Dialog(DialogAction::Accept))
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
fn profile_ui(ui: &mut Ui, profile: &mut Vec<f64>, color: Color32) {
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

fn curve_ui(ui: &mut Ui, profile: &[f64], color: Color32) {
    let size = vec2(ui.available_width(), 18.0 * GRID);
    let (rect, response) = ui.allocate_exact_size(size, Sense::hover());
    let values = profile.iter().map(f64::to_string).collect::<Vec<_>>().join(", ");
    let label = format!("Strength from the first layer to the last: {values}");
    response.widget_info(|| WidgetInfo::labeled(Role::Image, true, &label));
    if ui.is_rect_visible(rect) {
        let rect = Rect::from_min_max(
            rect.min + vec2(6.0 * GRID, 2.0 * GRID),
            rect.max - vec2(GRID, 5.0 * GRID),
        );
        let plot = Plot { rect, range: range(profile) };
        paint_axes(ui, &plot);
        paint_curve(ui.painter(), &plot, profile, color);
    }
}

/// Where a curve is drawn.
struct Plot {
    rect: Rect,
    /// The lowest and the highest factor.
    range: (f64, f64),
}

impl Plot {
    fn x(&self, share: f32) -> f32 {
        egui::lerp(self.rect.x_range(), share)
    }

    fn y(&self, factor: f64) -> f32 {
        let (lowest, highest) = self.range;
        let share = (factor - lowest) / (highest - lowest);
        egui::lerp(self.rect.bottom()..=self.rect.top(), share as f32)
    }
}

/// From what is lowest to what is highest, with 0 and 1 always in sight.
fn range(profile: &[f64]) -> (f64, f64) {
    let factors = || profile.iter().copied();
    (factors().fold(0.0, f64::min), factors().fold(1.0, f64::max))
}

fn paint_axes(ui: &Ui, plot: &Plot) {
    let tokens = Tokens::of(ui.visuals());
    let font = TextStyle::Small.resolve(ui.style());
    let write = |at: Pos2, align: Align2, text: &str| {
        ui.painter().text(at, align, text, font.clone(), tokens.weak);
    };
    for (level, text) in [(0.0, "0"), (1.0, "1")] {
        let y = plot.y(level);
        ui.painter().hline(plot.rect.x_range(), y, Stroke::new(1.0, tokens.line));
        write(pos2(plot.rect.left() - 2.0 * GRID, y), Align2::RIGHT_CENTER, text);
    }
    let below = vec2(0.0, GRID);
    write(plot.rect.left_bottom() + below, Align2::LEFT_TOP, "first layer");
    write(plot.rect.right_bottom() + below, Align2::RIGHT_TOP, "last layer");
}

fn paint_curve(painter: &Painter, plot: &Plot, profile: &[f64], color: Color32) {
    let steps = profile.len().saturating_sub(1).max(1) as f32;
    let place =
        |(index, factor): (usize, &f64)| pos2(plot.x(index as f32 / steps), plot.y(*factor));
    let mut points: Vec<_> = profile.iter().enumerate().map(place).collect();
    for point in &points {
        painter.circle_filled(*point, 3.0, color);
    }
    if let [only] = points[..] {
        points.push(pos2(plot.x(1.0), only.y));
    }
    painter.line(points, Stroke::new(2.0, color));
}
