use meav_weights::{Fingerprint, GgufFile, GgufValue};
use tokenizers::decoders::byte_level::ByteLevel as ByteLevelDecoder;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, PreTokenizerWrapper, SplitDelimiterBehavior, Tokenizer};

use crate::TokenizerError;

/// The identity of a vocabulary: BLAKE3 over, for each token in the order of ids, the id and the
/// token's length in bytes, both as little-endian `u64`, and its UTF-8.
pub fn vocabulary_fingerprint(tokenizer: &Tokenizer) -> Fingerprint {
    let mut tokens: Vec<(u32, String)> =
        tokenizer.get_vocab(true).into_iter().map(|(token, id)| (id, token)).collect();
    tokens.sort_unstable();
    let mut bytes = Vec::new();
    for (id, token) in &tokens {
        bytes.extend(u64::from(*id).to_le_bytes());
        bytes.extend((token.len() as u64).to_le_bytes());
        bytes.extend(token.as_bytes());
    }
    Fingerprint::of_bytes(&bytes)
}

/// How Llama 3 cuts text into words before merging bytes.
const LLAMA_3_WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Token types of a GGUF that are never part of ordinary text.
const CONTROL: u64 = 3;
const USER_DEFINED: u64 = 4;

/// Rebuilds the tokenizer that a GGUF's vocabulary, merges and flags came from.
///
/// candle's own reader takes every kind that it doesn't know for GPT-2's with a space in front,
/// which is wrong for `SmolLM`; unknown kinds are refused here.
pub(crate) fn from_gguf(gguf: &GgufFile) -> Result<Tokenizer, TokenizerError> {
    let kind = gguf.str("tokenizer.ggml.model")?;
    if kind != "gpt2" {
        return Err(TokenizerError::UnsupportedGguf { kind: kind.to_owned() });
    }
    let pre = gguf.get("tokenizer.ggml.pre").and_then(|pre| pre.to_string().ok());
    let pre_tokenizer = pre_tokenizer(pre.map_or("gpt-2", String::as_str))?;
    let tokens = strings(gguf, "tokenizer.ggml.tokens")?;
    let vocab: Vocab = tokens.iter().cloned().zip(0..).collect();
    let merges = strings(gguf, "tokenizer.ggml.merges")?
        .iter()
        .map(|merge| merge.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned())))
        .collect::<Option<Vec<_>>>()
        .ok_or(TokenizerError::DamagedGguf { key: "tokenizer.ggml.merges" })?;
    let ignore_merges = pre.is_some_and(|pre| pre == "llama-bpe");
    let bpe =
        BPE::builder().vocab_and_merges(vocab, merges).ignore_merges(ignore_merges).build()?;
    let mut tokenizer = Tokenizer::new(bpe);
    tokenizer.with_pre_tokenizer(Some(pre_tokenizer));
    tokenizer.with_decoder(Some(ByteLevelDecoder::new(true, true, true)));
    let types = gguf.array("tokenizer.ggml.token_type")?;
    if types.len() != tokens.len() {
        return Err(TokenizerError::DamagedGguf { key: "tokenizer.ggml.token_type" });
    }
    let of_type = |wanted: u64| -> Vec<AddedToken> {
        let special = wanted == CONTROL;
        types
            .iter()
            .zip(&tokens)
            .filter(|(kind, _)| integer(kind) == Some(wanted))
            .map(|(_, token)| AddedToken::from(token.clone(), special))
            .collect()
    };
    tokenizer.add_special_tokens(of_type(CONTROL))?;
    tokenizer.add_tokens(of_type(USER_DEFINED))?;
    Ok(tokenizer)
}

fn pre_tokenizer(pre: &str) -> Result<PreTokenizerWrapper, TokenizerError> {
    let words = |prefix_space| ByteLevel::new(prefix_space, true, true);
    Ok(match pre {
        "smollm" => Sequence::new(vec![Digits::new(true).into(), words(false).into()]).into(),
        "gpt-2" => words(false).into(),
        "llama-bpe" => {
            let pattern = SplitPattern::Regex(LLAMA_3_WORDS.to_owned());
            let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false)?;
            Sequence::new(vec![split.into(), ByteLevel::new(false, true, false).into()]).into()
        }
        other => return Err(TokenizerError::UnsupportedGguf { kind: other.to_owned() }),
    })
}

fn strings(gguf: &GgufFile, key: &'static str) -> Result<Vec<String>, TokenizerError> {
    gguf.array(key)?
        .iter()
        .map(|value| value.to_string().cloned())
        .collect::<Result<_, _>>()
        .map_err(|_source| TokenizerError::DamagedGguf { key })
}

fn integer(value: &GgufValue) -> Option<u64> {
    match value {
        GgufValue::I32(n) => u64::try_from(*n).ok(),
        other => other.to_u64().ok(),
    }
}
