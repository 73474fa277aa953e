use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};

use candle_core::{CpuStorage, DType, InplaceOp1, Layout, Storage, Tensor};
use meav_cuda::is_on_gpu;
use meav_protocol::OptimizerState;
use rayon::prelude::*;

use super::kernels::{OnGpu, Rounded, Task, Update};
use super::{BLOCK, Moments};
use crate::TrainError;

/// Elements of one task: whole blocks.
const TASK: usize = 128 * BLOCK;

/// A tensor that is trained.
#[derive(Debug)]
pub(crate) struct Parameter {
    name: String,
    tensor: Tensor,
    kept: Kept,
}

/// What is kept of a tensor from step to step, where the tensor is.
#[derive(Debug)]
enum Kept {
    OnCpu {
        /// The value, where the tensor's type is not `f32`.
        master: Option<Vec<f32>>,
        moments: Moments,
    },
    OnGpu(OnGpu),
}

impl Kept {
    fn new(tensor: &Tensor, state: OptimizerState) -> candle_core::Result<Self> {
        if is_on_gpu(tensor) {
            return Ok(Self::OnGpu(OnGpu::new(tensor, state)?));
        }
        let master = match tensor.dtype() {
            DType::F32 => None,
            _ => Some(tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?),
        };
        Ok(Self::OnCpu { master, moments: Moments::zeros(tensor.elem_count(), state) })
    }
}

impl Parameter {
    pub(super) fn new(
        name: &str,
        tensor: &Tensor,
        state: OptimizerState,
    ) -> Result<Self, TrainError> {
        let failed = |source| TrainError::Tensor { name: name.to_owned(), source };
        let kept = Kept::new(tensor, state).map_err(failed)?;
        Ok(Self { name: name.to_owned(), tensor: tensor.clone(), kept })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn shape(&self) -> &[usize] {
        self.tensor.dims()
    }

    pub(crate) fn len(&self) -> usize {
        self.tensor.elem_count()
    }

    /// Not norms and biases, as in `PyTorch`'s examples and transformers.
    pub(super) fn decays(&self) -> bool {
        self.tensor.rank() >= 2
    }

    /// What the moments are kept in.
    pub(crate) fn state(&self) -> OptimizerState {
        match &self.kept {
            Kept::OnCpu { moments, .. } => moments.state(),
            Kept::OnGpu(kept) => kept.state(),
        }
    }

    /// The moments, copied if they are on a GPU.
    ///
    /// # Errors
    ///
    /// [`TrainError::Tensor`] if the device fails.
    pub(crate) fn moments(&self) -> Result<Cow<'_, Moments>, TrainError> {
        match &self.kept {
            Kept::OnCpu { moments, .. } => Ok(Cow::Borrowed(moments)),
            Kept::OnGpu(kept) => kept.moments().map(Cow::Owned).map_err(self.failed()),
        }
    }

    /// What is trained, unrounded.
    ///
    /// # Errors
    ///
    /// [`TrainError::Tensor`] if the device fails.
    pub(crate) fn values(&self) -> Result<Vec<f32>, TrainError> {
        let tensor = match &self.kept {
            Kept::OnCpu { master: Some(master), .. } => return Ok(master.clone()),
            Kept::OnCpu { master: None, .. } => &self.tensor,
            Kept::OnGpu(kept) => kept.weights(&self.tensor),
        };
        tensor.flatten_all().and_then(|it| it.to_vec1()).map_err(self.failed())
    }

    fn failed(&self) -> impl FnOnce(candle_core::Error) -> TrainError + use<> {
        let name = self.name.clone();
        move |source| TrainError::Tensor { name, source }
    }

    /// Writes over what is trained, and what the model reads.
    ///
    /// # Errors
    ///
    /// [`TrainError::Tensor`] if the device fails.
    ///
    /// # Panics
    ///
    /// If there are more or fewer values than elements.
    pub(crate) fn restore(&mut self, values: &[f32], moments: Moments) -> Result<(), TrainError> {
        assert_eq!(values.len(), self.len(), "values of {}", self.name);
        let failed = self.failed();
        let Self { tensor, kept, .. } = self;
        match kept {
            Kept::OnGpu(kept) => kept.restore(tensor, values, &moments).map_err(failed),
            Kept::OnCpu { master, moments: kept } => {
                tensor.inplace_op1(&Set { values }).map_err(failed)?;
                if let Some(master) = master {
                    master.copy_from_slice(values);
                }
                *kept = moments;
                Ok(())
            }
        }
    }

    pub(super) fn check_gradient<'a>(
        &self,
        gradient: Option<&'a Tensor>,
    ) -> Result<&'a Tensor, TrainError> {
        let fits = |it: &&Tensor| {
            it.dims() == self.shape() && it.dtype() == DType::F32 && it.is_contiguous()
        };
        gradient.filter(fits).ok_or_else(|| {
            let shape = self.shape();
            self.failed()(candle_core::Error::msg(format!("there is no f32 gradient of {shape:?}")))
        })
    }

    pub(super) fn update(&mut self, gradient: &Tensor, update: Update) -> Result<(), TrainError> {
        let failed = self.failed();
        let Self { tensor, kept, .. } = self;
        let (master, moments) = match kept {
            Kept::OnGpu(kept) => return kept.update(tensor, gradient, update).map_err(failed),
            Kept::OnCpu { master, moments } => (master, moments),
        };
        let (storage, layout) = gradient.storage_and_layout();
        let changed = match (&*storage, layout.contiguous_offsets()) {
            (Storage::Cpu(CpuStorage::F32(gradient)), Some((start, end))) => {
                let gradient = &gradient[start..end];
                let work = Mutex::new(Work { update, gradient, master: master.as_mut(), moments });
                tensor.inplace_op1(&UpdateOp { work })
            }
            _ => Err(candle_core::Error::msg("the gradient is not on the CPU")),
        };
        changed.map_err(failed)
    }
}

/// What an update reads and writes beside the tensor.
struct Work<'a> {
    update: Update,
    gradient: &'a [f32],
    master: Option<&'a mut Vec<f32>>,
    moments: &'a mut Moments,
}

struct UpdateOp<'a> {
    /// candle lends the operation only for reading.
    work: Mutex<Work<'a>>,
}

impl InplaceOp1 for UpdateOp<'_> {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        let Work { update, gradient, master, moments } = &mut *work;
        let (weights, rounded) = match (values(storage, layout)?, master) {
            (Stored::F32(weights), None) => (weights, None),
            (Stored::Rounded(rounded), Some(master)) => (master.as_mut_slice(), Some(rounded)),
            _ => candle_core::bail!("the tensor has changed its type"),
        };
        let rounded: Vec<Option<Rounded<'_>>> = match rounded {
            Some(rounded) => rounded.chunks(TASK).into_iter().map(Some).collect(),
            None => weights.chunks(TASK).map(|_| None).collect(),
        };
        let parts = weights.chunks_mut(TASK).zip(gradient.chunks(TASK)).zip(rounded);
        let tasks: Vec<Task<'_>> = parts
            .zip(moments.chunks(TASK))
            .enumerate()
            .map(|(index, (((weights, gradient), rounded), moments))| {
                let block = index * (TASK / BLOCK);
                Task { update: *update, block, weights, rounded, gradient, moments }
            })
            .collect();
        tasks.into_par_iter().for_each(Task::run);
        Ok(())
    }
}

/// Writes over a tensor where it stands.
struct Set<'a> {
    values: &'a [f32],
}

impl InplaceOp1 for Set<'_> {
    fn name(&self) -> &'static str {
        "set"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        match values(storage, layout)? {
            Stored::F32(weights) => weights.copy_from_slice(self.values),
            Stored::Rounded(rounded) => rounded.set(self.values),
        }
        Ok(())
    }
}

/// A tensor's own elements.
enum Stored<'a> {
    F32(&'a mut [f32]),
    Rounded(Rounded<'a>),
}

fn values<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> candle_core::Result<Stored<'a>> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        candle_core::bail!("what is trained must be contiguous");
    };
    Ok(match storage {
        CpuStorage::F32(values) => Stored::F32(&mut values[start..end]),
        CpuStorage::BF16(values) => Stored::Rounded(Rounded::Bf16(&mut values[start..end])),
        CpuStorage::F16(values) => Stored::Rounded(Rounded::F16(&mut values[start..end])),
        _ => candle_core::bail!("only floating point weights are trained"),
    })
}
