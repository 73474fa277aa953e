use std::collections::HashMap;
use std::path::Path;

use serde_json::{Map, Value};

use crate::read::ReadOptions;
use crate::shapes::{self, Parsed};
use crate::{DataError, Dataset, Format, PAIR_LEVELS, Problem, ProblemKind, Record, Responses};
use crate::{Shape, Unit};

/// What all records may take together, as text.
const MAX_TEXT_BYTES: u64 = 2 << 30;

/// Problems after which a file without a record is no file of records.
const MAX_PROBLEMS_BEFORE_RECORDS: usize = 10_000;

/// Problems after which nobody will look at them.
const MAX_PROBLEMS: usize = 1_000_000;

/// What the first usable record says about all the others.
#[derive(Debug)]
pub(crate) struct First {
    pub(crate) shape: Shape,
    pub(crate) unit: Unit,
    pub(crate) line: usize,
    /// Of its responses, in its order; empty for other shapes than levels.
    pub(crate) levels: Vec<String>,
}

/// Takes the records of a file as its reader finds them, and checks each against the others.
pub(crate) struct Collector<'a> {
    pub(crate) path: &'a Path,
    format: Format,
    limit: usize,
    first: Option<First>,
    /// The order that the first list `levels` asks for.
    listed: Option<Vec<String>>,
    lines: HashMap<String, usize>,
    /// The line of the latest object, and how many have begun on it.
    latest: (usize, usize),
    records: Vec<Record>,
    problems: Vec<Problem>,
    text_bytes: u64,
}

impl<'a> Collector<'a> {
    pub(crate) fn new(path: &'a Path, format: Format, options: ReadOptions) -> Self {
        Self {
            path,
            format,
            limit: options.limit,
            first: None,
            listed: None,
            lines: HashMap::new(),
            latest: (0, 0),
            records: Vec::new(),
            problems: Vec::new(),
            text_bytes: 0,
        }
    }

    /// Whether no more records are wanted.
    pub(crate) fn is_full(&self) -> bool {
        self.records.len() >= self.limit
    }

    /// Takes the record that begins at `line`, and the text of it if it is one line of JSON.
    pub(crate) fn take(
        &mut self,
        line: usize,
        mut object: Map<String, Value>,
        text: Option<&str>,
    ) -> Result<(), DataError> {
        self.latest = match self.latest {
            (latest, count) if latest == line => (line, count + 1),
            _ => (line, 1),
        };
        let id = shapes::id(&object);
        let own_id = id.clone().ok().flatten();
        match id.and_then(|id| self.check(line, id, &object)) {
            Ok((id, parsed)) => {
                let source = match text {
                    Some(text) if own_id.is_some() => text.to_owned(),
                    _ => {
                        object.insert("id".to_owned(), id.clone().into());
                        Value::Object(object).to_string()
                    }
                };
                self.keep(line, id, parsed, source)
            }
            Err(kind) => self.refuse(line, own_id, kind),
        }
    }

    /// Notes that what begins at `line` is no record.
    pub(crate) fn refuse(
        &mut self,
        line: usize,
        id: Option<String>,
        kind: ProblemKind,
    ) -> Result<(), DataError> {
        self.problems.push(Problem { line, id, kind });
        let limit =
            if self.records.is_empty() { MAX_PROBLEMS_BEFORE_RECORDS } else { MAX_PROBLEMS };
        if self.problems.len() < limit {
            return Ok(());
        }
        let count = self.problems.len();
        let Problem { line, kind: source, .. } = self.problems.swap_remove(0);
        let (path, unit) = (self.path.to_owned(), self.format.unit());
        Err(DataError::TooManyProblems { count, path, unit, line, source })
    }

    fn check(
        &mut self,
        line: usize,
        id: Option<String>,
        object: &Map<String, Value>,
    ) -> Result<(String, Parsed), ProblemKind> {
        let parsed = shapes::parse(object, self.first.as_ref())?;
        let id = id.unwrap_or_else(|| match self.latest {
            (_, 1) => format!("line-{line}"),
            (_, count) => format!("line-{line}-{count}"),
        });
        match self.lines.get(&id) {
            Some(first) => {
                Err(ProblemKind::DuplicateId { unit: self.format.unit(), first: *first })
            }
            None => Ok((id, parsed)),
        }
    }

    fn keep(
        &mut self,
        line: usize,
        id: String,
        parsed: Parsed,
        source: String,
    ) -> Result<(), DataError> {
        self.text_bytes += source.len() as u64;
        if self.text_bytes > MAX_TEXT_BYTES {
            return Err(DataError::TooLarge { limit: MAX_TEXT_BYTES, path: self.path.to_owned() });
        }
        let Parsed { shape, levels, listed, domain, method, persona, query, responses } = parsed;
        let unit = self.format.unit();
        self.first.get_or_insert(First { shape, unit, line, levels });
        self.listed = self.listed.take().or(listed);
        self.lines.insert(id.clone(), line);
        self.records.push(Record { line, id, domain, method, persona, query, responses, source });
        Ok(())
    }

    /// All that was found.
    pub(crate) fn finish(mut self, fingerprint: String) -> Result<Dataset, DataError> {
        let path = self.path.to_owned();
        let Some(First { shape, unit: _, line: _, levels }) = self.first else {
            let unit = self.format.unit();
            return Err(match self.problems.into_iter().next() {
                Some(Problem { line, kind: source, .. }) => {
                    DataError::NoRecords { path, unit, line, source }
                }
                None => DataError::Empty { path },
            });
        };
        let levels = match (shape, self.listed) {
            (Shape::Levels, Some(listed)) => {
                reorder(&mut self.records, &levels, &listed);
                listed
            }
            (Shape::Levels, None) => levels,
            (Shape::Pairs, _) => PAIR_LEVELS.map(str::to_owned).to_vec(),
            (Shape::SafeRlhf, _) => Vec::new(),
        };
        let (format, records, problems) = (self.format, self.records, self.problems);
        Ok(Dataset { path, fingerprint, format, shape, levels, records, problems })
    }
}

/// Brings responses from the order of the first record into that of the list.
fn reorder(records: &mut [Record], levels: &[String], listed: &[String]) {
    let order: Vec<_> =
        listed.iter().filter_map(|level| levels.iter().position(|other| other == level)).collect();
    for record in records {
        if let Responses::Levels(texts) = &mut record.responses {
            *texts = order.iter().map(|index| std::mem::take(&mut texts[*index])).collect();
        }
    }
}
