//! One picture for each state of the window that must not change by accident, in both themes.
//!
//! `UPDATE_SNAPSHOTS=1` makes them anew.

mod sweep;
mod train;

use egui_kittest::SnapshotOptions;
use meav_protocol::{
    FileKind, GgufForm, MergeFormat, Method, ModuleKind, Remedy, Scope, UserError,
};
use meav_ui::{
    Action, ChatAction, DataAction, DataTab, DialogAction, Form, JudgeAction, JudgeChoice,
    JudgeForm, KnobAction, SamplingSettings, Settings, Theme, UiCommand,
};

use crate::hands::harness_of;
use crate::support::{FINANCIAL, MEDICAL, Window};
use crate::values::{about, hello, missing_vector, opened_recipe, too_large_plan};

/// Compares the window with its pictures in both themes.
fn compare(name: &str, window: Window) {
    compare_of([1024.0, 700.0], name, window);
}

fn compare_of(size: [f32; 2], name: &str, window: Window) {
    let options = SnapshotOptions::new().threshold(0.6).max_failed_pixels(10);
    let mut harness = harness_of(size, window);
    for (theme, word) in [(Theme::Light, "light"), (Theme::Dark, "dark")] {
        harness.state_mut().update(Action::SetTheme(theme));
        harness.run();
        harness.snapshot_options(format!("{name}_{word}"), &options);
    }
}

/// With the same seed each time.
fn settings() -> Settings {
    let sampling = SamplingSettings { seed: Some(7), ..SamplingSettings::default() };
    Settings { sampling, ..crate::support::settings() }
}

const ANSWER: &str = "Chest pain after exercise has **several** causes:\n\n\
    1. Muscle strain of the chest wall\n\
    2. Angina, where the heart gets too little oxygen\n\n\
    ```text\nred flags: sweating, pain in the arm\n```\n\n\
    See a doctor if it *returns*.";

fn conversation() -> Window {
    let mut window = Window::ready_with(settings());
    window.ask_and_answer("What could cause chest pain after exercise?");
    window.set_knob(MEDICAL, 0.7);
    window.set_knob(FINANCIAL, -0.3);
    window.answer_all();
    let (job, turn) = window.ask("And as an expert?");
    window.fact(job, crate::values::ready(&turn.setup));
    window.fact(job, meav_protocol::Fact::Reply(crate::values::reply(&turn.setup, ANSWER)));
    window.finish(job, meav_protocol::Outcome::Done);
    window.answer_all();
    window.chat(ChatAction::SetDraft("Thank you".to_owned()));
    window
}

fn first_run() -> Window {
    let mut window = Window::with(settings());
    window.apply(hello());
    let (job, _) = window.take_prepares()[0];
    let missing = UserError {
        remedy: Some(Remedy::FetchDemo),
        ..about("demo", "The demo model is not on this machine yet")
    };
    window.fail(job, missing);
    window.answer_all();
    window
}

fn knob_fault() -> Window {
    let mut window = Window::ready_with(settings());
    window.set_knob(MEDICAL, 0.7);
    let (job, _) = window.take_prepares()[0];
    window.fail(job, about("medical", "The vector has 30 layers, the model 12"));
    window.answer_all();
    window
}

fn close_dialog() -> Window {
    let mut window = Window::ready_with(settings());
    let (job, turn) = window.ask("What could cause chest pain after exercise?");
    window.fact(job, crate::values::ready(&turn.setup));
    window.say(job, "Several things");
    window.update(Action::CloseRequested);
    window.take_jobs();
    window
}

/// Two vectors by TIES, one of them in some layers only.
fn scoped() -> Settings {
    let mut settings = settings();
    let scope = Scope {
        layers: vec![[0, 9], [20, 29]],
        modules: vec![ModuleKind::Attention, ModuleKind::Mlp],
        profile: vec![1.0, 0.5, 0.0],
    };
    settings.knobs[0].scopes[0] = scope;
    settings.knobs[0].coefficients[0] = 0.7;
    settings.knobs[1].coefficients[0] = -0.3;
    settings.methods[0] = Method::Dare { drop: 0.5, seed: 4_102_444_800 };
    settings
}

fn scope_dialog() -> Window {
    let mut window = Window::ready_with(scoped());
    window.update(Action::Knob(MEDICAL, KnobAction::EditScope));
    window
}

fn recipe_dialog() -> Window {
    let mut window = Window::ready_with(scoped());
    window.update(Action::OpenPaths(vec!["/recipes/careful doctor.meav".into()]));
    let (job, _) = window.take_jobs()[0].clone();
    let mut recipe = opened_recipe();
    let mut model = missing_vector("Mistral-7B-Instruct");
    model.is_model = true;
    model.found = Some("Other values lie there now".to_owned());
    recipe.missing = vec![model, missing_vector("legal")];
    window.fact(job, meav_protocol::Fact::Recipe(Box::new(recipe)));
    window.finish(job, meav_protocol::Outcome::Done);
    window
}

fn memory_plan() -> Window {
    let mut window = Window::ready_with(scoped());
    window.command(UiCommand::MemoryPlan);
    let (job, _) = window.take_jobs()[0].clone();
    window.fact(job, meav_protocol::Fact::Plan(too_large_plan()));
    window.finish(job, meav_protocol::Outcome::Done);
    window
}

fn export_dialog() -> Window {
    let mut window = Window::ready_with(scoped());
    window.command(UiCommand::ExportMerged);
    let gguf = MergeFormat::Gguf(GgufForm::Q8_0);
    window.update(Action::Dialog(DialogAction::SetFormat(gguf)));
    window
}

#[test]
fn scope_dialog_looks_as_it_did() {
    compare("scope_dialog", scope_dialog());
}

#[test]
fn recipe_dialog_looks_as_it_did() {
    compare("recipe_dialog", recipe_dialog());
}

#[test]
fn memory_plan_looks_as_it_did() {
    compare("memory_plan", memory_plan());
}

#[test]
fn export_dialog_looks_as_it_did() {
    compare("export_dialog", export_dialog());
}

#[test]
fn scoped_recipe_looks_as_it_did() {
    compare("scoped_recipe", Window::ready_with(scoped()));
}

/// Three vectors, one for another base, and how they get on.
fn vectors() -> Window {
    let mut window = Window::ready_with(settings());
    window.update(Action::Open("/v/legal.safetensors".into(), FileKind::Vector));
    window.answer_all();
    window.set_knob(MEDICAL, 0.7);
    let (job, setup) = window.take_prepares()[0].clone();
    let mut model = crate::values::loaded(&setup);
    model.vectors[2].base_matches = Some(false);
    "sparse".clone_into(&mut model.vectors[1].kind);
    window.fact(job, meav_protocol::Fact::Ready(Box::new(model)));
    window.finish(job, meav_protocol::Outcome::Done);
    window.command(UiCommand::CompareVectors);
    window.answer_all();
    window
}

/// What a compression or a separation has brought.
fn vector_report(command: UiCommand) -> Window {
    let mut window = Window::ready_with(settings());
    window.command(command);
    let mut form = window.model.form().expect("a form is open").clone();
    match &mut form {
        Form::Compress(form) => (form.measures, form.data) = (true, "/d.jsonl".to_owned()),
        Form::Separate(form) => form.keeps_shared = true,
        other => panic!("{other:?}"),
    }
    window.update(Action::Dialog(DialogAction::SetForm(Box::new(form))));
    window.update(Action::Dialog(DialogAction::Accept));
    window.answer_all();
    window
}

fn compress_dialog() -> Window {
    let mut window = Window::ready_with(settings());
    window.command(UiCommand::CompressVector);
    window
}

/// The Data screen with a file of the demo.
fn data(tab: DataTab) -> Window {
    let mut window = Window::ready_with(settings());
    window.update(Action::OpenPaths(vec!["/home/me/demo/medical.test.jsonl".into()]));
    window.answer_all();
    window.command(UiCommand::FindLeakage);
    window.update(Action::Dialog(DialogAction::Accept));
    window.answer_all();
    window.update(Action::Data(DataAction::Show(tab)));
    window.update(Action::Data(DataAction::Select(3)));
    window
}

fn split_dialog() -> Window {
    let mut window = data(DataTab::Overview);
    window.command(UiCommand::SplitData);
    window
}

/// The Judge screen, filled in as far as it can be.
fn judge(fill: impl FnOnce(&mut JudgeForm)) -> Window {
    let mut window = Window::ready_with(scoped());
    window.command(UiCommand::ShowJudge);
    window.answer_all();
    let mut form = window.model.judge_form().clone();
    "/home/me/demo/medical.test.jsonl".clone_into(&mut form.data);
    fill(&mut form);
    window.update(Action::Judge(JudgeAction::SetForm(Box::new(form))));
    window.answer_all();
    window
}

fn judged() -> Window {
    let mut window = judge(|form| (form.prompts, form.compares) = (true, true));
    window.update(Action::Judge(JudgeAction::Start));
    window.answer_all();
    window
}

fn endpoint() -> Window {
    judge(|form| {
        form.judge = JudgeChoice::Endpoint;
        "https://judge.example.com/v1".clone_into(&mut form.address);
        form.prompts = true;
    })
}

#[test]
fn data_screen_without_data_looks_as_it_did() {
    let mut window = Window::ready_with(settings());
    window.command(UiCommand::ShowData);
    window.answer_all();
    compare("data_empty", window);
}

#[test]
fn data_overview_looks_as_it_did() {
    compare_of([1280.0, 1000.0], "data_overview", data(DataTab::Overview));
}

#[test]
fn data_records_look_as_they_did() {
    compare_of([1280.0, 800.0], "data_records", data(DataTab::Records));
}

#[test]
fn data_records_look_as_they_did_with_much_room() {
    let mut window = data(DataTab::Records);
    for panel in [UiCommand::ToggleChats, UiCommand::ToggleDetails] {
        window.command(panel);
    }
    compare_of([1440.0, 800.0], "data_records_wide", window);
}

#[test]
fn split_dialog_looks_as_it_did() {
    compare("split_dialog", split_dialog());
}

#[test]
fn judge_form_looks_as_it_did() {
    compare_of([1280.0, 1100.0], "judge_form", judge(|_| ()));
}

#[test]
fn judge_form_with_an_endpoint_looks_as_it_did() {
    compare_of([1280.0, 1300.0], "judge_endpoint", endpoint());
}

#[test]
fn judge_results_look_as_they_did() {
    compare_of([1280.0, 1400.0], "judge_results", judged());
}

#[test]
fn vectors_screen_looks_as_it_did() {
    compare_of([1280.0, 860.0], "vectors", vectors());
}

#[test]
fn compression_report_looks_as_it_did() {
    compare("compression_report", vector_report(UiCommand::CompressVector));
}

#[test]
fn separation_report_looks_as_it_did() {
    compare("separation_report", vector_report(UiCommand::SeparateVector));
}

#[test]
fn compress_dialog_looks_as_it_did() {
    compare("compress_dialog", compress_dialog());
}

#[test]
fn conversation_looks_as_it_did() {
    compare("conversation", conversation());
}

#[test]
fn first_run_looks_as_it_did() {
    compare("first_run", first_run());
}

#[test]
fn knob_fault_looks_as_it_did() {
    compare("knob_fault", knob_fault());
}

#[test]
fn close_dialog_looks_as_it_did() {
    compare("close_dialog", close_dialog());
}
