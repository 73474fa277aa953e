use crate::dataset::{Shape, Unit};

/// A record that was passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where the record begins, counted from 1 in [`Format::unit`](crate::Format::unit).
    pub line: usize,
    /// Its id, where it can be told.
    pub id: Option<String>,
    /// What is wrong with it.
    pub kind: ProblemKind,
}

/// What is wrong with a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields are named in each message")]
pub enum ProblemKind {
    /// It is cut short, say.
    #[error("not JSON: {reason}, at byte {byte}")]
    NotJson { reason: String, byte: usize },
    /// The list of records has no end, and perhaps this record has none.
    #[error("the file ends before the list of records does")]
    Unended,
    /// The list of records is over.
    #[error("there is something after the end of the list")]
    AfterList,
    /// Another encoding, or damage.
    #[error("not UTF-8, from byte {byte} on")]
    NotUtf8 { byte: usize },
    /// Of a size that no record has.
    #[error("{length} bytes long, the limit is {limit}")]
    TooLong { length: u64, limit: usize },
    /// JSON, but a list, a text, a number.
    #[error("not an object")]
    NotAnObject,
    /// More or fewer cells than the header.
    #[error("it has {found} cells, the header has {expected}")]
    CellCount { expected: usize, found: usize },
    /// Its keys are those of no known shape.
    #[error(
        "it has neither \"query\" and \"responses\", nor \"prompt\", \"response_0\" and \
         \"response_1\", nor \"chosen\" and \"rejected\""
    )]
    UnknownShape,
    /// Files do not mix shapes.
    #[error("it has the shape {found}, the first record ({unit} {line}) has {expected}")]
    OtherShape { expected: Shape, found: Shape, unit: Unit, line: usize },
    /// A key of its shape is not there, or null.
    #[error("{key:?} is missing")]
    MissingKey { key: String },
    /// A number where there should be text, say.
    #[error("{key:?} is not {expected}")]
    WrongType { key: String, expected: &'static str },
    /// A level of the other records.
    #[error("there is no response at level {level:?}, which the first record ({unit} {line}) has")]
    MissingLevel { level: String, unit: Unit, line: usize },
    /// A level that the other records don't have.
    #[error("there is a response at level {level:?}, which the first record ({unit} {line}) lacks")]
    UnknownLevel { level: String, unit: Unit, line: usize },
    /// The record's own list says otherwise.
    #[error("\"levels\" does not name the levels of the responses: {level:?}")]
    OtherLevels { level: String },
    /// There is nothing to choose from.
    #[error("it has fewer than two responses")]
    TooFewResponses,
    /// What is between the braces can't be levels.
    #[error("it has {n} responses, more than {limit}")]
    TooManyLevels { n: usize, limit: usize },
    /// Nothing is asked.
    #[error("the query is empty")]
    EmptyQuery,
    /// Nothing is answered.
    #[error("the response {level:?} is empty")]
    EmptyResponse { level: String },
    /// The first of that name counts.
    #[error("{unit} {first} has the same id")]
    DuplicateId { unit: Unit, first: usize },
    /// It should name one of two responses.
    #[error("{key:?} is {found}, neither 0 nor 1")]
    NotZeroOrOne { key: String, found: String },
    /// Messages that go on after the response, or have none.
    #[error("{key:?} is not one turn of the assistant after what both begin with")]
    NoAssistantTurn { key: String },
}
