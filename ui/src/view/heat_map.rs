use egui::{Align2, Color32, FontId, Rect, Role, Sense, TextStyle, Ui, WidgetInfo, pos2, vec2};

use super::design_tokens::{GRID, Tokens, ink_on};

/// Points, the height of a row.
const CELL_HEIGHT: f32 = 5.0 * GRID;

/// Numbers in rows and columns, each with a colour.
///
/// A cell shows its number; who hovers over it, or has it read out, is told all there is to it.
pub(super) struct HeatMap<'a> {
    /// What the map shows, for those who can't see it.
    pub(super) name: &'a str,
    /// Points, the width of the rows' names.
    pub(super) name_width: f32,
    /// What so many columns have in common, from left to right; empty for nothing.
    pub(super) groups: Vec<(String, usize)>,
    pub(super) columns: Vec<String>,
    pub(super) rows: Vec<HeatRow>,
}

/// A row of a [`HeatMap`].
pub(super) struct HeatRow {
    pub(super) name: String,
    /// One for each column; `None` where there is nothing.
    pub(super) cells: Vec<Option<HeatCell>>,
}

/// A cell of a [`HeatMap`].
pub(super) struct HeatCell {
    /// What stands in it.
    pub(super) text: String,
    /// All there is to it; the first line names it.
    pub(super) tip: String,
    pub(super) color: Color32,
}

impl HeatMap<'_> {
    pub(super) fn ui(&self, ui: &mut Ui) {
        let room = ui.available_width() - self.name_width;
        let width = (room / self.columns.len().max(1) as f32).clamp(14.0 * GRID, 32.0 * GRID);
        let above = usize::from(!self.groups.is_empty());
        let height = CELL_HEIGHT * (self.rows.len() + 1 + above) as f32;
        let size = vec2(self.name_width + width * self.columns.len() as f32, height);
        let (rect, response) = ui.allocate_exact_size(size, Sense::hover());
        response.widget_info(|| WidgetInfo::labeled(Role::Table, true, self.name));
        let tokens = Tokens::of(ui.visuals());
        let font = TextStyle::Small.resolve(ui.style());
        let place = |row: usize, column: usize| {
            let left = rect.left() + self.name_width + width * column as f32;
            let top = rect.top() + CELL_HEIGHT * (row + above) as f32;
            Rect::from_min_size(pos2(left, top), vec2(width, CELL_HEIGHT))
        };
        let mut first = 0;
        for (name, count) in &self.groups {
            let (left, right) = (place(0, first).left(), place(0, first + count).left());
            let at = Rect::from_x_y_ranges(left..=right, rect.top()..=rect.top() + CELL_HEIGHT);
            let painter = ui.painter().with_clip_rect(at.intersect(ui.clip_rect()));
            painter.text(at.center(), Align2::CENTER_CENTER, name, font.clone(), tokens.text);
            let line = egui::Stroke::new(1.0, tokens.track);
            ui.painter().hline(left + 2.0..=right - 2.0, at.bottom() - 1.0, line);
            first += count;
        }
        for (column, name) in self.columns.iter().enumerate() {
            let at = place(0, column).center();
            ui.painter().text(at, Align2::CENTER_CENTER, name, font.clone(), tokens.weak);
        }
        for (row, HeatRow { name, cells }) in self.rows.iter().enumerate() {
            let at = pos2(rect.left(), place(row + 1, 0).center().y);
            ui.painter().text(at, Align2::LEFT_CENTER, name, font.clone(), tokens.weak);
            for (column, cell) in cells.iter().enumerate() {
                if let Some(cell) = cell {
                    cell_ui(ui, cell, place(row + 1, column), (row, column), &font);
                }
            }
        }
    }
}

fn cell_ui(ui: &Ui, cell: &HeatCell, at: Rect, place: (usize, usize), font: &FontId) {
    // What is out of sight is not read out either; scrolling brings it.
    if !ui.is_rect_visible(at) {
        return;
    }
    let response = ui.interact(at, ui.scope_id().with(("cell", place)), Sense::hover());
    response.widget_info(|| WidgetInfo::labeled(Role::Cell, true, cell.tip.replace('\n', ", ")));
    ui.painter().rect_filled(at.shrink(0.5), 0.0, cell.color);
    let ink = ink_on(cell.color);
    ui.painter().text(at.center(), Align2::CENTER_CENTER, &cell.text, font.clone(), ink);
    if response.hovered() {
        let stroke = egui::Stroke::new(1.5, Tokens::of(ui.visuals()).strong);
        ui.painter().rect_stroke(at.shrink(0.5), 0.0, stroke, egui::StrokeKind::Inside);
    }
    response.on_hover_text(&cell.tip);
}

/// A strip of the colours between two numbers, with the number in the middle too.
pub(super) fn legend_ui(ui: &mut Ui, ends: [&str; 3], color: impl Fn(f64) -> Color32) {
    ui.horizontal(|ui| {
        ui.spacing_mut().item_spacing.x = GRID;
        super::parts::weak(ui, ends[0]);
        let (rect, response) =
            ui.allocate_exact_size(vec2(40.0 * GRID, 3.0 * GRID), Sense::hover());
        let name = format!("The colours go from {} through {} to {}", ends[0], ends[1], ends[2]);
        response.widget_info(|| WidgetInfo::labeled(Role::Image, true, &name));
        let n_steps = 41;
        let width = rect.width() / n_steps as f32;
        for step in 0..n_steps {
            let share = f64::from(step) / f64::from(n_steps - 1);
            let left = rect.left() + width * step as f32;
            let part = Rect::from_min_size(pos2(left, rect.top()), vec2(width, rect.height()));
            ui.painter().rect_filled(part, 0.0, color(share));
        }
        let ink = ink_on(color(0.5));
        let font = TextStyle::Small.resolve(ui.style());
        ui.painter().text(rect.center(), Align2::CENTER_CENTER, ends[1], font, ink);
        super::parts::weak(ui, ends[2]);
    });
}
