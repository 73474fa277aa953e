use egui::{
    Color32, CursorIcon, Event, EventFilter, Id, Key, MouseWheelUnit, PointerButton, Rect,
    Response, Sense, Stroke, Ui, WidgetInfo, accesskit, lerp, remap, vec2,
};

use meav_protocol::Calibration;

use super::calibration::paint_zones;
use super::design_tokens::{GRID, ROW, Tokens};
use crate::model::COEFFICIENT_LIMIT;

/// λ per step of the wheel or an arrow key.
const STEP: f64 = 0.1;

/// Shift makes each movement this much finer.
const FINE: f64 = 0.1;

/// λ per step of a page key.
const PAGE: f64 = 0.5;

/// Dragging sticks to 0 this close to it, and to each λ that leads to most of a level, unless it is
/// fine.
const DETENT: f64 = 0.03;

/// Points around the handle where a press takes hold of it instead of moving it there.
const GRIP: f32 = 3.0 * GRID;

/// The track of a knob: a line from −1.5 to 1.5, filled from 0 to λ.
///
/// Drag, wheel, arrow and page keys, Home and End move it, Shift makes that fine; a double click
/// or Delete sets it to 0. Gives back the new λ if it has moved.
pub(crate) struct KnobTrack<'a> {
    pub(crate) name: &'a str,
    pub(crate) coefficient: f64,
    pub(crate) color: Color32,
    /// Drawn as out of use; it can be moved nevertheless.
    pub(crate) is_bypassed: bool,
    /// Where it leads to which level, if that was measured.
    pub(crate) calibration: Option<&'a Calibration>,
}

impl KnobTrack<'_> {
    pub(crate) fn ui(self, ui: &mut Ui) -> (Response, Option<f64>) {
        let size = vec2(ui.available_width(), ROW);
        let (rect, response) = ui.allocate_exact_size(size, Sense::click_and_drag());
        let response = response.on_hover_cursor(CursorIcon::ResizeHorizontal);
        let rail = rect.shrink2(vec2(2.0 * GRID, 0.0));
        let moved = reset_by(ui, &response)
            .or_else(|| self.dragged_by(ui, &response, rail))
            .or_else(|| self.wheeled_by(ui, &response))
            .or_else(|| self.typed_by(ui, &response))
            .or_else(|| self.asked_by_reader(ui, response.id));
        let moved = moved.map(tidy).filter(|value| value.total_cmp(&self.coefficient).is_ne());
        let shown = moved.unwrap_or(self.coefficient);
        self.describe(ui, &response, shown);
        if ui.is_rect_visible(rect) {
            self.paint(ui, &response, rail, shown);
        }
        (response, moved)
    }

    /// While it is dragged, the value is followed unrounded, so that slow movements are not lost.
    fn dragged_by(&self, ui: &Ui, response: &Response, rail: Rect) -> Option<f64> {
        let held = response.id.with("held");
        let pointer = response.interact_pointer_pos()?;
        if response.is_pointer_button_down_on() && ui.input(|input| input.pointer.primary_pressed())
        {
            response.request_focus();
            let handle = position(self.coefficient, rail);
            let start = if (pointer.x - handle).abs() <= GRIP {
                self.coefficient
            } else {
                coefficient_at(pointer.x, rail)
            };
            ui.data_mut(|data| data.insert_temp(held, start));
            return Some(start);
        }
        if !response.dragged_by(PointerButton::Primary) {
            return None;
        }
        let is_fine = ui.input(|input| input.modifiers.shift);
        let scale = if is_fine { FINE } else { 1.0 };
        let by = f64::from(response.drag_delta().x / rail.width()) * 2.0 * COEFFICIENT_LIMIT;
        let value = ui.data_mut(|data| {
            let value = data.get_temp_mut_or(held, self.coefficient);
            *value = (*value + by * scale).clamp(-COEFFICIENT_LIMIT, COEFFICIENT_LIMIT);
            *value
        });
        Some(if is_fine { value } else { self.snapped(value) })
    }

    /// The nearest detent, if one is near.
    fn snapped(&self, value: f64) -> f64 {
        let best = self.calibration.into_iter().flat_map(|it| &it.best).copied().flatten();
        let distance = |detent: &f64| (detent - value).abs();
        let nearest = best.chain([0.0]).min_by(|a, b| distance(a).total_cmp(&distance(b)));
        nearest.filter(|detent| distance(detent) < DETENT).unwrap_or(value)
    }

    /// The wheel over a track turns the knob, and scrolls nothing.
    fn wheeled_by(&self, ui: &Ui, response: &Response) -> Option<f64> {
        if !response.hovered() {
            return None;
        }
        let steps: f64 = ui.input_mut(|input| {
            input.smooth_scroll_delta = egui::Vec2::ZERO;
            input.events.iter().filter_map(wheel_steps).sum()
        });
        if steps == 0.0 {
            return None;
        }
        let is_fine = ui.input(|input| input.modifiers.shift);
        let step = if is_fine { STEP * FINE } else { STEP };
        // Touchpads turn by less than what is shown: the rest is kept for the next turn.
        let rest = response.id.with("rest");
        let wanted = ui.data(|data| data.get_temp::<f64>(rest)).unwrap_or_default()
            + self.coefficient
            + steps * step;
        ui.data_mut(|data| data.insert_temp(rest, wanted - tidy(wanted)));
        Some(wanted)
    }

    fn typed_by(&self, ui: &Ui, response: &Response) -> Option<f64> {
        if !response.has_focus() {
            return None;
        }
        let filter =
            EventFilter { horizontal_arrows: true, vertical_arrows: true, ..Default::default() };
        ui.memory_mut(|memory| memory.set_focus_lock_filter(response.id, filter));
        ui.input_mut(|input| {
            if input.modifiers.alt || input.modifiers.command {
                return None;
            }
            if input.key_pressed(Key::Home) {
                return Some(-COEFFICIENT_LIMIT);
            }
            if input.key_pressed(Key::End) {
                return Some(COEFFICIENT_LIMIT);
            }
            let presses = |key| input.num_presses(key) as f64;
            let arrows = presses(Key::ArrowRight) + presses(Key::ArrowUp)
                - presses(Key::ArrowLeft)
                - presses(Key::ArrowDown);
            let pages = presses(Key::PageUp) - presses(Key::PageDown);
            // The chat turns its pages by them.
            input.events.retain(|event| !is_page_key(event));
            let scale = if input.modifiers.shift { FINE } else { 1.0 };
            let by = (arrows * STEP + pages * PAGE) * scale;
            (by != 0.0).then_some(self.coefficient + by)
        })
    }

    fn asked_by_reader(&self, ui: &Ui, id: Id) -> Option<f64> {
        use accesskit::{Action, ActionData};
        ui.input(|input| {
            let value = input
                .accesskit_action_requests(id, Action::SetValue)
                .filter_map(|request| match request.data {
                    Some(ActionData::NumericValue(value)) => Some(value),
                    _ => None,
                })
                .last();
            let steps = input.num_accesskit_action_requests(id, Action::Increment) as f64
                - input.num_accesskit_action_requests(id, Action::Decrement) as f64;
            value.or((steps != 0.0).then_some(self.coefficient + steps * STEP))
        })
    }

    fn describe(&self, ui: &Ui, response: &Response, value: f64) {
        let name = format!("λ of {}", self.name);
        response.widget_info(|| WidgetInfo::slider(ui.is_enabled(), value, &name));
        ui.ctx().accesskit_node_builder(response.id, |node| {
            node.set_min_numeric_value(-COEFFICIENT_LIMIT);
            node.set_max_numeric_value(COEFFICIENT_LIMIT);
            node.set_numeric_value_step(STEP);
            for action in [
                accesskit::Action::SetValue,
                accesskit::Action::Increment,
                accesskit::Action::Decrement,
            ] {
                node.add_action(action);
            }
        });
    }

    fn paint(&self, ui: &Ui, response: &Response, rail: Rect, value: f64) {
        let tokens = Tokens::of(ui.visuals());
        let painter = ui.painter();
        let y = rail.center().y;
        let color = if self.is_bypassed { tokens.track } else { self.color };
        painter.hline(rail.x_range(), y, Stroke::new(2.0, tokens.track));
        if let Some(calibration) = self.calibration {
            paint_zones(ui, calibration, rail, self.is_bypassed);
        }
        for tick in -3..=3 {
            let x = position(f64::from(tick) * 0.5, rail);
            let half = if tick == 0 { 1.5 * GRID } else { GRID };
            // Not through the names of zones.
            let reach = match self.calibration {
                Some(_) => y + 2.0 * GRID..=y + GRID + 1.5 * half,
                None => y - half..=y + half,
            };
            painter.vline(x, reach, Stroke::new(1.0, tokens.track));
        }
        let (zero, handle) = (position(0.0, rail), position(value, rail));
        // The names of zones stay legible.
        let (at, width) = if self.calibration.is_some() { (y + 9.0, 2.0) } else { (y, GRID) };
        painter.hline(zero.min(handle)..=zero.max(handle), at, Stroke::new(width, color));
        let center = egui::pos2(handle, y);
        let radius = if response.hovered() || response.has_focus() { 8.0 } else { 7.0 };
        let fill = if self.is_bypassed { tokens.panel } else { color };
        if self.calibration.is_some() {
            painter.circle_filled(center, radius + 2.5, tokens.panel);
        }
        painter.circle(center, radius, fill, Stroke::new(2.0, color));
        if response.has_focus() {
            painter.circle_stroke(center, radius + 3.0, Stroke::new(2.0, tokens.accent));
        }
    }
}

/// A double click, or Delete.
fn reset_by(ui: &Ui, response: &Response) -> Option<f64> {
    let is_deleted = response.has_focus()
        && ui.input(|input| input.key_pressed(Key::Delete) || input.key_pressed(Key::Backspace));
    (response.double_clicked() || is_deleted).then_some(0.0)
}

fn is_page_key(event: &Event) -> bool {
    matches!(event, Event::Key { key: Key::PageUp | Key::PageDown, .. })
}

/// Steps of the wheel in one event. With Shift, some systems turn the wheel sideways.
fn wheel_steps(event: &Event) -> Option<f64> {
    let Event::MouseWheel { unit, delta, .. } = event else { return None };
    let by = f64::from(if delta.y == 0.0 { delta.x } else { delta.y });
    Some(match unit {
        MouseWheelUnit::Line => by,
        MouseWheelUnit::Page => by * PAGE / STEP,
        MouseWheelUnit::Point => by / 50.0,
    })
}

fn position(coefficient: f64, rail: Rect) -> f32 {
    let share = remap(coefficient, -COEFFICIENT_LIMIT..=COEFFICIENT_LIMIT, 0.0..=1.0);
    lerp(rail.x_range(), share.clamp(0.0, 1.0) as f32)
}

fn coefficient_at(x: f32, rail: Rect) -> f64 {
    let share = f64::from((x - rail.left()) / rail.width()).clamp(0.0, 1.0);
    lerp(-COEFFICIENT_LIMIT..=COEFFICIENT_LIMIT, share)
}

/// Within the range, to the hundredth that is shown.
fn tidy(coefficient: f64) -> f64 {
    let hundredths = (coefficient.clamp(-COEFFICIENT_LIMIT, COEFFICIENT_LIMIT) * 100.0).round();
    // Not −0.
    hundredths / 100.0 + 0.0
}
