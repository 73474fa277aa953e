//! The `meav` command: the engine at a terminal.
//!
//! Results go to standard output, everything else to standard error. Exit codes: 0 done, 1 failed,
//! 2 bad usage, 130 cancelled.

mod args;
mod chat;
mod failure;
mod interactive;
mod session;
mod terminal;

use std::process::ExitCode;

use clap::Parser as _;
use meav_protocol::{BenchSpec, Fact, JobSpec, MergeSpec, Setup, VectorImport};

use crate::args::{Args, BenchCommand, Command, ModelCommand, VectorCommand};
use crate::failure::Failure;
use crate::terminal::{Terminal, print_table, write_json};

fn main() -> ExitCode {
    let args = Args::parse();
    match run(args.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Info { path, json } => {
            let mut terminal = Terminal::new(None)?;
            let facts = terminal.facts(JobSpec::Describe { path })?;
            let [Fact::Described(description)] = &facts[..] else { return Ok(()) };
            if let Some(json) = json {
                write_json(&json, description)?;
                if json.is_stdout() {
                    return Ok(());
                }
            }
            print_table(&description.title, &description.rows)
        }
        Command::Model(ModelCommand::Fetch { model: args::FetchModel::Demo }) => {
            written(JobSpec::FetchDemo)
        }
        Command::Vector(VectorCommand::Import {
            adapter,
            base,
            domain,
            out,
            dtype,
            levels,
            training,
        }) => {
            let training = training.map(|args::Json(text)| text);
            let import = VectorImport { adapter, base, domain, out, dtype, levels, training };
            written(JobSpec::ImportVector(import))
        }
        Command::Merge { model, vectors, dtype, out, threads } => {
            let vectors = vectors.into_iter().map(Into::into).collect();
            let mut terminal = Terminal::new(threads)?;
            terminal.run_written(JobSpec::Merge(MergeSpec { model, vectors, dtype, out }))
        }
        Command::Chat(args) => chat::chat(&args),
        Command::Bench(command) => bench(&command),
    }
}

fn written(spec: JobSpec) -> Result<(), Failure> {
    Terminal::new(None)?.run_written(spec)
}

fn bench(command: &BenchCommand) -> Result<(), Failure> {
    let (BenchCommand::Merge(args) | BenchCommand::Decode(args)) = command;
    let setup = Setup {
        model: args.model.clone(),
        dtype: args.dtype,
        vectors: args.vectors.iter().cloned().map(Into::into).collect(),
    };
    let spec = match command {
        BenchCommand::Merge(_) => BenchSpec::Merge { setup },
        BenchCommand::Decode(_) => BenchSpec::Decode { setup },
    };
    let mut terminal = Terminal::new(args.threads)?;
    let facts = terminal.facts(JobSpec::Bench(spec))?;
    let [Fact::Bench(report)] = &facts[..] else { return Ok(()) };
    if let Some(json) = &args.json {
        write_json(json, report)?;
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
