//! The programs, the demo model, and a home for each test.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::Duration;
use std::{env, fs};

use meav_client::{Client, EngineProcess, Update};
use meav_protocol::{Event, Fact, JobSpec, Outcome};
use tempfile::TempDir;

/// `target/debug`, with the programs as they are in the source now.
pub(crate) fn programs() -> &'static Path {
    static PROGRAMS: OnceLock<PathBuf> = OnceLock::new();
    PROGRAMS.get_or_init(|| {
        let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let status = Command::new(cargo)
            // With the features that `cargo test --workspace` builds with, so that nothing is built
            // twice.
            .args(["build", "--quiet", "--workspace", "--bins", "--tests"])
            .status()
            .unwrap();
        assert!(status.success(), "the programs could not be built");
        env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned()
    })
}

/// The demo model, fetched in the documented way and kept between runs.
pub(crate) fn demo_model() -> &'static Path {
    static MODEL: OnceLock<PathBuf> = OnceLock::new();
    MODEL.get_or_init(|| {
        let home = programs().join("test-home");
        let output = Command::new(programs().join("meav"))
            .args(["model", "fetch", "demo"])
            .env("MEAV_HOME", &home)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", describe(&output));
        home.join("models/smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf")
    })
}

/// A vector that comes with the demo.
pub(crate) fn demo_vector(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    root.join("src-tauri/resources/demo").join(name).with_extension("safetensors")
}

/// A home of its own, with the demo model in it.
pub(crate) struct Home {
    pub(crate) folder: TempDir,
}

impl Home {
    pub(crate) fn empty() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn with_demo() -> Self {
        let home = Self::empty();
        let models = demo_model().ancestors().nth(2).unwrap();
        std::os::unix::fs::symlink(models, home.path().join("models")).unwrap();
        home
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(programs().join("meav"));
        command.args(arguments).env("MEAV_HOME", self.path()).current_dir(self.path());
        // One for GPUs may be there, too, and it rounds otherwise.
        command.env("MEAV_ENGINE", programs().join("meav-engine"));
        // Several tests run at once: engines with a thread per core would wait for each other.
        command.env("RAYON_NUM_THREADS", "1");
        command
    }

    pub(crate) fn meav(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Standard output of a command that has to succeed.
    pub(crate) fn stdout(&self, arguments: &[&str]) -> String {
        let output = self.meav(arguments);
        assert!(output.status.success(), "meav {arguments:?}: {}", describe(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Standard error of a command that has to fail with code 1.
    pub(crate) fn failure(&self, arguments: &[&str]) -> String {
        let output = self.meav(arguments);
        assert_eq!(output.status.code(), Some(1), "meav {arguments:?}: {}", describe(&output));
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains("error: "), "{text}");
        assert!(!text.contains("Internal error") && !text.contains("panicked"), "{text}");
        text
    }

    /// Everything below the home, to see that nothing half-written is left.
    pub(crate) fn leftovers(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
                if entry.file_name().to_string_lossy().starts_with(".meav-") {
                    found.push(entry.path());
                }
                if entry.file_type().unwrap().is_dir() {
                    folders.push(entry.path());
                }
            }
        }
        found
    }
}

pub(crate) fn describe(output: &Output) -> String {
    format!(
        "{}\n--- stdout\n{}\n--- stderr\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

pub(crate) fn str(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The longest that anything here takes on the slowest machine.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// An engine of its own for the home.
pub(crate) fn client(home: &Home) -> Client {
    Client::new(EngineProcess::at(programs().join("meav-engine"), home.path()), || ())
}

/// What the engine says next.
pub(crate) fn next(client: &Client) -> Event {
    client.events().recv_timeout(PATIENCE).expect("an event in time")
}

/// Runs a job to its end, for what it finds.
pub(crate) fn run(client: &mut Client, spec: JobSpec) -> (Outcome, Vec<Fact>) {
    let mut facts = Vec::new();
    let outcome = client.run(spec, &|| false, |update| {
        if let Update::Fact(fact) = update {
            facts.push(fact);
        }
    });
    (outcome, facts)
}

/// Preference data that come with the demo.
pub(crate) fn demo_data(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    root.join("src-tauri/resources/demo/data").join(name)
}

/// The process of this test's engine: a child of this program with its home.
pub(crate) fn engine_process(home: &Home) -> u32 {
    let wanted = format!("MEAV_HOME={}", home.path().display());
    let is_engine = |process: &PathBuf| {
        let command = fs::read_to_string(process.join("comm")).unwrap_or_default();
        let environment = fs::read(process.join("environ")).unwrap_or_default();
        command.trim() == "meav-engine"
            && environment.split(|byte| *byte == 0).any(|it| it == wanted.as_bytes())
    };
    let process = fs::read_dir("/proc")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(is_engine)
        .expect("the engine runs");
    process.file_name().unwrap().to_str().unwrap().parse().unwrap()
}
