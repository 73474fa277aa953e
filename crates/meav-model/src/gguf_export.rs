use std::fs::{self, File};
use std::path::Path;

use meav_job::JobCtx;
use meav_weights::{
    GgufFamily, GgufFile, GgufHeads, GgufTensor, GgufType, GgufValue, GgufWriter, Weight,
    WeightsError,
};
use serde_json::Value as Json;

use crate::config::unscaled_frequency;
use crate::tokenizer::{GgufVocabulary, SPACE, TokenKind, VocabularyKind};
use crate::{Config, GgufExportError, ModelFiles, RopeScaling};

/// What a GGUF of a model consists of, before any weight is read.
///
/// The weights themselves may be others than those of the model's files, as after a merge, as long
/// as they have the same names and shapes.
#[derive(Debug)]
pub struct GgufExport {
    metadata: Vec<(String, GgufValue)>,
    tensors: Vec<ExportedTensor>,
    notes: Vec<String>,
}

/// A tensor of the GGUF and where its values come from.
#[derive(Debug)]
struct ExportedTensor {
    tensor: GgufTensor,
    values: ExportedValues,
}

#[derive(Debug)]
enum ExportedValues {
    /// The weight that the model's files call by this name.
    Named(String),
    /// What Hugging Face keeps in `config.json`.
    Own(Weight),
}

impl GgufExport {
    /// Plans a GGUF of the model `files`, called `name`, whose matrices are stored as `kind`.
    ///
    /// A GGUF's own metadata are kept as they are; those of a folder are derived from its
    /// `config.json` and `tokenizer.json`. What llama.cpp will do otherwise all the same is told by
    /// [`notes`](Self::notes).
    ///
    /// # Errors
    ///
    /// [`GgufExportError`] for a model that llama.cpp would compute otherwise, and for a tokenizer
    /// that a GGUF can't state.
    pub fn new(files: &ModelFiles, name: &str, kind: GgufType) -> Result<Self, GgufExportError> {
        let config = &files.config;
        check(config)?;
        let family = gguf_family(config)?;
        let metadata = match files.checkpoint.gguf() {
            Some(gguf) => general(family, name, kind).chain(kept(gguf)).collect(),
            None => general(family, name, kind)
                .chain(dimensions(config, family))
                .chain(tokenizer(files)?)
                .collect(),
        };
        let notes = window_note(config, family).into_iter().collect();
        Ok(Self { metadata, tensors: tensors(files, family, kind)?, notes })
    }

    /// What whoever runs the file should know, in whole sentences.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Keys and values in the order in which they are written.
    pub fn metadata(&self) -> &[(String, GgufValue)] {
        &self.metadata
    }

    /// The tensors in the order in which they are written.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = &GgufTensor> {
        self.tensors.iter().map(|exported| &exported.tensor)
    }

    /// Writes the file, one weight in memory at a time. `weight` gives the weight of a name that
    /// the model's files have.
    ///
    /// # Errors
    ///
    /// [`WeightsError::Write`]; [`WeightsError::WrongSize`] for a weight of another shape;
    /// [`WeightsError::Cancelled`] between two tensors; whatever `weight` returns.
    pub fn write<E: From<WeightsError>>(
        &self,
        file: &mut File,
        path: &Path,
        mut weight: impl FnMut(&str) -> Result<Weight, E>,
        job: &JobCtx<'_>,
    ) -> Result<(), E> {
        let tensors = self.tensors().cloned().collect();
        let mut writer = GgufWriter::new(file, path, &self.metadata, tensors)?;
        for (index, ExportedTensor { tensor, values }) in self.tensors.iter().enumerate() {
            job.tick(index, self.tensors.len()).map_err(WeightsError::from)?;
            let bytes = match values {
                ExportedValues::Named(name) => tensor.encode(&weight(name)?)?,
                ExportedValues::Own(weight) => tensor.encode(weight)?,
            };
            writer.push(&bytes)?;
        }
        Ok(writer.finish()?)
    }
}

/// Refuses what llama.cpp has no words for, so that it would answer from another network.
fn check(config: &Config) -> Result<(), GgufExportError> {
    let family = gguf_family(config)?;
    let refuse = |feature: &str| {
        let feature = format!("{feature} of a {} model", family.architecture());
        Err(GgufExportError::Unsupported { feature })
    };
    if (config.query_pre_attn_scalar / config.assumed_query_scalar() - 1.0).abs() > 1e-6 {
        return refuse("query_pre_attn_scalar");
    }
    let mut windows = config.windows.iter().enumerate();
    if !windows.all(|(index, window)| has_assumed_window(family, index, window.is_some())) {
        return refuse("sliding windows");
    }
    Ok(())
}

/// Which layers have a window is known from the family. Those of Mistral and Phi-3 are left out by
/// llama.cpp, as by everybody who runs them there; Qwen's are hardly ever switched on.
fn has_assumed_window(family: GgufFamily, index: usize, has_window: bool) -> bool {
    match family {
        GgufFamily::Gemma2 => has_window != (index + 1).is_multiple_of(2),
        GgufFamily::Gemma3 => has_window != (index + 1).is_multiple_of(6),
        GgufFamily::Qwen2 | GgufFamily::Qwen3 => !has_window,
        GgufFamily::Llama | GgufFamily::Phi3 => true,
    }
}

/// The windows of Mistral and Phi-3 are in the file, but llama.cpp lets their tokens see everything
/// before them. Contexts that fit into the window are the same in both.
fn window_note(config: &Config, family: GgufFamily) -> Option<String> {
    let is_left_out = matches!(family, GgufFamily::Llama | GgufFamily::Phi3);
    let window = config.window().filter(|_| is_left_out)?;
    (window < config.max_position_embeddings).then(|| {
        format!(
            "llama.cpp leaves out the attention window of this model: behind {window} tokens its \
             answers differ from those given here"
        )
    })
}

fn gguf_family(config: &Config) -> Result<GgufFamily, GgufExportError> {
    let architecture = config.family.gguf_architecture();
    GgufFamily::from_architecture(architecture)
        .ok_or_else(|| GgufExportError::Unsupported { feature: architecture.to_owned() })
}

fn text(text: &str) -> GgufValue {
    GgufValue::String(text.to_owned())
}

fn number(number: usize) -> GgufValue {
    GgufValue::U32(u32::try_from(number).unwrap_or(u32::MAX))
}

fn general(
    family: GgufFamily,
    name: &str,
    kind: GgufType,
) -> impl Iterator<Item = (String, GgufValue)> {
    const QUANTIZATION_VERSION: u32 = 2;
    [
        ("general.architecture", text(family.architecture())),
        ("general.type", text("model")),
        ("general.name", text(name)),
        ("general.file_type", GgufValue::U32(kind.file_type())),
        ("general.quantization_version", GgufValue::U32(QUANTIZATION_VERSION)),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into_iter()
}

/// A GGUF's own metadata, but for what [`general`] says and what was true of its old values only.
fn kept(gguf: &GgufFile) -> impl Iterator<Item = (String, GgufValue)> {
    const REPLACED: [&str; 6] = [
        "general.architecture",
        "general.type",
        "general.name",
        "general.file_type",
        "general.quantization_version",
        "general.alignment",
    ];
    let is_kept = |key: &str| {
        !REPLACED.contains(&key) && !key.starts_with("quantize.") && !key.starts_with("split.")
    };
    gguf.metadata()
        .filter(move |(key, _)| is_kept(key))
        .map(|(key, value)| (key.to_owned(), value.clone()))
}

/// The keys that llama.cpp builds the network from.
fn dimensions(config: &Config, family: GgufFamily) -> Vec<(String, GgufValue)> {
    let real = |value: f64| GgufValue::F32(value as f32);
    let mut keys = vec![
        ("vocab_size", number(config.vocab_size)),
        ("context_length", number(config.max_position_embeddings)),
        ("embedding_length", number(config.hidden_size)),
        ("block_count", number(config.n_layers)),
        ("feed_forward_length", number(config.intermediate_size)),
        ("attention.head_count", number(config.n_heads)),
        ("attention.head_count_kv", number(config.n_kv_heads)),
        ("attention.key_length", number(config.head_dim)),
        ("attention.value_length", number(config.head_dim)),
        ("attention.layer_norm_rms_epsilon", real(config.rms_norm_eps)),
        ("rope.dimension_count", number(config.rotary_dim)),
        ("rope.freq_base", real(config.rope_theta)),
    ];
    keys.extend(config.local_rope_theta.map(|theta| ("rope.freq_base_swa", real(theta))));
    keys.extend(config.attention_softcap.map(|cap| ("attn_logit_softcapping", real(cap))));
    keys.extend(config.logit_softcap.map(|cap| ("final_logit_softcapping", real(cap))));
    // llama.cpp takes Phi-3's key for granted.
    let needs_window = family == GgufFamily::Phi3;
    let window = config.window().or(needs_window.then_some(0));
    keys.extend(window.map(|window| ("attention.sliding_window", number(window))));
    match &config.rope_scaling {
        RopeScaling::None | RopeScaling::Llama3 { .. } | RopeScaling::Factors(_) => {}
        RopeScaling::Linear { factor } => keys.extend([
            ("rope.scaling.type", text("linear")),
            ("rope.scaling.factor", real(*factor)),
        ]),
        RopeScaling::LongRope { original, attention_factor, .. } => keys.extend([
            ("rope.scaling.original_context_length", number(*original)),
            ("rope.scaling.attn_factor", real(*attention_factor)),
        ]),
    }
    let architecture = family.architecture();
    keys.into_iter().map(|(key, value)| (format!("{architecture}.{key}"), value)).collect()
}

/// Vocabulary, special tokens and chat template of a folder.
fn tokenizer(files: &ModelFiles) -> Result<Vec<(String, GgufValue)>, GgufExportError> {
    let vocabulary = GgufVocabulary::of(&files.tokenizer, files.config.vocab_size)
        .ok_or(GgufExportError::Tokenizer)?;
    let id = |token: &str| files.tokenizer.token_to_id(token);
    let special = &files.special;
    let eos = special.eos.as_deref().and_then(id).or(special.stop.first().copied());
    let mut other_stops = special.stop.iter().copied().filter(|stop| Some(*stop) != eos);
    let unknown = match &vocabulary.kind {
        VocabularyKind::SentencePiece { unknown, .. } => *unknown,
        VocabularyKind::BytePairs { .. } => None,
    };
    let ids = [
        ("bos", special.bos_id),
        ("eos", eos),
        // Whatever else ends an answer, a turn or a message; llama.cpp knows more by their texts.
        ("eot", other_stops.next()),
        ("eom", other_stops.next()),
        ("unknown", unknown),
        ("padding", padding_token(&files.path).as_deref().and_then(id)),
    ];
    let mut keys = vocabulary_keys(&vocabulary);
    keys.extend(ids.into_iter().filter_map(|(name, id)| {
        Some((format!("tokenizer.ggml.{name}_token_id"), GgufValue::U32(id?)))
    }));
    if let Some(template) = &files.chat_template {
        keys.push(("tokenizer.chat_template".to_owned(), text(template)));
    }
    Ok(keys)
}

fn vocabulary_keys(vocabulary: &GgufVocabulary) -> Vec<(String, GgufValue)> {
    let tokens = (vocabulary.tokens.iter().zip(&vocabulary.token_kinds))
        .map(|(token, kind)| text(&written_token(token, *kind, &vocabulary.kind)));
    let kinds = (vocabulary.token_kinds.iter())
        .map(|kind| GgufValue::I32(written_kind(*kind, &vocabulary.kind) as i32));
    let mut keys = vec![
        ("model", text(vocabulary.model())),
        ("pre", text(vocabulary.pre())),
        ("tokens", GgufValue::Array(tokens.collect())),
        ("token_type", GgufValue::Array(kinds.collect())),
        ("add_bos_token", GgufValue::Bool(vocabulary.adds_bos)),
        ("add_eos_token", GgufValue::Bool(vocabulary.adds_eos)),
    ];
    match &vocabulary.kind {
        VocabularyKind::BytePairs { merges, .. } => {
            let merges = merges.iter().map(|merge| text(merge)).collect();
            keys.push(("merges", GgufValue::Array(merges)));
        }
        VocabularyKind::SentencePiece { scores, space_prefix, .. } => {
            let scores = scores.iter().copied().map(GgufValue::F32).collect();
            keys.push(("scores", GgufValue::Array(scores)));
            keys.push(("add_space_prefix", GgufValue::Bool(*space_prefix)));
        }
    }
    keys.into_iter().map(|(key, value)| (format!("tokenizer.ggml.{key}"), value)).collect()
}

/// llama.cpp looks for these in plain text, where spaces are spaces.
fn written_token(token: &str, kind: TokenKind, vocabulary: &VocabularyKind) -> String {
    let is_plain = matches!(vocabulary, VocabularyKind::SentencePiece { .. })
        && kind == TokenKind::UserDefined;
    if is_plain { token.replace(SPACE, " ") } else { token.to_owned() }
}

/// In a vocabulary of bytes nothing is unknown: what is called so is a special token.
fn written_kind(kind: TokenKind, vocabulary: &VocabularyKind) -> TokenKind {
    match (kind, vocabulary) {
        (TokenKind::Unknown, VocabularyKind::BytePairs { .. }) => TokenKind::Control,
        (kind, _) => kind,
    }
}

/// The token that fills up batches, which is of no use to anybody who chats: not found, not
/// written.
fn padding_token(folder: &Path) -> Option<String> {
    let config = fs::read(folder.join("tokenizer_config.json")).ok()?;
    let config: Json = serde_json::from_slice(&config).ok()?;
    let token = config.get("pad_token")?;
    Some(token.get("content").unwrap_or(token).as_str()?.to_owned())
}

fn tensors(
    files: &ModelFiles,
    family: GgufFamily,
    kind: GgufType,
) -> Result<Vec<ExportedTensor>, GgufExportError> {
    let config = &files.config;
    let heads = GgufHeads { query: config.n_heads, key: config.n_kv_heads };
    let mut tensors = Vec::new();
    for (name, factors) in rope_factors(config) {
        let tensor = family.tensor(name, &[factors.len()], heads, kind)?;
        let weight = Weight::from_f32(vec![factors.len()], factors);
        tensors.push(ExportedTensor { tensor, values: ExportedValues::Own(weight) });
    }
    for full_name in files.weight_names() {
        // Tensors of other networks in the same files stay behind.
        let Some(name) = full_name.strip_prefix(config.tensor_prefix) else { continue };
        let is_copy = config.tie_word_embeddings && name == "lm_head.weight";
        let Some(info) = files.checkpoint.info(full_name).filter(|_| !is_copy) else { continue };
        let tensor = family.tensor(name, &info.shape, heads, kind)?;
        let values = ExportedValues::Named(full_name.to_owned());
        tensors.push(ExportedTensor { tensor, values });
    }
    Ok(tensors)
}

/// What the rotary frequencies are divided by, as far as llama.cpp reads it from tensors.
fn rope_factors(config: &Config) -> Vec<(&'static str, Vec<f32>)> {
    match &config.rope_scaling {
        RopeScaling::None | RopeScaling::Linear { .. } => Vec::new(),
        RopeScaling::Factors(factors) => vec![("rope_freqs.weight", factors.clone())],
        scaling @ RopeScaling::Llama3 { .. } => {
            let factor = |index| {
                let frequency = unscaled_frequency(config.rope_theta, index, config.rotary_dim);
                (frequency / scaling.apply(frequency, index, false)) as f32
            };
            vec![("rope_freqs.weight", (0..config.rotary_dim / 2).map(factor).collect())]
        }
        RopeScaling::LongRope { short, long, .. } => vec![
            ("rope_factors_long.weight", long.clone()),
            ("rope_factors_short.weight", short.clone()),
        ],
    }
}

#[cfg(test)]
mod tests {
    use meav_test_support::{TINY, tiny_model};
    use meav_weights::{Checkpoint, write_file_atomically};
    use tokenizers::Tokenizer;

    use super::*;

    /// The vocabulary as it comes out of a file of nothing else.
    fn read_back(vocabulary: &GgufVocabulary, unknown: Option<u32>) -> GgufVocabulary {
        let mut metadata = vec![("general.architecture".to_owned(), text("gemma3"))];
        metadata.extend(vocabulary_keys(vocabulary));
        let unknown = unknown.map(GgufValue::U32);
        metadata.extend(unknown.map(|id| ("tokenizer.ggml.unknown_token_id".to_owned(), id)));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vocabulary.gguf");
        write_file_atomically::<WeightsError>(&path, |file| {
            GgufWriter::new(file, &path, &metadata, Vec::new())?.finish()
        })
        .unwrap();
        GgufVocabulary::read(Checkpoint::open(&path).unwrap().gguf().unwrap()).unwrap()
    }

    #[test]
    fn pieces_come_back_as_they_were() {
        use TokenKind::{Byte, Control, Normal, Unknown, Unused, UserDefined};
        let pieces = [
            ("<unk>", Unknown, -10.0),
            ("<s>", Control, 0.0),
            ("<0x0A>", Byte, 0.0),
            ("▁▁", UserDefined, 0.0),
            ("▁a", Normal, -1.5),
            ("[PAD5]", Unused, f32::MIN),
        ];
        for (space_prefix, adds_bos, adds_eos) in [(true, true, false), (false, false, true)] {
            let vocabulary = GgufVocabulary {
                tokens: pieces.map(|(token, _, _)| token.to_owned()).into(),
                token_kinds: pieces.map(|(_, kind, _)| kind).into(),
                kind: VocabularyKind::SentencePiece {
                    scores: pieces.map(|(_, _, score)| score).into(),
                    unknown: Some(0),
                    space_prefix,
                    special_swallow_space: false,
                },
                adds_bos,
                adds_eos,
            };
            assert_eq!(read_back(&vocabulary, Some(0)), vocabulary);
            // llama.cpp wants spaces in what it looks for in plain text, and nowhere else.
            let keys = vocabulary_keys(&vocabulary);
            let tokens = keys.iter().find(|(key, _)| key == "tokenizer.ggml.tokens");
            let tokens = format!("{:?}", tokens.unwrap().1);
            assert!(tokens.contains("String(\"  \"), String(\"▁a\")"), "{tokens}");
        }
    }

    #[test]
    fn bytes_come_back_as_they_were() {
        let tokenizer = tiny_model(&TINY).tokenizer.to_string();
        let tokenizer = Tokenizer::from_bytes(tokenizer).unwrap();
        let mut vocabulary = GgufVocabulary::of(&tokenizer, 310).unwrap();
        assert_eq!(vocabulary.pre(), "smollm");
        assert_eq!(read_back(&vocabulary, None), vocabulary);
        // GPT-2 calls its end of text unknown.
        vocabulary.token_kinds[0] = TokenKind::Unknown;
        let found = read_back(&vocabulary, None);
        assert_eq!(found.token_kinds[0], TokenKind::Control);
        assert_eq!(found.token_kinds[1..], vocabulary.token_kinds[1..]);
    }
}
