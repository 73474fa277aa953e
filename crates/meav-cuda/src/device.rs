use candle_core::{Device, Result, Tensor};

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

/// Copies a tensor's elements over another's of as many bytes, at the speed of the device's memory.
///
/// # Errors
///
/// Where sizes differ, or both are not on one GPU.
pub fn copy_on_device(from: &Tensor, to: &Tensor) -> Result<()> {
    let bytes = |it: &Tensor| it.elem_count() * it.dtype().size_in_bytes();
    if bytes(from) != bytes(to) || !from.device().same_device(to.device()) {
        candle_core::bail!("{:?} is not copied to {:?}", from.shape(), to.shape());
    }
    match to.device() {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => crate::kernels::copy(device, from, to),
        device => candle_core::bail!("nothing is copied like that on {device:?}"),
    }
}

/// Gives memory that tensors on a GPU have left back to the system, for other programs.
///
/// # Errors
///
/// If the driver refuses, as it does after a failure of the GPU.
pub fn trim_memory(device: &Device) -> Result<()> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => crate::kernels::trim(device),
        _ => Ok(()),
    }
}

/// The most that tensors on a GPU have taken of its memory since this was last asked; `None` on the CPU.
///
/// # Errors
///
/// If the driver does not say.
pub fn take_peak_bytes(device: &Device) -> Result<Option<u64>> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => crate::kernels::peak_bytes(device).map(Some),
        _ => Ok(None),
    }
}
