//! The `meav` command: the engine at a terminal.
//!
//! Results go to standard output, everything else to standard error. Exit codes: 0 done, 1 failed,
//! 2 bad usage, 130 cancelled.

mod args;
mod bench;
mod chat;
mod data;
mod failure;
mod hidden;
mod interactive;
mod judge;
mod plan;
mod recipe;
mod score;
mod session;
mod sweep;
mod terminal;
mod train;
mod vector;

use std::process::ExitCode;

use clap::Parser as _;
use meav_protocol::{Dtype, ExportTarget, Fact, JobSpec, MergeFormat, MergeSpec, Method, Setup};

use crate::args::{Args, Command, ModelCommand, RecipeCommand};
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
        Command::Info { path, plan: true, vectors, dtype, device, json } => {
            let vectors = vectors.into_iter().map(Into::into).collect();
            let setup = Setup { model: path, dtype, method: Method::default(), vectors };
            plan::plan(setup, device, json.as_ref())
        }
        Command::Info { path, json, .. } => {
            let mut terminal = Terminal::new(None)?;
            let description = terminal.fact(JobSpec::Describe { path }, |fact| match fact {
                Fact::Described(description) => Some(description),
                _ => None,
            })?;
            if let Some(json) = json {
                write_json(&json, &description)?;
                if json.is_stdout() {
                    return Ok(());
                }
            }
            print_table(&description.title, &description.rows)
        }
        Command::Model(ModelCommand::Fetch { model: args::FetchModel::Demo }) => {
            Terminal::new(None)?.run_written(JobSpec::FetchDemo)
        }
        Command::Vector(command) => vector::vector(command),
        Command::Recipe(RecipeCommand::Save { recipe, dtype, out }) => {
            let mut terminal = Terminal::new(None)?;
            let setup = recipe::setup(&mut terminal, &recipe, dtype, Dtype::Bf16)?;
            terminal.run_written(JobSpec::SaveRecipe { setup, out: vector::target(out) })
        }
        Command::Merge { recipe, dtype, gguf, max_shard_size, out, compute } => {
            let mut terminal = Terminal::with_model(compute)?;
            let Setup { model, method, vectors, dtype: own_dtype } =
                recipe::setup(&mut terminal, &recipe, dtype, Dtype::Bf16)?;
            // A recipe file says what it is rounded to, options leave it to the model.
            let dtype = dtype.or(recipe.recipe.is_some().then_some(own_dtype));
            let format = match gguf {
                Some(form) => MergeFormat::Gguf(form.into()),
                None => MergeFormat::Folder { max_shard_bytes: max_shard_size },
            };
            let out = ExportTarget { path: out, replace: false };
            let spec = MergeSpec { model, method, vectors, dtype, format, out };
            terminal.run_written(JobSpec::Merge(spec))
        }
        Command::Chat(args) => chat::chat(&args),
        Command::Score(args) => score::score(args),
        Command::Sweep(args) => sweep::sweep(&args),
        Command::Train(args) => train::train(&args),
        Command::Judge(args) => judge::judge(args),
        Command::Data(command) => data::data(command),
        Command::Bench(command) => bench::bench(&command),
    }
}
