//! Models on a GPU, or where there is none by the same kernels on the CPU, against those of the CPU.

use candle_core::Device;
use meav_cuda::on_gpu;
use meav_job::JobCtx;
use meav_model::{
    Checkpointing, Decoder, Generator, Gradients, KvCache, Logits, Question, Trainable,
};
use meav_test_support::{
    FamilyCase, TINY, TinyModel, VOCAB_SIZE, assert_close, families, tolerance,
};
use meav_weights::Dtype;

use crate::differentiable::{adapters, sums_and_gradients};
use crate::families::{config, tensors};
use crate::{Running, differentiable, flat, generation, load, scoring, some_tokens, to_device};

fn family(case: &FamilyCase, device: &Device) -> Decoder {
    Decoder::new(&config(case), &to_device(tensors(case, ""), device)).unwrap()
}

/// Logits behind each token, read in parts of these lengths, the last one as often as it takes.
fn logits(decoder: &Decoder, tokens: &[u32], lengths: &[usize]) -> Vec<f32> {
    let (config, device) = (decoder.config(), decoder.device());
    let mut cache = KvCache::new(config, config.max_position_embeddings, device).unwrap();
    let (mut rest, mut found) = (tokens, Vec::new());
    let last = lengths.last().unwrap();
    for len in lengths.iter().chain(std::iter::repeat(last)) {
        if rest.is_empty() {
            break;
        }
        let (part, behind) = rest.split_at(rest.len().min(*len));
        let job = JobCtx::detached();
        let logits = decoder.forward(part, &mut cache, Logits::All, &job).unwrap();
        assert!(logits.device().same_device(device));
        found.extend(flat(&logits));
        rest = behind;
    }
    found
}

/// Products of few rows and of many, for every feature of each family.
#[test]
fn logits_are_those_of_the_cpu() {
    let tokens = &families().tokens;
    for case in &families().cases {
        let all =
            |device: &Device| logits(&family(case, device), tokens, &[20, 1, 2, 3, 4, 5, 6, 7, 8]);
        let (found, expected) = (on_gpu(all), all(&Device::Cpu));
        assert_close(&found, &expected, tolerance::F32_LOGITS);
        assert!(found != expected, "{}: the kernels were not asked", case.name);
    }
}

#[test]
fn weights_of_half_the_size_give_the_logits_of_the_cpu() {
    let tokens = some_tokens(40);
    for (dtype, close) in [(Dtype::F16, tolerance::F16), (Dtype::Bf16, tolerance::BF16)] {
        let all = |device: &Device| {
            let files = Running::tiny(&TINY).files;
            let tensors = to_device(load(&files, dtype), device);
            logits(&Decoder::new(&files.config, &tensors).unwrap(), &tokens, &[20, 1, 9, 3])
        };
        assert_close(&on_gpu(all), &all(&Device::Cpu), close);
    }
}

#[test]
fn tokens_may_be_read_at_once_one_by_one_or_in_pieces() {
    let tokens = some_tokens(40);
    on_gpu(|device| {
        for name in ["gemma2", "qwen2 with window"] {
            let decoder = family(families().case(name), device);
            let at_once = logits(&decoder, &tokens, &[usize::MAX]);
            for parts in [&[1][..], &[8], &[9], &[1, 30, 7]] {
                assert_close(&logits(&decoder, &tokens, parts), &at_once, tolerance::F32_LOGITS);
            }
        }
    });
}

#[test]
fn forgotten_tokens_leave_no_trace() {
    let tokens = some_tokens(20);
    on_gpu(|device| {
        let running = Running::tiny_on(&TINY, device);
        let mut cache = running.cache();
        let first = running.logits(&tokens, &mut cache);
        cache.truncate(10);
        running.logits(&[5; 30], &mut cache);
        cache.truncate(10);
        let again = running.logits(&tokens[10..], &mut cache);
        assert_close(&again, &first[10 * VOCAB_SIZE..], tolerance::F32_LOGITS);
    });
}

/// Of prompts that begin alike, of responses long and short, and of none.
#[test]
fn scores_are_those_of_the_cpu() {
    let check = |decoder: &dyn Fn(&Device) -> Decoder, questions: &[Question]| {
        let all = |device: &Device| scoring::score(&decoder(device), questions);
        let (found, expected) = (on_gpu(all), all(&Device::Cpu));
        let lengths = |scores: &[Vec<Vec<f32>>]| -> Vec<Vec<usize>> {
            scores.iter().map(|it| it.iter().map(Vec::len).collect()).collect()
        };
        assert_eq!(lengths(&found), lengths(&expected));
        let [found, expected] = [found, expected].map(|it| it.concat().concat());
        assert!(expected.len() > 20);
        assert_close(&found, &expected, tolerance::F32_LOGITS);
    };
    for case in &families().cases {
        check(&|device| family(case, device), &differentiable::questions());
    }
    let tiny = |device: &Device| Running::tiny_on(&TINY, device).decoder;
    check(&tiny, &scoring::questions(40));
}

#[test]
fn greedy_texts_are_those_of_the_cpu() {
    let tokens = some_tokens(30);
    for model in [TINY, TinyModel { tie_word_embeddings: false, seed: 2, ..TINY }] {
        let texts = |device: &Device| {
            let running = Running::tiny_on(&model, device);
            let mut generator = Generator::default();
            // Cold, further than before, shorter, and the same once more.
            [20, 30, 3, 3].map(|len| {
                let question = generation::Question::short(&tokens[..len], None);
                question.ask(&mut generator, &running).0.tokens
            })
        };
        let found = on_gpu(texts);
        assert_eq!(found, texts(&Device::Cpu));
        assert!(found[0] != found[1] && found[0].len() == 8);
    }
}

#[test]
fn seeds_tell_the_texts_that_a_gpu_draws() {
    let prompt = some_tokens(5);
    on_gpu(|device| {
        let running = Running::tiny_on(&TINY, device);
        let text = |seed: u64| {
            let question = generation::Question::short(&prompt, Some(seed));
            question.ask(&mut Generator::default(), &running).0.tokens
        };
        assert_eq!(text(1), text(1));
        assert_ne!(text(1), text(2));
    });
}

fn check_gradients(name: &str, found: &Gradients, expected: &Gradients) {
    let mut n_tensors = 0;
    for ((name_found, found), (name_expected, expected)) in found.iter().zip(expected.iter()) {
        assert_eq!(name_found, name_expected);
        let (found, expected) = (flat(found), flat(expected));
        let largest = expected.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
        assert!(largest > 0.0, "{name}: {name_expected}");
        let scaled = |values: Vec<f32>| values.iter().map(|x| x / largest).collect::<Vec<_>>();
        assert_close(&scaled(found), &scaled(expected), tolerance::F32_LOGITS);
        n_tensors += 1;
    }
    assert!(n_tensors > 10, "{name}: {n_tensors}");
    let norms = [found, expected].map(|it| it.square_norm().unwrap());
    assert!((norms[0] / norms[1] - 1.0).abs() < 1e-4, "{name}: {norms:?}");
}

/// Fewer tokens than the CPU's own gradients are tried with; some of Phi-3's with factors still end
/// in a long context, some in a short one.
fn few_questions() -> Vec<Question> {
    let mut questions = differentiable::questions();
    questions.truncate(2);
    questions[0].responses.swap_remove(0);
    questions[1].responses[0].truncate(2);
    questions
}

#[test]
fn gradients_are_those_of_the_cpu() {
    const BOTH: [Checkpointing; 2] = [Checkpointing::Off, Checkpointing::Layers];
    let questions = few_questions();
    // Families in turns, each with both kinds of what is trained.
    for (case, turn) in families().cases.iter().zip(0..) {
        for (is_adapted, checkpointing) in [(false, BOTH[turn % 2]), (true, BOTH[1 - turn % 2])] {
            let all = |device: &Device| {
                let decoder = family(case, device);
                let adapters = adapters(&decoder, 0.2);
                let trainable =
                    if is_adapted { Trainable::Adapters(&adapters) } else { Trainable::Weights };
                sums_and_gradients(&decoder, &questions, trainable, checkpointing)
            };
            let (expected_sums, expected) = all(&Device::Cpu);
            on_gpu(|device| {
                let (sums, found) = all(device);
                let [sums, expected_sums] = [&sums, &expected_sums]
                    .map(|it| it.iter().map(|sum| *sum as f32).collect::<Vec<_>>());
                assert_close(&sums, &expected_sums, tolerance::F32_LOGITS);
                check_gradients(&case.name, &found, &expected);
            });
        }
    }
}
