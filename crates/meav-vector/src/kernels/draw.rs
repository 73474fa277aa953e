use meav_weights::Fingerprint;

/// Draws which elements of a vector's tensor are dropped: the same ones whenever it is asked, on
/// any number of threads, in any recipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Draw {
    pub(super) key: u64,
    /// Numbers below are dropped.
    pub(super) threshold: u64,
}

/// 2⁶⁴ divided by the golden ratio.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

impl Draw {
    /// `drop` is the probability of each element to be dropped, in `[0, 1)`.
    pub(crate) fn new(seed: u64, vector: &Fingerprint, name: &str, drop: f64) -> Self {
        let mut bytes = seed.to_le_bytes().to_vec();
        bytes.extend(vector.as_bytes());
        bytes.extend(name.as_bytes());
        let digest = Fingerprint::of_bytes(&bytes);
        let key = digest.as_bytes()[..8].iter().fold(0, |key, byte| key << 8 | u64::from(*byte));
        Self { key, threshold: (drop * 2.0_f64.powi(64)) as u64 }
    }

    /// Whether the element at this place of the tensor stays.
    ///
    /// The random number is that of `SplitMix64` in its state `key + (index + 1) · 2⁶⁴/φ`, which
    /// can be reached from any index at once. Source: Steele et al., 2014, "Fast Splittable
    /// Pseudorandom Number Generators", Fig. 17.
    #[inline(always)]
    pub(crate) fn keeps(self, index: usize) -> bool {
        let mut z = self.key.wrapping_add((index as u64).wrapping_add(1).wrapping_mul(STEP));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31) >= self.threshold
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first three numbers of the generator seeded with 1234567, as its author's C code prints
    /// them.
    #[test]
    fn numbers_are_those_of_split_mix_64() {
        for (index, number) in
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
                .into_iter()
                .enumerate()
        {
            let draw = |threshold| Draw { key: 1_234_567, threshold };
            assert!(draw(number).keeps(index));
            assert!(!draw(number + 1).keeps(index));
        }
    }

    #[test]
    fn share_of_what_is_dropped_is_the_probability() {
        let vector = Fingerprint::of_bytes(b"medical");
        for drop in [0.0, 0.1, 0.5, 0.9, 0.99] {
            let draw = Draw::new(7, &vector, "w", drop);
            let n = 100_000;
            let n_dropped = (0..n).filter(|index| !draw.keeps(*index)).count() as f64;
            // Four standard deviations of a binomial distribution.
            let allowed = 4.0 * (n as f64 * drop * (1.0 - drop)).sqrt();
            assert!((n_dropped - n as f64 * drop).abs() <= allowed, "{drop}: {n_dropped}");
        }
    }

    #[test]
    fn seeds_vectors_and_tensors_draw_apart() {
        let (a, b) = (Fingerprint::of_bytes(b"a"), Fingerprint::of_bytes(b"b"));
        let draw = Draw::new(1, &a, "w", 0.5);
        for other in
            [Draw::new(2, &a, "w", 0.5), Draw::new(1, &b, "w", 0.5), Draw::new(1, &a, "v", 0.5)]
        {
            let n_alike = (0..10_000).filter(|i| draw.keeps(*i) == other.keeps(*i)).count();
            assert!((4800..5200).contains(&n_alike), "{n_alike}");
        }
    }
}
