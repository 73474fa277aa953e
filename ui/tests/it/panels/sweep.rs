use egui::accesskit::Role;
use egui::{Key, Modifiers, PointerButton, vec2};
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT as _, Queryable as _};
use meav_protocol::{Event, Fact, JobId, JobSpec, Outcome, RunState, Stage, SweepSpec};
use meav_ui::{Action, Screen, SweepAction, UiCommand};
use uuid::Uuid;

use crate::hands::{self, Hands as _, engine_works, harness_of, is_disabled};
use crate::support::{FINANCIAL, MEDICAL, Window};
use crate::sweeps::{
    FINANCIAL_DATA, MEDICAL_DATA, SAFETY_DATA, begun, calibration, kept, point_fact, summary,
};
use crate::values::loaded;

/// The Sweep screen, with room for all of it.
fn screen(window: Window) -> Harness<'static, Window> {
    hands::screen(UiCommand::ShowSweep, 1700.0, window)
}

/// The screen with a sweep that is being measured.
fn running() -> (Harness<'static, Window>, JobId, SweepSpec) {
    let mut harness = screen(Window::ready());
    add_demo_data(&mut harness, "medical.test.jsonl");
    harness.press("Start");
    let is_sweep = |spec: &JobSpec| matches!(spec, JobSpec::Sweep(_));
    let (job, JobSpec::Sweep(spec)) = harness.state_mut().take_job(is_sweep) else {
        panic!("another job")
    };
    harness.state_mut().fact(job, Fact::Sweep(Box::new(begun(&spec))));
    (harness, job, *spec)
}

fn add_demo_data(harness: &mut Harness<'_, Window>, name: &str) {
    harness.press("Add demo data");
    harness.press(name);
    engine_works(harness);
}

/// The screen with sweeps that were kept: the first is open, and a point of it is picked.
fn opened() -> Harness<'static, Window> {
    let data = [MEDICAL_DATA, FINANCIAL_DATA];
    let sweeps = [kept(1, "medical", &data), kept(2, "financial", &data)];
    let mut window = Window::ready();
    window.command(UiCommand::ShowSweep);
    for (job, spec) in window.take_jobs() {
        if spec == JobSpec::ListSweeps {
            window.fact(job, Fact::Sweeps(sweeps.iter().map(summary).collect()));
        }
        window.finish(job, Outcome::Done);
    }
    window.update(Action::Sweep(SweepAction::Open(Uuid::from_u128(1))));
    let (job, _) = window.take_job(|spec| matches!(spec, JobSpec::LoadSweep { .. }));
    window.fact(job, Fact::Sweep(Box::new(sweeps[0].clone())));
    window.finish(job, Outcome::Done);
    let mut harness = harness_of([1280.0, 1700.0], window);
    harness.run();
    harness
}

/// With calibrations on the knobs, from −1.5 to these λ.
fn calibrated(lasts: [f64; 2]) -> Window {
    let mut window = Window::ready();
    window.set_knob(MEDICAL, 0.1);
    let (job, setup) = window.take_prepares()[0].clone();
    let mut model = loaded(&setup);
    for (info, last) in model.vectors.iter_mut().zip(lasts) {
        let mut spec = kept(1, "medical", &[MEDICAL_DATA]).spec;
        spec.range.last = last;
        info.calibration = Some(Box::new(calibration(&spec)));
    }
    window.fact(job, Fact::Ready(Box::new(model)));
    window.finish(job, Outcome::Done);
    window.answer_all();
    window
}

#[test]
fn screen_opens_by_tab_and_by_keys_with_the_keyboard_on_the_vector() {
    let mut harness = harness_of([1280.0, 900.0], Window::ready());
    harness.run();
    harness.get_by_role_and_label(Role::Tab, "Sweep").click();
    harness.run();
    assert_eq!(harness.focused().as_deref(), Some("Vector to sweep"));
    harness.keys(Modifiers::COMMAND, Key::Num4);
    assert_eq!(harness.state_mut().settings().screen, Screen::Chat);
    harness.keys(Modifiers::COMMAND, Key::Num6);
    assert_eq!(harness.state_mut().settings().screen, Screen::Sweep);
}

#[test]
fn start_says_what_is_missing() {
    let mut harness = screen(Window::ready());
    assert!(is_disabled(&harness, "Start"));
    assert!(harness.shows("Add data to measure on"));
    assert!(!harness.mentions("synthetic"));
    add_demo_data(&mut harness, "medical.test.jsonl");
    assert!(!is_disabled(&harness, "Start"));
    assert!(harness.mentions("levels on "));
    assert!(harness.mentions("synthetic, and no professional has reviewed it"));
    assert!(harness.mentions("no proof of correctness"));
    harness.get_by_label("Step of λ").click();
    harness.run();
    harness.keys(Modifiers::COMMAND, Key::A);
    harness.types("0");
    assert!(is_disabled(&harness, "Start"));
    assert!(harness.mentions("The step must be above 0"));
    harness.keys(Modifiers::COMMAND, Key::A);
    harness.types("0,5");
    assert!(harness.shows("7 points"));
    assert!(!is_disabled(&harness, "Start"));
    harness.press("Leave medical.test.jsonl out");
    assert!(is_disabled(&harness, "Start"));
}

#[test]
fn instructions_can_be_rewritten() {
    let mut harness = screen(Window::ready());
    add_demo_data(&mut harness, "medical.test.jsonl");
    harness.get_by_label("Instructions").click();
    harness.run();
    harness.get_by_label("Instruction for expert").click();
    harness.run();
    harness.keys(Modifiers::COMMAND, Key::A);
    harness.types("Talk like a professor.");
    let form = harness.state().model.sweep_form();
    let expert = form.instructions.iter().find(|(level, _)| level == "expert");
    assert_eq!(expert.map(|(_, text)| text.as_str()), Some("Talk like a professor."));
}

#[test]
fn progress_and_time_left_are_told_in_records_over_the_whole_run() {
    let (mut harness, job, spec) = running();
    let window = harness.state_mut();
    window.fact(job, point_fact(&spec, 0.0));
    let at = |window: &mut Window, now: f64, stage, done| {
        window.now = now;
        window.apply(Event::Progress { job_id: job, stage, done, total: 100 });
    };
    // A resumed sweep has half of it behind it already.
    let now = window.now;
    at(window, now - 100.0, Stage::Scoring, 50);
    at(window, now, Stage::Scoring, 60);
    // The weights move from point to point: that is no other stage.
    at(window, now, Stage::Merging, 1);
    harness.run();
    // 10 records in 100 seconds, and a little more for the frames.
    assert!(harness.mentions("60 of 100 records · 60 % · 6:4"));
    assert!(harness.mentions("1 of 31 points so far"));
    harness.press("Stop");
    assert_eq!(harness.state().cancelled(), [job]);
    harness.state_mut().finish(job, Outcome::Cancelled);
    harness.run();
    assert!(harness.mentions("stopped at 1 of 31 points"));
    harness.press("Resume");
    let is_it = |it: &JobSpec| *it == JobSpec::Sweep(Box::new(spec.clone()));
    harness.state_mut().take_job(is_it);
}

#[test]
fn press_on_a_curve_sets_the_knob_to_the_nearest_point() {
    let mut harness = opened();
    let plot = harness.get_by_label_contains("Curves of medical.test.jsonl").rect();
    // λ = 0 is in the middle; a quarter of the width is some 0.77.
    let at = plot.center() + vec2(plot.width() / 4.0, 10.0);
    harness.hover_at(at);
    harness.run();
    assert!(harness.shows("λ = +0.75"), "what is under the pointer is told");
    assert!(harness.mentions("disagree on 4 of 52 records"));
    for pressed in [true, false] {
        let (button, modifiers) = (PointerButton::Primary, Modifiers::NONE);
        harness.event(egui::Event::PointerButton { pos: at, button, pressed, modifiers });
    }
    harness.run();
    assert_eq!(harness.state_mut().coefficients(), [0.75, 0.0]);
    harness.press("Chat here");
    assert_eq!(harness.state_mut().settings().screen, Screen::Chat);
    assert_eq!(harness.focused().as_deref(), Some("Message"));
}

#[test]
fn points_can_be_stepped_through_without_a_pointer() {
    let mut harness = opened();
    harness.press("Knobs to the next lower λ");
    assert_eq!(harness.state_mut().coefficients(), [-0.25, 0.0]);
    harness.press("Knobs to the next higher λ");
    harness.press("Knobs to the next higher λ");
    assert_eq!(harness.state_mut().coefficients(), [0.25, 0.0]);
    harness.get_by_label_contains("Curves of medical.test.jsonl").focus();
    harness.run();
    harness.key(Key::ArrowRight);
    assert_eq!(harness.state_mut().coefficients(), [0.5, 0.0]);
    assert!(harness.mentions("Curves of medical.test.jsonl, levels; at λ +0.50: expert "));
    harness.press("avoidance at −1.50");
    assert_eq!(harness.state_mut().coefficients(), [-1.5, 0.0]);
}

#[test]
fn panels_tell_what_was_left_out_and_what_was_measured() {
    let mut harness = opened();
    assert!(harness.shows("1 skipped"));
    harness.get_by_label("About this sweep").click();
    harness.run();
    for words in ["blake3:base", "this base", "medical.test.jsonl (levels, blake3:", "6:42"] {
        assert!(harness.mentions(words), "{words}");
    }
}

#[test]
fn other_sweeps_are_laid_over_and_make_a_matrix() {
    let mut harness = opened();
    assert!(is_disabled(&harness, "Make the matrix"));
    let name = harness
        .query_all_by_label_contains("Lay over: financial")
        .next()
        .expect("it is in the list");
    name.click();
    harness.run();
    let (job, _) = harness.state_mut().take_job(|it| matches!(it, JobSpec::LoadSweep { .. }));
    let other = kept(2, "financial", &[MEDICAL_DATA, SAFETY_DATA]);
    harness.state_mut().fact(job, Fact::Sweep(Box::new(other)));
    harness.state_mut().finish(job, Outcome::Done);
    harness.run();
    assert!(harness.mentions("2 dashed: financial on SmolLM2-135M-Instruct"));
    harness.press("Make the matrix");
    engine_works(&mut harness);
    // 0.3 · sin 1, and so on: see the fixture's own numbers.
    let cell = "medical on medical.test.jsonl, levels, expert: +25.2 points per unit, 95 % \
                interval +17.2 points per unit to +33.2 points per unit";
    assert!(harness.shows(cell), "no such cell");
    harness.press("Export matrix…");
    harness.press("Picture as SVG…");
    assert!(harness.shows("Export cross-domain matrix"));
}

#[test]
fn sweep_is_deleted_only_when_that_is_agreed_to() {
    let mut harness = opened();
    let open_menu = |harness: &mut Harness<'_, Window>| {
        let menus = harness.query_all_by_role(Role::Button);
        let name = |it: &egui_kittest::Node<'_>| it.accesskit_node().label().unwrap_or_default();
        let is_it = |it: &egui_kittest::Node<'_>| name(it).starts_with("More for medical, ");
        menus.into_iter().find(is_it).expect("a sweep has a menu").click();
        harness.run();
        harness.press("Delete…");
    };
    open_menu(&mut harness);
    assert!(harness.shows("Delete the sweep?"));
    assert_eq!(harness.focused().as_deref(), Some("Cancel"));
    harness.key(Key::Enter);
    assert!(!harness.shows("Delete the sweep?"));
    assert!(harness.state_mut().take_jobs().is_empty());
    open_menu(&mut harness);
    harness.press("Delete");
    harness.state_mut().take_job(|it| matches!(it, JobSpec::DeleteSweep { .. }));
}

#[test]
fn cut_off_sweep_is_offered_as_a_message_and_on_the_screen() {
    let mut cut = kept(3, "medical", &[MEDICAL_DATA]);
    cut.state = RunState::Running;
    cut.points.truncate(4);
    let mut window = Window::new();
    let (job, _) = window.take_job(|spec| *spec == JobSpec::ListSweeps);
    window.fact(job, Fact::Sweeps(vec![summary(&cut)]));
    window.finish(job, Outcome::Done);
    window.answer_all();
    let mut harness = harness_of([1280.0, 900.0], window);
    harness.run();
    assert!(harness.mentions("A sweep of medical was cut off at 4 of 13 points"));
    harness.press("Dismiss");
    assert!(!harness.mentions("cut off"));
    harness.keys(Modifiers::COMMAND, Key::Num6);
    assert!(harness.mentions("cut off at 4 of 13 points"));
    harness.press("Go on with it");
    let run = cut.spec.run;
    harness.state_mut().take_job(|it| *it == JobSpec::LoadSweep { run });
}

#[test]
fn knob_tells_what_its_lambda_leads_to() {
    let mut window = calibrated([1.5, 0.5]);
    window.set_knob(MEDICAL, -1.5);
    let mut harness = harness_of([1280.0, 900.0], window);
    harness.run();
    assert!(harness.shows("Expected of medical: expert 0 %, generic 10 %, avoidance 90 %"));
    let window = harness.state_mut();
    window.set_knob(FINANCIAL, 0.9);
    harness.run();
    assert!(harness.mentions("avoidance 90 %, measured alone"));
    assert!(harness.shows("Beyond the swept range, −1.50 to +0.50"));
    harness.state_mut().set_knob(FINANCIAL, 0.5);
    harness.run();
    assert!(!harness.mentions("Beyond the swept range"));
    assert!(harness.mentions("Expected of financial"));
    harness.press("Leave medical out for now");
    assert!(!harness.mentions("Expected of medical"), "it is not in the recipe");
}

#[test]
fn dragged_knob_sticks_to_the_best_lambda_unless_shift_is_held() {
    for (modifiers, expected) in [(Modifiers::NONE, 1.0), (Modifiers::SHIFT, 0.98)] {
        // expert is best at λ = 1, the end of the range.
        let mut window = calibrated([1.0, 1.0]);
        window.set_knob(MEDICAL, 0.98);
        let mut harness = harness_of([1280.0, 900.0], window);
        harness.run();
        let track = harness.get_by_role_and_label(Role::Slider, "λ of medical").rect();
        let rail = track.shrink2(vec2(8.0, 0.0));
        let x = egui::remap(0.98_f32, -1.5..=1.5, rail.left()..=rail.right());
        let at = egui::pos2(x, rail.center().y);
        harness.event_modifiers(egui::Event::PointerMoved(at), modifiers);
        let button = |pressed, pos| egui::Event::PointerButton {
            pos,
            button: PointerButton::Primary,
            pressed,
            modifiers,
        };
        harness.event_modifiers(button(true, at), modifiers);
        harness.run();
        // Away and back again, so that it is a drag and not a press.
        for by in [12.0, 0.0] {
            harness.event_modifiers(egui::Event::PointerMoved(at + vec2(by, 0.0)), modifiers);
            harness.run();
        }
        harness.event_modifiers(button(false, at), modifiers);
        harness.run();
        assert_eq!(harness.knob("medical"), expected, "{modifiers:?}");
    }
    // Arrow keys go where they always go.
    let mut window = calibrated([1.0, 1.0]);
    window.set_knob(MEDICAL, 0.88);
    window.command(UiCommand::FocusKnobs);
    let mut harness = harness_of([1280.0, 900.0], window);
    harness.run();
    harness.key(Key::ArrowRight);
    assert_eq!(harness.knob("medical"), 0.98);
}

#[test]
fn calibration_is_written_only_when_that_is_agreed_to() {
    let mut harness = harness_of([1280.0, 900.0], calibrated([1.5, 1.5]));
    harness.run();
    harness.press("More for medical");
    harness.press("Write calibration into its file…");
    assert!(harness.mentions("the preference accuracies at 13 λ"));
    assert!(harness.mentions("no weight is changed"));
    assert!(harness.state_mut().take_jobs().is_empty());
    harness.press("Write");
    harness.state_mut().take_job(|it| matches!(it, JobSpec::WriteCalibration { .. }));
}
