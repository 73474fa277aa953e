use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use egui::{Align, Frame, Grid, Label, Layout, RichText, ScrollArea, Stroke, Ui};
use egui_material_icons::icons as symbols;
use meav_protocol::{DataProblem, DataReport, LeakageReport};

use super::data_panel::{caution_ui, section_ui};
use super::design_tokens::{GRID, ROW, Tokens};
use super::parts::{icon_button, one_line, title, weak};
use crate::action::Action;
use crate::data_action::DataAction;

/// The most values of a field that are listed.
const MOST_VALUES: usize = 12;

/// The most letters of a value that are shown.
const LETTERS_OF_VALUE: usize = 40;

/// The letters of a fingerprint that are shown.
const LETTERS_OF_FINGERPRINT: usize = 23;

/// The most lines that are named in a sentence.
const MOST_LINES: usize = 20;

/// What is said of the demo's data.
const DEMO: &str = "Demo data: synthetic, and reviewed by no professional. That an answer sounds \
                    like an expert's is no proof that it is correct.";

/// What a file holds as a whole.
pub(super) fn overview_ui(ui: &mut Ui, report: &DataReport) -> Vec<Action> {
    let mut actions = Vec::new();
    if report.is_demo {
        caution_ui(ui, DEMO);
        ui.add_space(GRID);
    }
    actions.extend(facts_ui(ui, report));
    section_ui(ui, "What can be measured", |ui| {
        measures_ui(ui, report);
        ui.add_space(GRID);
        let tip = "Have the model answer these queries, and a judge say at which level";
        if ui.button("Judge answers to these queries…").on_hover_text(tip).clicked() {
            actions.push(Action::Data(DataAction::Judge));
        }
    });
    if !report.counts.is_empty() {
        section_ui(ui, "Records by field", |ui| counts_ui(ui, report));
    }
    if !report.lengths.is_empty() {
        section_ui(ui, "Lengths in words", |ui| lengths_ui(ui, report));
    }
    section_ui(ui, "Repetitions", |ui| repetitions_ui(ui, report));
    actions.extend(section_ui(ui, "Problems", |ui| problems_ui(ui, report)));
    actions
}

fn facts_ui(ui: &mut Ui, report: &DataReport) -> Vec<Action> {
    let mut actions = Vec::new();
    table_ui(ui, "data facts", |ui| {
        let rows = [
            ("Format", format!("{}, {}", report.format, report.shape)),
            ("Records", report.records.to_string()),
            ("Personas", report.personas.to_string()),
        ];
        for (name, value) in rows {
            weak(ui, name);
            ui.label(value);
            ui.end_row();
        }
        weak(ui, "File");
        let path = report.path.display().to_string();
        one_line(ui, RichText::new(&path).small()).on_hover_text(&path);
        ui.end_row();
        weak(ui, "Fingerprint");
        ui.horizontal(|ui| {
            let begin: String = report.fingerprint.chars().take(LETTERS_OF_FINGERPRINT).collect();
            ui.label(RichText::new(begin + "…").small().monospace())
                .on_hover_text(&report.fingerprint);
            if icon_button(ui, symbols::ICON_CONTENT_COPY, "Copy the fingerprint").clicked() {
                actions.push(Action::Copy(report.fingerprint.clone()));
            }
        });
        ui.end_row();
    });
    actions
}

fn measures_ui(ui: &mut Ui, report: &DataReport) {
    table_ui(ui, "measures", |ui| {
        weak(ui, "measure");
        at_right(ui, |ui| weak(ui, "records"));
        weak(ui, "levels");
        ui.end_row();
        for measure in &report.measures {
            ui.label(measure.measure.to_string());
            number_ui(ui, measure.n.to_string());
            ui.label(measure.levels.join(", "));
            ui.end_row();
        }
    });
}

fn counts_ui(ui: &mut Ui, report: &DataReport) {
    table_ui(ui, "counts", |ui| {
        for (field, values) in &report.counts {
            for (index, (value, count)) in values.iter().take(MOST_VALUES).enumerate() {
                weak(ui, if index == 0 { field.as_str() } else { "" });
                let shown: String = value.chars().take(LETTERS_OF_VALUE).collect();
                ui.label(if shown == *value { shown } else { shown + "…" }).on_hover_text(value);
                number_ui(ui, count.to_string());
                let share = *count as f64 / report.records.max(1) as f64;
                number_ui(ui, format!("{:.0} %", share * 100.0));
                end_ui(ui);
            }
            if values.len() > MOST_VALUES {
                weak(ui, "");
                weak(ui, format!("and {} more", values.len() - MOST_VALUES));
                ui.end_row();
            }
        }
    });
}

fn lengths_ui(ui: &mut Ui, report: &DataReport) {
    ScrollArea::horizontal().id_salt("lengths").show(ui, |ui| {
        table_ui(ui, "lengths", |ui| {
            weak(ui, "");
            for (name, tip) in [
                ("texts", "How many there are"),
                ("least", "Words of the shortest"),
                ("25 %", "A quarter of them has at most so many words"),
                ("median", "Half of them have at most so many words"),
                ("75 %", "Three quarters of them have at most so many words"),
                ("most", "Words of the longest"),
                ("mean", "Words on average"),
            ] {
                at_right(ui, |ui| weak(ui, name).on_hover_text(tip));
            }
            end_ui(ui);
            for length in &report.lengths {
                ui.label(&length.name);
                number_ui(ui, length.n.to_string());
                for words in length.quantiles {
                    number_ui(ui, format!("{words:.0}"));
                }
                number_ui(ui, format!("{:.1}", length.mean));
                end_ui(ui);
            }
        });
    });
}

fn repetitions_ui(ui: &mut Ui, report: &DataReport) {
    let pairs = &report.duplicate_queries;
    let text = match pairs.len() {
        0 => "No two records ask the same.".to_owned(),
        1 => format!("Two records ask the same: lines {}.", pairs_text(pairs)),
        n => format!("{n} pairs of records ask the same: lines {}.", pairs_text(pairs)),
    };
    ui.add(Label::new(text).wrap());
    let lines = &report.identical_responses;
    let text = match lines.len() {
        0 => "No record has the same response at two levels.".to_owned(),
        1 => format!("One record has the same response at two levels: line {}.", lines[0]),
        n => format!("{n} records have the same response at two levels: lines {}.", list(lines)),
    };
    ui.add(Label::new(text).wrap());
}

fn pairs_text(pairs: &[(usize, usize)]) -> String {
    let shown = pairs.iter().take(MOST_LINES);
    let words: Vec<_> = shown.map(|(a, b)| format!("{a} and {b}")).collect();
    and_more(&words.join("; "), pairs.len())
}

fn list(lines: &[usize]) -> String {
    let words: Vec<_> = lines.iter().take(MOST_LINES).map(ToString::to_string).collect();
    and_more(&words.join(", "), lines.len())
}

fn and_more(text: &str, count: usize) -> String {
    match count.saturating_sub(MOST_LINES) {
        0 => text.to_owned(),
        more => format!("{text} and {more} more"),
    }
}

fn problems_ui(ui: &mut Ui, report: &DataReport) -> Vec<Action> {
    let mut actions = Vec::new();
    if report.n_problems == 0 {
        ui.label("Every record can be used.");
        return actions;
    }
    let problems = &report.problems;
    ui.horizontal_wrapped(|ui| {
        let color = Tokens::of(ui.visuals()).warning;
        let text = match report.n_problems {
            1 => "1 record can't be used; the others can.".to_owned(),
            n => format!("{n} records can't be used; the others can."),
        };
        ui.label(RichText::new(text).color(color));
        if report.n_problems > problems.len() {
            weak(ui, format!("The first {} are listed.", problems.len()));
        }
        if ui.button("Copy the list").clicked() {
            actions.push(Action::Copy(problems_text(problems)));
        }
    });
    Frame::new().stroke(Stroke::new(1.0, Tokens::of(ui.visuals()).line)).inner_margin(GRID).show(
        ui,
        |ui| {
            let area = ScrollArea::vertical().id_salt("problems").max_height(10.0 * ROW);
            area.auto_shrink([false, true]).show_rows(ui, ROW, problems.len(), |ui, rows| {
                for problem in &problems[rows] {
                    problem_ui(ui, problem);
                }
            });
        },
    );
    actions
}

fn problem_ui(ui: &mut Ui, problem: &DataProblem) {
    ui.horizontal(|ui| {
        ui.set_height(ROW);
        let line = format!("{:>7}", problem.line);
        ui.label(RichText::new(line).small().monospace());
        let id = problem.id.as_ref().map(|id| format!("{id}: ")).unwrap_or_default();
        let text = format!("{id}{}", problem.reason);
        one_line(ui, &text).on_hover_text(text);
    });
}

/// For a spreadsheet.
fn problems_text(problems: &[DataProblem]) -> String {
    let mut text = "line\tid\treason\n".to_owned();
    for problem in problems {
        let id = problem.id.as_deref().unwrap_or_default();
        let reason = problem.reason.replace(['\t', '\n'], " ");
        writeln!(text, "{}\t{id}\t{reason}", problem.line).unwrap_or_default();
    }
    text
}

/// Something that was asked for, in a frame that can be closed.
fn report_ui(
    ui: &mut Ui,
    name: &str,
    close: DataAction,
    add: impl FnOnce(&mut Ui, &mut Vec<Action>),
) -> Vec<Action> {
    let mut actions = Vec::new();
    let line = Tokens::of(ui.visuals()).line;
    let frame = Frame::new().stroke(Stroke::new(1.0, line)).corner_radius(GRID);
    frame.inner_margin(3.0 * GRID).show(ui, |ui| {
        ui.set_width(ui.available_width());
        ui.horizontal(|ui| {
            title(ui, name);
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                if icon_button(ui, symbols::ICON_CLOSE, "Close the report").clicked() {
                    actions.push(Action::Data(close));
                }
            });
        });
        add(ui, &mut actions);
    });
    actions
}

/// The files that a split has written.
pub(super) fn written_ui(ui: &mut Ui, written: &[(PathBuf, String)]) -> Vec<Action> {
    report_ui(ui, "Split", DataAction::DismissWritten, |ui, actions| {
        for (path, summary) in written {
            ui.horizontal(|ui| {
                let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
                if ui.button(format!("Open {name}")).clicked() {
                    actions.push(Action::Data(DataAction::Open(path.clone())));
                }
                one_line(ui, RichText::new(summary).small())
                    .on_hover_text(path.display().to_string());
            });
        }
    })
}

/// What the file shares with one for training.
pub(super) fn leakage_ui(ui: &mut Ui, train: &Path, report: &LeakageReport) -> Vec<Action> {
    report_ui(ui, "Compared with a training file", DataAction::DismissLeakage, |ui, _| {
        let path = train.display().to_string();
        one_line(ui, RichText::new(&path).small()).on_hover_text(&path);
        let tokens = Tokens::of(ui.visuals());
        if report.personas.is_empty() && report.queries.is_empty() {
            let text = format!(
                "None of the {} records shares a persona or a query with it.",
                report.records
            );
            ui.label(RichText::new(text).color(tokens.good));
            return;
        }
        let text = "What both files have makes a test too easy. Lines of the training file, and \
                    of this one:";
        ui.add(Label::new(text).wrap());
        Grid::new("leakage").num_columns(2).spacing([4.0 * GRID, GRID]).show(ui, |ui| {
            for (name, pairs) in
                [("Same persona", &report.personas), ("Same query", &report.queries)]
            {
                let color = if pairs.is_empty() { tokens.good } else { tokens.warning };
                ui.label(RichText::new(format!("{name}: {}", pairs.len())).color(color));
                let text = if pairs.is_empty() { "–".to_owned() } else { pairs_text(pairs) };
                ui.add(Label::new(RichText::new(text).small()).wrap());
                ui.end_row();
            }
        });
    })
}

/// A table with rows as high as their text.
pub(super) fn table_ui<R>(ui: &mut Ui, name: &str, add: impl FnOnce(&mut Ui) -> R) -> R {
    ui.scope(|ui| {
        ui.spacing_mut().interact_size.y = 4.0 * GRID;
        let table = Grid::new(name).spacing([5.0 * GRID, GRID / 2.0]).min_col_width(0.0);
        table.show(ui, add).inner
    })
    .inner
}

/// The end of a row of numbers: the last column of a table takes all the room that is left.
pub(super) fn end_ui(ui: &mut Ui) {
    ui.label("");
    ui.end_row();
}

/// Numbers stand under each other.
pub(super) fn at_right(ui: &mut Ui, add: impl FnOnce(&mut Ui) -> egui::Response) {
    ui.with_layout(Layout::right_to_left(Align::Center), add);
}

pub(super) fn number_ui(ui: &mut Ui, text: String) {
    at_right(ui, |ui| ui.label(RichText::new(text).small().monospace()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_of_lines_are_cut_and_say_so() {
        let lines: Vec<usize> = (1..=23).collect();
        assert!(list(&lines).ends_with("19, 20 and 3 more"), "{}", list(&lines));
        assert_eq!(list(&lines[..2]), "1, 2");
        assert_eq!(pairs_text(&[(1, 2), (3, 4)]), "1 and 2; 3 and 4");
    }

    #[test]
    fn problems_are_copied_as_a_table() {
        let problem = |line, id: Option<&str>, reason: &str| DataProblem {
            line,
            id: id.map(str::to_owned),
            reason: reason.to_owned(),
        };
        let problems = [problem(3, Some("a"), "no\nresponse"), problem(9, None, "not UTF-8")];
        assert_eq!(
            problems_text(&problems),
            "line\tid\treason\n3\ta\tno response\n9\t\tnot UTF-8\n"
        );
    }
}
