use std::env;
use std::ffi::OsString;
use std::num::NonZero;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{io, thread};

use meav_protocol::{DeviceChoice, EngineChoice, EngineDevice};

use crate::choice::{Engines, NoGpu};
use crate::connection::{Connect, ConnectError, Connection, EngineHandle};

/// Starts the engine as a process of its own.
#[derive(Clone, Debug)]
pub struct EngineProcess {
    programs: Programs,
    wanted: WantedDevice,
    /// What the next engine was chosen to be.
    chosen: Option<EngineChoice>,
    /// When a GPU was last asked for that can't be had.
    refused: Option<(Instant, DeviceChoice, NoGpu)>,
    losses: SharedLosses,
    environment: Vec<(&'static str, OsString)>,
}

#[derive(Clone, Debug)]
enum Programs {
    /// There is nothing to choose from.
    Named { program: PathBuf, reason: &'static str },
    /// Those for the processor and for GPUs.
    Beside(Engines),
}

/// Where a user wants the engine to compute. A change counts from the next start of an engine on.
#[derive(Clone, Debug, Default)]
pub struct WantedDevice(Arc<Mutex<DeviceChoice>>);

impl WantedDevice {
    /// Changes it.
    pub fn set(&self, choice: DeviceChoice) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = choice;
    }

    fn get(&self) -> DeviceChoice {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<DeviceChoice> for WantedDevice {
    fn from(choice: DeviceChoice) -> Self {
        Self(Arc::new(Mutex::new(choice)))
    }
}

/// The environment variable that names the engine.
const ENGINE_VARIABLE: &str = "MEAV_ENGINE";

/// The environment variable that the libraries take the number of threads from.
const THREADS_VARIABLE: &str = "RAYON_NUM_THREADS";

const PROGRAM: &str = "meav-engine";

const CUDA_PROGRAM: &str = "meav-engine-cuda";

/// How long the engine for GPUs may take to say what there is: a driver that nobody uses takes
/// seconds to wake up.
const PROBE_LIMIT: Duration = Duration::from_secs(10);

/// How long it is taken for granted that a GPU can't be had: a window asks for many things at once,
/// and each would look for it anew.
const REFUSAL_HOLDS: Duration = Duration::from_secs(5);

impl EngineProcess {
    /// The engine that `MEAV_ENGINE` names, or else one of those beside this program, as `wanted`
    /// says; with as many `threads` as there are cores unless told otherwise.
    pub fn locate(threads: Option<usize>, wanted: impl Into<WantedDevice>) -> Self {
        let beside = || {
            let this = env::current_exe().unwrap_or_default();
            let program =
                |name: &str| this.with_file_name(format!("{name}{}", env::consts::EXE_SUFFIX));
            let (cpu, cuda) = (program(PROGRAM), program(CUDA_PROGRAM));
            Programs::Beside(Engines { cpu, cuda, probe_limit: PROBE_LIMIT })
        };
        let programs = env::var_os(ENGINE_VARIABLE).map_or_else(beside, |program| {
            Programs::Named { program: program.into(), reason: "named by MEAV_ENGINE" }
        });
        // Said in any case: left to themselves, the libraries count cores in different ways, and
        // some don't see the limits of a container.
        let threads = threads.map_or_else(
            || {
                env::var_os(THREADS_VARIABLE).unwrap_or_else(|| {
                    let available = thread::available_parallelism().map_or(1, NonZero::get);
                    available.to_string().into()
                })
            },
            |threads| threads.to_string().into(),
        );
        Self::new(programs, wanted.into(), (THREADS_VARIABLE, threads))
    }

    /// As [`EngineProcess::locate`], beside a window of this program: one core is the window's.
    /// Decoding waits for the slowest of its threads at every layer, so a thread that has to share
    /// a core with what draws costs more than it brings.
    pub fn beside_window(wanted: impl Into<WantedDevice>) -> Self {
        let is_set = env::var_os(THREADS_VARIABLE).is_some();
        let available = thread::available_parallelism().map_or(1, NonZero::get);
        Self::locate((!is_set).then(|| available.saturating_sub(1).max(1)), wanted)
    }

    /// A certain engine that keeps its things below `home`.
    pub fn at(program: PathBuf, home: &Path) -> Self {
        let programs = Programs::Named { program, reason: "named by its user" };
        Self::new(programs, WantedDevice::default(), ("MEAV_HOME", home.into()))
    }

    fn new(programs: Programs, wanted: WantedDevice, variable: (&'static str, OsString)) -> Self {
        let losses = SharedLosses::default();
        Self { programs, wanted, chosen: None, refused: None, losses, environment: vec![variable] }
    }

    /// Chooses what the next engine will compute on, for those who must know before it is started.
    /// It can take seconds.
    ///
    /// # Errors
    ///
    /// [`ConnectError::NoGpu`] where a GPU is asked for and can't be had.
    pub fn choose(&mut self) -> Result<&EngineChoice, ConnectError> {
        let wanted = self.wanted.get();
        let choice = match &self.programs {
            Programs::Named { program, reason } => named(program, wanted, reason),
            Programs::Beside(engines) => {
                let no_gpu = |source| ConnectError::NoGpu { wanted, source };
                self.refused.take_if(|it| it.1 != wanted || it.0.elapsed() > REFUSAL_HOLDS);
                if let Some((.., refusal)) = &self.refused {
                    return Err(no_gpu(refusal.clone()));
                }
                let refuse = |refusal: NoGpu| {
                    self.refused = Some((Instant::now(), wanted, refusal.clone()));
                    no_gpu(refusal)
                };
                engines.choose(wanted, self.losses.distrust()).map_err(refuse)?
            }
        };
        Ok(self.chosen.insert(choice))
    }
}

/// Nobody looks at the machine for an engine that was named: unless told otherwise, its name says
/// what it computes on.
fn named(program: &Path, wanted: DeviceChoice, reason: &str) -> EngineChoice {
    let is_for_gpus = program.file_stem().is_some_and(|stem| stem == CUDA_PROGRAM);
    let device = match wanted {
        DeviceChoice::Cuda(index) => EngineDevice::Cuda(index.unwrap_or_default()),
        DeviceChoice::Auto if is_for_gpus => EngineDevice::Cuda(0),
        DeviceChoice::Auto | DeviceChoice::Cpu => EngineDevice::Cpu,
    };
    EngineChoice { device, gpu: None, reason: reason.to_owned(), is_fallback: false }
}

impl Connect for EngineProcess {
    fn connect(&mut self) -> Result<Connection, ConnectError> {
        if self.chosen.is_none() {
            self.choose()?;
        }
        let Some(choice) = self.chosen.take() else { unreachable!("it was just chosen") };
        let path = match (&self.programs, choice.device) {
            (Programs::Named { program, .. }, _) => program,
            (Programs::Beside(engines), EngineDevice::Cpu) => &engines.cpu,
            (Programs::Beside(engines), EngineDevice::Cuda(_)) => &engines.cuda,
        };
        if !path.is_file() {
            return Err(ConnectError::NoEngine { path: path.clone() });
        }
        let mut command = Command::new(path);
        command.arg("--device").arg(choice.device.to_string());
        // A Ctrl-C in the terminal is for the client, which then asks the engine to cancel.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        command.envs(self.environment.iter().cloned());
        let start = |source| ConnectError::Start { path: path.clone(), source };
        let mut child = command.spawn().map_err(start)?;
        let (Some(writer), Some(reader)) = (child.stdin.take(), child.stdout.take()) else {
            unreachable!("both were asked to be piped")
        };
        let on_gpu = matches!(choice.device, EngineDevice::Cuda(_));
        let losses = on_gpu.then(|| (self.losses.clone(), Instant::now()));
        let handle = Box::new(ProcessHandle { child, losses });
        Ok(Connection { reader: Box::new(reader), writer: Box::new(writer), handle, choice })
    }
}

/// How the engines on a GPU have ended.
#[derive(Clone, Debug, Default)]
struct SharedLosses(Arc<Mutex<Losses>>);

#[derive(Debug, Default)]
struct Losses {
    /// How many of the last ones did not live long.
    in_a_row: u32,
    /// Why the last one has ended.
    reason: String,
}

/// A GPU is not to blame for the end of an engine that has lived this long.
const LONG_LIFE: Duration = Duration::from_mins(1);

impl SharedLosses {
    fn note(&self, life: Duration, reason: &str) {
        let mut losses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        losses.in_a_row = if life < LONG_LIFE { losses.in_a_row + 1 } else { 0 };
        reason.clone_into(&mut losses.reason);
    }

    /// Why not to try once more, if that is so.
    fn distrust(&self) -> Option<NoGpu> {
        let losses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (losses.in_a_row >= 2).then(|| NoGpu::LostTwice { reason: losses.reason.clone() })
    }
}

struct ProcessHandle {
    child: Child,
    /// Where to note its end and when it was started, on a GPU.
    losses: Option<(SharedLosses, Instant)>,
}

/// What an engine that no longer speaks has to end by itself.
const GRACE: Duration = Duration::from_secs(2);

/// Waits for the end of a process, and ends it after `limit`; says whether that was needed.
pub(crate) fn end_within(child: &mut Child, limit: Duration) -> io::Result<(ExitStatus, bool)> {
    let start = Instant::now();
    while start.elapsed() < limit {
        if let Some(status) = child.try_wait()? {
            return Ok((status, false));
        }
        thread::sleep(Duration::from_millis(10));
    }
    child.kill()?;
    Ok((child.wait()?, true))
}

/// How a process has ended, in words.
pub(crate) fn end_words(status: ExitStatus) -> String {
    const SIGABRT: i32 = 6;
    const SIGKILL: i32 = 9;
    match (status.signal(), status.code()) {
        (Some(SIGKILL), _) => "it was killed, by someone or because memory ran out".to_owned(),
        // What Rust does when it is refused memory.
        (Some(SIGABRT), _) => "it gave up, most likely because memory ran out".to_owned(),
        (Some(signal), _) => format!("it crashed with signal {signal}"),
        (None, Some(0)) => "it ended by itself".to_owned(),
        (None, code) => format!("it ended with code {}", code.unwrap_or_default()),
    }
}

impl EngineHandle for ProcessHandle {
    fn end(&mut self) -> String {
        let life = self.losses.as_ref().map(|(_, start)| start.elapsed());
        let reason = match end_within(&mut self.child, GRACE) {
            Ok((status, _)) => end_words(status),
            Err(err) => format!("its end is unknown: {err}"),
        };
        if let (Some((losses, _)), Some(life)) = (&self.losses, life) {
            losses.note(life, &reason);
        }
        reason
    }
}

#[cfg(test)]
mod tests {
    use meav_protocol::{Event, JobSpec, Outcome};

    use super::*;
    use crate::Client;
    use crate::test_support::{Fakes, gpu, prints, probe};

    fn process(fakes: &Fakes, wanted: impl Into<WantedDevice>) -> EngineProcess {
        let variable = ("MEAV_HOME", fakes.path().into());
        EngineProcess::new(Programs::Beside(fakes.engines()), wanted.into(), variable)
    }

    /// A machine with a GPU on which every engine crashes.
    fn crashing() -> Fakes {
        let json = serde_json::to_string(&probe(vec![gpu(1, "H200", 9)])).unwrap();
        Fakes::with_cuda(&format!(
            "case $* in\n--probe) echo '{json}';;\n'--device cuda:1') kill -SEGV $$;;\nesac"
        ))
    }

    /// What is said of an engine that ends at once, with the job that it was started for.
    fn tried(client: &mut Client) -> (EngineChoice, String) {
        let job = client.start(JobSpec::ListChats);
        let next = || client.events().recv_timeout(Duration::from_mins(1)).unwrap();
        let Event::EngineChosen(choice) = next() else { panic!("it is told first") };
        // Which of the two comes first depends on how far the request came.
        let mut ends = [next(), next()];
        ends.sort_by_key(|event| matches!(event, Event::EngineLost { .. }));
        let [Event::Finished { job_id, outcome: Outcome::Failed(_) }, Event::EngineLost { reason }] =
            ends
        else {
            panic!("{ends:?}")
        };
        assert_eq!(job_id, job);
        (choice, reason)
    }

    #[test]
    fn engine_that_crashes_twice_on_the_gpu_runs_on_the_cpu_then() {
        let fakes = crashing();
        let mut client = Client::new(process(&fakes, DeviceChoice::Auto), || ());
        for _ in 0..2 {
            let (choice, reason) = tried(&mut client);
            assert_eq!(choice.device, EngineDevice::Cuda(1));
            assert_eq!(reason, "it crashed with signal 11");
        }
        for _ in 0..2 {
            let (choice, reason) = tried(&mut client);
            assert_eq!((choice.device, choice.is_fallback), (EngineDevice::Cpu, true));
            assert!(choice.reason.contains("twice on the GPU"), "{}", choice.reason);
            assert!(choice.reason.contains("signal 11"), "{}", choice.reason);
            assert_eq!(reason, "it ended by itself");
        }
    }

    #[test]
    fn gpu_that_was_asked_for_is_tried_again_however_often_its_engine_crashes() {
        let fakes = crashing();
        let wanted = WantedDevice::from(DeviceChoice::Cuda(None));
        let mut client = Client::new(process(&fakes, wanted.clone()), || ());
        for _ in 0..3 {
            assert_eq!(tried(&mut client).0.device, EngineDevice::Cuda(1));
        }
        wanted.set(DeviceChoice::Cpu);
        assert_eq!(tried(&mut client).0.device, EngineDevice::Cpu, "from the next start on");
    }

    #[test]
    fn only_early_ends_in_a_row_are_held_against_the_gpu() {
        let losses = SharedLosses::default();
        let early = Duration::from_secs(59);
        for life in [early, LONG_LIFE, early] {
            losses.note(life, "it was killed");
            assert!(losses.distrust().is_none());
        }
        losses.note(early, "it was killed");
        assert!(losses.distrust().is_some_and(|it| it.to_string().ends_with("it was killed")));
    }

    #[test]
    fn gpu_that_cannot_be_had_is_an_error_with_a_way_out() {
        let fakes = Fakes::with_cuda(&prints(&probe(vec![gpu(0, "H200", 9)])));
        let wanted = WantedDevice::from(DeviceChoice::Cuda(Some(2)));
        let mut process = process(&fakes, wanted.clone());
        for _ in 0..2 {
            let err = process.connect().map(|_| ()).unwrap_err().to_user_error();
            assert_eq!(
                err.summary,
                "The device cuda:2 cannot be used: there is no GPU 2, only 0 (H200)"
            );
            assert!(err.hint.unwrap().contains("auto"));
            assert!(!err.detail.is_empty());
        }
        wanted.set(DeviceChoice::Cuda(Some(0)));
        assert_eq!(process.choose().unwrap().device, EngineDevice::Cuda(0), "at once");
    }

    #[test]
    fn refusal_is_not_looked_into_for_each_request_anew() {
        let fakes = Fakes::with_cuda("echo >> \"$0.asked\"; exit 1");
        let mut process = process(&fakes, DeviceChoice::Cuda(None));
        for _ in 0..3 {
            assert!(matches!(process.choose(), Err(ConnectError::NoGpu { .. })));
        }
        let asked = std::fs::read(fakes.path().join("meav-engine-cuda.asked")).unwrap();
        assert_eq!(asked, b"\n");
    }

    #[test]
    fn engine_that_was_chosen_beforehand_is_the_one_that_is_started() {
        let fakes = Fakes::with_cuda(&prints(&probe(vec![gpu(0, "H200", 9)])));
        let mut process = process(&fakes, DeviceChoice::Auto);
        let chosen = process.choose().unwrap().clone();
        assert_eq!(chosen.device, EngineDevice::Cuda(0));
        assert_eq!(process.connect().unwrap().choice, chosen);
    }

    #[test]
    fn engine_that_is_named_is_not_asked() {
        for (program, wanted, device) in [
            ("/opt/meav-engine", "auto", EngineDevice::Cpu),
            ("/opt/meav-engine-cuda", "auto", EngineDevice::Cuda(0)),
            ("/opt/meav-engine-cuda", "cpu", EngineDevice::Cpu),
            ("/opt/meav-engine-cuda", "cuda:3", EngineDevice::Cuda(3)),
            ("/opt/my-engine", "cuda", EngineDevice::Cuda(0)),
        ] {
            let choice = named(Path::new(program), wanted.parse().unwrap(), "it is named");
            assert_eq!(choice.device, device, "{program} {wanted}");
            assert_eq!(
                (choice.gpu, &*choice.reason, choice.is_fallback),
                (None, "it is named", false)
            );
        }
    }
}
