use std::sync::LazyLock;

use regex::Regex;

use crate::Turn;

static BETWEEN_WORDS: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"[\s\p{P}]+").ok());

/// A text as it is compared with others: in lower case, with one space for each run of white space
/// and punctuation. Symbols stay: `2+2` is not `2<2`.
pub(crate) fn normalised(text: &str) -> String {
    let lower = text.to_lowercase();
    let words = match &*BETWEEN_WORDS {
        Some(between) => between.replace_all(&lower, " "),
        None => lower.as_str().into(),
    };
    let words = words.trim();
    // A text of nothing but punctuation is not every other such text.
    if words.is_empty() { lower.trim().to_owned() } else { words.to_owned() }
}

/// A query as it is compared with others: each turn with its role.
pub(crate) fn normalised_query(query: &[Turn]) -> String {
    let turns = query.iter().map(|turn| format!("{}\n{}\n", turn.role, normalised(&turn.content)));
    turns.collect()
}
