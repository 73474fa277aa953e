use std::fmt;

use meav_protocol::{PreferenceLoss, TrainMethod, TrainSettings};

use super::values::{LossArg, MethodArg, OrNone};
use super::{SettingsArgs, TrainMethodArgs};

/// An option that does not go with what is settled already.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Contradiction {
    option: &'static str,
    /// What is settled, in words.
    settled: String,
}

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} does not go with {}", self.option, self.settled)
    }
}

/// Options that are laid over settings.
pub(super) struct Overlay {
    /// Whether the settings are those of a run that goes on, and must not change.
    pub(super) is_fixed: bool,
    pub(super) contradiction: Option<Contradiction>,
}

impl Overlay {
    pub(super) fn set<T: PartialEq + fmt::Debug>(
        &mut self,
        option: &'static str,
        settled: &mut T,
        given: Option<T>,
    ) {
        let Some(given) = given else { return };
        if !self.is_fixed {
            *settled = given;
        } else if *settled != given {
            self.contradict(option, format!("the run in the folder, which has {settled:?}"));
        }
    }

    /// The first one is told of.
    fn contradict(&mut self, option: &'static str, settled: String) {
        self.contradiction.get_or_insert(Contradiction { option, settled });
    }
}

impl SettingsArgs {
    pub(super) fn lay_over(&self, settings: &mut TrainSettings, overlay: &mut Overlay) {
        self.method.lay_over(&mut settings.method, overlay);
        if !overlay.is_fixed {
            settings.learning_rate = settings.method.default_learning_rate();
        }
        self.lay_over_loss(&mut settings.loss, overlay);
        overlay.set("--beta", &mut settings.beta, self.beta);
        overlay.set("--skip-pairs", &mut settings.skip_pairs, self.skip_pairs.then_some(true));
        overlay.set("--epochs", &mut settings.epochs, self.epochs);
        overlay.set("--batch", &mut settings.batch, self.batch);
        overlay.set("--accumulation", &mut settings.accumulation, self.accumulation);
        overlay.set("--lr", &mut settings.learning_rate, self.lr);
        overlay.set("--schedule", &mut settings.schedule, self.schedule.map(Into::into));
        overlay.set("--warmup", &mut settings.warmup_steps, self.warmup);
        overlay.set("--weight-decay", &mut settings.weight_decay, self.weight_decay);
        let max_grad_norm = self.max_grad_norm.map(|OrNone(norm)| norm);
        overlay.set("--max-grad-norm", &mut settings.max_grad_norm, max_grad_norm);
        let state = self.optimizer_state.map(Into::into);
        overlay.set("--optimizer-state", &mut settings.optimizer_state, state);
        // Neither of these two changes a number.
        settings.checkpointing =
            !self.no_checkpointing && (self.checkpointing || settings.checkpointing);
        settings.checkpoint_every = self.checkpoint_every.unwrap_or(settings.checkpoint_every);
        overlay.set("--max-length", &mut settings.max_length, self.max_length);
        overlay.set("--validation", &mut settings.validation, self.validation);
        overlay.set("--validate-every", &mut settings.validate_every, self.validate_every);
        let patience = self.patience.map(|OrNone(patience)| patience);
        overlay.set("--patience", &mut settings.patience, patience);
        overlay.set("--max-steps", &mut settings.max_steps, self.max_steps.map(Some));
        overlay.set("--seed", &mut settings.seed, self.seed);
    }

    fn lay_over_loss(&self, loss: &mut PreferenceLoss, overlay: &mut Overlay) {
        let given = match (self.loss, *loss) {
            (None, _) => None,
            // The share is looked at below.
            (Some(LossArg::Sigmoid), same @ PreferenceLoss::Sigmoid { .. }) => Some(same),
            (Some(LossArg::Sigmoid), _) => Some(PreferenceLoss::Sigmoid { label_smoothing: 0.0 }),
            (Some(LossArg::Ipo), _) => Some(PreferenceLoss::Ipo),
            (Some(LossArg::Hinge), _) => Some(PreferenceLoss::Hinge),
        };
        overlay.set("--loss", loss, given);
        match loss {
            PreferenceLoss::Sigmoid { label_smoothing } => {
                overlay.set("--label-smoothing", label_smoothing, self.label_smoothing);
            }
            PreferenceLoss::Ipo | PreferenceLoss::Hinge if self.label_smoothing.is_some() => {
                overlay.contradict("--label-smoothing", "a loss other than sigmoid".to_owned());
            }
            PreferenceLoss::Ipo | PreferenceLoss::Hinge => {}
        }
    }
}

impl TrainMethodArgs {
    /// The method of a measurement.
    ///
    /// # Errors
    ///
    /// [`Contradiction`] between two options.
    pub(crate) fn method(&self) -> Result<TrainMethod, Contradiction> {
        let mut method = TrainMethod::default();
        let mut overlay = Overlay { is_fixed: false, contradiction: None };
        self.lay_over(&mut method, &mut overlay);
        overlay.contradiction.map_or(Ok(method), Err)
    }

    pub(super) fn lay_over(&self, method: &mut TrainMethod, overlay: &mut Overlay) {
        let given = match (self.method, &*method) {
            (None, _) => None,
            // Its settings are looked at below.
            (Some(MethodArg::Lora), same @ TrainMethod::Lora { .. }) => Some(same.clone()),
            (Some(MethodArg::Lora), TrainMethod::Full) => Some(TrainMethod::default()),
            (Some(MethodArg::Full), _) => Some(TrainMethod::Full),
        };
        overlay.set("--method", method, given);
        let all_targets = (!self.targets.is_empty()).then(|| self.targets.clone());
        match method {
            TrainMethod::Lora { rank, alpha, targets } => {
                overlay.set("--rank", rank, self.rank);
                overlay.set("--alpha", alpha, self.alpha);
                overlay.set("--targets", targets, all_targets);
            }
            TrainMethod::Full => {
                let options = [
                    ("--rank", self.rank.is_some()),
                    ("--alpha", self.alpha.is_some()),
                    ("--targets", all_targets.is_some()),
                ];
                for (option, _) in options.into_iter().filter(|(_, is_given)| *is_given) {
                    overlay.contradict(option, "training of all weights".to_owned());
                }
            }
        }
    }
}
