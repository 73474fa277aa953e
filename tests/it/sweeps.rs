//! Sweeps: killed, interrupted, resumed; and what they tell of a vector.

use std::fs;
use std::path::{Path, PathBuf};

use meav_client::Client;
use meav_protocol::{
    Calibration, ChatTurn, Dtype, Event, Fact, JobId, JobSpec, Judge, JudgeSpec, Message, Method,
    Outcome, Prompting, Role, Rubric, RunState, SamplingSpec, Setup, Sweep, SweepSpec, VectorTerm,
};
use uuid::Uuid;

use crate::support::{
    Home, client, demo_data, demo_model, demo_vector, engine_process, next, run, str,
};

/// Some records of a demo file, in a file of their own.
fn some_records(home: &Home, name: &str, n: usize) -> PathBuf {
    let text = fs::read_to_string(demo_data(name)).unwrap();
    let lines: Vec<&str> = text.lines().take(n).collect();
    let path = home.path().join(name);
    fs::write(&path, lines.join("\n")).unwrap();
    path
}

fn setup(vectors: Vec<VectorTerm>, dtype: Dtype) -> Setup {
    Setup { model: demo_model().to_owned(), dtype, method: Method::default(), vectors }
}

fn spec(data: Vec<PathBuf>, range: &str) -> SweepSpec {
    let vectors = vec![
        VectorTerm::new(demo_vector("medical"), f64::NAN),
        VectorTerm::new(demo_vector("financial"), 0.5),
    ];
    SweepSpec {
        run: Uuid::now_v7(),
        setup: setup(vectors, Dtype::F32),
        swept: 0,
        range: range.parse().unwrap(),
        data,
        prompting: Some(Prompting::of(["expert"])),
        reuse: true,
    }
}

fn start(client: &mut Client, spec: &SweepSpec) -> JobId {
    client.start(JobSpec::Sweep(Box::new(spec.clone())))
}

/// The points that are measured until something else is heard of, and that.
fn points(client: &Client, job: JobId) -> (Vec<f64>, Event) {
    let mut points = Vec::new();
    loop {
        match next(client) {
            Event::Fact { job_id, fact: Fact::SweepPoint { point, .. } } if job_id == job => {
                points.push(point.lambda);
            }
            Event::Fact { fact: Fact::Sweep(_) | Fact::Note(_), .. }
            | Event::Progress { .. }
            | Event::Hello { .. } => {}
            event => return (points, event),
        }
    }
}

fn load(client: &mut Client, run_id: Uuid) -> Sweep {
    let (outcome, facts) = run(client, JobSpec::LoadSweep { run: run_id });
    assert_eq!(outcome, Outcome::Done);
    let Some(Fact::Sweep(sweep)) = facts.into_iter().next() else { panic!("no sweep") };
    *sweep
}

/// What has to be the same however often a sweep was interrupted.
fn numbers(mut sweep: Sweep) -> Sweep {
    sweep.spec.run = Uuid::nil();
    sweep.spec.data.clear();
    sweep.datasets.iter_mut().for_each(|data| data.file = PathBuf::new());
    sweep.started.clear();
    sweep.elapsed_secs = 0.0;
    // NaN is not even itself.
    sweep.spec.setup.vectors[0].coefficient = 0.0;
    sweep
}

#[test]
fn killed_sweep_goes_on_with_what_it_has_and_ends_with_the_same_numbers() {
    let home = Home::empty();
    let mut client = client(&home);
    let data = some_records(&home, "medical.test.jsonl", 3);
    let killed = spec(vec![data.clone()], "-1:1:0.5");
    let job = start(&mut client, &killed);
    let mut before = Vec::new();
    while before.len() < 2 {
        if let Event::Fact { fact: Fact::SweepPoint { point, .. }, .. } = next(&client) {
            before.push(point.lambda);
        }
    }
    let engine = engine_process(&home).to_string();
    assert!(
        std::process::Command::new("kill").args(["-KILL", &engine]).status().unwrap().success()
    );
    let (more, event) = points(&client, job);
    before.extend(more);
    assert!(matches!(event, Event::Finished { outcome: Outcome::Failed(_), .. }), "{event:?}");

    // It is told of as one that was cut off, with the points that it had.
    assert!(matches!(next(&client), Event::EngineLost { .. }));
    let (_, facts) = run(&mut client, JobSpec::ListSweeps);
    let Some(Fact::Sweeps(sweeps)) = facts.first() else { panic!("{facts:?}") };
    assert_eq!((sweeps[0].run, sweeps[0].state), (killed.run, RunState::Running));
    assert!(sweeps[0].points >= before.len(), "{sweeps:?}");

    let job = start(&mut client, &killed);
    let (after, event) = points(&client, job);
    assert!(matches!(event, Event::Finished { outcome: Outcome::Done, .. }), "{event:?}");
    let repeated: Vec<_> = after.iter().filter(|lambda| before.contains(lambda)).collect();
    assert!(repeated.is_empty() && after.len() < 5, "{before:?} {after:?}");
    let resumed = load(&mut client, killed.run);
    assert_eq!(resumed.state, RunState::Finished);
    let lambdas: Vec<f64> = resumed.points.iter().map(|point| point.lambda).collect();
    assert_eq!(lambdas, [-1.0, -0.5, 0.0, 0.5, 1.0]);

    // Another run measures everything anew and comes to the same.
    let whole = SweepSpec { run: Uuid::now_v7(), reuse: false, ..killed.clone() };
    let job = start(&mut client, &whole);
    let (all, _) = points(&client, job);
    assert_eq!(all.len(), 5);
    let mut whole = load(&mut client, whole.run);
    whole.spec.reuse = true;
    assert_eq!(numbers(resumed), numbers(whole));

    // And one that may reuse what is known has nothing to compute, unless the data are others.
    let known = SweepSpec { run: Uuid::now_v7(), ..killed };
    let job = start(&mut client, &known);
    points(&client, job);
    let other = SweepSpec { data: vec![some_records(&home, "legal.test.jsonl", 3)], ..known };
    let (outcome, _) = run(&mut client, JobSpec::Sweep(Box::new(other)));
    let Outcome::Failed(err) = outcome else { panic!("{outcome:?}") };
    assert!(err.summary.contains("another model, vector or data"), "{err}");
}

#[test]
fn message_during_a_sweep_is_answered_at_once_and_changes_no_number() {
    let home = Home::empty();
    let mut client = client(&home);
    let data = some_records(&home, "medical.test.jsonl", 3);
    let interrupted = spec(vec![data.clone()], "-1:1:0.5");
    let sweep = start(&mut client, &interrupted);
    while !matches!(next(&client), Event::Fact { fact: Fact::SweepPoint { .. }, .. }) {}
    let sampling = SamplingSpec {
        temperature: 0.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        repeat_penalty: 1.0,
        seed: 0,
    };
    let chat = client.start(JobSpec::Chat(ChatTurn {
        setup: setup(vec![VectorTerm::new(demo_vector("medical"), -1.0)], Dtype::Bf16),
        system: String::new(),
        messages: vec![Message::new(None, Role::User, "What is the capital of France?")],
        sampling,
        max_tokens: 8,
        keep: None,
    }));
    let mut ended = Vec::new();
    while ended.len() < 2 {
        if let Event::Finished { job_id, outcome } = next(&client) {
            assert_eq!(outcome, Outcome::Done);
            ended.push(job_id);
        }
    }
    assert_eq!(ended, [chat, sweep], "the answer came first");

    let quiet = SweepSpec { run: Uuid::now_v7(), reuse: false, ..interrupted.clone() };
    let job = start(&mut client, &quiet);
    points(&client, job);
    let mut quiet = load(&mut client, quiet.run);
    quiet.spec.reuse = true;
    assert_eq!(numbers(load(&mut client, interrupted.run)), numbers(quiet));
}

#[test]
fn cancelled_sweep_keeps_its_points_and_goes_on_later() {
    let home = Home::empty();
    let mut client = client(&home);
    let data = some_records(&home, "medical.test.jsonl", 2);
    let cancelled = spec(vec![data], "-1:1:0.5");
    let job = start(&mut client, &cancelled);
    while !matches!(next(&client), Event::Fact { fact: Fact::SweepPoint { .. }, .. }) {}
    client.cancel(job);
    let (_, event) = points(&client, job);
    assert!(matches!(event, Event::Finished { outcome: Outcome::Cancelled, .. }), "{event:?}");
    let stopped = load(&mut client, cancelled.run);
    assert_eq!(stopped.state, RunState::Stopped);
    assert!(!stopped.points.is_empty());
    let (outcome, _) = run(&mut client, JobSpec::Sweep(Box::new(cancelled.clone())));
    assert_eq!(outcome, Outcome::Done);
    assert_eq!(load(&mut client, cancelled.run).points.len(), 5);
    let (_, facts) = run(&mut client, JobSpec::DeleteSweep { run: cancelled.run });
    assert_eq!(facts, [Fact::Sweeps(Vec::new())]);
}

/// The calibration that the engine tells of with a vector, after another job.
fn told(client: &mut Client, vector: &Path) -> Option<Calibration> {
    let vectors = vec![VectorTerm::new(vector, 0.5)];
    let (outcome, facts) = run(client, JobSpec::Prepare(setup(vectors, Dtype::Bf16)));
    assert_eq!(outcome, Outcome::Done);
    let ready = facts.into_iter().find_map(|fact| match fact {
        Fact::Ready(loaded) => Some(*loaded),
        _ => None,
    });
    ready.unwrap().vectors.remove(0).calibration.map(|calibration| *calibration)
}

#[test]
fn sweep_calibrates_its_vector_and_the_file_carries_it_elsewhere() {
    let home = Home::empty();
    let mut engine = client(&home);
    let vector = home.path().join("medical.safetensors");
    fs::copy(demo_vector("medical"), &vector).unwrap();
    // The demo's vectors bring theirs along.
    let shipped = told(&mut engine, &vector).expect("a calibration in the file");
    assert_eq!((&*shipped.data, shipped.points.len()), ("medical.test.jsonl", 13));
    let data = some_records(&home, "medical.test.jsonl", 4);
    let sweep = SweepSpec {
        setup: setup(vec![VectorTerm::new(&vector, 0.0)], Dtype::F32),
        prompting: None,
        ..spec(vec![data], "-1:1:1")
    };
    let (outcome, facts) = run(&mut engine, JobSpec::Sweep(Box::new(sweep)));
    assert_eq!(outcome, Outcome::Done);
    let calibrated = facts.iter().find_map(|fact| match fact {
        Fact::Calibrated { calibration, .. } => Some(calibration.as_ref().clone()),
        _ => None,
    });
    let calibration = calibrated.expect("it was swept alone");
    assert_eq!(calibration.levels, ["expert", "generic", "avoidance"]);
    assert_eq!(calibration.points.len(), 3);
    assert_eq!(told(&mut engine, &vector), Some(calibration.clone()));

    let write = JobSpec::WriteCalibration {
        vector: vector.clone(),
        calibration: Box::new(calibration.clone()),
    };
    assert_eq!(run(&mut engine, write).0, Outcome::Done);
    // A home that has never swept anything.
    let elsewhere = Home::empty();
    assert_eq!(told(&mut client(&elsewhere), &vector), Some(calibration));
}

#[test]
fn sweep_of_the_command_writes_curves_tables_and_a_matrix() {
    let home = Home::with_demo();
    let data = some_records(&home, "medical.test.jsonl", 2);
    let out = home.path().join("out");
    let arguments = [
        "sweep",
        "--model",
        "demo",
        "--vector",
        "medical",
        "--vector",
        "financial",
        "--lambda",
        "-1:1:1",
        "--data",
        str(&data),
        "--out",
        str(&out),
    ];
    home.stdout(&arguments);
    for domain in ["medical", "financial"] {
        for ending in ["json", "csv", "svg", "png", "md"] {
            let path = out.join(domain).join("sweep").with_extension(ending);
            assert!(fs::metadata(&path).unwrap().len() > 200, "{}", path.display());
        }
        let text = fs::read_to_string(out.join(domain).join("sweep.json")).unwrap();
        let sweep: Sweep = serde_json::from_str(&text).unwrap();
        assert_eq!((sweep.vector.domain.as_str(), sweep.points.len()), (domain, 3));
    }
    for ending in ["json", "csv", "svg", "md"] {
        assert!(out.join("matrix").with_extension(ending).is_file(), "{ending}");
    }
    // The same again repeats nothing and writes the same.
    let csv = |domain: &str| fs::read(out.join(domain).join("sweep.csv")).unwrap();
    let before = csv("medical");
    home.stdout(&arguments);
    assert_eq!(csv("medical"), before);
    assert_eq!(home.leftovers(), Vec::<PathBuf>::new());
}

#[test]
fn judge_on_this_machine_assigns_levels_and_compares_in_both_orders() {
    let home = Home::empty();
    let mut client = client(&home);
    let data = some_records(&home, "medical.test.jsonl", 4);
    let judge = setup(Vec::new(), Dtype::F32);
    let spec = JudgeSpec {
        setup: setup(vec![VectorTerm::new(demo_vector("medical"), 0.0)], Dtype::Bf16),
        recipes: vec![vec![0.0], vec![1.0]],
        prompting: Some(Prompting::of(["expert"])),
        data,
        sample: 2,
        sampling: SamplingSpec {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repeat_penalty: 1.0,
            seed: 1,
        },
        max_tokens: 12,
        rubric: Rubric::of(["expert", "generic", "avoidance"]),
        judge: Judge::Local(judge),
        compares: true,
    };
    let (outcome, facts) = run(&mut client, JobSpec::Judge(Box::new(spec)));
    assert_eq!(outcome, Outcome::Done, "{facts:?}");
    let report = facts.into_iter().find_map(|fact| match fact {
        Fact::Judged(report) => Some(*report),
        _ => None,
    });
    let report = report.unwrap();
    assert_eq!((report.rows.len(), report.pairs.len()), (3, 3));
    assert_eq!(report.rows[2].instruction.as_deref(), Some("expert"));
    for row in &report.rows {
        assert_eq!((row.answers.len(), row.unclear), (2, 0));
        assert!(row.answers.iter().all(|it| !it.answer.is_empty() && it.probabilities.len() == 3));
        assert!((row.shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        assert!(row.preference_accuracy.is_some());
    }
    assert_ne!(report.rows[0].answers[0].answer, report.rows[1].answers[0].answer);
    for pair in &report.pairs {
        assert_eq!(pair.a_wins + pair.b_wins + pair.disagreements + pair.unclear, 2);
    }
}

#[test]
fn data_are_inspected_split_and_compared_by_the_command() {
    let home = Home::with_demo();
    let data = demo_data("medical.train.jsonl");
    let out = home.path().join("parts");
    let text = home.stdout(&["data", "check", str(&data)]);
    assert!(text.contains("96") && text.contains("expert"), "{text}");
    home.stdout(&["data", "split", str(&data), "--out", str(&out), "--seed", "7"]);
    let part = |name: &str| out.join(format!("medical.train.{name}.jsonl"));
    let lines = |name: &str| fs::read_to_string(part(name)).unwrap().lines().count();
    let parts = ["train", "validation", "test"].map(lines);
    assert_eq!(parts.iter().sum::<usize>(), 96);
    assert!((18..=20).contains(&parts[2]) && (2..=4).contains(&parts[1]), "{parts:?}");
    let (train, test) = (part("train"), part("test"));
    let leaks = |train: &Path, test: &Path| {
        let arguments =
            ["data", "leakage", "--train", str(train), "--test", str(test), "--json", "-"];
        let report: serde_json::Value = serde_json::from_str(&home.stdout(&arguments)).unwrap();
        let n = |key: &str| report[key].as_array().unwrap().len();
        (n("personas"), n("queries"))
    };
    assert_eq!(leaks(&train, &test), (0, 0));
    assert_eq!(leaks(&data, &test), (parts[2], parts[2]));
    // Nothing is replaced unasked.
    let again = home.failure(&["data", "split", str(&data), "--out", str(&out)]);
    assert!(again.contains("there already"), "{again}");
    let info = home.stdout(&["info", str(&data)]);
    assert!(info.contains("Preference data, 96 records"), "{info}");
}
