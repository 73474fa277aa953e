use std::path::{Path, PathBuf};

use meav_protocol::{ExportTarget, FileKind, JobId, JobSpec, Outcome, Remedy, UserError};
use meav_ui::{
    Action, DialogAction, Effect, PathPurpose, PickKind, PickRequest, Recent, UiCommand,
};

use crate::support::{MEDICAL, Window};
use crate::values::described;

fn take_describe(window: &mut Window) -> (JobId, JobSpec) {
    window.take_job(|spec| matches!(spec, JobSpec::Describe { .. }))
}

fn new_file(path: &str) -> ExportTarget {
    ExportTarget { path: path.into(), replace: false }
}

/// Opens a dialog and has it take a path.
fn give_path(window: &mut Window, command: UiCommand, path: &str) {
    window.command(command);
    window.update(Action::Dialog(DialogAction::SetText(path.to_owned())));
    window.update(Action::Dialog(DialogAction::Accept));
}

#[test]
fn dropped_files_become_models_and_knobs() {
    let mut window = Window::ready();
    let paths = ["/models/big.gguf", "/vectors/legal.safetensors"].map(PathBuf::from);
    window.update(Action::OpenPaths(paths.to_vec()));
    window.answer_all();
    window.update(Action::Dialog(DialogAction::UseAs(FileKind::Model)));
    window.answer_all();
    let kept = window.settings();
    assert_eq!(kept.model, paths[0]);
    assert_eq!(kept.knobs.last().map(|knob| knob.file.clone()), Some(paths[1].clone()));
    let recent: Vec<_> = kept.recent.into_iter().map(|it| (it.path, it.is_model)).collect();
    assert_eq!(recent, [(paths[0].clone(), true), (paths[1].clone(), false)]);
}

#[test]
fn vector_that_is_on_a_knob_gets_no_second_one() {
    let mut window = Window::ready();
    give_path(&mut window, UiCommand::AddVector, "medical");
    window.answer_all();
    assert_eq!(window.coefficients().len(), 2);
}

#[test]
fn recent_files_are_ten_at_most_and_each_once() {
    let mut window = Window::ready();
    for index in (0..12).chain([5]) {
        let path = format!("/vectors/{index}.safetensors").into();
        window.update(Action::Open(path, FileKind::Vector));
        window.answer_all();
    }
    let recent = window.settings().recent;
    assert_eq!(recent.len(), 10);
    assert_eq!(recent[0], Recent { path: "/vectors/5.safetensors".into(), is_model: false });
    assert_eq!(recent.iter().filter(|it| it.path == recent[0].path).count(), 1);
}

#[test]
fn path_that_is_none_stays_in_the_dialog_to_be_corrected() {
    let mut window = Window::ready();
    give_path(&mut window, UiCommand::OpenModel, " /no/such ");
    let (job, spec) = take_describe(&mut window);
    assert_eq!(spec, JobSpec::Describe { path: "/no/such".into() });
    window.fail(job, UserError::new("There is no such file", "Look at the path"));
    window.update(Action::Dialog(DialogAction::SetText("/models/big.gguf".to_owned())));
    window.update(Action::Dialog(DialogAction::Accept));
    let (job, spec) = take_describe(&mut window);
    window.answer(job, &spec);
    assert_eq!(window.settings().model, Path::new("/models/big.gguf"));
    window.update(Action::Dialog(DialogAction::Accept));
    assert_eq!(window.effects.iter().filter(|it| matches!(it, Effect::Pick(_))).count(), 0);
}

#[test]
fn path_is_looked_at_once_however_often_it_is_accepted() {
    let mut window = Window::ready();
    give_path(&mut window, UiCommand::AddVector, "/vectors/legal.safetensors");
    window.update(Action::Dialog(DialogAction::Accept));
    window.update(Action::Dialog(DialogAction::Accept));
    take_describe(&mut window);
}

#[test]
fn path_dialog_that_is_closed_opens_nothing_later() {
    let mut window = Window::ready();
    give_path(&mut window, UiCommand::AddVector, "/vectors/legal.safetensors");
    let (job, spec) = take_describe(&mut window);
    window.update(Action::Dialog(DialogAction::Close));
    assert_eq!(window.cancelled(), [job]);
    window.answer(job, &spec);
    assert_eq!(window.coefficients().len(), 2, "it was called off");
}

#[test]
fn empty_path_is_not_looked_at() {
    let mut window = Window::ready();
    give_path(&mut window, UiCommand::OpenModel, "  ");
    assert_eq!(window.take_jobs(), []);
}

#[test]
fn system_dialog_is_asked_for_what_is_needed_and_answers_the_one_that_asked() {
    let mut window = Window::ready();
    window.command(UiCommand::AddVector);
    window.update(Action::Dialog(DialogAction::Browse { folder: false }));
    let Some(Effect::Pick(PickRequest { purpose, kind, .. })) = window.effects.pop() else {
        panic!("nothing is picked");
    };
    assert_eq!(purpose, PathPurpose::AddVector);
    assert_eq!(kind, PickKind::Files { filter: ("Vectors", &["safetensors"]) });
    window.update(Action::Picked(PathPurpose::OpenModel, vec!["/models/big.gguf".into()]));
    window.update(Action::Picked(PathPurpose::AddVector, Vec::new()));
    assert_eq!(window.take_jobs(), [], "another asked, or nothing was picked");
    let paths = ["/v/legal.safetensors", "/v/safety.safetensors"].map(PathBuf::from);
    window.update(Action::Picked(PathPurpose::AddVector, paths.to_vec()));
    window.answer_all();
    assert_eq!(window.coefficients().len(), 4);
    window.update(Action::Picked(PathPurpose::AddVector, paths.to_vec()));
    assert_eq!(window.take_jobs(), [], "the dialog has closed");
}

#[test]
fn folders_are_picked_for_models_and_files_for_exports() {
    let mut window = Window::ready();
    let mut kind_of = |command, folder| {
        window.command(command);
        window.update(Action::Dialog(DialogAction::Browse { folder }));
        match window.effects.pop() {
            Some(Effect::Pick(request)) => request.kind,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(kind_of(UiCommand::OpenModel, true), PickKind::Folder);
    let save = PickKind::Save { path: "/home/me/Documents/meav-audit.csv".into() };
    assert_eq!(kind_of(UiCommand::ExportAudit, false), save);
}

#[test]
fn chat_is_exported_to_the_path_and_an_empty_one_is_not() {
    let mut window = Window::ready();
    give_path(&mut window, UiCommand::ExportChat, "/out/chat.md");
    assert_eq!(window.take_jobs(), []);
    window.update(Action::Dialog(DialogAction::Close));
    let chat = window.ask_and_answer("One?").keep.expect("kept").chat;
    give_path(&mut window, UiCommand::ExportChat, "/out/chat.json");
    let (job, spec) = window.take_job(|spec| matches!(spec, JobSpec::ExportChat { .. }));
    assert_eq!(spec, JobSpec::ExportChat { id: Some(chat), out: new_file("/out/chat.json") });
    window.finish(job, Outcome::Done);
    assert!(window.take_jobs().iter().any(|(_, it)| matches!(it, JobSpec::ListAudit { .. })));
}

#[test]
fn audit_log_is_exported_to_the_path() {
    let mut window = Window::ready();
    give_path(&mut window, UiCommand::ExportAudit, "/out/audit.json");
    let (_, spec) = window.take_job(|spec| matches!(spec, JobSpec::ExportAudit { .. }));
    assert_eq!(spec, JobSpec::ExportAudit { out: new_file("/out/audit.json") });
}

#[test]
fn typed_paths_are_meant_as_people_mean_them() {
    let mut window = Window::ready();
    let target = |window: &mut Window, path: &str| {
        give_path(window, UiCommand::ExportAudit, path);
        match window.take_job(|spec| matches!(spec, JobSpec::ExportAudit { .. })) {
            (job, JobSpec::ExportAudit { out }) => {
                window.finish(job, Outcome::Done);
                out.path
            }
            (_, other) => panic!("{other:?}"),
        }
    };
    assert_eq!(target(&mut window, "log.csv"), Path::new("/home/me/Documents/log.csv"));
    assert_eq!(target(&mut window, "~/log.csv"), Path::new("/home/me/log.csv"));
    assert_eq!(target(&mut window, " /out/log.csv "), Path::new("/out/log.csv"));
    give_path(&mut window, UiCommand::OpenModel, "demo");
    assert_eq!(take_describe(&mut window).1, JobSpec::Describe { path: "demo".into() });
}

#[test]
fn file_that_is_there_goes_only_after_a_second_word() {
    let mut window = Window::ready();
    give_path(&mut window, UiCommand::ExportAudit, "/out/audit.json");
    let (job, _) = window.take_job(|spec| matches!(spec, JobSpec::ExportAudit { .. }));
    let err = UserError::new("/out/audit.json is there already", "Choose another name");
    let err = UserError { remedy: Some(Remedy::Replace), ..err };
    window.finish(job, Outcome::Failed(err));
    window.update(Action::Dialog(DialogAction::Replace));
    let (_, spec) = window.take_job(|spec| matches!(spec, JobSpec::ExportAudit { .. }));
    let out = ExportTarget { replace: true, ..new_file("/out/audit.json") };
    assert_eq!(spec, JobSpec::ExportAudit { out });
}

#[test]
fn vector_where_a_model_was_asked_for_is_put_on_a_knob() {
    let mut window = Window::ready();
    give_path(&mut window, UiCommand::OpenModel, "/vectors/legal.safetensors");
    let (job, _) = take_describe(&mut window);
    window.fact(job, described(Path::new("/vectors/legal.safetensors")));
    window.finish(job, Outcome::Done);
    assert_eq!(window.coefficients().len(), 3);
    assert_eq!(window.settings().model, Path::new("demo"));
}

#[test]
fn selected_vector_is_described_once() {
    let mut window = Window::new();
    window.apply(crate::values::hello());
    window.answer_all();
    window.set_knob(MEDICAL, 0.5);
    let (job, setup) = window.take_prepares()[0].clone();
    window.answer(job, &JobSpec::Prepare(setup));
    let jobs = window.take_jobs();
    assert!(!jobs.iter().any(|(_, spec)| matches!(spec, JobSpec::Describe { .. })), "{jobs:?}");
}
