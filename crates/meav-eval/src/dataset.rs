//! Preferences on one data set.

use indexmap::IndexMap;
use meav_protocol::{
    DataProblem, DatasetScores, MeasureName, RecordScores, ResponseScores, ScoreKind, Shares,
};

use crate::bootstrap::share_interval;
use crate::preference::{counts, preferred, shares};
use crate::{ScoredItem, ScoredResponse, length};

/// What a model prefers on one data set, by one measure.
///
/// ```text
/// accuracy(l) = (1/n) · |{ q : l = argmax_l′ s(q,l′) }|
/// s(q,l) = (1/T) · Σₜ log p(yₜ | x, y₁ … yₜ₋₁)
/// ```
///
/// Source: Shahriar et al., 2024, arXiv:2410.19206, Eq. 4. `x` is the query, `y` its response at
/// level `l` with `T` tokens. A tie goes to the level listed first. The other kinds of score are
/// the sum, the sum over bytes instead of tokens, and the mean freed of what a regression lays on
/// the length, as length-controlled `AlpacaEval` does (arXiv:2404.04475).
///
/// The 95 % intervals are percentiles of a bootstrap over the records, counted out over all
/// resamples instead of drawn; where no record or every record is at a level, which a bootstrap
/// can't tell from certainty, they are Wilson's. Without records all shares and
/// means are 0, and all intervals go from 0 to 1.
///
/// A score that is not a number wins over none; callers should treat it as a failure of the model.
///
/// # Panics
///
/// If an item has not one response for each of the levels.
pub fn dataset_scores(
    file: &str,
    measure: MeasureName,
    levels: &[String],
    items: &[ScoredItem<'_>],
    skipped: Vec<DataProblem>,
    keep_records: bool,
) -> DatasetScores {
    let scored = scored(items, levels.len());
    let [by_mean, others @ ..] = ScoreKind::ALL.map(|kind| preferred(&scored, kind));
    let all_kinds_agree = |i: &usize| others.iter().all(|by_kind| by_kind[*i] == by_mean[*i]);
    let other_kinds = ScoreKind::ALL[1..].iter().copied();
    let n = items.len();
    DatasetScores {
        file: file.to_owned(),
        measure,
        n,
        preference_accuracy: shares(levels, &by_mean),
        intervals: intervals(levels, &by_mean),
        other_kinds: other_kinds.zip(others.iter().map(|it| shares(levels, it))).collect(),
        disagreements: n - (0..n).filter(all_kinds_agree).count(),
        length_only: length::length_only(levels, &scored, &by_mean),
        mean_log_prob: mean_log_prob(levels, &scored),
        prompt_tokens: mean(items.iter().map(|item| f64::from(item.prompt_tokens))),
        skipped,
        records: if keep_records { records(levels, items, &scored, &by_mean) } else { Vec::new() },
        preferred: by_mean.into_iter().map(|place| place as u8).collect(),
    }
}

fn scored(items: &[ScoredItem<'_>], n_levels: usize) -> Vec<Vec<ResponseScores>> {
    let of_item = |item: &ScoredItem<'_>| -> Vec<ResponseScores> {
        assert_eq!(item.responses.len(), n_levels, "responses of {:?} for the levels", item.id);
        item.responses.iter().copied().map(ScoredResponse::scores).collect()
    };
    let mut scored = items.iter().map(of_item).collect::<Vec<_>>();
    length::adjust(&mut scored);
    scored
}

fn intervals(levels: &[String], places: &[usize]) -> IndexMap<String, [f64; 2]> {
    let interval = |count| share_interval(count, places.len());
    levels.iter().cloned().zip(counts(places, levels.len()).into_iter().map(interval)).collect()
}

fn mean_log_prob(levels: &[String], scored: &[Vec<ResponseScores>]) -> Shares {
    let of_level = |place: usize| mean(scored.iter().map(|record| record[place].mean_log_prob));
    levels.iter().enumerate().map(|(place, level)| (level.clone(), of_level(place))).collect()
}

/// 0 of nothing.
fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = values.len().max(1) as f64;
    values.sum::<f64>() / n + 0.0
}

fn records(
    levels: &[String],
    items: &[ScoredItem<'_>],
    scored: &[Vec<ResponseScores>],
    preferred: &[usize],
) -> Vec<RecordScores> {
    let record =
        |((item, scores), place): ((&ScoredItem<'_>, &Vec<ResponseScores>), &usize)| RecordScores {
            id: item.id.to_owned(),
            preferred: levels[*place].clone(),
            scores: levels.iter().cloned().zip(scores.iter().copied()).collect(),
        };
    items.iter().zip(scored).zip(preferred).map(record).collect()
}

#[cfg(test)]
mod tests {
    use meav_protocol::LengthOnly;
    use proptest::prelude::*;

    use super::*;
    use crate::RawScore;

    fn levels() -> Vec<String> {
        ["expert", "generic", "avoidance"].map(str::to_owned).into()
    }

    /// Sum of log-probabilities, tokens, bytes.
    type Response = (f64, u32, usize);

    fn item<'a>(id: &'a str, prompt_tokens: u32, responses: &[Response]) -> ScoredItem<'a> {
        let response = |(sum_log_prob, tokens, bytes): &Response| ScoredResponse {
            raw: RawScore { sum_log_prob: *sum_log_prob, tokens: *tokens },
            bytes: *bytes,
        };
        ScoredItem { id, prompt_tokens, responses: responses.iter().map(response).collect() }
    }

    fn values<T: Clone>(of: &IndexMap<String, T>) -> Vec<T> {
        assert_eq!(of.keys().cloned().collect::<Vec<_>>(), levels());
        of.values().cloned().collect()
    }

    /// Means of −2, −3, −4 and −2.5, −2.5, −3; sums of −40, −15, −8 and −25, −50, −6; by byte
    /// −0.5, −0.3, −0.4 and −0.25, −0.5, −0.1.
    fn two_items() -> [ScoredItem<'static>; 2] {
        [
            item("a", 40, &[(-40.0, 20, 80), (-15.0, 5, 50), (-8.0, 2, 20)]),
            item("line-2", 43, &[(-25.0, 10, 100), (-50.0, 20, 100), (-6.0, 2, 60)]),
        ]
    }

    #[test]
    fn kinds_of_score_prefer_what_they_prefer() {
        let skipped =
            vec![DataProblem { line: 3, id: None, reason: "the response is empty".to_owned() }];
        let levels = levels();
        let scores = dataset_scores(
            "medical.test.jsonl",
            MeasureName::Levels,
            &levels,
            &two_items(),
            skipped.clone(),
            true,
        );
        assert_eq!((scores.file.as_str(), scores.n), ("medical.test.jsonl", 2));
        assert_eq!(values(&scores.preference_accuracy), [1.0, 0.0, 0.0]);
        assert_eq!(scores.preferred, [0, 0]);
        assert_eq!(values(&scores.other_kinds[&ScoreKind::SumLogProb]), [0.0, 0.0, 1.0]);
        assert_eq!(values(&scores.other_kinds[&ScoreKind::PerByteLogProb]), [0.0, 0.5, 0.5]);
        assert_eq!(scores.other_kinds.len(), 3);
        assert_eq!(scores.disagreements, 2);
        assert_eq!(values(&scores.mean_log_prob), [-2.25, -2.75, -3.5]);
        assert_eq!(values(&scores.length_only.longest), [0.5, 0.5, 0.0]);
        assert!((scores.length_only.agreement - 0.5).abs() < 1e-15);
        assert!((scores.prompt_tokens - 41.5).abs() < 1e-15);
        assert_eq!(scores.skipped, skipped);
        let [a, b] = scores.records.as_slice() else { panic!("{:?}", scores.records) };
        assert_eq!((a.id.as_str(), b.id.as_str(), b.preferred.as_str()), ("a", "line-2", "expert"));
        let generic = a.scores["generic"];
        assert_eq!((generic.sum_log_prob, generic.tokens), (-15.0, 5));
        assert_eq!((generic.mean_log_prob, generic.per_byte_log_prob), (-3.0, -0.3));
    }

    #[test]
    fn no_record_gives_numbers_all_the_same() {
        let scores =
            dataset_scores("empty.jsonl", MeasureName::Levels, &levels(), &[], vec![], true);
        assert_eq!(values(&scores.preference_accuracy), [0.0; 3]);
        assert_eq!(values(&scores.intervals), [[0.0, 1.0]; 3]);
        assert_eq!(values(&scores.mean_log_prob), [0.0; 3]);
        assert_eq!((scores.prompt_tokens, scores.length_only.agreement), (0.0, 0.0));
        assert!(scores.records.is_empty() && scores.preferred.is_empty());
    }

    fn any_items() -> impl Strategy<Value = Vec<ScoredItem<'static>>> {
        let response = (-900.0..0.0_f64, 1..400_u32, 1..900_usize);
        let responses = prop::collection::vec(response, 3);
        prop::collection::vec(responses.prop_map(|it| item("x", 9, &it)), 1..60)
    }

    proptest! {
        #[test]
        fn shares_sum_to_one_and_lie_in_their_intervals(
            items in any_items(),
            keep in any::<bool>(),
        ) {
            let scores =
                dataset_scores("x.jsonl", MeasureName::Levels, &levels(), &items, vec![], keep);
            let LengthOnly { longest, shortest, .. } = &scores.length_only;
            let all = scores.other_kinds.values().chain([longest, shortest]);
            for shares in all.chain([&scores.preference_accuracy]) {
                prop_assert!((shares.values().sum::<f64>() - 1.0).abs() < 1e-12);
            }
            for (level, [lower, upper]) in &scores.intervals {
                let share = scores.preference_accuracy[level];
                prop_assert!(*lower <= share && share <= *upper);
            }
            prop_assert!(scores.disagreements <= items.len());
            prop_assert_eq!(scores.records.len(), if keep { items.len() } else { 0 });
            let again =
                dataset_scores("x.jsonl", MeasureName::Levels, &levels(), &items, vec![], keep);
            prop_assert_eq!(again, scores);
        }
    }
}
