//! What the real window costs under software rendering: processor time per frame while a knob is
//! dragged and while an answer streams, for a short and for a long chat; start; memory.
//!
//! Processor time is that of the whole window process, the threads that draw included. Build the
//! app before (`cargo build --release`) and have nothing else running.

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};
use std::{env, fs, io, thread};

use desktop::{Screen, Studio};
use egui::{Key, Modifiers, pos2};
use meav_client::{Client, EngineProcess};
use meav_protocol::{ChatTurn, Dtype, JobSpec, KeepIn, Message, Method, Role, SamplingSpec, Setup};
use uuid::Uuid;

/// Frames to measure.
const FRAMES: u32 = 100;

/// Ticks of the kernel's clock per second, on every Linux that matters.
const TICKS_PER_SEC: f64 = 100.0;

fn main() -> io::Result<()> {
    let programs = env::current_exe()?.ancestors().nth(2).unwrap_or(Path::new(".")).to_owned();
    let models = programs.join("picture-home/models");
    if !models.is_dir() {
        return Err(io::Error::other(
            "run `cargo xtask run --screenshot FILE` first: it fetches the demo",
        ));
    }
    let screen = Screen::start(1280, 860)?;
    for n_messages in [5, 500] {
        let home = tempfile::tempdir()?;
        std::os::unix::fs::symlink(&models, home.path().join("models"))?;
        keep_chat(&programs, home.path(), n_messages);
        measure(&screen, &programs.join("meav-studio"), home.path(), n_messages)?;
    }
    Ok(())
}

/// A chat in the workspace. The engine keeps it, and refuses to answer where it is too long.
fn keep_chat(programs: &Path, home: &Path, n_messages: usize) {
    let mut messages: Vec<Message> = Vec::new();
    while messages.len() < n_messages {
        let (role, text) = if messages.len().is_multiple_of(2) {
            (Role::User, "What could cause chest pain after exercise?")
        } else {
            (
                Role::Assistant,
                "Common causes are:\n\n1. **Strain** of the chest wall\n2. *Angina*\n\nSee a doctor if the pain lasts longer than `15 minutes`.",
            )
        };
        messages.push(Message::new(messages.last().map(|message| message.id), role, text));
    }
    let turn = ChatTurn {
        setup: Setup {
            model: "demo".into(),
            dtype: Dtype::Bf16,
            method: Method::default(),
            vectors: Vec::new(),
        },
        system: String::new(),
        messages,
        sampling: SamplingSpec {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repeat_penalty: 1.0,
            seed: 1,
        },
        max_tokens: 1,
        keep: Some(KeepIn { chat: Uuid::now_v7(), reply: Uuid::now_v7() }),
    };
    let engine = EngineProcess::at(programs.join("meav-engine"), home);
    let _answered_or_too_long =
        Client::new(engine, || ()).run(JobSpec::Chat(turn), &|| false, |_| ());
}

fn measure(screen: &Screen, program: &Path, home: &Path, n_messages: usize) -> io::Result<()> {
    let started = Instant::now();
    let mut studio = Studio::start(screen, program, home, &[])?;
    say(&format!("{n_messages} messages"));
    say(&format!("  answers to questions after {:.2} s", started.elapsed().as_secs_f64()));
    studio.labelled("as set")?;
    let knob = studio.labelled("λ of medical")?.rect;
    // What is in sight is laid out for the first time.
    thread::sleep(Duration::from_secs(1));
    say(&format!("  memory {:.0} MB", memory_bytes(studio.id())? / 1e6));
    let at = |step: u32| {
        let share = 0.3 + 0.4 * (f64::from(step % 20) / 20.0) as f32;
        pos2(knob.left() + knob.width() * share, knob.center().y)
    };
    let cost = cost_per_frame(&mut studio, |studio| {
        studio.hold(at(0))?;
        (1..FRAMES).try_for_each(|step| studio.move_to(at(step)))?;
        studio.release(at(0))
    })?;
    say(&format!("  dragging {cost:.1} ms of processor time per frame"));
    studio.press(Modifiers::COMMAND, Key::N)?;
    studio.press(Modifiers::COMMAND, Key::L)?;
    studio.write("Tell me a long story about a ship.")?;
    studio.press(Modifiers::NONE, Key::Enter)?;
    studio.labelled("Stop the answer")?;
    let cost = cost_per_frame(&mut studio, |_| {
        thread::sleep(Duration::from_secs(2));
        Ok(())
    })?;
    say(&format!("  streaming {cost:.1} ms of processor time per frame"));
    Ok(())
}

fn say(text: &str) {
    // With standard output gone there is nobody left to tell.
    let _gone = writeln!(io::stdout(), "{text}");
}

/// Milliseconds of processor time of the window process for each frame that it draws meanwhile.
fn cost_per_frame(
    studio: &mut Studio,
    run: impl FnOnce(&mut Studio) -> io::Result<()>,
) -> io::Result<f64> {
    let (frames, ticks) = (studio.frames()?, processor_ticks(studio.id())?);
    run(studio)?;
    let (frames, ticks) = (studio.frames()? - frames, processor_ticks(studio.id())? - ticks);
    Ok(ticks / TICKS_PER_SEC * 1e3 / frames as f64)
}

/// Of all threads, in the kernel and outside.
fn processor_ticks(process: u32) -> io::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The second field, the name, may contain anything but a closing bracket at its end.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    Ok(fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum())
}

/// What the process would free if it ended: shared pages count in shares.
fn memory_bytes(process: u32) -> io::Result<f64> {
    let rollup = fs::read_to_string(format!("/proc/{process}/smaps_rollup"))?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap_or_default();
    let kilobytes = line.split_whitespace().next().and_then(|word| word.parse::<f64>().ok());
    Ok(kilobytes.unwrap_or_default() * 1024.0)
}
