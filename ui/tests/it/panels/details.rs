use egui_kittest::kittest::Queryable as _;
use meav_protocol::{AuditEntry, Fact, JobSpec, Outcome, UserError};
use meav_ui::Effect;

use crate::hands::{Hands as _, harness};
use crate::support::{MEDICAL, Window};

#[test]
fn details_tell_of_the_chosen_vector_and_the_recipe_in_force() {
    let mut window = Window::ready();
    window.set_knob(MEDICAL, 0.7);
    window.answer_all();
    let mut harness = harness(window);
    harness.run();
    for text in ["low-rank", "4.9 MB", "made from this base", "32 ms", "expert, generic, avoidance"]
    {
        assert!(harness.shows(text), "{text}");
    }
    let role = egui::accesskit::Role::Button;
    harness.get_by_role_and_label(role, "financial").click();
    harness.run();
    let (job, spec) = harness.state_mut().take_job(|spec| matches!(spec, JobSpec::Describe { .. }));
    assert_eq!(spec, JobSpec::Describe { path: "financial".into() });
    assert!(!harness.shows("expert, generic, avoidance"), "that is the other's");
    harness.state_mut().answer(job, &spec);
    harness.run();
    assert!(harness.shows("expert, generic, avoidance"));
}

#[test]
fn vector_that_cannot_be_described_says_why() {
    let mut window = Window::new();
    let jobs = window.take_jobs();
    for (job, spec) in jobs {
        window.answer(job, &spec);
    }
    let (job, _) = window.take_job(|spec| matches!(spec, JobSpec::Describe { .. }));
    window.fail(job, UserError::new("The file has gone", "Add it again"));
    window.answer_all();
    let mut harness = harness(window);
    harness.run();
    assert!(harness.shows("The file has gone"));
}

#[test]
fn details_of_a_model_without_knobs_say_what_to_choose() {
    let settings = meav_ui::Settings { knobs: Vec::new(), ..meav_ui::Settings::default() };
    let mut harness = harness(Window::ready_with(settings));
    harness.run();
    assert!(harness.shows("The base model, unchanged"));
    assert!(harness.mentions("Choose a knob"));
}

#[test]
fn fingerprint_is_copied_and_exports_are_asked_for() {
    let mut harness = harness(Window::ready());
    harness.press("Copy fingerprint");
    let copied = Effect::Copy("blake3:a1b20000".to_owned());
    assert!(harness.state().effects.contains(&copied));
    harness.press("Export merged model…");
    assert!(harness.shows("Export merged model"));
    harness.key(egui::Key::Escape);
    harness.press("Export audit log…");
    assert!(harness.shows("Export audit log"));
}

#[test]
fn history_lists_recipes_and_exports() {
    let mut window = Window::new();
    let (job, _) = window.take_job(|spec| matches!(spec, JobSpec::ListAudit { .. }));
    let entry = AuditEntry {
        time: "a while ago".to_owned(),
        action: "recipe".to_owned(),
        detail: "medical +0.7".to_owned(),
    };
    window.fact(job, Fact::Audit(vec![entry]));
    window.finish(job, Outcome::Done);
    let mut harness = harness(window);
    harness.run();
    assert!(harness.shows("medical +0.7"));
    assert!(harness.mentions("recipe"));
}

#[test]
fn details_before_a_model_is_loaded_say_so() {
    let mut harness = harness(Window::new());
    harness.run();
    assert!(harness.shows("The weights hold nothing yet."));
}
