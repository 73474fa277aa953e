//! Who says at which level an answer stands: a model on this machine, or a server.

use std::env;

use meav_eval::judge::{
    Address, ApiKey, Endpoint, EndpointSettings, Message, Position, check_rubric, level_from_text,
    level_prompt, pair_prompt, position_from_log_probs, position_from_text, verdict_from_log_probs,
};
use meav_eval::with_known_roles;
use meav_job::JobCtx;
use meav_model::{ChatTemplate, ModelError, ModelFiles, Question, ResponseTokens};
use meav_protocol::{Fact, Judge, Rubric, Setup, Stage};

use crate::convert::vector_method;
use crate::error::EngineError;
use crate::loaded::Loaded;
use crate::secrets::{Secrets, SecretsError};
use crate::words::source_chain;
use crate::worker::{Running, Worker};

/// Where a key may stand instead of in the system's secret store.
const KEY_VARIABLE: &str = "MEAV_JUDGE_KEY";

/// A query and an answer that any judge can be asked about.
const EXAMPLE: [&str; 2] = ["Why is the sky blue?", "Air scatters blue light more than red."];

/// What a judge finds of one answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Judgement {
    /// The place of the level; `None` where that is not clear.
    pub(crate) level: Option<usize>,
    /// How likely a local judge finds each level; empty for an endpoint.
    pub(crate) probabilities: Vec<f64>,
}

/// A judge and what it was told.
pub(crate) struct ActiveJudge {
    rubric: Rubric,
    name: String,
    model: JudgeModel,
}

enum JudgeModel {
    /// On this machine, not in memory yet: the model that answers has it until then.
    Waiting(Box<Setup>),
    Local(Box<Loaded>),
    Endpoint(Box<Endpoint>),
}

impl ActiveJudge {
    /// Looks whether the judge will do, before an hour is spent on answers for it.
    ///
    /// An endpoint is asked about an example; of a model on this machine all is looked at but the
    /// weights.
    pub(crate) fn check(
        worker: &mut Worker,
        rubric: &Rubric,
        judge: &Judge,
        running: &Running<'_>,
    ) -> Result<Self, EngineError> {
        check_rubric(rubric)?;
        let rubric = rubric.clone();
        match judge {
            Judge::Local(setup) => {
                let name = check_local(worker, &rubric, setup, running)?;
                let model = JudgeModel::Waiting(Box::new(setup.clone()));
                Ok(Self { rubric, name, model })
            }
            Judge::Endpoint { address, model } => {
                let endpoint = Box::new(endpoint(address, model, running)?);
                let name = format!("{model} at {address}");
                let judge = Self { rubric, name, model: JudgeModel::Endpoint(endpoint) };
                let [query, answer] = EXAMPLE;
                running.stage(Stage::Judging, |job| judge.level(query, answer, job))?;
                Ok(judge)
            }
        }
    }

    /// Loads a model on this machine, unless it is loaded.
    pub(crate) fn load(
        &mut self,
        worker: &mut Worker,
        running: &Running<'_>,
    ) -> Result<(), EngineError> {
        let JudgeModel::Waiting(setup) = &self.model else { return Ok(()) };
        let (mut loaded, terms) = worker.load_apart(setup, running)?;
        let method = vector_method(setup.method);
        running.stage(Stage::Merging, |job| loaded.apply(method, &terms, job))?;
        self.model = JudgeModel::Local(Box::new(loaded));
        Ok(())
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The level of an answer.
    pub(crate) fn level(
        &self,
        query: &str,
        answer: &str,
        job: &JobCtx<'_>,
    ) -> Result<Judgement, EngineError> {
        let prompt = level_prompt(&self.rubric, query, answer);
        match &self.model {
            JudgeModel::Waiting(_) => unreachable!("it is loaded before it is asked"),
            JudgeModel::Local(loaded) => {
                let sums = log_probs(loaded, &prompt, &self.rubric.names(), job)?;
                let verdict = verdict_from_log_probs(&sums);
                Ok(verdict.map_or_else(Judgement::default, |it| Judgement {
                    level: Some(it.level),
                    probabilities: it.probs,
                }))
            }
            JudgeModel::Endpoint(endpoint) => {
                let reply = endpoint.ask(&prompt, job)?;
                let level = level_from_text(&self.rubric, &reply.text);
                Ok(Judgement { level, probabilities: Vec::new() })
            }
        }
    }

    /// Which of two answers is more at the first level; `None` where that is not clear.
    pub(crate) fn position(
        &self,
        query: &str,
        first: &str,
        second: &str,
        job: &JobCtx<'_>,
    ) -> Result<Option<Position>, EngineError> {
        let prompt = pair_prompt(&self.rubric.levels[0], query, first, second);
        match &self.model {
            JudgeModel::Waiting(_) => unreachable!("it is loaded before it is asked"),
            JudgeModel::Local(loaded) => {
                let sums = log_probs(loaded, &prompt, &["A", "B"], job)?;
                Ok(position_from_log_probs([sums[0], sums[1]]))
            }
            JudgeModel::Endpoint(endpoint) => {
                Ok(position_from_text(&endpoint.ask(&prompt, job)?.text))
            }
        }
    }
}

/// Looks at all of a model but its weights, and gives its name.
fn check_local(
    worker: &mut Worker,
    rubric: &Rubric,
    setup: &Setup,
    running: &Running<'_>,
) -> Result<String, EngineError> {
    let files = ModelFiles::open(&worker.folders.model(&setup.model)?)?;
    files.chat_template.as_ref().ok_or(ModelError::NoChatTemplate)?;
    let template = files.compile_chat_template()?;
    let [query, answer] = EXAMPLE;
    for tokens in
        reply_tokens(&files, &template, &level_prompt(rubric, query, answer), &rubric.names())?
    {
        files.config.check_context(tokens.prompt.len() + tokens.response.len())?;
    }
    worker.open_terms(&setup.vectors, &files, running)?;
    if worker.place(&files, setup.dtype, &[]).is_err() {
        // It has to make room for the judge anyway.
        worker.unload(running.job_id);
        worker.place(&files, setup.dtype, &[])?;
    }
    Ok(files.name)
}

/// The tokens of each reply to the prompt.
fn reply_tokens(
    files: &ModelFiles,
    template: &ChatTemplate,
    prompt: &[Message],
    replies: &[&str],
) -> Result<Vec<ResponseTokens>, ModelError> {
    let message = |message: &Message| meav_model::Message {
        role: message.role.as_str().to_owned(),
        content: message.content.clone(),
    };
    let messages = with_known_roles(template, prompt.iter().map(message).collect());
    replies.iter().map(|reply| files.response_tokens(template, &messages, reply)).collect()
}

/// The sum of log-probabilities of each reply as the whole of the model's turn.
fn log_probs(
    loaded: &Loaded,
    prompt: &[Message],
    replies: &[&str],
    job: &JobCtx<'_>,
) -> Result<Vec<f64>, EngineError> {
    let template = loaded.template.as_ref().ok_or(ModelError::NoChatTemplate)?;
    let mut question = Question { prompt: Vec::new(), responses: Vec::new() };
    for tokens in reply_tokens(&loaded.files, template, prompt, replies)? {
        question.prompt = tokens.prompt;
        question.responses.push(tokens.response);
    }
    let found = loaded.decoder.score(&[question], &mut |_| {}, job)?;
    let sum = |log_probs: &Vec<f32>| log_probs.iter().map(|it| f64::from(*it)).sum();
    Ok(found[0].iter().map(sum).collect())
}

fn endpoint(address: &str, model: &str, running: &Running<'_>) -> Result<Endpoint, EngineError> {
    let address = Address::parse(address)?;
    let key = match stored_key(&address, running)? {
        Some(key) => Some(key),
        None => given_key()?,
    };
    Ok(Endpoint::new(address, key, EndpointSettings::of_model(model))?)
}

/// The key that is kept for the address. A store that fails is told of, and is no obstacle: many
/// servers at home want no key.
fn stored_key(address: &Address, running: &Running<'_>) -> Result<Option<ApiKey>, EngineError> {
    let found =
        running.stage(Stage::Judging, |job| Secrets::of_desktop().key_for_job(address, job));
    match found {
        Ok(key) => Ok(key),
        Err(SecretsError::Cancelled(cancelled)) => Err(cancelled.into()),
        Err(err) => {
            let words = source_chain(&err);
            tracing::warn!("no key is looked up: {words}");
            running.fact(Fact::Note(format!("no stored key is used for {address}: {words}")));
            Ok(None)
        }
    }
}

/// The key of [`KEY_VARIABLE`].
fn given_key() -> Result<Option<ApiKey>, EngineError> {
    let given = env::var(KEY_VARIABLE).ok().filter(|key| !key.is_empty());
    Ok(given.map(|key| ApiKey::new(&key)).transpose()?)
}
