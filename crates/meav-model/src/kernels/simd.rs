use half::{bf16, f16};

/// A weight's element, widened as it is read.
pub(super) trait Element: Copy + Send + Sync {
    /// Exact.
    fn to_f32(self) -> f32;
}

impl Element for f32 {
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }
}

impl Element for bf16 {
    #[inline(always)]
    fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
}

impl Element for f16 {
    #[inline(always)]
    fn to_f32(self) -> f32 {
        f16::to_f32(self)
    }
}

/// Partial sums kept apart, so that four vector registers of the widest kind are in flight.
const LANES: usize = 64;

/// `Σᵢ xᵢ wᵢ`. The order of the sum depends on the length only.
#[inline(always)]
pub(super) fn dot<W: Element>(x: &[f32], w: &[W]) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    let (x_blocks, x_rest) = x.as_chunks::<LANES>();
    let (w_blocks, w_rest) = w.as_chunks::<LANES>();
    for (x, w) in x_blocks.iter().zip(w_blocks) {
        for i in 0..LANES {
            lanes[i] = x[i].mul_add(w[i].to_f32(), lanes[i]);
        }
    }
    let mut sum = sum_lanes(&mut lanes);
    for (x, w) in x_rest.iter().zip(w_rest) {
        sum = x.mul_add(w.to_f32(), sum);
    }
    sum
}

#[inline(always)]
fn sum_lanes(lanes: &mut [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// `eˣ` to within 2 units in the last place; inputs beyond what `f32` can hold are clamped.
///
/// The polynomial is Cephes' `expf`. Unlike a call of the mathematics library it can be
/// vectorised.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // Adding this rounds to a whole number and leaves it in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let rounded = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = rounded - ROUND;
    let r = n.mul_add(-LN_2_LOW, n.mul_add(-LN_2_HIGH, x));
    let p = 1.987_569_1e-4_f32
        .mul_add(r, 1.398_199_9e-3)
        .mul_add(r, 8.333_452e-3)
        .mul_add(r, 4.166_579_6e-2)
        .mul_add(r, 1.666_666_5e-1)
        .mul_add(r, 5.000_000_1e-1)
        .mul_add(r * r, r + 1.0);
    let power = rounded.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    f32::from_bits(power) * p
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        for i in -8700..=8800 {
            let x = i as f32 / 100.0;
            let exact = f64::from(x).exp() as f32;
            let distance = exp(x).to_bits().abs_diff(exact.to_bits());
            assert!(distance <= 2, "exp({x}) is {}, not {exact}", exp(x));
        }
        assert_eq!(exp(0.0), 1.0);
    }

    #[test]
    fn dot_takes_every_length() {
        for len in [0, 1, 63, 64, 65, 200] {
            let x: Vec<f32> = (0..len).map(|i| i as f32).collect();
            let w = vec![bf16::from_f32(2.0); len];
            assert_eq!(dot(&x, &w), (len * len.saturating_sub(1)) as f32);
        }
    }
}
