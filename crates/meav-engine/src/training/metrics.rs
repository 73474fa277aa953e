//! What is measured at each step, under TRL's names: a table, and TensorBoard's events.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use meav_protocol::{Rewards, TrainStep, TrainValidation};
use meav_weights::write_file_atomically;

use super::tfevents::{self, EventFile};
use crate::error::EngineError;

/// The table and the events of a run.
pub(crate) struct Metrics {
    table: PathBuf,
    events: EventFile,
}

impl Metrics {
    /// Goes on behind `step` in a run's folder, 0 for a new run; what came after it is forgotten.
    pub(crate) fn open(folder: &Path, step: usize) -> Result<Self, EngineError> {
        let table = folder.join("metrics.csv");
        cut_table_back(&table, step)?;
        tfevents::cut_back(folder, step)?;
        let events = EventFile::create(folder, Timestamp::now())?;
        Ok(Self { table, events })
    }

    /// A step.
    pub(crate) fn add_step(&mut self, step: &TrainStep) -> Result<(), EngineError> {
        self.add_row(&row(step, None))?;
        let scalars = step_scalars(step).map(|(name, value)| (format!("train/{name}"), value));
        self.events.add(Timestamp::now(), step.step, &Vec::from(scalars))
    }

    /// What was measured on the pairs held back, after the step `last`, whose row it joins; the
    /// table has no row for what was measured before the first step.
    pub(crate) fn add_validation(
        &mut self,
        it: &TrainValidation,
        last: Option<&TrainStep>,
    ) -> Result<(), EngineError> {
        if let Some(last) = last {
            cut_table_back(&self.table, last.step - 1)?;
            self.add_row(&row(last, Some(it)))?;
        }
        let scalars = validation_scalars(it).map(|(name, value)| (format!("eval/{name}"), value));
        self.events.add(Timestamp::now(), it.step, &Vec::from(scalars))
    }

    fn add_row(&self, row: &str) -> Result<(), EngineError> {
        let opened = OpenOptions::new().append(true).open(&self.table);
        // Written at once, so that a kill leaves the whole row or none of it.
        let written = opened.and_then(|mut table| table.write_all(row.as_bytes()));
        written.map_err(|source| EngineError::Write { path: self.table.clone(), source })
    }
}

/// All but the step itself, in the order of the table's columns.
fn step_scalars(step: &TrainStep) -> [(&'static str, f64); 12] {
    let [chosen, rejected, margins, accuracies, chosen_log_prob, rejected_log_prob] =
        reward_scalars(&step.rewards);
    [
        ("epoch", step.epoch),
        ("loss", step.loss),
        chosen,
        rejected,
        margins,
        accuracies,
        chosen_log_prob,
        rejected_log_prob,
        ("grad_norm", step.grad_norm),
        ("learning_rate", step.learning_rate),
        ("num_tokens", step.num_tokens as f64),
        ("tokens_per_second", step.tokens_per_second),
    ]
}

fn validation_scalars(validation: &TrainValidation) -> [(&'static str, f64); 7] {
    let [chosen, rejected, margins, accuracies, chosen_log_prob, rejected_log_prob] =
        reward_scalars(&validation.rewards);
    let loss = ("loss", validation.loss);
    [loss, chosen, rejected, margins, accuracies, chosen_log_prob, rejected_log_prob]
}

fn reward_scalars(rewards: &Rewards) -> [(&'static str, f64); 6] {
    [
        ("rewards/chosen", rewards.chosen),
        ("rewards/rejected", rewards.rejected),
        ("rewards/margins", rewards.margins),
        ("rewards/accuracies", rewards.accuracies),
        ("logps/chosen", rewards.chosen_log_prob),
        ("logps/rejected", rewards.rejected_log_prob),
    ]
}

fn header() -> String {
    let steps = step_scalars(&TrainStep::default()).map(|(name, _)| name.to_owned());
    let validations = validation_scalars(&TrainValidation::default());
    let validations = validations.map(|(name, _)| format!("eval_{name}"));
    let names = std::iter::once("step".to_owned()).chain(steps).chain(validations);
    names.collect::<Vec<_>>().join(",") + "\n"
}

fn row(step: &TrainStep, validation: Option<&TrainValidation>) -> String {
    let steps = step_scalars(step).map(|(_, value)| value.to_string());
    let of = |it: &TrainValidation| validation_scalars(it).map(|(_, value)| value.to_string());
    let validations = validation.map_or_else(Default::default, of);
    let fields = std::iter::once(step.step.to_string()).chain(steps).chain(validations);
    fields.collect::<Vec<_>>().join(",") + "\n"
}

/// Leaves the rows up to `step`; begins a table where there is none.
fn cut_table_back(path: &Path, step: usize) -> Result<(), EngineError> {
    let before = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(err) if err.kind() == io::ErrorKind::NotFound => String::new(),
        Err(source) => return Err(EngineError::Read { path: path.to_owned(), source }),
    };
    let header = header();
    let is_kept = |line: &&str| {
        let place = line.split(',').next().and_then(|field| field.parse::<usize>().ok());
        let is_whole = line.ends_with('\n') && line.matches(',').count() == commas(&header);
        is_whole && place.is_some_and(|place| place <= step)
    };
    let rows = before.split_inclusive('\n').filter(is_kept);
    let kept: String = std::iter::once(header.as_str()).chain(rows).collect();
    if kept == before {
        return Ok(());
    }
    write_file_atomically(path, |file| {
        let failed = |source| EngineError::Write { path: path.to_owned(), source };
        file.write_all(kept.as_bytes()).map_err(failed)
    })
}

fn commas(line: &str) -> usize {
    line.matches(',').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(step: usize) -> TrainStep {
        let rewards = Rewards { margins: -0.1, ..Rewards::default() };
        TrainStep {
            step,
            loss: 25.0,
            rewards,
            learning_rate: 5e-4,
            num_tokens: 1200,
            ..TrainStep::default()
        }
    }

    #[test]
    fn table_has_the_columns_of_trl_and_one_row_per_step() {
        let folder = tempfile::tempdir().unwrap();
        let mut metrics = Metrics::open(folder.path(), 0).unwrap();
        let validation = TrainValidation { step: 2, loss: 24.5, ..TrainValidation::default() };
        let before = TrainValidation { step: 0, ..validation };
        metrics.add_validation(&before, None).unwrap();
        metrics.add_step(&step(1)).unwrap();
        metrics.add_step(&step(2)).unwrap();
        metrics.add_validation(&validation, Some(&step(2))).unwrap();
        metrics.add_step(&step(3)).unwrap();
        assert_eq!(
            fs::read_to_string(&metrics.table).unwrap(),
            "step,epoch,loss,rewards/chosen,rewards/rejected,rewards/margins,rewards/accuracies,\
             logps/chosen,logps/rejected,grad_norm,learning_rate,num_tokens,tokens_per_second,\
             eval_loss,eval_rewards/chosen,eval_rewards/rejected,eval_rewards/margins,\
             eval_rewards/accuracies,eval_logps/chosen,eval_logps/rejected\n\
             1,0,25,0,0,-0.1,0,0,0,0,0.0005,1200,0,,,,,,,\n\
             2,0,25,0,0,-0.1,0,0,0,0,0.0005,1200,0,24.5,0,0,0,0,0,0\n\
             3,0,25,0,0,-0.1,0,0,0,0,0.0005,1200,0,,,,,,,\n"
        );
    }

    #[test]
    fn resumed_table_forgets_what_came_after_the_checkpoint_and_what_was_torn() {
        let folder = tempfile::tempdir().unwrap();
        let mut metrics = Metrics::open(folder.path(), 0).unwrap();
        let mut expected = String::new();
        for place in 1..=5 {
            metrics.add_step(&step(place)).unwrap();
            if place == 3 {
                expected = fs::read_to_string(&metrics.table).unwrap();
            }
        }
        let whole = fs::read_to_string(&metrics.table).unwrap();
        fs::write(&metrics.table, &whole[..whole.len() - 4]).unwrap();
        let mut metrics = Metrics::open(folder.path(), 3).unwrap();
        assert_eq!(fs::read_to_string(&metrics.table).unwrap(), expected);
        for place in 4..=5 {
            metrics.add_step(&step(place)).unwrap();
        }
        assert_eq!(fs::read_to_string(&metrics.table).unwrap(), whole);
    }
}
