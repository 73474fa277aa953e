use serde_json::{Map, Value};

use super::{Parsed, values};
use crate::collector::First;
use crate::{ProblemKind, Responses, Shape};

/// More are no levels but something else by that name.
const MAX_LEVELS: usize = 64;

/// `query` and `responses`, an object with one text per level.
pub(super) fn parse(
    object: &Map<String, Value>,
    first: Option<&First>,
) -> Result<Parsed, ProblemKind> {
    let query = values::query(values::require(object, "query")?, "query")?;
    let responses = values::require(object, "responses")?
        .as_object()
        .ok_or_else(|| values::wrong_type("responses", "an object with one text per level"))?;
    let own: Vec<_> = responses
        .iter()
        .filter(|(_, text)| !text.is_null())
        .map(|(level, _)| level.clone())
        .collect();
    let listed = listed(object, &own)?;
    let levels = match first {
        Some(first) => {
            check_levels(&own, first)?;
            first.levels.clone()
        }
        None => own,
    };
    if levels.len() < 2 {
        return Err(ProblemKind::TooFewResponses);
    }
    if levels.len() > MAX_LEVELS {
        return Err(ProblemKind::TooManyLevels { n: levels.len(), limit: MAX_LEVELS });
    }
    let texts = levels
        .iter()
        .map(|level| values::response(&responses[level], level, level))
        .collect::<Result<_, _>>()?;
    Ok(Parsed {
        shape: Shape::Levels,
        levels,
        listed,
        domain: None,
        method: None,
        persona: None,
        query,
        responses: Responses::Levels(texts),
    })
}

/// Every record has the levels of the first one.
fn check_levels(own: &[String], first: &First) -> Result<(), ProblemKind> {
    let First { unit, line, ref levels, .. } = *first;
    if let Some(level) = levels.iter().find(|level| !own.contains(level)) {
        return Err(ProblemKind::MissingLevel { level: level.clone(), unit, line });
    }
    match own.iter().find(|level| !levels.contains(level)) {
        Some(level) => Err(ProblemKind::UnknownLevel { level: level.clone(), unit, line }),
        None => Ok(()),
    }
}

/// The list `levels`, which names each level of the responses once.
fn listed(object: &Map<String, Value>, own: &[String]) -> Result<Option<Vec<String>>, ProblemKind> {
    let Some(value) = values::get(object, "levels") else { return Ok(None) };
    let listed: Vec<String> = value
        .as_array()
        .and_then(|list| list.iter().map(|level| level.as_str().map(str::to_owned)).collect())
        .ok_or_else(|| values::wrong_type("levels", "a list of names"))?;
    let is_repeated = |(index, level): &(usize, &String)| listed[..*index].contains(level);
    let unlisted = own.iter().find(|level| !listed.contains(level));
    let unknown = listed.iter().find(|level| !own.contains(level));
    let repeated = listed.iter().enumerate().find(is_repeated).map(|(_, level)| level);
    match unlisted.or(unknown).or(repeated) {
        Some(level) => Err(ProblemKind::OtherLevels { level: level.clone() }),
        None => Ok(Some(listed)),
    }
}
