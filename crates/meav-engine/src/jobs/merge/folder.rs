use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use meav_job::JobCtx;
use meav_model::{ConfigError, ModelError, ModelFiles};
use meav_protocol::{Method, RecipeStamp, Stage, StampTerm};
use meav_weights::{AtomicDir, ShardedWriter, TensorSpec};
use serde_json::{Value as Json, json};

use super::Merged;
use crate::disk::check_disk;
use crate::error::EngineError;
use crate::recipe_file::RecipeFile;
use crate::worker::Running;

/// Files beside the weights that make a Hugging Face folder, copied where the base has them.
const COMPANIONS: [&str; 9] = [
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
    "vocab.json",
    "chat_template.jinja",
];

/// Room for everything but the weights.
const COMPANION_BYTES: u64 = 32 << 20;

/// Writes a folder in the Hugging Face layout, its weights in files of at most `max_shard_bytes`.
pub(super) fn write(
    merged: &Merged<'_>,
    out: &Path,
    max_shard_bytes: u64,
    running: &Running<'_>,
) -> Result<(), EngineError> {
    let Merged { files, dtype, recipe, .. } = merged;
    let weights = files.checkpoint.parameter_count() * dtype.size_bytes() as u64;
    let folder = AtomicDir::create(out)?;
    check_disk(out, weights + COMPANION_BYTES)?;
    running
        .stage(Stage::Writing, |job| write_weights(merged, folder.path(), max_shard_bytes, job))?;
    write_companions(files, *dtype, recipe, folder.path())?;
    Ok(folder.commit()?)
}

fn write_weights(
    merged: &Merged<'_>,
    folder: &Path,
    max_shard_bytes: u64,
    job: &JobCtx<'_>,
) -> Result<(), EngineError> {
    let Merged { files, dtype, .. } = merged;
    let names = files.weight_names();
    let spec = |name: &&str| TensorSpec {
        name: (*name).to_owned(),
        dtype: *dtype,
        shape: files.checkpoint.info(name).map(|info| info.shape).unwrap_or_default(),
    };
    // transformers asks for it.
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    let specs = names.iter().map(spec).collect();
    let mut writer = ShardedWriter::new(folder, specs, metadata, max_shard_bytes)?;
    for (index, name) in names.iter().enumerate() {
        job.tick(index, names.len())?;
        writer.push(merged.tensor(name)?.bytes())?;
    }
    Ok(writer.finish()?)
}

fn write_companions(
    files: &ModelFiles,
    dtype: meav_weights::Dtype,
    recipe: &RecipeFile,
    folder: &Path,
) -> Result<(), EngineError> {
    let write = |name: &str, text: String| {
        let path = folder.join(name);
        fs::write(&path, text).map_err(|source| EngineError::Write { path, source })
    };
    let mut config = if files.checkpoint.gguf().is_some() {
        write_tokenizer(files, folder)?;
        files
            .config
            .to_json([files.special.bos_id, end_token(files)])
            .map_err(|source| config_error(files, source))?
    } else {
        copy_companions(files, folder)?;
        let path = files.path.join("config.json");
        let text = fs::read(&path).map_err(|source| EngineError::Read { path, source })?;
        serde_json::from_slice(&text).map_err(|source| config_error(files, source.into()))?
    };
    // transformers 5 writes `dtype`, earlier versions `torch_dtype`; each reads both.
    let key = if config.get("dtype").is_some() { "dtype" } else { "torch_dtype" };
    config[key] = dtype.torch_name().into();
    write("config.json", pretty(&config))?;
    write("recipe.json", pretty(&serde_json::to_value(recipe).unwrap_or_default()))?;
    write("README.md", model_card(&recipe.stamp))
}

/// The token that ends a text, or else the first of those that end an answer.
fn end_token(files: &ModelFiles) -> Option<u32> {
    let eos = files.special.eos.as_ref().and_then(|eos| files.tokenizer.token_to_id(eos));
    eos.or(files.special.stop.first().copied())
}

fn config_error(files: &ModelFiles, source: ConfigError) -> EngineError {
    ModelError::Config { path: files.path.clone(), source }.into()
}

fn pretty(value: &Json) -> String {
    format!("{value:#}\n")
}

fn copy_companions(files: &ModelFiles, folder: &Path) -> Result<(), EngineError> {
    for name in COMPANIONS {
        let from = files.path.join(name);
        if from.is_file() {
            let path = folder.join(name);
            fs::copy(&from, &path).map_err(|source| EngineError::Write { path, source })?;
        }
    }
    Ok(())
}

/// What a GGUF holds in its metadata, as files.
fn write_tokenizer(files: &ModelFiles, folder: &Path) -> Result<(), EngineError> {
    let special = &files.special;
    let failed = |source| EngineError::Write { path: folder.to_owned(), source };
    let write =
        |name: &str, value: Json| fs::write(folder.join(name), pretty(&value)).map_err(failed);
    files
        .tokenizer
        .save(folder.join("tokenizer.json"), true)
        .map_err(|err| failed(std::io::Error::other(err)))?;
    let mut tokenizer_config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": special.bos,
        "eos_token": special.eos,
        "clean_up_tokenization_spaces": false,
        "model_max_length": files.config.max_position_embeddings,
    });
    if let Some(template) = &files.chat_template {
        tokenizer_config["chat_template"] = template.as_str().into();
    }
    write("tokenizer_config.json", tokenizer_config)?;
    write(
        "generation_config.json",
        json!({ "bos_token_id": special.bos_id, "eos_token_id": special.stop }),
    )
}

fn model_card(recipe: &RecipeStamp) -> String {
    let row = |term: &StampTerm| {
        let StampTerm { domain, coefficient, scope, fingerprint, .. } = term;
        format!("| {domain} | {coefficient} | {scope} | `{fingerprint}` |\n")
    };
    let mut rows: String = recipe.vectors.iter().map(row).collect::<Vec<_>>().concat();
    if rows.is_empty() {
        rows.push_str("| (none: the base model) | | | |\n");
    }
    let method = match recipe.method {
        Method::TaskArithmetic => "task arithmetic, arXiv:2410.19206, Eq. 3".to_owned(),
        method => format!("arXiv:2410.19206, Eq. 3, combined by {method}"),
    };
    format!(
        "---\nbase_model: {model:?}\ntags:\n- merge\n- alignment-vectors\n---\n\n\
         # {model}, recipe {recipe}\n\n\
         Weights merged as θ = θ_base + Σ λ·AV ({method}), summed in f32 and rounded once to \
         {dtype}.\n\n\
         | alignment vector | λ | where | fingerprint |\n|---|---|---|---|\n{rows}\n\
         Base: {model}, `{base}`.\nRecipe: `{fingerprint}`.\nMade with MEAV Studio {version}; \
         `recipe.json` says the same for programs.\n",
        model = recipe.model,
        dtype = recipe.dtype,
        base = recipe.base,
        fingerprint = recipe.fingerprint,
        version = env!("CARGO_PKG_VERSION"),
    )
}
