use egui::{DragValue, Ui};
use meav_protocol::{Dtype, GgufForm, MergeFormat};

use super::design_tokens::GRID;
use super::parts::{group_ui, parse_number, weak};
use crate::action::{Action, DialogAction};
use crate::model::{PathDialog, SHARD_BYTES};

/// What an exported model is written as.
pub(super) fn format_ui(ui: &mut Ui, dialog: &PathDialog, dtype: Dtype) -> Vec<Action> {
    let mut format = dialog.format;
    group_ui(ui, "Format", |ui| {
        let is_folder = matches!(format, MergeFormat::Folder { .. });
        let tip = "config.json, tokenizer and safetensors, for Transformers and most others";
        if ui.selectable_label(is_folder, "Hugging Face folder").on_hover_text(tip).clicked() {
            format = MergeFormat::Folder { max_shard_bytes: SHARD_BYTES };
        }
        let tip = "One file, for llama.cpp and what is built on it";
        if ui.selectable_label(!is_folder, "GGUF file").on_hover_text(tip).clicked() {
            format = MergeFormat::Gguf(GgufForm::F16);
        }
    });
    match &mut format {
        MergeFormat::Folder { .. } => {
            weak(ui, format!("The weights are merged and written in {dtype}."));
        }
        MergeFormat::Gguf(form) => {
            form_ui(ui, form);
            weak(ui, format!("The weights are merged in {dtype}, then written in this form."));
        }
    }
    (format != dialog.format)
        .then_some(Action::Dialog(DialogAction::SetFormat(format)))
        .into_iter()
        .collect()
}

fn form_ui(ui: &mut Ui, form: &mut GgufForm) {
    let forms = [
        (GgufForm::F16, "F16", "Half precision: 2 bytes for each weight"),
        (GgufForm::Bf16, "BF16", "Brain floating point: 2 bytes, coarser, with a wider range"),
        (GgufForm::Q8_0, "Q8_0", "Blocks of 32 in 8 bits each: about half the size of F16"),
    ];
    group_ui(ui, "Numbers", |ui| {
        for (choice, name, tip) in forms {
            if ui.selectable_label(*form == choice, name).on_hover_text(tip).clicked() {
                *form = choice;
            }
        }
    });
}

/// What few will want to change.
pub(super) fn advanced_ui(ui: &mut Ui, dialog: &PathDialog) -> Option<Action> {
    let MergeFormat::Folder { max_shard_bytes } = dialog.format else { return None };
    let mut bytes = max_shard_bytes;
    egui::CollapsingHeader::new("Advanced").show(ui, |ui| {
        ui.horizontal(|ui| {
            ui.spacing_mut().item_spacing.x = 2.0 * GRID;
            let label = ui.label("Largest file");
            let mut gigabytes = bytes as f64 / 1e9;
            let field = DragValue::new(&mut gigabytes)
                .range(0.1..=1000.0)
                .speed(0.1)
                .max_decimals(1)
                .suffix(" GB")
                .custom_parser(parse_gigabytes);
            let tip = "Where a file would be larger, another one is begun";
            if ui.add(field).labelled_by(label.id).on_hover_text(tip).changed() {
                bytes = (gigabytes * 1e9).round() as u64;
            }
        });
    });
    let format = MergeFormat::Folder { max_shard_bytes: bytes };
    (format != dialog.format).then_some(Action::Dialog(DialogAction::SetFormat(format)))
}

/// With or without the unit.
fn parse_gigabytes(text: &str) -> Option<f64> {
    parse_number(text.trim().trim_end_matches(|letter: char| letter.is_alphabetic()))
}
