use candle_core::Tensor;
use meav_job::JobCtx;

use crate::kernels::{Sequence, Target, token_log_probs};
use crate::passes::{Node, Pass, Piece, passes};
use crate::rope::Reach;
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

/// Elements of the logits that are kept at a time: 64 MiB.
const LOGITS: usize = 1 << 24;

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
        for Question { prompt, responses } in questions {
            if prompt.is_empty() {
                return Err(ModelError::EmptyPrompt);
            }
            for response in responses {
                self.config().check_context(prompt.len() + response.len())?;
            }
        }
        let mut scores = Scores::new(questions);
        // The tokens of a prompt are others inside a context of another reach.
        for reach in [Reach::Short, Reach::Long] {
            let tree = Tree::new(questions, |prompt, response| {
                self.reach(prompt.len() + response.len()) == reach
            });
            self.score_tree(&tree, reach, &mut scores, on_done, job)?;
        }
        Ok(scores.log_probs)
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

/// Where a token stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    question: usize,
    response: usize,
    index: usize,
}

/// A token whose probability is asked for, and the row of a pass that tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Asked {
    row: usize,
    token: u32,
    place: Place,
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

/// What all prompts begin with, behind it the prompts, and behind each prompt its responses.
struct Tree<'a> {
    questions: &'a [Question],
    branches: Vec<Branch<'a>>,
}

struct Branch<'a> {
    parent: Option<usize>,
    /// What is read; nobody asks what follows the last token of a response.
    tokens: &'a [u32],
    part: Part,
}

/// What a branch is.
enum Part {
    /// The beginning of all prompts.
    Root,
    /// The rest of a prompt, and which of its responses are scored.
    Prompt(usize, Vec<usize>),
    /// A question's response.
    Response(usize, usize),
}

impl<'a> Tree<'a> {
    /// Of the responses that have tokens and are `wanted`, given their prompts.
    fn new(questions: &'a [Question], wanted: impl Fn(&[u32], &[u32]) -> bool) -> Self {
        let wanted: Vec<(usize, Vec<usize>)> = questions
            .iter()
            .map(|Question { prompt, responses }| {
                let is_wanted = |tokens: &[u32]| !tokens.is_empty() && wanted(prompt, tokens);
                (0..responses.len()).filter(|index| is_wanted(&responses[*index])).collect()
            })
            .enumerate()
            .filter(|(_, responses): &(_, Vec<usize>)| !responses.is_empty())
            .collect();
        let prompts = wanted.iter().map(|(question, _)| &questions[*question].prompt[..]);
        let root = common_start(prompts);
        let mut branches = vec![Branch { parent: None, tokens: root, part: Part::Root }];
        for (question, indices) in wanted {
            let Question { prompt, responses } = &questions[question];
            let parent = Some(branches.len());
            let own = &prompt[root.len()..];
            let part = Part::Prompt(question, indices.clone());
            branches.push(Branch { parent: Some(0), tokens: own, part });
            branches.extend(indices.into_iter().map(|index| {
                let (_, tokens) = responses[index].split_last().expect("the response has tokens");
                Branch { parent, tokens, part: Part::Response(question, index) }
            }));
        }
        Self { questions, branches }
    }

    fn nodes(&self) -> Vec<Node> {
        let node = |branch: &Branch<'_>| Node { parent: branch.parent, len: branch.tokens.len() };
        self.branches.iter().map(node).collect()
    }

    /// The tokens of a pass, and where they stand.
    fn read(&self, pass: &Pass) -> (Vec<u32>, Vec<Sequence>) {
        let tokens =
            |piece: &Piece| self.branches[piece.node].tokens[piece.tokens.clone()].to_vec();
        let sequences = pass
            .pieces
            .iter()
            .map(|piece| Sequence { before: piece.before.clone(), len: piece.tokens.len() })
            .collect();
        (pass.pieces.iter().flat_map(tokens).collect(), sequences)
    }

    /// What the rows of a pass tell, by rows: each the token behind its own, the last of a prompt
    /// the first tokens of its responses.
    fn asked(&self, pass: &Pass) -> Vec<Asked> {
        let mut asked = Vec::new();
        let mut start = 0;
        for piece in &pass.pieces {
            let end = start + piece.tokens.len();
            let Branch { tokens, part, .. } = &self.branches[piece.node];
            let place = |question: usize, response: usize, index: usize, row: usize| {
                let token = self.questions[question].responses[response][index];
                Asked { row, token, place: Place { question, response, index } }
            };
            match part {
                Part::Prompt(question, responses) if piece.tokens.end == tokens.len() => {
                    asked.extend(responses.iter().map(|it| place(*question, *it, 0, end - 1)));
                }
                Part::Response(question, response) => asked.extend(
                    piece
                        .tokens
                        .clone()
                        .zip(start..)
                        .map(|(index, row)| place(*question, *response, index + 1, row)),
                ),
                Part::Root | Part::Prompt(..) => {}
            }
            start = end;
        }
        asked
    }
}

/// What all prompts begin with, short enough to leave each a token of its own.
fn common_start<'a>(mut prompts: impl Iterator<Item = &'a [u32]>) -> &'a [u32] {
    let Some(first) = prompts.next() else { return &[] };
    let shorter = |start: &'a [u32], prompt: &[u32]| {
        let end = start.len().min(prompt.len() - 1);
        let len = start[..end].iter().zip(prompt).take_while(|(a, b)| a == b).count();
        &start[..len]
    };
    prompts.fold(&first[..first.len() - 1], shorter)
}
