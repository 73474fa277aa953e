/// Draws `n` of the places `0..n_items`, each at most once, in ascending order; all of them if
/// there are no more than `n`.
///
/// The same seed draws the same places, so that every recipe answers the same queries.
///
/// Selection sampling: a place is taken with probability (still wanted) / (still to come).
/// Source: Knuth, The Art of Computer Programming 2, 3.4.2, Algorithm S.
pub fn sample(n_items: usize, n: usize, seed: u64) -> Vec<usize> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut n_wanted = n.min(n_items);
    let mut drawn = Vec::with_capacity(n_wanted);
    for idx in 0..n_items {
        if n_wanted == 0 {
            break;
        }
        if rng.usize(..n_items - idx) < n_wanted {
            drawn.push(idx);
            n_wanted -= 1;
        }
    }
    drawn
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_distinct_in_order_and_as_many_as_asked_for() {
        for (n_items, n, expected) in [(0, 5, 0), (5, 0, 0), (5, 9, 5), (5, 5, 5), (1000, 37, 37)] {
            for seed in 0..20 {
                let drawn = sample(n_items, n, seed);
                assert_eq!(drawn.len(), expected, "{n} of {n_items}, seed {seed}");
                assert!(drawn.is_sorted_by(|a, b| a < b), "{drawn:?}");
                assert!(drawn.iter().all(|&idx| idx < n_items), "{drawn:?}");
            }
        }
    }

    #[test]
    fn a_seed_keeps_its_places() {
        assert_eq!(sample(100, 8, 7), sample(100, 8, 7));
        assert_ne!(sample(100, 8, 7), sample(100, 8, 8));
    }

    /// 2,000 draws of 3 of 10: each place is expected 600 times, with a standard deviation of 20.
    #[test]
    fn every_place_is_as_likely_as_the_others() {
        let mut counts = [0_u32; 10];
        for seed in 0..2000 {
            for idx in sample(10, 3, seed) {
                counts[idx] += 1;
            }
        }
        assert!(counts.iter().all(|count| (500..700).contains(count)), "{counts:?}");
    }
}
