use meav_eval::table;
use meav_protocol::{DatasetScores, ScoreKind, Sweep, SweptData};

use super::csv::csv_row;
use super::markdown::{markdown_heading, markdown_row, markdown_rule};

/// A row for each λ, data set, measure and level, and for each baseline.
///
/// λ = 0 with nothing else added is the baseline `default`; rows of `prompting:LEVEL` have no λ.
pub(crate) fn sweeps_csv(sweeps: &[Sweep]) -> String {
    let mut header = vec![
        "lambda".to_owned(),
        "baseline".to_owned(),
        "data".to_owned(),
        "measure".to_owned(),
        "level".to_owned(),
        "n".to_owned(),
        "preference_accuracy".to_owned(),
        "low".to_owned(),
        "high".to_owned(),
        "mean_log_prob".to_owned(),
    ];
    header.extend(other_kinds().map(|kind| format!("preference_accuracy_{}", column(kind))));
    header.extend(["disagreements", "prompt_tokens", "model", "vector", "held"].map(str::to_owned));
    let mut text = csv_row(header);
    for sweep in sweeps {
        let is_alone = sweep.held.iter().all(|term| term.coefficient == 0.0);
        for point in &sweep.points {
            let baseline = if point.lambda == 0.0 && is_alone { "default" } else { "" };
            for scores in &point.datasets {
                let lambda = point.lambda.to_string();
                push_rows(&mut text, sweep, &lambda, baseline, scores);
            }
        }
        for prompting in &sweep.prompting {
            let baseline = format!("prompting:{}", prompting.level);
            for scores in &prompting.datasets {
                push_rows(&mut text, sweep, "", &baseline, scores);
            }
        }
    }
    text
}

/// For each sweep the tables of the paper, and the preference accuracies at each λ.
pub(crate) fn sweeps_markdown(sweeps: &[Sweep]) -> String {
    let mut text = String::new();
    for sweep in sweeps {
        text.push_str(&table(sweep));
        for (place, data) in sweep.datasets.iter().enumerate() {
            let heading = format!("Along λ: {}, {}", data.name, data.measure);
            text.push('\n');
            text.push_str(&markdown_heading(2, &heading));
            text.push_str(&curve_table(sweep, place, data));
        }
        text.push('\n');
    }
    text
}

/// A row for each λ, a column for each level.
fn curve_table(sweep: &Sweep, place: usize, data: &SweptData) -> String {
    let header: Vec<&str> =
        std::iter::once("λ").chain(data.levels.iter().map(String::as_str)).collect();
    let mut text = markdown_row(&header) + &markdown_rule(header.len());
    for point in &sweep.points {
        let Some(scores) = point.datasets.get(place) else { continue };
        let shares = data.levels.iter().map(|level| share_cell(scores, level));
        text.push_str(&markdown_row(std::iter::once(point.lambda.to_string()).chain(shares)));
    }
    text
}

fn share_cell(scores: &DatasetScores, level: &str) -> String {
    let Some(share) = scores.preference_accuracy.get(level) else { return "–".to_owned() };
    let interval = scores.intervals.get(level);
    let interval = interval.map(|[low, high]| format!(" ({low:.2}–{high:.2})"));
    format!("{share:.2}{}", interval.unwrap_or_default())
}

fn push_rows(
    text: &mut String,
    sweep: &Sweep,
    lambda: &str,
    baseline: &str,
    scores: &DatasetScores,
) {
    let number = |value: Option<f64>| value.map(|it| it.to_string()).unwrap_or_default();
    let held: Vec<String> =
        sweep.held.iter().map(|term| format!("{}={}", term.domain, term.coefficient)).collect();
    for (level, accuracy) in &scores.preference_accuracy {
        let interval = scores.intervals.get(level);
        let mut row = vec![
            lambda.to_owned(),
            baseline.to_owned(),
            scores.file.clone(),
            scores.measure.to_string(),
            level.clone(),
            scores.n.to_string(),
            accuracy.to_string(),
            number(interval.map(|it| it[0])),
            number(interval.map(|it| it[1])),
            number(scores.mean_log_prob.get(level).copied()),
        ];
        row.extend(other_kinds().map(|kind| {
            number(scores.other_kinds.get(&kind).and_then(|shares| shares.get(level)).copied())
        }));
        row.extend([
            scores.disagreements.to_string(),
            scores.prompt_tokens.to_string(),
            sweep.model.clone(),
            sweep.vector.domain.clone(),
            held.join(" "),
        ]);
        text.push_str(&csv_row(row));
    }
}

/// All but the paper's, which has columns of its own.
fn other_kinds() -> impl Iterator<Item = ScoreKind> {
    ScoreKind::ALL.into_iter().filter(|kind| *kind != ScoreKind::MeanLogProb)
}

/// As JSON calls it.
fn column(kind: ScoreKind) -> &'static str {
    match kind {
        ScoreKind::MeanLogProb => "mean_log_prob",
        ScoreKind::SumLogProb => "sum_log_prob",
        ScoreKind::PerByteLogProb => "per_byte_log_prob",
        ScoreKind::LengthAdjusted => "length_adjusted",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::samples;

    #[test]
    fn table_has_a_row_for_each_level_at_each_lambda_and_baseline() {
        let sweep = samples::sweep("medical");
        let csv = sweeps_csv(std::slice::from_ref(&sweep));
        let lines: Vec<&str> = csv.lines().collect();
        let levels = 3 * sweep.datasets.len();
        assert_eq!(lines.len(), 1 + levels * (sweep.points.len() + sweep.prompting.len()));
        let width = |line: &str| line.split(',').count();
        assert!(lines.iter().all(|line| width(line) == 18), "{csv}");
        let first = "-1,,medical.test.jsonl,levels,expert,24,0.2,0.1,0.3,-2.5,0.25,,,3,41.5,\
                     Tiny,medical,";
        assert_eq!(lines[1], first);
        assert!(lines.iter().any(|line| line.starts_with("0,default,medical.test.jsonl,")));
        assert!(lines.iter().any(|line| line.starts_with(",prompting:expert,medical.test.jsonl,")));
    }

    #[test]
    fn names_from_files_run_nothing_and_a_held_vector_is_no_default() {
        let mut sweep = samples::sweep("=medical");
        sweep.held = vec![samples::term("legal", 0.5)];
        let csv = sweeps_csv(&[sweep]);
        assert!(csv.contains(",\"'=medical\",legal=0.5\r\n"), "{csv}");
        assert!(!csv.contains("default"), "{csv}");
    }

    #[test]
    fn markdown_has_the_tables_of_the_paper_and_a_row_for_each_lambda() {
        let sweep = samples::sweep("medical");
        let markdown = sweeps_markdown(std::slice::from_ref(&sweep));
        assert!(markdown.starts_with(&table(&sweep)), "{markdown}");
        let heading = "## Along λ: legal &lt;&amp;&gt; \\|test\\|.jsonl, levels\n";
        assert!(markdown.contains(heading), "{markdown}");
        let row = "| -0.5 | 0.35 (0.25–0.45) | 0.49 (0.39–0.59) | 0.16 (0.06–0.26) |\n";
        assert_eq!(markdown.matches(row).count(), sweep.datasets.len(), "{markdown}");
    }

    #[test]
    fn columns_are_named_as_in_json() {
        for kind in ScoreKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), column(kind));
        }
    }
}
