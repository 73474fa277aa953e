use egui::MouseWheelUnit;
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT as _, Queryable as _};
use meav_protocol::JobId;
use meav_ui::{Action, LibraryAction};

use crate::hands::{Hands as _, harness, wheel};
use crate::support::Window;
use crate::values::long_chat;

/// Turns the wheel over the messages.
fn scroll(harness: &mut Harness<'_, Window>, points: f32) {
    harness.hover_at(egui::pos2(740.0, 400.0));
    harness.event(wheel(MouseWheelUnit::Point, points, egui::Modifiers::NONE));
    harness.run_steps(20);
    harness.run();
}

/// The first text in sight, and its place.
fn first_in_sight(harness: &Harness<'_, Window>) -> (String, f32) {
    let mut texts: Vec<_> = harness
        .query_all_by_label_contains("Question ")
        .filter(|node| node.rect().left() > 480.0 && node.rect().top() > 120.0)
        .map(|node| (node.value().unwrap_or_default(), node.rect().top()))
        .collect();
    texts.sort_by(|one, other| one.1.total_cmp(&other.1));
    texts.swap_remove(0)
}

fn place_of(harness: &Harness<'_, Window>, text: &str) -> Option<f32> {
    let mut nodes = harness.query_all_by_label(text).filter(|node| node.rect().left() > 480.0);
    nodes.next().map(|node| node.rect().top())
}

/// A chat of many messages, and a question at its end that is being answered.
fn talk() -> (Harness<'static, Window>, JobId) {
    let mut window = Window::ready();
    window.show(long_chat(30));
    let mut harness = harness(window);
    harness.run();
    let (job, _) = harness.state_mut().ask("The last question?");
    harness.state_mut().say(job, "It begins. ");
    harness.run();
    harness.run();
    (harness, job)
}

#[test]
fn long_chat_opens_at_its_end() {
    let mut window = Window::ready();
    window.show(long_chat(250));
    let mut harness = harness(window);
    harness.run();
    harness.run();
    assert!(harness.mentions("Answer 249."));
    assert!(!harness.shows("To the end of the chat"));
}

#[test]
fn chat_whose_answer_is_on_its_way_opens_at_its_end() {
    let mut window = Window::ready();
    window.show(long_chat(30));
    let (job, _) = window.ask("The last question?");
    window.say(job, &"It begins, and goes on for a while.\n\n".repeat(40));
    let mut harness = harness(window);
    harness.run();
    harness.run();
    assert!(!harness.shows("To the end of the chat"));
}

#[test]
fn keys_turn_the_pages_of_a_chat_while_the_keyboard_is_in_the_message_field() {
    let mut window = Window::ready();
    window.show(long_chat(250));
    let mut harness = harness(window);
    harness.run();
    harness.key(egui::Key::PageUp);
    harness.run();
    assert!(harness.shows("To the end of the chat"));
    assert!(!harness.mentions("Answer 249."));
    harness.keys(egui::Modifiers::COMMAND, egui::Key::Home);
    harness.run();
    assert!(harness.mentions("Answer 0."));
    harness.keys(egui::Modifiers::COMMAND, egui::Key::End);
    harness.run();
    assert!(harness.mentions("Answer 249."));
}

#[test]
fn only_what_is_in_sight_is_laid_out() {
    let mut window = Window::ready();
    window.show(long_chat(250));
    let mut harness = harness(window);
    harness.run();
    for _ in 0..5 {
        let nodes = harness.query_all_by_label("You").count();
        assert!((1..20).contains(&nodes), "{nodes} of 250 questions are laid out");
        scroll(&mut harness, 2000.0);
    }
    assert!(harness.root().children_recursive().count() < 400);
}

#[test]
fn streaming_text_is_followed_at_the_end() {
    let (mut harness, job) = talk();
    for index in 0..40 {
        harness.state_mut().say(job, &format!("Line {index}.\n\n"));
        harness.run();
    }
    harness.run();
    let place = place_of(&harness, "Line 39.").expect("the newest line is laid out");
    assert!(place < 720.0, "it is at {place}");
    assert!(!harness.shows("To the end of the chat"));
}

#[test]
fn streaming_text_does_not_move_what_is_read_further_up() {
    let (mut harness, job) = talk();
    scroll(&mut harness, 900.0);
    let (text, before) = first_in_sight(&harness);
    for index in 0..40 {
        harness.state_mut().say(job, &format!("Line {index}.\n\n"));
        harness.run();
    }
    let after = place_of(&harness, &text).expect("it is still in sight");
    assert!((after - before).abs() < 1.0, "{text} moved from {before} to {after}");
    harness.press("To the end of the chat");
    harness.run();
    assert!(place_of(&harness, "Line 39.").is_some());
}

#[test]
fn end_of_an_answer_does_not_move_what_is_read_further_up() {
    let (mut harness, job) = talk();
    harness.state_mut().say(job, &"Much is said here. ".repeat(200));
    harness.run();
    scroll(&mut harness, 1500.0);
    let (text, before) = first_in_sight(&harness);
    harness.state_mut().finish(job, meav_protocol::Outcome::Done);
    harness.state_mut().answer_all();
    harness.run();
    let after = place_of(&harness, &text).expect("it is still in sight");
    assert!((after - before).abs() < 1.0, "{text} moved from {before} to {after}");
}

#[test]
fn scrolling_back_moves_by_what_the_wheel_says_whatever_was_guessed() {
    let mut window = Window::ready();
    window.show(long_chat(60));
    let mut harness = harness(window);
    harness.run();
    for _ in 0..12 {
        let (text, before) = first_in_sight(&harness);
        scroll(&mut harness, 100.0);
        let after = place_of(&harness, &text).expect("it is still in sight");
        assert!((after - before - 100.0).abs() < 2.0, "{text}: {before} to {after}");
    }
}

#[test]
fn own_question_is_brought_into_sight_wherever_one_reads() {
    let mut window = Window::ready();
    window.show(long_chat(30));
    let mut harness = harness(window);
    harness.run();
    scroll(&mut harness, 900.0);
    harness.state_mut().ask("And now?");
    harness.run();
    harness.run();
    assert!(place_of(&harness, "And now?").is_some_and(|top| top < 720.0));
}

#[test]
fn hit_of_a_search_is_brought_into_sight() {
    let mut window = Window::ready();
    let chat = long_chat(100);
    let message = Some(chat.messages[60].id);
    let id = chat.id;
    window.workspace.push(chat);
    window.update(Action::Library(LibraryAction::Reveal { chat: id, message }));
    window.answer_all();
    let mut harness = harness(window);
    harness.run();
    harness.run();
    let place = place_of(&harness, "Question 30?").expect("it is in sight");
    assert!((100.0..700.0).contains(&place), "it is at {place}");
    let node = harness.get_all_by_label("Question 30?").next().expect("it is there");
    assert!(!node.accesskit_node().is_hidden());
}
