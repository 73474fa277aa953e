use egui::accesskit::Role;
use egui::{Key, Modifiers};
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT as _, Queryable as _};
use meav_protocol::{JobSpec, UserError};
use meav_ui::{Action, Effect, HostInfo, SendKey, Theme, UiCommand};

use crate::hands::{Hands as _, harness};
use crate::support::{MEDICAL, Window, settings};
use crate::values::host;

fn opened(command: UiCommand) -> Harness<'static, Window> {
    let mut window = Window::ready();
    window.command(command);
    let mut harness = harness(window);
    harness.run();
    harness
}

#[test]
fn path_is_typed_and_accepted_with_enter() {
    let mut harness = opened(UiCommand::AddVector);
    assert_eq!(harness.focused().as_deref(), Some("Path"));
    harness.types("/vectors/legal.safetensors");
    harness.key(Key::Enter);
    let (job, spec) = harness.state_mut().take_job(|it| matches!(it, JobSpec::Describe { .. }));
    assert!(harness.shows("Add vector"), "it stays until the file is known");
    harness.state_mut().answer(job, &spec);
    harness.state_mut().answer_all();
    harness.run();
    assert!(!harness.shows("Add vector"));
    assert!(harness.shows("λ of legal"));
}

#[test]
fn error_stays_in_the_dialog_until_the_path_is_changed() {
    let mut harness = opened(UiCommand::OpenModel);
    harness.types("/no/such");
    harness.press("Open");
    let (job, _) = harness.state_mut().take_job(|it| matches!(it, JobSpec::Describe { .. }));
    let accept = harness.get_by_role_and_label(Role::Button, "Open");
    assert!(accept.accesskit_node().is_disabled(), "the engine looks at it");
    harness.state_mut().fail(job, UserError::new("There is no such file", "Look at the path"));
    harness.run();
    assert!(harness.shows("There is no such file"));
    assert!(harness.shows("Look at the path"));
    assert!(!harness.shows("Dismiss"), "it is said once");
    harness.get_by(|node| node.data().placeholder() == Some("Path")).click();
    harness.run();
    harness.types("/elsewhere");
    assert!(!harness.shows("There is no such file"));
}

#[test]
fn dialogs_close_with_escape_and_their_buttons() {
    for (command, title) in [
        (UiCommand::OpenModel, "Open model"),
        (UiCommand::AddVector, "Add vector"),
        (UiCommand::ExportAudit, "Export audit log"),
        (UiCommand::ExportMerged, "Export merged model"),
        (UiCommand::SavePreset, "Save preset"),
        (UiCommand::Settings, "Settings"),
        (UiCommand::About, "MEAV Studio 0.1.0"),
    ] {
        let mut harness = opened(command);
        assert!(harness.shows(title), "{title}");
        harness.key(Key::Escape);
        assert!(!harness.shows(title), "{title} closes with Escape");
        harness.state_mut().command(command);
        harness.run();
        let button = if matches!(command, UiCommand::Settings | UiCommand::About) {
            "Done"
        } else {
            "Cancel"
        };
        harness.press(button);
        assert!(!harness.shows(title), "{title} closes with {button}");
    }
}

#[test]
fn keyboard_stays_in_the_dialog() {
    let mut harness = opened(UiCommand::OpenModel);
    let fields = ["Path", "Browse files…", "Browse folders…", "demo", "Open", "Cancel"];
    for _ in 0..20 {
        harness.key(Key::Tab);
        let focused = harness.focused();
        let is_inside = focused.as_deref().is_none_or(|name| fields.contains(&name));
        assert!(is_inside, "{focused:?} is behind the dialog");
    }
    harness.keys(Modifiers::COMMAND, Key::N);
    assert!(harness.shows("Open model"), "commands wait");
}

#[test]
fn system_dialogs_are_asked_for_or_said_to_be_missing() {
    let mut ready = opened(UiCommand::OpenModel);
    ready.press("Browse folders…");
    assert!(matches!(ready.state().effects.last(), Some(Effect::Pick(_))));
    let info = HostInfo { dialogs: Err("This system has no file dialogs".to_owned()), ..host() };
    let mut window = Window::on(info, settings());
    window.command(UiCommand::OpenModel);
    let mut harness = harness(window);
    harness.run();
    assert!(harness.mentions("This system has no file dialogs: type the path"));
    assert!(harness.get_by_label("Browse files…").accesskit_node().is_disabled());
}

#[test]
fn known_path_is_chosen_from_the_list() {
    let mut harness = opened(UiCommand::OpenModel);
    harness.press("demo");
    harness.press("Open");
    let (_, spec) = harness.state_mut().take_job(|it| matches!(it, JobSpec::Describe { .. }));
    assert_eq!(spec, JobSpec::Describe { path: "demo".into() });
}

#[test]
fn preset_gets_its_name_and_none_is_kept_without_one() {
    let mut window = Window::ready();
    window.set_knob(MEDICAL, 0.7);
    window.command(UiCommand::SavePreset);
    let mut harness = harness(window);
    harness.run();
    harness.key(Key::Enter);
    assert!(harness.shows("Save preset"), "a name is still wanted");
    harness.types("Careful");
    harness.key(Key::Enter);
    assert!(!harness.shows("Save preset"));
    assert_eq!(harness.state_mut().settings().presets[0].name, "Careful");
}

#[test]
fn settings_are_set() {
    let mut harness = opened(UiCommand::Settings);
    for name in ["Dark", "Ctrl+Enter", "when a long job ends behind my back"] {
        harness.get_by_label(name).click();
        harness.run();
    }
    let kept = harness.state_mut().settings();
    assert_eq!(kept.theme, Theme::Dark);
    assert_eq!(kept.send_key, SendKey::CtrlEnter);
    assert!(!kept.notifications);
}

#[test]
fn size_of_everything_goes_up_and_down_within_its_limits() {
    let mut harness = opened(UiCommand::Settings);
    let size = |harness: &mut Harness<'_, Window>| harness.state_mut().settings().text_scale;
    harness.press("Larger");
    assert!((size(&mut harness) - 1.1).abs() < 1e-6);
    for _ in 0..8 {
        harness.press("Smaller");
    }
    assert!((size(&mut harness) - 0.6).abs() < 1e-6);
}

#[test]
fn about_names_the_engine_and_its_log() {
    let harness = opened(UiCommand::About);
    assert!(harness.shows("Engine 0.1.0 on CPU, 2 threads"));
    assert!(harness.mentions("/home/me/logs/engine.log"));
}

#[test]
fn closing_asks_what_is_to_become_of_the_running_job() {
    let mut window = Window::ready();
    let (job, _) = window.ask("One?");
    window.update(Action::CloseRequested);
    let mut harness = harness(window);
    harness.run();
    assert!(harness.shows("• Answering"));
    assert_eq!(harness.focused().as_deref(), Some("Keep running in the tray"));
    harness.press("Back");
    assert!(!harness.shows("• Answering"));
    harness.state_mut().update(Action::CloseRequested);
    harness.run();
    harness.press("Keep running in the tray");
    assert_eq!(harness.state().effects.last(), Some(&Effect::HideWindow));
    harness.state_mut().update(Action::CloseRequested);
    harness.run();
    harness.press("Stop it and quit");
    assert_eq!(harness.state().cancelled(), [job]);
    assert_eq!(harness.state().effects.last(), Some(&Effect::Quit));
}

#[test]
fn closing_without_a_tray_offers_to_minimise() {
    let mut window = Window::on(HostInfo { has_tray: false, ..host() }, settings());
    window.ask("One?");
    window.update(Action::CloseRequested);
    let mut harness = harness(window);
    harness.run();
    assert!(harness.shows("Keep running, minimised"));
}

#[test]
fn question_about_jobs_goes_when_they_have_ended() {
    let mut window = Window::ready();
    let (job, turn) = window.ask("One?");
    window.update(Action::CloseRequested);
    window.answer(job, &JobSpec::Chat(turn));
    let mut harness = harness(window);
    harness.run();
    assert!(!harness.shows("A job is still running"));
}

#[test]
fn palette_finds_a_command_by_a_few_letters() {
    let mut harness = harness(Window::ready());
    harness.keys(Modifiers::COMMAND, Key::K);
    assert_eq!(harness.focused().as_deref(), Some("Type a command"));
    harness.types("dark");
    harness.key(Key::Enter);
    assert_eq!(harness.state_mut().settings().theme, Theme::Dark);
    assert_eq!(harness.focused().as_deref(), Some("Message"), "the keyboard is back");
}

#[test]
fn palette_is_walked_with_the_arrow_keys() {
    let mut harness = harness(Window::ready());
    harness.keys(Modifiers::COMMAND, Key::K);
    harness.types("theme");
    let names = |harness: &Harness<'_, Window>| {
        let names = ["Theme of the desktop", "Light theme", "Dark theme"];
        let mut shown: Vec<_> = names
            .iter()
            .map(|name| {
                let node = harness.get_by_role_and_label(Role::Button, name);
                (node.rect().top(), *name)
            })
            .collect();
        shown.sort_by(|one, other| one.0.total_cmp(&other.0));
        shown.into_iter().map(|(_, name)| name).collect::<Vec<_>>()
    };
    let order = names(&harness);
    harness.key(Key::ArrowDown);
    harness.key(Key::ArrowDown);
    harness.key(Key::ArrowUp);
    harness.key(Key::Enter);
    let theme = match order[1] {
        "Light theme" => Theme::Light,
        "Dark theme" => Theme::Dark,
        _ => Theme::System,
    };
    assert_eq!(harness.state_mut().settings().theme, theme);
    harness.keys(Modifiers::COMMAND, Key::K);
    harness.types("zzzz");
    assert!(harness.shows("No command is called that"));
    harness.key(Key::Enter);
    harness.key(Key::Escape);
    assert!(!harness.shows("No command is called that"));
}

#[test]
fn palette_has_every_command_with_its_keys() {
    let harness = {
        let mut harness = harness(Window::ready());
        harness.keys(Modifiers::COMMAND, Key::K);
        harness
    };
    for command in UiCommand::ALL.into_iter().filter(|it| *it != UiCommand::Palette) {
        assert!(harness.shows(command.text()), "{}", command.text());
    }
}
