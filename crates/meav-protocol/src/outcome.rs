use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Dtype;

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It did what it was to do.
    Done,
    /// The user ended it; never an error.
    Cancelled,
    /// It could not do it.
    Failed(UserError),
}

/// An error in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserError {
    /// What is wrong, plainly, without a full stop.
    pub summary: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// What happened underneath, outermost first.
    pub detail: String,
    /// The file of the request that it is about, as the request named it.
    pub about: Option<PathBuf>,
    /// What would help and can be done at once.
    pub remedy: Option<Remedy>,
}

/// Something that a client can offer to do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Remedy {
    /// [`crate::JobSpec::FetchDemo`].
    FetchDemo,
    /// The same again with [`crate::ExportTarget::replace`].
    Replace,
    /// The same again with weights rounded to this type.
    UseDtype(Dtype),
}

impl UserError {
    /// An error that is about no file, with nothing underneath.
    pub fn new(summary: impl Into<String>, hint: impl Into<String>) -> Self {
        let (summary, hint) = (summary.into(), Some(hint.into()));
        Self { summary, hint, detail: String::new(), about: None, remedy: None }
    }
}

impl fmt::Display for UserError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.summary)?;
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {hint}")?;
        }
        if !self.detail.is_empty() && self.detail != self.summary {
            write!(f, "\ndetails: {}", self.detail)?;
        }
        Ok(())
    }
}

impl std::error::Error for UserError {}
