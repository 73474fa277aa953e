use candle_core::{DType, Tensor};
use meav_job::JobCtx;

use super::Trainable;
use super::gradients::Sink;
use crate::kernels::backward::{
    HeadPass, embedding_backward, head_backward_weights, head_log_probs,
};
use crate::tree::Asked;
use crate::{Decoder, ModelError};

/// From the last layer's output to log-probabilities: only the rows that somebody asks about.
pub(super) struct Head {
    /// Which rows, one for each token that is asked about.
    rows: Vec<u32>,
    targets: Vec<u32>,
    /// These rows before the last norm, `(R, H)`.
    x: Tensor,
    /// Of each log-probability by its row behind the norm, `(R, H)`, if it was asked for.
    unit_gradient: Option<Tensor>,
}

impl Head {
    /// Also gives the log-probability of each of `asked`, in nats.
    ///
    /// # Shapes
    ///
    /// `x` is `(T, H)`.
    pub(super) fn new(
        decoder: &Decoder,
        x: &Tensor,
        asked: &[Asked],
        trainable: Trainable<'_>,
        job: &JobCtx<'_>,
    ) -> Result<(Self, Vec<f32>), ModelError> {
        let rows: Vec<u32> = asked.iter().map(|it| it.row as u32).collect();
        let targets: Vec<u32> = asked.iter().map(|it| it.token).collect();
        let x = x.index_select(&Tensor::new(rows.as_slice(), x.device())?, 0)?;
        let normed = decoder.norm.apply(&x)?;
        let is_trained = !matches!(trainable, Trainable::Nothing(_));
        let (output, cap) = (&decoder.output().tensor, soft_cap(decoder));
        let HeadPass { log_probs, unit_gradient } =
            head_log_probs(&normed, output, cap, &targets, is_trained, job)?;
        Ok((Self { rows, targets, x, unit_gradient }, log_probs))
    }

    /// The gradient of the last layer's output, `(T, H)`, given those of the log-probabilities.
    pub(super) fn backward(
        self,
        decoder: &Decoder,
        n_tokens: usize,
        upstream: &[f32],
        sink: Sink<'_>,
        job: &JobCtx<'_>,
    ) -> Result<Tensor, ModelError> {
        let Self { rows, targets, x, unit_gradient } = self;
        let output = decoder.output();
        if let Some(sum) = sink.weight(&output.name)? {
            let (normed, cap) = (decoder.norm.apply(&x)?, soft_cap(decoder));
            head_backward_weights(&normed, &output.tensor, cap, &targets, upstream, sum, job)?;
        }
        let dx = Tensor::zeros((n_tokens, x.dims()[1]), DType::F32, x.device())?;
        if let Some(unit_gradient) = unit_gradient {
            let upstream = Tensor::from_slice(upstream, (upstream.len(), 1), x.device())?;
            let d_normed = unit_gradient.broadcast_mul(&upstream)?;
            let d_rows = decoder.norm.backward(&x, &d_normed, sink)?;
            // The last row of a prompt is asked about by each of its responses.
            embedding_backward(&rows, &d_rows, &dx)?;
        }
        Ok(dx)
    }
}

fn soft_cap(decoder: &Decoder) -> Option<f32> {
    decoder.config().logit_softcap.map(|cap| cap as f32)
}
