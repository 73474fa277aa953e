use serde_json::{Map, Value};

use super::{Parsed, values};
use crate::{ProblemKind, Responses, Shape};

/// PKU-SafeRLHF: two responses, whether each is safe, which helps more and which is safer.
///
/// Source: Ji et al., 2024, arXiv:2406.15513.
pub(super) fn parse(object: &Map<String, Value>) -> Result<Parsed, ProblemKind> {
    let query = values::query(values::require(object, "prompt")?, "prompt")?;
    let response = |key| values::response(values::require(object, key)?, key, key);
    let responses = Responses::SafeRlhf {
        texts: [response("response_0")?, response("response_1")?],
        is_safe: [
            values::flag(object, "is_response_0_safe")?,
            values::flag(object, "is_response_1_safe")?,
        ],
        better: values::index(object, "better_response_id")?,
        safer: values::index(object, "safer_response_id")?,
    };
    Ok(Parsed {
        shape: Shape::SafeRlhf,
        levels: Vec::new(),
        listed: None,
        domain: None,
        method: None,
        persona: None,
        query,
        responses,
    })
}
