use std::collections::BTreeMap;
use std::path::PathBuf;

use meav_protocol::{
    CrossDomain, DataReport, DatasetScores, JobId, LambdaRange, RunState, Sweep, SweepPoint,
    SweepSummary, SweptData, UserError,
};
use uuid::Uuid;

use crate::action::KnobId;
use crate::sweep_form::SweepForm;

/// What the Sweep screen knows beyond the knobs.
#[derive(Debug, Default)]
pub(crate) struct Sweeps {
    /// What is typed and chosen for the next one.
    pub(crate) form: SweepForm,
    /// What the files hold that were chosen.
    pub(crate) files: BTreeMap<PathBuf, DataFile>,
    /// Those that were kept, newest first.
    pub(crate) list: Option<Vec<SweepSummary>>,
    /// Those that have been read, or are being measured.
    pub(crate) runs: BTreeMap<Uuid, Run>,
    /// The one whose curves are shown.
    pub(crate) shown: Option<Uuid>,
    /// Those that are laid over it, in the order in which they were asked for.
    pub(crate) compared: Vec<Uuid>,
    /// The one that is being measured, and its job.
    pub(crate) running: Option<(JobId, Uuid)>,
    /// Points that came before the sweep that they belong to.
    pub(crate) early: Vec<SweepPoint>,
    /// Knobs whose calibration has come from the sweep that is being measured.
    pub(crate) calibrated: Vec<KnobId>,
    /// λ of the point that the knobs were set to.
    pub(crate) picked: Option<f64>,
    /// Whether levels are piled up to 100 % instead of drawn as lines.
    pub(crate) is_stacked: bool,
    /// How far vectors move levels, and the sweeps that it was told from.
    pub(crate) matrix: Option<(Vec<Uuid>, CrossDomain)>,
    /// The job that makes the matrix.
    pub(crate) comparing: Option<JobId>,
    /// What failed last.
    pub(crate) error: Option<UserError>,
    /// Whether sweeps that were cut off have been told of since the start.
    pub(crate) has_told: bool,
}

/// A file of preference records.
#[derive(Debug)]
pub(crate) enum DataFile {
    /// It is being read.
    Reading,
    /// What it holds.
    Read(Box<DataReport>),
    /// Why it can't be read.
    Bad(UserError),
}

/// What a job of the Sweep screen does.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum SweepJob {
    /// Measures.
    Run(Uuid),
    /// Lists what was kept.
    List,
    /// Reads one that was kept.
    Load {
        /// Which.
        run: Uuid,
        /// What for.
        then: AfterLoad,
    },
    /// Forgets one.
    Delete,
    /// Makes the matrix of these.
    Matrix(Vec<Uuid>),
    /// Looks what a file of records holds.
    Inspect(PathBuf),
    /// Writes a calibration into a vector's file.
    WriteCalibration,
}

/// What a sweep is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AfterLoad {
    /// To be shown.
    Show,
    /// To be laid over the one that is shown.
    Compare,
    /// To go on with it.
    Resume,
    /// To sweep the vector that it has trained.
    Sweep,
}

/// What the Sweep screen asks before it is done.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum SweepDialog {
    /// A knob's calibration is written into its vector's file.
    WriteCalibration(KnobId),
    /// A sweep is forgotten.
    Delete(Uuid),
}

/// A sweep, and its curves as they are drawn.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) sweep: Sweep,
    /// Of each data set.
    pub(crate) curves: Vec<Curves>,
}

/// How the preference accuracies of a data set move with λ.
#[derive(Debug, Default)]
pub(crate) struct Curves {
    /// Where it was measured, the lowest first.
    pub(crate) lambdas: Vec<f64>,
    /// Of each level, in the order of the data set.
    pub(crate) levels: Vec<LevelCurve>,
}

/// A level at each λ of [`Curves`].
#[derive(Clone, Debug, Default)]
pub(crate) struct LevelCurve {
    pub(crate) shares: Vec<f64>,
    /// The lower ends of the 95 % intervals.
    pub(crate) low: Vec<f64>,
    /// Their upper ends.
    pub(crate) high: Vec<f64>,
}

impl Curves {
    fn of(data: &SweptData) -> Self {
        Self { lambdas: Vec::new(), levels: vec![LevelCurve::default(); data.levels.len()] }
    }

    /// Takes in what was measured at a λ, in place of what was there.
    fn put(&mut self, data: &SweptData, lambda: f64, scores: &DatasetScores) {
        let at = self.lambdas.partition_point(|known| *known < lambda);
        let is_known = self.lambdas.get(at) == Some(&lambda);
        let put = |values: &mut Vec<f64>, value: f64| {
            if is_known {
                values[at] = value;
            } else {
                values.insert(at, value);
            }
        };
        put(&mut self.lambdas, lambda);
        for (name, level) in data.levels.iter().zip(&mut self.levels) {
            let share = scores.preference_accuracy.get(name).copied().unwrap_or_default();
            let [low, high] = scores.intervals.get(name).copied().unwrap_or([share; 2]);
            put(&mut level.shares, share);
            put(&mut level.low, low);
            put(&mut level.high, high);
        }
    }
}

impl Run {
    pub(crate) fn new(sweep: Sweep) -> Self {
        let mut run = Self { sweep, curves: Vec::new() };
        run.sweep.points.sort_by(|one, other| one.lambda.total_cmp(&other.lambda));
        run.curves = run.sweep.datasets.iter().map(Curves::of).collect();
        for point in &run.sweep.points {
            draw(&mut run.curves, &run.sweep.datasets, point);
        }
        run
    }

    /// Takes in what was measured at one λ, in place of what was there.
    pub(crate) fn put(&mut self, point: SweepPoint) {
        draw(&mut self.curves, &self.sweep.datasets, &point);
        let points = &mut self.sweep.points;
        let at = points.partition_point(|known| known.lambda < point.lambda);
        match points.get_mut(at).filter(|known| known.lambda <= point.lambda) {
            Some(known) => *known = point,
            None => points.insert(at, point),
        }
    }

    /// What was measured nearest to a λ.
    pub(crate) fn nearest(&self, lambda: f64) -> Option<&SweepPoint> {
        let points = &self.sweep.points;
        let above = points.partition_point(|point| point.lambda < lambda);
        let both = [above.checked_sub(1).and_then(|below| points.get(below)), points.get(above)];
        let distance = |point: &&SweepPoint| (point.lambda - lambda).abs();
        both.into_iter().flatten().min_by(|a, b| distance(a).total_cmp(&distance(b)))
    }

    /// The points beside a λ, below and above it.
    pub(crate) fn beside(&self, lambda: f64) -> [Option<f64>; 2] {
        let lambdas = || self.sweep.points.iter().map(|point| point.lambda);
        [lambdas().rfind(|it| *it < lambda), lambdas().find(|it| *it > lambda)]
    }

    /// Points that there will be.
    pub(crate) fn n_wanted(&self) -> usize {
        self.sweep.spec.range.points().len()
    }
}

fn draw(curves: &mut [Curves], datasets: &[SweptData], point: &SweepPoint) {
    for ((curves, data), scores) in curves.iter_mut().zip(datasets).zip(&point.datasets) {
        curves.put(data, point.lambda, scores);
    }
}

impl Sweeps {
    /// The sweep that is shown, once it has been read.
    pub(crate) fn shown_run(&self) -> Option<&Run> {
        self.shown.and_then(|run| self.runs.get(&run))
    }

    /// The sweep that is shown, and those that are laid over it.
    pub(crate) fn chosen(&self) -> Vec<Uuid> {
        let compared = self.compared.iter().filter(|run| Some(**run) != self.shown);
        self.shown.iter().chain(compared).copied().collect()
    }

    /// Those of them that have been read.
    pub(crate) fn chosen_runs(&self) -> Vec<&Run> {
        self.chosen().iter().filter_map(|run| self.runs.get(run)).collect()
    }

    /// Whether this window measures it now.
    pub(crate) fn is_running(&self, run: Uuid) -> bool {
        self.running.is_some_and(|(_, running)| running == run)
    }

    /// Whether it has not come to its end, and nobody is at it.
    pub(crate) fn is_open(&self, run: Uuid, state: RunState) -> bool {
        state != RunState::Finished && !self.is_running(run)
    }

    /// The newest that was cut off.
    pub(crate) fn cut_off(&self) -> Option<&SweepSummary> {
        let is_it = |it: &&SweepSummary| it.state == RunState::Running && !self.is_running(it.run);
        self.list.as_ref()?.iter().find(is_it)
    }

    /// A sweep as far as it has come. Points that it does not name stay: they were measured.
    pub(crate) fn take(&mut self, sweep: Sweep) {
        let id = sweep.spec.run;
        let mut run = Run::new(sweep);
        let before = self.runs.remove(&id).map(|it| it.sweep);
        let kept = before.filter(|it| it.datasets == run.sweep.datasets).map(|it| it.points);
        let early = if self.is_running(id) { std::mem::take(&mut self.early) } else { Vec::new() };
        for point in kept.into_iter().flatten().chain(early) {
            let nearest = run.nearest(point.lambda).map(|it| it.lambda);
            let is_there = nearest == Some(point.lambda);
            if !is_there {
                run.put(point);
            }
        }
        self.runs.insert(id, run);
    }

    /// One more point of the sweep that is being measured.
    pub(crate) fn put(&mut self, id: Uuid, point: SweepPoint) {
        match self.runs.get_mut(&id) {
            Some(run) => run.put(point),
            None => self.early.push(point),
        }
    }

    /// Nobody measures it any more.
    pub(crate) fn stop(&mut self, id: Uuid, state: RunState) {
        self.running.take_if(|(_, running)| *running == id);
        self.early.clear();
        if let Some(run) = self.runs.get_mut(&id)
            && run.sweep.state == RunState::Running
        {
            run.sweep.state = state;
        }
    }

    /// Forgets a sweep.
    pub(crate) fn forget(&mut self, id: Uuid) {
        self.runs.remove(&id);
        self.compared.retain(|run| *run != id);
        if self.shown.take_if(|run| *run == id).is_some() {
            self.picked = None;
        }
        if let Some(list) = &mut self.list {
            list.retain(|summary| summary.run != id);
        }
    }

    /// The levels that the chosen files ask for, each once.
    pub(crate) fn levels(&self) -> Vec<&str> {
        let mut levels: Vec<&str> = Vec::new();
        for path in &self.form.data {
            let Some(DataFile::Read(report)) = self.files.get(path) else { continue };
            for level in report.measures.iter().flat_map(|measure| &measure.levels) {
                if !levels.contains(&level.as_str()) {
                    levels.push(level);
                }
            }
        }
        levels
    }
}

/// Points that a range has.
pub(crate) fn n_points(range: &LambdaRange) -> usize {
    range.points().len()
}
