use meav_protocol::{
    DataProblem, Description, EngineChoice, EngineDevice, Event, Fact, FileKind, JobId,
    LoadedModel, Outcome, Remedy, Setup, Stage, UserError,
};
use std::path::{Path, PathBuf};

use super::jobs::{Job, Purpose};
use super::{Dialog, EngineState, Model, PathDialog};
use crate::action::KnobId;
use crate::effect::Effect;

/// An engine that dies again within this time is not started again by itself.
const SECS_TO_TRUST: f64 = 20.0;

/// The desktop is told of the end of jobs that took at least this long.
const SECS_OF_LONG_JOB: f64 = 10.0;

impl Model {
    /// Takes note of what the engine said. What it says of jobs that have ended, or that are not
    /// this window's, is not looked at.
    pub fn apply(&mut self, event: Event, now: f64) -> Vec<Effect> {
        // The end of jobs that an engine takes with it is told in one go with its own.
        if !matches!(event, Event::Finished { .. } | Event::EngineLost { .. }) {
            self.trainings.unopened.clear();
        }
        let mut effects = match event {
            Event::EngineChosen(choice) => {
                self.take_engine(choice, now);
                Vec::new()
            }
            Event::Hello { version, device, log, .. } => {
                self.engine = EngineState::Running { version, device, log };
                Vec::new()
            }
            Event::Progress { job_id, stage, done, total } => {
                self.jobs.progress(job_id, stage, done, total, now);
                // From here on the merge can be watched in the status bar.
                let is_its =
                    |it: &mut Dialog| matches!(it, Dialog::Path(it) if it.job == Some(job_id));
                if stage == Stage::Writing {
                    self.dialog.take_if(is_its);
                }
                Vec::new()
            }
            Event::Fact { job_id, fact } => self.learn(job_id, fact, now),
            Event::Finished { job_id, outcome } => match self.jobs.finish(job_id) {
                Some(job) => {
                    let mut effects = self.finished(job, outcome, now);
                    // Nothing stands in the way any more of what was asked for.
                    if self.dialog == Some(Dialog::Close) && !self.jobs.has_long() {
                        self.dialog = None;
                        effects.extend(self.close(now));
                    }
                    effects
                }
                None => Vec::new(),
            },
            Event::EngineLost { reason } => {
                self.lose_engine(reason, now);
                Vec::new()
            }
        };
        effects.extend(self.follow_knobs(now));
        effects.extend(self.follow_demo_data(now));
        effects
    }

    /// What is measured or trained is rounded as suits the device, unless something else was chosen.
    fn take_engine(&mut self, choice: EngineChoice, now: f64) {
        let before = self.engine_choice.as_ref().map(|it| it.device).unwrap_or_default();
        let (old, new) = (before.measuring_dtype(), choice.device.measuring_dtype());
        for dtype in [&mut self.sweeps.form.dtype, &mut self.trainings.form.dtype] {
            if *dtype == old {
                *dtype = new;
            }
        }
        if choice.is_fallback && before != EngineDevice::Cpu {
            let text = format!("The engine runs on the CPU now: {}", choice.reason);
            self.notices.info(text, now);
        }
        self.engine_choice = Some(choice);
    }

    fn lose_engine(&mut self, reason: String, now: f64) {
        let was_useful = std::mem::take(&mut self.weights.has_been_ready);
        self.weights.forget_held();
        self.lose_trainings();
        if was_useful && now - self.last_lost > SECS_TO_TRUST {
            self.weights.retry();
            let text = format!("The engine stopped: {reason}. It is being started again.");
            self.notices.info(text, now);
        } else if self.weights.error.is_none() {
            let summary = format!("The engine stopped again: {reason}");
            let hint = "Try again; if it stops each time, its log says more";
            self.weights.error = Some(UserError::new(summary, hint));
        }
        self.last_lost = now;
        self.engine = EngineState::Lost { reason };
    }

    fn learn(&mut self, job_id: JobId, fact: Fact, now: f64) -> Vec<Effect> {
        let Some(job) = self.jobs.get(job_id).filter(|job| !job.is_unwanted()) else {
            return Vec::new();
        };
        let purpose = job.purpose.clone();
        match (purpose, fact) {
            (Purpose::Prepare { setup, knobs }, Fact::Ready(loaded)) => {
                return self.hold(&setup, &knobs, *loaded, now);
            }
            (Purpose::Answer { setup, knobs }, Fact::Ready(loaded)) => {
                if let Some(answer) = &mut self.conversation.answer {
                    answer.message.recipe = Some(loaded.recipe.clone());
                }
                let mut effects = self.hold(&setup, &knobs, *loaded, now);
                // By now the chat is in the workspace.
                effects.push(self.start(Purpose::Chats, meav_protocol::JobSpec::ListChats, now));
                return effects;
            }
            (Purpose::Answer { .. }, Fact::Text { text, tokens }) => {
                self.conversation.push_text(&text, tokens, now);
            }
            (Purpose::Answer { .. }, Fact::Reply(reply)) => self.conversation.complete(reply),
            (Purpose::Open { expected, path }, Fact::Described(found)) => {
                return self.opened(path, expected, found, now);
            }
            (Purpose::OpenRecipe { path }, Fact::Recipe(recipe)) => {
                self.recipe_read(job_id, path, *recipe, now);
            }
            (Purpose::Locate { index, path }, Fact::Described(found)) => {
                return self.located(job_id, index, path, &found, now);
            }
            (Purpose::Plan, Fact::Plan(plan)) => self.planned(job_id, plan),
            (Purpose::SaveRecipe, Fact::Written { path, summary }) => {
                self.notices.info(format!("Saved {summary} as {}", path.display()), now);
                self.remember_recipe(path);
            }
            (Purpose::Describe(knob), Fact::Described(found)) => {
                self.details.described.insert(knob, Ok(found));
            }
            (Purpose::LoadChat { reveal }, Fact::Chat(Some(chat))) => {
                self.conversation.show(chat, reveal);
            }
            (Purpose::Chats, Fact::Chats(chats)) => {
                self.library.chats = Some(chats);
                self.library.error = None;
            }
            (Purpose::Search(words), Fact::Found(hits)) => {
                self.library.found = Some((words, hits));
            }
            (Purpose::Audit, Fact::Audit(entries)) => self.details.audit = entries,
            (Purpose::Compare, Fact::Compared(comparison)) => self.vectors.show(comparison),
            (Purpose::Make { .. }, Fact::Compressed(report)) => {
                self.vectors.found.entry(job_id).or_default().compressed = Some(report);
            }
            (Purpose::Make { .. }, Fact::Separated(report)) => {
                self.vectors.found.entry(job_id).or_default().separated = Some(report);
            }
            (Purpose::Make { .. }, Fact::Written { path, summary }) => {
                self.vectors.found.entry(job_id).or_default().written.push((path, summary));
            }
            (Purpose::Convert(_), Fact::Written { path, .. }) => self.converted(path, now),
            (Purpose::Merge(_) | Purpose::Export, Fact::Written { path, summary }) => {
                self.notices.info(format!("Saved {summary} as {}", path.display()), now);
            }
            (_, Fact::Unloaded) => self.weights.forget_held(),
            (_, Fact::Unkept(what)) => {
                let hint = "Check that the disk is not full and the folder can be written";
                self.notices.error(UserError::new(what, hint));
            }
            (_, Fact::Note(note)) => self.notices.info(note, now),
            (_, Fact::LeftOut { file, problems, total }) => {
                self.notices.info(left_out(&file, &problems, total), now);
            }
            (Purpose::Sweep(job), fact) => return self.learn_sweep(job, fact, now),
            (Purpose::Train(job), fact) => return self.learn_training(job_id, job, fact, now),
            (Purpose::Data(work), fact) => self.learn_data(job_id, work, fact),
            (Purpose::Judge(work), fact) => self.learn_judge(job_id, work, fact),
            _ => {}
        }
        Vec::new()
    }

    fn converted(&mut self, path: PathBuf, now: f64) {
        let text = format!("Converted as {}; it is in the menu of models", path.display());
        self.notices.info(text, now);
        self.remember(path, FileKind::Model);
    }

    fn hold(
        &mut self,
        setup: &Setup,
        knobs: &[KnobId],
        loaded: LoadedModel,
        now: f64,
    ) -> Vec<Effect> {
        let before = self.weights.held.as_ref();
        let is_new = before.is_none_or(|it| it.recipe.fingerprint != loaded.recipe.fingerprint);
        self.weights.hold(setup, knobs, loaded);
        let mut effects: Vec<_> = self.describe_selected(now).into_iter().collect();
        if is_new {
            effects.push(self.list_audit(now));
        }
        effects
    }

    /// A path turned out to be a model, a vector or data.
    fn opened(
        &mut self,
        path: PathBuf,
        expected: Option<FileKind>,
        found: Description,
        now: f64,
    ) -> Vec<Effect> {
        if self.wants_sweep_data(&found) {
            return self.add_sweep_data(path, now);
        }
        if self.wants_train_data(&found) {
            return self.add_train_data(path, now);
        }
        let kind = match (expected, found.kind) {
            (None, FileKind::Model) if self.has_other_model(&path) => {
                self.ask_later(Dialog::UseAs { path });
                return Vec::new();
            }
            // A model can stand for what it has beyond the one that is loaded.
            (Some(FileKind::Vector), FileKind::Model) => {
                let text = "That is a model: what it has beyond this one was put on a knob";
                self.notices.info(text, now);
                FileKind::Vector
            }
            (_, kind) => kind,
        };
        match kind {
            FileKind::Recipe => self.notices.info("That is a recipe: use Open recipe…", now),
            FileKind::Data => {
                if expected.is_some_and(|expected| expected != FileKind::Data) {
                    self.notices.info("That is preference data: it is on the Data screen", now);
                }
                return self.open_data(path, now);
            }
            FileKind::Model => {
                self.remember(path.clone(), kind);
                self.weights.set_model(path);
            }
            FileKind::Vector => {
                self.remember(path.clone(), kind);
                let before = self.weights.knobs.len();
                let id = self.weights.add(path);
                if self.weights.knobs.len() == before {
                    self.notices.info("That vector is on a knob already", now);
                }
                self.weights.selected = Some(id);
                if let Some(knob) = self.weights.knob_mut(id) {
                    knob.fault = None;
                }
                self.details.described.insert(id, Ok(found));
            }
        }
        if (expected, kind) == (Some(FileKind::Model), FileKind::Vector) {
            self.notices.info("That is a vector: it was put on a knob", now);
        }
        Vec::new()
    }

    /// Whether a model is loaded, and it is not the one at this path.
    fn has_other_model(&self, path: &Path) -> bool {
        let is_other = |held: &LoadedModel| held.path != path && self.weights.model != path;
        self.weights.held.as_ref().is_some_and(is_other)
    }

    fn finished(&mut self, job: Job, outcome: Outcome, now: f64) -> Vec<Effect> {
        let mut effects: Vec<_> = self.tell_desktop(&job, &outcome, now).into_iter().collect();
        match (job.purpose, outcome) {
            (Purpose::Prepare { setup, knobs }, outcome) => {
                self.weights.in_flight = None;
                match outcome {
                    Outcome::Failed(err) => {
                        // Its place is the knobs panel; where that is not shown, over the chat.
                        if !self.settings.panels.knobs {
                            self.notices.error(err.clone());
                        }
                        self.weights.refuse(&setup, &knobs, err);
                    }
                    Outcome::Cancelled => self.weights.leave(),
                    Outcome::Done => self.weights.settle(setup),
                }
            }
            (Purpose::Answer { setup, knobs }, outcome) => {
                if let Outcome::Failed(err) = &outcome
                    && err.about.is_some()
                {
                    self.weights.refuse(&setup, &knobs, err.clone());
                }
                // A failure in another chat has no place on the screen but over it.
                if let Some(err) = self.conversation.end_answer(&outcome) {
                    self.notices.error(err);
                }
                effects.push(self.start(Purpose::Chats, meav_protocol::JobSpec::ListChats, now));
            }
            (Purpose::FetchDemo, Outcome::Done) => {
                self.weights.retry();
                self.conversation.error.take_if(|(_, err)| err.remedy == Some(Remedy::FetchDemo));
            }
            (Purpose::FetchDemo, Outcome::Failed(err)) => self.weights.error = Some(err),
            (Purpose::Describe(knob), Outcome::Failed(err)) => {
                self.details.described.insert(knob, Err(err));
            }
            (
                Purpose::Chats | Purpose::LoadChat { .. } | Purpose::Search(_),
                Outcome::Failed(err),
            ) => {
                if !self.settings.panels.chats {
                    self.notices.error(err.clone());
                }
                self.library.error = Some(err);
            }
            (Purpose::Compare, outcome) => self.end_comparison(job.id, outcome),
            (Purpose::Sweep(it), outcome) => {
                effects.extend(self.end_sweep_job(job.id, it, outcome, now));
            }
            (Purpose::Train(it), outcome) => {
                effects.extend(self.end_train_job(job.id, it, outcome, now));
            }
            (Purpose::Make { dialog, name, files }, outcome) => {
                self.end_making(job.id, (dialog, name, files), outcome, now);
                effects.push(self.list_audit(now));
            }
            (Purpose::Data(work), outcome) => {
                effects.extend(self.end_data(job.id, work, outcome, now));
            }
            (Purpose::Judge(work), outcome) => self.end_judge(job.id, &work, outcome),
            (Purpose::Locate { index, .. }, outcome) => self.end_look(job.id, index, outcome),
            (Purpose::Plan, outcome) => self.end_plan(job.id, outcome),
            (Purpose::OpenRecipe { .. }, outcome) => {
                let was_reread = self.end_reread(job.id, &outcome);
                if !was_reread {
                    self.end_path_dialog(job.id, None, outcome);
                }
            }
            (Purpose::Merge(dialog) | Purpose::Convert(dialog), outcome) => {
                self.end_path_dialog(job.id, Some(*dialog), outcome);
                effects.push(self.list_audit(now));
            }
            (Purpose::Open { .. } | Purpose::Export | Purpose::SaveRecipe, outcome) => {
                self.end_path_dialog(job.id, None, outcome);
                effects.push(self.list_audit(now));
            }
            _ => {}
        }
        effects
    }

    /// Closes the dialog that asked for a path, or says in it what is wrong with it; where it has
    /// closed before, `begun` is what was entered.
    pub(super) fn end_path_dialog(
        &mut self,
        job: JobId,
        begun: Option<PathDialog>,
        outcome: Outcome,
    ) {
        let asked = match &mut self.dialog {
            Some(Dialog::Path(dialog)) if dialog.job == Some(job) => Some(dialog),
            _ => None,
        };
        match (asked, outcome) {
            (Some(dialog), Outcome::Failed(err)) => (dialog.job, dialog.error) = (None, Some(err)),
            (Some(_), _) => self.dialog = None,
            (None, Outcome::Failed(err)) => match begun {
                Some(dialog) => {
                    let dialog = PathDialog { error: Some(err.clone()), ..dialog };
                    self.notices.failed(err, Dialog::Path(dialog));
                }
                None => self.notices.error(err),
            },
            (None, _) => {}
        }
    }

    /// A message of the desktop at the end of a long job, for someone who is looking elsewhere.
    fn tell_desktop(&self, job: &Job, outcome: &Outcome, now: f64) -> Option<Effect> {
        let is_unseen = self.is_hidden || !self.is_focused;
        let took_long = now - job.started >= SECS_OF_LONG_JOB;
        if !(self.settings.notifications && is_unseen && took_long) {
            return None;
        }
        let title = job.title()?.to_owned();
        let body = match outcome {
            Outcome::Done => "Done".to_owned(),
            Outcome::Failed(UserError { summary, .. }) => format!("Failed: {summary}"),
            Outcome::Cancelled => return None,
        };
        Some(Effect::Notify { title, body })
    }
}

/// Which records a job goes on without.
fn left_out(file: &str, problems: &[DataProblem], total: usize) -> String {
    let records = if total == 1 { "1 record".to_owned() } else { format!("{total} records") };
    let first = problems.first().map(|it| format!("; line {}: {}", it.line, it.reason));
    format!("{records} of {file} left out{}", first.unwrap_or_default())
}
