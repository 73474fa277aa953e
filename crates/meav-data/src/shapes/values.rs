use serde_json::{Map, Value};

use crate::{ProblemKind, Turn};

/// A value that is there and not null.
pub(super) fn get<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    object.get(key).filter(|value| !value.is_null())
}

pub(super) fn require<'a>(
    object: &'a Map<String, Value>,
    key: &str,
) -> Result<&'a Value, ProblemKind> {
    get(object, key).ok_or_else(|| ProblemKind::MissingKey { key: key.to_owned() })
}

pub(super) fn wrong_type(key: &str, expected: &'static str) -> ProblemKind {
    ProblemKind::WrongType { key: key.to_owned(), expected }
}

pub(super) fn text<'a>(value: &'a Value, key: &str) -> Result<&'a str, ProblemKind> {
    value.as_str().ok_or_else(|| wrong_type(key, "text"))
}

pub(super) fn optional_text(
    object: &Map<String, Value>,
    key: &str,
) -> Result<Option<String>, ProblemKind> {
    let Some(value) = get(object, key) else { return Ok(None) };
    let text = text(value, key)?;
    Ok((!text.trim().is_empty()).then(|| text.to_owned()))
}

/// The record's own id: text, or a whole number.
pub(crate) fn id(object: &Map<String, Value>) -> Result<Option<String>, ProblemKind> {
    match get(object, "id") {
        None => Ok(None),
        Some(Value::String(id)) if !id.trim().is_empty() => Ok(Some(id.clone())),
        Some(Value::Number(id)) if !id.is_f64() => Ok(Some(id.to_string())),
        Some(_) => Err(wrong_type("id", "text or a whole number")),
    }
}

/// A response that says something.
pub(super) fn response(value: &Value, key: &str, level: &str) -> Result<String, ProblemKind> {
    let text = text(value, key)?;
    if text.trim().is_empty() {
        return Err(ProblemKind::EmptyResponse { level: level.to_owned() });
    }
    Ok(text.to_owned())
}

/// A query that asks something: text, which is one turn of the user, or messages.
pub(super) fn query(value: &Value, key: &str) -> Result<Vec<Turn>, ProblemKind> {
    let turns = match value {
        Value::String(content) => vec![user(content)],
        value => turns(value, key)?,
    };
    check_query(turns)
}

pub(super) fn check_query(turns: Vec<Turn>) -> Result<Vec<Turn>, ProblemKind> {
    match turns.last() {
        Some(turn) if !turn.content.trim().is_empty() => Ok(turns),
        _ => Err(ProblemKind::EmptyQuery),
    }
}

pub(super) fn user(content: &str) -> Turn {
    Turn { role: "user".to_owned(), content: content.to_owned() }
}

/// Messages: a list of `{"role", "content"}`.
pub(super) fn turns(value: &Value, key: &str) -> Result<Vec<Turn>, ProblemKind> {
    let wrong = || wrong_type(key, "text or a list of messages with role and content");
    let turn = |value: &Value| {
        let role = value.get("role")?.as_str()?.to_owned();
        let content = value.get("content")?.as_str()?.to_owned();
        Some(Turn { role, content })
    };
    value.as_array().and_then(|list| list.iter().map(turn).collect()).ok_or_else(wrong)
}

/// A truth value, as JSON, CSV and Parquet have it: true, false, 0, 1.
pub(super) fn flag(object: &Map<String, Value>, key: &str) -> Result<bool, ProblemKind> {
    let value = require(object, key)?;
    let flag = match value {
        Value::Bool(flag) => Some(*flag),
        Value::String(text) if text.eq_ignore_ascii_case("true") => Some(true),
        Value::String(text) if text.eq_ignore_ascii_case("false") => Some(false),
        value => zero_or_one(value).map(|number| number == 1),
    };
    flag.ok_or_else(|| wrong_type(key, "true or false"))
}

/// Which of two responses is meant.
pub(super) fn index(object: &Map<String, Value>, key: &str) -> Result<usize, ProblemKind> {
    let value = require(object, key)?;
    zero_or_one(value).ok_or_else(|| {
        let mut found = value.to_string();
        if found.chars().count() > 40 {
            found = found.chars().take(40).chain(['…']).collect();
        }
        ProblemKind::NotZeroOrOne { key: key.to_owned(), found }
    })
}

fn zero_or_one(value: &Value) -> Option<usize> {
    let number: f64 = match value {
        Value::String(text) => text.trim().parse().ok()?,
        value => value.as_f64()?,
    };
    [0.0_f64, 1.0].iter().position(|it| it.to_bits() == (number + 0.0).to_bits())
}
