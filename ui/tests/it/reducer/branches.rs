use meav_protocol::{ChatTurn, JobId, JobSpec, Outcome};
use meav_ui::{ChatAction, UiCommand};
use uuid::Uuid;

use crate::support::Window;

fn texts(turn: &ChatTurn) -> Vec<&str> {
    turn.messages.iter().map(|message| message.content.as_str()).collect()
}

/// Ends an answer with this text.
fn end(window: &mut Window, job: JobId, text: &str) {
    window.say(job, text);
    window.finish(job, Outcome::Done);
    window.take_jobs();
}

/// The branch that the next question would follow.
fn branch(window: &mut Window) -> Vec<String> {
    let (job, turn) = window.ask("and then?");
    window.fail(job, meav_protocol::UserError::new("Never mind", ""));
    window.take_jobs();
    let (last, before) = turn.messages.split_last().expect("there is the question");
    window.chat(ChatAction::ShowBranch(last.parent.unwrap_or(last.id)));
    window.take_jobs();
    before.iter().map(|message| message.content.clone()).collect()
}

fn question(turn: &ChatTurn) -> Uuid {
    turn.messages.last().expect("there is a question").id
}

#[test]
fn regenerated_answer_stands_beside_the_one_before() {
    let mut window = Window::ready();
    let (job, first) = window.ask("One?");
    end(&mut window, job, "first");
    window.command(UiCommand::Regenerate);
    let (job, second) = window.take_turn();
    assert_eq!(second.messages, first.messages, "the question is the same");
    end(&mut window, job, "second");
    let (job, third) = window.ask("Two?");
    assert_eq!(texts(&third), ["One?", "second", "Two?"]);
    end(&mut window, job, "two");
    window.chat(ChatAction::ShowBranch(first.keep.expect("kept").reply));
    let (_, fourth) = window.ask("Three?");
    assert_eq!(texts(&fourth), ["One?", "first", "Three?"]);
}

#[test]
fn regenerating_asks_for_the_last_question_only() {
    let mut window = Window::ready();
    window.command(UiCommand::Regenerate);
    assert_eq!(window.take_jobs(), [], "there is none");
    window.ask_and_answer("One?");
    window.ask_and_answer("Two?");
    window.command(UiCommand::Regenerate);
    assert_eq!(texts(&window.take_turn().1), ["One?", "Answer to One?", "Two?"]);
}

#[test]
fn edited_question_is_a_branch_beside_the_older_one() {
    let mut window = Window::ready();
    window.ask_and_answer("One?");
    let older = window.ask_and_answer("Two?");
    window.command(UiCommand::EditLast);
    window.chat(ChatAction::SetEdit(" Two, please? ".to_owned()));
    window.chat(ChatAction::SubmitEdit);
    let (job, newer) = window.take_turn();
    assert_eq!(texts(&newer), ["One?", "Answer to One?", "Two, please?"]);
    end(&mut window, job, "Pleased");
    assert_eq!(branch(&mut window), ["One?", "Answer to One?", "Two, please?", "Pleased"]);
    window.chat(ChatAction::ShowBranch(question(&older)));
    assert_eq!(branch(&mut window), ["One?", "Answer to One?", "Two?", "Answer to Two?"]);
}

#[test]
fn edited_first_question_begins_the_chat_anew_in_a_branch() {
    let mut window = Window::ready();
    let first = window.ask_and_answer("One?");
    window.ask_and_answer("Two?");
    window.chat(ChatAction::BeginEdit(question(&first)));
    window.chat(ChatAction::SetEdit("Uno?".to_owned()));
    window.chat(ChatAction::SubmitEdit);
    assert_eq!(texts(&window.take_turn().1), ["Uno?"]);
}

#[test]
fn edit_without_words_is_not_sent_and_goes_on() {
    let mut window = Window::ready();
    window.ask_and_answer("One?");
    window.command(UiCommand::EditLast);
    window.chat(ChatAction::SetEdit("  ".to_owned()));
    window.chat(ChatAction::SubmitEdit);
    assert_eq!(window.take_jobs(), []);
    window.chat(ChatAction::SetEdit("Two?".to_owned()));
    window.chat(ChatAction::SubmitEdit);
    assert_eq!(texts(&window.take_turn().1), ["Two?"]);
}

#[test]
fn edit_that_is_given_up_changes_nothing() {
    let mut window = Window::ready();
    window.ask_and_answer("One?");
    window.command(UiCommand::EditLast);
    window.chat(ChatAction::SetEdit("Two?".to_owned()));
    window.chat(ChatAction::CancelEdit);
    window.chat(ChatAction::SubmitEdit);
    assert_eq!(window.take_jobs(), []);
    assert_eq!(branch(&mut window), ["One?", "Answer to One?"]);
}

#[test]
fn edit_during_an_answer_waits_for_its_end() {
    let mut window = Window::ready();
    let (job, _) = window.ask("One?");
    window.command(UiCommand::EditLast);
    window.chat(ChatAction::SetEdit("Two?".to_owned()));
    window.chat(ChatAction::SubmitEdit);
    assert_eq!(window.take_jobs(), []);
    end(&mut window, job, "One.");
    window.chat(ChatAction::SubmitEdit);
    assert_eq!(texts(&window.take_turn().1), ["Two?"]);
}

#[test]
fn branch_is_shown_to_its_newest_end() {
    let mut window = Window::ready();
    let (job, first) = window.ask("One?");
    end(&mut window, job, "first");
    window.command(UiCommand::Regenerate);
    let (job, _) = window.take_turn();
    end(&mut window, job, "second");
    window.command(UiCommand::EditLast);
    window.chat(ChatAction::SetEdit("Uno?".to_owned()));
    window.chat(ChatAction::SubmitEdit);
    let (job, _) = window.take_turn();
    end(&mut window, job, "Primo");
    window.chat(ChatAction::ShowBranch(question(&first)));
    assert_eq!(branch(&mut window), ["One?", "second"], "the newest answer to it");
}

#[test]
fn newest_end_of_a_branch_is_the_answer_on_its_way() {
    let mut window = Window::ready();
    let (job, first) = window.ask("One?");
    end(&mut window, job, "first");
    window.command(UiCommand::EditLast);
    window.chat(ChatAction::SetEdit("Uno?".to_owned()));
    window.chat(ChatAction::SubmitEdit);
    let (job, second) = window.take_turn();
    end(&mut window, job, "Primo");
    window.chat(ChatAction::ShowBranch(question(&first)));
    window.command(UiCommand::Regenerate);
    let (job, _) = window.take_turn();
    window.chat(ChatAction::ShowBranch(question(&second)));
    window.chat(ChatAction::ShowBranch(question(&first)));
    end(&mut window, job, "second");
    assert_eq!(branch(&mut window), ["One?", "second"]);
}

#[test]
fn workspace_is_told_which_branch_is_shown() {
    let mut window = Window::ready();
    let (job, first) = window.ask("One?");
    end(&mut window, job, "first");
    window.command(UiCommand::Regenerate);
    let (job, _) = window.take_turn();
    end(&mut window, job, "second");
    let keep = first.keep.expect("kept");
    window.chat(ChatAction::ShowBranch(keep.reply));
    let (_, spec) = window.take_job(|spec| matches!(spec, JobSpec::SetBranch { .. }));
    assert_eq!(spec, JobSpec::SetBranch { chat: keep.chat, leaf: keep.reply });
}

#[test]
fn answer_on_its_way_does_not_pull_the_reader_from_another_branch() {
    let mut window = Window::ready();
    let (job, first) = window.ask("One?");
    end(&mut window, job, "first");
    window.command(UiCommand::Regenerate);
    let (job, second) = window.take_turn();
    window.say(job, "sec");
    window.chat(ChatAction::ShowBranch(first.keep.expect("kept").reply));
    window.say(job, "ond");
    window.finish(job, Outcome::Done);
    window.take_jobs();
    assert_eq!(branch(&mut window), ["One?", "first"]);
    window.chat(ChatAction::ShowBranch(second.keep.expect("kept").reply));
    assert_eq!(branch(&mut window), ["One?", "second"]);
}

#[test]
fn messages_that_are_not_in_the_chat_change_nothing() {
    let mut window = Window::ready();
    window.ask_and_answer("One?");
    let unknown = Uuid::now_v7();
    window.chat(ChatAction::ShowBranch(unknown));
    window.chat(ChatAction::Regenerate { question: unknown });
    window.chat(ChatAction::BeginEdit(unknown));
    window.chat(ChatAction::SubmitEdit);
    assert_eq!(window.take_jobs(), []);
    assert_eq!(branch(&mut window), ["One?", "Answer to One?"]);
}

#[test]
fn only_questions_are_answered_again() {
    let mut window = Window::ready();
    let turn = window.ask_and_answer("One?");
    window.chat(ChatAction::Regenerate { question: turn.keep.expect("kept").reply });
    assert_eq!(window.take_jobs(), []);
}
