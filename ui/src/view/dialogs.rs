use std::path::{Path, PathBuf};

use egui::{Button, Id, Key, Modal, Response, RichText, ScrollArea, TextEdit, Ui};
use meav_protocol::{EngineChoice, FileKind};

use super::calibration::{forget_training_ui, sweep_dialog_ui};
use super::data_panel::data_words;
use super::design_tokens::{GRID, Tokens};
use super::export_options::{advanced_ui, format_ui};
use super::form_dialog::{FormView, form_ui};
use super::palette::palette_ui;
use super::parts::{choice_text, is_new, named, primary_button, user_error_ui, weak};
use super::plan_dialog::plan_ui;
use super::recipe_dialog::recipe_dialog_ui;
use super::scope_dialog::scope_ui;
use super::settings_dialog::settings_ui;
use super::split_dialog::split_ui;
use crate::action::{Action, DialogAction, PathPurpose};
use crate::model::{Dialog, EngineState, Job, Model, PathDialog, Weights};
use crate::settings::{Recent, Settings};

/// What the open dialog shows.
pub(super) struct DialogView<'a> {
    dialog: &'a Dialog,
    settings: &'a Settings,
    engine: &'a EngineState,
    choice: Option<&'a EngineChoice>,
    version: &'static str,
    /// Whether the system has dialogs; otherwise why not.
    system_dialogs: Result<(), &'a str>,
    has_tray: bool,
    long_jobs: Vec<&'a Job>,
    /// The preference dimensions of the training runs that wait for their turn.
    waiting: Vec<&'a str>,
    weights: &'a Weights,
    /// The files of preference records that come with the demo.
    demo_data: &'a [PathBuf],
    /// The job that the dialog waits for.
    job: Option<&'a Job>,
}

impl<'a> DialogView<'a> {
    pub(crate) fn new(model: &'a Model) -> Option<Self> {
        Some(Self {
            dialog: model.dialog.as_ref()?,
            settings: &model.settings,
            engine: &model.engine,
            choice: model.engine_choice.as_ref(),
            version: model.host.version,
            system_dialogs: model.host.dialogs.as_ref().copied().map_err(String::as_str),
            has_tray: model.host.has_tray,
            long_jobs: model.jobs.iter().filter(|job| job.is_long()).collect(),
            waiting: model.trainings.waiting().map(|it| it.domain.as_str()).collect(),
            weights: &model.weights,
            demo_data: model.data.demo.files(),
            job: match &model.dialog {
                Some(Dialog::Path(dialog)) => dialog.job.and_then(|job| model.jobs.get(job)),
                Some(Dialog::Form(dialog)) => dialog.job.and_then(|job| model.jobs.get(job)),
                Some(Dialog::Split(dialog)) => dialog.job.and_then(|job| model.jobs.get(job)),
                _ => None,
            },
        })
    }
}

/// The dialog over the window. Escape and a click beside it close it.
#[must_use]
pub(super) fn dialog_ui(ui: &mut Ui, view: &DialogView<'_>) -> Vec<Action> {
    // Each has a size of its own.
    let purpose = match view.dialog {
        Dialog::Path(dialog) => Some(std::mem::discriminant(&dialog.purpose)),
        _ => None,
    };
    let id = Id::unique("dialog").with((std::mem::discriminant(view.dialog), purpose));
    let is_new = is_new(ui, id);
    let frame = egui::Frame::popup(ui.style()).inner_margin(4.0 * GRID);
    let modal = Modal::new(id).frame(frame).show(ui.ctx(), |ui| {
        ui.set_width((110.0 * GRID).min(ui.ctx().content_rect().width() - 10.0 * GRID));
        // Where the window is too low for it, a dialog scrolls.
        let height = ui.ctx().content_rect().height() - 12.0 * GRID;
        let scroll = ScrollArea::vertical().max_height(height).min_scrolled_height(height);
        let contents = scroll.show(ui, |ui| {
            let actions = contents_ui(ui, view, is_new);
            follow_focus(ui);
            actions
        });
        contents.inner
    });
    settle(ui, id, modal.response.rect);
    let mut actions = modal.inner.clone();
    if modal.should_close() && actions.is_empty() {
        actions.push(Action::Dialog(DialogAction::Close));
    }
    actions
}

fn contents_ui(ui: &mut Ui, view: &DialogView<'_>, is_new: bool) -> Vec<Action> {
    match view.dialog {
        Dialog::Palette { text } => palette_ui(ui, text, is_new),
        Dialog::Path(dialog) => path_ui(ui, view, dialog, is_new),
        Dialog::PresetName { text } => preset_ui(ui, text, is_new),
        Dialog::Scope(dialog) => scope_ui(ui, view.weights, dialog, is_new),
        Dialog::ForgetTraining(_) => forget_training_ui(ui, is_new),
        Dialog::Sweep(dialog) => sweep_dialog_ui(ui, dialog, view.weights, is_new),
        Dialog::Recipe(dialog) => recipe_dialog_ui(ui, dialog, view.system_dialogs, is_new),
        Dialog::Plan(dialog) => plan_ui(ui, dialog, view.weights),
        Dialog::Settings => settings_ui(ui, view.settings),
        Dialog::About => about_ui(ui, view),
        Dialog::Close => close_ui(ui, view, is_new),
        Dialog::Form(dialog) => {
            let DialogView { weights, job, system_dialogs, .. } = *view;
            form_ui(ui, &FormView { dialog, weights, job, system_dialogs, is_new })
        }
        Dialog::Split(dialog) => split_ui(ui, dialog, view.job, view.system_dialogs, is_new),
        Dialog::UseAs { path } => use_as_ui(ui, path, is_new),
    }
}

/// What the keyboard has come to is scrolled into sight.
fn follow_focus(ui: &Ui) {
    let focused = ui.memory(egui::Memory::focused).and_then(|id| ui.ctx().read_response(id));
    if let Some(response) = focused.filter(Response::gained_focus) {
        ui.scroll_to_rect(response.rect, None);
    }
}

/// A dialog that has another size than a frame ago finds its place in the next one.
fn settle(ui: &Ui, id: Id, rect: egui::Rect) {
    let key = id.with("last place");
    let before = ui.data_mut(|data| data.get_temp(key));
    if before != Some(rect) {
        ui.data_mut(|data| data.insert_temp(key, rect));
        ui.ctx().request_repaint();
    }
}

/// A row that begins at the right edge.
pub(super) fn at_the_right<R>(ui: &mut Ui, add: impl FnOnce(&mut Ui) -> R) -> R {
    let layout = egui::Layout::right_to_left(egui::Align::Center);
    ui.horizontal(|ui| ui.with_layout(layout, add).inner).inner
}

/// Buttons at the right edge, the one to press last.
pub(super) fn buttons_ui(ui: &mut Ui, accept: &str, is_enabled: bool) -> Vec<Action> {
    let mut actions = Vec::new();
    ui.add_space(2.0 * GRID);
    at_the_right(ui, |ui| {
        ui.add_enabled_ui(is_enabled, |ui| {
            if primary_button(ui, accept).clicked() {
                actions.push(Action::Dialog(DialogAction::Accept));
            }
        });
        if ui.button("Cancel").clicked() {
            actions.push(Action::Dialog(DialogAction::Close));
        }
    });
    actions
}

/// A line of text that Enter accepts.
fn line_ui(ui: &mut Ui, text: &str, hint: &str, is_new: bool) -> Vec<Action> {
    let mut new = text.to_owned();
    let field = TextEdit::singleline(&mut new).hint_text(hint.to_owned());
    let response = ui.add(field.desired_width(f32::INFINITY));
    if is_new {
        response.request_focus();
    }
    let mut actions = Vec::new();
    if response.changed() {
        actions.push(Action::Dialog(DialogAction::SetText(new)));
    }
    if response.lost_focus() && ui.input(|input| input.key_pressed(Key::Enter)) {
        actions.push(Action::Dialog(DialogAction::Accept));
        response.request_focus();
    }
    actions
}

fn path_ui(ui: &mut Ui, view: &DialogView<'_>, dialog: &PathDialog, is_new: bool) -> Vec<Action> {
    let (title, what, accept) = match dialog.purpose {
        PathPurpose::OpenModel => (
            "Open model",
            "A folder with config.json, tokenizer.json and safetensors, a GGUF file, or “demo”",
            "Open",
        ),
        PathPurpose::AddVector => (
            "Add vector",
            "A vector file, a PEFT LoRA folder, or the name of a demo vector: medical, financial",
            "Add",
        ),
        PathPurpose::ExportChat(_) => {
            ("Export chat", "A file that ends in .md (this branch) or .json (all of it)", "Export")
        }
        PathPurpose::ExportAudit => {
            ("Export audit log", "A file that ends in .csv or .json", "Export")
        }
        PathPurpose::ExportMerged => (
            "Export merged model",
            "The base with the knobs as they are, for other programs to load",
            "Export",
        ),
        PathPurpose::ConvertModel => (
            "Convert model",
            "A new folder: the model alone, without vectors, to the last bit. Opened from there, it is read from its files instead of being unpacked into memory. A quantised model grows to 4 bytes for each weight",
            "Convert",
        ),
        PathPurpose::OpenRecipe => (
            "Open recipe",
            "A file that ends in .meav, or the recipe.json beside an exported model",
            "Open",
        ),
        PathPurpose::ExportSweeps => (
            "Export sweep",
            "A file that ends in .csv or .json (numbers), .md (a table), .svg or .png (a picture)",
            "Export",
        ),
        PathPurpose::ExportMatrix => (
            "Export cross-domain matrix",
            "A file that ends in .csv or .json (numbers), .md (a table), .svg or .png (a picture)",
            "Export",
        ),
        PathPurpose::ExportComparison => (
            "Export comparison",
            "A file that ends in .csv or .json (numbers), or in .svg or .png (a picture)",
            "Export",
        ),
        PathPurpose::SaveRecipe => (
            "Save recipe",
            "A small file: it names model, vectors and each λ, and holds no weights",
            "Save",
        ),
        purpose => match data_words(purpose) {
            Some(words) => words,
            // Those have fields in dialogs of their own.
            None => return Vec::new(),
        },
    };
    ui.heading(title);
    ui.label(what);
    ui.add_space(GRID);
    let mut actions = Vec::new();
    let is_export = dialog.purpose == PathPurpose::ExportMerged;
    if is_export {
        actions.extend(format_ui(ui, dialog, view.weights.dtype));
        ui.add_space(GRID);
    }
    actions.extend(line_ui(ui, &dialog.text, "Path", is_new));
    actions.extend(browse_ui(ui, view.system_dialogs, dialog.purpose));
    actions.extend(suggested_ui(ui, view, dialog.purpose));
    if is_export || dialog.purpose == PathPurpose::ConvertModel {
        actions.extend(advanced_ui(ui, dialog));
        progress_ui(ui, view.job);
    }
    if let Some(err) = &dialog.error {
        actions.extend(user_error_ui(ui, err));
    }
    let can_accept = !dialog.text.trim().is_empty() && !dialog.is_busy();
    actions.extend(buttons_ui(ui, accept, can_accept));
    actions
}

/// How far the job is that the dialog waits for.
pub(super) fn progress_ui(ui: &mut Ui, job: Option<&Job>) {
    let Some(job) = job else { return };
    weak(ui, job.doing());
    if let Some(share) = job.fraction() {
        let bar = egui::ProgressBar::new(share).desired_height(GRID);
        let bar = bar.fill(Tokens::of(ui.visuals()).accent);
        let name = job.title().unwrap_or_default();
        ui.add(bar)
            .widget_info(|| egui::WidgetInfo::labeled(egui::Role::ProgressIndicator, true, name));
    }
}

fn browse_ui(ui: &mut Ui, dialogs: Result<(), &str>, purpose: PathPurpose) -> Vec<Action> {
    let mut actions = Vec::new();
    let opens = matches!(purpose, PathPurpose::OpenModel | PathPurpose::AddVector);
    let files = [PathPurpose::OpenRecipe, PathPurpose::OpenData, PathPurpose::TrainingData];
    let reads = opens || files.contains(&purpose);
    ui.horizontal(|ui| {
        ui.add_enabled_ui(dialogs.is_ok(), |ui| {
            let why_not = dialogs.err().unwrap_or_default();
            let mut browse = |ui: &mut Ui, text: &str, folder: bool| {
                let response = ui.add(Button::new(text)).on_disabled_hover_text(why_not);
                if response.clicked() {
                    actions.push(Action::Dialog(DialogAction::Browse { folder }));
                }
            };
            browse(ui, if reads { "Browse files…" } else { "Browse…" }, false);
            if opens {
                browse(ui, "Browse folders…", true);
            }
        });
    });
    if let Err(reason) = dialogs {
        weak(ui, format!("{reason}: type the path, or drop the file onto the window."));
    }
    actions
}

/// What was opened before, to open again.
fn suggested_ui(ui: &mut Ui, view: &DialogView<'_>, purpose: PathPurpose) -> Vec<Action> {
    let files = match purpose {
        PathPurpose::OpenData | PathPurpose::TrainingData => view.demo_data,
        _ => &[],
    };
    let (is_wanted, built_in): (fn(&Recent) -> bool, &[&str]) = match purpose {
        PathPurpose::OpenModel => (|entry| entry.is_model, &["demo"]),
        PathPurpose::AddVector => (Recent::is_vector, &["medical", "financial"]),
        PathPurpose::OpenRecipe => (Recent::is_recipe, &[]),
        PathPurpose::OpenData | PathPurpose::TrainingData => (Recent::is_data, &[]),
        _ => return Vec::new(),
    };
    let recent = view.settings.recent.iter().filter(|entry| is_wanted(entry));
    let paths = recent.map(|entry| entry.path.display().to_string());
    let names = built_in.iter().map(|name| (*name).to_owned());
    let mut chosen = Vec::new();
    ui.add_space(GRID);
    let files = files.iter().map(|path| path.display().to_string());
    let mut shown = Vec::new();
    for path in names.chain(paths).take(6).chain(files) {
        if shown.contains(&path) {
            continue;
        }
        shown.push(path.clone());
        let row = Button::new(RichText::new(&path).small()).frame_when_inactive(false).truncate();
        if ui.add(row).clicked() {
            chosen.push(Action::Dialog(DialogAction::SetText(path)));
        }
    }
    chosen
}

fn preset_ui(ui: &mut Ui, text: &str, is_new: bool) -> Vec<Action> {
    ui.heading("Save preset");
    ui.label("The knobs of this side, under a name. A preset of the same name is replaced.");
    ui.add_space(GRID);
    let mut actions = line_ui(ui, text, "Name", is_new);
    actions.extend(buttons_ui(ui, "Save", !text.trim().is_empty()));
    actions
}

pub(super) fn done_ui(ui: &mut Ui) -> Option<Action> {
    ui.add_space(2.0 * GRID);
    let is_clicked = at_the_right(ui, |ui| primary_button(ui, "Done").clicked());
    is_clicked.then_some(Action::Dialog(DialogAction::Close))
}

fn about_ui(ui: &mut Ui, view: &DialogView<'_>) -> Vec<Action> {
    ui.heading(format!("MEAV Studio {}", view.version));
    ui.label("Model editing with alignment vectors: one knob for each domain moves the model between avoiding, generic and expert answers.");
    ui.add_space(GRID);
    weak(
        ui,
        "The method: “Inference time LLM alignment in single and multidomain preference spectrum”, arXiv 2410.19206. MIT or Apache-2.0, at your option.",
    );
    match view.engine {
        EngineState::Running { version, device, log } => {
            weak(ui, format!("Engine {version} on {device}"));
            if let Some(choice) = view.choice {
                weak(ui, choice_text(choice));
            }
            if let Some(log) = log {
                weak(ui, format!("Its log: {}", log.display()));
            }
        }
        EngineState::Starting | EngineState::Lost { .. } => {
            weak(ui, "The engine is not running");
        }
    }
    done_ui(ui).into_iter().collect()
}

/// A model was dropped while another one is loaded.
fn use_as_ui(ui: &mut Ui, path: &Path, is_new: bool) -> Vec<Action> {
    let mut actions = Vec::new();
    ui.heading("That is a model");
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    ui.label(name.into_owned()).on_hover_text(path.display().to_string());
    ui.add_space(2.0 * GRID);
    ui.horizontal_wrapped(|ui| {
        let model = ui.button("Open as the model");
        if is_new {
            model.request_focus();
        }
        if model.on_hover_text("In the place of the one that is loaded").clicked() {
            actions.push(Action::Dialog(DialogAction::UseAs(FileKind::Model)));
        }
        let vector = ui.button("Use as a vector (aligned − this model)");
        let tip = "What it has beyond the model that is loaded is put on a knob";
        if vector.on_hover_text(tip).clicked() {
            actions.push(Action::Dialog(DialogAction::UseAs(FileKind::Vector)));
        }
        if ui.button("Cancel").clicked() {
            actions.push(Action::Dialog(DialogAction::Close));
        }
    });
    actions
}

fn close_ui(ui: &mut Ui, view: &DialogView<'_>, is_new: bool) -> Vec<Action> {
    let mut actions = Vec::new();
    ui.heading("A job is still running");
    for job in &view.long_jobs {
        ui.label(format!("• {}", job.title().unwrap_or_default()));
    }
    if view.long_jobs.iter().any(|job| job.is_training()) {
        let text = "Training is kept as it is after its last whole step: the next start offers to \
                    go on with it.";
        ui.add(egui::Label::new(text).wrap());
    }
    if !view.waiting.is_empty() {
        let text = format!("What waits for its turn is kept too: {}.", view.waiting.join(", "));
        ui.add(egui::Label::new(text).wrap());
    }
    ui.add_space(2.0 * GRID);
    let keep = if view.has_tray { "Keep running in the tray" } else { "Keep running, minimised" };
    ui.horizontal_wrapped(|ui| {
        let mut button = |ui: &mut Ui, text: &str, action: DialogAction| {
            let response = named(ui.button(text), text);
            if response.clicked() {
                actions.push(Action::Dialog(action));
            }
            response
        };
        let first = button(ui, keep, DialogAction::KeepRunning);
        if is_new {
            first.request_focus();
        }
        button(ui, "Stop it and quit", DialogAction::StopAndQuit);
        button(ui, "Back", DialogAction::Close);
    });
    actions
}
