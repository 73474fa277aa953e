use std::cell::RefCell;
use std::collections::BTreeSet;

use meav_job::{CancelToken, JobCtx, Progress};
use meav_model::{Finish, Generation, Generator, ModelError, Sampling};
use meav_test_support::{TINY, TinyModel, special, tiny_model};

use crate::{Running, Scale, some_tokens};

const GREEDY: Sampling = Sampling {
    temperature: 0.0,
    top_k: 0,
    top_p: 1.0,
    min_p: 0.0,
    repeat_penalty: 1.0,
    repeat_last_n: 64,
    seed: 1,
};

const LIVELY: Sampling = Sampling { temperature: 1.0, ..GREEDY };

/// One thing to ask.
pub(crate) struct Question<'a> {
    prompt: &'a [u32],
    stop: &'a [u32],
    sampling: Sampling,
    max_tokens: usize,
}

impl<'a> Question<'a> {
    fn new(prompt: &'a [u32]) -> Self {
        Self { prompt, stop: &[], sampling: LIVELY, max_tokens: 30 }
    }

    /// A few tokens that are the likeliest, or drawn by a seed.
    pub(crate) fn short(prompt: &'a [u32], seed: Option<u64>) -> Self {
        let sampling = seed.map_or(GREEDY, |seed| Sampling { seed, ..LIVELY });
        Self { sampling, max_tokens: 8, ..Self::new(prompt) }
    }

    /// The answer and the pieces that it came in.
    pub(crate) fn ask(
        &self,
        generator: &mut Generator,
        model: &Running,
    ) -> (Generation, Vec<String>) {
        let pieces = RefCell::new(Vec::new());
        let counts = RefCell::new(Vec::new());
        let answer = self
            .ask_with(generator, model, &JobCtx::detached(), &mut |piece, n_tokens| {
                pieces.borrow_mut().push(piece.to_owned());
                counts.borrow_mut().push(n_tokens);
            })
            .unwrap();
        let (pieces, counts) = (pieces.into_inner(), counts.into_inner());
        assert!(counts.is_sorted() && counts.iter().all(|n| (1..=answer.tokens.len()).contains(n)));
        assert_eq!(pieces.concat(), answer.text);
        assert!(pieces.iter().all(|piece| !piece.is_empty()), "{pieces:?}");
        assert_eq!(answer.text, model.files.tokenizer.decode(&answer.tokens, true).unwrap());
        assert_eq!(answer.prompt_tokens, self.prompt.len());
        (answer, pieces)
    }

    fn ask_with(
        &self,
        generator: &mut Generator,
        model: &Running,
        job: &JobCtx<'_>,
        on_text: &mut dyn FnMut(&str, usize),
    ) -> Result<Generation, ModelError> {
        generator.generate(
            &model.decoder,
            &model.files.tokenizer,
            self.stop,
            self.prompt,
            &self.sampling,
            self.max_tokens,
            on_text,
            job,
        )
    }
}

/// A model that says `script` after its first token, each token calling for the next: the layers
/// add nothing, and the output row of a token is the embedding of the one before it.
fn scripted(script: &[u32]) -> Running {
    let mut model = tiny_model(&TinyModel { tie_word_embeddings: false, ..TINY });
    let embeddings = model.tensors[0].clone();
    for tensor in &mut model.tensors {
        if tensor.name.contains("o_proj") || tensor.name.contains("down_proj") {
            tensor.values.fill(0.0);
        }
        if tensor.name.contains("norm") {
            tensor.values.fill(1.0);
        }
        if tensor.name == "lm_head.weight" {
            tensor.values.fill(0.0);
            let row = |token: u32| token as usize * TINY.hidden_size..;
            for (token, next) in script.iter().zip(&script[1..]) {
                let from = &embeddings.values[row(*token)][..TINY.hidden_size];
                tensor.values[row(*next)][..TINY.hidden_size].copy_from_slice(from);
            }
        }
    }
    Running::of(&model)
}

fn tokens(model: &Running, text: &str) -> Vec<u32> {
    model.files.tokenizer.encode(text, false).unwrap().get_ids().to_vec()
}

#[test]
fn same_seed_gives_the_same_text_cold_hot_and_after_a_reset() {
    let model = Running::tiny(&TINY);
    for prompt_len in [1, 5, 70] {
        let prompt = some_tokens(prompt_len);
        let question = Question::new(&prompt);
        let mut generator = Generator::default();
        let (first, _) = question.ask(&mut generator, &model);
        assert_eq!(first.tokens.len(), 30);
        for reset in [false, false, true, false] {
            if reset {
                generator.reset();
            }
            let (again, _) = question.ask(&mut generator, &model);
            assert_eq!(again.tokens, first.tokens, "prompt of {prompt_len}");
            assert_eq!(again.reused_tokens, if reset { 0 } else { prompt_len });
        }
        // Room for more tokens means another cache, and the same text.
        let longer = Question { max_tokens: 100, ..Question::new(&prompt) };
        let (longer, _) = longer.ask(&mut generator, &model);
        assert_eq!(longer.tokens[..30], first.tokens);
    }
}

#[test]
fn other_seeds_give_other_texts_unless_greedy() {
    let model = Running::tiny(&TINY);
    let prompt = some_tokens(5);
    let answer = |sampling: Sampling| {
        let question = Question { sampling, ..Question::new(&prompt) };
        question.ask(&mut Generator::default(), &model).0.tokens
    };
    assert_ne!(answer(LIVELY), answer(Sampling { seed: 2, ..LIVELY }));
    assert_eq!(answer(GREEDY), answer(Sampling { seed: 2, ..GREEDY }));
}

#[test]
fn reply_ends_at_a_stop_token_without_it() {
    let model = scripted(&[50, 60, 70, special::IM_END]);
    let question = Question {
        stop: &[special::IM_END, special::END_OF_TEXT],
        sampling: GREEDY,
        ..Question::new(&[50])
    };
    let (answer, _) = question.ask(&mut Generator::default(), &model);
    assert_eq!(answer.tokens, [60, 70]);
    assert_eq!(answer.finish, Finish::Stop);
    let deaf = Question { stop: &[], max_tokens: 3, ..question };
    let (answer, _) = deaf.ask(&mut Generator::default(), &model);
    assert_eq!(answer.tokens, [60, 70, special::IM_END]);
    assert_eq!(answer.text, model.files.tokenizer.decode(&[60, 70], true).unwrap());
}

#[test]
fn reply_that_ends_at_once_is_empty() {
    let model = scripted(&[50, special::IM_END]);
    let stop = [special::IM_END];
    let question = Question { stop: &stop, sampling: GREEDY, ..Question::new(&[50]) };
    let (answer, pieces) = question.ask(&mut Generator::default(), &model);
    assert_eq!((answer.text.as_str(), answer.tokens.len()), ("", 0));
    assert_eq!((answer.finish, pieces.len()), (Finish::Stop, 0));
}

#[test]
fn reply_ends_after_as_many_tokens_as_asked_for() {
    let model = Running::tiny(&TINY);
    let prompt = some_tokens(5);
    for max_tokens in [0, 1, 2, 17] {
        let question = Question { max_tokens, ..Question::new(&prompt) };
        let (answer, _) = question.ask(&mut Generator::default(), &model);
        assert_eq!((answer.tokens.len(), answer.finish), (max_tokens, Finish::Length));
    }
}

#[test]
fn reply_ends_where_the_context_does() {
    let model = Running::tiny(&TINY);
    let limit = TINY.max_position_embeddings;
    for (prompt_len, max_tokens) in [(10, usize::MAX), (limit - 1, 5), (limit - 4, 1000)] {
        let prompt = some_tokens(prompt_len);
        let question = Question { max_tokens, ..Question::new(&prompt) };
        let (answer, _) = question.ask(&mut Generator::default(), &model);
        assert_eq!(answer.tokens.len(), limit - prompt_len);
        assert_eq!(answer.finish, Finish::ContextFull);
    }
}

#[test]
fn prompt_without_room_for_an_answer_is_refused() {
    let model = Running::tiny(&TINY);
    for (len, expected) in [
        (0, "the conversation has 0 tokens, the model can take 256"),
        (256, "the conversation has 256 tokens, the model can take 256"),
        (300, "the conversation has 300 tokens, the model can take 256"),
    ] {
        let prompt = some_tokens(len);
        let result = Question::new(&prompt).ask_with(
            &mut Generator::default(),
            &model,
            &JobCtx::detached(),
            &mut |_, _| {},
        );
        assert_eq!(result.unwrap_err().to_string(), expected);
    }
}

#[test]
fn impossible_sampling_is_refused_before_any_work() {
    let model = Running::tiny(&TINY);
    let question = Question { sampling: Sampling { min_p: -0.1, ..LIVELY }, ..Question::new(&[5]) };
    let cancel = CancelToken::default();
    cancel.cancel();
    let job = JobCtx::new(cancel, &|_| {});
    let result = question.ask_with(&mut Generator::default(), &model, &job, &mut |_, _| {});
    assert_eq!(result.unwrap_err().to_string(), "min-p is -0.1, it must be 0 to 1");
}

#[test]
fn stopped_reply_keeps_what_was_said_and_disturbs_nothing() {
    let model = Running::tiny(&TINY);
    let prompt = some_tokens(20);
    let question = Question::new(&prompt);
    let (whole, pieces) = question.ask(&mut Generator::default(), &model);
    let mut generator = Generator::default();
    let cancel = CancelToken::default();
    let job = JobCtx::new(cancel.clone(), &|_| {});
    let mut heard = Vec::new();
    let stopped = question
        .ask_with(&mut generator, &model, &job, &mut |piece, _| {
            heard.push(piece.to_owned());
            if heard.len() == 5 {
                cancel.cancel();
            }
        })
        .unwrap();
    assert_eq!(stopped.finish, Finish::Cancelled);
    assert!(whole.tokens.starts_with(&stopped.tokens));
    assert!(stopped.tokens.len() < whole.tokens.len());
    assert_eq!(heard[..5], pieces[..5]);
    assert_eq!(stopped.text, heard.concat());
    assert_eq!(question.ask(&mut generator, &model).0.tokens, whole.tokens);
}

#[test]
fn reading_a_prompt_can_be_cancelled_and_begun_again() {
    let model = Running::tiny(&TINY);
    let prompt = some_tokens(20);
    let question = Question::new(&prompt);
    let (expected, _) = question.ask(&mut Generator::default(), &model);
    let cancel = CancelToken::default();
    cancel.cancel();
    let job = JobCtx::new(cancel, &|_| {});
    let mut generator = Generator::default();
    let result = question.ask_with(&mut generator, &model, &job, &mut |_, _| {});
    assert!(matches!(result, Err(ModelError::Cancelled(_))));
    assert_eq!(question.ask(&mut generator, &model).0.tokens, expected.tokens);
}

/// The logits behind an old prompt must not serve another one of the same length.
#[test]
fn prompt_read_in_part_is_not_taken_for_the_one_before() {
    let model = Running::tiny(&TinyModel { max_position_embeddings: 1024, ..TINY });
    let (old, new) = ([7, 8, 9], [&[7, 100, 101][..], &some_tokens(700)].concat());
    let question = Question { sampling: GREEDY, ..Question::new(&new[..3]) };
    let (expected, _) = question.ask(&mut Generator::default(), &model);
    let mut generator = Generator::default();
    Question::new(&old).ask(&mut generator, &model);
    let cancel = CancelToken::default();
    let on_progress = |progress: Progress| {
        if progress.done > 500 {
            cancel.cancel();
        }
    };
    let job = JobCtx::new(cancel.clone(), &on_progress);
    let result = Question::new(&new).ask_with(&mut generator, &model, &job, &mut |_, _| {});
    assert!(matches!(result, Err(ModelError::Cancelled(_))));
    assert_eq!(question.ask(&mut generator, &model).0.tokens, expected.tokens);
}

#[test]
fn what_was_read_before_is_not_read_again() {
    let model = scripted(&[50, 60, 70, special::IM_END]);
    let stop = [special::IM_END];
    let mut generator = Generator::default();
    let mut reused = |prompt: &[u32], max_tokens: usize| {
        let question =
            Question { stop: &stop, sampling: GREEDY, max_tokens, ..Question::new(prompt) };
        question.ask(&mut generator, &model).0.reused_tokens
    };
    assert_eq!(reused(&[40, 41, 50], 9), 0);
    // The same again is all there.
    assert_eq!(reused(&[40, 41, 50], 9), 3);
    // The next turn: prompt and reply (60, 70) are there.
    assert_eq!(reused(&[40, 41, 50, 60, 70, special::IM_END, 42, 50], 9), 5);
    // A shorter one: its last token is read again for its logits.
    assert_eq!(reused(&[40, 41, 50], 9), 2);
    // Another turn: what both begin with.
    assert_eq!(reused(&[40, 43, 50], 9), 1);
    assert_eq!(reused(&[44, 43, 50], 9), 0);
    // The last token of a reply that was cut has not been read.
    assert_eq!(reused(&[44, 43, 50], 1), 3);
    assert_eq!(reused(&[44, 43, 50, 60, 61], 1), 3);
}

#[test]
fn hot_cache_gives_the_logits_of_a_cold_one() {
    let model = Running::tiny(&TINY);
    let prompt = some_tokens(90);
    let answer = |generator: &mut Generator, prompt: &[u32]| {
        let question = Question { sampling: GREEDY, ..Question::new(prompt) };
        question.ask(generator, &model).0.tokens
    };
    let mut generator = Generator::default();
    for len in [30, 60, 45, 90, 1, 90] {
        let cold = answer(&mut Generator::default(), &prompt[..len]);
        assert_eq!(answer(&mut generator, &prompt[..len]), cold, "prompt of {len}");
    }
}

#[test]
fn pieces_are_whole_characters() {
    let model = Running::tiny(&TINY);
    let text = "a€😀é.";
    let script = tokens(&model, text);
    // € is two tokens, 😀 four.
    assert_eq!(script.len(), 9);
    let script = [&[50], &script[..], &[special::IM_END]].concat();
    let model = scripted(&script);
    let stop = [special::IM_END];
    let question = Question { stop: &stop, sampling: GREEDY, ..Question::new(&[50]) };
    let (answer, pieces) = question.ask(&mut Generator::default(), &model);
    assert_eq!(answer.text, text);
    assert_eq!(pieces, ["a", "€", "😀", "é", "."]);
    // Cut in the middle of 😀: what can't be a character any more is shown as such.
    let question = Question { max_tokens: 5, ..question };
    let (answer, pieces) = question.ask(&mut Generator::default(), &model);
    assert_eq!(answer.finish, Finish::Length);
    assert_eq!(pieces, ["a", "€", "\u{FFFD}"]);
}

/// Random bytes are broken UTF-8 most of the time.
#[test]
fn any_bytes_are_streamed_to_the_text_that_they_decode_to() {
    let model = Running::tiny(&TINY);
    let prompt = some_tokens(3);
    let mut generator = Generator::default();
    let mut n_broken = 0;
    for seed in 0..40 {
        let sampling = Sampling { temperature: 5.0, seed, ..LIVELY };
        let question = Question { sampling, max_tokens: 60, ..Question::new(&prompt) };
        let (answer, _) = question.ask(&mut generator, &model);
        n_broken += usize::from(answer.text.contains('\u{FFFD}'));
    }
    assert!(n_broken > 20, "{n_broken}");
}

#[test]
fn penalty_keeps_a_greedy_model_from_repeating_itself() {
    let model = Running::tiny(&TINY);
    let prompt = some_tokens(5);
    let n_different = |repeat_penalty: f64| {
        let sampling = Sampling { repeat_penalty, ..GREEDY };
        let question = Question { sampling, ..Question::new(&prompt) };
        let reply = question.ask(&mut Generator::default(), &model).0.tokens;
        prompt.iter().chain(&reply).collect::<BTreeSet<_>>().len()
    };
    assert!(n_different(1.0) < 20);
    assert_eq!(n_different(1e6), 5 + 30);
}

#[test]
fn changed_weights_are_heard_after_a_reset() {
    let model = Running::tiny(&TinyModel { tie_word_embeddings: false, ..TINY });
    let prompt = some_tokens(10);
    let question = Question { sampling: GREEDY, ..Question::new(&prompt) };
    let mut generator = Generator::default();
    let (before, _) = question.ask(&mut generator, &model);
    model.tensors["lm_head.weight"].inplace_op1(&Scale(-1.0)).unwrap();
    generator.reset();
    let (after, _) = question.ask(&mut generator, &model);
    assert_eq!(after.reused_tokens, 0);
    assert_ne!(after.tokens, before.tokens);
}
