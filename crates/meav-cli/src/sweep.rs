use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use meav_protocol::{
    Calibration, Dtype, Fact, JobSpec, Outcome, Prompting, RunState, Sweep, SweepPoint, SweepSpec,
};

use crate::args::SweepArgs;
use crate::failure::Failure;
use crate::score::{prompting, warn_skipped};
use crate::terminal::{Terminal, no_answer, printable, say_aside, write_whole};
use crate::vector::target;

/// The file that a sweep is kept in as it grows.
const SWEEP_FILE: &str = "sweep.json";

/// How long a point may wait for the file, which is written whole: with thousands of points, each
/// would take longer than the one before. The workspace has every point at once.
const SAVE_PAUSE: Duration = Duration::from_secs(1);

/// What is written of a sweep.
const SWEEP_ENDINGS: [&str; 5] = ["json", "csv", "svg", "png", "md"];

/// What is written of the sweeps of several vectors.
const MATRIX_ENDINGS: [&str; 4] = ["json", "csv", "md", "svg"];

/// `meav sweep`.
pub(crate) fn sweep(args: &SweepArgs) -> Result<(), Failure> {
    make_folder(&args.out)?;
    let mut terminal = Terminal::with_model(args.compute)?;
    let prompting = prompting(&mut terminal, &args.prompting, &args.data)?;
    let mut folders: Vec<PathBuf> = Vec::new();
    let mut sweeps = Vec::new();
    for vector in 0..args.vectors.len() {
        let Swept { folder, sweep, calibration, .. } =
            sweep_vector(&mut terminal, args, vector, prompting.as_ref(), &folders)?;
        if let Some(calibration) = calibration.filter(|_| args.write_calibration) {
            let (vector, calibration) = (sweep.vector.file.clone(), Box::new(calibration));
            terminal.run_written(JobSpec::WriteCalibration { vector, calibration })?;
        }
        sweep_siblings(&mut terminal, args, vector, prompting.as_ref(), &folder, &sweep)?;
        folders.push(folder);
        sweeps.push(sweep);
    }
    if sweeps.len() > 1 { write_matrix(&mut terminal, args, sweeps) } else { Ok(()) }
}

fn make_folder(path: &Path) -> Result<(), Failure> {
    fs::create_dir_all(path).map_err(|err| {
        let summary = format!("The folder {} could not be made: {err}", path.display());
        Failure::new(summary, "Choose another place")
    })
}

/// A sweep, and where its files are.
struct Swept {
    folder: PathBuf,
    sweep: Sweep,
    calibration: Option<Calibration>,
    /// What the file held of the same run, which the engine may know less of: it is kept until it
    /// is measured again.
    kept: Option<Sweep>,
    /// When the file was last written.
    saved: Option<Instant>,
}

fn sweep_vector(
    terminal: &mut Terminal,
    args: &SweepArgs,
    vector: usize,
    prompting: Option<&Prompting>,
    taken: &[PathBuf],
) -> Result<Swept, Failure> {
    let mut spec = spec(args, &args.model, vector, prompting, terminal.measuring_dtype())?;
    if args.vectors.len() == 1 {
        refuse_other_sweep(&args.out, &spec)?;
        go_on(&mut spec, std::slice::from_ref(&args.out));
        return run(terminal, spec, &|_| args.out.clone());
    }
    let mut folders = folders_in(&args.out);
    folders.retain(|folder| !taken.contains(folder));
    let earlier = go_on(&mut spec, &folders);
    run(terminal, spec, &|sweep| {
        let name = || free_folder(&args.out, &folder_name(&sweep.vector.domain, "vector"), taken);
        earlier.clone().unwrap_or_else(name)
    })
}

fn spec(
    args: &SweepArgs,
    model: &Path,
    vector: usize,
    prompting: Option<&Prompting>,
    default_dtype: Dtype,
) -> Result<SweepSpec, Failure> {
    let hint = "meav sweep --help says what goes together";
    let spec = args.spec(model, vector, prompting.cloned(), default_dtype);
    spec.map_err(|err| Failure::new(err, hint))
}

/// The same on models for which the vector was not made, and all curves over each other.
fn sweep_siblings(
    terminal: &mut Terminal,
    args: &SweepArgs,
    vector: usize,
    prompting: Option<&Prompting>,
    folder: &Path,
    sweep: &Sweep,
) -> Result<(), Failure> {
    let mut sweeps = vec![sweep.clone()];
    let mut taken = Vec::new();
    for model in &args.transfer {
        let name = format!("transfer-{}", folder_name(&model_name(model), "model"));
        let own = free_folder(folder, &name, &taken);
        let mut spec = spec(args, model, vector, prompting, terminal.measuring_dtype())?;
        refuse_other_sweep(&own, &spec)?;
        go_on(&mut spec, std::slice::from_ref(&own));
        let Swept { folder, sweep, .. } = run(terminal, spec, &|_| own.clone())?;
        taken.push(folder);
        sweeps.push(sweep);
    }
    if sweeps.len() == 1 {
        return Ok(());
    }
    let out = target(folder.join("transfer.svg"));
    terminal.run_written(JobSpec::ExportSweeps { sweeps, out })
}

fn write_matrix(
    terminal: &mut Terminal,
    args: &SweepArgs,
    sweeps: Vec<Sweep>,
) -> Result<(), Failure> {
    let matrix = terminal.fact(JobSpec::CrossDomain { sweeps }, |fact| match fact {
        Fact::CrossDomain(matrix) => Some(matrix),
        _ => None,
    })?;
    for ending in MATRIX_ENDINGS {
        let out = target(args.out.join("matrix").with_extension(ending));
        let matrix = matrix.clone();
        terminal.run_written(JobSpec::ExportCrossDomain { matrix, out })?;
    }
    Ok(())
}

/// Takes the name of an earlier run in one of the folders, if it was asked for the same; gives the
/// folder.
fn go_on(spec: &mut SweepSpec, folders: &[PathBuf]) -> Option<PathBuf> {
    if !spec.reuse {
        return None;
    }
    let found = |folder: &PathBuf| Some((folder.clone(), earlier_sweep(folder, spec)?.spec.run));
    let (folder, run) = folders.iter().find_map(found)?;
    spec.run = run;
    Some(folder)
}

/// What is in the folder is not to be lost for a sweep of something else.
fn refuse_other_sweep(folder: &Path, spec: &SweepSpec) -> Result<(), Failure> {
    let file = folder.join(SWEEP_FILE);
    if !spec.reuse || !file.is_file() || earlier_sweep(folder, spec).is_some() {
        return Ok(());
    }
    Err(other_sweep(&file))
}

fn other_sweep(file: &Path) -> Failure {
    let summary = format!("{} is of another sweep", file.display());
    Failure::new(summary, "Choose another folder, or replace it with --fresh")
}

/// The sweep in a folder, if it has these settings.
fn earlier_sweep(folder: &Path, spec: &SweepSpec) -> Option<Sweep> {
    let text = fs::read_to_string(folder.join(SWEEP_FILE)).ok()?;
    let sweep: Sweep = serde_json::from_str(&text).ok()?;
    let earlier = SweepSpec { run: spec.run, reuse: spec.reuse, ..sweep.spec.clone() };
    (earlier == *spec).then_some(sweep)
}

/// Whether both measure the same weights on the same records, wherever those are.
fn has_same_content(a: &Sweep, b: &Sweep) -> bool {
    let content = |sweep: &Sweep| {
        let held: Vec<_> = sweep.held.iter().map(|it| it.fingerprint.clone()).collect();
        let data: Vec<_> = sweep.datasets.iter().map(|it| it.fingerprint.clone()).collect();
        (sweep.base.clone(), sweep.vector.fingerprint.clone(), held, data)
    };
    content(a) == content(b)
}

fn folders_in(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    let mut folders: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    folders.sort();
    folders
}

/// Sweeps; the points go to the folder's file as they come, whatever the end.
fn run(
    terminal: &mut Terminal,
    spec: SweepSpec,
    folder: &dyn Fn(&Sweep) -> PathBuf,
) -> Result<Swept, Failure> {
    let mut live: Option<Swept> = None;
    let (outcome, heard) = terminal.try_run(JobSpec::Sweep(Box::new(spec)), |fact| {
        say_aside(&fact);
        hear(&mut live, fact, folder)
    });
    if let Some((live, last)) = live.as_ref().and_then(|it| Some((it, it.sweep.points.last()?))) {
        warn_skipped(&last.datasets, &live.sweep.prompting)?;
    }
    heard?;
    let Some(mut live) = live else {
        Failure::check(outcome)?;
        return Err(no_answer());
    };
    if outcome != Outcome::Done {
        live.stop(&outcome)?;
    }
    Failure::check(outcome)?;
    for ending in SWEEP_ENDINGS {
        let out = target(live.folder.join("sweep").with_extension(ending));
        let sweeps = vec![live.sweep.clone()];
        terminal.run_written(JobSpec::ExportSweeps { sweeps, out })?;
    }
    Ok(live)
}

/// Takes in what a sweep finds, shows it and keeps it.
fn hear(
    live: &mut Option<Swept>,
    fact: Fact,
    folder: &dyn Fn(&Sweep) -> PathBuf,
) -> Result<(), Failure> {
    match (fact, live) {
        (Fact::Sweep(sweep), Some(live)) => {
            live.take(*sweep);
            live.save()
        }
        (Fact::Sweep(sweep), live @ None) => {
            let begun = Swept::begin(folder(&sweep), *sweep)?;
            live.insert(begun).save()
        }
        (Fact::SweepPoint { point, .. }, Some(live)) => {
            let line = point_line(&point);
            live.add(*point);
            live.save_soon()?;
            Ok(writeln!(io::stderr(), "{line}")?)
        }
        (Fact::Calibrated { calibration, .. }, Some(live)) => {
            live.calibration = Some(*calibration);
            Ok(())
        }
        _ => Ok(()),
    }
}

impl Swept {
    /// Nothing of a folder is lost for it: what was measured by this run stays, and for a file of
    /// something else there is an error.
    fn begin(folder: PathBuf, sweep: Sweep) -> Result<Self, Failure> {
        refuse_other_sweep(&folder, &sweep.spec)?;
        let kept = earlier_sweep(&folder, &sweep.spec).filter(|_| sweep.spec.reuse);
        if kept.as_ref().is_some_and(|kept| !has_same_content(kept, &sweep)) {
            return Err(other_sweep(&folder.join(SWEEP_FILE)));
        }
        make_folder(&folder)?;
        say_begun(&sweep, kept.as_ref())?;
        let mut live = Self { folder, sweep: sweep.clone(), calibration: None, kept, saved: None };
        live.take(sweep);
        Ok(live)
    }

    /// What the engine knows, and what only the file does.
    fn take(&mut self, sweep: Sweep) {
        self.sweep = sweep;
        let Some(kept) = &self.kept else { return };
        let points = &mut self.sweep.points;
        for point in &kept.points {
            if let Err(place) = points.binary_search_by(|it| it.lambda.total_cmp(&point.lambda)) {
                points.insert(place, point.clone());
            }
        }
        let known = self.sweep.prompting.len();
        self.sweep.prompting.extend(kept.prompting.iter().skip(known).cloned());
    }

    /// The lowest λ first; a point that is there already is measured anew.
    fn add(&mut self, point: SweepPoint) {
        let points = &mut self.sweep.points;
        let place = points.partition_point(|it| it.lambda < point.lambda);
        match points.get_mut(place) {
            Some(known) if known.lambda.total_cmp(&point.lambda).is_eq() => *known = point,
            _ => points.insert(place, point),
        }
    }

    fn save(&mut self) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(&self.sweep).map_err(io::Error::other)?;
        write_whole(&self.folder.join(SWEEP_FILE), &(text + "\n"))?;
        self.saved = Some(Instant::now());
        Ok(())
    }

    /// Unless it was saved a moment ago.
    fn save_soon(&mut self) -> Result<(), Failure> {
        if self.saved.is_some_and(|at| at.elapsed() < SAVE_PAUSE) { Ok(()) } else { self.save() }
    }

    /// Keeps what there is of a sweep that did not come to its end.
    fn stop(&mut self, outcome: &Outcome) -> Result<(), Failure> {
        self.sweep.state = RunState::Stopped;
        self.save()?;
        let (there, all) = (self.sweep.points.len(), self.sweep.spec.range.points().len());
        let file = self.folder.join(SWEEP_FILE);
        let file = file.display();
        let next = match outcome {
            Outcome::Cancelled => "; the same command goes on from there",
            _ => "",
        };
        Ok(writeln!(io::stderr(), "{there} of {all} points are in {file}{next}")?)
    }
}

/// What the engine has of the sweep already, and what of the file's it has not.
fn say_begun(sweep: &Sweep, kept: Option<&Sweep>) -> Result<(), Failure> {
    let mut err = io::stderr().lock();
    if let Some(line) = begun_line(sweep, kept) {
        writeln!(err, "{line}")?;
    }
    for point in &sweep.points {
        writeln!(err, "{} (kept)", point_line(point))?;
    }
    Ok(())
}

fn begun_line(sweep: &Sweep, kept: Option<&Sweep>) -> Option<String> {
    let (there, all) = (sweep.points.len(), sweep.spec.range.points().len());
    let is_new = |lambda: f64| !sweep.points.iter().any(|it| it.lambda.total_cmp(&lambda).is_eq());
    let kept = kept.map_or(&[][..], |kept| &kept.points);
    let unknown = kept.iter().filter(|point| is_new(point.lambda)).count();
    let again = match unknown {
        0 if there == 0 => return None,
        0 => String::new(),
        n => format!("; {n} more of its file are not in this workspace and are measured again"),
    };
    Some(format!("going on with {}: {there} of {all} points are there{again}", sweep.spec.run))
}

/// λ and what is preferred there.
fn point_line(point: &SweepPoint) -> String {
    let datasets: Vec<String> = point
        .datasets
        .iter()
        .map(|scores| {
            let shares: Vec<String> = scores
                .preference_accuracy
                .iter()
                .map(|(level, share)| format!("{level} {share:.3}"))
                .collect();
            format!("{} {}", scores.file, shares.join(", "))
        })
        .collect();
    printable(&format!("λ {:>6}: {}", point.lambda, datasets.join("; ")))
}

/// What a model is called by its path.
fn model_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.strip_suffix(".gguf").unwrap_or(&name).to_owned()
}

/// A name of any origin as that of a folder.
fn folder_name(name: &str, otherwise: &str) -> String {
    let harmless = |c: char| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let name: String = name.chars().take(60).map(harmless).collect();
    let name = name.trim_matches(['.', '-']);
    if name.is_empty() { otherwise.to_owned() } else { name.to_owned() }
}

/// A folder of this name, numbered where others of the same command have it.
fn free_folder(parent: &Path, name: &str, taken: &[PathBuf]) -> PathBuf {
    let numbered = (2..).map(|number| parent.join(format!("{name}-{number}")));
    let mut names = std::iter::once(parent.join(name)).chain(numbered);
    let Some(free) = names.find(|folder| !taken.contains(folder)) else {
        unreachable!("there is no end of numbers")
    };
    free
}

#[cfg(test)]
mod tests {
    use meav_protocol::{
        DatasetScores, Dtype, LambdaRange, LengthOnly, MeasureName, Method, Scope, Setup, Shares,
        StampTerm, VectorTerm,
    };
    use uuid::Uuid;

    use super::*;

    fn spec() -> SweepSpec {
        SweepSpec {
            run: Uuid::now_v7(),
            setup: Setup {
                model: "m".into(),
                dtype: Dtype::F32,
                method: Method::default(),
                vectors: vec![VectorTerm::new("v", 0.0), VectorTerm::new("w", -0.7)],
            },
            swept: 0,
            range: LambdaRange { first: -1.0, last: 1.0, step: 0.1 },
            data: vec!["d.jsonl".into()],
            prompting: None,
            reuse: true,
        }
    }

    fn point(lambda: f64) -> SweepPoint {
        let shares: Shares = std::iter::once(("expert".to_owned(), 0.25)).collect();
        let scores = DatasetScores {
            file: "d.jsonl".to_owned(),
            measure: MeasureName::Levels,
            n: 4,
            preference_accuracy: shares.clone(),
            intervals: std::iter::once(("expert".to_owned(), [0.0, 0.5])).collect(),
            other_kinds: std::iter::empty().collect(),
            disagreements: 0,
            length_only: LengthOnly {
                longest: shares.clone(),
                shortest: shares.clone(),
                agreement: 0.5,
            },
            mean_log_prob: shares,
            prompt_tokens: 40.0,
            skipped: Vec::new(),
            preferred: Vec::new(),
            records: Vec::new(),
        };
        SweepPoint { lambda, recipe: "blake3:02".to_owned(), datasets: vec![scores] }
    }

    fn sweep(spec: SweepSpec) -> Sweep {
        let vector = StampTerm {
            domain: "medical".to_owned(),
            file: "v".into(),
            fingerprint: "blake3:01".to_owned(),
            coefficient: 0.0,
            scope: Scope::default(),
        };
        Sweep {
            spec,
            started: "2026-11-20T07:00:00Z".to_owned(),
            state: RunState::Running,
            model: "Tiny".to_owned(),
            base: "blake3:00".to_owned(),
            vector,
            base_matches: None,
            held: Vec::new(),
            datasets: Vec::new(),
            points: vec![point(-1.0), point(1.0)],
            prompting: Vec::new(),
            elapsed_secs: 0.0,
        }
    }

    #[test]
    fn points_are_in_the_file_as_soon_as_they_are_there() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("medical");
        let read = || earlier_sweep(&own, &spec()).expect("a sweep");
        let place = |_: &Sweep| own.clone();
        let mut live = None;
        let first = Fact::Sweep(Box::new(sweep(spec())));
        hear(&mut live, first, &place).unwrap();
        assert_eq!(read().points.len(), 2);
        for lambda in [0.0, 0.5, 0.0] {
            let point = Box::new(point(lambda));
            hear(&mut live, Fact::SweepPoint { run: Uuid::nil(), point }, &place).unwrap();
        }
        assert_eq!(read().points.len(), 2, "it was written a moment ago");
        let mut live = live.expect("a sweep");
        live.saved = live.saved.and_then(|at| at.checked_sub(SAVE_PAUSE));
        live.add(point(0.75));
        live.save_soon().unwrap();
        let lambdas = || read().points.iter().map(|point| point.lambda).collect::<Vec<_>>();
        assert_eq!(lambdas(), [-1.0, 0.0, 0.5, 0.75, 1.0]);
        live.add(point(0.25));
        live.stop(&Outcome::Cancelled).unwrap();
        assert_eq!(lambdas(), [-1.0, 0.0, 0.25, 0.5, 0.75, 1.0]);
        assert_eq!(read().state, RunState::Stopped);
    }

    /// A sweep in a folder, as an earlier command has left it.
    fn left_in(folder: &Path, sweep: Sweep) {
        let folder = folder.to_owned();
        Swept { folder, sweep, calibration: None, kept: None, saved: None }.save().unwrap();
    }

    #[test]
    fn points_that_only_the_file_has_stay_until_they_are_measured_again() {
        let folder = tempfile::tempdir().unwrap();
        let place = |_: &Sweep| folder.path().to_owned();
        let before = sweep(spec());
        left_in(folder.path(), before.clone());
        let lambdas = || {
            let read = earlier_sweep(folder.path(), &spec()).expect("a sweep");
            let shares = read.points.iter().map(|it| it.datasets[0].preference_accuracy["expert"]);
            read.points.iter().map(|it| it.lambda).zip(shares).collect::<Vec<_>>()
        };
        let mut own = spec();
        assert_eq!(go_on(&mut own, &[folder.path().to_owned()]), Some(folder.path().to_owned()));
        assert_eq!(own.run, before.spec.run);
        // This workspace has nothing of it.
        let empty = Sweep { points: Vec::new(), ..sweep(own) };
        let line = begun_line(&empty, Some(&before)).expect("it is said");
        assert!(line.contains("0 of 21 points are there; 2 more of its file"), "{line}");
        assert_eq!(begun_line(&empty, None), None);
        let mut live = None;
        hear(&mut live, Fact::Sweep(Box::new(empty.clone())), &place).unwrap();
        assert_eq!(lambdas(), [(-1.0, 0.25), (1.0, 0.25)]);
        let mut anew = point(1.0);
        anew.datasets[0].preference_accuracy.insert("expert".to_owned(), 0.5);
        let fact = Fact::SweepPoint { run: Uuid::nil(), point: Box::new(anew.clone()) };
        hear(&mut live, fact, &place).unwrap();
        // As it comes after a baseline.
        let between = Sweep { points: vec![anew], ..empty };
        hear(&mut live, Fact::Sweep(Box::new(between)), &place).unwrap();
        assert_eq!(lambdas(), [(-1.0, 0.25), (1.0, 0.5)]);
    }

    #[test]
    fn file_of_another_sweep_is_lost_only_if_that_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let place = |_: &Sweep| folder.path().to_owned();
        let change = |change: fn(&mut Sweep)| {
            let mut other = sweep(spec());
            change(&mut other);
            other
        };
        for other in [
            change(|it| it.spec.range.step = 0.5),
            change(|it| it.spec.data = vec!["e.jsonl".into()]),
            change(|it| it.base = "blake3:99".to_owned()),
            change(|it| it.vector.fingerprint = "blake3:99".to_owned()),
        ] {
            left_in(folder.path(), other.clone());
            let before = fs::read(folder.path().join(SWEEP_FILE)).unwrap();
            let fact = |reuse| Fact::Sweep(Box::new(sweep(SweepSpec { reuse, ..spec() })));
            let mut live = None;
            let heard = hear(&mut live, fact(true), &place);
            assert!(matches!(heard, Err(Failure::Failed(_))), "{other:?}");
            assert!(live.is_none());
            assert_eq!(fs::read(folder.path().join(SWEEP_FILE)).unwrap(), before);
            hear(&mut live, fact(false), &place).unwrap();
            assert_ne!(fs::read(folder.path().join(SWEEP_FILE)).unwrap(), before);
        }
    }

    #[test]
    fn only_a_run_with_the_same_settings_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let kept = sweep(spec());
        left_in(folder.path(), kept.clone());
        let run = |spec: &SweepSpec| {
            let mut spec = spec.clone();
            let fresh = spec.run;
            go_on(&mut spec, &[folder.path().join("nowhere"), folder.path().to_owned()]);
            (spec.run != fresh).then_some(spec.run)
        };
        assert_eq!(run(&spec()), Some(kept.spec.run));
        let change = |change: fn(&mut SweepSpec)| {
            let mut spec = spec();
            change(&mut spec);
            spec
        };
        for other in [
            change(|it| it.reuse = false),
            change(|it| it.range.step = 0.2),
            change(|it| it.setup.vectors[1].coefficient = -0.6),
            change(|it| it.setup.dtype = Dtype::Bf16),
            change(|it| it.data.push("e.jsonl".into())),
            change(|it| it.prompting = Some(Prompting::of(["expert"]))),
        ] {
            assert_eq!(run(&other), None, "{other:?}");
        }
        fs::write(folder.path().join(SWEEP_FILE), "{}").unwrap();
        assert_eq!(run(&spec()), None);
    }

    #[test]
    fn folders_have_harmless_names_of_their_own() {
        assert_eq!(folder_name("../medi cal/..", "x"), "medi-cal");
        assert_eq!(folder_name("..", "vector"), "vector");
        assert_eq!(model_name(Path::new("a/Qwen2.5-0.5B/")), "Qwen2.5-0.5B");
        assert_eq!(model_name(Path::new("a/b.Q8_0.gguf")), "b.Q8_0");
        let out = Path::new("out");
        let taken = [out.join("legal"), out.join("legal-2")];
        assert_eq!(free_folder(out, "legal", &taken), out.join("legal-3"));
        assert_eq!(free_folder(out, "medical", &taken), out.join("medical"));
    }

    #[test]
    fn line_names_lambda_and_shares() {
        assert_eq!(point_line(&point(-0.5)), "λ   -0.5: d.jsonl expert 0.250");
    }
}
