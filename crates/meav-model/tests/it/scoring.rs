use candle_core::Device;
use meav_job::{CancelToken, JobCtx};
use meav_model::{Config, Decoder, KvCache, Logits, ModelError, ModelFiles, mean_log_prob};
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

#[track_caller]
fn check(decoder: &Decoder, prefix: &[u32], continuations: &[Vec<u32>]) {
    let found = decoder.log_probs(prefix, continuations, &JobCtx::detached()).unwrap();
    assert_eq!(found.len(), continuations.len());
    for (found, continuation) in found.iter().zip(continuations) {
        let expected = expected(decoder, prefix, continuation);
        assert_close(found, &expected, tolerance::F32_LOGITS);
    }
}

fn continuations(lengths: &[usize]) -> Vec<Vec<u32>> {
    let tokens = some_tokens(200);
    lengths.iter().enumerate().map(|(index, len)| tokens[index * 7..][..*len].to_vec()).collect()
}

#[test]
fn log_probs_are_those_of_the_whole_conversation() {
    let running = Running::tiny(&TinyModel { tie_word_embeddings: false, ..TINY });
    let tokens = some_tokens(100);
    for prefix_len in [1, 7, 64, 100] {
        for lengths in [&[5][..], &[1, 1], &[0], &[], &[90, 0, 3, 1, 65]] {
            check(&running.decoder, &tokens[..prefix_len], &continuations(lengths));
        }
    }
}

#[test]
fn long_prefix_is_read_in_pieces() {
    let running = Running::tiny(&TinyModel { max_position_embeddings: 1200, ..TINY });
    check(&running.decoder, &some_tokens(1100), &continuations(&[100, 20]));
}

#[test]
fn log_probs_of_every_family_are_those_of_the_whole_conversation() {
    let fixture = families();
    for case in &fixture.cases {
        let running = Running::of(&case.model());
        // For a Phi-3 with factors some continuations end in a long context, some in a short one.
        check(&running.decoder, &fixture.tokens[..20], &continuations(&[3, 30, 4, 5, 1]));
    }
}

#[test]
fn log_probs_do_not_depend_on_the_company() {
    let running = Running::tiny(&TINY);
    let prefix = some_tokens(30);
    let together = continuations(&[40, 9, 77]);
    let score = |continuations: &[Vec<u32>]| {
        running.decoder.log_probs(&prefix, continuations, &JobCtx::detached()).unwrap()
    };
    let found = score(&together);
    assert_eq!(found, score(&together));
    for (tokens, found) in together.iter().zip(&found) {
        assert_close(&score(std::slice::from_ref(tokens))[0], found, tolerance::F32_LOGITS);
    }
}

#[test]
fn what_cannot_be_scored_is_refused() {
    let running = Running::tiny(&TINY);
    let job = JobCtx::detached();
    let score = |prefix: &[u32], continuation: Vec<u32>, job: &JobCtx<'_>| {
        running.decoder.log_probs(prefix, &[continuation], job)
    };
    assert!(matches!(score(&[], vec![1], &job), Err(ModelError::EmptyPrompt)));
    let tokens = some_tokens(250);
    assert_eq!(score(&tokens, some_tokens(6), &job).unwrap()[0].len(), 6);
    let err = score(&tokens, some_tokens(7), &job).unwrap_err();
    assert_eq!(err.to_string(), "the conversation has 257 tokens, the model can take 256");
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
    let score = |dtype| {
        let decoder = Decoder::new(&files.config, &load(&files, dtype)).unwrap();
        let found = decoder.log_probs(&some_tokens(9), &continuations(&[20]), &JobCtx::detached());
        found.unwrap().concat()
    };
    let found = score(meav_weights::Dtype::Bf16);
    let expected = score(meav_weights::Dtype::F32);
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
        decoder.log_probs(&[5], &continuations(&[9]), &JobCtx::detached()).unwrap().concat()
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
    let mut model = tiny_model(&TINY);
    change(&mut model);
    let folder = model.in_temp_dir();
    let files = ModelFiles::open(folder.path()).unwrap();
    let template = files.compile_chat_template().unwrap();
    let tokens = files.response_tokens(&template, query, response)?;
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

#[test]
fn mean_is_taken_per_token() {
    assert!((mean_log_prob(&[-1.0, -2.0, -6.0]) + 3.0).abs() < 1e-12);
    assert!(mean_log_prob(&[]).is_nan());
}
