use meav_protocol::PreferenceLoss;

/// One pair's loss and its derivative, by `h`, of how much further the chosen response has moved
/// from the base model than the rejected one.
///
/// `h` is the difference of the two log-ratios `log π(y|x) − log π_ref(y|x)`, in nats: per token for
/// [`PreferenceLoss::Ipo`], summed over the response otherwise.
///
/// Source: Rafailov et al., 2023, arXiv:2305.18290, Eq. 7 (sigmoid); Azar et al., 2023,
/// arXiv:2310.12036, Eq. 17 (IPO); Zhao et al., 2023, arXiv:2305.10425 (hinge); label smoothing as
/// in Mitchell, 2023, "A note on DPO with noisy preferences".
pub fn pair_loss(loss: PreferenceLoss, beta: f64, h: f64) -> (f64, f64) {
    match loss {
        PreferenceLoss::Ipo => {
            let off = h - 0.5 / beta;
            (off * off, 2.0 * off)
        }
        PreferenceLoss::Sigmoid { label_smoothing: smoothing } => {
            let x = beta * h;
            let loss = -(1.0 - smoothing) * log_sigmoid(x) - smoothing * log_sigmoid(-x);
            (loss, beta * (smoothing - sigmoid(-x)))
        }
        PreferenceLoss::Hinge => {
            let off = 1.0 - beta * h;
            if off > 0.0 { (off, -beta) } else { (0.0, 0.0) }
        }
    }
}

fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 { 1.0 / (1.0 + (-x).exp()) } else { x.exp() / (1.0 + x.exp()) }
}

/// Without overflow for either sign.
fn log_sigmoid(x: f64) -> f64 {
    x.min(0.0) - (-x.abs()).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGMOID: PreferenceLoss = PreferenceLoss::Sigmoid { label_smoothing: 0.0 };

    /// β = 0.1 and a margin of 6 nats over one token; published with other trainers' tests.
    #[test]
    fn losses_are_those_of_other_trainers() {
        for (loss, expected, slope) in [
            (SIGMOID, 0.437_488, -0.035_434),
            (PreferenceLoss::Hinge, 0.4, -0.1),
            (PreferenceLoss::Ipo, 1.0, 2.0),
        ] {
            let (found, found_slope) = pair_loss(loss, 0.1, 6.0);
            let is_close = (found - expected).abs() < 1e-6 && (found_slope - slope).abs() < 1e-6;
            assert!(is_close, "{loss:?}: {found} and {found_slope}");
        }
    }

    #[test]
    fn slopes_are_those_of_the_losses() {
        let smoothed = PreferenceLoss::Sigmoid { label_smoothing: 0.1 };
        for loss in [PreferenceLoss::Ipo, SIGMOID, smoothed, PreferenceLoss::Hinge] {
            for h in [-700.0, -3.0, 0.0, 0.5, 9.0, 11.0, 700.0] {
                let eps = 1e-5;
                let at = |h| pair_loss(loss, 0.1, h).0;
                let expected = (at(h + eps) - at(h - eps)) / (2.0 * eps);
                let (value, slope) = pair_loss(loss, 0.1, h);
                assert!(value.is_finite() && (slope - expected).abs() < 1e-4, "{loss:?} at {h}");
            }
            let start = pair_loss(loss, 0.1, 0.0).0;
            assert!((start - loss.at_start(0.1)).abs() < 1e-9, "{loss:?} begins at {start}");
        }
    }
}
