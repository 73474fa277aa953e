use std::ops::Deref;

use candle_core::{CpuStorage, Layout, Result, Storage, Tensor};
use half::{bf16, f16};
use pulp::Arch;
use rayon::prelude::*;

use super::simd::Element;

/// Elements of a weight that are widened at a time for a large product.
pub(super) const PANEL: usize = 1 << 20;

/// Keeps a weight's storage readable.
pub(super) struct WeightGuard<'a, S> {
    storage: S,
    layout: &'a Layout,
    pub(super) n_out: usize,
}

pub(super) fn read(
    weight: &Tensor,
    n_in: usize,
) -> Result<WeightGuard<'_, impl Deref<Target = Storage>>> {
    let (n_out, weight_in) = weight.dims2()?;
    if weight_in != n_in {
        candle_core::bail!("a weight takes {weight_in} inputs, the activations have {n_in}");
    }
    let (storage, layout) = weight.storage_and_layout();
    Ok(WeightGuard { storage, layout, n_out })
}

/// A weight's values, row after row, or some of its rows.
#[derive(Clone, Copy)]
pub(super) enum Panel<'a> {
    F32(&'a [f32]),
    F16(&'a [f16]),
    Bf16(&'a [bf16]),
}

impl<S: Deref<Target = Storage>> WeightGuard<'_, S> {
    pub(super) fn values(&self) -> Result<Panel<'_>> {
        let Some((start, end)) = self.layout.contiguous_offsets() else {
            candle_core::bail!("weights must be contiguous");
        };
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(values)) => Ok(Panel::F32(&values[start..end])),
            Storage::Cpu(CpuStorage::F16(values)) => Ok(Panel::F16(&values[start..end])),
            Storage::Cpu(CpuStorage::BF16(values)) => Ok(Panel::Bf16(&values[start..end])),
            _ => candle_core::bail!("weights must be of a floating point type, on the CPU"),
        }
    }
}

impl<'a> Panel<'a> {
    pub(super) fn len(self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F16(values) => values.len(),
            Self::Bf16(values) => values.len(),
        }
    }

    pub(super) fn range(self, start: usize, end: usize) -> Self {
        match self {
            Self::F32(values) => Self::F32(&values[start..end]),
            Self::F16(values) => Self::F16(&values[start..end]),
            Self::Bf16(values) => Self::Bf16(&values[start..end]),
        }
    }

    /// The values themselves, or a widened copy of them in `scratch`.
    pub(super) fn widened(self, scratch: &'a mut Vec<f32>) -> &'a [f32] {
        match self {
            Self::F32(values) => return values,
            Self::F16(values) => widen(values, scratch),
            Self::Bf16(values) => widen(values, scratch),
        }
        scratch
    }
}

/// Hands over all rows of `panels` in `f32`, from first to last, with the place of the first among
/// them. Those of two bytes are widened part by part, so that a part is still in the cache when it
/// is used.
pub(super) fn for_each_panel_part(
    panels: &[Panel<'_>],
    n_in: usize,
    mut use_part: impl FnMut(usize, &[f32]),
) {
    let mut scratch = Vec::new();
    let mut first = 0;
    for panel in panels {
        let part_len = match panel {
            Panel::F32(_) => panel.len(),
            Panel::F16(_) | Panel::Bf16(_) => PANEL.div_ceil(n_in) * n_in,
        };
        for start in (0..panel.len()).step_by(part_len) {
            let end = panel.len().min(start + part_len);
            use_part(first, panel.range(start, end).widened(&mut scratch));
            first += (end - start) / n_in;
        }
    }
}

fn widen<W: Element>(values: &[W], scratch: &mut Vec<f32>) {
    const CHUNK: usize = 1 << 14;
    scratch.resize(values.len(), 0.0);
    let arch = Arch::new();
    scratch.par_chunks_mut(CHUNK).zip(values.par_chunks(CHUNK)).for_each(|(to, from)| {
        arch.dispatch(
            #[inline(always)]
            || {
                for (to, from) in to.iter_mut().zip(from) {
                    *to = from.to_f32();
                }
            },
        );
    });
}
