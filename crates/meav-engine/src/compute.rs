use candle_core::Device;
use meav_protocol::{EngineDevice, Gpu, GpuProbe, MemoryUse, PROTOCOL_VERSION};
use meav_weights::{available_memory_bytes, process_memory_bytes, total_memory_bytes};

/// What models run on.
#[derive(Clone, Debug)]
pub(crate) struct Compute {
    device: Device,
    name: String,
    /// Why it is not the GPU that was wanted.
    fault: Option<String>,
}

impl Compute {
    /// The processor, with as many threads as there are in the pool.
    pub(crate) fn cpu() -> Self {
        let name = match rayon::current_num_threads() {
            1 => "CPU, 1 thread".to_owned(),
            threads => format!("CPU, {threads} threads"),
        };
        Self { device: Device::Cpu, name, fault: None }
    }

    /// A device; the processor where a GPU can't be used after all, which every model that runs there is
    /// told with.
    pub(crate) fn open(wanted: EngineDevice) -> Self {
        let EngineDevice::Cuda(index) = wanted else { return Self::cpu() };
        match open_gpu(index) {
            Ok(gpu) => gpu,
            Err(err) => {
                let err = first_line(&err);
                tracing::error!("GPU {index}: {err}");
                let fault = format!("it runs on the processor: GPU {index} can't be used ({err})");
                Self { fault: Some(fault), ..Self::cpu() }
            }
        }
    }

    pub(crate) fn device(&self) -> &Device {
        &self.device
    }

    /// What a person knows it by.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Why it is not the GPU that was wanted, in words.
    pub(crate) fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    pub(crate) fn is_gpu(&self) -> bool {
        self.device.is_cuda()
    }

    /// Bytes of its memory that nobody holds, if that is known.
    pub(crate) fn available_bytes(&self) -> Option<u64> {
        if self.is_gpu() {
            // A GPU that does not say has nothing.
            Some(self.gpu_memory().map_or(0, |it| it.free_bytes))
        } else {
            available_memory_bytes()
        }
    }

    /// Of the processor's memory what the engine takes, of a GPU's what everybody does.
    pub(crate) fn memory_use(&self) -> Option<MemoryUse> {
        if !self.is_gpu() {
            let used_bytes = process_memory_bytes()?;
            return Some(MemoryUse { used_bytes, total_bytes: total_memory_bytes()? });
        }
        let memory = self.gpu_memory()?;
        let used_bytes = memory.total_bytes.saturating_sub(memory.free_bytes);
        Some(MemoryUse { used_bytes, total_bytes: memory.total_bytes })
    }

    /// Gives what was let go of back to the system. `false` where a GPU does not work any more: after some
    /// failures it refuses everything until the process ends.
    pub(crate) fn trim(&self) -> bool {
        match meav_cuda::trim_memory(&self.device) {
            Ok(()) => true,
            Err(err) => {
                tracing::error!("the GPU: {}", first_line(&err));
                false
            }
        }
    }

    /// The most that tensors on a GPU have taken since this was last asked.
    pub(crate) fn take_peak_bytes(&self) -> Option<u64> {
        meav_cuda::take_peak_bytes(&self.device).unwrap_or_else(|err| {
            tracing::warn!("the GPU's memory: {err}");
            None
        })
    }

    fn gpu_memory(&self) -> Option<meav_cuda::DeviceMemory> {
        // What was let go of is free only when everything before has been done.
        let memory =
            self.device.synchronize().and_then(|()| meav_cuda::device_memory(&self.device));
        memory.unwrap_or_else(|err| {
            tracing::warn!("the GPU's memory: {err}");
            None
        })
    }
}

fn open_gpu(index: u32) -> candle_core::Result<Compute> {
    let device = meav_cuda::open_gpu(index as usize)?;
    let name = meav_cuda::gpu_name(&device)?.unwrap_or_default();
    Ok(Compute { device, name: format!("CUDA {index} · {name}"), fault: None })
}

/// An error without the places in the code that may stand behind it.
fn first_line(err: &candle_core::Error) -> String {
    err.to_string().lines().next().unwrap_or_default().to_owned()
}

/// Looks for GPUs, for a client that has to choose an engine.
pub(crate) fn probe_gpus() -> GpuProbe {
    let version = |(major, minor): (u32, u32)| format!("{major}.{minor}");
    let gpu = |gpu: &meav_cuda::Gpu| Gpu {
        index: gpu.index as u32,
        name: gpu.name.clone(),
        compute_capability: gpu.compute_capability,
        total_bytes: gpu.memory.total_bytes,
        free_bytes: gpu.memory.free_bytes,
    };
    match meav_cuda::survey() {
        Ok(survey) => GpuProbe {
            protocol: PROTOCOL_VERSION,
            driver_cuda: Some(version(survey.driver)),
            needed_cuda: version(survey.needed),
            gpus: survey.gpus.iter().map(gpu).collect(),
            problem: None,
        },
        Err(err) => GpuProbe {
            protocol: PROTOCOL_VERSION,
            problem: Some(first_line(&err)),
            ..GpuProbe::default()
        },
    }
}
