//! Training, validation and test set of one file.

mod draw;
mod groups;
mod pick;

use std::fmt;

use crate::Dataset;

/// How to split.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SplitSpec {
    /// The share of all records that goes into the test set, such as 0.2.
    pub test: f64,
    /// The share of all records that goes into the validation set, such as 0.03.
    pub validation: f64,
    /// The same seed gives the same split, on every machine.
    pub seed: u64,
}

/// Which record goes where, by index into [`Dataset::records`], in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Split {
    pub train: Vec<usize>,
    pub validation: Vec<usize>,
    pub test: Vec<usize>,
    /// Groups of records that share a persona or a query, which no part cuts.
    pub groups: usize,
}

/// A part of a split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Part {
    Train,
    Validation,
    Test,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Train => "training",
            Self::Validation => "validation",
            Self::Test => "test",
        })
    }
}

/// Why a data set was not split.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields are named in each message")]
pub enum SplitError {
    /// Shares that leave nothing for training, or are none.
    #[error("the shares {test} and {validation} are not both 0 or more and less than 1 together")]
    Shares { test: f64, validation: f64 },
    /// Records that share a persona or a query stay together.
    #[error("nothing is left for the {part} set: the records form only {groups} separate groups")]
    EmptyPart { part: Part, groups: usize },
}

/// Splits the records at random, keeping those together that share a persona or a query, directly
/// or by way of others; personas and queries are compared as [`leakage`](crate::leakage) does.
///
/// The test set is drawn first, then the validation set; each comes as close to its share as the
/// groups allow, and none that was asked for is empty.
///
/// # Errors
///
/// [`SplitError`] where the shares are none, or there are too few groups.
pub fn split(dataset: &Dataset, spec: &SplitSpec) -> Result<Split, SplitError> {
    let SplitSpec { test, validation, seed } = *spec;
    let is_sound = test >= 0.0 && validation >= 0.0 && test + validation < 1.0;
    if !is_sound {
        return Err(SplitError::Shares { test, validation });
    }
    let mut groups = groups::groups(&dataset.records);
    let n_groups = groups.len();
    draw::shuffle(&mut groups, seed);
    let n_records = dataset.records.len();
    let reserved = usize::from(validation > 0.0);
    let test = pick::take(&mut groups, target(test, n_records), 1 + reserved);
    let validation_target = target(validation, n_records);
    let validation = pick::take(&mut groups, validation_target, 1);
    let part = |part: Part, groups: Option<Vec<Vec<usize>>>| {
        let groups = groups.ok_or(SplitError::EmptyPart { part, groups: n_groups })?;
        let mut records = groups.concat();
        records.sort_unstable();
        Ok(records)
    };
    let (test, validation) = (part(Part::Test, test)?, part(Part::Validation, validation)?);
    let train = part(Part::Train, (!groups.is_empty()).then_some(groups))?;
    Ok(Split { train, validation, test, groups: n_groups })
}

/// Records of a share; at least one unless nothing was asked for.
fn target(share: f64, n_records: usize) -> usize {
    let target = (share * n_records as f64).round() as usize;
    if share > 0.0 { target.max(1) } else { 0 }
}
