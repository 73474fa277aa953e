//! How far two results may lie apart, by what they were computed in.

/// Sums of a few single precision products in another order.
pub const F32_SUM: f32 = 1e-6;

/// Sums of a few hundred single precision products in another order.
pub const F32: f32 = 1e-5;

/// The same through all layers of a tiny model.
pub const F32_LOGITS: f32 = 1e-4;

/// Central differences of what was computed in single precision.
pub const DIFFERENCES: f32 = 2e-4;

/// One rounding to half precision.
pub const F16: f32 = 1e-3;

/// One rounding to brain floating point.
pub const BF16: f32 = 1e-2;

/// Gradients of a tiny model's `bf16` weights, relative to their length, where activations and
/// gradients are rounded to `bf16` before each product on their way: as a GPU does and the CPU does
/// not.
pub const BF16_GRADIENTS: f32 = 5e-2;

/// The ways that tensors go with such gradients in a few steps of Adam, relative to their length. The
/// first step divides each gradient by its own size, so that of what is almost zero only the sign is
/// left, and that may differ.
pub const BF16_STEPS: f32 = 0.4;

/// One quantisation of a tiny model's weights to eight bits.
pub const Q8_0: f32 = 1e-3;

/// The same through all layers of a tiny model.
pub const Q8_0_LOGITS: f32 = 5e-2;

/// Asserts that every value is within `tolerance` of the expected one: of its size where that is
/// above 1, absolutely below.
#[track_caller]
pub fn assert_close(found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "number of values");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let allowed = tolerance * expected.abs().max(1.0);
        // So written, NaN is not close to anything.
        let is_close = (found - expected).abs() <= allowed;
        assert!(is_close, "value {index} is {found}, not {expected} (± {allowed})");
    }
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    #[test]
    fn small_values_compare_absolutely_and_large_ones_by_their_size() {
        assert_close(&[0.0, 1000.0], &[0.001, 1000.5], 0.001);
        for (found, expected) in [(0.0, 0.002), (1000.0, 1002.0), (f32::NAN, f32::NAN)] {
            assert!(catch_unwind(|| assert_close(&[found], &[expected], 0.001)).is_err());
        }
    }
}
