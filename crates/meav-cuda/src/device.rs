use candle_core::{Device, Result};

/// The driver and the GPUs that it knows.
#[derive(Clone, Debug, PartialEq)]
pub struct Survey {
    /// The newest CUDA that the driver runs, major and minor.
    pub driver: (u32, u32),
    /// The CUDA that this program was built with: no driver for an older one runs it.
    pub needed: (u32, u32),
    /// None where the driver is too old.
    pub gpus: Vec<Gpu>,
}

/// A GPU.
#[derive(Clone, Debug, PartialEq)]
pub struct Gpu {
    /// As [`open_gpu`] takes it.
    pub index: usize,
    /// The maker's name for it.
    pub name: String,
    /// Major and minor; there are kernels for 8.0 and upward.
    pub compute_capability: (u32, u32),
    /// What it has.
    pub memory: DeviceMemory,
}

/// Memory of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceMemory {
    /// What nobody uses.
    pub free_bytes: u64,
    /// All of it.
    pub total_bytes: u64,
}

/// Looks for the driver's GPUs; changes nothing of them.
///
/// # Errors
///
/// What the driver says, where it does not work; where this was built without CUDA.
pub fn survey() -> Result<Survey> {
    #[cfg(feature = "cuda")]
    return crate::kernels::survey();
    #[cfg(not(feature = "cuda"))]
    candle_core::bail!("this program was built without CUDA")
}

/// A device for tensors.
///
/// # Errors
///
/// Where there is no such GPU, or it has no memory left; where this was built without CUDA.
pub fn open_gpu(index: usize) -> Result<Device> {
    #[cfg(feature = "cuda")]
    return crate::kernels::open(index);
    #[cfg(not(feature = "cuda"))]
    candle_core::bail!("this program was built without CUDA, there is no GPU {index}")
}

/// The maker's name for a GPU; `None` on the CPU.
///
/// # Errors
///
/// If the driver does not say.
pub fn gpu_name(device: &Device) -> Result<Option<String>> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => crate::kernels::name(device).map(Some),
        _ => Ok(None),
    }
}

/// What a GPU has left; `None` on the CPU.
///
/// # Errors
///
/// If the driver does not say.
pub fn device_memory(device: &Device) -> Result<Option<DeviceMemory>> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => crate::kernels::memory(device).map(Some),
        _ => Ok(None),
    }
}
