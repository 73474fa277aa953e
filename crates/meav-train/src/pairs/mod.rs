mod build;
mod fingerprint;
mod hold_back;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use meav_data::Dataset;
use meav_job::JobCtx;
use meav_model::{ChatTemplate, ModelFiles, Question};
use meav_protocol::TrainSettings;

use crate::{TrainError, check_settings};
use build::Builder;

/// A file of records to train on.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The records.
    pub dataset: &'a Dataset,
    /// The level to prefer to all others; `None` prefers each level to the next lower one.
    pub prefer: Option<&'a str>,
}

/// A response and another that is preferred to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Of the record.
    pub id: String,
    /// Of the record.
    pub domain: Option<String>,
    /// Of the chosen response, and of the rejected one.
    pub levels: [String; 2],
    /// The prompt, and as responses the chosen and the rejected one.
    pub question: Question,
    /// Whether one of the responses was cut.
    pub truncated: bool,
}

impl Pair {
    /// Tokens that the model reads: the prompt once, and both responses.
    pub fn len(&self) -> usize {
        let Question { prompt, responses } = &self.question;
        prompt.len() + responses.iter().map(Vec::len).sum::<usize>()
    }

    /// Never: there is a token of each response.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tokens as TRL counts them: each response with its prompt.
    pub fn num_tokens(&self) -> u64 {
        (self.len() + self.question.prompt.len()) as u64
    }
}

/// A record that is not trained on, or not with all of its pairs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Where the record is.
    pub file: PathBuf,
    /// The line it begins on, or for a table its row, from 1.
    pub line: usize,
    /// The record's id, where it can be told.
    pub id: Option<String>,
    /// Why, in words.
    pub reason: String,
}

/// What a run is trained on, as tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairSet {
    /// What is trained on: the pairs of a record behind each other, in the order of the files.
    pub train: Vec<Pair>,
    /// What is held back, likewise.
    pub validation: Vec<Pair>,
    /// One entry for each record, in the order of the files.
    pub left_out: Vec<LeftOut>,
    /// `blake3:` of all tokens, and of which of them are held back: what names reference
    /// log-probabilities together with a model.
    pub fingerprint: String,
}

/// Makes pairs of all records: what is trained on, and what is held back.
///
/// A record of several levels gives a pair for each level and the next lower one, in the order of
/// the file's levels, and with `skip_pairs` one of the highest and the lowest; with
/// [`Source::prefer`] it gives a pair of that level and each other one. PKU-SafeRLHF gives the safe
/// response and the unsafe one where the flags differ (to prefer `helpful` or `unhelpful` asks for
/// its other judgement); records in TRL's form give what they name.
///
/// **Truncation**: a response is cut at its end, so that it is no longer than `max_length` and the
/// model's context together with its prompt; a prompt is never cut. Where that leaves no token of
/// a response, the record is left out. So is one that the tokenizer or the template refuses, and a
/// pair of equal responses.
///
/// **Validation**: the share `validation` of the records that give pairs, rounded to the nearest
/// number and at least 1, drawn by the seed from all files together. All pairs of a record are on
/// one side, and so are all records of the same query. None of fewer than 34 records, nor where
/// all ask the same.
///
/// # Errors
///
/// [`TrainError::Setting`]; [`TrainError::NoRecords`], [`TrainError::OneLevel`] or
/// [`TrainError::UnknownLevel`] where a file has nothing to prefer; [`TrainError::NoPairs`] if one
/// gives no pair; [`TrainError::Cancelled`] between two records.
pub fn pair_set(
    sources: &[Source<'_>],
    files: &ModelFiles,
    template: &ChatTemplate,
    settings: &TrainSettings,
    job: &JobCtx<'_>,
) -> Result<PairSet, TrainError> {
    check_settings(settings)?;
    let total: usize = sources.iter().map(|it| it.dataset.records.len()).sum();
    if total == 0 {
        return Err(TrainError::NoRecords);
    }
    let mut builder = Builder::new(files, template, settings);
    for source in sources {
        builder.add(source, &mut |done| job.tick(done, total))?;
    }
    let Builder { records, left_out, .. } = builder;
    let is_held_back = hold_back::held_back(sources, &records, settings);
    let (mut train, mut validation) = (Vec::new(), Vec::new());
    for (record, is_held_back) in records.into_iter().zip(is_held_back) {
        if is_held_back { &mut validation } else { &mut train }.extend(record.pairs);
    }
    let fingerprint = fingerprint::fingerprint(&train, &validation);
    Ok(PairSet { train, validation, left_out, fingerprint })
}
