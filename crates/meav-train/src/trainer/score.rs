use meav_model::ResponseLogProb;
use meav_protocol::{PreferenceLoss, Rewards};

use crate::pair_loss;

/// What is known of a pair: of the chosen response and the rejected one.
#[derive(Clone, Copy, Debug)]
pub(super) struct PairScore {
    pub(super) loss: f64,
    /// The derivatives of the loss by the summed log-probabilities.
    pub(super) slopes: [f64; 2],
    /// Summed, in nats.
    log_probs: [f64; 2],
    /// Less the base model's.
    log_ratios: [f64; 2],
}

impl PairScore {
    /// With IPO `h` is a difference of means over tokens, otherwise of sums.
    pub(super) fn new(
        loss: PreferenceLoss,
        beta: f64,
        policy: [ResponseLogProb; 2],
        reference: [f64; 2],
    ) -> Self {
        let log_probs = policy.map(|it| it.sum);
        let log_ratios = [log_probs[0] - reference[0], log_probs[1] - reference[1]];
        let weights = policy.map(|it| match loss {
            PreferenceLoss::Ipo => 1.0 / it.n_tokens.max(1) as f64,
            PreferenceLoss::Sigmoid { .. } | PreferenceLoss::Hinge => 1.0,
        });
        let h = log_ratios[0] * weights[0] - log_ratios[1] * weights[1];
        let (loss, slope) = pair_loss(loss, beta, h);
        let slopes = [slope * weights[0], -slope * weights[1]];
        Self { loss, slopes, log_probs, log_ratios }
    }

    /// The first of its numbers that is none, and what it is: hinge makes 0 of what is infinitely
    /// good, and of what is no number at all.
    pub(super) fn not_finite(&self) -> Option<(&'static str, f64)> {
        let ratios = self.log_ratios.map(|it| ("change of a log-probability", it));
        [("loss", self.loss)].into_iter().chain(ratios).find(|(_, value)| !value.is_finite())
    }
}

/// The mean loss, and TRL's metrics.
///
/// As in TRL, the rewards are `β` times the *summed* log-ratios whatever the loss is, so that with
/// IPO, whose `h` is per token, the margin is not `β h`; and a tie of rewards is not accurate.
pub(super) fn means(scores: &[PairScore], beta: f64) -> (f64, Rewards) {
    let n = scores.len().max(1) as f64;
    let mean = |value: &dyn Fn(&PairScore) -> f64| scores.iter().map(value).sum::<f64>() / n;
    let rewards = Rewards {
        chosen: mean(&|it| beta * it.log_ratios[0]),
        rejected: mean(&|it| beta * it.log_ratios[1]),
        margins: mean(&|it| beta * it.log_ratios[0] - beta * it.log_ratios[1]),
        accuracies: mean(&|it| f64::from(it.log_ratios[0] > it.log_ratios[1])),
        chosen_log_prob: mean(&|it| it.log_probs[0]),
        rejected_log_prob: mean(&|it| it.log_probs[1]),
    };
    (mean(&|it| it.loss), rewards)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BETA: f64 = 0.1;

    /// 12 nats over 4 tokens against −6 over 3.
    fn score(loss: PreferenceLoss) -> PairScore {
        let policy = [(-30.0, 4), (-26.0, 3)];
        let policy = policy.map(|(sum, n_tokens)| ResponseLogProb { sum, n_tokens });
        PairScore::new(loss, BETA, policy, [-42.0, -20.0])
    }

    #[test]
    fn ipo_compares_means_and_rewards_are_sums() {
        let ipo = score(PreferenceLoss::Ipo);
        // h = 3 + 2, the target is 5.
        assert!(ipo.loss.abs() < 1e-12 && ipo.slopes.iter().all(|it| it.abs() < 1e-12));
        let hinge = score(PreferenceLoss::Hinge);
        // β h = 1.8 is more than enough.
        assert!(hinge.loss.abs() < 1e-12);
        for score in [ipo, hinge] {
            let (_, rewards) = means(&[score], BETA);
            let found = [rewards.chosen, rewards.rejected, rewards.margins];
            let is_close = found.iter().zip([1.2, -0.6, 1.8]).all(|(a, b)| (a - b).abs() < 1e-12);
            assert!(is_close, "{found:?}");
            let sums = [rewards.chosen_log_prob + 30.0, rewards.rejected_log_prob + 26.0];
            assert!(sums.iter().all(|it| it.abs() < 1e-12), "{sums:?}");
        }
    }

    #[test]
    fn slopes_are_by_the_sums() {
        let smoothed = PreferenceLoss::Sigmoid { label_smoothing: 0.1 };
        for loss in [PreferenceLoss::Ipo, smoothed, PreferenceLoss::Hinge] {
            let at = |chosen: f64, rejected: f64| {
                let policy = [(chosen, 7), (rejected, 2)];
                let policy = policy.map(|(sum, n_tokens)| ResponseLogProb { sum, n_tokens });
                PairScore::new(loss, BETA, policy, [-9.0, -4.0])
            };
            let eps = 1e-5;
            let by_chosen = (at(-8.0 + eps, -5.0).loss - at(-8.0 - eps, -5.0).loss) / (2.0 * eps);
            let by_rejected = (at(-8.0, -5.0 + eps).loss - at(-8.0, -5.0 - eps).loss) / (2.0 * eps);
            let [chosen, rejected] = at(-8.0, -5.0).slopes;
            let is_close =
                (chosen - by_chosen).abs() < 1e-6 && (rejected - by_rejected).abs() < 1e-6;
            assert!(is_close && chosen < 0.0 && rejected > 0.0, "{loss:?}: {chosen}, {rejected}");
        }
    }

    #[test]
    fn no_loss_hides_what_is_not_finite() {
        for loss in [PreferenceLoss::Ipo, PreferenceLoss::Hinge] {
            assert_eq!(score(loss).not_finite(), None);
            for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                for reference in [[value, -20.0], [-42.0, value], [value, value]] {
                    let policy = [ResponseLogProb { sum: -30.0, n_tokens: 4 }; 2];
                    let score = PairScore::new(loss, BETA, policy, reference);
                    assert!(score.not_finite().is_some(), "{loss:?}, {reference:?}");
                }
            }
        }
    }

    #[test]
    fn ties_are_not_accurate() {
        let tie = [ResponseLogProb { sum: -3.0, n_tokens: 2 }; 2];
        let tie = PairScore::new(PreferenceLoss::Ipo, BETA, tie, [-3.0; 2]);
        let accuracies = |scores: &[PairScore]| means(scores, BETA).1.accuracies;
        assert!(accuracies(&[tie]).abs() < 1e-12);
        assert!((accuracies(&[tie, score(PreferenceLoss::Ipo)]) - 0.5).abs() < 1e-12);
    }
}
