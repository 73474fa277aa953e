//! What a model computes, before anything is made of it.

use meav_protocol::ResponseScores;

/// How likely a response is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RawScore {
    /// The sum of its tokens' log-probabilities, in nats.
    pub sum_log_prob: f64,
    /// Its tokens, up to and including the one that ends the turn; at least 1.
    pub tokens: u32,
}

impl RawScore {
    /// The mean of a response's log-probabilities, in nats per token.
    ///
    /// ```text
    /// MLP(r, q) = 1/T_r Σₜ log P(t | context)
    /// ```
    ///
    /// Source: Shahriar et al., 2024, arXiv:2410.19206, Eq. 4.
    pub fn mean_log_prob(&self) -> f64 {
        self.sum_log_prob / f64::from(self.tokens)
    }
}

/// A response that a model has looked at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoredResponse {
    /// What the model computed.
    pub raw: RawScore,
    /// Bytes of its text in UTF-8; at least 1.
    pub bytes: usize,
}

/// A record that a model has looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoredItem<'a> {
    /// As the file has it, else `line-N`.
    pub id: &'a str,
    /// Tokens in front of the response.
    pub prompt_tokens: u32,
    /// One at each level, in the measure's order.
    pub responses: Vec<ScoredResponse>,
}

impl ScoredResponse {
    /// The kinds of score that follow from this response alone; the length-adjusted one is the mean
    /// until the data set is known.
    pub(crate) fn scores(self) -> ResponseScores {
        let RawScore { sum_log_prob, tokens } = self.raw;
        let mean_log_prob = self.raw.mean_log_prob();
        ResponseScores {
            mean_log_prob,
            sum_log_prob,
            per_byte_log_prob: sum_log_prob / self.bytes as f64,
            length_adjusted: mean_log_prob,
            tokens: tokens as usize,
        }
    }
}
