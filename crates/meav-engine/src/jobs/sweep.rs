use std::collections::VecDeque;
use std::time::Instant;

use meav_eval::{calibration, coarse_to_fine};
use meav_protocol::{
    Calibration, Fact, RunState, StampTerm, Sweep, SweepPoint, SweepSpec, SweptData, VectorTerm,
};

use crate::background::Background;
use crate::error::EngineError;
use crate::measuring::{Measuring, file_name};
use crate::words::is_cancelled;
use crate::worker::{Running, Worker};
use crate::workspace::{Workspace, WorkspaceError};

/// Records left out that each point tells of; `meav score` and the data's own report tell of all.
const MAX_SKIPPED: usize = 20;

/// A sweep as far as it has come.
pub(crate) struct SweepRun {
    measuring: Measuring,
    sweep: Sweep,
    /// What the points are measured with.
    settings: String,
    todo: VecDeque<Task>,
}

#[derive(Clone, Copy)]
enum Task {
    Point(f64),
    Prompting(usize),
}

/// Scores along λ.
pub(crate) fn sweep(
    worker: &mut Worker,
    spec: &SweepSpec,
    running: &Running<'_>,
) -> Result<(), EngineError> {
    let mut run = match worker.take_background(running) {
        Some(Background::Sweep(run)) => run,
        _ => Box::new(SweepRun::open(worker, spec, running)?),
    };
    let began = Instant::now();
    let result = run.go_on(worker, running);
    run.sweep.elapsed_secs += began.elapsed().as_secs_f64();
    let will_go_on = result.as_ref().is_err_and(is_cancelled) && running.will_go_on();
    run.sweep.state = match result {
        Ok(()) => RunState::Finished,
        Err(_) if will_go_on => RunState::Running,
        Err(_) => RunState::Stopped,
    };
    keep(worker, running, |workspace| workspace.keep_sweep(&run.sweep, &run.settings));
    if will_go_on {
        worker.keep_background(running, Background::Sweep(run));
        return result;
    }
    if result.is_ok() {
        keep_calibration(worker, &run.sweep, running);
    }
    running.fact(Fact::Sweep(Box::new(run.sweep)));
    result
}

impl SweepRun {
    fn open(
        worker: &mut Worker,
        spec: &SweepSpec,
        running: &Running<'_>,
    ) -> Result<Self, EngineError> {
        let coefficients = spec.range.points();
        if coefficients.is_empty() {
            return Err(EngineError::EmptyRange { range: spec.range });
        }
        if coefficients.iter().any(|lambda| !(*lambda as f32).is_finite()) {
            return Err(EngineError::EmptyRange { range: spec.range });
        }
        let Some(swept) = spec.setup.vectors.get(spec.swept) else {
            return Err(EngineError::NothingSwept);
        };
        // The λ of the vector that is swept says nothing, not even that it is no number.
        let swept = VectorTerm { coefficient: 0.0, ..swept.clone() };
        let mut spec = spec.clone();
        spec.setup.vectors[spec.swept] = swept;
        let (spec, prompting) = (&spec, spec.prompting.as_ref());
        let mut measuring = Measuring::open(worker, &spec.setup, &spec.data, prompting, running)?;
        let mut sweep = new_sweep(spec, &measuring);
        let settings = settings(&sweep, &measuring);
        if let Some(before) = earlier(worker, spec, &settings)? {
            sweep = Sweep { state: RunState::Running, spec: spec.clone(), ..before };
            sweep.points.retain(|point| coefficients.contains(&point.lambda));
        }
        let is_new =
            |lambda: &f64| !sweep.points.iter().any(|point| point.lambda.total_cmp(lambda).is_eq());
        let points = coarse_to_fine(&coefficients).into_iter().filter(is_new).map(Task::Point);
        // What the baselines are is asked early, so that the curves have something to be held to.
        let mut todo: VecDeque<Task> = points.collect();
        let n_done = sweep.prompting.len();
        let n_instructions = measuring.instructions().count();
        let at = todo.len().min(3);
        for place in (n_done..n_instructions).rev() {
            todo.insert(at, Task::Prompting(place));
        }
        let passes: Vec<_> = todo.iter().map(|task| pass(&measuring, spec, *task)).collect();
        measuring.expect(&passes);
        keep(worker, running, |workspace| {
            workspace.keep_sweep(&sweep, &settings)?;
            workspace.forget_points_but(spec.run, &coefficients)
        });
        running.fact(Fact::Sweep(Box::new(sweep.clone())));
        Ok(Self { measuring, sweep, settings, todo })
    }

    fn go_on(&mut self, worker: &Worker, running: &Running<'_>) -> Result<(), EngineError> {
        let workspace = worker.workspace.as_ref().ok();
        let known = workspace.filter(|_| self.sweep.spec.reuse);
        while let Some(task) = self.todo.front().copied() {
            match task {
                Task::Point(lambda) => {
                    let pass = pass(&self.measuring, &self.sweep.spec, task);
                    let measured = self.measuring.run(&pass, known, false, running);
                    let (recipe, mut datasets) = match measured {
                        // One λ too far is no reason to measure none.
                        Err(err @ EngineError::NoNumbers { .. }) => {
                            running.fact(Fact::Note(format!("λ = {lambda} is left out: {err}")));
                            self.todo.pop_front();
                            continue;
                        }
                        measured => measured?,
                    };
                    for scores in &mut datasets {
                        scores.skipped.truncate(MAX_SKIPPED);
                    }
                    let point = SweepPoint { lambda, recipe: recipe.fingerprint, datasets };
                    let run = self.sweep.spec.run;
                    keep(worker, running, |workspace| workspace.keep_point(run, &point));
                    let at = self.sweep.points.partition_point(|it| it.lambda < lambda);
                    self.sweep.points.insert(at, point.clone());
                    running.fact(Fact::SweepPoint { run, point: Box::new(point) });
                }
                Task::Prompting(place) => {
                    let scores = self.measuring.run_instructed(place, known, false, running)?;
                    self.sweep.prompting.push(scores);
                    let (sweep, settings) = (&self.sweep, &self.settings);
                    keep(worker, running, |workspace| workspace.keep_sweep(sweep, settings));
                    running.fact(Fact::Sweep(Box::new(self.sweep.clone())));
                }
            }
            self.todo.pop_front();
        }
        Ok(())
    }
}

fn pass(measuring: &Measuring, spec: &SweepSpec, task: Task) -> crate::measuring::Pass {
    match task {
        Task::Prompting(place) => measuring.instructed(place),
        Task::Point(lambda) => {
            let mut coefficients: Vec<f64> =
                spec.setup.vectors.iter().map(|term| term.coefficient).collect();
            coefficients[spec.swept] = lambda;
            measuring.pass(&coefficients)
        }
    }
}

/// Names all that decides the numbers of a sweep, but λ: points of two sweeps that differ here
/// don't belong on one curve.
fn settings(sweep: &Sweep, measuring: &Measuring) -> String {
    let SweepSpec { setup, swept, prompting, .. } = &sweep.spec;
    let vectors: Vec<_> = measuring
        .terms
        .iter()
        .map(|term| (term.vector.fingerprint.to_string(), term.coefficient.to_bits()))
        .collect();
    let scopes: Vec<_> = setup.vectors.iter().map(|term| &term.scope).collect();
    let questions: Vec<_> = measuring.sets().iter().map(|set| &set.fingerprint).collect();
    let all = (
        (&sweep.base, setup.dtype, setup.method, swept),
        (vectors, scopes),
        (questions, prompting),
        &measuring.computed_by,
    );
    format!("blake3:{}", blake3::hash(format!("{all:?}").as_bytes()))
}

/// The sweep of this run as it was kept, if it was.
fn earlier(
    worker: &Worker,
    spec: &SweepSpec,
    settings: &str,
) -> Result<Option<Sweep>, EngineError> {
    let Ok(workspace) = &worker.workspace else { return Ok(None) };
    let Some(kept) = workspace.sweep_settings(spec.run)? else { return Ok(None) };
    let before = workspace.load_sweep(spec.run)?;
    if kept != settings {
        return Err(EngineError::OtherSweep { started: before.started });
    }
    Ok(Some(before))
}

fn new_sweep(spec: &SweepSpec, measuring: &Measuring) -> Sweep {
    let all: Vec<f64> = spec.setup.vectors.iter().map(|term| term.coefficient).collect();
    // The recipe names only what has a λ: each vector gets one to be named by.
    let recipe = |coefficients: &[f64]| {
        measuring.loaded.recipe(measuring.method, &measuring.pass(coefficients).terms)
    };
    let mut with_one = vec![0.0; all.len()];
    with_one[spec.swept] = 1.0;
    let vector = recipe(&with_one).vectors.into_iter().next();
    let mut without = all;
    without[spec.swept] = 0.0;
    let held: Vec<StampTerm> = recipe(&without).vectors;
    let swept = &measuring.terms[spec.swept].vector;
    let datasets = measuring.files.iter().zip(measuring.sets()).flat_map(|(file, set)| {
        set.measures().map(|(measure, levels, n)| SweptData {
            file: file.file.clone(),
            name: file_name(&file.dataset.path),
            fingerprint: file.dataset.fingerprint.clone(),
            measure,
            levels: levels.to_vec(),
            domain: set.domain().map(str::to_owned),
            n,
        })
    });
    let base = measuring.loaded.base;
    Sweep {
        spec: spec.clone(),
        started: jiff::Timestamp::now().to_string(),
        state: RunState::Running,
        model: measuring.loaded.files.name.clone(),
        base: base.to_string(),
        vector: vector.unwrap_or_else(|| unreachable!("its λ is 1")),
        base_matches: swept.origin.base_fingerprint.map(|own| own == base),
        held,
        datasets: datasets.collect(),
        points: Vec::new(),
        prompting: Vec::new(),
        elapsed_secs: 0.0,
    }
}

impl SweepRun {
    /// It will not go on: it was cancelled in the moment in which it made room.
    pub(crate) fn abandon(mut self, worker: &Worker) {
        self.sweep.state = RunState::Stopped;
        if let Ok(workspace) = &worker.workspace
            && let Err(err) = workspace.keep_sweep(&self.sweep, &self.settings)
        {
            tracing::warn!("a stopped sweep counts as cut off: {err}");
        }
    }
}

/// Keeps something of a sweep, which goes on where that fails.
fn keep(
    worker: &Worker,
    running: &Running<'_>,
    write: impl FnOnce(&Workspace) -> Result<(), WorkspaceError>,
) {
    let kept = match &worker.workspace {
        Ok(workspace) => write(workspace),
        Err(err) => return running.unkept("the sweep is not kept", err),
    };
    if let Err(err) = kept {
        running.unkept("the sweep is not kept", &err);
    }
}

/// Keeps what the sweep tells of its vector, unless something better is known of it.
fn keep_calibration(worker: &Worker, sweep: &Sweep, running: &Running<'_>) {
    let Some(new) = calibration(sweep, &jiff::Timestamp::now().to_string()) else { return };
    let StampTerm { fingerprint, file, .. } = &sweep.vector;
    let known = match &worker.workspace {
        Ok(workspace) => workspace.calibration(fingerprint, &sweep.base),
        Err(err) => return running.unkept("the calibration is not kept", err),
    };
    if let Ok(Some(old)) = known
        && !is_no_worse(&new, &old, sweep)
    {
        let (n, data) = (old.n, &old.data);
        return running.fact(Fact::Note(format!(
            "the knob keeps what was measured before, on {n} records of {data}: that sweep was \
             wider, had more records or was of the vector's own domain"
        )));
    }
    keep(worker, running, |workspace| workspace.keep_calibration(fingerprint, &new));
    running.fact(Fact::Calibrated { file: file.clone(), calibration: Box::new(new) });
}

/// Whether a calibration may take the place of another one.
fn is_no_worse(new: &Calibration, old: &Calibration, sweep: &Sweep) -> bool {
    let is_own = sweep.datasets.iter().any(|data| {
        data.fingerprint == new.data_fingerprint
            && data.domain.as_ref() == Some(&sweep.vector.domain)
    });
    let is_same_data = new.data_fingerprint == old.data_fingerprint;
    let is_wide = match (new.range(), old.range()) {
        (Some([first, last]), Some([old_first, old_last])) => {
            first <= old_first && old_last <= last
        }
        _ => true,
    };
    is_wide && (is_same_data || is_own && new.n >= old.n)
}
