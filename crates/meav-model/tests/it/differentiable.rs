use std::collections::BTreeMap;

use candle_core::{CpuStorage, DType, Device, InplaceOp1, Layout, Tensor};
use meav_job::{CancelToken, JobCtx};
use meav_model::{
    Adapter, Adapters, Checkpointing, Config, Decoder, ForwardPass, Gradients, ModelError,
    Question, Trainable,
};
use meav_test_support::{FamilyCase, TINY, TinyModel, assert_close, families, tolerance};

use crate::families::{config, tensors};
use crate::{Running, flat, load, some_tokens};

/// Questions that begin alike and differ then, of responses long and short, and of none. For a
/// Phi-3 with factors some end in a long context, some in a short one.
pub(crate) fn questions() -> Vec<Question> {
    let tokens = some_tokens(200);
    let question = |own: u32, prompt_len: usize, lengths: &[usize]| {
        let mut prompt = tokens[..prompt_len].to_vec();
        prompt.iter_mut().skip(5).for_each(|token| *token += own);
        let response = |(index, len): (usize, &usize)| {
            tokens[20 * (index + 1) + own as usize..][..*len].to_vec()
        };
        Question { prompt, responses: lengths.iter().enumerate().map(response).collect() }
    };
    vec![question(0, 13, &[5, 1, 14]), question(3, 9, &[7, 0, 1]), question(1, 6, &[])]
}

/// A decoder and the tensors that it reads.
pub(crate) fn family(case: &FamilyCase) -> (Decoder, BTreeMap<String, Tensor>) {
    let tensors = tensors(case, "");
    (Decoder::new(&config(case), &tensors).unwrap(), tensors)
}

/// Values of no meaning, between plus and minus `scale`.
fn noise(shape: &[usize], seed: usize, scale: f32) -> Tensor {
    let value = |index: usize| {
        let bits = (index + 1 + 7919 * seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((bits >> 40) as f32 / (1 << 23) as f32 - 1.0) * scale
    };
    let values: Vec<f32> = (0..shape.iter().product()).map(value).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// Factors beside each linear layer, where that is, `B` up to `scale`.
pub(crate) fn adapters(decoder: &Decoder, scale: f32) -> Adapters {
    let adapter = |(seed, (name, weight)): (usize, (&str, &Tensor))| {
        let (n_out, n_in) = weight.dims2().unwrap();
        let rank = 2 + seed % 3;
        let factors = [noise(&[rank, n_in], seed, 0.3), noise(&[n_out, rank], 1000 + seed, scale)];
        let [a, b] = factors.map(|it| it.to_device(weight.device()).unwrap());
        let scale = if seed.is_multiple_of(4) { 1.0 } else { 0.5 };
        (name.to_owned(), Adapter { a, b, scale })
    };
    decoder.linear_layers().enumerate().map(adapter).collect()
}

fn forward<'a>(
    decoder: &'a Decoder,
    questions: &[Question],
    trainable: Trainable<'a>,
    checkpointing: Checkpointing,
) -> ForwardPass<'a> {
    let job = JobCtx::detached();
    decoder.differentiable_forward(questions, trainable, checkpointing, &job).unwrap()
}

/// All sums of log-probabilities, question by question.
fn sums(pass: &ForwardPass<'_>) -> Vec<f64> {
    pass.log_probs().iter().flatten().map(|it| it.sum).collect()
}

/// How far the responses' means lie from what nobody wanted of them, and the derivatives of this
/// by their sums.
fn loss(pass: &ForwardPass<'_>) -> (f64, Vec<Vec<f32>>) {
    let mut loss = 0.0;
    let mut target = 0.0;
    let mut derivative = |sum: f64, n_tokens: usize| {
        let n = n_tokens.max(1) as f64;
        target -= 1.5;
        let distance = sum / n - target;
        loss += distance * distance;
        (2.0 * distance / n) as f32
    };
    let upstream = pass
        .log_probs()
        .iter()
        .map(|responses| responses.iter().map(|it| derivative(it.sum, it.n_tokens)).collect())
        .collect();
    (loss, upstream)
}

/// The gradients of [`loss`].
fn gradients(
    decoder: &Decoder,
    questions: &[Question],
    trainable: Trainable<'_>,
    checkpointing: Checkpointing,
) -> Gradients {
    sums_and_gradients(decoder, questions, trainable, checkpointing).1
}

/// All sums of log-probabilities, and the gradients of [`loss`].
pub(crate) fn sums_and_gradients(
    decoder: &Decoder,
    questions: &[Question],
    trainable: Trainable<'_>,
    checkpointing: Checkpointing,
) -> (Vec<f64>, Gradients) {
    let mut gradients = Gradients::zeros(decoder, trainable).unwrap();
    let pass = forward(decoder, questions, trainable, checkpointing);
    let (sums, (_, upstream)) = (sums(&pass), loss(&pass));
    pass.backward(&upstream, &mut gradients, &JobCtx::detached()).unwrap();
    (sums, gradients)
}

fn bits(gradients: &Gradients) -> Vec<(String, Vec<u32>)> {
    let bits = |tensor: &Tensor| flat(tensor).into_iter().map(f32::to_bits).collect();
    gradients.iter().map(|(name, tensor)| (name.to_owned(), bits(tensor))).collect()
}

/// Writes over a tensor where it stands, as an optimiser does.
struct Write(Vec<f32>);

impl InplaceOp1 for Write {
    fn name(&self) -> &'static str {
        "write"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, _: &Layout) -> candle_core::Result<()> {
        let CpuStorage::F32(values) = storage else { candle_core::bail!("not f32") };
        values.copy_from_slice(&self.0);
        Ok(())
    }
}

/// The derivative of `loss` as `tensor` moves along `direction`, to fourth order in the step.
fn finite_difference(tensor: &Tensor, direction: &[f32], loss: &dyn Fn() -> f64) -> f64 {
    /// Long enough for the loss to change by far more than it is rounded by.
    const STEP: f32 = 3e-2;
    let start = flat(tensor);
    let at = |step: f32| {
        let moved = start.iter().zip(direction).map(|(x, v)| x + step * v).collect();
        tensor.inplace_op1(&Write(moved)).unwrap();
        loss()
    };
    let central = |step: f32| (at(step) - at(-step)) / (2.0 * f64::from(step));
    let derivative = (4.0 * central(STEP) - central(2.0 * STEP)) / 3.0;
    tensor.inplace_op1(&Write(start)).unwrap();
    derivative
}

/// Compares a gradient with what the loss does as its tensor moves: along the elements of the
/// largest derivative and of two others, and along all elements at once.
fn check_gradient(name: &str, tensor: &Tensor, gradient: &Tensor, loss: &dyn Fn() -> f64) {
    assert_eq!(tensor.dims(), gradient.dims(), "{name}");
    let gradient = flat(gradient);
    let norm = gradient.iter().map(|x| f64::from(x * x)).sum::<f64>().sqrt();
    let largest =
        (0..gradient.len()).max_by(|a, b| gradient[*a].abs().total_cmp(&gradient[*b].abs()));
    let unit = |index: usize| {
        let mut direction = vec![0.0; gradient.len()];
        direction[index] = 1.0;
        direction
    };
    let signs = flat(&noise(&[gradient.len()], gradient.len(), 1.0));
    let length = (gradient.len() as f32).sqrt();
    let everywhere = signs.iter().map(|it| it.signum() / length).collect();
    let indices = [largest.unwrap(), gradient.len() / 3, gradient.len() - 1];
    for direction in indices.map(unit).into_iter().chain([everywhere]) {
        let along = |(g, v): (&f32, &f32)| f64::from(*g) * f64::from(*v);
        let found: f64 = gradient.iter().zip(&direction).map(along).sum();
        let expected = finite_difference(tensor, &direction, loss);
        let is_close = (found - expected).abs() <= 1e-3 * norm;
        assert!(is_close && norm > 0.1, "{name}: {found}, not {expected}, of {norm}");
    }
}

#[test]
fn log_probs_are_those_of_scoring() {
    for case in &families().cases {
        let (decoder, _) = family(case);
        let scores = decoder.score(&questions(), &mut |_| {}, &JobCtx::detached()).unwrap();
        let expected: Vec<f32> = scores.iter().flatten().map(|it| it.iter().sum()).collect();
        let adapters = adapters(&decoder, 0.0);
        let mut found = Vec::new();
        for checkpointing in [Checkpointing::Off, Checkpointing::Layers] {
            for trainable in [
                Trainable::Weights,
                Trainable::Adapters(&adapters),
                Trainable::Nothing(None),
                Trainable::Nothing(Some(&adapters)),
            ] {
                let pass = forward(&decoder, &questions(), trainable, checkpointing);
                for (found, scores) in pass.log_probs().iter().zip(&scores) {
                    let lengths: Vec<usize> = scores.iter().map(Vec::len).collect();
                    let found: Vec<usize> = found.iter().map(|it| it.n_tokens).collect();
                    assert_eq!(found, lengths, "{}", case.name);
                }
                found.push(sums(&pass));
            }
        }
        let single: Vec<f32> = found[0].iter().map(|sum| *sum as f32).collect();
        assert_close(&single, &expected, tolerance::F32_LOGITS);
        assert!(found.iter().all(|it| *it == found[0]), "{}", case.name);
    }
}

#[test]
fn adapters_score_as_the_weights_that_they_are_merged_into() {
    for case in &families().cases {
        let (decoder, mut tensors) = family(case);
        let adapters = adapters(&decoder, 0.2);
        for (name, Adapter { a, b, scale }) in &adapters {
            let product = (b.matmul(a).unwrap() * f64::from(*scale)).unwrap();
            let merged = (&tensors[name] + product).unwrap();
            tensors.insert(name.clone(), merged);
        }
        let merged = Decoder::new(decoder.config(), &tensors).unwrap();
        let run = |decoder: &Decoder, adapters: Option<&Adapters>| -> Vec<f32> {
            let trainable = Trainable::Nothing(adapters);
            let pass = forward(decoder, &questions(), trainable, Checkpointing::Off);
            sums(&pass).into_iter().map(|sum| sum as f32).collect()
        };
        let found = run(&decoder, Some(&adapters));
        assert_close(&found, &run(&merged, None), tolerance::F32_LOGITS);
        let without = run(&decoder, None);
        let change = found.iter().zip(&without).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(change > 0.1, "{}: {change}", case.name);
    }
}

#[test]
fn gradients_of_weights_are_those_of_finite_differences() {
    for case in &families().cases {
        let (decoder, _) = family(case);
        let gradients = gradients(&decoder, &questions(), Trainable::Weights, Checkpointing::Off);
        let loss = || {
            let trainable = Trainable::Nothing(None);
            loss(&forward(&decoder, &questions(), trainable, Checkpointing::Off)).0
        };
        for (name, tensor) in decoder.parameters() {
            let gradient = gradients.get(name).unwrap();
            check_gradient(&format!("{} {name}", case.name), tensor, gradient, &loss);
        }
    }
}

#[test]
fn gradients_of_adapters_are_those_of_finite_differences() {
    for case in &families().cases {
        let (decoder, _) = family(case);
        let adapters = adapters(&decoder, 0.2);
        let trainable = Trainable::Adapters(&adapters);
        let gradients = gradients(&decoder, &questions(), trainable, Checkpointing::Off);
        let loss = || {
            let trainable = Trainable::Nothing(Some(&adapters));
            loss(&forward(&decoder, &questions(), trainable, Checkpointing::Off)).0
        };
        for (name, adapter) in &adapters {
            for (suffix, factor) in [("lora_A", &adapter.a), ("lora_B", &adapter.b)] {
                let name = format!("{name}.{suffix}");
                let gradient = gradients.get(&name).unwrap();
                check_gradient(&format!("{} {name}", case.name), factor, gradient, &loss);
            }
        }
    }
}

#[test]
fn every_trainable_tensor_receives_a_gradient() {
    for case in &families().cases {
        let (decoder, tensors) = family(case);
        let adapters = adapters(&decoder, 0.2);
        let factors = |name: &String| ["lora_A", "lora_B"].map(|it| format!("{name}.{it}"));
        let of_weights: Vec<String> = tensors.keys().cloned().collect();
        let of_adapters: Vec<String> = adapters.keys().flat_map(factors).collect();
        for (trainable, expected) in
            [(Trainable::Weights, of_weights), (Trainable::Adapters(&adapters), of_adapters)]
        {
            let gradients = gradients(&decoder, &questions(), trainable, Checkpointing::Layers);
            let names: Vec<String> = gradients.iter().map(|(name, _)| name.to_owned()).collect();
            assert_eq!(names, expected, "{}", case.name);
            for (name, gradient) in gradients.iter() {
                let gradient = flat(gradient);
                assert!(gradient.iter().all(|it| it.is_finite()), "{}: {name}", case.name);
                assert!(gradient.iter().any(|it| *it != 0.0), "{}: {name}", case.name);
            }
        }
    }
}

#[test]
fn checkpoints_change_no_bit() {
    for case in &families().cases {
        let (decoder, _) = family(case);
        let adapters = adapters(&decoder, 0.2);
        for trainable in [Trainable::Weights, Trainable::Adapters(&adapters)] {
            let [off, layers] = [Checkpointing::Off, Checkpointing::Layers]
                .map(|it| bits(&gradients(&decoder, &questions(), trainable, it)));
            assert!(!off.is_empty() && off == layers, "{}", case.name);
        }
    }
}

#[test]
fn gradients_are_the_same_bits_on_any_number_of_threads() {
    // Large enough for its products to be split between threads.
    let wide = Running::tiny(&TinyModel { hidden_size: 256, intermediate_size: 512, ..TINY });
    let decoders = families().cases.iter().map(|case| family(case).0).chain([wide.decoder]);
    let mut questions = questions();
    questions.push(Question { prompt: some_tokens(80), responses: vec![some_tokens(40)] });
    for decoder in decoders {
        let adapters = adapters(&decoder, 0.2);
        for trainable in [Trainable::Weights, Trainable::Adapters(&adapters)] {
            let on_threads = |n: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
                pool.install(|| {
                    let found = gradients(&decoder, &questions, trainable, Checkpointing::Off);
                    (bits(&found), found.square_norm().unwrap().to_bits())
                })
            };
            let expected = on_threads(1);
            for n in [2, 3, 1, 5] {
                assert!(on_threads(n) == expected, "{:?}, {n}", decoder.config().family);
            }
        }
    }
}

#[test]
fn gradients_of_two_passes_add_up_to_those_of_one() {
    for case in &families().cases {
        let (decoder, _) = family(case);
        let adapters = adapters(&decoder, 0.2);
        for trainable in [Trainable::Weights, Trainable::Adapters(&adapters)] {
            let pass = forward(&decoder, &questions(), trainable, Checkpointing::Off);
            let (_, upstream) = loss(&pass);
            let mut together = Gradients::zeros(&decoder, trainable).unwrap();
            let mut apart = Gradients::zeros(&decoder, trainable).unwrap();
            pass.backward(&upstream, &mut together, &JobCtx::detached()).unwrap();
            for (question, upstream) in questions().into_iter().zip(upstream) {
                let pass = forward(&decoder, &[question], trainable, Checkpointing::Off);
                pass.backward(&[upstream], &mut apart, &JobCtx::detached()).unwrap();
            }
            for ((name, together), (_, apart)) in together.iter().zip(apart.iter()) {
                let (together, apart) = (flat(together), flat(apart));
                let size = together.iter().fold(0.0_f32, |max, it| max.max(it.abs()));
                let differs = |(a, b): (&f32, &f32)| (a - b).abs() > tolerance::F32_LOGITS * size;
                assert!(size > 0.0, "{}: {name}", case.name);
                assert!(!together.iter().zip(&apart).any(differs), "{}: {name}", case.name);
            }
            together.zero().unwrap();
            assert_eq!(together.square_norm().unwrap().to_bits(), 0.0_f64.to_bits());
        }
    }
}

#[test]
fn square_norm_is_that_of_all_gradients() {
    let (decoder, _) = family(families().case("qwen3"));
    let gradients = gradients(&decoder, &questions(), Trainable::Weights, Checkpointing::Off);
    let squares = |tensor| flat(tensor).into_iter().map(|it| f64::from(it) * f64::from(it));
    let expected: f64 = gradients.iter().flat_map(|(_, tensor)| squares(tensor)).sum();
    let found = gradients.square_norm().unwrap();
    assert!(expected > 0.0 && (found - expected).abs() < 1e-9 * expected);
}

#[test]
fn layers_below_the_lowest_adapter_make_no_difference() {
    for case in &families().cases {
        let (decoder, _) = family(case);
        // Factors that change nothing beside all layers but the last.
        let last = format!("layers.{}.", decoder.config().n_layers - 1);
        let mut all = adapters(&decoder, 0.2);
        for (name, adapter) in &mut all {
            if !name.contains(&last) {
                adapter.b = adapter.b.zeros_like().unwrap();
            }
        }
        let mut few = all.clone();
        few.retain(|name, _| name.contains(&last));
        assert!(!few.is_empty() && few.len() < all.len());
        let of = |adapters: &Adapters| {
            let trainable = Trainable::Adapters(adapters);
            bits(&gradients(&decoder, &questions(), trainable, Checkpointing::Off))
        };
        let mut expected = of(&all);
        expected.retain(|(name, _)| name.contains(&last));
        assert!(of(&few) == expected, "{}", case.name);
    }
}

#[test]
fn weights_of_two_bytes_have_the_gradients_of_their_values() {
    let running = Running::tiny(&TINY);
    let narrow = load(&running.files, meav_weights::Dtype::Bf16);
    let widen =
        |(name, tensor): (&String, &Tensor)| (name.clone(), tensor.to_dtype(DType::F32).unwrap());
    let wide: BTreeMap<String, Tensor> = narrow.iter().map(widen).collect();
    let [narrow, wide] =
        [&narrow, &wide].map(|it| Decoder::new(&running.files.config, it).unwrap());
    let adapters = adapters(&wide, 0.2);
    for trainable in [Trainable::Weights, Trainable::Adapters(&adapters)] {
        let [found, expected] = [&narrow, &wide]
            .map(|it| gradients(it, &questions(), trainable, Checkpointing::Layers));
        assert!(expected.iter().count() > 0);
        for ((name, found), (_, expected)) in found.iter().zip(expected.iter()) {
            let size = flat(expected).iter().fold(0.0_f32, |max, it| max.max(it.abs()));
            let scaled = |tensor: &Tensor| flat(&(tensor / f64::from(size)).unwrap());
            assert!(size > 0.0, "{name}");
            assert_close(&scaled(found), &scaled(expected), tolerance::F32_LOGITS);
        }
    }
}

#[test]
fn cancelled_passes_end() {
    let (decoder, _) = family(families().case("llama"));
    let cancel = CancelToken::default();
    let job = JobCtx::new(cancel.clone(), &|_| {});
    let forward = |checkpointing| {
        decoder.differentiable_forward(&questions(), Trainable::Weights, checkpointing, &job)
    };
    let passes = [Checkpointing::Off, Checkpointing::Layers].map(|it| forward(it).unwrap());
    cancel.cancel();
    for pass in passes {
        let mut gradients = Gradients::zeros(&decoder, Trainable::Weights).unwrap();
        let (_, upstream) = loss(&pass);
        let result = pass.backward(&upstream, &mut gradients, &job);
        assert!(matches!(result, Err(ModelError::Cancelled(_))));
    }
    assert!(matches!(forward(Checkpointing::Off), Err(ModelError::Cancelled(_))));
}

#[test]
fn nothing_to_score_is_no_error() {
    let (decoder, _) = family(families().case("llama"));
    let question = |responses| Question { prompt: vec![5], responses };
    for questions in [vec![], vec![question(vec![])], vec![question(vec![vec![], vec![]])]] {
        let found = gradients(&decoder, &questions, Trainable::Weights, Checkpointing::Off);
        assert!(found.iter().count() > 0);
        assert_eq!(found.square_norm().unwrap().to_bits(), 0.0_f64.to_bits());
    }
    let found = gradients(&decoder, &questions(), Trainable::Nothing(None), Checkpointing::Off);
    assert_eq!(found.iter().count(), 0);
}

/// What a forward pass is refused with.
fn refusal(decoder: &Decoder, questions: &[Question], adapters: &Adapters) -> String {
    let trainable = Trainable::Adapters(adapters);
    let job = JobCtx::detached();
    match decoder.differentiable_forward(questions, trainable, Checkpointing::Off, &job) {
        Ok(_) => panic!("it is refused"),
        Err(err) => err.to_string(),
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let (decoder, _) = family(families().case("phi3"));
    let none = Adapters::new();
    let question = |prompt, response| Question { prompt, responses: vec![response] };
    let refusal_of = |question| refusal(&decoder, &[question], &none);
    assert!(refusal_of(question(vec![], vec![1])).starts_with("there is no prompt"));
    assert_eq!(
        refusal_of(question(some_tokens(100), some_tokens(29))),
        "the conversation has 129 tokens, the model can take 128"
    );
    assert_eq!(refusal_of(question(vec![1], vec![300, 1])), "the model's arithmetic failed");
    assert_eq!(refusal_of(question(vec![1], vec![300])), "the model's arithmetic failed");

    let adapter = |a: [usize; 2], b: [usize; 2]| Adapter {
        a: noise(&a, 1, 1.0),
        b: noise(&b, 2, 1.0),
        scale: 1.0,
    };
    let refusal_of = |name: &str, adapter| {
        let adapters = [(name.to_owned(), adapter)].into();
        refusal(&decoder, &questions(), &adapters)
    };
    let qkv = "model.layers.0.self_attn.qkv_proj.weight";
    for (name, a, b, expected) in [
        (
            "model.layers.0.self_attn.q_proj.weight",
            [2, 48],
            [48, 2],
            "no linear layer of the model has a weight called \
             \"model.layers.0.self_attn.q_proj.weight\"",
        ),
        (
            qkv,
            [2, 47],
            [80, 2],
            "tensor \"model.layers.0.self_attn.qkv_proj.weight.lora_A\" has shape [2, 47], the \
             configuration says [2, 48]",
        ),
        (
            qkv,
            [2, 48],
            [80, 3],
            "tensor \"model.layers.0.self_attn.qkv_proj.weight.lora_B\" has shape [80, 3], the \
             configuration says [80, 2]",
        ),
    ] {
        assert_eq!(refusal_of(name, adapter(a, b)), expected);
    }
}

#[test]
fn gradients_of_something_else_are_refused() {
    let (decoder, _) = family(families().case("llama"));
    let adapters = adapters(&decoder, 0.2);
    let kinds = [Trainable::Weights, Trainable::Adapters(&adapters)];
    for (trainable, other) in kinds.into_iter().zip(kinds.into_iter().rev()) {
        let mut gradients = Gradients::zeros(&decoder, other).unwrap();
        let pass = forward(&decoder, &questions(), trainable, Checkpointing::Off);
        let (_, upstream) = loss(&pass);
        let result = pass.backward(&upstream, &mut gradients, &JobCtx::detached());
        assert!(matches!(result, Err(ModelError::MissingTensor { .. })));
    }
}

#[test]
fn prefix_of_the_names_is_theirs_too() {
    let case = families().case("gemma3");
    let config = Config { tensor_prefix: "language_model.", ..config(case) };
    let tensors = tensors(case, "language_model.");
    let decoder = Decoder::new(&config, &tensors).unwrap();
    let found = gradients(&decoder, &questions(), Trainable::Weights, Checkpointing::Off);
    let (plain, _) = family(case);
    let expected = gradients(&plain, &questions(), Trainable::Weights, Checkpointing::Off);
    let prefixed = |(name, bits): (String, Vec<u32>)| (format!("language_model.{name}"), bits);
    assert!(bits(&found) == bits(&expected).into_iter().map(prefixed).collect::<Vec<_>>());
}
