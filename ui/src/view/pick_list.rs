use egui::{EventFilter, Id, Key, Response, ScrollArea, Ui};

use super::design_tokens::ROW;

/// A scrolled list of rows of one height, one of which is chosen. Only those in sight are laid
/// out; the arrow keys go from one to the next, and what is chosen elsewhere is scrolled to.
pub(super) struct PickList<'a> {
    pub(super) name: &'a str,
    pub(super) len: usize,
    /// The row that is chosen, if it is one of these.
    pub(super) chosen: Option<usize>,
    /// Points, the most that the list takes.
    pub(super) height: f32,
    /// Whether the keyboard is to go to the chosen row.
    pub(super) takes_focus: bool,
}

/// Where someone wants to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Picked {
    /// To this row.
    Row(usize),
    /// To what comes before the first.
    Before,
    /// To what comes after the last.
    After,
}

/// What is kept from one frame to the next.
#[derive(Clone, Copy, Default)]
struct Kept {
    chosen: Option<usize>,
    had_focus: bool,
    offset: f32,
    len: usize,
}

impl PickList<'_> {
    /// Shows the list; `add` shows a row and whether it is chosen.
    pub(super) fn ui(
        &self,
        ui: &mut Ui,
        mut add: impl FnMut(&mut Ui, usize, bool) -> Response,
    ) -> Option<Picked> {
        let id = ui.make_persistent_id(("pick list", self.name));
        let before: Kept = ui.data(|data| data.get_temp(id)).unwrap_or_default();
        let has_moved = before.chosen != self.chosen;
        let wants_focus = self.takes_focus || (has_moved && before.had_focus);
        let mut area = ScrollArea::vertical()
            .id_salt(id)
            .max_height(self.height)
            .auto_shrink([false, true])
            .animated(false);
        if let Some(row) = self.chosen.filter(|_| has_moved || self.takes_focus) {
            area = area.vertical_scroll_offset(self.offset_for(row, &before));
        }
        let mut picked = None;
        let mut has_focus = false;
        let output = area.show_rows(ui, ROW, self.len, |ui, rows| {
            for row in rows {
                let is_chosen = self.chosen == Some(row);
                let response = ui.push_id((id, row), |ui| add(ui, row, is_chosen)).inner;
                if wants_focus && is_chosen {
                    response.request_focus();
                }
                if response.clicked() {
                    picked = Some(Picked::Row(row));
                }
                if response.has_focus() {
                    has_focus = true;
                    picked = turned(ui, response.id, row, self.len).or(picked);
                }
            }
        });
        let had_focus = has_focus || wants_focus;
        // Where the list has become longer, it can be scrolled as far only in the next frame.
        let chosen = if before.len == self.len { self.chosen } else { before.chosen };
        let (offset, len) = (output.state.clamped_offset().y, self.len);
        let kept = Kept { chosen, had_focus, offset, len };
        ui.data_mut(|data| data.insert_temp(id, kept));
        if has_moved {
            ui.ctx().request_repaint();
        }
        picked
    }

    /// Where the list is scrolled to for a row to be in sight.
    fn offset_for(&self, row: usize, before: &Kept) -> f32 {
        let (top, height) = (row as f32 * ROW, self.height.max(ROW));
        let end = (self.len.min(before.len) as f32 * ROW - height).max(0.0);
        // Beyond its end the area would spring back, slowly.
        before.offset.clamp((top + ROW - height).max(0.0), top).min(end)
    }
}

/// What the arrow keys ask for on a row that has the keyboard.
fn turned(ui: &Ui, id: Id, row: usize, len: usize) -> Option<Picked> {
    let filter = EventFilter { vertical_arrows: true, ..Default::default() };
    ui.memory_mut(|memory| memory.set_focus_lock_filter(id, filter));
    let (down, up) =
        ui.input(|input| (input.num_presses(Key::ArrowDown), input.num_presses(Key::ArrowUp)));
    match (row + down).checked_sub(up) {
        Some(to) if to == row => None,
        Some(to) if to >= len => Some(Picked::After),
        Some(to) => Some(Picked::Row(to)),
        None => Some(Picked::Before),
    }
}
