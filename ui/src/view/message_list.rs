use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use egui::{Align, Id, Key, Modifiers, Pos2, Rect, ScrollArea, Ui, UiBuilder, vec2};
use uuid::Uuid;

use super::design_tokens::GRID;

/// A scrolled list that lays out only what is in sight, whatever each entry's height.
///
/// Heights are learnt when entries are first seen, and guessed before. Where a guess above the
/// upper edge was wrong, the list is moved so that what is read stays where it is. While the end is
/// in sight the list follows it.
pub(crate) struct MessageList<'a> {
    pub(crate) id: Id,
    pub(crate) entries: &'a [Entry],
    /// An entry to bring to the upper edge.
    pub(crate) reveal: Option<usize>,
    /// Whether to go to the end.
    pub(crate) to_end: bool,
}

/// One entry, as far as the list must know it.
pub(crate) struct Entry {
    pub(crate) id: Uuid,
    /// A height for as long as the true one is not known.
    pub(crate) guess: f32,
}

/// Heights that were seen, and a position to take up in the next frame.
#[derive(Clone, Default)]
struct Seen {
    width: f32,
    heights: HashMap<Uuid, f32>,
    /// Heights at another width: better than a guess from the text.
    outdated: HashMap<Uuid, f32>,
    next_offset: Option<f32>,
}

impl Seen {
    fn height(&self, entry: &Entry) -> f32 {
        let known = self.heights.get(&entry.id).or_else(|| self.outdated.get(&entry.id));
        known.copied().unwrap_or(entry.guess)
    }
}

type SharedSeen = Arc<Mutex<Seen>>;

/// Between two entries.
const GAP: f32 = 3.0 * GRID;

impl MessageList<'_> {
    /// Shows the list. Gives back where it is on the screen, and whether its end is in sight.
    pub(crate) fn ui(&self, ui: &mut Ui, mut add: impl FnMut(&mut Ui, usize)) -> (Rect, bool) {
        let shared: SharedSeen =
            ui.data_mut(|data| data.get_temp_mut_or_default::<SharedSeen>(self.id).clone());
        let mut seen = shared.lock().unwrap_or_else(PoisonError::into_inner);
        let mut area = ScrollArea::vertical().id_salt(self.id).auto_shrink(false).animated(false);
        area = match seen.next_offset.take() {
            Some(offset) => area.vertical_scroll_offset(offset),
            None => area.stick_to_bottom(true),
        };
        let output = area
            .show_viewport(ui, |ui, viewport| self.show_visible(ui, viewport, &mut seen, &mut add));
        let shift = output.inner;
        let offset = output.state.clamped_offset().y;
        let end = output.content_size.y - output.inner_rect.height();
        if let Some(index) = self.reveal {
            seen.next_offset = Some(self.tops(&seen)[index]);
        } else if let Some(to) = paged(ui, offset, output.inner_rect.height()) {
            seen.next_offset = Some(to);
        } else if shift != 0.0 && offset < end - 1.0 {
            seen.next_offset = Some(offset + shift);
        }
        if let Some(offset) = seen.next_offset {
            // Beyond its end the area would spring back, slowly.
            let total = self.tops(&seen).last().copied().unwrap_or_default();
            seen.next_offset =
                Some(offset.clamp(0.0, (total - output.inner_rect.height()).max(0.0)));
            ui.ctx().request_repaint();
        }
        (output.inner_rect, offset >= end - 1.0)
    }

    /// Lays out the entries in `viewport`. Gives back how far entries above it grew.
    fn show_visible(
        &self,
        ui: &mut Ui,
        viewport: Rect,
        seen: &mut Seen,
        add: &mut impl FnMut(&mut Ui, usize),
    ) -> f32 {
        let width = ui.available_width();
        if (seen.width - width).abs() > 0.5 {
            seen.width = width;
            let Seen { heights, outdated, .. } = seen;
            outdated.extend(heights.drain());
        }
        let tops = self.tops(seen);
        let total = tops.last().copied().unwrap_or_default();
        let origin = ui.min_rect().left_top();
        ui.set_height(total);
        let mut shift = 0.0;
        let first = tops.partition_point(|top| *top <= viewport.top()).saturating_sub(1);
        for index in first..self.entries.len() {
            if tops[index] > viewport.bottom() {
                break;
            }
            let id = self.entries[index].id;
            let top_left: Pos2 = origin + vec2(0.0, tops[index]);
            let guess = tops[index + 1] - tops[index] - GAP;
            let builder = UiBuilder::new()
                .scope_id(self.id.with(id))
                .max_rect(Rect::from_min_size(top_left, vec2(width, guess.max(1.0))));
            let height = ui
                .scope_builder(builder, |ui| {
                    ui.set_width(width);
                    add(ui, index);
                })
                .response
                .rect
                .height();
            let before = seen.heights.insert(id, height);
            if before.is_none_or(|before| (before - height).abs() > 0.5) {
                ui.ctx().request_repaint();
            }
            // What was seen before and grew, grew at its end.
            if before.is_none() && tops[index] < viewport.top() {
                shift += height - guess;
            }
        }
        if self.to_end {
            // Once there, the area stays there while heights become known.
            let end = ui.min_rect().left_bottom();
            ui.scroll_to_rect(Rect::from_min_max(end, end), Some(Align::BOTTOM));
        }
        shift
    }

    /// The upper edge of each entry, and the lower edge of the last.
    fn tops(&self, seen: &Seen) -> Vec<f32> {
        let mut top = 0.0;
        let mut tops = Vec::with_capacity(self.entries.len() + 1);
        tops.push(top);
        for entry in self.entries {
            top += seen.height(entry) + GAP;
            tops.push(top);
        }
        tops
    }
}

/// Where the keys that turn pages lead. A field or a knob that has a use for them has taken them.
fn paged(ui: &Ui, offset: f32, page: f32) -> Option<f32> {
    // A line of the page before stays in sight.
    let page = (page - 5.0 * GRID).max(page / 2.0);
    ui.input_mut(|input| {
        if input.consume_key(Modifiers::COMMAND, Key::Home) {
            Some(0.0)
        } else if input.consume_key(Modifiers::COMMAND, Key::End) {
            Some(f32::MAX)
        } else if input.consume_key(Modifiers::NONE, Key::PageUp) {
            Some(offset - page)
        } else if input.consume_key(Modifiers::NONE, Key::PageDown) {
            Some(offset + page)
        } else {
            None
        }
    })
}
