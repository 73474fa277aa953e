mod device;
mod upload;

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use candle_core::cuda_backend::cudarc::cublas::{result as cublas, sys};
use candle_core::cuda_backend::cudarc::driver::{CudaFunction, CudaModule, DevicePtr as _, result};
use candle_core::cuda_backend::cudarc::nvrtc::Ptx;
use candle_core::cuda_backend::{CudaStorageSlice, WrapErr as _};
use candle_core::{CudaDevice, CudaStorage, DType, Result, Tensor};

use crate::{Grid, Kernel, Matrix};

pub(crate) use device::{memory, name, open, peak_bytes, survey, trim};
pub(super) use upload::Pinned;

/// What nvcc made of each source.
const MODULES: [(&str, &[u8]); 12] = [
    ("attention", include_bytes!(concat!(env!("OUT_DIR"), "/attention.fatbin"))),
    ("attention_backward", include_bytes!(concat!(env!("OUT_DIR"), "/attention_backward.fatbin"))),
    ("elementwise", include_bytes!(concat!(env!("OUT_DIR"), "/elementwise.fatbin"))),
    ("gated_backward", include_bytes!(concat!(env!("OUT_DIR"), "/gated_backward.fatbin"))),
    ("head", include_bytes!(concat!(env!("OUT_DIR"), "/head.fatbin"))),
    ("linear", include_bytes!(concat!(env!("OUT_DIR"), "/linear.fatbin"))),
    ("log_probs", include_bytes!(concat!(env!("OUT_DIR"), "/log_probs.fatbin"))),
    ("merge", include_bytes!(concat!(env!("OUT_DIR"), "/merge.fatbin"))),
    ("norm", include_bytes!(concat!(env!("OUT_DIR"), "/norm.fatbin"))),
    ("norm_backward", include_bytes!(concat!(env!("OUT_DIR"), "/norm_backward.fatbin"))),
    ("sample", include_bytes!(concat!(env!("OUT_DIR"), "/sample.fatbin"))),
    ("train", include_bytes!(concat!(env!("OUT_DIR"), "/train.fatbin"))),
];

/// What has been loaded, by the context of a device and the name of a module or a kernel.
#[derive(Default)]
struct Loaded {
    modules: HashMap<(usize, &'static str), Arc<CudaModule>>,
    functions: HashMap<(usize, Kernel), CudaFunction>,
}

/// The kernel's function in this context, loaded when it is first asked for.
fn function(device: &CudaDevice, kernel: Kernel) -> Result<CudaFunction> {
    static LOADED: OnceLock<Mutex<Loaded>> = OnceLock::new();
    let loaded = LOADED.get_or_init(Mutex::default);
    let mut loaded = loaded.lock().unwrap_or_else(PoisonError::into_inner);
    let stream = device.cuda_stream();
    let context = stream.context().cu_ctx() as usize;
    if let Some(function) = loaded.functions.get(&(context, kernel)) {
        return Ok(function.clone());
    }
    let module = if let Some(module) = loaded.modules.get(&(context, kernel.module)) {
        Arc::clone(module)
    } else {
        let Some((_, image)) = MODULES.iter().find(|(name, _)| *name == kernel.module) else {
            candle_core::bail!("there is no {kernel:?}");
        };
        let module = stream.context().load_module(Ptx::from_binary(image.to_vec())).w()?;
        loaded.modules.insert((context, kernel.module), Arc::clone(&module));
        module
    };
    let function = module.load_function(kernel.name).w()?;
    loaded.functions.insert((context, kernel), function.clone());
    Ok(function)
}

/// Copies as many bytes as `to` has within the memory of the GPU.
pub(crate) fn copy(device: &CudaDevice, from: &Tensor, to: &Tensor) -> Result<()> {
    let (from_address, to_address) = (super::address(from)?, super::address(to)?);
    let bytes = to.elem_count() * to.dtype().size_in_bytes();
    let stream = device.cuda_stream();
    stream.context().bind_to_thread().w()?;
    // SAFETY: both have as many bytes, as `crate::copy_on_device` has made sure, and belong to the stream.
    unsafe { result::memcpy_dtod_async(to_address, from_address, bytes, stream.cu_stream()) }.w()
}

pub(super) fn address(storage: &CudaStorage) -> Result<u64> {
    let stream = storage.device.cuda_stream();
    // All work is asked of one stream, in order: there is nothing to wait for.
    Ok(match &storage.slice {
        CudaStorageSlice::F32(values) => values.device_ptr(&stream).0,
        CudaStorageSlice::F16(values) => values.device_ptr(&stream).0,
        CudaStorageSlice::BF16(values) => values.device_ptr(&stream).0,
        CudaStorageSlice::F64(values) => values.device_ptr(&stream).0,
        CudaStorageSlice::U32(values) => values.device_ptr(&stream).0,
        CudaStorageSlice::U8(values) => values.device_ptr(&stream).0,
        CudaStorageSlice::I64(values) => values.device_ptr(&stream).0,
        _ => candle_core::bail!("kernels take no tensors of this type"),
    })
}

/// # Safety
///
/// As of [`Launch::run`](crate::Launch::run); `args` are the addresses of the arguments.
pub(super) unsafe fn run(
    device: &CudaDevice,
    kernel: Kernel,
    grid: Grid,
    args: &mut [*mut c_void],
) -> Result<()> {
    let function = function(device, kernel)?;
    let [blocks, threads] =
        [grid.blocks, grid.threads].map(|[x, y, z]| (x as u32, y as u32, z as u32));
    let (shared_bytes, stream) = (grid.shared_bytes as u32, device.cuda_stream());
    stream.context().bind_to_thread().w()?;
    // SAFETY: the caller's promise; the function belongs to the context that is bound.
    unsafe {
        let function = function.cu_function();
        result::launch_kernel(function, blocks, threads, shared_bytes, stream.cu_stream(), args)
    }
    .w()
}

/// By cuBLAS, whose matrices are column by column: it is asked for `toᵀ = bᵀ aᵀ`.
pub(super) fn multiply(
    device: &CudaDevice,
    a: Matrix<'_>,
    b: Matrix<'_>,
    to: Matrix<'_>,
    adds: bool,
) -> Result<()> {
    let ([m, k], [_, n]) = (a.shape(), b.shape());
    let operation = |it: Matrix<'_>| {
        let [plain, transposed] =
            [sys::cublasOperation_t::CUBLAS_OP_N, sys::cublasOperation_t::CUBLAS_OP_T];
        if it.is_transposed { transposed } else { plain }
    };
    let size = |n: usize| i32::try_from(n).map_err(candle_core::Error::wrap);
    let kind = |it: Matrix<'_>| match it.tensor.dtype() {
        DType::F16 => sys::cudaDataType_t::CUDA_R_16F,
        DType::BF16 => sys::cudaDataType_t::CUDA_R_16BF,
        _ => sys::cudaDataType_t::CUDA_R_32F,
    };
    let address = |it: Matrix<'_>| -> Result<*mut c_void> {
        let start = (it.start * it.tensor.dtype().size_in_bytes()) as u64;
        Ok((super::address(it.tensor)? + start) as *mut c_void)
    };
    let (alpha, beta) = (1.0_f32, if adds { 1.0_f32 } else { 0.0 });
    let [alpha, beta] = [&alpha, &beta].map(|it| std::ptr::from_ref(it).cast());
    device.cuda_stream().context().bind_to_thread().w()?;
    // SAFETY: the matrices lie within their tensors, as `crate::multiply` has made sure, and these live
    // until the product is asked for; what frees them later is asked of the same stream.
    unsafe {
        cublas::gemm_ex(
            *device.cublas_handle().handle(),
            operation(b),
            operation(a),
            size(n)?,
            size(m)?,
            size(k)?,
            alpha,
            address(b)?,
            kind(b),
            size(b.row_stride)?,
            address(a)?,
            kind(a),
            size(a.row_stride)?,
            beta,
            address(to)?,
            kind(to),
            size(to.row_stride)?,
            sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
            sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
        )
    }
    .w()
}
