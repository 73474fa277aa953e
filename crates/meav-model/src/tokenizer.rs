use meav_weights::{Fingerprint, GgufFile, GgufValue};
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::byte_level::ByteLevel as ByteLevelDecoder;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as Decoders;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::prepend::Prepend;
use tokenizers::normalizers::replace::Replace;
use tokenizers::normalizers::utils::Sequence as Normalizers;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{
    AddedToken, DecoderWrapper, NormalizerWrapper, PreTokenizerWrapper, SplitDelimiterBehavior,
    Tokenizer,
};

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

/// Rebuilds the tokenizer that a GGUF's vocabulary, merges, scores and flags came from.
///
/// candle's own reader takes every kind that it doesn't know for GPT-2's with a space in front,
/// which is wrong for `SmolLM`; unknown kinds are refused here.
pub(crate) fn from_gguf(gguf: &GgufFile) -> Result<Tokenizer, TokenizerError> {
    let tokens = strings(gguf, "tokenizer.ggml.tokens")?;
    let types: Vec<_> = gguf.array("tokenizer.ggml.token_type")?.iter().map(integer).collect();
    if types.len() != tokens.len() {
        return Err(TokenizerError::DamagedGguf { key: "tokenizer.ggml.token_type" });
    }
    let mut tokenizer = match gguf.str("tokenizer.ggml.model")? {
        "gpt2" => byte_level(gguf, &tokens)?,
        "llama" => sentence_piece(gguf, &tokens)?,
        kind => return Err(TokenizerError::UnsupportedGguf { kind: kind.to_owned() }),
    };
    let of_type = |wanted: u64| -> Vec<AddedToken> {
        let special = wanted == CONTROL;
        types
            .iter()
            .zip(&tokens)
            .filter(|(kind, _)| **kind == Some(wanted))
            .map(|(_, token)| AddedToken::from(token.clone(), special))
            .collect()
    };
    tokenizer.add_special_tokens(of_type(CONTROL))?;
    tokenizer.add_tokens(of_type(USER_DEFINED))?;
    Ok(tokenizer)
}

/// GPT-2's kind: bytes as printable characters, merged in a listed order inside words.
fn byte_level(gguf: &GgufFile, tokens: &[String]) -> Result<Tokenizer, TokenizerError> {
    let pre = gguf.get("tokenizer.ggml.pre").and_then(|pre| pre.to_string().ok());
    let pre_tokenizer = pre_tokenizer(pre.map_or("gpt-2", String::as_str))?;
    let merges = strings(gguf, "tokenizer.ggml.merges")?
        .iter()
        .map(|merge| merge.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned())))
        .collect::<Option<Vec<_>>>()
        .ok_or(TokenizerError::DamagedGguf { key: "tokenizer.ggml.merges" })?;
    let ignore_merges = pre.is_some_and(|pre| pre == "llama-bpe");
    let vocab = vocabulary(tokens);
    let bpe =
        BPE::builder().vocab_and_merges(vocab, merges).ignore_merges(ignore_merges).build()?;
    let mut tokenizer = Tokenizer::new(bpe);
    tokenizer.with_pre_tokenizer(Some(pre_tokenizer));
    tokenizer.with_decoder(Some(ByteLevelDecoder::new(true, true, true)));
    Ok(tokenizer)
}

/// How `SentencePiece` writes a space.
const SPACE: &str = "▁";

/// Llama 2's kind, `SentencePiece`: characters merged wherever the result is a token, the one with
/// the highest score first; bytes stand in for characters that are no token.
fn sentence_piece(gguf: &GgufFile, tokens: &[String]) -> Result<Tokenizer, TokenizerError> {
    let damaged = || TokenizerError::DamagedGguf { key: "tokenizer.ggml.scores" };
    let scores: Vec<f32> = gguf
        .array("tokenizer.ggml.scores")?
        .iter()
        .map(GgufValue::to_f32)
        .collect::<Result<_, _>>()
        .map_err(|_source| damaged())?;
    if scores.len() != tokens.len() {
        return Err(damaged());
    }
    let vocab = vocabulary(tokens);
    let mut merges: Vec<(f32, u32, u32)> = Vec::new();
    for (token, score) in tokens.iter().zip(&scores) {
        let parts = token.char_indices().skip(1).filter_map(|(at, _)| {
            let (left, right) = token.split_at(at);
            Some((*score, *vocab.get(left)?, *vocab.get(right)?))
        });
        let first = merges.len();
        merges.extend(parts);
        merges[first..].sort_unstable_by_key(|(_, left, right)| (*left, *right));
    }
    merges.sort_by(|a, b| b.0.total_cmp(&a.0));
    let token = |id: u32| tokens[id as usize].clone();
    let merges = merges.into_iter().map(|(_, left, right)| (token(left), token(right))).collect();
    let mut builder = BPE::builder().vocab_and_merges(vocab, merges).byte_fallback(true);
    let unknown = gguf.usize("tokenizer.ggml.unknown_token_id").unwrap_or(0);
    if let Some(unknown) = tokens.get(unknown) {
        builder = builder.unk_token(unknown.clone()).fuse_unk(true);
    }
    let mut tokenizer = Tokenizer::new(builder.build()?);
    let has_prefix = gguf
        .get("tokenizer.ggml.add_space_prefix")
        .and_then(|value| value.to_bool().ok())
        .unwrap_or(true);
    let mut normalizers: Vec<NormalizerWrapper> = Vec::new();
    if has_prefix {
        normalizers.push(Prepend::new(SPACE.to_owned()).into());
    }
    normalizers.push(Replace::new(" ", SPACE)?.into());
    tokenizer.with_normalizer(Some(Normalizers::new(normalizers)))?;
    let mut decoders: Vec<DecoderWrapper> =
        vec![Replace::new(SPACE, " ")?.into(), ByteFallback::new().into(), Fuse::new().into()];
    if has_prefix {
        decoders.push(Strip::new(' ', 1, 0).into());
    }
    tokenizer.with_decoder(Some(Decoders::new(decoders)));
    Ok(tokenizer)
}

fn vocabulary(tokens: &[String]) -> Vocab {
    tokens.iter().cloned().zip(0..).collect()
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
