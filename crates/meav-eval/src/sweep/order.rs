/// The order in which to measure λ, so that a curve is useful at once: each of them once.
///
/// First the baseline, λ = 0 or the nearest to it, then both ends, then always the middle of the
/// widest gap: among gaps that have been halved, none is ever more than about twice as wide as
/// another. Of equally wide ones comes the one farthest from the point before, so that both sides
/// grow alike.
///
/// `lambdas` ascend in even steps. Callers skip what they know already.
///
/// ```
/// let lambdas = [-1.0, -0.5, 0.0, 0.5, 1.0];
/// assert_eq!(meav_eval::coarse_to_fine(&lambdas), [0.0, -1.0, 1.0, -0.5, 0.5]);
/// ```
pub fn coarse_to_fine(lambdas: &[f64]) -> Vec<f64> {
    let Some(last) = lambdas.len().checked_sub(1) else { return Vec::new() };
    let nearer = |a: &usize, b: &usize| lambdas[*a].abs().total_cmp(&lambdas[*b].abs());
    let baseline = (0..=last).min_by(nearer).unwrap_or_default();
    let mut order = vec![baseline];
    for end in [0, last] {
        if !order.contains(&end) {
            order.push(end);
        }
    }
    // Both ends of each gap are measured, what lies between them is not.
    let mut gaps = vec![(0, baseline), (baseline, last)];
    while let Some((first, last)) = take_widest(&mut gaps, order[order.len() - 1]) {
        let middle = first.midpoint(last);
        order.push(middle);
        gaps.extend([(first, middle), (middle, last)]);
    }
    order.into_iter().map(|place| lambdas[place]).collect()
}

/// `None` where no gap has anything between its ends.
fn take_widest(gaps: &mut Vec<(usize, usize)>, previous: usize) -> Option<(usize, usize)> {
    let rank =
        |(first, last): (usize, usize)| (last - first, first.midpoint(last).abs_diff(previous));
    gaps.retain(|(first, last)| last - first > 1);
    let widest = (0..gaps.len()).max_by_key(|place| rank(gaps[*place]))?;
    Some(gaps.swap_remove(widest))
}

#[cfg(test)]
mod tests {
    use meav_protocol::LambdaRange;
    use proptest::prelude::*;

    use super::*;

    fn order(range: &str) -> Vec<f64> {
        coarse_to_fine(&range.parse::<LambdaRange>().unwrap().points())
    }

    #[test]
    fn baseline_ends_and_middles_come_first() {
        for (range, first) in [
            ("-1.5:1.5:0.1", &[0.0, -1.5, 1.5, -0.8, 0.7, -0.4, 1.1][..]),
            ("-1:1:0.5", &[0.0, -1.0, 1.0, -0.5, 0.5]),
            ("0:1:0.25", &[0.0, 1.0, 0.5, 0.75, 0.25]),
            ("0.5:1.5:0.25", &[0.5, 1.5, 1.0, 1.25, 0.75]),
            ("-1.3:1.5:0.7", &[0.1, -1.3, 1.5, -0.6, 0.8]),
            ("2:2:1", &[2.0]),
            ("0:1:1", &[0.0, 1.0]),
        ] {
            assert_eq!(order(range)[..first.len()], *first, "{range}");
        }
        assert!(coarse_to_fine(&[]).is_empty());
    }

    proptest! {
        #[test]
        fn every_lambda_comes_once(n_below in 0..60_i32, n_above in 0..60_i32, shift in -90..90_i32) {
            let mut lambdas: Vec<_> =
                (-n_below..=n_above).map(|i| f64::from(i + shift) / 10.0).collect();
            let mut order = coarse_to_fine(&lambdas);
            order.sort_by(f64::total_cmp);
            lambdas.sort_by(f64::total_cmp);
            prop_assert_eq!(order, lambdas);
        }

        #[test]
        fn any_prefix_is_spread_evenly(n in 1..50_i32, n_measured in 3..101_usize) {
            let lambdas: Vec<_> = (-n..=n).map(f64::from).collect();
            let mut measured = coarse_to_fine(&lambdas);
            measured.truncate(n_measured);
            measured.sort_by(f64::total_cmp);
            let gaps: Vec<_> = measured.windows(2).map(|pair| pair[1] - pair[0]).collect();
            let widest = gaps.iter().copied().fold(0.0, f64::max);
            let narrowest = gaps.iter().copied().fold(f64::INFINITY, f64::min);
            prop_assert!(widest <= 2.0 * narrowest + 1.0, "{:?}", measured);
        }
    }
}
