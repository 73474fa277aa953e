//! The arithmetic of a step, element by element.

#[expect(unsafe_code, reason = "kernels take addresses")]
mod gpu;

pub(super) use gpu::OnGpu;

use half::slice::HalfFloatSliceExt as _;
use half::{bf16, f16};
use pulp::{Arch, NullaryFnOnce};

use super::BLOCK;
use super::moments::{Block, Chunk, QuantisedChunk, seeds};
use super::{BETA_1, BETA_2, EPS};

/// One step for one tensor; see [`AdamW`](super::AdamW).
#[derive(Clone, Copy, Debug)]
pub(super) struct Update {
    /// `c`.
    pub(super) gradient_scale: f32,
    /// `1 − η λ`.
    pub(super) keep: f32,
    /// `η / (1 − β₁ᵗ)`.
    pub(super) rate: f32,
    /// `√(1 − β₂ᵗ)`.
    pub(super) root_correction: f32,
    /// Of the rounding of eight-bit moments: another in each step for each tensor.
    pub(super) seed: u64,
}

/// A run of a tensor's elements.
pub(super) struct Task<'a> {
    pub(super) update: Update,
    /// Which block of the tensor is its first.
    pub(super) block: usize,
    pub(super) weights: &'a mut [f32],
    pub(super) rounded: Option<Rounded<'a>>,
    pub(super) gradient: &'a [f32],
    pub(super) moments: Chunk<'a>,
}

/// What the model reads, where that is not what is trained.
pub(super) enum Rounded<'a> {
    Bf16(&'a mut [bf16]),
    F16(&'a mut [f16]),
}

impl<'a> Rounded<'a> {
    pub(super) fn chunks(self, len: usize) -> Vec<Rounded<'a>> {
        match self {
            Self::Bf16(values) => values.chunks_mut(len).map(Self::Bf16).collect(),
            Self::F16(values) => values.chunks_mut(len).map(Self::F16).collect(),
        }
    }

    /// To nearest, ties to even.
    pub(super) fn set(self, from: &[f32]) {
        match self {
            Self::Bf16(values) => values.convert_from_f32_slice(from),
            Self::F16(values) => values.convert_from_f32_slice(from),
        }
    }
}

impl Task<'_> {
    pub(super) fn run(self) {
        let Self { update, block, weights, rounded, gradient, moments } = self;
        let arch = Arch::new();
        match moments {
            Chunk::F32 { m, v } => arch.dispatch(Plain { update, weights, gradient, m, v }),
            Chunk::Int8 { m, v } => {
                arch.dispatch(Blocks { update, block, weights, gradient, m, v });
            }
        }
        if let Some(rounded) = rounded {
            rounded.set(weights);
        }
    }
}

struct Plain<'a> {
    update: Update,
    weights: &'a mut [f32],
    gradient: &'a [f32],
    m: &'a mut [f32],
    v: &'a mut [f32],
}

impl NullaryFnOnce for Plain<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { update, weights, gradient, m, v } = self;
        update.apply(weights, gradient, m, v);
    }
}

struct Blocks<'a> {
    update: Update,
    block: usize,
    weights: &'a mut [f32],
    gradient: &'a [f32],
    m: QuantisedChunk<'a>,
    v: QuantisedChunk<'a>,
}

impl NullaryFnOnce for Blocks<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { update, block: first, weights, gradient, mut m, mut v } = self;
        let blocks = weights.chunks_mut(BLOCK).zip(gradient.chunks(BLOCK));
        let (mut means, mut squares): (Block, Block) = ([0.0; BLOCK], [0.0; BLOCK]);
        for (block, (weights, gradient)) in blocks.enumerate() {
            m.read_signed(block, &mut means);
            v.read_positive(block, &mut squares);
            let n = weights.len();
            update.apply(weights, gradient, &mut means[..n], &mut squares[..n]);
            // What fills the last block up is to have no say in its scale.
            means[n..].fill(0.0);
            squares[n..].fill(0.0);
            let [m_seed, v_seed] = seeds(update.seed, first + block);
            m.write(block, &means, true, m_seed);
            v.write(block, &squares, false, v_seed);
        }
    }
}

impl Update {
    /// Each operation rounds by itself, so that all processors agree.
    #[inline(always)]
    fn apply(self, weights: &mut [f32], gradient: &[f32], m: &mut [f32], v: &mut [f32]) {
        const ONE_LESS_BETA_1: f32 = (1.0 - BETA_1) as f32;
        const ONE_LESS_BETA_2: f32 = (1.0 - BETA_2) as f32;
        let Self { gradient_scale, keep, rate, root_correction, seed: _ } = self;
        let elements = weights.iter_mut().zip(gradient).zip(m.iter_mut().zip(v));
        for ((weight, gradient), (m, v)) in elements {
            let g = gradient * gradient_scale;
            *m += ONE_LESS_BETA_1 * (g - *m);
            *v = BETA_2 as f32 * *v + ONE_LESS_BETA_2 * (g * g);
            let root = v.sqrt() / root_correction + EPS as f32;
            *weight = *weight * keep - rate * (*m / root);
        }
    }
}
