use std::path::{Path, PathBuf};

use meav_protocol::{
    ExportTarget, Fact, JobId, JobSpec, Judge, JudgeSpec, Method, Outcome, SamplingSpec, Secret,
    Setup,
};

use crate::action::PathPurpose;
use crate::effect::{Effect, PickKind, PickRequest};
use crate::judge_form::{
    AnswerFilter, JudgeAction, JudgeChoice, JudgeForm, JudgePath, JudgeTab, LevelFilter,
};
use crate::model::Model;
use crate::model::jobs::Purpose;
use crate::model::judge::JudgeWork;
use crate::settings::Screen;

impl Model {
    pub(super) fn judge(&mut self, action: JudgeAction, now: f64) -> Vec<Effect> {
        match action {
            JudgeAction::SetForm(form) => return self.set_judge_form(*form, now),
            JudgeAction::Browse { path, folder } => return vec![browse(path, folder)],
            JudgeAction::FindKey => return self.find_key(now),
            JudgeAction::KeepKey => {
                let key = std::mem::replace(&mut self.judging.form.key, Secret(String::new()));
                if !key.0.is_empty() && self.judging.form.has_address() {
                    return self.tell_store(Some(key), now);
                }
            }
            JudgeAction::ForgetKey => return self.tell_store(None, now),
            JudgeAction::Start => return self.start_judging(now),
            JudgeAction::Show(tab) => self.judging.tab = tab,
            JudgeAction::SetFilter(filter) => {
                (self.judging.filter, self.judging.selected) = (filter, 0);
            }
            JudgeAction::SelectAnswer(place) => {
                if place < self.judging.answers().len() {
                    self.judging.selected = place;
                }
            }
            JudgeAction::Export(ending) => self.ask_judgement_path(ending, now),
        }
        Vec::new()
    }

    /// Has answers judged, or shows what is missing.
    pub(super) fn judge_by_command(&mut self, now: f64) -> Vec<Effect> {
        self.show_screen(Screen::Judge);
        if self.judging.form.missing().is_some() {
            self.judging.tab = JudgeTab::Setup;
        }
        self.start_judging(now)
    }

    /// Takes what is typed and chosen. Whoever chooses an endpoint learns whether there is a key
    /// for it.
    fn set_judge_form(&mut self, form: JudgeForm, now: f64) -> Vec<Effect> {
        let judging = &mut self.judging;
        if !form.temperature.is_finite() {
            return Vec::new();
        }
        let is_new = judging.form.judge != form.judge && form.judge == JudgeChoice::Endpoint;
        judging.form = form;
        if judging.form.judge != JudgeChoice::Endpoint {
            judging.form.key = Secret(String::new());
        }
        if is_new { self.find_key(now) } else { Vec::new() }
    }

    fn find_key(&mut self, now: f64) -> Vec<Effect> {
        let address = self.judging.form.address.trim().to_owned();
        let is_asked = self.judging.key.as_ref().is_some_and(|(asked, _)| *asked == address);
        if is_asked || !self.judging.form.has_address() {
            return Vec::new();
        }
        let spec = JobSpec::FindKey { address: address.clone() };
        self.ask_store(address, spec, now)
    }

    fn tell_store(&mut self, key: Option<Secret>, now: f64) -> Vec<Effect> {
        let address = self.judging.form.address.trim().to_owned();
        let spec = JobSpec::KeepKey { address: address.clone(), key };
        self.ask_store(address, spec, now)
    }

    fn ask_store(&mut self, address: String, spec: JobSpec, now: f64) -> Vec<Effect> {
        let (job, effect) = self.jobs.start(Purpose::Judge(JudgeWork::Key), spec, now);
        let judging = &mut self.judging;
        judging.key = Some((address, None));
        (judging.key_job, judging.key_error) = (Some(job), None);
        vec![effect]
    }

    fn start_judging(&mut self, now: f64) -> Vec<Effect> {
        if self.judging.job.is_some() || self.judging.form.missing().is_some() {
            return Vec::new();
        }
        let spec = JobSpec::Judge(Box::new(self.judge_spec()));
        let is_by_demo = self.judging.will_be_demo(&self.weights);
        let purpose = Purpose::Judge(JudgeWork::Run { is_by_demo });
        let (job, effect) = self.jobs.start(purpose, spec, now);
        (self.judging.job, self.judging.error) = (Some(job), None);
        vec![effect]
    }

    fn judge_spec(&self) -> JudgeSpec {
        let form = &self.judging.form;
        let (setup, knobs) = self.weights.wanted();
        let recipes = self.judging.recipes(&knobs, &self.weights);
        let bare = |model: PathBuf| Setup {
            model,
            dtype: self.weights.dtype,
            method: Method::default(),
            vectors: Vec::new(),
        };
        JudgeSpec {
            recipes,
            prompting: form.prompting(),
            data: self.path_to_read(Path::new(form.data.trim())),
            sample: form.sample,
            sampling: SamplingSpec {
                temperature: form.temperature,
                seed: form.seed,
                ..self.settings.sampling.spec()
            },
            max_tokens: form.max_tokens,
            rubric: form.rubric(),
            judge: match form.judge {
                JudgeChoice::SameModel => Judge::Local(bare(setup.model.clone())),
                JudgeChoice::OtherModel => {
                    Judge::Local(bare(self.path_to_read(Path::new(form.model.trim()))))
                }
                JudgeChoice::Endpoint => Judge::Endpoint {
                    address: form.address.trim().to_owned(),
                    model: form.endpoint_model.trim().to_owned(),
                },
            },
            compares: form.compares,
            setup,
        }
    }

    pub(super) fn ask_judgement_path(&mut self, ending: &str, now: f64) {
        if self.judging.report.is_none() {
            self.notices.info("There is no judgement to export: have answers judged first", now);
        } else {
            self.ask_export(PathPurpose::ExportJudgement, &format!("judgement.{ending}"));
        }
    }

    pub(super) fn export_judgement(
        &self,
        path: PathBuf,
        replace: bool,
    ) -> Option<(Purpose, JobSpec)> {
        let report = Box::new(self.judging.report.clone()?);
        let out = ExportTarget { path, replace };
        Some((Purpose::Export, JobSpec::ExportJudgement { report, out }))
    }

    /// A path from a dialog of the system.
    pub(super) fn picked_for_judge(&mut self, path: JudgePath, paths: Vec<PathBuf>) {
        let Some(picked) = paths.into_iter().next() else { return };
        let text = match path {
            JudgePath::Data => &mut self.judging.form.data,
            JudgePath::Model => &mut self.judging.form.model,
        };
        *text = picked.display().to_string();
    }

    /// A job for the Judge screen has found something.
    pub(in crate::model) fn learn_judge(&mut self, job: JobId, work: JudgeWork, fact: Fact) {
        let judging = &mut self.judging;
        match (work, fact) {
            (JudgeWork::Run { is_by_demo }, Fact::Judged(report)) => {
                judging.report = Some(*report);
                judging.is_by_demo = is_by_demo;
                judging.filter = AnswerFilter { row: None, level: LevelFilter::All };
                (judging.selected, judging.tab) = (0, JudgeTab::Results);
            }
            (JudgeWork::Key, Fact::Key { address, is_kept }) if judging.key_job == Some(job) => {
                judging.key = Some((address, Some(is_kept)));
            }
            _ => {}
        }
    }

    /// A job for the Judge screen has ended.
    pub(in crate::model) fn end_judge(&mut self, job: JobId, work: &JudgeWork, outcome: Outcome) {
        let judging = &mut self.judging;
        let failure = match outcome {
            Outcome::Failed(err) => Some(err),
            Outcome::Done | Outcome::Cancelled => None,
        };
        match work {
            JudgeWork::Run { .. } => {
                judging.job.take_if(|it| *it == job);
                judging.error = failure;
            }
            JudgeWork::Key => {
                if judging.key_job.take_if(|it| *it == job).is_some() {
                    judging.key_error = failure;
                    // It can be asked again.
                    judging.key.take_if(|(_, is_kept)| is_kept.is_none());
                }
            }
        }
    }
}

fn browse(path: JudgePath, folder: bool) -> Effect {
    let (title, filter) = match path {
        JudgePath::Data => ("Open the questions", ("Preference data", crate::settings::DATA)),
        JudgePath::Model => ("Open a model that judges", ("Models", &["gguf", "safetensors"][..])),
    };
    let kind = if folder { PickKind::Folder } else { PickKind::Files { filter } };
    Effect::Pick(PickRequest { purpose: PathPurpose::Judge(path), title, kind })
}
