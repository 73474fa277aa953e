use std::fmt;

use serde::{Deserialize, Serialize};

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
