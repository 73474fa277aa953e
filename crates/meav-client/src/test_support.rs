use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use meav_protocol::{Gpu, GpuProbe, PROTOCOL_VERSION};
use tempfile::TempDir;

use crate::choice::Engines;

/// Programs in the place of the engines.
pub(crate) struct Fakes(TempDir);

impl Fakes {
    pub(crate) fn without_cuda() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        write_program(&folder.path().join("meav-engine"), "exit 0");
        Self(folder)
    }

    /// The commands of a shell stand in for the engine for GPUs.
    pub(crate) fn with_cuda(script: &str) -> Self {
        let fakes = Self::without_cuda();
        write_program(&fakes.0.path().join("meav-engine-cuda"), script);
        fakes
    }

    pub(crate) fn engines(&self) -> Engines {
        let [cpu, cuda] = ["meav-engine", "meav-engine-cuda"].map(|name| self.0.path().join(name));
        Engines { cpu, cuda, probe_limit: Duration::from_secs(2) }
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

/// Another process writes it: a program that is still open for writing can't be started, and what
/// is open here is open for a moment in each process that another thread starts.
fn write_program(path: &Path, script: &str) {
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"cat > "$0" && chmod 755 "$0""#]).arg(path).stdin(Stdio::piped());
    let mut child = shell.spawn().expect("a shell");
    let shebang = if script.contains('\0') { "" } else { "#!/bin/sh\n" };
    let text = format!("{shebang}{script}\n");
    let written = child.stdin.take().map(|mut stdin| stdin.write_all(text.as_bytes()));
    assert!(written.is_some_and(|it| it.is_ok()) && child.wait().is_ok_and(|it| it.success()));
    assert!(fs::metadata(path).is_ok_and(|it| it.len() == text.len() as u64));
}

/// A GPU with so many GB of free memory.
pub(crate) fn gpu(index: u32, name: &str, gigabytes: u64) -> Gpu {
    let free_bytes = gigabytes * 1_000_000_000;
    let (name, compute_capability) = (name.to_owned(), (9, 0));
    Gpu { index, name, compute_capability, total_bytes: 2 * free_bytes, free_bytes }
}

/// What a machine with these GPUs is told to be.
pub(crate) fn probe(gpus: Vec<Gpu>) -> GpuProbe {
    let [driver_cuda, needed_cuda] = ["13.1", "13.0"].map(str::to_owned);
    let driver_cuda = Some(driver_cuda);
    GpuProbe { protocol: PROTOCOL_VERSION, driver_cuda, needed_cuda, gpus, problem: None }
}

/// Prints it, if that is what was asked for.
pub(crate) fn prints(probe: &GpuProbe) -> String {
    let json = serde_json::to_string(probe).expect("JSON");
    format!("[ \"$*\" = --probe ] || exit 4\necho '{json}'")
}
