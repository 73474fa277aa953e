//! The real window on a screen that nobody sees, over the real engine and the demo model.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use std::{fs, thread};

use desktop::{Screen, Studio, Widget};
use egui::accesskit::Role;
use egui::{Key, Modifiers};
use meav_protocol::{Fact, JobSpec, RunState, Sweep, TrainSummary};

use crate::support::{Home, PATIENCE, client, demo_data, demo_vector, programs, run, str};
use crate::train::{hold_same, short_records};

fn studio() -> PathBuf {
    programs().join("meav-studio")
}

fn start(screen: &Screen, home: &Home) -> Studio {
    Studio::start(screen, &studio(), home.path(), &[]).unwrap()
}

fn ask(studio: &mut Studio, question: &str) {
    studio.press(Modifiers::COMMAND, Key::L).unwrap();
    studio.write(question).unwrap();
    studio.press(Modifiers::NONE, Key::Enter).unwrap();
}

fn ended_well(studio: &mut Studio) {
    if let Err(err) = studio.wait() {
        panic!("{err}");
    }
}

/// The name of the button that leads back to an answer's recipe.
fn chip(widget: &Widget) -> bool {
    widget.label.starts_with("Set the knobs to #")
}

/// Waits until something outside the app is so.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{what} did not come in time");
        thread::sleep(Duration::from_millis(50));
    }
}

fn has_window(screen: &Screen, title: &str) -> bool {
    !screen.xdotool(&["search", "--onlyvisible", "--name", title]).unwrap().is_empty()
}

#[test]
fn a_knob_is_turned_a_question_answered_and_the_guide_read() {
    let screen = Screen::start(1280, 860).unwrap();
    let home = Home::with_demo();
    let mut studio = start(&screen, &home);
    studio.labelled("as set").unwrap();

    let knob = studio.labelled("λ of medical").unwrap();
    assert_eq!(knob.number, Some(0.0));
    let to = egui::pos2(knob.rect.left() + knob.rect.width() * 0.8, knob.rect.center().y);
    studio.drag(knob.rect.center(), to).unwrap();
    let turned = studio.labelled("λ of medical").unwrap().number.unwrap();
    assert!((0.5..1.5).contains(&turned), "{turned}");
    studio.labelled("as set").unwrap();

    ask(&mut studio, "What is the capital of France?");
    studio.wait_for("tokens", |widget| widget.label.contains("tokens ·")).unwrap();
    studio.labelled("Regenerate the answer").unwrap();
    let stamp = studio.wait_for("the recipe stamp", chip).unwrap().label;
    let lambda = format!("medical +{turned}");
    assert!(stamp.ends_with(&lambda), "{stamp} is not of {lambda}");
    studio.wait_for("speed", |widget| widget.label.contains("tok/s · first token")).unwrap();

    // The knob goes away, and the stamp brings it back.
    studio.press(Modifiers::COMMAND, Key::B).unwrap();
    let is_base = |widget: &Widget| widget.label == "λ of medical" && widget.number == Some(0.0);
    studio.wait_for("the base", is_base).unwrap();
    studio.click(&stamp).unwrap();
    let is_back = |widget: &Widget| widget.label == "λ of medical" && widget.number == Some(turned);
    studio.wait_for("the knob as it was", is_back).unwrap();

    studio.press(Modifiers::NONE, Key::F1).unwrap();
    until("the guide", || has_window(&screen, "MEAV Studio: user guide"));
    screen
        .xdotool(&["search", "--name", "MEAV Studio: user guide", "windowactivate", "--sync"])
        .unwrap();
    screen.xdotool(&["key", "--clearmodifiers", "alt+F4"]).unwrap();
    until("the guide's end", || !has_window(&screen, "MEAV Studio: user guide"));
    studio.labelled("as set").unwrap();

    let picture = programs().join("window.png");
    studio.save_picture(&picture).unwrap();
    assert!(fs::metadata(&picture).unwrap().len() > 20_000, "{picture:?} shows nothing");

    studio.press(Modifiers::COMMAND, Key::Q).unwrap();
    ended_well(&mut studio);
}

#[test]
fn vectors_are_listed_compared_made_smaller_and_put_on_a_knob() {
    let screen = Screen::start(1280, 860).unwrap();
    let home = Home::with_demo();
    let mut studio = start(&screen, &home);
    studio.labelled("as set").unwrap();
    studio.press(Modifiers::COMMAND, Key::Num5).unwrap();
    studio.labelled("low-rank").unwrap();
    studio.labelled("this base").unwrap();
    studio.click("Compare vectors").unwrap();
    let is_cell = |it: &Widget| it.label.starts_with("layer 3, MLP: cosine +0.");
    studio.wait_for("the interference map", is_cell).unwrap();

    studio.click("Compress vector…").unwrap();
    let is_field =
        |it: &Widget| it.value.as_ref().is_some_and(|it| it.ends_with("rank-16.safetensors"));
    let field = studio.wait_for("the field for the file", is_field).unwrap().rect.center();
    studio.drag(field, field).unwrap();
    studio.press(Modifiers::COMMAND, Key::A).unwrap();
    let out = home.path().join("small.safetensors");
    studio.write(out.to_str().unwrap()).unwrap();
    let is_written = |it: &Widget| it.value.as_deref() == out.to_str();
    studio.wait_for("the file's name", is_written).unwrap();
    studio.click("Compress").unwrap();
    studio.labelled("Compressed: medical").unwrap();
    assert!(out.is_file() && home.leftovers().is_empty());
    studio.click("Add to knobs").unwrap();
    let is_it = |it: &Widget| it.label.contains("small.safetensors");
    studio.wait_for("the new vector in the table", is_it).unwrap();
    studio.press(Modifiers::COMMAND, Key::Q).unwrap();
    ended_well(&mut studio);
}

/// Types over what is in the field of this name.
fn fill(studio: &mut Studio, label: &str, text: &str) {
    let is_field = |it: &Widget| it.label == label && it.role == Role::TextInput;
    let field = studio.wait_for(label, is_field).unwrap().rect.center();
    studio.drag(field, field).unwrap();
    studio.press(Modifiers::COMMAND, Key::A).unwrap();
    studio.write(text).unwrap();
    let is_written = |it: &Widget| it.label == label && it.value.as_deref() == Some(text);
    studio.wait_for(label, is_written).unwrap();
}

#[test]
fn sweep_in_the_window_has_the_numbers_of_the_command_and_a_chat_in_between() {
    let screen = Screen::start(1280, 1000).unwrap();
    let home = Home::with_demo();
    let data = home.path().join("medical.test.jsonl");
    let records = fs::read_to_string(demo_data("medical.test.jsonl")).unwrap();
    let records: Vec<&str> = records.lines().take(4).collect();
    fs::write(&data, records.join("\n")).unwrap();
    let mut studio = start(&screen, &home);
    studio.labelled("as set").unwrap();
    studio.press(Modifiers::COMMAND, Key::Num6).unwrap();
    fill(&mut studio, "Step of λ", "0.75");
    studio.labelled("5 points").unwrap();
    fill(&mut studio, "Path of data", data.to_str().unwrap());
    studio.press(Modifiers::NONE, Key::Enter).unwrap();
    studio.wait_for("the data", |it| it.label.contains("levels on 4 records")).unwrap();
    studio.click("Start").unwrap();
    studio.wait_for("a point", |it| it.label.contains("of 5 points so far")).unwrap();

    // Somebody asks something meanwhile.
    studio.press(Modifiers::COMMAND, Key::Num4).unwrap();
    ask(&mut studio, "What is the capital of France?");
    studio.wait_for("tokens", |it| it.label.contains("tok/s · first token")).unwrap();
    studio.press(Modifiers::COMMAND, Key::Num6).unwrap();
    let is_whole = |it: &Widget| it.label.contains("· 5 points");
    studio.wait_for("the whole sweep", is_whole).unwrap();
    studio.press(Modifiers::COMMAND, Key::Q).unwrap();
    ended_well(&mut studio);

    let mut client = client(&home);
    let (_, facts) = run(&mut client, JobSpec::ListSweeps);
    let [Fact::Sweeps(sweeps)] = &facts[..] else { panic!("{facts:?}") };
    let (_, facts) = run(&mut client, JobSpec::LoadSweep { run: sweeps[0].run });
    let [Fact::Sweep(window)] = &facts[..] else { panic!("{facts:?}") };

    let elsewhere = Home::with_demo();
    let out = elsewhere.path().join("out");
    elsewhere.stdout(&[
        "sweep",
        "--model",
        "demo",
        "--vector",
        "medical",
        "--lambda",
        "-1.5:1.5:0.75",
        "--data",
        str(&data),
        "--out",
        str(&out),
    ]);
    let text = fs::read_to_string(out.join("sweep.json")).unwrap();
    let command: Sweep = serde_json::from_str(&text).unwrap();
    assert_eq!(window.points.len(), 5);
    assert_eq!(window.points, command.points);
}

/// The runs that the workspace knows, newest first.
fn trainings(home: &Home) -> Vec<TrainSummary> {
    let (_, mut facts) = run(&mut client(home), JobSpec::ListTrainings);
    match facts.pop() {
        Some(Fact::Trainings(runs)) => runs,
        other => panic!("{other:?}"),
    }
}

#[test]
fn run_is_paused_talked_to_and_ended_and_another_one_cancelled() {
    let screen = Screen::start(1280, 1000).unwrap();
    let home = Home::with_demo();
    let data = short_records(&home, 6);
    let mut studio = start(&screen, &home);
    studio.labelled("as set").unwrap();
    studio.press(Modifiers::COMMAND, Key::Num7).unwrap();
    fill(&mut studio, "Batch", "2");
    fill(&mut studio, "Path of data", str(&data));
    studio.press(Modifiers::NONE, Key::Enter).unwrap();
    studio.wait_for("the data", |it| it.label.contains("levels on 6 records")).unwrap();
    studio.click("Start").unwrap();
    let is_on_its_way = |it: &Widget| it.label.starts_with("step 1 of 6");
    studio.wait_for("a step", is_on_its_way).unwrap();
    studio.click("Pause").unwrap();
    let is_paused = |it: &Widget| it.label.ends_with("of 6 · paused");
    let held_at = studio.wait_for("the pause", is_paused).unwrap().label;

    // What is trained so far answers, and is left alone meanwhile.
    studio.click("Chat with it").unwrap();
    let half = |it: &Widget| it.label == "λ of medical" && it.number == Some(1.0);
    studio.wait_for("the half-trained vector on a knob", half).unwrap();
    studio.labelled("as set").unwrap();
    ask(&mut studio, "What is the capital of France?");
    studio.wait_for("an answer", |it| it.label.contains("tok/s · first token")).unwrap();
    let stamp = studio.wait_for("the recipe stamp", chip).unwrap().label;
    assert!(stamp.contains("medical +1"), "{stamp}");
    studio.press(Modifiers::COMMAND, Key::Num7).unwrap();
    studio.labelled(&held_at).unwrap();
    studio.click("Go on").unwrap();
    studio.labelled("on SmolLM2-135M-Instruct.Q4_1 · 12 pairs · 6 steps").unwrap();
    studio.save_picture(&programs().join("train.png")).unwrap();
    studio.click("Add to knobs").unwrap();
    studio.wait_for("a word about it", |it| it.label.starts_with("It is on a knob")).unwrap();
    studio.labelled("as set").unwrap();
    let widgets = studio.widgets().unwrap();
    assert!(widgets.iter().any(half), "the knob of the half-trained vector is not the whole one's");
    assert!(!widgets.iter().any(|it| it.label.contains("does not exist")), "{widgets:?}");

    studio.click("New vector").unwrap();
    studio.click("Start").unwrap();
    studio.wait_for("a step of another run", is_on_its_way).unwrap();
    studio.click("Cancel").unwrap();
    studio.wait_for("its end", |it| it.label.contains("stopped at step")).unwrap();
    studio.press(Modifiers::COMMAND, Key::Q).unwrap();
    ended_well(&mut studio);

    let runs = trainings(&home);
    let states: Vec<RunState> = runs.iter().map(|it| it.state).collect();
    assert_eq!(states, [RunState::Stopped, RunState::Finished]);
    let [cancelled, whole] = [0, 1].map(|n| runs[n].folder.as_path());
    assert!(cancelled.is_dir() && !cancelled.join("vector.safetensors").exists());
    assert_eq!(home.leftovers(), Vec::<PathBuf>::new());

    // The run that was interrupted came to where the command comes in one go.
    let quiet = home.path().join("quiet");
    let data = ["--data", str(&data), "--batch", "2"];
    home.stdout(&[&["train", "--model", "demo", "--out", str(&quiet)][..], &data].concat());
    hold_same(whole, &quiet);
}

#[test]
fn engine_killed_in_mid_answer_leaves_the_window_and_the_words() {
    let screen = Screen::start(1024, 700).unwrap();
    let home = Home::with_demo();
    let mut studio = start(&screen, &home);
    studio.labelled("as set").unwrap();
    ask(&mut studio, "Tell me a long story about a ship.");
    studio.wait_for("tokens", |widget| widget.label.contains("tok/s")).unwrap();
    let engine = engine_of(studio.id()).expect("an engine");
    let killed = Command::new("kill").args(["-KILL", &engine.to_string()]).status().unwrap();
    assert!(killed.success());

    studio.wait_for("the reason", |it| it.label.starts_with("The engine stopped")).unwrap();
    studio.labelled("Cut off").unwrap();
    ask(&mut studio, "What is the capital of France?");
    studio
        .wait_for("an answer", |it| {
            it.label.contains("Paris") || it.label.contains("tok/s · first")
        })
        .unwrap();
    assert_ne!(engine_of(studio.id()), Some(engine));
    drop(studio);

    // The next start has both answers, the first as far as it came.
    let mut studio = start(&screen, &home);
    studio.wait_for("the chat", |it| it.label.contains("What is the capital")).unwrap();
    studio.wait_for("the last answer", |it| it.label.contains("tok/s · first")).unwrap();
    studio.labelled("Cut off").unwrap();
}

#[test]
fn second_launch_brings_its_file_to_the_first() {
    let screen = Screen::start(1024, 700).unwrap();
    let home = Home::with_demo();
    let copy = home.path().join("second-opinion.safetensors");
    fs::copy(demo_vector("medical"), &copy).unwrap();
    let mut studio = start(&screen, &home);
    studio.labelled("as set").unwrap();
    let knobs = |studio: &mut Studio| {
        let widgets = studio.widgets().unwrap();
        widgets.iter().filter(|it| it.label == "λ of medical").count()
    };
    assert_eq!(knobs(&mut studio), 1);
    let second = screen
        .command(&self::studio())
        .arg("second-opinion.safetensors")
        .current_dir(home.path())
        .env("MEAV_HOME", home.path())
        .status()
        .unwrap();
    assert!(second.success());
    until("the second knob", || knobs(&mut studio) == 2);
}

/// The process that has this parent and is an engine.
fn engine_of(parent: u32) -> Option<u32> {
    let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    entries
        .filter_map(|entry| entry.file_name().to_string_lossy().parse().ok())
        .find(|process| is_engine_of(*process, parent))
}

fn is_engine_of(process: u32, parent: u32) -> bool {
    let folder = Path::new("/proc").join(process.to_string());
    let Ok(status) = fs::read_to_string(folder.join("status")) else { return false };
    status.lines().any(|line| line == format!("PPid:\t{parent}"))
        && status.lines().any(|line| line == "Name:\tmeav-engine")
        && !status.contains("State:\tZ")
}
