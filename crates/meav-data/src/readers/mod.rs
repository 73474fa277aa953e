//! One reader per format.

mod csv;
mod json;
mod jsonl;
mod parquet;
mod source;

use serde_json::{Map, Value};

use crate::ProblemKind;

pub(crate) use csv::{is_header, read as csv};
pub(crate) use json::read as json;
pub(crate) use jsonl::read as jsonl;
pub(crate) use parquet::read as parquet;

/// UTF-8's, which some programs write in front of text.
pub(crate) const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

fn line_breaks(bytes: &[u8]) -> usize {
    bytes.split(|byte| *byte == b'\n').count() - 1
}

/// Text that is UTF-8.
fn utf8(bytes: &[u8]) -> Result<&str, ProblemKind> {
    str::from_utf8(bytes).map_err(|err| ProblemKind::NotUtf8 { byte: err.valid_up_to() + 1 })
}

/// An object of JSON, and its text.
fn object(bytes: &[u8]) -> Result<(Map<String, Value>, &str), ProblemKind> {
    let text = utf8(bytes)?;
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok((object, text)),
        Ok(_) => Err(ProblemKind::NotAnObject),
        Err(err) => Err(not_json(text, &err)),
    }
}

fn not_json(text: &str, err: &serde_json::Error) -> ProblemKind {
    let before: usize = text.split_inclusive('\n').take(err.line() - 1).map(str::len).sum();
    let mut reason = err.to_string();
    if let Some(place) = reason.rfind(" at line ") {
        reason.truncate(place);
    }
    ProblemKind::NotJson { reason, byte: before + err.column() }
}
