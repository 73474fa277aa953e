use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Value as Json, json};
use tokenizers::Tokenizer;

use super::gguf_vocabulary::{SPACE, filler};
use super::{GgufVocabulary, TokenKind, VocabularyKind, WordRule};

/// The parts of a `tokenizer.json` that make the tokens.
#[derive(Deserialize)]
struct TokenizerJson {
    added_tokens: Vec<Added>,
    normalizer: Json,
    pre_tokenizer: Json,
    model: Model,
}

#[derive(Deserialize)]
struct Added {
    id: u32,
    content: String,
    special: bool,
    rstrip: bool,
}

#[derive(Deserialize)]
struct Model {
    r#type: String,
    unk_token: Option<String>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    byte_fallback: bool,
    ignore_merges: bool,
    vocab: BTreeMap<String, u32>,
    merges: Vec<(String, String)>,
}

impl GgufVocabulary {
    /// How a GGUF states the vocabulary of `tokenizer`, with as many tokens as the model has
    /// embeddings; nothing if a GGUF can't, or not in a kind known here.
    ///
    /// What a GGUF has no words for is lost: which tokens swallow the white space around them
    /// (other than in Phi-3), and, in a `SentencePiece` kind, whether a space is put in front of
    /// the text behind each special token or only at the start (see
    /// [`has_mistral_turns`](Self::has_mistral_turns)).
    pub(crate) fn of(tokenizer: &Tokenizer, n_embeddings: usize) -> Option<Self> {
        let text = tokenizer.to_string(false).ok()?;
        let json: TokenizerJson = serde_json::from_str(&text).ok()?;
        let affix = |affix: &Option<String>| affix.as_ref().is_some_and(|text| !text.is_empty());
        let model = &json.model;
        if model.r#type != "BPE"
            || affix(&model.continuing_subword_prefix)
            || affix(&model.end_of_word_suffix)
        {
            return None;
        }
        let (tokens, token_kinds) = json.tokens(n_embeddings)?;
        let kind = if model.byte_fallback {
            json.sentence_piece(&tokens, &token_kinds)?
        } else {
            json.byte_pairs()?
        };
        let around_text = tokenizer.encode("a", true).ok()?;
        let is_added = |mark: Option<&u32>| mark == Some(&1);
        let marks = around_text.get_special_tokens_mask();
        let (adds_bos, adds_eos) = (is_added(marks.first()), is_added(marks.last()));
        Some(Self { tokens, token_kinds, kind, adds_bos, adds_eos })
    }
}

impl TokenizerJson {
    fn tokens(&self, n_embeddings: usize) -> Option<(Vec<String>, Vec<TokenKind>)> {
        let mut tokens: Vec<String> = (0..n_embeddings).map(filler).collect();
        let mut kinds = vec![TokenKind::Unused; n_embeddings];
        for (token, id) in &self.model.vocab {
            let id = *id as usize;
            token.clone_into(tokens.get_mut(id)?);
            kinds[id] = if self.model.byte_fallback && is_byte(token) {
                TokenKind::Byte
            } else {
                TokenKind::Normal
            };
        }
        for added in &self.added_tokens {
            let id = added.id as usize;
            added.content.clone_into(tokens.get_mut(id)?);
            let is_unknown =
                self.model.byte_fallback && self.model.unk_token.as_ref() == Some(&added.content);
            kinds[id] = match (added.special, is_unknown) {
                (true, true) => TokenKind::Unknown,
                (true, false) => TokenKind::Control,
                (false, _) => TokenKind::UserDefined,
            };
        }
        Some((tokens, kinds))
    }

    fn byte_pairs(&self) -> Option<VocabularyKind> {
        let words =
            WordRule::of_parts(&self.normalizer, &self.pre_tokenizer, self.model.ignore_merges)?;
        let merges = self.model.merges.iter().map(|(a, b)| format!("{a} {b}")).collect();
        Some(VocabularyKind::BytePairs { words, merges })
    }

    fn sentence_piece(&self, tokens: &[String], kinds: &[TokenKind]) -> Option<VocabularyKind> {
        let space_prefix = self.space_prefix()?;
        let scores = self.scores(tokens.len())?;
        let unknown = self.model.unk_token.as_ref();
        let unknown = unknown.and_then(|token| tokens.iter().position(|other| other == token));
        let swallows = |added: &Added| added.special && added.rstrip;
        let kind = VocabularyKind::SentencePiece {
            scores: scores.clone(),
            unknown: unknown.and_then(|id| u32::try_from(id).ok()),
            space_prefix,
            special_swallow_space: self.added_tokens.iter().any(swallows),
        };
        let vocabulary = GgufVocabulary {
            tokens: tokens.to_vec(),
            token_kinds: kinds.to_vec(),
            kind: kind.clone(),
            adds_bos: false,
            adds_eos: false,
        };
        let merges = vocabulary.merges_by_score(&scores).ok()?;
        self.has_merges(&merges).then_some(kind)
    }

    /// Whether text is taken to begin with a space.
    fn space_prefix(&self) -> Option<bool> {
        let replace = json!({ "type": "Replace", "pattern": { "String": " " }, "content": SPACE });
        let prepend = json!({ "type": "Prepend", "prepend": SPACE });
        let sequence = |steps: &[&Json]| json!({ "type": "Sequence", "normalizers": steps });
        let cut_at_spaces = json!({
            "type": "Split", "pattern": { "String": " " }, "behavior": "MergedWithPrevious",
            "invert": false,
        });
        let pre_tokenizer = &self.pre_tokenizer;
        if self.normalizer.is_null() && pre_tokenizer["type"] == "Metaspace" {
            let is_whole = pre_tokenizer["split"] == false && pre_tokenizer["replacement"] == SPACE;
            return is_whole.then_some(pre_tokenizer["prepend_scheme"] != "never");
        }
        // After the normaliser no spaces are left to cut at.
        if !pre_tokenizer.is_null() && *pre_tokenizer != cut_at_spaces {
            return None;
        }
        if self.normalizer == sequence(&[&prepend, &replace]) {
            return Some(true);
        }
        let has_none = self.normalizer == replace || self.normalizer == sequence(&[&replace]);
        has_none.then_some(false)
    }

    /// Scores that put the tokens in the order in which the merges make them; nothing if the
    /// merges of two tokens are mixed, and a text could show it.
    fn scores(&self, n_tokens: usize) -> Option<Vec<f32>> {
        let merges = &self.model.merges;
        let made = (merges.iter())
            .map(|(left, right)| self.model.vocab.get(&format!("{left}{right}")))
            .map(|id| id.map(|id| *id as usize))
            .collect::<Option<Vec<_>>>()?;
        let mut last = vec![0; n_tokens];
        for (index, id) in made.iter().enumerate() {
            last[*id] = index;
        }
        // No token that nothing makes is ever chosen by its score.
        let mut scores = vec![-(made.len() as f32); n_tokens];
        let (mut start, mut rank) = (0, 0.0);
        while start < made.len() {
            let mut end = start;
            let mut index = start;
            while index <= end {
                end = end.max(last[made[index]]);
                index += 1;
            }
            let equals = &made[start..=end];
            if equals.iter().any(|id| *id != equals[0])
                && !merges[start..=end].iter().all(|(a, b)| self.may_be_equal(&format!("{a}{b}")))
            {
                return None;
            }
            for id in equals {
                scores[*id] = -rank;
            }
            rank += 1.0;
            start = end + 1;
        }
        Some(scores)
    }

    /// Whether a token may have the score of another: it is found in text before anything is
    /// merged, or it is a run of one character, as indentation is.
    fn may_be_equal(&self, token: &str) -> bool {
        let mut characters = token.chars();
        let first = characters.next();
        characters.all(|other| Some(other) == first)
            || self.added_tokens.iter().any(|added| added.content == token)
    }

    /// Whether `merges` are those of the model, but for those of special tokens.
    ///
    /// Their order need not be looked at: both are in the order of the scores.
    fn has_merges(&self, merges: &[(String, String)]) -> bool {
        let special: BTreeSet<&str> = (self.added_tokens.iter())
            .filter(|added| added.special)
            .map(|added| added.content.as_str())
            .collect();
        let is_plain = |(a, b): &&(String, String)| {
            let made = format!("{a}{b}");
            [a, b, &made].into_iter().all(|token| !special.contains(token.as_str()))
        };
        let own: BTreeSet<_> = self.model.merges.iter().filter(is_plain).collect();
        own == merges.iter().collect()
    }
}

/// Whether `SentencePiece` writes a byte like this.
fn is_byte(token: &str) -> bool {
    let digits = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    digits.is_some_and(|digits| digits.len() == 2 && u8::from_str_radix(digits, 16).is_ok())
}
