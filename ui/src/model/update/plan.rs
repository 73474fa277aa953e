use meav_protocol::{JobId, JobSpec, MemoryPlan, Outcome, PlanChange};

use crate::action::PathPurpose;
use crate::effect::Effect;
use crate::model::jobs::Purpose;
use crate::model::plan::PlanDialog;
use crate::model::{Dialog, Model};

impl Model {
    /// Asks what memory the model would take with the knobs as they are, and shows the dialog; what
    /// it said before stays until the answer is there.
    pub(super) fn plan_memory(&mut self, now: f64) -> Vec<Effect> {
        let (before, mut effects) = match self.dialog.take() {
            Some(Dialog::Plan(before)) => {
                let cancelled = before.job.and_then(|job| self.jobs.cancel(job));
                (before.plan, Vec::from_iter(cancelled))
            }
            _ => (None, Vec::new()),
        };
        let (setup, _) = self.weights.wanted();
        let (job, effect) = self.jobs.start(Purpose::Plan, JobSpec::PlanMemory(setup), now);
        effects.push(effect);
        self.dialog = Some(Dialog::Plan(PlanDialog { job: Some(job), plan: before, error: None }));
        effects
    }

    pub(in crate::model) fn planned(&mut self, job: JobId, plan: MemoryPlan) {
        if let Some(Dialog::Plan(dialog)) = &mut self.dialog
            && dialog.job == Some(job)
        {
            dialog.plan = Some(plan);
        }
    }

    pub(in crate::model) fn end_plan(&mut self, job: JobId, outcome: Outcome) {
        if let Some(Dialog::Plan(dialog)) = &mut self.dialog
            && dialog.job == Some(job)
        {
            dialog.job = None;
            if let Outcome::Failed(err) = outcome {
                (dialog.plan, dialog.error) = (None, Some(err));
            }
        }
    }

    /// Does what would make the model fit, or asks for what it needs to know first.
    pub(super) fn take_way_out(&mut self, change: PlanChange, now: f64) -> Vec<Effect> {
        match change {
            PlanChange::Dtype(dtype) => {
                self.set_dtype(dtype);
                self.plan_memory(now)
            }
            PlanChange::CompressVector { file } => {
                if let Some(knob) = self.weights.find(&file) {
                    self.weights.selected = Some(knob);
                    self.ask_compress(now);
                }
                Vec::new()
            }
            PlanChange::ConvertModel => {
                self.ask_export(PathPurpose::ConvertModel, "converted-model");
                Vec::new()
            }
        }
    }
}
