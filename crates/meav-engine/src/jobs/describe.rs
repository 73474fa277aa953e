use std::fs;
use std::path::Path;

use meav_data::ReadOptions;
use meav_job::JobCtx;
use meav_model::{Config, ModelFiles, RopeScaling};
use meav_protocol::{Description, Fact, FileKind, MissingPart, StampTerm};
use meav_vector::{AlignmentVector, VectorKind};
use meav_weights::Checkpoint;

use crate::convert::kind_name;
use crate::error::EngineError;
use crate::jobs::recipe::find_parts;
use crate::measuring::read_data;
use crate::one_line::{NAME_CHARS, VALUE_CHARS, one_line};
use crate::recipe_file::RecipeFile;
use crate::worker::{Running, Worker};
use crate::workspace::FileStamp;

/// Entries of a JSON object that are shown; more of them are no description.
const MAX_JSON_ROWS: usize = 100;

/// Says what a file or folder is.
pub(crate) fn describe(
    worker: &Worker,
    path: &Path,
    running: &Running<'_>,
) -> Result<(), EngineError> {
    let vector_path = worker.folders.vector(path);
    let data_path = worker.folders.data(path);
    let mut description = if is_data(&data_path) {
        describe_data(worker, path, running)?
    } else if is_recipe(path) {
        describe_recipe(worker, path, running)?
    } else if is_vector(&vector_path) {
        describe_vector(&worker.open_vector(&vector_path, running)?)
    } else {
        describe_model(worker, &worker.folders.model(path)?, running)?
    };
    description.title = one_line(&description.title, VALUE_CHARS);
    for (name, value) in &mut description.rows {
        *name = one_line(name, NAME_CHARS);
        *value = one_line(value, VALUE_CHARS);
    }
    running.fact(Fact::Described(description));
    Ok(())
}

/// Preference records are told by their ending; JSON that begins with a list is no recipe.
fn is_data(path: &Path) -> bool {
    let is_file = path.is_file();
    match path.extension().and_then(|it| it.to_str()) {
        Some("jsonl" | "ndjson" | "csv" | "parquet") => is_file,
        Some("json") => is_file && RecipeFile::open(path).is_err() && has_records(path),
        _ => false,
    }
}

/// Whether JSON that is no recipe is records: nothing but a look at the first tells.
fn has_records(path: &Path) -> bool {
    meav_data::read(path, ReadOptions { limit: 1 }, &JobCtx::detached()).is_ok()
}

fn describe_data(
    worker: &Worker,
    path: &Path,
    running: &Running<'_>,
) -> Result<Description, EngineError> {
    let dataset = read_data(worker, path, usize::MAX, running)?;
    let row = |name: &str, value: String| (name.to_owned(), value);
    let measures = dataset.measures().into_iter().map(|measure| {
        let value = format!("{} records: {}", measure.items.len(), measure.levels.join(", "));
        (format!("measure {}", measure.name), value)
    });
    let mut rows = vec![
        row("format", dataset.format.to_string()),
        row("shape", dataset.shape.to_string()),
        row("records", dataset.records.len().to_string()),
    ];
    rows.extend(measures);
    if let Some(first) = dataset.problems.first() {
        let (n, unit) = (dataset.problems.len(), dataset.format.unit());
        rows.push(row("left out", format!("{n}; first {unit} {}: {}", first.line, first.kind)));
    }
    rows.push(row("fingerprint", dataset.fingerprint.clone()));
    let title = format!("Preference data, {} records", dataset.records.len());
    Ok(Description { kind: FileKind::Data, title, rows })
}

/// A recipe is a JSON file, whatever its ending.
fn is_recipe(path: &Path) -> bool {
    let endings = ["meav", "json"];
    let has_ending = |ending: &&str| path.extension().is_some_and(|it| it == *ending);
    path.is_file() && endings.iter().any(has_ending)
}

fn describe_recipe(
    worker: &Worker,
    path: &Path,
    running: &Running<'_>,
) -> Result<Description, EngineError> {
    let recipe = RecipeFile::open(path)?;
    let (stamp, is_edited) = (recipe.stamp.clone(), recipe.is_edited);
    let opened = find_parts(worker, recipe, path, running)?;
    let row = |name: &str, value: String| (name.to_owned(), value);
    let mut rows = vec![
        row("model", stamp.model.clone()),
        row("base fingerprint", stamp.base.clone()),
        row("dtype", stamp.dtype.to_string()),
        row("method", stamp.method.to_string()),
    ];
    for StampTerm { domain, coefficient, scope, fingerprint, file } in &stamp.vectors {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let value = format!("λ = {coefficient}, {scope}, {name}, {fingerprint}");
        rows.push((format!("vector {domain}"), value));
    }
    for MissingPart { name, file, found, .. } in opened.missing {
        let found = found.map(|it| format!(": {it}")).unwrap_or_default();
        rows.push(row("missing", format!("{name}, was {}{found}", file.display())));
    }
    let edited = if is_edited { ", edited since it was saved" } else { "" };
    rows.push(row("fingerprint", format!("{}{edited}", stamp.fingerprint)));
    Ok(Description { kind: FileKind::Recipe, title: format!("Recipe {stamp}{edited}"), rows })
}

/// A folder with an adapter's configuration, or a safetensors file that stands alone.
fn is_vector(path: &Path) -> bool {
    let Ok(metadata) = fs::metadata(path) else { return false };
    if metadata.is_dir() {
        return path.join("adapter_config.json").is_file() || !path.join("config.json").is_file();
    }
    path.extension().is_some_and(|extension| extension == "safetensors")
}

fn describe_vector(vector: &AlignmentVector) -> Description {
    let origin = &vector.origin;
    let domain = one_line(&origin.domain, NAME_CHARS);
    let title = format!("Alignment vector {domain:?}");
    let unknown = || "not said".to_owned();
    let mut rows = vec![
        ("domain".to_owned(), domain),
        ("kind".to_owned(), format!("{}: {}", kind_name(vector.kind), kind_words(vector.kind))),
        ("size".to_owned(), megabytes(size_on_disk(&vector.path))),
        ("tensors changed".to_owned(), vector.deltas.len().to_string()),
        ("made for".to_owned(), origin.base_name.clone().unwrap_or_else(unknown)),
        (
            "base fingerprint".to_owned(),
            origin.base_fingerprint.map_or_else(unknown, |it| it.to_string()),
        ),
        ("fingerprint".to_owned(), vector.fingerprint.to_string()),
    ];
    let levels = (!origin.levels.is_empty()).then(|| origin.levels.join(", "));
    rows.extend(levels.map(|levels| ("levels".to_owned(), levels)));
    rows.extend(origin.extraction.iter().flat_map(|json| json_rows("extraction", json)));
    rows.extend(origin.compression.iter().flat_map(|json| json_rows("compression", json)));
    rows.extend(origin.training.iter().flat_map(|json| json_rows("training", json)));
    rows.extend(origin.calibration.iter().flat_map(|json| json_rows("calibration", json)));
    rows.extend(origin.created.iter().map(|created| ("created".to_owned(), created.clone())));
    Description { kind: FileKind::Vector, title, rows }
}

fn kind_words(kind: VectorKind) -> &'static str {
    match kind {
        VectorKind::Dense => "every element of every tensor that it changes",
        VectorKind::LowRank => "two factors for each tensor, whose product is added",
        VectorKind::Sparse => "the elements that were kept, and their places",
        VectorKind::Sign => "one bit for each element and a scale for each row",
        VectorKind::Checkpoint => "a whole aligned model, from which the base is taken",
    }
}

/// A row for each entry of a JSON object; what is none stays as it is.
fn json_rows(name: &str, json: &str) -> Vec<(String, String)> {
    let Ok(serde_json::Value::Object(entries)) = serde_json::from_str(json) else {
        return vec![(name.to_owned(), json.to_owned())];
    };
    let row = |(key, value): (String, serde_json::Value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        (format!("{name}: {}", key.replace('_', " ")), value)
    };
    entries.into_iter().take(MAX_JSON_ROWS).map(row).collect()
}

fn describe_model(
    worker: &Worker,
    path: &Path,
    running: &Running<'_>,
) -> Result<Description, EngineError> {
    let files = ModelFiles::open(path)?;
    let checkpoint = &files.checkpoint;
    let fingerprint = worker.fingerprint(checkpoint, &FileStamp::of_model(path), running)?;
    let config = &files.config;
    let attention = format!(
        "{} heads of {}, {} for keys and values",
        config.n_heads, config.head_dim, config.n_kv_heads
    );
    let rope = match &config.rope_scaling {
        RopeScaling::None => format!("base {}", config.rope_theta),
        scaling => format!("base {}, {scaling}", config.rope_theta),
    };
    let rows = [
        ("format", format!("{}, {}", checkpoint.format(), stored_dtypes(checkpoint))),
        ("size", megabytes(files_size(checkpoint))),
        ("parameters", format!("{:.1} million", checkpoint.parameter_count() as f64 / 1e6)),
        ("architecture", architecture(config)),
        ("layers", config.n_layers.to_string()),
        ("hidden size", config.hidden_size.to_string()),
        ("attention", attention),
        ("rotary embedding", rope),
        ("vocabulary", format!("{} tokens", config.vocab_size)),
        ("context", format!("{} tokens", config.max_position_embeddings)),
        ("chat template", if files.chat_template.is_some() { "yes" } else { "no" }.to_owned()),
        ("fingerprint", fingerprint.to_string()),
    ];
    let rows = rows.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let title = format!("Model {:?}", files.name);
    Ok(Description { kind: FileKind::Model, title, rows })
}

/// The family, and what sets this model apart within it.
fn architecture(config: &Config) -> String {
    let n_windowed = config.windows.iter().flatten().count();
    let window = config.windows.iter().flatten().max();
    let window = window.map(|window| format!("{n_windowed} layers look back {window} tokens"));
    let tied = config.tie_word_embeddings.then(|| "tied embeddings".to_owned());
    let family = config.family.model_type().to_owned();
    [Some(family), window, tied].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// The types that values are stored in, the most frequent first.
fn stored_dtypes(checkpoint: &Checkpoint) -> String {
    let mut counts: Vec<(String, usize)> = Vec::new();
    for info in checkpoint.names().filter_map(|name| checkpoint.info(name)) {
        let elements = info.shape.iter().product::<usize>();
        match counts.iter_mut().find(|(dtype, _)| *dtype == info.stored_dtype) {
            Some((_, count)) => *count += elements,
            None => counts.push((info.stored_dtype, elements)),
        }
    }
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let names: Vec<String> = counts.into_iter().map(|(dtype, _)| dtype).collect();
    names.join(" and ")
}

fn files_size(checkpoint: &Checkpoint) -> u64 {
    checkpoint.files().iter().map(|path| size_on_disk(path)).sum()
}

/// Of a file, or of the files in a folder.
fn size_on_disk(path: &Path) -> u64 {
    match fs::read_dir(path) {
        Ok(entries) => {
            let size = |entry: fs::DirEntry| entry.metadata().map_or(0, |metadata| metadata.len());
            entries.filter_map(Result::ok).map(size).sum()
        }
        Err(_) => fs::metadata(path).map_or(0, |metadata| metadata.len()),
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
