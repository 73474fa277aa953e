use candle_core::Tensor;
use meav_job::JobCtx;

use crate::kernels::{LOGITS, Target, token_log_probs};
use crate::passes::{Pass, passes};
use crate::rope::Reach;
use crate::tree::{Asked, Place, Tree};
use crate::{Decoder, KvCache, ModelError};

/// A prompt's tokens, and those of its responses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// What is given.
    pub prompt: Vec<u32>,
    /// What is scored, each by itself.
    pub responses: Vec<Vec<u32>>,
}

/// Tokens that are read in one pass.
const PASS: usize = 1024;

impl Decoder {
    /// Log-probabilities of each response's tokens, given its question's prompt and the tokens
    /// before.
    ///
    /// ```text
    /// log P(tⱼ | prompt, t₀ … tⱼ₋₁)
    /// ```
    ///
    /// What all prompts begin with is read once, and each prompt's own tokens once for all of its
    /// responses. Several questions are read together; what that takes in memory depends on the
    /// longest of them, not on how many there are. The result is the same, bit for bit, on any
    /// number of threads.
    ///
    /// `on_done` hears after each pass how many questions are done.
    ///
    /// # Shapes
    ///
    /// One list for each question, in it one for each response, as long as that; in nats, by a
    /// log-softmax in `f32`.
    ///
    /// # Errors
    ///
    /// [`ModelError::EmptyPrompt`] without a prompt, since nothing tells what the first token's
    /// probability is; [`ModelError::ContextExceeded`] for a response that doesn't fit behind its
    /// prompt, see [`Config::check_context`](crate::Config::check_context);
    /// [`ModelError::Cancelled`] between two layers.
    pub fn score(
        &self,
        questions: &[Question],
        on_done: &mut dyn FnMut(usize),
        job: &JobCtx<'_>,
    ) -> Result<Vec<Vec<Vec<f32>>>, ModelError> {
        self.check_questions(questions)?;
        let mut scores = Scores::new(questions);
        // The tokens of a prompt are others inside a context of another reach.
        for reach in [Reach::Short, Reach::Long] {
            self.score_tree(&self.tree(questions, reach), reach, &mut scores, on_done, job)?;
        }
        Ok(scores.log_probs)
    }

    /// Whether these questions can be read.
    pub(crate) fn check_questions(&self, questions: &[Question]) -> Result<(), ModelError> {
        for Question { prompt, responses } in questions {
            if prompt.is_empty() {
                return Err(ModelError::EmptyPrompt);
            }
            for response in responses {
                self.config().check_context(prompt.len() + response.len())?;
            }
        }
        Ok(())
    }

    /// The responses that end in a context of `reach`, and what they continue.
    pub(crate) fn tree<'a>(&self, questions: &'a [Question], reach: Reach) -> Tree<'a> {
        Tree::new(questions, |prompt, response| self.reach(prompt.len() + response.len()) == reach)
    }

    fn score_tree(
        &self,
        tree: &Tree<'_>,
        reach: Reach,
        scores: &mut Scores,
        on_done: &mut dyn FnMut(usize),
        job: &JobCtx<'_>,
    ) -> Result<(), ModelError> {
        let passes = passes(&tree.nodes(), PASS);
        let capacity = passes.iter().map(Pass::end).max().unwrap_or(0);
        let cache = KvCache::new(self.config(), capacity, self.device())?;
        for pass in &passes {
            let (tokens, sequences) = tree.read(pass);
            let x = self.hidden(&tokens, pass.start, &sequences, reach, &cache, job)?;
            self.score_rows(&x, &tree.asked(pass), scores, job)?;
            on_done(scores.n_done);
        }
        Ok(())
    }

    /// Scores what the rows of a pass tell, some rows at a time.
    fn score_rows(
        &self,
        x: &Tensor,
        asked: &[Asked],
        scores: &mut Scores,
        job: &JobCtx<'_>,
    ) -> Result<(), ModelError> {
        let n_rows = (LOGITS / self.config().vocab_size).max(1);
        let rows: Vec<&[Asked]> = asked.chunk_by(|a, b| a.row == b.row).collect();
        for rows in rows.chunks(n_rows) {
            job.check()?;
            let indices: Vec<u32> = rows.iter().map(|asked| asked[0].row as u32).collect();
            let indices = Tensor::new(indices, x.device())?;
            let logits = self.logits(&x.index_select(&indices, 0)?)?;
            let targets: Vec<Target> = rows
                .iter()
                .enumerate()
                .flat_map(|(row, asked)| {
                    asked.iter().map(move |asked| Target { row, token: asked.token })
                })
                .collect();
            let found = token_log_probs(&logits, &targets)?;
            for (asked, log_prob) in rows.iter().copied().flatten().zip(found) {
                scores.set(asked.place, log_prob);
            }
        }
        Ok(())
    }
}

/// What is known so far.
struct Scores {
    log_probs: Vec<Vec<Vec<f32>>>,
    /// How many of each question's tokens are yet to be scored.
    n_left: Vec<usize>,
    /// Questions without such tokens.
    n_done: usize,
}

impl Scores {
    fn new(questions: &[Question]) -> Self {
        let zeros = |question: &Question| {
            question.responses.iter().map(|response| vec![0.0; response.len()]).collect()
        };
        let n_left: Vec<usize> =
            questions.iter().map(|it| it.responses.iter().map(Vec::len).sum()).collect();
        let n_done = n_left.iter().filter(|n_left| **n_left == 0).count();
        Self { log_probs: questions.iter().map(zeros).collect(), n_left, n_done }
    }

    fn set(&mut self, place: Place, log_prob: f32) {
        let Place { question, response, index } = place;
        self.log_probs[question][response][index] = log_prob;
        self.n_left[question] -= 1;
        self.n_done += usize::from(self.n_left[question] == 0);
    }
}
