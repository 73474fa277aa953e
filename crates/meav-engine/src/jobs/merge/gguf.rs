use std::fs;

use meav_model::GgufExport;
use meav_protocol::{ExportTarget, Fact, GgufForm, Stage};
use meav_weights::{GgufType, write_file_atomically};

use super::Merged;
use crate::disk::check_disk;
use crate::error::EngineError;
use crate::worker::Running;
use crate::workspace::free_path;

/// Room for everything but the weights.
const HEADER_BYTES: u64 = 64 << 20;

/// Writes a file for llama.cpp, and says in which form.
pub(super) fn write(
    merged: &Merged<'_>,
    out: &ExportTarget,
    form: GgufForm,
    running: &Running<'_>,
) -> Result<String, EngineError> {
    let path = free_path(out)?;
    let name = format!("{} {}", merged.files.name, merged.recipe.stamp);
    let export = GgufExport::new(merged.files, &name, gguf_type(form))
        .map_err(|source| EngineError::GgufExport { path: merged.files.path.clone(), source })?;
    for note in export.notes() {
        running.fact(Fact::Note(note.clone()));
    }
    let weights: usize = export.tensors().filter_map(meav_weights::GgufTensor::size_bytes).sum();
    check_disk(path, weights as u64 + HEADER_BYTES)?;
    running.stage(Stage::Writing, |job| {
        write_file_atomically(path, |file| {
            export.write(file, path, |name| merged.tensor(name), job)
        })
    })?;
    let megabytes = fs::metadata(path).map_or(0.0, |metadata| metadata.len() as f64 / 1e6);
    Ok(format!("GGUF {}, {megabytes:.1} MB", form_name(form)))
}

fn gguf_type(form: GgufForm) -> GgufType {
    match form {
        GgufForm::F16 => GgufType::F16,
        GgufForm::Bf16 => GgufType::Bf16,
        GgufForm::Q8_0 => GgufType::Q8_0,
    }
}

fn form_name(form: GgufForm) -> &'static str {
    match form {
        GgufForm::F16 => "f16",
        GgufForm::Bf16 => "bf16",
        GgufForm::Q8_0 => "Q8_0",
    }
}
