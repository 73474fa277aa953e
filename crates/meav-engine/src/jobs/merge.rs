use std::collections::BTreeMap;
use std::fs;
use std::fs::File;
use std::path::Path;

use meav_model::{ConfigError, ModelError, ModelFiles};
use meav_protocol::{Fact, MergeSpec, RecipeStamp, Stage, StampTerm};
use meav_vector::{Term, merge_tensor};
use meav_weights::{AtomicDir, SafetensorsWriter, TensorSpec};
use serde_json::{Value as Json, json};

use crate::error::EngineError;
use crate::loaded::{stamp, weights_dtype};
use crate::worker::{Running, Worker};
use crate::workspace::FileStamp;

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

/// Writes the merged model as a folder in the Hugging Face layout.
pub(crate) fn merge(
    worker: &Worker,
    spec: &MergeSpec,
    running: &Running<'_>,
) -> Result<(), EngineError> {
    let path = worker.folders.model(&spec.model)?;
    let files = ModelFiles::open(&path)?;
    let dtype = match spec.dtype {
        Some(dtype) => weights_dtype(dtype),
        None => files.checkpoint.dtype(),
    };
    let terms = worker.open_terms(&spec.vectors, &files, running)?;
    let base = worker.fingerprint(&files.checkpoint, &FileStamp::of_model(&path), running)?;
    let active: Vec<Term> = terms.iter().filter(|term| term.is_active()).cloned().collect();
    let recipe = stamp(base, dtype, &files.name, &active);
    let folder = AtomicDir::create(&spec.out)?;
    check_disk(&files, dtype, folder.path(), &spec.out)?;
    write_weights(&files, dtype, &terms, folder.path(), running)?;
    write_companions(&files, dtype, &recipe, folder.path())?;
    folder.commit()?;
    let summary = format!("{} · {} · {recipe}", files.name, recipe.dtype);
    match &worker.workspace {
        Ok(workspace) => {
            let detail = format!("{summary} → {}", spec.out.display());
            if let Err(err) = workspace.record("merge", &detail) {
                running.unkept("the merge is not in the audit log", &err);
            }
        }
        Err(err) => running.unkept("nothing is kept", err),
    }
    running.fact(Fact::Written { path: spec.out.clone(), summary });
    Ok(())
}

fn check_disk(
    files: &ModelFiles,
    dtype: meav_weights::Dtype,
    folder: &Path,
    out: &Path,
) -> Result<(), EngineError> {
    let weights = files.checkpoint.parameter_count() * dtype.size_bytes() as u64;
    let needed = weights + COMPANION_BYTES;
    let Ok(disk) = rustix::fs::statvfs(folder) else { return Ok(()) };
    let available = disk.f_bavail * disk.f_frsize;
    if needed > available {
        return Err(EngineError::DiskFull { path: out.to_owned(), needed, available });
    }
    Ok(())
}

/// One tensor at a time: no more than that is ever in memory.
fn write_weights(
    files: &ModelFiles,
    dtype: meav_weights::Dtype,
    terms: &[Term],
    folder: &Path,
    running: &Running<'_>,
) -> Result<(), EngineError> {
    let names = files.weight_names();
    let specs = names
        .iter()
        .map(|name| TensorSpec {
            name: (*name).to_owned(),
            dtype,
            shape: files.checkpoint.info(name).map(|info| info.shape).unwrap_or_default(),
        })
        .collect();
    let path = folder.join("model.safetensors");
    let failed = |source| EngineError::Write { path: path.clone(), source };
    let mut file = File::create(&path).map_err(failed)?;
    // transformers asks for it.
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    running.stage(Stage::Writing, |job| {
        let mut writer = SafetensorsWriter::new(&mut file, &path, specs, metadata)?;
        for (index, name) in names.iter().enumerate() {
            job.tick(index, names.len())?;
            let merged = merge_tensor(name, &files.checkpoint.load(name)?, dtype, terms)?;
            writer.push(merged.bytes())?;
        }
        Ok::<(), EngineError>(writer.finish()?)
    })?;
    file.sync_all().map_err(failed)
}

fn write_companions(
    files: &ModelFiles,
    dtype: meav_weights::Dtype,
    recipe: &RecipeStamp,
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
            .to_json([files.special.bos_id, files.special.stop.first().copied()])
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
    write("README.md", model_card(recipe))
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
        format!("| {} | {} | `{}` |\n", term.domain, term.coefficient, term.fingerprint)
    };
    let mut rows: String = recipe.vectors.iter().map(row).collect::<Vec<_>>().concat();
    if rows.is_empty() {
        rows.push_str("| (none: the base model) | | |\n");
    }
    format!(
        "---\nbase_model: {model:?}\ntags:\n- merge\n- alignment-vectors\n---\n\n\
         # {model}, recipe {recipe}\n\n\
         Weights merged as θ = θ_base + Σ λ·AV (task arithmetic, arXiv:2410.19206, Eq. 3), summed \
         in f32 and rounded once to {dtype}.\n\n\
         | alignment vector | λ | fingerprint |\n|---|---|---|\n{rows}\n\
         Base: {model}, `{base}`.\nRecipe: `{fingerprint}`.\nMade with MEAV Studio {version}; \
         `recipe.json` says the same for programs.\n",
        model = recipe.model,
        dtype = recipe.dtype,
        base = recipe.base,
        fingerprint = recipe.fingerprint,
        version = env!("CARGO_PKG_VERSION"),
    )
}
