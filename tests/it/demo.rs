//! The demo model against values computed with transformers and PEFT; the scripts that made them
//! stand beside the fixtures.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use meav_data::ReadOptions;
use meav_job::JobCtx;
use meav_model::{Decoder, KvCache, Logits, ModelFiles};
use meav_protocol::TrainSettings;
use meav_test_support::{DpoPair, DpoStep, demo_dpo_steps, first_lora_factor};
use meav_train::{Pair, Reference, Source, Trainer, pair_set, reference_log_probs};
use meav_vector::{AlignmentVector, LiveWeights, Method, Term};
use meav_weights::Dtype;
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::Value;

use crate::support::{demo_data, demo_model, demo_vector};

struct Demo {
    files: ModelFiles,
    live: LiveWeights,
    decoder: Decoder,
}

impl Demo {
    fn load(dtype: Dtype) -> Self {
        let job = JobCtx::detached();
        let files = ModelFiles::open(demo_model()).unwrap();
        let weights = files.load_weights(&job).unwrap();
        let live = LiveWeights::new(weights, dtype, &Device::Cpu, &job).unwrap();
        let decoder = Decoder::new(&files.config, live.tensors()).unwrap();
        Self { files, live, decoder }
    }

    fn apply(&mut self, vector: &Arc<AlignmentVector>, coefficient: f64) {
        let term = Term::new(Arc::clone(vector), coefficient);
        self.live.apply(Method::default(), &[term], &JobCtx::detached()).unwrap();
    }

    fn logits(&self, ids: &[u32]) -> Vec<Vec<f32>> {
        let mut cache = KvCache::new(&self.files.config, ids.len(), &Device::Cpu).unwrap();
        let job = JobCtx::detached();
        let logits = self.decoder.forward(ids, &mut cache, Logits::All, &job).unwrap();
        logits.to_vec2().unwrap()
    }
}

fn fixture(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

/// Holds every case of the fixture for `model` against the decoder.
fn check_logits(demo: &Demo, model: &str) {
    const TOLERANCE: f64 = 1e-3;
    let fixture = fixture(include_str!("../../crates/meav-test-support/fixtures/demo_logits.json"));
    let sample_ids = ids(&fixture["sample_ids"]);
    let cases = fixture["cases"].as_array().unwrap().iter().filter(|case| case["model"] == model);
    let mut n_cases = 0;
    for case in cases {
        n_cases += 1;
        let prompt = ids(&case["ids"]);
        let encoded = demo.files.tokenizer.encode(case["text"].as_str().unwrap(), false).unwrap();
        assert_eq!(encoded.get_ids(), prompt, "{}", case["query"]);
        let found = demo.logits(&prompt);
        for expected in case["logits"].as_array().unwrap() {
            let row = &found[expected["position"].as_u64().unwrap() as usize];
            let sample = expected["sample"].as_array().unwrap().iter();
            let top = expected["top5"].as_array().unwrap().iter();
            let pairs =
                sample_ids.iter().copied().zip(sample.map(|value| value.as_f64().unwrap())).chain(
                    top.map(|pair| (pair[0].as_u64().unwrap() as u32, pair[1].as_f64().unwrap())),
                );
            for (id, value) in pairs {
                let difference = (f64::from(row[id as usize]) - value).abs();
                assert!(difference < TOLERANCE, "{model} {} id {id}: {difference}", case["query"]);
            }
        }
    }
    assert_eq!(n_cases, 2);
}

#[test]
fn logits_agree_with_transformers() {
    check_logits(&Demo::load(Dtype::F32), "base");
}

#[test]
fn one_times_an_adapter_agrees_with_the_model_that_peft_merges() {
    let mut demo = Demo::load(Dtype::F32);
    let job = JobCtx::detached();
    let file = Arc::new(AlignmentVector::open(&demo_vector("medical"), None, &job).unwrap());
    let folder = tempfile::tempdir().unwrap();
    write_as_peft_adapter(&demo_vector("medical"), folder.path());
    let adapter = Arc::new(AlignmentVector::open(folder.path(), None, &job).unwrap());
    for vector in [file, adapter] {
        demo.apply(&vector, 1.0);
        check_logits(&demo, "merged");
        demo.apply(&vector, 0.0);
        check_logits(&demo, "base");
    }
}

/// The same factors under the names that PEFT gives them.
fn write_as_peft_adapter(vector: &Path, folder: &Path) {
    let bytes = std::fs::read(vector).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let renamed: BTreeMap<String, TensorView<'_>> = tensors
        .iter()
        .map(|(name, view)| {
            let (tensor, factor) = name.rsplit_once('.').unwrap();
            let module = tensor.strip_suffix(".weight").unwrap();
            (format!("base_model.model.{module}.{factor}.weight"), view)
        })
        .collect();
    let file = folder.join("adapter_model.safetensors");
    safetensors::serialize_to_file(renamed, None, &file).unwrap();
    let config = serde_json::json!({ "peft_type": "LORA", "r": 8, "lora_alpha": 8 });
    std::fs::write(folder.join("adapter_config.json"), config.to_string()).unwrap();
}

#[test]
fn lambda_zero_gives_the_logits_of_the_base_bit_for_bit() {
    let job = JobCtx::detached();
    let vectors = ["medical", "financial"]
        .map(|name| Arc::new(AlignmentVector::open(&demo_vector(name), None, &job).unwrap()));
    let prompt: Vec<u32> = (0..40).map(|i| (i * 7919 + 13) % 49_152).collect();
    for dtype in [Dtype::F32, Dtype::Bf16] {
        let mut demo = Demo::load(dtype);
        let bits = |demo: &Demo| -> Vec<u32> {
            demo.logits(&prompt).into_iter().flatten().map(f32::to_bits).collect()
        };
        let base = bits(&demo);
        demo.apply(&vectors[0], -0.7);
        demo.apply(&vectors[1], 1.3);
        assert_ne!(bits(&demo), base, "{dtype}");
        let terms = vectors.clone().map(|vector| Term::new(vector, 0.0));
        demo.live.apply(Method::default(), &terms, &job).unwrap();
        assert!(bits(&demo) == base, "{dtype}");
    }
}

#[test]
fn vocabulary_of_the_gguf_tokenises_as_transformers_does() {
    let files = ModelFiles::open(demo_model()).unwrap();
    let fixture = fixture(include_str!("../../crates/meav-test-support/fixtures/tokenizer.json"));
    for case in fixture.as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        let encoded = files.tokenizer.encode(text, false).unwrap();
        assert_eq!(encoded.get_ids(), ids(&case["ids"]), "{text:?}");
        let decoded = files.tokenizer.decode(encoded.get_ids(), false).unwrap();
        assert_eq!(decoded, case["decoded"].as_str().unwrap());
    }
}

/// The records as they are in the file, the pairs as they are made of them, the batches as the seed
/// draws them: all that a run with the default settings does, but for its first factors.
#[test]
fn training_steps_are_those_of_pytorch() {
    let fixture = demo_dpo_steps();
    let [case] = &fixture.cases[..] else { panic!("{} cases", fixture.cases.len()) };
    let job = JobCtx::detached();
    let Demo { files, decoder, .. } = Demo::load(Dtype::F32);
    let first_records = ReadOptions { limit: fixture.steps.len() };
    let dataset = meav_data::read(&demo_data("medical.train.jsonl"), first_records, &job).unwrap();
    let settings =
        TrainSettings { batch: 2, warmup_steps: case.warmup_steps, ..TrainSettings::default() };
    assert_eq!((settings.beta, settings.learning_rate), (fixture.beta, case.learning_rate));
    assert_eq!(settings.max_grad_norm, Some(fixture.max_grad_norm));
    let source = Source { dataset: &dataset, prefer: None };
    let template = files.compile_chat_template().unwrap();
    let mut pairs = pair_set(&[source], &files, &template, &settings, &job).unwrap();
    let tokens = |pair: &DpoPair| -> (Vec<u32>, Vec<Vec<u32>>) {
        (pair.prompt.clone(), vec![pair.chosen.clone(), pair.rejected.clone()])
    };
    let is_of = |expected: &DpoPair, found: &Pair| {
        tokens(expected) == (found.question.prompt.clone(), found.question.responses.clone())
    };
    let first_step = &fixture.steps[0];
    pairs.validation = pairs
        .train
        .iter()
        .filter(|it| first_step.iter().any(|pair| is_of(pair, it)))
        .cloned()
        .collect();
    assert_eq!((pairs.train.len(), pairs.validation.len()), (8, 2));
    let ask = |pairs: &[Pair]| reference_log_probs(&decoder, pairs, &mut |_| {}, &job).unwrap();
    let reference = Reference { train: ask(&pairs.train), validation: ask(&pairs.validation) };

    let mut trainer = Trainer::new(decoder, pairs, reference, &settings, "demo").unwrap();
    for (name, adapter) in trainer.adapters().expect("low-rank factors") {
        let (rows, columns) = adapter.a.dims2().unwrap();
        let values = first_lora_factor(name, rows, columns);
        let a = Tensor::from_vec(values, (rows, columns), &Device::Cpu).unwrap();
        adapter.a.slice_set(&a, 0, 0).unwrap();
    }
    for expected in &case.steps {
        let step = trainer.step(&job).unwrap();
        let found = DpoStep {
            loss: step.loss,
            grad_norm: step.grad_norm,
            learning_rate: step.learning_rate,
            chosen_reward: step.rewards.chosen,
            rejected_reward: step.rewards.rejected,
            chosen_log_prob: step.rewards.chosen_log_prob,
            rejected_log_prob: step.rewards.rejected_log_prob,
        };
        fixture.check(expected, &found, &format!("the demo model, step {}", step.step));
    }
    assert!(trainer.is_finished());
    case.check_loss_after(trainer.validate(&job).unwrap().loss);
}
