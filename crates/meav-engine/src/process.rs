use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;

use meav_protocol::EngineDevice;
use rustix::{io as fd, stdio};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::SubscriberBuilder;
use tracing_subscriber::fmt::format::{DefaultFields, Format};

use crate::compute::{Compute, probe_gpus};
use crate::folders::Folders;
use crate::serve::serve;

/// The body of the programs `meav-engine` and `meav-engine-cuda`: speaks the protocol over the
/// standard streams until their other end is closed.
pub fn run_process() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            tracing::error!("{err}");
            // Before there is a log, nobody hears that; after, this goes to it too.
            let _gone = writeln!(io::stderr(), "error: {err}");
            ExitCode::FAILURE
        }
    }
}

/// `--probe` says in one line of JSON which GPUs there are; `--device cpu` or `cuda:N` what to compute
/// on.
fn run() -> io::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let device = match arguments.as_slice() {
        ["--probe"] => {
            return writeln!(io::stdout(), "{}", probe_gpus());
        }
        ["--device", device] => device.parse().map_err(io::Error::other)?,
        [] => EngineDevice::Cpu,
        _ => return Err(io::Error::other("the engine takes --probe or --device cpu|cuda:N")),
    };
    // Frames keep the real standard output; a stray print goes to the log instead.
    // Programs that are started later must not inherit it, or its end would go unseen.
    let frames = File::from(fd::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?);
    let folders = Folders::from_environment();
    let log = open_log(&folders.logs);
    match &log {
        Some((_, file)) => stdio::dup2_stdout(file)?,
        None => stdio::dup2_stdout(rustix::stdio::stderr())?,
    }
    let (log_path, writer) = log.unzip();
    match writer {
        Some(file) => {
            if let Ok(file) = file.try_clone() {
                stdio::dup2_stderr(file)?;
            }
            log_format().with_ansi(false).with_writer(Mutex::new(file)).init();
        }
        None => log_format().with_writer(io::stderr).init(),
    }
    volunteer_for_the_memory_killer();
    let compute = Compute::open(device);
    serve(BufReader::new(io::stdin()), BufWriter::new(frames), &folders, compute, log_path)
}

/// `MEAV_LOG` says what is logged, e.g. `debug`.
fn log_format() -> SubscriberBuilder<DefaultFields, Format, EnvFilter> {
    let filter = EnvFilter::try_from_env("MEAV_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter)
}

/// The newest log and the one before it are kept.
fn open_log(folder: &Path) -> Option<(PathBuf, File)> {
    fs::create_dir_all(folder).ok()?;
    let path = folder.join("engine.log");
    if path.exists() {
        // Another engine may be writing to it still: renamed, it goes on doing so.
        fs::rename(&path, folder.join("engine.previous.log")).ok()?;
    }
    let file = OpenOptions::new().create(true).append(true).open(&path).ok()?;
    Some((path, file))
}

/// When memory runs out, the kernel should take the engine, which can be started again, and not
/// the window with the conversation.
fn volunteer_for_the_memory_killer() {
    if let Err(err) = fs::write("/proc/self/oom_score_adj", "500") {
        tracing::debug!("oom_score_adj: {err}");
    }
}
