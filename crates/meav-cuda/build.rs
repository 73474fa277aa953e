//! Compiles the kernels: for GPUs, as C++ for tests, or not at all.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// Real architectures, that of all 8.x and 9.0, and a virtual one: for later GPUs the driver compiles
/// that when it is first loaded, which takes seconds.
const TARGETS: [&str; 3] =
    ["arch=compute_80,code=sm_80", "arch=compute_80,code=compute_80", "arch=compute_90,code=sm_90"];

fn main() {
    println!("cargo::rerun-if-changed=cuda");
    println!("cargo::rerun-if-env-changed=CUDA_HOME");
    if env::var_os("CARGO_FEATURE_CUDA").is_some() {
        let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
        for source in sources() {
            compile_for_gpus(&source, &out);
        }
    }
    #[cfg(feature = "emulated")]
    compile_for_tests();
}

fn sources() -> Vec<PathBuf> {
    let entries = fs::read_dir("cuda").expect("the folder of the kernels");
    let paths = entries.map(|entry| entry.expect("an entry of the folder").path());
    let mut sources: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|it| it == "cu")).collect();
    sources.sort();
    sources
}

/// Makes a fat binary of a source, which `kernels/gpu.rs` takes in.
fn compile_for_gpus(source: &Path, out: &Path) {
    let nvcc = env::var_os("CUDA_HOME")
        .map_or_else(|| "nvcc".into(), |home| PathBuf::from(home).join("bin/nvcc"));
    let mut command = Command::new(&nvcc);
    command.args(["-fatbin", "-O3", "-std=c++17", "-fmad=false"]);
    for target in TARGETS {
        command.args(["-gencode", target]);
    }
    let name = source.with_extension("fatbin");
    let status = command.arg(source).arg("-o").arg(out.join(name.file_name().expect("a file")));
    match status.status() {
        Ok(status) => assert!(status.success(), "nvcc ended with {status} on {}", source.display()),
        Err(err) => panic!(
            "{} could not be started ({err}); `cargo xtask cuda-toolkit` installs it, and says how \
             CUDA_HOME is to be set",
            nvcc.display()
        ),
    }
}

#[cfg(feature = "emulated")]
fn compile_for_tests() {
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").opt_level(2).flag("-ffp-contract=off");
    // The kernels ask for fused multiply-add by name; without the instruction it is a slow call.
    build.flag_if_supported("-mfma").file("cuda/emulate.cpp").compile("meav_emulated_kernels");
}
