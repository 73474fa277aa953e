use std::path::{Path, PathBuf};

use meav_protocol::{ExportTarget, Fact, FileKind, JobId, JobSpec, Outcome, SplitSpec};

use crate::action::PathPurpose;
use crate::data_action::{DataAction, DataTab, SplitDraft};
use crate::effect::{Effect, PickKind, PickRequest};
use crate::model::data::{DataWork, DemoData, RECORDS_ON_PAGE, SplitDialog};
use crate::model::jobs::Purpose;
use crate::model::{Data, Dialog, Model};
use crate::settings::Screen;

impl Model {
    pub(super) fn data(&mut self, action: DataAction, now: f64) -> Vec<Effect> {
        match action {
            DataAction::Open(path) => return self.open_data(path, now),
            DataAction::Retry => match self.data.file.clone() {
                Some(path) => return self.open_data(path, now),
                None => self.data.demo = DemoData::Unasked,
            },
            DataAction::Show(tab) => self.data.tab = tab,
            DataAction::SetSearch(text) => {
                let words = text.trim().to_owned();
                let is_new = words != self.data.search.trim();
                self.data.search = text;
                if is_new {
                    self.data.selected = 0;
                    return self.read_records(now);
                }
            }
            DataAction::Select(place) => return self.select_record(place, now),
            DataAction::SetSplit(draft) => {
                if let Some(Dialog::Split(dialog)) = &mut self.dialog
                    && dialog.job.is_none()
                {
                    (dialog.draft, dialog.error) = (draft, None);
                }
            }
            DataAction::BrowseSplit => {
                let (purpose, title) = (PathPurpose::SplitFolder, "Folder for the parts");
                let kind = PickKind::Folder;
                return vec![Effect::Pick(PickRequest { purpose, title, kind })];
            }
            DataAction::DismissWritten => self.data.written.clear(),
            DataAction::DismissLeakage => self.data.leakage = None,
            DataAction::Judge => {
                if let Some(file) = &self.data.file {
                    self.judging.form.data = file.display().to_string();
                    self.show_screen(Screen::Judge);
                }
            }
        }
        Vec::new()
    }

    /// The names of the demo's files, as soon as a screen has a use for them.
    pub(in crate::model) fn follow_demo_data(&mut self, now: f64) -> Option<Effect> {
        let is_wanted = matches!(
            self.settings.screen,
            Screen::Sweep | Screen::Train | Screen::Data | Screen::Judge
        );
        if !is_wanted || !matches!(self.data.demo, DemoData::Unasked) {
            return None;
        }
        self.data.demo = DemoData::Asked;
        Some(self.start(Purpose::Data(DataWork::ListDemo), JobSpec::ListDemoData, now))
    }

    /// Shows a file of preference records.
    pub(in crate::model) fn open_data(&mut self, path: PathBuf, now: f64) -> Vec<Effect> {
        self.show_screen(Screen::Data);
        self.remember(path.clone(), FileKind::Data);
        let older = [self.data.reading, self.data.paging];
        let mut effects: Vec<_> =
            older.into_iter().flatten().filter_map(|job| self.jobs.cancel(job)).collect();
        let Data { demo, tab, .. } = std::mem::take(&mut self.data);
        self.data = Data { demo, tab, file: Some(path.clone()), ..Data::default() };
        let purpose = Purpose::Data(DataWork::Inspect);
        let (job, effect) = self.jobs.start(purpose, JobSpec::InspectData { path }, now);
        self.data.reading = Some(job);
        effects.push(effect);
        effects.extend(self.read_records(now));
        effects
    }

    /// Has the records read around the one that is selected.
    fn read_records(&mut self, now: f64) -> Vec<Effect> {
        let Some(path) = self.data.file.clone() else { return Vec::new() };
        let older = self.data.paging.take().and_then(|job| self.jobs.cancel(job));
        let spec = JobSpec::ReadRecords {
            path,
            search: self.data.search.trim().to_owned(),
            start: self.data.selected / RECORDS_ON_PAGE * RECORDS_ON_PAGE,
            count: RECORDS_ON_PAGE,
        };
        let (job, effect) = self.jobs.start(Purpose::Data(DataWork::Read), spec, now);
        (self.data.paging, self.data.page_error) = (Some(job), None);
        older.into_iter().chain([effect]).collect()
    }

    fn select_record(&mut self, place: usize, now: f64) -> Vec<Effect> {
        let total = self.data.page.as_ref().map_or(0, |page| page.total);
        if place >= total {
            return Vec::new();
        }
        self.data.selected = place;
        // What is being read may be another page.
        if self.data.record().is_some() && self.data.paging.is_none() {
            return Vec::new();
        }
        self.read_records(now)
    }

    pub(super) fn ask_data_path(&mut self) {
        self.ask_path(PathPurpose::OpenData, "");
    }

    /// Asks for the file that the shown one is compared with.
    pub(super) fn ask_training_data(&mut self, now: f64) {
        match &self.data.file {
            Some(file) => {
                let text = self.training_data_of(file).map(|path| path.display().to_string());
                self.ask_path(PathPurpose::TrainingData, &text.unwrap_or_default());
            }
            None => self.notices.info("There is no data to compare: open a file first", now),
        }
    }

    /// A file of the demo that the model of this one was trained on.
    fn training_data_of(&self, test: &Path) -> Option<PathBuf> {
        let name = test.file_name()?.to_str()?.replace(".test.", ".train.");
        let is_it = |file: &&PathBuf| {
            file.as_path() != test && file.file_name().is_some_and(|its| its == name.as_str())
        };
        self.data.demo.files().iter().find(is_it).cloned()
    }

    pub(super) fn find_leakage(&self, train: PathBuf) -> Option<(Purpose, JobSpec)> {
        let test = self.data.file.clone()?;
        let purpose = Purpose::Data(DataWork::FindLeakage { train: train.clone() });
        Some((purpose, JobSpec::FindLeakage { train, test }))
    }

    pub(super) fn ask_split(&mut self, now: f64) {
        let Some(data) = self.data.file.clone() else {
            self.notices.info("There is no data to split: open a file first", now);
            return;
        };
        let folder = self.host.documents.display().to_string();
        let draft = SplitDraft { test: 0.2, validation: 0.03, seed: 0, folder };
        let records = self.data.report.as_ref().map(|report| report.records);
        let dialog = SplitDialog { data, records, draft, job: None, error: None };
        self.dialog = Some(Dialog::Split(dialog));
    }

    /// Splits the file of the dialog, unless something is missing or it has begun.
    pub(super) fn split(&mut self, replace: bool, now: f64) -> Vec<Effect> {
        let Some(Dialog::Split(dialog)) = &self.dialog else { return Vec::new() };
        if dialog.job.is_some() || dialog.draft.missing().is_some() {
            return Vec::new();
        }
        let begun = Box::new(SplitDialog { error: None, ..dialog.clone() });
        let path = self.path_to_write(Path::new(begun.draft.folder.trim()));
        let spec = SplitSpec {
            data: begun.data.clone(),
            test: begun.draft.test,
            validation: begun.draft.validation,
            seed: begun.draft.seed,
            out: ExportTarget { path, replace },
        };
        let purpose = Purpose::Data(DataWork::Split(begun));
        let (job, effect) = self.jobs.start(purpose, JobSpec::SplitData(spec), now);
        self.data.written.clear();
        if let Some(Dialog::Split(dialog)) = &mut self.dialog {
            (dialog.job, dialog.error) = (Some(job), None);
        }
        vec![effect]
    }

    /// A folder from a dialog of the system.
    pub(super) fn picked_folder(&mut self, paths: Vec<PathBuf>) {
        if let Some(Dialog::Split(dialog)) = &mut self.dialog
            && let Some(path) = paths.into_iter().next().filter(|_| dialog.job.is_none())
        {
            dialog.draft.folder = path.display().to_string();
            dialog.error = None;
        }
    }

    /// A job that works with data has found something. What is not for the file that is shown is
    /// not looked at.
    pub(in crate::model) fn learn_data(&mut self, job: JobId, work: DataWork, fact: Fact) {
        match (work, fact) {
            (DataWork::ListDemo, Fact::DemoData(files)) => self.data.demo = DemoData::Known(files),
            (DataWork::Inspect, Fact::Data(report)) if self.data.reading == Some(job) => {
                (self.data.report, self.data.error) = (Some(*report), None);
            }
            (DataWork::Read, Fact::Records(page)) if self.data.paging == Some(job) => {
                self.data.take_page(page);
            }
            (DataWork::FindLeakage { train }, Fact::Leakage(report)) => {
                self.data.leakage = Some((train, report));
                self.data.tab = DataTab::Overview;
            }
            (DataWork::Split(_), Fact::Written { path, summary }) => {
                self.data.written.push((path, summary));
            }
            _ => {}
        }
    }

    /// A job that works with data has ended.
    pub(in crate::model) fn end_data(
        &mut self,
        job: JobId,
        work: DataWork,
        outcome: Outcome,
        now: f64,
    ) -> Vec<Effect> {
        match work {
            DataWork::ListDemo => match outcome {
                Outcome::Failed(err) => {
                    match self.settings.screen {
                        Screen::Sweep => self.sweeps.error = Some(err.clone()),
                        Screen::Train => self.trainings.error = Some(err.clone()),
                        Screen::Chat | Screen::Vectors | Screen::Data | Screen::Judge => {}
                    }
                    self.data.demo = DemoData::Failed(err);
                }
                Outcome::Done | Outcome::Cancelled => {}
            },
            DataWork::Inspect => {
                if self.data.reading.take_if(|it| *it == job).is_some()
                    && let Outcome::Failed(err) = outcome
                {
                    self.data.error = Some(err);
                }
            }
            DataWork::Read => {
                if self.data.paging.take_if(|it| *it == job).is_some() {
                    return self.end_page(outcome, now);
                }
            }
            DataWork::FindLeakage { .. } => self.end_path_dialog(job, None, outcome),
            DataWork::Split(begun) => {
                self.end_split(job, *begun, outcome, now);
                return vec![self.list_audit(now)];
            }
        }
        Vec::new()
    }

    /// Records were read, or could not be; someone may have gone on to others meanwhile.
    fn end_page(&mut self, outcome: Outcome, now: f64) -> Vec<Effect> {
        let has_some = self.data.page.as_ref().is_some_and(|page| page.total > 0);
        match outcome {
            Outcome::Failed(err) => self.data.page_error = Some(err),
            Outcome::Done if has_some && self.data.record().is_none() => {
                // Nothing stands where the record was to be: the file has changed.
                if let Some(page) = self.data.page.take_if(|page| page.records.is_empty()) {
                    self.data.selected = 0;
                    return if page.start > 0 { self.read_records(now) } else { Vec::new() };
                }
            }
            Outcome::Done | Outcome::Cancelled => {}
        }
        Vec::new()
    }

    /// The dialog gives way to what was written, or says what is wrong. Who has closed it
    /// meanwhile is told, and can have it back.
    fn end_split(&mut self, job: JobId, begun: SplitDialog, outcome: Outcome, now: f64) {
        let is_its = |it: &mut Dialog| matches!(it, Dialog::Split(it) if it.job == Some(job));
        let is_open = self.dialog.take_if(is_its).is_some();
        match outcome {
            Outcome::Done => {
                let count = self.data.written.len();
                if is_open {
                    self.data.tab = DataTab::Overview;
                } else {
                    self.notices.info(format!("Split the data into {count} files"), now);
                }
            }
            Outcome::Failed(err) => {
                let dialog = Dialog::Split(SplitDialog { error: Some(err.clone()), ..begun });
                if is_open {
                    self.dialog = Some(dialog);
                } else {
                    self.notices.failed(err, dialog);
                }
            }
            Outcome::Cancelled if is_open => self.dialog = Some(Dialog::Split(begun)),
            Outcome::Cancelled => {}
        }
    }
}
