use egui::{Button, RichText, Ui};
use egui_material_icons::icons as symbols;
use meav_protocol::{Dtype, EngineChoice, FileKind};

use super::design_tokens::{GRID, ICON, Tokens};
use super::parts::{
    bytes, choice_text, clock, command_ui, icon_button, named, one_line, recipe_text,
    symbol_button, weak,
};
use crate::action::Action;
use crate::command::{Menu, UiCommand};
use crate::model::{EngineState, Job, Model, Weights};
use crate::settings::{Recent, Screen, Settings, Theme};

/// The menus, made from the list of commands.
#[must_use]
pub(super) fn menu_bar_ui(ui: &mut Ui, settings: &Settings) -> Vec<Action> {
    let mut actions = Vec::new();
    egui::MenuBar::new().ui(ui, |ui| {
        for menu in Menu::ALL {
            ui.menu_button(menu.title(), |ui| {
                for command in UiCommand::ALL.into_iter().filter(|it| it.menu() == menu) {
                    if command_ui(ui, command, is_on(command, settings), 0.0).clicked() {
                        actions.push(Action::Command(command));
                        ui.close();
                    }
                    if command == UiCommand::AddVector {
                        actions.extend(recent_ui(ui, &settings.recent));
                    }
                }
            });
        }
    });
    actions
}

/// Whether the settings are as the command would make them.
fn is_on(command: UiCommand, settings: &Settings) -> bool {
    match command {
        UiCommand::ShowChat => settings.screen == Screen::Chat,
        UiCommand::ShowVectors => settings.screen == Screen::Vectors,
        UiCommand::ShowSweep => settings.screen == Screen::Sweep,
        UiCommand::ShowTrain => settings.screen == Screen::Train,
        UiCommand::ShowData => settings.screen == Screen::Data,
        UiCommand::ShowJudge => settings.screen == Screen::Judge,
        UiCommand::ToggleKnobs => settings.panels.knobs,
        UiCommand::ToggleChats => settings.panels.chats,
        UiCommand::ToggleDetails => settings.panels.details,
        UiCommand::ThemeSystem => settings.theme == Theme::System,
        UiCommand::ThemeLight => settings.theme == Theme::Light,
        UiCommand::ThemeDark => settings.theme == Theme::Dark,
        _ => false,
    }
}

fn recent_ui(ui: &mut Ui, recent: &[Recent]) -> Vec<Action> {
    let mut actions = Vec::new();
    ui.menu_button(format!("{}  Open recent", symbols::ICON_HISTORY.codepoint), |ui| {
        if recent.is_empty() {
            weak(ui, "Nothing yet");
        }
        for entry in recent {
            let (word, action) = reopening(entry);
            let name = format!("{} ({word})", crate::model::file_name(&entry.path));
            let tip = entry.path.display().to_string();
            if ui.button(name).on_hover_text(tip).clicked() {
                actions.push(action);
                ui.close();
            }
        }
    });
    actions
}

/// What something that was opened is called, and how it is opened again.
fn reopening(entry: &Recent) -> (&'static str, Action) {
    let path = entry.path.clone();
    if entry.is_model {
        ("model", Action::Open(path, FileKind::Model))
    } else if entry.is_data() {
        ("data", Action::Open(path, FileKind::Data))
    } else if entry.is_recipe() {
        ("recipe", Action::OpenPaths(vec![path]))
    } else {
        ("vector", Action::Open(path, FileKind::Vector))
    }
}

/// What the model bar shows.
pub(super) struct ModelBarView<'a> {
    weights: &'a Weights,
    engine: &'a EngineState,
    recent: &'a [Recent],
}

impl<'a> From<&'a Model> for ModelBarView<'a> {
    fn from(model: &'a Model) -> Self {
        Self { weights: &model.weights, engine: &model.engine, recent: &model.settings.recent }
    }
}

/// Which model, what it runs on, what it takes, and the recipe in force.
#[must_use]
pub(super) fn model_bar_ui(ui: &mut Ui, view: &ModelBarView<'_>) -> Vec<Action> {
    let mut actions = Vec::new();
    ui.horizontal(|ui| {
        actions.extend(model_menu_ui(ui, view));
        actions.extend(dtype_ui(ui, view.weights.dtype));
        ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
            let palette = UiCommand::Palette;
            if symbol_button(ui, palette.icon(), palette.text()).clicked() {
                actions.push(Action::Command(palette));
            }
            ui.with_layout(egui::Layout::left_to_right(egui::Align::Center), |ui| {
                if let Some(loaded) = &view.weights.held {
                    let tip = format!("The recipe in force: {}", loaded.recipe);
                    one_line(ui, recipe_text(ui, &loaded.recipe)).on_hover_text(tip);
                }
                // Where the recipe has taken the room, the device is left out.
                let has_room = ui.available_width() > 20.0 * GRID;
                if let Some(text) = device_text(view).filter(|_| has_room) {
                    if view.weights.held.is_some() {
                        ui.separator();
                    }
                    actions.extend(device_ui(ui, &text));
                }
            });
        });
    });
    actions
}

fn model_menu_ui(ui: &mut Ui, view: &ModelBarView<'_>) -> Vec<Action> {
    let mut actions = Vec::new();
    let name = match &view.weights.held {
        Some(loaded) => loaded.name.clone(),
        None => crate::model::file_name(&view.weights.model),
    };
    let face = format!("{}  {name}", symbols::ICON_EXPAND_MORE.codepoint);
    let menu = ui.menu_button(RichText::new(face).strong(), |ui| {
        if ui.button("Demo model").clicked() {
            actions.push(Action::Open("demo".into(), FileKind::Model));
            ui.close();
        }
        for entry in view.recent.iter().filter(|entry| entry.is_model) {
            let tip = entry.path.display().to_string();
            if ui.button(crate::model::file_name(&entry.path)).on_hover_text(tip).clicked() {
                actions.push(Action::Open(entry.path.clone(), FileKind::Model));
                ui.close();
            }
        }
        ui.separator();
        for command in [UiCommand::OpenModel, UiCommand::OpenRecipe, UiCommand::MemoryPlan] {
            if ui.button(command.text()).clicked() {
                actions.push(Action::Command(command));
                ui.close();
            }
        }
    });
    let tip = match &view.weights.held {
        Some(loaded) => format!(
            "{:.0} million parameters in {} layers, family {}, context of {} tokens\n{}",
            loaded.parameters as f64 / 1e6,
            loaded.layers,
            loaded.family,
            loaded.context,
            loaded.path.display()
        ),
        None => "No model is loaded".to_owned(),
    };
    named(menu.response, &format!("Model {name}")).on_hover_text(tip);
    actions
}

fn dtype_ui(ui: &mut Ui, dtype: Dtype) -> Vec<Action> {
    let mut actions = Vec::new();
    let choices = [
        (Dtype::Bf16, "half the memory, about twice the speed"),
        (Dtype::F32, "every bit of the merge"),
    ];
    let menu = ui.menu_button(dtype.to_string(), |ui| {
        for (choice, why) in choices {
            if ui.selectable_label(choice == dtype, format!("{choice}: {why}")).clicked() {
                actions.push(Action::SetDtype(choice));
                ui.close();
            }
        }
    });
    named(menu.response, &format!("Weights in {dtype}"));
    actions
}

/// What the model runs on and what it takes; pressing it shows the plan of the memory.
fn device_ui(ui: &mut Ui, text: &str) -> Option<Action> {
    let color = Tokens::of(ui.visuals()).weak;
    let face = RichText::new(text).small().color(color);
    let response = ui.add(Button::new(face).frame_when_inactive(false).truncate());
    let is_clicked = response.on_hover_text(UiCommand::MemoryPlan.tooltip()).clicked();
    is_clicked.then_some(Action::Command(UiCommand::MemoryPlan))
}

fn device_text(view: &ModelBarView<'_>) -> Option<String> {
    let EngineState::Running { device, .. } = view.engine else { return None };
    let held = view.weights.held.as_ref();
    // A model that a GPU has no room for runs on the processor.
    let device = held.map_or(device, |loaded| &loaded.device);
    let memory = held.and_then(|loaded| loaded.memory);
    let memory = memory.map(|memory| {
        format!(" · {:.1}/{} memory", memory.used_bytes as f64 / 1e9, bytes(memory.total_bytes))
    });
    Some(format!("{device}{}", memory.unwrap_or_default()))
}

/// What the status bar shows.
pub(super) struct StatusView<'a> {
    jobs: Vec<&'a Job>,
    engine: &'a EngineState,
    choice: Option<&'a EngineChoice>,
    /// The figures of the last answer.
    last: Option<&'a meav_protocol::ReplyFigures>,
    now: f64,
}

impl<'a> StatusView<'a> {
    pub(crate) fn new(model: &'a Model, now: f64) -> Self {
        let branch = model.conversation.branch();
        Self {
            jobs: model.jobs.iter().filter(|job| job.is_noticeable(now)).collect(),
            engine: &model.engine,
            choice: model.engine_choice.as_ref(),
            last: branch.iter().rev().find_map(|message| message.figures.as_ref()),
            now,
        }
    }
}

/// The jobs that run, with progress, time left and a way to end them; the engine.
#[must_use]
pub(super) fn status_bar_ui(ui: &mut Ui, view: &StatusView<'_>) -> Vec<Action> {
    let mut actions = Vec::new();
    ui.horizontal(|ui| {
        ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
            engine_ui(ui, view.engine, view.choice);
            if let Some(figures) = view.last {
                ui.separator();
                weak(
                    ui,
                    format!(
                        "{:.0} tok/s · first token {:.0} ms",
                        figures.tokens_per_sec,
                        figures.first_token_secs * 1e3
                    ),
                );
            }
            ui.with_layout(egui::Layout::left_to_right(egui::Align::Center), |ui| {
                for job in &view.jobs {
                    actions.extend(job_ui(ui, job, view.now));
                }
                if view.jobs.is_empty() {
                    weak(ui, "Ready");
                }
            });
        });
    });
    actions
}

fn job_ui(ui: &mut Ui, job: &Job, now: f64) -> Option<Action> {
    let name = job.title().unwrap_or_default();
    let text = match (job.is_cancelling, job.fraction(), job.secs_left(now)) {
        (true, ..) => format!("{name} · stopping"),
        _ if job.is_getting_ready() && !job.is_paused => format!("{name} · {}", job.doing()),
        (_, Some(share), Some(secs)) => {
            format!("{name} {:.0} % · {} left", share * 100.0, clock(secs))
        }
        (_, Some(share), None) if share < 1.0 => format!("{name} {:.0} %", share * 100.0),
        _ => name.to_owned(),
    };
    weak(ui, text);
    if let Some(share) = job.fraction().filter(|share| *share < 1.0) {
        let bar = egui::ProgressBar::new(share).desired_width(20.0 * GRID).desired_height(GRID);
        let bar = bar.fill(Tokens::of(ui.visuals()).accent);
        ui.add(bar)
            .widget_info(|| egui::WidgetInfo::labeled(egui::Role::ProgressIndicator, true, name));
    }
    let is_clicked = icon_button(ui, symbols::ICON_CLOSE, &format!("Cancel: {name}")).clicked();
    is_clicked.then_some(Action::CancelJob(job.id))
}

fn engine_ui(ui: &mut Ui, engine: &EngineState, choice: Option<&EngineChoice>) {
    let tokens = Tokens::of(ui.visuals());
    let (icon, color, text, tip) = match engine {
        EngineState::Starting => {
            (symbols::ICON_HOURGLASS_TOP, tokens.weak, "Engine starting", String::new())
        }
        EngineState::Running { version, device, log } => {
            let log = log.as_ref().map(|log| format!("\nLog: {}", log.display()));
            let choice = choice.map(|choice| format!("\n{}", choice_text(choice)));
            let tip = [choice, log].map(Option::unwrap_or_default).concat();
            let tip = format!("Version {version} on {device}{tip}");
            (symbols::ICON_CHECK_CIRCLE, tokens.good, "Engine ready", tip)
        }
        EngineState::Lost { reason } => {
            (symbols::ICON_ERROR, tokens.error, "Engine stopped", format!("It stopped: {reason}"))
        }
    };
    ui.label(RichText::new(text).small().color(color)).on_hover_text(tip);
    let symbol = ui.label(RichText::new(icon.codepoint).size(ICON).color(color));
    symbol.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Label, true, "Engine"));
}
