//! The `meav-engine` process, which computes on the CPU.

use std::process::ExitCode;

fn main() -> ExitCode {
    meav_engine::run_process()
}
