use std::collections::BTreeMap;

use meav_protocol::{PreferenceLoss, TrainMethod, TrainSettings};
use serde_json::Value;

use crate::TrainError;

/// Whether a run can be made with `settings`, whatever its model and data are.
///
/// # Errors
///
/// [`TrainError::Setting`] for the first that is out of range.
pub fn check_settings(settings: &TrainSettings) -> Result<(), TrainError> {
    const AT_LEAST_1: &str = "at least 1";
    const POSITIVE: &str = "above 0";
    let TrainSettings { beta, learning_rate, weight_decay, validation, .. } = *settings;
    let is_positive = |value: f64| value > 0.0 && value.is_finite();
    let mut checks = vec![
        ("beta", beta, is_positive(beta), POSITIVE),
        ("learning_rate", learning_rate, is_positive(learning_rate), POSITIVE),
        ("weight_decay", weight_decay, (0.0..=1.0).contains(&weight_decay), "from 0 to 1"),
        ("validation", validation, (0.0..1.0).contains(&validation), "from 0 to below 1"),
        ("max_length", settings.max_length as f64, settings.max_length >= 2, "at least 2"),
    ];
    let counts = [
        ("epochs", settings.epochs),
        ("batch", settings.batch),
        ("accumulation", settings.accumulation),
        ("max_steps", settings.max_steps.unwrap_or(1)),
        ("validate_every", settings.validate_every),
        ("checkpoint_every", settings.checkpoint_every),
        ("patience", settings.patience.unwrap_or(1)),
    ];
    checks.extend(counts.map(|(name, n)| (name, n as f64, n >= 1, AT_LEAST_1)));
    if let Some(norm) = settings.max_grad_norm {
        checks.push(("max_grad_norm", norm, is_positive(norm), POSITIVE));
    }
    if let PreferenceLoss::Sigmoid { label_smoothing: smoothing } = settings.loss {
        let is_allowed = (0.0..0.5).contains(&smoothing);
        checks.push(("label_smoothing", smoothing, is_allowed, "from 0 to below 0.5"));
    }
    if let TrainMethod::Lora { rank, alpha, .. } = settings.method {
        checks.push(("rank", rank as f64, rank >= 1, AT_LEAST_1));
        checks.push(("alpha", alpha, is_positive(alpha), POSITIVE));
    }
    match checks.into_iter().find(|(_, _, is_allowed, _)| !is_allowed) {
        Some((setting, value, _, allowed)) => Err(TrainError::Setting { setting, value, allowed }),
        None => Ok(()),
    }
}

/// The settings that a curve depends on, by their names: all but when checkpoints are written, and
/// whether activations are kept.
pub fn deciding_settings(settings: &TrainSettings) -> BTreeMap<String, Value> {
    let all = serde_json::to_value(settings).unwrap_or_default();
    let all = all.as_object().cloned().unwrap_or_default();
    let is_harmless = |name: &str| matches!(name, "checkpoint_every" | "checkpointing");
    all.into_iter().filter(|(name, _)| !is_harmless(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_out_of_range_are_refused_by_name() {
        type Change = fn(&mut TrainSettings);
        let cases: [(&str, Change); 19] = [
            ("beta", |it| it.beta = 0.0),
            ("beta", |it| it.beta = f64::NAN),
            ("learning_rate", |it| it.learning_rate = f64::INFINITY),
            ("learning_rate", |it| it.learning_rate = -1e-4),
            ("weight_decay", |it| it.weight_decay = -0.1),
            ("validation", |it| it.validation = 1.0),
            ("validation", |it| it.validation = f64::NAN),
            ("max_length", |it| it.max_length = 1),
            ("epochs", |it| it.epochs = 0),
            ("batch", |it| it.batch = 0),
            ("accumulation", |it| it.accumulation = 0),
            ("max_steps", |it| it.max_steps = Some(0)),
            ("validate_every", |it| it.validate_every = 0),
            ("checkpoint_every", |it| it.checkpoint_every = 0),
            ("patience", |it| it.patience = Some(0)),
            ("max_grad_norm", |it| it.max_grad_norm = Some(0.0)),
            ("label_smoothing", |it| it.loss = PreferenceLoss::Sigmoid { label_smoothing: 0.5 }),
            ("rank", |it| it.method = lora(0, 8.0)),
            ("alpha", |it| it.method = lora(8, f64::NAN)),
        ];
        for (expected, change) in cases {
            let mut settings = TrainSettings::default();
            assert!(check_settings(&settings).is_ok());
            change(&mut settings);
            match check_settings(&settings) {
                Err(TrainError::Setting { setting, .. }) => assert_eq!(setting, expected),
                other => panic!("{expected}: {other:?}"),
            }
        }
    }

    fn lora(rank: usize, alpha: f64) -> TrainMethod {
        TrainMethod::Lora { rank, alpha, targets: Vec::new() }
    }
}
