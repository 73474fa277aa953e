use std::path::PathBuf;

use meav_protocol::{Dtype, InstructionTurn, LambdaRange};

use crate::KnobId;

/// What is asked before a sweep, as it is typed and chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct SweepForm {
    /// The knob of the vector that is swept; `None` for the first.
    pub knob: Option<KnobId>,
    /// Whether the other knobs keep their λ; otherwise they are left out.
    pub holds_others: bool,
    /// What the weights are rounded to.
    pub dtype: Dtype,
    /// Files of preference records.
    pub data: Vec<PathBuf>,
    /// The path of one more file, as it is typed.
    pub path: String,
    /// The lower end of λ.
    pub first: String,
    /// The upper end of λ.
    pub last: String,
    /// From one λ to the next.
    pub step: String,
    /// Whether instructions are measured too, as baselines.
    pub prompts: bool,
    /// Where an instruction stands.
    pub turn: InstructionTurn,
    /// Levels, and the instruction to answer there.
    pub instructions: Vec<(String, String)>,
}

impl Default for SweepForm {
    /// The paper's range in `f32`, with baselines.
    fn default() -> Self {
        let LambdaRange { first, last, step } = LambdaRange::default();
        Self {
            knob: None,
            holds_others: false,
            dtype: Dtype::F32,
            data: Vec::new(),
            path: String::new(),
            first: first.to_string(),
            last: last.to_string(),
            step: step.to_string(),
            prompts: true,
            turn: InstructionTurn::default(),
            instructions: Vec::new(),
        }
    }
}

impl SweepForm {
    /// The range of λ.
    ///
    /// # Errors
    /// Says what is wrong with what was typed.
    pub fn range(&self) -> Result<LambdaRange, String> {
        let number = |text: &str, what: &str| {
            parse_number(text).ok_or_else(|| format!("{what} is not a number"))
        };
        let first = number(&self.first, "The lower end of λ")?;
        let last = number(&self.last, "The upper end of λ")?;
        let step = number(&self.step, "The step")?;
        let range = LambdaRange { first, last, step };
        match () {
            () if step <= 0.0 => Err("The step must be above 0".to_owned()),
            () if last < first => Err("The upper end of λ is below the lower end".to_owned()),
            () if range.points().is_empty() => {
                Err(format!("That is more than {} points", LambdaRange::MAX_POINTS))
            }
            () => Ok(range),
        }
    }

    /// The instruction for a level, if there is any.
    pub(crate) fn instruction(&self, level: &str) -> Option<&str> {
        let mut known = self.instructions.iter();
        known.find(|(known, _)| known == level).map(|(_, text)| text.trim())
    }
}

/// A number as a person types it: with either minus, with a decimal comma or point.
pub(crate) fn parse_number(text: &str) -> Option<f64> {
    let plain = text.trim().replace(['−', '–'], "-").replace(',', ".");
    plain.parse().ok().filter(|value: &f64| value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(first: &str, last: &str, step: &str) -> SweepForm {
        let [first, last, step] = [first, last, step].map(str::to_owned);
        SweepForm { first, last, step, ..SweepForm::default() }
    }

    #[test]
    fn range_is_read_as_people_type_it_or_refused_in_words() {
        let points = |form: SweepForm| form.range().map(|range| range.points().len());
        assert_eq!(points(SweepForm::default()), Ok(31));
        assert_eq!(points(form("−1,5", "1.5", "0,25")), Ok(13));
        for (first, last, step, word) in [
            ("a", "1", "1", "lower end"),
            ("0", "", "1", "upper end"),
            ("0", "1", "x", "step"),
            ("0", "1", "0", "above 0"),
            ("1", "0", "1", "below"),
            ("0", "1", "0.00001", "more than 10001"),
        ] {
            let said = points(form(first, last, step)).unwrap_err();
            assert!(said.contains(word), "{said}");
        }
    }
}
