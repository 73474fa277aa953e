use std::path::PathBuf;

use meav_protocol::{BenchSpec, Fact, JobSpec, Method, Setup};

use crate::args::{
    BenchArgs, BenchCommand, BenchScoreArgs, BenchTrainArgs, Contradiction, JsonTarget, SubjectArgs,
};
use crate::data::demo_data;
use crate::failure::Failure;
use crate::terminal::{Terminal, print_table, write_json};

/// `meav bench`.
pub(crate) fn bench(command: &BenchCommand) -> Result<(), Failure> {
    match command {
        BenchCommand::Merge { args, kind } => {
            let mut terminal = Terminal::with_model(args.compute)?;
            let setup = setup(args, &mut terminal)?;
            let spec = BenchSpec::Merge { setup, seeded: (*kind).into() };
            run(terminal, spec, args.json.as_ref())
        }
        BenchCommand::Decode(args) => {
            let mut terminal = Terminal::with_model(args.compute)?;
            let spec = BenchSpec::Decode { setup: setup(args, &mut terminal)? };
            run(terminal, spec, args.json.as_ref())
        }
        BenchCommand::Score(args) => score(args),
        BenchCommand::Train(args) => train(args),
    }
}

/// The model that was named, or the folder of the one that is made.
fn model(subject: &SubjectArgs, terminal: &mut Terminal) -> Result<PathBuf, Failure> {
    match (&subject.model, subject.shape) {
        (Some(model), _) => Ok(model.clone()),
        (None, Some(shape)) => terminal.fact(JobSpec::SeedModel(shape), |fact| match fact {
            Fact::Written { path, .. } => Some(path),
            _ => None,
        }),
        (None, None) => unreachable!("one of them is asked for"),
    }
}

fn setup(args: &BenchArgs, terminal: &mut Terminal) -> Result<Setup, Failure> {
    Ok(Setup {
        model: model(&args.subject, terminal)?,
        dtype: args.dtype,
        method: Method::default(),
        vectors: args.vectors.iter().cloned().map(Into::into).collect(),
    })
}

fn score(args: &BenchScoreArgs) -> Result<(), Failure> {
    let mut terminal = Terminal::with_model(args.compute)?;
    let data = if args.data.is_empty() { test_data(&mut terminal)? } else { args.data.clone() };
    let setup = Setup {
        model: model(&args.subject, &mut terminal)?,
        dtype: args.dtype.unwrap_or(terminal.measuring_dtype()),
        method: Method::default(),
        vectors: args.vectors.iter().cloned().map(Into::into).collect(),
    };
    run(terminal, BenchSpec::Score { setup, data }, args.json.as_ref())
}

fn train(args: &BenchTrainArgs) -> Result<(), Failure> {
    let refuse = |err: Contradiction| Failure::new(err.to_string(), "Leave that option out");
    let method = args.method.method().map_err(refuse)?;
    let mut terminal = Terminal::with_model(args.compute)?;
    let spec = BenchSpec::Train {
        model: model(&args.subject, &mut terminal)?,
        method,
        dtype: args.dtype.unwrap_or(terminal.measuring_dtype()),
        checkpointing: !args.no_checkpointing,
        pairs: args.pairs,
        tokens: args.tokens,
    };
    run(terminal, spec, args.json.as_ref())
}

fn test_data(terminal: &mut Terminal) -> Result<Vec<PathBuf>, Failure> {
    let is_test = |path: &PathBuf| path.to_string_lossy().ends_with(".test.jsonl");
    let data: Vec<_> = demo_data(terminal)?.into_iter().filter(is_test).collect();
    if data.is_empty() {
        let hint = "Name a file with --data";
        return Err(Failure::new("The test data of the demo are not there", hint));
    }
    Ok(data)
}

fn run(mut terminal: Terminal, spec: BenchSpec, json: Option<&JsonTarget>) -> Result<(), Failure> {
    let report = terminal.fact(JobSpec::Bench(spec), |fact| match fact {
        Fact::Bench(report) => Some(report),
        _ => None,
    })?;
    if let Some(json) = json {
        write_json(json, &report)?;
        if json.is_stdout() {
            return Ok(());
        }
    }
    let rows: Vec<_> = report
        .measures
        .iter()
        .map(|measure| (measure.name.clone(), format!("{:.3} {}", measure.value, measure.unit)))
        .collect();
    print_table(&report.name, &rows)
}
