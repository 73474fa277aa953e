//! The fused merge: reads the base and every vector once, sums in `f32`, rounds once, writes once.

#![expect(
    clippy::inline_always,
    reason = "what is not inlined into the dispatched function is compiled without its SIMD"
)]

mod addend;
mod dense;
mod draw;
mod element;
mod fused;
#[expect(unsafe_code, reason = "kernels take addresses")]
mod gpu;
mod low_rank;
mod read;
mod select;
mod sign;
mod sparse;
mod tile;
mod trim;

use meav_weights::Weight;

use crate::Delta;

pub(crate) use draw::Draw;
pub(crate) use element::Element;
pub(crate) use gpu::{GpuDelta, dtype, merge_on_gpu, upload};
pub(crate) use read::read_product;
pub(crate) use trim::{Cut, find_cut};

/// One addend of a tensor's sum.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addend<'a> {
    /// λ.
    pub(crate) coefficient: f32,
    /// What it multiplies.
    pub(crate) delta: &'a Delta,
}

/// Which elements of the addends count. Lists have one entry for each addend.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Selection {
    /// All of them.
    All,
    /// The largest of each addend, where their sign is the elected one.
    Elected(Vec<Cut>),
    /// Those that were drawn.
    Drawn(Vec<Draw>),
}

/// `out = base + Σᵢ λᵢ Δᵢ` over the selected elements, in parallel over groups of rows.
///
/// Every element is summed in `f32` with fused multiply-add, in the order of `addends`, and rounded
/// once. A low-rank delta's element is `Σₖ bₖ aₖ`, likewise in order, then scaled by `λ · scale`.
/// The result does not depend on the number of threads.
///
/// # Panics
///
/// Unless `out` has as many elements as `base`, and every delta its shape.
pub(crate) fn merge<T: Element>(
    out: &mut [T],
    base: &Weight,
    addends: &[Addend<'_>],
    selection: &Selection,
) {
    assert_eq!(out.len(), base.len(), "output and base");
    for addend in addends {
        assert_eq!(addend.delta.shape(), base.shape(), "delta and base");
    }
    if base.is_empty() {
        return;
    }
    match selection {
        Selection::All => {
            if !fused::merge(out, base, addends) {
                tile::merge(out, base, addends);
            }
        }
        Selection::Elected(cuts) => select::merge_elected(out, base, addends, cuts),
        Selection::Drawn(draws) => select::merge_drawn(out, base, addends, draws),
    }
}
