use egui::{Key, Modifiers};
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT as _, Queryable as _};
use meav_protocol::{
    Fact, FinishReason, JobSpec, MessageState, Outcome, Remedy, Role, Stage, UserError,
};
use meav_ui::{Effect, SamplingSettings, SendKey, Settings};

use crate::hands::{Hands as _, harness};
use crate::support::{MEDICAL, Window, settings};
use crate::values::{about, hello, ready, reply};

fn draft(harness: &Harness<'_, Window>) -> String {
    let is_draft = |node: &egui_kittest::kittest::AccessKitNode<'_>| {
        node.data().placeholder() == Some("Message")
    };
    harness.get_by(is_draft).value().unwrap_or_default()
}

fn is_disabled(harness: &Harness<'_, Window>, label: &str) -> bool {
    harness.get_by_label(label).accesskit_node().is_disabled()
}

#[test]
fn message_is_typed_sent_with_enter_and_answered_in_view() {
    let mut harness = harness(Window::ready());
    assert_eq!(harness.focused().as_deref(), Some("Message"));
    harness.types("What is up?");
    assert_eq!(draft(&harness), "What is up?");
    harness.key(Key::Enter);
    assert_eq!(draft(&harness), "");
    let (job, turn) = harness.state_mut().take_turn();
    harness.state_mut().fact(job, ready(&turn.setup));
    harness.run();
    assert!(harness.shows("Reading…"));
    harness.state_mut().say(job, "The **sky");
    harness.run();
    assert!(harness.mentions("sky"));
    assert!(harness.mentions("Answering · 5 tokens"));
    harness.state_mut().say(job, "** is.");
    let mut end = reply(&turn.setup, "The **sky** is.");
    end.figures.tokens = 5;
    harness.state_mut().fact(job, Fact::Reply(end));
    harness.state_mut().finish(job, Outcome::Done);
    harness.run();
    assert!(harness.mentions("5 tokens · 160 tok/s · first token 60 ms · seed "));
    assert!(!harness.mentions("**"), "Markdown is laid out");
}

#[test]
fn words_and_enter_in_one_frame_are_sent_together() {
    let mut harness = harness(Window::ready());
    harness.run();
    harness.event(egui::Event::Text("What is a bond?".to_owned()));
    harness.key_press(Key::Enter);
    harness.run();
    assert!(harness.shows("What is a bond?"));
    assert_eq!(draft(&harness), "");
}

#[test]
fn shift_and_enter_begin_a_line() {
    let mut harness = harness(Window::ready());
    harness.types("one");
    harness.keys(Modifiers::SHIFT, Key::Enter);
    harness.types("two");
    assert_eq!(draft(&harness), "one\ntwo");
    harness.press("Send");
    assert_eq!(harness.state_mut().take_turn().1.messages[0].content, "one\ntwo");
}

#[test]
fn ctrl_and_enter_send_where_that_is_wanted() {
    let settings = Settings { send_key: SendKey::CtrlEnter, ..settings() };
    let mut harness = harness(Window::ready_with(settings));
    harness.types("one");
    harness.key(Key::Enter);
    harness.types("two");
    assert_eq!(draft(&harness), "one\ntwo");
    harness.keys(Modifiers::COMMAND, Key::Enter);
    assert_eq!(harness.state_mut().take_turn().1.messages[0].content, "one\ntwo");
}

#[test]
fn only_words_can_be_sent() {
    let mut harness = harness(Window::ready());
    assert!(is_disabled(&harness, "Send"));
    harness.types("  ");
    assert!(is_disabled(&harness, "Send"));
    harness.types("word");
    assert!(!is_disabled(&harness, "Send"));
}

#[test]
fn answer_is_stopped_by_its_button_and_stays_with_a_mark() {
    let mut window = Window::ready();
    let (job, turn) = window.ask("One?");
    window.fact(job, ready(&turn.setup));
    window.say(job, "As far");
    let mut harness = harness(window);
    assert!(!harness.shows("Regenerate the answer"), "it is not there yet");
    harness.press("Stop the answer");
    assert_eq!(harness.state().cancelled(), [job]);
    let mut end = reply(&turn.setup, "As far as");
    end.finish = FinishReason::Cancelled;
    harness.state_mut().fact(job, Fact::Reply(end));
    harness.state_mut().finish(job, Outcome::Cancelled);
    harness.run();
    assert!(harness.shows("As far as"));
    assert!(harness.shows("Stopped"));
}

#[test]
fn answer_of_an_engine_that_died_is_marked_and_can_be_asked_for_again() {
    let mut window = Window::ready();
    let (job, _) = window.ask("One?");
    window.say(job, "As far");
    window.fail(job, UserError::new("The engine stopped", "Ask again"));
    window.take_jobs();
    let mut harness = harness(window);
    harness.run();
    assert!(harness.shows("As far"));
    assert!(harness.mentions("Cut off"));
    assert!(harness.shows("The engine stopped"));
    harness.get_by_role_and_label(egui::accesskit::Role::Button, "Ask again").click();
    harness.run();
    assert_eq!(harness.state_mut().take_turn().1.messages.len(), 1);
    assert!(!harness.shows("The engine stopped"));
}

#[test]
fn answer_without_a_word_says_so() {
    let mut window = Window::ready();
    let (job, turn) = window.ask("One?");
    window.fact(job, Fact::Reply(reply(&turn.setup, "")));
    window.finish(job, Outcome::Done);
    let mut harness = harness(window);
    harness.run();
    assert!(harness.shows("The model answered without a word"));
    assert!(harness.shows("Ask again"));
}

#[test]
fn question_whose_answer_was_stopped_at_once_can_be_asked_again() {
    let mut window = Window::ready();
    let (job, _) = window.ask("One?");
    window.finish(job, Outcome::Cancelled);
    window.answer_all();
    let mut harness = harness(window);
    harness.press("Ask again");
    harness.state_mut().take_turn();
}

#[test]
fn regenerated_answer_stands_beside_the_older_one_and_both_can_be_shown() {
    let mut window = Window::ready();
    window.ask_and_answer("One?");
    let mut harness = harness(window);
    harness.press("Regenerate the answer");
    let (job, turn) = harness.state_mut().take_turn();
    assert!(is_disabled(&harness, "Edit the question"), "one thing at a time");
    harness.state_mut().fact(job, Fact::Reply(reply(&turn.setup, "Another one")));
    harness.state_mut().finish(job, Outcome::Done);
    harness.run();
    assert!(harness.shows("Another one"));
    assert!(harness.shows("2/2"));
    assert!(is_disabled(&harness, "The version after"));
    harness.press("The version before");
    assert!(harness.shows("Answer to One?"));
    assert!(harness.shows("1/2"));
    harness.press("The version after");
    assert!(harness.shows("Another one"));
}

#[test]
fn question_is_edited_in_place_as_a_branch() {
    let mut window = Window::ready();
    window.ask_and_answer("One?");
    let mut harness = harness(window);
    harness.press("Edit the question");
    assert_eq!(harness.focused().as_deref(), Some("The question"));
    harness.keys(Modifiers::COMMAND, Key::A);
    harness.types("Uno?");
    harness.press("Ask this instead");
    assert_eq!(harness.state_mut().take_turn().1.messages[0].content, "Uno?");
    harness.run();
    assert!(harness.shows("2/2"));
    harness.press("The version before");
    assert!(harness.shows("Answer to One?"));
}

#[test]
fn edit_is_given_up_with_escape_or_its_button() {
    let mut window = Window::ready();
    window.ask_and_answer("One?");
    let mut harness = harness(window);
    harness.press("Edit the question");
    harness.types("Uno?");
    harness.key(Key::Escape);
    assert!(!harness.shows("Ask this instead"));
    harness.press("Edit the question");
    harness.press("Cancel");
    assert!(!harness.shows("Ask this instead"));
    assert!(harness.shows("Answer to One?"));
}

#[test]
fn stamp_of_an_answer_sets_the_knobs() {
    let mut window = Window::ready();
    window.set_knob(MEDICAL, 0.7);
    window.answer_all();
    window.ask_and_answer("One?");
    window.set_knob(MEDICAL, -1.0);
    window.answer_all();
    let mut harness = harness(window);
    harness.run();
    let chip = "Set the knobs to #";
    harness.get_by_label_contains(chip).click();
    harness.run();
    assert_eq!(harness.knob("medical"), 0.7);
}

#[test]
fn texts_can_be_copied() {
    let mut window = Window::ready();
    window.ask_and_answer("One?");
    let mut harness = harness(window);
    harness.press("Copy the question");
    harness.press("Copy the answer");
    let copied: Vec<_> =
        harness.state().effects.iter().filter(|it| matches!(it, Effect::Copy(_))).collect();
    let wanted = ["One?", "Answer to One?"].map(|text| Effect::Copy(text.to_owned()));
    assert_eq!(copied, wanted.iter().collect::<Vec<_>>());
}

#[test]
fn empty_chat_suggests_questions() {
    let mut harness = harness(Window::ready());
    let suggestion = "What could cause chest pain after exercise?";
    harness.press(suggestion);
    assert_eq!(draft(&harness), suggestion, "to be changed before it is sent");
    assert_eq!(harness.focused().as_deref(), Some("Message"));
}

#[test]
fn first_run_offers_the_demo_model_and_shows_how_it_comes() {
    let mut window = Window::new();
    window.apply(hello());
    let (job, _) = window.take_prepares()[0];
    let missing = UserError {
        remedy: Some(Remedy::FetchDemo),
        ..about("demo", "The demo model is not on this machine yet")
    };
    window.fail(job, missing);
    window.answer_all();
    let mut harness = harness(window);
    harness.run();
    let offer = |harness: &Harness<'_, Window>| {
        let mut nodes = harness.query_all_by_label_contains("Get the demo model");
        nodes.next().map(|node| node.click())
    };
    offer(&harness).expect("the demo is offered");
    harness.run();
    let (job, _) = harness.state_mut().take_job(|spec| *spec == JobSpec::FetchDemo);
    harness.state_mut().apply(meav_protocol::Event::Progress {
        job_id: job,
        stage: Stage::Downloading,
        done: 25,
        total: 100,
    });
    harness.run();
    assert!(harness.mentions("Fetching the demo model"));
    harness.state_mut().finish(job, Outcome::Done);
    harness.state_mut().answer_all();
    harness.run();
    assert!(harness.shows("What is the capital of France?"), "now it can be asked");
}

#[test]
fn missing_demo_is_offered_beside_an_older_chat_too() {
    let mut window = Window::new();
    window.apply(hello());
    let (job, _) = window.take_prepares()[0];
    let missing = UserError {
        remedy: Some(Remedy::FetchDemo),
        ..about("demo", "The demo model is not on this machine yet")
    };
    window.fail(job, missing);
    window.show(crate::values::long_chat(1));
    let mut harness = harness(window);
    harness.run();
    harness.get_by_label_contains("Get the demo model").click();
    harness.run();
    harness.state_mut().take_job(|spec| *spec == JobSpec::FetchDemo);
}

#[test]
fn chat_says_when_the_answer_is_on_its_way_elsewhere() {
    let mut window = Window::ready();
    let (job, _) = window.ask("One?");
    window.say(job, "On");
    let mut harness = harness(window);
    harness.press("New chat");
    assert!(harness.mentions("Answering in another chat"));
    harness.press("Stop the answer");
    assert_eq!(harness.state().cancelled(), [job]);
}

#[test]
fn answer_that_fails_in_another_chat_is_not_lost_silently() {
    let mut window = Window::ready();
    let (job, _) = window.ask("One?");
    let mut harness = harness(window);
    harness.press("New chat");
    harness.state_mut().fail(job, UserError::new("The prompt is too long", "Begin a new chat"));
    harness.run();
    assert!(harness.shows("The prompt is too long"));
}

#[test]
fn system_prompt_and_sampling_are_set_in_their_popup() {
    let mut harness = harness(Window::ready());
    harness.press("System prompt and sampling");
    let field = |node: &egui_kittest::kittest::AccessKitNode<'_>| {
        node.data().placeholder().is_some_and(|it| it.starts_with("Standing instructions"))
    };
    harness.get_by(field).focus();
    harness.run();
    harness.types("Be brief.");
    harness.get_by_label("Top-k").click();
    harness.run();
    harness.types("7");
    harness.key(Key::Enter);
    harness.get_by_label("Fixed seed").click();
    harness.run();
    let (_, turn) = harness.state_mut().ask("One?");
    assert_eq!(turn.system, "Be brief.");
    assert_eq!((turn.sampling.top_k, turn.sampling.seed), (7, 1));
    harness.run();
    harness.press("Defaults");
    assert_eq!(harness.state_mut().settings().sampling, SamplingSettings::default());
}

#[test]
fn sampling_field_takes_no_nonsense() {
    let mut harness = harness(Window::ready());
    harness.press("System prompt and sampling");
    harness.get_by_label("Temperature").click();
    harness.run();
    harness.types("nan");
    harness.key(Key::Enter);
    assert_eq!(harness.state_mut().settings().sampling, SamplingSettings::default());
}

#[test]
fn answer_of_an_older_run_that_was_cut_off_is_marked() {
    let mut window = Window::ready();
    let mut chat = crate::values::long_chat(1);
    chat.messages[1].state = MessageState::Partial;
    assert_eq!(chat.messages[1].role, Role::Assistant);
    window.show(chat);
    let mut harness = harness(window);
    harness.run();
    assert!(harness.mentions("Cut off"));
}
