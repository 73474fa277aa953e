//! The decoder's gradients, for training: log-probabilities of responses, and from their gradients
//! those of weights or of low-rank factors beside them.
//!
//! There is no graph of operations: a decoder is a list of equal layers, and each knows its own
//! backward pass. A layer's tensors are freed as soon as its backward pass is done.

mod adapters;
mod gradients;
mod group;
mod head;
mod layer;

pub use adapters::{Adapter, Adapters};
pub use gradients::Gradients;

use meav_job::JobCtx;

use crate::rope::Reach;
use crate::{Decoder, ModelError, Question};
use gradients::Sink;
use group::Group;

/// What gradients are asked for.
#[derive(Clone, Copy, Debug)]
pub enum Trainable<'a> {
    /// All of the decoder's own tensors, see [`Decoder::parameters`].
    Weights,
    /// Factors beside linear layers, which stay as they are.
    Adapters(&'a Adapters),
    /// None: only the log-probabilities, with or without adapters.
    Nothing(Option<&'a Adapters>),
}

impl<'a> Trainable<'a> {
    fn adapters(self) -> Option<&'a Adapters> {
        match self {
            Self::Weights => None,
            Self::Adapters(adapters) => Some(adapters),
            Self::Nothing(adapters) => adapters,
        }
    }
}

/// What a forward pass keeps for the backward pass.
///
/// Source: Chen et al., 2016, arXiv:1604.06174.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checkpointing {
    /// What each layer computes, without what is cheap to compute again.
    Off,
    /// Each layer's input; the rest is computed again, to the same bits.
    Layers,
}

/// What a response is given by the model.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ResponseLogProb {
    /// The sum over its tokens, in nats.
    pub sum: f64,
    /// How many tokens these are.
    pub n_tokens: usize,
}

/// Log-probabilities of responses, and what their gradients are computed from.
pub struct ForwardPass<'a> {
    decoder: &'a Decoder,
    trainable: Trainable<'a>,
    groups: Vec<Group>,
    log_probs: Vec<Vec<ResponseLogProb>>,
}

impl Decoder {
    /// Log-probabilities of each response, given its question's prompt, such that their gradients
    /// can be computed.
    ///
    /// ```text
    /// Σⱼ log P(tⱼ | prompt, t₀ … tⱼ₋₁)
    /// ```
    ///
    /// The tokens of all questions go through each layer together, without padding; each prompt is
    /// read once for all of its responses. The memory that this takes grows with the number of
    /// tokens. Log-probabilities and gradients are the same, bit for bit, on any number of threads
    /// and with either [`Checkpointing`].
    ///
    /// The weights may be of any floating point type; between this and the backward pass they and
    /// the adapters must not change.
    ///
    /// # Errors
    ///
    /// [`ModelError::EmptyPrompt`] without a prompt; [`ModelError::ContextExceeded`] for a response
    /// that doesn't fit behind its prompt; [`ModelError::NoLinearLayer`] or
    /// [`ModelError::ShapeMismatch`] for adapters of another model; [`ModelError::Cancelled`]
    /// between two layers.
    pub fn differentiable_forward<'a>(
        &'a self,
        questions: &[Question],
        trainable: Trainable<'a>,
        checkpointing: Checkpointing,
        job: &JobCtx<'_>,
    ) -> Result<ForwardPass<'a>, ModelError> {
        self.check_questions(questions)?;
        if let Some(adapters) = trainable.adapters() {
            self.check_adapters(adapters)?;
        }
        let unscored = |response: &Vec<u32>| ResponseLogProb { sum: 0.0, n_tokens: response.len() };
        let mut log_probs: Vec<Vec<ResponseLogProb>> =
            questions.iter().map(|it| it.responses.iter().map(unscored).collect()).collect();
        let mut groups = Vec::new();
        // The tokens of a prompt are others inside a context of another reach.
        for reach in [Reach::Short, Reach::Long] {
            let Some(mut group) = Group::new(self, &self.tree(questions, reach), reach) else {
                continue;
            };
            for (place, log_prob) in group.forward(self, trainable, checkpointing, job)? {
                log_probs[place.question][place.response].sum += f64::from(log_prob);
            }
            groups.push(group);
        }
        Ok(ForwardPass { decoder: self, trainable, groups, log_probs })
    }
}

impl ForwardPass<'_> {
    /// For each question, and in it for each response.
    pub fn log_probs(&self) -> &[Vec<ResponseLogProb>] {
        &self.log_probs
    }

    /// Adds to `gradients` those of a loss, given its derivatives by each response's sum of
    /// log-probabilities, `upstream[question][response]`.
    ///
    /// Where [`Trainable::Nothing`] was asked for there is nothing to add.
    ///
    /// # Errors
    ///
    /// [`ModelError::MissingTensor`] if `gradients` lacks one that was asked for;
    /// [`ModelError::Cancelled`] between two layers. In both cases `gradients` holds a part of the
    /// sums: [`Gradients::zero`] it.
    ///
    /// # Panics
    ///
    /// If `upstream` is not as long as [`log_probs`](Self::log_probs), or one of its lists is not.
    pub fn backward(
        self,
        upstream: &[Vec<f32>],
        gradients: &mut Gradients,
        job: &JobCtx<'_>,
    ) -> Result<(), ModelError> {
        let lengths = |of: &mut dyn Iterator<Item = usize>| of.collect::<Vec<_>>();
        assert_eq!(
            lengths(&mut upstream.iter().map(Vec::len)),
            lengths(&mut self.log_probs.iter().map(Vec::len)),
            "a derivative for each response"
        );
        if matches!(self.trainable, Trainable::Nothing(_)) {
            return Ok(());
        }
        let sink = Sink { trainable: self.trainable, gradients };
        for group in self.groups {
            group.backward(self.decoder, upstream, sink, job)?;
        }
        Ok(())
    }
}
