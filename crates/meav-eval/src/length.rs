//! What the length of a response has to do with it.

use meav_protocol::{LengthOnly, ResponseScores};

use crate::preference::{highest, shares};

/// Frees the mean log-probabilities of what a regression lays on the length.
///
/// ```text
/// s(q,l) = ψ(q) + θ(l) + φ·z(q,l) + ε(q,l)
/// adjusted(q,l) = s(q,l) − φ·z(q,l)
/// ```
///
/// `s` is the mean log-probability of query `q`'s response at level `l` in nats per token, `ψ` what
/// is due to the query, `θ` what is due to the level, and `z` the number of the response's tokens,
/// less its mean and divided by its standard deviation over all responses of the data set. `φ`, in
/// nats per token for one standard deviation, is fitted by least squares. The adjusted score is
/// therefore what the regression expects of a response of average length.
///
/// The idea, a regression whose length term is then set to 0, is that of length-controlled
/// `AlpacaEval` (Dubois et al., 2024, arXiv:2404.04475), which fits wins of one model
/// over another (a logistic regression on the tanh of a difference of lengths); here it is a score
/// that is fitted, so the regression is linear. Length is counted in tokens, since the mean is one
/// over tokens: its bias to long answers comes from their many easy tokens.
///
/// All records have all levels, so both effects are taken off by subtracting the means of rows and
/// columns, and one slope is left. Without any variance of `z` there (one level, one record, or
/// lengths that are a sum of a query's and a level's) `φ` is 0. Records with a score that is not
/// finite take no part in the fit.
pub(crate) fn adjust(records: &mut [Vec<ResponseScores>]) {
    let lengths = standardised_lengths(records);
    let slope = length_slope(records, &lengths);
    for (record, lengths) in records.iter_mut().zip(&lengths) {
        for (scores, length) in record.iter_mut().zip(lengths) {
            scores.length_adjusted = scores.mean_log_prob - slope * length;
        }
    }
}

/// `z` of each response; 0 where all are equally long.
fn standardised_lengths(records: &[Vec<ResponseScores>]) -> Vec<Vec<f64>> {
    let lengths = || records.iter().flatten().map(|scores| scores.tokens as f64);
    let n = lengths().count().max(1) as f64;
    let mean = lengths().sum::<f64>() / n;
    let variance = lengths().map(|length| (length - mean).powi(2)).sum::<f64>() / n;
    let scale = if variance > 0.0 { variance.sqrt().recip() } else { 0.0 };
    let of_record = |record: &Vec<ResponseScores>| {
        record.iter().map(|scores| (scores.tokens as f64 - mean) * scale).collect()
    };
    records.iter().map(of_record).collect()
}

/// `φ`.
fn length_slope(records: &[Vec<ResponseScores>], lengths: &[Vec<f64>]) -> f64 {
    let scores_of = |record: &Vec<ResponseScores>| -> Vec<f64> {
        record.iter().map(|scores| scores.mean_log_prob).collect()
    };
    let (scores, lengths): (Vec<_>, Vec<_>) = records
        .iter()
        .map(scores_of)
        .zip(lengths.iter().cloned())
        .filter(|(scores, _)| scores.iter().all(|score| score.is_finite()))
        .unzip();
    let (scores, lengths) = (without_effects(scores), without_effects(lengths));
    let variance: f64 = lengths.iter().map(|length| length * length).sum();
    let covariance: f64 = scores.iter().zip(&lengths).map(|(score, length)| score * length).sum();
    // What rounding leaves of lengths that both effects explain in full.
    if variance <= 1e-12 * lengths.len() as f64 { 0.0 } else { covariance / variance }
}

/// The values less the mean of their row and that of their column, plus the mean of all; row by
/// row. All rows are equally long.
fn without_effects(mut rows: Vec<Vec<f64>>) -> Vec<f64> {
    for row in &mut rows {
        let mean = row.iter().sum::<f64>() / row.len() as f64;
        for value in row {
            *value -= mean;
        }
    }
    // The means of the columns are of rows whose mean is 0 by now, so that nothing is left to add.
    for column in 0..rows.first().map_or(0, Vec::len) {
        let mean = rows.iter().map(|row| row[column]).sum::<f64>() / rows.len() as f64;
        for row in &mut rows {
            row[column] -= mean;
        }
    }
    rows.concat()
}

/// What a judge would say who counts tokens and reads nothing, and how often the model says the
/// same as the one who takes the longest. Of equally long responses both take the level listed
/// first.
pub(crate) fn length_only(
    levels: &[String],
    records: &[Vec<ResponseScores>],
    preferred: &[usize],
) -> LengthOnly {
    let extreme = |sign: f64| -> Vec<usize> {
        let signed = |scores: &ResponseScores| sign * scores.tokens as f64;
        records.iter().map(|record| highest(record.iter().map(signed))).collect()
    };
    let (longest, shortest) = (extreme(1.0), extreme(-1.0));
    let n_agreed = longest.iter().zip(preferred).filter(|(a, b)| a == b).count();
    LengthOnly {
        longest: shares(levels, &longest),
        shortest: shares(levels, &shortest),
        agreement: n_agreed as f64 / records.len().max(1) as f64,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(scores: &[f64], tokens: &[usize]) -> Vec<ResponseScores> {
        let of = |(mean_log_prob, tokens): (&f64, &usize)| ResponseScores {
            mean_log_prob: *mean_log_prob,
            sum_log_prob: mean_log_prob * *tokens as f64,
            per_byte_log_prob: mean_log_prob / 4.0,
            length_adjusted: f64::NAN,
            tokens: *tokens,
        };
        scores.iter().zip(tokens).map(of).collect()
    }

    fn adjusted(mut records: Vec<Vec<ResponseScores>>) -> Vec<f64> {
        adjust(&mut records);
        records.iter().flatten().map(|scores| scores.length_adjusted).collect()
    }

    fn assert_close(found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        for (a, b) in found.iter().zip(expected) {
            assert!((a - b).abs() < 1e-12, "{found:?} is not {expected:?}");
        }
    }

    /// Scores that are −3 or −1 by query, plus 0 or 0.5 by level, plus 0.1 for each token: without
    /// the last, but for 0.1 · 2.5 of average length, they are −2.75, −2.25, −0.75, −0.25.
    #[test]
    fn what_length_adds_is_taken_off() {
        let records = vec![record(&[-2.9, -2.3], &[1, 2]), record(&[-0.8, 0.0], &[2, 5])];
        assert_close(&adjusted(records), &[-2.75, -2.25, -0.75, -0.25]);
    }

    fn noisy() -> Vec<Vec<ResponseScores>> {
        vec![
            record(&[-2.1, -1.7, -3.0], &[12, 30, 7]),
            record(&[-1.9, -1.2, -2.8], &[25, 41, 9]),
            record(&[-2.4, -2.2, -1.9], &[18, 22, 30]),
            record(&[-2.6, -0.8, -2.7], &[9, 60, 11]),
        ]
    }

    /// By dense least squares over a column for each query, each level, and the length:
    ///
    /// ```text
    /// z = (tokens - tokens.mean()) / tokens.std()
    /// X = np.zeros((n * m, n + m + 1))
    /// for q in range(n):
    ///     for l in range(m):
    ///         X[q * m + l, [q, n + l]] = 1
    ///         X[q * m + l, -1] = z[q, l]
    /// phi = np.linalg.lstsq(X, score.ravel(), rcond=None)[0][-1]  # 0.5991076255605947
    /// score - phi * z
    /// ```
    #[test]
    fn adjusted_scores_are_those_of_a_dense_regression() {
        let records = noisy();
        let slope = length_slope(&records, &standardised_lengths(&records));
        assert_close(&[slope], &[0.599_107_625_560_594_7]);
        let expected = [
            [-1.669_983_818_770_226_5, -1.984_472_242_967_388_7, -2.371_514_812_048_792_6],
            [-1.986_003_236_245_954_8, -1.921_104_057_754_543_5, -2.250_902_414_737_365_7],
            [-2.208_146_626_835_947_3, -2.166_921_832_213_094_8, -2.184_472_242_967_389],
            [-2.050_902_414_737_366, -2.275_286_283_295_993, -2.230_290_017_425_94],
        ];
        assert_close(&adjusted(records), expected.as_flattened());
    }

    #[test]
    fn nothing_is_taken_off_where_length_explains_nothing() {
        for (name, records) in [
            ("no record", vec![]),
            ("one record", vec![record(&[-2.0, -1.0, -4.0], &[3, 70, 9])]),
            ("one level", vec![record(&[-2.0], &[3]), record(&[-1.0], &[30])]),
            ("equal lengths", vec![record(&[-2.0, -1.0], &[5, 5]), record(&[-3.0, -7.0], &[5, 5])]),
            // 10, 200 and 3000 tokens by query, and 7 more at the second level.
            (
                "lengths that are sums",
                vec![
                    record(&[-2.0, -1.0], &[10, 17]),
                    record(&[-3.0, -7.0], &[200, 207]),
                    record(&[-1.0, -4.0], &[3000, 3007]),
                ],
            ),
        ] {
            let means: Vec<_> = records.iter().flatten().map(|it| it.mean_log_prob).collect();
            assert_eq!(adjusted(records), means, "{name}");
        }
    }

    #[test]
    fn record_without_a_score_spoils_no_other() {
        let mut records = noisy();
        records.push(record(&[-2.0, f64::NAN, -1.0], &[20, 20, 20]));
        records.push(record(&[f64::NEG_INFINITY, -1.0, -1.0], &[20, 20, 20]));
        let slope = |records: &[Vec<ResponseScores>]| {
            let tokens: Vec<_> = records
                .iter()
                .map(|record| record.iter().map(|it| it.tokens as f64).collect())
                .collect();
            length_slope(records, &tokens)
        };
        assert_close(&[slope(&records)], &[slope(&noisy())]);
        assert!(adjusted(records)[..12].iter().all(|score| score.is_finite()));
    }

    #[test]
    fn judge_of_length_counts_tokens() {
        let levels = ["expert", "generic", "avoidance"].map(str::to_owned);
        let preferred = [1, 0, 2, 0];
        let LengthOnly { longest, shortest, agreement } =
            length_only(&levels, &noisy(), &preferred);
        assert_eq!(longest.into_values().collect::<Vec<_>>(), [0.0, 0.75, 0.25]);
        assert_eq!(shortest.into_values().collect::<Vec<_>>(), [0.5, 0.0, 0.5]);
        assert!((agreement - 0.5).abs() < 1e-15);
        let equal = [record(&[-2.0, -1.0, -3.0], &[5, 5, 5])];
        let LengthOnly { longest, shortest, agreement } = length_only(&levels, &equal, &[0]);
        assert_eq!((longest["expert"], shortest["expert"], agreement), (1.0, 1.0, 1.0));
    }

    fn any_records() -> impl Strategy<Value = Vec<Vec<ResponseScores>>> {
        let response = (-9.0..0.0_f64, 1..400_usize);
        (1..5_usize).prop_flat_map(move |n_levels| {
            let record = prop::collection::vec(response.clone(), n_levels)
                .prop_map(|it| it.into_iter().unzip::<_, _, Vec<_>, Vec<_>>())
                .prop_map(|(scores, tokens)| record(&scores, &tokens));
            prop::collection::vec(record, 0..20)
        })
    }

    proptest! {
        #[test]
        fn adjusting_twice_changes_nothing_more(mut records in any_records()) {
            adjust(&mut records);
            let once = records.clone();
            for scores in records.iter_mut().flatten() {
                scores.mean_log_prob = scores.length_adjusted;
            }
            adjust(&mut records);
            for (a, b) in records.iter().flatten().zip(once.iter().flatten()) {
                prop_assert!((a.length_adjusted - b.length_adjusted).abs() < 1e-9);
            }
        }
    }
}
