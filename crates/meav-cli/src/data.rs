use std::io::{self, Write as _};
use std::path::PathBuf;

use meav_protocol::{
    DataReport, ExportTarget, Fact, JobSpec, LeakageReport, LengthSummary, MeasureSummary,
    SplitSpec,
};

use crate::args::{DataCommand, JsonTarget};
use crate::failure::Failure;
use crate::terminal::{Terminal, print_table, problem_line, write_json};

/// Pairs of lines that are named; of more, the number is told.
const MAX_NAMED: usize = 20;

/// `meav data`.
pub(crate) fn data(command: DataCommand) -> Result<(), Failure> {
    let mut terminal = Terminal::new(None)?;
    match command {
        DataCommand::Check { files, json } => check(&mut terminal, files, json.as_ref()),
        DataCommand::Split { file, out, test, validation, seed } => {
            // The files in the folder are not named by the command line.
            let out = ExportTarget { path: out, replace: false };
            let split = SplitSpec { data: file, test, validation, seed, out };
            terminal.run_written(JobSpec::SplitData(split))
        }
        DataCommand::Leakage { train, test, json } => {
            leakage(&mut terminal, train, test, json.as_ref())
        }
        DataCommand::List => {
            for path in demo_data(&mut terminal)? {
                writeln!(io::stdout(), "{}", path.display())?;
            }
            Ok(())
        }
    }
}

/// The preference data that come with the demo.
pub(crate) fn demo_data(terminal: &mut Terminal) -> Result<Vec<PathBuf>, Failure> {
    terminal.fact(JobSpec::ListDemoData, |fact| match fact {
        Fact::DemoData(paths) => Some(paths),
        _ => None,
    })
}

/// What a file of preference records holds.
pub(crate) fn inspect(terminal: &mut Terminal, path: PathBuf) -> Result<DataReport, Failure> {
    terminal.fact(JobSpec::InspectData { path }, |fact| match fact {
        Fact::Data(report) => Some(*report),
        _ => None,
    })
}

fn check(
    terminal: &mut Terminal,
    files: Vec<PathBuf>,
    json: Option<&JsonTarget>,
) -> Result<(), Failure> {
    let mut reports = Vec::new();
    for file in files {
        let report = inspect(terminal, file)?;
        if !json.is_some_and(JsonTarget::is_stdout) {
            print_report(&report)?;
        }
        reports.push(report);
    }
    if let Some(json) = json {
        write_json(json, &reports)?;
    }
    match reports.iter().find(|report| report.records == 0) {
        None => Ok(()),
        Some(report) => Err(Failure::new(
            format!("No record of {} can be used", report.file.display()),
            "The reasons are given line by line",
        )),
    }
}

fn print_report(report: &DataReport) -> Result<(), Failure> {
    let file = report.file.display().to_string();
    print_table(&file, &report_rows(report))?;
    let mut out = io::stdout().lock();
    for problem in &report.problems {
        writeln!(out, "{}", problem_line(&file, problem))?;
    }
    let more = report.n_problems.saturating_sub(report.problems.len());
    if more > 0 {
        writeln!(out, "… and {more} more")?;
    }
    Ok(())
}

fn report_rows(report: &DataReport) -> Vec<(String, String)> {
    let row = |name: &str, value: String| (name.to_owned(), value);
    let mut rows = vec![row("format", format!("{}, {}", report.format, report.shape))];
    if report.is_demo {
        let origin = "part of the demo: synthetic, and reviewed by no professional";
        rows.push(row("origin", origin.to_owned()));
    }
    rows.push(row("records", report.records.to_string()));
    if report.n_problems > 0 {
        rows.push(row("cannot be used", report.n_problems.to_string()));
    }
    for MeasureSummary { measure, levels, n } in &report.measures {
        rows.push(row("measure", format!("{measure}: {} ({n} records)", levels.join(", "))));
    }
    for (name, values) in &report.counts {
        let values: Vec<_> =
            values.iter().map(|(value, count)| format!("{value} {count}")).collect();
        rows.push(row(name, values.join(", ")));
    }
    if report.personas > 0 {
        rows.push(row("personas", report.personas.to_string()));
    }
    rows.extend(report.lengths.iter().map(length_row));
    if !report.duplicate_queries.is_empty() {
        rows.push(row("same query in lines", pairs(&report.duplicate_queries)));
    }
    if !report.identical_responses.is_empty() {
        let lines = report.identical_responses.iter().map(usize::to_string);
        rows.push(row("same response at two levels", named(lines)));
    }
    rows.push(row("fingerprint", report.fingerprint.clone()));
    rows
}

fn length_row(length: &LengthSummary) -> (String, String) {
    let LengthSummary { name, quantiles: [least, lower, middle, upper, most], mean, .. } = length;
    let value = format!(
        "{least} to {most}, the middle half {lower} to {upper}, median {middle}, mean {mean:.1}"
    );
    (format!("words, {name}"), value)
}

fn pairs(pairs: &[(usize, usize)]) -> String {
    named(pairs.iter().map(|(a, b)| format!("{a} and {b}")))
}

fn named(mut names: impl ExactSizeIterator<Item = String>) -> String {
    let first: Vec<_> = names.by_ref().take(MAX_NAMED).collect();
    let more = match names.len() {
        0 => String::new(),
        count => format!(", … and {count} more"),
    };
    format!("{}{more}", first.join(", "))
}

fn leakage(
    terminal: &mut Terminal,
    train: PathBuf,
    test: PathBuf,
    json: Option<&JsonTarget>,
) -> Result<(), Failure> {
    let title = format!("{} against {}", test.display(), train.display());
    let report = terminal.fact(JobSpec::FindLeakage { train, test }, |fact| match fact {
        Fact::Leakage(report) => Some(report),
        _ => None,
    })?;
    if let Some(json) = json {
        write_json(json, &report)?;
        if json.is_stdout() {
            return Ok(());
        }
    }
    print_table(&title, &leakage_rows(&report))
}

fn leakage_rows(report: &LeakageReport) -> Vec<(String, String)> {
    let shared = |what: &str, found: &[(usize, usize)]| {
        let mut lines: Vec<usize> = found.iter().map(|(_, test)| *test).collect();
        lines.sort_unstable();
        lines.dedup();
        let words = match lines.len() {
            0 => "none".to_owned(),
            count => format!(
                "{count} of {} test records (line in training and line in test: {})",
                report.records,
                pairs(found)
            ),
        };
        (what.to_owned(), words)
    };
    vec![shared("shared personas", &report.personas), shared("shared queries", &report.queries)]
}

#[cfg(test)]
mod tests {
    use meav_protocol::MeasureName;

    use super::*;

    #[test]
    fn report_names_what_can_be_measured_and_what_is_odd() {
        let report = DataReport {
            file: "a.jsonl".into(),
            path: "/data/a.jsonl".into(),
            fingerprint: "blake3:00".to_owned(),
            format: "JSONL".to_owned(),
            shape: "levels".to_owned(),
            is_demo: true,
            measures: vec![MeasureSummary {
                measure: MeasureName::Levels,
                levels: vec!["expert".to_owned(), "generic".to_owned()],
                n: 23,
            }],
            records: 23,
            problems: Vec::new(),
            n_problems: 1,
            counts: vec![("domain".to_owned(), vec![("medical".to_owned(), 23)])],
            personas: 0,
            lengths: vec![LengthSummary {
                name: "expert".to_owned(),
                n: 23,
                quantiles: [5.0, 9.0, 10.5, 12.0, 40.0],
                mean: 11.25,
            }],
            duplicate_queries: (1..=22).map(|line| (line, line + 1)).collect(),
            identical_responses: vec![4],
        };
        let rows = report_rows(&report);
        let value = |name: &str| {
            rows.iter().find(|row| row.0 == name).map(|row| row.1.as_str()).unwrap_or_default()
        };
        assert_eq!(value("measure"), "levels: expert, generic (23 records)");
        assert_eq!(value("cannot be used"), "1");
        assert_eq!(value("domain"), "medical 23");
        assert!(value("origin").contains("no professional"));
        let lengths = "5 to 40, the middle half 9 to 12, median 10.5, mean 11.2";
        assert_eq!(value("words, expert"), lengths);
        let duplicates = value("same query in lines");
        assert!(duplicates.starts_with("1 and 2, 2 and 3, "), "{duplicates}");
        assert!(duplicates.ends_with("20 and 21, … and 2 more"), "{duplicates}");
        assert_eq!(value("same response at two levels"), "4");
        assert_eq!(value("personas"), "");
    }

    #[test]
    fn leakage_counts_test_records_once() {
        let report =
            LeakageReport { records: 10, personas: vec![(1, 7), (2, 7)], queries: Vec::new() };
        let rows = leakage_rows(&report);
        let words = "1 of 10 test records (line in training and line in test: 1 and 7, 2 and 7)";
        assert_eq!(rows[0].1, words);
        assert_eq!(rows[1].1, "none");
    }
}
