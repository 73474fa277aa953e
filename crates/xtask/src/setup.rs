use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Result;

use crate::step;

/// Something that building or fetching the demo model needs from the system.
struct Need {
    /// Succeeds where it is there.
    probe: &'static [&'static str],
    /// The Debian and Ubuntu package that brings it.
    package: &'static str,
    /// What it is for.
    purpose: &'static str,
}

const NEEDS: [Need; 2] = [
    Need { probe: &["cc", "--version"], package: "gcc", purpose: "builds SQLite" },
    Need {
        probe: &["python3", "-m", "pip", "--version"],
        package: "python3-pip",
        purpose: "downloads the demo model",
    },
];

/// Installs what is missing where apt is; elsewhere lists it and goes on.
pub(crate) fn install_missing() -> Result<()> {
    let missing: Vec<&Need> = NEEDS.iter().filter(|need| !succeeds(need.probe)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut out = io::stderr().lock();
    for need in &missing {
        writeln!(out, "missing: {} ({})", need.package, need.purpose)?;
    }
    if !Path::new("/usr/bin/apt-get").exists() {
        writeln!(out, "Install these by the names that your system has for them.")?;
        return Ok(());
    }
    writeln!(out, "They will be installed with apt-get.")?;
    drop(out);
    let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    apt_get(&["update"])?;
    apt_get(&[&["install", "--yes", "--no-install-recommends"], &packages[..]].concat())
}

fn succeeds(command: &[&str]) -> bool {
    Command::new(command[0])
        .args(&command[1..])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let is_root = fs::metadata("/proc/self")
        .is_ok_and(|metadata| std::os::unix::fs::MetadataExt::uid(&metadata) == 0);
    if is_root {
        step("apt-get", arguments)
    } else {
        step("sudo", &[&["apt-get"], arguments].concat())
    }
}
