use std::slice;

use candle_core::cuda_backend::WrapErr as _;
use candle_core::cuda_backend::cudarc::driver::result::{self, event, stream};
use candle_core::cuda_backend::cudarc::driver::sys;
use candle_core::{CudaDevice, Result};
use rayon::prelude::*;

/// Two buffers that the GPU reads by itself: while it copies one, the other is filled.
#[derive(Debug)]
pub(in crate::kernels) struct Pinned {
    device: CudaDevice,
    /// Copies run beside what the device's own stream computes.
    copies: sys::CUstream,
    /// When the device's stream has come to where memory for the copy is free.
    is_free: sys::CUevent,
    buffers: [Buffer; 2],
    next: usize,
}

#[derive(Debug)]
struct Buffer {
    start: *mut u8,
    /// When the last copy out of it is done.
    is_copied: sys::CUevent,
}

const BUFFER_BYTES: usize = 32 << 20;

/// Bytes that one thread copies at a time.
const PART_BYTES: usize = 1 << 20;

// SAFETY: the driver takes calls from any thread; its owner alone uses the buffers.
unsafe impl Send for Pinned {}
// SAFETY: nothing can be done by a shared reference.
unsafe impl Sync for Pinned {}

impl Pinned {
    pub(in crate::kernels) fn new(device: &CudaDevice) -> Result<Self> {
        device.cuda_stream().context().bind_to_thread().w()?;
        let event = || event::create(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING).w();
        let buffer = || -> Result<Buffer> {
            // SAFETY: the context is bound.
            let start = unsafe { result::malloc_host(BUFFER_BYTES, 0) }.w()?.cast();
            Ok(Buffer { start, is_copied: event()? })
        };
        Ok(Self {
            copies: stream::create(stream::StreamKind::NonBlocking).w()?,
            is_free: event()?,
            buffers: [buffer()?, buffer()?],
            next: 0,
            device: device.clone(),
        })
    }

    /// Copies `bytes` to `address`, memory that belongs to the device's stream, which waits for them.
    pub(in crate::kernels) fn copy(&mut self, bytes: &[u8], address: u64) -> Result<()> {
        let copied = self.try_copy(bytes, address);
        if copied.is_err() {
            // The memory may be let go of: nothing must be on its way to it any more.
            // SAFETY: the stream lives as long as this.
            let _failed_already = unsafe { stream::synchronize(self.copies) };
        }
        copied
    }

    fn try_copy(&mut self, bytes: &[u8], address: u64) -> Result<()> {
        const NO_FLAGS: sys::CUevent_wait_flags = sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
        let own = self.device.cuda_stream();
        own.context().bind_to_thread().w()?;
        // SAFETY: streams and events live as long as this; `address` has room for `bytes`; a buffer is
        // written only when the copy out of it is done.
        unsafe {
            event::record(self.is_free, own.cu_stream()).w()?;
            stream::wait_event(self.copies, self.is_free, NO_FLAGS).w()?;
            for (index, bytes) in bytes.chunks(BUFFER_BYTES).enumerate() {
                let buffer = &self.buffers[self.next];
                self.next = (self.next + 1) % self.buffers.len();
                event::synchronize(buffer.is_copied).w()?;
                let pinned = slice::from_raw_parts_mut(buffer.start, bytes.len());
                pinned
                    .par_chunks_mut(PART_BYTES)
                    .zip(bytes.par_chunks(PART_BYTES))
                    .for_each(|(to, from)| to.copy_from_slice(from));
                let to = address + (index * BUFFER_BYTES) as u64;
                result::memcpy_htod_async(to, pinned, self.copies).w()?;
                event::record(buffer.is_copied, self.copies).w()?;
                stream::wait_event(own.cu_stream(), buffer.is_copied, NO_FLAGS).w()?;
            }
        }
        Ok(())
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // What fails here has failed before, or the process ends.
        let _bound = self.device.cuda_stream().context().bind_to_thread();
        // SAFETY: nothing uses them any more once the copies are done.
        unsafe {
            let _done = stream::synchronize(self.copies);
            for buffer in &self.buffers {
                let _freed = result::free_host(buffer.start.cast());
                let _destroyed = event::destroy(buffer.is_copied);
            }
            let _destroyed = event::destroy(self.is_free);
            let _destroyed = stream::destroy(self.copies);
        }
    }
}
