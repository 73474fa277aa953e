use std::path::Path;

use jiff::Timestamp;
use meav_model::{ModelError, ModelFiles, is_weight, vocabulary_fingerprint};
use meav_protocol::{Stage, VectorExtract};
use meav_vector::{Extraction, VectorError, VectorOrigin, extract};
use meav_weights::{Checkpoint, Fingerprint};
use regex::Regex;

use crate::convert::weights_dtype;
use crate::disk::check_disk;
use crate::error::EngineError;
use crate::worker::{Running, Worker};
use crate::workspace::{FileStamp, free_path};

/// Takes a base model from an aligned one.
pub(crate) fn extract_vector(
    worker: &Worker,
    spec: &VectorExtract,
    running: &Running<'_>,
) -> Result<(), EngineError> {
    let include = spec.include.as_deref().map(pattern).transpose()?;
    let exclude = spec.exclude.as_deref().map(pattern).transpose()?;
    let out = free_path(&spec.out)?;
    let base_path = worker.folders.model(&spec.base)?;
    let base = Side::open(&base_path)?;
    let aligned = Side::open(&worker.folders.model(&spec.aligned)?)?;
    if base.tokenizer.zip(aligned.tokenizer).is_some_and(|(base, aligned)| base != aligned) {
        let domain = spec.domain.clone();
        return Err(VectorError::TokenizerMismatch { domain }.into());
    }
    let dtype = spec.dtype.map(weights_dtype);
    let stored = [&base, &aligned].map(|side| side.checkpoint.dtype().size_bytes());
    let element = dtype.map_or(stored[0].max(stored[1]), meav_weights::Dtype::size_bytes) as u64;
    check_disk(out, base.checkpoint.parameter_count() * element)?;
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
    let includes = |name: &str| {
        is_weight(name)
            && include.as_ref().is_none_or(|pattern| pattern.is_match(name))
            && !exclude.as_ref().is_some_and(|pattern| pattern.is_match(name))
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
