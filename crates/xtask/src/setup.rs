use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Result;

use crate::step;

/// Something that is needed from the system.
struct Need {
    probe: Probe,
    /// The Debian and Ubuntu package that brings it.
    package: &'static str,
    /// What it is for.
    purpose: &'static str,
}

/// How to see whether it is there.
enum Probe {
    /// This command succeeds.
    Runs(&'static [&'static str]),
    /// pkg-config knows it, with all that building against it takes.
    Headers(&'static str),
    /// The loader finds it.
    Library(&'static str),
    /// The folder has a file whose name begins so.
    File(&'static str, &'static str),
}

const fn need(probe: Probe, package: &'static str, purpose: &'static str) -> Need {
    Need { probe, package, purpose }
}

const PIP: Need = need(
    Probe::Runs(&["python3", "-m", "pip", "--version"]),
    "python3-pip",
    "fetches the demo model and the CUDA toolkit",
);

/// For building, the demo model and the window.
const TO_RUN: [Need; 9] = [
    need(Probe::Runs(&["cc", "--version"]), "gcc", "builds SQLite"),
    PIP,
    need(Probe::Runs(&["pkg-config", "--version"]), "pkg-config", "finds libraries"),
    need(Probe::Headers("webkit2gtk-4.1"), "libwebkit2gtk-4.1-dev", "shows the user guide"),
    need(Probe::Headers("gtk+-3.0"), "libgtk-3-dev", "the desktop shell"),
    need(Probe::Headers("ayatana-appindicator3-0.1"), "libayatana-appindicator3-dev", "the tray"),
    need(Probe::Library("libGL.so.1"), "libgl1", "draws the window"),
    need(Probe::Library("libEGL.so.1"), "libegl1", "draws the window"),
    need(Probe::Library("libxkbcommon-x11.so.0"), "libxkbcommon-x11-0", "reads the keyboard"),
];

/// For a screen that nobody sees, and pictures of the window.
const TO_SHOW: [Need; 5] = [
    need(Probe::Runs(&["which", "Xvfb"]), "xvfb", "a screen for tests"),
    need(Probe::Runs(&["which", "openbox"]), "openbox", "its window manager"),
    need(Probe::Runs(&["which", "xdotool"]), "xdotool", "its keyboard"),
    need(Probe::Runs(&["which", "dbus-daemon"]), "dbus", "its session bus"),
    need(
        Probe::File("/usr/share/vulkan/icd.d", "lvp_icd"),
        "mesa-vulkan-drivers",
        "draws the pictures of tests",
    ),
];

/// For tests, which compile the kernels of the GPU for the CPU, and for compiling them for GPUs.
const TO_COMPILE_KERNELS: [Need; 2] =
    [PIP, need(Probe::Runs(&["c++", "--version"]), "g++", "compiles the kernels of the GPU")];

/// Installs what running the app needs where apt is; elsewhere lists it and goes on.
pub(crate) fn install_to_run() -> Result<()> {
    install_missing(&TO_RUN)
}

/// As [`install_to_run`], and what a screen that nobody sees needs.
pub(crate) fn install_to_show() -> Result<()> {
    install_to_run()?;
    install_missing(&TO_SHOW)
}

/// As [`install_to_show`], and what tests need beside it.
pub(crate) fn install_to_test() -> Result<()> {
    install_to_show()?;
    install_to_compile_kernels()
}

/// Installs what compiling the kernels of the GPU needs, but for the CUDA toolkit.
pub(crate) fn install_to_compile_kernels() -> Result<()> {
    install_missing(&TO_COMPILE_KERNELS)
}

fn install_missing(needs: &[Need]) -> Result<()> {
    let missing: Vec<&Need> = needs.iter().filter(|need| !is_there(&need.probe)).collect();
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

fn is_there(probe: &Probe) -> bool {
    match probe {
        Probe::Runs(command) => succeeds(command),
        Probe::Headers(name) => succeeds(&["pkg-config", "--exists", name]),
        Probe::Library(name) => is_loadable(name),
        Probe::File(folder, start) => fs::read_dir(folder).is_ok_and(|entries| {
            let mut names = entries.filter_map(Result::ok).map(|entry| entry.file_name());
            names.any(|name| name.to_string_lossy().starts_with(start))
        }),
    }
}

/// Whether the loader knows a library of this name.
pub(crate) fn is_loadable(name: &str) -> bool {
    Command::new("/sbin/ldconfig")
        .arg("-p")
        .output()
        .is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(name))
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
    let mut command = if is_root {
        Command::new("apt-get")
    } else {
        let mut sudo = Command::new("sudo");
        sudo.arg("apt-get");
        sudo
    };
    step(command.args(arguments))
}
