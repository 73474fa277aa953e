//! Positive numbers in eight bits, relative to the largest of a block.

/// Numbers that share a scale.
pub(crate) const BLOCK: usize = 256;

/// A code for numbers from 0 to 1: a small float without a sign, with 3 bits of fraction behind the
/// leading 1. Neighbouring codes are 1/8 to 1/16 apart, relative to themselves, whatever their size,
/// which is what a ratio of the two moments asks for; the largest code is 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EightBit {
    /// The largest code.
    pub(crate) largest: u8,
    /// Whether code 0 stands for 0, rather than for the next smaller number.
    pub(crate) has_zero: bool,
}

/// Bits of an `f32` behind the fraction that is kept.
const DROPPED: u32 = 20;

/// What 1 is without the bits that are dropped.
const ONE: u32 = 127 << 3;

impl EightBit {
    /// With a sign beside it, from 1 down to 2⁻¹⁵·⁷⁵ and 0.
    pub(crate) const SIGNED: Self = Self { largest: 127, has_zero: true };

    /// From 1 down to 2⁻³¹·⁷⁵, without a 0.
    pub(crate) const POSITIVE: Self = Self { largest: 255, has_zero: false };

    /// The code below or above `x`, from 0 to 1, which of them by chance, so that the mean over
    /// all `noise` is `x`: an average that moves by less than a code at a time moves all the same.
    /// The smallest code for what is smaller.
    #[inline(always)]
    pub(crate) fn encode(self, x: f32, noise: u32) -> u32 {
        let bits = (x.to_bits() + (noise >> (32 - DROPPED))) >> DROPPED;
        let smallest = ONE - u32::from(self.largest);
        bits.saturating_sub(smallest).min(u32::from(self.largest))
    }

    #[inline(always)]
    pub(crate) fn decode(self, code: u32) -> f32 {
        let x = f32::from_bits((code + ONE - u32::from(self.largest)) << DROPPED);
        if self.has_zero && code == 0 { 0.0 } else { x }
    }
}

/// A number without a pattern for each of its arguments.
///
/// Source: Wellons, 2018, "Prospecting for hash functions" (`lowbias32`).
#[inline(always)]
pub(crate) fn noise(seed: u32, index: u32) -> u32 {
    let x = seed.wrapping_add(index.wrapping_mul(0x9e37_79b9));
    let x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
    let x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

/// A seed for each block of each tensor in each step: the output function of Steele et al., 2014,
/// doi:10.1145/2660193.2660195.
pub(crate) fn block_seed(seed: u64, block: u64) -> u32 {
    let z = seed.wrapping_mul(0xd129_0be1_8a5f_6f3b) ^ block.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: [EightBit; 2] = [EightBit::SIGNED, EightBit::POSITIVE];

    #[test]
    fn codes_come_back_as_they_were_whatever_the_noise() {
        for map in MAPS {
            let first = u32::from(map.has_zero);
            for code in first..=u32::from(map.largest) {
                for noise in [0, 1 << 31, u32::MAX] {
                    assert_eq!(map.encode(map.decode(code), noise), code, "{map:?}");
                }
            }
            assert!((map.decode(u32::from(map.largest)) - 1.0).abs() < f32::EPSILON);
        }
        let smallest = EightBit::POSITIVE.decode(0);
        assert!(smallest > 0.0 && smallest < 3e-10, "{smallest}");
        assert_eq!(EightBit::SIGNED.decode(0).to_bits(), 0);
    }

    #[test]
    fn rounding_is_to_a_neighbour_and_right_on_average() {
        for map in MAPS {
            for x in [1e-4_f32, 0.013, 0.5, 0.51, 0.77, 0.999] {
                let n = 4096;
                let mut sum = 0.0;
                for index in 0..n {
                    let found = map.decode(map.encode(x, noise(7, index)));
                    assert!((found - x).abs() <= x / 8.0, "{x} became {found}");
                    sum += f64::from(found);
                }
                let mean = sum / f64::from(n);
                let is_close = (mean / f64::from(x) - 1.0).abs() < 2e-3;
                assert!(is_close, "{map:?}: {x} is {mean} on average");
            }
        }
    }

    #[test]
    fn what_is_too_small_becomes_the_smallest_code() {
        for x in [0.0, 1e-38, 1e-12] {
            assert_eq!(EightBit::POSITIVE.encode(x, u32::MAX), 0);
        }
        assert_eq!(EightBit::SIGNED.encode(1e-9, u32::MAX), 0);
    }
}
