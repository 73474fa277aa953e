use egui::widgets::text_edit::TextEditState;
use egui::{
    Align, Button, DragValue, Grid, Id, Label, Layout, Response, RichText, Role, ScrollArea,
    TextEdit, Ui, WidgetInfo,
};
use egui_material_icons::icons as symbols;
use meav_protocol::{InstructionTurn, Rubric};

use super::data_panel::{caution_ui, section_ui};
use super::design_tokens::GRID;
use super::form_dialog::{name_ui, number_ui, row_ui};
use super::judge_panel::JudgeView;
use super::parts::{group_ui, icon_button, named, parse_number, signed, user_error_ui, weak};
use crate::KnobId;
use crate::action::Action;
use crate::judge_form::{JudgeAction, JudgeChoice, JudgeForm, JudgeLevel, JudgePath, JudgeRow};
use crate::model::{COEFFICIENT_LIMIT, Knob};

/// What is said of a judge as small as the demo's.
pub(super) const WEAK_JUDGE: &str = "The demo model is a weak judge: with 135 million parameters it often names a level by chance. \
     Take its word as a try of the method, not as a finding.";

/// Levels that are often wanted.
const LEVELS: [&[&str]; 3] =
    [&["expert", "generic", "avoidance"], &["safe", "unsafe"], &["helpful", "unhelpful"]];

/// What is asked for before answers are judged.
pub(super) fn judge_form_ui(ui: &mut Ui, view: &JudgeView<'_>) -> Vec<Action> {
    let mut actions = Vec::new();
    let mut form = view.judging.form.clone();
    actions.extend(section_ui(ui, "Questions", |ui| questions_ui(ui, view, &mut form)));
    section_ui(ui, "Recipes that answer", |ui| {
        recipes_ui(ui, view, &mut form);
        ui.add_space(GRID);
        prompting_ui(ui, &mut form);
    });
    actions.extend(section_ui(ui, "Judge", |ui| judges_ui(ui, view, &mut form)));
    section_ui(ui, "What the judge is told", |ui| rubric_ui(ui, &mut form));
    section_ui(ui, "Comparisons", |ui| {
        ui.checkbox(&mut form.compares, "Compare every two recipes, answer against answer");
        let text = format!(
            "The judge says which of two answers is more {}. Each pair is shown in both orders; \
             where the orders disagree, neither wins, and it is reported.",
            form.levels.first().map_or("at the first level", |level| level.name.as_str())
        );
        ui.add(Label::new(RichText::new(text).small()).wrap());
    });
    ui.add_space(2.0 * GRID);
    work_ui(ui, view, &form);
    if form != view.judging.form {
        // What is typed comes before what is done with it.
        actions.insert(0, Action::Judge(JudgeAction::SetForm(Box::new(form))));
    }
    actions
}

/// How much the engine will have to do.
fn work_ui(ui: &mut Ui, view: &JudgeView<'_>, form: &JudgeForm) {
    let (_, knobs) = view.weights.wanted();
    let recipes = view.judging.recipes(&knobs, view.weights).len();
    let rows = recipes + if form.prompts { form.levels.len() } else { 0 };
    let answers = rows * form.sample;
    let mut text = format!("At most {answers} answers, each judged once");
    if form.compares {
        let pairs = rows * rows.saturating_sub(1) / 2;
        let comparisons = pairs * form.sample * 2;
        text = format!("{text}, and {comparisons} comparisons");
    }
    weak(ui, text + ".");
    if recipes < form.recipes.len() {
        weak(ui, "Recipes with the same numbers answer once.");
    }
}

fn questions_ui(ui: &mut Ui, view: &JudgeView<'_>, form: &mut JudgeForm) -> Vec<Action> {
    let actions = path_ui(ui, view, "Data file", JudgePath::Data, &mut form.data);
    let demo = view.data.demo.files();
    if !demo.is_empty() {
        rows_ui(ui, "Demo data", |ui| {
            for file in demo {
                let name = crate::model::file_name(file);
                let path = file.display().to_string();
                let is_chosen = form.data == path;
                if ui.selectable_label(is_chosen, name).on_hover_text(&path).clicked() {
                    form.data = path;
                }
            }
        });
    }
    number_ui(ui, "Queries", DragValue::new(&mut form.sample).range(1..=100_000));
    number_ui(ui, "Seed", DragValue::new(&mut form.seed).range(0..=u32::MAX));
    let longest = DragValue::new(&mut form.max_tokens).range(1..=8192).suffix(" tokens");
    number_ui(ui, "Longest answer", longest);
    let temperature = DragValue::new(&mut form.temperature).range(0.0..=5.0).speed(0.01);
    number_ui(ui, "Temperature", temperature.fixed_decimals(2));
    weak(ui, "The seed draws the queries, too. Top-k, top-p and the like are those of the chat.");
    actions
}

/// A list of λ for each recipe.
fn recipes_ui(ui: &mut Ui, view: &JudgeView<'_>, form: &mut JudgeForm) {
    let (_, ids) = view.weights.wanted();
    let knobs: Vec<&Knob> = ids.iter().filter_map(|id| view.weights.knob(*id)).collect();
    let mut removed = None;
    ScrollArea::horizontal().id_salt("judged recipes").show(ui, |ui| {
        let table = Grid::new("judged recipes").spacing([4.0 * GRID, GRID]).min_col_width(0.0);
        table.show(ui, |ui| {
            weak(ui, "");
            for knob in &knobs {
                weak(ui, format!("λ of {}", view.weights.name_among(knob)));
            }
            ui.end_row();
            for (index, row) in form.recipes.iter_mut().enumerate() {
                ui.push_id(index, |ui| weak(ui, format!("{}", index + 1)));
                for knob in &knobs {
                    let name = format!("λ of {} in recipe {}", knob.name(), index + 1);
                    coefficient_ui(ui, view, (row, &ids), knob.id, &name);
                }
                ui.horizontal(|ui| {
                    let name = format!("Remove recipe {}", index + 1);
                    if icon_button(ui, symbols::ICON_CLOSE, &name).clicked() {
                        removed = Some(index);
                    }
                    weak(ui, note(row, &ids, view));
                });
                ui.end_row();
            }
        });
    });
    if let Some(index) = removed {
        form.recipes.remove(index);
    }
    if form.recipes.is_empty() {
        weak(ui, "None: only instructions are tried.");
    }
    ui.horizontal_wrapped(|ui| {
        if ui.button("Add a recipe").clicked() {
            form.recipes.push(form.recipes.last().map_or_else(JudgeRow::default, |row| JudgeRow {
                follows_knobs: false,
                coefficients: numbers(row, &ids, view),
            }));
        }
        let has_knobs = form.recipes.iter().any(|row| row.follows_knobs);
        if ui.add_enabled(!has_knobs, Button::new("Add the knobs as they are")).clicked() {
            form.recipes.push(JudgeRow { follows_knobs: true, ..JudgeRow::default() });
        }
        form.recipes.extend(calibrated_ui(ui, &knobs));
    });
}

/// The λ that a sweep has found to lead to most of a level, as a recipe.
fn calibrated_ui(ui: &mut Ui, knobs: &[&Knob]) -> Option<JudgeRow> {
    let mut best = Vec::new();
    for knob in knobs {
        let info = knob.info.as_ref();
        let Some(calibration) = info.and_then(|info| info.calibration.as_ref()) else { continue };
        for (level, at) in calibration.levels.iter().zip(&calibration.best) {
            let within = at.filter(|at| at.abs() <= COEFFICIENT_LIMIT);
            best.extend(within.map(|at| (knob, level, at)));
        }
    }
    if best.is_empty() {
        return None;
    }
    let mut chosen = None;
    ui.menu_button("Add the best of a sweep", |ui| {
        for (knob, level, at) in best {
            if ui.button(format!("{} {} for {level}", knob.name(), signed(at))).clicked() {
                let coefficients = [(knob.id, at)].into();
                chosen = Some(JudgeRow { follows_knobs: false, coefficients });
                ui.close();
            }
        }
    });
    chosen
}

/// What a recipe is, in words.
fn note(row: &JudgeRow, ids: &[KnobId], view: &JudgeView<'_>) -> &'static str {
    let is_base = ids.iter().all(|id| row.coefficient(*id, view.weights) == 0.0);
    match (row.follows_knobs, is_base) {
        (true, _) => "the knobs as they are",
        (false, true) => "the base model",
        (false, false) => "",
    }
}

fn numbers(
    row: &JudgeRow,
    ids: &[KnobId],
    view: &JudgeView<'_>,
) -> std::collections::BTreeMap<KnobId, f64> {
    ids.iter().map(|id| (*id, row.coefficient(*id, view.weights))).collect()
}

/// λ of a knob in a recipe. One that follows the knobs no longer does once a number is changed.
fn coefficient_ui(
    ui: &mut Ui,
    view: &JudgeView<'_>,
    (row, ids): (&mut JudgeRow, &[KnobId]),
    knob: KnobId,
    name: &str,
) {
    let before = row.coefficient(knob, view.weights);
    let mut value = before;
    let range = -COEFFICIENT_LIMIT..=COEFFICIENT_LIMIT;
    let field = DragValue::new(&mut value).range(range).speed(0.01);
    let field = field.custom_formatter(|value, _| signed(value)).custom_parser(parse_number);
    let response = ui.add(field);
    // Drag values name themselves after their number.
    response.widget_info(|| {
        let mut info = WidgetInfo::labeled(Role::SpinButton, true, name);
        info.value = Some(value);
        info
    });
    if (value - before).abs() > f64::EPSILON {
        row.coefficients = numbers(row, ids, view);
        row.follows_knobs = false;
        row.coefficients.insert(knob, value);
    }
}

fn prompting_ui(ui: &mut Ui, form: &mut JudgeForm) {
    ui.checkbox(&mut form.prompts, "Also the base model with an instruction for each level");
    if !form.prompts {
        return;
    }
    row_ui(ui, "Instruction in", |ui| {
        for (turn, name) in [
            (InstructionTurn::System, "the system's turn"),
            (InstructionTurn::User, "the user's turn"),
        ] {
            if ui.selectable_label(form.turn == turn, name).clicked() {
                form.turn = turn;
            }
        }
    });
    for (index, level) in form.levels.iter_mut().enumerate() {
        let name = if level.name.trim().is_empty() { "(no name)" } else { &level.name };
        ui.push_id(("instruction", index), |ui| {
            text_ui(ui, name, &mut level.instruction, "What the model is told", 2);
        });
    }
}

fn judges_ui(ui: &mut Ui, view: &JudgeView<'_>, form: &mut JudgeForm) -> Vec<Action> {
    let mut actions = Vec::new();
    for (choice, name) in [
        (JudgeChoice::SameModel, "This model, without vectors"),
        (JudgeChoice::OtherModel, "Another model on this machine"),
        (JudgeChoice::Endpoint, "An OpenAI-compatible endpoint"),
    ] {
        ui.radio_value(&mut form.judge, choice, name);
    }
    ui.add_space(GRID);
    match form.judge {
        JudgeChoice::SameModel => {}
        JudgeChoice::OtherModel => {
            actions.extend(path_ui(ui, view, "Model", JudgePath::Model, &mut form.model));
        }
        JudgeChoice::Endpoint => actions.extend(endpoint_ui(ui, view, form)),
    }
    if view.judging.will_be_demo(view.weights) {
        caution_ui(ui, WEAK_JUDGE);
    } else if form.judge == JudgeChoice::SameModel {
        weak(ui, "A model that judges itself may favour what it would say.");
    }
    actions
}

fn endpoint_ui(ui: &mut Ui, view: &JudgeView<'_>, form: &mut JudgeForm) -> Vec<Action> {
    let mut actions = Vec::new();
    let to = if form.has_address() { form.address.trim() } else { "the address below" };
    let text = format!("Queries, answers and what the judge is told will be sent to {to}.");
    caution_ui(ui, &text);
    ui.add_space(GRID);
    let address = line_ui(ui, "Address", &mut form.address, "https://…/v1");
    if address.lost_focus() {
        actions.push(Action::Judge(JudgeAction::FindKey));
    }
    if form.is_open_to_others() {
        weak(ui, "http:// is not encrypted: others on the way can read what is sent.");
    }
    line_ui(ui, "Model", &mut form.endpoint_model, "Its name there");
    actions.extend(key_ui(ui, view, form));
    actions
}

/// The key: typed here, kept by the system, and shown by nobody.
fn key_ui(ui: &mut Ui, view: &JudgeView<'_>, form: &mut JudgeForm) -> Vec<Action> {
    let mut actions = Vec::new();
    let mut act = |action| actions.push(Action::Judge(action));
    let judging = view.judging;
    ui.horizontal(|ui| {
        let label = name_ui(ui, "Key");
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            let has_kept = judging.has_key() == Some(true);
            if has_kept && ui.button("Forget key").clicked() {
                act(JudgeAction::ForgetKey);
            }
            let can_keep = !form.key.0.is_empty() && form.has_address();
            let keep = ui.add_enabled(can_keep, Button::new("Keep key"));
            let why_not = "Type the address and the key first";
            let keeps = keep.on_disabled_hover_text(why_not).clicked();
            let hint = if has_kept { "A key is kept" } else { "For servers that want one" };
            let id = Id::unique("judge's key");
            let field = TextEdit::singleline(&mut form.key.0).id(id).password(true);
            let field = field.hint_text(hint);
            ui.add(field.desired_width(f32::INFINITY)).labelled_by(label.id);
            if keeps {
                act(JudgeAction::KeepKey);
                // The field remembers what was typed, to undo it.
                TextEditState::default().store(ui.ctx(), id);
            }
        });
    });
    let text = match (judging.key_job.is_some(), judging.has_key()) {
        (true, _) => "Asking the system's secret store…",
        (false, Some(true)) => "A key is kept in the system's secret store.",
        (false, Some(false)) => "No key is kept for this address.",
        (false, None) => "The key goes to the system's secret store and nowhere else.",
    };
    weak(ui, text);
    if let Some(err) = &judging.key_error {
        actions.extend(user_error_ui(ui, err));
    }
    actions
}

fn rubric_ui(ui: &mut Ui, form: &mut JudgeForm) {
    text_ui(ui, "Instructions", &mut form.instructions, "Who the judge is, what is asked", 3);
    let mut removed = None;
    let can_remove = form.levels.len() > 2;
    for (index, level) in form.levels.iter_mut().enumerate() {
        ui.push_id(("level", index), |ui| {
            ui.horizontal_top(|ui| {
                name_ui(ui, if index == 0 { "Levels" } else { "" });
                let mut name = level.name.clone();
                let hint = "Name";
                let field = TextEdit::singleline(&mut name).hint_text(hint);
                let field = ui.add(field.desired_width(22.0 * GRID));
                tell_name(&field, &format!("Name of level {}", index + 1), &name);
                if name != level.name {
                    level.rename(name);
                }
                ui.with_layout(Layout::right_to_left(Align::Min), |ui| {
                    let remove = format!("Remove level {}", index + 1);
                    ui.add_enabled_ui(can_remove, |ui| {
                        if icon_button(ui, symbols::ICON_CLOSE, &remove).clicked() {
                            removed = Some(index);
                        }
                    });
                    let text = &mut level.description;
                    let field = TextEdit::multiline(text).hint_text("An answer there …");
                    let field = field.desired_rows(1);
                    let field = ui.add(field.desired_width(f32::INFINITY));
                    let name = format!("Description of level {}", index + 1);
                    tell_name(&field, &name, &level.description);
                });
            });
        });
    }
    if let Some(index) = removed {
        form.levels.remove(index);
    }
    rows_ui(ui, "", |ui| {
        if ui.button("Add a level").clicked() {
            let (name, description, instruction) = Default::default();
            form.levels.push(JudgeLevel { name, description, instruction });
        }
        weak(ui, "or take");
        for levels in LEVELS {
            if ui.button(levels.join(", ")).clicked() {
                let rubric = Rubric::of(levels.iter().copied());
                form.instructions = rubric.instructions;
                form.levels = rubric.levels.into_iter().map(JudgeLevel::new).collect();
            }
        }
    });
    weak(ui, "Where a judge finds two levels equally likely, the first one counts.");
}

/// As [`row_ui`], where there may be more than one line can hold.
fn rows_ui(ui: &mut Ui, name: &str, add: impl FnOnce(&mut Ui)) {
    ui.horizontal_top(|ui| {
        name_ui(ui, name);
        group_ui(ui, name, add);
    });
}

/// A field's name for those who can't see what it stands beside.
fn tell_name(response: &Response, name: &str, text: &str) {
    response.widget_info(|| {
        let mut info = WidgetInfo::labeled(Role::TextInput, true, name);
        info.current_text_value = Some(text.to_owned());
        info
    });
}

fn line_ui(ui: &mut Ui, name: &str, text: &mut String, hint: &str) -> Response {
    ui.horizontal(|ui| {
        let label = name_ui(ui, name);
        let field = TextEdit::singleline(text).hint_text(hint).desired_width(f32::INFINITY);
        ui.add(field).labelled_by(label.id)
    })
    .inner
}

fn text_ui(ui: &mut Ui, name: &str, text: &mut String, hint: &str, rows: usize) {
    ui.horizontal_top(|ui| {
        let label = name_ui(ui, name);
        let field = TextEdit::multiline(text).hint_text(hint).desired_rows(rows);
        ui.add(field.desired_width(f32::INFINITY)).labelled_by(label.id);
    });
}

/// A path: its field, and the system's own dialog beside it.
fn path_ui(
    ui: &mut Ui,
    view: &JudgeView<'_>,
    name: &str,
    path: JudgePath,
    text: &mut String,
) -> Vec<Action> {
    let mut actions = Vec::new();
    let folders: &[bool] = if path == JudgePath::Model { &[true, false] } else { &[false] };
    ui.horizontal(|ui| {
        let label = name_ui(ui, name);
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            for folder in folders {
                let face = if *folder { "Folder…" } else { "File…" };
                let can = view.system_dialogs.is_ok();
                let response = ui.add_enabled(can, Button::new(face).small());
                let why_not = view.system_dialogs.err().unwrap_or_default();
                let response = response.on_disabled_hover_text(why_not);
                if named(response, &format!("{name}: {face}")).clicked() {
                    let browse = JudgeAction::Browse { path, folder: *folder };
                    actions.push(Action::Judge(browse));
                }
            }
            let field = TextEdit::singleline(text).hint_text("Path");
            ui.add(field.desired_width(f32::INFINITY)).labelled_by(label.id);
        });
    });
    actions
}
