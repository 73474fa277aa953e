use std::path::PathBuf;

use egui::{
    Button, CollapsingHeader, Grid, Label, ProgressBar, RichText, Role, ScrollArea, Ui, WidgetInfo,
};
use meav_protocol::{RunState, TrainEstimate, TrainMethod, TrainRun, TrainSpec};

use super::curve_parts::number;
use super::design_tokens::{GRID, Tokens};
use super::parts::{
    bytes, clock, figures, moment, one_line, primary_button, scroll_to_focus, title, user_error_ui,
    weak,
};
use super::train_plot::{TrainPlotsView, train_plots_ui};
use super::train_runs::{resume_tip, train_runs_ui};
use super::train_setup::{BaseView, TrainSetupView, train_setup_ui};
use crate::action::Action;
use crate::model::{Focus, Job, Model, Phase, TrainCurves, Trainings, train_notes};
use crate::train_action::TrainAction;

/// What the Train screen shows.
pub(super) struct TrainView<'a> {
    trainings: &'a Trainings,
    /// The data that come with the demo, as far as they are known.
    demo_data: &'a [PathBuf],
    /// What is still wanted before a run can begin.
    missing: Option<String>,
    /// Whether what was estimated is still what the form says.
    is_estimate_current: bool,
    /// The job that tries a step.
    estimating: Option<&'a Job>,
    /// The runs that train or wait, with their jobs.
    queue: Vec<QueuedView<'a>>,
    /// What is trained from.
    base: BaseView,
    now: f64,
    system_dialogs: Result<(), &'a str>,
    takes_focus: bool,
}

/// A run that trains or waits.
struct QueuedView<'a> {
    job: &'a Job,
    phase: Phase,
    spec: &'a TrainSpec,
}

impl<'a> TrainView<'a> {
    pub(super) fn new(model: &'a Model, now: f64) -> Self {
        let trainings = &model.trainings;
        let queue = trainings.queue.iter().filter_map(|it| {
            let phase = model.training_phase(it.job)?;
            Some(QueuedView { job: model.jobs.get(it.job)?, phase, spec: &it.spec })
        });
        Self {
            trainings,
            demo_data: model.data.demo.files(),
            missing: model.missing_for_training(),
            is_estimate_current: model.is_estimate_current().unwrap_or(false),
            estimating: trainings.estimate.job.and_then(|job| model.jobs.get(job)),
            queue: queue.collect(),
            base: BaseView::from(&model.weights),
            now,
            system_dialogs: model.host.dialogs.as_ref().copied().map_err(String::as_str),
            takes_focus: model.focus == Some(Focus::Train),
        }
    }
}

/// How a vector is trained: what is asked for, how far it is, its curves, and earlier runs.
#[must_use]
pub(super) fn train_ui(ui: &mut Ui, view: &TrainView<'_>) -> Vec<Action> {
    let mut actions = Vec::new();
    ScrollArea::vertical().id_salt("train screen").auto_shrink(false).show(ui, |ui| {
        actions.extend(form_ui(ui, view));
        for entry in &view.queue {
            actions.extend(queued_ui(ui, view, entry));
        }
        actions.extend(unbegun_ui(ui, view));
        actions.extend(cut_off_ui(ui, view.trainings));
        if let Some(err) = &view.trainings.error {
            ui.add_space(GRID);
            actions.extend(user_error_ui(ui, err));
        }
        ui.separator();
        actions.extend(shown_ui(ui, view));
        ui.separator();
        let phase_of = |run| view.queue.iter().find(|it| it.spec.run == run).map(|it| it.phase);
        actions.extend(train_runs_ui(ui, view.trainings, &phase_of));
        ui.add_space(4.0 * GRID);
        scroll_to_focus(ui);
    });
    actions
}

/// What is asked before the next run, and the button that begins it.
fn form_ui(ui: &mut Ui, view: &TrainView<'_>) -> Vec<Action> {
    let mut actions = Vec::new();
    let is_unfolded = view.trainings.is_unfolded;
    let name = RichText::new("New vector").strong().color(Tokens::of(ui.visuals()).strong);
    let header = CollapsingHeader::new(name).id_salt("train").open(Some(is_unfolded));
    let setup = TrainSetupView {
        trainings: view.trainings,
        demo_data: view.demo_data,
        base: &view.base,
        system_dialogs: view.system_dialogs,
        takes_focus: view.takes_focus && is_unfolded,
    };
    let shown = header.show_unindented(ui, |ui| {
        actions.extend(train_setup_ui(ui, &setup));
        ui.add_space(GRID);
        actions.extend(begin_ui(ui, view));
        actions.extend(estimate_ui(ui, view));
    });
    if shown.header_response.clicked() {
        actions.push(Action::Train(TrainAction::Unfold(!is_unfolded)));
    }
    if view.takes_focus && !is_unfolded {
        shown.header_response.request_focus();
        actions.push(Action::FocusTaken);
    }
    ui.add_space(GRID);
    actions
}

/// The button that begins, or says why it does not, and the one that tries a step first.
fn begin_ui(ui: &mut Ui, view: &TrainView<'_>) -> Vec<Action> {
    let mut actions = Vec::new();
    ui.horizontal_wrapped(|ui| {
        let missing = view.missing.as_deref();
        ui.add_enabled_ui(missing.is_none(), |ui| {
            let text = if view.queue.is_empty() { "Start" } else { "Add to the queue" };
            let start = primary_button(ui, text);
            if start.on_disabled_hover_text(missing.unwrap_or_default()).clicked() {
                actions.push(Action::Train(TrainAction::Start));
            }
        });
        let can_estimate = missing.is_none() && view.estimating.is_none();
        let tip = "Loads the model, times a step on texts of medium length, and says what the run \
                   would take; memory is worked out for the longest texts";
        let estimate = ui.add_enabled(can_estimate, Button::new("Estimate"));
        if estimate.on_hover_text(tip).clicked() {
            actions.push(Action::Train(TrainAction::Estimate));
        }
        match (missing, view.estimating) {
            (_, Some(job)) => {
                weak(ui, job.doing());
                if ui.small_button("Stop").clicked() {
                    actions.push(Action::CancelJob(job.id));
                }
            }
            (Some(missing), None) => {
                weak(ui, missing);
            }
            (None, None) => {}
        }
    });
    actions
}

/// What the run would take.
fn estimate_ui(ui: &mut Ui, view: &TrainView<'_>) -> Vec<Action> {
    let estimate = &view.trainings.estimate;
    if let Some(err) = &estimate.error {
        return user_error_ui(ui, err);
    }
    let Some((_, found)) = &estimate.found else { return Vec::new() };
    let tokens = Tokens::of(ui.visuals());
    if !view.is_estimate_current {
        weak(ui, "The form has changed since the estimate: try again.");
        return Vec::new();
    }
    if let Some(refusal) = &found.refusal {
        ui.add(Label::new(RichText::new(refusal).color(tokens.error)).wrap());
    }
    ui.horizontal_wrapped(|ui| {
        for (name, value) in estimated(found) {
            weak(ui, name);
            ui.label(RichText::new(value).small().color(tokens.strong));
        }
    });
    Vec::new()
}

/// Names and values of an estimate.
fn estimated(found: &TrainEstimate) -> Vec<(&'static str, String)> {
    let memory = match found.available_bytes {
        Some(available) => format!("{} of {}", bytes(found.memory_bytes), bytes(available)),
        None => bytes(found.memory_bytes),
    };
    let counts = found.counts;
    let parameters = figures(counts.trainable_parameters as f64 / 1e6);
    vec![
        ("time", format!("about {}", clock(found.secs))),
        ("memory", memory),
        ("disk", bytes(found.disk_bytes)),
        ("steps", found.total_steps.to_string()),
        ("pairs", counts.pairs.to_string()),
        ("for validation", counts.validation_pairs.to_string()),
        ("cut", counts.truncated.to_string()),
        ("left out", counts.left_out.to_string()),
        ("changes", format!("{parameters} M weights")),
    ]
}

/// A run that trains or waits: how far it is, and what can be done with it.
fn queued_ui(ui: &mut Ui, view: &TrainView<'_>, queued: &QueuedView<'_>) -> Vec<Action> {
    let mut actions = Vec::new();
    let tokens = Tokens::of(ui.visuals());
    let TrainSpec { run, domain, .. } = queued.spec;
    let curves = view.trainings.runs.get(run);
    ui.horizontal_wrapped(|ui| {
        let face = RichText::new(domain).strong().color(tokens.domain(domain));
        let is_shown = view.trainings.shown == Some(*run);
        let open = ui.add(Button::selectable(is_shown, face));
        let label = format!("Show the run of {domain}");
        open.widget_info(|| WidgetInfo::selected(Role::Button, true, is_shown, &label));
        if open.clicked() {
            actions.push(Action::Train(TrainAction::Open(*run)));
        }
        actions.extend(controls_ui(ui, queued, curves));
        progress_ui(ui, queued, curves, view.now);
    });
    actions
}

fn controls_ui(ui: &mut Ui, queued: &QueuedView<'_>, curves: Option<&TrainCurves>) -> Vec<Action> {
    let QueuedView { job, phase, .. } = *queued;
    let mut actions = Vec::new();
    let mut button = |ui: &mut Ui, is_enabled: bool, text: &str, tip: &str, action: TrainAction| {
        let response = ui.add_enabled(is_enabled, Button::new(text));
        if response.on_hover_text(tip).clicked() {
            actions.push(Action::Train(action));
        }
    };
    if matches!(phase, Phase::Paused | Phase::Pausing | Phase::Held) {
        let tip = "From where it was paused; where another run is at work, once that has ended";
        button(ui, true, "Go on", tip, TrainAction::GoOn(job.id));
    } else {
        let can_pause = matches!(phase, Phase::Working | Phase::Waiting);
        let tip = "Holds after its last whole step; the model stays loaded, to chat with";
        button(ui, can_pause, "Pause", tip, TrainAction::Pause(job.id));
    }
    if let Some(run) = curves.map(|it| &it.run)
        && phase == Phase::Paused
        && run.vector.is_some()
    {
        let tip = "Puts the half-trained vector on a knob at λ = 1, and goes to the chat";
        button(ui, true, "Chat with it", tip, TrainAction::ChatWith(run.spec.run));
    }
    let has_steps = curves.is_some_and(|it| !it.run.steps.is_empty());
    let can_keep = has_steps && !matches!(phase, Phase::Ending | Phase::Cancelling);
    let tip = "Ends; the vector is kept as it is after the last whole step";
    button(ui, can_keep, "Stop and keep", tip, TrainAction::WrapUp(job.id));
    let tip = "Ends without a vector; it can be resumed from its last whole step";
    let is_cancelling = phase == Phase::Cancelling;
    button(ui, !is_cancelling, "Cancel", tip, TrainAction::Cancel(job.id));
    actions
}

fn progress_ui(ui: &mut Ui, queued: &QueuedView<'_>, curves: Option<&TrainCurves>, now: f64) {
    let steps = curves.filter(|it| it.run.total_steps > 0).map(|it| {
        let done = it.run.steps.last().map_or(0, |step| step.step);
        (done, it.run.total_steps)
    });
    if let Some((done, total)) = steps {
        let share = (done as f32 / total as f32).min(1.0);
        let bar = ProgressBar::new(share).desired_width(16.0 * GRID).desired_height(GRID);
        let bar = bar.fill(Tokens::of(ui.visuals()).accent);
        // On the ground of the screen, the track of a bar would not be seen in light colours.
        let track = ui.visuals().widgets.inactive.weak_bg_fill;
        let bar = ui.scope(|ui| {
            ui.visuals_mut().extreme_bg_color = track;
            ui.add(bar)
        });
        let info = || WidgetInfo::labeled(Role::ProgressIndicator, true, "Training");
        bar.inner.widget_info(info);
    }
    let said = match queued.phase {
        Phase::Waiting => "waiting for its turn".to_owned(),
        Phase::Held if steps.is_some_and(|(done, _)| done > 0) => "paused".to_owned(),
        Phase::Held => "paused before its first step".to_owned(),
        Phase::Pausing => "pausing…".to_owned(),
        Phase::Paused => "paused".to_owned(),
        Phase::Ending => "ending, and keeping its vector…".to_owned(),
        Phase::Cancelling => "stopping…".to_owned(),
        Phase::Working => match queued.job.secs_left(now) {
            Some(secs) => format!("{} left", clock(secs)),
            None => queued.job.doing().to_owned(),
        },
    };
    let far = steps.map(|(done, total)| format!("step {done} of {total} · "));
    let text = far.unwrap_or_default() + &said;
    let color = Tokens::of(ui.visuals()).weak;
    // In one piece, below the buttons where there is no room beside them.
    ui.add(Label::new(RichText::new(text).small().color(color)).extend());
}

/// Runs that were waiting for their turn when the engine or the window ended.
fn unbegun_ui(ui: &mut Ui, view: &TrainView<'_>) -> Vec<Action> {
    let mut actions = Vec::new();
    let begin = if view.queue.is_empty() { "Start it" } else { "Queue it again" };
    for spec in &view.trainings.unbegun {
        ui.horizontal_wrapped(|ui| {
            let text = format!("Training of {} was queued, and has not begun.", spec.domain);
            let color = Tokens::of(ui.visuals()).warning;
            ui.label(RichText::new(text).color(color)).on_hover_ui(|ui| {
                for data in &spec.data {
                    weak(ui, data.file.display().to_string());
                }
                weak(ui, method_words(spec));
            });
            for (text, action) in [
                (begin, TrainAction::Begin(spec.run)),
                ("Forget it", TrainAction::Forget(spec.run)),
            ] {
                let button = ui.button(text);
                let name = format!("{text}: {}", spec.domain);
                button.widget_info(|| WidgetInfo::labeled(Role::Button, true, &name));
                if button.clicked() {
                    actions.push(Action::Train(action));
                }
            }
        });
    }
    actions
}

/// A run that was cut off, with the way to go on.
fn cut_off_ui(ui: &mut Ui, trainings: &Trainings) -> Option<Action> {
    let summary = trainings.cut_off().filter(|_| trainings.queue.is_empty())?;
    let mut action = None;
    ui.horizontal_wrapped(|ui| {
        let [done, all] = summary.steps;
        let text = format!("Training of {} was cut off at step {done} of {all}.", summary.domain);
        ui.label(RichText::new(text).color(Tokens::of(ui.visuals()).warning));
        let button = ui.button("Go on with it");
        if button.on_hover_text(resume_tip(trainings, summary.run)).clicked() {
            action = Some(Action::Train(TrainAction::Resume(summary.run)));
        }
    });
    action
}

/// The curves of the run that is shown, and what to make of them.
fn shown_ui(ui: &mut Ui, view: &TrainView<'_>) -> Vec<Action> {
    let mut actions = Vec::new();
    let trainings = view.trainings;
    let Some(curves) = trainings.shown_run() else {
        title(ui, "Curves");
        let job =
            view.queue.iter().find(|it| trainings.shown == Some(it.spec.run)).map(|it| it.job);
        let text = match (trainings.shown, job) {
            (Some(_), Some(job)) => job.doing(),
            (Some(_), None) => "Reading the run…",
            (None, _) => {
                "None yet. Add preference data above and press Start: the settings work as they \
                 are. Loss, rewards and accuracy are drawn here step by step."
            }
        };
        ui.add(Label::new(text).wrap());
        return actions;
    };
    actions.extend(heading_ui(ui, curves, trainings));
    if !trainings.is_active(curves.run.spec.run) {
        actions.extend(vector_ui(ui, &curves.run));
    }
    for note in train_notes(&curves.run) {
        let tokens = Tokens::of(ui.visuals());
        let color = if note.kind.is_warning() { tokens.warning } else { tokens.weak };
        ui.add(Label::new(RichText::new(note.text).small().color(color)).wrap());
    }
    let others = trainings.others();
    for (place, other) in others.iter().enumerate() {
        let run = &other.run;
        let (started, n) = (moment(&run.started), number(place));
        weak(ui, format!("{} dashed: {} on {}, {started}", n.trim(), run.spec.domain, run.model));
    }
    ui.add_space(GRID);
    if curves.run.steps.is_empty() && curves.run.validations.is_empty() {
        weak(ui, "The first step is on its way.");
    } else {
        train_plots_ui(ui, &TrainPlotsView { curves, others: &others });
    }
    CollapsingHeader::new("About this run")
        .id_salt("about training")
        .show_unindented(ui, |ui| about_ui(ui, &curves.run));
    actions
}

/// What it is, how far it has come, and what can be done with its vector.
fn heading_ui(ui: &mut Ui, curves: &TrainCurves, trainings: &Trainings) -> Vec<Action> {
    let mut actions = Vec::new();
    let run = &curves.run;
    let id = run.spec.run;
    let tokens = Tokens::of(ui.visuals());
    let is_active = trainings.is_active(id);
    ui.horizontal_wrapped(|ui| {
        let domain = &run.spec.domain;
        ui.label(RichText::new(domain).strong().color(tokens.domain(domain)));
        let (done, total) = (run.steps.last().map_or(0, |it| it.step), run.total_steps);
        let state = match run.state {
            _ if is_active => format!("{done} of {total} steps so far"),
            RunState::Finished => format!("{done} steps"),
            _ if trainings.is_elsewhere(id) => format!("running elsewhere, step {done} of {total}"),
            RunState::Running | RunState::Stopped => format!("stopped at step {done} of {total}"),
        };
        weak(ui, format!("on {} · {} pairs · {state}", run.model, run.counts.pairs));
        let mut button = |ui: &mut Ui, text: &str, tip: &str, action| {
            if ui.button(text).on_hover_text(tip).clicked() {
                actions.push(Action::Train(action));
            }
        };
        if trainings.why_not_resumable(id).is_none() {
            button(ui, "Resume", resume_tip(trainings, id), TrainAction::Resume(id));
            if trainings.begins_again(id) {
                weak(ui, "from its beginning");
            }
        }
        if !is_active && run.vector.is_some() {
            let tip = "λ = 1 is the model as it was trained";
            button(ui, "Add to knobs", tip, TrainAction::AddToKnobs(id));
            let tip = "How preferences move with its λ, on the test file that belongs to its data";
            button(ui, "Sweep it", tip, TrainAction::SweepIt(id));
        }
    });
    if let Some(ended) = &run.ended {
        weak(ui, ended);
    }
    actions
}

/// Where its vector lies.
fn vector_ui(ui: &mut Ui, run: &TrainRun) -> Option<Action> {
    let path = run.vector.as_ref()?.display().to_string();
    ui.horizontal(|ui| {
        weak(ui, "vector");
        let copy = ui.add(Button::new(RichText::new("Copy path").small()).small());
        one_line(ui, RichText::new(&path).small().monospace()).on_hover_text(&path);
        copy.clicked().then(|| Action::Copy(path.clone()))
    })
    .inner
}

/// Which weights change.
fn method_words(spec: &TrainSpec) -> String {
    match &spec.settings.method {
        TrainMethod::Full => "all weights".to_owned(),
        TrainMethod::Lora { rank, alpha, targets } => {
            let parts =
                if targets.is_empty() { "all parts".to_owned() } else { targets.join(", ") };
            format!("LoRA, rank {rank}, α {alpha}, {parts}")
        }
    }
}

/// What was trained, exactly.
fn about_ui(ui: &mut Ui, run: &TrainRun) {
    let settings = &run.spec.settings;
    let method = method_words(&run.spec);
    let data: Vec<String> = run
        .spec
        .data
        .iter()
        .map(|it| match &it.prefer {
            Some(level) => format!("{} (prefer {level})", it.file.display()),
            None => it.file.display().to_string(),
        })
        .collect();
    let counts = run.counts;
    let folder = run.spec.out.as_ref().map(|it| it.display().to_string());
    let checkpoint = run.checkpoint.map(|step| format!("step {step}"));
    let rows = [
        ("base", format!("{} ({})", run.model, run.base)),
        ("method", format!("{method}; {} weights", counts.trainable_parameters)),
        ("loss", format!("{:?}, β = {}", settings.loss, settings.beta)),
        ("learning rate", format!("{} ({:?})", settings.learning_rate, settings.schedule)),
        ("data", data.join("\n")),
        (
            "pairs",
            format!(
                "{}, {} for validation, {} cut, {} records left out",
                counts.pairs, counts.validation_pairs, counts.truncated, counts.left_out
            ),
        ),
        ("folder", folder.unwrap_or_else(|| "–".to_owned())),
        ("checkpoint", checkpoint.unwrap_or_else(|| "none".to_owned())),
        ("began", moment(&run.started)),
        ("computed for", clock(run.elapsed_secs)),
        ("seed", settings.seed.to_string()),
        ("run", run.spec.run.to_string()),
    ];
    Grid::new("about training").num_columns(2).spacing([4.0 * GRID, 0.0]).show(ui, |ui| {
        for (name, value) in rows {
            weak(ui, name);
            one_line(ui, RichText::new(&value).small()).on_hover_text(value);
            ui.end_row();
        }
    });
}
