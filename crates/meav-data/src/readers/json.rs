use std::fs::File;
use std::io::Read as _;

use meav_job::JobCtx;

use super::BYTE_ORDER_MARK;
use crate::collector::Collector;
use crate::{DamageReason, DataError, MAX_RECORD_BYTES, ProblemKind};

/// A file of JSON is held in memory.
const MAX_FILE_BYTES: u64 = 2 << 30;

/// How often a job is asked.
const ELEMENTS_PER_TICK: usize = 64;

/// A list of objects, or an object with one list of objects in it.
///
/// Where an element ends is told by brackets and quotes alone, so that one that is no JSON does not
/// take the next ones with it.
pub(crate) fn read(
    file: File,
    size: u64,
    collector: &mut Collector<'_>,
    job: &JobCtx<'_>,
) -> Result<(), DataError> {
    let path = collector.path.to_owned();
    let mut bytes = Vec::new();
    let length = file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes);
    length.map_err(|source| DataError::Read { path: path.clone(), source })?;
    if size.max(bytes.len() as u64) > MAX_FILE_BYTES {
        return Err(DataError::TooLarge { limit: MAX_FILE_BYTES, path });
    }
    let mut scanner = Scanner::new(bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&bytes));
    let is_alone = match scanner.peek() {
        None => return Ok(()),
        Some(b'[') => true,
        Some(b'{') => {
            let list = only_list(&mut scanner);
            scanner = list.map_err(|source| DataError::Damaged { path, source })?;
            false
        }
        Some(_) => return Err(DataError::Damaged { path, source: DamageReason::NoList }),
    };
    scanner.position += 1;
    elements(scanner, is_alone, collector, job)
}

fn elements(
    mut scanner: Scanner<'_>,
    is_alone: bool,
    collector: &mut Collector<'_>,
    job: &JobCtx<'_>,
) -> Result<(), DataError> {
    let mut count = 0;
    while !collector.is_full() {
        if count % ELEMENTS_PER_TICK == 0 {
            job.tick(scanner.position, scanner.bytes.len())?;
        }
        count += 1;
        let next = scanner.peek();
        let line = scanner.line();
        match next {
            None => return collector.refuse(line, None, ProblemKind::Unended),
            Some(b']') => break,
            Some(b',') => scanner.position += 1,
            Some(_) => {
                let start = scanner.position;
                let is_ended = scanner.skip_value();
                let element = scanner.bytes[start..scanner.position].trim_ascii_end();
                if is_ended || super::object(element).is_ok() {
                    take(element, line, collector)?;
                }
                if !is_ended {
                    return collector.refuse(line, None, ProblemKind::Unended);
                }
            }
        }
    }
    if is_alone && scanner.peek() == Some(b']') {
        scanner.position += 1;
        if scanner.peek().is_some() {
            return collector.refuse(scanner.line(), None, ProblemKind::AfterList);
        }
    }
    Ok(())
}

fn take(element: &[u8], line: usize, collector: &mut Collector<'_>) -> Result<(), DataError> {
    let (length, limit) = (element.len() as u64, MAX_RECORD_BYTES);
    if element.len() > limit {
        return collector.refuse(line, None, ProblemKind::TooLong { length, limit });
    }
    match super::object(element) {
        Ok((object, _)) => collector.take(line, object, None),
        Err(kind) => collector.refuse(line, None, kind),
    }
}

/// Where the only list of objects begins among an object's values.
fn only_list<'a>(scanner: &mut Scanner<'a>) -> Result<Scanner<'a>, DamageReason> {
    let mut found: Option<(String, Scanner<'a>)> = None;
    scanner.position += 1;
    loop {
        match scanner.peek() {
            Some(b',') => scanner.position += 1,
            Some(b'}') => break,
            _ => {
                let Some((key, value)) = scanner.entry() else {
                    let line = scanner.line();
                    // A list that never ends is read as far as it goes.
                    return found.map(|(_, list)| list).ok_or(DamageReason::BrokenObject { line });
                };
                match found {
                    Some((first, _)) if value.is_list_of_objects() => {
                        return Err(DamageReason::SeveralLists { first, second: key });
                    }
                    None if value.is_list_of_objects() => found = Some((key, value)),
                    _ => {}
                }
            }
        }
    }
    scanner.position += 1;
    match (found, scanner.peek()) {
        (_, Some(_)) => Err(DamageReason::SeveralValues),
        (Some((_, list)), None) => Ok(list),
        (None, None) => Err(DamageReason::NoList),
    }
}

/// A place in a text of JSON.
#[derive(Clone, Copy)]
struct Scanner<'a> {
    bytes: &'a [u8],
    position: usize,
    /// Line breaks before `counted`.
    breaks: usize,
    counted: usize,
}

impl<'a> Scanner<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0, breaks: 0, counted: 0 }
    }

    /// The next byte that is no white space.
    fn peek(&mut self) -> Option<u8> {
        while self.bytes.get(self.position)?.is_ascii_whitespace() {
            self.position += 1;
        }
        self.bytes.get(self.position).copied()
    }

    /// The line of this place, counted from 1.
    fn line(&mut self) -> usize {
        let passed = &self.bytes[self.counted..self.position];
        self.breaks += super::line_breaks(passed);
        self.counted = self.position;
        self.breaks + 1
    }

    /// Passes over a value, up to the comma or bracket behind it; whether there is one.
    fn skip_value(&mut self) -> bool {
        let mut depth = 0_usize;
        while let Some(byte) = self.bytes.get(self.position) {
            match byte {
                b'"' => {
                    if !self.skip_text() {
                        return false;
                    }
                    continue;
                }
                b'[' | b'{' => depth += 1,
                b',' | b']' | b'}' if depth == 0 => return true,
                b']' | b'}' => depth -= 1,
                _ => {}
            }
            self.position += 1;
        }
        false
    }

    /// Passes over a text in quotes; whether it ends.
    fn skip_text(&mut self) -> bool {
        self.position += 1;
        while let Some(byte) = self.bytes.get(self.position) {
            self.position += if *byte == b'\\' { 2 } else { 1 };
            if *byte == b'"' {
                return true;
            }
        }
        self.position = self.bytes.len();
        false
    }

    /// Passes over a key and its value: the key, and where the value begins.
    fn entry(&mut self) -> Option<(String, Self)> {
        let start = self.position;
        if self.peek() != Some(b'"') || !self.skip_text() {
            return None;
        }
        let key = serde_json::from_slice(&self.bytes[start..self.position]).ok()?;
        if self.peek() != Some(b':') {
            return None;
        }
        self.position += 1;
        self.peek()?;
        let value = *self;
        (self.skip_value() || value.is_list_of_objects()).then_some((key, value))
    }

    fn is_list_of_objects(mut self) -> bool {
        let is_list = self.peek() == Some(b'[');
        self.position += 1;
        is_list && self.peek() == Some(b'{')
    }
}
