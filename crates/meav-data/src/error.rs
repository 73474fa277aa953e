use std::io;
use std::path::PathBuf;

use meav_job::Cancelled;
use parquet::errors::ParquetError;

use crate::{ProblemKind, Unit};

/// Why a file of records could not be read at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields are named in each message")]
pub enum DataError {
    /// The file is missing or unreadable.
    #[error("cannot read {path:?}")]
    Read { path: PathBuf, source: io::Error },

    /// A folder, a pipe, a device.
    #[error("not a file: {path:?}")]
    NotAFile { path: PathBuf },

    /// Neither the ending nor the beginning of the file says what it is.
    #[error("not a JSONL, JSON, CSV or Parquet file: {path:?}")]
    UnknownFormat { path: PathBuf },

    /// What holds the records together is broken.
    #[error("damaged file {path:?}")]
    Damaged { path: PathBuf, source: DamageReason },

    /// Its records would fill the memory.
    #[error("the records take more than {limit} bytes, in {path:?}")]
    TooLarge { limit: u64, path: PathBuf },

    /// There is nothing in it.
    #[error("no record in {path:?}")]
    Empty { path: PathBuf },

    /// No record in it is one that can be used.
    #[error("no usable record in {path:?}: {unit} {line}")]
    NoRecords { path: PathBuf, unit: Unit, line: usize, source: ProblemKind },

    /// So much is wrong that it is no file of records.
    #[error("{count} problems in {path:?}, first in {unit} {line}")]
    TooManyProblems { count: usize, path: PathBuf, unit: Unit, line: usize, source: ProblemKind },

    /// See [`Cancelled`].
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

/// What is broken about a file as a whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields are named in each message")]
pub enum DamageReason {
    /// Neither a list nor an object.
    #[error("JSON of records is a list, or an object with a list of objects in it")]
    NoList,
    /// Which of them is meant?
    #[error("there is more than one list of objects: {first:?} and {second:?}")]
    SeveralLists { first: String, second: String },
    /// JSONL under the name of JSON.
    #[error(
        "there is something after the end of the object; if it has one record per line, it is JSONL"
    )]
    SeveralValues,
    /// An object whose keys and values do not follow each other.
    #[error("the object around the list of records is broken on line {line}")]
    BrokenObject { line: usize },
    /// Two columns of one name.
    #[error("there are two columns {column:?}")]
    DuplicateColumn { column: String },
    /// A header that is no text.
    #[error("the header is not UTF-8, or longer than {limit} bytes")]
    Header { limit: usize },
    /// The part at the end that says what is where.
    #[error("the footer is broken")]
    Footer,
    /// Groups in groups in groups.
    #[error("columns are nested more than {limit} deep")]
    TooDeep { limit: usize },
    /// Sizes that cannot be.
    #[error("column {column:?} of row group {group} lies outside of the file")]
    OutsideFile { group: usize, column: String },
    /// A program that is not built in unpacks it.
    #[error("column {column:?} is packed by {codec}, only snappy, zstd and gzip can be unpacked")]
    Codec { column: String, codec: String },
    /// A page that would fill the memory.
    #[error("a page of column {column:?} of row group {group} is broken or too large")]
    Page { group: usize, column: String },
    /// The reader of Parquet files says so.
    #[error(transparent)]
    Parquet(#[from] ParquetError),
    /// The reader of Parquet files did not expect anything like it.
    #[error("{} is broken in a way that the reader of Parquet files does not know", place(*row))]
    ParquetPanic { row: Option<usize> },
}

fn place(row: Option<usize>) -> String {
    row.map_or_else(|| "the footer".to_owned(), |row| format!("row {row}"))
}
