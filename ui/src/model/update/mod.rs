mod chat;
mod data;
mod dialog;
mod form;
mod judge;
mod library;
mod plan;
mod recipe;
mod sweep;
mod train;
mod train_events;
mod train_vector;
mod vectors;

pub(crate) use sweep::file_label;

use meav_protocol::{
    Dtype, FileKind, JobSpec, LoadedModel, Outcome, RecipeStamp, Remedy, UserError,
};

use super::jobs::Purpose;
use super::{COEFFICIENT_LIMIT, Dialog, Focus, Model};
use crate::action::{Action, ChatAction, KnobAction, KnobId, PathPurpose};
use crate::command::UiCommand;
use crate::effect::Effect;
use crate::settings::{Panel, Screen, Theme};
use crate::train_action::TrainAction;

/// The sizes that text can have.
const TEXT_SCALES: std::ops::RangeInclusive<f32> = 0.6..=2.0;

/// The nearest tenth within that range; `None` for what is no number.
pub(super) fn legible(scale: f32) -> Option<f32> {
    let tenths = (scale * 10.0).round() / 10.0;
    scale.is_finite().then(|| tenths.clamp(*TEXT_SCALES.start(), *TEXT_SCALES.end()))
}

impl Model {
    /// Does what the user asked for; gives back what the host has to do for it.
    pub fn update(&mut self, action: Action, now: f64) -> Vec<Effect> {
        let mut effects = self.act(action, now);
        effects.extend(self.follow_knobs(now));
        effects.extend(self.follow_demo_data(now));
        effects
    }

    fn act(&mut self, action: Action, now: f64) -> Vec<Effect> {
        match action {
            Action::Command(command) => return self.command(command, now),
            Action::Knob(id, action) => return self.knob(id, action, now),
            Action::Chat(action) => return self.chat(action, now),
            Action::Library(action) => return self.library(action, now),
            Action::Vectors(action) => return self.vectors(action, now),
            Action::Sweep(action) => return self.sweep(action, now),
            Action::Train(action) => return self.train(action, now),
            Action::Data(action) => return self.data(action, now),
            Action::Judge(action) => return self.judge(action, now),
            Action::Dialog(action) => return self.dialog(action, now),
            Action::OpenPaths(paths) => return self.open_paths(paths, now),
            Action::Open(path, FileKind::Data) => return self.open_data(path, now),
            Action::Open(path, kind) => return vec![self.open(path, Some(kind), now)],
            Action::Picked(purpose, paths) => return self.picked(purpose, paths, now),
            Action::Undo(notice) => return self.undo(notice, now),
            Action::ShowAgain(notice) => self.show_again(notice),
            Action::CloseRequested => return self.close(now),
            Action::CancelJob(id) => return self.jobs.cancel(id).into_iter().collect(),
            Action::Copy(text) => return vec![Effect::Copy(text)],
            Action::FetchDemo => return self.fetch_demo(now).into_iter().collect(),
            Action::EngineUnavailable(id, reason) => {
                let err = UserError::new(
                    format!("The engine takes no requests: {reason}"),
                    "Try again; if that does not help, restart MEAV Studio",
                );
                return self.end_job(id, &Outcome::Failed(err), now);
            }
            Action::ShowWindow => {
                self.is_hidden = false;
                return vec![Effect::ShowWindow];
            }
            Action::Flip(slot) => self.weights.slot = slot,
            Action::ApplyPreset(preset) => self.weights.apply_preset(&preset),
            Action::DeletePreset(index) => {
                if index < self.settings.presets.len() {
                    self.settings.presets.remove(index);
                }
            }
            Action::ApplyRecipe(recipe) => self.apply_recipe(&recipe, now),
            Action::Retry => self.weights.retry(),
            Action::SetDtype(dtype) => self.set_dtype(dtype),
            Action::SetMethod(method) => self.weights.set_method(method),
            Action::NewSeed => self.weights.new_seed(),
            Action::Dismiss(notice) => {
                self.notices.take(notice);
            }
            Action::SetTheme(theme) => self.settings.theme = theme,
            Action::SetTextScale(scale) => self.set_text_scale(scale),
            Action::SetDevice(device) => {
                self.settings.device = device;
                return vec![Effect::UseDevice(device)];
            }
            Action::SetSendKey(key) => self.settings.send_key = key,
            Action::SetNotifications(is_on) => self.settings.notifications = is_on,
            Action::HostFailed(err) => self.notices.error(err),
            Action::Focused(is_focused) => self.is_focused = is_focused,
            Action::PanelsShown(panels) => self.shown_panels = panels,
            Action::FocusTaken => self.focus = None,
        }
        Vec::new()
    }

    /// Brings the demo model, once.
    fn fetch_demo(&mut self, now: f64) -> Option<Effect> {
        let is_coming = self.jobs.iter().any(|job| job.purpose == Purpose::FetchDemo);
        (!is_coming).then(|| self.start(Purpose::FetchDemo, JobSpec::FetchDemo, now))
    }

    fn command(&mut self, command: UiCommand, now: f64) -> Vec<Effect> {
        match command {
            UiCommand::NewChat => {
                self.conversation.begin();
                self.show_screen(Screen::Chat);
                return self.call_off_loads();
            }
            UiCommand::OpenModel => self.ask_path(PathPurpose::OpenModel, ""),
            UiCommand::OpenRecipe => self.ask_path(PathPurpose::OpenRecipe, ""),
            UiCommand::SaveRecipe => self.ask_recipe_path(),
            UiCommand::MemoryPlan => return self.plan_memory(now),
            UiCommand::AddVector => self.ask_path(PathPurpose::AddVector, ""),
            UiCommand::ExportChat => self.ask_chat_path(self.conversation.chat.id, now),
            UiCommand::ExportMerged => self.ask_export(PathPurpose::ExportMerged, "merged-model"),
            UiCommand::ExportAudit => self.ask_export(PathPurpose::ExportAudit, "meav-audit.csv"),
            UiCommand::Settings => self.dialog = Some(Dialog::Settings),
            UiCommand::About => self.dialog = Some(Dialog::About),
            UiCommand::Palette => self.dialog = Some(Dialog::Palette { text: String::new() }),
            UiCommand::SavePreset => {
                self.dialog = Some(Dialog::PresetName { text: String::new() });
            }
            UiCommand::Quit => return self.close(now),
            UiCommand::Guide => return vec![Effect::OpenGuide],
            UiCommand::Base => self.weights.reset(),
            UiCommand::FlipSlots => self.weights.slot = self.weights.slot.other(),
            UiCommand::CopySlot => self.copy_slot(now),
            UiCommand::StopAnswer => return self.chat(ChatAction::Stop, now),
            UiCommand::Regenerate => {
                self.settings.screen = Screen::Chat;
                return self.regenerate_last(now);
            }
            UiCommand::EditLast => {
                if let Some(id) = self.conversation.last_question().map(|question| question.id) {
                    self.settings.screen = Screen::Chat;
                    self.conversation.reveal = Some(id);
                    return self.chat(ChatAction::BeginEdit(id), now);
                }
            }
            UiCommand::UndoDelete => return self.undo_last(now),
            UiCommand::FocusComposer | UiCommand::ShowChat => self.show_screen(Screen::Chat),
            UiCommand::ShowVectors => self.show_screen(Screen::Vectors),
            UiCommand::ShowSweep => return self.show_sweep(now),
            UiCommand::ShowTrain => return self.show_train(now),
            UiCommand::StartTraining => return self.start_training(now),
            UiCommand::PauseTraining => return self.training_by_command(TrainAction::Pause, now),
            UiCommand::GoOnTraining => return self.training_by_command(TrainAction::GoOn, now),
            UiCommand::WrapUpTraining => return self.training_by_command(TrainAction::WrapUp, now),
            UiCommand::CancelTraining => return self.training_by_command(TrainAction::Cancel, now),
            UiCommand::ShowData => self.show_screen(Screen::Data),
            UiCommand::ShowJudge => self.show_screen(Screen::Judge),
            UiCommand::OpenData => self.ask_data_path(),
            UiCommand::SplitData => self.ask_split(now),
            UiCommand::FindLeakage => self.ask_training_data(now),
            UiCommand::StartJudging => return self.judge_by_command(now),
            UiCommand::ExportJudgement => self.ask_judgement_path("csv", now),
            UiCommand::ImportAdapter => self.ask_import(),
            UiCommand::ExtractVector => self.ask_extract(),
            UiCommand::CompressVector => self.ask_compress(now),
            UiCommand::SeparateVector => self.ask_separate(now),
            UiCommand::CompareVectors => return self.compare(now),
            UiCommand::ExportComparison => self.ask_comparison_path("csv", now),
            UiCommand::FocusKnobs => self.reveal_panel(Panel::Knobs, Focus::Knobs),
            UiCommand::SearchChats => self.reveal_panel(Panel::Chats, Focus::Search),
            UiCommand::ToggleKnobs => self.toggle(Panel::Knobs),
            UiCommand::ToggleChats => self.toggle(Panel::Chats),
            UiCommand::ToggleDetails => self.toggle(Panel::Details),
            UiCommand::ThemeSystem => self.settings.theme = Theme::System,
            UiCommand::ThemeLight => self.settings.theme = Theme::Light,
            UiCommand::ThemeDark => self.settings.theme = Theme::Dark,
            UiCommand::ZoomIn => self.set_text_scale(self.settings.text_scale + 0.1),
            UiCommand::ZoomOut => self.set_text_scale(self.settings.text_scale - 0.1),
            UiCommand::ZoomReset => self.set_text_scale(1.0),
        }
        Vec::new()
    }

    /// Shows a screen, and has the keyboard go on there.
    pub(super) fn show_screen(&mut self, screen: Screen) {
        self.settings.screen = screen;
        self.focus = Some(Focus::of(screen));
    }

    fn set_text_scale(&mut self, scale: f32) {
        if let Some(scale) = legible(scale) {
            self.settings.text_scale = scale;
        }
    }

    /// Sets the knobs to an answer's recipe, and says what of it can't be had here.
    fn apply_recipe(&mut self, recipe: &RecipeStamp, now: f64) {
        self.weights.apply_recipe(recipe);
        let is_other = |held: &LoadedModel| held.recipe.base != recipe.base;
        if self.weights.held.as_ref().is_some_and(is_other) {
            let text = format!("That answer came from {}; this is another model", recipe.model);
            self.notices.info(text, now);
        }
        for term in &recipe.vectors {
            self.tell_if_beyond(&term.domain, term.coefficient, now);
        }
    }

    /// Says that a recipe has a λ that no knob can be set to.
    fn tell_if_beyond(&mut self, name: &str, coefficient: f64, now: f64) {
        if coefficient.abs() > COEFFICIENT_LIMIT {
            let text = format!("λ of {name} was {coefficient}, further than knobs turn");
            self.notices.info(text, now);
        }
    }

    /// Rounds the weights to another type; what failed for want of it is tried again.
    fn set_dtype(&mut self, dtype: Dtype) {
        self.weights.dtype = dtype;
        let is_remedied = |err: &UserError| matches!(err.remedy, Some(Remedy::UseDtype(_)));
        if self.weights.error.as_ref().is_some_and(is_remedied) {
            self.weights.retry();
        }
        self.conversation.error.take_if(|(_, err)| is_remedied(err));
        if let Some(Dialog::Path(dialog)) = &mut self.dialog {
            dialog.error.take_if(|err| is_remedied(err));
        }
    }

    fn copy_slot(&mut self, now: f64) {
        self.weights.copy_slot();
        let (from, to) = (self.weights.slot.name(), self.weights.slot.other().name());
        self.notices.info(format!("{to} is now the same as {from}"), now);
    }

    /// A panel that is wanted but found no room comes before the others.
    fn toggle(&mut self, panel: Panel) {
        let is_seen = self.shown_panels.contains(&panel);
        *self.panel_mut(panel) = !is_seen;
        if is_seen {
            self.shown_panels.retain(|other| *other != panel);
        } else {
            self.bring_to_front(panel);
            self.shown_panels.push(panel);
        }
    }

    fn reveal_panel(&mut self, panel: Panel, focus: Focus) {
        *self.panel_mut(panel) = true;
        self.bring_to_front(panel);
        self.focus = Some(focus);
    }

    fn bring_to_front(&mut self, panel: Panel) {
        self.panel_order.retain(|other| *other != panel);
        self.panel_order.push(panel);
    }

    fn panel_mut(&mut self, panel: Panel) -> &mut bool {
        match panel {
            Panel::Knobs => &mut self.settings.panels.knobs,
            Panel::Chats => &mut self.settings.panels.chats,
            Panel::Details => &mut self.settings.panels.details,
        }
    }

    fn knob(&mut self, id: KnobId, action: KnobAction, now: f64) -> Vec<Effect> {
        match action {
            KnobAction::Set(coefficient) => self.weights.set(id, coefficient),
            KnobAction::SetBypassed(is_bypassed) => self.weights.set_bypassed(id, is_bypassed),
            KnobAction::Remove => {
                self.weights.remove(id);
                return self.describe_selected(now).into_iter().collect();
            }
            KnobAction::Move(by) => self.weights.shift(id, by),
            KnobAction::Select => {
                self.weights.selected = Some(id);
                return self.describe_selected(now).into_iter().collect();
            }
            KnobAction::Retry => {
                if let Some(knob) = self.weights.knob_mut(id) {
                    knob.fault = None;
                }
            }
            KnobAction::EditScope => self.ask_scope(id),
            KnobAction::AskCalibration => self.ask_calibration(id),
        }
        Vec::new()
    }

    /// Asks what the selected vector is, if that is not known yet.
    pub(super) fn describe_selected(&mut self, now: f64) -> Option<Effect> {
        let id = self.weights.selected?;
        let knob = self.weights.knob(id)?;
        let is_known = matches!(self.details.described.get(&id), Some(Ok(_)));
        if is_known || knob.fault.is_some() {
            return None;
        }
        let path = knob.file.clone();
        Some(self.start(Purpose::Describe(id), JobSpec::Describe { path }, now))
    }

    pub(super) fn close(&mut self, now: f64) -> Vec<Effect> {
        if self.jobs.has_long() {
            self.dialog = Some(Dialog::Close);
            return Vec::new();
        }
        self.collect_settings();
        vec![self.keep_settings(now), Effect::Quit]
    }

    /// Ends what was started, as though the engine had said so.
    fn end_job(&mut self, id: meav_protocol::JobId, outcome: &Outcome, now: f64) -> Vec<Effect> {
        let event = meav_protocol::Event::Finished { job_id: id, outcome: outcome.clone() };
        self.apply(event, now)
    }
}
