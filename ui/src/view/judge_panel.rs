use egui::{Button, ProgressBar, Role, ScrollArea, Ui, WidgetInfo};

use super::design_tokens::{GRID, Tokens};
use super::judge_form_ui::judge_form_ui;
use super::judge_results::results_ui;
use super::parts::{clock, group_ui, primary_button, scroll_to_focus, user_error_ui, weak};
use super::vectors_panel::turn_pages;
use crate::action::Action;
use crate::judge_form::{JudgeAction, JudgeTab};
use crate::model::{Data, Focus, Job, Judging, Model, Weights};

/// What the Judge screen shows.
pub(super) struct JudgeView<'a> {
    pub(super) judging: &'a Judging,
    pub(super) weights: &'a Weights,
    pub(super) data: &'a Data,
    /// The job that has answers judged.
    job: Option<&'a Job>,
    now: f64,
    /// Whether the system has dialogs; otherwise why not.
    pub(super) system_dialogs: Result<(), &'a str>,
    /// Whether the keyboard is to go to the first thing to do.
    takes_focus: bool,
}

impl<'a> JudgeView<'a> {
    pub(super) fn new(model: &'a Model, now: f64) -> Self {
        Self {
            judging: &model.judging,
            weights: &model.weights,
            data: &model.data,
            job: model.judging.job.and_then(|job| model.jobs.get(job)),
            now,
            system_dialogs: model.host.dialogs.as_ref().copied().map_err(String::as_str),
            takes_focus: model.focus == Some(Focus::Judge),
        }
    }
}

/// Answers to a sample of queries, and at which level a judge says they stand.
#[must_use]
pub(super) fn judge_ui(ui: &mut Ui, view: &JudgeView<'_>) -> Vec<Action> {
    let mut actions = top_ui(ui, view);
    if let Some(err) = &view.judging.error {
        actions.extend(user_error_ui(ui, err));
    }
    ui.add_space(GRID);
    match view.judging.tab {
        JudgeTab::Setup => {
            let area = ScrollArea::vertical().id_salt("judge form").auto_shrink(false);
            area.show(ui, |ui| {
                turn_pages(ui);
                actions.extend(judge_form_ui(ui, view));
                ui.add_space(4.0 * GRID);
                scroll_to_focus(ui);
            });
        }
        JudgeTab::Results => actions.extend(results_ui(ui, view)),
    }
    actions
}

/// What is shown, and the button that starts or stops.
fn top_ui(ui: &mut Ui, view: &JudgeView<'_>) -> Vec<Action> {
    let mut actions = Vec::new();
    ui.horizontal(|ui| {
        let shown = view.judging.tab;
        ui.scope(|ui| {
            group_ui(ui, "What is shown of the judgement", |ui| {
                for (tab, name) in [(JudgeTab::Setup, "Set-up"), (JudgeTab::Results, "Results")] {
                    let response = ui.selectable_label(tab == shown, name);
                    if view.takes_focus && tab == shown {
                        response.request_focus();
                        actions.push(Action::FocusTaken);
                    }
                    if response.clicked() {
                        actions.push(Action::Judge(JudgeAction::Show(tab)));
                    }
                }
            });
        });
        ui.separator();
        actions.extend(match view.job {
            Some(job) => stop_ui(ui, job, view.now),
            None => start_ui(ui, view),
        });
    });
    actions
}

fn start_ui(ui: &mut Ui, view: &JudgeView<'_>) -> Option<Action> {
    let missing = view.judging.form.missing();
    let start = ui.add_enabled_ui(missing.is_none(), |ui| primary_button(ui, "Judge answers"));
    let is_clicked = start.inner.clicked();
    if let Some(missing) = missing {
        weak(ui, missing);
    }
    is_clicked.then_some(Action::Judge(JudgeAction::Start))
}

/// How far the job is, and the choice to end it.
fn stop_ui(ui: &mut Ui, job: &Job, now: f64) -> Option<Action> {
    let text = if job.is_cancelling { "Stopping…" } else { "Stop" };
    let stop = ui.add_enabled(!job.is_cancelling, Button::new(text));
    if let Some(share) = job.fraction() {
        let bar = ProgressBar::new(share).desired_width(30.0 * GRID).desired_height(GRID);
        let bar = bar.fill(Tokens::of(ui.visuals()).accent);
        let name = "Judging answers";
        ui.add(bar).widget_info(|| WidgetInfo::labeled(Role::ProgressIndicator, true, name));
    }
    let left = job.secs_left(now).map(|secs| format!(" {} left", clock(secs)));
    weak(ui, format!("{}{}", job.doing(), left.unwrap_or_default()));
    stop.clicked().then_some(Action::CancelJob(job.id))
}
