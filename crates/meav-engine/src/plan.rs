//! What memory a model with its vectors takes, from the headers of its files.

use std::path::{Path, PathBuf};

use meav_model::ModelFiles;
use meav_protocol::{Dtype, MemoryPlan, Place, PlanChange, PlanPart, WayOut};
use meav_vector::{VectorHeader, VectorKind};
use meav_weights::{Checkpoint, available_memory_bytes};

use crate::convert::{kind_name, weights_dtype};
use crate::one_line::{NAME_CHARS, one_line};

/// Room for activations and the program itself.
const OVERHEAD_BYTES: u64 = 256 << 20;

/// Tokens that a conversation is given room for; it grows beyond them, up to the model's limit.
const PLANNED_TOKENS: usize = 4096;

/// A vector that is smaller is not worth compressing for the memory it takes.
const WORTH_COMPRESSING_BYTES: u64 = 64 << 20;

/// A vector of the plan.
pub(crate) struct PlannedVector {
    /// As the request names it.
    pub(crate) file: PathBuf,
    pub(crate) header: VectorHeader,
}

impl PlannedVector {
    /// What it takes; its file where its values stay there.
    pub(crate) fn part(&self) -> PlanPart {
        let VectorHeader { domain, kind, file_bytes, memory_bytes } = &self.header;
        let (place, bytes) = match memory_bytes {
            0 => (Place::MappedFile, file_bytes),
            bytes => (Place::Memory, bytes),
        };
        let (name, form) = (one_line(domain, NAME_CHARS), kind_name(*kind).to_owned());
        PlanPart { name, form, place, bytes: *bytes }
    }
}

/// Adds up what `files` in `dtype` with `vectors` would take; `freed` bytes are given back before
/// it is loaded.
pub(crate) fn plan(
    files: &ModelFiles,
    dtype: Dtype,
    vectors: &[PlannedVector],
    freed: u64,
) -> MemoryPlan {
    let parts = parts(files, dtype, vectors);
    let sum = |place: Place| {
        let parts = parts.iter().filter(|part| part.place == place);
        parts.fold(0, |sum: u64, part| sum.saturating_add(part.bytes))
    };
    let (needed_bytes, mapped_bytes) = (sum(Place::Memory), sum(Place::MappedFile));
    let available_bytes = available_memory_bytes().map(|available| available.saturating_add(freed));
    let mut plan = MemoryPlan { parts, needed_bytes, available_bytes, ways_out: Vec::new() };
    plan.ways_out = ways_out(&plan, files, dtype, vectors, mapped_bytes);
    plan
}

fn parts(files: &ModelFiles, dtype: Dtype, vectors: &[PlannedVector]) -> Vec<PlanPart> {
    let checkpoint = &files.checkpoint;
    let parameters = checkpoint.parameter_count();
    let millions = format!("{:.1} M parameters", parameters as f64 / 1e6);
    let part = |name: &str, form: String, place: Place, bytes: u64| PlanPart {
        name: name.to_owned(),
        form,
        place,
        bytes,
    };
    let base = if checkpoint.gguf().is_some() {
        let form = format!("{millions}, dequantised to f32");
        part("base model", form, Place::Memory, parameters * 4)
    } else {
        let bytes = file_bytes(checkpoint.files());
        part("base model", format!("{millions}, {}", checkpoint.dtype()), Place::MappedFile, bytes)
    };
    let element = weights_dtype(dtype).size_bytes() as u64;
    let live =
        part("live weights", format!("{millions}, {dtype}"), Place::Memory, parameters * element);
    let config = &files.config;
    let tokens = config.max_position_embeddings.min(PLANNED_TOKENS);
    let cache_bytes = cache_bytes(tokens, config.n_layers, config.n_kv_heads, config.head_dim);
    let cache = part("KV cache", format!("{tokens} tokens, f32"), Place::Memory, cache_bytes);
    let working = part(
        "working memory",
        "activations, copies of one tensor".to_owned(),
        Place::Memory,
        OVERHEAD_BYTES + largest_tensor(checkpoint) * (4 + element),
    );
    let vectors = vectors.iter().map(PlannedVector::part);
    [base, live].into_iter().chain(vectors).chain([cache, working]).collect()
}

/// Bytes of the keys and values of a conversation; a configuration may say anything.
fn cache_bytes(tokens: usize, n_layers: usize, n_kv_heads: usize, head_dim: usize) -> u64 {
    let factors = [2, size_of::<f32>(), tokens, n_layers, n_kv_heads, head_dim];
    factors.into_iter().fold(1, |bytes: u64, factor| bytes.saturating_mul(factor as u64))
}

fn largest_tensor(checkpoint: &Checkpoint) -> u64 {
    let infos = checkpoint.names().filter_map(|name| checkpoint.info(name));
    infos.map(|info| info.shape.iter().product::<usize>() as u64).max().unwrap_or(0)
}

fn file_bytes(files: &[PathBuf]) -> u64 {
    let size = |path: &PathBuf| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    files.iter().map(size).sum()
}

/// What would make the model smaller, the most effective first.
fn ways_out(
    plan: &MemoryPlan,
    files: &ModelFiles,
    dtype: Dtype,
    vectors: &[PlannedVector],
    mapped_bytes: u64,
) -> Vec<WayOut> {
    let parameters = files.checkpoint.parameter_count();
    let way = |text: String, saves_bytes: u64, change: PlanChange| {
        let needed = plan.needed_bytes.saturating_sub(saves_bytes);
        let fits = plan.available_bytes.is_none_or(|available| needed <= available);
        WayOut { text, saves_bytes, fits, change }
    };
    let mut ways = Vec::new();
    if dtype == Dtype::F32 {
        let text = "Round the live weights to bf16".to_owned();
        ways.push(way(text, parameters * 2, PlanChange::Dtype(Dtype::Bf16)));
    }
    if files.checkpoint.gguf().is_some() {
        let text = "Write the model as a Hugging Face folder once and open that: its weights stay \
                    in their file"
            .to_owned();
        ways.push(way(text, parameters * 4, PlanChange::ConvertModel));
    }
    for PlannedVector { file, header } in vectors {
        let domain = one_line(&header.domain, NAME_CHARS);
        let change = PlanChange::CompressVector { file: file.clone() };
        if header.memory_bytes > WORTH_COMPRESSING_BYTES {
            let text = match header.kind {
                VectorKind::Checkpoint => format!(
                    "Compress {domain:?} once, to low rank: a whole GGUF is dequantised into memory"
                ),
                _ => format!("Compress {domain:?} to half its rank"),
            };
            let saves = match header.kind {
                VectorKind::Checkpoint => header.memory_bytes,
                _ => header.memory_bytes / 2,
            };
            ways.push(way(text, saves, change));
        } else if plan
            .available_bytes
            .is_some_and(|it| plan.needed_bytes.saturating_add(mapped_bytes) > it)
            && header.memory_bytes == 0
            && header.file_bytes > WORTH_COMPRESSING_BYTES
        {
            let text = format!(
                "Compress {domain:?}: its file does not fit beside the model and is read from the \
                 disk at each turn of its knob"
            );
            ways.push(way(text, 0, change));
        }
    }
    ways.sort_by_key(|way| std::cmp::Reverse(way.saves_bytes));
    ways
}

/// A vector of a request by its header.
pub(crate) fn planned_vector(
    file: &Path,
    path: &Path,
) -> Result<PlannedVector, meav_vector::VectorError> {
    Ok(PlannedVector { file: file.to_owned(), header: VectorHeader::read(path)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_of_any_configuration_has_a_size() {
        assert_eq!(cache_bytes(10, 2, 3, 4), 2 * 4 * 10 * 2 * 3 * 4);
        assert_eq!(cache_bytes(10, usize::MAX, 3, 4), u64::MAX);
    }
}
