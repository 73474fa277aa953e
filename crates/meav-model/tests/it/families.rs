use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use meav_job::{CancelToken, JobCtx};
use meav_model::{
    Activation, Config, Decoder, Family, KvCache, Logits, ModelError, Question, RopeScaling,
};
use meav_test_support::{FamilyCase, assert_close, families, tolerance};
use serde_json::json;

use crate::Running;

pub(crate) fn config(case: &FamilyCase) -> Config {
    Config::from_json(case.config.to_string().as_bytes()).unwrap()
}

pub(crate) fn tensors(case: &FamilyCase, prefix: &str) -> BTreeMap<String, Tensor> {
    let tensor = |tensor: meav_test_support::Tensor| {
        let values = Tensor::from_vec(tensor.values, tensor.shape, &Device::Cpu).unwrap();
        (format!("{prefix}{}", tensor.name), values)
    };
    case.tensors().into_iter().map(tensor).collect()
}

fn decoder(case: &FamilyCase) -> Decoder {
    Decoder::new(&config(case), &tensors(case, "")).unwrap()
}

fn logits(decoder: &Decoder, tokens: &[u32], cache: &mut KvCache) -> Vec<Vec<f32>> {
    let logits = decoder.forward(tokens, cache, Logits::All, &JobCtx::detached()).unwrap();
    logits.to_vec2().unwrap()
}

fn cache(decoder: &Decoder) -> KvCache {
    let config = decoder.config();
    KvCache::new(config, config.max_position_embeddings, &Device::Cpu).unwrap()
}

/// The columns that the fixture holds.
fn columns(row: &[f32]) -> Vec<f32> {
    families().columns.iter().map(|column| row[*column]).collect()
}

#[track_caller]
fn assert_rows(name: &str, found: &[Vec<f32>], expected: &[Vec<f32>]) {
    assert_eq!(found.len(), expected.len(), "{name}");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let found = columns(found);
        assert_eq!(found.len(), expected.len(), "{name}");
        // So written, NaN is not close to anything.
        let is_close =
            |(a, b): (&f32, &f32)| (a - b).abs() <= tolerance::F32_LOGITS * b.abs().max(1.0);
        let all_close = found.iter().zip(expected).all(is_close);
        assert!(all_close, "{name}, row {index}:\n{found:?}\n{expected:?}");
    }
}

#[test]
fn every_family_is_among_the_cases() {
    for family in Family::ALL {
        assert!(families().cases.iter().any(|case| config(case).family == family), "{family:?}");
    }
}

#[test]
fn logits_of_one_pass_are_those_of_transformers() {
    let fixture = families();
    for case in &fixture.cases {
        let decoder = decoder(case);
        let all = logits(&decoder, &fixture.tokens, &mut cache(&decoder));
        let found: Vec<_> = fixture.positions.iter().map(|at| all[*at].clone()).collect();
        assert_rows(&case.name, &found, &case.prefill);
    }
}

#[test]
fn logits_of_token_after_token_are_those_of_transformers() {
    let fixture = families();
    for case in &fixture.cases {
        let decoder = decoder(case);
        let mut cache = cache(&decoder);
        let steps: Vec<_> = fixture
            .tokens
            .iter()
            .map(|token| logits(&decoder, &[*token], &mut cache).concat())
            .collect();
        let found: Vec<_> =
            fixture.decode_lengths.iter().map(|len| steps[len - 1].clone()).collect();
        assert_rows(&case.name, &found, &case.decode);
    }
}

#[test]
fn scores_of_a_batch_are_those_of_transformers() {
    let fixture = families();
    // Each column as what follows the tokens, and others behind it up to the length in question.
    let question = |at: usize, len: usize| {
        let response = |column: &usize| {
            let mut response = vec![*column as u32; len.saturating_sub(at + 1).max(1)];
            response[1..].fill(7);
            response
        };
        let prompt = fixture.tokens[..=at].to_vec();
        Question { prompt, responses: fixture.columns.iter().map(response).collect() }
    };
    let questions: Vec<Question> = fixture
        .batch_lengths
        .iter()
        .flat_map(|len| [0, len / 2, len - 1].map(|at| question(at, *len)))
        .collect();
    for case in &fixture.cases {
        let job = JobCtx::detached();
        let found = decoder(case).score(&questions, &mut |_| {}, &job).unwrap();
        let expected: Vec<&Vec<f32>> = case.batch.iter().flatten().collect();
        assert_eq!(found.len(), expected.len(), "{}", case.name);
        for (found, expected) in found.iter().zip(expected) {
            // Log-probabilities differ as logits do.
            let logit = |log_probs: &Vec<f32>| log_probs[0] - found[0][0] + expected[0];
            let found: Vec<f32> = found.iter().map(logit).collect();
            assert_close(&found, expected, tolerance::F32_LOGITS);
        }
    }
}

#[test]
fn configurations_of_transformers_4_and_5_say_the_same() {
    for case in &families().cases {
        let written = Config::from_json(case.written_config.to_string().as_bytes()).unwrap();
        assert_eq!(written, config(case), "{}", case.name);
    }
}

#[test]
fn written_configurations_say_the_same() {
    for case in &families().cases {
        let config = config(case);
        if config.qkv_bias && config.family == Family::Llama {
            assert!(config.o_bias && config.mlp_bias);
        }
        let json = config.to_json([Some(1), None]).unwrap();
        assert_eq!(json["eos_token_id"], json!(null));
        let read = Config::from_json(json.to_string().as_bytes()).unwrap();
        assert_eq!(read, config, "{}", case.name);
    }
}

#[test]
fn factors_of_a_gguf_are_written_so_that_they_mean_the_same() {
    let case = families().case("llama 3");
    let factors = vec![1.0, 1.5, 4.0, 32.0];
    let config = Config { rope_scaling: RopeScaling::Factors(factors), ..config(case) };
    let json = config.to_json([None; 2]).unwrap();
    let read = Config::from_json(json.to_string().as_bytes()).unwrap();
    let tensors = tensors(case, "");
    let run = |config: &Config| {
        let decoder = Decoder::new(config, &tensors).unwrap();
        logits(&decoder, &families().tokens, &mut cache(&decoder)).concat()
    };
    assert!(run(&config) == run(&read));
    assert!(run(&config) != run(&Config { rope_scaling: RopeScaling::None, ..config.clone() }));
}

#[test]
fn decoder_that_a_family_cannot_express_is_not_written() {
    let config = Config { logit_softcap: Some(30.0), ..config(families().case("qwen2")) };
    let err = config.to_json([None; 2]).unwrap_err();
    assert_eq!(err.to_string(), "writing this decoder as a qwen2 model is not supported");
}

#[test]
fn text_model_inside_a_model_that_sees_computes_the_same() {
    let case = families().case("gemma3");
    let mut text = case.config.clone();
    text.as_object_mut().unwrap().remove("model_type");
    let outer = json!({ "model_type": "gemma3", "text_config": text, "vision_config": {} });
    let outer = Config::from_json(outer.to_string().as_bytes()).unwrap();
    let tensors = tensors(case, "language_model.");
    let decoder = Decoder::new(&outer, &tensors).unwrap();
    let all = logits(&decoder, &families().tokens, &mut cache(&decoder));
    let found: Vec<_> = families().positions.iter().map(|at| all[*at].clone()).collect();
    assert_rows("gemma3 that sees", &found, &case.prefill);
}

#[test]
fn window_as_long_as_the_context_changes_nothing() {
    let case = families().case("mistral");
    let mut config = config(case);
    let tensors = tensors(case, "");
    let mut run = |window: Option<usize>| {
        config.windows.fill(window);
        let decoder = Decoder::new(&config, &tensors).unwrap();
        logits(&decoder, &families().tokens, &mut cache(&decoder)).concat()
    };
    let all = run(None);
    for window in [44, 45, 128, 1_000_000, usize::MAX] {
        assert!(run(Some(window)) == all, "{window}");
    }
    assert!(run(Some(43)) != all);
}

#[test]
fn long_context_is_read_again_when_it_outgrows_the_original_and_when_it_shrinks() {
    let case = families().case("phi3 longrope");
    let decoder = decoder(case);
    let tokens = &families().tokens;
    let whole = |len: usize| logits(&decoder, &tokens[..len], &mut cache(&decoder));
    let mut cache = cache(&decoder);
    for (start, end) in [(0, 20), (20, 24), (24, 30), (10, 15), (15, 44), (24, 25), (23, 24)] {
        cache.truncate(start);
        let found = logits(&decoder, &tokens[start..end], &mut cache);
        assert_eq!(cache.len(), end);
        assert_close(&found.concat(), &whole(end)[start..].concat(), tolerance::F32_LOGITS);
    }
}

#[test]
fn cancelled_second_reading_leaves_a_cache_that_can_be_read_on() {
    let decoder = decoder(families().case("phi3 longrope"));
    let tokens = &families().tokens;
    let mut cache = cache(&decoder);
    logits(&decoder, &tokens[..24], &mut cache);
    let cancel = CancelToken::default();
    cancel.cancel();
    let job = JobCtx::new(cancel, &|_| {});
    let result = decoder.forward(&tokens[24..30], &mut cache, Logits::All, &job);
    assert!(matches!(result, Err(ModelError::Cancelled(_))));
    assert_eq!(cache.len(), 24);
    let found = logits(&decoder, &tokens[24..30], &mut cache).concat();
    let whole = logits(&decoder, &tokens[..30], &mut self::cache(&decoder));
    assert_close(&found, &whole[24..].concat(), tolerance::F32_LOGITS);
}

#[test]
fn model_folders_of_every_family_are_opened() {
    for case in &families().cases {
        let running = Running::of(&case.model());
        assert_eq!(running.files.config, config(case), "{}", case.name);
        let tokens = &families().tokens;
        let found = running.logits(tokens, &mut running.cache());
        let decoder = decoder(case);
        assert!(found == logits(&decoder, tokens, &mut cache(&decoder)).concat(), "{}", case.name);
    }
}

/// A feature of a family, and how it is switched off.
type Feature = (&'static str, fn(&mut Config));

/// Each case's features: a fixture that didn't depend on one of them would not notice its loss.
const FEATURES: [(&str, &[Feature]); 12] = [
    ("llama", &[("base of rotations", |it| it.rope_theta = 1e5)]),
    ("llama 3", &[("llama3 scaling", |it| it.rope_scaling = RopeScaling::None)]),
    (
        "llama with biases",
        &[
            ("biases of queries, keys and values", |it| it.qkv_bias = false),
            ("bias behind the attention", |it| it.o_bias = false),
            ("biases of the feed-forward layer", |it| it.mlp_bias = false),
        ],
    ),
    (
        "mistral",
        &[
            ("window", |it| it.windows.fill(None)),
            ("length of the window", |it| it.windows.fill(Some(9))),
        ],
    ),
    ("mistral without window", &[("no window", |it| it.windows.fill(Some(43)))]),
    (
        "qwen2",
        &[("biases", |it| it.qkv_bias = false), ("no window", |it| it.windows.fill(Some(8)))],
    ),
    (
        "qwen2 with window",
        &[
            ("layers with a window", |it| it.windows.fill(None)),
            ("layers without", |it| it.windows.fill(Some(8))),
        ],
    ),
    ("qwen3", &[("norms of queries and keys", |it| it.qk_norm = false)]),
    (
        "gemma2",
        &[
            ("offset of the norms", |it| it.norm_offset = 0.0),
            ("scaled embeddings", |it| it.scaled_embeddings = false),
            ("norms behind", |it| it.post_norms = false),
            ("activation", |it| it.activation = Activation::Silu),
            ("divisor of the scores", |it| it.query_pre_attn_scalar = 16.0),
            ("soft cap of the scores", |it| it.attention_softcap = None),
            ("soft cap of the logits", |it| it.logit_softcap = None),
            ("layers with a window", |it| it.windows.fill(None)),
            ("layers without", |it| it.windows.fill(Some(8))),
        ],
    ),
    (
        "gemma3",
        &[
            ("offset of the norms", |it| it.norm_offset = 0.0),
            ("scaled embeddings", |it| it.scaled_embeddings = false),
            ("norms of queries and keys", |it| it.qk_norm = false),
            ("norms behind", |it| it.post_norms = false),
            ("activation", |it| it.activation = Activation::Silu),
            ("divisor of the scores", |it| it.query_pre_attn_scalar = 16.0),
            ("local rotations", |it| it.local_rope_theta = None),
            ("base of local rotations", |it| it.local_rope_theta = Some(1e4)),
            ("linear scaling", |it| it.rope_scaling = RopeScaling::None),
            ("layers with a window", |it| it.windows.fill(None)),
        ],
    ),
    ("phi3", &[("window", |it| it.windows.fill(None))]),
    (
        "phi3 longrope",
        &[
            ("part that is turned", |it| {
                it.rotary_dim = 16;
                it.rope_scaling = RopeScaling::None;
            }),
            ("short factors", |it| {
                change_long_rope(it, |short, long, _, _| long.clone_into(short));
            }),
            ("long factors", |it| {
                change_long_rope(it, |short, long, _, _| short.clone_into(long));
            }),
            ("original length", |it| change_long_rope(it, |_, _, original, _| *original = 44)),
            ("factor of the angles", |it| change_long_rope(it, |_, _, _, factor| *factor = 1.0)),
        ],
    ),
];

fn change_long_rope(
    config: &mut Config,
    change: impl FnOnce(&mut Vec<f32>, &mut Vec<f32>, &mut usize, &mut f64),
) {
    let RopeScaling::LongRope { short, long, original, attention_factor } =
        &mut config.rope_scaling
    else {
        panic!("the case has factors");
    };
    change(short, long, original, attention_factor);
}

#[test]
fn every_feature_is_noticed_when_it_is_lost() {
    let fixture = families();
    let names: Vec<&str> = fixture.cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names, FEATURES.map(|(name, _)| name));
    for (name, features) in FEATURES {
        let case = fixture.case(name);
        for (feature, lose) in features {
            let mut config = config(case);
            lose(&mut config);
            let decoder = Decoder::new(&config, &tensors(case, "")).unwrap();
            let all = logits(&decoder, &fixture.tokens, &mut cache(&decoder));
            let decoded = logits(&decoder, &fixture.tokens[..24], &mut cache(&decoder));
            // One pass over all tokens, and for what short contexts have, the step behind 24.
            let at = fixture.decode_lengths.iter().position(|len| *len == 24).unwrap();
            let deviation = [(&all[43], &case.prefill[7]), (&decoded[23], &case.decode[at])]
                .into_iter()
                .flat_map(|(found, expected)| columns(found).into_iter().zip(expected))
                .map(|(found, expected)| (found - expected).abs())
                .fold(0.0, f32::max);
            let needed = 50.0 * tolerance::F32_LOGITS;
            assert!(deviation > needed, "{name} without its {feature}: {deviation}");
        }
    }
}
