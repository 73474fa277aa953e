//! The `meav-engine-cuda` process, which computes on the GPU.

use std::process::ExitCode;

fn main() -> ExitCode {
    meav_engine::run_process()
}
