use std::fs::File;

use meav_job::JobCtx;

use super::source::Source;
use crate::collector::Collector;
use crate::{DataError, MAX_RECORD_BYTES, ProblemKind};

/// One object per line.
pub(crate) fn read(
    file: File,
    size: u64,
    collector: &mut Collector<'_>,
    job: &JobCtx<'_>,
) -> Result<(), DataError> {
    let mut source = Source::new(file, size, collector.path, job)?;
    let mut buffer = Vec::new();
    let mut line = 0;
    while !collector.is_full() {
        let Some(length) = next_line(&mut source, &mut buffer)? else { break };
        line += 1;
        if length > MAX_RECORD_BYTES as u64 {
            let limit = MAX_RECORD_BYTES;
            collector.refuse(line, None, ProblemKind::TooLong { length, limit })?;
            continue;
        }
        let bytes = buffer.trim_ascii();
        if bytes.is_empty() {
            continue;
        }
        match super::object(bytes) {
            Ok((object, text)) => collector.take(line, object, Some(text))?,
            Err(kind) => collector.refuse(line, None, kind)?,
        }
    }
    Ok(())
}

/// The length of the next line, without its end, and as much of it as a record may have.
fn next_line(source: &mut Source<'_>, line: &mut Vec<u8>) -> Result<Option<u64>, DataError> {
    line.clear();
    let mut length = 0;
    let mut is_at_end = true;
    loop {
        let bytes = source.fill()?;
        if bytes.is_empty() {
            return Ok((!is_at_end).then_some(length));
        }
        is_at_end = false;
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let piece = &bytes[..end.unwrap_or(bytes.len())];
        let room = (MAX_RECORD_BYTES - line.len()).min(piece.len());
        line.extend_from_slice(&piece[..room]);
        length += piece.len() as u64;
        let consumed = piece.len() + usize::from(end.is_some());
        source.consume(consumed);
        if end.is_some() {
            return Ok(Some(length));
        }
    }
}
