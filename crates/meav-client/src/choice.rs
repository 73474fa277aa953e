use std::cmp::Reverse;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use meav_protocol::{DeviceChoice, EngineChoice, EngineDevice, Gpu, GpuProbe, PROTOCOL_VERSION};

use crate::process::{end_within, end_words};

/// Why no GPU can be used, with what to do about it.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields are named in each message")]
pub enum NoGpu {
    /// There is no engine for GPUs beside this program.
    #[error("built without CUDA; `cargo xtask run --features cuda` builds it")]
    NotBuilt,
    /// The machine has no driver.
    #[error("{library} was not found; it comes with NVIDIA's driver")]
    NoDriver { library: String },
    /// Another library is missing.
    #[error(
        "{library} was not found; install the CUDA toolkit, or name its folder in LD_LIBRARY_PATH"
    )]
    NoLibrary { library: String },
    /// The program was left from another build.
    #[error(
        "the engine for GPUs is of another version; `cargo xtask run --features cuda` builds it"
    )]
    OtherVersion,
    /// The driver is too old.
    #[error("the driver offers CUDA {offered}, and {needed} is needed; install a newer driver")]
    OldDriver { offered: String, needed: String },
    /// What the engine for GPUs says itself.
    #[error("{0}")]
    Problem(String),
    /// The driver finds nothing.
    #[error("NVIDIA's driver finds no GPU")]
    NotThere,
    /// There is no GPU with this number.
    #[error("there is no GPU {index}, only {known}")]
    Unknown { index: u32, known: String },
    /// No GPU is new enough.
    #[error("{gpus} cannot be used; the engine needs compute capability {}.{} or higher",
        Gpu::MIN_COMPUTE_CAPABILITY.0, Gpu::MIN_COMPUTE_CAPABILITY.1)]
    TooOld { gpus: String },
    /// Other programs hold the memory.
    #[error("{gpu} has only {:.1} GB of its memory free", *free_bytes as f64 / 1e9)]
    Full { gpu: String, free_bytes: u64 },
    /// The probe did not end.
    #[error("the engine for GPUs did not say within {} s what there is", limit.as_secs_f32())]
    Hung { limit: Duration },
    /// The probe ended in another way than it should.
    #[error("the engine for GPUs cannot say what there is: {how}")]
    Failed { how: String },
    /// Engines on the GPU don't live long.
    #[error("the engine stopped twice on the GPU soon after its start: {reason}")]
    LostTwice { reason: String },
}

/// The engines for the processor and for GPUs, where they are expected to be.
#[derive(Clone, Debug)]
pub(crate) struct Engines {
    pub(crate) cpu: PathBuf,
    pub(crate) cuda: PathBuf,
    /// How long the engine for GPUs may take to say what there is.
    pub(crate) probe_limit: Duration,
}

/// A model is not put on a GPU by itself where less is free: CUDA alone takes half of it.
const LEAST_FREE_BYTES: u64 = 1_000_000_000;

impl Engines {
    /// Chooses what to compute on. `distrust` says why an engine on a GPU would not live long,
    /// if that is known.
    ///
    /// # Errors
    ///
    /// [`NoGpu`] where a GPU is asked for and can't be had.
    pub(crate) fn choose(
        &self,
        wanted: DeviceChoice,
        distrust: Option<NoGpu>,
    ) -> Result<EngineChoice, NoGpu> {
        let asked_for = || "it was asked for".to_owned();
        match wanted {
            DeviceChoice::Cpu => Ok(on_cpu(asked_for(), false)),
            DeviceChoice::Cuda(None) => best(self.supported()?).map(|gpu| on_gpu(gpu, asked_for())),
            DeviceChoice::Cuda(Some(index)) => {
                numbered(self.probe()?, index).map(|gpu| on_gpu(gpu, asked_for()))
            }
            DeviceChoice::Auto => {
                let found = distrust.map_or_else(|| self.best_with_room(), Err);
                Ok(found.unwrap_or_else(|err| {
                    tracing::info!("no GPU: {err}");
                    on_cpu(err.to_string(), !matches!(err, NoGpu::NotBuilt))
                }))
            }
        }
    }

    fn best_with_room(&self) -> Result<EngineChoice, NoGpu> {
        let gpus = self.supported()?;
        let reason = match gpus.len() {
            1 => "it is the only GPU that can be used".to_owned(),
            several => format!("it has the most free memory of {several} GPUs"),
        };
        let gpu = best(gpus)?;
        if gpu.free_bytes < LEAST_FREE_BYTES {
            return Err(NoGpu::Full { free_bytes: gpu.free_bytes, gpu: gpu.name });
        }
        Ok(on_gpu(gpu, reason))
    }

    fn supported(&self) -> Result<Vec<Gpu>, NoGpu> {
        let gpus = self.probe()?;
        let (supported, old): (Vec<_>, Vec<_>) = gpus.into_iter().partition(Gpu::is_supported);
        if supported.is_empty() { Err(too_old(&old)) } else { Ok(supported) }
    }

    /// All GPUs, at least one.
    fn probe(&self) -> Result<Vec<Gpu>, NoGpu> {
        if !self.cuda.is_file() {
            return Err(NoGpu::NotBuilt);
        }
        let probe = run_probe(&self.cuda, self.probe_limit)?;
        if probe.protocol != PROTOCOL_VERSION {
            return Err(NoGpu::OtherVersion);
        }
        if let Some(offered) = probe.driver_cuda
            && version(&offered) < version(&probe.needed_cuda)
        {
            return Err(NoGpu::OldDriver { offered, needed: probe.needed_cuda });
        }
        match probe.problem {
            Some(problem) => Err(NoGpu::Problem(problem)),
            None if probe.gpus.is_empty() => Err(NoGpu::NotThere),
            None => Ok(probe.gpus),
        }
    }
}

fn on_cpu(reason: String, is_fallback: bool) -> EngineChoice {
    EngineChoice { device: EngineDevice::Cpu, gpu: None, reason, is_fallback }
}

fn on_gpu(gpu: Gpu, reason: String) -> EngineChoice {
    let device = EngineDevice::Cuda(gpu.index);
    EngineChoice { device, gpu: Some(gpu), reason, is_fallback: false }
}

/// The one with the most free memory, the first of equals.
fn best(gpus: Vec<Gpu>) -> Result<Gpu, NoGpu> {
    let best = gpus.into_iter().max_by_key(|gpu| (gpu.free_bytes, Reverse(gpu.index)));
    best.ok_or(NoGpu::NotThere)
}

fn numbered(gpus: Vec<Gpu>, index: u32) -> Result<Gpu, NoGpu> {
    let name = |gpu: &Gpu| format!("{} ({})", gpu.index, gpu.name);
    let known = gpus.iter().map(name).collect::<Vec<_>>().join(", ");
    let gpu = gpus.into_iter().find(|gpu| gpu.index == index);
    let gpu = gpu.ok_or(NoGpu::Unknown { index, known })?;
    if gpu.is_supported() { Ok(gpu) } else { Err(too_old(&[gpu])) }
}

fn too_old(gpus: &[Gpu]) -> NoGpu {
    let name = |Gpu { name, compute_capability: (major, minor), .. }: &Gpu| {
        format!("{name} (compute capability {major}.{minor})")
    };
    NoGpu::TooOld { gpus: gpus.iter().map(name).collect::<Vec<_>>().join(", ") }
}

/// `13.0` as numbers, so that 9 comes before 13.
fn version(text: &str) -> Vec<u32> {
    text.split('.').map_while(|part| part.parse().ok()).collect()
}

/// The most that is read of what a probe prints.
const MOST_PROBE_BYTES: u64 = 1 << 16;

/// Asks the engine for GPUs what there is. One that hangs is ended.
fn run_probe(program: &Path, limit: Duration) -> Result<GpuProbe, NoGpu> {
    let failed = |how: String| NoGpu::Failed { how };
    let mut command = Command::new(program);
    command.arg("--probe").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child =
        command.spawn().map_err(|err| failed(format!("it could not be started: {err}")))?;
    let (status, was_killed) = end_within(&mut child, limit)
        .map_err(|err| failed(format!("its end is unknown: {err}")))?;
    if was_killed {
        return Err(NoGpu::Hung { limit });
    }
    if !status.success() {
        let said = complaint(&mut child);
        return Err(missing_library(&said).unwrap_or_else(|| {
            let said = said.lines().rfind(|line| !line.trim().is_empty());
            let said = said.map(|line| format!(", saying “{}”", line.trim())).unwrap_or_default();
            failed(end_words(status) + &said)
        }));
    }
    let answer = answer(&mut child);
    serde_json::from_str(&answer).map_err(|err| {
        tracing::info!("the probe printed {answer:?}: {err}");
        failed("its answer makes no sense".to_owned())
    })
}

/// The first line; a process that was left behind could keep the end from coming.
fn answer(child: &mut Child) -> String {
    let mut line = String::new();
    if let Some(output) = child.stdout.take()
        && let Err(err) = BufReader::new(output.take(MOST_PROBE_BYTES)).read_line(&mut line)
    {
        tracing::info!("the probe's answer: {err}");
    }
    line
}

fn complaint(child: &mut Child) -> String {
    let mut said = Vec::new();
    if let Some(errors) = child.stderr.take()
        && let Err(err) = errors.take(MOST_PROBE_BYTES).read_to_end(&mut said)
    {
        tracing::info!("the probe's complaint: {err}");
    }
    String::from_utf8_lossy(&said).into_owned()
}

/// What the dynamic loader of Linux complains about, when it ends a program with code 127.
fn missing_library(said: &str) -> Option<NoGpu> {
    let (_, rest) = said.split_once("error while loading shared libraries: ")?;
    let library = rest.split(':').next()?.trim().to_owned();
    Some(if library.starts_with("libcuda.so") {
        NoGpu::NoDriver { library }
    } else {
        NoGpu::NoLibrary { library }
    })
}

#[cfg(test)]
mod tests {
    use meav_protocol::EngineDevice::{Cpu, Cuda};

    use super::*;
    use crate::test_support::{Fakes, gpu, prints, probe};

    fn choose(fakes: &Fakes, wanted: &str) -> Result<EngineChoice, String> {
        let engines = fakes.engines();
        engines.choose(wanted.parse().unwrap(), None).map_err(|err| err.to_string())
    }

    /// What programs in the place of the engine for GPUs do, and what then is to be said of it.
    fn unusable() -> Vec<(&'static str, String, &'static str)> {
        let loader = "error while loading shared libraries";
        let lacks = |library: &str| {
            let said = format!("{loader}: {library}: cannot open shared object file: No such file");
            format!("echo '/opt/meav-engine-cuda: {said} or directory' >&2; exit 127")
        };
        let with = |change: fn(&mut GpuProbe)| {
            let mut probe = probe(vec![gpu(0, "NVIDIA H200", 100)]);
            change(&mut probe);
            prints(&probe)
        };
        vec![
            (
                "no driver",
                lacks("libcuda.so.1"),
                "libcuda.so.1 was not found; it comes with NVIDIA",
            ),
            (
                "no library",
                lacks("libcublas.so.13"),
                "libcublas.so.13 was not found; install the CUDA",
            ),
            (
                "old driver",
                with(|it| it.driver_cuda = Some("9.2".to_owned())),
                "offers CUDA 9.2, and 13.0 is needed",
            ),
            ("no GPU", with(|it| it.gpus.clear()), "finds no GPU"),
            (
                "old GPU",
                with(|it| it.gpus[0].compute_capability = (7, 5)),
                "NVIDIA H200 (compute capability 7.5) cannot be used; the engine needs compute \
                 capability 8.0",
            ),
            (
                "problem",
                with(|it| it.problem = Some("the GPU has fallen off the bus".to_owned())),
                "the GPU has fallen off the bus",
            ),
            ("other version", with(|it| it.protocol -= 1), "is of another version"),
            ("older version", "echo '{}'".to_owned(), "is of another version"),
            ("garbage", "echo 'CUDA driver version'".to_owned(), "its answer makes no sense"),
            ("nothing", "exit 0".to_owned(), "its answer makes no sense"),
            ("crash", "kill -SEGV $$".to_owned(), "it crashed with signal 11"),
            (
                "failure",
                "echo; echo 'out of luck' >&2; exit 3".to_owned(),
                "it ended with code 3, saying “out of luck”",
            ),
            ("hang", "exec sleep 60".to_owned(), "did not say within 2 s"),
            ("no program", "\u{0}".to_owned(), "could not be started"),
        ]
    }

    #[test]
    fn gpu_that_cannot_be_used_is_told_and_made_up_for_only_if_none_was_asked_for() {
        for (name, script, words) in unusable() {
            let fakes = Fakes::with_cuda(&script);
            let choice = choose(&fakes, "auto").unwrap();
            assert_eq!(
                (choice.device, &choice.gpu, choice.is_fallback),
                (Cpu, &None, true),
                "{name}"
            );
            assert!(choice.reason.contains(words), "{name}: {}", choice.reason);
            assert!(choose(&fakes, "cuda").unwrap_err().contains(words), "{name}");
            let choice = choose(&fakes, "cpu").unwrap();
            assert_eq!((choice.device, choice.is_fallback), (Cpu, false), "{name}");
        }
    }

    #[test]
    fn machine_without_the_engine_for_gpus_has_lost_nothing() {
        let fakes = Fakes::without_cuda();
        let choice = choose(&fakes, "auto").unwrap();
        assert_eq!((choice.device, choice.is_fallback), (Cpu, false));
        assert!(choice.reason.contains("`cargo xtask run --features cuda`"), "{}", choice.reason);
        assert!(choose(&fakes, "cuda:0").unwrap_err().contains("built without CUDA"));
    }

    #[test]
    fn gpu_with_the_most_free_memory_is_taken_unless_one_is_named() {
        let mut old = gpu(3, "Old", 200);
        old.compute_capability = (7, 0);
        let tie = vec![gpu(0, "A", 10), gpu(1, "B", 80), gpu(2, "C", 80), old];
        let mut full = gpu(0, "A", 0);
        full.free_bytes = 300_000_000;
        for (gpus, wanted, expected) in [
            (&tie, "auto", Ok((Cuda(1), "it has the most free memory of 3 GPUs"))),
            (&tie, "cuda", Ok((Cuda(1), "it was asked for"))),
            (&tie, "cuda:2", Ok((Cuda(2), "it was asked for"))),
            (&tie, "cuda:3", Err("Old (compute capability 7.0) cannot be used")),
            (&tie, "cuda:4", Err("there is no GPU 4, only 0 (A), 1 (B), 2 (C), 3 (Old)")),
            (&vec![gpu(5, "A", 1)], "auto", Ok((Cuda(5), "it is the only GPU that can be used"))),
            (&vec![full.clone()], "auto", Ok((Cpu, "A has only 0.3 GB of its memory free"))),
            (&vec![full], "cuda", Ok((Cuda(0), "it was asked for"))),
        ] {
            let fakes = Fakes::with_cuda(&prints(&probe(gpus.clone())));
            match (choose(&fakes, wanted), expected) {
                (Ok(choice), Ok((device, reason))) => {
                    assert_eq!((choice.device, &*choice.reason), (device, reason), "{wanted}");
                    let index = choice.gpu.map_or(Cpu, |gpu| Cuda(gpu.index));
                    assert_eq!(index, device, "{wanted}");
                }
                (Err(said), Err(words)) => assert!(said.contains(words), "{said}"),
                (found, _) => panic!("{wanted}: {found:?}"),
            }
        }
    }

    #[test]
    fn probe_of_another_build_is_read_as_far_as_it_is_known() {
        let json = r#"{"gpus": [{"name": "A", "clock": 1}], "colour": "green"}"#;
        let gpus = vec![Gpu { name: "A".to_owned(), ..Gpu::default() }];
        let read: GpuProbe = serde_json::from_str(json).unwrap();
        assert_eq!(read, GpuProbe { gpus, ..GpuProbe::default() });
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        for (older, newer) in [("9.2", "13.0"), ("12.9", "13.0"), ("13.0", "13.1"), ("", "13")] {
            assert!(version(older) < version(newer), "{older} {newer}");
        }
    }
}
