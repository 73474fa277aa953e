use std::path::PathBuf;

use meav_protocol::{FileKind, JobId, JobSpec, Outcome};

use crate::action::{CompareMeasure, KnobId, PathPurpose, VectorsAction};
use crate::effect::Effect;
use crate::form::FormFiles;
use crate::model::jobs::Purpose;
use crate::model::{Dialog, FormDialog, Knob, Model};
use crate::settings::Screen;

impl Model {
    pub(super) fn vectors(&mut self, action: VectorsAction, now: f64) -> Vec<Effect> {
        let vectors = &mut self.vectors;
        match action {
            VectorsAction::Compare(id, is_wanted) => {
                if is_wanted {
                    vectors.left_out.remove(&id);
                } else {
                    vectors.left_out.insert(id);
                }
            }
            VectorsAction::ShowMeasure(measure) => vectors.measure = measure,
            VectorsAction::ShowPair(a, b) => {
                vectors.pair = (a.min(b), a.max(b));
                if vectors.measure == CompareMeasure::Norms {
                    vectors.measure = CompareMeasure::Cosine;
                }
            }
            VectorsAction::ShowNorms(vector) => {
                (vectors.vector, vectors.measure) = (vector, CompareMeasure::Norms);
            }
            VectorsAction::Export(ending) => self.ask_comparison_path(ending, now),
            VectorsAction::AddMade => {
                if let Some(file) = vectors.made.as_ref().map(|made| made.file.clone()) {
                    return self.put_on_knob(file, now);
                }
            }
            VectorsAction::AddShared => {
                if let Some(file) = vectors.made.as_ref().and_then(|made| made.shared.clone()) {
                    return self.put_on_knob(file, now);
                }
            }
            VectorsAction::ReplaceByMade => return self.replace_by_made(now),
            VectorsAction::DismissMade => vectors.made = None,
        }
        Vec::new()
    }

    pub(super) fn put_on_knob(&mut self, file: PathBuf, now: f64) -> Vec<Effect> {
        self.remember(file.clone(), FileKind::Vector);
        self.place_on_knob(file, now)
    }

    /// As [`Model::put_on_knob`], with a file that soon goes.
    pub(super) fn place_on_knob(&mut self, file: PathBuf, now: f64) -> Vec<Effect> {
        let id = self.weights.add(file);
        self.weights.selected = Some(id);
        self.vector_changed(id);
        self.describe_selected(now).into_iter().collect()
    }

    /// What was found out of the vector on a knob may be so no longer: it is read again.
    pub(super) fn vector_changed(&mut self, id: KnobId) {
        self.details.described.remove(&id);
        if let Some(knob) = self.weights.knob_mut(id) {
            knob.fault = None;
        }
        self.weights.retry();
    }

    fn replace_by_made(&mut self, now: f64) -> Vec<Effect> {
        let Some(made) = &self.vectors.made else { return Vec::new() };
        let file = made.file.clone();
        let Some(id) = made.form.knob().filter(|id| self.weights.knob(*id).is_some()) else {
            return Vec::new();
        };
        self.weights.replace(id, file.clone());
        self.weights.selected = Some(id);
        self.details.described.remove(&id);
        self.remember(file, FileKind::Vector);
        self.describe_selected(now).into_iter().collect()
    }

    /// Has the vectors compared that nobody has left out.
    pub(super) fn compare(&mut self, now: f64) -> Vec<Effect> {
        self.show_screen(Screen::Vectors);
        let vectors = self.vectors_to_compare();
        if vectors.len() < 2 {
            self.notices.info("Comparing takes two vectors or more", now);
            return Vec::new();
        }
        let compared = vectors.clone();
        let older = self.vectors.comparing.take();
        let mut effects: Vec<_> = older.and_then(|job| self.jobs.cancel(job)).into_iter().collect();
        let base = Some(self.weights.model.clone());
        let spec = JobSpec::CompareVectors { vectors, base };
        let (job, effect) = self.jobs.start(Purpose::Compare, spec, now);
        self.vectors.comparing = Some(job);
        self.vectors.compared = compared;
        self.vectors.error = None;
        effects.push(effect);
        effects
    }

    /// The vectors that a comparison would take in.
    pub(crate) fn vectors_to_compare(&self) -> Vec<PathBuf> {
        let is_wanted =
            |knob: &&Knob| knob.fault.is_none() && !self.vectors.left_out.contains(&knob.id);
        self.weights.knobs.iter().filter(is_wanted).map(|knob| knob.file.clone()).collect()
    }

    pub(super) fn ask_comparison_path(&mut self, ending: &str, now: f64) {
        if self.vectors.comparison.is_none() {
            self.notices.info("There is no comparison to export: compare vectors first", now);
        } else {
            self.ask_export(PathPurpose::ExportComparison, &format!("comparison.{ending}"));
        }
    }

    /// The job that compares has ended.
    pub(in crate::model) fn end_comparison(&mut self, job: JobId, outcome: Outcome) {
        // One that was called off for another has no say any more.
        if self.vectors.comparing.take_if(|it| *it == job).is_some()
            && let Outcome::Failed(err) = outcome
        {
            self.vectors.error = Some(err);
        }
    }

    /// A job that makes a vector has ended: its dialog gives way to what was made, or says what
    /// is wrong. Who has closed the dialog meanwhile is told, and can have it back.
    pub(in crate::model) fn end_making(
        &mut self,
        job: JobId,
        (mut dialog, name, files): (Box<FormDialog>, String, FormFiles),
        outcome: Outcome,
        now: f64,
    ) {
        let is_its = |it: &mut Dialog| matches!(it, Dialog::Form(it) if it.job == Some(job));
        let is_open = self.dialog.take_if(is_its).is_some();
        match outcome {
            Outcome::Done => {
                let made = self.vectors.take_made(job, dialog.form, name, files);
                let text = format!("Saved {} as {}", made.name, made.file.display());
                if is_open {
                    self.show_screen(Screen::Vectors);
                } else {
                    self.notices.info(text, now);
                }
                return;
            }
            Outcome::Failed(err) => {
                dialog.error = Some(err.clone());
                let dialog = Dialog::Form(dialog);
                if is_open {
                    self.dialog = Some(dialog);
                } else {
                    self.notices.failed(err, dialog);
                }
            }
            // It stays as it was filled in, to be begun again.
            Outcome::Cancelled if is_open => self.dialog = Some(Dialog::Form(dialog)),
            Outcome::Cancelled => {}
        }
        self.vectors.found.remove(&job);
    }

    /// The answer to what a dropped model is to be.
    pub(super) fn use_as(&mut self, kind: FileKind, now: f64) -> Vec<Effect> {
        let Some(Dialog::UseAs { path }) =
            self.dialog.take_if(|it| matches!(it, Dialog::UseAs { .. }))
        else {
            return Vec::new();
        };
        self.focus = Some(crate::model::Focus::of(self.settings.screen));
        match kind {
            FileKind::Model => {
                self.remember(path.clone(), kind);
                self.weights.set_model(path);
                Vec::new()
            }
            FileKind::Vector => self.put_on_knob(path, now),
            // A model is neither.
            FileKind::Recipe | FileKind::Data => Vec::new(),
        }
    }
}
