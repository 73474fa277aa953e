use std::path::PathBuf;

use meav_protocol::{DataRecord, DataReport, JobId, LeakageReport, RecordPage, UserError};

use crate::data_action::{DataTab, SplitDraft};

/// Records that are read at a time.
pub(crate) const RECORDS_ON_PAGE: usize = 50;

/// What the Data screen knows.
#[derive(Debug, Default)]
pub(crate) struct Data {
    /// The files that come with the demo.
    pub(crate) demo: DemoData,
    /// The file that is shown, as it was asked for.
    pub(crate) file: Option<PathBuf>,
    /// What it holds.
    pub(crate) report: Option<DataReport>,
    /// The job that reads it.
    pub(crate) reading: Option<JobId>,
    /// Why it could not be read.
    pub(crate) error: Option<UserError>,
    /// What is shown of it.
    pub(crate) tab: DataTab,
    /// What is looked for, as it is typed.
    pub(crate) search: String,
    /// Records that were read.
    pub(crate) page: Option<RecordPage>,
    /// The job that reads records.
    pub(crate) paging: Option<JobId>,
    /// Why records could not be read.
    pub(crate) page_error: Option<UserError>,
    /// The place of the shown record among those that were found.
    pub(crate) selected: usize,
    /// What it shares with a file for training.
    pub(crate) leakage: Option<(PathBuf, LeakageReport)>,
    /// What splitting has written.
    pub(crate) written: Vec<(PathBuf, String)>,
}

/// The files that come with the demo.
#[derive(Debug, Default)]
pub(crate) enum DemoData {
    /// Nobody has wanted them yet.
    #[default]
    Unasked,
    /// The engine has been asked.
    Asked,
    /// These.
    Known(Vec<PathBuf>),
    /// The engine could not tell.
    Failed(UserError),
}

impl DemoData {
    pub(crate) fn files(&self) -> &[PathBuf] {
        match self {
            Self::Known(files) => files,
            _ => &[],
        }
    }
}

impl Data {
    /// The record that is shown, if it has been read.
    pub(crate) fn record(&self) -> Option<&DataRecord> {
        let page = self.page.as_ref()?;
        page.records.get(self.selected.checked_sub(page.start)?)
    }

    /// Takes records that were read; the last one is shown where there are fewer than before.
    pub(crate) fn take_page(&mut self, page: RecordPage) {
        self.selected = self.selected.min(page.total.saturating_sub(1));
        self.page = Some(page);
        self.page_error = None;
    }
}

/// What a job does with data.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum DataWork {
    /// Names the files that come with the demo.
    ListDemo,
    /// Reads a file as a whole.
    Inspect,
    /// Reads records.
    Read,
    /// Looks for what the file shares with this one.
    FindLeakage { train: PathBuf },
    /// Splits a file; what was asked for, to begin again.
    Split(Box<SplitDialog>),
}

impl DataWork {
    /// What the user calls it; `None` for what is over before anyone could ask.
    pub(crate) fn title(&self) -> Option<&'static str> {
        match self {
            Self::ListDemo => None,
            Self::Inspect => Some("Reading the data"),
            Self::Read => Some("Reading records"),
            Self::FindLeakage { .. } => Some("Comparing data"),
            Self::Split(_) => Some("Splitting the data"),
        }
    }

    /// Whether it only looks for something.
    pub(crate) fn is_look(&self) -> bool {
        matches!(self, Self::Inspect | Self::Read | Self::FindLeakage { .. })
    }
}

/// The dialog that splits a file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SplitDialog {
    /// The file.
    pub(crate) data: PathBuf,
    /// Its records.
    pub(crate) records: Option<usize>,
    /// What is typed.
    pub(crate) draft: SplitDraft,
    /// The job that splits it.
    pub(crate) job: Option<JobId>,
    /// Why it could not be split.
    pub(crate) error: Option<UserError>,
}

impl SplitDialog {
    /// The names of the files that will be written, and the share of records in each.
    pub(crate) fn files(&self) -> Vec<(String, f64)> {
        let name = super::file_name(&self.data);
        let SplitDraft { test, validation, .. } = self.draft;
        let parts =
            [("train", 1.0 - test - validation), ("validation", validation), ("test", test)];
        let file = |(part, share)| (format!("{name}.{part}.jsonl"), share);
        parts.into_iter().filter(|(_, share)| *share > 0.0).map(file).collect()
    }
}
