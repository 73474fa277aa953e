use std::path::{Path, PathBuf};

use meav_weights::{Checkpoint, CheckpointFormat};

use crate::alignment_vector::is_model;
use crate::format::part::{LORA_A, LORA_B};
use crate::rows::base_name;
use crate::{VectorError, VectorKind, format, peft};

/// What is known of a vector without reading its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VectorHeader {
    /// The preference dimension's name, or the name of the adapter's or the model's folder.
    pub domain: String,
    /// How its values are stored.
    pub kind: VectorKind,
    /// Bytes of its files.
    pub file_bytes: u64,
    /// Bytes of memory that it takes once it is read; 0 where its values stay in their file.
    pub memory_bytes: u64,
}

impl VectorHeader {
    /// Reads the header of whatever [`AlignmentVector::open`](crate::AlignmentVector::open) takes.
    ///
    /// # Errors
    ///
    /// As there, as far as a header tells.
    pub fn read(path: &Path) -> Result<Self, VectorError> {
        if peft::is_adapter(path) {
            let weights = peft::weights_path(path);
            let checkpoint = Checkpoint::open(&weights)?;
            return Ok(Self {
                domain: peft::domain(path),
                kind: VectorKind::LowRank,
                file_bytes: file_bytes(&checkpoint),
                memory_bytes: widened_bytes(&checkpoint, |_| true),
            });
        }
        let checkpoint = Checkpoint::open(path)?;
        if !format::is_vector(&checkpoint) && is_model(&checkpoint) {
            let is_gguf = checkpoint.format() == CheckpointFormat::Gguf;
            return Ok(Self {
                domain: base_name(&checkpoint),
                kind: VectorKind::Checkpoint,
                file_bytes: file_bytes(&checkpoint),
                memory_bytes: if is_gguf { widened_bytes(&checkpoint, |_| true) } else { 0 },
            });
        }
        let (kind, domain) = format::read_summary(&checkpoint)?;
        Ok(Self {
            domain,
            kind,
            file_bytes: file_bytes(&checkpoint),
            // Factors are widened, everything else is mapped.
            memory_bytes: widened_bytes(&checkpoint, |name| {
                name.ends_with(LORA_A) || name.ends_with(LORA_B)
            }),
        })
    }
}

/// Bytes of the named tensors' values in `f32`.
fn widened_bytes(checkpoint: &Checkpoint, is_widened: impl Fn(&str) -> bool) -> u64 {
    let names = checkpoint.names().filter(|name| is_widened(name));
    let infos = names.filter_map(|name| checkpoint.info(name));
    infos.map(|info| (info.shape.iter().product::<usize>() * size_of::<f32>()) as u64).sum()
}

fn file_bytes(checkpoint: &Checkpoint) -> u64 {
    let size = |path: &PathBuf| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    checkpoint.files().iter().map(size).sum()
}
