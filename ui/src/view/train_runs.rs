//! Runs that are known: to open, to lay over each other, to go on with.

use egui::{Button, Grid, RichText, Role, ScrollArea, Ui, WidgetInfo};
use meav_protocol::{RunState, TrainSummary};
use uuid::Uuid;

use super::design_tokens::{GRID, Tokens};
use super::parts::{figures, moment, more_menu, title, weak};
use crate::action::Action;
use crate::model::{Phase, Trainings};
use crate::train_action::TrainAction;

/// The runs that are known, newest first.
pub(super) fn train_runs_ui(
    ui: &mut Ui,
    trainings: &Trainings,
    phase_of: &dyn Fn(Uuid) -> Option<Phase>,
) -> Vec<Action> {
    let mut actions = Vec::new();
    title(ui, "Runs");
    match &trainings.list {
        None => {
            weak(ui, "Being read…");
        }
        Some(list) if list.is_empty() => {
            weak(ui, "Every run is kept here with its curves, on this machine only.");
        }
        Some(list) => {
            ScrollArea::horizontal().id_salt("trainings").show(ui, |ui| {
                let grid = Grid::new("trainings").min_col_width(0.0);
                grid.spacing([4.0 * GRID, 0.0]).show(ui, |ui| {
                    for heading in ["", "vector", "", "", "steps", "loss", "began", "model"] {
                        weak(ui, heading);
                    }
                    ui.end_row();
                    for summary in list {
                        let phase = phase_of(summary.run);
                        actions.extend(run_ui(ui, trainings, summary, phase));
                        ui.end_row();
                    }
                });
            });
        }
    }
    actions
}

/// `phase` is that of a run of this window's queue.
fn run_ui(
    ui: &mut Ui,
    trainings: &Trainings,
    summary: &TrainSummary,
    phase: Option<Phase>,
) -> Vec<Action> {
    let mut actions = Vec::new();
    let mut act = |action| actions.push(Action::Train(action));
    let TrainSummary { run, domain, .. } = summary;
    let tokens = Tokens::of(ui.visuals());
    let name = format!("{domain}, {}", moment(&summary.started));
    let is_shown = trainings.shown == Some(*run);
    let mut is_compared = is_shown || trainings.compared.contains(run);
    let tick = ui.add_enabled(!is_shown, egui::Checkbox::without_text(&mut is_compared));
    let label = format!("Lay over: {name}");
    tick.widget_info(|| WidgetInfo::selected(Role::CheckBox, !is_shown, is_compared, &label));
    if tick.changed() {
        act(TrainAction::Compare(*run, is_compared));
    }
    tick.on_hover_text("Lay loss and margin over the run that is shown");
    let face = RichText::new(domain).small().strong().color(tokens.domain(domain));
    let open = ui.add(Button::selectable(is_shown, face));
    let label = format!("Open run: {name}");
    open.widget_info(|| WidgetInfo::selected(Role::Button, true, is_shown, &label));
    if open.clicked() {
        act(TrainAction::Open(*run));
    }
    let is_active = trainings.is_active(*run);
    more_menu(ui, &name, |ui| {
        // That of a run that is paused is half-trained.
        let has_vector = summary.vector.is_some() && !is_active;
        for (text, action) in [
            ("Add to knobs", TrainAction::AddToKnobs(*run)),
            ("Sweep it", TrainAction::SweepIt(*run)),
        ] {
            if ui.add_enabled(has_vector, Button::new(text)).clicked() {
                act(action);
                ui.close();
            }
        }
        if ui.add_enabled(!is_active, Button::new("Delete…")).clicked() {
            act(TrainAction::AskDelete(*run));
            ui.close();
        }
    });
    ui.horizontal(|ui| {
        let (text, color) = state(trainings, summary, phase, tokens);
        ui.label(RichText::new(text).small().color(color));
        if trainings.why_not_resumable(*run).is_none() {
            let resume = ui.add(Button::new(RichText::new("Resume").small()).small());
            let label = format!("Resume: {name}");
            resume.widget_info(|| WidgetInfo::labeled(Role::Button, true, &label));
            if resume.on_hover_text(resume_tip(trainings, *run)).clicked() {
                act(TrainAction::Resume(*run));
            }
        }
    });
    numbers_ui(ui, trainings, summary);
    actions
}

/// Where a run goes on from.
pub(super) fn resume_tip(trainings: &Trainings, run: Uuid) -> &'static str {
    if trainings.begins_again(run) {
        "From its beginning: it was stopped before its first checkpoint"
    } else {
        "From its newest checkpoint, along the same curve"
    }
}

fn state(
    trainings: &Trainings,
    summary: &TrainSummary,
    phase: Option<Phase>,
    tokens: &Tokens,
) -> (&'static str, egui::Color32) {
    match summary.state {
        _ if phase == Some(Phase::Waiting) => ("waiting", tokens.weak),
        _ if matches!(phase, Some(Phase::Paused | Phase::Held)) => ("paused", tokens.warning),
        _ if phase.is_some() => ("running", tokens.accent),
        _ if trainings.is_elsewhere(summary.run) => ("running elsewhere", tokens.weak),
        RunState::Finished => ("finished", tokens.good),
        RunState::Running => ("cut off", tokens.warning),
        RunState::Stopped => ("stopped", tokens.weak),
    }
}

fn numbers_ui(ui: &mut Ui, trainings: &Trainings, summary: &TrainSummary) {
    let [mut done, all] = summary.steps;
    let mut loss = summary.loss;
    // What has been read is newer than the list, but for what somebody else trains.
    let known = trainings.runs.get(&summary.run).and_then(|it| it.run.steps.last());
    if let Some(last) = known.filter(|_| !trainings.is_elsewhere(summary.run)) {
        (done, loss) = (last.step, Some(last.loss));
    }
    let small = |text: String| RichText::new(text).small().monospace();
    ui.label(small(format!("{done}/{all}")));
    ui.label(small(loss.map_or_else(|| "–".to_owned(), figures)));
    ui.label(RichText::new(moment(&summary.started)).small());
    ui.label(RichText::new(&summary.model).small())
        .on_hover_text(summary.folder.display().to_string());
}
