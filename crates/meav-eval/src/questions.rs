use std::collections::BTreeMap;

use meav_data::{Dataset, Measure, Problem, Turn};
use meav_job::JobCtx;
use meav_model::{
    ChatTemplate, Decoder, Message, ModelError, ModelFiles, Question, with_known_roles,
};
use meav_protocol::{DataProblem, DatasetScores, InstructionTurn, MeasureName};

use crate::dataset_scores;
use crate::raw::{RawScore, ScoredItem, ScoredResponse};

/// Questions that a model is asked together. Always the same ones, so that an interruption changes
/// no number.
const BATCH: usize = 8;

/// Eq. 4 before the division; sums in `f64`.
fn raw_score(log_probs: &[f32]) -> RawScore {
    let sum_log_prob = log_probs.iter().map(|log_prob| f64::from(*log_prob)).sum();
    RawScore { sum_log_prob, tokens: log_probs.len() as u32 }
}

/// What a model is asked about a file of preference records, as tokens: each text once, however
/// many measures look at it.
pub struct QuestionSet {
    /// The file's name.
    pub name: String,
    /// `blake3:` of all tokens: what names the answers together with a recipe.
    pub fingerprint: String,
    domain: Option<String>,
    questions: Vec<Question>,
    measures: Vec<AskedMeasure>,
    /// Records that the model is not asked about, in the order of the file.
    skipped: Vec<DataProblem>,
}

struct AskedMeasure {
    name: MeasureName,
    levels: Vec<String>,
    items: Vec<AskedItem>,
}

/// A record as one measure looks at it.
struct AskedItem {
    id: String,
    question: usize,
    /// For each level, which of the question's responses, and the bytes of its text.
    responses: Vec<(usize, usize)>,
}

/// The texts of one record.
struct Texts<'a> {
    query: &'a [Turn],
    /// With the level that the first measure has them at.
    responses: Vec<(&'a str, &'a str)>,
}

/// Why the model can't be asked about a record.
struct Unfit {
    /// In words.
    reason: String,
    source: ModelError,
}

impl QuestionSet {
    /// Tokenises the records of a file, each query behind an `instruction` if there is one.
    ///
    /// A record that the model can't be asked about is left out and told of in
    /// [`DatasetScores::skipped`]: nothing is cut to make it fit.
    ///
    /// # Errors
    ///
    /// What the model says of the last record, if it can be asked about none;
    /// [`ModelError::Cancelled`] between two records.
    pub fn new(
        name: &str,
        dataset: &Dataset,
        files: &ModelFiles,
        template: &ChatTemplate,
        instruction: Option<(InstructionTurn, &str)>,
        job: &JobCtx<'_>,
    ) -> Result<Self, ModelError> {
        let measures = dataset.measures();
        let mut texts: BTreeMap<usize, Texts<'_>> = BTreeMap::new();
        for Measure { levels, items, .. } in &measures {
            for item in items {
                let own = texts
                    .entry(item.line)
                    .or_insert_with(|| Texts { query: &item.query, responses: Vec::new() });
                for (level, text) in levels.iter().zip(&item.responses) {
                    if own.place(text).is_none() {
                        own.responses.push((level, text));
                    }
                }
            }
        }
        let mut questions = Vec::new();
        let mut places = BTreeMap::new();
        let mut last_error = None;
        for (index, (line, own)) in texts.iter().enumerate() {
            job.tick(index, texts.len())?;
            match own.question(files, template, instruction) {
                Ok(question) => {
                    places.insert(*line, Ok(questions.len()));
                    questions.push(question);
                }
                Err(unfit) => {
                    let Unfit { reason, source } = *unfit;
                    places.insert(*line, Err(reason));
                    last_error = Some(source);
                }
            }
        }
        if let Some(err) = last_error.filter(|_| questions.is_empty()) {
            return Err(err);
        }
        let measures = measures.iter().map(|it| asked_measure(it, &texts, &places)).collect();
        let fingerprint = fingerprint(&questions);
        let skipped = skipped(dataset, &places);
        let (name, domain) = (name.to_owned(), one_domain(dataset));
        Ok(Self { name, fingerprint, domain, questions, measures, skipped })
    }

    /// The preference dimension, where all records have the same one.
    pub fn domain(&self) -> Option<&str> {
        self.domain.as_deref()
    }

    /// Records that the model is not asked about: those that can't be used, and those that don't
    /// fit.
    pub fn skipped(&self) -> &[DataProblem] {
        &self.skipped
    }

    /// Records that the model is asked about.
    pub fn len(&self) -> usize {
        self.questions.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.questions.is_empty()
    }

    /// Responses to each question.
    pub fn responses(&self) -> impl Iterator<Item = usize> {
        self.questions.iter().map(|question| question.responses.len())
    }

    /// The questions, for measuring how long they take.
    pub fn questions(&self) -> &[Question] {
        &self.questions
    }

    /// Asks about the records behind those that are in `answered` already, and adds to it. `tick`
    /// hears of every record.
    ///
    /// # Errors
    ///
    /// [`ModelError`]; what was answered before stays.
    pub fn ask(
        &self,
        decoder: &Decoder,
        answered: &mut Vec<Vec<RawScore>>,
        tick: impl Fn(usize),
        job: &JobCtx<'_>,
    ) -> Result<(), ModelError> {
        for batch in self.questions[answered.len()..].chunks(BATCH) {
            let before = answered.len();
            let found = decoder.score(batch, &mut |n| tick(before + n), job)?;
            let raw =
                |responses: &Vec<Vec<f32>>| responses.iter().map(|it| raw_score(it)).collect();
            answered.extend(found.iter().map(raw));
        }
        Ok(())
    }

    /// The figures of every measure of the file, from the answers to all questions.
    pub fn scores(&self, answered: &[Vec<RawScore>], keeps_records: bool) -> Vec<DatasetScores> {
        let scores = |measure: &AskedMeasure| {
            let items: Vec<ScoredItem<'_>> =
                measure.items.iter().map(|item| self.scored(item, answered)).collect();
            let AskedMeasure { name, levels, .. } = measure;
            let skipped = self.skipped.clone();
            dataset_scores(&self.name, *name, levels, &items, skipped, keeps_records)
        };
        self.measures.iter().map(scores).collect()
    }

    /// What is measured: its name, its levels and on how many records.
    pub fn measures(&self) -> impl Iterator<Item = (MeasureName, &[String], usize)> {
        self.measures.iter().map(|it| (it.name, it.levels.as_slice(), it.items.len()))
    }

    fn scored<'a>(&self, item: &'a AskedItem, answered: &[Vec<RawScore>]) -> ScoredItem<'a> {
        let AskedItem { id, question, responses } = item;
        let response = |(place, bytes): &(usize, usize)| ScoredResponse {
            raw: answered[*question][*place],
            bytes: *bytes,
        };
        ScoredItem {
            id,
            prompt_tokens: self.questions[*question].prompt.len() as u32,
            responses: responses.iter().map(response).collect(),
        }
    }
}

impl Texts<'_> {
    fn place(&self, text: &str) -> Option<usize> {
        self.responses.iter().position(|(_, other)| *other == text)
    }

    /// The tokens; or why there are none.
    fn question(
        &self,
        files: &ModelFiles,
        template: &ChatTemplate,
        instruction: Option<(InstructionTurn, &str)>,
    ) -> Result<Question, Box<Unfit>> {
        let query = with_known_roles(template, conversation(self.query, instruction));
        let mut prompt = Vec::new();
        let mut responses = Vec::new();
        for (level, text) in &self.responses {
            let tokens = files.response_tokens(template, &query, text);
            let tokens = tokens.and_then(|tokens| {
                files.config.check_context(tokens.prompt.len() + tokens.response.len())?;
                Ok(tokens)
            });
            match tokens {
                Ok(tokens) => {
                    prompt = tokens.prompt;
                    responses.push(tokens.response);
                }
                Err(source) => {
                    let reason = reason(level, &source);
                    return Err(Box::new(Unfit { reason, source }));
                }
            }
        }
        Ok(Question { prompt, responses })
    }
}

fn reason(level: &str, err: &ModelError) -> String {
    match err {
        ModelError::ContextExceeded { tokens, limit } => format!(
            "with its {level} response it has {tokens} tokens, the model takes {limit}; it was \
             left out, not cut"
        ),
        err => format!("its {level} response can't be scored: {err}"),
    }
}

/// The query's turns as templates take them.
pub fn conversation(query: &[Turn], instruction: Option<(InstructionTurn, &str)>) -> Vec<Message> {
    let message =
        |role: &str, content: &str| Message { role: role.to_owned(), content: content.to_owned() };
    let mut turns: Vec<Message> =
        query.iter().map(|turn| message(&turn.role, &turn.content)).collect();
    match instruction {
        None => {}
        Some((InstructionTurn::System, text)) => match turns.first_mut() {
            Some(turn) if turn.role == "system" => {
                turn.content = format!("{}\n\n{text}", turn.content);
            }
            _ => turns.insert(0, message("system", text)),
        },
        Some((InstructionTurn::User, text)) => {
            if let Some(turn) = turns.iter_mut().rev().find(|turn| turn.role == "user") {
                turn.content = format!("{text}\n\n{}", turn.content);
            }
        }
    }
    turns
}

fn asked_measure(
    measure: &Measure,
    texts: &BTreeMap<usize, Texts<'_>>,
    places: &BTreeMap<usize, Result<usize, String>>,
) -> AskedMeasure {
    let mut items = Vec::new();
    for item in &measure.items {
        let Ok(question) = &places[&item.line] else { continue };
        let place = |text: &String| Some((texts[&item.line].place(text)?, text.len()));
        let responses = item.responses.iter().filter_map(place).collect();
        items.push(AskedItem { id: item.id.clone(), question: *question, responses });
    }
    AskedMeasure { name: measure_name(measure.name), levels: measure.levels.clone(), items }
}

/// What is left out: because of what it is, or because of the model.
fn skipped(dataset: &Dataset, places: &BTreeMap<usize, Result<usize, String>>) -> Vec<DataProblem> {
    let unusable = dataset.problems.iter().map(data_problem);
    let ids: BTreeMap<usize, &String> =
        dataset.records.iter().map(|record| (record.line, &record.id)).collect();
    let unfit = places.iter().filter_map(|(line, place)| {
        let reason = place.as_ref().err()?.clone();
        let id = ids.get(line).map(|id| (*id).clone());
        Some(DataProblem { line: *line, id, reason })
    });
    let mut skipped: Vec<_> = unusable.chain(unfit).collect();
    skipped.sort_by_key(|problem| problem.line);
    skipped
}

/// The domain of all records, if they have the same one.
fn one_domain(dataset: &Dataset) -> Option<String> {
    let mut domains = dataset.records.iter().map(|record| &record.domain);
    let first = domains.next()?.clone()?;
    domains.all(|other| other.as_ref() == Some(&first)).then_some(first)
}

/// A problem of a file, in words.
pub fn data_problem(problem: &Problem) -> DataProblem {
    let Problem { line, id, kind } = problem;
    DataProblem { line: *line, id: id.clone(), reason: kind.to_string() }
}

/// The protocol's word for a measure.
pub fn measure_name(name: meav_data::MeasureName) -> MeasureName {
    match name {
        meav_data::MeasureName::Levels => MeasureName::Levels,
        meav_data::MeasureName::Safety => MeasureName::Safety,
        meav_data::MeasureName::Helpfulness => MeasureName::Helpfulness,
        meav_data::MeasureName::Pairs => MeasureName::Pairs,
    }
}

fn fingerprint(questions: &[Question]) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"meav questions 1");
    let mut add = |tokens: &[u32]| {
        hasher.update(&(tokens.len() as u64).to_le_bytes());
        for token in tokens {
            hasher.update(&token.to_le_bytes());
        }
    };
    for Question { prompt, responses } in questions {
        add(prompt);
        add(&[responses.len() as u32]);
        for response in responses {
            add(response);
        }
    }
    format!("blake3:{}", hasher.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Refuses a system turn in the words of Gemma 2's.
    const NO_SYSTEM: &str = "{% if messages[0]['role'] == 'system' %}\
        {{ raise_exception('System role not supported') }}{% endif %}\
        {% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}";
    const ANY_ROLE: &str = "{% for message in messages %}{{ message['content'] }}{% endfor %}";
    const NOBODY: &str = "{{ raise_exception('no') }}";

    fn messages(turns: &[(&str, &str)]) -> Vec<Message> {
        let message = |(role, content): &(&str, &str)| Message {
            role: (*role).to_owned(),
            content: (*content).to_owned(),
        };
        turns.iter().map(message).collect()
    }

    #[test]
    fn a_system_turn_goes_to_the_user_only_where_it_is_refused() {
        let turns: &[_] = &[("system", "Be brief."), ("user", "Why?"), ("user", "How?")];
        let folded: &[_] = &[("user", "Be brief.\n\nWhy?"), ("user", "How?")];
        let (no_user, no_system): (&[_], &[_]) = (&[("system", "Be brief.")], &[("user", "Why?")]);
        for (source, given, expected) in [
            (NO_SYSTEM, turns, folded),
            (NO_SYSTEM, no_system, no_system),
            (NO_SYSTEM, no_user, no_user),
            (NO_SYSTEM, &[], &[]),
            (ANY_ROLE, turns, turns),
            (NOBODY, turns, turns),
        ] {
            let template = ChatTemplate::new(source, None, None).unwrap();
            let found = with_known_roles(&template, messages(given));
            assert_eq!(found, messages(expected), "{source}: {given:?}");
        }
    }

    #[test]
    fn an_instruction_reaches_a_model_without_a_system_role() {
        let template = ChatTemplate::new(NO_SYSTEM, None, None).unwrap();
        let query = [Turn { role: "user".to_owned(), content: "Why?".to_owned() }];
        for turn in [InstructionTurn::System, InstructionTurn::User] {
            let asked =
                with_known_roles(&template, conversation(&query, Some((turn, "Be brief."))));
            let prompt = template.render(&asked, true).unwrap();
            assert_eq!(prompt, "user: Be brief.\n\nWhy?\n", "{turn:?}");
        }
    }
}
