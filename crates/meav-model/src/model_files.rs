use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use meav_job::JobCtx;
use meav_weights::{Checkpoint, GgufFile, Weight, WeightsError, is_weight};
use serde_json::Value as Json;
use tokenizers::Tokenizer;

use crate::{ChatTemplate, Config, ConfigError, ModelError, TokenizerError, tokenizer};

/// Everything about a model but its weights, and where those are.
#[derive(Debug)]
pub struct ModelFiles {
    /// The folder or GGUF file.
    pub path: PathBuf,
    /// What to call it.
    pub name: String,
    /// The weights.
    pub checkpoint: Checkpoint,
    /// The dimensions.
    pub config: Config,
    /// Text to tokens and back.
    pub tokenizer: Tokenizer,
    /// The source of the chat template, if there is one.
    pub chat_template: Option<String>,
    /// Tokens with a meaning of their own.
    pub special: SpecialTokens,
}

/// Tokens with a meaning of their own.
#[derive(Clone, Debug, Default)]
pub struct SpecialTokens {
    /// Text that templates may put in front.
    pub bos: Option<String>,
    /// Text that templates may put behind a turn.
    pub eos: Option<String>,
    /// The id of `bos`.
    pub bos_id: Option<u32>,
    /// Ids that end an answer.
    pub stop: Vec<u32>,
}

impl ModelFiles {
    /// Opens a folder in the Hugging Face layout or a GGUF file; reads no weights.
    ///
    /// A `tokenizer.json` beside a GGUF goes before the GGUF's own vocabulary. Added tokens without
    /// an embedding are left out if neither the chat template nor the ends of a text need them: in
    /// a prompt they are text like any other.
    ///
    /// # Errors
    ///
    /// [`ModelError`] that names the file and what is wrong with it.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let is_dir = fs::metadata(path).map_err(read_error(path))?.is_dir();
        let mut files = if is_dir { Self::open_folder(path)? } else { Self::open_gguf(path)? };
        files.check_tokens().map_err(tokenizer_error(path))?;
        Ok(files)
    }

    fn open_folder(path: &Path) -> Result<Self, ModelError> {
        let config_path = path.join("config.json");
        let text = required(path, "config.json")?;
        let at = config_error(&config_path);
        let config = Config::from_json(&text).map_err(&at)?;
        let tokenizer = tokenizer_file(path, &required(path, "tokenizer.json")?)?;
        let checkpoint = Checkpoint::open(path)?;
        let tokenizer_config = optional_json(&path.join("tokenizer_config.json"))?;
        let token = |key: &str| {
            let token = tokenizer_config.get(key)?;
            Some(token.get("content").unwrap_or(token).as_str()?.to_owned())
        };
        let (bos, eos) = (token("bos_token"), token("eos_token"));
        let id = |token: &Option<String>| tokenizer.token_to_id(token.as_ref()?);
        let generation_config = optional_json(&path.join("generation_config.json"))?;
        let mut stop: Vec<u32> = [
            &generation_config,
            &serde_json::from_slice(&text).map_err(|err| at(ConfigError::Json(err)))?,
        ]
        .into_iter()
        .flat_map(|json: &Json| ids(json.get("eos_token_id")))
        .chain(id(&eos))
        .collect();
        stop.sort_unstable();
        stop.dedup();
        let special = SpecialTokens { bos_id: id(&bos), bos, eos, stop };
        let chat_template = chat_template(path, &tokenizer_config)?;
        let name = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let name = name.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let path = path.to_owned();
        Ok(Self { path, name, checkpoint, config, tokenizer, chat_template, special })
    }

    fn open_gguf(path: &Path) -> Result<Self, ModelError> {
        let checkpoint = Checkpoint::open(path)?;
        let Some(gguf) = checkpoint.gguf() else {
            // A bare safetensors file: the folder around it is what makes it a model.
            let folder = path.parent().unwrap_or(Path::new("")).to_owned();
            return Err(ModelError::MissingFile {
                file: "config.json (a model is a folder or a GGUF)",
                path: folder,
            });
        };
        let config = Config::from_gguf(gguf, &checkpoint)?.map_err(config_error(path))?;
        let beside = path.with_file_name("tokenizer.json");
        let tokenizer = if beside.is_file() {
            tokenizer_file(path, &fs::read(&beside).map_err(read_error(&beside))?)?
        } else {
            tokenizer::from_gguf(gguf).map_err(tokenizer_error(path))?
        };
        let id = |key: &str| gguf.usize(key).ok().and_then(|id| u32::try_from(id).ok());
        let (bos_id, eos_id) =
            (id("tokenizer.ggml.bos_token_id"), id("tokenizer.ggml.eos_token_id"));
        let text = |id: Option<u32>| id.and_then(|id| tokenizer.id_to_token(id));
        let special = SpecialTokens {
            bos: text(bos_id),
            eos: text(eos_id),
            bos_id,
            stop: stop_ids(gguf, &tokenizer),
        };
        // The file's own idea of its name is often that of a training run.
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let chat_template = gguf.str("tokenizer.chat_template").ok().map(str::to_owned);
        let path = path.to_owned();
        Ok(Self { path, name, checkpoint, config, tokenizer, chat_template, special })
    }

    /// Refuses tokens that there are no embeddings for, and forgets those that were added without
    /// a use, such as the place of an image in the text models of Gemma 3.
    fn check_tokens(&mut self) -> Result<(), TokenizerError> {
        let embeddings = self.config.vocab_size;
        let is_beyond = |id: u32| id as usize >= embeddings;
        let mut useless = BTreeSet::new();
        for (id, token) in self.tokenizer.get_added_tokens_decoder() {
            if !is_beyond(id) {
                continue;
            }
            let token = token.content;
            let is_used = self.chat_template.as_ref().is_some_and(|it| it.contains(&token))
                || [&self.special.bos, &self.special.eos].contains(&&Some(token.clone()));
            if is_used {
                return Err(TokenizerError::NoEmbedding { token, id, embeddings });
            }
            useless.insert(token);
        }
        if !useless.is_empty() {
            self.tokenizer = tokenizer::without(&self.tokenizer, &useless)?;
        }
        match self.tokenizer.get_vocab(true).into_values().max() {
            Some(id) if is_beyond(id) => {
                Err(TokenizerError::TooManyTokens { tokens: id as usize + 1, embeddings })
            }
            _ => Ok(()),
        }
    }

    /// The compiled chat template.
    ///
    /// # Errors
    ///
    /// [`ModelError::NoChatTemplate`], [`ModelError::ChatTemplate`].
    pub fn compile_chat_template(&self) -> Result<ChatTemplate, ModelError> {
        let source = self.chat_template.as_deref().ok_or(ModelError::NoChatTemplate)?;
        ChatTemplate::new(source, self.special.bos.clone(), self.special.eos.clone())
    }

    /// The names of the tensors that belong to the network.
    pub fn weight_names(&self) -> Vec<&str> {
        self.checkpoint.names().filter(|name| is_weight(name)).collect()
    }

    /// The weights as their file has them: mapped, or dequantised to `f32`.
    ///
    /// # Errors
    ///
    /// [`WeightsError`]; [`WeightsError::Cancelled`] between two tensors.
    pub fn load_weights(&self, job: &JobCtx<'_>) -> Result<BTreeMap<String, Weight>, WeightsError> {
        let names = self.weight_names();
        let mut weights = BTreeMap::new();
        for (index, name) in names.iter().enumerate() {
            job.tick(index, names.len())?;
            weights.insert((*name).to_owned(), self.checkpoint.load(name)?);
        }
        Ok(weights)
    }
}

fn required(folder: &Path, file: &'static str) -> Result<Vec<u8>, ModelError> {
    let path = folder.join(file);
    if !path.is_file() {
        return Err(ModelError::MissingFile { file, path: folder.to_owned() });
    }
    fs::read(&path).map_err(read_error(&path))
}

fn optional_json(path: &Path) -> Result<Json, ModelError> {
    if !path.is_file() {
        return Ok(Json::Null);
    }
    let text = fs::read(path).map_err(read_error(path))?;
    serde_json::from_slice(&text).map_err(|err| config_error(path)(err.into()))
}

fn tokenizer_file(path: &Path, text: &[u8]) -> Result<Tokenizer, ModelError> {
    let mut tokenizer =
        Tokenizer::from_bytes(text).map_err(|err| tokenizer_error(path)(err.into()))?;
    // Left over from training; a prompt is never cut or filled up behind the user's back.
    tokenizer.with_truncation(None).map_err(|err| tokenizer_error(path)(err.into()))?;
    tokenizer.with_padding(None);
    Ok(tokenizer)
}

/// `chat_template.jinja`, or the default one in `tokenizer_config.json`.
fn chat_template(folder: &Path, tokenizer_config: &Json) -> Result<Option<String>, ModelError> {
    let path = folder.join("chat_template.jinja");
    if path.is_file() {
        return fs::read_to_string(&path).map(Some).map_err(read_error(&path));
    }
    let template = match tokenizer_config.get("chat_template") {
        Some(Json::Array(named)) => named
            .iter()
            .find(|entry| entry.get("name").is_some_and(|name| name == "default"))
            .and_then(|entry| entry.get("template")),
        other => other,
    };
    Ok(template.and_then(Json::as_str).map(str::to_owned))
}

/// Tokens that end a turn, a message or a text in all families, whatever else the end token is for.
const ENDS: [&str; 7] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<end_of_turn>",
    "<|end|>",
    "<|eom_id|>",
    "<|endoftext|>",
    "<|end_of_text|>",
];

/// The ids that end an answer of a GGUF: those it names, and those of tokens known to, as in
/// llama.cpp. Older files of Gemma and Phi-3 have them as tokens to be found in text, not as special
/// ones.
fn stop_ids(gguf: &GgufFile, tokenizer: &Tokenizer) -> Vec<u32> {
    let added = tokenizer.get_added_tokens_decoder();
    let known = (ENDS.into_iter())
        .filter_map(|token| tokenizer.token_to_id(token))
        .filter(|id| added.contains_key(id));
    let named = ["eos", "eot", "eom"].into_iter().filter_map(|name| {
        u32::try_from(gguf.usize(&format!("tokenizer.ggml.{name}_token_id")).ok()?).ok()
    });
    let ids: BTreeSet<u32> = named.chain(known).collect();
    ids.into_iter().collect()
}

/// One id or a list of ids.
fn ids(value: Option<&Json>) -> Vec<u32> {
    let id = |value: &Json| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        Some(Json::Array(values)) => values.iter().filter_map(id).collect(),
        Some(value) => id(value).into_iter().collect(),
        None => Vec::new(),
    }
}

fn config_error(path: &Path) -> impl Fn(ConfigError) -> ModelError {
    let path = path.to_owned();
    move |source| match source {
        ConfigError::ModelType { model_type: architecture } => {
            ModelError::UnsupportedArchitecture { architecture, path: path.clone() }
        }
        source => ModelError::Config { path: path.clone(), source },
    }
}

fn tokenizer_error(path: &Path) -> impl FnOnce(TokenizerError) -> ModelError {
    let path = path.to_owned();
    move |source| ModelError::Tokenizer { path, source: source.into() }
}

fn read_error(path: &Path) -> impl FnOnce(std::io::Error) -> ModelError {
    let path = path.to_owned();
    move |source| ModelError::Read { path, source }
}
