use candle_core::{DType, Device, Result, Tensor};

/// Copies from memory to a GPU, through pinned memory and while it computes.
#[derive(Debug)]
pub struct Uploader {
    to: Device,
    #[cfg(feature = "cuda")]
    pinned: Option<super::gpu::Pinned>,
}

impl Uploader {
    /// Takes 64 MiB of pinned memory where `to` is a GPU.
    ///
    /// # Errors
    ///
    /// If there is not as much.
    pub fn new(to: &Device) -> Result<Self> {
        Ok(Self {
            to: to.clone(),
            #[cfg(feature = "cuda")]
            pinned: match to {
                Device::Cuda(device) => Some(super::gpu::Pinned::new(device)?),
                _ => None,
            },
        })
    }

    /// A tensor of `bytes`, `(n,)`, which what is asked of the GPU from now on finds there. The last
    /// part may still be on its way when this returns; `bytes` are not needed any more.
    ///
    /// # Errors
    ///
    /// If the GPU is out of memory.
    ///
    /// # Panics
    ///
    /// Unless `bytes` are whole elements.
    pub fn upload(&mut self, bytes: &[u8], dtype: DType) -> Result<Tensor> {
        let len = bytes.len() / dtype.size_in_bytes();
        assert_eq!(len * dtype.size_in_bytes(), bytes.len(), "bytes of {dtype:?}");
        #[cfg(feature = "cuda")]
        if let Some(pinned) = &mut self.pinned {
            // SAFETY: all of it is written before anything that is asked of the GPU later.
            let tensor = unsafe { Tensor::empty(len, dtype, &self.to) }?;
            pinned.copy(bytes, super::address(&tensor)?)?;
            return Ok(tensor);
        }
        Tensor::from_raw_buffer(bytes, dtype, &[len], &self.to)
    }
}
