use std::fs::File;

use csv_core::ReadRecordResult;
use meav_job::JobCtx;
use serde_json::{Map, Value};

use super::source::Source;
use crate::collector::Collector;
use crate::{DamageReason, DataError, MAX_RECORD_BYTES, ProblemKind};

/// Columns of the levels' shape that are never a level.
const METADATA: [&str; 8] =
    ["id", "domain", "method", "persona", "query", "levels", "source", "license"];

/// Columns that name a shape.
const KEYS: [&str; 5] = ["query", "prompt", "response_0", "chosen", "rejected"];

/// Columns whose cells may be JSON: messages, or the list of levels.
const LISTS: [&str; 5] = ["query", "prompt", "chosen", "rejected", "levels"];

/// A header and one row per record.
///
/// Where the header has neither `response_0` nor `chosen`, its rows are records with levels, and
/// the levels are, in the order of the columns: all columns `responses.NAME`; if there is none, all
/// columns `response_NAME`; if there is none, all columns that are not metadata (`id`, `domain`,
/// `method`, `persona`, `query`, `levels`, `source`, `license`).
///
/// An empty cell is a missing value, but an empty response in the column of a level. A row of
/// nothing but empty cells is passed over. Messages and the list `levels` are cells of JSON.
pub(crate) fn read(
    file: File,
    size: u64,
    collector: &mut Collector<'_>,
    job: &JobCtx<'_>,
) -> Result<(), DataError> {
    let mut rows = Rows::new(Source::new(file, size, collector.path, job)?);
    let damaged = |source| DataError::Damaged { path: collector.path.to_owned(), source };
    let Some(header) = rows.next()? else { return Ok(()) };
    let columns = header
        .cells()
        .map_err(|_kind| damaged(DamageReason::Header { limit: MAX_RECORD_BYTES }))?;
    let columns = Column::all(&columns).map_err(damaged)?;
    while !collector.is_full() {
        let Some(row) = rows.next()? else { break };
        match row.cells() {
            Ok(cells) if cells.iter().all(|cell| cell.is_empty()) => {}
            Ok(cells) if cells.len() != columns.len() => {
                let (expected, found) = (columns.len(), cells.len());
                collector.refuse(row.line, None, ProblemKind::CellCount { expected, found })?;
            }
            Ok(cells) => collector.take(row.line, object(&columns, &cells), None)?,
            Err(kind) => collector.refuse(row.line, None, kind)?,
        }
    }
    Ok(())
}

/// Whether a file that begins with this line is likely to be CSV.
pub(crate) fn is_header(line: &str) -> bool {
    let mut names = line.split(',').map(|name| name.trim().trim_matches('"'));
    line.contains(',') && names.any(|name| KEYS.contains(&name))
}

/// What a cell becomes.
enum Column {
    /// A value of the record.
    Value(String),
    /// The response at a level.
    Level(String),
}

impl Column {
    fn all(names: &[&str]) -> Result<Vec<Self>, DamageReason> {
        for (index, name) in names.iter().enumerate() {
            if names[..index].contains(name) {
                return Err(DamageReason::DuplicateColumn { column: (*name).to_owned() });
            }
        }
        Ok(names.iter().map(|name| Self::new(name, names)).collect())
    }

    fn new(name: &str, names: &[&str]) -> Self {
        let begin = |prefix| names.iter().any(|name| name.starts_with(prefix));
        let is_metadata = METADATA.contains(&name);
        let level = if names.contains(&"response_0") || names.contains(&"chosen") {
            None
        } else if begin("responses.") {
            name.strip_prefix("responses.")
        } else if begin("response_") {
            name.strip_prefix("response_")
        } else {
            (names.contains(&"query") && !is_metadata).then_some(name)
        };
        level.map_or_else(|| Self::Value(name.to_owned()), |level| Self::Level(level.to_owned()))
    }
}

fn object(columns: &[Column], cells: &[&str]) -> Map<String, Value> {
    let mut object = Map::new();
    let mut responses = Map::new();
    for (column, cell) in columns.iter().zip(cells) {
        match column {
            Column::Level(level) => _ = responses.insert(level.clone(), (*cell).into()),
            Column::Value(name) => _ = object.insert(name.clone(), value(name, cell)),
        }
    }
    if !responses.is_empty() {
        object.insert("responses".to_owned(), responses.into());
    }
    object
}

fn value(name: &str, cell: &str) -> Value {
    if cell.is_empty() {
        return Value::Null;
    }
    let list = (LISTS.contains(&name) && cell.starts_with('['))
        .then(|| serde_json::from_str::<Vec<Value>>(cell).ok())
        .flatten()
        .filter(|list| name == "levels" || !list.is_empty() && list.iter().all(Value::is_object));
    list.map_or_else(|| cell.into(), Value::Array)
}

/// The rows of a file, each in bounded memory.
struct Rows<'a> {
    source: Source<'a>,
    reader: csv_core::Reader,
    line: usize,
    text: Vec<u8>,
    /// Where each cell ends in the text.
    ends: Vec<usize>,
}

struct Row<'a> {
    line: usize,
    /// In the file, with quotes and the end of the line.
    length: u64,
    text: &'a [u8],
    ends: &'a [usize],
}

impl Row<'_> {
    fn cells(&self) -> Result<Vec<&str>, ProblemKind> {
        if self.length > MAX_RECORD_BYTES as u64 {
            return Err(ProblemKind::TooLong { length: self.length, limit: MAX_RECORD_BYTES });
        }
        // The whole is looked at first: two halves of a letter are not one.
        super::utf8(self.text)?;
        let starts = [0].into_iter().chain(self.ends.iter().copied());
        starts.zip(self.ends).map(|(start, end)| super::utf8(&self.text[start..*end])).collect()
    }
}

impl<'a> Rows<'a> {
    fn new(source: Source<'a>) -> Self {
        let reader = csv_core::Reader::new();
        // A row of the greatest length fits, and if it is nothing but commas.
        let text = vec![0; MAX_RECORD_BYTES + 1];
        let ends = vec![0; MAX_RECORD_BYTES + 2];
        Self { source, reader, line: 1, text, ends }
    }

    fn next(&mut self) -> Result<Option<Row<'_>>, DataError> {
        self.skip_line_ends()?;
        let line = self.line;
        let (mut text_len, mut n_cells, mut length) = (0, 0, 0_u64);
        loop {
            let input = self.source.fill()?;
            let (result, consumed, written, ended) = self.reader.read_record(
                input,
                &mut self.text[text_len..],
                &mut self.ends[n_cells..],
            );
            self.line += super::line_breaks(&input[..consumed]);
            self.source.consume(consumed);
            length += consumed as u64;
            text_len += written;
            n_cells += ended;
            match result {
                ReadRecordResult::InputEmpty => {}
                // What is more than a record may have is read to be counted.
                ReadRecordResult::OutputFull => text_len = 0,
                ReadRecordResult::OutputEndsFull => n_cells = 0,
                ReadRecordResult::Record => {
                    let (text, ends) = (&self.text[..text_len], &self.ends[..n_cells]);
                    return Ok(Some(Row { line, length, text, ends }));
                }
                ReadRecordResult::End => return Ok(None),
            }
        }
    }

    /// Passes over empty lines, so that a row is counted from where it begins.
    fn skip_line_ends(&mut self) -> Result<(), DataError> {
        loop {
            let input = self.source.fill()?;
            let len = input.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            self.line += super::line_breaks(&input[..len]);
            self.source.consume(len);
            if len == 0 {
                return Ok(());
            }
        }
    }
}
