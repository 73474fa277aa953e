use std::io::{self, Write as _};
use std::path::PathBuf;

use meav_protocol::{
    DatasetScores, Fact, JobSpec, MeasureSummary, Prompting, PromptingScores, ScoreKind,
    ScoreReport, ScoreSpec,
};

use crate::args::{JsonTarget, PromptingArgs, ScoreArgs};
use crate::data::inspect;
use crate::failure::Failure;
use crate::recipe;
use crate::terminal::{
    Terminal, no_answer, print_columns, printable, problem_line, say_aside, write_json,
};

/// `meav score`.
pub(crate) fn score(args: ScoreArgs) -> Result<(), Failure> {
    let mut terminal = Terminal::with_model(args.compute)?;
    let default_dtype = terminal.measuring_dtype();
    let setup = recipe::setup(&mut terminal, &args.recipe, args.dtype, default_dtype)?;
    let prompting = prompting(&mut terminal, &args.prompting, &args.data)?;
    let spec = ScoreSpec { setup, data: args.data, prompting };
    let mut found = None;
    let outcome = terminal.run(JobSpec::Score(Box::new(spec)), |fact| match fact {
        Fact::Scored(report) => found = Some(*report),
        fact => say_aside(&fact),
    });
    Failure::check(outcome)?;
    let report = found.ok_or_else(no_answer)?;
    warn_skipped(&report.datasets, &report.prompting)?;
    if let Some(json) = &args.json {
        write_json(json, &report)?;
    }
    if args.json.as_ref().is_some_and(JsonTarget::is_stdout) {
        return Ok(());
    }
    print_scores(&report)
}

/// The instructions that are asked for, for the levels that the data have.
pub(crate) fn prompting(
    terminal: &mut Terminal,
    args: &PromptingArgs,
    data: &[PathBuf],
) -> Result<Option<Prompting>, Failure> {
    let levels = if args.is_asked() { levels(terminal, data)? } else { Vec::new() };
    let hint = "meav data check names the levels of a file";
    args.prompting(&levels).map_err(|err| Failure::new(err, hint))
}

/// The levels of all measures of all files.
fn levels(terminal: &mut Terminal, data: &[PathBuf]) -> Result<Vec<String>, Failure> {
    let mut levels: Vec<String> = Vec::new();
    for path in data {
        for MeasureSummary { levels: own, .. } in inspect(terminal, path.clone())?.measures {
            for level in own {
                if !levels.contains(&level) {
                    levels.push(level);
                }
            }
        }
    }
    Ok(levels)
}

/// Names every record that only the instructions leave out.
pub(crate) fn warn_skipped(
    datasets: &[DatasetScores],
    prompting: &[PromptingScores],
) -> Result<(), Failure> {
    let mut err = io::stderr().lock();
    for line in skipped(datasets, prompting) {
        writeln!(err, "warning: {line}")?;
    }
    Ok(())
}

fn skipped(datasets: &[DatasetScores], prompting: &[PromptingScores]) -> Vec<String> {
    let is_plain = |file: &str, line: usize| {
        let mut same = datasets.iter().filter(|scores| scores.file == file);
        same.any(|scores| scores.skipped.iter().any(|problem| problem.line == line))
    };
    let mut lines: Vec<String> = Vec::new();
    for PromptingScores { level, datasets } in prompting {
        for scores in datasets {
            let own = scores.skipped.iter().filter(|it| !is_plain(&scores.file, it.line));
            for problem in own {
                let line = problem_line(&scores.file, problem);
                let line = format!("{line} (prompting: {level})");
                // A file with two measures lists its records twice.
                if !lines.contains(&line) {
                    lines.push(line);
                }
            }
        }
    }
    lines
}

fn print_scores(report: &ScoreReport) -> Result<(), Failure> {
    let recipe = &report.recipe;
    let title = format!("{recipe} · {} · {}", recipe.model, recipe.dtype);
    writeln!(io::stdout(), "{}", printable(&title))?;
    for scores in &report.datasets {
        let DatasetScores { file, measure, n, .. } = scores;
        writeln!(io::stdout(), "\n{}: {measure}, {n} records", printable(file))?;
        print_columns(&level_rows(scores))?;
        writeln!(io::stdout(), "  {}", remarks(scores))?;
        let prompted = prompting_rows(scores, &report.prompting);
        if !prompted.is_empty() {
            writeln!(io::stdout(), "  prompting instead of vectors:")?;
            print_columns(&prompted)?;
        }
    }
    Ok(writeln!(io::stderr(), "scored in {:.1} s", report.elapsed_secs)?)
}

/// A row for each level: the shares by each kind of score, those of length alone, and the mean
/// log-probability.
fn level_rows(scores: &DatasetScores) -> Vec<Vec<String>> {
    let mut header = vec![String::new(), "preferred".to_owned(), "95 % interval".to_owned()];
    header.extend(scores.other_kinds.keys().map(ScoreKind::to_string));
    header.extend(["longest", "shortest", "mean log-prob"].map(str::to_owned));
    let mut rows = vec![header];
    for (level, accuracy) in &scores.preference_accuracy {
        let mut row = vec![level.clone(), share(Some(accuracy))];
        row.push(scores.intervals.get(level).map_or_else(open, interval));
        row.extend(scores.other_kinds.values().map(|shares| share(shares.get(level))));
        row.push(share(scores.length_only.longest.get(level)));
        row.push(share(scores.length_only.shortest.get(level)));
        row.push(scores.mean_log_prob.get(level).map_or_else(open, |it| format!("{it:.4}")));
        rows.push(row);
    }
    rows
}

fn remarks(scores: &DatasetScores) -> String {
    let skipped = match scores.skipped.len() {
        0 => String::new(),
        count => format!("; {count} skipped"),
    };
    format!(
        "the kinds of score disagree on {} records; the longest response is preferred on {} of \
         them all; {:.1} tokens in front of a response{skipped}",
        scores.disagreements,
        share(Some(&scores.length_only.agreement)),
        scores.prompt_tokens
    )
}

/// A row for each instruction whose data these are, with what it costs in tokens and in records:
/// what fits without an instruction may not fit with one.
fn prompting_rows(scores: &DatasetScores, prompting: &[PromptingScores]) -> Vec<Vec<String>> {
    let is_same =
        |other: &&DatasetScores| other.file == scores.file && other.measure == scores.measure;
    let mut rows = Vec::new();
    for PromptingScores { level, datasets } in prompting {
        let Some(prompted) = datasets.iter().find(is_same) else { continue };
        let shares = scores.preference_accuracy.keys();
        let mut row = vec![format!("for {level}"), prompted.n.to_string()];
        row.extend(shares.map(|level| share(prompted.preference_accuracy.get(level))));
        row.push(format!("{:.1}", prompted.prompt_tokens));
        row.push(format!("{:+.1}", prompted.prompt_tokens - scores.prompt_tokens));
        rows.push(row);
    }
    if !rows.is_empty() {
        let mut header = vec![String::new(), "records".to_owned()];
        header.extend(scores.preference_accuracy.keys().cloned());
        header.extend(["tokens in front", "more than without"].map(str::to_owned));
        rows.insert(0, header);
    }
    rows
}

pub(crate) fn share(value: Option<&f64>) -> String {
    value.map_or_else(open, |it| format!("{it:.3}"))
}

pub(crate) fn interval([low, high]: &[f64; 2]) -> String {
    format!("{low:.3}–{high:.3}")
}

fn open() -> String {
    "–".to_owned()
}

#[cfg(test)]
mod tests {
    use meav_protocol::{
        DataProblem, Dtype, LengthOnly, MeasureName, Method, RecipeStamp, Scope, Shares, StampTerm,
    };
    use serde_json::json;

    use super::*;

    fn shares(values: [f64; 2]) -> Shares {
        ["expert", "generic"].map(str::to_owned).into_iter().zip(values).collect()
    }

    fn scores(prompt_tokens: f64) -> DatasetScores {
        let ends = [[0.5, 0.875], [0.125, 0.5]];
        DatasetScores {
            file: "a.jsonl".to_owned(),
            measure: MeasureName::Levels,
            n: 4,
            preference_accuracy: shares([0.75, 0.25]),
            intervals: shares([0.0; 2]).into_keys().zip(ends).collect(),
            other_kinds: std::iter::once((ScoreKind::SumLogProb, shares([0.5, 0.5]))).collect(),
            disagreements: 1,
            length_only: LengthOnly {
                longest: shares([1.0, 0.0]),
                shortest: shares([0.0, 1.0]),
                agreement: 0.75,
            },
            mean_log_prob: shares([-2.0, -2.5]),
            prompt_tokens,
            skipped: vec![DataProblem {
                line: 3,
                id: Some("m-3".to_owned()),
                reason: "no response".to_owned(),
            }],
            preferred: vec![0, 0, 1, 0],
            records: Vec::new(),
        }
    }

    #[test]
    fn table_has_every_kind_of_score_for_each_level() {
        let rows = level_rows(&scores(40.0));
        let expected = [
            ["", "preferred", "95 % interval", "sum", "longest", "shortest", "mean log-prob"],
            ["expert", "0.750", "0.500–0.875", "0.500", "1.000", "0.000", "-2.0000"],
            ["generic", "0.250", "0.125–0.500", "0.500", "0.000", "1.000", "-2.5000"],
        ];
        assert_eq!(rows, expected);
    }

    #[test]
    fn prompting_tells_what_it_costs() {
        let fewer = DatasetScores { n: 3, ..scores(61.5) };
        let prompting = PromptingScores { level: "expert".to_owned(), datasets: vec![fewer] };
        let rows = prompting_rows(&scores(40.0), &[prompting]);
        let expected = [
            ["", "records", "expert", "generic", "tokens in front", "more than without"],
            ["for expert", "3", "0.750", "0.250", "61.5", "+21.5"],
        ];
        assert_eq!(rows, expected);
        assert!(prompting_rows(&scores(40.0), &[]).is_empty());
    }

    #[test]
    fn record_that_only_an_instruction_leaves_out_is_named_once() {
        let mut fewer = scores(61.5);
        let reason = "it is too long".to_owned();
        fewer.skipped.push(DataProblem { line: 7, id: None, reason });
        let prompting = PromptingScores { level: "expert".to_owned(), datasets: vec![fewer] };
        let mut second = scores(40.0);
        second.measure = MeasureName::Safety;
        assert_eq!(
            skipped(&[scores(40.0), second], &[prompting]),
            ["a.jsonl:7: it is too long (prompting: expert)"]
        );
    }

    #[test]
    fn json_has_the_keys_that_programs_look_for() {
        let report = ScoreReport {
            recipe: RecipeStamp {
                fingerprint: "blake3:ab".to_owned(),
                base: "blake3:00".to_owned(),
                model: "Tiny".to_owned(),
                dtype: Dtype::F32,
                method: Method::default(),
                vectors: vec![StampTerm {
                    domain: "medical".to_owned(),
                    file: "v.safetensors".into(),
                    fingerprint: "blake3:01".to_owned(),
                    coefficient: -0.7,
                    scope: Scope::default(),
                }],
            },
            datasets: vec![scores(40.0)],
            prompting: Vec::new(),
            elapsed_secs: 1.5,
        };
        let value = serde_json::to_value(&report).unwrap();
        assert_eq!(value["recipe"]["base"], "blake3:00");
        assert_eq!(value["recipe"]["vectors"][0]["file"], "v.safetensors");
        assert_eq!(value["recipe"]["vectors"][0]["lambda"], -0.7);
        let data = &value["datasets"][0];
        assert_eq!(data["file"], "a.jsonl");
        assert_eq!(data["measure"], "levels");
        assert_eq!(data["n"], 4);
        assert_eq!(data["preference_accuracy"], json!({"expert": 0.75, "generic": 0.25}));
        assert_eq!(data["other_kinds"]["sum_log_prob"]["generic"], 0.5);
        assert_eq!(value["elapsed_secs"], 1.5);
    }
}
