use egui::Ui;
use egui_material_icons::icons as symbols;
use meav_protocol::DeviceChoice;

use super::design_tokens::GRID;
use super::dialogs::done_ui;
use super::parts::{group_ui, icon_button, weak};
use crate::action::Action;
use crate::settings::{SendKey, Settings, Theme};

/// What is kept from one start to the next, and is not set elsewhere.
pub(super) fn settings_ui(ui: &mut Ui, settings: &Settings) -> Vec<Action> {
    let mut actions = Vec::new();
    ui.heading("Settings");
    ui.add_space(2.0 * GRID);
    egui::Grid::new("settings").num_columns(2).spacing([6.0 * GRID, 2.0 * GRID]).show(ui, |ui| {
        ui.label("Theme");
        group_ui(ui, "Theme", |ui| {
            for (theme, name) in
                [(Theme::System, "System"), (Theme::Light, "Light"), (Theme::Dark, "Dark")]
            {
                if ui.selectable_label(settings.theme == theme, name).clicked() {
                    actions.push(Action::SetTheme(theme));
                }
            }
        });
        ui.end_row();
        ui.label("Size of everything");
        ui.horizontal(|ui| actions.extend(size_ui(ui, settings.text_scale)));
        ui.end_row();
        ui.label("Send a message with");
        group_ui(ui, "Send a message with", |ui| {
            for (key, name) in [(SendKey::Enter, "Enter"), (SendKey::CtrlEnter, "Ctrl+Enter")] {
                if ui.selectable_label(settings.send_key == key, name).clicked() {
                    actions.push(Action::SetSendKey(key));
                }
            }
        });
        ui.end_row();
        ui.label("Compute on");
        device_ui(ui, settings.device, &mut actions);
        ui.end_row();
        ui.label("Notifications");
        let mut is_on = settings.notifications;
        if ui.checkbox(&mut is_on, "when a long job ends behind my back").changed() {
            actions.push(Action::SetNotifications(is_on));
        }
        ui.end_row();
    });
    actions.extend(done_ui(ui));
    actions
}

fn device_ui(ui: &mut Ui, device: DeviceChoice, actions: &mut Vec<Action>) {
    let is_gpu = matches!(device, DeviceChoice::Cuda(_));
    group_ui(ui, "Compute on", |ui| {
        for (choice, name, is_chosen, tip) in [
            (
                DeviceChoice::Auto,
                "Auto",
                device == DeviceChoice::Auto,
                "The GPU with the most free memory if one can be used, else the CPU",
            ),
            (DeviceChoice::Cpu, "CPU", device == DeviceChoice::Cpu, "No GPU is looked for"),
            (DeviceChoice::Cuda(None), "GPU", is_gpu, "Nothing runs where no GPU can be used"),
        ] {
            let response = ui.selectable_label(is_chosen, name).on_hover_text(tip);
            if response.clicked() && !is_chosen {
                actions.push(Action::SetDevice(choice));
            }
        }
        weak(ui, "when the engine starts next");
    });
}

fn size_ui(ui: &mut Ui, scale: f32) -> Vec<Action> {
    let mut actions = Vec::new();
    if icon_button(ui, symbols::ICON_REMOVE, "Smaller").clicked() {
        actions.push(Action::SetTextScale(scale - 0.1));
    }
    ui.label(format!("{:.0} %", scale * 100.0));
    if icon_button(ui, symbols::ICON_ADD, "Larger").clicked() {
        actions.push(Action::SetTextScale(scale + 0.1));
    }
    actions
}
