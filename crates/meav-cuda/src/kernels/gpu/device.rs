use candle_core::cuda_backend::WrapErr as _;
use candle_core::cuda_backend::cudarc::driver::result::mem_pool;
use candle_core::cuda_backend::cudarc::driver::sys::CUmemPool_attribute as Attribute;
use candle_core::cuda_backend::cudarc::driver::{CudaContext, result, sys};
use candle_core::{CudaDevice, Device, Result};

use crate::{DeviceMemory, Gpu, Survey};

pub(crate) fn survey() -> Result<Survey> {
    let mut driver = 0;
    // SAFETY: it writes one number.
    unsafe { sys::cuDriverGetVersion(&raw mut driver) }.result().w()?;
    let mut survey = Survey {
        driver: version(driver as u32),
        needed: version(sys::CUDA_VERSION),
        gpus: Vec::new(),
    };
    if survey.driver < survey.needed {
        return Ok(survey);
    }
    match result::init() {
        Err(err) if err.0 == sys::CUresult::CUDA_ERROR_NO_DEVICE => return Ok(survey),
        begun => begun.w()?,
    }
    for index in 0..result::device::get_count().w()? as usize {
        survey.gpus.push(gpu(index)?);
    }
    Ok(survey)
}

/// Major and minor number of a version that the driver writes as 13020.
fn version(number: u32) -> (u32, u32) {
    (number / 1000, number % 1000 / 10)
}

fn gpu(index: usize) -> Result<Gpu> {
    let context = CudaContext::new(index).w()?;
    let (major, minor) = context.compute_capability().w()?;
    let (free_bytes, total_bytes) = context.mem_get_info().w()?;
    Ok(Gpu {
        index,
        name: context.name().w()?,
        compute_capability: (major as u32, minor as u32),
        memory: DeviceMemory { free_bytes: free_bytes as u64, total_bytes: total_bytes as u64 },
    })
}

pub(crate) fn open(index: usize) -> Result<Device> {
    // A stream that is the same one on every thread, since a pool's threads take turns.
    let device = Device::new_cuda_with_stream(index)?;
    if let Device::Cuda(device) = &device {
        // SAFETY: all that is computed with its tensors is asked of this one stream, and copies wait
        // for it by events of their own.
        unsafe { device.disable_event_tracking() };
        // Otherwise each wait gives back to the system what the next token needs again.
        Pool::of(device)?.set(Attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, u64::MAX)?;
    }
    Ok(device)
}

/// What its tensors are allocated from.
struct Pool(sys::CUmemoryPool);

impl Pool {
    fn of(device: &CudaDevice) -> Result<Self> {
        let stream = device.cuda_stream();
        stream.context().bind_to_thread().w()?;
        let mut pool = std::ptr::null_mut();
        // SAFETY: it writes one handle, which lives as long as the driver.
        unsafe { sys::cuDeviceGetDefaultMemPool(&raw mut pool, stream.context().cu_device()) }
            .result()
            .w()?;
        Ok(Self(pool))
    }

    /// One of the attributes that are 64 bits.
    fn get(&self, attribute: Attribute) -> Result<u64> {
        let mut value = 0_u64;
        // SAFETY: the pool lives as long as the driver; the attribute has this type.
        unsafe { mem_pool::get_attribute(self.0, attribute, (&raw mut value).cast()) }.w()?;
        Ok(value)
    }

    fn set(&self, attribute: Attribute, mut value: u64) -> Result<()> {
        // SAFETY: likewise.
        unsafe { mem_pool::set_attribute(self.0, attribute, (&raw mut value).cast()) }.w()
    }
}

pub(crate) fn memory(device: &CudaDevice) -> Result<DeviceMemory> {
    let (free_bytes, total_bytes) = device.cuda_stream().context().mem_get_info().w()?;
    let pool = Pool::of(device)?;
    let reserved = pool.get(Attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT)?;
    let used = pool.get(Attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT)?;
    let free_bytes = free_bytes as u64 + reserved.saturating_sub(used);
    Ok(DeviceMemory { free_bytes, total_bytes: total_bytes as u64 })
}

pub(crate) fn trim(device: &CudaDevice) -> Result<()> {
    device.cuda_stream().synchronize().w()?;
    let pool = Pool::of(device)?;
    // SAFETY: the pool lives as long as the driver.
    unsafe { mem_pool::trim_to(pool.0, 0) }.w()
}

pub(crate) fn peak_bytes(device: &CudaDevice) -> Result<u64> {
    let pool = Pool::of(device)?;
    let peak = pool.get(Attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH)?;
    pool.set(Attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH, 0)?;
    Ok(peak)
}

pub(crate) fn name(device: &CudaDevice) -> Result<String> {
    device.cuda_stream().context().name().w()
}
