//! Values of the protocol, as an engine would send them.

use std::path::Path;

use meav_protocol::{
    Chat, ChatSummary, Description, Dtype, Event, Fact, FileKind, FinishReason, LoadedModel,
    MemoryUse, Message, RecipeStamp, Reply, ReplyFigures, Role, Setup, StampTerm, UserError,
    VectorInfo,
};
use meav_ui::HostInfo;
use uuid::Uuid;

/// What a file is, told from its name.
pub(crate) fn described(path: &Path) -> Fact {
    let is_model = path == "demo" || path.extension().is_some_and(|ending| ending == "gguf");
    Fact::Described(Description {
        kind: if is_model { FileKind::Model } else { FileKind::Vector },
        title: format!("Alignment vector \"{}\"", domain(path)),
        rows: vec![("levels".to_owned(), "expert, generic, avoidance".to_owned())],
    })
}

pub(crate) fn hello() -> Event {
    Event::Hello {
        protocol: meav_protocol::PROTOCOL_VERSION,
        version: "0.1.0".to_owned(),
        device: "CPU, 2 threads".to_owned(),
        log: Some("/home/me/logs/engine.log".into()),
    }
}

pub(crate) fn lost(reason: &str) -> Event {
    Event::EngineLost { reason: reason.to_owned() }
}

pub(crate) fn host() -> HostInfo {
    HostInfo {
        version: "0.1.0",
        dialogs: Ok(()),
        has_tray: true,
        current_folder: "/work".into(),
        user_home: "/home/me".into(),
        documents: "/home/me/Documents".into(),
        problem: None,
    }
}

/// An error that is about a file.
pub(crate) fn about(file: &str, summary: &str) -> UserError {
    UserError { about: Some(file.into()), ..UserError::new(summary, "Take another file") }
}

/// A chat of so many questions and their answers.
pub(crate) fn long_chat(n_questions: usize) -> Chat {
    let mut chat = Chat {
        id: Uuid::now_v7(),
        title: "A long talk".to_owned(),
        system: String::new(),
        messages: Vec::new(),
        leaf: None,
    };
    for index in 0..n_questions {
        for (role, text) in [
            (Role::User, format!("Question {index}?")),
            (Role::Assistant, format!("Answer {index}. {}", "And so on. ".repeat(index % 50))),
        ] {
            let message = Message::new(chat.leaf, role, text);
            chat.leaf = Some(message.id);
            chat.messages.push(message);
        }
    }
    chat
}

pub(crate) fn summary(id: Uuid, title: &str) -> ChatSummary {
    ChatSummary { id, title: title.to_owned(), updated: "earlier".to_owned(), n_messages: 2 }
}

pub(crate) fn stamp(setup: &Setup) -> RecipeStamp {
    let active = setup.vectors.iter().filter(|term| term.coefficient != 0.0);
    let vectors: Vec<StampTerm> = active
        .map(|term| StampTerm {
            domain: domain(&term.file),
            file: term.file.clone(),
            fingerprint: format!("blake3:{}", term.file.display()),
            coefficient: term.coefficient,
            scope: term.scope.clone(),
        })
        .collect();
    let sum: f64 = vectors.iter().map(|term| term.coefficient * 977.0).sum();
    RecipeStamp {
        fingerprint: format!("blake3:{:08x}", (sum.abs() * 100.0) as u32 ^ 0xa1b2_0000),
        base: "blake3:base".to_owned(),
        model: "SmolLM2-135M-Instruct".to_owned(),
        dtype: setup.dtype,
        method: setup.method,
        vectors,
    }
}

fn domain(file: &Path) -> String {
    file.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

pub(crate) fn ready(setup: &Setup) -> Fact {
    Fact::Ready(Box::new(loaded(setup)))
}

pub(crate) fn loaded(setup: &Setup) -> LoadedModel {
    LoadedModel {
        name: "SmolLM2-135M-Instruct".to_owned(),
        path: "/home/me/models/SmolLM2-135M-Instruct.Q4_1.gguf".into(),
        family: "llama".to_owned(),
        parameters: 134_515_008,
        layers: 30,
        context: 8192,
        dtype: Dtype::Bf16,
        recipe: stamp(setup),
        vectors: setup
            .vectors
            .iter()
            .map(|term| VectorInfo {
                domain: domain(&term.file),
                file: term.file.clone(),
                fingerprint: format!("blake3:{}", term.file.display()),
                kind: "low-rank".to_owned(),
                size_bytes: 4_900_000,
                tensors: 210,
                base_matches: Some(true),
            })
            .collect(),
        load_secs: 0.4,
        merge_secs: 0.032,
        memory: Some(MemoryUse { used_bytes: 900_000_000, total_bytes: 25_000_000_000 }),
        notes: Vec::new(),
    }
}

pub(crate) fn reply(setup: &Setup, text: &str) -> Reply {
    Reply {
        text: text.to_owned(),
        finish: FinishReason::Stop,
        recipe: stamp(setup),
        figures: ReplyFigures {
            prompt_tokens: 40,
            reused_tokens: 0,
            tokens: 120,
            first_token_secs: 0.06,
            tokens_per_sec: 160.0,
        },
    }
}
