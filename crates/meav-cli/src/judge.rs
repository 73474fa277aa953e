use std::fs;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::path::Path;

use meav_protocol::{
    Fact, JobSpec, JudgeReport, JudgeSpec, JudgedPair, JudgedRecipe, Rubric, Secret,
};

use crate::args::{JsonTarget, JudgeArgs, JudgeCommand, JudgeRunArgs};
use crate::data::inspect;
use crate::failure::Failure;
use crate::hidden::read_hidden;
use crate::score::{interval, share};
use crate::terminal::{Terminal, print_columns, printable, write_json};
use crate::vector::target;

/// `meav judge`.
pub(crate) fn judge(args: JudgeArgs) -> Result<(), Failure> {
    match args.command {
        Some(JudgeCommand::Key { address, forget: true }) => keep_key(address, None),
        Some(JudgeCommand::Key { address, forget: false }) => {
            let key = read_key(&address)?;
            keep_key(address, Some(key))
        }
        None => judge_answers(&args.run),
    }
}

fn read_key(address: &str) -> Result<Secret, Failure> {
    let text = if io::stdin().is_terminal() {
        read_hidden(&format!("Key for {address}: "))?
    } else {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text)?;
        text
    };
    match text.trim() {
        "" => Err(Failure::new("There is no key", "Type it, or give it on standard input")),
        key => Ok(Secret(key.to_owned())),
    }
}

fn keep_key(address: String, key: Option<Secret>) -> Result<(), Failure> {
    let spec = JobSpec::KeepKey { address, key };
    let (address, is_kept) = Terminal::new(None)?.fact(spec, |fact| match fact {
        Fact::Key { address, is_kept } => Some((address, is_kept)),
        _ => None,
    })?;
    let words = if is_kept { "is in the system's secret store" } else { "is forgotten" };
    Ok(writeln!(io::stderr(), "The key for {address} {words}")?)
}

fn judge_answers(args: &JudgeRunArgs) -> Result<(), Failure> {
    let hint = "Give one list of λ for each recipe";
    let recipes = args.recipes().map_err(|err| Failure::new(err, hint))?;
    let hint = "meav judge --help says what goes together";
    let mut terminal = Terminal::with_model(args.compute)?;
    let default_dtype = terminal.measuring_dtype();
    let setup = args.setup(default_dtype).map_err(|err| Failure::new(err, hint))?;
    let rubric = rubric(&mut terminal, args)?;
    let levels: Vec<String> = rubric.names().into_iter().map(str::to_owned).collect();
    let hint = "An instruction is for a level that the judge knows";
    let prompting = args.prompting.prompting(&levels).map_err(|err| Failure::new(err, hint))?;
    let spec = JudgeSpec {
        setup,
        recipes,
        prompting,
        data: args.data().to_owned(),
        sample: args.sample,
        sampling: args.sampling(),
        max_tokens: args.max_tokens,
        rubric,
        judge: args.judge(default_dtype),
        compares: args.compare,
    };
    let report = terminal.fact(JobSpec::Judge(Box::new(spec)), |fact| match fact {
        Fact::Judged(report) => Some(report),
        _ => None,
    })?;
    let is_quiet = args.json.as_ref().is_some_and(JsonTarget::is_stdout);
    if let Some(json) = &args.json {
        write_json(json, &report)?;
    }
    if !is_quiet {
        print_judgement(&report)?;
    }
    for path in &args.out {
        let spec = JobSpec::ExportJudgement { report: report.clone(), out: target(path.clone()) };
        for fact in terminal.facts(spec)? {
            if let Fact::Written { path, summary } = fact {
                writeln!(io::stderr(), "{}: {summary}", path.display())?;
            }
        }
    }
    Ok(())
}

/// The one that the options name, or one for the levels of the first measure of the data.
fn rubric(terminal: &mut Terminal, args: &JudgeRunArgs) -> Result<Rubric, Failure> {
    if let Some(path) = &args.rubric {
        return read_rubric(path);
    }
    let report = inspect(terminal, args.data().to_owned())?;
    let Some(measure) = report.measures.into_iter().next() else {
        let summary = format!("{} has no levels to judge", args.data().display());
        return Err(Failure::new(summary, "Say with --rubric what the levels are"));
    };
    Ok(Rubric::of(measure.levels.iter().map(String::as_str)))
}

fn read_rubric(path: &Path) -> Result<Rubric, Failure> {
    let failed = |reason: String| {
        let summary = format!("{} is no rubric: {reason}", path.display());
        let example =
            r#"{"instructions": "…", "levels": [{"name": "expert", "description": "…"}, …]}"#;
        Failure::new(summary, format!("It looks like this: {example}"))
    };
    let text = fs::read_to_string(path).map_err(|err| failed(err.to_string()))?;
    let rubric: Rubric = serde_json::from_str(&text).map_err(|err| failed(err.to_string()))?;
    if rubric.levels.len() < 2 {
        return Err(failed("it needs two levels at least".to_owned()));
    }
    Ok(rubric)
}

fn print_judgement(report: &JudgeReport) -> Result<(), Failure> {
    let title = format!("{}, judged by {}", report.data, report.judge);
    writeln!(io::stdout(), "{}", printable(&title))?;
    print_columns(&recipe_rows(report))?;
    if let Some(first) = report.levels.first().filter(|_| !report.pairs.is_empty()) {
        writeln!(io::stdout(), "\nwhich answer is more {}", printable(first))?;
        print_columns(&pair_rows(report))?;
    }
    Ok(writeln!(io::stderr(), "judged in {:.1} s", report.elapsed_secs)?)
}

fn recipe_rows(report: &JudgeReport) -> Vec<Vec<String>> {
    let mut header = vec![String::new(), "answers".to_owned()];
    header.extend(report.levels.iter().cloned());
    header.push("unclear".to_owned());
    header.extend(report.levels.iter().map(|level| format!("preferred: {level}")));
    header.push("agreement".to_owned());
    let mut rows = vec![header];
    for row in &report.rows {
        let mut cells = vec![row.name(), row.answers.len().to_string()];
        for (place, judged) in row.shares.iter().enumerate() {
            let interval = row.intervals.get(place).map(|it| format!(" ({})", interval(it)));
            cells.push(share(Some(judged)) + &interval.unwrap_or_default());
        }
        cells.push(row.unclear.to_string());
        let preferred = row.preference_accuracy.as_ref();
        cells.extend(
            (0..report.levels.len())
                .map(|place| share(preferred.and_then(|shares| shares.get(place)))),
        );
        cells.push(share(row.agreement.as_ref()));
        rows.push(cells);
    }
    rows
}

fn pair_rows(report: &JudgeReport) -> Vec<Vec<String>> {
    let header = ["", "first", "second", "orders disagree", "unclear", "stood first"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for JudgedPair { a, b, a_wins, b_wins, disagreements, unclear, first_share } in &report.pairs {
        let name =
            |place: &usize| report.rows.get(*place).map_or("?".to_owned(), JudgedRecipe::name);
        rows.push(vec![
            format!("{} or {}", name(a), name(b)),
            a_wins.to_string(),
            b_wins.to_string(),
            disagreements.to_string(),
            unclear.to_string(),
            share(Some(first_share)),
        ]);
    }
    rows
}

#[cfg(test)]
mod tests {
    use meav_protocol::{Dtype, Method, RecipeStamp};

    use super::*;

    fn report() -> JudgeReport {
        let row = |instruction: Option<&str>| JudgedRecipe {
            recipe: RecipeStamp {
                fingerprint: "blake3:ab12cd".to_owned(),
                base: "blake3:00".to_owned(),
                model: "Tiny".to_owned(),
                dtype: Dtype::F32,
                method: Method::default(),
                vectors: Vec::new(),
            },
            instruction: instruction.map(str::to_owned),
            shares: vec![0.5, 0.25],
            intervals: vec![[0.25, 0.75], [0.0, 0.5]],
            unclear: 2,
            preference_accuracy: instruction.is_none().then(|| vec![0.75, 0.25]),
            agreement: None,
            answers: Vec::new(),
        };
        JudgeReport {
            judge: "Tiny".to_owned(),
            data: "a.jsonl".to_owned(),
            levels: vec!["expert".to_owned(), "avoidance".to_owned()],
            rows: vec![row(None), row(Some("expert"))],
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
    fn table_has_judgement_and_preference_beside_each_other() {
        let rows = recipe_rows(&report());
        let width = rows[0].len();
        assert!(rows.iter().all(|row| row.len() == width), "{rows:?}");
        let first = "#ab12 base|0|0.500 (0.250–0.750)|0.250 (0.000–0.500)|2|0.750|0.250|–";
        assert_eq!(rows[1].join("|"), first);
        assert_eq!(rows[2][0], "#ab12 base, prompting: expert");
        assert_eq!(rows[2][5..], ["–", "–", "–"].map(str::to_owned));
        let pairs = pair_rows(&report());
        let second = "#ab12 base or #ab12 base, prompting: expert|3|2|1|0|0.625";
        assert_eq!(pairs[1].join("|"), second);
    }

    #[test]
    fn rubric_file_needs_two_levels() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rubric.json");
        let rubric = Rubric::of(["expert", "blunt"]);
        fs::write(&path, serde_json::to_string(&rubric).unwrap()).unwrap();
        assert!(matches!(read_rubric(&path), Ok(read) if read == rubric));
        for bad in ["{}", "x", r#"{"instructions": "", "levels": []}"#] {
            fs::write(&path, bad).unwrap();
            assert!(read_rubric(&path).is_err(), "{bad}");
        }
        assert!(read_rubric(folder.path()).is_err());
    }
}
