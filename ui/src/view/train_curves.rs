//! What each plot of a training run shows.

use egui::Color32;
use meav_protocol::{PreferenceLoss, TrainStep, TrainValidation};

use super::design_tokens::Tokens;
use super::parts::figures;
use crate::model::TrainCurves;

/// A plot over the steps of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Panel {
    /// What is minimised.
    Loss,
    /// How far responses' probabilities have moved.
    Rewards,
    /// The share of pairs that are the right way round.
    Accuracy,
    /// How long the gradient is.
    GradNorm,
    /// How far each step goes.
    LearningRate,
    /// How fast it goes.
    Speed,
}

/// How values are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// A light dot at each step.
    Dots,
    /// A line.
    Line,
    /// A line with a mark at each value.
    Marks,
    /// The line of another run, by its place.
    Other(usize),
}

/// Values over steps.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) name: &'static str,
    pub(super) color: Color32,
    pub(super) look: Look,
    pub(super) steps: Vec<f64>,
    pub(super) values: Vec<f64>,
}

/// A value to compare with.
#[derive(Debug, PartialEq)]
pub(super) struct Rule {
    pub(super) name: String,
    pub(super) value: f64,
}

impl Panel {
    pub(super) const ALL: [Self; 6] = [
        Self::Loss,
        Self::Rewards,
        Self::Accuracy,
        Self::GradNorm,
        Self::LearningRate,
        Self::Speed,
    ];

    /// What it is called.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Loss => "Loss",
            Self::Rewards => "Rewards",
            Self::Accuracy => "Accuracy",
            Self::GradNorm => "Gradient norm",
            Self::LearningRate => "Learning rate",
            Self::Speed => "Speed",
        }
    }

    /// What its values count in.
    pub(super) fn unit(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::Rewards => "β × nats",
            Self::Accuracy => "share of pairs",
            Self::GradNorm => "norm",
            Self::LearningRate => "learning rate",
            Self::Speed => "tokens per second",
        }
    }

    /// What to make of it.
    pub(super) fn help(self, curves: &TrainCurves) -> String {
        let settings = &curves.run.spec.settings;
        match self {
            Self::Loss if settings.loss == PreferenceLoss::Ipo => format!(
                "IPO's loss (h − 1/(2β))². It begins at 1/(4β²) = {}; its target 0 would take \
                 h = 1/(2β) = {} nats for each token, which is hardly reachable: falling is what \
                 counts, not how far.",
                figures(settings.loss.at_start(settings.beta)),
                figures(0.5 / settings.beta)
            ),
            Self::Loss => format!(
                "It begins at {}, where chosen and rejected responses have not moved apart, and \
                 falls towards 0.",
                figures(settings.loss.at_start(settings.beta))
            ),
            Self::Rewards => "How far the chosen and the rejected responses' log-probability has \
                              moved from the base model's, times β. The margin between them is \
                              what counts: both may fall."
                .to_owned(),
            Self::Accuracy => {
                "The share of pairs whose chosen response has the higher reward: one \
                               half is chance."
                    .to_owned()
            }
            Self::GradNorm => "The gradient's length before clipping. It should be of about one \
                               size; a sudden tenfold is a warning."
                .to_owned(),
            Self::LearningRate => {
                "How far each step goes: up in the warm-up, then down.".to_owned()
            }
            Self::Speed => "Tokens of prompts and responses read in a second.".to_owned(),
        }
    }

    /// The values that it shows of a run and of those that are laid over it.
    pub(super) fn series(
        self,
        curves: &TrainCurves,
        others: &[&TrainCurves],
        tokens: &Tokens,
    ) -> Vec<Series> {
        let run = |name, color, value: fn(&TrainStep) -> f64| trained(curves, name, color, value);
        let held = |color, value: fn(&TrainValidation) -> f64| validated(curves, color, value);
        let (main, second) = (tokens.agree, tokens.oppose);
        let mut series = match self {
            Self::Loss => {
                let dots = Series { look: Look::Dots, ..run("step", main, |it| it.loss) };
                let values = curves.smoothed.clone();
                let line = Series { values, ..run("smoothed", main, |it| it.loss) };
                vec![dots, line, held(second, |it| it.loss)]
            }
            Self::Rewards => vec![
                run("chosen", tokens.level("chosen"), |it| it.rewards.chosen),
                run("rejected", tokens.level("rejected"), |it| it.rewards.rejected),
                run("margin", main, |it| it.rewards.margins),
            ],
            Self::Accuracy => vec![
                run("train", main, |it| it.rewards.accuracies),
                held(second, |it| it.rewards.accuracies),
            ],
            Self::GradNorm => vec![run("norm", main, |it| it.grad_norm)],
            Self::LearningRate => vec![run("rate", main, |it| it.learning_rate)],
            Self::Speed => vec![run("tokens/s", main, |it| it.tokens_per_second)],
        };
        for (place, other) in others.iter().enumerate() {
            let look = Look::Other(place);
            let line = match self {
                Self::Loss => Series {
                    values: other.smoothed.clone(),
                    ..trained(other, "loss", tokens.weak, |it| it.loss)
                },
                Self::Rewards => trained(other, "margin", tokens.weak, |it| it.rewards.margins),
                _ => continue,
            };
            series.push(Series { look, ..line });
        }
        series.retain(|it| !it.steps.is_empty());
        series
    }

    /// What its values are compared with.
    pub(super) fn rules(self, curves: &TrainCurves) -> Vec<Rule> {
        let settings = &curves.run.spec.settings;
        let rule = |name: String, value| Rule { name, value };
        match self {
            Self::Loss => {
                let start = settings.loss.at_start(settings.beta);
                let mut rules = vec![rule(format!("start {}", figures(start)), start)];
                if settings.loss == PreferenceLoss::Ipo {
                    rules.push(rule("target 0".to_owned(), 0.0));
                }
                rules
            }
            Self::Accuracy => vec![rule("chance".to_owned(), 0.5)],
            Self::GradNorm => {
                let clip = settings.max_grad_norm;
                clip.map(|clip| rule(format!("clipped at {clip}"), clip)).into_iter().collect()
            }
            Self::Rewards => vec![rule(String::new(), 0.0)],
            Self::LearningRate | Self::Speed => Vec::new(),
        }
    }

    /// Values that are in sight in any case.
    pub(super) fn least_range(self) -> &'static [f64] {
        match self {
            Self::Accuracy => &[0.0, 1.0],
            Self::LearningRate | Self::Speed | Self::GradNorm => &[0.0],
            Self::Loss | Self::Rewards => &[],
        }
    }
}

impl Series {
    /// The value at a step; of what is measured now and then, the last one before it.
    pub(super) fn at(&self, step: f64) -> Option<f64> {
        let after = self.steps.partition_point(|it| *it <= step);
        let place = after.checked_sub(1)?;
        let is_there = self.look == Look::Marks || self.steps[place] >= step;
        is_there.then_some(self.values[place])
    }
}

fn trained(
    curves: &TrainCurves,
    name: &'static str,
    color: Color32,
    value: fn(&TrainStep) -> f64,
) -> Series {
    let steps = &curves.run.steps;
    Series {
        name,
        color,
        look: Look::Line,
        steps: steps.iter().map(|it| it.step as f64).collect(),
        values: steps.iter().map(value).collect(),
    }
}

fn validated(curves: &TrainCurves, color: Color32, value: fn(&TrainValidation) -> f64) -> Series {
    let validations = &curves.run.validations;
    Series {
        name: "validation",
        color,
        look: Look::Marks,
        steps: validations.iter().map(|it| it.step as f64).collect(),
        values: validations.iter().map(value).collect(),
    }
}

/// A value beside an axis: short, whatever its size.
pub(super) fn tick(value: f64) -> String {
    let size = value.abs();
    let minus = if value < 0.0 { "−" } else { "" };
    let trimmed = |text: String| {
        let text = if text.contains('.') { text.trim_end_matches('0') } else { &text };
        text.trim_end_matches('.').to_owned()
    };
    let text = match size {
        size if size < 1e-12 => return "0".to_owned(),
        size if size < 0.01 => {
            let text = format!("{size:.1e}");
            text.replace(".0e", "e").replace('-', "−")
        }
        size if size < 1e4 => trimmed(format!("{size:.2}")),
        size => format!("{}k", trimmed(format!("{:.1}", size / 1e3))),
    };
    format!("{minus}{text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_short_whatever_their_size() {
        for (value, text) in [
            (0.0, "0"),
            (25.0, "25"),
            (0.25, "0.25"),
            (-1.5, "−1.5"),
            (5e-4, "5e−4"),
            (2.5e-5, "2.5e−5"),
            (-0.002, "−2e−3"),
            (1200.0, "1200"),
            (12_500.0, "12.5k"),
            (100.0, "100"),
        ] {
            assert_eq!(tick(value), text);
        }
    }

    #[test]
    fn value_at_a_step_is_that_of_the_step_or_of_the_last_validation() {
        let series = |look| Series {
            name: "",
            color: Color32::BLACK,
            look,
            steps: vec![2.0, 4.0],
            values: vec![0.5, 0.25],
        };
        assert_eq!(series(Look::Line).at(2.0), Some(0.5));
        assert_eq!(series(Look::Line).at(3.0), None);
        assert_eq!(series(Look::Marks).at(3.0), Some(0.5));
        assert_eq!(series(Look::Marks).at(1.0), None);
        assert_eq!(series(Look::Marks).at(9.0), Some(0.25));
    }
}
