//! Which engine runs, where the one for GPUs is a stand-in.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use meav_protocol::{Gpu, GpuProbe, PROTOCOL_VERSION};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Home, demo_data, describe, programs, str};

/// Programs in a folder of their own; shell commands stand in for the engine for GPUs.
fn installed(cuda: &str) -> TempDir {
    let folder = tempfile::tempdir_in(programs()).unwrap();
    for name in ["meav", "meav-engine"] {
        fs::hard_link(programs().join(name), folder.path().join(name)).unwrap();
    }
    let path = folder.path().join("meav-engine-cuda");
    // Another process writes it: while a program is open for writing here, any process that is
    // started at that moment keeps it from being started itself.
    let write = format!("cat > '{0}' && chmod 755 '{0}'", path.display());
    let script = folder.path().join("script");
    fs::write(&script, format!("#!/bin/sh\n{cuda}\n")).unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-c", &write]).stdin(Stdio::from(fs::File::open(script).unwrap()));
    assert!(shell.status().unwrap().success());
    folder
}

/// A machine with a GPU, whose engine is that of the processor in truth.
fn with_gpu() -> TempDir {
    let gpu = Gpu {
        index: 2,
        name: "Stand-in".to_owned(),
        compute_capability: (9, 0),
        total_bytes: 24_000_000_000,
        free_bytes: 23_500_000_000,
    };
    let probe = GpuProbe {
        protocol: PROTOCOL_VERSION,
        driver_cuda: Some("13.0".to_owned()),
        needed_cuda: "13.0".to_owned(),
        gpus: vec![gpu],
        problem: None,
    };
    let json = serde_json::to_string(&probe).unwrap();
    installed(&format!(
        "case $* in\n--probe) echo '{json}';;\n'--device cuda:2') exec \"${{0%-cuda}}\";;\n\
         *) exit 9;;\nesac"
    ))
}

fn meav(home: &Home, programs: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(programs.join("meav"));
    command.args(arguments).env("MEAV_HOME", home.path()).env("RAYON_NUM_THREADS", "1");
    command.env_remove("MEAV_ENGINE").current_dir(home.path()).output().unwrap()
}

#[test]
fn gpu_is_used_and_told_and_scores_are_rounded_for_it() {
    let home = Home::with_demo();
    let programs = with_gpu();
    let data = demo_data("medical.test.jsonl");
    let score = |more: &[&str]| {
        let score = ["score", "--model", "demo", "--json", "-", "--data", str(&data)];
        let output = meav(&home, programs.path(), &[&score, more].concat());
        assert!(output.status.success(), "{}", describe(&output));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let dtype = report["recipe"]["dtype"].as_str().unwrap().to_owned();
        (dtype, String::from_utf8(output.stderr).unwrap())
    };
    let (dtype, said) = score(&[]);
    assert_eq!(dtype, "Bf16");
    assert!(said.contains("note: on CUDA 2 · Stand-in, 23.5 of 24.0 GB free\n"), "{said}");
    let (dtype, said) = score(&["--device", "cpu"]);
    assert_eq!(dtype, "F32");
    assert!(!said.contains("note: on"), "{said}");
}

#[test]
fn missing_driver_is_told_where_a_model_runs_and_refused_only_where_a_gpu_is_asked_for() {
    let home = Home::empty();
    let programs = installed(
        "echo 'meav-engine-cuda: error while loading shared libraries: libcuda.so.1: cannot open \
         shared object file: No such file or directory' >&2\nexit 127",
    );
    let run = |arguments: &[&str]| {
        let output = meav(&home, programs.path(), arguments);
        assert_eq!(output.status.code(), Some(1), "{}", describe(&output));
        String::from_utf8(output.stderr).unwrap()
    };
    let reason = "libcuda.so.1 was not found; it comes with NVIDIA's driver";
    let plan = ["info", "nowhere", "--plan"];
    let said = run(&plan);
    assert_eq!(said.matches(&format!("note: on the CPU: {reason}\n")).count(), 1, "{said}");
    for arguments in [&["info", "nowhere"][..], &["info", "nowhere", "--plan", "--device", "cpu"]] {
        assert!(!run(arguments).contains("libcuda"), "{arguments:?}");
    }
    let said = run(&[&plan[..], &["--device", "cuda"]].concat());
    assert!(said.starts_with("error: The device cuda cannot be used: libcuda.so.1"), "{said}");
    assert!(said.contains("hint: Choose the device auto"), "{said}");
}

#[test]
fn program_without_cuda_says_nothing_of_it_unless_asked() {
    let home = Home::empty();
    let programs = installed("");
    fs::remove_file(programs.path().join("meav-engine-cuda")).unwrap();
    for (arguments, is_told) in [
        (&["info", "nowhere", "--plan"][..], false),
        (&["info", "nowhere", "--plan", "--device", "cuda:0"], true),
    ] {
        let output = meav(&home, programs.path(), arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("error: "), "{said}");
        assert_eq!(said.contains("`cargo xtask run --features cuda`"), is_told, "{said}");
    }
}
