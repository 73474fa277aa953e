//! The known shapes of a record.

mod levels;
mod pairs;
mod safe_rlhf;
mod values;

use serde_json::{Map, Value};

use crate::collector::First;
use crate::{ProblemKind, Responses, Shape, Turn};

pub(crate) use values::id;

/// A record, but for its place and its id.
pub(crate) struct Parsed {
    pub(crate) shape: Shape,
    /// In the order of its `responses`; empty for other shapes than levels.
    pub(crate) levels: Vec<String>,
    /// The order that its list `levels` asks for.
    pub(crate) listed: Option<Vec<String>>,
    pub(crate) domain: Option<String>,
    pub(crate) method: Option<String>,
    pub(crate) persona: Option<String>,
    pub(crate) query: Vec<Turn>,
    pub(crate) responses: Responses,
}

/// The keys that tell each shape from the others.
const KEYS: [(Shape, [&str; 2]); 3] = [
    (Shape::Levels, ["query", "responses"]),
    (Shape::SafeRlhf, ["response_0", "response_1"]),
    (Shape::Pairs, ["chosen", "rejected"]),
];

/// Reads a record and checks it against the first one of its file.
pub(crate) fn parse(
    object: &Map<String, Value>,
    first: Option<&First>,
) -> Result<Parsed, ProblemKind> {
    let shape = shape(object, first).ok_or(ProblemKind::UnknownShape)?;
    if let Some(first) = first
        && first.shape != shape
    {
        let First { shape: expected, unit, line, .. } = *first;
        return Err(ProblemKind::OtherShape { expected, found: shape, unit, line });
    }
    let mut parsed = match shape {
        Shape::Levels => levels::parse(object, first),
        Shape::SafeRlhf => safe_rlhf::parse(object),
        Shape::Pairs => pairs::parse(object),
    }?;
    parsed.domain = values::optional_text(object, "domain")?;
    parsed.method = values::optional_text(object, "method")?;
    parsed.persona = values::optional_text(object, "persona")?;
    Ok(parsed)
}

/// Whether an object has the keys of any shape.
pub(crate) fn is_record(object: &Map<String, Value>) -> bool {
    shape(object, None).is_some()
}

/// The shape that has both its keys, that of the first record before others; else the first that
/// has one, so that the other can be missed by name.
fn shape(object: &Map<String, Value>, first: Option<&First>) -> Option<Shape> {
    let has = |key: &&str| values::get(object, key).is_some();
    let whole = |(_, keys): &&(Shape, [&str; 2])| keys.iter().all(has);
    let part = |(_, keys): &&(Shape, [&str; 2])| keys.iter().any(has);
    let is_first = |shape: Shape| first.is_some_and(|first| first.shape == shape);
    KEYS.iter()
        .filter(whole)
        .find(|(shape, _)| is_first(*shape))
        .or_else(|| KEYS.iter().find(whole))
        .or_else(|| KEYS.iter().filter(part).find(|(shape, _)| is_first(*shape)))
        .or_else(|| KEYS.iter().find(part))
        .map(|(shape, _)| *shape)
}
