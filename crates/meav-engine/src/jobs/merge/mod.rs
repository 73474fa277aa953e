//! Merged models as files.

mod folder;
mod gguf;

use meav_model::ModelFiles;
use meav_protocol::{MergeFormat, MergeSpec, RecipeStamp};
use meav_vector::{Term, merge_tensor};
use meav_weights::{Dtype, Weight};

use crate::convert::{vector_method, weights_dtype};
use crate::error::EngineError;
use crate::loaded::stamp;
use crate::worker::{Running, Worker};
use crate::workspace::FileStamp;

/// A model that is being written, one tensor at a time: no more than that is ever in memory.
struct Merged<'a> {
    files: &'a ModelFiles,
    /// What the sums are rounded to.
    dtype: Dtype,
    method: meav_vector::Method,
    terms: &'a [Term],
    recipe: RecipeStamp,
}

impl Merged<'_> {
    fn tensor(&self, name: &str) -> Result<Weight, EngineError> {
        let base = self.files.checkpoint.load(name)?;
        let n_layers = self.files.config.n_layers;
        Ok(merge_tensor(name, &base, self.dtype, n_layers, self.method, self.terms)?)
    }
}

/// Writes the merged model.
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
    let method = vector_method(spec.method);
    let merged = Merged {
        files: &files,
        dtype,
        method,
        terms: &terms,
        recipe: stamp(base, dtype, &files.name, method, &active),
    };
    let form = match spec.format {
        MergeFormat::Folder { max_shard_bytes } => {
            folder::write(&merged, &spec.out.path, max_shard_bytes, running)?;
            dtype.to_string()
        }
        MergeFormat::Gguf(form) => gguf::write(&merged, &spec.out, form, running)?,
    };
    let summary = format!("{} · {form} · {}", files.name, merged.recipe);
    worker.record_written("merge", &spec.out.path, summary, running);
    Ok(())
}
