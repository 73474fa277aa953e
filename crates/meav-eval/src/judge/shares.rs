use std::ops::RangeInclusive;

/// The 97.5 % quantile of the normal distribution.
const Z_95: f64 = 1.959_963_984_540_054;

/// How often something was so, among how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// How often.
    pub n: u64,
    /// Among how many, at least one.
    pub total: u64,
}

impl Share {
    /// `n` of `total`; `None` of nothing.
    fn of(n: u64, total: u64) -> Option<Self> {
        (total > 0).then_some(Self { n, total })
    }

    /// From 0 to 1.
    pub fn value(self) -> f64 {
        self.n as f64 / self.total as f64
    }

    /// The 95 % confidence interval of the share that a sample this large would come from.
    ///
    /// ```text
    /// (p + z²/2n ± z √(p(1 − p)/n + z²/4n²)) / (1 + z²/n),  z = 1.96
    /// ```
    ///
    /// Unlike the textbook `p ± z √(p(1 − p)/n)` it stays within 0 and 1, and has a width where
    /// all or none of a small sample are so.
    /// Source: Wilson, 1927, J. Am. Stat. Assoc. 22:209–212.
    pub fn interval(self) -> RangeInclusive<f64> {
        let (p, n) = (self.value(), self.total as f64);
        let z2 = Z_95 * Z_95;
        let centre = p + z2 / (2.0 * n);
        let spread = Z_95 * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
        let scale = 1.0 + z2 / n;
        let low = if self.n == 0 { 0.0 } else { (centre - spread) / scale };
        let high = if self.n == self.total { 1.0 } else { (centre + spread) / scale };
        low..=high
    }
}

/// The levels that a judge gave to the answers of one recipe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LevelShares {
    counts: Vec<u64>,
    n_unclear: u64,
    n_agreeing: u64,
    n_compared: u64,
}

impl LevelShares {
    /// No verdict yet, for `n_levels` levels.
    pub fn new(n_levels: usize) -> Self {
        Self { counts: vec![0; n_levels], n_unclear: 0, n_agreeing: 0, n_compared: 0 }
    }

    /// Counts one answer.
    ///
    /// `judged` is the level that the judge gave it, `None` where its reply named none.
    /// `preferred` is the level whose response the model itself finds most likely for the query,
    /// where that was measured. A place beyond the levels counts as `None`.
    pub fn add(&mut self, judged: Option<usize>, preferred: Option<usize>) {
        let Some((judged, count)) =
            judged.and_then(|level| Some((level, self.counts.get_mut(level)?)))
        else {
            self.n_unclear += 1;
            return;
        };
        *count += 1;
        if let Some(preferred) = preferred.filter(|&level| level < self.counts.len()) {
            self.n_compared += 1;
            self.n_agreeing += u64::from(judged == preferred);
        }
    }

    /// The share of each level among the answers that got one; empty if none did.
    pub fn shares(&self) -> Vec<Share> {
        let total = self.n_judged();
        self.counts.iter().filter_map(|&n| Share::of(n, total)).collect()
    }

    /// Answers that got a level.
    pub fn n_judged(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Answers about which the judge said nothing clear. They are in no share.
    pub fn n_unclear(&self) -> u64 {
        self.n_unclear
    }

    /// How often the judged level was the preferred one, where both are known.
    pub fn agreement(&self) -> Option<Share> {
        Share::of(self.n_agreeing, self.n_compared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From scipy 1.17.1, `binomtest(n, total).proportion_ci(0.95, "wilson")`.
    #[test]
    fn intervals_are_those_of_wilson() {
        for (n, total, low, high) in [
            (0, 10, 0.0, 0.277_532_799_862_889_26),
            (10, 10, 0.722_467_200_137_110_7, 1.0),
            (5, 10, 0.236_593_090_512_564_3, 0.763_406_909_487_436_1),
            (1, 1, 0.206_549_314_377_237_45, 1.0),
            (7, 24, 0.149_146_481_969_608_67, 0.491_676_936_644_966_37),
        ] {
            let interval = Share { n, total }.interval();
            assert!((interval.start() - low).abs() < 1e-12, "{n} of {total}: {interval:?}");
            assert!((interval.end() - high).abs() < 1e-12, "{n} of {total}: {interval:?}");
        }
    }

    #[test]
    fn unclear_replies_are_counted_apart() {
        let mut shares = LevelShares::new(3);
        assert_eq!((shares.shares(), shares.agreement()), (Vec::new(), None));
        for (judged, preferred) in [
            (Some(0), Some(0)),
            (Some(0), Some(1)),
            (Some(2), None),
            (None, Some(1)),
            (Some(3), Some(0)),
            (Some(2), Some(3)),
        ] {
            shares.add(judged, preferred);
        }
        assert_eq!((shares.n_judged(), shares.n_unclear()), (4, 2));
        let counts: Vec<(u64, u64)> = shares.shares().iter().map(|it| (it.n, it.total)).collect();
        assert_eq!(counts, [(2, 4), (0, 4), (2, 4)]);
        assert_eq!(shares.agreement(), Some(Share { n: 1, total: 2 }));
    }
}
