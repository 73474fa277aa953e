use std::collections::HashMap;
use std::time::Instant;

use meav_data::Dataset;
use meav_eval::judge::{LevelShares, PairStats, Share, sample};
use meav_eval::{conversation, with_known_roles};
use meav_model::{Finish, ModelError, Sampling};
use meav_protocol::{
    DatasetScores, Fact, InstructionTurn, JudgeReport, JudgeSpec, JudgedAnswer, JudgedPair,
    JudgedRecipe, RecipeStamp, Stage,
};

use crate::background::Background;
use crate::error::EngineError;
use crate::jobs::chat::sampling;
use crate::judges::{ActiveJudge, Judgement};
use crate::measuring::{MeasuredFile, Measuring, Pass, file_name, read_data};
use crate::words::{is_cancelled, source_chain};
use crate::worker::{Running, Worker};

/// After how many failures of a server in a row the job fails, too.
const TOLERATED_FAILURES: usize = 5;

/// Failures that are told in one note.
const TOLD_FAILURES: usize = 5;

/// A judgement as far as it has come.
pub(crate) struct JudgeRun {
    /// The model that answers; gone when all is answered.
    answering: Option<Answering>,
    rows: Vec<Row>,
    /// What was asked: id, and the query in words.
    queries: Vec<(String, String)>,
    judge: ActiveJudge,
    pairs: Vec<Pair>,
    /// Answers that the model did not give.
    unanswered: Failures,
    /// Replies that the judge did not give.
    unjudged: Failures,
    elapsed_secs: f64,
}

struct Answering {
    measuring: Measuring,
    turn: InstructionTurn,
    instructions: Vec<(String, String)>,
}

/// One recipe, or one instruction.
struct Row {
    pass: Pass,
    recipe: RecipeStamp,
    instruction: Option<String>,
    /// `None` where the model could not be asked.
    answers: Vec<Option<String>>,
    preferences: Option<Vec<DatasetScores>>,
    verdicts: Vec<Judgement>,
}

/// Two rows that are compared.
struct Pair {
    rows: (usize, usize),
    stats: PairStats,
    done: usize,
}

/// What failed for one text while others went on.
#[derive(Default)]
struct Failures {
    n: usize,
    /// Each id with the reason, once.
    told: Vec<(String, String)>,
    /// Failures of the server since it last answered.
    in_a_row: usize,
}

/// Has a model answer and a judge say at which level.
pub(crate) fn judge(
    worker: &mut Worker,
    spec: &JudgeSpec,
    running: &Running<'_>,
) -> Result<(), EngineError> {
    let began = Instant::now();
    let mut run = match worker.take_background(running) {
        Some(Background::Judge(run)) => run,
        _ => Box::new(JudgeRun::open(worker, spec, running)?),
    };
    let result = run.go_on(worker, spec, running);
    run.elapsed_secs += began.elapsed().as_secs_f64();
    if result.as_ref().is_err_and(is_cancelled) && running.will_go_on() {
        worker.keep_background(running, Background::Judge(run));
        return result;
    }
    let (n_judged, n_answers) = (run.n_judged(), run.n_answers());
    if result.is_ok() || n_judged > 0 {
        run.note_failures(running);
        if result.is_err() {
            running.fact(Fact::Note(format!(
                "the report is partial: {n_judged} of {n_answers} answers have been judged{}",
                if spec.compares { ", and not all are compared" } else { "" },
            )));
        }
        running.fact(Fact::Judged(Box::new(run.report(spec))));
    }
    result
}

impl JudgeRun {
    fn open(
        worker: &mut Worker,
        spec: &JudgeSpec,
        running: &Running<'_>,
    ) -> Result<Self, EngineError> {
        // Whatever is wrong with the judge is better known before an hour of answering.
        let judge = ActiveJudge::check(worker, &spec.rubric, &spec.judge, running)?;
        let mut dataset = read_data(worker, &spec.data, usize::MAX, running)?;
        let chosen = sample(dataset.records.len(), spec.sample, spec.sampling.seed);
        dataset.records = chosen.iter().map(|place| dataset.records[*place].clone()).collect();
        dataset.problems.clear();
        if dataset.records.is_empty() {
            return Err(EngineError::NoData);
        }
        let queries = queries(&dataset);
        let files = vec![MeasuredFile { file: spec.data.clone(), dataset }];
        let prompting = spec.prompting.as_ref();
        let measuring = Measuring::of(worker, &spec.setup, files, prompting, running)?;
        let coefficients = spec.recipes.iter().map(|recipe| measuring.pass(recipe));
        let texts: Vec<(String, String)> = prompting
            .iter()
            .flat_map(|it| &it.instructions)
            .map(|(level, text)| (level.clone(), text.clone()))
            .collect();
        let none = measuring.pass(&vec![0.0; spec.setup.vectors.len()]);
        let rows = coefficients
            .map(|pass| (pass, None))
            .chain(texts.iter().map(|(level, _)| (none.clone(), Some(level.clone()))));
        let row = |(pass, instruction): (Pass, Option<String>)| Row {
            recipe: measuring.loaded.recipe(measuring.method, &pass.terms),
            pass,
            instruction,
            answers: Vec::new(),
            preferences: None,
            verdicts: Vec::new(),
        };
        let rows: Vec<Row> = rows.map(row).collect();
        let pairs = if spec.compares { pairs(rows.len()) } else { Vec::new() };
        let turn = prompting.map(|it| it.turn).unwrap_or_default();
        let answering = Some(Answering { measuring, turn, instructions: texts });
        Ok(Self {
            answering,
            rows,
            queries,
            judge,
            pairs,
            unanswered: Failures::default(),
            unjudged: Failures::default(),
            elapsed_secs: 0.0,
        })
    }

    fn go_on(
        &mut self,
        worker: &mut Worker,
        spec: &JudgeSpec,
        running: &Running<'_>,
    ) -> Result<(), EngineError> {
        if let Some(answering) = &mut self.answering {
            answering.answer(&mut self.rows, &mut self.unanswered, spec, running)?;
            answering.measure(&mut self.rows, running)?;
            self.answering = None;
        }
        self.judge.load(worker, running)?;
        self.judge_rows(running)?;
        self.judge_pairs(running)
    }

    fn judge_rows(&mut self, running: &Running<'_>) -> Result<(), EngineError> {
        let total = self.n_requests();
        let Self { rows, queries, judge, unjudged, .. } = self;
        for (place, row) in rows.iter_mut().enumerate() {
            while let Some((id, query)) = queries.get(row.verdicts.len()) {
                let done = place * queries.len() + row.verdicts.len();
                let verdict = match &row.answers[row.verdicts.len()] {
                    None => Judgement::default(),
                    Some(answer) => {
                        let result = running.stage(Stage::Judging, |job| {
                            job.tick(done, total)?;
                            judge.level(query, answer, &job.without_progress())
                        });
                        unjudged.excuse(id, result)?
                    }
                };
                row.verdicts.push(verdict);
            }
        }
        Ok(())
    }

    fn judge_pairs(&mut self, running: &Running<'_>) -> Result<(), EngineError> {
        let (before, total) = (self.n_answers(), self.n_requests());
        let Self { rows, queries, judge, unjudged, pairs, .. } = self;
        for (place, pair) in pairs.iter_mut().enumerate() {
            while let Some((id, query)) = queries.get(pair.done) {
                let done = before + 2 * (place * queries.len() + pair.done);
                let mut ask = |first: &str, second: &str, done| {
                    let result = running.stage(Stage::Judging, |job| {
                        job.tick(done, total)?;
                        judge.position(query, first, second, &job.without_progress())
                    });
                    unjudged.excuse(id, result)
                };
                let (a, b) = pair.rows;
                let verdicts = match [a, b].map(|row| rows[row].answers[pair.done].as_deref()) {
                    [Some(a), Some(b)] => (ask(a, b, done)?, ask(b, a, done + 1)?),
                    _ => (None, None),
                };
                pair.stats.add(verdicts.0, verdicts.1);
                pair.done += 1;
            }
        }
        Ok(())
    }

    fn n_answers(&self) -> usize {
        self.rows.len() * self.queries.len()
    }

    fn n_judged(&self) -> usize {
        self.rows.iter().map(|row| row.verdicts.len()).sum()
    }

    /// What the judge is asked in all.
    fn n_requests(&self) -> usize {
        self.n_answers() + 2 * self.pairs.len() * self.queries.len()
    }

    /// Says what is counted as unclear because it failed.
    fn note_failures(&self, running: &Running<'_>) {
        let notes = [self.unanswered.note("answer"), self.unjudged.note("judgement")];
        notes.into_iter().flatten().for_each(|note| running.fact(Fact::Note(note)));
    }

    /// The rows and pairs that have been judged, as far as they have.
    fn report(self, spec: &JudgeSpec) -> JudgeReport {
        let levels: Vec<String> =
            spec.rubric.levels.iter().map(|level| level.name.trim().to_owned()).collect();
        let Self { mut rows, queries, judge, mut pairs, elapsed_secs, .. } = self;
        // Rows are judged in order and before all pairs, so that places stay what they are.
        rows.retain(|row| !row.verdicts.is_empty());
        pairs.retain(|pair| pair.done > 0);
        let pair = |Pair { rows, stats, .. }: Pair| JudgedPair {
            a: rows.0,
            b: rows.1,
            a_wins: stats.n_first as usize,
            b_wins: stats.n_second as usize,
            disagreements: stats.n_disagreements as usize,
            unclear: stats.n_unclear as usize,
            first_share: stats.first_shown_share().unwrap_or(0.5),
        };
        JudgeReport {
            judge: judge.name().to_owned(),
            data: file_name(&spec.data),
            rows: rows.into_iter().map(|row| row.report(&levels, &queries)).collect(),
            levels,
            pairs: pairs.into_iter().map(pair).collect(),
            elapsed_secs,
        }
    }
}

impl Answering {
    fn answer(
        &mut self,
        rows: &mut [Row],
        unanswered: &mut Failures,
        spec: &JudgeSpec,
        running: &Running<'_>,
    ) -> Result<(), EngineError> {
        let sampling = sampling(&spec.sampling);
        let n_queries = self.measuring.files[0].dataset.records.len();
        let total = rows.len() * n_queries;
        for (place, row) in rows.iter_mut().enumerate() {
            while row.answers.len() < n_queries {
                let method = self.measuring.method;
                let loaded = &mut self.measuring.loaded;
                let merged = running
                    .stage(Stage::Merging, |job| loaded.apply(method, &row.pass.terms, job))?;
                if merged.tensors > 0 {
                    loaded.generator.reset();
                }
                let answer = running.stage(Stage::Answering, |job| {
                    job.tick(place * n_queries + row.answers.len(), total)?;
                    let quiet = job.without_progress();
                    self.answer_one(row.answers.len(), row, &sampling, spec.max_tokens, &quiet)
                        .map(Some)
                });
                // If it can answer nothing at all, the reason is the job's.
                let answer = if unanswered.n + 1 < total {
                    let id = &self.measuring.files[0].dataset.records[row.answers.len()].id;
                    unanswered.excuse(id, answer)?
                } else {
                    answer?
                };
                row.answers.push(answer);
            }
        }
        Ok(())
    }

    fn answer_one(
        &mut self,
        place: usize,
        row: &Row,
        sampling: &Sampling,
        max_tokens: usize,
        job: &meav_job::JobCtx<'_>,
    ) -> Result<String, EngineError> {
        let query = &self.measuring.files[0].dataset.records[place].query;
        let text = row.instruction.as_ref().and_then(|level| {
            self.instructions.iter().find(|(own, _)| own == level).map(|(_, text)| text.as_str())
        });
        let turns = conversation(query, text.map(|text| (self.turn, text)));
        let loaded = &mut self.measuring.loaded;
        let template = loaded.template.as_ref().ok_or(ModelError::NoChatTemplate)?;
        let prompt = template.render(&with_known_roles(template, turns), true)?;
        let prompt = loaded.files.tokenizer.encode(prompt, false).map_err(ModelError::Encode)?;
        let generation = loaded.generator.generate(
            &loaded.decoder,
            &loaded.files.tokenizer,
            &loaded.files.special.stop,
            prompt.get_ids(),
            sampling,
            max_tokens,
            &mut |_, _| {},
            job,
        )?;
        if generation.finish == Finish::Cancelled {
            return Err(meav_job::Cancelled.into());
        }
        Ok(generation.text)
    }

    /// What the log-probabilities of the data's own responses prefer, on the same queries.
    fn measure(&mut self, rows: &mut [Row], running: &Running<'_>) -> Result<(), EngineError> {
        let levels: Vec<String> = self.measuring.instructions().map(str::to_owned).collect();
        let passes = |row: &Row| match &row.instruction {
            None => Some(row.pass.clone()),
            Some(level) => {
                let place = levels.iter().position(|other| other == level)?;
                Some(self.measuring.instructed(place))
            }
        };
        let passes: Vec<Option<Pass>> = rows.iter().map(passes).collect();
        let missing: Vec<Pass> = passes
            .iter()
            .zip(rows.iter())
            .filter(|(_, row)| row.preferences.is_none())
            .filter_map(|(pass, _)| pass.clone())
            .collect();
        self.measuring.expect(&missing);
        for (row, pass) in rows.iter_mut().zip(passes) {
            if row.preferences.is_none()
                && let Some(pass) = pass
            {
                row.preferences = Some(self.measuring.run(&pass, None, true, running)?.1);
            }
        }
        Ok(())
    }
}

impl Row {
    fn report(self, levels: &[String], queries: &[(String, String)]) -> JudgedRecipe {
        let Self { recipe, instruction, answers, preferences, verdicts, .. } = self;
        let same = |scores: &&DatasetScores| scores.preference_accuracy.keys().eq(levels.iter());
        let own = preferences.as_ref().and_then(|scores| scores.iter().find(same));
        let counts = counts(levels, &verdicts, queries, own);
        let mut shares = vec![0.0; levels.len()];
        let mut intervals = vec![[0.0, 1.0]; levels.len()];
        for (place, share) in counts.shares().into_iter().enumerate() {
            shares[place] = share.value();
            intervals[place] = [*share.interval().start(), *share.interval().end()];
        }
        let answer = |((answer, Judgement { level, probabilities }), (id, query)): (
            (Option<String>, Judgement),
            &(String, String),
        )| JudgedAnswer {
            id: id.clone(),
            query: query.clone(),
            answer: answer.unwrap_or_default(),
            level,
            probabilities,
        };
        JudgedRecipe {
            recipe,
            instruction,
            shares,
            intervals,
            unclear: counts.n_unclear() as usize,
            preference_accuracy: own.map(|own| own.preference_accuracy.values().copied().collect()),
            agreement: counts.agreement().map(Share::value),
            answers: answers.into_iter().zip(verdicts).zip(queries).map(answer).collect(),
        }
    }
}

/// Counts the verdicts, each beside what the log-probabilities prefer for the record of the same
/// id: not every record that is answered has been scored.
fn counts(
    levels: &[String],
    verdicts: &[Judgement],
    queries: &[(String, String)],
    scores: Option<&DatasetScores>,
) -> LevelShares {
    let records = scores.iter().flat_map(|scores| &scores.records);
    let preferred: HashMap<&str, usize> = records
        .filter_map(|record| {
            let level = levels.iter().position(|level| *level == record.preferred)?;
            Some((record.id.as_str(), level))
        })
        .collect();
    let mut counts = LevelShares::new(levels.len());
    for (verdict, (id, _)) in verdicts.iter().zip(queries) {
        counts.add(verdict.level, preferred.get(id.as_str()).copied());
    }
    counts
}

impl Failures {
    /// Makes nothing of a failure that is of one text alone, and counts it; so also of a few
    /// failures of a server in a row.
    fn excuse<T: Default>(
        &mut self,
        id: &str,
        result: Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let err = match result {
            Ok(found) => {
                self.in_a_row = 0;
                return Ok(found);
            }
            Err(err) => err,
        };
        match &err {
            EngineError::Model(
                ModelError::ContextExceeded { .. }
                | ModelError::ChatTemplate(_)
                | ModelError::Encode(_)
                | ModelError::PromptNotPrefix
                | ModelError::EmptyPrompt,
            ) => {}
            EngineError::Endpoint(_)
                if self.in_a_row < TOLERATED_FAILURES && !is_cancelled(&err) =>
            {
                self.in_a_row += 1;
            }
            _ => return Err(err),
        }
        self.n += 1;
        let failure = (id.to_owned(), source_chain(&err));
        if !self.told.contains(&failure) {
            self.told.push(failure);
        }
        Ok(T::default())
    }

    /// Which failed and why; `what` they are.
    fn note(&self, what: &str) -> Option<String> {
        let told: Vec<String> = self
            .told
            .iter()
            .take(TOLD_FAILURES)
            .map(|(id, reason)| format!("{id}: {reason}"))
            .collect();
        let more = self.told.len().saturating_sub(TOLD_FAILURES);
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        let counted = match self.n {
            0 => return None,
            1 => format!("1 {what} failed and counts"),
            n => format!("{n} {what}s failed and count"),
        };
        Some(format!("{counted} as unclear: {}{more}", told.join("; ")))
    }
}

/// Every two of `n` rows.
fn pairs(n: usize) -> Vec<Pair> {
    let rows = (0..n).flat_map(|a| (a + 1..n).map(move |b| (a, b)));
    rows.map(|rows| Pair { rows, stats: PairStats::default(), done: 0 }).collect()
}

fn queries(dataset: &Dataset) -> Vec<(String, String)> {
    let text = |record: &meav_data::Record| {
        let turns = record.query.iter().filter(|turn| turn.role != "system");
        turns.map(|turn| turn.content.as_str()).collect::<Vec<_>>().join("\n\n")
    };
    dataset.records.iter().map(|record| (record.id.clone(), text(record))).collect()
}

#[cfg(test)]
mod tests {
    use meav_eval::judge::EndpointError;
    use meav_eval::{RawScore, ScoredItem, ScoredResponse, dataset_scores};
    use meav_job::Cancelled;
    use meav_protocol::MeasureName;

    use super::*;

    fn levels() -> [String; 2] {
        ["expert", "generic"].map(str::to_owned)
    }

    /// Scores of records by their id, each with the place of the level that it prefers.
    fn scores(records: &[(&'static str, usize)]) -> DatasetScores {
        let response = |is_preferred: bool| ScoredResponse {
            raw: RawScore { sum_log_prob: if is_preferred { -1.0 } else { -9.0 }, tokens: 3 },
            bytes: 9,
        };
        let item = |&(id, preferred): &(&'static str, usize)| ScoredItem {
            id,
            prompt_tokens: 4,
            responses: (0..2).map(|level| response(level == preferred)).collect(),
        };
        let items: Vec<_> = records.iter().map(item).collect();
        dataset_scores("f", MeasureName::Levels, &levels(), &items, Vec::new(), true)
    }

    fn agreement(verdicts: &[Option<usize>], scores: Option<&DatasetScores>) -> Option<f64> {
        let judgement = |level: &Option<usize>| Judgement { level: *level, ..Default::default() };
        let verdicts: Vec<_> = verdicts.iter().map(judgement).collect();
        let queries = ["q-1", "q-2", "q-3"].map(|id| (id.to_owned(), String::new()));
        counts(&levels(), &verdicts, &queries, scores).agreement().map(Share::value)
    }

    #[test]
    fn agreement_is_about_the_same_record_where_one_is_not_scored() {
        let verdicts = [Some(0), Some(1), Some(0)];
        for (records, expected) in [
            (&[("q-1", 0), ("q-2", 1), ("q-3", 0)][..], Some(1.0)),
            (&[("q-2", 1), ("q-3", 0)], Some(1.0)),
            (&[("q-3", 1), ("q-2", 1)], Some(0.5)),
            (&[("q-1", 1)], Some(0.0)),
            (&[("q-9", 0)], None),
            (&[], None),
        ] {
            assert_eq!(agreement(&verdicts, Some(&scores(records))), expected, "{records:?}");
        }
        let all = scores(&[("q-1", 1), ("q-2", 1), ("q-3", 1)]);
        assert_eq!(agreement(&[None, Some(1), None], Some(&all)), Some(1.0));
        assert_eq!(agreement(&verdicts, None), None);
    }

    fn silent() -> EngineError {
        let (address, limit) =
            ("https://example.com".to_owned(), std::time::Duration::from_secs(1));
        EndpointError::TimedOut { address, limit }.into()
    }

    fn too_long() -> EngineError {
        ModelError::ContextExceeded { tokens: 9, limit: 8 }.into()
    }

    #[test]
    fn a_failing_server_is_borne_a_few_times_in_a_row() {
        let mut failures = Failures::default();
        for _ in 0..3 {
            for _ in 0..TOLERATED_FAILURES {
                assert_eq!(failures.excuse("q", Err::<Option<u8>, _>(silent())).unwrap(), None);
            }
            assert_eq!(failures.excuse("q", Ok(Some(7_u8))).unwrap(), Some(7));
        }
        for _ in 0..TOLERATED_FAILURES {
            failures.excuse("q", Err::<Option<u8>, _>(silent())).unwrap();
        }
        let err = failures.excuse("q", Err::<Option<u8>, _>(silent())).unwrap_err();
        assert!(matches!(err, EngineError::Endpoint(_)), "{err:?}");
        assert_eq!(failures.n, 4 * TOLERATED_FAILURES);
    }

    #[test]
    fn texts_that_do_not_fit_are_told_by_their_ids_and_other_failures_are_the_jobs() {
        let mut failures = Failures::default();
        assert_eq!(failures.note("answer"), None);
        for place in 0..TOLD_FAILURES + 2 {
            let id = format!("q-{place}");
            for _recipe in 0..2 {
                failures.excuse(&id, Err::<(), _>(too_long())).unwrap();
            }
        }
        let note = failures.note("answer").unwrap();
        let n = 2 * (TOLD_FAILURES + 2);
        let begin = format!(
            "{n} answers failed and count as unclear: q-0: the conversation has 9 tokens, the \
             model can take 8; q-1: "
        );
        assert!(note.starts_with(&begin) && note.ends_with("; and 2 more"), "{note}");
        for err in [
            Cancelled.into(),
            EndpointError::Cancelled(Cancelled).into(),
            ModelError::Cancelled(Cancelled).into(),
            EngineError::NoData,
        ] {
            let words = err.to_string();
            assert!(failures.excuse("q", Err::<(), _>(err)).is_err(), "{words}");
        }
        assert_eq!(failures.n, n);
    }
}
