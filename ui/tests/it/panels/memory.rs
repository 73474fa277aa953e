use egui::accesskit::Role;
use egui::{Key, Modifiers};
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT as _, Queryable as _};
use meav_protocol::{
    Dtype, Event, Fact, GgufForm, JobSpec, MemoryPlan, MergeFormat, MergeSpec, Outcome, Remedy,
    Stage, UserError,
};
use meav_ui::{Action, DialogAction, KnobAction, UiCommand};

use crate::hands::{Hands as _, harness};
use crate::support::{MEDICAL, Window};
use crate::values::{plan, too_large_plan};

/// Shows the dialog with this plan.
fn planned(plan: MemoryPlan) -> Harness<'static, Window> {
    let mut window = Window::ready();
    window.command(UiCommand::MemoryPlan);
    let (job, _) = window.take_job(|spec| matches!(spec, JobSpec::PlanMemory(_)));
    window.fact(job, Fact::Plan(plan));
    window.finish(job, Outcome::Done);
    let mut harness = harness(window);
    harness.run();
    harness
}

#[test]
fn plan_lists_each_part_with_its_form_place_and_size() {
    let harness = planned(plan());
    for text in [
        "base model",
        "7.2 B × bf16",
        "in its file",
        "in memory",
        "medical: 2.9 GB",
        "2.9 GB",
        "It needs 18.5 GB of memory; 24.0 GB are free: it fits",
        "What would make it smaller",
    ] {
        assert!(harness.shows(text), "{text}");
    }
}

#[test]
fn plan_that_does_not_fit_offers_what_would() {
    let mut harness = planned(too_large_plan());
    assert!(harness.shows("It needs 33.0 GB of memory; only 24.0 GB are free"));
    assert!(harness.shows("saves 14.5 GB, then it fits"));
    assert!(harness.shows("saves 900.0 MB, which is not enough alone"));
    harness.press("Use bf16");
    let window = harness.state_mut();
    let (job, spec) = window.take_job(|spec| matches!(spec, JobSpec::PlanMemory(_)));
    assert!(matches!(spec, JobSpec::PlanMemory(setup) if setup.dtype == Dtype::Bf16));
    assert!(harness.shows("base model"), "the old plan stays until the new one is there");
    harness.state_mut().fact(job, Fact::Plan(plan()));
    harness.state_mut().finish(job, Outcome::Done);
    harness.run();
    assert!(harness.mentions("it fits"));
    harness.run();
    harness.press("Done");
    assert!(!harness.shows("Memory plan"));
}

#[test]
fn ways_out_lead_to_their_dialogs() {
    let mut harness = planned(too_large_plan());
    harness.press("Compress medical");
    assert!(harness.shows("Compress vector"));
    let mut harness = planned(too_large_plan());
    harness.press("Convert the model");
    assert!(harness.shows("Convert model"));
    assert!(!harness.shows("GGUF file"), "it becomes a folder");
}

#[test]
fn plan_that_could_not_be_made_says_why() {
    let mut window = Window::ready();
    window.command(UiCommand::MemoryPlan);
    let mut harness = harness(window);
    harness.run();
    assert!(harness.shows("Reading the files…"));
    let (job, _) = harness.state_mut().take_job(|spec| matches!(spec, JobSpec::PlanMemory(_)));
    harness.state_mut().fail(job, UserError::new("The file is cut short", "Copy it again"));
    harness.run();
    assert!(harness.shows("The file is cut short"));
}

#[test]
fn plan_is_reached_from_the_memory_the_model_and_the_palette() {
    let mut harness = harness(Window::ready());
    harness.get_by_label_contains("/25.0 GB memory").click();
    harness.run();
    assert!(harness.shows("Memory plan"));
    harness.key(Key::Escape);
    harness.get_by_label_contains("Model SmolLM2").click();
    harness.run();
    harness.press("Memory plan…");
    assert!(harness.shows("Memory plan"));
    harness.key(Key::Escape);
    harness.keys(Modifiers::COMMAND, Key::K);
    harness.types("memory plan");
    harness.key(Key::Enter);
    assert!(harness.shows("Memory plan"));
}

#[test]
fn model_that_is_too_large_offers_the_type_that_fits() {
    let mut window = Window::new();
    let (job, _) = window.take_prepares()[0];
    let err = UserError::new("The model needs 30 GB, and 16 GB are free", "Use bf16");
    window.fail(job, UserError { remedy: Some(Remedy::UseDtype(Dtype::F16)), ..err });
    window.answer_all();
    let mut harness = harness(window);
    harness.run();
    harness.get_all_by_label("Use f16").next().expect("it is offered").click();
    harness.run();
    assert_eq!(harness.state_mut().take_prepares()[0].1.dtype, Dtype::F16);
    assert!(!harness.mentions("The model needs 30 GB"));
}

fn take_merge(harness: &mut Harness<'_, Window>) -> (meav_protocol::JobId, MergeSpec) {
    match harness.state_mut().take_job(|spec| matches!(spec, JobSpec::Merge(_))) {
        (job, JobSpec::Merge(spec)) => (job, spec),
        (_, other) => panic!("{other:?}"),
    }
}

#[test]
fn export_is_a_folder_or_a_gguf_in_the_form_that_is_chosen() {
    let mut window = Window::ready();
    window.command(UiCommand::ExportMerged);
    let mut harness = harness(window);
    harness.run();
    assert!(harness.shows("The weights are merged and written in bf16."));
    harness.get_by_label("Advanced").click();
    harness.run();
    harness.get_by_label("Largest file").click();
    harness.run();
    harness.types("2,5 GB");
    harness.key(Key::Enter);
    harness.press("Export");
    let (job, spec) = take_merge(&mut harness);
    assert_eq!(spec.format, MergeFormat::Folder { max_shard_bytes: 2_500_000_000 });
    let there = UserError::new("The folder is there already", "Choose another");
    harness.state_mut().fail(job, there);
    harness.run();
    harness.press("GGUF file");
    assert!(!harness.shows("The folder is there already"), "it is no folder any more");
    assert!(!harness.shows("Advanced"));
    harness.press("Q8_0");
    harness.press("Export");
    let (job, spec) = take_merge(&mut harness);
    assert_eq!(spec.format, MergeFormat::Gguf(GgufForm::Q8_0));
    assert!(spec.out.path.ends_with("merged-model.gguf"));
    let there = UserError::new("The file is there already", "Choose another");
    let there = UserError { remedy: Some(Remedy::Replace), ..there };
    harness.state_mut().fail(job, there);
    harness.run();
    harness.press("Replace it");
    assert!(take_merge(&mut harness).1.out.replace);
}

#[test]
fn export_shows_how_far_it_is_and_can_be_ended() {
    let mut window = Window::ready();
    window.command(UiCommand::ExportMerged);
    let mut harness = harness(window);
    harness.run();
    harness.press("Export");
    let (job, _) = take_merge(&mut harness);
    assert!(harness.shows("Waiting for its turn…"));
    let progress = |stage| Event::Progress { job_id: job, stage, done: 1, total: 4 };
    harness.state_mut().apply(progress(Stage::Fingerprinting));
    harness.run();
    assert!(harness.shows("Reading the values of the files…"));
    let export = harness.get_by_role_and_label(Role::Button, "Export");
    assert!(export.accesskit_node().is_disabled());
    harness.state_mut().apply(progress(Stage::Writing));
    harness.run();
    assert!(!harness.shows("Export merged model"), "from here on it is in the status bar");
    harness.press("Cancel: Writing the merged model");
    assert_eq!(harness.state().cancelled(), [job]);
}

#[test]
fn export_that_fails_while_it_is_written_can_be_begun_again() {
    let mut window = Window::ready();
    window.command(UiCommand::ExportMerged);
    window.update(Action::Dialog(DialogAction::SetText("/full/big".to_owned())));
    let gguf = MergeFormat::Gguf(GgufForm::Q8_0);
    window.update(Action::Dialog(DialogAction::SetFormat(gguf)));
    let mut harness = harness(window);
    harness.run();
    harness.press("Export");
    let (job, _) = take_merge(&mut harness);
    let progress = Event::Progress { job_id: job, stage: Stage::Writing, done: 1, total: 4 };
    harness.state_mut().apply(progress);
    harness.state_mut().fail(job, UserError::new("The disk is full", "Make room"));
    harness.run();
    assert!(harness.shows("The disk is full"));
    assert!(!harness.shows("Export merged model"));
    harness.press("Show");
    assert!(harness.shows("The disk is full"), "in the dialog");
    harness.press("Export");
    let (_, spec) = take_merge(&mut harness);
    assert_eq!(spec.out.path, std::path::Path::new("/full/big.gguf"));
    assert_eq!(spec.format, gguf);
}

#[test]
fn vector_that_has_gone_from_the_knobs_is_not_compressed() {
    let mut harness = planned(plan());
    let is_disabled = |harness: &Harness<'_, Window>| {
        let button = harness.get_by_role_and_label(Role::Button, "Compress medical");
        button.accesskit_node().is_disabled()
    };
    assert!(!is_disabled(&harness));
    harness.state_mut().update(Action::Knob(MEDICAL, KnobAction::Remove));
    harness.run();
    assert!(is_disabled(&harness));
}
