use std::path::{Path, PathBuf};

use meav_protocol::{
    Calibration, DataReport, Description, ExportTarget, Fact, FileKind, JobId, JobSpec, Outcome,
    Prompting, RunState, Setup, SweepSpec, SweepSummary, VectorTerm,
};
use uuid::Uuid;

use super::dialog::file_stem;
use crate::action::{KnobId, PathPurpose, SweepAction};
use crate::effect::{Effect, PickKind, PickRequest};
use crate::model::jobs::Purpose;
use crate::model::sweep::{AfterLoad, DataFile, SweepDialog, SweepJob, n_points};
use crate::model::{Dialog, Knob, Model};
use crate::settings::{Preset, Screen};
use crate::sweep_form::SweepForm;

/// What files of preference records end in.
const DATA_ENDINGS: &[&str] = &["jsonl", "json", "csv", "parquet"];

impl Model {
    pub(super) fn sweep(&mut self, action: SweepAction, now: f64) -> Vec<Effect> {
        let sweeps = &mut self.sweeps;
        match action {
            SweepAction::SetForm(form) => sweeps.form = *form,
            SweepAction::AddData(path) => return self.add_sweep_data(path, now),
            SweepAction::AddTyped => return self.add_typed_data(now),
            SweepAction::BrowseData => {
                let kind = PickKind::Files { filter: ("Preference data", DATA_ENDINGS) };
                let (purpose, title) = (PathPurpose::SweepData, "Add preference data");
                return vec![Effect::Pick(PickRequest { purpose, title, kind })];
            }
            SweepAction::RemoveData(index) => {
                if index < sweeps.form.data.len() {
                    sweeps.form.data.remove(index);
                }
            }
            SweepAction::Start => return self.start_sweep(now),
            SweepAction::Stop => {
                let job = sweeps.running.map(|(job, _)| job);
                return job.and_then(|job| self.jobs.cancel(job)).into_iter().collect();
            }
            SweepAction::Resume(run) => return self.resume_sweep(run, now),
            SweepAction::Open(run) => return self.open_sweep(run, now),
            SweepAction::Compare(run, is_wanted) => return self.compare_sweep(run, is_wanted, now),
            SweepAction::AskDelete(run) => {
                self.dialog = Some(Dialog::Sweep(SweepDialog::Delete(run)));
            }
            SweepAction::Stack(is_stacked) => sweeps.is_stacked = is_stacked,
            SweepAction::Pick(lambda) => self.pick(lambda, now),
            SweepAction::ChatHere => self.show_screen(Screen::Chat),
            SweepAction::Matrix => return self.make_matrix(now),
            SweepAction::Export(ending) => self.ask_sweep_path(ending),
            SweepAction::ExportMatrix(ending) => {
                if sweeps.matrix.is_some() {
                    let name = format!("cross-domain.{ending}");
                    self.ask_export(PathPurpose::ExportMatrix, &name);
                }
            }
        }
        Vec::new()
    }

    fn start_sweep_job(&mut self, job: SweepJob, spec: JobSpec, now: f64) -> (JobId, Effect) {
        self.jobs.start(Purpose::Sweep(job), spec, now)
    }

    /// Shows the screen, with what was kept.
    pub(super) fn show_sweep(&mut self, now: f64) -> Vec<Effect> {
        self.show_screen(Screen::Sweep);
        vec![self.list_sweeps(now)]
    }

    pub(in crate::model) fn list_sweeps(&mut self, now: f64) -> Effect {
        self.start_sweep_job(SweepJob::List, JobSpec::ListSweeps, now).1
    }

    /// Whether what was opened is data for the next sweep: it is, on this screen.
    pub(in crate::model) fn wants_sweep_data(&self, found: &Description) -> bool {
        found.kind == FileKind::Data && self.settings.screen == Screen::Sweep
    }

    /// Takes a file of records in, and looks what it holds.
    pub(in crate::model) fn add_sweep_data(&mut self, path: PathBuf, now: f64) -> Vec<Effect> {
        let sweeps = &mut self.sweeps;
        if sweeps.form.data.contains(&path) {
            return Vec::new();
        }
        sweeps.form.data.push(path.clone());
        if matches!(sweeps.files.get(&path), Some(DataFile::Reading | DataFile::Read(_))) {
            return Vec::new();
        }
        sweeps.files.insert(path.clone(), DataFile::Reading);
        let job = SweepJob::Inspect(path.clone());
        vec![self.start_sweep_job(job, JobSpec::InspectData { path }, now).1]
    }

    fn add_typed_data(&mut self, now: f64) -> Vec<Effect> {
        let typed = std::mem::take(&mut self.sweeps.form.path);
        let typed = typed.trim();
        if typed.is_empty() {
            return Vec::new();
        }
        self.add_sweep_data(self.path_to_read(Path::new(typed)), now)
    }

    /// Files from a dialog of the system.
    pub(super) fn picked_sweep_data(&mut self, paths: Vec<PathBuf>, now: f64) -> Vec<Effect> {
        paths.into_iter().flat_map(|path| self.add_sweep_data(path, now)).collect()
    }

    /// What a file holds: its levels get instructions.
    fn data_read(&mut self, path: PathBuf, report: Box<DataReport>) {
        let levels = report.measures.iter().flat_map(|measure| measure.levels.iter());
        let defaults = Prompting::of(levels.map(String::as_str)).instructions;
        let known = &mut self.sweeps.form.instructions;
        for (level, text) in defaults {
            if known.iter().all(|(known, _)| *known != level) {
                known.push((level, text));
            }
        }
        self.sweeps.files.insert(path, DataFile::Read(report));
    }

    /// The knob whose vector would be swept.
    pub(crate) fn swept_knob(&self) -> Option<&Knob> {
        let chosen = self.sweeps.form.knob.and_then(|id| self.weights.knob(id));
        chosen.or_else(|| self.weights.knobs.first())
    }

    /// What is still wanted before a sweep can begin, in words; `None` if nothing is.
    pub fn missing_for_sweep(&self) -> Option<String> {
        let form = &self.sweeps.form;
        let said = match self.swept_knob() {
            _ if self.sweeps.running.is_some() => "A sweep is running",
            _ if self.weights.model.as_os_str().is_empty() => "Choose a model",
            None => "Put the vector on a knob first",
            Some(knob) if knob.fault.is_some() => "The vector does not fit the model",
            Some(_) if form.data.is_empty() => "Add data to measure on",
            Some(_) => return self.missing_of_data().or_else(|| form.range().err()),
        };
        Some(said.to_owned())
    }

    fn missing_of_data(&self) -> Option<String> {
        let form = &self.sweeps.form;
        for path in &form.data {
            let name = file_label(path);
            match self.sweeps.files.get(path) {
                Some(DataFile::Read(report)) if report.measures.is_empty() => {
                    return Some(format!("{name} has nothing to measure"));
                }
                Some(DataFile::Read(_)) => {}
                Some(DataFile::Bad(_)) => return Some(format!("{name} can't be read")),
                Some(DataFile::Reading) | None => return Some(format!("{name} is being read")),
            }
        }
        let levels = self.sweeps.levels();
        let is_bare = |level: &&str| form.instruction(level).is_none_or(str::is_empty);
        (form.prompts && levels.iter().all(is_bare))
            .then(|| "Write an instruction, or leave prompting out".to_owned())
    }

    /// The vectors of the sweep in the order of the sum, and the place of the one that is swept.
    fn sweep_setup(&self, form: &SweepForm, knob: KnobId) -> Option<(Setup, usize)> {
        let (setup, knobs) = self.weights.wanted();
        let place = knobs.iter().position(|id| *id == knob)?;
        let is_held = |place: &usize, term: &VectorTerm| {
            form.holds_others && term.coefficient != 0.0 && knobs[*place] != knob
        };
        let swept = VectorTerm { coefficient: 0.0, ..setup.vectors[place].clone() };
        let terms = || setup.vectors.iter().enumerate();
        let before = terms().filter(|(index, term)| *index < place && is_held(index, term)).count();
        let held = terms().filter(|(index, term)| is_held(index, term));
        let mut vectors: Vec<_> = held.map(|(_, term)| term.clone()).collect();
        vectors.insert(before, swept);
        Some((Setup { dtype: form.dtype, vectors, ..setup }, before))
    }

    fn sweep_spec(&self) -> Option<SweepSpec> {
        let form = &self.sweeps.form;
        let (setup, swept) = self.sweep_setup(form, self.swept_knob()?.id)?;
        let levels = self.sweeps.levels();
        let instructions = levels.iter().filter_map(|level| {
            let text = form.instruction(level).filter(|text| !text.is_empty())?;
            Some(((*level).to_owned(), text.to_owned()))
        });
        let instructions = instructions.collect();
        Some(SweepSpec {
            run: Uuid::now_v7(),
            setup,
            swept,
            range: form.range().ok()?,
            data: form.data.clone(),
            prompting: form.prompts.then_some(Prompting { turn: form.turn, instructions }),
            reuse: true,
        })
    }

    fn start_sweep(&mut self, now: f64) -> Vec<Effect> {
        if self.missing_for_sweep().is_some() {
            return Vec::new();
        }
        let spec = self.sweep_spec();
        spec.map(|spec| self.run_sweep(spec, now)).into_iter().collect()
    }

    /// Begins, or goes on where the run has ended before.
    fn run_sweep(&mut self, spec: SweepSpec, now: f64) -> Effect {
        let run = spec.run;
        let spec = JobSpec::Sweep(Box::new(spec));
        let (job, effect) = self.start_sweep_job(SweepJob::Run(run), spec, now);
        self.sweeps.running = Some((job, run));
        self.sweeps.early.clear();
        self.sweeps.calibrated.clear();
        self.sweeps.error = None;
        self.show_run(run);
        effect
    }

    fn show_run(&mut self, run: Uuid) {
        if self.sweeps.shown != Some(run) {
            self.sweeps.picked = None;
        }
        self.sweeps.shown = Some(run);
        self.sweeps.compared.retain(|other| *other != run);
    }

    fn resume_sweep(&mut self, run: Uuid, now: f64) -> Vec<Effect> {
        self.show_screen(Screen::Sweep);
        if self.sweeps.running.is_some() {
            self.notices.info("Another sweep is running: it comes first", now);
            return Vec::new();
        }
        match self.sweeps.runs.get(&run).map(|it| (it.sweep.state, it.sweep.spec.clone())) {
            Some((RunState::Finished, _)) => Vec::new(),
            Some((_, spec)) => {
                if let Some(run) = self.sweeps.runs.get_mut(&run) {
                    run.sweep.state = RunState::Running;
                }
                vec![self.run_sweep(spec, now)]
            }
            None => vec![self.load_sweep(run, AfterLoad::Resume, now)],
        }
    }

    fn load_sweep(&mut self, run: Uuid, then: AfterLoad, now: f64) -> Effect {
        self.start_sweep_job(SweepJob::Load { run, then }, JobSpec::LoadSweep { run }, now).1
    }

    fn open_sweep(&mut self, run: Uuid, now: f64) -> Vec<Effect> {
        self.show_run(run);
        self.sweeps.error = None;
        if self.sweeps.runs.contains_key(&run) || self.sweeps.is_running(run) {
            return Vec::new();
        }
        vec![self.load_sweep(run, AfterLoad::Show, now)]
    }

    fn compare_sweep(&mut self, run: Uuid, is_wanted: bool, now: f64) -> Vec<Effect> {
        let sweeps = &mut self.sweeps;
        sweeps.compared.retain(|other| *other != run);
        if !is_wanted {
            return Vec::new();
        }
        if sweeps.shown.is_none() {
            return self.open_sweep(run, now);
        }
        sweeps.compared.push(run);
        if sweeps.runs.contains_key(&run) || sweeps.is_running(run) {
            return Vec::new();
        }
        vec![self.load_sweep(run, AfterLoad::Compare, now)]
    }

    /// Sets the knobs to a point of the sweep that is shown: the swept vector and those that were
    /// held; model and dtype stay.
    fn pick(&mut self, lambda: f64, now: f64) {
        let Some(run) = self.sweeps.shown_run() else { return };
        let Some(point) = run.nearest(lambda) else { return };
        let (lambda, spec) = (point.lambda, &run.sweep.spec);
        let terms = || spec.setup.vectors.iter().enumerate();
        let coefficient = |index: usize, term: &VectorTerm| {
            if index == spec.swept { lambda } else { term.coefficient }
        };
        let preset = Preset {
            name: String::new(),
            terms: terms().map(|(i, term)| (term.file.clone(), coefficient(i, term))).collect(),
            method: spec.setup.method,
            scopes: terms().map(|(_, term)| term.scope.clone()).collect(),
        };
        let (base, model) = (run.sweep.base.clone(), run.sweep.model.clone());
        let domain = run.sweep.vector.domain.clone();
        self.weights.apply_preset(&preset);
        self.sweeps.picked = Some(lambda);
        if self.weights.held.as_ref().is_some_and(|held| held.recipe.base != base) {
            let text = format!("That was measured on {model}; this is another model");
            self.notices.info(text, now);
        }
        self.tell_if_beyond(&domain, lambda, now);
    }

    fn make_matrix(&mut self, now: f64) -> Vec<Effect> {
        let chosen = self.sweeps.chosen();
        let sweeps: Vec<_> =
            self.sweeps.chosen_runs().into_iter().map(|run| run.sweep.clone()).collect();
        if sweeps.len() < 2 || sweeps.len() < chosen.len() {
            return Vec::new();
        }
        let older = self.sweeps.comparing.take().and_then(|job| self.jobs.cancel(job));
        let spec = JobSpec::CrossDomain { sweeps };
        let (job, effect) = self.start_sweep_job(SweepJob::Matrix(chosen), spec, now);
        self.sweeps.comparing = Some(job);
        self.sweeps.error = None;
        older.into_iter().chain([effect]).collect()
    }

    fn ask_sweep_path(&mut self, ending: &str) {
        let Some(run) = self.sweeps.shown_run() else { return };
        let stem = file_stem(&run.sweep.vector.domain, "vector");
        self.ask_export(PathPurpose::ExportSweeps, &format!("sweep-{stem}.{ending}"));
    }

    /// What an export of this screen writes.
    pub(super) fn sweep_export(&self, purpose: PathPurpose, out: ExportTarget) -> Option<JobSpec> {
        if purpose == PathPurpose::ExportMatrix {
            let (_, matrix) = self.sweeps.matrix.clone()?;
            return Some(JobSpec::ExportCrossDomain { matrix, out });
        }
        let runs = self.sweeps.chosen_runs();
        let sweeps: Vec<_> = runs.into_iter().map(|run| run.sweep.clone()).collect();
        (!sweeps.is_empty()).then_some(JobSpec::ExportSweeps { sweeps, out })
    }

    /// Asks whether a knob's calibration may be written into its vector's file.
    pub(super) fn ask_calibration(&mut self, knob: KnobId) {
        if self.weights.knob(knob).and_then(Knob::calibration).is_some() {
            self.dialog = Some(Dialog::Sweep(SweepDialog::WriteCalibration(knob)));
        }
    }

    pub(super) fn accept_sweep(&mut self, dialog: &SweepDialog, now: f64) -> Vec<Effect> {
        self.focus.get_or_insert(crate::model::Focus::of(self.settings.screen));
        let (job, spec) = match dialog {
            SweepDialog::Delete(run) => {
                let run = *run;
                if self.sweeps.is_running(run) {
                    return Vec::new();
                }
                self.sweeps.forget(run);
                (SweepJob::Delete, JobSpec::DeleteSweep { run })
            }
            SweepDialog::WriteCalibration(knob) => {
                let Some(info) = self.weights.knob(*knob).and_then(|knob| knob.info.as_ref())
                else {
                    return Vec::new();
                };
                let Some(calibration) = info.calibration.clone() else { return Vec::new() };
                let vector = info.file.clone();
                let spec = JobSpec::WriteCalibration { vector, calibration };
                (SweepJob::WriteCalibration, spec)
            }
        };
        vec![self.start_sweep_job(job, spec, now).1]
    }

    /// What a job of this screen has found.
    pub(in crate::model) fn learn_sweep(
        &mut self,
        job: SweepJob,
        fact: Fact,
        now: f64,
    ) -> Vec<Effect> {
        match (job, fact) {
            (SweepJob::Run(run), Fact::Sweep(sweep)) if sweep.spec.run == run => {
                self.sweeps.take(*sweep);
            }
            (SweepJob::Run(id), Fact::SweepPoint { run, point }) if run == id => {
                self.sweeps.put(run, *point);
            }
            (SweepJob::Run(_), Fact::Calibrated { file, calibration }) => {
                self.calibrate(&file, &calibration);
            }
            (SweepJob::List | SweepJob::Delete, Fact::Sweeps(list)) => {
                self.sweeps.list = Some(list);
                self.tell_cut_off();
            }
            (SweepJob::Load { run, then }, Fact::Sweep(sweep)) if sweep.spec.run == run => {
                // It may have been begun again meanwhile: what is measured now is newer.
                if !self.sweeps.is_running(run) {
                    self.sweeps.take(*sweep);
                }
                if then == AfterLoad::Resume {
                    return self.resume_sweep(run, now);
                }
            }
            (SweepJob::Matrix(runs), Fact::CrossDomain(matrix)) => {
                self.sweeps.matrix = Some((runs, matrix));
            }
            (SweepJob::Inspect(path), Fact::Data(report)) => self.data_read(path, report),
            (SweepJob::WriteCalibration, Fact::Written { path, .. }) => {
                let text = format!("Wrote the calibration into {}", path.display());
                self.notices.info(text, now);
            }
            _ => {}
        }
        Vec::new()
    }

    /// What a sweep has told of a vector, for the knobs that have it.
    fn calibrate(&mut self, file: &Path, calibration: &Calibration) {
        for knob in self.weights.knobs.iter_mut().filter(|knob| knob.is_of(file)) {
            if let Some(info) = &mut knob.info {
                info.calibration = Some(Box::new(calibration.clone()));
                if !self.sweeps.calibrated.contains(&knob.id) {
                    self.sweeps.calibrated.push(knob.id);
                }
            }
        }
    }

    /// Once after the start: a sweep that was cut off can go on.
    fn tell_cut_off(&mut self) {
        if std::mem::replace(&mut self.sweeps.has_told, true) {
            return;
        }
        if let Some(summary) = self.sweeps.cut_off() {
            let SweepSummary { run, domain, points, range, .. } = summary;
            let wanted = n_points(range);
            let text = format!("A sweep of {domain} was cut off at {points} of {wanted} points");
            let action = crate::Action::Sweep(SweepAction::Resume(*run));
            self.notices.offer(text, "Go on with it", action);
        }
    }

    /// A job of this screen has ended.
    pub(in crate::model) fn end_sweep_job(
        &mut self,
        id: JobId,
        job: SweepJob,
        outcome: Outcome,
        now: f64,
    ) -> Vec<Effect> {
        match (job, outcome) {
            (SweepJob::Run(run), outcome) => return self.end_sweep(run, outcome, now),
            (SweepJob::Inspect(path), outcome) => self.end_inspection(path, outcome),
            (SweepJob::WriteCalibration, Outcome::Failed(err)) => self.notices.error(err),
            (SweepJob::Matrix(_), outcome) => {
                let was_wanted = self.sweeps.comparing.take_if(|job| *job == id).is_some();
                if let Outcome::Failed(err) = outcome
                    && was_wanted
                {
                    self.sweeps.error = Some(err);
                }
            }
            (SweepJob::Load { run, .. }, Outcome::Failed(err)) => {
                self.sweeps.compared.retain(|other| *other != run);
                if !self.sweeps.runs.contains_key(&run) {
                    self.sweeps.shown.take_if(|shown| *shown == run);
                }
                self.sweeps.error = Some(err);
            }
            (_, Outcome::Failed(err)) => self.sweeps.error = Some(err),
            _ => {}
        }
        Vec::new()
    }

    fn end_inspection(&mut self, path: PathBuf, outcome: Outcome) {
        match outcome {
            Outcome::Failed(err) => {
                self.sweeps.files.insert(path, DataFile::Bad(err));
            }
            _ if matches!(self.sweeps.files.get(&path), Some(DataFile::Reading)) => {
                self.sweeps.files.remove(&path);
                self.sweeps.form.data.retain(|other| *other != path);
            }
            _ => {}
        }
    }

    /// The sweep has ended: what was measured stays, and what it has told of its vector can be
    /// written into the vector's file.
    fn end_sweep(&mut self, run: Uuid, outcome: Outcome, now: f64) -> Vec<Effect> {
        let is_done = outcome == Outcome::Done;
        let state = if is_done { RunState::Finished } else { RunState::Stopped };
        self.sweeps.stop(run, state);
        if !self.sweeps.runs.contains_key(&run) {
            self.sweeps.shown.take_if(|shown| *shown == run);
        }
        if let Outcome::Failed(err) = outcome {
            if self.settings.screen != Screen::Sweep {
                self.notices.error(err.clone());
            }
            self.sweeps.error = Some(err);
        }
        for id in std::mem::take(&mut self.sweeps.calibrated) {
            if let Some(knob) = self.weights.knob(id).filter(|_| is_done) {
                let text =
                    format!("{} is calibrated: its knob shows what each λ leads to", knob.name());
                let action = crate::Action::Knob(id, crate::KnobAction::AskCalibration);
                self.notices.offer(text, "Write into its file…", action);
            }
        }
        vec![self.list_sweeps(now)]
    }
}

/// A file's name, with its ending.
pub(crate) fn file_label(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
