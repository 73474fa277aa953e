//! The fused merge: reads the base and every vector once, sums in `f32`, rounds once, writes once.

#![expect(
    clippy::inline_always,
    reason = "what is not inlined into the dispatched function is compiled without its SIMD"
)]

pub(crate) mod cpu;
