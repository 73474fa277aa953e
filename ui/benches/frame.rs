//! What a frame of the window costs before it is painted: layout and tessellation.
//!
//! A chat of 500 messages must cost what one of 5 does, since only what is in sight is laid out; a
//! sweep of 10,001 points about what one of some hundred does, since no more are drawn at a time.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use egui::{Context, RawInput, Rect, pos2, vec2};
use meav_protocol::{
    Chat, Command, DatasetScores, Dtype, Event, Fact, JobSpec, LambdaRange, LengthOnly,
    MeasureName, Message, Method, Outcome, Role, RunState, Scope, Setup, Shares, StampTerm, Sweep,
    SweepPoint, SweepSpec, SweptData, VectorTerm,
};
use meav_ui::{
    Action, Effect, HostInfo, Model, Settings, SweepAction, UiCommand, app_ui, apply_style,
};
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

/// Five panels of curves with so many points each.
fn sweep(n_points: usize) -> Sweep {
    let levels = ["expert", "generic", "avoidance"];
    let share = |lambda: f64, place: usize| 0.5 + (lambda + place as f64).sin() / 2.0;
    let shares = |lambda: f64| -> Shares {
        let place = |(place, level): (usize, &&str)| ((*level).to_owned(), share(lambda, place));
        levels.iter().enumerate().map(place).collect()
    };
    let scores = |lambda: f64| DatasetScores {
        file: "data.jsonl".to_owned(),
        measure: MeasureName::Levels,
        n: 52,
        preference_accuracy: shares(lambda),
        intervals: shares(lambda).into_iter().map(|(it, at)| (it, [at - 0.1, at + 0.1])).collect(),
        other_kinds: [].into_iter().collect(),
        disagreements: 0,
        length_only: LengthOnly { longest: shares(0.0), shortest: shares(0.0), agreement: 0.5 },
        mean_log_prob: shares(lambda),
        prompt_tokens: 40.0,
        skipped: Vec::new(),
        preferred: Vec::new(),
        records: Vec::new(),
    };
    let range = LambdaRange { first: -1.5, last: 1.5, step: 3.0 / (n_points - 1) as f64 };
    let data = |index: usize| SweptData {
        file: format!("/d/{index}.jsonl").into(),
        name: format!("{index}.jsonl"),
        fingerprint: index.to_string(),
        measure: MeasureName::Levels,
        levels: levels.map(str::to_owned).to_vec(),
        domain: None,
        n: 52,
    };
    let point = |lambda: f64| SweepPoint {
        lambda,
        recipe: String::new(),
        datasets: (0..5).map(|_| scores(lambda)).collect(),
    };
    let setup = Setup {
        model: "demo".into(),
        dtype: Dtype::F32,
        method: Method::default(),
        vectors: vec![VectorTerm::new("medical", 0.0)],
    };
    Sweep {
        started: "2026-11-20T12:00:00Z".to_owned(),
        state: RunState::Finished,
        model: "demo".to_owned(),
        base: "blake3:base".to_owned(),
        vector: StampTerm {
            domain: "medical".to_owned(),
            file: "medical".into(),
            fingerprint: "blake3:medical".to_owned(),
            coefficient: 0.0,
            scope: Scope::default(),
        },
        base_matches: Some(true),
        held: Vec::new(),
        datasets: (0..5).map(data).collect(),
        points: range.points().into_iter().map(point).collect(),
        prompting: Vec::new(),
        elapsed_secs: 1.0,
        spec: SweepSpec {
            run: Uuid::nil(),
            setup,
            swept: 0,
            range,
            data: Vec::new(),
            prompting: None,
            reuse: true,
        },
    }
}

/// A window that shows a sweep.
fn sweep_model(n_points: usize) -> Model {
    let mut model = model(0);
    model.update(Action::Command(UiCommand::ShowSweep), 0.0);
    let run = Uuid::nil();
    for effect in model.update(Action::Sweep(SweepAction::Open(run)), 0.0) {
        if let Effect::Send(Command::Start { job_id, spec: JobSpec::LoadSweep { .. } }) = effect {
            let fact = Fact::Sweep(Box::new(sweep(n_points)));
            model.apply(Event::Fact { job_id, fact }, 0.0);
            model.apply(Event::Finished { job_id, outcome: Outcome::Done }, 0.0);
        }
    }
    assert_eq!(model.shown_sweep().map(|it| it.points.len()), Some(n_points));
    model
}

fn frame(ctx: &Context, model: &Model) -> usize {
    let screen = Rect::from_min_size(pos2(0.0, 0.0), vec2(1280.0, 800.0));
    let input = RawInput { screen_rect: Some(screen), ..RawInput::default() };
    let mut output = ctx.run_ui(input, |ui| {
        let _actions = app_ui(ui, model);
    });
    // Nothing is painted.
    output.textures_delta.clear();
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
    for n_points in [31, 10_001] {
        let ctx = Context::default();
        apply_style(&ctx);
        let model = sweep_model(n_points);
        for _ in 0..10 {
            frame(&ctx, &model);
        }
        group.bench_function(BenchmarkId::new("sweep points", n_points), |bencher| {
            bencher.iter(|| frame(&ctx, &model));
        });
    }
    group.finish();
}

criterion_group!(benches, frames);
criterion_main!(benches);
