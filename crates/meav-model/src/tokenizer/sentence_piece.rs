use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as Decoders;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::prepend::Prepend;
use tokenizers::normalizers::replace::Replace;
use tokenizers::normalizers::utils::Sequence as Normalizers;
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::{DecoderWrapper, NormalizerWrapper, Tokenizer};

use super::gguf_vocabulary::SPACE;
use super::{GgufVocabulary, TokenKind, VocabularyKind};
use crate::TokenizerError;

/// Tokens of more bytes than any model has would take time without end to take apart.
const MAX_TOKEN_BYTES: usize = 1024;

/// Four times the merges of Gemma, the largest such vocabulary.
const MAX_MERGES: usize = 1 << 21;

/// Bytes of all that merges make: ten times those of Gemma.
const MAX_MERGED_BYTES: usize = 1 << 26;

impl GgufVocabulary {
    pub(super) fn sentence_piece(&self) -> Result<Tokenizer, TokenizerError> {
        let VocabularyKind::SentencePiece { scores, unknown, space_prefix, .. } = &self.kind else {
            return Err(TokenizerError::DamagedGguf { key: "tokenizer.ggml.model" });
        };
        let merges = self.merges_by_score(scores)?;
        let mut builder = BPE::builder().vocab_and_merges(self.ids(), merges).byte_fallback(true);
        if let Some(unknown) = unknown.and_then(|id| self.tokens.get(id as usize)) {
            builder = builder.unk_token(unknown.clone()).fuse_unk(true);
        }
        let mut tokenizer = Tokenizer::new(builder.build()?);
        let mut decoders: Vec<DecoderWrapper> =
            vec![Replace::new(SPACE, " ")?.into(), ByteFallback::new().into(), Fuse::new().into()];
        if *space_prefix {
            decoders.push(Strip::new(' ', 1, 0).into());
        }
        tokenizer.with_decoder(Some(Decoders::new(decoders)));
        if *space_prefix && self.has_mistral_turns() {
            tokenizer.with_pre_tokenizer(Some(Metaspace::new('▁', PrependScheme::First, false)));
            return Ok(tokenizer);
        }
        let mut normalizers: Vec<NormalizerWrapper> = Vec::new();
        if *space_prefix {
            normalizers.push(Prepend::new(SPACE.to_owned()).into());
        }
        normalizers.push(Replace::new(" ", SPACE)?.into());
        tokenizer.with_normalizer(Some(Normalizers::new(normalizers)))?;
        Ok(tokenizer)
    }

    /// Whether `[INST]` is one token, as in Mistral's models from v0.3 on.
    ///
    /// Llama 2 and its kin see a space in front of any text behind a special token, Mistral's
    /// only at the start; the file doesn't say which.
    pub(super) fn has_mistral_turns(&self) -> bool {
        (self.tokens.iter().zip(&self.token_kinds))
            .any(|(token, kind)| token == "[INST]" && *kind == TokenKind::Control)
    }

    /// Every pair of tokens that makes a token, by the score of what it makes.
    ///
    /// Control tokens are left out: they are found in text before anything is merged.
    pub(super) fn merges_by_score(
        &self,
        scores: &[f32],
    ) -> Result<Vec<(String, String)>, TokenizerError> {
        let ids = self.ids();
        let id = |token: &str| {
            let id = *ids.get(token)?;
            let kind = self.token_kinds[id as usize];
            (!matches!(kind, TokenKind::Control | TokenKind::Unknown)).then_some(id)
        };
        let mut merges: Vec<(f32, u32, u32)> = Vec::new();
        let mut n_bytes = 0;
        for (token, score) in self.tokens.iter().zip(scores) {
            if token.len() > MAX_TOKEN_BYTES {
                return Err(TokenizerError::DamagedGguf { key: "tokenizer.ggml.tokens" });
            }
            if id(token).is_none() {
                continue;
            }
            let parts = token.char_indices().skip(1).filter_map(|(at, _)| {
                let (left, right) = token.split_at(at);
                Some((*score, id(left)?, id(right)?))
            });
            let first = merges.len();
            merges.extend(parts);
            n_bytes += (merges.len() - first) * token.len();
            if merges.len() > MAX_MERGES || n_bytes > MAX_MERGED_BYTES {
                return Err(TokenizerError::TooManyMerges);
            }
            merges[first..].sort_unstable_by_key(|(_, left, right)| (*left, *right));
        }
        merges.sort_by(|a, b| b.0.total_cmp(&a.0));
        let text = |id: u32| self.tokens[id as usize].clone();
        Ok(merges.into_iter().map(|(_, left, right)| (text(left), text(right))).collect())
    }
}
