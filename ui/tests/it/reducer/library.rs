use meav_protocol::{Chat, ChatHit, Fact, JobId, JobSpec, Message, Outcome, Role};
use meav_ui::{Action, ChatAction, LibraryAction, UiCommand};
use uuid::Uuid;

use crate::support::Window;
use crate::values::summary;

fn library(window: &mut Window, action: LibraryAction) {
    window.update(Action::Library(action));
}

/// A chat of one question and its answer.
fn chat(question: &str) -> Chat {
    let question = Message::new(None, Role::User, question);
    let answer = Message::new(Some(question.id), Role::Assistant, "Yes.");
    Chat {
        id: Uuid::now_v7(),
        title: question.content.clone(),
        system: "Be kind.".to_owned(),
        leaf: Some(answer.id),
        messages: vec![question, answer],
    }
}

fn take_load(window: &mut Window) -> JobId {
    window.take_job(|spec| matches!(spec, JobSpec::LoadChat { .. })).0
}

fn load(window: &mut Window, job: JobId, chat: &Chat) {
    window.fact(job, Fact::Chat(Some(chat.clone())));
    window.finish(job, Outcome::Done);
}

/// The first question of the chat that is shown.
fn shown(window: &mut Window) -> String {
    let (job, turn) = window.ask("and?");
    window.fail(job, meav_protocol::UserError::new("Never mind", ""));
    window.take_jobs();
    turn.messages[0].content.clone()
}

#[test]
fn chat_is_taken_up_where_it_was_left() {
    let mut window = Window::ready();
    let kept = chat("Before?");
    library(&mut window, LibraryAction::Open(kept.id));
    let job = take_load(&mut window);
    load(&mut window, job, &kept);
    let (_, turn) = window.ask("Now?");
    assert_eq!(turn.messages.len(), 3);
    assert_eq!(turn.system, "Be kind.");
    assert_eq!(turn.keep.map(|keep| keep.chat), Some(kept.id));
}

#[test]
fn of_two_chats_the_one_that_was_opened_last_is_shown() {
    let mut window = Window::ready();
    let (one, two) = (chat("One?"), chat("Two?"));
    library(&mut window, LibraryAction::Open(one.id));
    let first = take_load(&mut window);
    library(&mut window, LibraryAction::Open(two.id));
    let second = take_load(&mut window);
    load(&mut window, second, &two);
    load(&mut window, first, &one);
    assert_eq!(shown(&mut window), "Two?");
}

#[test]
fn chat_that_comes_late_does_not_take_the_place_of_a_new_one() {
    let mut window = Window::ready();
    let late = chat("Late?");
    library(&mut window, LibraryAction::Open(late.id));
    let job = take_load(&mut window);
    window.command(UiCommand::NewChat);
    load(&mut window, job, &late);
    assert_eq!(shown(&mut window), "and?");
}

#[test]
fn last_chat_that_comes_after_the_first_message_does_not_take_its_place() {
    let mut window = Window::new();
    let job = window
        .take_jobs()
        .into_iter()
        .find_map(|(job, spec)| matches!(spec, JobSpec::LoadChat { id: None }).then_some(job));
    window.ask("Already here?");
    load(&mut window, job.expect("the last chat is asked for"), &chat("Late?"));
    window.command(UiCommand::StopAnswer);
    let answering = *window.cancelled().last().expect("it is stopped");
    window.say(answering, "Yes");
    window.finish(answering, Outcome::Cancelled);
    window.take_jobs();
    assert_eq!(shown(&mut window), "Already here?");
}

#[test]
fn deleted_chat_can_be_brought_back() {
    let mut window = Window::ready();
    let chat = window.ask_and_answer("One?").keep.expect("kept").chat;
    library(&mut window, LibraryAction::Delete(chat));
    let (_, spec) = window.take_job(|spec| matches!(spec, JobSpec::DeleteChat { .. }));
    assert_eq!(spec, JobSpec::DeleteChat { id: chat });
    let (job, turn) = window.ask("Elsewhere?");
    assert_ne!(turn.keep.map(|keep| keep.chat), Some(chat));
    window.finish(job, Outcome::Cancelled);
    window.take_jobs();
    // Messages over the window are numbered from 1.
    window.update(Action::Undo(1));
    let specs: Vec<_> = window.take_jobs().into_iter().map(|(_, spec)| spec).collect();
    let wanted = [JobSpec::RestoreChat { id: chat }, JobSpec::LoadChat { id: Some(chat) }];
    assert_eq!(specs, wanted);
    window.update(Action::Undo(1));
    assert_eq!(window.take_jobs(), [], "once");
}

#[test]
fn deleting_the_chat_of_a_running_answer_stops_it() {
    let mut window = Window::ready();
    let (job, turn) = window.ask("One?");
    library(&mut window, LibraryAction::Delete(turn.keep.expect("kept").chat));
    assert_eq!(window.cancelled(), [job]);
    window.finish(job, Outcome::Cancelled);
    assert_eq!(shown(&mut window), "and?");
}

#[test]
fn chat_gets_another_title_unless_there_is_none() {
    let mut window = Window::ready();
    let id = window.ask_and_answer("One?").keep.expect("kept").chat;
    library(&mut window, LibraryAction::BeginRename(id));
    library(&mut window, LibraryAction::SetRename(" First ".to_owned()));
    library(&mut window, LibraryAction::SubmitRename);
    let (job, spec) = window.take_job(|spec| matches!(spec, JobSpec::RenameChat { .. }));
    assert_eq!(spec, JobSpec::RenameChat { id, title: "First".to_owned() });
    window.fact(job, Fact::Chats(vec![summary(id, "First")]));
    window.finish(job, Outcome::Done);
    for (text, action) in
        [("  ", LibraryAction::SubmitRename), ("Other", LibraryAction::CancelRename)]
    {
        library(&mut window, LibraryAction::BeginRename(id));
        library(&mut window, LibraryAction::SetRename(text.to_owned()));
        library(&mut window, action);
        assert_eq!(window.take_jobs(), []);
    }
    library(&mut window, LibraryAction::SubmitRename);
    assert_eq!(window.take_jobs(), [], "nothing is being renamed");
}

#[test]
fn each_search_calls_off_the_one_before() {
    let mut window = Window::ready();
    library(&mut window, LibraryAction::SetSearch("che".to_owned()));
    let (first, _) = window.take_job(|spec| matches!(spec, JobSpec::SearchChats { .. }));
    library(&mut window, LibraryAction::SetSearch("chest ".to_owned()));
    let (second, spec) = window.take_job(|spec| matches!(spec, JobSpec::SearchChats { .. }));
    assert_eq!(window.cancelled(), [first]);
    assert!(matches!(spec, JobSpec::SearchChats { text, .. } if text == "chest"));
    window.finish(second, Outcome::Done);
    library(&mut window, LibraryAction::SetSearch(" ".to_owned()));
    assert_eq!(window.take_jobs(), []);
    assert_eq!(window.cancelled(), [first], "the second has ended by itself");
}

#[test]
fn hit_leads_to_its_chat_and_the_branch_of_its_message() {
    let mut window = Window::ready();
    let mut found = chat("One?");
    let question = found.messages[0].id;
    let other = Message::new(Some(question), Role::Assistant, "No.");
    found.messages.push(other.clone());
    let hit = ChatHit {
        chat: found.id,
        title: found.title.clone(),
        message: Some(other.id),
        excerpt: "No.".to_owned(),
    };
    library(&mut window, LibraryAction::Reveal { chat: hit.chat, message: hit.message });
    let job = take_load(&mut window);
    load(&mut window, job, &found);
    window.chat(ChatAction::Revealed);
    assert_eq!(window.ask("Two?").1.messages[1].content, "No.");
}

#[test]
fn new_chat_keeps_what_is_typed_and_none_of_the_standing_instructions() {
    let mut window = Window::ready();
    window.chat(ChatAction::SetSystem("Be brief.".to_owned()));
    window.ask_and_answer("One?");
    window.chat(ChatAction::SetDraft("Half a thought".to_owned()));
    window.command(UiCommand::NewChat);
    window.chat(ChatAction::Send);
    let (_, turn) = window.take_turn();
    assert_eq!(turn.messages.len(), 1);
    assert_eq!(turn.messages[0].content, "Half a thought");
    assert_eq!(turn.system, "");
}

#[test]
fn undoing_the_deletion_of_another_chat_leaves_what_is_read() {
    let mut window = Window::ready();
    let (one, two) = (chat("One?"), chat("Two?"));
    library(&mut window, LibraryAction::Open(one.id));
    let job = take_load(&mut window);
    load(&mut window, job, &one);
    library(&mut window, LibraryAction::Delete(two.id));
    window.take_jobs();
    window.command(UiCommand::UndoDelete);
    let jobs = window.take_jobs();
    assert!(jobs.iter().any(|(_, spec)| *spec == JobSpec::RestoreChat { id: two.id }));
    assert!(!jobs.iter().any(|(_, spec)| matches!(spec, JobSpec::LoadChat { .. })), "{jobs:?}");
    window.command(UiCommand::UndoDelete);
    assert_eq!(window.take_jobs(), []);
}
