use meav_train::{CheckpointError, TrainError};

use super::{Words, capitalised, gigabytes, model, source_chain, weights, words};
use crate::error::EngineError;

const AFTER_DIVERGENCE: &str = "Begin a new run with a third of the learning rate, a longer \
     warm-up or a larger β; this one would come to the same again";

/// Why nothing can be trained, or not with this.
pub(super) fn training(err: &TrainError) -> Words {
    match err {
        TrainError::Setting { setting, value, allowed } => words(
            format!("The setting {} is {value}", setting.replace('_', " ")),
            format!("It must be {allowed}"),
        ),
        TrainError::Rank { rank, largest } => words(
            format!("The rank is {rank}, but no matrix of the model is larger than {largest}"),
            "Choose a small rank, such as 8",
        ),
        TrainError::UnknownTarget { target, known } => words(
            format!("No part of the model is called {target:?}"),
            format!("Choose among {}", known.join(", ")),
        ),
        TrainError::UnknownLevel { level, known, file } => words(
            format!("{} has no level {level:?}", file.display()),
            format!("Choose among {}", known.join(", ")),
        ),
        TrainError::OneLevel { level, file } => words(
            format!("{} has only one level, {level:?}: nothing is preferred", file.display()),
            "Training needs two or more responses to each query, at different levels",
        ),
        TrainError::NoRecords => words(
            "There is no data to train on",
            "Name a file of preference records, such as medical.train",
        ),
        TrainError::NoPairs { left_out, reason, file } => words(
            format!(
                "None of the {left_out} records of {} makes a pair; of the first, {reason}",
                file.display()
            ),
            "Choose other data, or allow longer texts",
        ),
        TrainError::NotFinite { step: 0, quantity, .. } => words(
            format!("The model can't be trained: the {quantity} is no number before any step"),
            "Train in f32, or check that the model answers as it should",
        ),
        TrainError::NotFinite { step, quantity, .. } => words(
            format!("The training has diverged: the {quantity} is no number in step {step}"),
            AFTER_DIVERGENCE,
        ),
        TrainError::Checkpoint { path, source } => checkpoint(path, source),
        TrainError::Model(err) => model(err),
        TrainError::Weights(err) => weights(err),
        err => (capitalised(&source_chain(err)), None),
    }
}

fn checkpoint(path: &std::path::Path, source: &CheckpointError) -> Words {
    let summary = format!("The run cannot go on from {}: {source}", path.display());
    let hint = match source {
        CheckpointError::OtherRun { .. } => "Resume with the settings that the run was begun with",
        CheckpointError::Format { .. } => "Install the newest version of this program",
        _ => "Check that the file can be read",
    };
    words(summary, hint)
}

/// Why a run can't begin, go on or end.
pub(super) fn training_run(err: &EngineError) -> Words {
    match err {
        EngineError::RunFolderNotEmpty { path } => words(
            format!("There is something in {} already", path.display()),
            "Choose another folder, or go on with the run that is in it (--resume)",
        ),
        EngineError::NoRun { path } => words(
            format!("There is no training run in {}", path.display()),
            "Check the folder, or begin a new run",
        ),
        EngineError::RunGoesOn { path } => words(
            format!("The training run in {} is going on", path.display()),
            "Wait for its end, or stop it first",
        ),
        EngineError::RunFinished { path, step } => words(
            format!("The run has come to its end after step {step}: there is nothing to resume"),
            format!("Its vector is {}", path.join("vector.safetensors").display()),
        ),
        EngineError::RunDiverged { path, step } => words(
            format!("The run in {} has diverged in step {step}", path.display()),
            AFTER_DIVERGENCE,
        ),
        EngineError::NoGoodCheckpoint { path, source } => words(
            format!(
                "No checkpoint of the run in {} can be used: {}",
                path.display(),
                source_chain(source)
            ),
            "They are renamed to .damaged; resume the run once more to begin it again",
        ),
        EngineError::OtherRun { path, what, there, here } => words(
            format!(
                "The run in {} was begun with another {what}: {there}, not {here}",
                path.display()
            ),
            "Resume it as it was begun, or begin a new run in another folder",
        ),
        EngineError::RunConfig { path, source } => words(
            format!("{} is no configuration of a training run: {source}", path.display()),
            "Begin a new run in another folder",
        ),
        EngineError::NothingTrained => words(
            "The run has not changed anything yet: there is no vector to keep",
            "Let it take more steps; the first one of a warm-up changes nothing",
        ),
        EngineError::TooLargeToTrain { needed, available, what_fits } => words(
            format!(
                "Training would take {} of memory, {} are free",
                gigabytes(*needed),
                gigabytes(*available)
            ),
            what_fits,
        ),
        err => (capitalised(&err.to_string()), None),
    }
}
