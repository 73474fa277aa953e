use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{CpuStorage, Device, InplaceOp1, Layout, Tensor};
use half::{bf16, f16};
use meav_job::JobCtx;
use meav_weights::{Dtype, Values, Weight};

use crate::kernels::cpu::{Addend, Element, merge};
use crate::{AlignmentVector, VectorError};

/// The tensors that the forward pass reads, and the untouched base that they are computed from.
///
/// ```text
/// live = base + Σᵢ λᵢ θ_AV,i
/// ```
///
/// Source: Shahriar et al., 2024, arXiv:2410.19206, Eq. 3.
///
/// Never an edit on top of an edit: each change starts from the base, which is held as precisely
/// as its file has it, sums in `f32` in the order of the terms with fused multiply-add, and rounds
/// once, to the dtype of the model. (Rounding the base to `bf16` before adding would lose most of
/// a small vector: what is less than half a step away from a rounded weight rounds back to it.)
/// Terms with λ = 0 are left out, so λ = 0 everywhere gives back the rounded base bit for bit.
pub struct LiveWeights {
    base: BTreeMap<String, Weight>,
    live: BTreeMap<String, Tensor>,
    applied: Vec<Term>,
}

/// One vector and its λ.
#[derive(Clone, Debug)]
pub struct Term {
    /// The vector.
    pub vector: Arc<AlignmentVector>,
    /// λ.
    pub coefficient: f64,
}

/// What a change of recipe cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MergeReport {
    /// Tensors that were recomputed.
    pub tensors: usize,
    /// Bytes of base, vectors and result that were read and written.
    pub bytes: u64,
}

impl Term {
    /// Whether λ is not 0 in the precision of the sum.
    ///
    /// Terms that are not active are left out, which keeps −0.0 and NaN payloads of the base.
    pub fn is_active(&self) -> bool {
        self.coefficient as f32 != 0.0
    }

    fn check(&self) -> Result<(), VectorError> {
        if (self.coefficient as f32).is_finite() {
            return Ok(());
        }
        Err(VectorError::NonFiniteCoefficient {
            domain: self.vector.origin.domain.clone(),
            coefficient: self.coefficient,
        })
    }

    fn addend(&self, name: &str) -> Option<Addend<'_>> {
        if !self.is_active() {
            return None;
        }
        let delta = self.vector.deltas.get(name)?;
        Some(Addend { coefficient: self.coefficient as f32, delta })
    }

    /// Whether both change a tensor in the same way, as far as both touch it.
    #[expect(clippy::float_cmp, reason = "the same bits, or it is another sum")]
    fn is_same(&self, other: &Self) -> bool {
        self.coefficient == other.coefficient && self.vector.fingerprint == other.vector.fingerprint
    }
}

impl LiveWeights {
    /// Copies `base`, rounded to `dtype`, to the device; no vector is applied.
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
        let mut live = BTreeMap::new();
        for (index, (name, weight)) in base.iter().enumerate() {
            job.tick(index, base.len())?;
            let tensor = to_tensor(&weight.to_dtype(dtype), device)
                .map_err(|source| VectorError::Tensor { name: name.clone(), source })?;
            live.insert(name.clone(), tensor);
        }
        Ok(Self { base, live, applied: Vec::new() })
    }

    /// The live tensors. A clone shares their storage, so that a change of recipe reaches it.
    pub fn tensors(&self) -> &BTreeMap<String, Tensor> {
        &self.live
    }

    /// What the weights hold.
    pub fn applied(&self) -> &[Term] {
        &self.applied
    }

    /// Makes the weights those of `terms`, recomputing only tensors for which something changed.
    ///
    /// # Errors
    ///
    /// [`VectorError::NonFiniteCoefficient`] before any work is done; [`VectorError::Cancelled`]
    /// between two tensors; [`VectorError::Tensor`] if the device fails. In all cases the weights
    /// are what they were.
    ///
    /// # Panics
    ///
    /// If a vector does not fit; see [`AlignmentVector::check_fit`].
    pub fn apply(&mut self, terms: &[Term], job: &JobCtx<'_>) -> Result<MergeReport, VectorError> {
        terms.iter().try_for_each(Term::check)?;
        let changed: Vec<&String> =
            self.base.keys().filter(|name| differs(name, &self.applied, terms)).collect();
        let mut report = MergeReport::default();
        for (index, name) in changed.iter().enumerate() {
            let ticked = job.tick(index, changed.len()).map_err(VectorError::from);
            match ticked.and_then(|()| self.recompute(name, terms)) {
                Ok(bytes) => {
                    report.tensors += 1;
                    report.bytes += bytes;
                }
                Err(err) => {
                    // The same sums as before give the same bits as before.
                    for name in &changed[..index] {
                        self.recompute(name, &self.applied)?;
                    }
                    return Err(err);
                }
            }
        }
        self.applied = terms.iter().filter(|term| term.is_active()).cloned().collect();
        Ok(report)
    }

    fn recompute(&self, name: &str, terms: &[Term]) -> Result<u64, VectorError> {
        let base = &self.base[name];
        let addends: Vec<_> = terms.iter().filter_map(|term| term.addend(name)).collect();
        self.live[name]
            .inplace_op1(&MergeOp { base, addends: &addends })
            .map_err(|source| VectorError::Tensor { name: name.to_owned(), source })?;
        let live_bytes = base.len() * self.live[name].dtype().size_in_bytes();
        let vector_bytes: usize = addends.iter().map(|addend| addend.delta.size_bytes()).sum();
        Ok((base.bytes().len() + live_bytes + vector_bytes) as u64)
    }
}

fn differs(name: &str, before: &[Term], after: &[Term]) -> bool {
    let touching = |term: &&Term| term.addend(name).is_some();
    let (mut before, mut after) = (before.iter().filter(touching), after.iter().filter(touching));
    loop {
        match (before.next(), after.next()) {
            (None, None) => return false,
            (Some(a), Some(b)) if a.is_same(b) => {}
            _ => return true,
        }
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
/// # Errors
///
/// [`VectorError::NonFiniteCoefficient`].
///
/// # Panics
///
/// If a vector does not fit; see [`AlignmentVector::check_fit`].
pub fn merge_tensor(
    name: &str,
    base: &Weight,
    dtype: Dtype,
    terms: &[Term],
) -> Result<Weight, VectorError> {
    terms.iter().try_for_each(Term::check)?;
    let addends: Vec<_> = terms.iter().filter_map(|term| term.addend(name)).collect();
    Ok(match dtype {
        _ if addends.is_empty() => base.to_dtype(dtype),
        Dtype::F32 => merged::<f32>(base, &addends),
        Dtype::F16 => merged::<f16>(base, &addends),
        Dtype::Bf16 => merged::<bf16>(base, &addends),
    })
}

fn merged<T: Element>(base: &Weight, addends: &[Addend<'_>]) -> Weight {
    let mut out = vec![T::default(); base.len()];
    merge(&mut out, base, addends);
    T::weight(base.shape().to_vec(), out)
}

/// Writes one merged tensor over the live one.
struct MergeOp<'a> {
    base: &'a Weight,
    addends: &'a [Addend<'a>],
}

impl MergeOp<'_> {
    fn write<T: Element>(&self, out: &mut [T], layout: &Layout) -> candle_core::Result<()> {
        let Some((start, end)) = layout.contiguous_offsets() else {
            candle_core::bail!("live weights are not contiguous");
        };
        merge(&mut out[start..end], self.base, self.addends);
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
