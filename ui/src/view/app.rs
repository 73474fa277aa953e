use egui::{
    Button, CentralPanel, Frame, Margin, Panel as SidePanel, Role, ThemePreference, Ui, WidgetInfo,
};

use super::bars::{ModelBarView, StatusView, menu_bar_ui, model_bar_ui, status_bar_ui};
use super::chat_panel::{ChatView, chat_ui};
use super::data_panel::{DataView, data_ui};
use super::design_tokens::{GRID, Tokens};
use super::details_panel::{DetailsView, details_ui};
use super::dialogs::{DialogView, dialog_ui};
use super::judge_panel::{JudgeView, judge_ui};
use super::knobs_panel::{KnobsView, knobs_ui};
use super::library_panel::{LibraryView, library_ui};
use super::notices::notices_ui;
use super::sweep_panel::{SweepView, sweep_ui};
use super::train_panel::{TrainView, train_ui};
use super::vectors_panel::{VectorsView, vectors_ui};
use crate::action::Action;
use crate::command::UiCommand;
use crate::model::Model;
use crate::settings::{Panel, Screen, Theme};

/// Points that the chat keeps in any case.
const LEAST_CHAT_WIDTH: f32 = 280.0;

/// Points that the chat keeps before a second side panel gets any.
const CHAT_WIDTH: f32 = 440.0;

/// Shows the window and gives back what the user did.
#[must_use]
pub fn app_ui(ui: &mut Ui, model: &Model) -> Vec<Action> {
    follow_settings(ui, model);
    let now = ui.input(|input| input.time);
    let mut actions = shortcuts(ui, model);
    bar(ui, SidePanel::top("menu")).show(ui, |ui| {
        actions.extend(menu_bar_ui(ui, &model.settings));
    });
    bar(ui, SidePanel::top("model")).show(ui, |ui| {
        actions.extend(model_bar_ui(ui, &ModelBarView::from(model)));
    });
    bar(ui, SidePanel::bottom("status")).show(ui, |ui| {
        actions.extend(status_bar_ui(ui, &StatusView::new(model, now)));
    });
    actions.extend(side_panels_ui(ui, model));
    let tokens = Tokens::of(ui.visuals());
    let frame = Frame::new()
        .fill(tokens.ground)
        .inner_margin(Margin::symmetric(4 * GRID as i8, 2 * GRID as i8));
    CentralPanel::default().frame(frame).show(ui, |ui| {
        actions.extend(screens_ui(ui, model.settings.screen));
        match model.settings.screen {
            Screen::Chat => actions.extend(chat_ui(ui, &ChatView::new(model, now))),
            Screen::Vectors => actions.extend(vectors_ui(ui, &VectorsView::from(model))),
            Screen::Sweep => actions.extend(sweep_ui(ui, &SweepView::new(model, now))),
            Screen::Train => actions.extend(train_ui(ui, &TrainView::new(model, now))),
            Screen::Data => actions.extend(data_ui(ui, &DataView::new(model, now))),
            Screen::Judge => actions.extend(judge_ui(ui, &JudgeView::new(model, now))),
        }
    });
    actions.extend(notices_ui(ui, model.notices.shown()));
    if let Some(view) = DialogView::new(model) {
        actions.extend(dialog_ui(ui, &view));
    }
    actions
}

/// What the middle of the window can show.
fn screens_ui(ui: &mut Ui, shown: Screen) -> Vec<Action> {
    let mut actions = Vec::new();
    ui.horizontal(|ui| {
        ui.spacing_mut().item_spacing.x = GRID;
        for (screen, name, command) in [
            (Screen::Chat, "Chat", UiCommand::ShowChat),
            (Screen::Vectors, "Vectors", UiCommand::ShowVectors),
            (Screen::Sweep, "Sweep", UiCommand::ShowSweep),
            (Screen::Train, "Train", UiCommand::ShowTrain),
            (Screen::Data, "Data", UiCommand::ShowData),
            (Screen::Judge, "Judge", UiCommand::ShowJudge),
        ] {
            let is_shown = screen == shown;
            let response = ui.add(Button::selectable(is_shown, name));
            response.widget_info(|| WidgetInfo::selected(Role::Tab, true, is_shown, name));
            let keys = command.keys().unwrap_or_default();
            let tip = format!("{} ({keys})", command.tooltip());
            if response.on_hover_text(tip).clicked() {
                actions.push(Action::Command(command));
            }
        }
    });
    ui.separator();
    actions
}

/// A bar across the window.
fn bar(ui: &Ui, panel: SidePanel) -> SidePanel {
    let margin = Margin::symmetric(2 * GRID as i8, GRID as i8);
    let frame = Frame::new().fill(Tokens::of(ui.visuals()).panel).inner_margin(margin);
    panel.resizable(false).frame(frame).show_separator_line(true)
}

/// Theme and size are egui's: they are set where they are not what the settings say.
fn follow_settings(ui: &Ui, model: &Model) {
    let theme = match model.settings.theme {
        Theme::System => ThemePreference::System,
        Theme::Light => ThemePreference::Light,
        Theme::Dark => ThemePreference::Dark,
    };
    let ctx = ui.ctx();
    if ctx.options(|options| options.theme_preference) != theme {
        ctx.set_theme(theme);
    }
    if (ctx.zoom_factor() - model.settings.text_scale).abs() > 0.001 {
        ctx.set_zoom_factor(model.settings.text_scale);
    }
}

/// The commands whose keys were pressed. Those with more keys go first: Ctrl+O is part of
/// Ctrl+Shift+O. A dialog takes the keyboard for itself.
fn shortcuts(ui: &Ui, model: &Model) -> Vec<Action> {
    if model.dialog.is_some() {
        return Vec::new();
    }
    let mut commands: Vec<_> = UiCommand::ALL
        .into_iter()
        .filter_map(|command| Some((command, command.shortcut()?)))
        .collect();
    commands.sort_by_key(|(_, shortcut)| !shortcut.modifiers.shift);
    ui.input_mut(|input| {
        commands
            .into_iter()
            .filter(|(_, shortcut)| input.consume_shortcut(shortcut))
            .map(|(command, _)| Action::Command(command))
            .collect()
    })
}

/// The side panels that are wanted and fit beside the chat; where not all do, those that were
/// asked for last.
fn side_panels_ui(ui: &mut Ui, model: &Model) -> Vec<Action> {
    let mut actions = Vec::new();
    let shown = fitting_panels(model, ui.available_width());
    if shown != model.shown_panels {
        actions.push(Action::PanelsShown(shown.clone()));
    }
    let margin = Margin::symmetric(3 * GRID as i8, 2 * GRID as i8);
    let frame = Frame::new().fill(Tokens::of(ui.visuals()).panel).inner_margin(margin);
    let room = (ui.available_width() - LEAST_CHAT_WIDTH).max(180.0);
    let panel = |panel: SidePanel, width: f32| {
        let width = width.min(room);
        panel
            .default_size(width)
            .size_range(width.min(200.0)..=width.max(360.0).min(room))
            .frame(frame)
    };
    if shown.contains(&Panel::Knobs) {
        panel(SidePanel::left("knobs"), panel_width(Panel::Knobs))
            .show(ui, |ui| actions.extend(knobs_ui(ui, &KnobsView::from(model))));
    }
    if shown.contains(&Panel::Chats) {
        panel(SidePanel::left("chats"), panel_width(Panel::Chats))
            .show(ui, |ui| actions.extend(library_ui(ui, &LibraryView::from(model))));
    }
    if shown.contains(&Panel::Details) {
        panel(SidePanel::right("details"), panel_width(Panel::Details))
            .show(ui, |ui| actions.extend(details_ui(ui, &DetailsView::from(model))));
    }
    actions
}

fn panel_width(panel: Panel) -> f32 {
    match panel {
        Panel::Knobs => 268.0,
        Panel::Chats => 200.0,
        Panel::Details => 248.0,
    }
}

fn fitting_panels(model: &Model, width: f32) -> Vec<Panel> {
    let wanted = model.settings.panels.wanted();
    let mut left = width - CHAT_WIDTH;
    let mut shown = Vec::new();
    for panel in model.panel_order.iter().rev().filter(|panel| wanted.contains(panel)) {
        // The one asked for last is shown in any case.
        if shown.is_empty() || panel_width(*panel) <= left {
            left -= panel_width(*panel);
            shown.push(*panel);
        }
    }
    shown
}
