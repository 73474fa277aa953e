use candle_core::Device;
use meav_job::{CancelToken, JobCtx};
use meav_model::{Decoder, KvCache, Logits, ModelError};
use meav_test_support::{Dtype, TINY, TinyModel, VOCAB_SIZE, assert_close, tiny_model, tolerance};

use crate::{Running, Scale, flat, reference, some_tokens};

#[test]
fn logits_are_those_of_the_textbook() {
    for model in [
        TINY,
        TinyModel { tie_word_embeddings: false, seed: 2, ..TINY },
        TinyModel { n_kv_heads: 4, head_dim: 8, seed: 3, ..TINY },
        TinyModel { n_heads: 6, n_kv_heads: 1, head_dim: 10, n_layers: 1, ..TINY },
    ] {
        let running = Running::tiny(&model);
        let tokens = some_tokens(70);
        let found = running.logits(&tokens, &mut running.cache());
        assert_close(&found, &reference::logits(&model, &tokens), tolerance::F32_LOGITS);
    }
}

#[test]
fn logits_tell_tokens_apart() {
    let running = Running::tiny(&TINY);
    let logits = running.logits(&some_tokens(5), &mut running.cache());
    let mean = logits.iter().sum::<f32>() / logits.len() as f32;
    let variance = logits.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / logits.len() as f32;
    assert!((0.2..2.0).contains(&variance.sqrt()), "{}", variance.sqrt());
}

/// Reads the same tokens in pieces of these sizes, over and over.
fn check_pieces(running: &Running, pieces: &[usize]) {
    let tokens = some_tokens(150);
    let at_once = running.logits(&tokens, &mut running.cache());
    let mut cache = running.cache();
    let mut found = Vec::new();
    let mut rest = &tokens[..];
    for len in pieces.iter().cycle() {
        let (piece, after) = rest.split_at((*len).min(rest.len()));
        found.extend(running.logits(piece, &mut cache));
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    assert_eq!(cache.len(), tokens.len());
    assert_close(&found, &at_once, tolerance::F32_LOGITS);
}

#[test]
fn tokens_may_be_read_at_once_one_by_one_or_in_pieces() {
    for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
        let running = Running::tiny(&TinyModel { dtype, ..TINY });
        for pieces in [&[1][..], &[8], &[9], &[64], &[65], &[1, 100, 7], &[149]] {
            check_pieces(&running, pieces);
        }
    }
}

#[test]
fn last_logits_are_the_last_row_of_all() {
    let running = Running::tiny(&TINY);
    for len in [1, 2, 20] {
        let tokens = some_tokens(len);
        let all = running.logits(&tokens, &mut running.cache());
        let last = running
            .decoder
            .forward(&tokens, &mut running.cache(), Logits::Last, &JobCtx::detached())
            .unwrap();
        assert_eq!(last.dims(), [1, VOCAB_SIZE]);
        assert_close(&flat(&last), &all[(len - 1) * VOCAB_SIZE..], tolerance::F32);
    }
}

#[test]
fn forgotten_tokens_leave_no_trace() {
    let running = Running::tiny(&TINY);
    let tokens = some_tokens(40);
    let mut cache = running.cache();
    let first = running.logits(&tokens, &mut cache);
    cache.truncate(10);
    running.logits(&[5; 60], &mut cache);
    cache.truncate(10);
    assert_eq!(cache.len(), 10);
    let again = running.logits(&tokens[10..], &mut cache);
    assert_close(&again, &first[10 * VOCAB_SIZE..], tolerance::F32_LOGITS);
    cache.truncate(100);
    assert_eq!(cache.len(), 40);
    cache.truncate(0);
    assert!(cache.is_empty());
    assert!(running.logits(&tokens, &mut cache) == first);
}

#[test]
fn change_of_a_tensor_reaches_the_decoder_built_before() {
    let running = Running::tiny(&TINY);
    let tokens = some_tokens(20);
    let before = running.logits(&tokens, &mut running.cache());
    for name in running.tensors.keys() {
        running.tensors[name].inplace_op1(&Scale(0.5)).unwrap();
        let fresh = Decoder::new(&running.files.config, &running.tensors).unwrap();
        let expected = flat(
            &fresh
                .forward(&tokens, &mut running.cache(), Logits::All, &JobCtx::detached())
                .unwrap(),
        );
        let found = running.logits(&tokens, &mut running.cache());
        assert!(found == expected, "{name}");
        assert!(found != before, "{name}");
    }
}

#[test]
fn full_cache_takes_no_more_and_keeps_what_it_has() {
    let running = Running::tiny(&TINY);
    let mut cache = KvCache::new(&running.files.config, 10, &Device::Cpu).unwrap();
    running.logits(&some_tokens(8), &mut cache);
    let err = running
        .decoder
        .forward(&some_tokens(3), &mut cache, Logits::Last, &JobCtx::detached())
        .unwrap_err();
    assert_eq!(err.to_string(), "the conversation has 11 tokens, the model can take 10");
    assert_eq!(cache.len(), 8);
    running.logits(&some_tokens(2), &mut cache);
    assert_eq!((cache.len(), cache.capacity()), (10, 10));
}

#[test]
fn cancelled_pass_leaves_the_cache_as_it_was() {
    let running = Running::tiny(&TINY);
    let tokens = some_tokens(12);
    let mut cache = running.cache();
    running.logits(&tokens[..6], &mut cache);
    let cancel = CancelToken::default();
    cancel.cancel();
    let job = JobCtx::new(cancel, &|_| {});
    let result = running.decoder.forward(&[9; 4], &mut cache, Logits::Last, &job);
    assert!(matches!(result, Err(ModelError::Cancelled(_))));
    assert_eq!(cache.len(), 6);
    let found = running.logits(&tokens[6..], &mut cache);
    let expected = running.logits(&tokens, &mut running.cache());
    assert_close(&found, &expected[6 * VOCAB_SIZE..], tolerance::F32_LOGITS);
}

#[test]
fn token_beyond_the_vocabulary_is_an_error() {
    let running = Running::tiny(&TINY);
    let mut cache = running.cache();
    let result = running.decoder.forward(
        &[VOCAB_SIZE as u32],
        &mut cache,
        Logits::Last,
        &JobCtx::detached(),
    );
    assert!(matches!(result, Err(ModelError::Tensor(_))), "{result:?}");
    assert!(cache.is_empty());
}

#[test]
fn tensors_that_do_not_fit_the_configuration_are_named() {
    let running = Running::tiny(&TINY);
    let check = |config: &meav_model::Config, expected: &str| {
        let err = Decoder::new(config, &running.tensors).unwrap_err();
        assert_eq!(err.to_string(), expected);
    };
    let config = &running.files.config;
    check(
        &meav_model::Config { tie_word_embeddings: false, ..config.clone() },
        "tensor \"lm_head.weight\" is missing",
    );
    check(
        &meav_model::Config { n_layers: 3, ..config.clone() },
        "tensor \"model.layers.2.input_layernorm.weight\" is missing",
    );
    check(
        &meav_model::Config { vocab_size: 299, ..config.clone() },
        "tensor \"model.embed_tokens.weight\" has shape [300, 64], \
         the configuration says [299, 64]",
    );
    check(
        &meav_model::Config { n_kv_heads: 4, ..config.clone() },
        "tensor \"model.layers.0.self_attn.k_proj.weight\" has shape [32, 64], \
         the configuration says [64, 64]",
    );
    check(
        &meav_model::Config { intermediate_size: 128, ..config.clone() },
        "tensor \"model.layers.0.mlp.gate_proj.weight\" has shape [96, 64], \
         the configuration says [128, 64]",
    );
    assert_eq!(tiny_model(&TINY).config["intermediate_size"], 96);
}
