//! CUDA kernels of our own.
//!
//! Their sources, in `cuda/`, are CUDA C++ and plain C++ at once. With the feature `cuda` they are
//! compiled by nvcc and run on the GPU that a tensor is on. With `emulated` they are compiled as C++,
//! and [`emulate`] lets a test run them on tensors of the CPU, block by block and thread by thread:
//! what a kernel computes is so tested where there is no GPU. Without either there is nothing that
//! [`is_on_gpu`].

mod device;
#[expect(unsafe_code, reason = "kernels take addresses")]
mod kernels;
mod matrix;
#[cfg(any(feature = "cuda", feature = "emulated"))]
mod testing;

pub use device::{
    DeviceMemory, Gpu, Survey, copy_on_device, device_memory, gpu_name, open_gpu, survey,
    take_peak_bytes, trim_memory,
};
#[cfg(feature = "emulated")]
pub use kernels::emulate;
pub use kernels::{Grid, Kernel, Launch, Uploader, Word, is_gpu, is_on_gpu};
pub use matrix::{Matrix, multiply};
#[cfg(any(feature = "cuda", feature = "emulated"))]
pub use testing::{on_cpu, on_gpu};
