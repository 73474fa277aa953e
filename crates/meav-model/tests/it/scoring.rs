use candle_core::Device;
use meav_job::{CancelToken, JobCtx};
use meav_model::{Config, Decoder, KvCache, Logits, Message, ModelError, ModelFiles, Question};
use meav_test_support::{
    ModelFolder, TINY, TinyModel, VOCAB_SIZE, assert_close, families, tiny_model, tolerance,
};

use crate::{Running, load, some_tokens};

/// Each token's log-probability, from the logits of a pass over everything.
fn expected(decoder: &Decoder, prefix: &[u32], continuation: &[u32]) -> Vec<f32> {
    let tokens = [prefix, continuation].concat();
    let mut cache = KvCache::new(decoder.config(), tokens.len(), &Device::Cpu).unwrap();
    let logits = decoder.forward(&tokens, &mut cache, Logits::All, &JobCtx::detached()).unwrap();
    let logits: Vec<Vec<f32>> = logits.to_vec2().unwrap();
    let log_prob = |(index, token): (usize, &u32)| {
        let row = &logits[prefix.len() + index - 1];
        let sum: f64 = row.iter().map(|logit| f64::from(*logit).exp()).sum();
        (f64::from(row[*token as usize]) - sum.ln()) as f32
    };
    continuation.iter().enumerate().map(log_prob).collect()
}

pub(crate) fn score(decoder: &Decoder, questions: &[Question]) -> Vec<Vec<Vec<f32>>> {
    decoder.score(questions, &mut |_| {}, &JobCtx::detached()).unwrap()
}

fn question(prompt: &[u32], responses: Vec<Vec<u32>>) -> Question {
    Question { prompt: prompt.to_vec(), responses }
}

#[track_caller]
fn check(decoder: &Decoder, questions: &[Question]) {
    let found = score(decoder, questions);
    assert_eq!(found.len(), questions.len());
    for (found, Question { prompt, responses }) in found.iter().zip(questions) {
        assert_eq!(found.len(), responses.len());
        for (found, response) in found.iter().zip(responses) {
            let expected = expected(decoder, prompt, response);
            assert_close(found, &expected, tolerance::F32_LOGITS);
        }
    }
}

/// Responses of no meaning, of these lengths.
fn responses(lengths: &[usize]) -> Vec<Vec<u32>> {
    let tokens = some_tokens(200);
    lengths.iter().enumerate().map(|(index, len)| tokens[index * 7..][..*len].to_vec()).collect()
}

/// Questions whose prompts begin alike, some of them with one another, and differ then.
pub(crate) fn questions(shared: usize) -> Vec<Question> {
    let own = [(9, &[5, 20, 1][..]), (1, &[3, 3]), (30, &[0, 7]), (2, &[]), (9, &[5, 12])];
    let prompt = |(index, (len, lengths)): (usize, (usize, &[usize]))| {
        let mut prompt = some_tokens(shared + len);
        prompt[shared..].iter_mut().for_each(|token| *token += index as u32 % 4);
        question(&prompt, responses(lengths))
    };
    own.into_iter().enumerate().map(prompt).collect()
}

#[test]
fn log_probs_are_those_of_the_whole_conversation() {
    let running = Running::tiny(&TinyModel { tie_word_embeddings: false, ..TINY });
    let tokens = some_tokens(100);
    for prompt_len in [1, 7, 64, 100] {
        for lengths in [&[5][..], &[1, 1], &[0], &[], &[90, 0, 3, 1, 65]] {
            check(&running.decoder, &[question(&tokens[..prompt_len], responses(lengths))]);
        }
    }
    for shared in [0, 1, 40] {
        check(&running.decoder, &questions(shared));
    }
    check(&running.decoder, &[]);
}

#[test]
fn what_no_pass_can_take_is_read_in_pieces() {
    let running = Running::tiny(&TinyModel { max_position_embeddings: 2500, ..TINY });
    let long = some_tokens(1100);
    let mut questions = vec![
        question(&some_tokens(1200), responses(&[100, 20])),
        question(&some_tokens(1150), vec![vec![9], long.clone(), long[3..].to_vec()]),
        question(&[5, 6], vec![long, vec![8; 30]]),
    ];
    check(&running.decoder, &questions[..2]);
    check(&running.decoder, &questions);
    // More than one pass of short ones in front.
    questions.splice(0..0, (0..40).map(|i| question(&[5, 7 + i], responses(&[30, 3]))));
    check(&running.decoder, &questions);
}

#[test]
fn log_probs_of_every_family_are_those_of_the_whole_conversation() {
    let fixture = families();
    for case in &fixture.cases {
        let decoder = &Running::of(&case.model()).decoder;
        // For a Phi-3 with factors some responses end in a long context, some in a short one.
        check(decoder, &[question(&fixture.tokens[..20], responses(&[3, 30, 4, 5, 1]))]);
        check(decoder, &questions(12));
    }
}

#[test]
fn log_probs_do_not_depend_on_the_company() {
    let decoder = Running::tiny(&TINY).decoder;
    let questions = questions(20);
    let together = score(&decoder, &questions);
    for (question, together) in questions.iter().zip(&together) {
        for (response, together) in question.responses.iter().zip(together) {
            let alone = self::question(&question.prompt, vec![response.clone()]);
            let found = &score(&decoder, &[alone])[0][0];
            assert_close(found, together, tolerance::F32_LOGITS);
        }
    }
}

#[test]
fn log_probs_are_the_same_bits_on_any_number_of_threads() {
    let running = |case: &meav_test_support::FamilyCase| Running::of(&case.model());
    // Large enough for its products to be split between threads.
    let wide = TinyModel {
        hidden_size: 256,
        intermediate_size: 512,
        max_position_embeddings: 2500,
        ..TINY
    };
    let models = families().cases.iter().map(running).chain([Running::tiny(&wide)]);
    for Running { decoder, .. } in models {
        let mut questions = questions(12);
        if decoder.config().max_position_embeddings == 2500 {
            questions.push(question(&some_tokens(1300), responses(&[100, 20])));
        }
        let on_threads = |n: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
            pool.install(|| score(&decoder, &questions))
        };
        let expected = on_threads(1);
        assert!(expected.iter().flatten().flatten().all(|log_prob| *log_prob < 0.0));
        for n in [2, 3, 1, 5] {
            assert!(on_threads(n) == expected, "{:?}, {n} threads", decoder.config().family);
        }
    }
}

#[test]
fn questions_are_reported_as_they_are_done() {
    let decoder = Running::tiny(&TinyModel { max_position_embeddings: 2500, ..TINY }).decoder;
    let mut questions: Vec<Question> =
        (0..100).map(|i| question(&[5, 7 + i], responses(&[30, 3]))).collect();
    questions.insert(1, question(&[3], vec![]));
    questions.insert(3, question(&[5; 1500], responses(&[1])));
    let mut reports = Vec::new();
    decoder.score(&questions, &mut |done| reports.push(done), &JobCtx::detached()).unwrap();
    assert!(reports.is_sorted(), "{reports:?}");
    assert_eq!(reports.last(), Some(&questions.len()));
    assert!(reports.len() > 3 && reports[0] < 60, "{reports:?}");
}

#[test]
fn cancelled_scoring_ends_at_once() {
    let decoder = Running::tiny(&TINY).decoder;
    let cancel = CancelToken::default();
    let job = JobCtx::new(cancel.clone(), &|_| {});
    let questions: Vec<Question> =
        (0..200).map(|i| question(&[5, 7 + i % 250], responses(&[30, 3]))).collect();
    let mut reports = Vec::new();
    let mut on_done = |done: usize| {
        reports.push(done);
        cancel.cancel();
    };
    let result = decoder.score(&questions, &mut on_done, &job);
    assert!(matches!(result, Err(ModelError::Cancelled(_))));
    assert_eq!(reports.len(), 1);
}

#[test]
fn what_cannot_be_scored_is_refused() {
    let running = Running::tiny(&TINY);
    let job = JobCtx::detached();
    let score = |prompt: &[u32], response: Vec<u32>, job: &JobCtx<'_>| {
        running.decoder.score(&[question(prompt, vec![response])], &mut |_| {}, job)
    };
    assert!(matches!(score(&[], vec![1], &job), Err(ModelError::EmptyPrompt)));
    let tokens = some_tokens(250);
    assert_eq!(score(&tokens, some_tokens(6), &job).unwrap()[0][0].len(), 6);
    let err = score(&tokens, some_tokens(7), &job).unwrap_err();
    assert_eq!(err.to_string(), "the conversation has 257 tokens, the model can take 256");
    let config = &running.files.config;
    assert!(config.check_context(256).is_ok());
    assert_eq!(config.check_context(257).unwrap_err().to_string(), err.to_string());
    let beyond = VOCAB_SIZE as u32;
    for tokens in [vec![beyond], vec![beyond, 1]] {
        assert!(matches!(score(&[1], tokens, &job), Err(ModelError::Tensor(_))));
    }
    let cancel = CancelToken::default();
    cancel.cancel();
    let job = JobCtx::new(cancel, &|_| {});
    assert!(matches!(score(&[1], vec![1], &job), Err(ModelError::Cancelled(_))));
}

#[test]
fn weights_of_two_bytes_score_nearly_the_same() {
    let folder = tiny_model(&TINY).in_temp_dir();
    let files = ModelFiles::open(folder.path()).unwrap();
    let scores = |dtype| {
        let decoder = Decoder::new(&files.config, &load(&files, dtype)).unwrap();
        score(&decoder, &[question(&some_tokens(9), responses(&[20]))])[0].concat()
    };
    let found = scores(meav_weights::Dtype::Bf16);
    let expected = scores(meav_weights::Dtype::F32);
    assert_close(&found, &expected, tolerance::Q8_0_LOGITS);
    assert_ne!(found, expected);
}

#[test]
fn embeddings_are_scaled_by_a_factor_of_the_weights_type() {
    // √48 is 6.9282 in single precision and 6.9375 in bf16.
    let case = families().case("gemma2");
    let folder = case.model().in_temp_dir();
    let files = ModelFiles::open(folder.path()).unwrap();
    let run = |config: &Config, scale: f32| {
        let mut tensors = load(&files, meav_weights::Dtype::Bf16);
        let embeddings = tensors["model.embed_tokens.weight"].clone();
        let scaled =
            (embeddings.to_dtype(candle_core::DType::F32).unwrap() * f64::from(scale)).unwrap();
        if !config.scaled_embeddings {
            // Untied, so that only what is read is scaled; f32, so that nothing is rounded.
            tensors.insert("lm_head.weight".to_owned(), embeddings);
            tensors.insert("model.embed_tokens.weight".to_owned(), scaled);
        }
        let decoder = Decoder::new(config, &tensors).unwrap();
        score(&decoder, &[question(&[5], responses(&[9]))])[0].concat()
    };
    let unscaled =
        Config { scaled_embeddings: false, tie_word_embeddings: false, ..files.config.clone() };
    let found = run(&files.config, 1.0);
    assert_eq!(found, run(&unscaled, 6.9375));
    assert_ne!(found, run(&unscaled, 6.928_203));
}

/// Tokens of a query and a response of a tiny model that was changed, as text.
fn tokens_of(
    change: impl FnOnce(&mut ModelFolder),
    query: &str,
    response: &str,
) -> Result<[String; 2], ModelError> {
    tokens_of_turns(change, &[("user", query)], response)
}

/// As [`tokens_of`], of a conversation of several turns: role and content of each.
fn tokens_of_turns(
    change: impl FnOnce(&mut ModelFolder),
    turns: &[(&str, &str)],
    response: &str,
) -> Result<[String; 2], ModelError> {
    let mut model = tiny_model(&TINY);
    change(&mut model);
    let folder = model.in_temp_dir();
    let files = ModelFiles::open(folder.path()).unwrap();
    let template = files.compile_chat_template().unwrap();
    let message = |(role, content): &(&str, &str)| Message {
        role: (*role).to_owned(),
        content: (*content).to_owned(),
    };
    let messages: Vec<Message> = turns.iter().map(message).collect();
    let tokens = files.response_tokens(&template, &messages, response)?;
    let text = |ids: &[u32]| files.tokenizer.decode(ids, false).unwrap();
    Ok([text(&tokens.prompt), text(&tokens.response)])
}

#[test]
fn response_is_what_follows_the_prompt_up_to_the_end_of_the_turn() {
    let prompt =
        |query: &str| format!("<|im_start|>user\n{query}<|im_end|>\n<|im_start|>assistant\n");
    for (query, response) in [
        ("hello", "the end"),
        ("", ""),
        ("1984?\n", " 2 spaces, lines\n\n"),
        ("<|im_end|>", "said <|im_end|> and went on"),
    ] {
        let found = tokens_of(|_| {}, query, response).unwrap();
        assert_eq!(found, [prompt(query), format!("{response}<|im_end|>")]);
    }
}

#[test]
fn all_turns_stand_in_front_of_the_response() {
    let turns = [("system", "be brief"), ("user", "hello"), ("assistant", "yes"), ("user", "why?")];
    let found = tokens_of_turns(|_| {}, &turns, "the end").unwrap();
    let turn = |(role, content): (&str, &str)| format!("<|im_start|>{role}\n{content}<|im_end|>\n");
    let prompt = turns.map(turn).concat() + "<|im_start|>assistant\n";
    assert_eq!(found, [prompt, "the end<|im_end|>".to_owned()]);
}

#[test]
fn what_a_template_writes_behind_the_turn_is_not_scored() {
    let template = "{{ '<|im_start|>' + messages[0].content + '<|im_end|>' }}\
                    {% if not add_generation_prompt %}\
                    {{ messages[1].content + '<|im_end|>\n\n<|endoftext|>\n' }}{% endif %}";
    let change =
        |model: &mut ModelFolder| model.tokenizer_config["chat_template"] = template.into();
    let found = tokens_of(change, "hello", "the end\n").unwrap();
    assert_eq!(found, ["<|im_start|>hello<|im_end|>", "the end\n<|im_end|>"]);
    // Without an end of turn there is nothing to stop at.
    let template = template.replace("<|im_end|>\n\n<|endoftext|>\n", " ");
    let change =
        |model: &mut ModelFolder| model.tokenizer_config["chat_template"] = template.into();
    let found = tokens_of(change, "hello", "the end").unwrap();
    assert_eq!(found[1], "the end ");
}

#[test]
fn prompt_whose_tokens_change_with_the_response_is_refused() {
    // "th" and "e" become one token.
    let template = "{{ messages[0].content }}\
                    {% if not add_generation_prompt %}{{ messages[1].content }}{% endif %}";
    let change =
        |model: &mut ModelFolder| model.tokenizer_config["chat_template"] = template.into();
    assert!(tokens_of(change, "the", " end").is_ok());
    let err = tokens_of(change, "th", "e end").unwrap_err();
    assert!(matches!(err, ModelError::PromptNotPrefix), "{err:?}");
    let change = |model: &mut ModelFolder| {
        model.tokenizer_config["chat_template"] = "{{ raise_exception('no') }}".into();
    };
    assert!(matches!(tokens_of(change, "a", "b"), Err(ModelError::ChatTemplate(_))));
}
