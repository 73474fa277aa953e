//! Tiny models from file to text.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod differentiable;
mod families;
mod forward;
mod generation;
mod gguf_export;
mod gguf_models;
mod gpu;
mod model_folders;
mod reference;
mod scoring;

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{CpuStorage, Device, InplaceOp1, Layout, Tensor};
use meav_job::JobCtx;
use meav_model::{Decoder, KvCache, Logits, ModelFiles};
use meav_test_support::chain;
use meav_test_support::{ModelFolder, TinyModel, tiny_model};
use meav_weights::{Dtype, Values};
use tempfile::TempDir;

/// A model that is ready to run.
struct Running {
    files: ModelFiles,
    tensors: BTreeMap<String, Tensor>,
    decoder: Decoder,
    /// Keeps the mapped files.
    _folder: TempDir,
}

impl Running {
    fn tiny(options: &TinyModel) -> Self {
        Self::of(&tiny_model(options))
    }

    fn tiny_on(options: &TinyModel, device: &Device) -> Self {
        Self::on(&tiny_model(options), device)
    }

    fn of(model: &ModelFolder) -> Self {
        Self::on(model, &Device::Cpu)
    }

    fn on(model: &ModelFolder, device: &Device) -> Self {
        let folder = model.in_temp_dir();
        let files = ModelFiles::open(folder.path()).unwrap();
        let tensors = load(&files, files.checkpoint.dtype());
        let tensors = to_device(tensors, device);
        let decoder = Decoder::new(&files.config, &tensors).unwrap();
        Self { files, tensors, decoder, _folder: folder }
    }

    fn cache(&self) -> KvCache {
        let capacity = self.files.config.max_position_embeddings;
        KvCache::new(&self.files.config, capacity, self.decoder.device()).unwrap()
    }

    /// Logits behind each of `tokens`, which follow what `cache` holds.
    fn logits(&self, tokens: &[u32], cache: &mut KvCache) -> Vec<f32> {
        flat(&self.decoder.forward(tokens, cache, Logits::All, &JobCtx::detached()).unwrap())
    }
}

/// The weights in `dtype`, as the engine would hold them.
fn load(files: &ModelFiles, dtype: Dtype) -> BTreeMap<String, Tensor> {
    let weights = files.load_weights(&JobCtx::detached()).unwrap();
    let tensor = |weight: &meav_weights::Weight| {
        let weight = weight.to_dtype(dtype);
        let shape = weight.shape();
        match weight.values() {
            Values::F32(values) => Tensor::from_slice(values, shape, &Device::Cpu),
            Values::F16(values) => Tensor::from_slice(values, shape, &Device::Cpu),
            Values::Bf16(values) => Tensor::from_slice(values, shape, &Device::Cpu),
        }
    };
    weights.iter().map(|(name, weight)| (name.clone(), tensor(weight).unwrap())).collect()
}

fn to_device(tensors: BTreeMap<String, Tensor>, device: &Device) -> BTreeMap<String, Tensor> {
    let to_device = |(name, it): (String, Tensor)| (name, it.to_device(device).unwrap());
    tensors.into_iter().map(to_device).collect()
}

/// Multiplies a tensor where it stands, as a change of recipe would write over it.
struct Scale(f32);

impl InplaceOp1 for Scale {
    fn name(&self) -> &'static str {
        "scale"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, _: &Layout) -> candle_core::Result<()> {
        let CpuStorage::F32(values) = storage else { candle_core::bail!("not f32") };
        for value in values {
            *value *= self.0;
        }
        Ok(())
    }
}

fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Tokens of no meaning.
fn some_tokens(len: usize) -> Vec<u32> {
    (0..len as u32).map(|i| 3 + (i * 37 + i * i) % 290).collect()
}

/// What a path is refused with, and everything behind it.
fn refusal(path: &Path) -> String {
    chain(&ModelFiles::open(path).unwrap_err())
}
