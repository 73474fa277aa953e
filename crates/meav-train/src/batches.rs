use fastrand::Rng;

/// Batches whose pairs are sorted together.
const WINDOW: usize = 8;

/// The batches of one epoch, as indices of pairs: each pair once, the last batch of the shuffled
/// order perhaps smaller than the others.
///
/// The pairs are shuffled, cut into windows of eight batches, sorted by length in each, cut into
/// batches, and the batches shuffled: those of a batch are about as long as one another, whatever
/// the order of the file is, and long ones don't come all at the end.
///
/// Depends on nothing but `lengths` (tokens of each pair), `batch` (pairs), `seed` and `epoch`.
///
/// # Panics
///
/// If `batch` is 0.
pub fn batches(lengths: &[usize], batch: usize, seed: u64, epoch: usize) -> Vec<Vec<usize>> {
    let mut rng = Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ epoch as u64);
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    rng.shuffle(&mut order);
    for window in order.chunks_mut(WINDOW.saturating_mul(batch)) {
        window.sort_by_key(|index| lengths[*index]);
    }
    let mut batches: Vec<Vec<usize>> = order.chunks(batch).map(<[usize]>::to_vec).collect();
    rng.shuffle(&mut batches);
    batches
}

/// Tokens of the longest batch that an order could make: those of the `batch` longest pairs.
pub fn longest_batch(lengths: &[usize], batch: usize) -> usize {
    let mut lengths = lengths.to_vec();
    lengths.sort_unstable_by(|a, b| b.cmp(a));
    lengths.iter().take(batch).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_pair_comes_once_an_epoch(
            lengths in prop::collection::vec(1_usize..2000, 0..200),
            batch in 1_usize..9,
            seed: u64,
            epoch in 0_usize..5,
        ) {
            let found = batches(&lengths, batch, seed, epoch);
            prop_assert_eq!(&found, &batches(&lengths, batch, seed, epoch));
            prop_assert_eq!(found.len(), lengths.len().div_ceil(batch));
            let n_small = found.iter().filter(|it| it.len() != batch).count();
            prop_assert!(n_small <= 1 && found.iter().all(|it| !it.is_empty()));
            let longest = longest_batch(&lengths, batch);
            for indices in &found {
                let tokens: usize = indices.iter().map(|index| lengths[*index]).sum();
                prop_assert!(tokens <= longest, "{tokens} of at most {longest}");
            }
            let mut all = found.concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..lengths.len()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn other_seeds_and_epochs_give_other_orders() {
        let lengths: Vec<usize> = (0..64).map(|i| 10 + i % 13).collect();
        let first = batches(&lengths, 4, 0, 0);
        for (seed, epoch) in [(0, 1), (1, 0), (1, 1), (2, 0)] {
            assert_ne!(batches(&lengths, 4, seed, epoch), first, "{seed}, {epoch}");
        }
    }

    /// What a batch would cost if it were padded to its longest pair.
    #[test]
    fn pairs_of_a_batch_are_about_as_long_as_one_another() {
        let mut rng = fastrand::Rng::with_seed(1);
        let lengths: Vec<usize> = (0..512).map(|_| rng.usize(50..500)).collect();
        let padded = |batches: &[Vec<usize>]| -> usize {
            let cost = |batch: &Vec<usize>| {
                batch.len() * batch.iter().map(|index| lengths[*index]).max().unwrap()
            };
            batches.iter().map(cost).sum()
        };
        let in_order: Vec<Vec<usize>> =
            (0..512).collect::<Vec<_>>().chunks(4).map(<[usize]>::to_vec).collect();
        let (found, plain) = (padded(&batches(&lengths, 4, 0, 0)), padded(&in_order));
        let tokens: usize = lengths.iter().sum();
        assert!(5 * (found - tokens) < plain - tokens, "{found} and {plain} of {tokens}");
    }
}
