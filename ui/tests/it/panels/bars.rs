use egui::accesskit::Role;
use egui_kittest::kittest::Queryable as _;
use meav_protocol::{DeviceChoice, Dtype, Event, FileKind, JobSpec, Outcome, Stage};
use meav_ui::{Action, Effect, Menu, Settings, UiCommand};

use crate::hands::{Hands as _, harness, harness_of};
use crate::support::{Window, settings};
use crate::values::{hello, lost, on_cpu, on_gpu};

#[test]
fn menus_have_every_command() {
    let mut harness = harness(Window::ready());
    for menu in Menu::ALL {
        harness.press(menu.title());
        for command in UiCommand::ALL.into_iter().filter(|it| it.menu() == menu) {
            assert!(harness.shows(command.text()), "{}", command.text());
        }
        harness.key(egui::Key::Escape);
    }
}

#[test]
fn entry_of_a_menu_does_what_it_says() {
    let mut harness = harness(Window::ready());
    harness.press("Help");
    harness.press("User guide");
    assert_eq!(harness.state().effects.last(), Some(&Effect::OpenGuide));
    assert!(!harness.shows("User guide"), "the menu has closed");
}

#[test]
fn recent_files_are_opened_again_from_the_menu() {
    let mut window = Window::ready();
    window.update(Action::Open("/vectors/legal.safetensors".into(), FileKind::Vector));
    window.answer_all();
    let mut harness = harness(window);
    harness.press("File");
    harness.get_by_label_contains("Open recent").click();
    harness.run();
    harness.press("legal (vector)");
    harness.state_mut().take_job(|spec| matches!(spec, JobSpec::Describe { .. }));
}

#[test]
fn model_is_changed_in_its_menu() {
    let mut window = Window::ready();
    window.update(Action::Open("/models/big.gguf".into(), FileKind::Model));
    window.answer_all();
    let mut harness = harness(window);
    harness.get_by_label_contains("Model SmolLM2").click();
    harness.run();
    harness.press("Demo model");
    harness.state_mut().answer_all();
    harness.run();
    assert_eq!(harness.state_mut().settings().model, std::path::Path::new("demo"));
    harness.get_by_label_contains("Model SmolLM2").click();
    harness.run();
    assert!(harness.shows("big"));
}

#[test]
fn dtype_is_changed_in_its_menu() {
    let mut harness = harness(Window::ready());
    harness.press("Weights in bf16");
    harness.get_by_label_contains("f32: ").click();
    harness.run();
    assert_eq!(harness.state_mut().settings().dtype, Dtype::F32);
    assert!(harness.shows("Weights in f32"));
}

#[test]
fn status_shows_progress_time_left_and_a_way_to_end_it() {
    let mut window = Window::new();
    window.apply(hello());
    let (job, _) = window.take_prepares()[0];
    window.answer_all();
    let mut harness = harness(window);
    let progress = |done| Event::Progress { job_id: job, stage: Stage::Loading, done, total: 100 };
    harness.state_mut().apply(progress(1));
    harness.run_steps(60);
    harness.state_mut().apply(progress(50));
    harness.run();
    assert!(harness.mentions("Loading the model 50 % · 0:0"), "3 s for each half");
    harness.press("Cancel: Loading the model");
    assert_eq!(harness.state().cancelled(), [job]);
    harness.run();
    assert!(harness.shows("Loading the model · stopping"));
    harness.state_mut().finish(job, Outcome::Cancelled);
    harness.run();
    assert!(!harness.mentions("stopping"));
}

#[test]
fn jobs_that_are_over_at_once_are_not_shown() {
    let mut harness = harness(Window::ready());
    harness.run_steps(20);
    harness.state_mut().set_knob(crate::support::MEDICAL, 0.5);
    harness.run();
    assert!(!harness.mentions("Cancel: "));
    harness.run_steps(20);
    assert!(harness.mentions("Cancel: "), "now it takes long");
}

#[test]
fn engine_tells_how_it_is() {
    let mut harness = harness(Window::new());
    assert!(harness.shows("Engine starting"));
    harness.state_mut().apply(hello());
    harness.run();
    assert!(harness.shows("Engine ready"));
    harness.state_mut().apply(lost("it was killed"));
    harness.run();
    assert!(harness.shows("Engine stopped"));
    assert!(harness.mentions("It is being started again"));
}

#[test]
fn reason_for_the_device_is_shown() {
    let built = "built without CUDA; `cargo xtask run --features cuda` builds it";
    let gpu = "CUDA 1 · NVIDIA H200, 139.1 of 143.8 GB free at its start: it is the only GPU that \
               can be used";
    for (event, words) in [(on_cpu(built, false), format!("CPU: {built}")), (on_gpu(), gpu.into())]
    {
        let mut window = Window::new();
        window.apply(event);
        window.apply(hello());
        let mut harness = harness(window);
        assert!(!harness.mentions(&words));
        let at = harness.get_by_label("Engine ready").rect().center();
        harness.hover_at(at);
        harness.run_steps(60);
        assert!(harness.mentions(&words), "in the tooltip: {words}");
        harness.hover_at(egui::Pos2::ZERO);
        harness.run_steps(60);
        assert!(!harness.mentions(&words));
        harness.state_mut().command(UiCommand::About);
        harness.run();
        assert!(harness.shows(&words), "in the dialog: {words}");
    }
}

#[test]
fn device_is_chosen_in_the_settings() {
    let mut window = Window::ready();
    window.command(UiCommand::Settings);
    let mut harness = harness(window);
    for (name, device) in [
        ("GPU", DeviceChoice::Cuda(None)),
        ("CPU", DeviceChoice::Cpu),
        ("Auto", DeviceChoice::Auto),
    ] {
        harness.press(name);
        assert_eq!(harness.state_mut().settings().device, device);
        let is_told = |effect: &&Effect| **effect == Effect::UseDevice(device);
        assert_eq!(harness.state().effects.iter().filter(is_told).count(), 1, "{name}");
    }
}

#[test]
fn engine_that_stops_twice_says_so_and_is_started_again_by_hand() {
    let mut window = Window::ready();
    window.now = 100.0;
    for _ in 0..2 {
        window.apply(lost("it was killed"));
    }
    let (job, _) = window.take_prepares()[0];
    window.finish(job, Outcome::Cancelled);
    let mut harness = harness(window);
    harness.run();
    assert!(harness.mentions("The engine stopped again: it was killed"));
    harness.get_all_by_role_and_label(Role::Button, "Try again").next().expect("a way on").click();
    harness.run();
    assert_eq!(harness.state_mut().take_prepares().len(), 1);
}

#[test]
fn device_memory_and_speed_are_shown() {
    let mut window = Window::ready();
    window.ask_and_answer("One?");
    let mut harness = harness(window);
    harness.run();
    assert!(harness.mentions("CPU, 2 threads"));
    assert!(harness.shows("160 tok/s · first token 60 ms"));
}

#[test]
fn panels_come_and_go_with_their_keys() {
    let mut harness = harness(Window::ready());
    for (key, part) in [
        (egui::Key::Num1, "λ of medical"),
        (egui::Key::Num2, "Begin a new chat"),
        (egui::Key::Num3, "Copy fingerprint"),
    ] {
        assert!(harness.shows(part));
        harness.keys(egui::Modifiers::COMMAND, key);
        assert!(!harness.shows(part), "{part}");
        harness.keys(egui::Modifiers::COMMAND, key);
        assert!(harness.shows(part), "{part}");
    }
}

#[test]
fn narrow_window_shows_the_panel_that_was_asked_for_last() {
    let mut harness = harness_of([640.0, 600.0], Window::ready());
    assert!(harness.shows("λ of medical"));
    assert!(!harness.shows("Copy fingerprint"));
    harness.keys(egui::Modifiers::COMMAND, egui::Key::Num3);
    assert!(harness.shows("Copy fingerprint"));
    assert!(!harness.shows("λ of medical"));
    harness.keys(egui::Modifiers::COMMAND, egui::Key::Num1);
    assert!(harness.shows("λ of medical"));
}

#[test]
fn window_can_be_small_and_its_text_large() {
    for (size, text_scale) in [([480.0, 360.0], 2.0), ([320.0, 240.0], 1.0), ([2560.0, 400.0], 0.6)]
    {
        let settings = Settings { text_scale, ..settings() };
        let mut window = Window::ready_with(settings);
        window.ask_and_answer("One?");
        let mut harness = harness_of(size, window);
        harness.run();
        for command in [
            UiCommand::Settings,
            UiCommand::Palette,
            UiCommand::OpenModel,
            UiCommand::ExportMerged,
            UiCommand::SaveRecipe,
            UiCommand::MemoryPlan,
        ] {
            harness.state_mut().command(command);
            harness.run();
        }
    }
}
