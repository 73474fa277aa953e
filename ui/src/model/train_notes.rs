//! What worries people who watch a training run, and what to make of it.

use meav_protocol::{PreferenceLoss, TrainRun, TrainStep};

/// Fewer pairs than this are few.
const FEW_PAIRS: usize = 60;

/// Steps that a mean is taken over.
const WINDOW: usize = 5;

/// Steps before which nothing is said about a trend.
const LEAST_STEPS: usize = 12;

/// Steps before which nothing is said about accuracy.
const STEPS_TO_LEARN: usize = 20;

/// How much longer than usual a gradient is that explodes.
const EXPLOSION: f64 = 10.0;

/// The share of steps that is nearly every step.
const NEARLY_ALL: f64 = 0.9;

/// How much above its best the validation loss has to be to count as risen.
const RISEN: f64 = 1.02;

/// Something to know about a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TrainNote {
    /// What it is about.
    pub(crate) kind: NoteKind,
    /// What to make of it.
    pub(crate) text: String,
}

/// What a note is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoteKind {
    /// The loss is no number.
    NotANumber,
    /// The loss is above where it began.
    LossAboveStart,
    /// The gradient has become much longer.
    GradientExplodes,
    /// The validation loss rises while the training loss falls.
    Overfitting,
    /// Chosen and rejected are not told apart.
    AccuracyAtChance,
    /// There are few pairs.
    FewPairs,
    /// Both rewards fall.
    RewardsFall,
    /// The gradient is clipped all the time.
    OftenClipped,
    /// IPO's loss is far from 0.
    IpoStaysHigh,
}

impl NoteKind {
    /// Whether something may have to be changed; otherwise it is as it should be.
    pub(crate) fn is_warning(self) -> bool {
        !matches!(self, Self::RewardsFall | Self::OftenClipped | Self::IpoStaysHigh)
    }
}

/// What there is to know about a run, warnings first.
pub(crate) fn train_notes(run: &TrainRun) -> Vec<TrainNote> {
    let checks: [fn(&TrainRun) -> Option<TrainNote>; 9] = [
        not_a_number,
        loss_above_start,
        gradient_explodes,
        overfitting,
        accuracy_at_chance,
        few_pairs,
        rewards_fall,
        often_clipped,
        ipo_stays_high,
    ];
    checks.into_iter().filter_map(|check| check(run)).collect()
}

fn note(kind: NoteKind, text: impl Into<String>) -> TrainNote {
    TrainNote { kind, text: text.into() }
}

fn mean(steps: &[TrainStep], value: impl Fn(&TrainStep) -> f64) -> f64 {
    steps.iter().map(value).sum::<f64>() / steps.len().max(1) as f64
}

/// The last so many steps, once there are as many as are wanted.
fn last(run: &TrainRun, count: usize, wanted: usize) -> Option<&[TrainStep]> {
    let steps = &run.steps;
    (steps.len() >= wanted.max(count)).then(|| &steps[steps.len() - count..])
}

fn not_a_number(run: &TrainRun) -> Option<TrainNote> {
    if !run.diverged {
        return None;
    }
    let rate = run.spec.settings.learning_rate / 3.0;
    Some(note(
        NoteKind::NotANumber,
        format!(
            "The loss was no number any more: this run can't go on. Begin a new one with a third \
             of the learning rate, {rate:.1e}."
        ),
    ))
}

fn loss_above_start(run: &TrainRun) -> Option<TrainNote> {
    let settings = &run.spec.settings;
    let start = settings.loss.at_start(settings.beta);
    let steps = last(run, WINDOW, WINDOW + 2)?;
    if !steps.iter().all(|it| it.loss > start) || mean(steps, |it| it.loss) < 1.05 * start {
        return None;
    }
    Some(note(
        NoteKind::LossAboveStart,
        format!(
            "The loss is above where it began ({start:.3}) for {WINDOW} steps: the learning rate \
             may be too high. Try a third of it."
        ),
    ))
}

fn gradient_explodes(run: &TrainRun) -> Option<TrainNote> {
    let steps = last(run, 3, LEAST_STEPS)?;
    let mut norms: Vec<f64> = run.steps.iter().map(|it| it.grad_norm).collect();
    norms.sort_by(f64::total_cmp);
    let median = norms[norms.len() / 2];
    let is_long = |it: &TrainStep| !it.grad_norm.is_finite() || it.grad_norm > EXPLOSION * median;
    if median <= 0.0 || !steps.iter().all(is_long) {
        return None;
    }
    Some(note(
        NoteKind::GradientExplodes,
        "The gradient is more than ten times as long as usual: training may fall apart. A lower \
         learning rate or a longer warm-up helps.",
    ))
}

fn overfitting(run: &TrainRun) -> Option<TrainNote> {
    let best = run.validations.iter().min_by(|a, b| a.loss.total_cmp(&b.loss))?;
    let after: Vec<_> = run.validations.iter().filter(|it| it.step > best.step).collect();
    let has_risen = after.len() >= 2 && after.last()?.loss > RISEN * best.loss;
    let before = run.steps.iter().filter(|it| it.step <= best.step);
    let before: Vec<TrainStep> = before.copied().collect();
    let then = before.get(before.len().checked_sub(WINDOW)?..)?;
    let now = last(run, WINDOW, before.len() + WINDOW)?;
    if !has_risen || mean(now, |it| it.loss) >= mean(then, |it| it.loss) {
        return None;
    }
    Some(note(
        NoteKind::Overfitting,
        format!(
            "The validation loss rises since step {} while the training loss falls: the vector \
             learns these pairs by heart. Stop and keep it, or train for fewer steps.",
            best.step
        ),
    ))
}

fn accuracy_at_chance(run: &TrainRun) -> Option<TrainNote> {
    let steps = last(run, 2 * WINDOW, STEPS_TO_LEARN)?;
    if !(0.4..=0.6).contains(&mean(steps, |it| it.rewards.accuracies)) {
        return None;
    }
    Some(note(
        NoteKind::AccuracyAtChance,
        "The accuracy stays around one half: chosen and rejected responses are not told apart yet. \
         Wait for the end of the warm-up; if it stays, raise the learning rate, or check the order \
         of the levels.",
    ))
}

fn few_pairs(run: &TrainRun) -> Option<TrainNote> {
    let pairs = run.counts.pairs;
    if pairs == 0 || pairs >= FEW_PAIRS {
        return None;
    }
    Some(note(
        NoteKind::FewPairs,
        format!(
            "Only {pairs} pairs: curves jump, and numbers on so few say little. Several epochs \
             help, more data helps more."
        ),
    ))
}

fn rewards_fall(run: &TrainRun) -> Option<TrainNote> {
    let late = last(run, WINDOW, LEAST_STEPS)?;
    let early = &run.steps[..WINDOW];
    let has_fallen = |value: fn(&TrainStep) -> f64| {
        mean(late, value) < mean(early, value) && mean(late, value) < 0.0
    };
    let grows = mean(late, |it| it.rewards.margins) > mean(early, |it| it.rewards.margins).max(0.0);
    if !(has_fallen(|it| it.rewards.chosen) && has_fallen(|it| it.rewards.rejected) && grows) {
        return None;
    }
    Some(note(
        NoteKind::RewardsFall,
        "Both rewards fall while the margin grows: that is normal. The loss looks only at the \
         difference between chosen and rejected responses.",
    ))
}

fn often_clipped(run: &TrainRun) -> Option<TrainNote> {
    let most = run.spec.settings.max_grad_norm?;
    let steps = last(run, LEAST_STEPS, LEAST_STEPS)?;
    let clipped = mean(steps, |it| f64::from(u8::from(it.grad_norm > most)));
    if clipped < NEARLY_ALL {
        return None;
    }
    let usual = match run.spec.settings.loss {
        PreferenceLoss::Ipo => "usual with IPO, whose gradients are long",
        PreferenceLoss::Sigmoid { .. } | PreferenceLoss::Hinge => "harmless while the loss falls",
    };
    Some(note(
        NoteKind::OftenClipped,
        format!(
            "The gradient is clipped to {most} at nearly every step: {usual}. The learning rate \
             then decides alone how far each step goes."
        ),
    ))
}

fn ipo_stays_high(run: &TrainRun) -> Option<TrainNote> {
    let settings = &run.spec.settings;
    if settings.loss != PreferenceLoss::Ipo {
        return None;
    }
    let loss = mean(last(run, WINDOW, LEAST_STEPS)?, |it| it.loss);
    let start = settings.loss.at_start(settings.beta);
    if !(0.4 * start..1.05 * start).contains(&loss) {
        return None;
    }
    let target = 0.5 / settings.beta;
    Some(note(
        NoteKind::IpoStaysHigh,
        format!(
            "IPO's loss stays high by nature: 0 would take h = 1/(2β) = {target:.1} nats for each \
             token, which is hardly reachable. Look at margin and accuracy instead."
        ),
    ))
}

#[cfg(test)]
mod tests {
    use meav_protocol::{
        Dtype, Rewards, RunState, TrainCounts, TrainSettings, TrainSpec, TrainValidation,
    };
    use uuid::Uuid;

    use super::*;

    /// A run in which nothing is worth a note.
    fn calm(n_steps: usize) -> TrainRun {
        let settings = TrainSettings {
            loss: PreferenceLoss::Sigmoid { label_smoothing: 0.0 },
            ..TrainSettings::default()
        };
        let step = |index: usize| {
            let share = index as f64 / n_steps as f64;
            TrainStep {
                step: index + 1,
                loss: 0.69 - 0.4 * share,
                rewards: Rewards {
                    chosen: share,
                    rejected: -share,
                    margins: 2.0 * share,
                    accuracies: 0.9,
                    ..Rewards::default()
                },
                grad_norm: 0.8,
                ..TrainStep::default()
            }
        };
        TrainRun {
            spec: TrainSpec {
                run: Uuid::nil(),
                model: "demo".into(),
                data: Vec::new(),
                domain: "medical".to_owned(),
                out: None,
                resume: false,
                dtype: Dtype::F32,
                settings,
            },
            started: String::new(),
            state: RunState::Running,
            is_paused: false,
            ended: None,
            model: String::new(),
            base: String::new(),
            counts: TrainCounts { pairs: 200, ..TrainCounts::default() },
            total_steps: n_steps,
            steps: (0..n_steps).map(step).collect(),
            validations: Vec::new(),
            checkpoint: None,
            vector: None,
            elapsed_secs: 0.0,
            diverged: false,
        }
    }

    fn kinds(run: &TrainRun) -> Vec<NoteKind> {
        train_notes(run).into_iter().map(|it| it.kind).collect()
    }

    fn validated(run: &mut TrainRun, losses: &[f64]) {
        let at = |(index, loss): (usize, &f64)| TrainValidation {
            step: 8 * index,
            loss: *loss,
            ..TrainValidation::default()
        };
        run.validations = losses.iter().enumerate().map(at).collect();
    }

    #[test]
    fn run_that_goes_well_has_no_notes_however_long_it_is() {
        for n_steps in [0, 1, 4, 7, 12, 20, 40, 400] {
            assert_eq!(kinds(&calm(n_steps)), [], "{n_steps}");
        }
    }

    #[test]
    fn each_worry_has_its_note_and_no_other() {
        type Spoil = fn(&mut TrainRun);
        let cases: [(NoteKind, Spoil); 9] = [
            (NoteKind::NotANumber, |run| run.diverged = true),
            (NoteKind::LossAboveStart, |run| {
                run.steps.iter_mut().skip(33).for_each(|it| it.loss = 0.9);
            }),
            (NoteKind::GradientExplodes, |run| {
                run.steps.iter_mut().skip(37).for_each(|it| it.grad_norm = 9.0);
            }),
            (NoteKind::Overfitting, |run| validated(run, &[0.7, 0.5, 0.55, 0.6])),
            (NoteKind::AccuracyAtChance, |run| {
                run.steps.iter_mut().for_each(|it| it.rewards.accuracies = 0.5);
            }),
            (NoteKind::FewPairs, |run| run.counts.pairs = 24),
            (NoteKind::RewardsFall, |run| {
                for it in &mut run.steps {
                    it.rewards.chosen = -0.5 * it.rewards.margins;
                    it.rewards.rejected = -1.5 * it.rewards.margins;
                }
            }),
            (NoteKind::OftenClipped, |run| {
                run.steps.iter_mut().for_each(|it| it.grad_norm = 1.5);
            }),
            (NoteKind::IpoStaysHigh, |run| {
                run.spec.settings.loss = PreferenceLoss::Ipo;
                run.steps.iter_mut().for_each(|it| it.loss = 22.0);
            }),
        ];
        for (kind, spoil) in cases {
            let mut run = calm(40);
            spoil(&mut run);
            assert_eq!(kinds(&run), [kind]);
        }
    }

    #[test]
    fn what_only_looks_like_a_worry_has_no_note() {
        type Change = fn(&mut TrainRun);
        let cases: [(&str, Change); 6] = [
            ("a single step above the start", |run| run.steps[39].loss = 3.0),
            ("validation falls all the time", |run| validated(run, &[0.7, 0.6, 0.5, 0.4])),
            ("validation has risen once", |run| validated(run, &[0.7, 0.6, 0.5, 0.55])),
            ("both losses rise", |run| {
                validated(run, &[0.7, 0.4, 0.5, 0.6]);
                run.steps.iter_mut().skip(20).for_each(|it| it.loss = 0.69);
            }),
            ("no clipping", |run| {
                run.spec.settings.max_grad_norm = None;
                run.steps.iter_mut().for_each(|it| it.grad_norm = 50.0);
            }),
            ("chosen rises", |run| {
                run.steps.iter_mut().for_each(|it| it.rewards.rejected = -4.0);
            }),
        ];
        for (name, change) in cases {
            let mut run = calm(40);
            change(&mut run);
            assert_eq!(kinds(&run), [], "{name}");
        }
    }

    #[test]
    fn notes_name_the_numbers_of_the_run() {
        let mut run = calm(40);
        (run.spec.settings.loss, run.spec.settings.beta) = (PreferenceLoss::Ipo, 0.25);
        run.steps.iter_mut().for_each(|it| it.loss = 3.9);
        assert!(train_notes(&run)[0].text.contains("1/(2β) = 2.0 nats"));
        run.steps.iter_mut().for_each(|it| it.loss = 5.0);
        assert!(train_notes(&run)[0].text.contains("began (4.000)"));
    }
}
