use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Dtype;

/// What the engine for GPUs finds: the one line of JSON that `meav-engine-cuda --probe` prints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GpuProbe {
    /// See [`crate::PROTOCOL_VERSION`].
    pub protocol: u32,
    /// The highest version of CUDA that the driver offers, `13.0`.
    pub driver_cuda: Option<String>,
    /// The lowest version of CUDA that the engine needs.
    pub needed_cuda: String,
    /// The GPUs, in CUDA's order.
    pub gpus: Vec<Gpu>,
    /// Why none of them can be used, in words, where versions and GPUs don't say so themselves.
    pub problem: Option<String>,
}

impl fmt::Display for GpuProbe {
    /// The line that is printed, without its end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_err| fmt::Error)?)
    }
}

impl FromStr for GpuProbe {
    type Err = serde_json::Error;

    /// Reads the line that is printed.
    fn from_str(line: &str) -> Result<Self, Self::Err> {
        serde_json::from_str(line)
    }
}

/// A GPU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Gpu {
    /// Its place in CUDA's order, from 0.
    pub index: u32,
    /// What its maker calls it.
    pub name: String,
    /// Which generation of instructions it knows, major and minor.
    pub compute_capability: (u32, u32),
    /// Bytes of memory that it has.
    pub total_bytes: u64,
    /// Bytes of them that nobody holds.
    pub free_bytes: u64,
}

impl Gpu {
    /// The lowest compute capability that the engine is built for.
    pub const MIN_COMPUTE_CAPABILITY: (u32, u32) = (8, 0);

    /// Whether the engine is built for it.
    pub fn is_supported(&self) -> bool {
        self.compute_capability >= Self::MIN_COMPUTE_CAPABILITY
    }
}

/// Where a user wants the engine to compute: `auto`, `cpu`, `cuda` or `cuda:N`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceChoice {
    /// On a GPU if one can be used, else on the processor.
    #[default]
    Auto,
    /// On the processor.
    Cpu,
    /// On this GPU, or `None` for the one with the most free memory.
    Cuda(Option<u32>),
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(None) => f.write_str("cuda"),
            Self::Cuda(Some(index)) => write!(f, "cuda:{index}"),
        }
    }
}

/// A device that is not one of `auto`, `cpu`, `cuda` and `cuda:N`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is none of auto, cpu, cuda and cuda:N")]
pub struct ParseDeviceError(String);

impl FromStr for DeviceChoice {
    type Err = ParseDeviceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(None)),
            other => {
                let digits = other.strip_prefix("cuda:");
                let digits = digits.filter(|it| it.bytes().all(|byte| byte.is_ascii_digit()));
                let index = digits.and_then(|digits| digits.parse().ok());
                let choice = index.map(|index| Self::Cuda(Some(index)));
                choice.ok_or_else(|| ParseDeviceError(other.to_owned()))
            }
        }
    }
}

/// What an engine computes on; it is told by the argument `--device`, as `cpu` or `cuda:N`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum EngineDevice {
    /// The processor.
    #[default]
    Cpu,
    /// The GPU with this place in CUDA's order.
    Cuda(u32),
}

impl EngineDevice {
    /// What weights are rounded to that are measured or trained, unless told otherwise.
    pub fn measuring_dtype(self) -> Dtype {
        match self {
            Self::Cpu => Dtype::F32,
            Self::Cuda(_) => Dtype::Bf16,
        }
    }
}

impl fmt::Display for EngineDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl FromStr for EngineDevice {
    type Err = ParseDeviceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse()? {
            DeviceChoice::Cpu => Ok(Self::Cpu),
            DeviceChoice::Cuda(Some(index)) => Ok(Self::Cuda(index)),
            DeviceChoice::Auto | DeviceChoice::Cuda(None) => Err(ParseDeviceError(text.to_owned())),
        }
    }
}

/// Which engine is to run, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineChoice {
    /// What it computes on.
    pub device: EngineDevice,
    /// The GPU, if it was looked at.
    pub gpu: Option<Gpu>,
    /// Why, in words that begin small and end without a full stop.
    pub reason: String,
    /// Whether there is an engine for GPUs that could not be used.
    pub is_fallback: bool,
}

impl fmt::Display for EngineChoice {
    /// The device: `CPU`, `CUDA 0 · NVIDIA H200`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.device, &self.gpu) {
            (EngineDevice::Cpu, _) => f.write_str("CPU"),
            (EngineDevice::Cuda(index), None) => write!(f, "CUDA {index}"),
            (EngineDevice::Cuda(index), Some(gpu)) => write!(f, "CUDA {index} · {}", gpu.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probe_is_read_as_it_was_printed_and_of_another_build_as_far_as_it_is_known() {
        let gpu = Gpu { index: 1, compute_capability: (9, 0), ..Gpu::default() };
        let probe = GpuProbe { protocol: 6, gpus: vec![gpu], ..GpuProbe::default() };
        assert_eq!(probe.to_string().parse::<GpuProbe>().unwrap(), probe);
        assert_eq!(probe.to_string().lines().count(), 1);
        let json = r#"{"gpus": [{"name": "A", "clock": 1}], "colour": "green"}"#;
        let gpus = vec![Gpu { name: "A".to_owned(), ..Gpu::default() }];
        assert_eq!(json.parse::<GpuProbe>().unwrap(), GpuProbe { gpus, ..GpuProbe::default() });
        assert!("no JSON".parse::<GpuProbe>().is_err());
    }

    #[test]
    fn devices_are_written_as_they_are_read() {
        for (text, choice, device) in [
            ("auto", DeviceChoice::Auto, None),
            ("cpu", DeviceChoice::Cpu, Some(EngineDevice::Cpu)),
            ("cuda", DeviceChoice::Cuda(None), None),
            ("cuda:12", DeviceChoice::Cuda(Some(12)), Some(EngineDevice::Cuda(12))),
        ] {
            assert_eq!(text.parse(), Ok(choice));
            assert_eq!(choice.to_string(), text);
            assert_eq!(text.parse().ok(), device, "{text}");
            assert!(device.is_none_or(|device| device.to_string() == text));
        }
        for bad in ["", "CPU", "gpu", "cuda:", "cuda:-1", "cuda:+1", "cuda:x", "cuda:99999999999"] {
            assert!(bad.parse::<DeviceChoice>().is_err(), "{bad}");
        }
    }
}
