//! `cargo xtask run`, `cargo xtask test` and what they take: the commands of the README.

mod cuda_toolkit;
mod gpu_check;
#[cfg(test)]
mod layering;
mod setup;

use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs};

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand, ValueEnum};

use cuda_toolkit::Toolkit;

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
        /// What to build beside the engine that computes on the CPU
        #[arg(long, value_name = "WORD")]
        features: Option<Feature>,
        /// Open it on a screen that nobody sees, have it answer a question, save the picture, end
        #[arg(long, value_name = "FILE")]
        screenshot: Option<PathBuf>,
    },
    /// Set up, then check formatting, lints, layering and all tests
    Test,
    /// Install the CUDA toolkit into the target folder, and say how to use it
    CudaToolkit,
    /// Run the tests and benches of the GPU that is here, and write what came out as JSON
    GpuCheck {
        /// Instead of gpu-check.json in the target folder
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Feature {
    /// The engine that computes on an NVIDIA GPU
    Cuda,
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
        Task::Run { features, screenshot: None } => open_app(*features),
        Task::Run { features, screenshot: Some(file) } => take_picture(file, *features),
        Task::Test => {
            setup::install_to_test()?;
            cargo(&["fmt", "--all", "--check"])?;
            cargo(&["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"])?;
            // Tests add features to what ships, which has to compile without them too.
            cargo(&["check", "--package", "meav-engine"])?;
            cargo(&["test", "--workspace"])
        }
        Task::CudaToolkit => {
            setup::install_to_compile_kernels()?;
            let toolkit = Toolkit::install(&target_dir()?)?;
            writeln!(io::stdout(), "{}", toolkit.export_line())?;
            Ok(())
        }
        Task::GpuCheck { json: Some(file) } => gpu_check::run(file),
        Task::GpuCheck { json: None } => gpu_check::run(&target_dir()?.join("gpu-check.json")),
    }
}

fn open_app(features: Option<Feature>) -> Result<()> {
    if env::var_os("DISPLAY").is_none() && env::var_os("WAYLAND_DISPLAY").is_none() {
        bail!(
            "there is no display to open the window on; `--screenshot FILE` opens it on one that \
             nobody sees, and `target/release/meav chat --model demo` works in a terminal"
        );
    }
    setup::install_to_run()?;
    let programs = build(&["--no-default-features"], features)?;
    step(Command::new(programs.join("meav")).args(["model", "fetch", "demo"]))?;
    let mut app = Command::new(programs.join("meav-studio"));
    Err(app.exec()).context("the app could not be started")
}

/// Being driven is a feature that what ships lacks, so this builds the app with it.
fn take_picture(file: &Path, features: Option<Feature>) -> Result<()> {
    setup::install_to_show()?;
    let programs = build(&[], features)?;
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
fn build(options: &[&str], features: Option<Feature>) -> Result<PathBuf> {
    match features {
        Some(Feature::Cuda) => {
            setup::install_to_compile_kernels()?;
            build_cuda_engine(&Toolkit::find_or_install(&target_dir()?)?)?;
        }
        None => remove_cuda_engine()?,
    }
    let packages = ["meav-studio", "meav-engine", "meav-cli"];
    let packages = packages.iter().flat_map(|package| ["--package", package]);
    step(cargo_command().args(["build", "--release"]).args(packages).args(options))?;
    Ok(target_dir()?.join("release"))
}

/// Builds the engine that computes on a GPU, and gives the folder that it is in. By itself: with
/// others, they would be built with CUDA too.
fn build_cuda_engine(toolkit: &Toolkit) -> Result<PathBuf> {
    let mut cargo = cargo_command();
    cargo.args(["build", "--release", "--package", "meav-engine", "--bin", "meav-engine-cuda"]);
    step(toolkit.set_for(cargo.args(["--features", "cuda"]))?)?;
    Ok(target_dir()?.join("release"))
}

/// An older one would be taken for a part of what is built now.
fn remove_cuda_engine() -> Result<()> {
    let engine = target_dir()?.join("release/meav-engine-cuda");
    match fs::remove_file(&engine) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => {
            Err(err).with_context(|| format!("{} is in the way", engine.display()))
        }
        _ => Ok(()),
    }
}

fn cargo(arguments: &[&str]) -> Result<()> {
    step(cargo_command().args(arguments))
}

fn cargo_command() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Shows a command, runs it, and fails if it does.
fn step(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    writeln!(io::stderr(), "$ {shown}")?;
    let status = command.status().with_context(|| format!("{shown} could not be started"))?;
    if !status.success() {
        bail!("{shown} ended with {status}");
    }
    Ok(())
}

fn shown(command: &Command) -> String {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy().into_owned()).collect();
    words.join(" ")
}

/// Where cargo puts what it builds: two folders above this program.
fn target_dir() -> Result<PathBuf> {
    let this = env::current_exe()?;
    let target = this.ancestors().nth(2).context("this program lies outside a target folder")?;
    Ok(target.to_owned())
}
