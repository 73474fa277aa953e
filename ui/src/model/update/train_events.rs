//! What the engine says of training.

use std::path::PathBuf;

use meav_protocol::{Fact, JobId, Outcome, RunState, TrainRun, TrainSummary};
use uuid::Uuid;

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
                self.training_told(id, *it, now);
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
                if then == AfterLoad::Resume {
                    return self.resume_training(run, now);
                }
            }
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
    fn training_told(&mut self, job: JobId, run: TrainRun, now: f64) {
        let is_paused = run.is_paused;
        if let Some(queued) = self.trainings.queued_mut(job)
            && is_paused
            && queued.asked == Asked::Pause
        {
            queued.asked = Asked::Nothing;
        }
        // The half-trained vector is another one at each pause.
        let is_on_knob = run.vector.as_ref().is_some_and(|file| self.weights.find(file).is_some());
        if is_on_knob {
            self.weights.retry();
        }
        self.jobs.set_paused(job, is_paused, now);
        self.trainings.take(run);
    }

    /// Once after the start: a run that was cut off can go on.
    fn tell_cut_off_training(&mut self) {
        if std::mem::replace(&mut self.trainings.has_told, true) {
            return;
        }
        if let Some(summary) = self.trainings.cut_off() {
            let TrainSummary { run, domain, steps: [done, all], .. } = summary;
            let text = format!("Training of {domain} was cut off at step {done} of {all}");
            let action = crate::Action::Train(TrainAction::Resume(*run));
            self.notices.offer(text, "Resume", action);
        }
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
        let domain = self.trainings.queued(run).map(|it| it.spec.domain.clone());
        self.trainings.stop(run, state);
        let is_elsewhere = self.settings.screen != Screen::Train;
        if let Outcome::Failed(err) = outcome {
            if is_elsewhere {
                self.notices.error(err.clone());
            }
            self.trainings.error = Some(err);
        } else if let Some(domain) = domain.filter(|_| is_done && is_elsewhere) {
            let action = crate::Action::Train(TrainAction::Open(run));
            self.notices.offer(format!("The vector of {domain} is trained"), "Show it", action);
        }
        // The next one in the queue comes into sight where this one was looked at.
        let next = self.trainings.queue.first().map(|it| it.spec.run);
        if !self.trainings.runs.contains_key(&run) {
            self.trainings.shown.take_if(|shown| *shown == run);
        }
        if self.trainings.shown.is_none() {
            self.trainings.shown = next;
        }
        vec![self.list_trainings(now)]
    }
}
