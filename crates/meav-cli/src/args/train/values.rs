use std::str::FromStr;

use clap::ValueEnum;
use meav_protocol::{OptimizerState, Schedule, TrainData};

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum MethodArg {
    /// All of them
    Full,
    /// Low-rank factors beside frozen weights
    Lora,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LossArg {
    /// Identity preference optimisation: (h − 1/(2β))², per token
    Ipo,
    /// Direct preference optimisation: −log σ(βh)
    Sigmoid,
    /// max(0, 1 − βh)
    Hinge,
}

#[derive(Clone, Copy, ValueEnum)]
pub(super) enum ScheduleArg {
    /// Along half a cosine to 0
    Cosine,
    /// On a straight line to 0
    Linear,
    /// Not at all
    Constant,
}

impl From<ScheduleArg> for Schedule {
    fn from(schedule: ScheduleArg) -> Self {
        match schedule {
            ScheduleArg::Cosine => Self::Cosine,
            ScheduleArg::Linear => Self::Linear,
            ScheduleArg::Constant => Self::Constant,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub(super) enum OptimizerArg {
    /// Eight bytes for each trained element
    F32,
    /// Two bytes for each, in blocks
    Int8,
}

impl From<OptimizerArg> for OptimizerState {
    fn from(state: OptimizerArg) -> Self {
        match state {
            OptimizerArg::F32 => Self::F32,
            OptimizerArg::Int8 => Self::Int8,
        }
    }
}

/// `F` or `F=LEVEL`, split at the last `=` unless there is a file of the whole name.
#[derive(Clone)]
pub(super) struct Preferred(pub(super) TrainData);

impl FromStr for Preferred {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let whole = TrainData { file: text.into(), prefer: None };
        if whole.file.exists() {
            return Ok(Self(whole));
        }
        match text.rsplit_once('=') {
            None => Ok(Self(whole)),
            Some((file, level)) if !file.is_empty() && !level.is_empty() => {
                Ok(Self(TrainData { file: file.into(), prefer: Some(level.to_owned()) }))
            }
            Some(_) => Err("expected a file, or a file, `=` and a level".to_owned()),
        }
    }
}

/// A value, or `none`.
#[derive(Clone, Copy)]
pub(super) struct OrNone<T>(pub(super) Option<T>);

pub(super) fn parse_or_none<T>(
    parse: fn(&str) -> Result<T, String>,
) -> impl Fn(&str) -> Result<OrNone<T>, String> + Clone {
    move |text| match text {
        "none" => Ok(OrNone(None)),
        text => parse(text).map(|value| OrNone(Some(value))),
    }
}

pub(super) fn parse_count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("expected a number above 0".to_owned()),
        Ok(count) => Ok(count),
    }
}

fn parse_number(
    text: &str,
    is_meant: fn(f64) -> bool,
    expected: &'static str,
) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite() && is_meant(*number));
    number.ok_or_else(|| format!("expected {expected}"))
}

pub(super) fn parse_positive(text: &str) -> Result<f64, String> {
    parse_number(text, |number| number > 0.0, "a number above 0")
}

pub(super) fn parse_not_negative(text: &str) -> Result<f64, String> {
    parse_number(text, |number| number >= 0.0, "0 or a number above it")
}

pub(super) fn parse_share(text: &str) -> Result<f64, String> {
    parse_number(text, |number| (0.0..1.0).contains(&number), "a share, at least 0 and below 1")
}

pub(super) fn parse_smoothing(text: &str) -> Result<f64, String> {
    parse_number(text, |number| (0.0..0.5).contains(&number), "a share, at least 0 and below 0.5")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn level_is_behind_the_last_equals_sign_of_what_is_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a=expert");
        std::fs::write(&file, "").unwrap();
        let name = file.to_str().unwrap();
        let data = |text: &str| text.parse::<Preferred>().map(|Preferred(data)| data).unwrap();
        assert_eq!(data(name), TrainData { file: file.clone(), prefer: None });
        let joint = TrainData { file: file.clone(), prefer: Some("safe".to_owned()) };
        assert_eq!(data(&format!("{name}=safe")), joint);
    }
}
