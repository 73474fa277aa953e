use egui::{Button, DragValue, RichText, TextEdit, Ui};

use super::design_tokens::GRID;
use super::dialogs::buttons_ui;
use super::form_dialog::{busy_ui, name_ui, number_ui};
use super::parts::{user_error_ui, weak};
use crate::action::{Action, DialogAction};
use crate::data_action::DataAction;
use crate::model::{Job, SplitDialog};

/// Asks how a file is split, and says which files that writes.
pub(super) fn split_ui(
    ui: &mut Ui,
    dialog: &SplitDialog,
    job: Option<&Job>,
    system_dialogs: Result<(), &str>,
    is_new: bool,
) -> Vec<Action> {
    let mut actions = Vec::new();
    let mut draft = dialog.draft.clone();
    ui.heading("Split data");
    ui.label("Cuts the file into parts by chance, so that a persona is in one of them only.");
    ui.add_space(GRID);
    ui.add_enabled_ui(dialog.job.is_none(), |ui| {
        share_ui(ui, "Test", &mut draft.test);
        share_ui(ui, "Validation", &mut draft.validation);
        number_ui(ui, "Seed", DragValue::new(&mut draft.seed).range(0..=u32::MAX));
        ui.horizontal(|ui| {
            let label = name_ui(ui, "Folder");
            ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
                let button = ui.add_enabled(system_dialogs.is_ok(), Button::new("Folder…").small());
                if button.clicked() {
                    actions.push(Action::Data(DataAction::BrowseSplit));
                }
                let field = TextEdit::singleline(&mut draft.folder).hint_text("Path");
                let field = ui.add(field.desired_width(f32::INFINITY)).labelled_by(label.id);
                if is_new {
                    field.request_focus();
                }
                let enter = ui.input(|input| input.key_pressed(egui::Key::Enter));
                if field.lost_focus() && enter {
                    field.request_focus();
                    actions.push(Action::Dialog(DialogAction::Accept));
                }
            });
        });
    });
    if draft != dialog.draft {
        // What is typed comes before what is done with it.
        actions.insert(0, Action::Data(DataAction::SetSplit(draft)));
    }
    files_ui(ui, dialog);
    if let Err(reason) = system_dialogs {
        weak(ui, format!("{reason}: type the folder."));
    }
    if let Some(err) = &dialog.error {
        ui.add_space(GRID);
        actions.extend(user_error_ui(ui, err));
    }
    let missing = dialog.draft.missing();
    if let Some(missing) = missing {
        weak(ui, missing);
    }
    if let Some(job) = job {
        actions.extend(busy_ui(ui, job));
    } else {
        let can = missing.is_none() && dialog.job.is_none();
        actions.extend(buttons_ui(ui, "Split", can));
    }
    actions
}

/// What will be written, and about how much of it.
fn files_ui(ui: &mut Ui, dialog: &SplitDialog) {
    ui.add_space(GRID);
    weak(ui, "Writes these files; one that is there already is not replaced without asking:");
    for (name, share) in dialog.files() {
        let records = dialog.records.map(|records| {
            let part = (records as f64 * share).round();
            format!(", about {part} of {records} records")
        });
        let text = format!("{name}: {:.0} %{}", share * 100.0, records.unwrap_or_default());
        ui.label(RichText::new(text).small());
    }
}

fn share_ui(ui: &mut Ui, name: &str, share: &mut f64) {
    let mut percent = *share * 100.0;
    let field = DragValue::new(&mut percent).range(0.0..=99.0).speed(0.5).max_decimals(1);
    number_ui(ui, name, field.suffix(" %"));
    let new = (percent * 10.0).round() / 1000.0;
    if (new - *share).abs() > 1e-9 {
        *share = new;
    }
}
