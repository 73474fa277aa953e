//! Tells the engine for GPUs where the toolkit's libraries are.

use std::env;
use std::path::PathBuf;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=CUDA_HOME");
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    // Bundles bring them; what was built here finds those that it was built with.
    let mut folders = vec![PathBuf::from("$ORIGIN/cuda")];
    if let Some(home) = env::var_os("CUDA_HOME").map(PathBuf::from) {
        folders.extend(["lib64", "lib"].map(|folder| home.join(folder)));
    }
    for folder in folders {
        println!("cargo::rustc-link-arg-bin=meav-engine-cuda=-Wl,-rpath,{}", folder.display());
    }
}
