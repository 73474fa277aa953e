use meav_protocol::{JobSpec, Outcome, Setup};
use meav_ui::{Action, KnobAction, UiCommand};

use crate::support::{FINANCIAL, MEDICAL, Window, settings};
use crate::values::{about, ready};

fn coefficients(setup: &Setup) -> Vec<f64> {
    setup.vectors.iter().map(|term| term.coefficient).collect()
}

fn files(setup: &Setup) -> Vec<String> {
    setup.vectors.iter().map(|term| term.file.display().to_string()).collect()
}

#[test]
fn window_begins_with_the_model_the_chats_and_the_last_one() {
    let mut window = Window::new();
    let specs: Vec<_> = window.take_jobs().into_iter().map(|(_, spec)| spec).collect();
    assert!(specs.contains(&JobSpec::ListChats));
    assert!(specs.contains(&JobSpec::LoadChat { id: None }));
    let prepared: Vec<_> = specs
        .iter()
        .filter_map(|spec| match spec {
            JobSpec::Prepare(setup) => Some(coefficients(setup)),
            _ => None,
        })
        .collect();
    assert_eq!(prepared, [[0.0, 0.0]]);
}

#[test]
fn while_dragging_the_weights_follow_with_the_newest_values_and_one_job_at_a_time() {
    let mut window = Window::ready();
    window.set_knob(MEDICAL, 0.01);
    let first = window.take_prepares();
    assert_eq!(first.len(), 1);
    for step in 2..=100 {
        window.set_knob(MEDICAL, f64::from(step) / 100.0);
        window.set_knob(FINANCIAL, f64::from(step) / -100.0);
    }
    assert_eq!(window.take_prepares(), [], "one job is on its way");
    let (job, setup) = first[0].clone();
    window.answer(job, &JobSpec::Prepare(setup));
    let second = window.take_prepares();
    assert_eq!(second.len(), 1);
    assert_eq!(coefficients(&second[0].1), [1.0, -1.0]);
    let (job, setup) = second[0].clone();
    window.answer(job, &JobSpec::Prepare(setup));
    assert_eq!(window.take_prepares(), [], "there is nothing left to follow");
}

#[test]
fn knob_that_is_back_where_the_weights_are_asks_for_nothing() {
    let mut window = Window::ready();
    window.set_knob(MEDICAL, 0.0);
    assert_eq!(window.take_prepares(), []);
}

#[test]
fn lambda_stays_within_its_range_and_is_a_number() {
    let mut window = Window::ready();
    for (set, kept) in [
        (9.0, 1.5),
        (-9.0, -1.5),
        (f64::NAN, 0.0),
        (f64::INFINITY, 0.0),
        (f64::NEG_INFINITY, 0.0),
        (-0.7, -0.7),
    ] {
        window.set_knob(MEDICAL, set);
        assert_eq!(window.coefficients()[0], kept, "for {set}");
    }
}

#[test]
fn bypassed_knob_keeps_its_value_and_counts_as_zero() {
    let mut window = Window::ready();
    window.set_knob(MEDICAL, 0.7);
    window.answer_all();
    window.update(Action::Knob(MEDICAL, KnobAction::SetBypassed(true)));
    let prepared = window.take_prepares();
    assert_eq!(coefficients(&prepared[0].1), [0.0, 0.0]);
    assert_eq!(window.coefficients()[0], 0.7);
    assert_eq!(window.settings().knobs[0].bypassed, [true, false]);
    window.answer(prepared[0].0, &JobSpec::Prepare(prepared[0].1.clone()));
    window.update(Action::Knob(MEDICAL, KnobAction::SetBypassed(false)));
    assert_eq!(coefficients(&window.take_prepares()[0].1), [0.7, 0.0]);
}

#[test]
fn order_of_the_knobs_is_the_order_of_the_sum() {
    let mut window = Window::ready();
    window.update(Action::Knob(MEDICAL, KnobAction::Move(1)));
    assert_eq!(files(&window.take_prepares()[0].1), ["financial", "medical"]);
    window.answer_all();
    window.update(Action::Knob(MEDICAL, KnobAction::Move(7)));
    window.update(Action::Knob(FINANCIAL, KnobAction::Move(-7)));
    let kept: Vec<_> = window.settings().knobs.into_iter().map(|knob| knob.file).collect();
    assert_eq!(kept, ["financial", "medical"].map(std::path::PathBuf::from));
}

#[test]
fn removed_knob_leaves_the_recipe() {
    let mut window = Window::ready();
    window.update(Action::Knob(MEDICAL, KnobAction::Remove));
    assert_eq!(files(&window.take_prepares()[0].1), ["financial"]);
    window.set_knob(MEDICAL, 1.0);
    assert_eq!(window.coefficients(), [0.0], "a knob that is gone turns no more");
}

#[test]
fn vector_that_does_not_fit_is_set_aside_and_the_rest_goes_on() {
    let mut window = Window::ready();
    window.set_knob(FINANCIAL, 0.5);
    let (job, _) = window.take_prepares()[0];
    window.fail(job, about("medical", "The vector has other layers"));
    let (job, setup) = window.take_prepares()[0].clone();
    assert_eq!(files(&setup), ["financial"]);
    assert_eq!(coefficients(&setup), [0.5]);
    window.answer(job, &JobSpec::Prepare(setup));
    assert_eq!(window.take_prepares(), []);
    window.update(Action::Knob(MEDICAL, KnobAction::Retry));
    assert_eq!(files(&window.take_prepares()[0].1), ["medical", "financial"]);
}

#[test]
fn vectors_that_all_do_not_fit_end_with_the_model_alone() {
    let mut window = Window::new();
    let (job, _) = window.take_prepares()[0];
    window.fail(job, about("medical", "Not a vector"));
    let (job, _) = window.take_prepares()[0];
    window.fail(job, about("financial", "Not a vector"));
    let (job, setup) = window.take_prepares()[0].clone();
    assert_eq!(files(&setup), [] as [String; 0]);
    window.answer(job, &JobSpec::Prepare(setup));
    assert_eq!(window.take_prepares(), []);
}

#[test]
fn fault_of_a_vector_on_no_knob_stops_nothing() {
    let mut window = Window::ready();
    window.set_knob(MEDICAL, 0.5);
    let (job, _) = window.take_prepares()[0];
    window.update(Action::Knob(MEDICAL, KnobAction::Remove));
    window.fail(job, about("medical", "The file has gone"));
    assert_eq!(files(&window.take_prepares()[0].1), ["financial"]);
}

#[test]
fn refused_setup_is_tried_again_only_when_asked_or_changed() {
    let mut window = Window::ready();
    window.set_knob(MEDICAL, 0.5);
    let (job, _) = window.take_prepares()[0];
    window.fail(job, meav_protocol::UserError::new("Out of memory", "Close other programs"));
    assert_eq!(window.take_prepares(), []);
    window.tick();
    window.command(UiCommand::ToggleDetails);
    assert_eq!(window.take_prepares(), []);
    window.update(Action::Retry);
    let (job, setup) = window.take_prepares()[0].clone();
    assert_eq!(coefficients(&setup), [0.5, 0.0]);
    window.fail(job, meav_protocol::UserError::new("Out of memory", "Close other programs"));
    assert_eq!(window.take_prepares(), []);
    window.set_knob(MEDICAL, 0.4);
    assert_eq!(window.take_prepares().len(), 1);
}

#[test]
fn cancelled_load_does_not_begin_again_by_itself() {
    let mut window = Window::new();
    let (job, _) = window.take_prepares()[0];
    window.set_knob(MEDICAL, 0.5);
    window.update(Action::CancelJob(job));
    assert_eq!(window.cancelled(), [job]);
    window.finish(job, Outcome::Cancelled);
    assert_eq!(window.take_prepares(), [], "what was set before it ended counts as cancelled too");
    window.set_knob(MEDICAL, 0.6);
    assert_eq!(window.take_prepares().len(), 1);
}

#[test]
fn preparation_that_brings_nothing_is_not_repeated() {
    let mut window = Window::new();
    let (job, _) = window.take_prepares()[0];
    window.finish(job, Outcome::Done);
    assert_eq!(window.take_prepares(), []);
}

#[test]
fn weights_that_came_too_late_are_shown_and_then_followed_on() {
    let mut window = Window::ready();
    window.set_knob(MEDICAL, 0.5);
    let (job, setup) = window.take_prepares()[0].clone();
    window.set_knob(MEDICAL, -0.5);
    window.fact(job, ready(&setup));
    assert_eq!(window.take_prepares(), [], "the job has not ended yet");
    window.finish(job, Outcome::Done);
    assert_eq!(coefficients(&window.take_prepares()[0].1), [-0.5, 0.0]);
}

#[test]
fn other_model_gets_the_vectors_that_did_not_fit_the_one_before() {
    let mut window = Window::new();
    let (job, _) = window.take_prepares()[0];
    window.fail(job, about("medical", "The vector has other layers"));
    window.answer_all();
    window.update(Action::Open("/models/other.gguf".into(), meav_protocol::FileKind::Model));
    let (job, spec) = window.take_job(|spec| matches!(spec, JobSpec::Describe { .. }));
    window.answer(job, &spec);
    let setup = &window.take_prepares()[0].1;
    assert_eq!(setup.model, std::path::Path::new("/models/other.gguf"));
    assert_eq!(files(setup), ["medical", "financial"]);
}

#[test]
fn knobs_out_of_range_in_a_settings_file_are_limited() {
    let mut settings = settings();
    settings.knobs[0].coefficients = [7.0, f64::NAN];
    let mut window = Window::with(settings);
    assert_eq!(coefficients(&window.take_prepares()[0].1), [1.5, 0.0]);
    assert_eq!(window.settings().knobs[0].coefficients, [1.5, 0.0]);
}
