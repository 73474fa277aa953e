use std::path::PathBuf;

/// Something on the Data screen.
#[derive(Clone, Debug, PartialEq)]
pub enum DataAction {
    /// Reads a file and shows what it holds.
    Open(PathBuf),
    /// Reads the file again, or asks again for the names of the demo's.
    Retry,
    /// Shows the file as a whole, or its records.
    Show(DataTab),
    /// The words that shown records have in them.
    SetSearch(String),
    /// Shows the record at this place among those that were found.
    Select(usize),
    /// What is typed before the file is split.
    SetSplit(SplitDraft),
    /// Asks the system's own dialog for the folder to split the file into.
    BrowseSplit,
    /// Takes what a split has written off the screen.
    DismissWritten,
    /// Takes what the file shares with another off the screen.
    DismissLeakage,
    /// Has the file's queries answered and judged.
    Judge,
}

/// What the Data screen shows of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DataTab {
    /// What it holds as a whole.
    #[default]
    Overview,
    /// Its records, one by one.
    Records,
}

/// What is asked before a file is split.
#[derive(Clone, Debug, PartialEq)]
pub struct SplitDraft {
    /// The share of records for testing.
    pub test: f64,
    /// The share of records for validation.
    pub validation: f64,
    /// The same seed splits the same way.
    pub seed: u64,
    /// The folder to write to.
    pub folder: String,
}

impl SplitDraft {
    /// What is still wanted before it can begin; `None` if nothing is.
    pub(crate) fn missing(&self) -> Option<&'static str> {
        if self.test + self.validation > 0.995 {
            Some("Leave some records for training")
        } else if self.test + self.validation <= 0.0 {
            Some("Give testing or validation a share")
        } else if self.folder.trim().is_empty() {
            Some("Name the folder to write to")
        } else {
            None
        }
    }
}
