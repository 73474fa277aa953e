use egui::{Button, CollapsingHeader, ComboBox, DragValue, Id, Key, Response, TextEdit, Ui};
use meav_protocol::Dtype;

use super::design_tokens::GRID;
use super::dialogs::{at_the_right, buttons_ui, progress_ui};
use super::parts::{group_ui, parse_number, user_error_ui, weak};
use crate::action::{Action, DialogAction, KnobId};
use crate::form::{
    CompressForm, CompressMethod, ExtractForm, Form, FormField, ImportForm, SeparateForm,
};
use crate::model::{FormDialog, Job, Weights};

/// Points, the width of the names of fields.
const NAME_WIDTH: f32 = 26.0 * GRID;

/// What a dialog that makes a vector shows.
pub(super) struct FormView<'a> {
    pub(super) dialog: &'a FormDialog,
    pub(super) weights: &'a Weights,
    /// The job that makes it.
    pub(super) job: Option<&'a Job>,
    /// Whether the system has dialogs; otherwise why not.
    pub(super) system_dialogs: Result<(), &'a str>,
    pub(super) is_new: bool,
}

/// Asks what is wanted before a vector is made, and shows how far its job is.
pub(super) fn form_ui(ui: &mut Ui, view: &FormView<'_>) -> Vec<Action> {
    let mut actions = Vec::new();
    let mut form = view.dialog.form.clone();
    ui.heading(form.title());
    ui.add_enabled_ui(view.dialog.job.is_none(), |ui| {
        actions.extend(match &mut form {
            Form::Extract(form) => extract_ui(ui, view, form),
            Form::Import(form) => import_ui(ui, view, form),
            Form::Compress(form) => compress_ui(ui, view, form),
            Form::Separate(form) => separate_ui(ui, view, form),
        });
    });
    if form != view.dialog.form {
        // What is typed comes before what is done with it.
        actions.insert(0, Action::Dialog(DialogAction::SetForm(Box::new(form))));
    }
    if let Err(reason) = view.system_dialogs {
        weak(ui, format!("{reason}: type the paths."));
    }
    if let Some(err) = &view.dialog.error {
        ui.add_space(GRID);
        actions.extend(user_error_ui(ui, err));
    }
    match view.job {
        Some(job) => actions.extend(busy_ui(ui, job)),
        None => actions.extend(accept_ui(ui, view)),
    }
    actions
}

fn accept_ui(ui: &mut Ui, view: &FormView<'_>) -> Vec<Action> {
    let form = &view.dialog.form;
    let missing = view.weights.missing_for(form);
    if let Some(missing) = missing {
        ui.add_space(GRID);
        weak(ui, missing);
    }
    buttons_ui(ui, form.accept(), missing.is_none() && view.dialog.job.is_none())
}

/// While the job runs: how far it is, and the choice to end it or to let it go on alone.
pub(super) fn busy_ui(ui: &mut Ui, job: &Job) -> Vec<Action> {
    let mut actions = Vec::new();
    ui.add_space(2.0 * GRID);
    progress_ui(ui, Some(job));
    ui.add_space(2.0 * GRID);
    at_the_right(ui, |ui| {
        if ui.button("Go on in the background").clicked() {
            actions.push(Action::Dialog(DialogAction::Close));
        }
        let text = if job.is_cancelling { "Stopping…" } else { "Stop" };
        if ui.add_enabled(!job.is_cancelling, Button::new(text)).clicked() {
            actions.push(Action::CancelJob(job.id));
        }
    });
    actions
}

fn extract_ui(ui: &mut Ui, view: &FormView<'_>, form: &mut ExtractForm) -> Vec<Action> {
    ui.label("Takes the base model from the aligned one; what is left is the vector.");
    ui.add_space(GRID);
    let mut actions = path_ui(ui, view, FormField::Base, &mut form.base, false);
    actions.extend(path_ui(ui, view, FormField::Aligned, &mut form.aligned, view.is_new));
    actions.extend(domain_ui(ui, &mut form.domain));
    row_ui(ui, "Numbers", |ui| {
        let choices = [None, Some(Dtype::F32), Some(Dtype::Bf16), Some(Dtype::F16)];
        for choice in choices {
            let name = choice.map_or_else(|| "as the models".to_owned(), |it| it.to_string());
            if ui.selectable_label(form.dtype == choice, name).clicked() {
                form.dtype = choice;
            }
        }
    });
    actions.extend(path_ui(ui, view, FormField::Out, &mut form.out, false));
    CollapsingHeader::new("Advanced").show_unindented(ui, |ui| {
        let hints = ["a regular expression; empty for all", "a regular expression; empty for none"];
        actions.extend(text_ui(ui, "Only tensors like", &mut form.include, hints[0]));
        actions.extend(text_ui(ui, "No tensors like", &mut form.exclude, hints[1]));
        actions.extend(levels_ui(ui, &mut form.levels));
    });
    actions
}

fn import_ui(ui: &mut Ui, view: &FormView<'_>, form: &mut ImportForm) -> Vec<Action> {
    ui.label("Makes a vector file of a PEFT LoRA adapter; it knows which base it belongs to.");
    ui.add_space(GRID);
    let mut actions = path_ui(ui, view, FormField::Adapter, &mut form.adapter, view.is_new);
    actions.extend(path_ui(ui, view, FormField::Base, &mut form.base, false));
    actions.extend(domain_ui(ui, &mut form.domain));
    row_ui(ui, "Numbers", |ui| {
        for choice in [Dtype::Bf16, Dtype::F16, Dtype::F32] {
            if ui.selectable_label(form.dtype == choice, choice.to_string()).clicked() {
                form.dtype = choice;
            }
        }
    });
    actions.extend(path_ui(ui, view, FormField::Out, &mut form.out, false));
    CollapsingHeader::new("Advanced").show_unindented(ui, |ui| {
        actions.extend(levels_ui(ui, &mut form.levels));
    });
    actions
}

fn compress_ui(ui: &mut Ui, view: &FormView<'_>, form: &mut CompressForm) -> Vec<Action> {
    ui.label("Writes a smaller form of a vector. The vector itself stays as it is.");
    ui.add_space(GRID);
    vector_ui(ui, view.weights, &mut form.knob);
    row_ui(ui, "Method", |ui| {
        for method in CompressMethod::ALL {
            if ui.selectable_label(form.method == method, method.name()).clicked() {
                form.method = method;
            }
        }
    });
    weak(ui, form.method.explanation());
    match form.method {
        CompressMethod::LowRank => {
            number_ui(ui, "Rank", DragValue::new(&mut form.rank).range(1..=4096));
        }
        CompressMethod::Trim => density_ui(ui, &mut form.density),
        CompressMethod::Dare => {
            density_ui(ui, &mut form.density);
            number_ui(ui, "Seed", DragValue::new(&mut form.seed).range(0..=u32::MAX));
        }
        CompressMethod::Sign => {}
    }
    let mut actions = path_ui(ui, view, FormField::Out, &mut form.out, false);
    ui.add_space(GRID);
    ui.checkbox(&mut form.measures, "Measure on data what it does to answers");
    if form.measures {
        weak(
            ui,
            "Scores the responses of preference records with the vector and with its smaller \
             form, at λ from −1.5 to 1.5. That takes as long as reading them a dozen times.",
        );
        actions.extend(path_ui(ui, view, FormField::Data, &mut form.data, false));
        number_ui(ui, "Most records", DragValue::new(&mut form.limit).range(1..=100_000));
    }
    actions
}

fn separate_ui(ui: &mut Ui, view: &FormView<'_>, form: &mut SeparateForm) -> Vec<Action> {
    ui.label("Takes from a vector what lies in the main directions of others.");
    ui.add_space(GRID);
    vector_ui(ui, view.weights, &mut form.knob);
    row_ui(ui, "Shared with", |ui| {
        ui.vertical(|ui| {
            for knob in view.weights.knobs.iter().filter(|knob| knob.id != form.knob) {
                let mut is_chosen = form.others.contains(&knob.id);
                if ui.checkbox(&mut is_chosen, view.weights.name_among(knob)).changed() {
                    form.others.retain(|other| *other != knob.id);
                    if is_chosen {
                        form.others.push(knob.id);
                    }
                }
            }
        });
    });
    number_ui(ui, "Directions", DragValue::new(&mut form.rank).range(1..=1024));
    weak(ui, "So many of the others' strongest directions count as shared, in each tensor.");
    let mut actions = path_ui(ui, view, FormField::Out, &mut form.out, false);
    ui.checkbox(&mut form.keeps_shared, "Keep what is shared in a file of its own");
    if form.keeps_shared {
        actions.extend(path_ui(ui, view, FormField::SharedOut, &mut form.shared_out, false));
    }
    actions
}

/// A name on the left, and what belongs to it.
pub(super) fn row_ui(ui: &mut Ui, name: &str, add: impl FnOnce(&mut Ui)) {
    group_ui(ui, name, |ui| {
        name_ui(ui, name);
        add(ui);
    });
}

pub(super) fn name_ui(ui: &mut Ui, name: &str) -> Response {
    let layout = egui::Layout::left_to_right(egui::Align::Center);
    let size = egui::vec2(NAME_WIDTH, ui.spacing().interact_size.y);
    ui.allocate_ui_with_layout(size, layout, |ui| {
        ui.set_min_width(NAME_WIDTH);
        ui.label(name)
    })
    .inner
}

pub(super) fn number_ui(ui: &mut Ui, name: &str, field: DragValue<'_>) {
    ui.horizontal(|ui| {
        let label = name_ui(ui, name);
        ui.add(field.custom_parser(parse_number)).labelled_by(label.id);
    });
}

fn density_ui(ui: &mut Ui, density: &mut f64) {
    let mut percent = *density * 100.0;
    let field = DragValue::new(&mut percent).range(0.1..=100.0).speed(0.5).max_decimals(1);
    number_ui(ui, "Share kept", field.suffix(" %"));
    let new = (percent * 10.0).round() / 1000.0;
    if (new - *density).abs() > 1e-9 {
        *density = new;
    }
}

fn text_ui(ui: &mut Ui, name: &str, text: &mut String, hint: &str) -> Option<Action> {
    ui.horizontal(|ui| {
        let label = name_ui(ui, name);
        line_ui(ui, text, hint, label.id).1
    })
    .inner
}

/// A line of text that Enter accepts.
fn line_ui(ui: &mut Ui, text: &mut String, hint: &str, label: Id) -> (Response, Option<Action>) {
    let field = TextEdit::singleline(text).hint_text(hint).desired_width(f32::INFINITY);
    let response = ui.add(field).labelled_by(label);
    let is_entered = response.lost_focus() && ui.input(|input| input.key_pressed(Key::Enter));
    if is_entered {
        response.request_focus();
    }
    (response, is_entered.then_some(Action::Dialog(DialogAction::Accept)))
}

fn domain_ui(ui: &mut Ui, domain: &mut String) -> Option<Action> {
    text_ui(ui, "Domain", domain, "what the vector is about: medical, legal, …")
}

fn levels_ui(ui: &mut Ui, levels: &mut String) -> Option<Action> {
    text_ui(ui, "Levels", levels, "expert, generic, avoidance")
}

/// A path: its field, and the system's own dialog beside it.
fn path_ui(
    ui: &mut Ui,
    view: &FormView<'_>,
    field: FormField,
    text: &mut String,
    takes_focus: bool,
) -> Vec<Action> {
    let mut actions = Vec::new();
    let folders: &[bool] = match field {
        FormField::Base | FormField::Aligned => &[false, true],
        FormField::Adapter => &[true],
        FormField::Data | FormField::Out | FormField::SharedOut => &[false],
    };
    ui.horizontal(|ui| {
        let label = name_ui(ui, field.label());
        ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
            for folder in folders.iter().rev() {
                let face = if *folder { "Folder…" } else { "File…" };
                let response =
                    ui.add_enabled(view.system_dialogs.is_ok(), Button::new(face).small());
                let name = format!("{}: {face}", field.label());
                response.widget_info(|| {
                    egui::WidgetInfo::labeled(egui::Role::Button, response.enabled(), &name)
                });
                if response.clicked() {
                    let browse = DialogAction::BrowseField { field, folder: *folder };
                    actions.push(Action::Dialog(browse));
                }
            }
            let (response, entered) = line_ui(ui, text, "Path", label.id);
            actions.extend(entered);
            if takes_focus {
                response.request_focus();
            }
        });
    });
    actions
}

fn vector_ui(ui: &mut Ui, weights: &Weights, chosen: &mut KnobId) {
    ui.horizontal(|ui| {
        let label = name_ui(ui, "Vector");
        let name = weights
            .knob(*chosen)
            .map_or_else(|| "gone".to_owned(), |knob| weights.name_among(knob));
        let list = ComboBox::from_id_salt("vector").selected_text(name).show_ui(ui, |ui| {
            for knob in &weights.knobs {
                ui.selectable_value(chosen, knob.id, weights.name_among(knob));
            }
        });
        list.response.labelled_by(label.id);
    });
}
