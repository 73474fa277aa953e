//! Chats and the audit log, as a client changes and exports them.

use std::fs;
use std::path::{Path, PathBuf};

use meav_client::{Client, Update};
use meav_protocol::{
    AuditEntry, BenchSpec, Chat, ChatHit, ChatSummary, ChatTurn, Dtype, ExportTarget, Fact,
    FileKind, FinishReason, JobSpec, KeepIn, LoadedModel, MergeFormat, MergeSpec, Message, Method,
    Outcome, Remedy, Reply, Role, SamplingSpec, Setup, Stage, UserError, VectorTerm,
};
use meav_test_support::{TINY, tiny_adapter, tiny_dense_vector, tiny_model};
use uuid::Uuid;

use crate::support::{Home, client, run};

fn tiny_setup(home: &Home) -> Setup {
    let model = home.path().join("model");
    tiny_model(&TINY).write(&model);
    Setup { model, dtype: Dtype::F32, method: Method::default(), vectors: Vec::new() }
}

fn new_file(path: &Path) -> ExportTarget {
    ExportTarget { path: path.to_owned(), replace: false }
}

/// A turn whose answer the seed decides.
fn turn(setup: &Setup, messages: &[Message], seed: u64) -> ChatTurn {
    let sampling = SamplingSpec {
        temperature: 1.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        repeat_penalty: 1.0,
        seed,
    };
    let (setup, messages) = (setup.clone(), messages.to_vec());
    ChatTurn { setup, system: String::new(), messages, sampling, max_tokens: 8, keep: None }
}

fn done(client: &mut Client, spec: JobSpec) -> Vec<Fact> {
    let (outcome, facts) = run(client, spec);
    assert_eq!(outcome, Outcome::Done);
    facts
}

fn failed(client: &mut Client, spec: JobSpec) -> UserError {
    match run(client, spec) {
        (Outcome::Failed(err), _) => err,
        (outcome, facts) => panic!("{outcome:?} {facts:?}"),
    }
}

/// Asks, keeps question and answer, and gives the answer.
fn answer(client: &mut Client, turn: ChatTurn, keep: KeepIn) -> Reply {
    let facts = done(client, JobSpec::Chat(ChatTurn { keep: Some(keep), ..turn }));
    let Some(Fact::Reply(reply)) = facts.into_iter().next_back() else { panic!("no reply") };
    assert!(!reply.text.is_empty());
    reply
}

fn new_chat() -> KeepIn {
    KeepIn { chat: Uuid::now_v7(), reply: Uuid::now_v7() }
}

fn chats(client: &mut Client, spec: JobSpec) -> Vec<ChatSummary> {
    let facts = done(client, spec);
    let [Fact::Chats(chats)] = &facts[..] else { panic!("{facts:?}") };
    chats.clone()
}

fn find(client: &mut Client, text: &str) -> Vec<ChatHit> {
    let facts = done(client, JobSpec::SearchChats { text: text.to_owned(), limit: 10 });
    let [Fact::Found(hits)] = &facts[..] else { panic!("{facts:?}") };
    hits.clone()
}

fn load(client: &mut Client, id: Option<Uuid>) -> Option<Chat> {
    let facts = done(client, JobSpec::LoadChat { id });
    let [Fact::Chat(chat)] = &facts[..] else { panic!("{facts:?}") };
    chat.clone()
}

fn export(client: &mut Client, spec: JobSpec, out: &Path) -> String {
    let facts = done(client, spec);
    assert!(matches!(&facts[..], [Fact::Written { path, .. }] if path == out), "{facts:?}");
    fs::read_to_string(out).unwrap()
}

#[test]
fn chat_is_renamed_found_deleted_and_brought_back() {
    let home = Home::empty();
    let setup = tiny_setup(&home);
    let mut client = client(&home);
    let keep = new_chat();
    let question = Message::new(None, Role::User, "Warum ist der Himmel über uns blau?");
    answer(&mut client, turn(&setup, std::slice::from_ref(&question), 1), keep);
    let id = keep.chat;
    let rename = |title: &str| JobSpec::RenameChat { id, title: title.to_owned() };
    let list = chats(&mut client, rename("Farben"));
    assert_eq!((list.len(), list[0].title.as_str(), list[0].n_messages), (1, "Farben", 2));
    assert_eq!(failed(&mut client, rename("  ")).summary, "A chat needs a title");

    let hits = find(&mut client, "HIMMEL ÜBER");
    assert_eq!((hits.len(), hits[0].chat, hits[0].message), (1, id, Some(question.id)));
    assert_eq!(hits[0].excerpt, question.content);
    assert_eq!(find(&mut client, "farben")[0].message, None);
    assert!(find(&mut client, "H%l").is_empty());

    assert!(chats(&mut client, JobSpec::DeleteChat { id }).is_empty());
    assert!(find(&mut client, "Himmel").is_empty());
    assert_eq!(load(&mut client, None), None);
    assert_eq!(chats(&mut client, JobSpec::RestoreChat { id }), list);
    assert_eq!(load(&mut client, None).unwrap().id, id);
    let nowhere = JobSpec::DeleteChat { id: Uuid::nil() };
    assert_eq!(failed(&mut client, nowhere).summary, "There is no such chat");
}

#[test]
fn answers_given_again_are_branches_and_the_one_that_is_shown_is_exported() {
    let home = Home::empty();
    let setup = tiny_setup(&home);
    let mut client = client(&home);
    let question = Message::new(None, Role::User, "hello");
    let first = new_chat();
    let again = KeepIn { chat: first.chat, reply: Uuid::now_v7() };
    let mut ask = |keep: KeepIn, seed: u64| {
        let turn = turn(&setup, std::slice::from_ref(&question), seed);
        let turn = ChatTurn { system: "Be brief.".to_owned(), ..turn };
        answer(&mut client, turn, keep)
    };
    let replies = [ask(first, 1), ask(again, 2)];
    assert_ne!(replies[0].text, replies[1].text);

    let id = Some(first.chat);
    let chat = load(&mut client, id).unwrap();
    assert_eq!((chat.title.as_str(), chat.system.as_str()), ("hello", "Be brief."));
    assert_eq!(chat.leaf, Some(again.reply));
    let ids: Vec<_> = chat.messages.iter().map(|message| (message.id, message.parent)).collect();
    let parent = Some(question.id);
    assert_eq!(ids, [(question.id, None), (first.reply, parent), (again.reply, parent)]);
    for (message, reply) in chat.messages[1..].iter().zip(&replies) {
        let tokens = message.figures.unwrap().tokens;
        assert_eq!((&message.content, tokens), (&reply.text, reply.figures.tokens));
        assert_eq!(message.finish, Some(reply.finish));
    }

    let choose = JobSpec::SetBranch { chat: first.chat, leaf: first.reply };
    assert!(done(&mut client, choose).is_empty());
    let stray = JobSpec::SetBranch { chat: first.chat, leaf: Uuid::nil() };
    assert_eq!(failed(&mut client, stray).summary, "That message is not in this chat");
    let out = home.path().join("exports").join("chat.md");
    let export_chat = |out: &Path| JobSpec::ExportChat { id, out: new_file(out) };
    let text = export(&mut client, export_chat(&out), &out);
    assert!(text.starts_with("# hello\n\n## System\n\nBe brief.\n\n## You\n\nhello\n"), "{text}");
    let stamp = replies[0].recipe.to_string();
    assert!(text.contains(&format!("`{stamp}`")) && text.contains(replies[0].text.trim_end()));
    assert!(!text.contains(replies[1].text.trim()), "{text}");

    let out = home.path().join("chat.json");
    let text = export(&mut client, export_chat(&out), &out);
    let all: Chat = serde_json::from_str(&text).unwrap();
    let all_ids: Vec<_> = all.messages.iter().map(|message| (message.id, message.parent)).collect();
    assert_eq!((all_ids, all.leaf), (ids, Some(first.reply)));
    assert!(home.leftovers().is_empty());
}

#[test]
fn audit_log_is_exported_and_exports_are_in_it() {
    let home = Home::empty();
    let mut client = client(&home);
    done(&mut client, JobSpec::Prepare(tiny_setup(&home)));
    let export_audit = |out: &Path| JobSpec::ExportAudit { out: new_file(out) };
    let out = home.path().join("audit.csv");
    let csv = export(&mut client, export_audit(&out), &out);
    assert!(csv.starts_with("time,action,detail\r\n") && csv.contains(",recipe,"), "{csv}");
    let out = home.path().join("audit.json");
    let json = export(&mut client, export_audit(&out), &out);
    let entries: Vec<AuditEntry> = serde_json::from_str(&json).unwrap();
    let actions: Vec<_> = entries.iter().map(|entry| entry.action.as_str()).collect();
    assert_eq!(actions, ["recipe", "export"]);
    assert!(entries[1].detail.contains("audit.csv"), "{entries:?}");
    let nowhere = JobSpec::ExportChat { id: None, out: new_file(&home.path().join("chat.md")) };
    assert_eq!(failed(&mut client, nowhere).summary, "There is no chat yet");
    // What is there goes only where that was said.
    let err = failed(&mut client, export_audit(&out));
    assert_eq!(err.remedy, Some(Remedy::Replace), "{err}");
    assert_eq!(fs::read_to_string(&out).unwrap(), json);
    let replace = ExportTarget { path: out.clone(), replace: true };
    assert_ne!(export(&mut client, JobSpec::ExportAudit { out: replace }, &out), json);
    // The folder of the database itself can't become a file.
    let err = failed(&mut client, export_audit(&home.path().join("workspace")));
    assert!(err.summary.contains("could not be written"), "{err}");
}

#[test]
fn standing_instructions_are_read_before_the_question() {
    let home = Home::empty();
    let setup = tiny_setup(&home);
    let mut client = client(&home);
    let question = [Message::new(None, Role::User, "hello")];
    let plain = answer(&mut client, turn(&setup, &question, 1), new_chat());
    let instructed = ChatTurn { system: "Be brief.".to_owned(), ..turn(&setup, &question, 1) };
    let instructed = answer(&mut client, instructed, new_chat());
    let as_a_turn = [&[Message::new(None, Role::System, "Be brief.")], &question[..]].concat();
    let as_a_turn = answer(&mut client, turn(&setup, &as_a_turn, 1), new_chat());
    assert!(instructed.figures.prompt_tokens > plain.figures.prompt_tokens);
    assert_eq!(instructed.figures.prompt_tokens, as_a_turn.figures.prompt_tokens);
    assert_eq!(instructed.text, as_a_turn.text);
}

#[test]
fn vector_that_cannot_be_used_is_named_as_the_request_named_it() {
    let home = Home::empty();
    let mut setup = tiny_setup(&home);
    let mut client = client(&home);
    let adapter = home.path().join("adapter");
    tiny_adapter(&TINY, 1).write(&adapter);
    let mut about = |file: &str, coefficient: f64| {
        let fitting = VectorTerm::new(adapter.clone(), 0.5);
        setup.vectors = vec![fitting, VectorTerm::new(file, coefficient)];
        let vectors = setup.vectors.clone();
        let merge = MergeSpec {
            model: setup.model.clone(),
            method: Method::default(),
            vectors,
            dtype: None,
            format: MergeFormat::Folder { max_shard_bytes: 1 << 30 },
            out: ExportTarget { path: home.path().join("merged"), replace: false },
        };
        let errors = [
            JobSpec::Prepare(setup.clone()),
            JobSpec::Merge(merge),
            JobSpec::Bench(BenchSpec::Decode { setup: setup.clone() }),
        ]
        .map(|spec| failed(&mut client, spec));
        for err in &errors {
            assert_eq!(err.about, Some(PathBuf::from(file)), "{err}");
            assert_eq!(err, &errors[0]);
        }
        errors[0].clone()
    };
    // A vector that comes with the demo, by its bare name; the words name the tensor, once.
    let misfit = about("medical", 1.0);
    assert!(misfit.summary.starts_with("The vector does not fit the model: "), "{misfit}");
    assert!(misfit.summary.ends_with(&misfit.detail), "{misfit}");
    assert!(about("nowhere.safetensors", 1.0).summary.contains("does not exist"));
    assert!(about("medical", f64::NAN).summary.contains("not a finite number"));

    let demo = Setup { model: "demo".into(), ..tiny_setup(&home) };
    let err = failed(&mut client, JobSpec::Prepare(demo));
    assert_eq!((err.about, err.remedy), (None, Some(Remedy::FetchDemo)));
}

#[test]
fn loaded_model_says_where_it_is_and_what_it_takes() {
    let home = Home::empty();
    let mut setup = tiny_setup(&home);
    let mut client = client(&home);
    let adapter = home.path().join("adapter");
    tiny_adapter(&TINY, 1).write(&adapter);
    setup.vectors = vec![VectorTerm::new(adapter.clone(), 0.5)];
    let mut prepare = || -> LoadedModel {
        let facts = done(&mut client, JobSpec::Prepare(setup.clone()));
        let [Fact::Ready(loaded)] = &facts[..] else { panic!("{facts:?}") };
        loaded.as_ref().clone()
    };
    let loaded = prepare();
    assert_eq!(loaded.path, setup.model);
    assert_eq!(loaded.vectors[0].fingerprint, loaded.recipe.vectors[0].fingerprint);
    let memory = loaded.memory.unwrap();
    assert!(memory.used_bytes > 1 << 20 && memory.used_bytes < memory.total_bytes, "{memory:?}");
    assert_eq!(prepare().recipe, loaded.recipe);
    for (path, kind) in [(setup.model.clone(), FileKind::Model), (adapter, FileKind::Vector)] {
        let facts = done(&mut client, JobSpec::Describe { path });
        assert!(
            matches!(&facts[..], [Fact::Described(description)] if description.kind == kind),
            "{facts:?}"
        );
    }
}

#[test]
fn question_is_kept_before_anything_can_fail_and_older_answers_stay_shown() {
    let home = Home::empty();
    let setup = tiny_setup(&home);
    let demo = Setup { model: "demo".into(), ..setup.clone() };
    let mut client = client(&home);
    let keep = new_chat();
    let question = Message::new(None, Role::User, "hello");
    let ask = |setup: &Setup, keep: KeepIn| {
        let turn = turn(setup, std::slice::from_ref(&question), 1);
        ChatTurn { system: "Be brief.".to_owned(), keep: Some(keep), ..turn }
    };
    let err = failed(&mut client, JobSpec::Chat(ask(&demo, keep)));
    assert_eq!(err.remedy, Some(Remedy::FetchDemo));
    let chat = load(&mut client, Some(keep.chat)).unwrap();
    assert_eq!((chat.system.as_str(), chat.leaf), ("Be brief.", Some(question.id)));
    assert_eq!(chat.messages, std::slice::from_ref(&question));

    let reply = answer(&mut client, ask(&setup, keep), keep);
    assert_eq!(reply.finish, FinishReason::Length);
    let again = KeepIn { reply: Uuid::now_v7(), ..keep };
    failed(&mut client, JobSpec::Chat(ask(&demo, again)));
    let chat = load(&mut client, Some(keep.chat)).unwrap();
    assert_eq!((chat.messages.len(), chat.leaf), (2, Some(keep.reply)));
    let out = home.path().join("chat.md");
    let export_chat = JobSpec::ExportChat { id: Some(keep.chat), out: new_file(&out) };
    let text = export(&mut client, export_chat, &out);
    assert!(text.contains("` (cut: the longest answer was reached)\n"), "{text}");
}

#[test]
fn workspace_that_cannot_be_used_is_said_once_a_job_and_tried_again() {
    let home = Home::empty();
    let setup = tiny_setup(&home);
    let in_the_way = home.path().join("workspace");
    fs::write(&in_the_way, "").unwrap();
    let mut client = client(&home);
    let keep = new_chat();
    let question = Message::new(None, Role::User, "hello");
    let turn = turn(&setup, std::slice::from_ref(&question), 1);
    let mut unkept = |keep: KeepIn| {
        let facts = done(&mut client, JobSpec::Chat(ChatTurn { keep: Some(keep), ..turn.clone() }));
        assert!(matches!(facts.last(), Some(Fact::Reply(_))), "{facts:?}");
        let words = |fact: Fact| match fact {
            Fact::Unkept(words) => Some(words),
            _ => None,
        };
        facts.into_iter().filter_map(words).collect::<Vec<_>>()
    };
    for _ in 0..2 {
        let words = unkept(keep);
        assert_eq!(words.len(), 1, "{words:?}");
        assert!(words[0].starts_with("nothing is kept: "), "{words:?}");
    }
    fs::remove_file(&in_the_way).unwrap();
    assert!(unkept(keep).is_empty());
    assert_eq!(load(&mut client, Some(keep.chat)).unwrap().messages.len(), 2);
}

#[test]
fn model_that_makes_room_for_another_is_said_to_be_gone() {
    let home = Home::empty();
    let setup = tiny_setup(&home);
    let mut client = client(&home);
    let facts = done(&mut client, JobSpec::Prepare(setup.clone()));
    assert!(matches!(&facts[..], [Fact::Ready(_)]), "{facts:?}");
    // Where there is none, nothing goes.
    let nowhere = Setup { model: home.path().join("nowhere"), ..setup.clone() };
    let (outcome, facts) = run(&mut client, JobSpec::Prepare(nowhere));
    assert!(matches!(outcome, Outcome::Failed(_)) && facts.is_empty(), "{outcome:?} {facts:?}");
    let other = Setup { dtype: Dtype::Bf16, ..setup };
    let facts = done(&mut client, JobSpec::Prepare(other));
    assert!(matches!(&facts[..], [Fact::Unloaded, Fact::Ready(_)]), "{facts:?}");
}

#[test]
fn hostile_metadata_is_shown_on_short_lines() {
    let home = Home::empty();
    let mut setup = tiny_setup(&home);
    let mut client = client(&home);
    let path = home.path().join("hostile.safetensors");
    let mut vector = tiny_dense_vector(&TINY, &"legal\n\u{1b}[2J".repeat(1000), 1);
    let training = serde_json::json!({ "k\n".repeat(1000): "v\n".repeat(100_000) });
    vector.metadata.insert("meav.training".to_owned(), training.to_string());
    vector.write(&path);
    let is_short = |text: &str, max_chars: usize| {
        text.chars().count() <= max_chars && !text.chars().any(char::is_control)
    };
    let facts = done(&mut client, JobSpec::Describe { path: path.clone() });
    let [Fact::Described(description)] = &facts[..] else { panic!("{facts:?}") };
    assert!(is_short(&description.title, 80), "{}", description.title);
    for (name, value) in &description.rows {
        assert!(is_short(name, 60) && is_short(value, 500), "{name}: {value}");
    }
    assert!(description.rows.iter().any(|(_, value)| value.ends_with('…')));
    setup.vectors = vec![VectorTerm::new(path, 0.5)];
    let facts = done(&mut client, JobSpec::Prepare(setup));
    let [Fact::Ready(loaded)] = &facts[..] else { panic!("{facts:?}") };
    assert!(is_short(&loaded.vectors[0].domain, 60), "{:?}", loaded.vectors[0]);
    assert_eq!(loaded.recipe.vectors[0].domain, loaded.vectors[0].domain);
}

#[test]
fn reading_a_conversation_counts_only_what_is_new() {
    let home = Home::empty();
    let setup = tiny_setup(&home);
    let mut client = client(&home);
    let question = Message::new(None, Role::User, "hello");
    let mut messages = vec![question];
    let first = answer(&mut client, turn(&setup, &messages, 1), new_chat());
    messages.push(Message::new(Some(messages[0].id), Role::Assistant, first.text));
    messages.push(Message::new(Some(messages[1].id), Role::User, "and then?"));
    let (mut progress, mut reply) = (None, None);
    let spec = JobSpec::Chat(turn(&setup, &messages, 1));
    let outcome = client.run(spec, &|| false, |update| match update {
        Update::Progress { stage: Stage::ReadingPrompt, done, total } => {
            progress.get_or_insert((done, total));
        }
        Update::Fact(Fact::Reply(end)) => reply = Some(end),
        _ => {}
    });
    assert_eq!(outcome, Outcome::Done);
    let figures = reply.unwrap().figures;
    assert!(figures.reused_tokens > 0, "{figures:?}");
    let new = (figures.prompt_tokens - figures.reused_tokens) as u64;
    assert_eq!(progress, Some((0, new)));
}
