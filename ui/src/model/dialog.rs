use std::path::PathBuf;

use meav_protocol::{JobId, MergeFormat, UserError};
use uuid::Uuid;

use super::data::SplitDialog;
use super::plan::PlanDialog;
use super::recipe::RecipeDialog;
use super::scope::ScopeDialog;
use super::sweep::SweepDialog;
use crate::action::PathPurpose;
use crate::form::Form;

/// Bytes of the largest file of a folder, unless someone says otherwise: where others split too.
pub(crate) const SHARD_BYTES: u64 = 5_000_000_000;

/// What is open over the window and waits for the user.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Dialog {
    /// Every command by its name.
    Palette {
        /// What is typed.
        text: String,
    },
    /// A path is asked for.
    Path(PathDialog),
    /// The knobs get a name.
    PresetName {
        /// What is typed.
        text: String,
    },
    /// Where in the model a vector is added.
    Scope(ScopeDialog),
    /// Something of the Sweep screen is to be agreed to.
    Sweep(SweepDialog),
    /// A training run is to be forgotten.
    ForgetTraining(Uuid),
    /// Parts of a recipe were not found.
    Recipe(RecipeDialog),
    /// What memory the model takes.
    Plan(PlanDialog),
    /// Theme, text size, keys and notifications.
    Settings,
    /// Version, engine and licence.
    About,
    /// The window is to close while a job runs.
    Close,
    /// What is wanted before a vector is made.
    Form(Box<FormDialog>),
    /// What is wanted before data are split.
    Split(SplitDialog),
    /// A model that was dropped may be a base model or a vector.
    UseAs {
        /// The model.
        path: PathBuf,
    },
}

/// A dialog that makes a vector.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FormDialog {
    /// What is typed and chosen.
    pub form: Form,
    /// The job that makes it.
    pub(crate) job: Option<JobId>,
    /// Why it could not be made.
    pub error: Option<UserError>,
    /// The paths to write that a dialog of the system has asked about already.
    pub(crate) agreed: Vec<String>,
}

impl FormDialog {
    pub(crate) fn new(form: Form) -> Self {
        Self { form, job: None, error: None, agreed: Vec::new() }
    }
}

/// A dialog that asks for a path.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PathDialog {
    /// What for.
    pub purpose: PathPurpose,
    /// What is typed.
    pub text: String,
    /// What is written, where it is a model.
    pub(crate) format: MergeFormat,
    /// The job that looks at it.
    pub(crate) job: Option<JobId>,
    /// What is wrong with it.
    pub error: Option<UserError>,
}

impl PathDialog {
    pub(crate) fn new(purpose: PathPurpose, text: impl Into<String>) -> Self {
        let format = MergeFormat::Folder { max_shard_bytes: SHARD_BYTES };
        Self { purpose, text: text.into(), format, job: None, error: None }
    }

    /// Whether the engine is looking at it.
    pub(crate) fn is_busy(&self) -> bool {
        self.job.is_some()
    }
}
