use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::text::normalised_query;
use crate::{Dataset, Record, Responses, Shape};

/// What a data set is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    /// Usable records.
    pub records: usize,
    /// In the order of [`Dataset::levels`]; for PKU-SafeRLHF safe, unsafe, helpful and unhelpful,
    /// so that each response is counted twice.
    pub levels: Vec<LevelStatistics>,
    /// Records by how they were made, most first.
    pub methods: Vec<Count>,
    /// Records by domain, most first.
    pub domains: Vec<Count>,
    /// Different ones.
    pub personas: usize,
    /// Of the queries, all turns together.
    pub queries: TextLengths,
    /// Records that ask what one before them asks.
    pub duplicate_queries: Vec<RepeatedQuery>,
    /// Records with one text at two levels: whatever a model prefers there says nothing.
    pub identical_responses: Vec<IdenticalResponses>,
}

/// The responses at a level.
#[derive(Clone, Debug, PartialEq)]
pub struct LevelStatistics {
    /// `expert`, …
    pub level: String,
    /// How many there are.
    pub count: usize,
    /// How long they are.
    pub lengths: TextLengths,
}

/// How often something is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// None for the records that name nothing.
    pub name: Option<String>,
    /// Records.
    pub count: usize,
}

/// Lengths of texts in two units.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TextLengths {
    /// In Unicode scalar values.
    pub characters: Distribution,
    /// In runs of anything but white space.
    pub words: Distribution,
}

/// A distribution in short; all zero if there is nothing. Quartiles are interpolated linearly, as
/// numpy's default does.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Distribution {
    pub min: f64,
    pub lower_quartile: f64,
    pub median: f64,
    pub upper_quartile: f64,
    pub max: f64,
    pub mean: f64,
}

/// A record whose query was asked before; queries are compared in lower case and without regard to
/// punctuation and white space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RepeatedQuery {
    /// Where it was asked first.
    pub first: usize,
    /// Where it is asked again.
    pub line: usize,
}

/// A record with the same response twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdenticalResponses {
    /// Of the record.
    pub line: usize,
    /// Of the record.
    pub id: String,
    /// The two levels, or `response_0` and `response_1`.
    pub levels: [String; 2],
}

impl Dataset {
    /// Counts and measures the records.
    pub fn statistics(&self) -> Statistics {
        let personas: BTreeSet<_> =
            self.records.iter().filter_map(|record| record.persona.as_deref()).collect();
        let queries: Vec<String> = self.records.iter().map(query_text).collect();
        Statistics {
            records: self.records.len(),
            levels: self.level_statistics(),
            methods: counts(self.records.iter().map(|record| record.method.as_deref())),
            domains: counts(self.records.iter().map(|record| record.domain.as_deref())),
            personas: personas.len(),
            queries: TextLengths::new(queries.iter().map(String::as_str)),
            duplicate_queries: self.duplicate_queries(),
            identical_responses: self.identical_responses(),
        }
    }

    fn level_statistics(&self) -> Vec<LevelStatistics> {
        let mut texts: Vec<(&str, Vec<&str>)> = match self.shape {
            Shape::SafeRlhf => {
                ["safe", "unsafe", "helpful", "unhelpful"].map(|level| (level, Vec::new())).to_vec()
            }
            _ => self.levels.iter().map(|level| (level.as_str(), Vec::new())).collect(),
        };
        for record in &self.records {
            for (index, text) in record.responses.texts().into_iter().enumerate() {
                match record.responses {
                    Responses::SafeRlhf { is_safe, better, .. } => {
                        texts[usize::from(!is_safe[index])].1.push(text);
                        texts[2 + usize::from(index != better)].1.push(text);
                    }
                    _ => texts[index].1.push(text),
                }
            }
        }
        texts
            .into_iter()
            .map(|(level, texts)| LevelStatistics {
                level: level.to_owned(),
                count: texts.len(),
                lengths: TextLengths::new(texts),
            })
            .collect()
    }

    fn duplicate_queries(&self) -> Vec<RepeatedQuery> {
        let mut lines = HashMap::new();
        let mut repeated = Vec::new();
        for &Record { line, ref query, .. } in &self.records {
            match lines.entry(normalised_query(query)) {
                Entry::Vacant(entry) => _ = entry.insert(line),
                Entry::Occupied(entry) => {
                    repeated.push(RepeatedQuery { first: *entry.get(), line });
                }
            }
        }
        repeated
    }

    fn identical_responses(&self) -> Vec<IdenticalResponses> {
        self.records.iter().filter_map(|record| self.identical(record)).collect()
    }

    fn identical(&self, record: &Record) -> Option<IdenticalResponses> {
        let texts: Vec<&str> = record.responses.texts().into_iter().map(str::trim).collect();
        let (first, second) = (0..texts.len())
            .flat_map(|second| (0..second).map(move |first| (first, second)))
            .find(|(first, second)| texts[*first] == texts[*second])?;
        let level = |index: usize| match self.shape {
            Shape::SafeRlhf => format!("response_{index}"),
            _ => self.levels[index].clone(),
        };
        let levels = [level(first), level(second)];
        Some(IdenticalResponses { line: record.line, id: record.id.clone(), levels })
    }
}

fn query_text(record: &Record) -> String {
    let turns: Vec<&str> = record.query.iter().map(|turn| turn.content.as_str()).collect();
    turns.join("\n")
}

/// Most first, then by name.
fn counts<'a>(names: impl Iterator<Item = Option<&'a str>>) -> Vec<Count> {
    let mut counts = BTreeMap::new();
    for name in names {
        *counts.entry(name).or_insert(0) += 1;
    }
    let mut counts: Vec<_> = counts
        .into_iter()
        .map(|(name, count)| Count { name: name.map(str::to_owned), count })
        .collect();
    counts.sort_by_key(|count| std::cmp::Reverse(count.count));
    counts
}

impl TextLengths {
    fn new<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let lengths = |text: &str| (text.chars().count(), text.split_whitespace().count());
        let (characters, words) = texts.into_iter().map(lengths).unzip();
        Self { characters: Distribution::new(characters), words: Distribution::new(words) }
    }
}

impl Distribution {
    fn new(mut values: Vec<usize>) -> Self {
        values.sort_unstable();
        let (Some(min), Some(max)) = (values.first(), values.last()) else {
            return Self::default();
        };
        let quantile = |share: f64| {
            let place = share * (values.len() - 1) as f64;
            let (below, above) = (values[place.floor() as usize], values[place.ceil() as usize]);
            below as f64 + place.fract() * (above as f64 - below as f64)
        };
        Self {
            min: *min as f64,
            lower_quartile: quantile(0.25),
            median: quantile(0.5),
            upper_quartile: quantile(0.75),
            max: *max as f64,
            mean: values.iter().sum::<usize>() as f64 / values.len() as f64,
        }
    }
}
