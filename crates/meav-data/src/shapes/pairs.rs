use serde_json::{Map, Value};

use super::{Parsed, values};
use crate::{PAIR_LEVELS, ProblemKind, Responses, Shape, Turn};

/// What is asked, and the response that is preferred and the one that is not.
type Pair = (Vec<Turn>, [String; 2]);

/// TRL's `chosen` and `rejected`, with a `prompt` of their own or with what both begin with.
pub(super) fn parse(object: &Map<String, Value>) -> Result<Parsed, ProblemKind> {
    let prompt = values::get(object, "prompt");
    let responses = [values::require(object, "chosen")?, values::require(object, "rejected")?];
    let (query, [chosen, rejected]) = match (prompt, responses) {
        (prompt, responses) if responses.iter().all(|it| it.is_array()) => {
            messages(prompt, responses)
        }
        (Some(prompt), responses) => text(prompt, responses),
        (None, responses) => text_without_prompt(responses),
    }?;
    Ok(Parsed {
        shape: Shape::Pairs,
        levels: Vec::new(),
        listed: None,
        domain: None,
        method: None,
        persona: None,
        query,
        responses: Responses::Pair { chosen, rejected },
    })
}

fn text(prompt: &Value, responses: [&Value; 2]) -> Result<Pair, ProblemKind> {
    let query = values::query(prompt, "prompt")?;
    Ok((query, texts(responses)?))
}

fn texts([chosen, rejected]: [&Value; 2]) -> Result<[String; 2], ProblemKind> {
    let [first, second] = PAIR_LEVELS;
    Ok([values::response(chosen, first, first)?, values::response(rejected, second, second)?])
}

/// Both texts begin with the prompt: what they share, back to the last white space, so that no
/// word is cut in two.
fn text_without_prompt(responses: [&Value; 2]) -> Result<Pair, ProblemKind> {
    let texts = texts(responses)?;
    let shared: usize = texts[0]
        .chars()
        .zip(texts[1].chars())
        .take_while(|(left, right)| left == right)
        .map(|(shared, _)| shared.len_utf8())
        .sum();
    let cut = texts[0][..shared].trim_end_matches(|it: char| !it.is_whitespace()).len();
    let query = values::check_query(vec![values::user(texts[0][..cut].trim_end())])?;
    let rest = |index: usize| {
        let rest = &texts[index][cut..];
        let level = PAIR_LEVELS[index].to_owned();
        if rest.trim().is_empty() {
            return Err(ProblemKind::EmptyResponse { level });
        }
        Ok(rest.to_owned())
    };
    Ok((query, [rest(0)?, rest(1)?]))
}

/// After the turns that both begin with, each is one turn of the assistant.
fn messages(prompt: Option<&Value>, responses: [&Value; 2]) -> Result<Pair, ProblemKind> {
    let [chosen, rejected] = [
        values::turns(responses[0], PAIR_LEVELS[0])?,
        values::turns(responses[1], PAIR_LEVELS[1])?,
    ];
    for (turns, key) in [&chosen, &rejected].into_iter().zip(PAIR_LEVELS) {
        if turns.last().is_none_or(|turn| turn.role != "assistant") {
            return Err(no_response(key));
        }
    }
    // The last turn is the response, also where both say the same.
    let most = chosen.len().min(rejected.len()) - 1;
    let shared =
        chosen.iter().zip(&rejected).take(most).take_while(|(left, right)| left == right).count();
    let response = |turns: &[Turn], level: &str| match turns {
        [turn] if turn.content.trim().is_empty() => {
            Err(ProblemKind::EmptyResponse { level: level.to_owned() })
        }
        [turn] => Ok(turn.content.clone()),
        _ => Err(no_response(level)),
    };
    let responses = [
        response(&chosen[shared..], PAIR_LEVELS[0])?,
        response(&rejected[shared..], PAIR_LEVELS[1])?,
    ];
    let mut query = match prompt {
        Some(prompt) => values::query(prompt, "prompt")?,
        None => Vec::new(),
    };
    // Some data sets have the prompt in both places.
    if chosen[..shared].ends_with(&query) {
        query.clear();
    }
    query.extend_from_slice(&chosen[..shared]);
    Ok((values::check_query(query)?, responses))
}

fn no_response(key: &str) -> ProblemKind {
    ProblemKind::NoAssistantTurn { key: key.to_owned() }
}
