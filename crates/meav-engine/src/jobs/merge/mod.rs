//! Merged models as files.

mod folder;
mod gguf;

use std::collections::BTreeSet;

use meav_model::ModelFiles;
use meav_protocol::{MergeFormat, MergeSpec};
use meav_vector::{Term, check_settings, count_layers, merge_tensor};
use meav_weights::{Dtype, Weight};

use crate::convert::{vector_method, weights_dtype};
use crate::error::EngineError;
use crate::loaded::stamp;
use crate::recipe_file::RecipeFile;
use crate::worker::{Running, Worker};
use crate::workspace::FileStamp;

/// A model that is being written, one tensor at a time: no more than that is ever in memory.
struct Merged<'a> {
    files: &'a ModelFiles,
    /// What the sums are rounded to.
    dtype: Dtype,
    method: meav_vector::Method,
    terms: &'a [Term],
    n_layers: usize,
    recipe: RecipeFile,
}

impl Merged<'_> {
    fn tensor(&self, name: &str) -> Result<Weight, EngineError> {
        let base = self.files.checkpoint.load(name)?;
        Ok(merge_tensor(name, &base, self.dtype, self.n_layers, self.method, self.terms)?)
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
        None => widest_dtype(&files),
    };
    let terms = worker.open_terms(&spec.vectors, &files, running)?;
    let (method, n_layers) = (vector_method(spec.method), count_layers(files.weight_names()));
    check_settings(method, &terms, n_layers)?;
    let base = worker.fingerprint(&files.checkpoint, &FileStamp::of_model(&path), running)?;
    let active: Vec<Term> = terms.iter().filter(|term| term.is_active()).cloned().collect();
    let stamp = stamp(base, dtype, &files.name, method, &active);
    let recipe = RecipeFile::new(&path, stamp);
    let merged = Merged { files: &files, dtype, method, terms: &terms, n_layers, recipe };
    let form = match spec.format {
        MergeFormat::Folder { max_shard_bytes } => {
            folder::write(&merged, &spec.out.path, max_shard_bytes, running)?;
            dtype.to_string()
        }
        MergeFormat::Gguf(form) => gguf::write(&merged, &spec.out, form, running)?,
    };
    let summary = format!("{} · {form} · {}", files.name, merged.recipe.stamp);
    worker.record_written("merge", &spec.out.path, summary, running);
    Ok(())
}

/// The narrowest type that holds all weights as they are: `f32` for a GGUF.
fn widest_dtype(files: &ModelFiles) -> Dtype {
    let names = files.weight_names();
    let infos = names.iter().filter_map(|name| files.checkpoint.info(name));
    holding_all(&infos.map(|info| info.stored_dtype).collect())
}

fn holding_all(stored: &BTreeSet<String>) -> Dtype {
    let is_all = |dtype: &Dtype| stored.iter().eq([dtype.safetensors_name()]);
    [Dtype::F16, Dtype::Bf16].into_iter().find(is_all).unwrap_or(Dtype::F32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_weight_is_rounded_that_nobody_asked_to_round() {
        for (stored, expected) in [
            (&["BF16"][..], Dtype::Bf16),
            (&["F16"], Dtype::F16),
            (&["F32"], Dtype::F32),
            (&["BF16", "F32"], Dtype::F32),
            (&["BF16", "F16"], Dtype::F32),
            (&["Q8_0", "F16"], Dtype::F32),
        ] {
            let stored = stored.iter().map(|dtype| (*dtype).to_owned()).collect();
            assert_eq!(holding_all(&stored), expected, "{stored:?}");
        }
    }
}
