use egui::{Key, Modifiers, MouseWheelUnit, Pos2, Rect, vec2};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable as _;
use meav_protocol::{JobSpec, Outcome, UserError};
use meav_ui::UiCommand;

use crate::hands::{Hands as _, harness, wheel};
use crate::support::{FINANCIAL, MEDICAL, Window};
use crate::values::{about, loaded};

/// Where λ of a knob stands on its track.
fn position(harness: &Harness<'_, Window>, name: &str, coefficient: f32) -> Pos2 {
    let rail = rail(harness, name);
    rail.left_center() + vec2((coefficient + 1.5) / 3.0 * rail.width(), 0.0)
}

fn rail(harness: &Harness<'_, Window>, name: &str) -> Rect {
    harness.get_by_label(&format!("λ of {name}")).rect().shrink2(vec2(8.0, 0.0))
}

fn drag(harness: &mut Harness<'_, Window>, from: Pos2, to: Pos2) {
    harness.hover_at(from);
    harness.drag_at(from);
    harness.run();
    harness.hover_at(from.lerp(to, 0.5));
    harness.hover_at(to);
    harness.run();
}

fn drop(harness: &mut Harness<'_, Window>, at: Pos2) {
    harness.drop_at(at);
    harness.run();
}

fn turn_wheel(harness: &mut Harness<'_, Window>, name: &str, lines: f32, modifiers: Modifiers) {
    let center = rail(harness, name).center();
    harness.hover_at(center);
    harness.event_modifiers(wheel(MouseWheelUnit::Line, lines, modifiers), modifiers);
    harness.run();
}

fn near(value: f64, wanted: f64) {
    assert!((value - wanted).abs() < 0.021, "{value} is not about {wanted}");
}

#[test]
fn dragging_turns_a_knob_and_the_weights_follow_at_once() {
    let mut harness = harness(Window::ready());
    let (from, to) = (position(&harness, "medical", 0.0), position(&harness, "medical", 0.7));
    drag(&mut harness, from, to);
    near(harness.knob("medical"), 0.7);
    assert_eq!(harness.state_mut().take_prepares().len(), 1, "the button is still down");
    drop(&mut harness, to);
    near(harness.knob("medical"), 0.7);
    assert_eq!(harness.knob("financial"), 0.0);
}

#[test]
fn press_beside_the_handle_moves_it_there() {
    let mut harness = harness(Window::ready());
    let at = position(&harness, "medical", -1.0);
    drag(&mut harness, at, at);
    near(harness.knob("medical"), -1.0);
}

#[test]
fn drag_beyond_the_end_stops_at_the_end() {
    let mut harness = harness(Window::ready());
    let from = position(&harness, "medical", 0.0);
    drag(&mut harness, from, from + vec2(900.0, 0.0));
    assert_eq!(harness.knob("medical"), 1.5);
}

#[test]
fn drag_with_shift_is_fine() {
    let mut harness = harness(Window::ready());
    let from = position(&harness, "medical", 0.0);
    harness.event(egui::Event::ModifiersChanged(Modifiers::SHIFT));
    let to = position(&harness, "medical", 1.0);
    drag(&mut harness, from, to);
    near(harness.knob("medical"), 0.1);
}

#[test]
fn wheel_turns_by_tenths_and_with_shift_by_hundredths() {
    let mut harness = harness(Window::ready());
    turn_wheel(&mut harness, "medical", 3.0, Modifiers::NONE);
    assert_eq!(harness.knob("medical"), 0.3);
    turn_wheel(&mut harness, "medical", -1.0, Modifiers::SHIFT);
    assert_eq!(harness.knob("medical"), 0.29);
    turn_wheel(&mut harness, "medical", -40.0, Modifiers::NONE);
    assert_eq!(harness.knob("medical"), -1.5);
}

#[test]
fn keys_turn_the_knob_that_has_the_keyboard() {
    let mut harness = harness(Window::ready());
    harness.get_by_label("λ of medical").focus();
    harness.run();
    for (modifiers, key, value) in [
        (Modifiers::NONE, Key::ArrowRight, 0.1),
        (Modifiers::NONE, Key::ArrowUp, 0.2),
        (Modifiers::NONE, Key::ArrowLeft, 0.1),
        (Modifiers::NONE, Key::ArrowDown, 0.0),
        (Modifiers::SHIFT, Key::ArrowLeft, -0.01),
        (Modifiers::NONE, Key::PageUp, 0.49),
        (Modifiers::NONE, Key::PageDown, -0.01),
        (Modifiers::NONE, Key::Home, -1.5),
        (Modifiers::NONE, Key::ArrowLeft, -1.5),
        (Modifiers::NONE, Key::End, 1.5),
        (Modifiers::NONE, Key::Delete, 0.0),
    ] {
        harness.keys(modifiers, key);
        assert_eq!(harness.knob("medical"), value, "after {key:?}");
    }
    assert_eq!(harness.focused().as_deref(), Some("λ of medical"));
}

#[test]
fn screen_readers_can_turn_a_knob() {
    let mut harness = harness(Window::ready());
    harness.get_by_label("λ of medical").increment_accesskit();
    harness.run();
    assert_eq!(harness.knob("medical"), 0.1);
    harness.get_by_label("λ of medical").set_value_accesskit(-0.7);
    harness.run();
    assert_eq!(harness.knob("medical"), -0.7);
    harness.get_by_label("λ of medical").set_value_accesskit(f64::NAN);
    harness.run();
    assert!(harness.knob("medical").is_finite());
}

#[test]
fn double_click_sets_a_knob_to_zero() {
    let mut window = Window::ready();
    window.set_knob(MEDICAL, 0.7);
    let mut harness = harness(window);
    for _ in 0..2 {
        harness.get_by_label("λ of medical").click();
    }
    harness.run();
    assert_eq!(harness.knob("medical"), 0.0);
}

#[test]
fn number_can_be_typed_with_either_minus_and_a_decimal_comma() {
    let mut harness = harness(Window::ready());
    for (text, value) in [("−0,7", -0.7), ("-0.25", -0.25), ("+.5", 0.5), ("9", 1.5), ("0", 0.0)]
    {
        harness.get_by_label("λ of medical as a number").click();
        harness.run();
        harness.types(text);
        harness.key(Key::Enter);
        assert_eq!(harness.knob("medical"), value, "{text}");
    }
}

#[test]
fn typed_nonsense_leaves_the_number_as_it_was() {
    let mut window = Window::ready();
    window.set_knob(MEDICAL, 0.7);
    let mut harness = harness(window);
    for text in ["seven", "nan", "inf", "--1"] {
        harness.get_by_label("λ of medical as a number").click();
        harness.run();
        harness.types(text);
        harness.key(Key::Enter);
        assert_eq!(harness.knob("medical"), 0.7, "{text}");
    }
}

#[test]
fn bypassed_knob_says_so_and_can_be_taken_in_again() {
    let mut window = Window::ready();
    window.set_knob(MEDICAL, 0.7);
    let mut harness = harness(window);
    harness.press("Leave medical out for now");
    assert_eq!(harness.knob("medical"), 0.7, "λ is kept");
    harness.press("Take medical in again");
    assert!(harness.shows("Leave medical out for now"));
}

#[test]
fn menu_of_a_knob_resets_moves_and_removes_it() {
    let mut window = Window::ready();
    window.set_knob(MEDICAL, 0.7);
    let mut harness = harness(window);
    harness.press("More for medical");
    harness.press("Set to 0");
    assert_eq!(harness.knob("medical"), 0.0);
    harness.press("More for medical");
    harness.press("Move down");
    let top = |harness: &Harness<'_, Window>, name: &str| rail(harness, name).top();
    assert!(top(&harness, "medical") > top(&harness, "financial"));
    harness.press("More for medical");
    harness.press("Move up");
    assert!(top(&harness, "medical") < top(&harness, "financial"));
    harness.press("More for medical");
    harness.press("Remove");
    assert!(!harness.shows("λ of medical"));
    assert!(harness.shows("λ of financial"));
}

#[test]
fn alt_and_an_arrow_key_move_a_knob() {
    let mut harness = harness(Window::ready());
    harness.get_by_label("λ of medical").focus();
    harness.run();
    harness.keys(Modifiers::ALT, Key::ArrowDown);
    assert!(rail(&harness, "medical").top() > rail(&harness, "financial").top());
    assert_eq!(harness.knob("medical"), 0.0, "it is moved, not turned");
}

#[test]
fn vector_that_does_not_fit_says_why_and_can_be_tried_again_or_removed() {
    let mut window = Window::ready();
    window.set_knob(MEDICAL, 0.5);
    let (job, _) = window.take_prepares()[0];
    window.fail(job, about("medical", "The vector has 30 layers, the model 12"));
    window.answer_all();
    let mut harness = harness(window);
    assert!(harness.shows("Take another file"), "the hint");
    harness.press("Try again");
    let (job, setup) = harness.state_mut().take_prepares()[0].clone();
    assert_eq!(setup.vectors.len(), 2);
    harness.state_mut().fail(job, about("medical", "The vector has 30 layers, the model 12"));
    harness.run();
    assert!(harness.shows("The vector has 30 layers, the model 12"));
    harness.press("Remove");
    assert!(!harness.shows("λ of medical"));
    assert!(!harness.mentions("30 layers"));
}

#[test]
fn vector_of_another_base_carries_a_warning() {
    let mut window = Window::ready();
    window.set_knob(MEDICAL, 0.5);
    let (job, setup) = window.take_prepares()[0].clone();
    let mut loaded = loaded(&setup);
    loaded.vectors[0].base_matches = Some(false);
    window.fact(job, meav_protocol::Fact::Ready(Box::new(loaded)));
    window.finish(job, Outcome::Done);
    let mut harness = harness(window);
    harness.run();
    assert!(harness.mentions("Made from other weights"));
}

#[test]
fn panel_says_whether_the_weights_are_where_the_knobs_are() {
    let mut harness = harness(Window::ready());
    assert!(harness.shows("as set"));
    harness.state_mut().set_knob(MEDICAL, 0.5);
    harness.run();
    assert!(harness.shows("following…"));
    let (job, setup) = harness.state_mut().take_prepares()[0].clone();
    harness.state_mut().answer(job, &JobSpec::Prepare(setup));
    harness.run();
    assert!(harness.shows("as set"));
    let (job, turn) = harness.state_mut().ask("One?");
    harness.state_mut().set_knob(MEDICAL, -0.5);
    harness.run();
    assert!(harness.shows("follow after the answer"));
    harness.state_mut().answer(job, &JobSpec::Chat(turn));
    harness.state_mut().answer_all();
    harness.run();
    assert!(harness.shows("as set"));
}

#[test]
fn what_the_weights_could_not_follow_is_said_and_can_be_tried_again() {
    let mut window = Window::ready();
    window.set_knob(MEDICAL, 0.5);
    let (job, _) = window.take_prepares()[0];
    window.fail(job, UserError::new("The device is out of memory", "Close other programs"));
    let mut harness = harness(window);
    assert!(harness.shows("not as set"));
    assert!(harness.shows("The device is out of memory"));
    harness.press("Try again");
    assert_eq!(harness.state_mut().take_prepares().len(), 1);
    harness.run();
    assert!(!harness.shows("The device is out of memory"));
}

#[test]
fn load_that_was_cancelled_can_be_begun_again() {
    let mut window = Window::new();
    let (job, _) = window.take_prepares()[0];
    window.finish(job, Outcome::Cancelled);
    let mut harness = harness(window);
    assert!(harness.shows("No model is loaded"));
    harness.get_by_label("Try again").click();
    harness.run();
    assert_eq!(harness.state_mut().take_prepares().len(), 1);
}

#[test]
fn sides_are_flipped_and_copied() {
    let mut harness = harness(Window::ready());
    harness.state_mut().set_knob(MEDICAL, 0.7);
    harness.press("Side B");
    assert_eq!(harness.knob("medical"), 0.0);
    harness.press("Side A");
    assert_eq!(harness.knob("medical"), 0.7);
    harness.press("Make B the same as A");
    harness.press("Side B");
    assert_eq!(harness.knob("medical"), 0.7);
    assert!(harness.shows("Make A the same as B"));
}

#[test]
fn base_sets_all_knobs_to_zero() {
    let mut window = Window::ready();
    window.set_knob(MEDICAL, 0.7);
    window.set_knob(FINANCIAL, -0.2);
    let mut harness = harness(window);
    harness.press("Base");
    assert_eq!((harness.knob("medical"), harness.knob("financial")), (0.0, 0.0));
}

#[test]
fn preset_is_applied_and_deleted_in_its_menu() {
    let mut window = Window::ready();
    window.set_knob(MEDICAL, 0.7);
    window.command(UiCommand::SavePreset);
    let mut harness = harness(window);
    harness.types("Careful");
    harness.key(Key::Enter);
    harness.press("Base");
    harness.press("Presets");
    harness.press("Careful");
    assert_eq!(harness.knob("medical"), 0.7);
    harness.press("Presets");
    harness.press("Delete preset Careful");
    assert!(harness.state_mut().settings().presets.is_empty());
}

#[test]
fn panel_without_knobs_says_what_a_knob_is_for() {
    let mut window = Window::ready();
    for knob in [MEDICAL, FINANCIAL] {
        window.update(meav_ui::Action::Knob(knob, meav_ui::KnobAction::Remove));
    }
    window.answer_all();
    let mut harness = harness(window);
    harness.run();
    assert!(harness.mentions("A knob moves the model along one alignment vector"));
    harness.get_all_by_label("Add vector…").last().expect("a button adds one").click();
    harness.run();
    assert!(harness.shows("Add vector"), "the dialog is open");
}
