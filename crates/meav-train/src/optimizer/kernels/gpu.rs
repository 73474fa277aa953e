//! Steps of `AdamW` by CUDA kernels: each element becomes what it becomes on the CPU, bit for bit.

use candle_core::{DType, Device, Result, Tensor};
use meav_cuda::{Grid, Kernel, Launch};
use meav_protocol::OptimizerState;

use super::Update;
use crate::optimizer::{BLOCK, Moments, Quantised};

/// What an optimiser keeps of a tensor on a GPU: it stays there from step to step.
#[derive(Debug)]
pub(in crate::optimizer) struct OnGpu {
    /// The value, where the tensor's type is not `f32`.
    master: Option<Tensor>,
    moments: MomentsOnGpu,
}

#[derive(Debug)]
enum MomentsOnGpu {
    F32 { m: Tensor, v: Tensor },
    Int8 { m: QuantisedOnGpu, v: QuantisedOnGpu },
}

#[derive(Debug)]
struct QuantisedOnGpu {
    codes: Tensor,
    scales: Tensor,
}

impl OnGpu {
    /// Beside `tensor`, without moments yet.
    pub(in crate::optimizer) fn new(tensor: &Tensor, state: OptimizerState) -> Result<Self> {
        let (n, device) = (tensor.elem_count(), tensor.device());
        let master = match tensor.dtype() {
            DType::F32 => None,
            _ => Some(tensor.to_dtype(DType::F32)?),
        };
        let zeros = || Tensor::zeros(n, DType::F32, device);
        let quantised = || QuantisedOnGpu::zeros(n, device);
        let moments = match state {
            OptimizerState::F32 => MomentsOnGpu::F32 { m: zeros()?, v: zeros()? },
            OptimizerState::Int8 => MomentsOnGpu::Int8 { m: quantised()?, v: quantised()? },
        };
        Ok(Self { master, moments })
    }

    pub(in crate::optimizer) fn state(&self) -> OptimizerState {
        match self.moments {
            MomentsOnGpu::F32 { .. } => OptimizerState::F32,
            MomentsOnGpu::Int8 { .. } => OptimizerState::Int8,
        }
    }

    /// What is trained, unrounded: a copy where `tensor` is rounded.
    pub(in crate::optimizer) fn weights<'a>(&'a self, tensor: &'a Tensor) -> &'a Tensor {
        self.master.as_ref().unwrap_or(tensor)
    }

    /// Copied from the GPU.
    pub(in crate::optimizer) fn moments(&self) -> Result<Moments> {
        Ok(match &self.moments {
            MomentsOnGpu::F32 { m, v } => Moments::F32 { m: m.to_vec1()?, v: v.to_vec1()? },
            MomentsOnGpu::Int8 { m, v } => Moments::Int8 { m: m.read()?, v: v.read()? },
        })
    }

    /// Writes over `tensor` and what is kept of it.
    pub(in crate::optimizer) fn restore(
        &mut self,
        tensor: &Tensor,
        values: &[f32],
        moments: &Moments,
    ) -> Result<()> {
        let device = tensor.device();
        let values = Tensor::from_slice(values, tensor.shape(), device)?;
        tensor.slice_set(&values.to_dtype(tensor.dtype())?, 0, 0)?;
        if let Some(master) = &mut self.master {
            *master = values;
        }
        let to_gpu = |values: &[f32]| Tensor::from_slice(values, values.len(), device);
        self.moments = match moments {
            Moments::F32 { m, v } => MomentsOnGpu::F32 { m: to_gpu(m)?, v: to_gpu(v)? },
            Moments::Int8 { m, v } => MomentsOnGpu::Int8 {
                m: QuantisedOnGpu::new(m, device)?,
                v: QuantisedOnGpu::new(v, device)?,
            },
        };
        Ok(())
    }

    /// Takes a step of `tensor`. The gradient has its shape, is contiguous and `f32`.
    pub(in crate::optimizer) fn update(
        &self,
        tensor: &Tensor,
        gradient: &Tensor,
        update: Update,
    ) -> Result<()> {
        let n = tensor.elem_count();
        let Update { gradient_scale, keep, rate, root_correction, seed } = update;
        let update = [gradient_scale, keep, rate, root_correction];
        let kernel = self.kernel(tensor.dtype())?;
        let begin = |grid| {
            let launch = Launch::new(kernel, grid).tensor(self.weights(tensor));
            launch.tensor(tensor).tensor(gradient)
        };
        let launch = match &self.moments {
            MomentsOnGpu::F32 { m, v } => {
                begin(Grid::of_elements(n)).tensor(m).tensor(v).value(n as u64).value(update)
            }
            MomentsOnGpu::Int8 { m, v } => begin(Grid::of_blocks([n.div_ceil(BLOCK), 1], BLOCK))
                .tensor(&m.codes)
                .tensor(&m.scales)
                .tensor(&v.codes)
                .tensor(&v.scales)
                .value(n as u64)
                .value(update)
                .value(seed),
        };
        // SAFETY: all have n elements, but for codes in whole blocks and scales, one for each.
        unsafe { launch.run(tensor) }
    }

    fn kernel(&self, dtype: DType) -> Result<Kernel> {
        let name = match (self.state(), dtype) {
            (OptimizerState::F32, DType::F32) => "adamw_f32",
            (OptimizerState::F32, DType::F16) => "adamw_f16",
            (OptimizerState::F32, DType::BF16) => "adamw_bf16",
            (OptimizerState::Int8, DType::F32) => "adamw_in_blocks_f32",
            (OptimizerState::Int8, DType::F16) => "adamw_in_blocks_f16",
            (OptimizerState::Int8, DType::BF16) => "adamw_in_blocks_bf16",
            _ => candle_core::bail!("only floating point weights are trained"),
        };
        Ok(Kernel { module: "train", name })
    }
}

impl QuantisedOnGpu {
    /// Of `n` elements.
    fn zeros(n: usize, device: &Device) -> Result<Self> {
        let n_blocks = n.div_ceil(BLOCK);
        let codes = Tensor::zeros(n_blocks * BLOCK, DType::U8, device)?;
        Ok(Self { codes, scales: Tensor::zeros(n_blocks, DType::F32, device)? })
    }

    fn new(Quantised { codes, scales }: &Quantised, device: &Device) -> Result<Self> {
        let codes = Tensor::from_slice(codes, codes.len(), device)?;
        Ok(Self { codes, scales: Tensor::from_slice(scales, scales.len(), device)? })
    }

    fn read(&self) -> Result<Quantised> {
        Ok(Quantised { codes: self.codes.to_vec1()?, scales: self.scales.to_vec1()? })
    }
}
