use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs};

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::{Value, json};

use crate::cuda_toolkit::Toolkit;
use crate::{build_cuda_engine, cargo_command, setup, shown, step, target_dir};

/// What tests and benches may take altogether once they are built.
const TIME: Duration = Duration::from_mins(10);

/// The crates whose tests in modules named `gpu` run on the GPU that is there.
const SUITE: [&str; 13] = [
    "test",
    "--release",
    "--tests",
    "--package",
    "meav-cuda",
    "--package",
    "meav-vector",
    "--package",
    "meav-model",
    "--package",
    "meav-train",
    "--features",
    "meav-cuda/cuda,meav-vector/cuda,meav-model/cuda,meav-train/cuda",
];

/// What `meav bench` is asked, beside the device.
const BENCHES: [&[&str]; 7] = [
    &["merge", "--shape", "mistral-7b"],
    &["decode", "--shape", "mistral-7b"],
    &["train", "--shape", "mistral-7b"],
    &["merge", "--model", "demo"],
    &["decode", "--model", "demo"],
    &["score", "--model", "demo", "--vector", "medical=1"],
    &["train", "--model", "demo"],
];

/// Runs the tests of the GPU and the benches, and writes what came out to a file.
pub(crate) fn run(file: &Path) -> Result<()> {
    if !has_driver() {
        bail!("there is no NVIDIA driver here (no libcuda.so.1), so there is no GPU to check");
    }
    setup::install_to_compile_kernels()?;
    let toolkit = Toolkit::find_or_install(&target_dir()?)?;
    let programs = build_cuda_engine(&toolkit)?;
    let probe = probe(&programs.join("meav-engine-cuda"))?;
    step(cargo_command().args(["build", "--release", "--package", "meav-cli"]))?;
    let built = step(toolkit.set_for(cargo_command().args(SUITE).arg("--no-run"))?);
    let meav = programs.join("meav");
    let fetched = step(Command::new(&meav).args(["model", "fetch", "demo"]));
    let mut check = Check { end: Instant::now() + TIME, failed: Vec::new() };
    check.keep(built);
    check.keep(fetched);
    let report = check.report(&toolkit, &meav, &probe)?;
    fs::write(file, format!("{report:#}\n"))
        .with_context(|| format!("{} can't be written", file.display()))?;
    writeln!(io::stderr(), "written to {}", file.display())?;
    if !check.failed.is_empty() {
        bail!("not all went well:\n{}", check.failed.join("\n"));
    }
    Ok(())
}

/// Whether the loader finds the driver's library.
fn has_driver() -> bool {
    let folders = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    setup::is_loadable("libcuda.so.1")
        || env::split_paths(&folders).any(|folder| folder.join("libcuda.so.1").exists())
}

/// What the engine finds, if it can compute on a GPU of that.
fn probe(engine: &Path) -> Result<Value> {
    let mut command = Command::new(engine);
    let output = command.arg("--probe").stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("{} could not be started", engine.display()))?;
    if !output.status.success() {
        bail!("{} --probe ended with {}", engine.display(), output.status);
    }
    let line = String::from_utf8_lossy(&output.stdout);
    let probe = serde_json::from_str(&line)
        .with_context(|| format!("{} --probe said {line:?}", engine.display()))?;
    if !has_usable_gpu(&probe) {
        bail!("the engine finds no GPU that it can compute on, but {probe}");
    }
    Ok(probe)
}

/// Whether there is a GPU of compute capability 8.0 or later, and nothing that keeps it from use.
fn has_usable_gpu(probe: &Value) -> bool {
    let is_usable = |gpu: &Value| gpu["compute_capability"][0].as_u64() >= Some(8);
    probe["problem"].is_null()
        && probe["gpus"].as_array().is_some_and(|it| it.iter().any(is_usable))
}

/// The driver's version, as its own program says it.
fn driver() -> Option<String> {
    let query = ["--query-gpu=driver_version", "--format=csv,noheader"];
    let output = Command::new("nvidia-smi").args(query).output().ok()?;
    Some(String::from_utf8(output.stdout).ok()?.lines().next()?.to_owned())
}

/// Parts that are run one after the other, whatever becomes of each.
struct Check {
    end: Instant,
    failed: Vec<String>,
}

/// What a part printed, and how it ended.
struct Part {
    output: String,
    duration: Duration,
    result: Result<()>,
}

impl Check {
    fn keep(&mut self, result: Result<()>) {
        if let Err(err) = result {
            self.failed.push(format!("{err:#}"));
        }
    }

    fn report(&mut self, toolkit: &Toolkit, meav: &Path, probe: &Value) -> Result<Value> {
        let suite = self.suite(toolkit)?;
        let benches: Vec<_> = BENCHES.iter().map(|bench| self.bench(meav, bench)).collect();
        Ok(json!({
            "gpu": probe["gpus"][0]["name"],
            "driver": driver(),
            "probe": probe,
            "suite": suite,
            "benches": benches,
            "failed": self.failed,
        }))
    }

    fn suite(&mut self, toolkit: &Toolkit) -> Result<Value> {
        let part = self.part(|limited| {
            let cargo = cargo_command();
            limited.arg(cargo.get_program()).args(SUITE).args(["--no-fail-fast", "gpu"]);
            toolkit.set_for_tests(limited)?;
            Ok(())
        })?;
        io::stderr().write_all(part.output.as_bytes())?;
        let Suite { passed, failed } = Suite::read(&part.output);
        let n_failed = failed.len();
        if passed == 0 && n_failed == 0 {
            self.failed.push("no test was run".to_owned());
        }
        self.failed.extend(failed);
        self.keep(part.result.context("the tests"));
        let seconds = part.duration.as_secs_f64();
        Ok(json!({ "passed": passed, "failed": n_failed, "seconds": seconds }))
    }

    fn bench(&mut self, meav: &Path, bench: &[&str]) -> Value {
        let options = ["--device", "cuda", "--json", "-"];
        let command = ["meav", "bench"].iter().chain(bench).chain(&options);
        let command = command.copied().collect::<Vec<_>>().join(" ");
        let result = self
            .part(|limited| {
                limited.arg(meav).arg("bench").args(bench).args(options);
                Ok(())
            })
            .and_then(|part| {
                part.result?;
                Ok((serde_json::from_str::<Value>(&part.output)?, part.duration.as_secs_f64()))
            });
        match result {
            Ok((result, seconds)) => {
                json!({ "command": command, "seconds": seconds, "result": result })
            }
            Err(err) => {
                self.failed.push(format!("{command}: {err:#}"));
                json!({ "command": command, "seconds": null, "result": null })
            }
        }
    }

    /// Runs what is added to a command, for at most half of the time that is left: one that hangs
    /// leaves time to the others.
    fn part(&self, add: impl FnOnce(&mut Command) -> Result<()>) -> Result<Part> {
        let limit = self.end.saturating_duration_since(Instant::now()).as_secs() / 2 + 1;
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", &limit.to_string()]);
        add(&mut command)?;
        let shown = shown(&command);
        writeln!(io::stderr(), "$ {shown}")?;
        let start = Instant::now();
        let output = command.stdin(Stdio::null()).output();
        let output = output.with_context(|| format!("{shown} could not be started"))?;
        io::stderr().write_all(&output.stderr)?;
        let told = String::from_utf8_lossy(&output.stderr);
        let last = told.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("nothing").trim();
        let result = match output.status.code() {
            Some(0) => Ok(()),
            // What `timeout` makes of one that it has stopped, by force if need be.
            Some(124 | 137) => Err(anyhow!("it was stopped after {limit} seconds")),
            _ => Err(anyhow!("it ended with {} and said last: {last}", output.status)),
        };
        let duration = start.elapsed();
        Ok(Part { output: String::from_utf8_lossy(&output.stdout).into_owned(), duration, result })
    }
}

/// What came out of tests.
#[derive(Debug, PartialEq, Eq)]
struct Suite {
    passed: usize,
    failed: Vec<String>,
}

impl Suite {
    /// Reads what test programs print, one after the other: `test NAME ... ok` and the like.
    fn read(output: &str) -> Self {
        let tests = || {
            let lines = output.lines().filter_map(|line| line.strip_prefix("test "));
            lines.filter_map(|line| line.rsplit_once(" ... "))
        };
        let failed = tests().filter(|(_, result)| *result == "FAILED");
        Self {
            passed: tests().filter(|(_, result)| *result == "ok").count(),
            failed: failed.map(|(name, _)| name.to_owned()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpu_is_one_that_the_engine_is_built_for() {
        let probe = |capabilities: &[[u32; 2]], problem: Option<&str>| {
            let gpu =
                |capability| json!({ "name": "NVIDIA H200", "compute_capability": capability });
            let gpus: Vec<_> = capabilities.iter().map(gpu).collect();
            json!({ "protocol": 1, "gpus": gpus, "problem": problem })
        };
        assert!(has_usable_gpu(&probe(&[[9, 0]], None)));
        assert!(has_usable_gpu(&probe(&[[7, 5], [8, 0]], None)));
        assert!(!has_usable_gpu(&probe(&[[7, 5]], None)));
        assert!(!has_usable_gpu(&probe(&[], None)));
        assert!(!has_usable_gpu(&probe(&[[9, 0]], Some("the driver is too old"))));
        assert!(!has_usable_gpu(&json!({})));
    }

    #[test]
    fn tests_are_counted_over_all_programs() {
        let output = "\nrunning 3 tests\n\
                      test merge::gpu::dense ... ok\n\
                      test merge::gpu::sparse ... FAILED\n\
                      test merge::gpu::sign - should panic ... ok\n\n\
                      failures:\n    merge::gpu::sparse\n\n\
                      test result: FAILED. 2 passed; 1 failed; 0 ignored; finished in 0.41s\n\
                      \nrunning 1 test\n\
                      test logits::gpu::llama ... ok\n\n\
                      test result: ok. 1 passed; 0 failed; 0 ignored; finished in 2.05s\n";
        let failed = vec!["merge::gpu::sparse".to_owned()];
        assert_eq!(Suite::read(output), Suite { passed: 3, failed });
        assert_eq!(Suite::read("error: no such test\n"), Suite { passed: 0, failed: vec![] });
    }

    #[test]
    fn part_that_fails_or_hangs_leaves_time_to_the_next() {
        let check = Check { end: Instant::now(), failed: Vec::new() };
        let run = |script: &'static str| {
            check
                .part(|command| {
                    command.args(["sh", "-c", script]);
                    Ok(())
                })
                .unwrap()
        };
        let hanging = run("echo begun; sleep 60");
        assert!(hanging.result.unwrap_err().to_string().contains("was stopped after"));
        assert_eq!(hanging.output, "begun\n");
        let failing = run("echo first >&2; echo 'no memory' >&2; echo >&2; exit 3");
        let message = failing.result.unwrap_err().to_string();
        assert_eq!(message, "it ended with exit status: 3 and said last: no memory");
        assert!(run("exit 0").result.is_ok());
    }
}
