use egui::text::{LayoutJob, TextFormat};
use egui::{
    Button, Frame, Id, Key, RichText, Role, ScrollArea, Stroke, TextEdit, TextStyle, Ui, UiBuilder,
    WidgetInfo, vec2,
};
use egui_material_icons::icons as symbols;
use meav_protocol::{DataRecord, RecordPage};

use super::data_panel::{DataView, long_text_ui};
use super::design_tokens::{GRID, ROW, Tokens};
use super::parts::{icon_button, user_error_ui, weak};
use super::pick_list::{PickList, Picked};
use crate::action::Action;
use crate::data_action::DataAction;
use crate::model::data::RECORDS_ON_PAGE;

/// Points, the width from which the list stands beside the record.
const WIDTH_FOR_TWO: f32 = 180.0 * GRID;

/// Points, the width of the list there.
const LIST_WIDTH: f32 = 60.0 * GRID;

/// Rows of the list above the record.
const ROWS_ABOVE: f32 = 7.0;

/// Points, the least width of a response beside others.
const COLUMN_WIDTH: f32 = 38.0 * GRID;

/// Letters of a query in the list.
const LETTERS_IN_LIST: usize = 160;

/// Points below the list, for the pages.
const PAGES_HEIGHT: f32 = ROW + 2.0 * GRID;

/// The records: a list with a search, and one of them in full.
pub(super) fn records_ui(ui: &mut Ui, view: &DataView<'_>) -> Vec<Action> {
    let mut actions = search_ui(ui, view);
    if view.data.report.as_ref().is_some_and(|report| report.is_demo) {
        weak(ui, "Demo data: synthetic, reviewed by no professional.");
    }
    if let Some(err) = &view.data.page_error {
        actions.extend(user_error_ui(ui, err));
        if ui.button("Try again").clicked() {
            actions.push(Action::Data(DataAction::Retry));
        }
    }
    let Some(page) = &view.data.page else {
        if view.is_slow {
            weak(ui, "Reading…");
        }
        return actions;
    };
    if page.total == 0 {
        ui.label(if page.search.is_empty() {
            "The file has no record that can be used; the overview says why.".to_owned()
        } else {
            format!("No record has “{}”", page.search)
        });
        return actions;
    }
    let size = ui.available_size();
    if size.x >= WIDTH_FOR_TWO {
        ui.horizontal_top(|ui| {
            let side = |ui: &mut Ui, width: f32, add: &mut dyn FnMut(&mut Ui)| {
                let layout = egui::Layout::top_down(egui::Align::Min);
                ui.allocate_ui_with_layout(vec2(width, size.y), layout, |ui| {
                    ui.set_width(width);
                    add(ui);
                });
            };
            let height = size.y - PAGES_HEIGHT;
            side(ui, LIST_WIDTH, &mut |ui| actions.extend(list_ui(ui, view, page, height)));
            let width = size.x - LIST_WIDTH - 6.0 * GRID;
            ui.separator();
            side(ui, width, &mut |ui| actions.extend(shown_ui(ui, view, page)));
        });
    } else {
        actions.extend(list_ui(ui, view, page, ROWS_ABOVE * ROW));
        ui.separator();
        actions.extend(shown_ui(ui, view, page));
    }
    actions
}

fn search_ui(ui: &mut Ui, view: &DataView<'_>) -> Vec<Action> {
    let mut actions = Vec::new();
    let mut text = view.data.search.clone();
    let field = TextEdit::singleline(&mut text).hint_text("Search records");
    let response = ui.add(field.desired_width(f32::INFINITY));
    let is_escaped = response.lost_focus() && ui.input(|input| input.key_pressed(Key::Escape));
    if is_escaped {
        text.clear();
    }
    if text != view.data.search {
        actions.push(Action::Data(DataAction::SetSearch(text)));
    }
    actions
}

fn list_ui(ui: &mut Ui, view: &DataView<'_>, page: &RecordPage, height: f32) -> Vec<Action> {
    let mut actions = Vec::new();
    let go = |place: usize| Action::Data(DataAction::Select(place));
    let selected = view.data.selected;
    let list = PickList {
        name: "records",
        len: page.records.len(),
        chosen: selected.checked_sub(page.start).filter(|row| *row < page.records.len()),
        height,
        takes_focus: false,
    };
    ui.scope(|ui| {
        ui.spacing_mut().item_spacing.y = 0.0;
        let picked = list.ui(ui, |ui, row, is_chosen| {
            let record = &page.records[row];
            let button = Button::selectable(is_chosen, row_text(ui, record)).right_text("");
            let response = ui.add_sized(vec2(ui.available_width(), ROW), button.truncate());
            let name = format!("Record {}", record.id);
            response.widget_info(|| WidgetInfo::selected(Role::Button, true, is_chosen, &name));
            response
        });
        match picked {
            Some(Picked::Row(row)) => actions.push(go(page.start + row)),
            Some(Picked::Before) if page.start > 0 => actions.push(go(page.start - 1)),
            Some(Picked::After) => actions.push(go(page.start + page.records.len())),
            Some(Picked::Before) | None => {}
        }
    });
    let end = page.start + page.records.len();
    ui.horizontal(|ui| {
        let before = page.start.checked_sub(RECORDS_ON_PAGE);
        ui.add_enabled_ui(before.is_some(), |ui| {
            if icon_button(ui, symbols::ICON_CHEVRON_LEFT, "Earlier records").clicked() {
                actions.extend(before.map(go));
            }
        });
        weak(ui, format!("{}–{end} of {}", page.start + 1, page.total));
        ui.add_enabled_ui(end < page.total, |ui| {
            if icon_button(ui, symbols::ICON_CHEVRON_RIGHT, "Later records").clicked() {
                actions.push(go(end));
            }
        });
    });
    actions
}

/// The line, and how the query begins.
fn row_text(ui: &Ui, record: &DataRecord) -> LayoutJob {
    let tokens = Tokens::of(ui.visuals());
    let small = TextStyle::Small.resolve(ui.style());
    let digits = egui::FontId::new(small.size, egui::FontFamily::Monospace);
    let mut job = LayoutJob::default();
    let line = format!("{:>4}  ", record.line);
    job.append(&line, 0.0, TextFormat::simple(digits, tokens.weak));
    let query: String = record.query.chars().take(LETTERS_IN_LIST).collect();
    let query = query.replace('\n', " ");
    job.append(&query, 0.0, TextFormat::simple(small, tokens.text));
    job
}

/// The record that is selected.
fn shown_ui(ui: &mut Ui, view: &DataView<'_>, page: &RecordPage) -> Vec<Action> {
    let mut actions = Vec::new();
    let selected = view.data.selected;
    ui.horizontal(|ui| {
        let mut step = |ui: &mut Ui, icon, name: &str, to: Option<usize>| {
            let is_there = to.is_some();
            ui.add_enabled_ui(is_there, |ui| {
                if icon_button(ui, icon, name).clicked() {
                    actions.extend(to.map(|to| Action::Data(DataAction::Select(to))));
                }
            });
        };
        let after = Some(selected + 1).filter(|to| *to < page.total);
        step(ui, symbols::ICON_ARROW_UPWARD, "Previous record", selected.checked_sub(1));
        step(ui, symbols::ICON_ARROW_DOWNWARD, "Next record", after);
        if let Some(record) = view.data.record() {
            let text = format!("{} of {} · line {}", selected + 1, page.total, record.line);
            ui.label(RichText::new(&record.id).strong());
            weak(ui, text);
        }
    });
    let Some(record) = view.data.record() else {
        weak(ui, "Reading…");
        return actions;
    };
    let id = Id::unique("record").with((&page.file, record.line));
    let area = ScrollArea::vertical().id_salt(id).auto_shrink(false);
    area.show(ui, |ui| {
        super::vectors_panel::turn_pages(ui);
        record_ui(ui, id, record);
        ui.add_space(2.0 * GRID);
    });
    actions
}

fn record_ui(ui: &mut Ui, id: Id, record: &DataRecord) {
    let facts =
        [("Domain", &record.domain), ("Method", &record.method), ("Asked by", &record.persona)];
    let facts: Vec<_> = facts
        .into_iter()
        .filter_map(|(name, value)| Some(format!("{name}: {}", value.as_ref()?)))
        .collect();
    if !facts.is_empty() {
        let color = Tokens::of(ui.visuals()).weak;
        let text = RichText::new(facts.join(" · ")).small().color(color);
        ui.add(egui::Label::new(text).wrap());
    }
    ui.add_space(GRID);
    long_text_ui(ui, id.with("query"), &record.query);
    ui.add_space(2.0 * GRID);
    let gap = ui.spacing().item_spacing.x;
    let width = ui.available_width();
    let fitting = ((width + gap) / (COLUMN_WIDTH + gap)).floor().max(1.0) as usize;
    let n_columns = fitting.min(record.responses.len()).max(1);
    let column = (width - gap * (n_columns - 1) as f32) / n_columns as f32;
    for (row, responses) in record.responses.chunks(n_columns).enumerate() {
        ui.horizontal_top(|ui| {
            for (index, (level, text)) in responses.iter().enumerate() {
                let id = id.with((row, index));
                response_ui(ui, id, column, level, text);
            }
        });
    }
}

/// A response under the name of its level.
fn response_ui(ui: &mut Ui, id: Id, width: f32, level: &str, text: &str) {
    let tokens = Tokens::of(ui.visuals());
    let name = format!("Response: {level}");
    let group = UiBuilder::new()
        .scope_id(id)
        .layout(egui::Layout::top_down(egui::Align::Min))
        .accessibility_role(Role::Group)
        .accessibility_label(&name);
    let frame = Frame::new().stroke(Stroke::new(1.0, tokens.line)).corner_radius(GRID);
    ui.scope_builder(group, |ui| {
        frame.inner_margin(2.0 * GRID).show(ui, |ui| {
            ui.set_width(width - 4.0 * GRID - 2.0);
            ui.label(RichText::new(level).strong().color(tokens.strong));
            long_text_ui(ui, id.with("text"), text);
            // Counting takes as long as reading.
            if text.len() < 100_000 {
                weak(ui, format!("{} words", text.split_whitespace().count()));
            }
        });
    });
}
