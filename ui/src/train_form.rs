use std::path::Path;

use meav_protocol::{
    Dtype, OptimizerState, PreferenceLoss, Schedule, TrainData, TrainMethod, TrainSettings,
};

use crate::sweep_form::parse_number;

/// What is asked before a training run, as it is typed and chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainForm {
    /// Files of preference records; several are trained on jointly.
    pub data: Vec<TrainData>,
    /// The path of one more file, as it is typed.
    pub path: String,
    /// The preference dimension's name; `None` for that of the data.
    pub domain: Option<String>,
    /// Which weights change.
    pub method: MethodChoice,
    /// Parts of the layers that get factors; empty for all linear ones.
    pub targets: Vec<String>,
    /// What is minimised.
    pub loss: LossChoice,
    /// Whether the highest level is also preferred to the lowest, where there are three.
    pub skip_pairs: bool,
    /// How the learning rate falls.
    pub schedule: Schedule,
    /// What the optimiser's moments are kept as.
    pub optimizer_state: OptimizerState,
    /// Whether only each layer's input is kept for the backward pass.
    pub checkpointing: bool,
    /// What the model computes with.
    pub dtype: Dtype,
    /// The run's folder; empty for one in the workspace.
    pub out: String,
    /// What is typed into the other fields, in the order of [`TrainField::ALL`]; `None` where it
    /// follows another.
    texts: [Option<String>; TrainField::ALL.len()],
}

/// Which weights change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MethodChoice {
    /// Low-rank factors beside frozen weights.
    Lora,
    /// All of them.
    Full,
}

/// What is minimised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossChoice {
    /// IPO.
    Ipo,
    /// DPO's sigmoid.
    Sigmoid,
    /// Hinge.
    Hinge,
}

/// A field that something is typed into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "TrainField::name says what each is")]
pub enum TrainField {
    Rank,
    Alpha,
    Beta,
    LabelSmoothing,
    Epochs,
    Batch,
    LearningRate,
    MaxLength,
    Accumulation,
    MaxSteps,
    WarmupSteps,
    WeightDecay,
    Clip,
    Validation,
    ValidateEvery,
    Patience,
    CheckpointEvery,
    Seed,
}

/// What may stand in a field.
enum Kind {
    /// A whole number from here to there.
    Whole(u64, u64),
    /// A number from here to there.
    From(f64, f64),
    /// A number above this, to there.
    Above(f64, f64),
}

impl TrainField {
    /// All of them, in the order of [`TrainField`].
    pub const ALL: [Self; 18] = [
        Self::Rank,
        Self::Alpha,
        Self::Beta,
        Self::LabelSmoothing,
        Self::Epochs,
        Self::Batch,
        Self::LearningRate,
        Self::MaxLength,
        Self::Accumulation,
        Self::MaxSteps,
        Self::WarmupSteps,
        Self::WeightDecay,
        Self::Clip,
        Self::Validation,
        Self::ValidateEvery,
        Self::Patience,
        Self::CheckpointEvery,
        Self::Seed,
    ];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rank => "Rank",
            Self::Alpha => "α",
            Self::Beta => "β",
            Self::LabelSmoothing => "Label smoothing",
            Self::Epochs => "Epochs",
            Self::Batch => "Batch",
            Self::LearningRate => "Learning rate",
            Self::MaxLength => "Longest text",
            Self::Accumulation => "Accumulation",
            Self::MaxSteps => "Most steps",
            Self::WarmupSteps => "Warm-up",
            Self::WeightDecay => "Weight decay",
            Self::Clip => "Clipping",
            Self::Validation => "Validation",
            Self::ValidateEvery => "Validate every",
            Self::Patience => "Patience",
            Self::CheckpointEvery => "Checkpoint every",
            Self::Seed => "Seed",
        }
    }

    /// What it counts in.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Batch => "pairs",
            Self::MaxLength => "tokens",
            Self::Accumulation => "batches",
            Self::MaxSteps | Self::WarmupSteps | Self::ValidateEvery | Self::CheckpointEvery => {
                "steps"
            }
            Self::Validation => "%",
            Self::Patience => "times",
            _ => "",
        }
    }

    /// Whether it goes with another until it is typed: the learning rate with the method, α with the
    /// rank.
    fn follows(self) -> bool {
        matches!(self, Self::LearningRate | Self::Alpha)
    }

    fn kind(self) -> Kind {
        match self {
            Self::Rank | Self::Batch | Self::Accumulation => Kind::Whole(1, 1024),
            Self::Alpha => Kind::Above(0.0, 4096.0),
            Self::Beta => Kind::Above(0.0, 100.0),
            Self::LabelSmoothing => Kind::From(0.0, 0.499),
            Self::Epochs => Kind::Whole(1, 1000),
            Self::LearningRate => Kind::Above(0.0, 1.0),
            Self::MaxLength => Kind::Whole(16, 1_000_000),
            Self::WarmupSteps => Kind::Whole(0, 1_000_000),
            Self::WeightDecay => Kind::From(0.0, 10.0),
            Self::Clip => Kind::Above(0.0, 1e6),
            Self::Validation => Kind::From(0.0, 50.0),
            Self::MaxSteps | Self::ValidateEvery | Self::Patience | Self::CheckpointEvery => {
                Kind::Whole(1, 1_000_000)
            }
            Self::Seed => Kind::Whole(0, u64::MAX),
        }
    }

    /// What an empty field means, where it may be empty.
    pub fn when_empty(self) -> Option<&'static str> {
        match self {
            Self::MaxSteps => Some("all"),
            Self::Clip => Some("none"),
            Self::Patience => Some("never"),
            _ => None,
        }
    }

    fn place(self) -> usize {
        self as usize
    }

    /// What is wrong with what was typed.
    fn check(self, text: &str) -> Result<Option<f64>, String> {
        let text = text.trim();
        if text.is_empty() && self.when_empty().is_some() {
            return Ok(None);
        }
        let number = parse_number(text).ok_or_else(|| match text {
            "" => "Type a number".to_owned(),
            _ => format!("“{text}” is not a number"),
        })?;
        match self.kind() {
            Kind::Whole(..) if number.fract() != 0.0 => Err("Type a whole number".to_owned()),
            Kind::Whole(least, most) if !(least as f64..=most as f64).contains(&number) => {
                let most = if most == u64::MAX { String::new() } else { format!(" to {most}") };
                Err(format!("From {least}{most}"))
            }
            Kind::From(least, most) if !(least..=most).contains(&number) => {
                Err(format!("From {least} to {most}"))
            }
            Kind::Above(least, _) if number <= least => Err(format!("Must be above {least}")),
            Kind::Above(_, most) if number > most => Err(format!("At most {most}")),
            _ => Ok(Some(number)),
        }
    }
}

impl Default for TrainForm {
    /// What worked on the demo model.
    fn default() -> Self {
        let settings = TrainSettings::default();
        let default = |field: TrainField| match field {
            TrainField::Rank | TrainField::Alpha => "8".to_owned(),
            TrainField::Beta => settings.beta.to_string(),
            TrainField::LabelSmoothing => "0".to_owned(),
            TrainField::Epochs => settings.epochs.to_string(),
            TrainField::Batch => settings.batch.to_string(),
            TrainField::LearningRate => settings.learning_rate.to_string(),
            TrainField::MaxLength => settings.max_length.to_string(),
            TrainField::Accumulation => settings.accumulation.to_string(),
            TrainField::MaxSteps => optional(settings.max_steps.as_ref()),
            TrainField::WarmupSteps => settings.warmup_steps.to_string(),
            TrainField::WeightDecay => settings.weight_decay.to_string(),
            TrainField::Clip => optional(settings.max_grad_norm.as_ref()),
            TrainField::Validation => (settings.validation * 100.0).to_string(),
            TrainField::ValidateEvery => settings.validate_every.to_string(),
            TrainField::Patience => optional(settings.patience.as_ref()),
            TrainField::CheckpointEvery => settings.checkpoint_every.to_string(),
            TrainField::Seed => settings.seed.to_string(),
        };
        Self {
            data: Vec::new(),
            path: String::new(),
            domain: None,
            method: MethodChoice::Lora,
            targets: Vec::new(),
            loss: LossChoice::Ipo,
            skip_pairs: settings.skip_pairs,
            schedule: settings.schedule,
            optimizer_state: settings.optimizer_state,
            checkpointing: settings.checkpointing,
            dtype: Dtype::F32,
            out: String::new(),
            texts: TrainField::ALL.map(|field| (!field.follows()).then(|| default(field))),
        }
    }
}

fn optional(value: Option<&impl ToString>) -> String {
    value.map(ToString::to_string).unwrap_or_default()
}

impl TrainForm {
    /// What stands in a field. The learning rate follows the method, and α the rank, until it is
    /// typed.
    pub fn text(&self, field: TrainField) -> String {
        match &self.texts[field.place()] {
            Some(text) => text.clone(),
            None if field == TrainField::Alpha => self.text(TrainField::Rank),
            None => format!("{:e}", self.method_at(8, 8.0).default_learning_rate()),
        }
    }

    /// Types into a field.
    pub fn set(&mut self, field: TrainField, text: impl Into<String>) {
        self.texts[field.place()] = Some(text.into());
    }

    /// Whether a field counts, as things are chosen.
    pub fn uses(&self, field: TrainField) -> bool {
        match field {
            TrainField::Rank | TrainField::Alpha => self.method == MethodChoice::Lora,
            TrainField::LabelSmoothing => self.loss == LossChoice::Sigmoid,
            _ => true,
        }
    }

    /// What is wrong with what stands in a field.
    pub fn fault(&self, field: TrainField) -> Option<String> {
        // What is wrong with the rank is said there.
        if field == TrainField::Alpha && self.texts[field.place()].is_none() {
            return None;
        }
        self.uses(field).then(|| field.check(&self.text(field)).err()).flatten()
    }

    fn number(&self, field: TrainField) -> Result<Option<f64>, String> {
        field.check(&self.text(field)).map_err(|said| format!("{}: {said}", field.name()))
    }

    fn whole(&self, field: TrainField) -> Result<usize, String> {
        Ok(self.number(field)?.unwrap_or_default() as usize)
    }

    fn real(&self, field: TrainField) -> Result<f64, String> {
        Ok(self.number(field)?.unwrap_or_default())
    }

    fn method_at(&self, rank: usize, alpha: f64) -> TrainMethod {
        match self.method {
            MethodChoice::Lora => TrainMethod::Lora { rank, alpha, targets: self.targets.clone() },
            MethodChoice::Full => TrainMethod::Full,
        }
    }

    fn train_method(&self) -> Result<TrainMethod, String> {
        if self.method == MethodChoice::Full {
            return Ok(TrainMethod::Full);
        }
        Ok(self.method_at(self.whole(TrainField::Rank)?, self.real(TrainField::Alpha)?))
    }

    fn preference_loss(&self) -> Result<PreferenceLoss, String> {
        Ok(match self.loss {
            LossChoice::Ipo => PreferenceLoss::Ipo,
            LossChoice::Sigmoid => {
                PreferenceLoss::Sigmoid { label_smoothing: self.real(TrainField::LabelSmoothing)? }
            }
            LossChoice::Hinge => PreferenceLoss::Hinge,
        })
    }

    /// How the vector is trained.
    ///
    /// # Errors
    /// Names the first field that something is wrong with, and says what.
    pub fn settings(&self) -> Result<TrainSettings, String> {
        let seed = self.text(TrainField::Seed);
        self.number(TrainField::Seed)?;
        let count = |it: Option<f64>| it.map(|it| it as usize);
        Ok(TrainSettings {
            method: self.train_method()?,
            loss: self.preference_loss()?,
            beta: self.real(TrainField::Beta)?,
            skip_pairs: self.skip_pairs,
            epochs: self.whole(TrainField::Epochs)?,
            batch: self.whole(TrainField::Batch)?,
            accumulation: self.whole(TrainField::Accumulation)?,
            max_steps: count(self.number(TrainField::MaxSteps)?),
            learning_rate: self.real(TrainField::LearningRate)?,
            schedule: self.schedule,
            warmup_steps: self.whole(TrainField::WarmupSteps)?,
            weight_decay: self.real(TrainField::WeightDecay)?,
            max_grad_norm: self.number(TrainField::Clip)?,
            optimizer_state: self.optimizer_state,
            checkpointing: self.checkpointing,
            max_length: self.whole(TrainField::MaxLength)?,
            validation: self.real(TrainField::Validation)? / 100.0,
            validate_every: self.whole(TrainField::ValidateEvery)?,
            patience: count(self.number(TrainField::Patience)?),
            checkpoint_every: self.whole(TrainField::CheckpointEvery)?,
            // A float has not room for all of its digits.
            seed: seed.trim().parse().map_err(|_digits| "Seed: too long".to_owned())?,
        })
    }

    /// The place of a file among those that are chosen.
    pub(crate) fn place_of(&self, file: &Path) -> Option<usize> {
        self.data.iter().position(|it| it.file == file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn form_begins_with_the_settings_of_the_protocol() {
        assert_eq!(TrainForm::default().settings(), Ok(TrainSettings::default()));
        for (place, field) in TrainField::ALL.into_iter().enumerate() {
            assert_eq!(field.place(), place);
            assert_eq!(TrainForm::default().fault(field), None, "{field:?}");
        }
    }

    #[test]
    fn learning_rate_follows_the_method_until_it_is_typed() {
        let mut form = TrainForm { method: MethodChoice::Full, ..TrainForm::default() };
        let rate = |form: &TrainForm| form.settings().map(|it| it.learning_rate);
        assert_eq!(rate(&form), Ok(1e-5));
        form.method = MethodChoice::Lora;
        assert_eq!(rate(&form), Ok(5e-4));
        form.set(TrainField::LearningRate, "2e-4");
        form.method = MethodChoice::Full;
        assert_eq!(rate(&form), Ok(2e-4));
    }

    #[test]
    fn alpha_follows_the_rank_until_it_is_typed() {
        let mut form = TrainForm::default();
        let is_alpha = |form: &TrainForm, expected: f64| {
            let method = form.settings().unwrap().method;
            matches!(method, TrainMethod::Lora { alpha, .. } if alpha.to_bits() == expected.to_bits())
        };
        form.set(TrainField::Rank, "32");
        assert!(is_alpha(&form, 32.0));
        form.set(TrainField::Rank, "x");
        assert!(form.fault(TrainField::Rank).is_some() && form.fault(TrainField::Alpha).is_none());
        form.set(TrainField::Alpha, "16");
        form.set(TrainField::Rank, "64");
        assert!(is_alpha(&form, 16.0));
    }

    #[test]
    fn bad_input_is_said_at_its_field() {
        for (field, text, word) in [
            (TrainField::Rank, "0", "From 1 to 1024"),
            (TrainField::Rank, "2.5", "whole"),
            (TrainField::Beta, "0", "above 0"),
            (TrainField::Beta, "x", "“x” is not a number"),
            (TrainField::Epochs, "", "Type a number"),
            (TrainField::LearningRate, "2", "At most 1"),
            (TrainField::Validation, "60", "From 0 to 50"),
            (TrainField::Seed, "-1", "From 0"),
            (TrainField::Clip, "0", "above 0"),
        ] {
            let mut form = TrainForm::default();
            form.set(field, text);
            let said = form.fault(field).unwrap_or_default();
            assert!(said.contains(word), "{field:?}: {said:?}");
            let said = form.settings().unwrap_err();
            assert!(said.starts_with(field.name()) && said.contains(word), "{said}");
        }
    }

    #[test]
    fn what_does_not_count_is_not_looked_at() {
        let mut form = TrainForm { method: MethodChoice::Full, ..TrainForm::default() };
        form.set(TrainField::Rank, "x");
        form.set(TrainField::LabelSmoothing, "x");
        assert_eq!(form.fault(TrainField::Rank), None);
        assert_eq!(form.settings().map(|it| it.method), Ok(TrainMethod::Full));
        form.loss = LossChoice::Sigmoid;
        assert!(form.fault(TrainField::LabelSmoothing).is_some());
        assert!(form.settings().is_err());
    }

    #[test]
    fn empty_fields_mean_none_where_they_may_be_empty_and_seeds_keep_every_digit() {
        let mut form = TrainForm::default();
        for field in [TrainField::MaxSteps, TrainField::Clip, TrainField::Patience] {
            form.set(field, " ");
        }
        form.set(TrainField::Seed, "18446744073709551615");
        form.set(TrainField::WeightDecay, "0,01");
        let settings = form.settings().unwrap();
        assert_eq!(
            (settings.max_steps, settings.max_grad_norm, settings.patience),
            Default::default()
        );
        assert_eq!(settings.seed, u64::MAX);
        assert_eq!(settings.weight_decay.to_bits(), 0.01_f64.to_bits());
    }
}
