use meav_weights::{GgufFile, GgufValue};
use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::NFC;
use tokenizers::{AddedToken, Tokenizer};

use super::WordRule;
use crate::TokenizerError;

/// A vocabulary as a GGUF's keys under `tokenizer.ggml` state it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct GgufVocabulary {
    /// `tokens`, in the order of ids.
    pub(crate) tokens: Vec<String>,
    /// `token_type`, one for each token.
    pub(crate) token_kinds: Vec<TokenKind>,
    /// `model`, and what belongs to it alone.
    pub(crate) kind: VocabularyKind,
    /// `add_bos_token`: whether a text begins with the start token.
    pub(crate) adds_bos: bool,
    /// `add_eos_token`: whether a text ends with the end token.
    pub(crate) adds_eos: bool,
}

/// How tokens come about.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum VocabularyKind {
    /// Model `gpt2`: bytes as printable characters, merged in a listed order inside words.
    BytePairs {
        /// `pre`, by its first name.
        words: &'static WordRule,
        /// `merges`, each of two tokens with a space between them.
        merges: Vec<String>,
    },
    /// Model `llama`: characters merged wherever the result is a token, the one with the highest
    /// score first; bytes stand in for characters that are no token.
    SentencePiece {
        /// `scores`, one for each token.
        scores: Vec<f32>,
        /// `unknown_token_id`
        unknown: Option<u32>,
        /// `add_space_prefix`: whether a text is taken to begin with a space.
        space_prefix: bool,
        /// Whether special tokens swallow the white space behind them. A GGUF doesn't say; it is
        /// so in Phi-3.
        special_swallow_space: bool,
    },
}

/// What a token is for: the values of `token_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum TokenKind {
    /// A piece of text.
    Normal = 1,
    /// Stands for what can't be written in tokens.
    Unknown = 2,
    /// Has a meaning of its own and is never part of ordinary text.
    Control = 3,
    /// A piece of text that is found before all others.
    UserDefined = 4,
    /// Never comes about.
    Unused = 5,
    /// One byte of a character that is no token.
    Byte = 6,
}

impl TokenKind {
    fn of_value(value: &GgufValue) -> Option<Self> {
        let number = match value {
            GgufValue::I32(n) => u64::try_from(*n).ok()?,
            other => other.to_u64().ok()?,
        };
        [Self::Unknown, Self::Control, Self::UserDefined, Self::Unused, Self::Byte]
            .into_iter()
            .find(|kind| *kind as u64 == number)
            .or((number <= 6).then_some(Self::Normal))
    }
}

/// How `SentencePiece` writes a space.
pub(crate) const SPACE: &str = "▁";

impl GgufVocabulary {
    /// What `gguf` states.
    pub(crate) fn read(gguf: &GgufFile) -> Result<Self, TokenizerError> {
        let mut tokens = strings(gguf, "tokenizer.ggml.tokens")?;
        let types = "tokenizer.ggml.token_type";
        let token_kinds = (gguf.array(types)?.iter())
            .map(TokenKind::of_value)
            .collect::<Option<Vec<_>>>()
            .filter(|kinds| kinds.len() == tokens.len())
            .ok_or(TokenizerError::DamagedGguf { key: types })?;
        let kind = match gguf.str("tokenizer.ggml.model")? {
            "gpt2" => VocabularyKind::read_byte_pairs(gguf)?,
            "llama" => {
                // llama.cpp writes spaces as they are where it looks for a token in plain text.
                let in_plain_text = |kind| kind == TokenKind::UserDefined;
                for (token, _) in
                    tokens.iter_mut().zip(&token_kinds).filter(|(_, kind)| in_plain_text(**kind))
                {
                    *token = token.replace(' ', SPACE);
                }
                VocabularyKind::read_sentence_piece(gguf, tokens.len())?
            }
            kind => return Err(TokenizerError::UnsupportedGguf { kind: kind.to_owned() }),
        };
        let adds_bos = flag(gguf, "tokenizer.ggml.add_bos_token").unwrap_or(match &kind {
            VocabularyKind::BytePairs { words, .. } => words.adds_bos,
            VocabularyKind::SentencePiece { .. } => true,
        });
        let adds_eos = flag(gguf, "tokenizer.ggml.add_eos_token").unwrap_or(false);
        Ok(Self { tokens, token_kinds, kind, adds_bos, adds_eos })
    }

    /// `tokenizer.ggml.model`
    pub(crate) fn model(&self) -> &'static str {
        match self.kind {
            VocabularyKind::BytePairs { .. } => "gpt2",
            VocabularyKind::SentencePiece { .. } => "llama",
        }
    }

    /// `tokenizer.ggml.pre`
    pub(crate) fn pre(&self) -> &'static str {
        match &self.kind {
            VocabularyKind::BytePairs { words, .. } => words.names[0],
            VocabularyKind::SentencePiece { .. } => "default",
        }
    }

    /// The tokenizer that gives these tokens.
    ///
    /// It turns text into tokens and back and adds none of its own, whatever `adds_bos` says; see
    /// [`from_gguf`](super::from_gguf).
    pub(crate) fn tokenizer(&self) -> Result<Tokenizer, TokenizerError> {
        let mut tokenizer = match &self.kind {
            VocabularyKind::BytePairs { words, merges } => self.byte_pairs(words, merges)?,
            VocabularyKind::SentencePiece { .. } => self.sentence_piece()?,
        };
        let of_kind = |wanted| move |(_, kind): &(&String, TokenKind)| *kind == wanted;
        let tokens = || self.tokens.iter().zip(self.token_kinds.iter().copied());
        let special = tokens()
            .filter(of_kind(TokenKind::Control))
            .chain(self.unknown())
            .map(|(token, _)| self.added(token, true));
        tokenizer.add_special_tokens(special.collect::<Vec<_>>())?;
        let user_defined = tokens()
            .filter(of_kind(TokenKind::UserDefined))
            .map(|(token, _)| self.added(token, false));
        tokenizer.add_tokens(user_defined.collect::<Vec<_>>())?;
        Ok(tokenizer)
    }

    /// A token that is found in text before it is cut into words.
    fn added(&self, token: &str, special: bool) -> AddedToken {
        let swallows_space = match self.kind {
            VocabularyKind::SentencePiece { special_swallow_space: true, .. } => {
                token == "</s>" || special && !PHI_3_KEEPS_SPACE.contains(&token)
            }
            _ => false,
        };
        AddedToken::from(token, special).normalized(false).rstrip(swallows_space)
    }

    /// The unknown token, if it is one by its kind too.
    fn unknown(&self) -> Option<(&String, TokenKind)> {
        let VocabularyKind::SentencePiece { unknown: Some(id), .. } = self.kind else {
            return None;
        };
        let token = self.tokens.get(id as usize)?;
        (self.token_kinds[id as usize] == TokenKind::Unknown).then_some((token, TokenKind::Unknown))
    }

    /// Whether the token is there only to make the vocabulary as long as the embeddings.
    fn is_filler(&self, id: usize) -> bool {
        matches!(self.token_kinds[id], TokenKind::Unused | TokenKind::Unknown)
            && self.tokens[id] == filler(id)
    }

    /// The ids of the tokens, without those that never come about.
    pub(super) fn ids(&self) -> Vocab {
        (self.tokens.iter().cloned().zip(0..))
            .filter(|(_, id)| !self.is_filler(*id as usize))
            .collect()
    }

    fn byte_pairs(&self, words: &WordRule, merges: &[String]) -> Result<Tokenizer, TokenizerError> {
        let merges = merges
            .iter()
            .map(|merge| merge.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned())))
            .collect::<Option<Vec<_>>>()
            .ok_or(TokenizerError::DamagedGguf { key: "tokenizer.ggml.merges" })?;
        let bpe = BPE::builder()
            .vocab_and_merges(self.ids(), merges)
            .ignore_merges(words.keeps_whole_tokens)
            .build()?;
        let mut tokenizer = Tokenizer::new(bpe);
        if words.composes {
            tokenizer.with_normalizer(Some(NFC))?;
        }
        tokenizer.with_pre_tokenizer(Some(words.pre_tokenizer()?));
        tokenizer.with_decoder(Some(ByteLevel::new(true, true, true)));
        Ok(tokenizer)
    }
}

/// Special tokens of Phi-3 that leave the white space behind them alone.
const PHI_3_KEEPS_SPACE: [&str; 3] = ["<unk>", "<s>", "<|endoftext|>"];

/// What llama.cpp calls a token that only fills up the vocabulary.
pub(super) fn filler(id: usize) -> String {
    format!("[PAD{id}]")
}

impl VocabularyKind {
    fn read_byte_pairs(gguf: &GgufFile) -> Result<Self, TokenizerError> {
        // Without a name llama.cpp guesses, and warns of bad answers.
        let name = gguf.str("tokenizer.ggml.pre").unwrap_or("default");
        let words = WordRule::named(name)
            .ok_or_else(|| TokenizerError::UnsupportedGguf { kind: name.to_owned() })?;
        Ok(Self::BytePairs { words, merges: strings(gguf, "tokenizer.ggml.merges")? })
    }

    fn read_sentence_piece(gguf: &GgufFile, n_tokens: usize) -> Result<Self, TokenizerError> {
        let key = "tokenizer.ggml.scores";
        let damaged = || TokenizerError::DamagedGguf { key };
        let scores: Vec<f32> = (gguf.array(key)?.iter())
            .map(GgufValue::to_f32)
            .collect::<Result<_, _>>()
            .map_err(|_source| damaged())?;
        if scores.len() != n_tokens {
            return Err(damaged());
        }
        let unknown = gguf.usize("tokenizer.ggml.unknown_token_id").unwrap_or(0);
        Ok(Self::SentencePiece {
            scores,
            unknown: u32::try_from(unknown).ok(),
            space_prefix: flag(gguf, "tokenizer.ggml.add_space_prefix").unwrap_or(true),
            special_swallow_space: gguf.str("general.architecture").is_ok_and(|a| a == "phi3"),
        })
    }
}

fn flag(gguf: &GgufFile, key: &str) -> Option<bool> {
    gguf.get(key).and_then(|value| value.to_bool().ok())
}

fn strings(gguf: &GgufFile, key: &'static str) -> Result<Vec<String>, TokenizerError> {
    gguf.array(key)?
        .iter()
        .map(|value| value.to_string().cloned())
        .collect::<Result<_, _>>()
        .map_err(|_source| TokenizerError::DamagedGguf { key })
}
