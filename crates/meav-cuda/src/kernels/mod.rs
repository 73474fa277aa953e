//! Runs kernels.

#[cfg(feature = "emulated")]
mod emulated;
#[cfg(feature = "cuda")]
mod gpu;
mod launch;
mod upload;

use std::ffi::c_void;

#[cfg(any(feature = "cuda", feature = "emulated"))]
use candle_core::Storage;
use candle_core::{DType, Device, Layout, Result, Tensor};

#[cfg(feature = "emulated")]
pub use emulated::emulate;
#[cfg(all(feature = "emulated", not(feature = "cuda")))]
pub(crate) use emulated::n_emulated;

#[cfg(feature = "cuda")]
pub(crate) use gpu::{copy, memory, name, open, peak_bytes, survey, trim};
pub use launch::{Grid, Kernel, Launch, Word};
pub use upload::Uploader;

use crate::Matrix;
use launch::Arg;

/// Whether what is computed with a tensor is computed by kernels.
pub fn is_on_gpu(tensor: &Tensor) -> bool {
    is_gpu(tensor.device())
}

/// Whether what is computed with tensors of a device is computed by kernels.
pub fn is_gpu(device: &Device) -> bool {
    match device {
        Device::Cuda(_) => true,
        #[cfg(feature = "emulated")]
        Device::Cpu => emulated::is_on(),
        _ => false,
    }
}

/// Runs a kernel where `on` is.
///
/// # Safety
///
/// As of [`Launch::run`].
unsafe fn run(launch: Launch<'_>, on: &Tensor) -> Result<()> {
    let Launch { kernel, grid, args } = launch;
    let mut values = args
        .into_iter()
        .map(|arg| match arg {
            Arg::Tensor(tensor) => Ok(vec![address(tensor)?]),
            Arg::Value(words) => Ok(words),
            Arg::Struct(words) => words
                .into_iter()
                .map(|word| match word {
                    Word::Number(number) => Ok(number),
                    Word::Address(tensor) => address(tensor),
                })
                .collect(),
        })
        .collect::<Result<Vec<_>>>()?;
    let mut args: Vec<_> =
        values.iter_mut().map(|words| words.as_mut_ptr().cast::<c_void>()).collect();
    match on.device() {
        #[cfg(feature = "cuda")]
        // SAFETY: the caller's promise; the arguments live until it returns.
        Device::Cuda(device) => unsafe { gpu::run(device, kernel, grid, &mut args) },
        #[cfg(feature = "emulated")]
        // SAFETY: likewise.
        Device::Cpu => unsafe { emulated::run(kernel, grid, &mut args) },
        device => {
            args.clear();
            candle_core::bail!("{kernel:?} can't be run by {grid:?} on {device:?}")
        }
    }
}

/// See [`crate::multiply`], which has looked at shapes and types.
pub(crate) fn multiply(a: Matrix<'_>, b: Matrix<'_>, to: Matrix<'_>, adds: bool) -> Result<()> {
    match to.tensor.device() {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => gpu::multiply(device, a, b, to, adds),
        #[cfg(feature = "emulated")]
        Device::Cpu => emulated::multiply(a, b, to, adds),
        device => candle_core::bail!("no product of {a:?} and {b:?} on {device:?} ({adds})"),
    }
}

/// Where a tensor's first element is.
fn address(tensor: &Tensor) -> Result<u64> {
    let (storage, layout) = tensor.storage_and_layout();
    if !layout.is_contiguous() {
        candle_core::bail!("a kernel takes contiguous tensors only, not {:?}", layout);
    }
    let start: Result<u64> = match &*storage {
        #[cfg(feature = "cuda")]
        Storage::Cuda(storage) => gpu::address(storage),
        #[cfg(feature = "emulated")]
        Storage::Cpu(storage) => emulated::address(storage),
        _ => Err(candle_core::Error::Msg("a kernel takes tensors on the GPU only".to_owned())),
    };
    Ok(start? + offset(layout, tensor.dtype()))
}

fn offset(layout: &Layout, dtype: DType) -> u64 {
    (layout.start_offset() * dtype.size_in_bytes()) as u64
}
