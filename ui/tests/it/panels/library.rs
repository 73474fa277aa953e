use egui::Key;
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable as _;
use meav_protocol::UserError;
use meav_ui::UiCommand;

use crate::hands::{Hands as _, harness};
use crate::support::Window;

/// With two chats in the list, the second one open.
fn two_chats() -> Harness<'static, Window> {
    let mut window = Window::ready();
    window.ask_and_answer("About apples?");
    window.command(UiCommand::NewChat);
    window.ask_and_answer("About pears?");
    let mut harness = harness(window);
    harness.run();
    harness
}

fn titles(harness: &Harness<'_, Window>) -> Vec<String> {
    let mut titles: Vec<_> = ["About apples?", "About pears?", "Fruit"]
        .iter()
        .filter_map(|title| {
            let role = egui::accesskit::Role::Button;
            let mut nodes = harness.query_all_by_role_and_label(role, title);
            nodes.next().map(|node| (node.rect().top(), (*title).to_owned()))
        })
        .collect();
    titles.sort_by(|one, other| one.0.total_cmp(&other.0));
    titles.into_iter().map(|(_, title)| title).collect()
}

#[test]
fn chats_are_listed_with_the_last_one_spoken_in_first() {
    assert_eq!(titles(&two_chats()), ["About pears?", "About apples?"]);
}

#[test]
fn chat_is_opened_by_its_title() {
    let mut harness = two_chats();
    harness.press("About apples?");
    harness.state_mut().answer_all();
    harness.run();
    assert!(harness.shows("Answer to About apples?"));
    assert!(!harness.shows("Answer to About pears?"));
}

#[test]
fn list_without_chats_says_where_they_will_be_kept() {
    let mut harness = harness(Window::ready());
    harness.run();
    assert!(harness.mentions("kept here, on this machine only"));
}

#[test]
fn chat_is_renamed_in_place_with_enter() {
    let mut harness = two_chats();
    harness.press("More for About apples?");
    harness.press("Rename…");
    assert_eq!(harness.focused().as_deref(), Some("Title"));
    harness.keys(egui::Modifiers::COMMAND, Key::A);
    harness.types("Fruit");
    harness.key(Key::Enter);
    harness.state_mut().answer_all();
    harness.run();
    assert_eq!(titles(&harness), ["About pears?", "Fruit"]);
}

#[test]
fn rename_is_given_up_with_escape() {
    let mut harness = two_chats();
    harness.press("More for About apples?");
    harness.press("Rename…");
    harness.types("Fruit");
    harness.key(Key::Escape);
    harness.state_mut().answer_all();
    harness.run();
    assert_eq!(titles(&harness), ["About pears?", "About apples?"]);
    harness.press("More for About apples?");
    harness.press("Rename…");
    assert_eq!(harness.focused().as_deref(), Some("Title"), "a second time too");
}

#[test]
fn rename_is_kept_when_one_goes_elsewhere() {
    let mut harness = two_chats();
    harness.press("More for About apples?");
    harness.press("Rename…");
    harness.keys(egui::Modifiers::COMMAND, Key::A);
    harness.types("Fruit");
    harness.get_by(|node| node.data().placeholder() == Some("Message")).click();
    harness.run();
    harness.state_mut().answer_all();
    harness.run();
    assert_eq!(titles(&harness), ["About pears?", "Fruit"]);
}

#[test]
fn chat_is_deleted_and_brought_back() {
    let mut harness = two_chats();
    harness.press("More for About pears?");
    harness.press("Delete");
    harness.state_mut().answer_all();
    harness.run();
    assert_eq!(titles(&harness), ["About apples?"]);
    assert!(!harness.shows("Answer to About pears?"), "it is not shown any more");
    assert!(harness.mentions("Deleted “About pears?”"));
    harness.press("Undo");
    harness.state_mut().answer_all();
    harness.run();
    assert_eq!(titles(&harness), ["About pears?", "About apples?"]);
    assert!(harness.shows("Answer to About pears?"));
}

#[test]
fn keys_rename_and_delete_the_chat_that_has_the_keyboard() {
    let mut harness = two_chats();
    harness.get_by_role_and_label(egui::accesskit::Role::Button, "About apples?").focus();
    harness.run();
    harness.key(Key::F2);
    assert_eq!(harness.focused().as_deref(), Some("Title"));
    harness.key(Key::Escape);
    harness.get_by_role_and_label(egui::accesskit::Role::Button, "About apples?").focus();
    harness.run();
    harness.key(Key::Delete);
    harness.state_mut().answer_all();
    harness.run();
    assert_eq!(titles(&harness), ["About pears?"]);
}

#[test]
fn search_finds_words_and_leads_to_their_message() {
    let mut harness = two_chats();
    harness.keys(egui::Modifiers::COMMAND, Key::F);
    assert_eq!(harness.focused().as_deref(), Some("Search chats"));
    harness.types("to About apples");
    harness.state_mut().answer_all();
    harness.run();
    let hit = "Answer to About apples?";
    harness.get_by_label(hit).click();
    harness.run();
    harness.state_mut().answer_all();
    harness.run();
    let is_shown = |node: &egui_kittest::Node<'_>| node.rect().left() > 480.0;
    assert!(harness.query_all_by_label(hit).any(|node| is_shown(&node)), "the chat is shown");
}

#[test]
fn search_that_finds_nothing_says_so_and_escape_brings_the_list_back() {
    let mut harness = two_chats();
    harness.keys(egui::Modifiers::COMMAND, Key::F);
    harness.types("bananas");
    harness.state_mut().answer_all();
    harness.run();
    assert!(harness.shows("No chat has “bananas”"));
    assert_eq!(titles(&harness), [] as [&str; 0]);
    harness.key(Key::Escape);
    assert_eq!(titles(&harness), ["About pears?", "About apples?"]);
}

#[test]
fn hits_of_a_search_that_was_called_off_are_not_shown() {
    let mut harness = two_chats();
    harness.keys(egui::Modifiers::COMMAND, Key::F);
    harness.types("apples");
    let mut jobs = harness.state_mut().take_jobs();
    let (job, spec) = jobs.pop().expect("it is searched");
    harness.key(Key::Escape);
    harness.state_mut().answer(job, &spec);
    harness.run();
    assert_eq!(titles(&harness), ["About pears?", "About apples?"]);
}

#[test]
fn workspace_that_cannot_be_read_says_why() {
    let mut window = Window::new();
    let is_list = |spec: &meav_protocol::JobSpec| *spec == meav_protocol::JobSpec::ListChats;
    let (job, _) = window.take_job(is_list);
    window.fail(job, UserError::new("The workspace is of a newer version", "Update the app"));
    let mut harness = harness(window);
    harness.run();
    assert!(harness.shows("The workspace is of a newer version"));
}
