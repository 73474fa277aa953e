//! One picture for each state of the window that must not change by accident, in both themes.
//!
//! `UPDATE_SNAPSHOTS=1` makes them anew.

use egui_kittest::SnapshotOptions;
use meav_protocol::{Remedy, UserError};
use meav_ui::{Action, ChatAction, SamplingSettings, Settings, Theme};

use crate::hands::harness_of;
use crate::support::{FINANCIAL, MEDICAL, Window};
use crate::values::{about, hello};

/// Compares the window with its pictures in both themes.
fn compare(name: &str, window: Window) {
    let options = SnapshotOptions::new().threshold(0.6).max_failed_pixels(10);
    let mut harness = harness_of([1024.0, 700.0], window);
    for (theme, word) in [(Theme::Light, "light"), (Theme::Dark, "dark")] {
        harness.state_mut().update(Action::SetTheme(theme));
        harness.run();
        harness.snapshot_options(format!("{name}_{word}"), &options);
    }
}

/// With the same seed each time.
fn settings() -> Settings {
    let sampling = SamplingSettings { seed: Some(7), ..SamplingSettings::default() };
    Settings { sampling, ..Settings::default() }
}

const ANSWER: &str = "Chest pain after exercise has **several** causes:\n\n\
    1. Muscle strain of the chest wall\n\
    2. Angina, where the heart gets too little oxygen\n\n\
    ```text\nred flags: sweating, pain in the arm\n```\n\n\
    See a doctor if it *returns*.";

fn conversation() -> Window {
    let mut window = Window::ready_with(settings());
    window.ask_and_answer("What could cause chest pain after exercise?");
    window.set_knob(MEDICAL, 0.7);
    window.set_knob(FINANCIAL, -0.3);
    window.answer_all();
    let (job, turn) = window.ask("And as an expert?");
    window.fact(job, crate::values::ready(&turn.setup));
    window.fact(job, meav_protocol::Fact::Reply(crate::values::reply(&turn.setup, ANSWER)));
    window.finish(job, meav_protocol::Outcome::Done);
    window.answer_all();
    window.chat(ChatAction::SetDraft("Thank you".to_owned()));
    window
}

fn first_run() -> Window {
    let mut window = Window::with(settings());
    window.apply(hello());
    let (job, _) = window.take_prepares()[0];
    let missing = UserError {
        remedy: Some(Remedy::FetchDemo),
        ..about("demo", "The demo model is not on this machine yet")
    };
    window.fail(job, missing);
    window.answer_all();
    window
}

fn knob_fault() -> Window {
    let mut window = Window::ready_with(settings());
    window.set_knob(MEDICAL, 0.7);
    let (job, _) = window.take_prepares()[0];
    window.fail(job, about("medical", "The vector has 30 layers, the model 12"));
    window.answer_all();
    window
}

fn close_dialog() -> Window {
    let mut window = Window::ready_with(settings());
    let (job, turn) = window.ask("What could cause chest pain after exercise?");
    window.fact(job, crate::values::ready(&turn.setup));
    window.say(job, "Several things");
    window.update(Action::CloseRequested);
    window.take_jobs();
    window
}

#[test]
fn conversation_looks_as_it_did() {
    compare("conversation", conversation());
}

#[test]
fn first_run_looks_as_it_did() {
    compare("first_run", first_run());
}

#[test]
fn knob_fault_looks_as_it_did() {
    compare("knob_fault", knob_fault());
}

#[test]
fn close_dialog_looks_as_it_did() {
    compare("close_dialog", close_dialog());
}
