use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use meav_job::JobCtx;
use meav_model::{ChatTemplate, Decoder, ModelError, ModelFiles, vocabulary_fingerprint};
use meav_protocol::{Dtype, Stage};
use meav_vector::VectorError;
use meav_weights::{Fingerprint, Values, Weight};

use crate::compute::Compute;
use crate::convert::weights_dtype;
use crate::error::EngineError;
use crate::worker::{Running, Worker};
use crate::workspace::FileStamp;

/// The files of the model that is trained.
pub(crate) struct Base {
    pub(crate) files: ModelFiles,
    pub(crate) template: ChatTemplate,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) tokenizer: Fingerprint,
    pub(crate) dtype: Dtype,
    /// What it is trained on.
    pub(crate) compute: Compute,
}

impl Base {
    /// Reads all but the weights.
    pub(crate) fn open(
        worker: &Worker,
        model: &Path,
        dtype: Dtype,
        running: &Running<'_>,
    ) -> Result<Self, EngineError> {
        if dtype == Dtype::F16 && !worker.compute.is_gpu() {
            return Err(EngineError::HalfOnCpu);
        }
        let path = worker.folders.model(model)?;
        let files = ModelFiles::open(&path)?;
        if files.chat_template.is_none() {
            return Err(ModelError::NoChatTemplate.into());
        }
        let template = files.compile_chat_template()?;
        let stamp = FileStamp::of_model(&path);
        let fingerprint = worker.fingerprint(&files.checkpoint, &stamp, running)?;
        let tokenizer = vocabulary_fingerprint(&files.tokenizer);
        let compute = worker.compute.clone();
        Ok(Self { files, template, fingerprint, tokenizer, dtype, compute })
    }

    /// Copies the weights into tensors of their own: those that are chatted with move with their
    /// knobs.
    pub(crate) fn load(&self, running: &Running<'_>) -> Result<Decoder, EngineError> {
        running.stage(Stage::Loading, |job| {
            let tensors = self.tensors(job)?;
            Ok(Decoder::new(&self.files.config, &tensors)?)
        })
    }

    fn tensors(&self, job: &JobCtx<'_>) -> Result<BTreeMap<String, Tensor>, EngineError> {
        let names = self.files.weight_names();
        let mut tensors = BTreeMap::new();
        for (index, name) in names.iter().enumerate() {
            job.tick(index, names.len()).map_err(EngineError::from)?;
            let tensor = to_tensor(&self.weight(name)?, self.compute.device())
                .map_err(|source| VectorError::Tensor { name: (*name).to_owned(), source })?;
            tensors.insert((*name).to_owned(), tensor);
        }
        Ok(tensors)
    }

    /// One weight as it is before training, rounded as the training does.
    pub(crate) fn weight(&self, name: &str) -> Result<Weight, EngineError> {
        Ok(self.files.checkpoint.load(name)?.to_dtype(weights_dtype(self.dtype)))
    }
}

fn to_tensor(weight: &Weight, device: &Device) -> candle_core::Result<Tensor> {
    let shape = weight.shape();
    match weight.values() {
        Values::F32(values) => Tensor::from_slice(values, shape, device),
        Values::F16(values) => Tensor::from_slice(values, shape, device),
        Values::Bf16(values) => Tensor::from_slice(values, shape, device),
    }
}
