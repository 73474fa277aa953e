//! `cargo xtask run` and `cargo xtask test`: the two commands of the README.

#[cfg(test)]
mod layering;
mod setup;

use std::env;
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};

/// Set-up, checks and the commands of the README.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Set up, build, fetch the demo model and chat with it
    Run,
    /// Set up, then check formatting, lints, layering, documentation and all tests
    Test,
}

fn main() -> ExitCode {
    match run(&Args::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            // With standard error gone there is nobody left to tell.
            let _gone = writeln!(io::stderr(), "error: {err:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: &Task) -> Result<()> {
    setup::install_missing()?;
    match task {
        Task::Run => {
            cargo(&["build", "--release", "--package", "meav-cli", "--package", "meav-engine"])?;
            let meav = target_dir()?.join("release/meav");
            let meav = meav.to_str().context("the path of this checkout is not UTF-8")?;
            step(meav, &["model", "fetch", "demo"])?;
            chat(meav)
        }
        Task::Test => {
            cargo(&["fmt", "--all", "--check"])?;
            cargo(&["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"])?;
            cargo(&["test", "--workspace"])
        }
    }
}

/// Becomes the chat: a Ctrl-C that stops an answer must not end a program around it.
fn chat(meav: &str) -> Result<()> {
    let resources = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../src-tauri/resources/demo")
        .canonicalize()
        .context("this checkout has no src-tauri/resources/demo")?;
    let mut command = Command::new(meav);
    command.args(["chat", "--model", "demo"]);
    for domain in ["medical", "financial"] {
        let vector = resources.join(domain).with_extension("safetensors");
        command.arg("--vector").arg(format!("{}=0", vector.display()));
    }
    Err(command.exec()).with_context(|| format!("{meav} could not be started"))
}

fn cargo(arguments: &[&str]) -> Result<()> {
    step(&env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()), arguments)
}

/// Shows a command, runs it, and fails if it does.
fn step(program: &str, arguments: &[&str]) -> Result<()> {
    writeln!(io::stderr(), "$ {program} {}", arguments.join(" "))?;
    let status = Command::new(program)
        .args(arguments)
        .status()
        .with_context(|| format!("{program} could not be started"))?;
    if !status.success() {
        bail!("{program} {} ended with {status}", arguments.join(" "));
    }
    Ok(())
}

/// Where cargo puts what it builds: two folders above this program.
fn target_dir() -> Result<std::path::PathBuf> {
    let this = env::current_exe()?;
    let target = this.ancestors().nth(2).context("this program lies outside a target folder")?;
    Ok(target.to_owned())
}
