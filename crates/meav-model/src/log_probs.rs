use candle_core::Tensor;
use meav_job::JobCtx;

use crate::kernels::{Target, token_log_probs};
use crate::rope::Reach;
use crate::{Decoder, KvCache, ModelError};

/// Elements of the logits that are kept at a time: 64 MiB.
const LOGITS: usize = 1 << 24;

/// Tokens of a prefix that are read in one pass.
const CHUNK: usize = 512;

impl Decoder {
    /// Log-probabilities of each continuation's tokens, given `prefix` and the tokens before.
    ///
    /// ```text
    /// log P(tⱼ | prefix, t₀ … tⱼ₋₁)
    /// ```
    ///
    /// The prefix is read once and its keys and values serve all continuations, which are then
    /// read together. Logits exist for a few positions at a time only.
    ///
    /// # Shapes
    ///
    /// As `continuations`; in nats, by a log-softmax in `f32`.
    ///
    /// # Errors
    ///
    /// [`ModelError::EmptyPrompt`] without a prefix, since nothing tells what the first token's
    /// probability is; [`ModelError::ContextExceeded`] for a continuation that doesn't fit;
    /// [`ModelError::Cancelled`] between two layers.
    pub fn log_probs(
        &self,
        prefix: &[u32],
        continuations: &[Vec<u32>],
        job: &JobCtx<'_>,
    ) -> Result<Vec<Vec<f32>>, ModelError> {
        if prefix.is_empty() {
            return Err(ModelError::EmptyPrompt);
        }
        let longest = continuations.iter().map(Vec::len).max().unwrap_or(0);
        self.check_context(prefix.len() + longest)?;
        let mut log_probs = vec![Vec::new(); continuations.len()];
        // A prefix is another one inside a context of another reach.
        for reach in [Reach::Short, Reach::Long] {
            let indices: Vec<usize> = (0..continuations.len())
                .filter(|index| !continuations[*index].is_empty())
                .filter(|index| self.reach(prefix.len() + continuations[*index].len()) == reach)
                .collect();
            if indices.is_empty() {
                continue;
            }
            let batch: Vec<&[u32]> =
                indices.iter().map(|index| continuations[*index].as_slice()).collect();
            let found = self.batch_log_probs(prefix, &batch, reach, job)?;
            for (index, found) in indices.into_iter().zip(found) {
                log_probs[index] = found;
            }
        }
        Ok(log_probs)
    }

    /// For continuations of one reach, none of them empty.
    fn batch_log_probs(
        &self,
        prefix: &[u32],
        continuations: &[&[u32]],
        reach: Reach,
        job: &JobCtx<'_>,
    ) -> Result<Vec<Vec<f32>>, ModelError> {
        // What follows the last token is nobody's question.
        let read: Vec<&[u32]> =
            continuations.iter().map(|tokens| &tokens[..tokens.len() - 1]).collect();
        let n_read: usize = read.iter().map(|tokens| tokens.len()).sum();
        let mut cache = KvCache::new(self.config(), prefix.len() + n_read, self.device())?;
        let mut hidden = self.read_prefix(prefix, &mut cache, reach, job)?;
        let lengths: Vec<usize> = read.iter().map(|it| it.len()).filter(|len| *len > 0).collect();
        if !lengths.is_empty() {
            let reaches = vec![reach; lengths.len()];
            let tokens = read.concat();
            let x = self.hidden(&tokens, prefix.len(), &lengths, &reaches, &cache, job)?;
            hidden = Tensor::cat(&[hidden, x], 0)?;
        }
        let targets = targets(continuations);
        let log_probs = self.chunked_log_probs(&hidden, &targets, job)?;
        let mut log_probs = log_probs.into_iter();
        Ok(continuations.iter().map(|it| log_probs.by_ref().take(it.len()).collect()).collect())
    }

    /// The hidden state behind the prefix, `(1, H)`.
    fn read_prefix(
        &self,
        prefix: &[u32],
        cache: &mut KvCache,
        reach: Reach,
        job: &JobCtx<'_>,
    ) -> Result<Tensor, ModelError> {
        let mut last = None;
        for tokens in prefix.chunks(CHUNK) {
            let x = self.read(tokens, cache, reach, job)?;
            last = Some(x.narrow(0, tokens.len() - 1, 1)?);
        }
        last.ok_or(ModelError::EmptyPrompt)
    }

    /// The targets' log-probabilities, a run of rows at a time.
    fn chunked_log_probs(
        &self,
        hidden: &Tensor,
        targets: &[Target],
        job: &JobCtx<'_>,
    ) -> Result<Vec<f32>, ModelError> {
        let n_rows = hidden.dim(0)?;
        let chunk = (LOGITS / self.config().vocab_size).clamp(1, n_rows);
        let mut log_probs = vec![0.0; targets.len()];
        for start in (0..n_rows).step_by(chunk) {
            job.check()?;
            let end = n_rows.min(start + chunk);
            let (places, own): (Vec<usize>, Vec<Target>) = targets
                .iter()
                .enumerate()
                .filter(|(_, target)| (start..end).contains(&target.row))
                .map(|(place, target)| (place, Target { row: target.row - start, ..*target }))
                .unzip();
            let logits = self.logits(&hidden.narrow(0, start, end - start)?)?;
            for (place, log_prob) in places.into_iter().zip(token_log_probs(&logits, &own)?) {
                log_probs[place] = log_prob;
            }
        }
        Ok(log_probs)
    }
}

/// Row 0 stands behind the prefix and tells the first token of each continuation; the rows of the
/// continuations follow one another, without those of their last tokens.
fn targets(continuations: &[&[u32]]) -> Vec<Target> {
    let mut targets = Vec::new();
    let mut start = 1;
    for tokens in continuations {
        for (index, token) in tokens.iter().enumerate() {
            let row = if index == 0 { 0 } else { start + index - 1 };
            targets.push(Target { row, token: *token });
        }
        start += tokens.len() - 1;
    }
    targets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_token_is_told_by_the_row_before_it() {
        let found = targets(&[&[7, 8, 9], &[5], &[3, 4]]);
        let expected = [(0, 7), (1, 8), (2, 9), (0, 5), (0, 3), (3, 4)];
        assert_eq!(found, expected.map(|(row, token)| Target { row, token }));
    }
}
