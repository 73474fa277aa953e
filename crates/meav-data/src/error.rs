use std::path::PathBuf;

/// Why records could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The file is missing or unreadable.
    #[error("cannot read {path:?}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A line is no record.
    #[error("line {line} of {path:?} is no preference record")]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        source: LineError,
    },
    /// There is no record in it.
    #[error("{path:?} has no records")]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// What is wrong with a line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LineError {
    /// It is not JSON, or a value has another type than its key wants.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// Its keys are those of no known shape.
    #[error(
        "it has neither \"query\" and \"responses\", nor \"prompt\" with \"response_0\" and \
         \"response_1\", nor \"prompt\", \"chosen\" and \"rejected\""
    )]
    UnknownShape,
    /// A query or a response without a letter.
    #[error("{0:?} is empty")]
    EmptyText(String),
    /// There is nothing to choose from.
    #[error("it has fewer than two responses")]
    TooFewResponses,
    /// A number that says which of two responses is better is another one.
    #[error("\"better_response_id\" is {0}, neither 0 nor 1")]
    ResponseId(u64),
}
