use std::path::{Path, PathBuf};

use meav_protocol::{
    ExportTarget, Fact, FileKind, JobId, JobSpec, Outcome, Remedy, SplitSpec, UserError,
};
use meav_ui::{
    Action, DataAction, DataTab, DialogAction, Effect, PathPurpose, PickKind, Screen, Settings,
    SplitDraft, UiCommand,
};

use crate::data_values::{data_report, demo_data, page};
use crate::hands::seen;
use crate::support::{TOTAL_RECORDS, Window, settings};

const FILE: &str = "/home/me/demo/medical.test.jsonl";

fn act(window: &mut Window, action: DataAction) {
    window.update(Action::Data(action));
}

/// A window that shows a file of the demo, read by the engine.
fn opened() -> Window {
    let mut window = Window::ready();
    act(&mut window, DataAction::Open(FILE.into()));
    window.answer_all();
    window.effects.clear();
    window
}

fn is_inspecting(spec: &JobSpec) -> bool {
    matches!(spec, JobSpec::InspectData { .. })
}

fn is_reading(spec: &JobSpec) -> bool {
    matches!(spec, JobSpec::ReadRecords { .. })
}

fn reads(path: &str, search: &str, start: usize) -> JobSpec {
    let (path, search) = (path.into(), search.to_owned());
    JobSpec::ReadRecords { path, search, start, count: 50 }
}

/// What the window asks for in order to read another page.
#[track_caller]
fn take_page(window: &mut Window) -> (JobId, JobSpec) {
    window.take_job(is_reading)
}

/// The line of the record that is shown.
#[track_caller]
fn shown_line(window: &mut Window, expected: Option<usize>) {
    act(window, DataAction::Show(DataTab::Records));
    let seen = seen(window);
    let line = seen.lines().find_map(|text| text.split_once(" · line "));
    assert_eq!(line.map(|(_, line)| line.to_owned()), expected.map(|line| line.to_string()));
}

/// What the window says of the file as a whole.
fn overview(window: &mut Window) -> String {
    act(window, DataAction::Show(DataTab::Overview));
    seen(window)
}

#[test]
fn demo_data_are_listed_once_and_only_where_they_are_of_use() {
    let mut window = Window::ready();
    window.command(UiCommand::ShowVectors);
    assert_eq!(window.take_jobs(), []);
    window.command(UiCommand::ShowData);
    let (job, spec) = window.take_job(|spec| *spec == JobSpec::ListDemoData);
    window.command(UiCommand::ShowJudge);
    window.answer(job, &spec);
    window.command(UiCommand::ShowData);
    assert_eq!(window.take_jobs(), []);
    window.command(UiCommand::ShowSweep);
    let specs: Vec<_> = window.take_jobs().into_iter().map(|(_, spec)| spec).collect();
    assert_eq!(specs, [JobSpec::ListSweeps], "the screens share one list");
    for screen in [Screen::Data, Screen::Judge, Screen::Sweep] {
        let mut window = Window::with(Settings { screen, ..settings() });
        window.take_job(|spec| *spec == JobSpec::ListDemoData);
    }
}

#[test]
fn demo_data_that_could_not_be_listed_are_asked_for_again() {
    let mut window = Window::ready();
    window.command(UiCommand::ShowData);
    let (job, _) = window.take_job(|spec| *spec == JobSpec::ListDemoData);
    window.fail(job, UserError::new("The store can't be read", ""));
    window.command(UiCommand::ShowData);
    assert_eq!(window.take_jobs(), [], "not by itself");
    act(&mut window, DataAction::Retry);
    window.take_job(|spec| *spec == JobSpec::ListDemoData);
}

#[test]
fn dropped_file_with_data_is_shown_on_the_data_screen() {
    let knobs = Window::ready().coefficients().len();
    let open: [fn(&mut Window); 3] = [
        |window| window.update(Action::OpenPaths(vec!["/d/legal.jsonl".into()])),
        |window| window.update(Action::Open("/d/legal.jsonl".into(), FileKind::Data)),
        |window| {
            window.command(UiCommand::AddVector);
            let text = "/d/legal.jsonl".to_owned();
            window.update(Action::Dialog(DialogAction::SetText(text)));
            window.update(Action::Dialog(DialogAction::Accept));
        },
    ];
    for open in open {
        let mut window = Window::ready();
        open(&mut window);
        window.answer_all();
        assert_eq!(window.settings().screen, Screen::Data);
        let recent = window.settings().recent;
        assert!(recent[0].is_data() && !recent[0].is_vector(), "{recent:?}");
        assert_eq!(window.coefficients().len(), knobs, "it is no vector");
        shown_line(&mut window, Some(1));
    }
}

#[test]
fn typed_path_is_read_as_data_whatever_it_ends_in() {
    let mut window = Window::ready();
    window.command(UiCommand::OpenData);
    window.update(Action::Dialog(DialogAction::SetText("~/records.txt".to_owned())));
    window.update(Action::Dialog(DialogAction::Accept));
    let (_, spec) = window.take_job(is_inspecting);
    assert_eq!(spec, JobSpec::InspectData { path: "/home/me/records.txt".into() });
    assert_eq!(take_page(&mut window).1, reads("/home/me/records.txt", "", 0));
    window.command(UiCommand::OpenData);
    window.update(Action::Dialog(DialogAction::Browse { folder: false }));
    let asks = |effect: &Effect| {
        let Effect::Pick(request) = effect else { return false };
        let PickKind::Files { filter } = &request.kind else { return false };
        request.purpose == PathPurpose::OpenData && filter.1.contains(&"parquet")
    };
    assert!(window.effects.iter().any(asks), "{:?}", window.effects);
}

#[test]
fn file_that_could_not_be_read_says_so_on_its_screen_alone() {
    let mut window = Window::ready();
    act(&mut window, DataAction::Open(FILE.into()));
    let (job, _) = window.take_job(is_inspecting);
    window.fail(job, UserError::new("There is no such file", ""));
    assert_eq!(overview(&mut window).matches("There is no such file").count(), 1);
    act(&mut window, DataAction::Retry);
    assert!(!overview(&mut window).contains("There is no such file"));
    window.take_job(is_inspecting);
}

#[test]
fn what_is_found_in_a_file_that_is_no_longer_shown_is_not_looked_at() {
    let mut window = Window::ready();
    act(&mut window, DataAction::Open("/d/old.jsonl".into()));
    let (old_read, _) = window.take_job(is_inspecting);
    let (old_page, _) = take_page(&mut window);
    act(&mut window, DataAction::Open(FILE.into()));
    assert_eq!(window.cancelled(), [old_read, old_page]);
    let old = Path::new("/d/old.jsonl");
    window.fact(old_read, Fact::Data(Box::new(data_report(old, 3))));
    window.fact(old_page, Fact::Records(page(old, "", (0, 50), 3)));
    window.fail(old_page, UserError::new("Too late", ""));
    window.fail(old_read, UserError::new("Too late", ""));
    shown_line(&mut window, None);
    let seen = overview(&mut window);
    assert!(!seen.contains("Too late") && !seen.contains("Fingerprint"), "{seen}");
    window.answer_all();
    shown_line(&mut window, Some(1));
    assert!(overview(&mut window).contains(&TOTAL_RECORDS.to_string()));
}

#[test]
fn records_are_read_a_page_at_a_time() {
    let mut window = opened();
    act(&mut window, DataAction::Select(49));
    shown_line(&mut window, Some(50));
    assert_eq!(window.take_jobs(), [], "it is on the page");
    act(&mut window, DataAction::Select(50));
    shown_line(&mut window, None);
    let (job, spec) = take_page(&mut window);
    assert_eq!(spec, reads(FILE, "", 50));
    window.answer(job, &spec);
    shown_line(&mut window, Some(51));
    act(&mut window, DataAction::Select(TOTAL_RECORDS));
    assert_eq!(window.take_jobs(), [], "there are no more");
    act(&mut window, DataAction::Select(TOTAL_RECORDS - 1));
    let (job, spec) = take_page(&mut window);
    assert_eq!(spec, reads(FILE, "", 100));
    window.answer(job, &spec);
    shown_line(&mut window, Some(TOTAL_RECORDS));
}

#[test]
fn who_goes_on_before_a_page_has_come_gets_the_page_of_the_last_wish() {
    let mut window = opened();
    act(&mut window, DataAction::Select(60));
    let (first, first_spec) = take_page(&mut window);
    act(&mut window, DataAction::Select(10));
    assert_eq!(window.cancelled(), [first]);
    let (second, second_spec) = take_page(&mut window);
    window.answer(first, &first_spec);
    shown_line(&mut window, Some(11));
    window.answer(second, &second_spec);
    shown_line(&mut window, Some(11));
}

#[test]
fn search_begins_anew_with_each_word_and_drops_the_older_one() {
    let mut window = opened();
    act(&mut window, DataAction::Select(7));
    act(&mut window, DataAction::SetSearch("kn".to_owned()));
    let (older, _) = take_page(&mut window);
    act(&mut window, DataAction::SetSearch("knee ".to_owned()));
    assert_eq!(window.cancelled(), [older]);
    let (newer, spec) = take_page(&mut window);
    assert_eq!(spec, reads(FILE, "knee", 0));
    window.fact(older, Fact::Records(page(Path::new(FILE), "kn", (0, 50), 2)));
    window.fact(newer, Fact::Records(page(Path::new(FILE), "knee", (0, 50), 1)));
    window.finish(newer, Outcome::Done);
    shown_line(&mut window, Some(1));
    act(&mut window, DataAction::SetSearch("knee".to_owned()));
    assert_eq!(window.take_jobs(), [], "the words are the same");
}

#[test]
fn file_that_has_shrunk_shows_its_first_records() {
    let mut window = opened();
    act(&mut window, DataAction::Select(100));
    let (job, _) = take_page(&mut window);
    window.fact(job, Fact::Records(page(Path::new(FILE), "", (100, 50), 20)));
    window.finish(job, Outcome::Done);
    let (job, spec) = take_page(&mut window);
    assert_eq!(spec, reads(FILE, "", 0));
    window.answer(job, &spec);
    shown_line(&mut window, Some(1));
}

fn split(window: &mut Window, change: impl FnOnce(&mut SplitDraft)) {
    window.command(UiCommand::SplitData);
    let folder = "/home/me/Documents".to_owned();
    let mut draft = SplitDraft { test: 0.2, validation: 0.03, seed: 0, folder };
    change(&mut draft);
    act(window, DataAction::SetSplit(draft));
    window.update(Action::Dialog(DialogAction::Accept));
}

fn is_splitting(spec: &JobSpec) -> bool {
    matches!(spec, JobSpec::SplitData(_))
}

#[test]
fn split_asks_for_what_was_filled_in_and_replaces_nothing_unasked() {
    let mut window = opened();
    split(&mut window, |draft| {
        (draft.test, draft.validation, draft.seed) = (0.1, 0.0, 7);
        draft.folder = "parts".to_owned();
    });
    let (job, spec) = window.take_job(is_splitting);
    let out = ExportTarget { path: "/home/me/Documents/parts".into(), replace: false };
    let expected = SplitSpec { data: FILE.into(), test: 0.1, validation: 0.0, seed: 7, out };
    assert_eq!(spec, JobSpec::SplitData(expected.clone()));
    let taken = UserError { remedy: Some(Remedy::Replace), ..UserError::new("It is there", "") };
    window.fail(job, taken);
    window.update(Action::Dialog(DialogAction::Replace));
    let (job, spec) = window.take_job(is_splitting);
    let out = ExportTarget { replace: true, ..expected.out.clone() };
    assert_eq!(spec, JobSpec::SplitData(SplitSpec { out, ..expected }));
    window.answer(job, &spec);
    assert_eq!(overview(&mut window).matches("Open medical.").count(), 3);
    act(&mut window, DataAction::DismissWritten);
    assert_eq!(overview(&mut window).matches("Open medical.").count(), 0);
}

#[test]
fn split_that_leaves_nothing_to_train_on_does_not_begin() {
    let changes: [fn(&mut SplitDraft); 3] = [
        |draft| (draft.test, draft.validation) = (0.9, 0.1),
        |draft| (draft.test, draft.validation) = (0.0, 0.0),
        |draft| draft.folder = " ".to_owned(),
    ];
    for change in changes {
        let mut window = opened();
        split(&mut window, change);
        assert_eq!(window.take_jobs(), []);
    }
    let mut window = Window::ready();
    window.command(UiCommand::SplitData);
    window.update(Action::Dialog(DialogAction::Accept));
    window.answer_all();
    assert_eq!(window.take_jobs(), [], "there is no file");
}

#[test]
fn folder_from_the_systems_dialog_goes_into_the_open_one_only() {
    let mut window = opened();
    window.command(UiCommand::SplitData);
    act(&mut window, DataAction::BrowseSplit);
    let picked = vec![PathBuf::from("/parts")];
    window.update(Action::Picked(PathPurpose::SplitFolder, picked.clone()));
    window.update(Action::Dialog(DialogAction::Accept));
    let (job, spec) = window.take_job(is_splitting);
    let JobSpec::SplitData(split) = &spec else { panic!("{spec:?}") };
    assert_eq!(split.out.path, Path::new("/parts"));
    window.answer(job, &spec);
    window.update(Action::Picked(PathPurpose::SplitFolder, picked));
    window.answer_all();
    assert_eq!(window.take_jobs(), []);
}

#[test]
fn split_whose_dialog_was_closed_is_told_and_can_be_had_back() {
    let mut window = opened();
    split(&mut window, |draft| draft.seed = 9);
    let (job, _) = window.take_job(is_splitting);
    window.update(Action::Dialog(DialogAction::Close));
    assert_eq!(window.cancelled(), [], "it goes on");
    window.update(Action::CloseRequested);
    assert!(!window.effects.contains(&Effect::Quit), "something would be lost");
    window.update(Action::Dialog(DialogAction::Close));
    window.fail(job, UserError::new("The disk is full", ""));
    window.update(Action::ShowAgain(1));
    window.update(Action::Dialog(DialogAction::Accept));
    let (_, spec) = window.take_job(is_splitting);
    assert!(matches!(&spec, JobSpec::SplitData(split) if split.seed == 9), "{spec:?}");
}

#[test]
fn comparison_begins_with_the_demos_own_training_file() {
    let mut window = opened();
    window.command(UiCommand::FindLeakage);
    window.update(Action::Dialog(DialogAction::Accept));
    let train = demo_data().pop().expect("the demo has files");
    let expected = JobSpec::FindLeakage { train: train.clone(), test: FILE.into() };
    let (job, spec) = window.take_job(|spec| matches!(spec, JobSpec::FindLeakage { .. }));
    assert_eq!(spec, expected);
    window.fail(job, UserError::new("That is no data", ""));
    window.update(Action::Dialog(DialogAction::Accept));
    let (job, spec) = window.take_job(|spec| *spec == expected);
    window.answer(job, &spec);
    let train = train.display().to_string();
    assert!(overview(&mut window).contains(&train));
    act(&mut window, DataAction::Open("/d/other.jsonl".into()));
    assert!(!overview(&mut window).contains(&train), "it was about another file");
}
