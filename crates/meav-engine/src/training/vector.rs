use std::collections::BTreeMap;
use std::path::Path;

use candle_core::Tensor;
use jiff::Timestamp;
use meav_job::JobCtx;
use meav_model::Adapter;
use meav_protocol::{PreferenceLoss, TrainMethod, TrainRun};
use meav_train::{PairSet, Trainer};
use meav_vector::{
    AlignmentVector, Delta, LowRank, VectorError, VectorKind, VectorOrigin, save, save_dense,
};
use meav_weights::{Dtype, Fingerprint, Weight};
use serde_json::{Value, json};

use super::base::Base;
use super::config::RunConfig;
use super::run::best_validation;
use crate::error::EngineError;

/// What a vector is written from.
pub(crate) struct Trained<'a> {
    pub(crate) base: &'a Base,
    pub(crate) config: &'a RunConfig,
    pub(crate) levels: &'a [String],
    pub(crate) told: &'a TrainRun,
    pub(crate) trainer: &'a Trainer,
}

impl Trained<'_> {
    /// Writes what has been trained so far, rounded to `bf16`: half the size, and the rounding is a
    /// hundredth of what a step changes. Gives its tensors.
    ///
    /// # Errors
    ///
    /// [`EngineError::NothingTrained`] if no tensor has changed.
    pub(crate) fn write(&self, path: &Path, job: &JobCtx<'_>) -> Result<usize, EngineError> {
        let Some(adapters) = self.trainer.adapters() else { return self.write_dense(path) };
        let mut deltas = BTreeMap::new();
        for (name, adapter) in adapters {
            let failed = |source| VectorError::Tensor { name: name.clone(), source };
            deltas.insert(name.clone(), Delta::LowRank(low_rank(adapter).map_err(failed)?));
        }
        let vector = AlignmentVector {
            path: path.to_owned(),
            kind: VectorKind::LowRank,
            origin: self.origin(),
            fingerprint: Fingerprint::of_bytes(&[]),
            deltas,
        };
        save(&vector, Some(Dtype::Bf16), path, job)?;
        Ok(vector.deltas.len())
    }

    /// Tensor by tensor: all of them would take half as much as the model again.
    fn write_dense(&self, path: &Path) -> Result<usize, EngineError> {
        let mut changed = Vec::new();
        for (name, weight) in self.trainer.weights() {
            let difference = self.difference(name, weight?)?;
            if difference.to_f32_vec().iter().any(|value| *value != 0.0) {
                changed.push((name.to_owned(), difference.shape().to_vec()));
            }
        }
        if changed.is_empty() {
            return Err(EngineError::NothingTrained);
        }
        let is_changed = |name: &str| changed.iter().any(|(changed, _)| changed == name);
        let weights = self.trainer.weights().filter(|(name, _)| is_changed(name));
        let deltas = weights.map(|(name, weight)| self.difference(name, weight?));
        save_dense(&self.origin(), &changed, Dtype::Bf16, path, deltas)?;
        Ok(changed.len())
    }

    /// What was added to a weight since the first step.
    fn difference(&self, name: &str, weight: Weight) -> Result<Weight, EngineError> {
        let (shape, mut values) = (weight.shape().to_vec(), weight.to_f32_vec());
        drop(weight);
        for (value, before) in values.iter_mut().zip(self.base.weight(name)?.to_f32_vec()) {
            *value -= before;
        }
        Ok(Weight::from_f32(shape, values).to_dtype(Dtype::Bf16))
    }

    fn origin(&self) -> VectorOrigin {
        VectorOrigin {
            domain: self.told.spec.domain.clone(),
            base_name: Some(self.base.files.name.clone()),
            base_fingerprint: Some(self.base.fingerprint),
            tokenizer_fingerprint: Some(self.base.tokenizer),
            levels: self.levels.to_vec(),
            training: Some(self.training().to_string()),
            created: Some(Timestamp::now().to_string()),
            ..VectorOrigin::default()
        }
    }

    /// How it was trained.
    fn training(&self) -> Value {
        let settings = &self.told.spec.settings;
        let (method, rank, alpha) = match &settings.method {
            TrainMethod::Full => ("full", None, None),
            TrainMethod::Lora { rank, alpha, .. } => ("lora", Some(rank), Some(alpha)),
        };
        let (loss, label_smoothing) = match settings.loss {
            PreferenceLoss::Ipo => ("ipo", None),
            PreferenceLoss::Sigmoid { label_smoothing } => ("sigmoid", Some(label_smoothing)),
            PreferenceLoss::Hinge => ("hinge", None),
        };
        let best = best_validation(&self.told.validations);
        let all = json!({
            "method": method,
            "rank": rank,
            "alpha": alpha,
            "loss": loss,
            "beta": settings.beta,
            "label_smoothing": label_smoothing,
            "data": self.config.data,
            "pairs": self.told.counts.pairs,
            "pairs_fingerprint": self.config.pairs_fingerprint,
            "steps": self.trainer.step_number(),
            "epochs": settings.epochs,
            "batch": settings.batch.saturating_mul(settings.accumulation),
            "learning_rate": settings.learning_rate,
            "schedule": settings.schedule,
            "warmup_steps": settings.warmup_steps,
            "weight_decay": settings.weight_decay,
            "max_grad_norm": settings.max_grad_norm,
            "max_length": settings.max_length,
            "dtype": self.told.spec.dtype.to_string(),
            "seed": settings.seed,
            "last_loss": self.told.steps.last().map(|step| step.loss),
            "validation_loss": self.told.validations.last().map(|it| it.loss),
            "best_validation_loss": best.map(|it| it.loss),
            "best_step": best.map(|it| it.step),
            "app_version": env!("CARGO_PKG_VERSION"),
        });
        match all {
            Value::Object(all) => all.into_iter().filter(|(_, value)| !value.is_null()).collect(),
            other => other,
        }
    }
}

fn low_rank(adapter: &Adapter) -> candle_core::Result<LowRank> {
    let Adapter { a, b, scale } = adapter;
    let ((rank, n_in), (n_out, _)) = (a.dims2()?, b.dims2()?);
    let values = |factor: &Tensor| factor.flatten_all()?.to_vec1::<f32>();
    Ok(LowRank { a: values(a)?, b: values(b)?, shape: [n_out, n_in], rank, scale: *scale })
}

/// The levels of the pairs, the highest first; none where files that are trained on jointly
/// contradict each other.
pub(crate) fn levels(pairs: &PairSet) -> Vec<String> {
    let mut levels: Vec<String> = Vec::new();
    for [chosen, rejected] in pairs.train.iter().map(|pair| &pair.levels) {
        if !levels.contains(chosen) {
            let before = levels.iter().position(|level| level == rejected);
            levels.insert(before.unwrap_or(levels.len()), chosen.clone());
        }
        if !levels.contains(rejected) {
            levels.push(rejected.clone());
        }
    }
    let place = |level: &String| levels.iter().position(|it| it == level);
    let agrees = |[chosen, rejected]: &[String; 2]| place(chosen) < place(rejected);
    if pairs.train.iter().all(|pair| agrees(&pair.levels)) { levels } else { Vec::new() }
}

/// One line about a vector that was written.
pub(crate) fn summary(told: &TrainRun, tensors: usize, path: &Path) -> String {
    let bytes = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    format!(
        "vector {:?}, {tensors} tensors, {:.1} MB, trained in {} steps on {} pairs",
        told.spec.domain,
        bytes as f64 / 1e6,
        told.steps.last().map_or(0, |step| step.step),
        told.counts.pairs,
    )
}

#[cfg(test)]
mod tests {
    use meav_model::Question;
    use meav_train::Pair;

    use super::*;

    #[test]
    fn levels_of_pairs_stand_in_the_order_of_preference() {
        let pair = |chosen: &str, rejected: &str| Pair {
            id: String::new(),
            domain: None,
            levels: [chosen.to_owned(), rejected.to_owned()],
            question: Question { prompt: vec![1], responses: vec![vec![2], vec![3]] },
            truncated: false,
        };
        let of = |pairs: &[[&str; 2]]| {
            let train = pairs.iter().map(|[chosen, rejected]| pair(chosen, rejected)).collect();
            let (validation, left_out) = (Vec::new(), Vec::new());
            levels(&PairSet { train, validation, left_out, fingerprint: String::new() })
        };
        let three = ["expert", "generic", "avoidance"];
        assert_eq!(of(&[["expert", "generic"], ["generic", "avoidance"]]), three);
        assert_eq!(of(&[["generic", "avoidance"], ["expert", "generic"]]), three);
        assert_eq!(of(&[["safe", "unsafe"]]), ["safe", "unsafe"]);
        let none: [&str; 0] = [];
        assert_eq!(of(&[["expert", "generic"], ["generic", "expert"]]), none);
        assert_eq!(of(&[["a", "b"], ["b", "c"], ["c", "a"]]), none);
    }
}
