use meav_job::JobCtx;
use meav_model::{Decoder, Question};

use crate::{Pair, TrainError};

/// Pairs that the model is asked about together. Always the same ones, so that an interruption
/// changes no number.
const BATCH: usize = 8;

/// What the base model makes of each pair: the log-probabilities of the chosen and the rejected
/// response, summed over their tokens, in nats.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reference {
    /// Of [`PairSet::train`](crate::PairSet::train).
    pub train: Vec<[f64; 2]>,
    /// Of [`PairSet::validation`](crate::PairSet::validation).
    pub validation: Vec<[f64; 2]>,
}

/// Asks the base model about `pairs`; a text that stands in several pairs of a record is read once.
///
/// `on_done` is handed what is new after every eight pairs. After an interruption what is there can
/// be kept, and the others asked about later, with the same result.
///
/// # Errors
///
/// As [`Decoder::score`]; [`TrainError::Cancelled`] between two layers.
pub fn reference_log_probs(
    decoder: &Decoder,
    pairs: &[Pair],
    on_done: &mut dyn FnMut(&[[f64; 2]]),
    job: &JobCtx<'_>,
) -> Result<Vec<[f64; 2]>, TrainError> {
    let mut all = Vec::with_capacity(pairs.len());
    for batch in pairs.chunks(BATCH) {
        let Asked { questions, places } = Asked::new(batch);
        let scores = decoder.score(&questions, &mut |_| {}, &job.without_progress())?;
        let sum = |(question, response): (usize, usize)| -> f64 {
            scores[question][response].iter().map(|log_prob| f64::from(*log_prob)).sum()
        };
        let found: Vec<[f64; 2]> = places.into_iter().map(|pair| pair.map(sum)).collect();
        on_done(&found);
        all.extend(found);
        job.report(all.len(), pairs.len());
    }
    Ok(all)
}

/// The texts of some pairs, each once.
pub(crate) struct Asked {
    pub(crate) questions: Vec<Question>,
    /// For each pair, where its two responses are.
    pub(crate) places: Vec<[(usize, usize); 2]>,
}

impl Asked {
    pub(crate) fn new(pairs: &[Pair]) -> Self {
        let mut questions: Vec<Question> = Vec::new();
        let mut places = Vec::with_capacity(pairs.len());
        for Pair { question: Question { prompt, responses }, .. } in pairs {
            // Pairs of a record follow each other.
            if questions.last().is_none_or(|last| last.prompt != *prompt) {
                questions.push(Question { prompt: prompt.clone(), responses: Vec::new() });
            }
            let index = questions.len() - 1;
            let asked = &mut questions[index].responses;
            let place = |response: &Vec<u32>| {
                let place = asked.iter().position(|other| other == response);
                let place = place.unwrap_or_else(|| {
                    asked.push(response.clone());
                    asked.len() - 1
                });
                (index, place)
            };
            let of_pair: Vec<(usize, usize)> = responses.iter().map(place).collect();
            places.push([of_pair[0], of_pair[1]]);
        }
        Self { questions, places }
    }
}
