//! What is done with the vectors that runs make.

use std::path::{Path, PathBuf};

use meav_protocol::{FileKind, JobSpec};
use uuid::Uuid;

use super::file_label;
use crate::effect::Effect;
use crate::model::Model;
use crate::model::sweep::AfterLoad;
use crate::model::train::TrainJob;
use crate::settings::{Recent, Screen};

impl Model {
    /// The vector of a run, half-trained or whole.
    fn trained_vector(&self, run: Uuid) -> Option<PathBuf> {
        let read = self.trainings.runs.get(&run).and_then(|it| it.run.vector.clone());
        let listed = || {
            let list = self.trainings.list.as_ref()?;
            list.iter().find(|it| it.run == run)?.vector.clone()
        };
        read.or_else(listed)
    }

    pub(super) fn chat_with_training(&mut self, run: Uuid, now: f64) -> Vec<Effect> {
        let Some(file) = self.trained_vector(run) else { return Vec::new() };
        let effects = self.place_on_knob(file, now);
        if let Some(id) = self.weights.selected {
            self.weights.set_bypassed(id, false);
            self.weights.set(id, 1.0);
        }
        self.show_screen(Screen::Chat);
        effects
    }

    /// The vector of a run that is over.
    fn finished_vector(&self, run: Uuid) -> Option<PathBuf> {
        self.trained_vector(run).filter(|_| !self.trainings.is_active(run))
    }

    pub(super) fn add_trained(&mut self, run: Uuid, now: f64) -> Vec<Effect> {
        let Some(file) = self.finished_vector(run) else { return Vec::new() };
        self.notices.info("It is on a knob: λ = 1 is the model as it was trained", now);
        self.put_on_knob(file, now)
    }

    /// Sweeps a run's vector on the test files that belong to its data; the run says which data.
    pub(in crate::model) fn sweep_trained(&mut self, run: Uuid, now: f64) -> Vec<Effect> {
        let Some(file) = self.finished_vector(run) else { return Vec::new() };
        let Some(known) = self.trainings.runs.get(&run) else {
            return vec![self.load_training(run, AfterLoad::Sweep, now)];
        };
        let trained: Vec<PathBuf> = known.run.spec.data.iter().map(|it| it.file.clone()).collect();
        let mut effects = self.put_on_knob(file, now);
        self.sweeps.form.knob = self.weights.selected;
        // What it was trained on, or others were tested on, would mislead.
        self.sweeps.form.data.clear();
        for file in trained {
            match test_file_of(&file) {
                Some(test) if self.knows_data(&test) => {
                    effects.extend(self.add_sweep_data(test, now));
                }
                Some(test) => {
                    let spec = JobSpec::InspectData { path: test.clone() };
                    effects.push(self.start_train_job(TrainJob::SeekTest(test), spec, now).1);
                }
                None => {
                    let text = format!("No file for testing belongs to {}", file_label(&file));
                    self.notices.info(text, now);
                }
            }
        }
        effects.extend(self.show_sweep(now));
        effects
    }

    /// Whether a file of records is known to be there.
    fn knows_data(&self, file: &Path) -> bool {
        let demo = self.data.demo.files().iter();
        let written = self.data.written.iter().map(|(path, _)| path);
        let recent =
            self.settings.recent.iter().filter(|it| it.is_data()).map(|it: &Recent| &it.path);
        demo.chain(written).chain(recent).any(|it| it == file)
    }

    /// The file of a half-trained vector goes when its run ends: the knob that has it gets the
    /// whole one, where there is one.
    pub(super) fn replace_half(&mut self, run: Uuid, now: f64) -> Option<Effect> {
        let half = self.trainings.halves.remove(&run)?;
        let knob = self.weights.find(&half)?;
        let whole = self.trainings.runs.get(&run).and_then(|it| it.run.vector.clone());
        let Some(whole) = whole.filter(|whole| self.weights.find(whole).is_none()) else {
            self.weights.remove(knob);
            let text = "The half-trained vector is gone with its run, and its knob too";
            self.notices.info(text, now);
            return self.describe_selected(now);
        };
        self.weights.replace(knob, whole.clone());
        self.vector_changed(knob);
        self.remember(whole, FileKind::Vector);
        self.notices.info("The knob of the half-trained vector has the whole one now", now);
        self.describe_selected(now)
    }
}

/// The file for testing that is split off together with a file for training, by its name.
fn test_file_of(file: &Path) -> Option<PathBuf> {
    let name = file_label(file);
    let is_whole = |(at, part): &(usize, &str)| {
        let is_letter = |it: char| it.is_alphanumeric();
        let (before, after) = (&name[..*at], &name[at + part.len()..]);
        !before.ends_with(is_letter) && !after.starts_with(is_letter)
    };
    let (at, part) = name.match_indices("train").find(is_whole)?;
    Some(file.with_file_name(format!("{}test{}", &name[..at], &name[at + part.len()..])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_for_testing_is_found_by_a_whole_part_of_the_name() {
        for (train, test) in [
            ("/d/medical.train.jsonl", Some("/d/medical.test.jsonl")),
            ("/d/constraints.train.jsonl", Some("/d/constraints.test.jsonl")),
            ("/train/train-00000.parquet", Some("/train/test-00000.parquet")),
            ("/d/safety_train.csv", Some("/d/safety_test.csv")),
            ("/train/constraints.jsonl", None),
            ("/d/training.jsonl", None),
        ] {
            assert_eq!(test_file_of(Path::new(train)), test.map(PathBuf::from), "{train}");
        }
    }
}
