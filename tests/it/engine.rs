//! The engine process and its supervision.

use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};

use meav_client::{Client, Connect, ConnectError, Connection, EngineHandle, EngineProcess};
use meav_protocol::{
    ChatTurn, Command, Dtype, Event, Fact, JobId, JobSpec, KeepIn, Message, MessageState, Method,
    Outcome, Role, SamplingSpec, Setup, VectorTerm,
};
use uuid::Uuid;

use crate::support::{
    Home, PATIENCE, client, demo_model, demo_vector, engine_process, next, programs, run,
};

fn setup(coefficient: f64) -> Setup {
    let vectors = vec![VectorTerm::new(demo_vector("medical"), coefficient)];
    Setup { model: demo_model().to_owned(), dtype: Dtype::Bf16, method: Method::default(), vectors }
}

fn turn(messages: &[Message], max_tokens: usize, keep: Option<KeepIn>) -> JobSpec {
    let sampling = SamplingSpec {
        temperature: 0.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        repeat_penalty: 1.3,
        seed: 0,
    };
    let (system, messages) = (String::new(), messages.to_vec());
    JobSpec::Chat(ChatTurn { setup: setup(0.5), system, messages, sampling, max_tokens, keep })
}

/// Waits until the job has said something, and gives what it said.
fn first_text(client: &Client, job: JobId) -> String {
    loop {
        match next(client) {
            Event::Fact { job_id, fact: Fact::Text { text, .. } } if job_id == job => return text,
            Event::Finished { job_id, outcome } => panic!("{job_id:?} ended: {outcome:?}"),
            _ => {}
        }
    }
}

#[test]
fn killed_engine_leaves_the_client_the_partial_answer_and_the_next_message() {
    let home = Home::empty();
    let mut client = client(&home);
    let question = Message::new(None, Role::User, "Tell me a long story about the sea.");
    let keep = KeepIn { chat: Uuid::now_v7(), reply: Uuid::now_v7() };
    let job = client.start(turn(std::slice::from_ref(&question), 2000, Some(keep)));
    let mut said = first_text(&client, job);
    // Long enough for the workspace to have some of it.
    while said.len() < 400 {
        said += &first_text(&client, job);
    }
    let status = std::process::Command::new("kill")
        .args(["-KILL", &engine_process(&home).to_string()])
        .status()
        .unwrap();
    assert!(status.success());
    let error = loop {
        match next(&client) {
            Event::Fact { fact: Fact::Text { text, .. }, .. } => said += &text,
            Event::Finished { job_id, outcome: Outcome::Failed(error) } if job_id == job => {
                break error;
            }
            Event::Finished { outcome, .. } => panic!("{outcome:?}"),
            _ => {}
        }
    };
    assert!(error.summary.contains("it was killed"), "{error}");
    assert!(matches!(next(&client), Event::EngineLost { .. }));

    // The workspace has the conversation, the answer marked for what it is.
    let (outcome, facts) = run(&mut client, JobSpec::LoadChat { id: Some(keep.chat) });
    assert_eq!(outcome, Outcome::Done);
    let [Fact::Chat(Some(chat))] = &facts[..] else { panic!("{facts:?}") };
    assert_eq!(chat.messages[0], question);
    let partial = &chat.messages[1];
    assert_eq!((partial.id, partial.state), (keep.reply, MessageState::Partial));
    assert!(!partial.content.is_empty() && said.starts_with(&partial.content));

    // And the next message works.
    let again = Message::new(None, Role::User, "What is the capital of France?");
    let (outcome, facts) = run(&mut client, turn(&[again], 16, None));
    assert_eq!(outcome, Outcome::Done);
    assert!(matches!(facts.last(), Some(Fact::Reply(reply)) if reply.text.contains("Paris")));
}

#[test]
fn stopped_answer_is_kept_and_marked() {
    let home = Home::empty();
    let mut client = client(&home);
    let keep = KeepIn { chat: Uuid::now_v7(), reply: Uuid::now_v7() };
    let question = Message::new(None, Role::User, "Tell me a long story about the sea.");
    let job = client.start(turn(&[question], 4000, Some(keep)));
    first_text(&client, job);
    client.cancel(job);
    loop {
        match next(&client) {
            Event::Finished { job_id, outcome } if job_id == job => {
                assert_eq!(outcome, Outcome::Cancelled);
                break;
            }
            _ => {}
        }
    }
    let (_, facts) = run(&mut client, JobSpec::LoadChat { id: None });
    let [Fact::Chat(Some(chat))] = &facts[..] else { panic!("{facts:?}") };
    assert_eq!(chat.messages[1].state, MessageState::Stopped);
    assert!(!chat.messages[1].content.is_empty());
}

#[test]
fn every_job_ends_exactly_once_and_only_the_newest_recipe_counts() {
    let home = Home::empty();
    let mut client = client(&home);
    let busy = client.start(turn(&[Message::new(None, Role::User, "Tell me a story.")], 60, None));
    first_text(&client, busy);
    // A knob that is dragged while the engine answers.
    let dragged: Vec<JobId> =
        (1..=5).map(|step| client.start(JobSpec::Prepare(setup(0.1 * f64::from(step))))).collect();
    let cancelled = client.start(JobSpec::Describe { path: demo_vector("medical") });
    client.cancel(cancelled);
    client.cancel(cancelled);
    let mut ends = Vec::new();
    let mut recipes = Vec::new();
    while ends.len() < 7 {
        match next(&client) {
            Event::Finished { job_id, outcome } => ends.push((job_id, outcome)),
            Event::Fact { fact: Fact::Ready(loaded), job_id } if dragged.contains(&job_id) => {
                recipes.push(loaded.recipe.vectors[0].coefficient);
            }
            _ => {}
        }
    }
    let end = |job: JobId| &ends.iter().find(|(job_id, _)| *job_id == job).unwrap().1;
    assert_eq!(*end(busy), Outcome::Done);
    assert_eq!(*end(cancelled), Outcome::Cancelled);
    for stale in &dragged[..4] {
        assert_eq!(*end(*stale), Outcome::Cancelled);
    }
    assert_eq!(*end(dragged[4]), Outcome::Done);
    assert_eq!(recipes, [0.5]);
    let mut jobs: Vec<JobId> = ends.iter().map(|(job_id, _)| *job_id).collect();
    jobs.sort();
    jobs.dedup();
    assert_eq!(jobs.len(), ends.len());
}

#[test]
fn recipe_that_cannot_be_applied_leaves_the_one_before() {
    let home = Home::empty();
    let mut client = client(&home);
    let (outcome, facts) = run(&mut client, JobSpec::Prepare(setup(-0.7)));
    assert_eq!(outcome, Outcome::Done);
    let [Fact::Ready(first)] = &facts[..] else { panic!("{facts:?}") };
    let (outcome, facts) = run(&mut client, JobSpec::Prepare(setup(f64::NAN)));
    assert!(
        matches!(&outcome, Outcome::Failed(err) if err.summary.contains("not a finite number"))
    );
    assert!(facts.is_empty());
    let mut missing = setup(0.3);
    missing.vectors[0].file = "nowhere.safetensors".into();
    let (outcome, _) = run(&mut client, JobSpec::Prepare(missing));
    assert!(matches!(&outcome, Outcome::Failed(err) if err.summary.contains("does not exist")));
    // The same recipe again needs no merging: the weights hold it still.
    let (_, facts) = run(&mut client, JobSpec::Prepare(setup(-0.7)));
    let [Fact::Ready(again)] = &facts[..] else { panic!("{facts:?}") };
    assert_eq!(again.recipe, first.recipe);

    // Each recipe is a line in the audit log, once.
    let (_, facts) = run(&mut client, JobSpec::ListAudit { limit: 10 });
    let [Fact::Audit(entries)] = &facts[..] else { panic!("{facts:?}") };
    assert_eq!(entries.len(), 1, "{entries:?}");
    assert!(entries[0].detail.contains("medical −0.7"), "{entries:?}");
}

#[test]
fn engine_that_is_not_there_is_a_sentence() {
    let home = Home::empty();
    let nowhere = EngineProcess::at(home.path().join("meav-engine"), home.path());
    let mut client = Client::new(nowhere, || ());
    let (outcome, _) = run(&mut client, JobSpec::ListChats);
    assert!(matches!(&outcome, Outcome::Failed(err) if err.summary.contains("is missing")));
    assert!(
        matches!(next(&client), Event::EngineLost { reason } if reason.contains("no engine at"))
    );
}

#[test]
fn program_that_is_no_engine_is_a_sentence() {
    let home = Home::empty();
    let mut client = Client::new(EngineProcess::at("/bin/cat".into(), home.path()), || ());
    let (outcome, _) = run(&mut client, JobSpec::ListChats);
    assert!(
        matches!(&outcome, Outcome::Failed(err) if err.summary.contains("The engine stopped")),
        "{outcome:?}"
    );
}

#[test]
fn request_that_cannot_be_sent_ends_its_job() {
    use std::os::unix::ffi::OsStringExt as _;
    let home = Home::empty();
    let mut client = client(&home);
    let path = std::ffi::OsString::from_vec(b"mod\xe8le".to_vec()).into();
    let (outcome, _) = run(&mut client, JobSpec::Describe { path });
    assert!(
        matches!(&outcome, Outcome::Failed(err) if err.summary.contains("could not be sent")),
        "{outcome:?}"
    );
    // And the engine goes on.
    assert_eq!(run(&mut client, JobSpec::ListChats).0, Outcome::Done);
}

#[test]
fn conversation_that_is_too_long_leaves_no_empty_answer() {
    let home = Home::empty();
    let mut client = client(&home);
    let keep = KeepIn { chat: Uuid::now_v7(), reply: Uuid::now_v7() };
    let question = Message::new(None, Role::User, "word ".repeat(9000));
    let (outcome, _) = run(&mut client, turn(&[question], 16, Some(keep)));
    assert!(matches!(&outcome, Outcome::Failed(err) if err.summary.contains("the model can take")));
    let (_, facts) = run(&mut client, JobSpec::LoadChat { id: Some(keep.chat) });
    let [Fact::Chat(Some(chat))] = &facts[..] else { panic!("{facts:?}") };
    assert_eq!(chat.messages.len(), 1);
}

/// An engine whose end is told.
struct Watched {
    engine: EngineProcess,
    end: SyncSender<String>,
}

impl Connect for Watched {
    fn connect(&mut self) -> Result<Connection, ConnectError> {
        let Connection { reader, writer, handle, choice } = self.engine.connect()?;
        let handle = Box::new(WatchedHandle { handle, end: self.end.clone() });
        Ok(Connection { reader, writer, handle, choice })
    }
}

struct WatchedHandle {
    handle: Box<dyn EngineHandle>,
    end: SyncSender<String>,
}

impl EngineHandle for WatchedHandle {
    fn end(&mut self) -> String {
        let reason = self.handle.end();
        self.end.send(reason.clone()).unwrap();
        reason
    }
}

#[test]
fn dropped_client_ends_the_engine_in_the_middle_of_an_answer_and_then_its_threads() {
    let home = Home::empty();
    let (end, ended) = sync_channel(1);
    // Gone when the last thread that could call it has ended.
    let (alive, threads) = sync_channel::<()>(1);
    let engine = EngineProcess::at(programs().join("meav-engine"), home.path());
    let client = Client::new(Watched { engine, end }, move || {
        let _held = &alive;
    });
    let job_id = JobId(7);
    let spec = turn(&[Message::new(None, Role::User, "Tell me a long story.")], 4000, None);
    client.send(Command::Start { job_id, spec }).unwrap();
    first_text(&client, job_id);
    drop(client);
    assert_eq!(ended.recv_timeout(PATIENCE).unwrap(), "it ended by itself");
    assert_eq!(threads.recv_timeout(PATIENCE), Err(RecvTimeoutError::Disconnected));
}

#[test]
fn chats_are_changed_while_the_engine_answers() {
    let home = Home::empty();
    let mut client = client(&home);
    let keep = KeepIn { chat: Uuid::now_v7(), reply: Uuid::now_v7() };
    let question = Message::new(None, Role::User, "Tell me a long story about the sea.");
    let busy = client.start(turn(&[question], 4000, Some(keep)));
    first_text(&client, busy);
    let rename = JobSpec::RenameChat { id: keep.chat, title: "The sea".to_owned() };
    let (outcome, facts) = run(&mut client, rename);
    assert_eq!(outcome, Outcome::Done);
    assert!(matches!(&facts[..], [Fact::Chats(chats)] if chats[0].title == "The sea"), "{facts:?}");
    client.cancel(busy);
    loop {
        match next(&client) {
            Event::Finished { job_id, outcome } if job_id == busy => {
                break assert_eq!(outcome, Outcome::Cancelled);
            }
            _ => {}
        }
    }
}
