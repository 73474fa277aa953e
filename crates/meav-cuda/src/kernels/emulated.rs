use std::cell::Cell;
use std::ffi::{CString, c_char, c_int, c_void};

use candle_core::{CpuStorage, DType, Result};

use crate::{Grid, Kernel, Matrix};

unsafe extern "C" {
    /// Of `emulate.cpp`.
    fn meav_emulate(
        name: *const c_char,
        blocks: *const u32,
        threads: *const u32,
        shared_bytes: u32,
        args: *mut *mut c_void,
    ) -> c_int;
}

thread_local! {
    static IS_ON: Cell<bool> = const { Cell::new(false) };
    static N_EMULATED: Cell<u64> = const { Cell::new(0) };
}

pub(super) fn is_on() -> bool {
    IS_ON.get()
}

/// Kernels and products that this thread has emulated.
#[cfg(not(feature = "cuda"))]
pub(crate) fn n_emulated() -> u64 {
    N_EMULATED.get()
}

/// Does `work` with kernels wherever a GPU would, on tensors of the CPU. For tests.
pub fn emulate<R>(work: impl FnOnce() -> R) -> R {
    /// Ends with the work, however that ends.
    struct On(bool);
    impl Drop for On {
        fn drop(&mut self) {
            IS_ON.set(self.0);
        }
    }
    let _on = On(IS_ON.replace(true));
    work()
}

pub(super) fn address(storage: &CpuStorage) -> Result<u64> {
    Ok(match storage {
        CpuStorage::F32(values) => values.as_ptr() as u64,
        CpuStorage::F16(values) => values.as_ptr() as u64,
        CpuStorage::BF16(values) => values.as_ptr() as u64,
        CpuStorage::F64(values) => values.as_ptr() as u64,
        CpuStorage::U32(values) => values.as_ptr() as u64,
        CpuStorage::U8(values) => values.as_ptr() as u64,
        CpuStorage::I64(values) => values.as_ptr() as u64,
        _ => candle_core::bail!("kernels take no tensors of this type"),
    })
}

/// # Safety
///
/// As of [`Launch::run`](crate::Launch::run); `args` are the addresses of the arguments.
pub(super) unsafe fn run(kernel: Kernel, grid: Grid, args: &mut [*mut c_void]) -> Result<()> {
    N_EMULATED.set(N_EMULATED.get() + 1);
    let name = CString::new(kernel.name).map_err(candle_core::Error::wrap)?;
    let [blocks, threads] = [grid.blocks, grid.threads].map(|it| it.map(|n| n as u32));
    let shared_bytes = grid.shared_bytes as u32;
    // SAFETY: the caller's promise; name and sizes live until it returns.
    let found = unsafe {
        meav_emulate(
            name.as_ptr(),
            blocks.as_ptr(),
            threads.as_ptr(),
            shared_bytes,
            args.as_mut_ptr(),
        )
    };
    if found == 0 {
        candle_core::bail!("there is no {kernel:?}");
    }
    Ok(())
}

/// One element after the other.
pub(super) fn multiply(a: Matrix<'_>, b: Matrix<'_>, to: Matrix<'_>, adds: bool) -> Result<()> {
    N_EMULATED.set(N_EMULATED.get() + 1);
    let ([m, k], [_, n]) = (a.shape(), b.shape());
    let values = |it: Matrix<'_>| -> Result<Vec<f32>> {
        it.tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()
    };
    let (a_values, b_values) = (values(a)?, values(b)?);
    let at = |it: Matrix<'_>, row: usize, col: usize| {
        let (row, col) = if it.is_transposed { (col, row) } else { (row, col) };
        it.start + row * it.row_stride + col
    };
    let target = super::address(to.tensor)? as *mut f32;
    for row in 0..m {
        for col in 0..n {
            let products = (0..k).map(|i| a_values[at(a, row, i)] * b_values[at(b, i, col)]);
            let sum: f32 = products.sum();
            // SAFETY: within the tensor, as `crate::multiply` has made sure.
            let value = unsafe { &mut *target.add(at(to, row, col)) };
            *value = if adds { *value + sum } else { sum };
        }
    }
    Ok(())
}
