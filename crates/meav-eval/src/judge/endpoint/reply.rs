use serde_json::Value;

/// The longest part of a server's own words that is shown, in characters.
const MAX_MESSAGE_CHARS: usize = 300;

/// What an endpoint answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// What the model said.
    pub text: String,
    /// Whether the limit of tokens ended it.
    pub is_cut: bool,
}

/// What there is in a body that is JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Reply(Reply),
    /// The limit of tokens came before a word.
    OutOfTokens,
    /// No choices, or one without text.
    Nothing,
}

/// Finds the answer: the text of the first choice.
pub(super) fn content(body: &Value) -> Content {
    let choice = &body["choices"][0];
    let is_cut = choice["finish_reason"] == "length";
    let text = text(&choice["message"]["content"]);
    match (text.trim().is_empty(), is_cut) {
        (false, _) => Content::Reply(Reply { text, is_cut }),
        (true, true) => Content::OutOfTokens,
        (true, false) => Content::Nothing,
    }
}

/// A text, or a list of parts with texts.
fn text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => String::new(),
    }
}

/// What a server says is wrong, on one line, or nothing.
///
/// `{"error": {"message": …}}` is `OpenAI`'s form; other servers have `{"error": …}`,
/// `{"message": …}` or `{"detail": …}`.
pub(super) fn server_message(body: &Value) -> String {
    let message = [&body["error"]["message"], &body["error"], &body["message"], &body["detail"]]
        .into_iter()
        .find_map(Value::as_str)
        .unwrap_or_default();
    let words: Vec<&str> = message
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|w| !w.is_empty())
        .collect();
    words.join(" ")
}

/// The beginning of a message, as long as it can be shown.
pub(super) fn bounded(message: &str) -> String {
    match message.char_indices().nth(MAX_MESSAGE_CHARS) {
        Some((end, _)) => format!("{}…", &message[..end]),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_choice_is_the_answer() {
        let reply = |text: &str, is_cut| Content::Reply(Reply { text: text.to_owned(), is_cut });
        let choice = |content: Value, reason: &str| json!({"choices": [{"message": {"content": content}, "finish_reason": reason}]});
        for (body, expected) in [
            (choice(json!("expert"), "stop"), reply("expert", false)),
            (choice(json!("exp"), "length"), reply("exp", true)),
            (choice(json!([{"type": "text", "text": "expert"}]), "stop"), reply("expert", false)),
            (choice(json!(" "), "length"), Content::OutOfTokens),
            (choice(Value::Null, "length"), Content::OutOfTokens),
            (choice(Value::Null, "stop"), Content::Nothing),
            (json!({"choices": []}), Content::Nothing),
            (json!({"choices": {"0": 1}}), Content::Nothing),
            (json!([1]), Content::Nothing),
            (json!({}), Content::Nothing),
        ] {
            assert_eq!(content(&body), expected, "{body}");
        }
    }

    #[test]
    fn a_servers_words_fit_on_one_line() {
        for (body, expected) in [
            (json!({"error": {"message": "no such\nmodel\u{1b}[0m"}}), "no such model [0m"),
            (json!({"error": "model not found"}), "model not found"),
            (json!({"object": "error", "message": "too long"}), "too long"),
            (json!({"detail": "Not Found"}), "Not Found"),
            (json!({"error": 3}), ""),
            (json!("text"), ""),
        ] {
            assert_eq!(server_message(&body), expected, "{body}");
        }
        assert_eq!(bounded("short"), "short");
        let long = bounded(&"ä".repeat(1000));
        assert_eq!(long.chars().count(), MAX_MESSAGE_CHARS + 1);
        assert!(long.ends_with('…'));
    }
}
