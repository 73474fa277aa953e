use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use meav_protocol::{
    DataReport, JobId, RunState, TrainEstimate, TrainRun, TrainSpec, TrainStep, TrainSummary,
    TrainValidation, UserError,
};
use uuid::Uuid;

use super::jobs::Job;
use super::sweep::{AfterLoad, DataFile};
use crate::train_form::TrainForm;

/// How much of the smoothed loss comes from the steps before.
const SMOOTHING: f64 = 0.85;

/// What the Train screen knows.
#[derive(Debug)]
pub(crate) struct Trainings {
    /// What is typed and chosen for the next run.
    pub(crate) form: TrainForm,
    /// Whether the form is unfolded.
    pub(crate) is_unfolded: bool,
    /// What the files hold that were chosen.
    pub(crate) files: BTreeMap<PathBuf, DataFile>,
    /// What the next run would take.
    pub(crate) estimate: Estimate,
    /// Those that are known, newest first.
    pub(crate) list: Option<Vec<TrainSummary>>,
    /// Those that have been read, or are being trained.
    pub(crate) runs: BTreeMap<Uuid, TrainCurves>,
    /// The one whose curves are shown.
    pub(crate) shown: Option<Uuid>,
    /// Those that are laid over it, in the order in which they were asked for.
    pub(crate) compared: Vec<Uuid>,
    /// Those that this window trains or has waiting, in their order.
    pub(crate) queue: Vec<Queued>,
    /// Those that were waiting for their turn when the engine or the window ended.
    pub(crate) unbegun: Vec<TrainSpec>,
    /// Those that have failed before they had begun, with the last that was heard.
    pub(crate) unopened: Vec<TrainSpec>,
    /// The files that runs are written to while they are paused.
    pub(crate) halves: BTreeMap<Uuid, PathBuf>,
    /// What came before the run that it belongs to.
    early: Vec<(Uuid, Measured)>,
    /// What failed last.
    pub(crate) error: Option<UserError>,
    /// Whether a run that was cut off has been told of since the engine's start.
    pub(crate) has_told: bool,
}

impl Default for Trainings {
    fn default() -> Self {
        Self {
            form: TrainForm::default(),
            is_unfolded: true,
            files: BTreeMap::new(),
            estimate: Estimate::default(),
            list: None,
            runs: BTreeMap::new(),
            shown: None,
            compared: Vec::new(),
            queue: Vec::new(),
            unbegun: Vec::new(),
            unopened: Vec::new(),
            halves: BTreeMap::new(),
            early: Vec::new(),
            error: None,
            has_told: false,
        }
    }
}

/// What a run would take.
#[derive(Debug, Default)]
pub(crate) struct Estimate {
    /// The job that tries a step.
    pub(crate) job: Option<JobId>,
    /// What it has found, and for which run.
    pub(crate) found: Option<(TrainSpec, TrainEstimate)>,
    /// Why it could not be told.
    pub(crate) error: Option<UserError>,
}

impl Estimate {
    /// What this run would take, if it is the one that was tried.
    pub(crate) fn of(&self, spec: &TrainSpec) -> Option<&TrainEstimate> {
        let (tried, found) = self.found.as_ref()?;
        let is_it = *tried == TrainSpec { run: tried.run, ..spec.clone() };
        is_it.then_some(found)
    }
}

/// A run that is being trained, or waits for its turn.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) job: JobId,
    pub(crate) spec: TrainSpec,
    pub(crate) asked: Asked,
    /// Whether it has begun, or gone on: until then, nothing of it is kept but `spec`.
    pub(crate) is_open: bool,
}

/// What a run was asked to do, and has not done yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// To work.
    Nothing,
    /// To hold.
    Pause,
    /// To end with what it has.
    WrapUp,
}

/// How far a run of the queue is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Others come first.
    Waiting,
    /// It is paused, and has not begun.
    Held,
    /// It reads, trains or writes.
    Working,
    /// It will hold in a moment.
    Pausing,
    /// It holds.
    Paused,
    /// It will end in a moment, and keep what it has.
    Ending,
    /// It stops.
    Cancelling,
}

/// What a job of the Train screen does.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum TrainJob {
    /// Trains.
    Run(Uuid),
    /// Lists what is known.
    List,
    /// Reads one that is known.
    Load {
        /// Which.
        run: Uuid,
        /// What for.
        then: AfterLoad,
    },
    /// Forgets one.
    Delete,
    /// Says what a run would take.
    Estimate(Box<TrainSpec>),
    /// Looks what a file of records holds.
    Inspect(PathBuf),
    /// Looks whether there is a file for testing here, to sweep on.
    SeekTest(PathBuf),
}

impl TrainJob {
    /// What the user calls it; `None` for what is over before anyone could ask.
    pub(crate) fn title(&self, job: &Job) -> Option<&'static str> {
        match self {
            Self::Run(_) if job.is_paused => Some("Training, paused"),
            Self::Run(_) if job.stage.is_none() => Some("Training, waiting"),
            Self::Run(_) => Some("Training"),
            Self::Estimate(_) => Some("Trying a training step"),
            Self::Inspect(_) => Some("Reading data"),
            Self::List | Self::Load { .. } | Self::Delete | Self::SeekTest(_) => None,
        }
    }
}

/// What was measured in a run.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Measured {
    /// At a step.
    Step(TrainStep),
    /// On the pairs held back.
    Validation(TrainValidation),
    /// That it can be resumed from this step.
    Checkpoint(usize),
}

/// A run, and what is drawn beside its numbers.
#[derive(Debug)]
pub(crate) struct TrainCurves {
    pub(crate) run: TrainRun,
    /// The loss of each step, smoothed.
    pub(crate) smoothed: Vec<f64>,
}

impl TrainCurves {
    pub(crate) fn new(mut run: TrainRun) -> Self {
        run.steps.sort_by_key(|it| it.step);
        run.steps.dedup_by_key(|it| it.step);
        run.validations.sort_by_key(|it| it.step);
        run.validations.dedup_by_key(|it| it.step);
        let smoothed = smooth(run.steps.iter().map(|it| it.loss));
        Self { run, smoothed }
    }

    /// Takes in what was measured, in place of what was there.
    pub(crate) fn put(&mut self, measured: Measured) {
        let run = &mut self.run;
        match measured {
            Measured::Step(step) => {
                put(&mut run.steps, step, |it| it.step);
                self.smoothed = smooth(run.steps.iter().map(|it| it.loss));
            }
            Measured::Validation(validation) => {
                put(&mut run.validations, validation, |it| it.step);
            }
            Measured::Checkpoint(step) => run.checkpoint = Some(step),
        }
    }

    /// What was measured at the step nearest to this one.
    pub(crate) fn nearest(&self, step: f64) -> Option<&TrainStep> {
        let steps = &self.run.steps;
        let above = steps.partition_point(|it| (it.step as f64) < step);
        let both = [above.checked_sub(1).and_then(|below| steps.get(below)), steps.get(above)];
        let distance = |it: &&TrainStep| (it.step as f64 - step).abs();
        both.into_iter().flatten().min_by(|a, b| distance(a).total_cmp(&distance(b)))
    }

    /// The steps beside one, before and after it.
    pub(crate) fn beside(&self, step: usize) -> [Option<usize>; 2] {
        let steps = || self.run.steps.iter().map(|it| it.step);
        [steps().rfind(|it| *it < step), steps().find(|it| *it > step)]
    }
}

fn put<T>(values: &mut Vec<T>, value: T, step: impl Fn(&T) -> usize) {
    let at = values.partition_point(|known| step(known) < step(&value));
    match values.get_mut(at).filter(|known| step(known) == step(&value)) {
        Some(known) => *known = value,
        None => values.insert(at, value),
    }
}

/// An exponential moving average that begins at the first value; what is no number is left out.
fn smooth(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let (mut sum, mut weight) = (0.0, 0.0);
    let next = |value: f64| {
        if value.is_finite() {
            sum = SMOOTHING * sum + (1.0 - SMOOTHING) * value;
            weight = SMOOTHING * weight + (1.0 - SMOOTHING);
        }
        sum / weight
    };
    values.map(next).collect()
}

impl Trainings {
    /// As at the start, with what was waiting for its turn at the end.
    pub(crate) fn new(unbegun: Vec<TrainSpec>) -> Self {
        Self { unbegun, ..Self::default() }
    }

    /// The run that is shown, once it has been read.
    pub(crate) fn shown_run(&self) -> Option<&TrainCurves> {
        self.shown.and_then(|run| self.runs.get(&run))
    }

    /// The runs that are laid over the one that is shown and have been read.
    pub(crate) fn others(&self) -> Vec<&TrainCurves> {
        let others = self.compared.iter().filter(|run| Some(**run) != self.shown);
        others.filter_map(|run| self.runs.get(run)).collect()
    }

    /// This window's entry for a run, while it trains or waits.
    pub(crate) fn queued(&self, run: Uuid) -> Option<&Queued> {
        self.queue.iter().find(|it| it.spec.run == run)
    }

    pub(crate) fn queued_mut(&mut self, job: JobId) -> Option<&mut Queued> {
        self.queue.iter_mut().find(|it| it.job == job)
    }

    /// Whether this window trains it now, or has it waiting.
    pub(crate) fn is_active(&self, run: Uuid) -> bool {
        self.queued(run).is_some()
    }

    /// Whether somebody has paused it.
    pub(crate) fn is_paused(&self, run: Uuid) -> bool {
        self.is_active(run) && self.runs.get(&run).is_some_and(|it| it.run.is_paused)
    }

    /// How far a run of the queue is.
    pub(crate) fn phase(&self, queued: &Queued, job: &Job) -> Phase {
        let has_begun = job.stage.is_some();
        match queued.asked {
            _ if job.is_cancelling => Phase::Cancelling,
            Asked::WrapUp => Phase::Ending,
            _ if self.is_paused(queued.spec.run) => Phase::Paused,
            Asked::Pause if queued.is_open => Phase::Pausing,
            Asked::Pause => Phase::Held,
            Asked::Nothing if has_begun => Phase::Working,
            Asked::Nothing => Phase::Waiting,
        }
    }

    /// A run in the list.
    pub(crate) fn summary(&self, run: Uuid) -> Option<&TrainSummary> {
        self.list.as_ref()?.iter().find(|it| it.run == run)
    }

    /// Whether somebody else trains it now.
    pub(crate) fn is_elsewhere(&self, run: Uuid) -> bool {
        let is_it = |it: &TrainSummary| it.state == RunState::Running && !it.is_resumable;
        !self.is_active(run) && self.summary(run).is_some_and(is_it)
    }

    /// Why a run can't go on, in words; `None` if it can.
    pub(crate) fn why_not_resumable(&self, run: Uuid) -> Option<&'static str> {
        let known = self.runs.get(&run).map(|it| &it.run);
        let summary = self.summary(run);
        let state = known.map(|it| it.state).or(summary.map(|it| it.state));
        if self.is_active(run) {
            Some("It trains or waits already")
        } else if state == Some(RunState::Finished) {
            Some("It has come to its end")
        } else if known.is_some_and(|it| it.diverged) {
            Some("Its loss was no number: begin a new run with a third of the learning rate")
        } else if self.is_elsewhere(run) {
            Some("It is running elsewhere")
        } else if summary.is_some_and(|it| !it.is_resumable) {
            Some("Its folder is not there any more, or its loss was no number")
        } else {
            None
        }
    }

    /// Whether a run goes on from its beginning, if that is known.
    pub(crate) fn begins_again(&self, run: Uuid) -> bool {
        match self.runs.get(&run) {
            Some(known) => known.run.checkpoint.is_none(),
            None => self.summary(run).is_some_and(|it| it.steps[0] == 0),
        }
    }

    /// What would be lost without being kept: the runs that have not begun.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &TrainSpec> {
        let queued = self.queue.iter().filter(|it| !it.is_open && !it.spec.resume);
        self.unbegun.iter().chain(queued.map(|it| &it.spec))
    }

    /// Whether a run that is known, or is to begin, writes into this folder.
    pub(crate) fn has_folder(&self, folder: &Path) -> bool {
        let waiting = self.queue.iter().filter_map(|it| it.spec.out.as_deref());
        let listed = self.list.iter().flatten().map(|it| it.folder.as_path());
        waiting.chain(listed).any(|it| it == folder)
    }

    /// The newest that was cut off and can go on.
    pub(crate) fn cut_off(&self) -> Option<&TrainSummary> {
        let is_it = |it: &&TrainSummary| {
            it.state == RunState::Running && it.is_resumable && !self.is_active(it.run)
        };
        self.list.as_ref()?.iter().find(is_it)
    }

    /// A run as far as it has come.
    pub(crate) fn take(&mut self, run: TrainRun) {
        let id = run.spec.run;
        let mut curves = TrainCurves::new(run);
        let last = curves.run.steps.last().map_or(0, |it| it.step);
        for (_, measured) in self.early.extract_if(.., |(run, _)| *run == id) {
            let is_new = !matches!(measured, Measured::Step(it) if it.step <= last);
            if is_new {
                curves.put(measured);
            }
        }
        self.runs.insert(id, curves);
    }

    /// More of a run that is being trained.
    pub(crate) fn put(&mut self, id: Uuid, measured: Measured) {
        match self.runs.get_mut(&id) {
            Some(run) => run.put(measured),
            None => self.early.push((id, measured)),
        }
    }

    /// Nobody trains it any more.
    pub(crate) fn stop(&mut self, id: Uuid, state: RunState) {
        self.queue.retain(|it| it.spec.run != id);
        self.early.retain(|(run, _)| *run != id);
        if let Some(curves) = self.runs.get_mut(&id) {
            curves.run.is_paused = false;
            if curves.run.state == RunState::Running {
                curves.run.state = state;
            }
            // Of one that has not come to its end, there was a half-trained one at most.
            let run = &mut curves.run;
            let is_finished = run.state == RunState::Finished;
            if !is_finished {
                run.vector = None;
            }
            // Until there is a newer list.
            let listed = self.list.iter_mut().flatten().find(|it| it.run == id);
            if let Some(summary) = listed {
                summary.state = run.state;
                summary.is_resumable = !is_finished && !run.diverged;
            }
        }
    }

    /// Forgets a run.
    pub(crate) fn forget(&mut self, id: Uuid) {
        self.runs.remove(&id);
        self.compared.retain(|run| *run != id);
        self.shown.take_if(|run| *run == id);
        if let Some(list) = &mut self.list {
            list.retain(|summary| summary.run != id);
        }
    }

    /// The levels of a file that was chosen.
    pub(crate) fn levels(&self, file: &Path) -> Vec<&str> {
        let Some(DataFile::Read(report)) = self.files.get(file) else { return Vec::new() };
        let mut levels: Vec<&str> = Vec::new();
        for level in report.measures.iter().flat_map(|measure| &measure.levels) {
            if !levels.contains(&level.as_str()) {
                levels.push(level);
            }
        }
        levels
    }

    /// The preference dimension's name: what is typed, else that of the data.
    pub(crate) fn domain(&self) -> String {
        let typed = self.form.domain.as_deref().map(str::trim).filter(|it| !it.is_empty());
        typed.map_or_else(|| self.domain_of_data(), str::to_owned)
    }

    /// The preference dimension's name by the data alone.
    pub(crate) fn domain_of_data(&self) -> String {
        let mut names: Vec<String> = Vec::new();
        for data in &self.form.data {
            let Some(DataFile::Read(report)) = self.files.get(&data.file) else { continue };
            let name = domain_of(report);
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names.join("-")
    }
}

/// The domain that a file's records name, where it is one; else the beginning of its name.
fn domain_of(report: &DataReport) -> String {
    let mut domains = report.domains().filter(|domain| !domain.trim().is_empty());
    if let (Some(domain), None) = (domains.next(), domains.next()) {
        return domain.to_owned();
    }
    let name = super::file_name(&report.file);
    name.split('.').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoothed_loss_begins_at_the_first_value_and_leaves_out_what_is_no_number() {
        let smoothed = smooth([4.0, 4.0, f64::NAN, 0.0].into_iter());
        assert_eq!(smoothed.len(), 4);
        assert!((smoothed[0] - 4.0).abs() < 1e-12 && (smoothed[1] - 4.0).abs() < 1e-12);
        assert_eq!(smoothed[2].to_bits(), smoothed[1].to_bits());
        assert!(smoothed[3] > 1.0 && smoothed[3] < 4.0, "{smoothed:?}");
        assert!(smooth(std::iter::empty()).is_empty());
    }
}
