//! Which of some names a reply means.

use serde_json::Value;

/// Words before a colon that make the name behind it the last word of a reply.
const DECIDING_LABELS: [&str; 6] =
    ["answer", "conclusion", "decision", "final level", "judgement", "verdict"];

/// Words that turn the name behind them into its opposite.
const DENIALS: [&str; 12] = [
    "not", "no", "never", "neither", "nor", "non", "isn't", "isn’t", "wasn't", "hardly", "cannot",
    "without",
];

/// Words that may stand between a denial and the name.
const FILLERS: [&str; 10] =
    ["a", "an", "the", "at", "really", "quite", "entirely", "fully", "very", "be"];

/// How much of a reply is read, from its end, in bytes. A judge asked for a name says less, and a
/// server that says a megabyte must not keep us busy.
const MAX_BYTES: usize = 8 << 10;

/// Whether `Expert` is `expert`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Case {
    /// It is.
    Ignored,
    /// It is not, since the names are words of the language as well ("A" and "a").
    Matters,
}

/// A name's place in a text, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mention {
    name_idx: usize,
    start: usize,
    end: usize,
}

/// The name that `reply` settles on, by its place in `names`; `None` where that is not clear.
pub(super) fn find_name(reply: &str, names: &[&str], case: Case) -> Option<usize> {
    let reply = end_of(without_thoughts(reply)?.trim());
    if let Some(name_idx) = exact_name(reply, names).or_else(|| name_in_json(reply, names)) {
        return Some(name_idx);
    }
    let fold = |text: &str| match case {
        Case::Ignored => text.to_lowercase(),
        Case::Matters => text.to_owned(),
    };
    let (text, names) = (fold(reply), names.iter().map(|name| fold(name)).collect::<Vec<_>>());
    let mentions = mentions(&text, &names);
    only(mentions.iter().map(|mention| mention.name_idx))
        .or_else(|| last_word(&text, &mentions))
        .or_else(|| name_on_its_own_line(&text, &names))
}

/// What follows the thoughts of a reasoning model; `None` if it never came to an end of them.
fn without_thoughts(reply: &str) -> Option<&str> {
    match reply.rsplit_once("</think>") {
        Some((_, said)) => Some(said),
        None => (!reply.contains("<think>")).then_some(reply),
    }
}

/// The last [`MAX_BYTES`], or less so as not to cut a character.
fn end_of(text: &str) -> &str {
    let start = text.len().saturating_sub(MAX_BYTES);
    let start = (start..=text.len()).find(|&start| text.is_char_boundary(start));
    start.map_or(text, |start| &text[start..])
}

/// The one name that `text` is when its marks are taken away.
fn exact_name(text: &str, names: &[&str]) -> Option<usize> {
    let bare = bare(text).to_lowercase();
    names.iter().position(|name| bare == self::bare(name).to_lowercase())
}

fn bare(text: &str) -> &str {
    text.trim_matches(|c: char| !c.is_alphanumeric())
}

/// The one name that is a value of the JSON object in `reply`.
fn name_in_json(reply: &str, names: &[&str]) -> Option<usize> {
    let object = reply.get(reply.find('{')?..=reply.rfind('}')?)?;
    let Ok(Value::Object(object)) = serde_json::from_str(object) else { return None };
    only(object.values().filter_map(|value| exact_name(value.as_str()?, names)))
}

/// The one index that all of `indices` are.
fn only(mut indices: impl Iterator<Item = usize>) -> Option<usize> {
    let first = indices.next()?;
    indices.all(|idx| idx == first).then_some(first)
}

/// Where the names stand in `text` as words of their own, in order, denied ones left out.
///
/// Where names overlap, the longer one is meant: "very generic" holds no "generic".
fn mentions(text: &str, names: &[String]) -> Vec<Mention> {
    let all: Vec<Mention> = names
        .iter()
        .enumerate()
        .flat_map(|(name_idx, name)| {
            text.match_indices(name.as_str()).map(move |(start, found)| Mention {
                name_idx,
                start,
                end: start + found.len(),
            })
        })
        .filter(|mention| is_word(text, mention))
        .collect();
    let is_within = |inner: &Mention, outer: &Mention| {
        outer.start <= inner.start && inner.end <= outer.end && inner != outer
    };
    let mut mentions: Vec<Mention> = all
        .iter()
        .filter(|inner| !all.iter().any(|outer| is_within(inner, outer)))
        .filter(|mention| !is_denied(&text[..mention.start]))
        .copied()
        .collect();
    mentions.sort_by_key(|mention| mention.start);
    mentions
}

/// Whether no letter or digit touches the mention, nor a hyphen that hangs it to a word before it:
/// "non-expert" is another word, "expert-level" is not.
fn is_word(text: &str, mention: &Mention) -> bool {
    let mut before = text[..mention.start].chars().rev();
    let is_joined = match before.next() {
        Some('-' | '‐' | '‑') => before.next().is_some_and(char::is_alphanumeric),
        Some(c) => c.is_alphanumeric(),
        None => false,
    };
    let is_continued = text[mention.end..].starts_with(char::is_alphanumeric);
    !is_joined && !is_continued
}

/// Whether the text before a name says that it is not meant: "not", "isn't quite", …
fn is_denied(before: &str) -> bool {
    // A denial in another sentence or clause is none of this name.
    let clause = before.rsplit(['.', ',', ';', ':', '\n']).next().unwrap_or_default();
    clause
        .split_whitespace()
        .rev()
        .map(|word| bare(word).to_lowercase())
        .filter(|word| !word.is_empty())
        .find(|word| !FILLERS.contains(&word.as_str()))
        .is_some_and(|word| DENIALS.contains(&word.as_str()))
}

/// The last name, if it stands behind a label like "Answer:".
fn last_word(text: &str, mentions: &[Mention]) -> Option<usize> {
    let last = mentions.last()?;
    let before = text[..last.start].trim_end_matches(is_mark).strip_suffix([':', '='])?;
    let label = before.trim_end_matches(is_mark).to_lowercase();
    DECIDING_LABELS.iter().any(|known| label.ends_with(known)).then_some(last.name_idx)
}

/// Marks that Markdown, quotes and JSON put around words.
fn is_mark(c: char) -> bool {
    !c.is_alphanumeric() && !matches!(c, ':' | '=' | '.' | '\n')
}

/// The one name that is the whole of a line, or of what follows the line's label.
fn name_on_its_own_line(text: &str, names: &[String]) -> Option<usize> {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    only(text.lines().filter_map(|line| {
        let value = line.split_once(':').map_or(line, |(_, value)| value);
        exact_name(line, &names).or_else(|| exact_name(value, &names))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(names: &[&str], case: Case, table: &[(&str, Option<&str>)]) {
        for (reply, expected) in table {
            let found = find_name(reply, names, case).map(|idx| names[idx]);
            assert_eq!(found, *expected, "{reply:?}");
        }
    }

    #[test]
    fn one_name_in_any_clothes_is_found() {
        check(
            &["expert", "generic", "avoidance"],
            Case::Ignored,
            &[
                ("expert", Some("expert")),
                ("  Generic.\n", Some("generic")),
                ("**EXPERT**", Some("expert")),
                ("_avoidance_", Some("avoidance")),
                ("`expert`", Some("expert")),
                ("\"generic\"", Some("generic")),
                ("Level: expert", Some("expert")),
                ("The answer is at the expert level.", Some("expert")),
                ("This is an expert-level answer", Some("expert")),
                ("{\"level\": \"expert\"}", Some("expert")),
                ("```json\n{\"level\": \"Expert\"}\n```", Some("expert")),
                ("{\"reason\": \"deeper than generic\", \"level\": \"expert\"}", Some("expert")),
                ("{\"level\": \"expert\", \"reason\": \"no generic talk\"}", Some("expert")),
                ("<think>generic? no, avoidance</think>\nexpert", Some("expert")),
                ("Niveau : « generic »", Some("generic")),
            ],
        );
    }

    #[test]
    fn several_names_need_a_clear_last_word() {
        check(
            &["expert", "generic", "avoidance"],
            Case::Ignored,
            &[
                ("Not generic but deep. Answer: expert", Some("expert")),
                ("It is above generic.\n\n**Answer:** expert", Some("expert")),
                ("Expert or generic? Final answer: **generic**.", Some("generic")),
                (
                    "Verdict = \"avoidance\" rather than expert? Verdict = \"expert\"",
                    Some("expert"),
                ),
                ("expert\n\nIt goes far beyond generic information.", Some("expert")),
                ("Level: expert\nReason: deeper than generic", Some("expert")),
                ("Answer: expert. It is deeper than generic.", None),
                ("expert, generic", None),
                ("Either expert or generic.", None),
                ("- expert: deep\n- generic: plain\n- avoidance: none\nI choose the first", None),
                ("expert\ngeneric\navoidance", None),
                ("{\"expert\": true, \"generic\": false}", None),
                ("{\"first\": \"expert\", \"second\": \"generic\"}", None),
            ],
        );
    }

    #[test]
    fn no_name_is_no_verdict() {
        check(
            &["expert", "generic", "avoidance"],
            Case::Ignored,
            &[
                ("", None),
                ("...", None),
                ("I cannot judge this.", None),
                ("experts and generics", None),
                ("non-expert", None),
                ("The answer is not expert.", None),
                ("It isn't really an expert answer", None),
                ("It is not an expert answer but a generic one", Some("generic")),
                ("Is it generic? No. Expert", None),
                ("<think>expert, surely", None),
                ("{\"level\": \"exp", None),
            ],
        );
    }

    #[test]
    fn names_within_names_are_told_apart() {
        check(
            &["safe", "unsafe"],
            Case::Ignored,
            &[
                ("unsafe", Some("unsafe")),
                ("The answer is Unsafe!", Some("unsafe")),
                ("safe", Some("safe")),
                ("It is safe, not unsafe.", Some("safe")),
                ("not safe", None),
                ("un-safe", None),
                ("unsafe rather than safe", None),
            ],
        );
        check(
            &["unhelpful", "helpful"],
            Case::Ignored,
            &[("unhelpful", Some("unhelpful")), ("Helpful.", Some("helpful"))],
        );
        check(
            &["generic", "very generic", "not safe", "safe"],
            Case::Ignored,
            &[
                ("I find it very generic.", Some("very generic")),
                ("I find it generic.", Some("generic")),
                ("I find it not safe.", Some("not safe")),
            ],
        );
    }

    #[test]
    fn of_a_long_reply_the_end_counts() {
        let (word, name) = ("ä".repeat(1 << 19), "expert ".repeat(1 << 17));
        for (reply, expected) in [
            (format!("{word} expert"), Some(1)),
            (format!("expert {word}"), None),
            (format!("{name} Answer: generic"), Some(0)),
        ] {
            assert_eq!(find_name(&reply, &["generic", "expert"], Case::Ignored), expected);
        }
    }

    #[test]
    fn letters_are_not_taken_for_words() {
        check(
            &["A", "B"],
            Case::Matters,
            &[
                ("A", Some("A")),
                ("b", Some("B")),
                ("(B)", Some("B")),
                ("**A**", Some("A")),
                ("Answer: B", Some("B")),
                ("Answer B is a better answer.", Some("B")),
                ("B is deeper than A. Answer: B.", Some("B")),
                ("A is deeper than B.", None),
                ("Both are a mess.", None),
                ("{\"better\": \"A\"}", Some("A")),
            ],
        );
    }
}
