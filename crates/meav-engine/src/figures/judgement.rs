use meav_protocol::{JudgeReport, JudgedPair, JudgedRecipe};

use super::csv::csv_row;
use super::markdown::{markdown_row, markdown_rule, markdown_text};

/// A row for each answer.
pub(crate) fn judgement_csv(report: &JudgeReport) -> String {
    let header = ["recipe", "instruction", "id", "query", "answer", "level"].map(str::to_owned);
    let sure = report.levels.iter().map(|level| format!("p_{level}"));
    let mut text = csv_row(header.into_iter().chain(sure));
    for row in &report.rows {
        for answer in &row.answers {
            let level = answer.level.and_then(|level| report.levels.get(level));
            let fields = [
                row.recipe.to_string(),
                row.instruction.clone().unwrap_or_default(),
                answer.id.clone(),
                answer.query.clone(),
                answer.answer.clone(),
                level.cloned().unwrap_or_default(),
            ];
            let sure = (0..report.levels.len()).map(|level| {
                answer.probabilities.get(level).map(ToString::to_string).unwrap_or_default()
            });
            text.push_str(&csv_row(fields.into_iter().chain(sure)));
        }
    }
    text
}

/// A table with a row for each recipe, and one with a row for every two that were compared.
pub(crate) fn judgement_markdown(report: &JudgeReport) -> String {
    let mut text = format!(
        "Answers to {}, judged by {}: the share at each level with its 95 % interval, beside the \
         preference accuracy.\n\n",
        markdown_text(&report.data),
        markdown_text(&report.judge)
    );
    let fixed = |names: &[&str]| names.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
    let mut header = fixed(&["recipe", "answers"]);
    header.extend(report.levels.iter().cloned());
    header.extend(fixed(&["unclear", "preference accuracy", "agreement"]));
    text.push_str(&markdown_row(&header));
    text.push_str(&markdown_rule(header.len()));
    for row in &report.rows {
        text.push_str(&markdown_row(recipe_cells(report, row)));
    }
    if !report.pairs.is_empty() {
        let first = report.levels.first().map_or("", String::as_str);
        let question = format!("\nWhich of two answers is more {}:\n\n", markdown_text(first));
        text.push_str(&(question + &pairs_table(report)));
    }
    text
}

fn recipe_cells(report: &JudgeReport, row: &JudgedRecipe) -> Vec<String> {
    let mut cells = vec![row.name(), row.answers.len().to_string()];
    for place in 0..report.levels.len() {
        let interval = row.intervals.get(place);
        let interval = interval.map(|[low, high]| format!(" ({low:.2}–{high:.2})"));
        let share = row.shares.get(place).map_or("–".to_owned(), |it| format!("{it:.2}"));
        cells.push(share + &interval.unwrap_or_default());
    }
    cells.push(row.unclear.to_string());
    let accuracies = row.preference_accuracy.as_ref().map(|shares| {
        let pairs = report.levels.iter().zip(shares);
        pairs.map(|(level, share)| format!("{level} {share:.2}")).collect::<Vec<_>>().join(", ")
    });
    let open = || "–".to_owned();
    cells.push(accuracies.unwrap_or_else(open));
    cells.push(row.agreement.map_or_else(open, |it| format!("{it:.2}")));
    cells
}

fn pairs_table(report: &JudgeReport) -> String {
    let header =
        ["A", "B", "A in both orders", "B in both orders", "orders disagree", "unclear", "first"];
    let mut text = markdown_row(header) + &markdown_rule(header.len());
    for JudgedPair { a, b, a_wins, b_wins, disagreements, unclear, first_share } in &report.pairs {
        let name = |place: usize| report.rows.get(place).map_or("?".to_owned(), JudgedRecipe::name);
        text.push_str(&markdown_row([
            name(*a),
            name(*b),
            a_wins.to_string(),
            b_wins.to_string(),
            disagreements.to_string(),
            unclear.to_string(),
            format!("{first_share:.2}"),
        ]));
    }
    text
}

#[cfg(test)]
mod tests {
    use meav_protocol::{Dtype, JudgedAnswer, Method, RecipeStamp};

    use super::*;
    use crate::figures::samples;

    fn report() -> JudgeReport {
        let recipe = |coefficient: f64| RecipeStamp {
            fingerprint: "blake3:ab12cd".to_owned(),
            base: "blake3:00".to_owned(),
            model: "Tiny".to_owned(),
            dtype: Dtype::F32,
            method: Method::default(),
            vectors: vec![samples::term("medical", coefficient)],
        };
        let answer = |level: Option<usize>, probabilities: &[f64]| JudgedAnswer {
            id: "m-1".to_owned(),
            query: "Why, \"doctor\"?".to_owned(),
            answer: "=HYPERLINK(1)".to_owned(),
            level,
            probabilities: probabilities.to_vec(),
        };
        let row = |coefficient: f64, instruction: Option<&str>, answers: Vec<JudgedAnswer>| {
            JudgedRecipe {
                recipe: recipe(coefficient),
                instruction: instruction.map(str::to_owned),
                shares: vec![0.5, 0.25],
                intervals: vec![[0.25, 0.75], [0.0, 0.5]],
                unclear: 1,
                preference_accuracy: instruction.is_none().then(|| vec![0.75, 0.25]),
                agreement: None,
                answers,
            }
        };
        JudgeReport {
            judge: "Tiny | 2".to_owned(),
            data: "medical.test.jsonl".to_owned(),
            levels: vec!["expert".to_owned(), "avoidance".to_owned()],
            rows: vec![
                row(-0.7, None, vec![answer(Some(0), &[0.75, 0.25]), answer(None, &[])]),
                row(0.5, Some("expert"), vec![answer(Some(9), &[0.5])]),
            ],
            pairs: vec![JudgedPair {
                a: 0,
                b: 1,
                a_wins: 3,
                b_wins: 2,
                disagreements: 1,
                unclear: 0,
                first_share: 0.625,
            }],
            elapsed_secs: 1.0,
        }
    }

    #[test]
    fn table_has_a_row_for_each_answer_and_runs_nothing() {
        let csv = judgement_csv(&report());
        let lines: Vec<&str> = csv.lines().collect();
        assert_eq!(lines[0], "recipe,instruction,id,query,answer,level,p_expert,p_avoidance");
        let text = "m-1,\"Why, \"\"doctor\"\"?\",\"'=HYPERLINK(1)\"";
        assert_eq!(lines[1], format!("#ab12 medical −0.7,,{text},expert,0.75,0.25"));
        assert_eq!(lines[2], format!("#ab12 medical −0.7,,{text},,,"));
        assert_eq!(lines[3], format!("#ab12 medical +0.5,expert,{text},,0.5,"));
        assert_eq!(lines.len(), 4);
    }

    #[test]
    fn markdown_has_a_row_for_each_recipe_and_each_two() {
        let markdown = judgement_markdown(&report());
        assert!(markdown.contains("judged by Tiny \\| 2:"), "{markdown}");
        let row = "| #ab12 medical −0.7 | 2 | 0.50 (0.25–0.75) | 0.25 (0.00–0.50) | 1 \
                   | expert 0.75, avoidance 0.25 | – |";
        assert!(markdown.contains(row), "{markdown}");
        let pair = "| #ab12 medical −0.7 | #ab12 medical +0.5, prompting: expert | 3 | 2 | 1 | 0 \
                    | 0.62 |";
        assert!(markdown.contains(pair), "{markdown}");
    }
}
