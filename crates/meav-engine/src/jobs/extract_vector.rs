use std::path::Path;

use jiff::Timestamp;
use meav_model::{ModelError, ModelFiles, is_weight, vocabulary_fingerprint};
use meav_protocol::{Fact, Stage, VectorExtract};
use meav_vector::{Extraction, ModuleKind, VectorOrigin, extract, tensor_place};
use meav_weights::{Checkpoint, Dtype, Fingerprint};
use regex::Regex;

use crate::convert::weights_dtype;
use crate::disk::check_disk;
use crate::error::EngineError;
use crate::vector_out::vector_out;
use crate::worker::{Running, Worker};
use crate::workspace::FileStamp;

/// Takes a base model from an aligned one.
pub(crate) fn extract_vector(
    worker: &Worker,
    spec: &VectorExtract,
    running: &Running<'_>,
) -> Result<(), EngineError> {
    let include = spec.include.as_deref().map(pattern).transpose()?;
    let exclude = spec.exclude.as_deref().map(pattern).transpose()?;
    let includes = |name: &str| {
        is_weight(name)
            && include.as_ref().is_none_or(|pattern| pattern.is_match(name))
            && !exclude.as_ref().is_some_and(|pattern| pattern.is_match(name))
    };
    let base_path = worker.folders.model(&spec.base)?;
    let aligned_path = worker.folders.model(&spec.aligned)?;
    let out = vector_out(&spec.out, &[base_path.clone(), aligned_path.clone()])?;
    let (base, aligned) = (Side::open(&base_path)?, Side::open(&aligned_path)?);
    check_tokenizers(&base, &aligned, &includes, running)?;
    let dtype = spec.dtype.map(weights_dtype);
    check_disk(out, size_bytes(&base.checkpoint, &aligned.checkpoint, dtype, &includes))?;
    let stamp = FileStamp::of_model(&base_path);
    let origin = VectorOrigin {
        domain: spec.domain.clone(),
        base_name: Some(base.name.clone()),
        base_fingerprint: Some(worker.fingerprint(&base.checkpoint, &stamp, running)?),
        tokenizer_fingerprint: base.tokenizer,
        levels: spec.levels.clone(),
        training: spec.training.clone(),
        created: Some(Timestamp::now().to_string()),
        ..VectorOrigin::default()
    };
    let extraction = Extraction {
        aligned: &aligned.checkpoint,
        base: &base.checkpoint,
        origin,
        dtype,
        includes: &includes,
    };
    let report = running.stage(Stage::Extracting, |job| extract(&extraction, out, job))?;
    let summary = format!(
        "vector {:?}, {} tensors ({} unchanged were left out), {:.1} MB; base + 1·vector is within \
         {:.1e} of the aligned model, {:.1e} on average (relative)",
        spec.domain,
        report.tensors,
        report.unchanged,
        report.size_bytes as f64 / 1e6,
        report.max_relative_error,
        report.mean_relative_error,
    );
    worker.record_written("extract", out, summary, running);
    Ok(())
}

/// Refuses embeddings whose rows stand for different tokens; a difference without embeddings means
/// the same for any tokenizer.
fn check_tokenizers(
    base: &Side,
    aligned: &Side,
    includes: &dyn Fn(&str) -> bool,
    running: &Running<'_>,
) -> Result<(), EngineError> {
    if base.tokenizer.zip(aligned.tokenizer).is_none_or(|(base, aligned)| base == aligned) {
        return Ok(());
    }
    let mut names = base.checkpoint.names().chain(aligned.checkpoint.names());
    if names.any(|name| includes(name) && tensor_place(name).1 == ModuleKind::Embeddings) {
        let (base, aligned) = (base.name.clone(), aligned.name.clone());
        return Err(EngineError::TokenizersDiffer { base, aligned });
    }
    let note = "the two models have different tokenizers; the vector leaves their embeddings alone";
    running.fact(Fact::Note(note.to_owned()));
    Ok(())
}

/// What the values may take, if every tensor differs.
fn size_bytes(
    base: &Checkpoint,
    aligned: &Checkpoint,
    dtype: Option<Dtype>,
    includes: &dyn Fn(&str) -> bool,
) -> u64 {
    // Differences of two types are exact in neither.
    let of_both = if base.dtype() == aligned.dtype() { base.dtype() } else { Dtype::F32 };
    let infos = base.names().filter(|name| includes(name)).filter_map(|name| base.info(name));
    let elements: usize = infos.map(|info| info.shape.iter().product::<usize>()).sum();
    (elements * dtype.unwrap_or(of_both).size_bytes()) as u64
}

/// One of the two models. Bare weights will do: then nothing is known of a vocabulary.
struct Side {
    name: String,
    checkpoint: Checkpoint,
    tokenizer: Option<Fingerprint>,
}

impl Side {
    fn open(path: &Path) -> Result<Self, EngineError> {
        match ModelFiles::open(path) {
            Ok(files) => Ok(Self {
                tokenizer: Some(vocabulary_fingerprint(&files.tokenizer)),
                name: files.name,
                checkpoint: files.checkpoint,
            }),
            Err(ModelError::MissingFile { .. }) => {
                let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                Ok(Self { name, checkpoint: Checkpoint::open(path)?, tokenizer: None })
            }
            Err(err) => Err(err.into()),
        }
    }
}

fn pattern(text: &str) -> Result<Regex, EngineError> {
    Regex::new(text)
        .map_err(|err| EngineError::Pattern { pattern: text.to_owned(), source: Box::new(err) })
}
