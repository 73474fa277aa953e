//! Training: killed, paused, interrupted and cancelled; what it leaves, and what it refuses.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use meav_client::Client;
use meav_protocol::{
    ChatTurn, Dtype, Event, Fact, JobId, JobSpec, Message, Method, OptimizerState, Outcome, Role,
    RunState, SamplingSpec, Setup, TrainData, TrainMethod, TrainRun, TrainSettings, TrainSpec,
    VectorTerm,
};
use meav_test_support::{TINY, tiny_model};
use safetensors::SafeTensors;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{
    Home, PATIENCE, client, demo_data, demo_model, describe, engine_process, next, run, str,
};

/// The first words of a text.
fn cut(text: &Value, n_words: usize) -> String {
    let words: Vec<&str> = text.as_str().unwrap().split_whitespace().take(n_words).collect();
    words.join(" ")
}

/// Some records of a demo file, questions and responses cut so that a step takes a second.
pub(crate) fn short_records(home: &Home, n: usize) -> PathBuf {
    let text = fs::read_to_string(demo_data("medical.train.jsonl")).unwrap();
    let lines = text.lines().take(n).map(|line| {
        let mut record: Value = serde_json::from_str(line).unwrap();
        record["query"] = json!(cut(&record["query"], 10));
        for response in record["responses"].as_object_mut().unwrap().values_mut() {
            *response = json!(cut(response, 12));
        }
        record.to_string() + "\n"
    });
    let path = home.path().join("short.train.jsonl");
    fs::write(&path, lines.collect::<String>()).unwrap();
    path
}

/// Six steps on one epoch of six records, a checkpoint every two.
fn settings() -> TrainSettings {
    TrainSettings { batch: 2, warmup_steps: 2, checkpoint_every: 2, ..TrainSettings::default() }
}

fn spec(home: &Home, out: &str, settings: TrainSettings) -> TrainSpec {
    TrainSpec {
        run: Uuid::now_v7(),
        model: demo_model().to_owned(),
        data: vec![TrainData { file: short_records(home, 6), prefer: None }],
        domain: "medical".to_owned(),
        out: Some(home.path().join(out)),
        resume: false,
        dtype: Dtype::F32,
        settings,
    }
}

fn start(client: &mut Client, spec: &TrainSpec) -> JobId {
    client.start(JobSpec::Train(Box::new(spec.clone())))
}

fn tell(client: &Client, command: meav_protocol::Command) {
    client.send(command).unwrap();
}

/// Waits for a fact that `pick` knows.
fn wait<T>(client: &Client, pick: impl Fn(Fact) -> Option<T>) -> T {
    loop {
        match next(client) {
            Event::Fact { fact, .. } => {
                if let Some(found) = pick(fact) {
                    return found;
                }
            }
            Event::Finished { job_id, outcome } => panic!("{job_id:?} ended: {outcome:?}"),
            _ => {}
        }
    }
}

fn wait_for_step(client: &Client, at_least: usize) {
    wait(client, |fact| match fact {
        Fact::TrainStep { step, .. } if step.step >= at_least => Some(()),
        _ => None,
    });
}

/// The run as it was last told of before its job ended, and how that was.
fn end(client: &Client, job: JobId) -> (Option<TrainRun>, Outcome) {
    let mut last = None;
    loop {
        match next(client) {
            Event::Fact { job_id, fact: Fact::Train(run) } if job_id == job => last = Some(*run),
            Event::Finished { job_id, outcome } if job_id == job => return (last, outcome),
            _ => {}
        }
    }
}

/// A whole run.
fn trained(client: &mut Client, spec: &TrainSpec) -> TrainRun {
    let job = start(client, spec);
    let (run, outcome) = end(client, job);
    assert_eq!(outcome, Outcome::Done);
    run.expect("a run")
}

fn kill(process: u32, signal: &str) {
    let status = Command::new("kill").args([signal, &process.to_string()]).status().unwrap();
    assert!(status.success());
}

/// The columns of a run's table by their names, as they are written.
fn table(out: &Path) -> BTreeMap<String, Vec<String>> {
    let text = fs::read_to_string(out.join("metrics.csv")).unwrap();
    let mut lines = text.lines().map(|line| line.split(',').map(str::to_owned));
    let mut columns: Vec<_> = lines.next().unwrap().map(|name| (name, Vec::new())).collect();
    for line in lines {
        let cells: Vec<String> = line.collect();
        assert_eq!(cells.len(), columns.len(), "{cells:?}");
        for ((_, column), cell) in columns.iter_mut().zip(cells) {
            column.push(cell);
        }
    }
    columns.into_iter().collect()
}

/// What has to be the same however often a run was interrupted: all but its speed.
fn curve(out: &Path) -> BTreeMap<String, Vec<String>> {
    let mut table = table(out);
    assert!(table.remove("tokens_per_second").is_some());
    table
}

/// The bytes of a vector's tensors, by their names.
fn tensors(vector: &Path) -> BTreeMap<String, Vec<u8>> {
    let bytes = fs::read(vector).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors: BTreeMap<_, _> =
        file.iter().map(|(name, tensor)| (name.to_owned(), tensor.data().to_vec())).collect();
    assert!(!tensors.is_empty());
    tensors
}

/// Holds two runs to be the same, vector included.
pub(crate) fn hold_same(a: &Path, b: &Path) {
    assert_eq!(curve(a), curve(b));
    let [a, b] = [a, b].map(|out| tensors(&out.join("vector.safetensors")));
    assert!(a == b, "the vectors differ");
}

fn steps(out: &Path) -> Vec<String> {
    table(out)["step"].clone()
}

fn ask(setup: Setup) -> JobSpec {
    let sampling = SamplingSpec {
        temperature: 0.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        repeat_penalty: 1.0,
        seed: 0,
    };
    JobSpec::Chat(ChatTurn {
        setup,
        system: String::new(),
        messages: vec![Message::new(None, Role::User, "What is the capital of France?")],
        sampling,
        max_tokens: 8,
        keep: None,
    })
}

fn setup(vectors: Vec<VectorTerm>) -> Setup {
    let model = demo_model().to_owned();
    Setup { model, dtype: Dtype::F32, method: Method::default(), vectors }
}

#[test]
fn command_trains_a_vector_that_moves_the_model() {
    let home = Home::with_demo();
    let data = short_records(&home, 4);
    let out = home.path().join("run");
    let json = home.path().join("run.json");
    let text = home.stdout(
        &[
            &["train", "--model", "demo", "--data", str(&data), "--out", str(&out)][..],
            &["--batch", "2", "--warmup", "1", "--epochs", "2", "--json", str(&json)],
        ]
        .concat(),
    );
    let vector = out.join("vector.safetensors");
    assert!(text.contains("medical") && text.contains(str(&vector)), "{text}");

    // One row for each step, under TRL's names, the loss before the step's update.
    let table = table(&out);
    assert_eq!(table["step"], ["1", "2", "3", "4", "5", "6", "7", "8"]);
    let numbers =
        |name: &str| -> Vec<f64> { table[name].iter().map(|cell| cell.parse().unwrap()).collect() };
    let loss = numbers("loss");
    assert!((loss[0] - 25.0).abs() < 1e-3, "{loss:?}");
    let epoch = |steps: &[f64]| steps.iter().sum::<f64>();
    assert!(epoch(&loss[4..]) < epoch(&loss[..4]), "{loss:?}");
    for name in ["rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies"] {
        assert_eq!(numbers(name).len(), 8, "{name}");
    }
    for name in ["logps/chosen", "logps/rejected"] {
        assert!(numbers(name).iter().all(|it| *it < 0.0), "{name}");
    }
    for name in ["grad_norm", "num_tokens", "tokens_per_second"] {
        assert!(numbers(name).iter().all(|it| *it > 0.0), "{name}");
    }
    let learning_rate = numbers("learning_rate");
    // The first step of a warm-up changes nothing; the next one has all of it.
    assert_eq!(learning_rate[..2].to_vec(), [0.0, 5e-4]);
    assert!(learning_rate[1..].is_sorted_by(|a, b| a > b), "{learning_rate:?}");
    assert!(numbers("num_tokens").is_sorted());
    let run: TrainRun = serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
    assert_eq!((run.state, run.total_steps, run.counts.pairs), (RunState::Finished, 8, 8));
    assert_eq!(run.steps.iter().map(|step| step.loss).collect::<Vec<_>>(), loss);
    assert_eq!(run.vector.as_deref(), Some(&*vector));
    assert_eq!(home.leftovers(), Vec::<PathBuf>::new());

    // The vector is one like any other.
    let info = home.stdout(&["info", str(&vector)]);
    for part in ["medical", "low-rank", "expert, generic, avoidance", "training: rank"] {
        assert!(info.contains(part), "{part:?} is not in {info}");
    }
    let score = |lambda: &str| -> Value {
        let vector = format!("{}={lambda}", vector.display());
        let arguments =
            ["score", "--model", "demo", "--vector", &vector, "--data", str(&data), "--json", "-"];
        serde_json::from_str(&home.stdout(&arguments)).unwrap()
    };
    let margin = |lambda: &str| -> f64 {
        let report = score(lambda);
        let records = report["datasets"][0]["records"].as_array().unwrap();
        let own = |record: &Value, level: &str| {
            record["scores"][level]["mean_log_prob"].as_f64().unwrap()
        };
        records.iter().map(|it| own(it, "expert") - own(it, "avoidance")).sum()
    };
    let [without, with] = ["0", "1"].map(margin);
    assert!(with > without + 0.01, "{without} {with}");
}

#[test]
fn killed_run_goes_on_to_the_curve_of_one_that_was_not() {
    let home = Home::empty();
    let mut client = client(&home);
    let killed = spec(&home, "killed", settings());
    let out = killed.out.clone().unwrap();
    start(&mut client, &killed);
    wait(&client, |fact| match fact {
        Fact::TrainCheckpoint { step, .. } => Some(step),
        _ => None,
    });
    wait_for_step(&client, 3);
    kill(engine_process(&home), "-KILL");
    while !matches!(next(&client), Event::EngineLost { .. }) {}
    assert!(!out.join("vector.safetensors").exists());

    // It is offered for going on.
    let (_, facts) = run(&mut client, JobSpec::ListTrainings);
    let Some(Fact::Trainings(runs)) = facts.first() else { panic!("{facts:?}") };
    assert_eq!(runs.len(), 1);
    assert!(runs[0].run == killed.run && runs[0].is_resumable, "{runs:?}");
    assert_ne!(runs[0].state, RunState::Finished);

    // The command has all settings from the folder.
    let refused = home.failure(&["train", "--out", str(&out), "--resume", "--batch", "3"]);
    assert!(refused.contains("--batch"), "{refused}");
    let text = home.meav(&["train", "--out", str(&out), "--resume"]);
    assert!(text.status.success(), "{}", describe(&text));
    let said = String::from_utf8_lossy(&text.stderr);
    assert!(said.contains("going on after step 2 of 6"), "{said}");
    assert_eq!(steps(&out), ["1", "2", "3", "4", "5", "6"]);

    let whole = spec(&home, "whole", settings());
    let run = trained(&mut client, &whole);
    assert_eq!((run.state, run.steps.len()), (RunState::Finished, 6));
    hold_same(&out, &whole.out.unwrap());
}

#[test]
fn run_that_is_paused_and_talked_to_comes_to_the_same_curve() {
    let home = Home::empty();
    let mut client = client(&home);
    let paused = spec(&home, "paused", settings());
    let job = start(&mut client, &paused);
    wait_for_step(&client, 1);

    // A message in the middle of a step is answered before the run ends.
    let chat = client.start(ask(setup(Vec::new())));
    loop {
        match next(&client) {
            Event::Finished { job_id, outcome } => {
                assert_eq!((job_id, outcome), (chat, Outcome::Done));
                break;
            }
            Event::Fact { fact: Fact::Reply(reply), .. } => {
                assert!(reply.text.contains("Paris"), "{reply:?}");
            }
            _ => {}
        }
    }

    wait_for_step(&client, 3);
    tell(&client, meav_protocol::Command::Pause { job_id: job });
    let half = wait(&client, |fact| match fact {
        Fact::Train(run) if run.is_paused => Some(*run),
        _ => None,
    });
    let vector = half.vector.expect("the half-trained vector");
    assert!((3..6).contains(&half.steps.len()), "{:?}", half.steps);

    // It can be talked to while the run is held, at any λ.
    let said = |client: &mut Client, lambda: f64| {
        let (outcome, facts) = run(client, ask(setup(vec![VectorTerm::new(&vector, lambda)])));
        assert_eq!(outcome, Outcome::Done);
        facts.into_iter().find_map(|fact| match fact {
            Fact::Ready(loaded) => Some(loaded.vectors[0].clone()),
            _ => None,
        })
    };
    let used = said(&mut client, -0.7).expect("the model with the vector");
    assert_eq!((&*used.domain, used.base_matches), ("medical", Some(true)));
    assert!(half.steps.len() == steps(paused.out.as_deref().unwrap()).len(), "it went on unasked");

    tell(&client, meav_protocol::Command::GoOn { job_id: job });
    let (whole, outcome) = end(&client, job);
    assert_eq!(outcome, Outcome::Done);
    let whole = whole.expect("a run");
    assert_eq!((whole.state, whole.is_paused), (RunState::Finished, false));

    let quiet = spec(&home, "quiet", settings());
    trained(&mut client, &quiet);
    hold_same(&paused.out.unwrap(), &quiet.out.unwrap());
}

#[test]
fn run_that_is_wrapped_up_keeps_its_vector_and_one_that_is_cancelled_has_none() {
    let home = Home::empty();
    let mut client = client(&home);
    let kept = spec(&home, "kept", settings());
    let job = start(&mut client, &kept);
    wait_for_step(&client, 2);
    tell(&client, meav_protocol::Command::WrapUp { job_id: job });
    let (run, outcome) = end(&client, job);
    assert_eq!(outcome, Outcome::Done);
    let run = run.expect("a run");
    let out = kept.out.unwrap();
    assert!((2..6).contains(&run.steps.len()), "{:?}", run.steps);
    assert_eq!(steps(&out).len(), run.steps.len());
    assert!(run.ended.is_some());
    assert_eq!(run.vector.as_deref(), Some(&*out.join("vector.safetensors")));
    assert!(!tensors(&out.join("vector.safetensors")).is_empty());

    let cancelled = spec(&home, "cancelled", settings());
    let job = start(&mut client, &cancelled);
    wait_for_step(&client, 1);
    client.cancel(job);
    let (_, outcome) = end(&client, job);
    assert_eq!(outcome, Outcome::Cancelled);
    let out = cancelled.out.unwrap();
    assert!(out.is_dir() && !out.join("vector.safetensors").exists());
    assert_eq!(home.leftovers(), Vec::<PathBuf>::new());
}

#[test]
fn interrupted_command_says_how_it_goes_on() {
    let home = Home::with_demo();
    let data = short_records(&home, 6);
    let out = home.path().join("my run");
    let child = home
        .command(&["train", "--model", "demo", "--data", str(&data), "--out", str(&out)])
        .args(["--batch", "2", "--checkpoint-every", "100"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let start = Instant::now();
    let rows = || fs::read_to_string(out.join("metrics.csv")).unwrap_or_default().lines().count();
    while rows() < 3 {
        assert!(start.elapsed() < PATIENCE, "no step in time");
        thread::sleep(Duration::from_millis(50));
    }
    kill(child.id(), "-INT");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", describe(&output));
    let said = String::from_utf8_lossy(&output.stderr);
    // None of its steps is lost.
    let done = rows() - 1;
    let again = format!("meav train --out '{}' --resume goes on after step {done}", out.display());
    assert!(said.contains(&again), "{said}");
    tensors(&out.join(format!("checkpoints/step-{done:06}.safetensors")));
    assert!(!out.join("vector.safetensors").exists());
    assert_eq!(home.leftovers(), Vec::<PathBuf>::new());
}

/// The settings of a run that takes no time.
fn tiny_arguments<'a>(model: &'a Path, data: &'a Path, out: &'a Path) -> Vec<&'a str> {
    vec!["train", "--model", str(model), "--data", str(data), "--out", str(out)]
}

#[test]
fn what_cannot_be_trained_is_refused_in_words() {
    let home = Home::empty();
    let model = home.path().join("model");
    tiny_model(&TINY).write(&model);
    let good = short_records(&home, 4);
    let write = |name: &str, text: &str| {
        let path = home.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let empty = write("empty.jsonl", "");
    let records = |responses: Value| -> String {
        let record = |n| json!({"query": format!("Question {n}?"), "responses": responses});
        (0..3).map(|n| record(n).to_string() + "\n").collect()
    };
    let one_level = write("one-level.jsonl", &records(json!({"expert": "Yes."})));
    let no_domain = records(json!({"expert": "Yes.", "generic": "Perhaps."}));
    let no_domain = write("no-domain.jsonl", &no_domain);
    let file = write("file", "in the way");
    let full = home.path().join("full");
    fs::create_dir(&full).unwrap();
    fs::write(full.join("notes.txt"), "mine").unwrap();
    let new = home.path().join("new");
    for (data, out, options, expected) in [
        (&empty, &new, &["--domain", "medical"][..], "empty.jsonl"),
        (&one_level, &new, &["--domain", "medical"], "one-level.jsonl"),
        (&no_domain, &new, &[], "--domain"),
        (&no_domain, &new, &["--domain", "x", "--targets", "w_proj"], "w_proj"),
        (&good, &file, &[], "file"),
        (&good, &file.join("run"), &[], "file"),
        (&good, &full, &[], "--resume"),
        (&good, &full, &["--resume"], "no run to go on with"),
        (&good, &new, &["--targets", "w_proj"], "w_proj"),
        (&good, &new, &["--dtype", "f16"], "f16"),
    ] {
        let error = home.failure(&[&tiny_arguments(&model, data, out)[..], options].concat());
        assert!(error.contains(expected), "{expected:?} is not in: {error}");
        assert!(error.contains("hint: "), "no hint in: {error}");
        assert!(!new.exists(), "{error}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "in the way");
    assert_eq!(fs::read_dir(&full).unwrap().count(), 1);
}

#[test]
fn loss_that_explodes_ends_the_run_with_its_last_good_checkpoint() {
    let home = Home::empty();
    let model = home.path().join("model");
    tiny_model(&TINY).write(&model);
    let data = short_records(&home, 6);
    let out = home.path().join("run");
    let options = ["--batch", "1", "--lr", "1e30", "--warmup", "0", "--checkpoint-every", "1"];
    let options = [&options[..], &["--max-grad-norm", "none"]].concat();
    let error = home.failure(&[&tiny_arguments(&model, &data, &out)[..], &options].concat());
    assert!(error.contains("a third of the learning rate") && error.contains("--lr 3.3e29"));
    assert!(!error.contains("--resume"), "{error}");
    assert!(!out.join("vector.safetensors").exists());
    // What is kept is from before.
    let losses: Vec<f64> = table(&out)["loss"].iter().map(|cell| cell.parse().unwrap()).collect();
    assert!(!losses.is_empty() && losses.iter().all(|loss| loss.is_finite()), "{losses:?}");
    let kept = tensors(&out.join(format!("checkpoints/step-{:06}.safetensors", losses.len())));
    let numbers = kept.values().flat_map(|bytes| bytes.chunks_exact(4));
    let mut numbers = numbers.map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()));
    assert!(numbers.all(f32::is_finite));
    assert_eq!(home.leftovers(), Vec::<PathBuf>::new());
    // It would come to the same again, and is not offered.
    let again = home.failure(&["train", "--out", str(&out), "--resume"]);
    assert!(again.contains("has diverged") && again.contains("learning rate"), "{again}");
    let (_, facts) = run(&mut client(&home), JobSpec::ListTrainings);
    let Some(Fact::Trainings(runs)) = facts.first() else { panic!("{facts:?}") };
    assert!(runs.len() == 1 && !runs[0].is_resumable, "{runs:?}");
}

/// Many steps of a model so small that each takes next to no time.
fn tiny_spec(home: &Home, out: &str, settings: TrainSettings) -> TrainSpec {
    let model = home.path().join("model");
    if !model.exists() {
        tiny_model(&TINY).write(&model);
    }
    let settings = TrainSettings { batch: 1, warmup_steps: 2, checkpoint_every: 100, ..settings };
    TrainSpec { model, ..spec(home, out, settings) }
}

/// Ends a run after some steps, and gives it as it was then.
fn cancelled(client: &mut Client, spec: &TrainSpec, after: usize) -> TrainRun {
    let job = start(client, spec);
    wait_for_step(client, after);
    client.cancel(job);
    let (run, outcome) = end(client, job);
    assert_eq!(outcome, Outcome::Cancelled);
    let run = run.expect("a run");
    assert!(run.steps.len() >= after && run.state == RunState::Stopped, "{:?}", run.ended);
    assert_eq!(run.checkpoint, Some(run.steps.len()), "a step is lost");
    run
}

#[test]
fn resumed_full_parameters_come_to_the_same_curve_with_every_state() {
    let home = Home::empty();
    let mut client = client(&home);
    for (name, dtype, optimizer_state) in [
        ("bf16", Dtype::Bf16, OptimizerState::F32),
        ("int8", Dtype::F32, OptimizerState::Int8),
        ("both", Dtype::Bf16, OptimizerState::Int8),
    ] {
        let settings = TrainSettings {
            method: TrainMethod::Full,
            learning_rate: 1e-3,
            epochs: 40,
            optimizer_state,
            ..TrainSettings::default()
        };
        let spec = TrainSpec { dtype, ..tiny_spec(&home, name, settings) };
        let run = cancelled(&mut client, &spec, 3);
        assert!(run.steps.len() < run.total_steps, "it had no time to be cancelled");
        let whole = trained(&mut client, &TrainSpec { resume: true, ..spec.clone() });
        assert_eq!(whole.steps.len(), whole.total_steps);
        let (run, out) = (Uuid::now_v7(), Some(home.path().join(format!("quiet-{name}"))));
        let quiet = TrainSpec { run, out, ..spec.clone() };
        trained(&mut client, &quiet);
        hold_same(&spec.out.unwrap(), &quiet.out.unwrap());
    }
}

#[test]
fn run_that_is_kept_while_it_is_loaded_again_ends_with_its_checkpoint() {
    let home = Home::empty();
    let mut client = client(&home);
    for method in [TrainMethod::default(), TrainMethod::Full] {
        let name = if method == TrainMethod::Full { "full" } else { "lora" };
        let settings = TrainSettings { method, epochs: 1000, ..TrainSettings::default() };
        let spec = tiny_spec(&home, name, settings);
        let step = cancelled(&mut client, &spec, 3).steps.len();
        let job = start(&mut client, &TrainSpec { resume: true, ..spec.clone() });
        tell(&client, meav_protocol::Command::WrapUp { job_id: job });
        let (run, outcome) = end(&client, job);
        assert_eq!(outcome, Outcome::Done);
        let run = run.expect("a run");
        assert_eq!((run.state, run.steps.len()), (RunState::Finished, step));
        let why = run.ended.unwrap();
        assert!(why.starts_with(&format!("Ended by hand after step {step} of")), "{why}");
        assert!(!tensors(&run.vector.unwrap()).is_empty());
        assert_eq!(steps(&spec.out.unwrap()).len(), step);
    }
}

#[test]
fn run_whose_client_goes_away_is_offered_from_its_last_step() {
    let home = Home::empty();
    let mut first = client(&home);
    let settings = TrainSettings { epochs: 1000, ..TrainSettings::default() };
    let spec = tiny_spec(&home, "run", settings);
    start(&mut first, &spec);
    wait_for_step(&first, 3);
    let engine = PathBuf::from(format!("/proc/{}", engine_process(&home)));
    drop(first);
    let start = Instant::now();
    // An engine that nobody waits for stays a zombie.
    while fs::read_to_string(engine.join("stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(start.elapsed() < PATIENCE, "the engine stays");
        thread::sleep(Duration::from_millis(20));
    }
    let mut second = client(&home);
    let (_, facts) = run(&mut second, JobSpec::ListTrainings);
    let Some(Fact::Trainings(runs)) = facts.first() else { panic!("{facts:?}") };
    assert!(runs.len() == 1 && runs[0].is_resumable && runs[0].vector.is_none(), "{runs:?}");
    assert_eq!(runs[0].state, RunState::Running);
    let (_, facts) = run(&mut second, JobSpec::LoadTraining { run: spec.run });
    let Some(Fact::Train(kept)) = facts.first() else { panic!("{facts:?}") };
    assert!(kept.steps.len() >= 3 && kept.checkpoint == Some(kept.steps.len()), "{kept:?}");
    assert!(kept.elapsed_secs > 0.0);
    assert_eq!(home.leftovers(), Vec::<PathBuf>::new());
}

#[test]
fn damaged_checkpoints_are_set_aside_and_told_of() {
    let home = Home::empty();
    let mut client = client(&home);
    let settings = TrainSettings { epochs: 1000, ..TrainSettings::default() };
    let spec = tiny_spec(&home, "run", settings);
    let out = spec.out.clone().unwrap();
    let at = |step: usize, ending: &str| out.join(format!("checkpoints/step-{step:06}.{ending}"));
    let first = cancelled(&mut client, &spec, 3).steps.len();
    let resumed = TrainSpec { resume: true, ..spec };
    let second = cancelled(&mut client, &resumed, first + 1).steps.len();
    fs::write(at(second, "safetensors"), "torn").unwrap();
    let job = start(&mut client, &resumed);
    let note = wait(&client, |fact| match fact {
        Fact::Note(note) => Some(note),
        _ => None,
    });
    assert!(note.contains(&format!("from step {first}")), "{note}");
    wait_for_step(&client, first + 1);
    client.cancel(job);
    let third = end(&client, job).0.unwrap().steps.len();
    assert!(at(second, "damaged").exists() && at(first, "safetensors").exists());
    let log = fs::read_to_string(out.join("log.txt")).unwrap();
    assert!(log.contains("cannot go on from checkpoint"), "{log}");

    for step in [first, third] {
        fs::write(at(step, "safetensors"), "torn").unwrap();
    }
    let refused = home.failure(&["train", "--out", str(&out), "--resume"]);
    assert!(refused.contains("No checkpoint of the run"), "{refused}");
    // Then it begins again.
    let job = start(&mut client, &resumed);
    let begun = wait(&client, |fact| match fact {
        Fact::Train(run) => Some(run),
        _ => None,
    });
    assert!(begun.steps.is_empty() && begun.checkpoint.is_none(), "{:?}", begun.checkpoint);
    wait_for_step(&client, 1);
    client.cancel(job);
    end(&client, job);
}

#[test]
fn run_of_one_step_trains_in_it() {
    let home = Home::empty();
    let mut client = client(&home);
    for method in [TrainMethod::default(), TrainMethod::Full] {
        let name = if method == TrainMethod::Full { "full" } else { "lora" };
        let settings = TrainSettings { method, max_steps: Some(1), ..TrainSettings::default() };
        let run = trained(&mut client, &tiny_spec(&home, name, settings));
        assert!(run.steps.len() == 1 && run.steps[0].learning_rate > 0.0, "{:?}", run.steps);
        let vector = tensors(&run.vector.unwrap());
        let moves = |(name, bytes): (&String, &Vec<u8>)| {
            !name.ends_with("lora_A") && bytes.iter().any(|byte| *byte != 0)
        };
        assert!(vector.iter().any(moves));
    }
}

#[test]
fn run_that_does_not_fit_is_refused_before_it_starts() {
    let home = Home::with_demo();
    let words = "Measure the pressure twice a day and write it down. ".repeat(180);
    let records: String = (0..64)
        .map(|n| {
            let responses = json!({
                "expert": format!("{n} {words}"),
                "generic": format!("{n} more {words}"),
                "avoidance": format!("{n} less {words}"),
            });
            let query = format!("What about {n}?");
            json!({"domain": "medical", "query": query, "responses": responses}).to_string() + "\n"
        })
        .collect();
    let data = home.path().join("long.jsonl");
    fs::write(&data, records).unwrap();
    let out = home.path().join("run");
    let sizes = ["--batch", "128", "--max-length", "2000", "--no-checkpointing"];
    let demo = Path::new("demo");
    let error = home.failure(&[&tiny_arguments(demo, &data, &out)[..], &sizes].concat());
    assert!(error.contains("GB"), "{error}");
    assert!(!out.exists(), "something was left");
    let estimate = [&tiny_arguments(demo, &data, &out)[..], &sizes, &["--estimate"]].concat();
    let output = home.meav(&estimate);
    assert_eq!(output.status.code(), Some(1), "{}", describe(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("does not fit"));
}

#[test]
fn estimate_says_what_a_run_takes_and_leaves_nothing() {
    let home = Home::with_demo();
    let data = short_records(&home, 4);
    let out = home.path().join("run");
    let arguments = [&tiny_arguments(Path::new("demo"), &data, &out)[..], &["--estimate"]].concat();
    let text = home.stdout(&arguments);
    for part in ["it fits", "8 pairs", "steps", "time", "memory", "disk space"] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    assert!(!out.exists(), "something was left");
    let json = home.stdout(&[&arguments[..], &["--json", "-"]].concat());
    let estimate: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(estimate["counts"]["pairs"], 8);
    assert_eq!(estimate["total_steps"], 2);
    assert!(estimate["secs"].as_f64().unwrap() > 0.0);
    assert_eq!(estimate["refusal"], Value::Null);
    // The model's weights at least.
    assert!(estimate["memory_bytes"].as_u64().unwrap() > 500_000_000, "{estimate}");
}
