//! How preferences move with λ.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{DatasetScores, Dtype, MeasureName, Prompting, PromptingScores, Setup, StampTerm};

/// One vector over a range of λ.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SweepSpec {
    /// Names the run. One of an earlier run goes on with it.
    pub run: Uuid,
    /// The model and all vectors, in the order of the sum.
    pub setup: Setup,
    /// Which of the vectors is swept: its λ is not looked at, the others keep theirs.
    pub swept: usize,
    /// Where.
    pub range: LambdaRange,
    /// Files of preference records.
    pub data: Vec<PathBuf>,
    /// Also with instructions instead of vectors, as baselines.
    pub prompting: Option<Prompting>,
    /// Whether what earlier runs measured under the same recipe on the same texts is taken over.
    pub reuse: bool,
}

/// Even steps of λ, both ends among them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LambdaRange {
    /// The lower end.
    pub first: f64,
    /// The upper end.
    pub last: f64,
    /// Above 0.
    pub step: f64,
}

impl Default for LambdaRange {
    /// The paper's.
    fn default() -> Self {
        Self { first: -1.5, last: 1.5, step: 0.1 }
    }
}

impl LambdaRange {
    /// The most steps that a range may have.
    pub const MAX_POINTS: usize = 10_001;

    /// Each λ from the lower end to the upper, freed of the noise of adding; the upper end is among
    /// them also where the steps miss it. Empty for what is no range.
    pub fn points(&self) -> Vec<f64> {
        let Self { first, last, step } = *self;
        let steps = (last - first) / step;
        let is_range = step > 0.0 && (0.0..Self::MAX_POINTS as f64).contains(&steps);
        if !is_range {
            return Vec::new();
        }
        let tidy = |value: f64| (value * 1e9).round() / 1e9 + 0.0;
        let mut points: Vec<f64> =
            (0..=(steps + 1e-6) as usize).map(|i| tidy(first + i as f64 * step)).collect();
        if points.last().is_some_and(|it| last - it > 1e-6 * step) {
            points.push(tidy(last));
        }
        points
    }
}

impl fmt::Display for LambdaRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.first, self.last, self.step)
    }
}

/// What is no range of λ.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no range of λ: write FIRST:LAST:STEP, e.g. -1.5:1.5:0.1")]
pub struct ParseRangeError(String);

impl FromStr for LambdaRange {
    type Err = ParseRangeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let numbers: Option<Vec<f64>> =
            text.split(':').map(|number| number.trim().parse().ok()).collect();
        match numbers.as_deref() {
            Some([first, last, step]) => {
                let range = Self { first: *first, last: *last, step: *step };
                if range.points().is_empty() {
                    return Err(ParseRangeError(text.to_owned()));
                }
                Ok(range)
            }
            _ => Err(ParseRangeError(text.to_owned())),
        }
    }
}

/// A sweep as far as it has come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sweep {
    /// What was asked for.
    pub spec: SweepSpec,
    /// When it began, RFC 3339.
    pub started: String,
    /// How far it is.
    pub state: RunState,
    /// The base model's name.
    pub model: String,
    /// `blake3:` of the base model's tensors.
    pub base: String,
    /// The vector that is swept; its λ says nothing.
    pub vector: StampTerm,
    /// Whether the vector was made from this base; `None` if it does not say.
    pub base_matches: Option<bool>,
    /// The others.
    pub held: Vec<StampTerm>,
    /// Each file, and each measure of it, in the order of the points' data sets.
    pub datasets: Vec<SweptData>,
    /// What has been measured, the lowest λ first.
    pub points: Vec<SweepPoint>,
    /// With instructions, on the base model.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prompting: Vec<PromptingScores>,
    /// How long it has computed so far.
    pub elapsed_secs: f64,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// It computes, or did when its engine ended.
    Running,
    /// It was cancelled or failed; it can go on.
    Stopped,
    /// It has come to its end.
    Finished,
}

/// Data of a sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SweptData {
    /// The file, as it was asked for.
    pub file: PathBuf,
    /// The file's name.
    pub name: String,
    /// `blake3:` of its bytes.
    pub fingerprint: String,
    /// What is measured.
    pub measure: MeasureName,
    /// The levels; a tie goes to the one listed first.
    pub levels: Vec<String>,
    /// The preference dimension, where all records have the same one.
    pub domain: Option<String>,
    /// Records.
    pub n: usize,
}

/// One λ of a sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SweepPoint {
    /// λ.
    pub lambda: f64,
    /// `blake3:` of the recipe.
    pub recipe: String,
    /// Each file and measure, without records.
    pub datasets: Vec<DatasetScores>,
}

/// A sweep in a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SweepSummary {
    /// The run.
    pub run: Uuid,
    /// When it began, RFC 3339.
    pub started: String,
    /// How far it is.
    pub state: RunState,
    /// The base model's name.
    pub model: String,
    /// The domain of the vector that is swept.
    pub domain: String,
    /// Where.
    pub range: LambdaRange,
    /// Names of the data files.
    pub data: Vec<String>,
    /// Points that are measured.
    pub points: usize,
}

/// Where a vector leads to which level.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// The sweep that it comes from.
    pub run: Uuid,
    /// When, RFC 3339.
    pub created: String,
    /// The base model's name.
    pub model: String,
    /// `blake3:` of the base model's tensors.
    pub base: String,
    /// What the weights were rounded to.
    pub dtype: Dtype,
    /// The name of the data file.
    pub data: String,
    /// `blake3:` of its bytes.
    pub data_fingerprint: String,
    /// What was measured.
    pub measure: MeasureName,
    /// Records.
    pub n: usize,
    /// The levels.
    pub levels: Vec<String>,
    /// What was measured, the lowest λ first.
    pub points: Vec<CalibrationPoint>,
    /// For each level the λ that leads to most of it; `None` where no λ leads to any.
    pub best: Vec<Option<f64>>,
}

/// One λ of a calibration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CalibrationPoint {
    /// λ.
    pub lambda: f64,
    /// The preference accuracy at each level.
    pub preference_accuracy: Vec<f64>,
}

impl Calibration {
    /// Whether one that comes from a file can be used: numbers that are numbers, λ in order, and a
    /// share for each level.
    pub fn is_sound(&self) -> bool {
        let is_share = |share: &f64| (0.0..=1.0).contains(share);
        let is_whole = |point: &CalibrationPoint| {
            let shares = &point.preference_accuracy;
            point.lambda.is_finite()
                && shares.len() == self.levels.len()
                && shares.iter().all(is_share)
        };
        let is_best = |best: &Option<f64>| best.is_none_or(f64::is_finite);
        self.levels.len() <= u8::MAX.into()
            && self.points.len() <= LambdaRange::MAX_POINTS
            && self.points.iter().all(is_whole)
            && self.points.is_sorted_by(|a, b| a.lambda < b.lambda)
            && self.best.len() == self.levels.len()
            && self.best.iter().all(is_best)
    }

    /// The lowest and the highest λ that was measured; `None` where nothing was.
    pub fn range(&self) -> Option<[f64; 2]> {
        Some([self.points.first()?.lambda, self.points.last()?.lambda])
    }

    /// The preference accuracy expected at each level, on the straight line between the measured
    /// points around λ; `None` outside of the range that was measured.
    pub fn shares_at(&self, lambda: f64) -> Option<Vec<f64>> {
        // A knob's λ is the sum of its steps.
        const SAME: f64 = 1e-9;
        let above = self.points.partition_point(|point| point.lambda < lambda - SAME);
        let upper = self.points.get(above)?;
        if (upper.lambda - lambda).abs() <= SAME {
            return Some(upper.preference_accuracy.clone());
        }
        let lower = self.points.get(above.checked_sub(1)?)?;
        let share = (lambda - lower.lambda) / (upper.lambda - lower.lambda);
        let between = |(a, b): (&f64, &f64)| a + share * (b - a);
        Some(
            lower.preference_accuracy.iter().zip(&upper.preference_accuracy).map(between).collect(),
        )
    }

    /// The place of the level that most of is expected at λ, of equal ones the first; `None` outside
    /// of the range that was measured.
    pub fn dominant_at(&self, lambda: f64) -> Option<usize> {
        let shares = self.shares_at(lambda)?;
        // The last of equal ones is kept: hence backwards.
        (0..shares.len()).rev().max_by(|a, b| shares[*a].total_cmp(&shares[*b]))
    }
}

/// How far one unit of each vector moves each level of each data set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CrossDomain {
    /// The vectors: a row each.
    pub vectors: Vec<String>,
    /// The levels of the data sets: a column each.
    pub columns: Vec<CrossColumn>,
    /// Row by row; `None` where a sweep lacks that data.
    pub cells: Vec<Vec<Option<Movement>>>,
}

/// A column of a [`CrossDomain`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrossColumn {
    /// The file's name.
    pub data: String,
    /// What is measured.
    pub measure: MeasureName,
    /// The level.
    pub level: String,
}

/// The change of a preference accuracy for one unit of λ.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Movement {
    /// The slope of the straight line through the measured points between λ = −1 and 1.
    pub per_unit: f64,
    /// Its 95 % interval, by bootstrap over the records.
    pub interval: [f64; 2],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_holds_both_ends_and_no_noise() {
        let points = |text: &str| text.parse::<LambdaRange>().map(|range| range.points());
        let paper = LambdaRange::default().points();
        assert_eq!((paper.len(), paper[3], paper[15], paper[30]), (31, -1.2, 0.0, 1.5));
        assert_eq!(points("-1:1:0.8").unwrap(), [-1.0, -0.2, 0.6, 1.0]);
        assert_eq!(points("0.5:0.5:1").unwrap(), [0.5]);
        assert!(paper[15].is_sign_positive());
        for text in ["", "1:0:0.1", "0:1:0", "0:1:-1", "0:1:nan", "0:inf:1", "0:1", "0:1:1e-9"] {
            assert!(points(text).is_err(), "{text}");
        }
    }

    fn calibration(points: &[(f64, [f64; 3])]) -> Calibration {
        let point = |(lambda, shares): &(f64, [f64; 3])| CalibrationPoint {
            lambda: *lambda,
            preference_accuracy: shares.to_vec(),
        };
        Calibration {
            run: Uuid::nil(),
            created: "2026-11-05T12:00:00Z".to_owned(),
            model: "demo".to_owned(),
            base: "blake3:0".to_owned(),
            dtype: Dtype::F32,
            data: "medical.test.jsonl".to_owned(),
            data_fingerprint: "blake3:1".to_owned(),
            measure: MeasureName::Levels,
            n: 8,
            levels: ["expert", "generic", "avoidance"].map(str::to_owned).into(),
            points: points.iter().map(point).collect(),
            best: vec![None; 3],
        }
    }

    #[test]
    fn shares_between_points_lie_on_a_line() {
        let calibration = calibration(&[
            (-1.0, [0.0, 0.25, 0.75]),
            (0.0, [0.25, 0.5, 0.25]),
            (0.5, [0.75, 0.25, 0.0]),
        ]);
        assert_eq!(calibration.range(), Some([-1.0, 0.5]));
        for (lambda, shares, dominant) in [
            (-1.0, Some([0.0, 0.25, 0.75]), Some(2)),
            (-0.5, Some([0.125, 0.375, 0.5]), Some(2)),
            (0.0, Some([0.25, 0.5, 0.25]), Some(1)),
            (0.25, Some([0.5, 0.375, 0.125]), Some(0)),
            (0.5, Some([0.75, 0.25, 0.0]), Some(0)),
            (0.5 + f64::EPSILON, Some([0.75, 0.25, 0.0]), Some(0)),
            (-1.1, None, None),
            (0.6, None, None),
            (f64::NAN, None, None),
        ] {
            assert_eq!(calibration.shares_at(lambda), shares.map(Vec::from), "{lambda}");
            assert_eq!(calibration.dominant_at(lambda), dominant, "{lambda}");
        }
    }

    #[test]
    fn calibration_from_a_file_is_looked_at_first() {
        let sound = calibration(&[(-1.0, [0.0, 0.25, 0.75]), (0.0, [1.0, 0.0, 0.0])]);
        assert!(sound.is_sound());
        let shares = |it: &mut Calibration| it.points[0].preference_accuracy[1] = 1.5;
        let nan = |it: &mut Calibration| it.points[0].lambda = f64::NAN;
        let order = |it: &mut Calibration| it.points.reverse();
        let missing = |it: &mut Calibration| it.points[1].preference_accuracy.truncate(2);
        let best = |it: &mut Calibration| it.best = vec![Some(f64::INFINITY); 3];
        let few = |it: &mut Calibration| it.best.truncate(1);
        for spoil in [shares, nan, order, missing, best, few] as [fn(&mut Calibration); 6] {
            let mut spoilt = sound.clone();
            spoil(&mut spoilt);
            assert!(!spoilt.is_sound(), "{spoilt:?}");
        }
    }

    #[test]
    fn odd_calibrations_are_read_without_a_panic() {
        let none = calibration(&[]);
        assert_eq!((none.range(), none.shares_at(0.0)), (None, None));
        let one = calibration(&[(0.5, [0.5, 0.5, 0.0])]);
        assert_eq!(
            (one.range(), one.shares_at(0.4), one.dominant_at(0.5)),
            (Some([0.5, 0.5]), None, Some(0))
        );
        let twice = calibration(&[(0.5, [1.0, 0.0, 0.0]), (0.5, [0.0, 1.0, 0.0])]);
        assert_eq!(twice.dominant_at(0.5), Some(0));
    }
}
