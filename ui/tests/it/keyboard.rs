use egui::{Key, Modifiers};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable as _;
use meav_protocol::JobSpec;
use meav_ui::{Theme, UiCommand};

use crate::hands::{Hands as _, harness};
use crate::support::Window;
use crate::values::hello;

const CTRL: Modifiers = Modifiers::COMMAND;

/// Goes on with Tab until this has the keyboard.
#[track_caller]
fn tab_to(harness: &mut Harness<'_, Window>, name: &str) {
    let mut passed = Vec::new();
    for _ in 0..80 {
        if harness.focused().as_deref() == Some(name) {
            return;
        }
        harness.key(Key::Tab);
        passed.extend(harness.focused());
    }
    panic!("Tab does not lead to {name:?}, only to {passed:?}");
}

fn engine_works(harness: &mut Harness<'_, Window>) {
    harness.state_mut().answer_all();
    harness.run();
}

/// Chooses a command in the palette.
fn command(harness: &mut Harness<'_, Window>, letters: &str) {
    harness.keys(CTRL, Key::K);
    assert_eq!(harness.focused().as_deref(), Some("Type a command"));
    harness.types(letters);
    harness.key(Key::Enter);
}

#[test]
fn whole_session_needs_no_pointer() {
    let mut window = Window::new();
    window.apply(hello());
    let mut harness = harness(window);
    engine_works(&mut harness);
    turn_knobs(&mut harness);
    talk(&mut harness);
    keep_chats(&mut harness);
    set_things(&mut harness);
    save_things(&mut harness);
    look_at_data(&mut harness);
    have_answers_judged(&mut harness);
}

fn look_at_data(harness: &mut Harness<'_, Window>) {
    harness.keys(CTRL, Key::Num8);
    engine_works(harness);
    assert_eq!(harness.focused().as_deref(), Some("Open data…"));
    tab_to(harness, "medical.test");
    harness.key(Key::Space);
    engine_works(harness);
    assert!(harness.shows("Fingerprint"));
    tab_to(harness, "Records");
    harness.key(Key::Space);
    tab_to(harness, "Search records");
    harness.types("knee");
    engine_works(harness);
    tab_to(harness, "Record medical-0001");
    harness.key(Key::ArrowDown);
    harness.run();
    assert!(harness.shows("2 of 120 · line 2"));
    command(harness, "split data");
    assert_eq!(harness.focused().as_deref(), Some("Folder"));
    harness.key(Key::Enter);
    engine_works(harness);
    assert!(harness.shows("Open medical.train.jsonl"));
    command(harness, "compare with training");
    harness.key(Key::Enter);
    engine_works(harness);
    assert!(harness.shows("Same persona: 2"));
}

fn have_answers_judged(harness: &mut Harness<'_, Window>) {
    harness.keys(CTRL, Key::Num9);
    engine_works(harness);
    assert_eq!(harness.focused().as_deref(), Some("Set-up"));
    tab_to(harness, "medical.test");
    harness.key(Key::Space);
    tab_to(harness, "Instructions");
    harness.types("Be strict. ");
    tab_to(harness, "Remove level 3");
    harness.key(Key::Space);
    command(harness, "judge answers");
    let (job, spec) = harness.state_mut().take_job(|spec| matches!(spec, JobSpec::Judge(_)));
    let JobSpec::Judge(judged) = &spec else { panic!("{spec:?}") };
    assert!(judged.rubric.instructions.contains("Be strict."));
    assert_eq!(judged.rubric.levels.len(), 2);
    harness.state_mut().answer(job, &spec);
    harness.run();
    tab_to(harness, "generic");
    harness.key(Key::Space);
    tab_to(harness, "Export Markdown…");
    harness.key(Key::Enter);
    harness.key(Key::Enter);
    harness.state_mut().take_job(|spec| matches!(spec, JobSpec::ExportJudgement { .. }));
}

fn turn_knobs(harness: &mut Harness<'_, Window>) {
    command(harness, "go to the knobs");
    assert_eq!(harness.focused().as_deref(), Some("λ of medical"));
    for _ in 0..7 {
        harness.key(Key::ArrowRight);
    }
    tab_to(harness, "λ of financial");
    harness.keys(Modifiers::SHIFT, Key::ArrowLeft);
    engine_works(harness);
    assert_eq!(harness.knob("medical"), 0.7);
    assert_eq!(harness.knob("financial"), -0.01);
    tab_to(harness, "λ of medical as a number");
    harness.types("0,5");
    harness.key(Key::Enter);
    assert_eq!(harness.knob("medical"), 0.5);
    tab_to(harness, "Leave financial out for now");
    harness.key(Key::Space);
    assert!(harness.shows("Take financial in again"));
    engine_works(harness);
    assert!(harness.shows("as set"));
}

fn talk(harness: &mut Harness<'_, Window>) {
    harness.keys(CTRL, Key::L);
    assert_eq!(harness.focused().as_deref(), Some("Message"));
    harness.types("What hurts?");
    harness.key(Key::Enter);
    assert_eq!(harness.focused().as_deref(), Some("Message"), "for the next one");
    engine_works(harness);
    assert!(harness.shows("Answer to What hurts?"));
    harness.keys(CTRL, Key::R);
    engine_works(harness);
    assert!(harness.shows("2/2"));
    harness.keys(CTRL, Key::E);
    assert_eq!(harness.focused().as_deref(), Some("The question"));
    harness.keys(CTRL, Key::A);
    harness.types("Where does it hurt?");
    tab_to(harness, "Ask this instead");
    harness.key(Key::Enter);
    engine_works(harness);
    assert!(harness.shows("Answer to Where does it hurt?"));
    tab_to(harness, "The version before");
    harness.key(Key::Enter);
    engine_works(harness);
    assert!(harness.shows("Answer to What hurts?"));
}

fn keep_chats(harness: &mut Harness<'_, Window>) {
    harness.keys(CTRL, Key::N);
    assert_eq!(harness.focused().as_deref(), Some("Message"));
    harness.types("How to save?");
    harness.key(Key::Enter);
    engine_works(harness);
    tab_to(harness, "What hurts?");
    harness.key(Key::F2);
    assert_eq!(harness.focused().as_deref(), Some("Title"));
    harness.keys(CTRL, Key::A);
    harness.types("Pain");
    harness.key(Key::Enter);
    engine_works(harness);
    tab_to(harness, "Pain");
    harness.key(Key::Enter);
    engine_works(harness);
    assert!(!harness.shows("Answer to How to save?"), "the other chat is shown");
    harness.keys(CTRL, Key::F);
    assert_eq!(harness.focused().as_deref(), Some("Search chats"));
    harness.types("to How to save");
    engine_works(harness);
    let hit = harness.get_by_label_contains("How to save?: Answer to How to save?");
    assert!(!hit.is_focused());
    harness.key(Key::Tab);
    harness.key(Key::Enter);
    engine_works(harness);
    assert!(harness.shows("Answer to How to save?"));
    harness.keys(CTRL, Key::F);
    harness.key(Key::Escape);
    assert!(harness.shows("Pain"), "the list is back");
}

fn set_things(harness: &mut Harness<'_, Window>) {
    harness.keys(CTRL, Key::Comma);
    tab_to(harness, "Dark");
    harness.key(Key::Space);
    harness.key(Key::Escape);
    assert!(!harness.shows("Dark"), "the dialog has closed");
    assert_eq!(harness.state_mut().settings().theme, Theme::Dark);
    command(harness, "light theme");
    assert_eq!(harness.state_mut().settings().theme, Theme::Light);
    harness.keys(CTRL, Key::Plus);
    harness.keys(CTRL, Key::Num0);
    assert!((harness.state_mut().settings().text_scale - 1.0).abs() < 1e-6);
}

fn save_things(harness: &mut Harness<'_, Window>) {
    harness.keys(CTRL, Key::S);
    assert_eq!(harness.focused().as_deref(), Some("Path"));
    harness.keys(CTRL, Key::A);
    harness.types("/out/talk.json");
    harness.key(Key::Enter);
    let is_export = |spec: &JobSpec| matches!(spec, JobSpec::ExportChat { .. });
    let (job, spec) = harness.state_mut().take_job(is_export);
    harness.state_mut().answer(job, &spec);
    engine_works(harness);
    assert!(harness.shows("Saved Written as /out/talk.json"));
    harness.keys(CTRL.plus(Modifiers::SHIFT), Key::S);
    assert_eq!(harness.focused().as_deref(), Some("Name"));
    harness.types("Half a doctor");
    harness.key(Key::Enter);
    harness.keys(CTRL, Key::B);
    assert_eq!(harness.knob("medical"), 0.0);
    tab_to(harness, "Presets");
    harness.key(Key::Enter);
    tab_to(harness, "Half a doctor");
    harness.key(Key::Enter);
    assert_eq!(harness.knob("medical"), 0.5);
    harness.keys(CTRL, Key::T);
    assert_eq!(harness.knob("medical"), 0.0, "the other side");
    harness.keys(CTRL, Key::T);
    assert_eq!(harness.knob("medical"), 0.5);
}

#[test]
fn every_command_with_keys_is_reached_by_them() {
    for command in UiCommand::ALL {
        let Some(shortcut) = command.shortcut() else { continue };
        let mut by_keys = harness(Window::ready());
        by_keys.keys(shortcut.modifiers, shortcut.logical_key);
        let mut by_name = Window::ready();
        by_name.command(command);
        let effects = by_keys.state().effects.len();
        assert_eq!(effects, by_name.effects.len(), "{command:?}");
        let settings = by_keys.state_mut().settings();
        assert_eq!(settings, by_name.settings(), "{command:?}");
    }
}

#[test]
fn letters_that_are_typed_are_no_commands() {
    let mut harness = harness(Window::ready());
    harness.types("nosbtrelgfk,1230?");
    for key in [Key::N, Key::B, Key::T, Key::Num1] {
        harness.key(key);
    }
    assert!(harness.shows("λ of medical"));
    assert_eq!(harness.focused().as_deref(), Some("Message"));
    assert_eq!(harness.state_mut().settings().slot, meav_ui::Slot::A);
}

#[test]
fn everything_in_the_window_can_be_reached_with_tab() {
    let mut window = Window::ready();
    window.ask_and_answer("One?");
    let mut harness = harness(window);
    harness.run();
    for name in [
        "File",
        "Model SmolLM2-135M-Instruct",
        "Weights in bf16",
        "Command palette…",
        "Add vector…",
        "Base",
        "Side B",
        "Presets",
        "Combine vectors by Task arithmetic",
        "More for medical",
        "financial",
        "Search chats",
        "More for One?",
        "Copy fingerprint",
        "System prompt and sampling",
        "Edit the question",
        "Regenerate the answer",
        "Message",
    ] {
        tab_to(&mut harness, name);
    }
}

#[test]
fn sweep_needs_no_pointer() {
    let mut harness = harness(Window::ready());
    harness.keys(CTRL, Key::Num6);
    engine_works(&mut harness);
    assert_eq!(harness.focused().as_deref(), Some("Vector to sweep"));
    tab_to(&mut harness, "Add demo data");
    harness.key(Key::Enter);
    tab_to(&mut harness, "financial.test.jsonl");
    harness.key(Key::Enter);
    engine_works(&mut harness);
    tab_to(&mut harness, "Step of λ");
    harness.keys(CTRL, Key::A);
    harness.types("0.5");
    tab_to(&mut harness, "Start");
    harness.key(Key::Enter);
    engine_works(&mut harness);
    tab_to(&mut harness, "Curves of financial.test.jsonl, levels");
    harness.key(Key::ArrowRight);
    harness.key(Key::ArrowRight);
    assert_eq!(harness.state_mut().coefficients(), [1.0, 0.0]);
    tab_to(&mut harness, "Chat here");
    harness.key(Key::Enter);
    assert_eq!(harness.focused().as_deref(), Some("Message"));
}

#[test]
fn training_needs_no_pointer() {
    let mut harness = harness(Window::ready());
    harness.keys(CTRL, Key::Num7);
    engine_works(&mut harness);
    assert_eq!(harness.focused().as_deref(), Some("Path of data"));
    tab_to(&mut harness, "Add demo data");
    harness.key(Key::Enter);
    tab_to(&mut harness, "medical.train.jsonl");
    harness.key(Key::Enter);
    engine_works(&mut harness);
    tab_to(&mut harness, "Epochs");
    harness.keys(CTRL, Key::A);
    harness.types("2");
    tab_to(&mut harness, "Estimate");
    harness.key(Key::Enter);
    engine_works(&mut harness);
    assert!(harness.mentions("about 12:34"));
    tab_to(&mut harness, "Start");
    harness.key(Key::Enter);
    let (job, spec) = harness.state_mut().take_job(|spec| matches!(spec, JobSpec::Train(_)));
    let JobSpec::Train(train) = &spec else { panic!("{spec:?}") };
    assert_eq!(train.settings.epochs, 2);
    let run = crate::trainings::so_far(train, 30);
    let (stage, done, total) = (meav_protocol::Stage::Training, 30, 60);
    let window = harness.state_mut();
    window.apply(meav_protocol::Event::Progress { job_id: job, stage, done, total });
    window.fact(job, meav_protocol::Fact::Train(Box::new(run)));
    harness.run();
    command(&mut harness, "pause training");
    command(&mut harness, "go on with training");
    tab_to(&mut harness, "Stop and keep");
    harness.key(Key::Enter);
    harness.state_mut().answer(job, &spec);
    engine_works(&mut harness);
    tab_to(&mut harness, "Sweep it");
    harness.key(Key::Enter);
    engine_works(&mut harness);
    assert_eq!(harness.focused().as_deref(), Some("Vector to sweep"));
}
