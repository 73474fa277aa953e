mod checkpoint;
mod factors;
mod score;

#[cfg(test)]
mod gpu_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod torch_tests;

use std::collections::BTreeMap;
use std::time::Instant;

use candle_core::Tensor;
use meav_job::JobCtx;
use meav_model::{Adapters, Checkpointing, Decoder, Gradients, Question, Trainable};
use meav_protocol::{TrainCounts, TrainMethod, TrainSettings, TrainStep, TrainValidation};
use meav_weights::Weight;

use crate::optimizer::{AdamW, Step};
use crate::reference::Asked;
use crate::{Pair, PairSet, Reference, TrainError, batches, check_settings, learning_rate};
use factors::first_factors;
pub(crate) use factors::is_named;
pub use factors::{check_rank, check_targets};
use score::{PairScore, means};

/// A training run between two steps.
///
/// Changes the decoder's own tensors where they stand, or, with low-rank factors, none of them.
pub struct Trainer {
    settings: TrainSettings,
    decoder: Decoder,
    adapters: Option<Adapters>,
    optimizer: AdamW,
    gradients: Gradients,
    pairs: PairSet,
    reference: Reference,
    /// Tokens of each pair that is trained on.
    lengths: Vec<usize>,
    /// What names the weights before the first step.
    model: String,
    step: usize,
    num_tokens: u64,
    validations: Vec<TrainValidation>,
}

impl Trainer {
    /// Prepares the first step of a run.
    ///
    /// With [`TrainMethod::Full`] all of the decoder's tensors are trained, with
    /// [`TrainMethod::Lora`] new factors beside its linear layers, or those of them that are named
    /// as in PEFT by the end of their names, such as `q_proj`. `model` names the decoder's weights,
    /// such as their fingerprint: only checkpoints with the same name can be gone on from.
    ///
    /// # Errors
    ///
    /// [`TrainError::Setting`]; [`TrainError::Rank`]; [`TrainError::UnknownTarget`]; [`TrainError::ReferenceLength`] if
    /// `reference` is of other pairs; [`TrainError::Tensor`] for weights that can't be trained.
    pub fn new(
        decoder: Decoder,
        pairs: PairSet,
        reference: Reference,
        settings: &TrainSettings,
        model: &str,
    ) -> Result<Self, TrainError> {
        check_settings(settings)?;
        check_rank(decoder.config(), settings)?;
        for (pairs, found) in
            [(&pairs.train, &reference.train), (&pairs.validation, &reference.validation)]
        {
            if pairs.len() != found.len() {
                let (found, expected) = (found.len(), pairs.len());
                return Err(TrainError::ReferenceLength { found, expected });
            }
        }
        if pairs.train.is_empty() {
            return Err(TrainError::NoRecords);
        }
        let adapters = match &settings.method {
            TrainMethod::Full => None,
            TrainMethod::Lora { rank, alpha, targets } => {
                check_targets(&decoder, settings)?;
                Some(first_factors(&decoder, *rank, *alpha, targets, settings.seed)?)
            }
        };
        let gradients = Gradients::zeros(&decoder, trainable(adapters.as_ref()))?;
        let trained = trained_tensors(&decoder, adapters.as_ref());
        let optimizer =
            AdamW::new(trained.iter().map(|(name, it)| (name.as_str(), *it)), settings)?;
        let lengths = pairs.train.iter().map(Pair::len).collect();
        let (settings, validations) = (settings.clone(), Vec::new());
        let (step, num_tokens) = (0, 0);
        Ok(Self {
            settings,
            decoder,
            adapters,
            optimizer,
            gradients,
            pairs,
            reference,
            lengths,
            model: model.to_owned(),
            step,
            num_tokens,
            validations,
        })
    }

    /// Steps of the whole run, unless it ends early.
    pub fn total_steps(&self) -> usize {
        total_steps(self.lengths.len(), &self.settings)
    }

    /// Steps that are done.
    pub fn step_number(&self) -> usize {
        self.step
    }

    /// Whether all steps are done.
    pub fn is_finished(&self) -> bool {
        self.step >= self.total_steps()
    }

    /// What is trained on.
    pub fn counts(&self) -> TrainCounts {
        let PairSet { train, validation, left_out, .. } = &self.pairs;
        let elements = self.optimizer.parameters().iter().map(|it| it.len() as u64);
        TrainCounts {
            pairs: train.len(),
            validation_pairs: validation.len(),
            truncated: train.iter().chain(validation).filter(|pair| pair.truncated).count(),
            left_out: left_out.len(),
            trainable_parameters: elements.sum(),
        }
    }

    /// What was measured on the pairs held back, in order.
    pub fn validations(&self) -> &[TrainValidation] {
        &self.validations
    }

    /// The network; with [`TrainMethod::Full`] as far as it is trained.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// The factors as far as they are trained, if there are any. They share their storage with the
    /// trainer's.
    pub fn adapters(&self) -> Option<&Adapters> {
        self.adapters.as_ref()
    }

    /// What is trained, in the order of the names, unrounded: of [`TrainMethod::Full`] the
    /// weights, otherwise the factors as `NAME.lora_A` and `NAME.lora_B`.
    ///
    /// Where the model computes in `bf16`, the weights began as its base rounded to that: their
    /// change is their difference from the rounded base.
    pub fn weights(&self) -> impl Iterator<Item = (&str, Result<Weight, TrainError>)> {
        self.optimizer.parameters().iter().map(|parameter| {
            let weight = |values| Weight::from_f32(parameter.shape().to_vec(), values);
            (parameter.name(), parameter.values().map(weight))
        })
    }

    /// Refuses weights of which nothing can be made any more.
    ///
    /// # Errors
    ///
    /// [`TrainError::NotFinite`]; [`TrainError::Tensor`] if the device fails.
    pub fn check_weights(&self) -> Result<(), TrainError> {
        for parameter in self.optimizer.parameters() {
            if let Some(value) = parameter.values()?.iter().find(|value| !value.is_finite()) {
                let (step, quantity, value) = (self.step, "value of a weight", f64::from(*value));
                return Err(TrainError::NotFinite { step, quantity, value });
            }
        }
        Ok(())
    }

    /// Takes one step of the optimiser.
    ///
    /// The loss is the mean over the step's pairs, in however many batches they go through the
    /// model, so that a smaller last batch weighs as many pairs as it has. `num_tokens` counts
    /// each response with its prompt, as TRL does, although the prompt is read once. Progress is in
    /// pairs of the step.
    ///
    /// # Errors
    ///
    /// [`TrainError::NotFinite`] if the loss or the gradient is not a number or infinite;
    /// [`TrainError::Cancelled`] between two layers. In both cases nothing has changed: the same
    /// step can be taken again, with the same result.
    ///
    /// # Panics
    ///
    /// If the run is finished.
    pub fn step(&mut self, job: &JobCtx<'_>) -> Result<TrainStep, TrainError> {
        assert!(!self.is_finished(), "there are only {} steps", self.total_steps());
        let begun = Instant::now();
        let Share { batches, epoch } = self.share();
        let n_pairs: usize = batches.iter().map(Vec::len).sum();
        self.gradients.zero()?;
        let mut scores = Vec::with_capacity(n_pairs);
        for batch in &batches {
            scores.extend(self.accumulate(batch, n_pairs, job)?);
            job.report(scores.len(), n_pairs);
        }
        let number = self.step + 1;
        let (loss, rewards) = means(&scores, self.settings.beta);
        let grad_norm = self.gradients.square_norm()?.sqrt();
        if !grad_norm.is_finite() {
            let (quantity, value) = ("gradient's norm", grad_norm);
            return Err(TrainError::NotFinite { step: number, quantity, value });
        }
        let learning_rate = learning_rate(&self.settings, self.step, self.total_steps());
        let gradient_scale = gradient_scale(grad_norm, self.settings.max_grad_norm);
        let Self { optimizer, gradients, .. } = self;
        let step = Step { number, learning_rate, gradient_scale };
        optimizer.update(|name| gradients.get(name), step)?;
        let tokens = |index: &usize| self.pairs.train[*index].num_tokens();
        let tokens: u64 = batches.iter().flatten().map(tokens).sum();
        self.step = number;
        self.num_tokens = self.num_tokens.saturating_add(tokens);
        let tokens_per_second = tokens as f64 / begun.elapsed().as_secs_f64().max(1e-9);
        let (step, num_tokens) = (number, self.num_tokens);
        Ok(TrainStep {
            step,
            epoch,
            loss,
            rewards,
            grad_norm,
            learning_rate,
            num_tokens,
            tokens_per_second,
        })
    }

    /// Measures the pairs held back; a mean over them. [`Trainer::stops_early`] takes it into
    /// account.
    ///
    /// # Errors
    ///
    /// [`TrainError::NothingHeldBack`]; [`TrainError::NotFinite`]; [`TrainError::Cancelled`]
    /// between two layers. Then nothing has changed.
    pub fn validate(&mut self, job: &JobCtx<'_>) -> Result<TrainValidation, TrainError> {
        if self.pairs.validation.is_empty() {
            return Err(TrainError::NothingHeldBack);
        }
        let mut scores = Vec::with_capacity(self.pairs.validation.len());
        let references = self.reference.validation.chunks(self.settings.batch);
        for (pairs, references) in self.pairs.validation.chunks(self.settings.batch).zip(references)
        {
            let Asked { questions, places } = Asked::new(pairs);
            let trainable = Trainable::Nothing(self.adapters.as_ref());
            let pass = self.decoder.differentiable_forward(
                &questions,
                trainable,
                Checkpointing::Layers,
                job,
            )?;
            let log_prob =
                |(question, response): (usize, usize)| pass.log_probs()[question][response];
            let log_probs: Vec<Vec<_>> =
                places.into_iter().map(|pair| pair.map(log_prob).to_vec()).collect();
            scores.extend(self.scores(&log_probs, references));
        }
        check_scores(&scores, self.step)?;
        let (loss, rewards) = means(&scores, self.settings.beta);
        let validation = TrainValidation { step: self.step, loss, rewards };
        self.validations.push(validation);
        Ok(validation)
    }

    /// Whether so many validations in a row have not been lower than the lowest before them that
    /// the patience is at its end.
    pub fn stops_early(&self) -> bool {
        let Some(patience) = self.settings.patience else { return false };
        let lowest = (self.validations.iter().enumerate())
            .min_by(|(_, a), (_, b)| a.loss.total_cmp(&b.loss))
            .map_or(0, |(index, _)| index);
        self.validations.len().saturating_sub(lowest + 1) >= patience
    }

    fn steps_per_epoch(&self) -> usize {
        steps_per_epoch(self.lengths.len(), &self.settings)
    }

    /// What the next step takes.
    fn share(&self) -> Share {
        let TrainSettings { batch, accumulation, seed, .. } = self.settings;
        let (epoch, step) =
            (self.step / self.steps_per_epoch(), self.step % self.steps_per_epoch());
        let batches = batches(&self.lengths, batch, seed, epoch);
        let from = step * accumulation;
        let to = batches.len().min(from.saturating_add(accumulation));
        let epoch = epoch as f64 + to as f64 / batches.len() as f64;
        Share { batches: batches[from..to].to_vec(), epoch }
    }

    /// Adds the gradients of a batch, of `n_pairs` in the step.
    fn accumulate(
        &mut self,
        batch: &[usize],
        n_pairs: usize,
        job: &JobCtx<'_>,
    ) -> Result<Vec<PairScore>, TrainError> {
        let pairs: Vec<&Pair> = batch.iter().map(|index| &self.pairs.train[*index]).collect();
        let references: Vec<_> = batch.iter().map(|index| self.reference.train[*index]).collect();
        let checkpointing =
            if self.settings.checkpointing { Checkpointing::Layers } else { Checkpointing::Off };
        let pass = self.decoder.differentiable_forward(
            &questions(pairs),
            trainable(self.adapters.as_ref()),
            checkpointing,
            job,
        )?;
        let scores = self.scores(pass.log_probs(), &references);
        check_scores(&scores, self.step + 1)?;
        let slope = |slope: f64| (slope / n_pairs as f64) as f32;
        let upstream: Vec<Vec<f32>> =
            scores.iter().map(|it| it.slopes.map(slope).to_vec()).collect();
        pass.backward(&upstream, &mut self.gradients, job)?;
        Ok(scores)
    }

    fn scores(
        &self,
        log_probs: &[Vec<meav_model::ResponseLogProb>],
        references: &[[f64; 2]],
    ) -> Vec<PairScore> {
        let TrainSettings { loss, beta, .. } = self.settings;
        let score = |(policy, reference): (&Vec<_>, &[f64; 2])| {
            PairScore::new(loss, beta, [policy[0], policy[1]], *reference)
        };
        log_probs.iter().zip(references).map(score).collect()
    }
}

/// Steps of a whole run on `n_pairs`, unless it ends early.
pub fn total_steps(n_pairs: usize, settings: &TrainSettings) -> usize {
    let all = settings.epochs.saturating_mul(steps_per_epoch(n_pairs, settings));
    all.min(settings.max_steps.unwrap_or(usize::MAX))
}

fn steps_per_epoch(n_pairs: usize, settings: &TrainSettings) -> usize {
    n_pairs.div_ceil(settings.batch).div_ceil(settings.accumulation)
}

/// Batches of one step, and the epochs that are done behind it.
struct Share {
    batches: Vec<Vec<usize>>,
    epoch: f64,
}

fn questions<'a>(pairs: impl IntoIterator<Item = &'a Pair>) -> Vec<Question> {
    pairs.into_iter().map(|pair| pair.question.clone()).collect()
}

fn trainable(adapters: Option<&Adapters>) -> Trainable<'_> {
    adapters.map_or(Trainable::Weights, Trainable::Adapters)
}

/// By the names that their gradients have, in order.
fn trained_tensors<'a>(
    decoder: &'a Decoder,
    adapters: Option<&'a Adapters>,
) -> BTreeMap<String, &'a Tensor> {
    let Some(adapters) = adapters else {
        return decoder.parameters().map(|(name, tensor)| (name.to_owned(), tensor)).collect();
    };
    let factors = adapters.iter().flat_map(|(name, adapter)| {
        [(format!("{name}.lora_A"), &adapter.a), (format!("{name}.lora_B"), &adapter.b)]
    });
    factors.collect()
}

fn check_scores(scores: &[PairScore], step: usize) -> Result<(), TrainError> {
    match scores.iter().find_map(PairScore::not_finite) {
        Some((quantity, value)) => Err(TrainError::NotFinite { step, quantity, value }),
        None => Ok(()),
    }
}

/// As `torch.nn.utils.clip_grad_norm_`.
fn gradient_scale(norm: f64, limit: Option<f64>) -> f64 {
    limit.map_or(1.0, |limit| (limit / (norm + 1e-6)).min(1.0))
}
