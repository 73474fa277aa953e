use egui::{Button, Label, RichText, TextEdit, Ui};

use super::design_tokens::{GRID, Tokens};
use super::dialogs::buttons_ui;
use super::parts::{named, short_fingerprint, weak};
use crate::action::{Action, DialogAction};
use crate::model::{RecipeDialog, SoughtPart, file_name};

/// Says what of a recipe was not found, and takes what stands in for it.
pub(super) fn recipe_dialog_ui(
    ui: &mut Ui,
    dialog: &RecipeDialog,
    system_dialogs: Result<(), &str>,
    is_new: bool,
) -> Vec<Action> {
    let mut actions = Vec::new();
    ui.heading(format!("Parts of {} are missing", file_name(&dialog.path)));
    ui.label("Say where they are now, or go on without them.");
    egui::ScrollArea::vertical().max_height(100.0 * GRID).show(ui, |ui| {
        for (index, sought) in dialog.parts.iter().enumerate() {
            ui.add_space(2.0 * GRID);
            let takes_focus = is_new && index == 0;
            actions.extend(sought_ui(ui, index, sought, system_dialogs, takes_focus));
        }
    });
    let accept = if dialog.is_complete() { "Open recipe" } else { "Use what is there" };
    actions.extend(buttons_ui(ui, accept, !dialog.is_busy()));
    actions
}

fn sought_ui(
    ui: &mut Ui,
    index: usize,
    sought: &SoughtPart,
    system_dialogs: Result<(), &str>,
    takes_focus: bool,
) -> Vec<Action> {
    let tokens = Tokens::of(ui.visuals());
    let part = &sought.part;
    let (kind, color) = if part.is_model {
        ("Model", tokens.strong)
    } else {
        ("Vector", tokens.domain(&part.name))
    };
    ui.horizontal(|ui| {
        ui.label(kind);
        ui.label(RichText::new(&part.name).strong().color(color));
        let digits = RichText::new(short_fingerprint(&part.fingerprint)).monospace();
        ui.label(digits.color(tokens.weak)).on_hover_text(&part.fingerprint);
    });
    // A recipe that was written beside a merged model does not say where its base was.
    if !part.file.as_os_str().is_empty() {
        let was = format!("It was {}", part.file.display());
        ui.add(Label::new(RichText::new(was).small().color(tokens.weak)).wrap());
    }
    if let Some(reason) = &part.found {
        weak(ui, reason.clone());
    }
    let actions = path_ui(ui, index, sought, system_dialogs, takes_focus);
    outcome_ui(ui, sought);
    actions
}

/// Where it is now: typed, or found with the system's dialog.
fn path_ui(
    ui: &mut Ui,
    index: usize,
    sought: &SoughtPart,
    system_dialogs: Result<(), &str>,
    takes_focus: bool,
) -> Vec<Action> {
    let name = &sought.part.name;
    let mut actions = Vec::new();
    let mut act = |action| actions.push(Action::Dialog(action));
    let mut text = sought.text.clone();
    let hint = format!("Where {name} is now");
    let field = TextEdit::singleline(&mut text).hint_text(&hint).desired_width(f32::INFINITY);
    let response = ui.add(field);
    ui.ctx().accesskit_node_builder(response.id, |node| node.set_label(hint));
    if takes_focus {
        response.request_focus();
    }
    if response.changed() {
        act(DialogAction::SetLocation(index, text));
    }
    if response.lost_focus() && ui.input(|input| input.key_pressed(egui::Key::Enter)) {
        act(DialogAction::Locate(index));
    }
    ui.horizontal_wrapped(|ui| {
        let can_look = !sought.text.trim().is_empty() && sought.job.is_none();
        ui.add_enabled_ui(can_look, |ui| {
            if named(ui.button("Look there"), &format!("Look there for {name}")).clicked() {
                act(DialogAction::Locate(index));
            }
        });
        ui.add_enabled_ui(system_dialogs.is_ok(), |ui| {
            let why_not = system_dialogs.err().unwrap_or_default();
            for (face, folder) in [("Locate…", false), ("Locate folder…", true)] {
                let button = ui.add(Button::new(face)).on_disabled_hover_text(why_not);
                let label = format!("{} for {name}", face.trim_end_matches('…'));
                if named(button, &label).clicked() {
                    act(DialogAction::BrowseLocation { index, folder });
                }
            }
        });
    });
    actions
}

/// What was found there.
fn outcome_ui(ui: &mut Ui, sought: &SoughtPart) {
    let tokens = Tokens::of(ui.visuals());
    let (text, color) = match (&sought.error, &sought.found, sought.job) {
        (Some(error), ..) => (error.as_str(), tokens.error),
        (None, Some(found), _) if found.is_same => {
            ("This is it: it has the recipe's fingerprint", tokens.good)
        }
        (None, Some(_), _) => {
            ("It has other values than the recipe's; answers may be others too", tokens.warning)
        }
        (None, None, Some(_)) => ("Looking…", tokens.weak),
        (None, None, None) => return,
    };
    ui.add(Label::new(RichText::new(text).small().color(color)).wrap());
}
