use egui::{Button, Label, RichText, ScrollArea, Ui};

use super::data_overview::{leakage_ui, overview_ui, written_ui};
use super::data_records::records_ui;
use super::design_tokens::{GRID, Tokens};
use super::parts::{group_ui, is_new, one_line, title, user_error_ui, weak};
use crate::action::{Action, PathPurpose};
use crate::command::UiCommand;
use crate::data_action::{DataAction, DataTab};
use crate::model::data::DemoData;
use crate::model::{Data, Focus, Job, Model};

/// What the Data screen shows.
pub(super) struct DataView<'a> {
    pub(super) data: &'a Data,
    /// The job that reads the file.
    reading: Option<&'a Job>,
    /// Whether that is taking long enough to be told.
    pub(super) is_slow: bool,
    /// Whether the keyboard is to go to the first thing to do.
    pub(super) takes_focus: bool,
}

impl<'a> DataView<'a> {
    pub(super) fn new(model: &'a Model, now: f64) -> Self {
        let job = |id: Option<_>| id.and_then(|id| model.jobs.get(id));
        let (reading, paging) = (job(model.data.reading), job(model.data.paging));
        Self {
            data: &model.data,
            reading,
            is_slow: reading.or(paging).is_some_and(|job| job.is_noticeable(now)),
            takes_focus: model.focus == Some(Focus::Data),
        }
    }
}

/// Preference records: what a file holds as a whole, and its records one by one.
#[must_use]
pub(super) fn data_ui(ui: &mut Ui, view: &DataView<'_>) -> Vec<Action> {
    let mut actions = commands_ui(ui, view);
    let Some(file) = &view.data.file else {
        actions.extend(nothing_ui(ui, view));
        return actions;
    };
    ui.add_space(GRID);
    let name = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy();
    ui.horizontal(|ui| {
        actions.extend(tabs_ui(ui, view.data.tab));
        one_line(ui, RichText::new(name).strong()).on_hover_text(file.display().to_string());
    });
    ui.add_space(GRID);
    match view.data.tab {
        DataTab::Overview => {
            let area = ScrollArea::vertical().id_salt("data overview").auto_shrink(false);
            area.show(ui, |ui| {
                super::vectors_panel::turn_pages(ui);
                actions.extend(whole_ui(ui, view));
                ui.add_space(4.0 * GRID);
                super::parts::scroll_to_focus(ui);
            });
        }
        DataTab::Records => actions.extend(records_ui(ui, view)),
    }
    actions
}

fn commands_ui(ui: &mut Ui, view: &DataView<'_>) -> Vec<Action> {
    let mut actions = Vec::new();
    let has_file = view.data.file.is_some();
    ui.horizontal_wrapped(|ui| {
        let open = ui.button(UiCommand::OpenData.text());
        if view.takes_focus {
            open.request_focus();
            actions.push(Action::FocusTaken);
        }
        if open.on_hover_text(UiCommand::OpenData.tooltip()).clicked() {
            actions.push(Action::Command(UiCommand::OpenData));
        }
        if has_file && !view.data.demo.files().is_empty() {
            actions.extend(demo_menu_ui(ui, view.data, "Demo data"));
        }
        for command in [UiCommand::SplitData, UiCommand::FindLeakage] {
            let response = ui.add_enabled(has_file, Button::new(command.text()));
            let response = response.on_hover_text(command.tooltip());
            if response.on_disabled_hover_text("Open a file first").clicked() {
                actions.push(Action::Command(command));
            }
        }
    });
    actions
}

/// The demo's files by their names.
fn demo_menu_ui(ui: &mut Ui, data: &Data, name: &str) -> Option<Action> {
    let mut chosen = None;
    ui.menu_button(name, |ui| {
        for file in data.demo.files() {
            let name = crate::model::file_name(file);
            if ui.button(name).on_hover_text(file.display().to_string()).clicked() {
                chosen = Some(Action::Data(DataAction::Open(file.clone())));
                ui.close();
            }
        }
    });
    chosen
}

fn nothing_ui(ui: &mut Ui, view: &DataView<'_>) -> Vec<Action> {
    let mut actions = Vec::new();
    ui.add_space(2.0 * GRID);
    title(ui, "No data is open");
    let text = "Open a file of preference records, or drop one onto the window: queries, each with \
                a response at every level (expert, generic, avoidance, …), PKU-SafeRLHF's, or \
                chosen and rejected ones; as JSONL, JSON, CSV or Parquet.";
    ui.add(Label::new(text).wrap());
    ui.add_space(2.0 * GRID);
    match &view.data.demo {
        DemoData::Unasked | DemoData::Asked => {}
        DemoData::Known(files) if files.is_empty() => {
            weak(ui, "The demo's data are not on this machine.");
        }
        DemoData::Known(files) => {
            title(ui, "Demo data");
            ui.horizontal_wrapped(|ui| {
                for file in files {
                    let button = ui.button(crate::model::file_name(file));
                    if button.on_hover_text(file.display().to_string()).clicked() {
                        actions.push(Action::Data(DataAction::Open(file.clone())));
                    }
                }
            });
        }
        DemoData::Failed(err) => {
            weak(ui, "The demo's data can't be listed:");
            actions.extend(user_error_ui(ui, err));
            if ui.button("Try again").clicked() {
                actions.push(Action::Data(DataAction::Retry));
            }
        }
    }
    actions
}

fn tabs_ui(ui: &mut Ui, shown: DataTab) -> Vec<Action> {
    let mut actions = Vec::new();
    ui.scope(|ui| {
        group_ui(ui, "What is shown of the file", |ui| {
            for (tab, name) in [(DataTab::Overview, "Overview"), (DataTab::Records, "Records")] {
                if ui.selectable_label(tab == shown, name).clicked() {
                    actions.push(Action::Data(DataAction::Show(tab)));
                }
            }
        });
    });
    actions
}

/// The file as a whole.
fn whole_ui(ui: &mut Ui, view: &DataView<'_>) -> Vec<Action> {
    let mut actions = Vec::new();
    let data = view.data;
    if let Some(err) = &data.error {
        actions.extend(user_error_ui(ui, err));
        if ui.button("Try again").clicked() {
            actions.push(Action::Data(DataAction::Retry));
        }
    }
    if !data.written.is_empty() {
        actions.extend(written_ui(ui, &data.written));
        ui.add_space(2.0 * GRID);
    }
    if let Some((train, report)) = &data.leakage {
        actions.extend(leakage_ui(ui, train, report));
        ui.add_space(2.0 * GRID);
    }
    match (&data.report, view.reading) {
        (Some(report), _) => actions.extend(overview_ui(ui, report)),
        (None, Some(_)) if view.is_slow => {
            weak(ui, "Reading…");
        }
        (None, None) if data.error.is_none() => {
            ui.label("The file was not read.");
            if ui.button("Read it").clicked() {
                actions.push(Action::Data(DataAction::Retry));
            }
        }
        (None, _) => {}
    }
    actions
}

/// What a dialog that asks for a path says: its title, what is wanted, and its button. `None` where
/// it is not about data.
pub(super) fn data_words(
    purpose: PathPurpose,
) -> Option<(&'static str, &'static str, &'static str)> {
    Some(match purpose {
        PathPurpose::OpenData => (
            "Open data",
            "Preference records as JSONL, JSON, CSV or Parquet: a response at each level, \
             PKU-SafeRLHF, or chosen and rejected",
            "Open",
        ),
        PathPurpose::TrainingData => (
            "Compare with training file",
            "The file that a model was trained on: personas and queries that both files have \
             make a test too easy",
            "Compare",
        ),
        PathPurpose::ExportJudgement => (
            "Export judgement",
            "A file that ends in .csv (a line for each answer), .json (all of it) or .md (tables)",
            "Export",
        ),
        _ => return None,
    })
}

/// A part of the screen with its title.
pub(super) fn section_ui<R>(ui: &mut Ui, name: &str, add: impl FnOnce(&mut Ui) -> R) -> R {
    ui.add_space(3.0 * GRID);
    title(ui, name);
    add(ui)
}

/// Something to bear in mind, with a mark.
pub(super) fn caution_ui(ui: &mut Ui, text: &str) {
    let tokens = Tokens::of(ui.visuals());
    let frame = egui::Frame::new()
        .stroke(egui::Stroke::new(1.0, tokens.warning))
        .corner_radius(GRID)
        .inner_margin(2.0 * GRID);
    frame.show(ui, |ui| {
        ui.set_width(ui.available_width());
        ui.add(Label::new(text).wrap());
    });
}

/// A text that may be very long: so much of it that it can be laid out at once, and more on
/// request.
pub(super) fn long_text_ui(ui: &mut Ui, id: egui::Id, text: &str) {
    const LETTERS: usize = 20_000;
    let key = id.with("letters shown");
    let fresh = is_new(ui, id);
    let shown: usize = ui.data(|data| data.get_temp(key)).filter(|_| !fresh).unwrap_or(LETTERS);
    let end = text.char_indices().nth(shown).map_or(text.len(), |(end, _)| end);
    ui.add(Label::new(&text[..end]).wrap());
    if end < text.len() {
        let size = super::parts::bytes(text.len() as u64);
        weak(ui, format!("The first {shown} characters of {size}."));
        if ui.button("Show more").clicked() {
            ui.data_mut(|data| data.insert_temp(key, shown + LETTERS));
        }
    }
}
