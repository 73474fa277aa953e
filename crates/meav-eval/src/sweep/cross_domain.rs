use meav_protocol::{
    CrossColumn, CrossDomain, DatasetScores, MeasureName, Movement, Sweep, SweptData,
};

use crate::bootstrap::mean_interval;

/// Beyond, curves bend: preference accuracies end at 0 and 1. The rest is for rounding.
const MAX_LAMBDA: f64 = 1.0 + 1e-9;

/// How far one unit of each vector moves each level of each data set.
///
/// ```text
/// slope = Σₖ (λₖ − λ̄)·aₖ / Σₖ (λₖ − λ̄)²
///       = (1/n) · Σ_q bq,   bq = Σₖ (λₖ − λ̄)·[q is at the level at λₖ] / Σₖ (λₖ − λ̄)²
/// ```
///
/// `aₖ` is the preference accuracy at `λₖ`, from −1 to 1: the slope is that of the straight line
/// through the measured points by least squares, as share per unit of λ. It is a mean over queries
/// `q`, each with its own slope, whose bootstrap draws the same queries at every λ. Where all
/// queries have the same slope a bootstrap says nothing: the interval is then what queries that
/// were not asked may still do, as Wilson's is for a share.
///
/// A row is a sweep: its vector's domain, with the file where two domains are alike. A column is a
/// level of a measure of a file, told from others by what is in it. A cell is `None` where the sweep
/// has not that data, or less than two different λ in the range, or other records at one λ than at
/// another.
pub fn cross_domain(sweeps: &[Sweep]) -> CrossDomain {
    let columns = columns(sweeps);
    let row = |sweep| columns.iter().map(|column| movement(sweep, column)).collect();
    let names = column_names(&columns);
    let column = |(column, data): (&Column<'_>, String)| CrossColumn {
        data,
        measure: column.data.measure,
        level: column.level.clone(),
    };
    CrossDomain {
        vectors: row_names(sweeps),
        cells: sweeps.iter().map(row).collect(),
        columns: columns.iter().zip(names).map(column).collect(),
    }
}

/// A level of the first data set with these contents.
struct Column<'a> {
    data: &'a SweptData,
    level: &'a String,
}

impl Column<'_> {
    fn contents(&self) -> (&str, MeasureName) {
        contents(self.data)
    }
}

fn contents(data: &SweptData) -> (&str, MeasureName) {
    (&data.fingerprint, data.measure)
}

fn columns(sweeps: &[Sweep]) -> Vec<Column<'_>> {
    let mut columns: Vec<Column<'_>> = Vec::new();
    for data in sweeps.iter().flat_map(|sweep| &sweep.datasets) {
        if columns.iter().all(|column| column.contents() != contents(data)) {
            columns.extend(data.levels.iter().map(|level| Column { data, level }));
        }
    }
    columns
}

fn movement(sweep: &Sweep, column: &Column<'_>) -> Option<Movement> {
    let is_it = |data: &SweptData| contents(data) == column.contents();
    let place = sweep.datasets.iter().position(is_it)?;
    let level = sweep.datasets[place].levels.iter().position(|level| level == column.level)?;
    let points: Vec<(f64, &DatasetScores)> = sweep
        .points
        .iter()
        .filter(|point| point.lambda.abs() <= MAX_LAMBDA)
        .filter_map(|point| Some((point.lambda, point.datasets.get(place)?)))
        .collect();
    let weights = slope_weights(&points.iter().map(|(lambda, _)| *lambda).collect::<Vec<_>>())?;
    let slopes = record_slopes(&points, &weights, level)?;
    let bound = |sign: f64| sign * weights.iter().map(|it| (sign * it).max(0.0)).sum::<f64>();
    Some(Movement {
        per_unit: slopes.iter().sum::<f64>() / slopes.len() as f64,
        interval: mean_interval(&slopes, [bound(-1.0), bound(1.0)]),
    })
}

/// `(λₖ − λ̄) / Σ (λₖ − λ̄)²`; `None` without two different λ.
fn slope_weights(lambdas: &[f64]) -> Option<Vec<f64>> {
    let mean = lambdas.iter().sum::<f64>() / lambdas.len() as f64;
    let squares = lambdas.iter().map(|lambda| (lambda - mean).powi(2)).sum::<f64>();
    (squares > 1e-18).then(|| lambdas.iter().map(|lambda| (lambda - mean) / squares).collect())
}

/// `bq` of each record; `None` without records, or where points have different ones.
fn record_slopes(
    points: &[(f64, &DatasetScores)],
    weights: &[f64],
    level: usize,
) -> Option<Vec<f64>> {
    let n = points.first()?.1.preferred.len();
    if n == 0 || points.iter().any(|(_, scores)| scores.preferred.len() != n) {
        return None;
    }
    let mut slopes = vec![0.0; n];
    for ((_, scores), weight) in points.iter().zip(weights) {
        for (slope, preferred) in slopes.iter_mut().zip(&scores.preferred) {
            if usize::from(*preferred) == level {
                *slope += weight;
            }
        }
    }
    Some(slopes)
}

fn row_names(sweeps: &[Sweep]) -> Vec<String> {
    let names = |sweep: &Sweep| {
        let term = &sweep.vector;
        let file = term.file.file_name().unwrap_or_default().to_string_lossy();
        // A vector that was measured beside others is not the vector alone.
        let held: Vec<String> =
            sweep.held.iter().map(|it| format!(" + {} at {}", it.domain, it.coefficient)).collect();
        let held = held.concat();
        let with = |more: &dyn std::fmt::Display| format!("{}{held} ({more})", term.domain);
        [
            format!("{}{held}", term.domain),
            with(&file),
            with(&term.file.display()),
            with(&format_args!("{}, {}", term.file.display(), sweep.started)),
        ]
    };
    let all: Vec<_> = sweeps.iter().map(names).collect();
    let name = |row: &[String; 4]| {
        let is_alone = |k: &usize| all.iter().filter(|other| other[*k] == row[*k]).count() == 1;
        row[(0..3).find(is_alone).unwrap_or(3)].clone()
    };
    all.iter().map(name).collect()
}

/// The files' names; their paths where two different files have the same name.
fn column_names(columns: &[Column<'_>]) -> Vec<String> {
    let name = |column: &Column<'_>| {
        let SweptData { name, fingerprint, file, .. } = column.data;
        let is_other =
            |other: &Column<'_>| other.data.name == *name && other.data.fingerprint != *fingerprint;
        if columns.iter().any(is_other) { file.display().to_string() } else { name.clone() }
    };
    columns.iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use meav_protocol::StampTerm;

    use super::*;
    use crate::test_sweep::{Data, sweep};

    const LAMBDAS: [f64; 3] = [-1.0, 0.0, 1.0];

    fn medical() -> Data {
        Data::levels("medical.x", &[&[1, 1, 1, 1], &[0, 1, 1, 1], &[0, 0, 0, 1]])
    }

    fn cell(lambdas: &[f64], preferred: &[&[u8]]) -> Option<Movement> {
        let data = Data::levels("medical.x", preferred);
        cross_domain(&[sweep("medical", lambdas, &[data])]).cells[0][0]
    }

    #[test]
    fn slope_is_that_of_the_line_through_all_points() {
        let at = |lambdas: &[f64], preferred: &[&[u8]]| cell(lambdas, preferred).unwrap().per_unit;
        // Shares 0, 0.25 and 0.75: (0.75 − 0) / 2 per unit.
        let three: [&[u8]; 3] = [&[1, 1, 1, 1], &[0, 1, 1, 1], &[0, 0, 0, 1]];
        assert!((at(&LAMBDAS, &three) - 0.375).abs() < 1e-15);
        // Shares 1, 0.5 and 0 at 0, 0.25 and 0.5: −2 per unit.
        let falling: [&[u8]; 3] = [&[0, 0], &[1, 0], &[1, 1]];
        assert!((at(&[0.0, 0.25, 0.5], &falling) + 2.0).abs() < 1e-14);
        // What lies beyond 1 takes no part: shares 0.5 and 1 at 0 and 1.
        let bent: [&[u8]; 4] = [&[0, 0], &[0, 1], &[0, 0], &[1, 1]];
        assert!((at(&[-1.5, 0.0, 1.0, 1.5], &bent) - 0.5).abs() < 1e-15);
        // By `np.polyfit([-1, -0.4, 0.2, 0.9], [0.0, 0.5, 0.25, 1.0], 1)[0]`.
        let uneven: [&[u8]; 4] = [&[1, 1, 1, 1], &[0, 1, 0, 1], &[1, 1, 0, 1], &[0, 0, 0, 0]];
        assert!((at(&[-1.0, -0.4, 0.2, 0.9], &uneven) - 0.443_396_226_415_094_3).abs() < 1e-12);
    }

    #[test]
    fn interval_pairs_records_over_all_lambdas() {
        // A third of the records goes from generic to expert, and back: 100 each way.
        let places = |flipped: u8| -> Vec<u8> {
            (0..300).map(|i: u16| if i.is_multiple_of(3) { flipped } else { 1 }).collect()
        };
        let (before, after) = (places(1), places(0));
        let found = cell(&[-1.0, 1.0], &[&before, &after]).unwrap();
        assert!((found.per_unit - 1.0 / 6.0).abs() < 1e-12);
        // Slopes of 0 and 0.5, a third of the latter: ± 1.96 · 0.5 · √(⅓ · ⅔ / 300).
        let half_width = 0.0267;
        for (limit, sign) in std::iter::zip(found.interval, [-1.0, 1.0]) {
            let expected = 1.0 / 6.0 + sign * half_width;
            assert!((limit - expected).abs() < 0.005, "{:?}", found.interval);
        }
        // Half of the records is expert at both ends: no record moves, however much they differ.
        let still: Vec<u8> = (0..300).map(|i: u16| (i % 2) as u8).collect();
        let found = cell(&[-1.0, 1.0], &[&still, &still]).unwrap();
        let [lower, upper] = found.interval;
        assert!(found.per_unit.abs() < 1e-15);
        // 3.84 / 303.84 of queries not asked may go all the way, half a share per unit.
        assert!((upper - 0.006_321).abs() < 1e-5 && (lower + upper).abs() < 1e-12, "{upper}");
    }

    #[test]
    fn columns_are_told_apart_by_contents() {
        let general = Data {
            name: "general.jsonl",
            domain: None,
            measure: MeasureName::Safety,
            preferred: vec![vec![0, 1]; 3],
        };
        let legal = || Data::levels("legal.x", &[&[0], &[0], &[0]]);
        let mut sweeps = [
            sweep("medical", &LAMBDAS, &[medical(), legal()]),
            sweep("legal", &LAMBDAS, &[legal(), general]),
        ];
        sweeps[1].datasets[0].name = "renamed.jsonl".to_owned();
        let found = cross_domain(&sweeps);
        assert_eq!(found.vectors, ["medical", "legal"]);
        let columns: Vec<_> = found
            .columns
            .iter()
            .map(|it| format!("{} {} {}", it.data, it.measure, it.level))
            .collect();
        let expected = [
            "medical.x levels expert",
            "medical.x levels generic",
            "medical.x levels avoidance",
            "legal.x levels expert",
            "legal.x levels generic",
            "legal.x levels avoidance",
            "general.jsonl safety safe",
            "general.jsonl safety unsafe",
        ];
        assert_eq!(columns, expected);
        let is_measured = |row: &Vec<Option<Movement>>| -> Vec<bool> {
            row.iter().map(Option::is_some).collect()
        };
        let (yes, no) = (true, false);
        assert_eq!(is_measured(&found.cells[0]), [yes, yes, yes, yes, yes, yes, no, no]);
        assert_eq!(is_measured(&found.cells[1]), [no, no, no, yes, yes, yes, yes, yes]);
        assert_eq!(cross_domain(&sweeps), found);
    }

    #[test]
    fn cell_stays_empty_without_two_points_on_the_same_records() {
        let one: &[u8] = &[0, 1];
        assert!(cell(&[0.0, 1.0], &[one, one]).is_some());
        assert_eq!(cell(&[0.0], &[one]), None);
        assert_eq!(cell(&[0.0, 0.0], &[one, one]), None);
        assert_eq!(cell(&[0.0, 1.5], &[one, one]), None);
        assert_eq!(cell(&[0.0, 1.0], &[one, &[0]]), None);
        assert_eq!(cell(&[0.0, 1.0], &[&[], &[]]), None);
    }

    #[test]
    fn vector_that_was_measured_beside_others_says_so() {
        let mut sweeps = ["medical", "medical"].map(|it| sweep(it, &LAMBDAS, &[medical()]));
        sweeps[1].held = vec![StampTerm { coefficient: -0.7, ..sweeps[0].vector.clone() }];
        assert_eq!(cross_domain(&sweeps).vectors, ["medical", "medical + medical at -0.7"]);
    }

    #[test]
    fn names_that_are_alike_get_their_file() {
        let mut sweeps =
            ["medical", "legal", "medical"].map(|it| sweep(it, &LAMBDAS, &[medical()]));
        sweeps[2].vector.file = "other/medical-2.safetensors".into();
        let legal = || "legal".to_owned();
        let expected =
            |a: &str, b: &str| [format!("medical ({a})"), legal(), format!("medical ({b})")];
        let names = |sweeps: &[Sweep]| cross_domain(sweeps).vectors;
        assert_eq!(names(&sweeps), expected("medical.safetensors", "medical-2.safetensors"));
        sweeps[2].vector.file = "other/medical.safetensors".into();
        let paths = ["vectors/medical.safetensors", "other/medical.safetensors"];
        assert_eq!(names(&sweeps), expected(paths[0], paths[1]));
        sweeps[2].vector.file = sweeps[0].vector.file.clone();
        sweeps[2].started = "2026-11-06T12:00:00Z".to_owned();
        let dated =
            ["2026-11-05", "2026-11-06"].map(|day| format!("{}, {day}T12:00:00Z", paths[0]));
        assert_eq!(names(&sweeps), expected(&dated[0], &dated[1]));
        sweeps[1].datasets[0].fingerprint = "blake3:changed".to_owned();
        sweeps[1].datasets[0].file = "elsewhere/medical.x".into();
        let found = cross_domain(&sweeps);
        assert_eq!(
            (found.columns[0].data.as_str(), found.columns[3].data.as_str()),
            ("data/medical.x", "elsewhere/medical.x")
        );
    }
}
