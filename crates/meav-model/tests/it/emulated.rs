//! The CUDA kernels, run on the CPU, against the operations of the CPU.

use candle_core::Device;
use meav_cuda::emulate;
use meav_job::JobCtx;
use meav_model::{Checkpointing, Decoder, Gradients, KvCache, Logits, Trainable};
use meav_test_support::{assert_close, families, tolerance};
use meav_weights::Dtype;

use crate::differentiable::{adapters, family, gradients, questions};
use crate::{Running, flat, some_tokens};

/// Token by token in parts of several lengths: products of few rows and of many.
fn logits(decoder: &Decoder, tokens: &[u32]) -> Vec<f32> {
    let config = decoder.config();
    let mut cache = KvCache::new(config, config.max_position_embeddings, &Device::Cpu).unwrap();
    let (mut rest, mut found) = (tokens, Vec::new());
    for len in [20, 1, 2, 3, 4, 5, 6, 7, 8, usize::MAX] {
        let (part, behind) = rest.split_at(len.min(rest.len()));
        if !part.is_empty() {
            let job = JobCtx::detached();
            found.extend(flat(&decoder.forward(part, &mut cache, Logits::All, &job).unwrap()));
        }
        rest = behind;
    }
    found
}

#[test]
fn logits_are_those_of_the_cpu() {
    for case in &families().cases {
        let (decoder, _) = family(case);
        let tokens = &families().tokens[..families().tokens.len().min(60)];
        let expected = logits(&decoder, tokens);
        let found = emulate(|| logits(&decoder, tokens));
        assert_close(&found, &expected, tolerance::F32_LOGITS);
        assert!(found != expected, "{}: the kernels were not asked", case.name);
    }
}

#[test]
fn scores_are_those_of_the_cpu() {
    let score = |decoder: &Decoder| -> Vec<f32> {
        let scores = decoder.score(&questions(), &mut |_| {}, &JobCtx::detached()).unwrap();
        scores.into_iter().flatten().flatten().collect()
    };
    for case in &families().cases {
        let (decoder, _) = family(case);
        let found = emulate(|| score(&decoder));
        assert_close(&found, &score(&decoder), tolerance::F32_LOGITS);
    }
}

#[test]
fn weights_of_half_the_size_give_the_logits_of_the_cpu() {
    let tokens = some_tokens(60);
    for (dtype, close) in [(Dtype::F16, tolerance::F16), (Dtype::Bf16, tolerance::BF16)] {
        let running = Running::tiny(&meav_test_support::TINY);
        let tensors = crate::load(&running.files, dtype);
        let decoder = Decoder::new(&running.files.config, &tensors).unwrap();
        let found = emulate(|| logits(&decoder, &tokens));
        assert_close(&found, &logits(&decoder, &tokens), close);
    }
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

#[test]
fn gradients_are_those_of_the_cpu() {
    for case in &families().cases {
        let (decoder, _) = family(case);
        let adapters = adapters(&decoder, 0.2);
        for (trainable, checkpointing) in [
            (Trainable::Weights, Checkpointing::Off),
            (Trainable::Adapters(&adapters), Checkpointing::Layers),
        ] {
            let ask = || gradients(&decoder, &questions(), trainable, checkpointing);
            emulate(|| check_gradients(&case.name, &ask(), &emulate_not(ask)));
        }
    }
}

/// Does `work` on another thread, which emulates nothing.
fn emulate_not<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|scope| scope.spawn(work).join().unwrap())
}
