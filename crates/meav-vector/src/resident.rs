use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{Device, Result, Tensor};
use meav_cuda::Uploader;
use meav_weights::{Fingerprint, Weight};

use crate::kernels::{GpuDelta, Selection, dtype, merge_on_gpu, upload};
use crate::term::Share;

/// What stays on a GPU beside the live weights. The rest stays in memory or in its file, and goes
/// through the GPU tensor by tensor at each merge that needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Residency {
    /// The untouched base.
    pub base: bool,
    /// Vectors that a recipe names, as long as it does.
    pub vectors: bool,
}

impl Residency {
    /// Everything: what is fastest where there is room.
    pub const ALL: Self = Self { base: true, vectors: true };
}

/// Merges on a GPU.
#[derive(Debug)]
pub(crate) struct Resident {
    residency: Residency,
    device: Device,
    uploader: Uploader,
    base: BTreeMap<String, Tensor>,
    deltas: BTreeMap<(Fingerprint, String), Arc<GpuDelta>>,
}

impl Resident {
    pub(crate) fn new(device: &Device, residency: Residency) -> Result<Self> {
        let (device, uploader) = (device.clone(), Uploader::new(device)?);
        let (base, deltas) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { residency, device, uploader, base, deltas })
    }

    /// A live tensor without vectors, in `to`.
    pub(crate) fn live(
        &mut self,
        name: &str,
        base: &Weight,
        to: meav_weights::Dtype,
    ) -> Result<Tensor> {
        let own = self.base(name, base)?;
        let live = Tensor::zeros(base.shape(), dtype(to), &self.device)?;
        merge_on_gpu(&live, &own, &[], &Selection::All)?;
        Ok(live)
    }

    /// Writes a tensor of the recipe over the live one.
    pub(crate) fn merge(
        &mut self,
        live: &Tensor,
        name: &str,
        base: &Weight,
        shares: &[Share<'_>],
        selection: &Selection,
    ) -> Result<()> {
        let base = self.base(name, base)?;
        let deltas =
            shares.iter().map(|share| self.delta(name, share)).collect::<Result<Vec<_>>>()?;
        let addends: Vec<_> = shares
            .iter()
            .zip(&deltas)
            .map(|(share, delta)| (share.coefficient, &**delta))
            .collect();
        merge_on_gpu(live, &base, &addends, selection)
    }

    fn base(&mut self, name: &str, base: &Weight) -> Result<Tensor> {
        if let Some(tensor) = self.base.get(name) {
            return Ok(tensor.clone());
        }
        let tensor = upload(base, &mut self.uploader)?;
        if self.residency.base {
            self.base.insert(name.to_owned(), tensor.clone());
        }
        Ok(tensor)
    }

    fn delta(&mut self, name: &str, share: &Share<'_>) -> Result<Arc<GpuDelta>> {
        let key = (share.vector.fingerprint, name.to_owned());
        if let Some(delta) = self.deltas.get(&key) {
            return Ok(Arc::clone(delta));
        }
        let delta = Arc::new(GpuDelta::new(share.delta, &mut self.uploader)?);
        if self.residency.vectors {
            self.deltas.insert(key, Arc::clone(&delta));
        }
        Ok(delta)
    }

    pub(crate) fn residency(&self) -> Residency {
        self.residency
    }

    pub(crate) fn set_residency(&mut self, residency: Residency) {
        if !residency.base {
            self.base.clear();
        }
        if !residency.vectors {
            self.deltas.clear();
        }
        self.residency = residency;
    }

    /// Bytes of what stays.
    pub(crate) fn size_bytes(&self) -> u64 {
        let base = self.base.values().map(|it| it.elem_count() * it.dtype().size_in_bytes());
        let deltas = self.deltas.values().map(|delta| delta.size_bytes());
        base.chain(deltas).sum::<usize>() as u64
    }

    /// Lets go of vectors that a recipe does not name.
    pub(crate) fn retain(&mut self, is_named: impl Fn(&Fingerprint) -> bool) {
        self.deltas.retain(|(vector, _), _| is_named(vector));
    }

    /// Waits until the GPU has done all that it was asked for, and says if it could.
    pub(crate) fn finish(&self) -> Result<()> {
        self.device.synchronize()
    }
}
