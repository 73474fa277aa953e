use meav_protocol::{
    Dtype, ExportTarget, Fact, GgufForm, JobId, JobSpec, MergeFormat, MergeSpec, Outcome,
    PlanChange, Remedy, Setup, UserError,
};
use meav_ui::{Action, DialogAction, UiCommand};

use crate::support::{MEDICAL, Window};
use crate::values::{plan, too_large_plan};

fn dialog(window: &mut Window, action: DialogAction) {
    window.update(Action::Dialog(action));
}

fn take_plan(window: &mut Window) -> (JobId, Setup) {
    match window.take_job(|spec| matches!(spec, JobSpec::PlanMemory(_))) {
        (job, JobSpec::PlanMemory(setup)) => (job, setup),
        (_, other) => panic!("{other:?}"),
    }
}

fn take_merge(window: &mut Window) -> (JobId, MergeSpec) {
    match window.take_job(|spec| matches!(spec, JobSpec::Merge(_))) {
        (job, JobSpec::Merge(spec)) => (job, spec),
        (_, other) => panic!("{other:?}"),
    }
}

#[test]
fn plan_is_of_the_knobs_as_they_are() {
    let mut window = Window::ready();
    window.set_knob(MEDICAL, 0.7);
    let (_, wanted) = window.take_prepares()[0].clone();
    window.command(UiCommand::MemoryPlan);
    let (job, setup) = take_plan(&mut window);
    assert_eq!(setup, wanted);
    dialog(&mut window, DialogAction::Close);
    assert_eq!(window.cancelled(), [job]);
}

#[test]
fn other_dtype_is_set_and_planned_anew() {
    let mut window = Window::ready();
    window.update(Action::SetDtype(Dtype::F32));
    window.answer_all();
    window.command(UiCommand::MemoryPlan);
    let (job, _) = take_plan(&mut window);
    window.fact(job, Fact::Plan(too_large_plan()));
    window.finish(job, Outcome::Done);
    dialog(&mut window, DialogAction::TakeWayOut(PlanChange::Dtype(Dtype::Bf16)));
    let (_, setup) = take_plan(&mut window);
    assert_eq!(setup.dtype, Dtype::Bf16);
    assert_eq!(window.take_prepares()[0].1.dtype, Dtype::Bf16, "and loaded so");
}

#[test]
fn vector_to_compress_is_chosen_in_the_dialog_for_that() {
    let mut window = Window::ready();
    window.command(UiCommand::MemoryPlan);
    let change = PlanChange::CompressVector { file: "financial".into() };
    dialog(&mut window, DialogAction::TakeWayOut(change));
    dialog(&mut window, DialogAction::Accept);
    match window.take_job(|spec| matches!(spec, JobSpec::CompressVector(_))) {
        (_, JobSpec::CompressVector(spec)) => {
            assert_eq!(spec.vector, std::path::Path::new("financial"));
        }
        (_, other) => panic!("{other:?}"),
    }
}

#[test]
fn model_is_converted_without_vectors_and_to_the_last_bit() {
    let mut window = Window::ready();
    window.set_knob(MEDICAL, 0.7);
    window.command(UiCommand::MemoryPlan);
    dialog(&mut window, DialogAction::TakeWayOut(PlanChange::ConvertModel));
    dialog(&mut window, DialogAction::Accept);
    let (job, spec) = take_merge(&mut window);
    assert_eq!(spec.vectors, []);
    assert_eq!(spec.dtype, None);
    assert_eq!(spec.format, MergeFormat::Folder { max_shard_bytes: 5_000_000_000 });
    let path = "/home/me/Documents/converted-model".into();
    assert_eq!(spec.out, ExportTarget { path, replace: false });
    let (path, summary) = (spec.out.path.clone(), "a model".to_owned());
    window.fact(job, Fact::Written { path, summary });
    window.finish(job, Outcome::Done);
    let kept = window.settings();
    assert!(kept.recent[0].is_model && kept.recent[0].path == spec.out.path, "to be opened next");
    assert_eq!(kept.model, std::path::Path::new("demo"), "not by itself");
}

#[test]
fn plan_that_is_no_longer_asked_for_is_not_shown() {
    let mut window = Window::ready();
    window.command(UiCommand::MemoryPlan);
    let (first, _) = take_plan(&mut window);
    window.command(UiCommand::MemoryPlan);
    let (second, _) = take_plan(&mut window);
    assert_eq!(window.cancelled(), [first]);
    window.fact(first, Fact::Plan(plan()));
    window.finish(first, Outcome::Cancelled);
    dialog(&mut window, DialogAction::Close);
    assert_eq!(window.cancelled(), [first, second], "the second is still on its way");
}

#[test]
fn model_that_is_too_large_is_tried_again_in_the_type_that_fits() {
    let mut window = Window::new();
    let (job, setup) = window.take_prepares()[0].clone();
    assert_eq!(setup.dtype, Dtype::Bf16);
    let err = UserError::new("The model needs 30 GB", "Use a smaller type");
    window.fail(job, UserError { remedy: Some(Remedy::UseDtype(Dtype::F16)), ..err.clone() });
    window.answer_all();
    assert_eq!(window.take_prepares(), [], "not by itself");
    window.update(Action::SetDtype(Dtype::F16));
    let (job, setup) = window.take_prepares()[0].clone();
    assert_eq!(setup.dtype, Dtype::F16);
    window.fail(job, UserError { remedy: Some(Remedy::UseDtype(Dtype::F16)), ..err });
    window.update(Action::SetDtype(Dtype::F16));
    assert_eq!(window.take_prepares().len(), 1, "pressing it again tries again");
}

#[test]
fn merged_model_is_written_in_the_form_that_was_chosen() {
    let mut window = Window::ready();
    window.set_knob(MEDICAL, 0.7);
    window.command(UiCommand::ExportMerged);
    let folder = MergeFormat::Folder { max_shard_bytes: 1_000_000_000 };
    let gguf = MergeFormat::Gguf(GgufForm::Q8_0);
    for (format, path) in [(gguf, "merged-model.gguf"), (folder, "merged-model")] {
        dialog(&mut window, DialogAction::SetFormat(format));
        dialog(&mut window, DialogAction::Accept);
        let (job, spec) = take_merge(&mut window);
        assert_eq!(spec.format, format);
        assert_eq!(spec.out.path, std::path::Path::new("/home/me/Documents").join(path));
        assert_eq!(spec.dtype, Some(Dtype::Bf16));
        assert_eq!(spec.vectors[0].coefficient, 0.7);
        let err = UserError::new("It is there already", "Choose another name");
        window.fail(job, UserError { remedy: Some(Remedy::Replace), ..err });
    }
    dialog(&mut window, DialogAction::Replace);
    assert!(take_merge(&mut window).1.out.replace);
}
