use egui::{Align2, Area, Frame, Id, Order, Ui, vec2};
use egui_material_icons::icons as symbols;
use meav_protocol::UserError;

use super::design_tokens::GRID;
use super::parts::{icon_button, user_error_ui};
use crate::action::Action;
use crate::model::{Notice, NoticeBody};

/// Messages over the upper right corner, where they hide neither the newest words nor the
/// field for the next.
#[must_use]
pub(super) fn notices_ui(ui: &mut Ui, notices: &[Notice]) -> Vec<Action> {
    let mut actions = Vec::new();
    if notices.is_empty() {
        return actions;
    }
    let area = Area::new(Id::unique("notices"))
        .order(Order::Foreground)
        .anchor(Align2::RIGHT_TOP, vec2(-4.0 * GRID, 30.0 * GRID));
    area.show(ui.ctx(), |ui| {
        ui.set_max_width(90.0 * GRID);
        for notice in notices {
            Frame::popup(ui.style()).show(ui, |ui| {
                ui.push_id(notice.id, |ui| actions.extend(notice_ui(ui, notice)));
            });
        }
    });
    actions
}

fn notice_ui(ui: &mut Ui, notice: &Notice) -> Vec<Action> {
    let mut actions = Vec::new();
    ui.set_width(80.0 * GRID);
    ui.with_layout(egui::Layout::right_to_left(egui::Align::Min), |ui| {
        if icon_button(ui, symbols::ICON_CLOSE, "Dismiss").clicked() {
            actions.push(Action::Dismiss(notice.id));
        }
        if matches!(notice.body, NoticeBody::Deleted { .. }) && ui.button("Undo").clicked() {
            actions.push(Action::Undo(notice.id));
        }
        if matches!(notice.body, NoticeBody::Failed { .. }) && ui.button("Show").clicked() {
            actions.push(Action::ShowAgain(notice.id));
        }
        ui.with_layout(egui::Layout::top_down(egui::Align::Min), |ui| match &notice.body {
            NoticeBody::Offer { text, label, action } => {
                ui.add(egui::Label::new(text).wrap());
                if ui.button(*label).clicked() {
                    actions.extend([Action::Dismiss(notice.id), Action::clone(action)]);
                }
            }
            NoticeBody::Info(text) => {
                ui.add(egui::Label::new(text).wrap());
            }
            NoticeBody::Error(err) => actions.extend(user_error_ui(ui, err)),
            // What would help is in the dialog.
            NoticeBody::Failed { err, .. } => {
                let err = UserError { remedy: None, ..err.clone() };
                actions.extend(user_error_ui(ui, &err));
            }
            NoticeBody::Deleted { title, .. } => {
                ui.add(egui::Label::new(format!("Deleted “{title}”")).wrap());
            }
        });
    });
    actions
}
