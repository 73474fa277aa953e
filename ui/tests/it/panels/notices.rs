use meav_protocol::UserError;
use meav_ui::{Action, DialogAction, Effect, HostInfo, UiCommand};

use crate::hands::{Hands as _, harness};
use crate::support::{Window, settings};
use crate::values::host;

#[test]
fn good_news_goes_by_itself() {
    let mut window = Window::ready();
    window.command(UiCommand::CopySlot);
    let mut harness = harness(window);
    harness.run();
    assert!(harness.shows("B is now the same as A"));
    harness.run_steps(140);
    assert!(!harness.shows("B is now the same as A"));
}

#[test]
fn bad_news_stays_until_it_is_dismissed() {
    let problem = UserError {
        detail: "settings.json: expected a brace".to_owned(),
        ..UserError::new("The settings could not be read", "They begin anew")
    };
    let host = HostInfo { problem: Some(problem), ..host() };
    let mut harness = harness(Window::on(host, settings()));
    harness.run_steps(300);
    assert!(harness.shows("The settings could not be read"));
    assert!(harness.shows("They begin anew"));
    harness.press("Dismiss");
    assert!(!harness.shows("The settings could not be read"));
}

#[test]
fn details_of_an_error_are_folded_and_can_be_copied() {
    let mut window = Window::ready();
    let err = UserError {
        detail: "a: b: c".to_owned(),
        ..UserError::new("It did not work", "Try another time")
    };
    window.update(Action::HostFailed(err));
    let mut harness = harness(window);
    harness.run();
    assert!(!harness.shows("a: b: c"));
    let details = egui::accesskit::Role::DisclosureTriangle;
    {
        use egui_kittest::kittest::Queryable as _;
        harness.get_by_role_and_label(details, "Details").click();
    }
    harness.run();
    assert!(harness.shows("a: b: c"));
    harness.press("Copy details");
    let text = "It did not work\nhint: Try another time\ndetails: a: b: c";
    assert_eq!(harness.state().effects.last(), Some(&Effect::Copy(text.to_owned())));
}

#[test]
fn export_tells_where_it_went() {
    let mut window = Window::ready();
    window.command(UiCommand::ExportAudit);
    window.update(Action::Dialog(DialogAction::SetText("/out/audit.csv".to_owned())));
    window.update(Action::Dialog(DialogAction::Accept));
    window.answer_all();
    let mut harness = harness(window);
    harness.run();
    assert!(harness.shows("Saved Written as /out/audit.csv"));
    assert!(!harness.shows("Export audit log"), "the dialog has closed");
}

#[test]
fn many_messages_leave_the_newest() {
    let mut window = Window::ready();
    for index in 0..9 {
        window.update(Action::HostFailed(UserError::new(format!("Failure {index}"), "")));
    }
    let mut harness = harness(window);
    harness.run();
    let shown: Vec<_> = (0..9).filter(|it| harness.shows(&format!("Failure {it}"))).collect();
    assert_eq!(shown, [5, 6, 7, 8]);
}
