use crate::Question;
use crate::kernels::Sequence;
use crate::passes::{Node, Pass, Piece};

/// Where a token stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) question: usize,
    pub(crate) response: usize,
    pub(crate) index: usize,
}

/// A token whose probability is asked for, and the row of a pass that tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) row: usize,
    pub(crate) token: u32,
    pub(crate) place: Place,
}

/// What all prompts begin with, behind it the prompts, and behind each prompt its responses.
pub(crate) struct Tree<'a> {
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
    pub(crate) fn new(questions: &'a [Question], wanted: impl Fn(&[u32], &[u32]) -> bool) -> Self {
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

    pub(crate) fn nodes(&self) -> Vec<Node> {
        let node = |branch: &Branch<'_>| Node { parent: branch.parent, len: branch.tokens.len() };
        self.branches.iter().map(node).collect()
    }

    /// The tokens of a pass, and where they stand.
    pub(crate) fn read(&self, pass: &Pass) -> (Vec<u32>, Vec<Sequence>) {
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
    pub(crate) fn asked(&self, pass: &Pass) -> Vec<Asked> {
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
