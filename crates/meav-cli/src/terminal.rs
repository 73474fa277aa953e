use std::fs;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use meav_client::{Client, EngineProcess, Update};
use meav_protocol::{
    DataProblem, DeviceChoice, Dtype, EngineChoice, EngineDevice, Fact, JobSpec, Outcome, Stage,
};
use serde::Serialize;

use crate::args::{Compute, JsonTarget, Threads};
use crate::failure::{CANCELLED, Failure};

/// An engine, and a person who watches it.
pub(crate) struct Terminal {
    client: Client,
    interrupted: Arc<AtomicBool>,
    running: Arc<AtomicBool>,
    /// What the first engine computes on.
    device: EngineDevice,
    /// What was last said of the device.
    said_of_device: Option<String>,
    /// What was last said not to be kept: each job says it again.
    unkept: Option<String>,
}

impl Terminal {
    /// For jobs that run no model, and need no GPU therefore.
    pub(crate) fn new(threads: impl Into<Option<Threads>>) -> Result<Self, Failure> {
        let threads = threads.into().unwrap_or(Threads { threads: None });
        Self::with_model(Compute { threads, device: DeviceChoice::Cpu })
    }

    /// For jobs that run a model: chooses what to run it on.
    pub(crate) fn with_model(compute: Compute) -> Result<Self, Failure> {
        let interrupted = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&interrupted);
        let running = Arc::new(AtomicBool::new(false));
        let is_running = Arc::clone(&running);
        let on_signal = move || {
            // The first one asks the job to end. Without a job, or a second time, the program ends.
            if !is_running.load(Ordering::Acquire) || flag.swap(true, Ordering::AcqRel) {
                std::process::exit(i32::from(CANCELLED));
            }
        };
        ctrlc::set_handler(on_signal)
            .map_err(|err| Failure::new("Ctrl-C cannot be caught", err.to_string()))?;
        let Compute { threads: Threads { threads }, device } = compute;
        let mut engine = EngineProcess::locate(threads.map(usize::from), device);
        let chosen = engine.choose().map_err(|err| Failure::Failed(err.to_user_error()))?;
        let device = chosen.device;
        let client = Client::new(engine, || ());
        Ok(Self { client, device, said_of_device: None, interrupted, running, unkept: None })
    }

    /// What weights are rounded to that are measured or trained, unless told otherwise.
    pub(crate) fn measuring_dtype(&self) -> Dtype {
        self.device.measuring_dtype()
    }

    /// Runs a job; progress goes to standard error, facts to `on_fact`. Ctrl-C cancels it.
    pub(crate) fn run(&mut self, spec: JobSpec, mut on_fact: impl FnMut(Fact)) -> Outcome {
        self.interrupted.store(false, Ordering::Release);
        self.running.store(true, Ordering::Release);
        let interrupted = Arc::clone(&self.interrupted);
        let mut bar = Bar::default();
        let outcome =
            self.client.run(spec, &move || interrupted.load(Ordering::Acquire), |update| {
                match update {
                    Update::Progress { stage, done, total } => bar.show(stage, done, total),
                    Update::Fact(Fact::Unkept(words)) => {
                        bar.clear();
                        note_new(&mut self.unkept, Some(words));
                    }
                    Update::Fact(fact) => {
                        bar.hear(&fact);
                        on_fact(fact);
                    }
                    Update::EngineChosen(choice) => {
                        bar.clear();
                        note_new(&mut self.said_of_device, device_words(&choice));
                    }
                }
            });
        self.running.store(false, Ordering::Release);
        outcome
    }

    /// As [`Self::run`], but the first error of `on_fact` ends the job.
    pub(crate) fn try_run(
        &mut self,
        spec: JobSpec,
        mut on_fact: impl FnMut(Fact) -> Result<(), Failure>,
    ) -> (Outcome, Result<(), Failure>) {
        let interrupted = Arc::clone(&self.interrupted);
        let mut heard = Ok(());
        let outcome = self.run(spec, |fact| {
            if heard.is_ok() {
                heard = on_fact(fact);
                interrupted.fetch_or(heard.is_err(), Ordering::AcqRel);
            }
        });
        (outcome, heard)
    }

    /// Runs a job that has to succeed, for what it finds.
    pub(crate) fn facts(&mut self, spec: JobSpec) -> Result<Vec<Fact>, Failure> {
        let mut facts = Vec::new();
        let outcome = self.run(spec, |fact| facts.push(fact));
        Failure::check(outcome).map(|()| facts)
    }

    /// Runs a job that has to find one thing, which `pick` knows; notes go to standard error as
    /// they come.
    pub(crate) fn fact<T>(
        &mut self,
        spec: JobSpec,
        pick: impl Fn(Fact) -> Option<T>,
    ) -> Result<T, Failure> {
        let mut facts = Vec::new();
        let outcome = self.run(spec, |fact| {
            say_aside(&fact);
            facts.push(fact);
        });
        Failure::check(outcome)?;
        found(facts, pick)
    }

    /// Runs a job that writes something, and says what and where.
    pub(crate) fn run_written(&mut self, spec: JobSpec) -> Result<(), Failure> {
        for fact in self.facts(spec)? {
            if let Fact::Written { path, summary } = fact {
                writeln!(io::stdout(), "{}", path.display())?;
                writeln!(io::stderr(), "{summary}")?;
            }
        }
        Ok(())
    }
}

fn found<T>(facts: Vec<Fact>, pick: impl Fn(Fact) -> Option<T>) -> Result<T, Failure> {
    facts.into_iter().find_map(pick).ok_or_else(no_answer)
}

/// The engine is at fault.
pub(crate) fn no_answer() -> Failure {
    Failure::new("The engine ended the job without an answer", "Try again")
}

/// Says what the engine says beside its answer: notes, and each record that it leaves out.
pub(crate) fn say_aside(fact: &Fact) {
    match fact {
        Fact::Note(note) => say_note(note),
        Fact::LeftOut { file, problems, total } => {
            for problem in problems {
                say_warning(&problem_line(file, problem));
            }
            if *total > problems.len() {
                let more = total - problems.len();
                say_warning(&printable(&format!("{file}: and {more} more")));
            }
        }
        _ => {}
    }
}

fn say_warning(words: &str) {
    // With standard error gone there is nobody left to tell.
    let _gone = writeln!(io::stderr(), "warning: {words}");
}

/// `FILE:LINE ID: REASON`.
pub(crate) fn problem_line(file: &str, problem: &DataProblem) -> String {
    let id = problem.id.as_ref().map(|id| format!(" {id}")).unwrap_or_default();
    printable(&format!("{file}:{}{id}: {}", problem.line, problem.reason))
}

/// What the engine wants to be known, on standard error.
fn say_note(note: &str) {
    // With standard error gone there is nobody left to tell.
    let _gone = writeln!(io::stderr(), "note: {}", printable(note));
}

/// Says what was not the last thing to be said.
fn note_new(said: &mut Option<String>, words: Option<String>) {
    if let Some(words) = words.filter(|words| said.as_ref() != Some(words)) {
        say_note(&words);
        *said = Some(words);
    }
}

/// What is to be said of the device: nothing where there is nothing to choose from.
fn device_words(choice: &EngineChoice) -> Option<String> {
    match &choice.gpu {
        Some(gpu) => {
            let [free, total] = [gpu.free_bytes, gpu.total_bytes].map(|it| it as f64 / 1e9);
            Some(format!("on {choice}, {free:.1} of {total:.1} GB free"))
        }
        None => choice.is_fallback.then(|| format!("on the {choice}: {}", choice.reason)),
    }
}

/// Text from a file that may be hostile, as a terminal may see it: without what would steer it.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A title and rows of names and values, on standard output.
pub(crate) fn print_table(title: &str, rows: &[(String, String)]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", printable(title))?;
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    for (name, value) in rows {
        let padding = " ".repeat(width - name.chars().count());
        writeln!(out, "  {}{padding}  {}", printable(name), printable(value).trim_end())?;
    }
    Ok(())
}

/// Rows of cells, on standard output: names first, then numbers that end below each other.
pub(crate) fn print_columns(rows: &[Vec<String>]) -> Result<(), Failure> {
    Ok(io::stdout().lock().write_all(columns(rows).as_bytes())?)
}

fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let padding = " ".repeat(width - cell.chars().count());
            let cell = printable(cell);
            let cell = if column == 0 { cell + &padding } else { padding + &cell };
            line.push_str("  ");
            line.push_str(&cell);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Writes `value` as JSON to a file or to standard output.
pub(crate) fn write_json(target: &JsonTarget, value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(io::Error::other)?;
    if target.is_stdout() {
        return Ok(writeln!(io::stdout(), "{text}")?);
    }
    write_whole(target.path(), &(text + "\n"))
}

/// Writes a file by way of a temporary one beside it: all of it, or nothing.
pub(crate) fn write_whole(path: &Path, text: &str) -> Result<(), Failure> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let write = || {
        let mut file = tempfile::Builder::new()
            .prefix(".meav-")
            .permissions(fs::Permissions::from_mode(0o666))
            .tempfile_in(folder.unwrap_or(Path::new(".")))?;
        file.write_all(text.as_bytes())?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(|err: io::Error| {
        let summary = format!("{} could not be written: {err}", path.display());
        Failure::new(summary, "Choose another place")
    })
}

/// A progress bar, where standard error is a terminal and there is something to wait for.
#[derive(Default)]
struct Bar {
    stage: Option<(Stage, Instant)>,
    shown: Option<ProgressBar>,
    training: Training,
}

/// What is done sooner needs no bar.
const BAR_DELAY: Duration = Duration::from_millis(300);

impl Bar {
    fn show(&mut self, stage: Stage, done: u64, total: u64) {
        let (_, start) = match self.stage {
            Some(current) if current.0 == stage => current,
            _ => {
                self.clear();
                *self.stage.insert((stage, Instant::now()))
            }
        };
        let words = match stage {
            Stage::Training => self.training.words(Instant::now(), done, total),
            _ => String::new(),
        };
        if start.elapsed() < BAR_DELAY || !io::stderr().is_terminal() {
            return;
        }
        let bar = self.shown.get_or_insert_with(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            let template = if total == 0 {
                "{msg} {spinner}"
            } else {
                "{msg} {bar:30} {percent:>3} %{prefix}"
            };
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar.set_message(stage_words(stage));
            bar
        });
        if total == 0 {
            bar.tick();
            return;
        }
        bar.set_prefix(words);
        bar.set_length(total);
        bar.set_position(done);
    }

    /// Makes room for what a fact may have to be said of.
    fn hear(&mut self, fact: &Fact) {
        match fact {
            Fact::TrainStep { step, .. } => self.training.step = Some((step.step, step.loss)),
            Fact::TrainCheckpoint { .. } => {}
            Fact::Train(run) => {
                self.training.total_steps = run.total_steps;
                self.clear();
            }
            _ => self.clear(),
        }
    }

    fn clear(&mut self) {
        if let Some(bar) = self.shown.take() {
            bar.finish_and_clear();
        }
    }
}

/// How far training is, whatever it does between two steps.
#[derive(Default)]
struct Training {
    total_steps: usize,
    /// The last step, and its loss.
    step: Option<(usize, f64)>,
    /// When it was first heard of, and how far it was.
    start: Option<(Instant, u64)>,
}

impl Training {
    /// Steps and the time left, as far as they are known.
    fn words(&mut self, now: Instant, done: u64, total: u64) -> String {
        let (start, before) = *self.start.get_or_insert((now, done));
        let mut words = String::new();
        if let Some((step, loss)) = self.step {
            words = format!(", step {step} of {}, loss {loss:.3}", self.total_steps);
        }
        if done > before {
            let pace = (now - start).as_secs_f64() / (done - before) as f64;
            let left = clock(pace * total.saturating_sub(done) as f64);
            words = format!("{words}, {left} left");
        }
        words
    }
}

/// A duration: `1:15`, `2:03:05`.
pub(crate) fn clock(secs: f64) -> String {
    let secs = secs.max(0.0).round() as u64;
    let (hours, minutes, secs) = (secs / 3600, secs / 60 % 60, secs % 60);
    if hours == 0 {
        format!("{minutes}:{secs:02}")
    } else {
        format!("{hours}:{minutes:02}:{secs:02}")
    }
}

/// Text as one word of a shell's command line.
pub(crate) fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./=+:,@%".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.clear();
    }
}

fn stage_words(stage: Stage) -> &'static str {
    match stage {
        Stage::Fingerprinting => "checking files",
        Stage::Loading => "loading the model",
        Stage::Merging => "merging",
        Stage::ReadingPrompt => "reading the conversation",
        Stage::Downloading => "downloading",
        Stage::Extracting => "taking one model from the other",
        Stage::Compressing => "compressing",
        Stage::Separating => "separating",
        Stage::Comparing => "comparing",
        Stage::Scoring => "scoring",
        Stage::ReadingData => "reading the data",
        Stage::Answering => "answering",
        Stage::Judging => "judging",
        Stage::Referencing => "asking the base model",
        Stage::Training => "training",
        Stage::Writing => "writing",
        Stage::Measuring => "measuring",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_end_below_each_other() {
        let row = |cells: &[&str]| cells.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        let text = columns(&[row(&["", "share"]), row(&["λ", "0.5", "−1"]), row(&["expert"])]);
        assert_eq!(text, "          share\n  λ         0.5  −1\n  expert\n");
    }

    #[test]
    fn time_left_is_that_of_the_pace_so_far() {
        let mut training = Training { total_steps: 23, ..Training::default() };
        let start = Instant::now();
        let later = |secs| start + Duration::from_secs(secs);
        assert_eq!(training.words(start, 10, 110), "");
        training.step = Some((3, 24.5));
        let words = training.words(later(30), 30, 110);
        assert_eq!(words, ", step 3 of 23, loss 24.500, 2:00 left");
        // Other stages between two steps take their time, too.
        assert!(training.words(later(300), 60, 110).ends_with("5:00 left"));
        assert_eq!(clock(7384.6), "2:03:05");
        assert_eq!(clock(-1.0), "0:00");
    }

    #[test]
    fn words_of_a_command_line_can_be_pasted() {
        assert_eq!(
            shell_word("runs/medical-1/vector.safetensors=1"),
            "runs/medical-1/vector.safetensors=1"
        );
        assert_eq!(shell_word("my runs/it's"), r"'my runs/it'\''s'");
        assert_eq!(shell_word(""), "''");
        assert_eq!(shell_word("$(x)"), "'$(x)'");
    }

    #[test]
    fn text_from_files_does_not_steer_the_terminal() {
        assert_eq!(printable("a\u{1b}[31m\nλ\u{9b}"), "a [31m λ ");
    }

    #[test]
    fn job_without_an_answer_has_failed() {
        let pick = |fact| match fact {
            Fact::Unkept(words) => Some(words),
            _ => None,
        };
        let note = Fact::Note("by the way".to_owned());
        assert!(matches!(found(vec![note.clone()], pick), Err(Failure::Failed(_))));
        let answer = Fact::Unkept("it".to_owned());
        assert!(matches!(found(vec![note, answer], pick), Ok(words) if words == "it"));
    }
}
