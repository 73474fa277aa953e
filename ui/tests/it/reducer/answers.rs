use meav_protocol::{
    Fact, FinishReason, JobId, JobSpec, MessageState, Outcome, Remedy, Role, UserError,
};
use meav_ui::{Action, ChatAction, Effect, LibraryAction, SamplingSettings, UiCommand};

use crate::support::{MEDICAL, Window};
use crate::values::{about, ready, reply};

fn texts(turn: &meav_protocol::ChatTurn) -> Vec<&str> {
    turn.messages.iter().map(|message| message.content.as_str()).collect()
}

#[test]
fn message_is_sent_once_with_what_was_said_before_and_the_knobs_as_they_are() {
    let mut window = Window::ready();
    window.chat(ChatAction::SetSystem("Be brief.".to_owned()));
    window.ask_and_answer("One?");
    window.set_knob(MEDICAL, 0.7);
    let (_, turn) = window.ask("  Two?  ");
    assert_eq!(texts(&turn), ["One?", "Answer to One?", "Two?"]);
    assert_eq!(turn.system, "Be brief.");
    assert_eq!(turn.setup.vectors[0].coefficient, 0.7);
    let roles: Vec<_> = turn.messages.iter().map(|message| message.role).collect();
    assert_eq!(roles, [Role::User, Role::Assistant, Role::User]);
    let keep = turn.keep.expect("it is kept");
    assert_ne!(keep.reply, turn.messages[2].id);
}

#[test]
fn empty_message_and_one_during_an_answer_are_not_sent() {
    let mut window = Window::ready();
    window.chat(ChatAction::SetDraft(" \n ".to_owned()));
    window.chat(ChatAction::Send);
    assert_eq!(window.take_jobs(), []);
    let (job, _) = window.ask("One?");
    window.chat(ChatAction::SetDraft("Two?".to_owned()));
    window.chat(ChatAction::Send);
    window.command(UiCommand::Regenerate);
    assert_eq!(window.take_jobs(), []);
    window.say(job, "One.");
    window.finish(job, Outcome::Done);
    window.take_jobs();
    window.chat(ChatAction::Send);
    assert_eq!(texts(&window.take_turn().1), ["One?", "One.", "Two?"], "the draft was kept");
}

#[test]
fn answer_is_not_interrupted_by_knobs_and_they_follow_after_it() {
    let mut window = Window::ready();
    let (job, turn) = window.ask("One?");
    for step in 1..=10 {
        window.set_knob(MEDICAL, f64::from(step) / 10.0);
    }
    assert_eq!(window.take_prepares(), []);
    assert_eq!(window.cancelled(), []);
    window.fact(job, ready(&turn.setup));
    window.say(job, "On");
    assert_eq!(window.take_prepares(), []);
    window.answer(job, &JobSpec::Chat(turn));
    let prepared = window.take_prepares();
    assert_eq!(prepared.len(), 1);
    assert_eq!(prepared[0].1.vectors[0].coefficient, 1.0);
}

#[test]
fn stopped_answer_stays_as_far_as_it_came() {
    let mut window = Window::ready();
    let (job, turn) = window.ask("One?");
    window.say(job, "As far ");
    window.chat(ChatAction::Stop);
    assert_eq!(window.cancelled(), [job]);
    let mut end = reply(&turn.setup, "As far as");
    end.finish = FinishReason::Cancelled;
    window.fact(job, Fact::Reply(end));
    window.finish(job, Outcome::Cancelled);
    window.take_jobs();
    let (_, turn) = window.ask("Two?");
    assert_eq!(texts(&turn), ["One?", "As far as", "Two?"]);
    assert_eq!(turn.messages[1].state, MessageState::Stopped);
}

#[test]
fn answer_stopped_without_a_last_word_from_the_engine_is_marked_too() {
    let mut window = Window::ready();
    let (job, _) = window.ask("One?");
    window.say(job, "As far");
    window.command(UiCommand::StopAnswer);
    window.finish(job, Outcome::Cancelled);
    window.take_jobs();
    assert_eq!(window.ask("Two?").1.messages[1].state, MessageState::Stopped);
}

#[test]
fn question_without_an_answer_makes_room_for_the_next() {
    let mut window = Window::ready();
    let (job, _) = window.ask("One?");
    window.fail(job, UserError::new("The prompt is too long", "Begin a new chat"));
    window.take_jobs();
    assert_eq!(texts(&window.ask("Two?").1), ["Two?"]);
}

#[test]
fn failed_question_can_be_asked_again() {
    let mut window = Window::ready();
    let (job, turn) = window.ask("One?");
    window.fail(job, UserError::new("Out of memory", "Close other programs"));
    window.take_jobs();
    let question = turn.messages[0].id;
    window.chat(ChatAction::Regenerate { question });
    let (_, again) = window.take_turn();
    assert_eq!(again.messages, turn.messages);
    assert_ne!(again.keep.map(|keep| keep.reply), turn.keep.map(|keep| keep.reply));
}

#[test]
fn answer_names_the_vector_that_does_not_fit_and_the_next_goes_without_it() {
    let mut window = Window::ready();
    let (job, turn) = window.ask("One?");
    window.fail(job, about("medical", "The file has gone"));
    let prepared = window.take_prepares();
    assert_eq!(prepared[0].1.vectors.len(), 1);
    window.chat(ChatAction::Regenerate { question: turn.messages[0].id });
    assert_eq!(window.take_turn().1.setup.vectors.len(), 1);
}

#[test]
fn missing_demo_is_fetched_once_and_then_loaded() {
    let mut window = Window::new();
    let (job, _) = window.take_prepares()[0];
    let no_demo = UserError {
        remedy: Some(Remedy::FetchDemo),
        ..about("demo", "The demo model is not on this machine")
    };
    window.fail(job, no_demo);
    assert_eq!(window.take_prepares(), []);
    window.update(Action::FetchDemo);
    window.update(Action::FetchDemo);
    let (fetching, _) = window.take_job(|spec| *spec == JobSpec::FetchDemo);
    window.finish(fetching, Outcome::Done);
    assert_eq!(window.take_prepares().len(), 1);
}

#[test]
fn fetch_that_fails_or_is_cancelled_can_be_tried_again() {
    let mut window = Window::new();
    let (job, _) = window.take_prepares()[0];
    window.fail(job, about("demo", "The demo model is not on this machine"));
    for outcome in
        [Outcome::Cancelled, Outcome::Failed(UserError::new("No network", "Connect to it"))]
    {
        window.update(Action::FetchDemo);
        let (fetching, _) = window.take_job(|spec| *spec == JobSpec::FetchDemo);
        window.finish(fetching, outcome);
        assert_eq!(window.take_prepares(), []);
    }
    window.update(Action::Retry);
    assert_eq!(window.take_prepares().len(), 1);
}

#[test]
fn what_is_said_of_ended_and_unknown_jobs_is_not_looked_at() {
    let mut window = Window::ready();
    let (job, turn) = window.ask("One?");
    window.answer(job, &JobSpec::Chat(turn.clone()));
    window.answer_all();
    for job in [job, JobId(9999)] {
        window.say(job, "More");
        window.fact(job, Fact::Reply(reply(&turn.setup, "Other")));
        window.fact(job, ready(&turn.setup));
        window.finish(job, Outcome::Cancelled);
        window.fail(job, UserError::new("Late", "Nothing"));
    }
    assert_eq!(window.effects, []);
    assert_eq!(texts(&window.ask("Two?").1), ["One?", "Answer to One?", "Two?"]);
}

#[test]
fn answer_goes_on_while_another_chat_is_shown() {
    let mut window = Window::ready();
    let (job, turn) = window.ask("One?");
    window.say(job, "On");
    window.command(UiCommand::NewChat);
    window.chat(ChatAction::SetDraft("Elsewhere?".to_owned()));
    window.chat(ChatAction::Send);
    assert_eq!(window.take_jobs(), [], "one answer at a time");
    window.answer(job, &JobSpec::Chat(turn.clone()));
    window.answer_all();
    window.chat(ChatAction::Send);
    let (_, other) = window.take_turn();
    assert_eq!(texts(&other), ["Elsewhere?"], "the answer has gone to its own chat");
    assert_ne!(other.keep.map(|keep| keep.chat), turn.keep.map(|keep| keep.chat));
}

#[test]
fn chat_that_is_come_back_to_has_the_answer_on_its_way_once() {
    let mut window = Window::ready();
    let (job, turn) = window.ask("One?");
    let keep = turn.keep.expect("it is kept");
    window.fact(job, ready(&turn.setup));
    window.say(job, "Half ");
    window.command(UiCommand::NewChat);
    window.take_jobs();
    window.update(Action::Library(LibraryAction::Open(keep.chat)));
    let (load, _) = window.take_job(|spec| matches!(spec, JobSpec::LoadChat { .. }));
    let mut half = meav_protocol::Message::new(Some(turn.messages[0].id), Role::Assistant, "Ha");
    half.id = keep.reply;
    half.state = MessageState::Partial;
    let mut messages = turn.messages.clone();
    messages.push(half);
    let chat = meav_protocol::Chat {
        id: keep.chat,
        title: "One?".to_owned(),
        system: String::new(),
        messages,
        leaf: Some(keep.reply),
    };
    window.fact(load, Fact::Chat(Some(chat)));
    window.finish(load, Outcome::Done);
    window.say(job, "and half");
    window.finish(job, Outcome::Done);
    window.take_jobs();
    assert_eq!(texts(&window.ask("Two?").1), ["One?", "Half and half", "Two?"]);
}

#[test]
fn chat_that_the_workspace_has_without_the_question_gets_it_back() {
    let mut window = Window::ready();
    window.ask_and_answer("Zero?");
    let (job, turn) = window.ask("One?");
    let keep = turn.keep.expect("it is kept");
    window.command(UiCommand::NewChat);
    window.update(Action::Library(LibraryAction::Open(keep.chat)));
    let (load, _) = window.take_job(|spec| matches!(spec, JobSpec::LoadChat { .. }));
    let chat = meav_protocol::Chat {
        id: keep.chat,
        title: "Zero?".to_owned(),
        system: String::new(),
        messages: turn.messages[..2].to_vec(),
        leaf: Some(turn.messages[1].id),
    };
    window.fact(load, Fact::Chat(Some(chat)));
    window.finish(load, Outcome::Done);
    window.say(job, "One.");
    window.finish(job, Outcome::Done);
    window.take_jobs();
    let (_, turn) = window.ask("Two?");
    assert_eq!(texts(&turn), ["Zero?", "Answer to Zero?", "One?", "One.", "Two?"]);
}

#[test]
fn sampling_without_a_seed_makes_one_up_for_each_answer_and_a_fixed_one_stays() {
    let mut window = Window::ready();
    let first = window.ask_and_answer("One?").sampling.seed;
    let second = window.ask_and_answer("Two?").sampling.seed;
    assert_ne!(first, second);
    let fixed = SamplingSettings { seed: Some(7), max_tokens: 9, ..SamplingSettings::default() };
    window.chat(ChatAction::SetSampling(fixed));
    let turn = window.ask_and_answer("Three?");
    assert_eq!((turn.sampling.seed, turn.max_tokens), (7, 9));
}

#[test]
fn sampling_that_is_no_number_is_not_taken() {
    let mut window = Window::ready();
    let broken = SamplingSettings { temperature: f64::NAN, ..SamplingSettings::default() };
    window.chat(ChatAction::SetSampling(broken));
    assert_eq!(window.settings().sampling, SamplingSettings::default());
    assert!(!window.effects.iter().any(|effect| matches!(effect, Effect::SaveSettings(_))));
}

#[test]
fn list_of_chats_is_read_again_when_an_answer_begins_and_when_it_ends() {
    let mut window = Window::ready();
    let (job, turn) = window.ask("One?");
    let lists = |window: &mut Window| {
        let jobs = window.take_jobs().into_iter();
        jobs.filter(|(_, spec)| *spec == JobSpec::ListChats).count()
    };
    window.fact(job, ready(&turn.setup));
    assert_eq!(lists(&mut window), 1);
    window.finish(job, Outcome::Done);
    assert_eq!(lists(&mut window), 1);
}
