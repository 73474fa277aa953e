//! What it costs to score responses: each in a pass of its own, and all together.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use meav_job::JobCtx;
use meav_model::{Config, Decoder, Question};
use meav_test_support::{TINY, TinyModel, VOCAB_SIZE, tiny_model};

/// Tokens of the model's vocabulary.
const VOCABULARY: usize = 8192;

/// A seeded model of 10 million parameters.
fn decoder() -> Decoder {
    let mut model = tiny_model(&TinyModel {
        hidden_size: 256,
        intermediate_size: 1024,
        n_layers: 8,
        n_heads: 8,
        head_dim: 32,
        ..TINY
    });
    model.config["vocab_size"] = VOCABULARY.into();
    let tensors: BTreeMap<String, Tensor> = model
        .tensors
        .into_iter()
        .map(|mut tensor| {
            if tensor.shape[0] == VOCAB_SIZE {
                tensor.shape[0] = VOCABULARY;
                tensor.values =
                    tensor.values.into_iter().cycle().take(VOCABULARY * tensor.shape[1]).collect();
            }
            let values = Tensor::from_vec(tensor.values, tensor.shape, &Device::Cpu);
            (tensor.name, values.expect("the model is whole"))
        })
        .collect();
    let config = Config::from_json(model.config.to_string().as_bytes()).expect("it is a Llama");
    Decoder::new(&config, &tensors).expect("the model is whole")
}

/// Tokens of no meaning.
fn tokens(start: usize, len: usize) -> Vec<u32> {
    (start..start + len).map(|i| (i * 37 % VOCABULARY) as u32).collect()
}

/// Each with a system prompt of 40 tokens, a query of 30, and three responses of 70 and more.
fn questions(n: usize) -> Vec<Question> {
    let question = |index: usize| Question {
        prompt: [tokens(0, 40), tokens(100 * (index + 1), 30)].concat(),
        responses: (0..3).map(|it| tokens(1000 * (it + index), 70 + 10 * it)).collect(),
    };
    (0..n).map(question).collect()
}

fn scores(criterion: &mut Criterion) {
    let decoder = decoder();
    let score = |questions: &[Question]| {
        decoder.score(questions, &mut |_| {}, &JobCtx::detached()).expect("they can be scored")
    };
    let mut group = criterion.benchmark_group("responses");
    group.sample_size(10);
    for n in [1, 8] {
        let questions = questions(n);
        let alone: Vec<Question> = questions
            .iter()
            .flat_map(|Question { prompt, responses }| {
                responses
                    .iter()
                    .map(|it| Question { prompt: prompt.clone(), responses: vec![it.clone()] })
            })
            .collect();
        group.throughput(Throughput::Elements(alone.len() as u64));
        group.bench_function(BenchmarkId::new("one by one", n), |bencher| {
            bencher.iter(|| alone.chunks(1).map(score).collect::<Vec<_>>());
        });
        group.bench_function(BenchmarkId::new("together", n), |bencher| {
            bencher.iter(|| score(&questions));
        });
    }
    group.finish();
}

criterion_group!(benches, scores);
criterion_main!(benches);
