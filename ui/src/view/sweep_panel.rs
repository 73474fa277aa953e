use std::path::PathBuf;

use egui::{
    Button, CollapsingHeader, Grid, Label, ProgressBar, RichText, Role, ScrollArea, Ui, WidgetInfo,
};
use meav_protocol::{RunState, Sweep};

use super::curve_parts::number;
use super::design_tokens::{GRID, Tokens};
use super::parts::{clock, group_ui, moment, primary_button, signed, title, user_error_ui, weak};
use super::parts::{one_line, scroll_to_focus};
use super::sweep_plot::{PlotsView, legend_ui, plots_ui};
use super::sweep_point::point_ui;
use super::sweep_runs::{matrix_ui, runs_ui};
use super::sweep_setup::{SetupView, setup_ui};
use crate::action::{Action, SweepAction};
use crate::model::{Focus, Job, Knob, Model, Run, Sweeps, Weights};

/// What the Sweep screen shows.
pub(super) struct SweepView<'a> {
    sweeps: &'a Sweeps,
    weights: &'a Weights,
    /// The data that come with the demo, as far as they are known.
    demo_data: &'a [PathBuf],
    /// The knob whose vector would be swept.
    knob: Option<&'a Knob>,
    /// What is still wanted before a sweep can begin.
    missing: Option<String>,
    /// The job that measures.
    job: Option<&'a Job>,
    now: f64,
    system_dialogs: Result<(), &'a str>,
    takes_focus: bool,
}

impl<'a> SweepView<'a> {
    pub(super) fn new(model: &'a Model, now: f64) -> Self {
        Self {
            sweeps: &model.sweeps,
            weights: &model.weights,
            demo_data: model.data.demo.files(),
            knob: model.swept_knob(),
            missing: model.missing_for_sweep(),
            job: model.sweeps.running.and_then(|(job, _)| model.jobs.get(job)),
            now,
            system_dialogs: model.host.dialogs.as_ref().copied().map_err(String::as_str),
            takes_focus: model.focus == Some(Focus::Sweep),
        }
    }

    fn setup(&self) -> SetupView<'a> {
        let Self { sweeps, weights, demo_data, knob, system_dialogs, takes_focus, .. } = *self;
        SetupView { sweeps, weights, demo_data, knob, system_dialogs, takes_focus }
    }
}

/// How preferences move with λ: what is measured, its curves, and earlier sweeps.
#[must_use]
pub(super) fn sweep_ui(ui: &mut Ui, view: &SweepView<'_>) -> Vec<Action> {
    let mut actions = Vec::new();
    ScrollArea::vertical().id_salt("sweep screen").auto_shrink(false).show(ui, |ui| {
        let mut is_set_up = false;
        let name = RichText::new("New sweep").strong().color(Tokens::of(ui.visuals()).strong);
        CollapsingHeader::new(name).id_salt("set up").default_open(true).show_unindented(
            ui,
            |ui| {
                is_set_up = true;
                actions.extend(setup_ui(ui, &view.setup()));
            },
        );
        if view.takes_focus && !is_set_up {
            actions.push(Action::FocusTaken);
        }
        ui.add_space(GRID);
        actions.extend(begin_ui(ui, view));
        actions.extend(cut_off_ui(ui, view.sweeps));
        if let Some(err) = &view.sweeps.error {
            ui.add_space(GRID);
            actions.extend(user_error_ui(ui, err));
        }
        ui.separator();
        actions.extend(shown_ui(ui, view));
        ui.separator();
        actions.extend(runs_ui(ui, view.sweeps));
        ui.add_space(2.0 * GRID);
        actions.extend(matrix_ui(ui, view.sweeps));
        ui.add_space(4.0 * GRID);
        scroll_to_focus(ui);
    });
    actions
}

/// The button that begins, or says why it does not; how far the sweep is, and the one that stops.
fn begin_ui(ui: &mut Ui, view: &SweepView<'_>) -> Vec<Action> {
    let mut actions = Vec::new();
    let act = Action::Sweep;
    ui.horizontal(|ui| {
        if let Some(job) = view.job {
            let text = if job.is_cancelling { "Stopping…" } else { "Stop" };
            let stop = ui.add_enabled(!job.is_cancelling, Button::new(text));
            if stop.on_hover_text("What was measured stays, and the sweep can go on").clicked() {
                actions.push(act(SweepAction::Stop));
            }
            progress_ui(ui, job, view.now);
            return;
        }
        let missing = view.missing.as_deref();
        ui.add_enabled_ui(missing.is_none(), |ui| {
            let start = primary_button(ui, "Start");
            if start.on_disabled_hover_text(missing.unwrap_or_default()).clicked() {
                actions.push(act(SweepAction::Start));
            }
        });
        if let Some(missing) = missing {
            weak(ui, missing);
        }
    });
    actions
}

fn progress_ui(ui: &mut Ui, job: &Job, now: f64) {
    let (done, total) = job.progress;
    if let Some(share) = job.fraction() {
        let bar = ProgressBar::new(share).desired_width(30.0 * GRID).desired_height(GRID);
        let bar = bar.fill(Tokens::of(ui.visuals()).accent);
        ui.add(bar).widget_info(|| WidgetInfo::labeled(Role::ProgressIndicator, true, "Sweep"));
        let left = job.secs_left(now).map(|secs| format!(" · {} left", clock(secs)));
        let percent = share * 100.0;
        let left = left.unwrap_or_default();
        weak(ui, format!("{done} of {total} records · {percent:.0} %{left}"));
    } else {
        weak(ui, job.doing());
    }
}

/// A sweep that was cut off, with the way to go on.
fn cut_off_ui(ui: &mut Ui, sweeps: &Sweeps) -> Option<Action> {
    let summary = sweeps.cut_off().filter(|_| sweeps.running.is_none())?;
    let mut action = None;
    ui.horizontal_wrapped(|ui| {
        let text = format!(
            "A sweep of {} was cut off at {} of {} points.",
            summary.domain,
            summary.points,
            summary.range.points().len()
        );
        ui.label(RichText::new(text).color(Tokens::of(ui.visuals()).warning));
        if ui.button("Go on with it").clicked() {
            action = Some(Action::Sweep(SweepAction::Resume(summary.run)));
        }
    });
    action
}

/// The curves of the sweep that is shown, and the point that was picked.
fn shown_ui(ui: &mut Ui, view: &SweepView<'_>) -> Vec<Action> {
    let mut actions = Vec::new();
    let sweeps = view.sweeps;
    let (Some(run), Some(plots)) = (sweeps.shown_run(), PlotsView::new(sweeps)) else {
        title(ui, "Curves");
        let text = match (sweeps.shown, view.job) {
            (Some(_), Some(job)) => job.doing(),
            (Some(_), None) => "Reading the sweep…",
            _ => {
                "None yet. Choose a vector and data above and press Start, or open a sweep below: \
                 curves show which answers the model prefers at each λ, with 95 % intervals."
            }
        };
        ui.add(Label::new(text).wrap());
        return actions;
    };
    actions.extend(heading_ui(ui, run, sweeps));
    legend_ui(ui, &plots);
    others_ui(ui, sweeps);
    ui.add_space(GRID);
    actions.extend(plots_ui(ui, &plots));
    actions.extend(point_ui(ui, run, sweeps.picked));
    CollapsingHeader::new("About this sweep")
        .id_salt("about")
        .show_unindented(ui, |ui| about_ui(ui, &run.sweep));
    actions
}

fn heading_ui(ui: &mut Ui, run: &Run, sweeps: &Sweeps) -> Vec<Action> {
    let mut actions = Vec::new();
    let mut act = |action| actions.push(Action::Sweep(action));
    let sweep = &run.sweep;
    let tokens = Tokens::of(ui.visuals());
    ui.horizontal_wrapped(|ui| {
        let domain = &sweep.vector.domain;
        ui.label(RichText::new(domain).strong().color(tokens.domain(domain)));
        let (done, wanted) = (sweep.points.len(), run.n_wanted());
        let id = sweep.spec.run;
        let state = match sweep.state {
            _ if sweeps.is_running(id) => format!("{done} of {wanted} points so far"),
            RunState::Finished => format!("{done} points"),
            RunState::Running | RunState::Stopped => {
                format!("stopped at {done} of {wanted} points")
            }
        };
        weak(ui, format!("on {} · {} · {state}", sweep.model, sweep.spec.setup.dtype));
        if sweeps.is_open(id, sweep.state)
            && sweeps.running.is_none()
            && ui.button("Resume").on_hover_text("Only what is missing is measured").clicked()
        {
            act(SweepAction::Resume(id));
        }
        group_ui(ui, "Drawn as", |ui| {
            for (is_stacked, text) in [(false, "Lines"), (true, "Stacked")] {
                if ui.selectable_label(sweeps.is_stacked == is_stacked, text).clicked() {
                    act(SweepAction::Stack(is_stacked));
                }
            }
        });
        ui.menu_button("Export…", |ui| {
            for (text, ending) in EXPORTS {
                if ui.button(text).clicked() {
                    act(SweepAction::Export(ending));
                }
            }
        });
    });
    if sweep.base_matches == Some(false) {
        let text = "The vector was made from other weights than this base: these curves show how \
                    it transfers.";
        ui.add(Label::new(RichText::new(text).small().color(tokens.warning)).wrap());
    }
    actions
}

/// The forms that curves and matrices are written in.
pub(super) const EXPORTS: [(&str, &str); 5] = [
    ("Numbers as CSV…", "csv"),
    ("Everything as JSON…", "json"),
    ("Table as Markdown…", "md"),
    ("Picture as SVG…", "svg"),
    ("Picture as PNG…", "png"),
];

/// Which number is which sweep.
fn others_ui(ui: &mut Ui, sweeps: &Sweeps) {
    for (place, run) in sweeps.chosen_runs().into_iter().skip(1).enumerate() {
        let sweep = &run.sweep;
        let text = format!(
            "{} dashed: {} on {}, {}",
            number(place).trim(),
            sweep.vector.domain,
            sweep.model,
            moment(&sweep.started)
        );
        weak(ui, text);
    }
}

/// What was measured, exactly.
fn about_ui(ui: &mut Ui, sweep: &Sweep) {
    let term =
        |term: &meav_protocol::StampTerm| format!("{} {}", term.domain, signed(term.coefficient));
    let held: Vec<String> = sweep.held.iter().map(term).collect();
    let base = match sweep.base_matches {
        Some(true) => "this base",
        Some(false) => "other weights: this is how it transfers",
        None => "not said by its file",
    };
    let data: Vec<String> = sweep
        .datasets
        .iter()
        .map(|data| format!("{} ({}, {})", data.name, data.measure, data.fingerprint))
        .collect();
    let rows = [
        ("base", format!("{} ({})", sweep.model, sweep.base)),
        ("vector", format!("{} ({})", sweep.vector.file.display(), sweep.vector.fingerprint)),
        ("made from", base.to_owned()),
        ("held", if held.is_empty() { "none".to_owned() } else { held.join(", ") }),
        ("combined by", sweep.spec.setup.method.to_string()),
        ("λ", sweep.spec.range.to_string()),
        ("data", data.join("\n")),
        ("began", moment(&sweep.started)),
        ("computed for", clock(sweep.elapsed_secs)),
        ("run", sweep.spec.run.to_string()),
    ];
    Grid::new("about sweep").num_columns(2).spacing([4.0 * GRID, 0.0]).show(ui, |ui| {
        for (name, value) in rows {
            weak(ui, name);
            one_line(ui, RichText::new(&value).small()).on_hover_text(value);
            ui.end_row();
        }
    });
}
