//! How sure a share or a mean is, if other queries had been asked.

/// The part of the resamples on either side of a 95 % interval.
const TAIL: f64 = 0.025;

/// How often records are drawn anew where the resamples can't be counted out.
const RESAMPLES: usize = 2000;

/// The square of the standard deviations on either side of 95 % of a normal distribution.
const NORMAL_SQUARED: f64 = 3.841_458_820_694_124;

/// The 95 % interval of a share, `count` of `n` records, by bootstrap over the records.
///
/// A resample draws `n` of the `n` records, with replacement: those at the level are then
/// `Binomial(n, count / n)`. So the percentiles of all resamples that there are can be counted out,
/// which is what a number of drawn ones would tend to: the same on every platform, without a seed.
/// Source: Efron and Tibshirani, 1993, "An Introduction to the Bootstrap", chapter 13 (the
/// percentile interval).
///
/// Where no record or every record is at the level, each resample is the same and the bootstrap
/// says nothing at all; the interval is then that of [`unanimous_interval`], which is Wilson's
/// (1927) there. Close to these ends the bootstrap is too narrow as well, so that the limit may be
/// lower for one record than for none. Without records any share is possible.
pub(crate) fn share_interval(count: usize, n: usize) -> [f64; 2] {
    if count == 0 || count == n {
        return unanimous_interval(f64::from(u8::from(count > 0)), n, [0.0, 1.0]);
    }
    let weights = binomial_weights(count, n);
    let tail = TAIL * weights.iter().sum::<f64>();
    let lower = n_below(tail, weights.iter());
    let upper = n - n_below(tail, weights.iter().rev());
    [lower as f64 / n as f64, upper as f64 / n as f64]
}

/// How many of the first weights stay below `limit` together.
fn n_below<'a>(limit: f64, weights: impl Iterator<Item = &'a f64>) -> usize {
    let mut sum = 0.0;
    let is_below = |weight: &&f64| {
        sum += **weight;
        sum < limit
    };
    weights.take_while(is_below).count()
}

/// The probabilities of 0 to `n` for `Binomial(n, count / n)`, up to a factor: from the likeliest,
/// `count`, to both sides, by nothing but products and quotients, which are the same everywhere.
fn binomial_weights(count: usize, n: usize) -> Vec<f64> {
    let mut weights = vec![1.0; n + 1];
    let odds = count as f64 / (n - count) as f64;
    for k in count..n {
        weights[k + 1] = weights[k] * odds * (n - k) as f64 / (k + 1) as f64;
    }
    for k in (1..=count).rev() {
        weights[k - 1] = weights[k] / odds * k as f64 / (n - k + 1) as f64;
    }
    weights
}

/// An interval for a mean of `n` records that all have the same value, of values that can't leave
/// `bounds`.
///
/// ```text
/// u = z² / (n + z²)
/// [(1 − u)·value + u·lowest, (1 − u)·value + u·highest]
/// ```
///
/// `z` is 1.96. `u` is the upper limit of Wilson's 95 % interval for a share of which `n` records
/// show nothing: so many other queries may have another value, and at most go to a bound.
fn unanimous_interval(value: f64, n: usize, bounds: [f64; 2]) -> [f64; 2] {
    let unseen = NORMAL_SQUARED / (n as f64 + NORMAL_SQUARED);
    bounds.map(|bound| value + unseen * (bound - value))
}

/// The 95 % interval of the mean of `values`, one for each record, by bootstrap over the records:
/// the percentiles of the means of 2000 resamples, drawn by a generator with a fixed seed. Means
/// of equally many records resample the same ones.
///
/// Where all records have the same value, see [`unanimous_interval`]; no value can leave `bounds`.
pub(crate) fn mean_interval(values: &[f64], bounds: [f64; 2]) -> [f64; 2] {
    let Some(first) = values.first() else { return bounds };
    // Equal ones may differ by the rounding of their sums.
    let margin = 1e-9 * (bounds[1] - bounds[0]);
    if values.iter().all(|value| (value - first).abs() <= margin) {
        return unanimous_interval(*first, values.len(), bounds);
    }
    let mut random = SplitMix64(0);
    let mut mean = || {
        let drawn = (0..values.len()).map(|_| values[random.below(values.len())]);
        drawn.sum::<f64>() / values.len() as f64
    };
    let mut means: Vec<f64> = (0..RESAMPLES).map(|_| mean()).collect();
    means.sort_by(f64::total_cmp);
    let skipped = (TAIL * RESAMPLES as f64) as usize - 1;
    [means[skipped], means[RESAMPLES - 1 - skipped]]
}

/// A generator whose numbers stay what they are, whatever becomes of the crates for them.
///
/// Source: Steele et al., 2014, "Fast Splittable Pseudorandom Number Generators", Fig. 17.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number from 0 to `n − 1`: the upper half of a product of 128 bits, so that their
    /// probabilities differ by no more than 2⁻⁶⁴.
    fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn assert_close(found: [f64; 2], expected: [f64; 2], tolerance: f64) {
        let is_close = std::iter::zip(found, expected).all(|(a, b)| (a - b).abs() <= tolerance);
        assert!(is_close, "{found:?} is not {expected:?}");
    }

    /// The first numbers of the generator seeded with 1234567, as its author's C code prints them.
    #[test]
    fn numbers_are_those_of_split_mix_64() {
        let mut random = SplitMix64(1_234_567);
        let numbers = [random.next(), random.next(), random.next()];
        let expected =
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!(numbers, expected);
    }

    /// In whole numbers, of any size:
    ///
    /// ```text
    /// weight = lambda k: comb(n, k) * count**k * (n - count) ** (n - k)
    /// below = lambda k: sum(weight(i) for i in range(k + 1))
    /// [min(k for k in range(n + 1) if 1000 * below(k) >= q * n**n) for q in (25, 975)]
    /// ```
    #[test]
    fn limits_are_quantiles_of_a_binomial_distribution() {
        for (count, n, limits) in [
            (1, 2, [0.0, 2.0]),
            (1, 24, [0.0, 3.0]),
            (6, 24, [2.0, 10.0]),
            (12, 24, [7.0, 17.0]),
            (18, 24, [14.0, 22.0]),
            (23, 24, [21.0, 24.0]),
            (300, 1000, [272.0, 329.0]),
            (9999, 10_000, [9997.0, 10_000.0]),
        ] {
            let expected = limits.map(|limit: f64| limit / n as f64);
            assert_close(share_interval(count, n), expected, 0.0);
        }
    }

    /// By hand: `z² / (n + z²)`.
    #[test]
    fn unanimous_records_have_wilsons_interval() {
        for (count, n, interval) in [
            (0, 24, [0.0, 0.137_976]),
            (24, 24, [0.862_024, 1.0]),
            (0, 1, [0.0, 0.793_451]),
            (1, 1, [0.206_549, 1.0]),
            (0, 0, [0.0, 1.0]),
        ] {
            assert_close(share_interval(count, n), interval, 1e-6);
        }
    }

    #[test]
    fn drawn_resamples_tend_to_those_counted_out() {
        for (count, n) in [(3, 10), (12, 24), (1, 24), (700, 1000)] {
            let values: Vec<f64> = (0..n).map(|i| f64::from(u8::from(i < count))).collect();
            let counted = share_interval(count, n);
            // A record more or less, or the noise of 2000 draws: 0.25 standard deviations is four
            // times the standard error of their 2.5 % quantile.
            let share = count as f64 / n as f64;
            let noise = 0.25 * (share * (1.0 - share) / n as f64).sqrt();
            assert_close(mean_interval(&values, [0.0, 1.0]), counted, noise.max(1.001 / n as f64));
        }
    }

    /// Records at −1 and 1: the standard error is 1/√n.
    #[test]
    fn interval_of_a_mean_is_two_standard_errors_wide() {
        let values: Vec<f64> = (0..400).map(|i| f64::from(i % 2 * 2 - 1)).collect();
        assert_close(mean_interval(&values, [-1.0, 1.0]), [-0.098, 0.098], 0.015);
        assert_close(mean_interval(&[0.5; 24], [-1.0, 1.0]), [0.293_036, 0.568_988], 1e-6);
        assert_close(mean_interval(&[], [-1.0, 1.0]), [-1.0, 1.0], 0.0);
        // Equal but for rounding.
        let nearly = [0.5, 0.5 + f64::EPSILON, 0.5 - f64::EPSILON];
        assert_close(mean_interval(&nearly, [-1.0, 1.0]), [-0.342_246, 0.780_749], 1e-6);
    }

    proptest! {
        #[test]
        fn interval_of_a_share_contains_it(
            (count, n) in (0..400_usize).prop_flat_map(|n| (0..=n, Just(n)))
        ) {
            let [lower, upper] = share_interval(count, n);
            let share = count as f64 / n.max(1) as f64;
            prop_assert!(0.0 <= lower && lower <= share && share <= upper && upper <= 1.0);
            prop_assert!(lower < upper);
            // Those that are not at the level, seen from the other end.
            if n > 0 {
                let [rest_lower, rest_upper] = share_interval(n - count, n);
                assert_close([1.0 - rest_upper, 1.0 - rest_lower], [lower, upper], 1e-12);
            }
        }

        #[test]
        fn interval_of_a_mean_contains_it(values in prop::collection::vec(-1.0..1.0_f64, 1..40)) {
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let [lower, upper] = mean_interval(&values, [-1.0, 1.0]);
            prop_assert!(-1.0 <= lower && lower <= mean && mean <= upper && upper <= 1.0);
            assert_close(mean_interval(&values, [-1.0, 1.0]), [lower, upper], 0.0);
        }
    }
}
