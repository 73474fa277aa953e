use serde_json::{Value as Json, json};

/// How text is cut into words before merging bytes, by llama.cpp's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreTokenizer {
    /// GPT-2's words.
    Gpt2,
    /// GPT-2's words after cutting out each digit.
    SmolLm,
}

impl PreTokenizer {
    /// The value of `tokenizer.ggml.pre`.
    pub fn gguf_name(self) -> &'static str {
        match self {
            Self::Gpt2 => "gpt-2",
            Self::SmolLm => "smollm",
        }
    }

    fn json(self) -> Json {
        let words = json!({
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true,
        });
        match self {
            Self::Gpt2 => words,
            Self::SmolLm => json!({
                "type": "Sequence",
                "pretokenizers": [{ "type": "Digits", "individual_digits": true }, words],
            }),
        }
    }
}

/// Ids of the tokens with a meaning of their own.
pub mod special {
    /// `<|endoftext|>`
    pub const END_OF_TEXT: u32 = 0;
    /// `<|im_start|>`
    pub const IM_START: u32 = 1;
    /// `<|im_end|>`
    pub const IM_END: u32 = 2;
}

pub(crate) const SPECIAL: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];

/// The tokens of every tiny model: three special ones, 256 bytes, and what the merges make.
pub const VOCAB_SIZE: usize = SPECIAL.len() + 256 + MERGES.len();

/// `ChatML`, without a default system prompt.
pub const CHAT_TEMPLATE: &str = "{% for message in messages %}\
    {{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}\
    {% endfor %}\
    {% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// In order of priority; `Ġ` is a space. `Ã ©` is the whole of é, `â Ĥ` two thirds of €.
pub(crate) const MERGES: [(&str, &str); 41] = [
    ("Ġ", "t"),
    ("h", "e"),
    ("i", "n"),
    ("r", "e"),
    ("Ġ", "a"),
    ("o", "n"),
    ("e", "r"),
    ("Ġt", "he"),
    ("a", "t"),
    ("Ġ", "w"),
    ("o", "r"),
    ("e", "n"),
    ("Ġ", "s"),
    ("l", "l"),
    ("o", "u"),
    ("i", "s"),
    ("n", "d"),
    ("Ġa", "nd"),
    ("Ġ", "c"),
    ("in", "g"),
    ("Ġ", "o"),
    ("Ġ", "f"),
    ("Ġ", "p"),
    ("a", "n"),
    ("e", "d"),
    ("Ġ", "b"),
    ("Ġ", "m"),
    ("Ġ", "h"),
    ("Ġ", "l"),
    ("Ġ", "d"),
    ("he", "ll"),
    ("hell", "o"),
    ("Ġw", "or"),
    ("l", "d"),
    ("Ġwor", "ld"),
    ("Ġ", "Ġ"),
    ("u", "s"),
    ("us", "er"),
    ("Ġo", "f"),
    ("Ã", "©"),
    ("â", "Ĥ"),
];

/// The tokens in the order of their ids.
pub(crate) fn tokens() -> Vec<String> {
    let special = SPECIAL.into_iter().map(str::to_owned);
    let bytes = byte_symbols().into_iter().map(String::from);
    let merged = MERGES.into_iter().map(|(a, b)| format!("{a}{b}"));
    special.chain(bytes).chain(merged).collect()
}

/// GPT-2's printable character for each byte: itself, or the next one from U+0100.
fn byte_symbols() -> Vec<char> {
    let mut spare = '\u{100}'..;
    (0..=u8::MAX)
        .map(|byte| match byte {
            b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => char::from(byte),
            _ => spare.next().unwrap(),
        })
        .collect()
}

/// A `tokenizer.json`.
pub(crate) fn json(pre_tokenizer: PreTokenizer) -> Json {
    let vocab: serde_json::Map<_, _> =
        tokens().into_iter().zip(0..).map(|(token, id)| (token, Json::from(id))).collect();
    let added: Vec<_> = SPECIAL
        .into_iter()
        .enumerate()
        .map(|(id, content)| {
            json!({
                "id": id, "content": content, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true,
            })
        })
        .collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": null, "pre_tokenizer": pre_tokenizer.json(), "post_processor": null,
        "decoder": {
            "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true,
        },
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": false, "vocab": vocab,
            "merges": MERGES.map(|(a, b)| [a, b]).as_slice(),
        },
    })
}

/// A `tokenizer_config.json`.
pub(crate) fn config_json() -> Json {
    json!({
        "bos_token": SPECIAL[special::IM_START as usize],
        "eos_token": SPECIAL[special::IM_END as usize],
        "chat_template": CHAT_TEMPLATE,
        "tokenizer_class": "GPT2TokenizerFast",
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_token_appears_twice_and_every_merge_has_its_parts() {
        let tokens: BTreeSet<_> = tokens().into_iter().collect();
        assert_eq!(tokens.len(), VOCAB_SIZE);
        for (a, b) in MERGES {
            assert!(tokens.contains(a) && tokens.contains(b), "{a} {b}");
        }
    }

    #[test]
    fn bytes_without_a_printable_form_move_up_in_order() {
        let symbols = byte_symbols();
        assert_eq!((symbols[0], symbols[usize::from(b' ')], symbols[0xAD]), ('Ā', 'Ġ', 'Ń'));
        assert_eq!((symbols[usize::from(b'a')], symbols[0xE2]), ('a', 'â'));
    }
}
