use egui::Key;
use egui::accesskit::Role;
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT as _, Queryable as _};
use meav_protocol::{Fact, JobSpec, LeakageReport, Outcome, UserError};
use meav_ui::{Action, DataAction, DataTab, Effect, UiCommand};

use crate::data_values::{data_report, page, problem};
use crate::hands::{self, Hands as _, engine_works, harness_of};
use crate::support::Window;

const FILE: &str = "/home/me/demo/medical.test.jsonl";

/// The Data screen of a window.
fn screen(window: Window) -> Harness<'static, Window> {
    hands::screen(UiCommand::ShowData, 1600.0, window)
}

fn opened(tab: DataTab) -> Harness<'static, Window> {
    let mut window = Window::ready();
    window.update(Action::Data(DataAction::Open(FILE.into())));
    window.update(Action::Data(DataAction::Show(tab)));
    window.answer_all();
    screen(window)
}

#[test]
fn screen_without_data_says_how_to_get_some() {
    let mut harness = screen(Window::ready());
    assert!(harness.shows("No data is open"));
    assert_eq!(harness.focused().as_deref(), Some("Open data…"));
    for command in ["Split data…", "Compare with training file…"] {
        let button = harness.get_by_role_and_label(Role::Button, command);
        assert!(button.accesskit_node().is_disabled(), "{command}");
    }
    harness.press("legal.test");
    engine_works(&mut harness);
    assert!(harness.shows("legal.test.jsonl"));
    assert!(!harness.shows("No data is open"));
}

#[test]
fn screen_whose_demo_files_are_unknown_says_why_and_tries_again() {
    let mut window = Window::ready();
    window.command(UiCommand::ShowData);
    let (job, _) = window.take_job(|spec| *spec == JobSpec::ListDemoData);
    window.fail(job, UserError::new("The store can't be read", "Check its folder"));
    let mut harness = screen(window);
    assert!(harness.shows("The store can't be read"));
    harness.press("Try again");
    engine_works(&mut harness);
    assert!(harness.shows("medical.test"));
}

#[test]
fn overview_tells_what_the_file_holds() {
    let harness = opened(DataTab::Overview);
    for text in
        ["JSONL, levels", "expert, generic, avoidance", "persona_hub", "119", "median", "122.7"]
    {
        assert!(harness.shows(text), "{text}");
    }
    assert!(harness.mentions("Two records ask the same: lines 3 and 17."));
    assert!(harness.shows("No record has the same response at two levels."));
    assert!(harness.mentions("reviewed by no professional"), "the demo's data say what they are");
    assert!(harness.mentions("no proof that it is correct"));
}

#[test]
fn only_the_demos_data_are_called_synthetic() {
    let mut window = Window::ready();
    window.update(Action::Data(DataAction::Open("/d/mine.jsonl".into())));
    window.answer_all();
    let harness = screen(window);
    assert!(harness.shows("Fingerprint"));
    assert!(!harness.mentions("synthetic"));
}

#[test]
fn problems_are_listed_and_can_be_copied() {
    let mut harness = opened(DataTab::Overview);
    assert!(harness.shows("2 records can't be used; the others can."));
    assert!(harness.shows("medical-0007: the response at “generic” is empty"));
    assert!(harness.shows("line is not UTF-8"));
    harness.press("Copy the list");
    let copied = harness.state().effects.iter().find_map(|effect| match effect {
        Effect::Copy(text) => Some(text.clone()),
        _ => None,
    });
    assert!(copied.is_some_and(|text| text.contains("19\t\tline is not UTF-8")));
}

#[test]
fn long_list_of_problems_says_how_many_there_are() {
    let mut window = Window::ready();
    window.update(Action::Data(DataAction::Open(FILE.into())));
    let (job, _) = window.take_job(|spec| matches!(spec, JobSpec::InspectData { .. }));
    let mut report = data_report(FILE.as_ref(), 10);
    report.problems = (1..=500).map(|line| problem(line, None, "no query")).collect();
    report.n_problems = 12_345;
    window.fact(job, Fact::Data(Box::new(report)));
    window.finish(job, Outcome::Done);
    let harness = screen(window);
    assert!(harness.shows("12345 records can't be used; the others can."));
    assert!(harness.shows("The first 500 are listed."));
    let n_laid_out = harness.query_all_by_label("no query").count();
    assert!((5..50).contains(&n_laid_out), "{n_laid_out}");
}

#[test]
fn sound_file_has_no_problems_and_repeats_nothing() {
    let mut window = Window::ready();
    window.update(Action::Data(DataAction::Open(FILE.into())));
    let (job, _) = window.take_job(|spec| matches!(spec, JobSpec::InspectData { .. }));
    let mut report = data_report(FILE.as_ref(), 10);
    (report.problems, report.n_problems) = (Vec::new(), 0);
    report.duplicate_queries = Vec::new();
    report.identical_responses = vec![4, 5];
    window.fact(job, Fact::Data(Box::new(report)));
    window.finish(job, Outcome::Done);
    let harness = screen(window);
    assert!(harness.shows("Every record can be used."));
    assert!(harness.shows("No two records ask the same."));
    assert!(harness.mentions("2 records have the same response at two levels: lines 4, 5."));
}

#[test]
fn failed_reading_is_told_where_it_was_asked_for() {
    let mut window = Window::ready();
    window.update(Action::Data(DataAction::Open("/d/gone.jsonl".into())));
    for (job, _) in window.take_jobs() {
        window.fail(job, UserError::new("There is no such file", "Check the path"));
    }
    let mut harness = screen(window);
    assert!(harness.shows("There is no such file"));
    harness.press("Try again");
    engine_works(&mut harness);
    assert!(!harness.shows("There is no such file"));
    assert!(harness.shows("Fingerprint"));
}

#[test]
fn stopped_reading_can_be_begun_again() {
    let mut window = Window::ready();
    window.update(Action::Data(DataAction::Open(FILE.into())));
    for (job, _) in window.take_jobs() {
        window.update(Action::CancelJob(job));
        window.finish(job, Outcome::Cancelled);
    }
    let mut harness = screen(window);
    harness.press("Read it");
    engine_works(&mut harness);
    assert!(harness.shows("Fingerprint"));
}

#[test]
fn comparison_without_anything_shared_says_so() {
    for (report, words) in [
        (
            LeakageReport { records: 24, personas: Vec::new(), queries: Vec::new() },
            "None of the 24 records shares a persona or a query with it.",
        ),
        (
            LeakageReport { records: 24, personas: vec![(1, 9)], queries: vec![(2, 3), (4, 5)] },
            "Same query: 2",
        ),
    ] {
        let mut harness = opened(DataTab::Records);
        harness.press("Compare with training file…");
        assert!(harness.shows("/home/me/demo/medical.train.jsonl"), "the demo's own is offered");
        harness.press("Compare");
        let (job, _) =
            harness.state_mut().take_job(|spec| matches!(spec, JobSpec::FindLeakage { .. }));
        harness.state_mut().fact(job, Fact::Leakage(report));
        harness.state_mut().finish(job, Outcome::Done);
        harness.run();
        assert!(harness.shows(words), "{words}");
        harness.press("Close the report");
        assert!(!harness.shows(words));
    }
}

#[test]
fn split_says_what_it_writes_and_opens_a_part() {
    let mut harness = opened(DataTab::Overview);
    harness.press("Split data…");
    assert!(harness.mentions("medical.test.train.jsonl: 77 %, about 92 of 120 records"));
    assert!(harness.mentions("medical.test.validation.jsonl: 3 %"));
    assert_eq!(harness.focused().as_deref(), Some("Folder"));
    harness.press("Split");
    engine_works(&mut harness);
    harness.press("Open medical.validation.jsonl");
    engine_works(&mut harness);
    assert!(harness.shows("medical.validation.jsonl"));
}

#[test]
fn record_stands_with_its_levels_side_by_side() {
    let harness = opened(DataTab::Records);
    assert!(harness.mentions("Question 0: my knee hurts"));
    assert!(harness.mentions("Asked by: A night-shift nurse"));
    assert!(harness.shows("Response: generic"), "for those who can't see it");
    let left = |level: &str| harness.get_by_label(level).rect();
    let (expert, generic) = (left("expert"), left("generic"));
    assert!(expert.right() <= generic.left(), "{expert:?} {generic:?}");
    assert_eq!(expert.top(), generic.top());
}

#[test]
fn responses_wrap_where_there_is_no_room_beside() {
    let mut window = Window::ready();
    window.update(Action::Data(DataAction::Open(FILE.into())));
    window.update(Action::Data(DataAction::Show(DataTab::Records)));
    window.answer_all();
    let mut harness = harness_of([600.0, 1400.0], window);
    harness.run();
    let rect = |level: &str| harness.get_by_label(level).rect();
    let (expert, avoidance) = (rect("expert"), rect("avoidance"));
    assert!(expert.bottom() <= avoidance.top(), "{expert:?} {avoidance:?}");
}

#[test]
fn arrow_keys_go_through_the_records_and_over_the_end_of_a_page() {
    let mut harness = opened(DataTab::Records);
    let row = harness.get_by_role_and_label(Role::Button, "Record medical-0001");
    row.focus();
    harness.run();
    harness.key(Key::ArrowDown);
    harness.run();
    assert_eq!(harness.focused().as_deref(), Some("Record medical-0002"));
    assert!(harness.shows("2 of 120 · line 2"));
    harness.state_mut().update(Action::Data(DataAction::Select(49)));
    harness.run();
    harness.run();
    assert_eq!(harness.focused().as_deref(), Some("Record medical-0050"), "the list scrolls");
    harness.key(Key::ArrowDown);
    engine_works(&mut harness);
    harness.run();
    assert_eq!(harness.focused().as_deref(), Some("Record medical-0051"));
    assert!(harness.shows("51–100 of 120"));
    harness.key(Key::ArrowUp);
    engine_works(&mut harness);
    harness.run();
    assert_eq!(harness.focused().as_deref(), Some("Record medical-0050"));
}

#[test]
fn buttons_turn_pages_and_records() {
    let mut harness = opened(DataTab::Records);
    let is_off = |harness: &Harness<'_, Window>, name: &str| {
        harness.get_by_role_and_label(Role::Button, name).accesskit_node().is_disabled()
    };
    assert!(is_off(&harness, "Previous record") && is_off(&harness, "Earlier records"));
    harness.press("Next record");
    assert!(harness.shows("2 of 120 · line 2"));
    harness.press("Later records");
    engine_works(&mut harness);
    assert!(harness.shows("51 of 120 · line 51"));
    harness.press("Later records");
    engine_works(&mut harness);
    assert!(is_off(&harness, "Later records"));
    harness.press("Previous record");
    engine_works(&mut harness);
    assert!(harness.shows("100 of 120 · line 100"));
}

#[test]
fn search_that_finds_nothing_says_so_and_escape_ends_it() {
    let mut harness = opened(DataTab::Records);
    let field = harness.get_by(|node| node.data().placeholder() == Some("Search records"));
    field.focus();
    harness.run();
    harness.types("zebra");
    let (job, _) = harness.state_mut().take_job(|spec| matches!(spec, JobSpec::ReadRecords { .. }));
    let none = page(FILE.as_ref(), "zebra", (0, 50), 0);
    harness.state_mut().fact(job, Fact::Records(none));
    harness.state_mut().finish(job, Outcome::Done);
    harness.run();
    assert!(harness.shows("No record has “zebra”"));
    harness.key(Key::Escape);
    engine_works(&mut harness);
    assert!(harness.shows("1 of 120 · line 1"));
}

#[test]
fn very_long_text_is_shown_in_parts() {
    let mut window = Window::ready();
    window.update(Action::Data(DataAction::Open(FILE.into())));
    window.update(Action::Data(DataAction::Show(DataTab::Records)));
    let (job, _) = window.take_job(|spec| matches!(spec, JobSpec::ReadRecords { .. }));
    let mut records = page(FILE.as_ref(), "", (0, 50), 1);
    records.records[0].query = "ä word ".repeat(1_500_000);
    window.fact(job, Fact::Records(records));
    window.finish(job, Outcome::Done);
    window.answer_all();
    let mut harness = screen(window);
    assert!(harness.shows("The first 20000 characters of 12.0 MB."));
    harness.get_by_role_and_label(Role::Button, "Show more").click_accesskit();
    harness.run();
    assert!(harness.shows("The first 40000 characters of 12.0 MB."));
}
