//! `cargo xtask run` and `cargo xtask test`: the two commands of the README.

#[cfg(test)]
mod layering;
mod setup;

use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs};

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
    /// Set up, build, fetch the demo model and open the app
    Run {
        /// Open it on a screen that nobody sees, have it answer a question, save the picture, end
        #[arg(long, value_name = "FILE")]
        screenshot: Option<PathBuf>,
    },
    /// Set up, then check formatting, lints, layering and all tests
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
    match task {
        Task::Run { screenshot: None } => open_app(),
        Task::Run { screenshot: Some(file) } => take_picture(file),
        Task::Test => {
            setup::install_to_test()?;
            cargo(&["fmt", "--all", "--check"])?;
            cargo(&["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"])?;
            cargo(&["test", "--workspace"])
        }
    }
}

fn open_app() -> Result<()> {
    if env::var_os("DISPLAY").is_none() && env::var_os("WAYLAND_DISPLAY").is_none() {
        bail!(
            "there is no display to open the window on; `--screenshot FILE` opens it on one that \
             nobody sees, and `target/release/meav chat --model demo` works in a terminal"
        );
    }
    setup::install_to_run()?;
    let programs = build(&["--no-default-features"])?;
    step(Command::new(programs.join("meav")).args(["model", "fetch", "demo"]))?;
    let mut app = Command::new(programs.join("meav-studio"));
    Err(app.exec()).context("the app could not be started")
}

/// Being driven is a feature that what ships lacks, so this builds the app with it.
fn take_picture(file: &Path) -> Result<()> {
    setup::install_to_show()?;
    let programs = build(&[])?;
    let home = programs.join("picture-home");
    // As at a first start, but for the model.
    for left in ["workspace", "settings.json"] {
        let path = home.join(left);
        let removed =
            if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        if let Err(err) = removed
            && err.kind() != io::ErrorKind::NotFound
        {
            return Err(err).with_context(|| format!("{} is in the way", path.display()));
        }
    }
    let fetch = &mut Command::new(programs.join("meav"));
    step(fetch.args(["model", "fetch", "demo"]).env("MEAV_HOME", &home))?;
    let screenshot = &mut cargo_command();
    screenshot.args(["run", "--release", "--package", "meav-tests", "--bin", "screenshot", "--"]);
    step(screenshot.args([&programs.join("meav-studio"), &home]).arg(file))
}

/// Builds everything that ships, and gives the folder that it is in.
fn build(options: &[&str]) -> Result<PathBuf> {
    let packages = ["meav-studio", "meav-engine", "meav-cli"];
    let packages = packages.iter().flat_map(|package| ["--package", package]);
    step(cargo_command().args(["build", "--release"]).args(packages).args(options))?;
    Ok(target_dir()?.join("release"))
}

fn cargo(arguments: &[&str]) -> Result<()> {
    step(cargo_command().args(arguments))
}

fn cargo_command() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Shows a command, runs it, and fails if it does.
fn step(command: &mut Command) -> Result<()> {
    let shown = [command.get_program()].into_iter().chain(command.get_args());
    let shown: Vec<_> = shown.map(|word| word.to_string_lossy().into_owned()).collect();
    let shown = shown.join(" ");
    writeln!(io::stderr(), "$ {shown}")?;
    let status = command.status().with_context(|| format!("{shown} could not be started"))?;
    if !status.success() {
        bail!("{shown} ended with {status}");
    }
    Ok(())
}

/// Where cargo puts what it builds: two folders above this program.
fn target_dir() -> Result<PathBuf> {
    let this = env::current_exe()?;
    let target = this.ancestors().nth(2).context("this program lies outside a target folder")?;
    Ok(target.to_owned())
}
