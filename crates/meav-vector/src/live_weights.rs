use std::collections::BTreeMap;

use candle_core::{CpuStorage, Device, InplaceOp1, Layout, Tensor};
use half::{bf16, f16};
use meav_cuda::is_gpu;
use meav_job::JobCtx;
use meav_weights::{Dtype, Fingerprint, Values, Weight};

use crate::kernels::{Addend, Cut, Element, Selection, find_cut, merge};
use crate::resident::Resident;
use crate::term::{Plan, Share};
use crate::{Method, Residency, Term, VectorError, count_layers};

/// The tensors that the forward pass reads, and the untouched base that they are computed from.
///
/// ```text
/// live = base + Σᵢ λᵢ θ_AV,i
/// ```
///
/// Source: Shahriar et al., 2024, arXiv:2410.19206, Eq. 3; [`Method`] has other sums.
///
/// Never an edit on top of an edit: each change starts from the base, which is held as precisely
/// as its file has it, sums in `f32` in the order of the terms with fused multiply-add, and rounds
/// once, to the dtype of the model. (Rounding the base to `bf16` before adding would lose most of
/// a small vector: what is less than half a step away from a rounded weight rounds back to it.)
/// Terms with λ = 0 are left out, so λ = 0 everywhere gives back the rounded base bit for bit.
pub struct LiveWeights {
    base: BTreeMap<String, Weight>,
    live: BTreeMap<String, Tensor>,
    n_layers: usize,
    method: Method,
    applied: Vec<Term>,
    cuts: BTreeMap<CutKey, Cut>,
    /// Where the live tensors are on a GPU.
    resident: Option<Resident>,
}

/// The vector, the tensor's name and the bits of the density: what a cut depends on beside the
/// base.
type CutKey = (Fingerprint, String, u64);

/// What a change of recipe cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MergeReport {
    /// Tensors that were recomputed.
    pub tensors: usize,
    /// Bytes of base, vectors and result that were read and written, each counted once: not what
    /// the search for a trimmed vector's largest elements reads.
    pub bytes: u64,
}

impl LiveWeights {
    /// Copies `base`, rounded to `dtype`, to the device; no vector is applied. On a GPU the base and
    /// vectors stay beside it.
    ///
    /// # Errors
    ///
    /// [`VectorError::Tensor`] if the device is out of memory; [`VectorError::Cancelled`] between
    /// two tensors.
    pub fn new(
        base: BTreeMap<String, Weight>,
        dtype: Dtype,
        device: &Device,
        job: &JobCtx<'_>,
    ) -> Result<Self, VectorError> {
        Self::with_residency(base, dtype, device, Residency::ALL, job)
    }

    /// As [`LiveWeights::new`], of which only some stays on a GPU.
    ///
    /// # Errors
    ///
    /// As [`LiveWeights::new`].
    pub fn with_residency(
        base: BTreeMap<String, Weight>,
        dtype: Dtype,
        device: &Device,
        residency: Residency,
        job: &JobCtx<'_>,
    ) -> Result<Self, VectorError> {
        let failed = |name: &str| {
            let name = name.to_owned();
            move |source| VectorError::Tensor { name, source }
        };
        let mut resident = is_gpu(device)
            .then(|| Resident::new(device, residency))
            .transpose()
            .map_err(failed("the room for copies"))?;
        let mut live = BTreeMap::new();
        for (index, (name, weight)) in base.iter().enumerate() {
            job.tick(index, base.len())?;
            let tensor = match &mut resident {
                Some(resident) => resident.live(name, weight, dtype),
                None => to_tensor(&weight.to_dtype(dtype), device),
            };
            live.insert(name.clone(), tensor.map_err(failed(name))?);
        }
        let n_layers = count_layers(base.keys().map(String::as_str));
        let (method, applied, cuts) = (Method::default(), Vec::new(), BTreeMap::new());
        Ok(Self { base, live, n_layers, method, applied, cuts, resident })
    }

    /// The live tensors. A clone shares their storage, so that a change of recipe reaches it.
    pub fn tensors(&self) -> &BTreeMap<String, Tensor> {
        &self.live
    }

    /// What the weights hold.
    pub fn applied(&self) -> &[Term] {
        &self.applied
    }

    /// How the weights combine it.
    pub fn method(&self) -> Method {
        self.method
    }

    /// What stays on a GPU; on the CPU everything is where it is.
    pub fn residency(&self) -> Residency {
        self.resident.as_ref().map_or(Residency::ALL, Resident::residency)
    }

    /// Changes what stays on a GPU, and lets go of what does not any more.
    pub fn set_residency(&mut self, residency: Residency) {
        if let Some(resident) = &mut self.resident {
            resident.set_residency(residency);
        }
    }

    /// Bytes that live weights, base and vectors take of the device's memory.
    pub fn device_bytes(&self) -> u64 {
        let live = self.live.values().map(|it| it.elem_count() * it.dtype().size_in_bytes());
        live.sum::<usize>() as u64 + self.resident.as_ref().map_or(0, Resident::size_bytes)
    }

    /// Makes the weights those of `terms`, recomputing only tensors for which something changed.
    ///
    /// What trimming leaves of a vector is found once for each density, and remembered until there
    /// is another density: moving λ does not search again.
    ///
    /// # Errors
    ///
    /// [`VectorError::NonFiniteCoefficient`], [`VectorError::Density`], [`VectorError::DropRate`],
    /// [`VectorError::Layers`] or [`VectorError::Profile`] before any work is done;
    /// [`VectorError::Cancelled`] between two tensors; [`VectorError::Tensor`] if the device fails.
    /// In all cases the weights are what they were.
    ///
    /// # Panics
    ///
    /// If a vector does not fit; see [`AlignmentVector::check_fit`].
    ///
    /// [`AlignmentVector::check_fit`]: crate::AlignmentVector::check_fit
    pub fn apply(
        &mut self,
        method: Method,
        terms: &[Term],
        job: &JobCtx<'_>,
    ) -> Result<MergeReport, VectorError> {
        let Self { base, live, n_layers, applied, cuts, resident, .. } = self;
        let before = Plan::new(self.method, applied, *n_layers)?;
        let after = Plan::new(method, terms, *n_layers)?;
        let is_named = |vector: &Fingerprint| {
            terms.iter().chain(&*applied).any(|term| term.vector.fingerprint == *vector)
        };
        if let Some(resident) = resident {
            resident.retain(is_named);
        }
        let mut merger = Merger { base, live, cuts, resident: resident.as_mut() };
        let report = merger.replace(&before, &after, job);
        if let Some(resident) = resident {
            let kept = if report.is_ok() { terms } else { &applied[..] };
            resident.retain(|vector| kept.iter().any(|it| it.vector.fingerprint == *vector));
        }
        let report = report?;
        if let Method::Ties { density } = method {
            cuts.retain(|(.., bits), _| *bits == density.to_bits());
        }
        self.method = method;
        self.applied = terms.iter().filter(|term| term.is_active()).cloned().collect();
        Ok(report)
    }
}

/// The parts of [`LiveWeights`] that a merge works on.
struct Merger<'a> {
    base: &'a BTreeMap<String, Weight>,
    live: &'a BTreeMap<String, Tensor>,
    cuts: &'a mut BTreeMap<CutKey, Cut>,
    resident: Option<&'a mut Resident>,
}

impl Merger<'_> {
    fn replace(
        &mut self,
        before: &Plan<'_>,
        after: &Plan<'_>,
        job: &JobCtx<'_>,
    ) -> Result<MergeReport, VectorError> {
        let differs = |name: &&String| !after.is_same_for(name, before);
        let changed: Vec<&String> = self.base.keys().filter(differs).collect();
        let mut report = MergeReport::default();
        let n = changed.len();
        for (index, name) in changed.iter().enumerate() {
            let ticked = job.tick(index, n).map_err(VectorError::from);
            let merged = ticked.and_then(|()| self.recompute(name, after, index + 1 == n));
            match merged {
                Ok(bytes) => {
                    report.tensors += 1;
                    report.bytes += bytes;
                }
                Err(err) => {
                    // The same sums as before give the same bits as before.
                    // The last one may have been written before it failed.
                    for name in &changed[..=index] {
                        self.recompute(name, before, true)?;
                    }
                    return Err(err);
                }
            }
        }
        Ok(report)
    }

    /// Waits for a GPU if it `finishes`.
    fn recompute(
        &mut self,
        name: &str,
        plan: &Plan<'_>,
        finishes: bool,
    ) -> Result<u64, VectorError> {
        let (base, live) = (&self.base[name], &self.live[name]);
        let shares = plan.shares(name);
        let selection = plan.selection(name, &shares, |share, density| {
            let key = (share.vector.fingerprint, name.to_owned(), density.to_bits());
            *self.cuts.entry(key).or_insert_with(|| find_cut(base, share.delta, density))
        });
        let addends: Vec<_> = shares.iter().map(Share::addend).collect();
        match &mut self.resident {
            Some(resident) => resident
                .merge(live, name, base, &shares, &selection)
                .and_then(|()| if finishes { resident.finish() } else { Ok(()) }),
            None => live.inplace_op1(&MergeOp { base, addends: &addends, selection: &selection }),
        }
        .map_err(|source| VectorError::Tensor { name: name.to_owned(), source })?;
        let live_bytes = base.len() * live.dtype().size_in_bytes();
        let vector_bytes: usize = addends.iter().map(|addend| addend.delta.size_bytes()).sum();
        Ok((base.bytes().len() + live_bytes + vector_bytes) as u64)
    }
}

fn to_tensor(weight: &Weight, device: &Device) -> candle_core::Result<Tensor> {
    let shape = weight.shape();
    match weight.values() {
        Values::F32(values) => Tensor::from_slice(values, shape, device),
        Values::F16(values) => Tensor::from_slice(values, shape, device),
        Values::Bf16(values) => Tensor::from_slice(values, shape, device),
    }
}

/// One merged tensor in `dtype`, for a file: the same sums as [`LiveWeights::apply`].
///
/// `n_layers` are those of the whole model; see [`count_layers`].
///
/// # Errors
///
/// As [`LiveWeights::apply`], of the settings.
///
/// # Panics
///
/// If a vector does not fit; see [`AlignmentVector::check_fit`].
///
/// [`AlignmentVector::check_fit`]: crate::AlignmentVector::check_fit
pub fn merge_tensor(
    name: &str,
    base: &Weight,
    dtype: Dtype,
    n_layers: usize,
    method: Method,
    terms: &[Term],
) -> Result<Weight, VectorError> {
    let plan = Plan::new(method, terms, n_layers)?;
    let shares = plan.shares(name);
    if shares.is_empty() {
        return Ok(base.to_dtype(dtype));
    }
    let selection =
        plan.selection(name, &shares, |share, density| find_cut(base, share.delta, density));
    let addends: Vec<_> = shares.iter().map(Share::addend).collect();
    Ok(match dtype {
        Dtype::F32 => merged::<f32>(base, &addends, &selection),
        Dtype::F16 => merged::<f16>(base, &addends, &selection),
        Dtype::Bf16 => merged::<bf16>(base, &addends, &selection),
    })
}

fn merged<T: Element>(base: &Weight, addends: &[Addend<'_>], selection: &Selection) -> Weight {
    let mut out = vec![T::default(); base.len()];
    merge(&mut out, base, addends, selection);
    T::weight(base.shape().to_vec(), out)
}

/// Writes one merged tensor over the live one.
struct MergeOp<'a> {
    base: &'a Weight,
    addends: &'a [Addend<'a>],
    selection: &'a Selection,
}

impl MergeOp<'_> {
    fn write<T: Element>(&self, out: &mut [T], layout: &Layout) -> candle_core::Result<()> {
        let Some((start, end)) = layout.contiguous_offsets() else {
            candle_core::bail!("live weights are not contiguous");
        };
        merge(&mut out[start..end], self.base, self.addends, self.selection);
        Ok(())
    }
}

impl InplaceOp1 for MergeOp<'_> {
    fn name(&self) -> &'static str {
        "merge"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        match storage {
            CpuStorage::F32(out) => self.write(out, layout),
            CpuStorage::F16(out) => self.write(out, layout),
            CpuStorage::BF16(out) => self.write(out, layout),
            _ => candle_core::bail!("live weights are not of a floating point type"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use super::*;
    use crate::{AlignmentVector, Delta, VectorKind, VectorOrigin};

    fn vector(values: [f32; 4]) -> Arc<AlignmentVector> {
        let delta = Delta::Dense(Weight::from_f32(vec![4], values.to_vec()));
        Arc::new(AlignmentVector {
            path: PathBuf::new(),
            kind: VectorKind::Dense,
            origin: VectorOrigin::default(),
            fingerprint: Fingerprint::of_bytes(b"any"),
            deltas: BTreeMap::from([("w".to_owned(), delta)]),
        })
    }

    /// Cuts that are put in the place of the ones found show which are used.
    #[test]
    fn cuts_are_looked_up_for_another_coefficient_and_found_for_another_density() {
        let job = JobCtx::detached();
        let base = Weight::from_f32(vec![4], vec![0.0; 4]);
        let base = BTreeMap::from([("w".to_owned(), base)]);
        let mut live = LiveWeights::new(base, Dtype::F32, &Device::Cpu, &job).unwrap();
        let vector = vector([1.0, 2.0, 3.0, 4.0]);
        let apply = |live: &mut LiveWeights, density, coefficient| {
            let terms = [Term::new(Arc::clone(&vector), coefficient)];
            live.apply(Method::Ties { density }, &terms, &job).unwrap();
            live.live["w"].to_vec1::<f32>().unwrap()
        };
        assert_eq!(apply(&mut live, 0.5, 1.0), [0.0, 0.0, 3.0, 4.0]);
        live.cuts.values_mut().for_each(|cut| *cut = Cut::NONE);
        assert_eq!(apply(&mut live, 0.5, 2.0), [2.0, 4.0, 6.0, 8.0]);
        assert_eq!(apply(&mut live, 0.25, 2.0), [0.0, 0.0, 0.0, 8.0]);
        assert_eq!(live.cuts.len(), 1);
        assert_eq!(apply(&mut live, 0.5, 1.0), [0.0, 0.0, 3.0, 4.0]);
    }
}
