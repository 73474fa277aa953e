use std::path::PathBuf;

use meav_protocol::{BenchSpec, Fact, JobSpec, Method, Setup};

use crate::args::{
    BenchArgs, BenchCommand, BenchScoreArgs, BenchTrainArgs, Contradiction, JsonTarget,
};
use crate::data::demo_data;
use crate::failure::Failure;
use crate::terminal::{Terminal, print_table, write_json};

/// `meav bench`.
pub(crate) fn bench(command: &BenchCommand) -> Result<(), Failure> {
    match command {
        BenchCommand::Merge { args, kind } => {
            let spec = BenchSpec::Merge { setup: setup(args), seeded: (*kind).into() };
            run(Terminal::with_model(args.compute)?, spec, args.json.as_ref())
        }
        BenchCommand::Decode(args) => {
            let spec = BenchSpec::Decode { setup: setup(args) };
            run(Terminal::with_model(args.compute)?, spec, args.json.as_ref())
        }
        BenchCommand::Score(args) => score(args),
        BenchCommand::Train(args) => train(args),
    }
}

fn setup(args: &BenchArgs) -> Setup {
    Setup {
        model: args.model.clone(),
        dtype: args.dtype,
        method: Method::default(),
        vectors: args.vectors.iter().cloned().map(Into::into).collect(),
    }
}

fn score(args: &BenchScoreArgs) -> Result<(), Failure> {
    let mut terminal = Terminal::with_model(args.compute)?;
    let data = if args.data.is_empty() { test_data(&mut terminal)? } else { args.data.clone() };
    let setup = Setup {
        model: args.model.clone(),
        dtype: args.dtype.unwrap_or(terminal.measuring_dtype()),
        method: Method::default(),
        vectors: args.vectors.iter().cloned().map(Into::into).collect(),
    };
    run(terminal, BenchSpec::Score { setup, data }, args.json.as_ref())
}

fn train(args: &BenchTrainArgs) -> Result<(), Failure> {
    let refuse = |err: Contradiction| Failure::new(err.to_string(), "Leave that option out");
    let method = args.method.method().map_err(refuse)?;
    let terminal = Terminal::with_model(args.compute)?;
    let spec = BenchSpec::Train {
        model: args.model.clone(),
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
