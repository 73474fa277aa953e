use egui::text::{LayoutJob, TextFormat};
use egui::{
    Align, Button, FontFamily, FontId, Grid, Id, Label, RichText, Role, ScrollArea, TextStyle, Ui,
    WidgetInfo, vec2,
};
use meav_protocol::{JudgeReport, JudgedAnswer, JudgedPair, JudgedRecipe};

use super::data_overview::{at_right, end_ui, number_ui, table_ui as data_table_ui};
use super::data_panel::{caution_ui, long_text_ui, section_ui};
use super::design_tokens::{GRID, ROW, Tokens};
use super::judge_form_ui::WEAK_JUDGE;
use super::judge_panel::JudgeView;
use super::parts::{clock, group_ui, named, scroll_to_focus, signed, title, weak};
use super::pick_list::{PickList, Picked};
use super::vectors_panel::turn_pages;
use crate::action::Action;
use crate::judge_form::{AnswerFilter, JudgeAction, LevelFilter};

/// Rows of the list of answers.
const ROWS: f32 = 9.0;

/// Letters of a query in the list.
const LETTERS_IN_LIST: usize = 160;

/// What the judge said: the table, the comparisons, and the answers.
pub(super) fn results_ui(ui: &mut Ui, view: &JudgeView<'_>) -> Vec<Action> {
    let mut actions = Vec::new();
    let Some(report) = &view.judging.report else {
        ui.add_space(GRID);
        title(ui, "Nothing was judged yet");
        let text = "Choose the questions, the recipes and the judge under Set-up, and press Judge \
                    answers. The levels of the answers will stand here beside the preference \
                    accuracies.";
        ui.add(Label::new(text).wrap());
        return actions;
    };
    let area = ScrollArea::vertical().id_salt("judgement").auto_shrink(false);
    area.show(ui, |ui| {
        turn_pages(ui);
        weak(ui, summary(report));
        if view.judging.is_by_demo {
            caution_ui(ui, WEAK_JUDGE);
        }
        actions.extend(section_ui(ui, "Levels of the answers", |ui| table_ui(ui, report)));
        if !report.pairs.is_empty() {
            section_ui(ui, "Answer against answer", |ui| pairs_ui(ui, report));
        }
        ui.add_space(2.0 * GRID);
        actions.extend(export_ui(ui));
        actions.extend(section_ui(ui, "Answers", |ui| answers_ui(ui, view, report)));
        ui.add_space(4.0 * GRID);
        scroll_to_focus(ui);
    });
    actions
}

fn summary(report: &JudgeReport) -> String {
    let queries = report.rows.first().map_or(0, |row| row.answers.len());
    let time = clock(report.elapsed_secs);
    format!("Judged by {} on {queries} queries of {} in {time}", report.judge, report.data)
}

fn export_ui(ui: &mut Ui) -> Vec<Action> {
    let mut actions = Vec::new();
    ui.horizontal_wrapped(|ui| {
        for (text, ending) in
            [("Export CSV…", "csv"), ("Export JSON…", "json"), ("Export Markdown…", "md")]
        {
            if ui.button(text).clicked() {
                actions.push(Action::Judge(JudgeAction::Export(ending)));
            }
        }
    });
    actions
}

/// A row for each recipe, a column for each level.
fn table_ui(ui: &mut Ui, report: &JudgeReport) -> Vec<Action> {
    let mut actions = Vec::new();
    ScrollArea::horizontal().id_salt("levels of answers").show(ui, |ui| {
        let table = Grid::new("levels of answers").min_col_width(0.0).striped(true);
        table.spacing([4.0 * GRID, GRID]).show(ui, |ui| {
            weak(ui, "");
            weak(ui, "answers under");
            for level in &report.levels {
                at_right(ui, |ui| ui.label(RichText::new(level).strong().small()));
            }
            for (name, tip) in [
                ("agree", "Answers at the level that the same query's log-probabilities prefer"),
                ("unclear", "Replies of the judge that named no level, or several"),
            ] {
                at_right(ui, |ui| weak(ui, name).on_hover_text(tip));
            }
            end_ui(ui);
            for (index, row) in report.rows.iter().enumerate() {
                ui.push_id(index, |ui| weak(ui, (index + 1).to_string()));
                actions.extend(recipe_ui(ui, row));
                for level in 0..report.levels.len() {
                    share_ui(ui, row, level);
                }
                number_ui(ui, row.agreement.map_or_else(|| "–".to_owned(), percent));
                number_ui(ui, row.unclear.to_string());
                end_ui(ui);
            }
        });
    });
    let text = "Upper lines: the share of answers that the judge puts at the level, with its 95 % \
                interval. Lower lines: the preference accuracy on the same queries, which is the \
                share whose response at that level is the most likely one.";
    ui.add(Label::new(RichText::new(text).small()).wrap());
    actions
}

/// The recipe, which sets the knobs when it is pressed, or the level that was asked for.
fn recipe_ui(ui: &mut Ui, row: &JudgedRecipe) -> Option<Action> {
    let tokens = Tokens::of(ui.visuals());
    let small = TextStyle::Small.resolve(ui.style());
    let mut job = LayoutJob::default();
    let mut push = |text: &str, color| {
        job.append(text, 0.0, TextFormat::simple(small.clone(), color));
    };
    if let Some(level) = &row.instruction {
        push("instruction\n", tokens.weak);
        push(level, tokens.text);
        ui.label(job);
        return None;
    }
    if row.recipe.vectors.is_empty() {
        push("base model", tokens.text);
    }
    for (index, term) in row.recipe.vectors.iter().enumerate() {
        push(if index == 0 { "• " } else { "\n• " }, tokens.domain(&term.domain));
        push(&format!("{} {}", term.domain, signed(term.coefficient)), tokens.text);
    }
    let response = ui.add(Button::new(job).small());
    let name = format!("Set the knobs to {}", row.recipe);
    let is_clicked = named(response, &name).clicked();
    is_clicked.then(|| Action::ApplyRecipe(Box::new(row.recipe.clone())))
}

/// The share with its interval, and the preference accuracy below it.
fn share_ui(ui: &mut Ui, row: &JudgedRecipe, level: usize) {
    let tokens = Tokens::of(ui.visuals());
    let small = TextStyle::Small.resolve(ui.style());
    let digits = FontId::new(small.size, FontFamily::Monospace);
    let share = row.shares.get(level).copied().unwrap_or_default();
    let is_first = row.shares.iter().position(|other| *other >= highest(row)) == Some(level);
    let mut job = LayoutJob { halign: Align::Max, ..LayoutJob::default() };
    let mut push = |text: &str, font: &FontId, color| {
        job.append(text, 0.0, TextFormat::simple(font.clone(), color));
    };
    push(&percent(share), &digits, if is_first { tokens.accent } else { tokens.text });
    if let Some([low, high]) = row.intervals.get(level) {
        let interval = format!(" {:>3.0}–{:<3.0}", low * 100.0, high * 100.0);
        push(&interval, &digits, tokens.weak);
    }
    if let Some(accuracy) = row.preference_accuracy.as_ref().and_then(|all| all.get(level)) {
        push(&format!("\nprefers {}", percent(*accuracy)), &small, tokens.weak);
    }
    at_right(ui, |ui| ui.label(job));
}

fn highest(row: &JudgedRecipe) -> f64 {
    row.shares.iter().copied().fold(0.0, f64::max)
}

/// Three digits wide, so that numbers stand under each other.
fn percent(share: f64) -> String {
    format!("{:>3.0} %", share * 100.0)
}

fn pairs_ui(ui: &mut Ui, report: &JudgeReport) {
    let first = report.levels.first().map_or("at the first level", String::as_str);
    let text = format!(
        "Whose answer is more {first}, asked in both orders; a win counts where both orders agree."
    );
    ui.add(Label::new(RichText::new(text).small()).wrap());
    ScrollArea::horizontal().id_salt("pairs").show(ui, |ui| {
        data_table_ui(ui, "pairs", |ui| {
            weak(ui, "rows");
            for (name, tip) in [
                ("first wins", "Queries on which both orders say the first row's answer"),
                ("second wins", "Queries on which both orders say the second row's answer"),
                ("orders disagree", "Queries on which the answer that wins depends on the order"),
                ("unclear", "Replies of the judge that named neither"),
                (
                    "takes the first shown",
                    "The share of clear replies for the answer that stood first: 50 % without a \
                     bias for a place",
                ),
            ] {
                at_right(ui, |ui| weak(ui, name).on_hover_text(tip));
            }
            end_ui(ui);
            for JudgedPair { a, b, a_wins, b_wins, disagreements, unclear, first_share } in
                &report.pairs
            {
                ui.label(RichText::new(format!("{} against {}", a + 1, b + 1)).small());
                for count in [a_wins, b_wins, disagreements, unclear] {
                    number_ui(ui, count.to_string());
                }
                number_ui(ui, percent(*first_share));
                end_ui(ui);
            }
        });
    });
}

fn answers_ui(ui: &mut Ui, view: &JudgeView<'_>, report: &JudgeReport) -> Vec<Action> {
    let mut actions = filter_ui(ui, view.judging.filter, report);
    let answers = view.judging.answers();
    if answers.is_empty() {
        weak(ui, "No answer is like this.");
        return actions;
    }
    weak(
        ui,
        if answers.len() == 1 {
            "1 answer".to_owned()
        } else {
            format!("{} answers", answers.len())
        },
    );
    let selected = view.judging.selected.min(answers.len() - 1);
    let list = PickList {
        name: "answers",
        len: answers.len(),
        chosen: Some(selected),
        height: ROWS * ROW,
        takes_focus: false,
    };
    ui.scope(|ui| {
        ui.spacing_mut().item_spacing.y = 0.0;
        let picked = list.ui(ui, |ui, index, is_chosen| {
            let (row, answer) = answers[index];
            let text = row_text(ui, report, row, answer);
            let button = Button::selectable(is_chosen, text).right_text("").truncate();
            let response = ui.add_sized(vec2(ui.available_width(), ROW), button);
            let level = level_name(report, answer.level);
            let name = format!("Answer to {} in row {}: {level}", answer.id, row + 1);
            response.widget_info(|| WidgetInfo::selected(Role::Button, true, is_chosen, &name));
            response
        });
        if let Some(Picked::Row(place)) = picked {
            actions.push(Action::Judge(JudgeAction::SelectAnswer(place)));
        }
    });
    ui.separator();
    if let Some((row, answer)) = answers.get(selected) {
        answer_ui(ui, report, *row, answer);
    }
    actions
}

fn level_name(report: &JudgeReport, level: Option<usize>) -> &str {
    level.and_then(|level| report.levels.get(level)).map_or("unclear", String::as_str)
}

fn filter_ui(ui: &mut Ui, filter: AnswerFilter, report: &JudgeReport) -> Vec<Action> {
    let mut actions = Vec::new();
    let mut choose = |ui: &mut Ui, new: AnswerFilter, name: &str| {
        if ui.selectable_label(filter == new, name).clicked() {
            actions.push(Action::Judge(JudgeAction::SetFilter(new)));
        }
    };
    group_ui(ui, "Rows", |ui| {
        weak(ui, "Row");
        choose(ui, AnswerFilter { row: None, ..filter }, "All rows");
        for row in 0..report.rows.len() {
            choose(ui, AnswerFilter { row: Some(row), ..filter }, &(row + 1).to_string());
        }
    });
    group_ui(ui, "Levels", |ui| {
        weak(ui, "Level");
        choose(ui, AnswerFilter { level: LevelFilter::All, ..filter }, "All levels");
        for (index, level) in report.levels.iter().enumerate() {
            choose(ui, AnswerFilter { level: LevelFilter::At(index), ..filter }, level);
        }
        choose(ui, AnswerFilter { level: LevelFilter::Unclear, ..filter }, "unclear");
    });
    actions
}

/// The row, the level, and how the query begins.
fn row_text(ui: &Ui, report: &JudgeReport, row: usize, answer: &JudgedAnswer) -> LayoutJob {
    let tokens = Tokens::of(ui.visuals());
    let small = TextStyle::Small.resolve(ui.style());
    let digits = FontId::new(small.size, FontFamily::Monospace);
    let longest = report.levels.iter().map(|level| level.chars().count()).max().unwrap_or(0).max(7);
    let mut job = LayoutJob::default();
    let place = format!("{:>2}  ", row + 1);
    job.append(&place, 0.0, TextFormat::simple(digits.clone(), tokens.weak));
    let level = format!("{:<longest$}  ", level_name(report, answer.level));
    let color = if answer.level.is_some() { tokens.accent } else { tokens.warning };
    job.append(&level, 0.0, TextFormat::simple(digits, color));
    let query: String = answer.query.chars().take(LETTERS_IN_LIST).collect();
    job.append(&query.replace('\n', " "), 0.0, TextFormat::simple(small, tokens.text));
    job
}

/// An answer in full, and how sure the judge is.
fn answer_ui(ui: &mut Ui, report: &JudgeReport, row: usize, answer: &JudgedAnswer) {
    let tokens = Tokens::of(ui.visuals());
    ui.horizontal_wrapped(|ui| {
        let level = level_name(report, answer.level);
        let color = if answer.level.is_some() { tokens.accent } else { tokens.warning };
        ui.label(RichText::new(level).strong().color(color));
        let judged = &report.rows[row];
        let recipe = match &judged.instruction {
            Some(level) => format!("instruction: {level}"),
            None => recipe_words(judged),
        };
        weak(ui, format!("row {} · {recipe} · {}", row + 1, answer.id));
    });
    if !answer.probabilities.is_empty() {
        let levels = report.levels.iter().zip(&answer.probabilities);
        let words: Vec<_> =
            levels.map(|(level, share)| format!("{level} {:.0} %", share * 100.0)).collect();
        weak(ui, format!("The judge's probabilities: {}", words.join(", ")));
    }
    let id = Id::unique("judged answer").with((row, &answer.id));
    ui.add_space(GRID);
    weak(ui, "Query");
    long_text_ui(ui, id.with("query"), &answer.query);
    ui.add_space(GRID);
    weak(ui, "Answer");
    if answer.answer.trim().is_empty() {
        weak(ui, "(empty)");
    }
    long_text_ui(ui, id.with("answer"), &answer.answer);
}

fn recipe_words(row: &JudgedRecipe) -> String {
    let terms = row.recipe.vectors.iter();
    let words: Vec<_> =
        terms.map(|term| format!("{} {}", term.domain, signed(term.coefficient))).collect();
    if words.is_empty() { "base".to_owned() } else { words.join(", ") }
}
