//! Which level is preferred, and how often.

use meav_protocol::{ResponseScores, ScoreKind, Shares};

/// The place of the highest value: the first of equal ones, and never NaN (unless all are: then 0).
pub(crate) fn highest(values: impl IntoIterator<Item = f64>) -> usize {
    let mut best: Option<(usize, f64)> = None;
    for (place, value) in values.into_iter().enumerate() {
        let is_higher = best.map_or(!value.is_nan(), |(_, highest)| value > highest);
        if is_higher {
            best = Some((place, value));
        }
    }
    best.map_or(0, |(place, _)| place)
}

/// The preferred level of each record by one kind of score.
pub(crate) fn preferred(records: &[Vec<ResponseScores>], kind: ScoreKind) -> Vec<usize> {
    let of_record = |record: &Vec<ResponseScores>| highest(record.iter().map(|it| score(it, kind)));
    records.iter().map(of_record).collect()
}

fn score(scores: &ResponseScores, kind: ScoreKind) -> f64 {
    match kind {
        ScoreKind::MeanLogProb => scores.mean_log_prob,
        ScoreKind::SumLogProb => scores.sum_log_prob,
        ScoreKind::PerByteLogProb => scores.per_byte_log_prob,
        ScoreKind::LengthAdjusted => scores.length_adjusted,
    }
}

/// How many records stand at each level.
pub(crate) fn counts(places: &[usize], n_levels: usize) -> Vec<usize> {
    let mut counts = vec![0; n_levels];
    for place in places {
        counts[*place] += 1;
    }
    counts
}

/// The share of records that stands at each level; 0 everywhere without records.
pub(crate) fn shares(levels: &[String], places: &[usize]) -> Shares {
    let share = |count: usize| count as f64 / places.len().max(1) as f64;
    levels.iter().cloned().zip(counts(places, levels.len()).into_iter().map(share)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tie_goes_to_the_level_listed_first_and_nan_never_wins() {
        let (nan, inf) = (f64::NAN, f64::NEG_INFINITY);
        for (values, place) in [
            ([-2.0, -1.0, -3.0], 1),
            ([-1.0, -1.0, -3.0], 0),
            ([-3.0, -1.0, -1.0], 1),
            ([nan, -5.0, -4.0], 2),
            ([-5.0, nan, -5.0], 0),
            ([nan, inf, inf], 1),
            ([-2.0, -1.0, nan], 1),
            ([0.0, -0.0, 0.0], 0),
            ([nan, nan, nan], 0),
        ] {
            assert_eq!(highest(values), place, "{values:?}");
        }
    }

    #[test]
    fn shares_count_records() {
        let levels = ["expert", "generic", "avoidance"].map(str::to_owned);
        let shares_of =
            |places: &[usize]| shares(&levels, places).into_values().collect::<Vec<_>>();
        assert_eq!(shares_of(&[0, 2, 0, 0]), [0.75, 0.0, 0.25]);
        assert_eq!(shares_of(&[]), [0.0; 3]);
        assert_eq!(shares(&levels, &[]).into_keys().collect::<Vec<_>>(), levels);
    }
}
