use candle_core::Tensor;
use meav_job::JobCtx;

use super::gradients::Sink;
use super::head::Head;
use super::layer::Kept;
use super::{Checkpointing, Trainable};
use crate::decoder::LayerAngles;
use crate::kernels::backward::embedding_backward;
use crate::kernels::{Sequence, Sequences};
use crate::layer::{Layer, Training};
use crate::passes::passes;
use crate::rope::Reach;
use crate::tree::{Asked, Place, Tree};
use crate::{Decoder, ModelError};

/// Responses whose tokens, and those of their prompts, go through each layer together.
pub(super) struct Group {
    tokens: Vec<u32>,
    sequences: Vec<Sequence>,
    angles: LayerAngles,
    asked: Vec<Asked>,
    /// Of the upper layers, down to the lowest that a gradient is asked of.
    layers: Vec<Kept>,
    head: Option<Head>,
}

impl Group {
    /// Nothing without responses.
    pub(super) fn new(decoder: &Decoder, tree: &Tree<'_>, reach: Reach) -> Option<Self> {
        // Without a limit there is one pass, if there are tokens at all.
        let pass = passes(&tree.nodes(), usize::MAX).pop()?;
        let (tokens, sequences) = tree.read(&pass);
        let angles = decoder.angles(&sequences, reach);
        let asked = tree.asked(&pass);
        Some(Self { tokens, sequences, angles, asked, layers: Vec::new(), head: None })
    }

    fn sequences<'a>(&'a self, layer: &Layer) -> Sequences<'a> {
        Sequences { start: 0, each: &self.sequences, angles: self.angles.of(layer) }
    }

    /// Each token's log-probability and place; keeps what [`Group::backward`] needs.
    pub(super) fn forward(
        &mut self,
        decoder: &Decoder,
        trainable: Trainable<'_>,
        checkpointing: Checkpointing,
        job: &JobCtx<'_>,
    ) -> Result<Vec<(Place, f32)>, ModelError> {
        let lowest = lowest(decoder, trainable);
        let mut x = decoder.embed(&self.tokens)?;
        for (index, layer) in decoder.layers.iter().enumerate() {
            job.check()?;
            let keeps = index >= lowest && checkpointing == Checkpointing::Off;
            let training = Training { adapters: trainable.adapters(), keeps };
            let pass = layer.run(x, self.sequences(layer), training)?;
            x = pass.output();
            if index >= lowest {
                self.layers.push(pass.kept(checkpointing));
            }
        }
        job.check()?;
        let (head, log_probs) = Head::new(decoder, &x, &self.asked, trainable, job)?;
        self.head = Some(head);
        Ok(self.asked.iter().map(|asked| asked.place).zip(log_probs).collect())
    }

    /// Adds gradients, from the last layer to the first.
    pub(super) fn backward(
        mut self,
        decoder: &Decoder,
        upstream: &[Vec<f32>],
        sink: Sink<'_>,
        job: &JobCtx<'_>,
    ) -> Result<(), ModelError> {
        let upstream: Vec<f32> = self
            .asked
            .iter()
            .map(|Asked { place, .. }| upstream[place.question][place.response])
            .collect();
        let Some(head) = self.head.take() else { return Ok(()) };
        let mut dx = head.backward(decoder, self.tokens.len(), &upstream, sink, job)?;
        // The kept layers are the upper ones.
        for layer in decoder.layers.iter().rev() {
            let Some(kept) = self.layers.pop() else { return Ok(()) };
            job.check()?;
            let sequences = self.sequences(layer);
            let pass = match kept {
                Kept::Pass(pass) => *pass,
                Kept::Input(x) => {
                    let training = Training { adapters: sink.trainable.adapters(), keeps: true };
                    let pass = layer.run(x, sequences, training)?;
                    job.check()?;
                    pass
                }
            };
            dx = layer.backward(pass, &dx, sequences, sink)?;
        }
        job.check()?;
        embed_backward(decoder, &self.tokens, &dx, sink)
    }
}

/// The lowest layer that a gradient is asked of, or their number.
fn lowest(decoder: &Decoder, trainable: Trainable<'_>) -> usize {
    let layers = &decoder.layers;
    layers.iter().position(|it| it.is_trained(trainable)).unwrap_or(layers.len())
}

fn embed_backward(
    decoder: &Decoder,
    tokens: &[u32],
    dx: &Tensor,
    sink: Sink<'_>,
) -> Result<(), ModelError> {
    let Some(sum) = sink.weight(&decoder.embeddings().name)? else { return Ok(()) };
    if !decoder.config().scaled_embeddings {
        return Ok(embedding_backward(tokens, dx, sum)?);
    }
    let scale = decoder.embedding_scale()?;
    Ok(embedding_backward(tokens, &dx.affine(scale, 0.0)?, sum)?)
}
