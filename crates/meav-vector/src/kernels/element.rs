use half::slice::HalfFloatSliceExt as _;
use half::{bf16, f16};
use meav_weights::{Values, Weight};

/// An element type that a sum is rounded to.
pub(crate) trait Element: Copy + Send + Sync + Default {
    /// A tensor of such values.
    fn weight(shape: Vec<usize>, values: Vec<Self>) -> Weight;

    /// To nearest, ties to even.
    fn round(from: &[f32], to: &mut [Self]);

    /// Whether [`Element::round_in_line`] is as fast as [`Element::round`].
    const ROUNDS_IN_LINE: bool;

    /// As [`Element::round`], of one value.
    fn round_in_line(value: f32) -> Self;
}

impl Element for f32 {
    fn weight(shape: Vec<usize>, values: Vec<Self>) -> Weight {
        Weight::from_f32(shape, values)
    }

    const ROUNDS_IN_LINE: bool = true;

    #[inline(always)]
    fn round_in_line(value: f32) -> Self {
        value
    }

    #[inline(always)]
    fn round(from: &[f32], to: &mut [Self]) {
        to.copy_from_slice(from);
    }
}

impl Element for bf16 {
    fn weight(shape: Vec<usize>, values: Vec<Self>) -> Weight {
        Weight::from_bf16(shape, values)
    }

    const ROUNDS_IN_LINE: bool = true;

    #[inline(always)]
    fn round_in_line(value: f32) -> Self {
        let bits = value.to_bits();
        let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
        // Rounding could carry a NaN over into another value: keep it a quiet NaN.
        let nan = (bits >> 16) | 0x40;
        bf16::from_bits(if value.is_nan() { nan } else { rounded } as u16)
    }

    #[inline(always)]
    fn round(from: &[f32], to: &mut [Self]) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = Self::round_in_line(*from);
        }
    }
}

impl Element for f16 {
    fn weight(shape: Vec<usize>, values: Vec<Self>) -> Weight {
        Weight::from_f16(shape, values)
    }

    const ROUNDS_IN_LINE: bool = false;

    fn round_in_line(value: f32) -> Self {
        f16::from_f32(value)
    }

    fn round(from: &[f32], to: &mut [Self]) {
        to.convert_from_f32_slice(from);
    }
}

/// An element type whose conversion is a few instructions that can be vectorised.
pub(super) trait InLine: Copy + Sync {
    /// Exact.
    fn to_f32(self) -> f32;
}

impl InLine for f32 {
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }
}

impl InLine for bf16 {
    /// Without the branches of the library's conversion.
    #[inline(always)]
    fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
}

/// A run of values.
pub(super) fn window(values: Values<'_>, start: usize, len: usize) -> Values<'_> {
    match values {
        Values::F32(values) => Values::F32(&values[start..start + len]),
        Values::F16(values) => Values::F16(&values[start..start + len]),
        Values::Bf16(values) => Values::Bf16(&values[start..start + len]),
    }
}

#[inline(always)]
pub(super) fn widen(values: Values<'_>, to: &mut [f32]) {
    match values {
        Values::F32(values) => to.copy_from_slice(values),
        Values::F16(values) => values.convert_to_f32_slice(to),
        Values::Bf16(values) => {
            for (to, value) in to.iter_mut().zip(values) {
                *to = value.to_f32();
            }
        }
    }
}
