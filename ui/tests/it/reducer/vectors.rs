use std::path::{Path, PathBuf};

use meav_protocol::{
    Compression, Dtype, ExportTarget, FileKind, JobId, JobSpec, Outcome, Probe, Remedy, UserError,
    VectorCompress, VectorExtract, VectorImport, VectorSeparate,
};
use meav_ui::{
    Action, CompressMethod, DialogAction, Effect, Form, FormField, KnobAction, PathPurpose,
    PickKind, Screen, UiCommand, VectorsAction,
};

use crate::support::{FINANCIAL, MEDICAL, Window};
use crate::values::{about, comparison};

fn new_file(path: &str) -> ExportTarget {
    ExportTarget { path: path.into(), replace: false }
}

/// Opens the dialog of a command and fills it in.
#[track_caller]
fn filled(command: UiCommand, fill: impl FnOnce(&mut Form)) -> Window {
    let mut window = Window::ready();
    window.command(command);
    edit(&mut window, fill);
    window
}

/// Changes what is typed and chosen.
#[track_caller]
fn edit(window: &mut Window, fill: impl FnOnce(&mut Form)) {
    let mut form = window.model.form().expect("a form is open").clone();
    fill(&mut form);
    window.update(Action::Dialog(DialogAction::SetForm(Box::new(form))));
}

fn accept(window: &mut Window) {
    window.update(Action::Dialog(DialogAction::Accept));
}

fn is_making(spec: &JobSpec) -> bool {
    matches!(
        spec,
        JobSpec::ExtractVector(_)
            | JobSpec::ImportVector(_)
            | JobSpec::CompressVector(_)
            | JobSpec::SeparateVector(_)
    )
}

/// Has the dialog begin its job.
#[track_caller]
fn begin(window: &mut Window) -> (JobId, JobSpec) {
    accept(window);
    window.take_job(is_making)
}

fn extraction() -> Window {
    filled(UiCommand::ExtractVector, |form| {
        let Form::Extract(form) = form else { panic!("{form:?}") };
        "models/aligned".clone_into(&mut form.aligned);
        " Legal advice ".clone_into(&mut form.domain);
    })
}

fn compression(fill: impl FnOnce(&mut meav_ui::CompressForm)) -> Window {
    filled(UiCommand::CompressVector, |form| {
        let Form::Compress(form) = form else { panic!("{form:?}") };
        fill(form);
    })
}

#[test]
fn extraction_asks_for_what_was_filled_in() {
    let mut window = extraction();
    let expected = VectorExtract {
        base: "demo".into(),
        aligned: "/work/models/aligned".into(),
        domain: "Legal advice".to_owned(),
        out: new_file("/home/me/Documents/legal-advice.safetensors"),
        dtype: None,
        include: None,
        exclude: None,
        levels: Vec::new(),
        training: None,
    };
    assert_eq!(begin(&mut window).1, JobSpec::ExtractVector(Box::new(expected.clone())));
    let mut window = extraction();
    edit(&mut window, |form| {
        let Form::Extract(form) = form else { panic!("{form:?}") };
        form.base = "~/models/base".to_owned();
        form.out = "law.safetensors".to_owned();
        form.dtype = Some(Dtype::F16);
        form.include = r" layers\.\d+ ".to_owned();
        form.exclude = "norm".to_owned();
        form.levels = "expert, generic,, avoidance ".to_owned();
    });
    let expected = VectorExtract {
        base: "/home/me/models/base".into(),
        out: new_file("/home/me/Documents/law.safetensors"),
        dtype: Some(Dtype::F16),
        include: Some(r"layers\.\d+".to_owned()),
        exclude: Some("norm".to_owned()),
        levels: ["expert", "generic", "avoidance"].map(str::to_owned).to_vec(),
        ..expected
    };
    assert_eq!(begin(&mut window).1, JobSpec::ExtractVector(Box::new(expected)));
}

#[test]
fn import_asks_for_what_was_filled_in() {
    let mut window = filled(UiCommand::ImportAdapter, |form| {
        let Form::Import(form) = form else { panic!("{form:?}") };
        form.adapter = "/adapters/tone".to_owned();
        form.domain = "tone".to_owned();
    });
    let expected = VectorImport {
        adapter: "/adapters/tone".into(),
        base: "demo".into(),
        domain: "tone".to_owned(),
        out: new_file("/home/me/Documents/tone.safetensors"),
        dtype: Dtype::Bf16,
        levels: Vec::new(),
        training: None,
    };
    assert_eq!(begin(&mut window).1, JobSpec::ImportVector(expected));
}

#[test]
fn compression_asks_for_the_method_and_its_numbers() {
    for (method, how, mark) in [
        (CompressMethod::LowRank, Compression::LowRank { rank: 8 }, "rank-8"),
        (CompressMethod::Trim, Compression::Trim { density: 0.2 }, "trim-20"),
        (CompressMethod::Dare, Compression::Dare { density: 0.2, seed: 7 }, "dare-20"),
        (CompressMethod::Sign, Compression::Sign, "sign"),
    ] {
        let mut window = compression(|form| {
            (form.method, form.rank, form.density, form.seed) = (method, 8, 0.2, 7);
        });
        let expected = VectorCompress {
            vector: "medical".into(),
            base: Some("demo".into()),
            how,
            out: new_file(&format!("/home/me/Documents/medical-{mark}.safetensors")),
            probe: None,
        };
        assert_eq!(begin(&mut window).1, JobSpec::CompressVector(expected), "{method:?}");
    }
}

#[test]
fn compression_is_of_the_selected_vector_and_measured_where_data_is_given() {
    let mut window = Window::ready();
    window.update(Action::Knob(FINANCIAL, KnobAction::Select));
    window.command(UiCommand::CompressVector);
    edit(&mut window, |form| {
        let Form::Compress(form) = form else { panic!("{form:?}") };
        form.measures = true;
        form.limit = 20;
    });
    accept(&mut window);
    window.take_jobs().into_iter().for_each(|(_, spec)| assert!(!is_making(&spec), "no data yet"));
    edit(&mut window, |form| {
        let Form::Compress(form) = form else { panic!("{form:?}") };
        form.data = "/data/test.jsonl".to_owned();
    });
    let (_, spec) = begin(&mut window);
    let JobSpec::CompressVector(compress) = spec else { panic!("{spec:?}") };
    assert_eq!(compress.vector, Path::new("financial"));
    let data = vec![PathBuf::from("/data/test.jsonl")];
    assert_eq!(compress.probe, Some(Probe { model: "demo".into(), data, limit: 20 }));
}

#[test]
fn separation_asks_for_the_others_and_the_shared_part() {
    let mut window = filled(UiCommand::SeparateVector, |_| {});
    let (_, spec) = begin(&mut window);
    let expected = VectorSeparate {
        vector: "medical".into(),
        others: vec!["financial".into()],
        base: Some("demo".into()),
        rank: 4,
        out: new_file("/home/me/Documents/medical-own.safetensors"),
        shared_out: None,
    };
    assert_eq!(spec, JobSpec::SeparateVector(expected.clone()));
    let mut window = filled(UiCommand::SeparateVector, |form| {
        let Form::Separate(form) = form else { panic!("{form:?}") };
        (form.knob, form.others, form.keeps_shared) = (FINANCIAL, vec![MEDICAL, FINANCIAL], true);
    });
    let (_, spec) = begin(&mut window);
    let expected = VectorSeparate {
        vector: "financial".into(),
        others: vec!["medical".into()],
        out: new_file("/home/me/Documents/financial-own.safetensors"),
        shared_out: Some(new_file("/home/me/Documents/financial-shared.safetensors")),
        ..expected
    };
    assert_eq!(spec, JobSpec::SeparateVector(expected));
}

#[test]
fn separation_from_nothing_does_not_begin() {
    let mut window = filled(UiCommand::SeparateVector, |form| {
        let Form::Separate(form) = form else { panic!("{form:?}") };
        form.others.clear();
    });
    accept(&mut window);
    assert_eq!(window.take_jobs(), []);
    let mut window = Window::ready();
    window.update(Action::Knob(FINANCIAL, KnobAction::Remove));
    window.command(UiCommand::SeparateVector);
    assert_eq!(window.model.form(), None, "there is no other");
}

#[test]
fn form_without_what_it_needs_does_not_begin_and_one_begins_once() {
    for command in [UiCommand::ExtractVector, UiCommand::ImportAdapter] {
        let mut window = Window::ready();
        window.command(command);
        accept(&mut window);
        assert_eq!(window.take_jobs(), [], "{command:?}");
    }
    let mut window = extraction();
    begin(&mut window);
    accept(&mut window);
    edit(&mut window, |form| {
        let Form::Extract(form) = form else { panic!("{form:?}") };
        form.domain = "other".to_owned();
    });
    accept(&mut window);
    assert_eq!(window.take_jobs(), []);
}

#[test]
fn name_of_the_file_follows_the_form_until_someone_changes_it() {
    let mut window = compression(|form| form.rank = 32);
    let out = |window: &Window| {
        window.model.form().cloned().and_then(|mut form| form.field_mut(FormField::Out).cloned())
    };
    let suggested = "/home/me/Documents/medical-rank-32.safetensors";
    assert_eq!(out(&window).as_deref(), Some(suggested));
    edit(&mut window, |form| {
        *form.field_mut(FormField::Out).expect("it is written") = "mine".to_owned();
    });
    edit(&mut window, |form| {
        let Form::Compress(form) = form else { panic!("{form:?}") };
        form.method = CompressMethod::Sign;
    });
    assert_eq!(out(&window).as_deref(), Some("mine"));
}

#[test]
fn what_was_made_is_told_and_put_on_a_knob() {
    let mut window = compression(|_| {});
    let (job, spec) = begin(&mut window);
    window.answer(job, &spec);
    assert_eq!(window.model.form(), None, "the dialog has closed");
    assert_eq!(window.settings().screen, Screen::Vectors);
    assert!(window.take_jobs().iter().any(|(_, it)| matches!(it, JobSpec::ListAudit { .. })));
    window.update(Action::Vectors(VectorsAction::AddMade));
    window.answer_all();
    let file = Path::new("/home/me/Documents/medical-rank-16.safetensors");
    let kept = window.settings();
    assert_eq!(kept.knobs.last().map(|knob| knob.file.as_path()), Some(file));
    assert_eq!(kept.recent[0].path, file);
    window.update(Action::Vectors(VectorsAction::AddMade));
    assert_eq!(window.coefficients().len(), 3, "it is on a knob already");
}

#[test]
fn smaller_vector_takes_the_place_of_the_one_that_it_was_made_from() {
    let mut window = compression(|_| {});
    window.set_knob(MEDICAL, 0.7);
    window.set_knob(FINANCIAL, 0.2);
    let (job, spec) = begin(&mut window);
    window.answer(job, &spec);
    window.answer_all();
    window.update(Action::Vectors(VectorsAction::ReplaceByMade));
    let files: Vec<_> = window.settings().knobs.into_iter().map(|knob| knob.file).collect();
    let made = PathBuf::from("/home/me/Documents/medical-rank-16.safetensors");
    assert_eq!(files, [made, "financial".into()]);
    assert_eq!(window.coefficients(), [0.7, 0.2]);
}

#[test]
fn vector_whose_knob_has_gone_can_still_be_added() {
    let mut window = compression(|_| {});
    let (job, spec) = begin(&mut window);
    window.update(Action::Knob(MEDICAL, KnobAction::Remove));
    window.answer(job, &spec);
    window.update(Action::Vectors(VectorsAction::ReplaceByMade));
    assert_eq!(window.coefficients().len(), 1, "there is nothing to replace");
    window.update(Action::Vectors(VectorsAction::AddMade));
    assert_eq!(window.coefficients().len(), 2);
}

#[test]
fn shared_part_is_known_from_its_own_file() {
    let mut window = filled(UiCommand::SeparateVector, |form| {
        let Form::Separate(form) = form else { panic!("{form:?}") };
        form.keeps_shared = true;
    });
    let (job, spec) = begin(&mut window);
    window.answer(job, &spec);
    window.update(Action::Vectors(VectorsAction::AddShared));
    window.update(Action::Vectors(VectorsAction::AddMade));
    let files: Vec<_> = window.settings().knobs.into_iter().map(|knob| knob.file).collect();
    let names = ["medical-shared", "medical-own"];
    let added = names.map(|name| PathBuf::from(format!("/home/me/Documents/{name}.safetensors")));
    assert_eq!(files[2..], added);
}

#[test]
fn error_is_told_in_the_dialog_and_a_file_goes_only_after_a_second_word() {
    let mut window = compression(|_| {});
    let (job, _) = begin(&mut window);
    let err = UserError::new("medical-rank-16.safetensors is there already", "Choose another");
    window.fail(job, UserError { remedy: Some(Remedy::Replace), ..err });
    window.take_jobs();
    window.update(Action::Dialog(DialogAction::Replace));
    let (_, spec) = window.take_job(is_making);
    let JobSpec::CompressVector(compress) = spec else { panic!("{spec:?}") };
    assert!(compress.out.replace);
    assert_eq!(compress.how, Compression::LowRank { rank: 16 }, "as it was filled in");
}

#[test]
fn job_in_the_background_goes_on_and_its_failure_opens_nothing() {
    let mut window = compression(|form| form.rank = 24);
    let (job, _) = begin(&mut window);
    window.update(Action::Dialog(DialogAction::Close));
    assert_eq!(window.cancelled(), [], "closing the dialog ends nothing");
    assert_eq!(window.model.form(), None);
    window.fail(job, UserError::new("The disk is full", "Make room"));
    window.take_jobs();
    window.tick();
    assert_eq!(window.model.form(), None, "someone may be typing");
    accept(&mut window);
    assert_eq!(window.take_jobs(), [], "Enter begins nothing");
}

#[test]
fn vector_is_written_under_a_name_that_ends_as_vectors_do() {
    for (picked, path, is_agreed) in [
        ("/o/v.safetensors", "/o/v.safetensors", true),
        ("/o/v", "/o/v.safetensors", false),
        ("/o/v.bin", "/o/v.bin.safetensors", false),
    ] {
        let mut window = extraction();
        window.update(Action::Picked(PathPurpose::Field(FormField::Out), vec![picked.into()]));
        let (job, spec) = begin(&mut window);
        let JobSpec::ExtractVector(extract) = spec else { panic!("{spec:?}") };
        assert_eq!(extract.out, ExportTarget { path: path.into(), replace: is_agreed }, "{picked}");
        let err = UserError::new("It is there already", "Choose another name");
        window.fail(job, UserError { remedy: Some(Remedy::Replace), ..err });
        window.take_jobs();
        window.update(Action::Dialog(DialogAction::Replace));
        let (_, spec) = window.take_job(is_making);
        let JobSpec::ExtractVector(extract) = spec else { panic!("{spec:?}") };
        assert_eq!(extract.out, ExportTarget { path: path.into(), replace: true }, "{picked}");
    }
}

#[test]
fn file_that_was_agreed_on_is_so_after_a_job_that_was_stopped() {
    let mut window = extraction();
    let picked = vec!["/o/v.safetensors".into()];
    window.update(Action::Picked(PathPurpose::Field(FormField::Out), picked));
    let (job, _) = begin(&mut window);
    window.update(Action::CancelJob(job));
    window.finish(job, Outcome::Cancelled);
    window.take_jobs();
    let (_, spec) = begin(&mut window);
    let JobSpec::ExtractVector(extract) = spec else { panic!("{spec:?}") };
    assert!(extract.out.replace);
}

#[test]
fn job_that_ends_in_the_background_takes_nobody_from_the_chat() {
    let mut window = compression(|_| {});
    let (job, spec) = begin(&mut window);
    window.update(Action::Dialog(DialogAction::Close));
    window.answer(job, &spec);
    assert_eq!(window.settings().screen, Screen::Chat);
    window.update(Action::Vectors(VectorsAction::AddMade));
    assert_eq!(window.coefficients().len(), 3, "the report waits on its screen");
}

#[test]
fn cancelled_job_leaves_the_form_as_it_was_filled_in() {
    let mut window = compression(|form| form.rank = 24);
    let (job, _) = begin(&mut window);
    window.update(Action::CancelJob(job));
    assert_eq!(window.cancelled(), [job]);
    window.finish(job, Outcome::Cancelled);
    window.take_jobs();
    let (other, spec) = begin(&mut window);
    assert_ne!(job, other);
    let JobSpec::CompressVector(compress) = spec else { panic!("{spec:?}") };
    assert_eq!(compress.how, Compression::LowRank { rank: 24 });
}

#[test]
fn window_that_makes_a_vector_asks_before_it_closes() {
    let mut window = compression(|_| {});
    begin(&mut window);
    window.effects.clear();
    window.update(Action::CloseRequested);
    assert_eq!(window.effects, []);
}

#[test]
fn system_dialogs_fill_in_the_field_that_asked() {
    let mut window = extraction();
    let mut kind_of = |field, folder| {
        window.update(Action::Dialog(DialogAction::BrowseField { field, folder }));
        match window.effects.pop() {
            Some(Effect::Pick(request)) => {
                assert_eq!(request.purpose, PathPurpose::Field(field));
                request.kind
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(kind_of(FormField::Aligned, true), PickKind::Folder);
    let models = PickKind::Files { filter: ("Models", &["gguf", "safetensors"]) };
    assert_eq!(kind_of(FormField::Base, false), models);
    let path = "/home/me/Documents/legal-advice.safetensors".into();
    assert_eq!(kind_of(FormField::Out, false), PickKind::Save { path });
    for (field, path) in [(FormField::Aligned, "/m/other"), (FormField::Out, "/o/v.safetensors")] {
        window.update(Action::Picked(PathPurpose::Field(field), vec![path.into()]));
    }
    window.update(Action::Picked(PathPurpose::Field(FormField::Base), Vec::new()));
    window.update(Action::Picked(PathPurpose::Field(FormField::Data), vec!["/d".into()]));
    let (_, spec) = begin(&mut window);
    let JobSpec::ExtractVector(extract) = spec else { panic!("{spec:?}") };
    assert_eq!((extract.base, extract.aligned), ("demo".into(), "/m/other".into()));
    let out = ExportTarget { path: "/o/v.safetensors".into(), replace: true };
    assert_eq!(extract.out, out, "the system's dialog has asked about the file");
}

#[test]
fn comparison_is_of_the_vectors_that_are_ticked_and_fit() {
    let mut window = Window::ready();
    window.update(Action::Open("/v/legal.safetensors".into(), FileKind::Vector));
    window.answer_all();
    window.update(Action::Vectors(VectorsAction::Compare(FINANCIAL, false)));
    window.command(UiCommand::CompareVectors);
    let (_, spec) = window.take_job(|spec| matches!(spec, JobSpec::CompareVectors { .. }));
    let vectors: Vec<PathBuf> = vec!["medical".into(), "/v/legal.safetensors".into()];
    assert_eq!(spec, JobSpec::CompareVectors { vectors, base: Some("demo".into()) });
    assert_eq!(window.settings().screen, Screen::Vectors);
    window.set_knob(MEDICAL, 0.5);
    let (job, _) = window.take_prepares()[0];
    window.fail(job, about("/v/legal.safetensors", "The file has gone"));
    window.answer_all();
    window.command(UiCommand::CompareVectors);
    assert_eq!(window.take_jobs(), [], "one alone is compared with nothing");
    window.update(Action::Vectors(VectorsAction::Compare(FINANCIAL, true)));
    window.command(UiCommand::CompareVectors);
    window.take_job(|spec| matches!(spec, JobSpec::CompareVectors { .. }));
}

#[test]
fn newest_comparison_takes_the_place_of_the_one_before() {
    let mut window = Window::ready();
    let compare = |window: &mut Window| {
        window.command(UiCommand::CompareVectors);
        window.take_job(|spec| matches!(spec, JobSpec::CompareVectors { .. })).0
    };
    let first = compare(&mut window);
    let second = compare(&mut window);
    assert_eq!(window.cancelled(), [first]);
    let files: Vec<PathBuf> = vec!["one".into(), "other".into()];
    window.fact(first, meav_protocol::Fact::Compared(comparison(&files)));
    window.finish(first, Outcome::Cancelled);
    window.command(UiCommand::ExportComparison);
    accept(&mut window);
    assert_eq!(window.take_jobs(), [], "the first was called off, and the second is not there");
    window.fail(second, UserError::new("They are for different models", "Leave one out"));
    let third = compare(&mut window);
    window.fact(third, meav_protocol::Fact::Compared(comparison(&files)));
    window.finish(third, Outcome::Done);
    window.update(Action::Vectors(VectorsAction::Export("png")));
    accept(&mut window);
    let (job, spec) = window.take_job(|spec| matches!(spec, JobSpec::ExportComparison { .. }));
    let out = new_file("/home/me/Documents/comparison.png");
    assert_eq!(spec, JobSpec::ExportComparison { comparison: comparison(&files), out });
    window.finish(job, Outcome::Done);
    assert!(window.take_jobs().iter().any(|(_, it)| matches!(it, JobSpec::ListAudit { .. })));
}

#[test]
fn dropped_model_may_become_a_vector() {
    for kind in [FileKind::Model, FileKind::Vector] {
        let mut window = Window::ready();
        window.update(Action::OpenPaths(vec!["/m/one.gguf".into(), "/m/two.gguf".into()]));
        window.answer_all();
        assert_eq!(window.settings().model, Path::new("demo"), "it is asked first");
        for _ in 0..2 {
            window.update(Action::Dialog(DialogAction::UseAs(kind)));
            window.answer_all();
            window.tick();
        }
        window.update(Action::Dialog(DialogAction::UseAs(kind)));
        let kept = window.settings();
        let files: Vec<_> = kept.knobs.into_iter().map(|knob| knob.file).collect();
        if kind == FileKind::Model {
            assert_eq!(kept.model, Path::new("/m/two.gguf"));
            assert_eq!(files.len(), 2);
        } else {
            assert_eq!(kept.model, Path::new("demo"));
            assert_eq!(files[2..], [PathBuf::from("/m/one.gguf"), "/m/two.gguf".into()]);
        }
    }
}

#[test]
fn dropped_model_that_nobody_wants_is_forgotten() {
    let mut window = Window::ready();
    window.update(Action::OpenPaths(vec!["/m/one.gguf".into()]));
    window.answer_all();
    window.update(Action::Dialog(DialogAction::Close));
    window.tick();
    window.update(Action::Dialog(DialogAction::UseAs(FileKind::Model)));
    assert_eq!(window.settings().model, Path::new("demo"));
    assert_eq!(window.coefficients().len(), 2);
}

#[test]
fn model_where_a_vector_was_asked_for_is_used_as_one() {
    let mut window = Window::ready();
    window.command(UiCommand::AddVector);
    window.update(Action::Dialog(DialogAction::SetText("/m/aligned.gguf".to_owned())));
    accept(&mut window);
    window.answer_all();
    let kept = window.settings();
    assert_eq!(kept.model, Path::new("demo"));
    assert_eq!(kept.knobs[2].file, Path::new("/m/aligned.gguf"));
    assert!(!kept.recent[0].is_model, "to be opened as a vector again");
}

#[test]
fn screen_is_kept_and_what_belongs_to_the_chat_leads_back_to_it() {
    let mut window = Window::ready();
    window.ask_and_answer("One?");
    for command in
        [UiCommand::NewChat, UiCommand::FocusComposer, UiCommand::ShowChat, UiCommand::Regenerate]
    {
        window.command(UiCommand::ShowVectors);
        assert_eq!(window.settings().screen, Screen::Vectors);
        window.command(command);
        assert_eq!(window.settings().screen, Screen::Chat, "{command:?}");
    }
}
