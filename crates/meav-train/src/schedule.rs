use std::f64::consts::PI;

use meav_protocol::{Schedule, TrainSettings};

/// The learning rate of a step.
///
/// ```text
/// η(s) = η_max s / w                                  s < w, with w steps of warm-up
/// η(s) = η_max ½ (1 + cos(π (s − w) / (n − w)))       cosine, with n steps in all
/// η(s) = η_max (n − s) / (n − w)                      linear
/// η(s) = η_max                                        constant
/// ```
///
/// The same as transformers' `get_cosine_schedule_with_warmup`, `get_linear_…` and
/// `get_constant_…`: `step` counts from 0, so that the first step of a warm-up has the rate 0. A
/// warm-up as long as the run or longer ends with the last step but one, so that at least one step
/// has all of the rate.
pub fn learning_rate(settings: &TrainSettings, step: usize, total_steps: usize) -> f64 {
    let warmup = settings.warmup_steps.min(total_steps.saturating_sub(1));
    let (step, total, warmup) = (step as f64, total_steps as f64, warmup as f64);
    let factor = if step < warmup {
        step / warmup.max(1.0)
    } else {
        let falling = (total - warmup).max(1.0);
        match settings.schedule {
            Schedule::Cosine => (0.5 * (1.0 + (PI * (step - warmup) / falling).cos())).max(0.0),
            Schedule::Linear => ((total - step) / falling).max(0.0),
            Schedule::Constant => 1.0,
        }
    };
    settings.learning_rate * factor
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From transformers 5.23: `get_…_schedule_with_warmup(optimizer, 5, 48).lr_lambdas[0](step)`,
    /// times 5e-4.
    #[test]
    fn rates_are_those_of_transformers() {
        let steps = [0, 1, 3, 4, 5, 7, 11, 26, 40, 47];
        let settings = |schedule| TrainSettings { schedule, ..TrainSettings::default() };
        for (schedule, expected) in [
            (
                Schedule::Cosine,
                [
                    0.0,
                    0.0001,
                    0.0003,
                    0.0004,
                    0.0005,
                    0.000_497_335_842_018_777_6,
                    0.000_476_362_059_373_286_7,
                    0.000_259_130_505_764_414_77,
                    0.000_041_500_545_527_530_55,
                    0.000_000_666_929_084_112_089,
                ],
            ),
            (
                Schedule::Linear,
                [
                    0.0,
                    0.0001,
                    0.0003,
                    0.0004,
                    0.0005,
                    0.000_476_744_186_046_511_67,
                    0.000_430_232_558_139_534_87,
                    0.000_255_813_953_488_372_1,
                    0.000_093_023_255_813_953_48,
                    0.000_011_627_906_976_744_185,
                ],
            ),
            (
                Schedule::Constant,
                [0.0, 0.0001, 0.0003, 0.0004, 0.0005, 0.0005, 0.0005, 0.0005, 0.0005, 0.0005],
            ),
        ] {
            for (step, expected) in steps.into_iter().zip(expected) {
                let found = learning_rate(&settings(schedule), step, 48);
                let is_close = (found - expected).abs() <= 1e-15;
                assert!(is_close, "{schedule:?} at {step}: {found}, not {expected}");
            }
        }
    }

    /// Logged by TRL's trainer in the fourth and the eighth of 48 steps.
    #[test]
    fn rates_are_those_that_trl_logs() {
        for (step, expected) in [(3, 0.0003), (7, 0.000_497_335_84)] {
            let found = learning_rate(&TrainSettings::default(), step, 48);
            assert!((found - expected).abs() < 1e-10, "{step}: {found}");
        }
    }

    #[test]
    fn every_run_has_a_step_with_all_of_the_rate() {
        for schedule in [Schedule::Cosine, Schedule::Linear, Schedule::Constant] {
            for (total, warmup_steps) in [(1, 0), (1, 5), (2, 5), (5, 5), (3, usize::MAX)] {
                let settings = TrainSettings { schedule, warmup_steps, ..TrainSettings::default() };
                let rates: Vec<f64> =
                    (0..total).map(|step| learning_rate(&settings, step, total)).collect();
                let highest = rates.iter().copied().fold(0.0, f64::max);
                let is_whole = highest.to_bits() == settings.learning_rate.to_bits();
                assert!(is_whole, "{total} steps, {warmup_steps} of warm-up: {rates:?}");
            }
        }
    }

    #[test]
    fn warm_up_longer_than_the_run_never_divides_by_nothing() {
        for schedule in [Schedule::Cosine, Schedule::Linear, Schedule::Constant] {
            for warmup_steps in [0, 3, 9] {
                let settings = TrainSettings { schedule, warmup_steps, ..TrainSettings::default() };
                for step in 0..=3 {
                    let found = learning_rate(&settings, step, 3);
                    assert!((0.0..=settings.learning_rate).contains(&found), "{found}");
                }
            }
        }
    }
}
