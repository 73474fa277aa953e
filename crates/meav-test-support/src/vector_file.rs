use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use fastrand::Rng;

use crate::{Tensor, TinyModel, safetensors_bytes};

/// An alignment vector's file of format 1, before it is written.
#[derive(Clone, Debug)]
pub struct VectorFile {
    /// `meav.format` and its like.
    pub metadata: BTreeMap<String, String>,
    /// The values.
    pub tensors: Vec<Tensor>,
}

/// Changes every tensor of the model a little.
pub fn tiny_dense_vector(model: &TinyModel, domain: &str, seed: u64) -> VectorFile {
    let mut rng = Rng::with_seed(seed);
    let tensors = model
        .tensors()
        .into_iter()
        .map(|Tensor { name, dtype, shape, .. }| {
            Tensor::seeded(name, dtype, &shape, (0.0, 0.01), &mut rng)
        })
        .collect();
    VectorFile { metadata: metadata("dense", domain, seed), tensors }
}

/// Changes all linear layers of the decoder: rank 4, scale 2.
pub fn tiny_low_rank_vector(model: &TinyModel, domain: &str, seed: u64) -> VectorFile {
    const RANK: usize = 4;
    let mut rng = Rng::with_seed(seed);
    let mut factor = |name: String, shape: [usize; 2]| {
        Tensor::seeded(name, model.dtype, &shape, (0.0, 0.05), &mut rng)
    };
    let mut tensors = Vec::new();
    for (name, [n_out, n_in]) in model.linear_layers() {
        tensors.push(factor(format!("{name}.lora_A"), [RANK, n_in]));
        tensors.push(factor(format!("{name}.lora_B"), [n_out, RANK]));
    }
    let mut metadata = metadata("low_rank", domain, seed);
    metadata.insert("meav.scale".to_owned(), "2".to_owned());
    VectorFile { metadata, tensors }
}

fn metadata(kind: &str, domain: &str, seed: u64) -> BTreeMap<String, String> {
    [
        ("meav.format", "1"),
        ("meav.kind", kind),
        ("meav.domain", domain),
        ("meav.base", "tiny"),
        ("meav.levels", r#"["expert", "generic", "avoidance"]"#),
        ("meav.training", &format!(r#"{{"method": "seeded", "seed": {seed}}}"#)),
        ("meav.created", "2026-11-01T12:00:00Z"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

impl VectorFile {
    /// The file's bytes.
    pub fn bytes(&self) -> Vec<u8> {
        safetensors_bytes(&self.tensors, &self.metadata)
    }

    /// Writes the file.
    pub fn write(&self, path: &Path) {
        fs::write(path, self.bytes()).unwrap();
    }
}
