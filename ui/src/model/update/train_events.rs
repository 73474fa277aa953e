//! What the engine says of training.

use std::path::PathBuf;

use meav_protocol::{Fact, JobId, Outcome, RunState, TrainRun, TrainSpec, TrainSummary};
use uuid::Uuid;

use super::file_label;
use crate::effect::Effect;
use crate::model::Model;
use crate::model::sweep::{AfterLoad, DataFile};
use crate::model::train::{Asked, Measured, TrainJob};
use crate::settings::Screen;
use crate::train_action::TrainAction;

impl Model {
    /// What a job of the Train screen has found.
    pub(in crate::model) fn learn_training(
        &mut self,
        id: JobId,
        job: TrainJob,
        fact: Fact,
        now: f64,
    ) -> Vec<Effect> {
        match (job, fact) {
            (TrainJob::Run(run), Fact::Train(it)) if it.spec.run == run => {
                return self.training_told(id, *it, now);
            }
            (TrainJob::Run(id), Fact::TrainStep { run, step }) if run == id => {
                self.trainings.put(run, Measured::Step(step));
            }
            (TrainJob::Run(id), Fact::TrainValidation { run, validation }) if run == id => {
                self.trainings.put(run, Measured::Validation(validation));
            }
            (TrainJob::Run(id), Fact::TrainCheckpoint { run, step }) if run == id => {
                self.trainings.put(run, Measured::Checkpoint(step));
            }
            (TrainJob::Run(run), Fact::Written { path, .. }) => {
                if let Some(curves) = self.trainings.runs.get_mut(&run) {
                    curves.run.vector = Some(path);
                }
            }
            (TrainJob::List | TrainJob::Delete, Fact::Trainings(list)) => {
                self.trainings.list = Some(list);
                self.tell_cut_off_training();
            }
            (TrainJob::Load { run, then }, Fact::Train(it)) if it.spec.run == run => {
                // It may have been begun again meanwhile: what is measured now is newer.
                if !self.trainings.is_active(run) {
                    self.trainings.take(*it);
                }
                match then {
                    AfterLoad::Resume => return self.resume_training(run, now),
                    AfterLoad::Sweep => return self.sweep_trained(run, now),
                    AfterLoad::Show | AfterLoad::Compare => {}
                }
            }
            (TrainJob::SeekTest(path), Fact::Data(_)) => return self.add_sweep_data(path, now),
            (TrainJob::Estimate(spec), Fact::TrainEstimate(found))
                if self.trainings.estimate.job == Some(id) =>
            {
                self.trainings.estimate.found = Some((*spec, *found));
            }
            (TrainJob::Inspect(path), Fact::Data(report)) => {
                self.trainings.files.insert(path, DataFile::Read(report));
            }
            _ => {}
        }
        Vec::new()
    }

    /// A run as far as it has come: at its beginning, at a pause, or at its end.
    fn training_told(&mut self, job: JobId, run: TrainRun, now: f64) -> Vec<Effect> {
        let is_paused = run.is_paused;
        let mut is_new = false;
        if let Some(queued) = self.trainings.queued_mut(job) {
            is_new = !std::mem::replace(&mut queued.is_open, true);
            if is_paused && queued.asked == Asked::Pause {
                queued.asked = Asked::Nothing;
            }
        }
        if let Some(half) = run.vector.as_ref().filter(|_| is_paused) {
            self.trainings.halves.insert(run.spec.run, half.clone());
            // It is another one at each pause.
            if let Some(knob) = self.weights.find(half) {
                self.vector_changed(knob);
            }
        }
        self.jobs.set_paused(job, is_paused, now);
        self.trainings.take(run);
        is_new.then(|| self.list_trainings(now)).into_iter().collect()
    }

    /// Once after the engine's start: a run that was cut off can go on.
    fn tell_cut_off_training(&mut self) {
        let Some(summary) = self.trainings.cut_off().filter(|_| !self.trainings.has_told) else {
            return;
        };
        let TrainSummary { run, domain, steps: [done, all], .. } = summary;
        let text = format!("Training of {domain} was cut off at step {done} of {all}");
        let action = crate::Action::Train(TrainAction::Resume(*run));
        self.notices.offer(text, "Resume", action);
        self.trainings.has_told = true;
    }

    /// What had not begun when the engine was lost can be queued again, and what had is told of
    /// again.
    pub(in crate::model) fn lose_trainings(&mut self) {
        let trainings = &mut self.trainings;
        trainings.unbegun.append(&mut trainings.unopened);
        trainings.has_told = false;
    }

    /// A job of the Train screen has ended.
    pub(in crate::model) fn end_train_job(
        &mut self,
        id: JobId,
        job: TrainJob,
        outcome: Outcome,
        now: f64,
    ) -> Vec<Effect> {
        match (job, outcome) {
            (TrainJob::Run(run), outcome) => return self.end_training(run, outcome, now),
            (TrainJob::Inspect(path), outcome) => self.end_look_at_train_data(path, outcome),
            (TrainJob::Estimate(_), outcome) => {
                let was_wanted = self.trainings.estimate.job.take_if(|it| *it == id).is_some();
                if let Outcome::Failed(err) = outcome
                    && was_wanted
                {
                    self.trainings.estimate.error = Some(err);
                }
            }
            (TrainJob::SeekTest(path), Outcome::Failed(_)) => {
                let text = format!("There is no {} to measure on: add data", file_label(&path));
                self.notices.info(text, now);
            }
            (TrainJob::Load { run, .. }, Outcome::Failed(err)) => {
                self.trainings.compared.retain(|other| *other != run);
                if !self.trainings.runs.contains_key(&run) {
                    self.trainings.shown.take_if(|shown| *shown == run);
                }
                self.trainings.error = Some(err);
            }
            (_, Outcome::Failed(err)) => self.trainings.error = Some(err),
            _ => {}
        }
        Vec::new()
    }

    fn end_look_at_train_data(&mut self, path: PathBuf, outcome: Outcome) {
        let trainings = &mut self.trainings;
        match outcome {
            Outcome::Failed(err) => {
                trainings.files.insert(path, DataFile::Bad(err));
            }
            _ if matches!(trainings.files.get(&path), Some(DataFile::Reading)) => {
                trainings.files.remove(&path);
                trainings.form.data.retain(|it| it.file != path);
            }
            _ => {}
        }
    }

    /// A run has ended: its curves stay, and its vector is ready if it has come to its end.
    fn end_training(&mut self, run: Uuid, outcome: Outcome, now: f64) -> Vec<Effect> {
        let is_done = outcome == Outcome::Done;
        let state = if is_done { RunState::Finished } else { RunState::Stopped };
        let place = self.trainings.queue.iter().position(|it| it.spec.run == run);
        let queued = place.map(|place| self.trainings.queue.remove(place));
        self.trainings.stop(run, state);
        let half = self.replace_half(run, now);
        let is_elsewhere = self.settings.screen != Screen::Train;
        if let Outcome::Failed(err) = outcome {
            if is_elsewhere {
                self.notices.error(err.clone());
            }
            self.trainings.error = Some(err);
            if let Some(queued) = queued.filter(|it| !it.is_open) {
                self.not_begun(queued.spec);
            }
        } else if let Some(queued) = queued {
            if is_done && is_elsewhere {
                let action = crate::Action::Train(TrainAction::Open(run));
                let text = format!("The vector of {} is trained", queued.spec.domain);
                self.notices.offer(text, "Show it", action);
            }
            self.trainings.is_unfolded |= !queued.is_open && self.trainings.queue.is_empty();
        }
        // The next one in the queue comes into sight where this one was looked at.
        let next = self.trainings.queue.first().map(|it| it.spec.run);
        if !self.trainings.runs.contains_key(&run) {
            self.trainings.shown.take_if(|shown| *shown == run);
        }
        if self.trainings.shown.is_none() {
            self.trainings.shown = next;
        }
        half.into_iter().chain([self.list_trainings(now)]).collect()
    }

    /// A run was refused, or the engine is lost: which of them, is heard in a moment.
    fn not_begun(&mut self, spec: TrainSpec) {
        let trainings = &mut self.trainings;
        trainings.is_unfolded = true;
        if spec.resume {
            return;
        }
        if let Some(out) = spec.out.as_ref().filter(|_| trainings.form.out.is_empty()) {
            trainings.form.out = out.display().to_string();
        }
        trainings.unopened.push(spec);
    }
}
