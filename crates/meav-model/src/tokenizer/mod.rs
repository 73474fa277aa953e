//! Text to tokens and back, and the ways in which a GGUF writes a tokenizer down.

mod gguf_vocabulary;
mod sentence_piece;
mod tokenizer_json;
mod words;

pub(crate) use gguf_vocabulary::{GgufVocabulary, SPACE, TokenKind, VocabularyKind};
pub(crate) use words::WordRule;

use std::collections::BTreeSet;

use meav_weights::{Fingerprint, GgufFile};
use serde_json::{Value as Json, json};
use tokenizers::{PostProcessorWrapper, Tokenizer};

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

/// `tokenizer` without the added tokens `forgotten`.
pub(crate) fn without(
    tokenizer: &Tokenizer,
    forgotten: &BTreeSet<String>,
) -> Result<Tokenizer, TokenizerError> {
    let text = tokenizer.to_string(false)?;
    let mut json: Json =
        serde_json::from_str(&text).map_err(|err| TokenizerError::Library(err.into()))?;
    if let Some(added) = json["added_tokens"].as_array_mut() {
        added.retain(|it| !it["content"].as_str().is_some_and(|text| forgotten.contains(text)));
    }
    if let Some(vocab) = json["model"]["vocab"].as_object_mut() {
        vocab.retain(|token, _| !forgotten.contains(token));
    }
    Ok(Tokenizer::from_bytes(json.to_string())?)
}

/// Rebuilds the tokenizer that a GGUF's vocabulary, merges, scores and flags came from.
///
/// Where the file says that texts begin or end with a token, the tokenizer puts them there for
/// whoever asks for special tokens, which nobody does here: templates write them.
///
/// candle's own reader takes every kind that it doesn't know for GPT-2's with a space in front,
/// which is wrong for `SmolLM`; unknown kinds are refused here.
pub(crate) fn from_gguf(gguf: &GgufFile) -> Result<Tokenizer, TokenizerError> {
    let vocabulary = GgufVocabulary::read(gguf)?;
    let mut tokenizer = vocabulary.tokenizer()?;
    let token = |key: &str| {
        let id = gguf.usize(key).ok()?;
        Some((id, vocabulary.tokens.get(id)?.as_str()))
    };
    let begin = token("tokenizer.ggml.bos_token_id").filter(|_| vocabulary.adds_bos);
    let end = token("tokenizer.ggml.eos_token_id").filter(|_| vocabulary.adds_eos);
    if begin.is_some() || end.is_some() {
        tokenizer.with_post_processor(Some(enclosing(begin, end)?));
    }
    Ok(tokenizer)
}

/// Puts a token in front of each text, or behind it, or both.
fn enclosing(
    begin: Option<(usize, &str)>,
    end: Option<(usize, &str)>,
) -> Result<PostProcessorWrapper, TokenizerError> {
    let part = |text: &str, type_id: u32| {
        let token = |(_, token): (usize, &str)| json!({ "SpecialToken": { "id": token, "type_id": type_id } });
        let text = json!({ "Sequence": { "id": text, "type_id": type_id } });
        begin.map(token).into_iter().chain([text]).chain(end.map(token)).collect::<Vec<_>>()
    };
    let special: serde_json::Map<_, _> = (begin.into_iter().chain(end))
        .map(|(id, token)| {
            (token.to_owned(), json!({ "id": token, "ids": [id], "tokens": [token] }))
        })
        .collect();
    let pair = [part("A", 0), part("B", 1)].concat();
    serde_json::from_value(json!({
        "type": "TemplateProcessing",
        "single": part("A", 0),
        "pair": pair,
        "special_tokens": special,
    }))
    .map_err(|err| TokenizerError::Library(err.into()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use meav_test_support::{Gguf, GgufValue};
    use meav_weights::Checkpoint;
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Fixture {
        texts: Vec<String>,
        vocabularies: BTreeMap<String, Vocabulary>,
        kinds: Vec<Kind>,
    }

    /// What several kinds have in common, as a GGUF states it.
    #[derive(Deserialize)]
    struct Vocabulary {
        tokens: Vec<String>,
        types: Vec<i32>,
        scores: Vec<f32>,
        merges: Vec<(String, String)>,
        unknown: Option<u32>,
    }

    #[derive(Deserialize)]
    struct Kind {
        name: String,
        pre: String,
        architecture: String,
        vocabulary: String,
        /// Tokens behind those of the vocabulary, and their types.
        tokens: Vec<String>,
        types: Vec<i32>,
        /// A `tokenizer.json` without vocabulary and merges.
        tokenizer: Json,
        /// Texts with special tokens in them, behind those that all kinds have.
        turns: Vec<String>,
        ids: Vec<Vec<u32>>,
        /// Nothing where it is the text itself.
        decoded: Vec<Option<String>>,
    }

    fn fixture() -> Fixture {
        let text = include_str!("../../../meav-test-support/fixtures/gguf_tokenizers.json");
        serde_json::from_str(text).unwrap()
    }

    impl Kind {
        /// A GGUF of this vocabulary and no tensors, with `filler` tokens at the end.
        fn gguf(&self, vocabulary: &Vocabulary, n_filler: usize) -> Gguf {
            let mut tokens = [&vocabulary.tokens[..], &self.tokens].concat();
            let mut types = [&vocabulary.types[..], &self.types].concat();
            // In Phi-3 the end token of Llama 2 is one like any other.
            if let Some(end) = tokens.iter().position(|token| token == "</s>")
                && self.architecture == "phi3"
            {
                types[end] = TokenKind::UserDefined as i32;
            }
            for id in tokens.len()..tokens.len() + n_filler {
                tokens.push(format!("[PAD{id}]"));
                types.push(TokenKind::Unused as i32);
            }
            let mut metadata = BTreeMap::new();
            let mut set = |key: &str, value| drop(metadata.insert(key.to_owned(), value));
            let text = |text: &str| GgufValue::Text(text.to_owned());
            set("general.architecture", text(&self.architecture));
            set(&format!("{}.attention.head_count", self.architecture), GgufValue::U32(1));
            set("tokenizer.ggml.pre", text(&self.pre));
            if vocabulary.scores.is_empty() {
                let merges = vocabulary.merges.iter().map(|(a, b)| format!("{a} {b}")).collect();
                set("tokenizer.ggml.model", text("gpt2"));
                set("tokenizer.ggml.merges", GgufValue::Texts(merges));
            } else {
                let mut scores = vocabulary.scores.clone();
                scores.resize(tokens.len(), -1000.0);
                set("tokenizer.ggml.model", text("llama"));
                set("tokenizer.ggml.scores", GgufValue::F32s(scores));
                set("tokenizer.ggml.add_space_prefix", GgufValue::Bool(self.name != "gemma"));
            }
            if let Some(unknown) = vocabulary.unknown {
                set("tokenizer.ggml.unknown_token_id", GgufValue::U32(unknown));
            }
            set("tokenizer.ggml.tokens", GgufValue::Texts(tokens));
            set("tokenizer.ggml.token_type", GgufValue::I32s(types));
            Gguf { metadata, tensors: Vec::new() }
        }

        /// The `tokenizer.json` of this kind.
        fn tokenizer(&self, vocabulary: &Vocabulary) -> Tokenizer {
            let mut json = self.tokenizer.clone();
            let tokens = vocabulary.tokens.iter().zip(&vocabulary.types);
            let text = |(token, kind): (&String, &i32)| match *kind {
                4 => token.replace(' ', "▁"),
                _ => token.clone(),
            };
            let tokens = tokens.map(text).chain(self.tokens.iter().cloned());
            let vocab: serde_json::Map<_, _> =
                tokens.zip(0..).map(|(token, id)| (token, Json::from(id))).collect();
            json["model"]["vocab"] = vocab.into();
            json["model"]["merges"] = json!(vocabulary.merges);
            Tokenizer::from_bytes(json.to_string()).unwrap()
        }

        /// Compares all texts, and says how many there were.
        #[track_caller]
        fn check(&self, tokenizer: &Tokenizer, texts: &[String], from: &str) {
            let texts: Vec<&String> = texts.iter().chain(&self.turns).collect();
            assert!(texts.len() >= 50 && texts.len() == self.ids.len());
            for ((text, ids), decoded) in texts.into_iter().zip(&self.ids).zip(&self.decoded) {
                let found = tokenizer.encode(text.as_str(), false).unwrap();
                assert_eq!(found.get_ids(), ids, "{} from {from}: {text:?}", self.name);
                let found = tokenizer.decode(ids, false).unwrap();
                assert_eq!(&found, decoded.as_ref().unwrap_or(text), "{} from {from}", self.name);
            }
        }
    }

    fn merges(json: &mut Json) -> &mut Vec<Json> {
        json["model"]["merges"].as_array_mut().unwrap()
    }

    fn read(gguf: &Gguf) -> Result<GgufVocabulary, TokenizerError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vocabulary.gguf");
        gguf.write(&path);
        GgufVocabulary::read(Checkpoint::open(&path).unwrap().gguf().unwrap())
    }

    /// Expected ids come from transformers and tokenizers; the script stands beside the fixture.
    #[test]
    fn every_kind_of_gguf_gives_the_ids_of_transformers() {
        let fixture = fixture();
        assert_eq!(fixture.kinds.len(), words::n_rules() + 4);
        for kind in &fixture.kinds {
            let gguf = kind.gguf(&fixture.vocabularies[&kind.vocabulary], 3);
            let tokenizer = read(&gguf).unwrap().tokenizer().unwrap();
            kind.check(&tokenizer, &fixture.texts, "a GGUF");
        }
    }

    #[test]
    fn gguf_has_the_tokens_of_the_tokenizer_json() {
        let fixture = fixture();
        for kind in &fixture.kinds {
            let vocabulary = &fixture.vocabularies[&kind.vocabulary];
            let rebuilt = read(&kind.gguf(vocabulary, 3)).unwrap().tokenizer().unwrap();
            let tokenizer = kind.tokenizer(vocabulary);
            assert_eq!(
                vocabulary_fingerprint(&rebuilt),
                vocabulary_fingerprint(&tokenizer),
                "{}",
                kind.name
            );
        }
    }

    #[test]
    fn tokenizer_json_becomes_gguf_and_back() {
        let fixture = fixture();
        for kind in &fixture.kinds {
            let tokenizer = kind.tokenizer(&fixture.vocabularies[&kind.vocabulary]);
            kind.check(&tokenizer, &fixture.texts, "the tokenizer.json");
            let n_embeddings = tokenizer.get_vocab_size(true) + 5;
            let stated = GgufVocabulary::of(&tokenizer, n_embeddings).expect(&kind.name);
            assert_eq!(stated.tokens.len(), n_embeddings);
            let same_words = match kind.pre.as_str() {
                "starcoder" | "refact" => "smollm",
                other => other,
            };
            assert_eq!(stated.pre(), same_words);
            kind.check(&stated.tokenizer().unwrap(), &fixture.texts, "what a GGUF would say");
        }
    }

    #[test]
    fn tokenizers_that_a_gguf_cannot_state_are_recognised() {
        let fixture = fixture();
        let kind = |name: &str| fixture.kinds.iter().find(|kind| kind.name == name).unwrap();
        let stated = |name: &str, change: &dyn Fn(&mut Json)| {
            let kind = kind(name);
            let tokenizer = kind.tokenizer(&fixture.vocabularies[&kind.vocabulary]);
            let mut json: Json =
                serde_json::from_str(&tokenizer.to_string(false).unwrap()).unwrap();
            change(&mut json);
            GgufVocabulary::of(&Tokenizer::from_bytes(json.to_string()).unwrap(), 2000).is_some()
        };
        assert!(stated("qwen2", &|_| {}));
        assert!(!stated("qwen2", &|json| json["normalizer"] = json!({ "type": "NFKC" })));
        assert!(!stated("qwen2", &|json| json["pre_tokenizer"] = Json::Null));
        assert!(stated("llama-2", &|_| {}));
        assert!(!stated("llama-2", &|json| json["normalizer"] = Json::Null));
        // A token that comes about in fewer ways than it could is none of SentencePiece's.
        let without_one = |json: &mut Json| drop(merges(json).pop());
        assert!(!stated("llama-2", &without_one));
        // Nor is one that comes about early in one way and late in another.
        let torn_apart = |json: &mut Json| {
            let merges = merges(json);
            let made =
                |merge: &Json| [&merge[0], &merge[1]].map(|part| part.as_str().unwrap()).concat();
            let second = (1..merges.len()).find(|at| made(&merges[*at]) == made(&merges[*at - 1]));
            let second = merges.remove(second.unwrap());
            merges.push(second);
        };
        assert!(!stated("llama-2", &torn_apart));
        let kind = kind("qwen2");
        let tokenizer = kind.tokenizer(&fixture.vocabularies[&kind.vocabulary]);
        assert!(GgufVocabulary::of(&tokenizer, tokenizer.get_vocab_size(true)).is_some());
        assert!(GgufVocabulary::of(&tokenizer, tokenizer.get_vocab_size(true) - 1).is_none());
    }

    #[test]
    fn unknown_and_unnamed_cuts_are_refused() {
        let fixture = fixture();
        let kind = &fixture.kinds[0];
        let mut gguf = kind.gguf(&fixture.vocabularies[&kind.vocabulary], 0);
        for (pre, named) in
            [(Some("bloom"), "bloom"), (Some("default"), "default"), (None, "default")]
        {
            let key = "tokenizer.ggml.pre".to_owned();
            match pre {
                Some(pre) => drop(gguf.metadata.insert(key, GgufValue::Text(pre.to_owned()))),
                None => drop(gguf.metadata.remove(&key)),
            }
            let err = read(&gguf).unwrap_err();
            let is_named =
                matches!(&err, TokenizerError::UnsupportedGguf { kind } if kind == named);
            assert!(is_named, "{err}");
        }
    }
}
