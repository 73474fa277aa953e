use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use meav_protocol::{Comparison, CompressReport, JobId, SeparateReport, UserError};

use crate::action::{CompareMeasure, KnobId};
use crate::form::{Form, FormFiles};

/// What the Vectors screen knows beyond the knobs.
#[derive(Debug, Default)]
pub(crate) struct Vectors {
    /// The knobs that a comparison leaves out.
    pub(crate) left_out: BTreeSet<KnobId>,
    /// How the vectors get in each other's way, as last asked for.
    pub(crate) comparison: Option<Comparison>,
    /// The job that compares.
    pub(crate) comparing: Option<JobId>,
    /// The files that were compared, or are to be, as they were asked for.
    pub(crate) compared: Vec<PathBuf>,
    /// Why the last comparison failed.
    pub(crate) error: Option<UserError>,
    /// What the map shows.
    pub(crate) measure: CompareMeasure,
    /// The two vectors whose map is shown, by their places in the comparison.
    pub(crate) pair: (usize, usize),
    /// The vector whose norms are shown, likewise.
    pub(crate) vector: usize,
    /// What jobs that make vectors have found so far.
    pub(crate) found: BTreeMap<JobId, Found>,
    /// The vector that was made last.
    pub(crate) made: Option<Made>,
}

/// What a job that makes a vector has found so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Found {
    pub(crate) written: Vec<(PathBuf, String)>,
    pub(crate) compressed: Option<CompressReport>,
    pub(crate) separated: Option<SeparateReport>,
}

/// A vector that was made.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Made {
    /// What was asked for.
    pub(crate) form: Form,
    /// What the vector is called.
    pub(crate) name: String,
    /// Its file.
    pub(crate) file: PathBuf,
    /// What was written, in words.
    pub(crate) summary: String,
    /// The file with what is shared.
    pub(crate) shared: Option<PathBuf>,
    /// What the compression has cost.
    pub(crate) compressed: Option<CompressReport>,
    /// How much it shares with others.
    pub(crate) separated: Option<SeparateReport>,
}

impl Vectors {
    /// A job that makes a vector has come to its end.
    pub(crate) fn take_made(
        &mut self,
        job: JobId,
        form: Form,
        name: String,
        files: FormFiles,
    ) -> &Made {
        let found = self.found.remove(&job).unwrap_or_default();
        let is_shared = |path: &PathBuf| files.shared_out.as_ref() == Some(path);
        let (shared, own): (Vec<_>, Vec<_>) =
            found.written.into_iter().partition(|(path, _)| is_shared(path));
        let (file, summary) = own.into_iter().next().unwrap_or((files.out, String::new()));
        self.made.insert(Made {
            form,
            name,
            file,
            summary,
            shared: shared.into_iter().next().map(|(path, _)| path),
            compressed: found.compressed,
            separated: found.separated,
        })
    }

    /// Another comparison: its first two vectors are shown first.
    pub(crate) fn show(&mut self, comparison: Comparison) {
        self.comparison = Some(comparison);
        self.error = None;
        (self.pair, self.vector) = ((0, 1), 0);
    }
}
