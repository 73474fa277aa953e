//! What a frame of the window costs before it is painted: layout and tessellation.
//!
//! A chat of 500 messages must cost what one of 5 does, since only what is in sight is laid out.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use egui::{Context, RawInput, Rect, pos2, vec2};
use meav_protocol::{Chat, Command, Event, Fact, JobSpec, Message, Outcome, Role};
use meav_ui::{Effect, HostInfo, Model, Settings, app_ui, apply_style};
use uuid::Uuid;

const QUESTION: &str = "What could cause chest pain after exercise?";

const ANSWER: &str = "Common causes are:\n\n1. **Muscle strain** of the chest wall\n2. *Angina*\n\n\
    See a doctor if the pain lasts longer than `15 minutes`, and at once if it radiates into an \
    arm.\n\n- sweating\n- short breath\n";

fn chat(n_messages: usize) -> Chat {
    let mut messages: Vec<Message> = Vec::new();
    for index in 0..n_messages {
        let (role, text) =
            if index % 2 == 0 { (Role::User, QUESTION) } else { (Role::Assistant, ANSWER) };
        let parent = messages.last().map(|message| message.id);
        messages.push(Message::new(parent, role, text));
    }
    let leaf = messages.last().map(|message| message.id);
    Chat { id: Uuid::now_v7(), title: QUESTION.to_owned(), system: String::new(), messages, leaf }
}

/// A window that shows a chat.
fn model(n_messages: usize) -> Model {
    let host = HostInfo {
        version: "0",
        dialogs: Ok(()),
        has_tray: true,
        current_folder: "/work".into(),
        user_home: "/home/me".into(),
        documents: "/home/me/Documents".into(),
        problem: None,
    };
    let (mut model, effects) = Model::new(Settings::default(), host);
    for effect in effects {
        if let Effect::Send(Command::Start { job_id, spec: JobSpec::LoadChat { .. } }) = effect {
            let fact = Fact::Chat(Some(chat(n_messages)));
            model.apply(Event::Fact { job_id, fact }, 0.0);
            model.apply(Event::Finished { job_id, outcome: Outcome::Done }, 0.0);
        }
    }
    model
}

fn frame(ctx: &Context, model: &Model) -> usize {
    let screen = Rect::from_min_size(pos2(0.0, 0.0), vec2(1280.0, 800.0));
    let input = RawInput { screen_rect: Some(screen), ..RawInput::default() };
    let output = ctx.run_ui(input, |ui| {
        let _actions = app_ui(ui, model);
    });
    ctx.tessellate(output.shapes, output.pixels_per_point).len()
}

fn frames(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame");
    for n_messages in [5, 50, 500] {
        let ctx = Context::default();
        apply_style(&ctx);
        let model = model(n_messages);
        // The heights of what is in sight are learnt in the first frames.
        for _ in 0..10 {
            frame(&ctx, &model);
        }
        group.bench_function(BenchmarkId::new("messages", n_messages), |bencher| {
            bencher.iter(|| frame(&ctx, &model));
        });
    }
    group.finish();
}

criterion_group!(benches, frames);
criterion_main!(benches);
