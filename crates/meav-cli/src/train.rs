use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use meav_protocol::{
    Fact, JobSpec, Outcome, TrainCounts, TrainData, TrainEstimate, TrainRun, TrainSpec, TrainStep,
    TrainValidation, UserError,
};
use serde::Deserialize;

use crate::args::{Contradiction, JsonTarget, TrainArgs};
use crate::data::inspect;
use crate::failure::Failure;
use crate::terminal::{
    Terminal, clock, no_answer, print_table, printable, say_aside, shell_word, write_json,
};

/// The file of a run's folder that holds what was asked for.
const CONFIG_FILE: &str = "config.json";

/// Steps whose mean is told at the end: a single one depends on its few pairs.
const LAST_STEPS: usize = 5;

/// `meav train`.
pub(crate) fn train(args: &TrainArgs) -> Result<(), Failure> {
    let refuse = |err: Contradiction| Failure::new(err.to_string(), "Leave that option out");
    if args.resume {
        let spec = args.resumed(kept_spec(args.out.as_deref())?).map_err(refuse)?;
        return run(&mut Terminal::with_model(args.compute)?, spec, args.json.as_ref());
    }
    let mut terminal = Terminal::with_model(args.compute)?;
    let mut spec = args.fresh(terminal.measuring_dtype()).map_err(refuse)?;
    if spec.domain.is_empty() {
        spec.domain = only_domain(&mut terminal, &spec.data)?;
    }
    if args.estimate {
        return estimate(&mut terminal, spec, args.json.as_ref());
    }
    run(&mut terminal, spec, args.json.as_ref())
}

/// What a run's folder tells of it, as far as it is needed to go on.
#[derive(Deserialize)]
struct Config {
    spec: TrainSpec,
}

fn kept_spec(folder: Option<&Path>) -> Result<TrainSpec, Failure> {
    let Some(folder) = folder else { unreachable!("the parser asks for it") };
    let path = folder.join(CONFIG_FILE);
    let read = || {
        let text = fs::read_to_string(&path)?;
        let config: Config = serde_json::from_str(&text)?;
        Ok(config.spec)
    };
    read().map_err(|err: io::Error| {
        let summary = format!("The folder {} has no run to go on with", folder.display());
        let hint = "Name the folder of an earlier run, or begin one without --resume".to_owned();
        let detail = format!("{}: {err}", path.display());
        Failure::Failed(UserError { detail, ..UserError::new(summary, hint) })
    })
}

/// The domain of all records, if they have one and the same.
fn only_domain(terminal: &mut Terminal, data: &[TrainData]) -> Result<String, Failure> {
    let mut domains: Vec<String> = Vec::new();
    for TrainData { file, .. } in data {
        for domain in inspect(terminal, file.clone())?.domains() {
            if domains.iter().all(|known| known != domain) {
                domains.push(domain.to_owned());
            }
        }
    }
    let summary = match &mut domains[..] {
        [domain] => return Ok(std::mem::take(domain)),
        [] => "The records do not say of which domain they are".to_owned(),
        several => printable(&format!("The records are of the domains {}", several.join(", "))),
    };
    Err(Failure::new(summary, "Name the vector's with --domain"))
}

fn estimate(
    terminal: &mut Terminal,
    spec: TrainSpec,
    json: Option<&JsonTarget>,
) -> Result<(), Failure> {
    let spec = JobSpec::EstimateTraining(Box::new(spec));
    let estimate = terminal.fact(spec, |fact| match fact {
        Fact::TrainEstimate(estimate) => Some(*estimate),
        _ => None,
    })?;
    if let Some(json) = json {
        write_json(json, &estimate)?;
    }
    if !json.is_some_and(JsonTarget::is_stdout) {
        let does = if estimate.refusal.is_none() { "it fits" } else { "it does not fit" };
        print_table(&format!("Training: {does}"), &estimate_rows(&estimate))?;
    }
    match estimate.refusal {
        None => Ok(()),
        Some(refusal) => Err(Failure::Failed(UserError {
            summary: refusal.trim_end_matches('.').to_owned(),
            hint: None,
            detail: String::new(),
            about: None,
            remedy: None,
        })),
    }
}

fn estimate_rows(estimate: &TrainEstimate) -> Vec<(String, String)> {
    let TrainEstimate {
        counts,
        total_steps,
        secs,
        memory_bytes,
        available_bytes,
        disk_bytes,
        refusal: _,
    } = estimate;
    let row = |name: &str, value: String| (name.to_owned(), value);
    let mut rows = vec![
        row("pairs", counts_words(counts)),
        row("trained elements", millions(counts.trainable_parameters)),
        row("steps", total_steps.to_string()),
        row("time", clock(*secs)),
        row("memory", gigabytes(*memory_bytes)),
    ];
    rows.extend(available_bytes.map(|bytes| row("free", gigabytes(bytes))));
    rows.push(row("disk space", gigabytes(*disk_bytes)));
    rows
}

fn run(terminal: &mut Terminal, spec: TrainSpec, json: Option<&JsonTarget>) -> Result<(), Failure> {
    let out = spec.out.clone();
    let mut live: Option<TrainRun> = None;
    let (outcome, heard) = terminal.try_run(JobSpec::Train(Box::new(spec)), |fact| {
        say_aside(&fact);
        hear(&mut live, fact)
    });
    heard?;
    if outcome != Outcome::Done
        && let (Some(run), Some(out)) = (&live, &out)
    {
        writeln!(io::stderr(), "{}", stopped_line(run, out))?;
    }
    Failure::check(outcome)?;
    let run = live.ok_or_else(no_answer)?;
    if let Some(json) = json {
        write_json(json, &run)?;
    }
    if !json.is_some_and(JsonTarget::is_stdout) {
        print_table(&format!("Trained: {}", run.spec.domain), &summary_rows(&run))?;
    }
    for line in next_commands(&run) {
        writeln!(io::stderr(), "{line}")?;
    }
    Ok(())
}

/// Takes in what training finds, and says what a person waits for.
fn hear(live: &mut Option<TrainRun>, fact: Fact) -> Result<(), Failure> {
    match (fact, live) {
        (Fact::Train(run), live) => {
            let is_first = live.is_none();
            let run = live.insert(*run);
            if is_first {
                writeln!(io::stderr(), "{}", begun_line(run))?;
            }
        }
        (Fact::TrainStep { step, .. }, Some(run)) => run.steps.push(step),
        (Fact::TrainValidation { validation, .. }, Some(run)) => {
            run.validations.push(validation);
            writeln!(io::stderr(), "{}", validation_line(&validation))?;
        }
        (Fact::TrainCheckpoint { step, .. }, Some(run)) => run.checkpoint = Some(step),
        (Fact::Written { summary, .. }, _) => writeln!(io::stderr(), "{}", printable(&summary))?,
        _ => {}
    }
    Ok(())
}

fn begun_line(run: &TrainRun) -> String {
    let elements = millions(run.counts.trainable_parameters);
    let counts = counts_words(&run.counts);
    let (done, all) = (steps_done(run), run.total_steps);
    match done {
        0 => format!("training {elements} elements on {counts}, {all} steps"),
        _ => format!("going on after step {done} of {all}: {elements} elements, {counts}"),
    }
}

/// What a run is trained on, without what there is none of.
fn counts_words(counts: &TrainCounts) -> String {
    let TrainCounts { pairs, validation_pairs, truncated, left_out, trainable_parameters: _ } =
        *counts;
    let others = [
        (validation_pairs, "held back"),
        (truncated, "of them cut"),
        (left_out, "records left out"),
    ];
    let others = others.iter().filter(|(n, _)| *n > 0).map(|(n, words)| format!(", {n} {words}"));
    let pairs = format!("{pairs} {}", if pairs == 1 { "pair" } else { "pairs" });
    std::iter::once(pairs).chain(others).collect()
}

fn validation_line(validation: &TrainValidation) -> String {
    let TrainValidation { step, loss, rewards } = validation;
    let (margins, accuracies) = (rewards.margins, rewards.accuracies);
    format!("step {step:>4}: validation loss {loss:.4}, margin {margins:.4}, right {accuracies:.3}")
}

/// The last step that is done; a folder from elsewhere may only tell of its checkpoint.
fn steps_done(run: &TrainRun) -> usize {
    run.steps.last().map_or(run.checkpoint.unwrap_or(0), |step| step.step)
}

/// What there is of a run that did not come to its end, and how it goes on.
fn stopped_line(run: &TrainRun, out: &Path) -> String {
    let (done, all) = (steps_done(run), run.total_steps);
    // A model that is no good before any step is so at every rate.
    if run.diverged && done == 0 {
        return format!("none of {all} steps was done");
    }
    if run.diverged {
        let rate = run.spec.settings.learning_rate / 3.0;
        return format!("{done} of {all} steps were done; a new run may do with --lr {rate:.1e}");
    }
    let again = format!("meav train --out {} --resume", shell_word(&out.display().to_string()));
    match run.checkpoint {
        None => format!("{done} of {all} steps were done, none is kept; {again} begins again"),
        Some(step) => {
            format!("{done} of {all} steps were done; {again} goes on after step {step}")
        }
    }
}

fn summary_rows(run: &TrainRun) -> Vec<(String, String)> {
    let row = |name: &str, value: String| (name.to_owned(), value);
    let ended = run.ended.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    let mut rows = vec![row("steps", format!("{} of {}{ended}", steps_done(run), run.total_steps))];
    let last = &run.steps[run.steps.len().saturating_sub(LAST_STEPS)..];
    if let Some(first) = run.steps.first() {
        let mean = |of: fn(&TrainStep) -> f64| last.iter().map(of).sum::<f64>() / last.len() as f64;
        let loss = format!("{:.4} → {:.4}", first.loss, mean(|step| step.loss));
        let over = format!("mean of the last {}", last.len());
        rows.push(row("loss", format!("{loss} ({over})")));
        let margin = mean(|step| step.rewards.margins);
        rows.push(row("reward margin", format!("{margin:.4} ({over})")));
        let accuracy = mean(|step| step.rewards.accuracies);
        rows.push(row("pairs that are right", format!("{accuracy:.3} ({over})")));
    }
    if let [first, .., last] = &run.validations[..] {
        rows.push(row("validation loss", format!("{:.4} → {:.4}", first.loss, last.loss)));
    } else if let [only] = &run.validations[..] {
        rows.push(row("validation loss", format!("{:.4}", only.loss)));
    }
    rows.push(row("time", clock(run.elapsed_secs)));
    rows.extend(run.vector.as_ref().map(|vector| row("vector", vector.display().to_string())));
    rows
}

/// What can be done with the vector now.
fn next_commands(run: &TrainRun) -> Vec<String> {
    let Some(vector) = &run.vector else { return Vec::new() };
    let word = |path: &Path| shell_word(&path.display().to_string());
    let model = word(&run.spec.model);
    let weighted = shell_word(&format!("{}=1", vector.display()));
    let tests = run.spec.data.iter().filter_map(|data| test_file(&data.file));
    let mut tests: Vec<String> = tests.map(|test| word(&test)).collect();
    if tests.is_empty() {
        tests.push("TEST.jsonl".to_owned());
    }
    let data = tests.join(" --data ");
    let out = word(&vector.with_file_name("sweep"));
    let vector = word(vector);
    vec![
        format!("try it:   meav chat --model {model} --vector {weighted}"),
        format!("sweep it: meav sweep --model {model} --vector {vector} --data {data} --out {out}"),
    ]
}

/// The file for testing beside one for training, as `meav data split` names them.
fn test_file(train: &Path) -> Option<PathBuf> {
    let name = train.file_name()?.to_str()?;
    let (stem, ending) = name.rsplit_once(".train.")?;
    let test = train.with_file_name(format!("{stem}.test.{ending}"));
    test.is_file().then_some(test)
}

fn millions(elements: u64) -> String {
    format!("{:.2} M", elements as f64 / 1e6)
}

fn gigabytes(bytes: u64) -> String {
    format!("{:.3} GB", bytes as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use meav_protocol::{Dtype, Rewards, RunState, TrainSettings};
    use uuid::Uuid;

    use super::*;

    fn step(step: usize, loss: f64) -> TrainStep {
        let rewards = Rewards { margins: 0.5, accuracies: 0.75, ..Rewards::default() };
        TrainStep { step, loss, rewards, ..TrainStep::default() }
    }

    fn a_run() -> TrainRun {
        let spec = TrainSpec {
            run: Uuid::nil(),
            model: "demo".into(),
            data: vec![TrainData { file: "my data/medical.train.jsonl".into(), prefer: None }],
            domain: "medical".to_owned(),
            out: Some("out".into()),
            resume: false,
            dtype: Dtype::F32,
            settings: TrainSettings::default(),
        };
        TrainRun {
            spec,
            started: String::new(),
            state: RunState::Running,
            is_paused: false,
            ended: None,
            model: "SmolLM2".to_owned(),
            base: String::new(),
            counts: TrainCounts {
                pairs: 90,
                trainable_parameters: 1_234_567,
                ..TrainCounts::default()
            },
            total_steps: 23,
            steps: Vec::new(),
            validations: Vec::new(),
            checkpoint: None,
            vector: None,
            elapsed_secs: 75.0,
            diverged: false,
        }
    }

    #[test]
    fn run_grows_with_what_is_heard() {
        let run = Uuid::nil();
        let mut live = None;
        hear(&mut live, Fact::TrainStep { run, step: step(9, 9.0) }).unwrap();
        assert!(live.is_none(), "nothing is known of it yet");
        hear(&mut live, Fact::Train(Box::new(a_run()))).unwrap();
        for number in 1..=2 {
            hear(&mut live, Fact::TrainStep { run, step: step(number, 25.0) }).unwrap();
        }
        let validation = TrainValidation { step: 2, loss: 24.0, ..TrainValidation::default() };
        hear(&mut live, Fact::TrainValidation { run, validation }).unwrap();
        let live_run = live.as_ref().unwrap();
        assert!(
            stopped_line(live_run, Path::new("o")).starts_with("2 of 23 steps were done, none")
        );
        hear(&mut live, Fact::TrainCheckpoint { run, step: 2 }).unwrap();
        let live_run = live.as_ref().unwrap();
        assert_eq!(live_run.validations, [validation]);
        let line = stopped_line(live_run, Path::new("my runs"));
        let expected = "2 of 23 steps were done; meav train --out 'my runs' --resume goes on after \
            step 2";
        assert_eq!(line, expected);
        let diverged = TrainRun { diverged: true, ..live_run.clone() };
        let line = stopped_line(&diverged, Path::new("my runs"));
        assert_eq!(line, "2 of 23 steps were done; a new run may do with --lr 1.7e-4");
        // The engine's own account counts.
        let ended = TrainRun { steps: vec![step(1, 25.0)], ..a_run() };
        hear(&mut live, Fact::Train(Box::new(ended.clone()))).unwrap();
        assert_eq!(live, Some(ended));
    }

    #[test]
    fn first_line_says_what_is_trained_and_where_it_goes_on() {
        let line = begun_line(&a_run());
        assert_eq!(line, "training 1.23 M elements on 90 pairs, 23 steps");
        let counts =
            TrainCounts { validation_pairs: 3, truncated: 1, left_out: 2, ..a_run().counts };
        let run = TrainRun { steps: vec![step(1, 25.0), step(2, 24.0)], counts, ..a_run() };
        let line = begun_line(&run);
        let expected = "going on after step 2 of 23: 1.23 M elements, 90 pairs, 3 held back, 1 of \
            them cut, 2 records left out";
        assert_eq!(line, expected);
    }

    #[test]
    fn summary_tells_of_the_way_and_of_what_can_be_done_now() {
        let folder = tempfile::tempdir().unwrap();
        let train = folder.path().join("medical.train.jsonl");
        let mut run = TrainRun {
            steps: (1..=8).map(|number| step(number, 26.0 - number as f64)).collect(),
            validations: [25.0, 24.0, 20.0]
                .map(|loss| TrainValidation { loss, ..TrainValidation::default() })
                .to_vec(),
            ended: Some("the validation loss has not fallen".to_owned()),
            vector: Some("my out/vector.safetensors".into()),
            ..a_run()
        };
        let rows = summary_rows(&run);
        let value = |name: &str| rows.iter().find(|row| row.0 == name).map(|row| row.1.as_str());
        assert_eq!(value("steps"), Some("8 of 23: the validation loss has not fallen"));
        assert_eq!(value("loss"), Some("25.0000 → 20.0000 (mean of the last 5)"));
        assert_eq!(value("reward margin"), Some("0.5000 (mean of the last 5)"));
        assert_eq!(value("validation loss"), Some("25.0000 → 20.0000"));
        assert_eq!(value("time"), Some("1:15"));
        assert_eq!(value("vector"), Some("my out/vector.safetensors"));

        let [chat, sweep] = &next_commands(&run)[..] else { panic!("two commands") };
        assert!(chat.ends_with("--model demo --vector 'my out/vector.safetensors=1'"), "{chat}");
        assert!(sweep.ends_with("--data TEST.jsonl --out 'my out/sweep'"), "{sweep}");
        // Once there is a file for testing, it is named.
        run.spec.data[0].file.clone_from(&train);
        let test = folder.path().join("medical.test.jsonl");
        fs::write(&test, "").unwrap();
        let named = format!("--data {}", shell_word(&test.display().to_string()));
        assert!(next_commands(&run)[1].contains(&named), "{named}");
        assert!(next_commands(&a_run()).is_empty());
    }

    #[test]
    fn folder_without_a_run_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let spec = a_run().spec;
        let refused = || match kept_spec(Some(folder.path())) {
            Err(Failure::Failed(err)) => err.to_string(),
            other => panic!("{other:?}"),
        };
        assert!(refused().contains("no run to go on with"), "{}", refused());
        fs::write(folder.path().join(CONFIG_FILE), "{}").unwrap();
        assert!(refused().contains("spec"), "{}", refused());
        let config = serde_json::json!({ "spec": spec, "version": "1" });
        fs::write(folder.path().join(CONFIG_FILE), config.to_string()).unwrap();
        assert_eq!(kept_spec(Some(folder.path())).unwrap(), spec);
    }

    #[test]
    fn estimate_names_what_there_is() {
        let mut estimate = TrainEstimate {
            counts: a_run().counts,
            total_steps: 23,
            secs: 3725.0,
            memory_bytes: 2_500_000_000,
            available_bytes: None,
            disk_bytes: 20_000_000,
            refusal: None,
        };
        let text = |estimate: &TrainEstimate| format!("{:?}", estimate_rows(estimate));
        let words = text(&estimate);
        for part in ["90 pairs", "1.23 M", "1:02:05", "2.500 GB", "0.020 GB"] {
            assert!(words.contains(part), "{part}: {words}");
        }
        assert!(!words.contains("free"), "{words}");
        estimate.available_bytes = Some(8_000_000_000);
        assert!(text(&estimate).contains("8.000 GB"));
    }
}
