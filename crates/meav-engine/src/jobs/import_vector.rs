use jiff::Timestamp;
use meav_model::{ModelFiles, vocabulary_fingerprint};
use meav_protocol::{Stage, VectorImport};
use meav_vector::save_low_rank;

use crate::convert::weights_dtype;
use crate::error::EngineError;
use crate::vector_out::vector_out;
use crate::worker::{Running, Worker};
use crate::workspace::FileStamp;

/// Turns a PEFT adapter into a vector file that knows which model it belongs to.
pub(crate) fn import_vector(
    worker: &Worker,
    import: &VectorImport,
    running: &Running<'_>,
) -> Result<(), EngineError> {
    let base_path = worker.folders.model(&import.base)?;
    let out = vector_out(&import.out, &[import.adapter.clone(), base_path.clone()])?;
    let files = ModelFiles::open(&base_path)?;
    let mut vector = worker.open_vector(&import.adapter, running)?;
    let tokenizer = vocabulary_fingerprint(&files.tokenizer);
    vector.check_fit(&files.checkpoint, tokenizer)?;
    let base = worker.fingerprint(&files.checkpoint, &FileStamp::of_model(&base_path), running)?;
    let origin = &mut vector.origin;
    let adapter_base = origin.base_name.replace(files.name);
    origin.domain.clone_from(&import.domain);
    origin.base_fingerprint = Some(base);
    origin.tokenizer_fingerprint = Some(tokenizer);
    origin.created = Some(Timestamp::now().to_string());
    origin.levels.clone_from(&import.levels);
    let imported = || {
        serde_json::json!({
            "method": "lora",
            "imported_from": "PEFT adapter",
            "adapter_base": adapter_base,
            "app_version": env!("CARGO_PKG_VERSION"),
        })
        .to_string()
    };
    origin.training = Some(import.training.clone().unwrap_or_else(imported));
    let dtype = weights_dtype(import.dtype);
    running.stage(Stage::Writing, |job| save_low_rank(&vector, dtype, out, job))?;
    let bytes = std::fs::metadata(out).map_or(0, |metadata| metadata.len());
    let summary = format!(
        "vector {:?}, {} tensors, {:.1} MB",
        import.domain,
        vector.deltas.len(),
        bytes as f64 / 1e6
    );
    worker.record_written("import", out, summary, running);
    Ok(())
}
