use std::fmt;

use crate::{Dataset, Record, Responses, Shape, Turn};

/// What a preference is measured about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MeasureName {
    /// Responses at levels.
    Levels,
    /// PKU-SafeRLHF: a safe response against an unsafe one.
    Safety,
    /// PKU-SafeRLHF: the more helpful response against the other.
    Helpfulness,
    /// A chosen response against a rejected one.
    Pairs,
}

impl MeasureName {
    /// `levels`, `safety`, `helpfulness` or `pairs`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Levels => "levels",
            Self::Safety => "safety",
            Self::Helpfulness => "helpfulness",
            Self::Pairs => "pairs",
        }
    }
}

impl fmt::Display for MeasureName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Queries whose responses stand at the same levels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measure {
    /// What it is about.
    pub name: MeasureName,
    /// Preferred first.
    pub levels: Vec<String>,
    /// In the order of the file, at least one.
    pub items: Vec<Item>,
}

/// A query with one response per level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Of the record.
    pub line: usize,
    /// Of the record.
    pub id: String,
    /// Of the record.
    pub domain: Option<String>,
    /// What is asked.
    pub query: Vec<Turn>,
    /// In the order of [`Measure::levels`].
    pub responses: Vec<String>,
}

impl Dataset {
    /// What can be measured on the records; a measure that no record is fit for is left out.
    ///
    /// PKU-SafeRLHF gives two: safety on the records whose flags differ, and helpfulness on all.
    pub fn measures(&self) -> Vec<Measure> {
        let levels = |names: [&str; 2]| names.map(str::to_owned).to_vec();
        let measures = match self.shape {
            Shape::Levels => vec![
                self.measure(MeasureName::Levels, self.levels.clone(), |it| Some(in_order(it))),
            ],
            Shape::Pairs => {
                vec![self.measure(MeasureName::Pairs, self.levels.clone(), |it| Some(in_order(it)))]
            }
            Shape::SafeRlhf => vec![
                self.measure(MeasureName::Safety, levels(["safe", "unsafe"]), by_safety),
                self.measure(
                    MeasureName::Helpfulness,
                    levels(["helpful", "unhelpful"]),
                    by_helpfulness,
                ),
            ],
        };
        measures.into_iter().filter(|measure| !measure.items.is_empty()).collect()
    }

    fn measure(
        &self,
        name: MeasureName,
        levels: Vec<String>,
        responses: fn(&Responses) -> Option<Vec<String>>,
    ) -> Measure {
        let item = |record: &Record| {
            let Record { line, id, domain, query, .. } = record.clone();
            Some(Item { line, id, domain, query, responses: responses(&record.responses)? })
        };
        Measure { name, levels, items: self.records.iter().filter_map(item).collect() }
    }
}

fn in_order(responses: &Responses) -> Vec<String> {
    responses.texts().into_iter().map(str::to_owned).collect()
}

fn by_safety(responses: &Responses) -> Option<Vec<String>> {
    match responses {
        Responses::SafeRlhf { texts, is_safe: [true, false], .. } => Some(texts.to_vec()),
        Responses::SafeRlhf { texts: [first, second], is_safe: [false, true], .. } => {
            Some(vec![second.clone(), first.clone()])
        }
        _ => None,
    }
}

fn by_helpfulness(responses: &Responses) -> Option<Vec<String>> {
    let Responses::SafeRlhf { texts, better, .. } = responses else { return None };
    Some(vec![texts[*better].clone(), texts[1 - *better].clone()])
}
