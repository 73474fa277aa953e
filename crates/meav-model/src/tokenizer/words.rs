use serde_json::Value as Json;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::punctuation::Punctuation;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{PreTokenizerWrapper, SplitDelimiterBehavior};

use self::Cut::{Bytes, Digit, DigitRuns, Gpt2, Marks, Matches};
use crate::TokenizerError;

/// How text is cut into words, inside which bytes are merged.
#[derive(Debug, PartialEq)]
pub(crate) struct WordRule {
    /// llama.cpp's names of it, the values of `tokenizer.ggml.pre`. The first one is written.
    pub(crate) names: &'static [&'static str],
    /// Whether characters are composed first (NFC).
    pub(super) composes: bool,
    /// Whether a word that is a token stays whole even where no merges lead to it.
    pub(super) keeps_whole_tokens: bool,
    /// Whether a text begins with the start token where the file doesn't say.
    pub(super) adds_bos: bool,
    cuts: &'static [Cut],
}

/// One step of cutting text, on what the step before has left.
#[derive(Debug, PartialEq)]
enum Cut {
    /// Each match is a word.
    Matches(&'static str),
    /// Each run of punctuation is a word.
    Marks,
    /// Each digit is a word.
    Digit,
    /// Each run of digits is a word.
    DigitRuns,
    /// GPT-2's words, as bytes.
    Gpt2,
    /// What is left, as bytes.
    Bytes,
}

/// Every rule known here; each gives the ids of the model family's own tokenizer.
///
/// Kinds that llama.cpp approximates, and those of which no vocabulary was there to compare with,
/// are left out.
static RULES: [WordRule; 15] = [
    WordRule { cuts: &[Gpt2], ..rule(&["gpt-2"]) },
    // GPT-NeoX's.
    WordRule { cuts: &[Gpt2], composes: true, ..rule(&["mpt"]) },
    WordRule { cuts: &[Digit, Gpt2], ..rule(&["smollm"]) },
    WordRule { cuts: &[Digit, Gpt2], ..rule(&["starcoder"]) },
    WordRule { cuts: &[Digit, Gpt2], ..rule(&["refact"]) },
    WordRule { cuts: &[Digit, Gpt2], composes: true, ..rule(&["command-r"]) },
    WordRule { cuts: &[Marks, Gpt2, DigitRuns, Matches("[0-9][0-9][0-9]")], ..rule(&["falcon"]) },
    WordRule {
        cuts: &[Matches(LLAMA_3), Bytes],
        keeps_whole_tokens: true,
        adds_bos: true,
        ..rule(&["llama-bpe", "llama-v3", "llama3"])
    },
    // Phi-4's, which is OpenAI's cl100k.
    WordRule { cuts: &[Matches(LLAMA_3), Bytes], ..rule(&["dbrx"]) },
    WordRule { cuts: &[Matches(QWEN_2), Bytes], composes: true, ..rule(&["qwen2"]) },
    // Mistral Nemo's.
    WordRule {
        cuts: &[Matches(TEKKEN), Bytes],
        keeps_whole_tokens: true,
        adds_bos: true,
        ..rule(&["tekken"])
    },
    // Phi-4-mini's, which is OpenAI's o200k.
    WordRule { cuts: &[Matches(GPT_4O), Bytes], ..rule(&["gpt-4o"]) },
    WordRule {
        cuts: &[
            Matches(r"[\r\n]"),
            Matches(DEEPSEEK_LETTERS),
            Matches(DEEPSEEK_MARKS),
            Matches(r"\s+$"),
            Matches(DEEPSEEK_EAST_ASIAN),
            Digit,
            Bytes,
        ],
        ..rule(&["deepseek-llm"])
    },
    WordRule {
        cuts: &[
            Matches(r"[\r\n]"),
            Matches(r"\s?\p{L}+"),
            Matches(r"\s?\p{P}+"),
            Matches(DEEPSEEK_EAST_ASIAN),
            Digit,
            Bytes,
        ],
        ..rule(&["deepseek-coder"])
    },
    WordRule {
        cuts: &[
            Matches(r"\p{N}{1,3}"),
            Matches(DEEPSEEK_3_EAST_ASIAN),
            Matches(DEEPSEEK_3_WORDS),
            Bytes,
        ],
        ..rule(&["deepseek-v3"])
    },
];

const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN_2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT_4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DEEPSEEK_LETTERS: &str = "\\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-\u{1f7d}ᾀ-ᾴᾶ-ᾼ\u{1fbe}ῂ-ῄῆ-ῌῐ-\u{1fd3}ῖ-\u{1fdb}ῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\u{2126}ℨ\u{212a}-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+";
const DEEPSEEK_MARKS: &str = r"\s?[!-/:-~！-／：-～‘-‟　-。]+";
const DEEPSEEK_EAST_ASIAN: &str = "[一-龥ࠀ-一가-퟿]+";
const DEEPSEEK_3_EAST_ASIAN: &str = "[一-龥぀-ゟ゠-ヿ]+";
const DEEPSEEK_3_WORDS: &str = "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+";

/// How many rules there are.
#[cfg(test)]
pub(super) fn n_rules() -> usize {
    RULES.len()
}

const fn rule(names: &'static [&'static str]) -> WordRule {
    WordRule { names, composes: false, keeps_whole_tokens: false, adds_bos: false, cuts: &[] }
}

impl WordRule {
    /// The rule that llama.cpp calls `name`.
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        RULES.iter().find(|rule| rule.names.contains(&name))
    }

    /// The rule by which a `tokenizer.json` works: `normalizer`, `pre_tokenizer` and
    /// `model.ignore_merges` as it has them.
    pub(super) fn of_parts(
        normalizer: &Json,
        pre_tokenizer: &Json,
        ignore_merges: bool,
    ) -> Option<&'static Self> {
        let composes = match normalizer["type"].as_str() {
            None => false,
            Some("NFC") => true,
            Some("Sequence") if normalizer["normalizers"] == Json::Array(Vec::new()) => false,
            Some(_) => return None,
        };
        let wanted = without_offsets(pre_tokenizer.clone());
        RULES.iter().find(|rule| {
            let same = |cuts: &PreTokenizerWrapper| {
                serde_json::to_value(cuts).is_ok_and(|found| without_offsets(found) == wanted)
            };
            rule.composes == composes
                && rule.keeps_whole_tokens == ignore_merges
                && rule.pre_tokenizer().is_ok_and(|cuts| same(&cuts))
        })
    }

    pub(super) fn pre_tokenizer(&self) -> Result<PreTokenizerWrapper, TokenizerError> {
        let mut steps = self.cuts.iter().map(Cut::pre_tokenizer).collect::<Result<Vec<_>, _>>()?;
        Ok(match steps.pop() {
            Some(only) if steps.is_empty() => only,
            last => Sequence::new(steps.into_iter().chain(last).collect()).into(),
        })
    }
}

impl Cut {
    fn pre_tokenizer(&self) -> Result<PreTokenizerWrapper, TokenizerError> {
        Ok(match self {
            Self::Matches(pattern) => {
                let pattern = SplitPattern::Regex((*pattern).to_owned());
                Split::new(pattern, SplitDelimiterBehavior::Isolated, false)?.into()
            }
            Self::Marks => Punctuation::new(SplitDelimiterBehavior::Contiguous).into(),
            Self::Digit => Digits::new(true).into(),
            Self::DigitRuns => Digits::new(false).into(),
            Self::Gpt2 => ByteLevel::new(false, true, true).into(),
            Self::Bytes => ByteLevel::new(false, true, false).into(),
        })
    }
}

/// Leaves out `trim_offsets`, which has no effect on the tokens.
fn without_offsets(mut json: Json) -> Json {
    match &mut json {
        Json::Object(fields) => {
            fields.remove("trim_offsets");
            for value in fields.values_mut() {
                *value = without_offsets(value.take());
            }
        }
        Json::Array(items) => {
            for item in items {
                *item = without_offsets(item.take());
            }
        }
        _ => {}
    }
    json
}
