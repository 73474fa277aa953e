use std::collections::BTreeMap;

use meav_data::{Dataset, Item, Measure, MeasureName, Shape};
use meav_job::Cancelled;
use meav_model::{ChatTemplate, Message, ModelFiles, Question, with_known_roles};
use meav_protocol::TrainSettings;

use super::{LeftOut, Pair, Source};
use crate::TrainError;

/// The pairs of a record.
pub(super) struct RecordPairs {
    /// Which of the sources.
    pub(super) source: usize,
    /// Which of its records.
    pub(super) record: usize,
    /// At least one.
    pub(super) pairs: Vec<Pair>,
}

/// Makes pairs of one source after the other.
pub(super) struct Builder<'a> {
    files: &'a ModelFiles,
    template: &'a ChatTemplate,
    skip_pairs: bool,
    /// Tokens of a prompt with its response.
    limit: usize,
    n_sources: usize,
    n_records: usize,
    pub(super) records: Vec<RecordPairs>,
    pub(super) left_out: Vec<LeftOut>,
}

/// A record's responses as tokens, and which of them were cut.
struct Tokens {
    prompt: Vec<u32>,
    responses: Vec<(Vec<u32>, bool)>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(
        files: &'a ModelFiles,
        template: &'a ChatTemplate,
        settings: &TrainSettings,
    ) -> Self {
        let limit = settings.max_length.min(files.config.max_position_embeddings);
        let (n_sources, n_records) = (0, 0);
        let (records, left_out) = (Vec::new(), Vec::new());
        let skip_pairs = settings.skip_pairs;
        Self { files, template, skip_pairs, limit, n_sources, n_records, records, left_out }
    }

    /// `tick` hears of every record.
    pub(super) fn add(
        &mut self,
        source: &Source<'_>,
        tick: &mut dyn FnMut(usize) -> Result<(), Cancelled>,
    ) -> Result<(), TrainError> {
        let Source { dataset, prefer } = *source;
        let (levels, items) = preferences(dataset, prefer)?;
        let orders = orders(&levels, prefer, self.skip_pairs);
        let items: BTreeMap<&str, &Item> = items.iter().map(|it| (it.id.as_str(), it)).collect();
        let mut left_out = unusable(dataset);
        let n_before = self.records.len();
        for (index, record) in dataset.records.iter().enumerate() {
            tick(self.n_records + index)?;
            let (pairs, reason) = match items.get(record.id.as_str()) {
                Some(item) => self.pairs(item, &levels, &orders),
                None => (Vec::new(), Some("its responses are judged alike".to_owned())),
            };
            if let Some(reason) = reason {
                let (file, line) = (dataset.path.clone(), record.line);
                left_out.push(LeftOut { file, line, id: Some(record.id.clone()), reason });
            }
            if !pairs.is_empty() {
                self.records.push(RecordPairs { source: self.n_sources, record: index, pairs });
            }
        }
        left_out.sort_by_key(|it| it.line);
        if self.records.len() == n_before {
            let reason = left_out.first().map(|it| it.reason.clone()).unwrap_or_default();
            let (left_out, file) = (left_out.len(), dataset.path.clone());
            return Err(TrainError::NoPairs { left_out, reason, file });
        }
        self.left_out.extend(left_out);
        self.n_sources += 1;
        self.n_records += dataset.records.len();
        Ok(())
    }

    /// The pairs of a record, and why one of them or all are left out.
    fn pairs(
        &self,
        item: &Item,
        levels: &[String],
        orders: &[[usize; 2]],
    ) -> (Vec<Pair>, Option<String>) {
        let Tokens { prompt, responses } = match self.tokens(item, levels) {
            Ok(tokens) => tokens,
            Err(reason) => return (Vec::new(), Some(reason)),
        };
        let (mut pairs, mut equal) = (Vec::new(), Vec::new());
        for order in orders {
            let [(chosen, is_cut), (rejected, other_is_cut)] = order.map(|it| &responses[it]);
            let levels = order.map(|it| levels[it].clone());
            if chosen == rejected {
                equal.push(format!("{} and {}", levels[0], levels[1]));
                continue;
            }
            let responses = vec![chosen.clone(), rejected.clone()];
            pairs.push(Pair {
                id: item.id.clone(),
                domain: item.domain.clone(),
                levels,
                question: Question { prompt: prompt.clone(), responses },
                truncated: *is_cut || *other_is_cut,
            });
        }
        let reason = (!equal.is_empty()).then(|| {
            let others = if pairs.is_empty() { "" } else { "; its other pairs are used" };
            format!("its responses {} are the same{others}", equal.join(", "))
        });
        (pairs, reason)
    }

    fn tokens(&self, item: &Item, levels: &[String]) -> Result<Tokens, String> {
        let message = |turn: &meav_data::Turn| Message {
            role: turn.role.clone(),
            content: turn.content.clone(),
        };
        let query = with_known_roles(self.template, item.query.iter().map(message).collect());
        let mut tokens = Tokens { prompt: Vec::new(), responses: Vec::new() };
        for (level, text) in levels.iter().zip(&item.responses) {
            let found = self.files.response_tokens(self.template, &query, text);
            let mut found =
                found.map_err(|err| format!("its {level} response can't be used: {err}"))?;
            let room = self.limit.saturating_sub(found.prompt.len());
            if room == 0 {
                let (n, limit) = (found.prompt.len(), self.limit);
                return Err(format!(
                    "its prompt has {n} tokens of {limit}, which leaves no room for a response"
                ));
            }
            if found.response.is_empty() {
                return Err(format!("its {level} response has no tokens"));
            }
            let is_cut = found.response.len() > room;
            found.response.truncate(room);
            tokens.prompt = found.prompt;
            tokens.responses.push((found.response, is_cut));
        }
        Ok(tokens)
    }
}

/// The levels of a file, and its records as they stand at them.
fn preferences(
    dataset: &Dataset,
    prefer: Option<&str>,
) -> Result<(Vec<String>, Vec<Item>), TrainError> {
    let mut measures = dataset.measures();
    let place = match (prefer, dataset.shape) {
        (Some(level), _) => measures.iter().position(|it| it.levels.iter().any(|it| it == level)),
        (None, Shape::SafeRlhf) => measures.iter().position(|it| it.name == MeasureName::Safety),
        (None, Shape::Levels | Shape::Pairs) => (!measures.is_empty()).then_some(0),
    };
    let Some(place) = place else {
        let file = dataset.path.clone();
        return Err(if let Some(level) = prefer {
            let known = measures.into_iter().flat_map(|it| it.levels).collect();
            TrainError::UnknownLevel { level: level.to_owned(), known, file }
        } else {
            let reason = "its responses are judged alike".to_owned();
            TrainError::NoPairs { left_out: dataset.records.len(), reason, file }
        });
    };
    let Measure { levels, items, .. } = measures.swap_remove(place);
    match levels.as_slice() {
        [level] => {
            let (level, file) = (level.clone(), dataset.path.clone());
            Err(TrainError::OneLevel { level, file })
        }
        _ => Ok((levels, items)),
    }
}

/// Which level is preferred to which, by their indices.
fn orders(levels: &[String], prefer: Option<&str>, skip_pairs: bool) -> Vec<[usize; 2]> {
    let n = levels.len();
    if let Some(preferred) = levels.iter().position(|it| Some(it.as_str()) == prefer) {
        return (0..n).filter(|other| *other != preferred).map(|it| [preferred, it]).collect();
    }
    let steps = (1..n).map(|lower| [lower - 1, lower]);
    steps.chain((skip_pairs && n > 2).then(|| [0, n - 1])).collect()
}

/// What could not be read.
fn unusable(dataset: &Dataset) -> Vec<LeftOut> {
    let left_out = |problem: &meav_data::Problem| LeftOut {
        file: dataset.path.clone(),
        line: problem.line,
        id: problem.id.clone(),
        reason: problem.kind.to_string(),
    };
    dataset.problems.iter().map(left_out).collect()
}
