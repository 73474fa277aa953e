use meav_model::Config;
use meav_protocol::{OptimizerState, TrainMethod, TrainSettings};
use meav_weights::Dtype;

use crate::trainer::is_named;

/// Bytes that a run takes at most, model included, if `tokens` go through the model together:
/// [`longest_batch`](crate::longest_batch) says how many.
///
/// ```text
/// P sizeof(dtype)                          weights
/// + 4 N                                    gradients of N trained elements
/// + (8 or 2 + 8/256) N                     moments
/// + 4 N                                    low-rank factors, or masters of weights of 2 bytes
/// + 4 T (H L + A + 2 A')                   with activations of one layer kept at a time
///   or 4 T (A L + 2 A')                    with those of all L layers
/// + 4 (4 T H + 2 · 2²⁰)                    the rows in front of the vocabulary, and parts of that
///   or 12 M, if that is more               a tensor of full parameters that is written, of M
///                                          elements at most, the one before and the difference
///
/// A  = 2 H + 2 q + 4 kv + 2 I              what a layer keeps of a token: its input, queries, keys
///                                          and values before and behind rotation, attended,
///                                          between attention and feed-forward, gate and up
/// A' = q + 2 kv + 3 I + 2 H                what its backward pass makes on the way
/// ```
///
/// with `q` and `kv` the heads' widths together. What norms of heads or behind the layers keep is
/// added to `A` where a family has them. Buffers of the order of a few MiB are not counted.
pub fn memory_estimate(
    config: &Config,
    settings: &TrainSettings,
    dtype: Dtype,
    tokens: usize,
) -> u64 {
    let lasting = lasting(config, settings, dtype);
    let passing =
        activations(config, settings.checkpointing, tokens).max(writing(config, settings));
    lasting.saturating_add(passing)
}

/// Bytes that a run on a GPU takes at most, where they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GpuMemory {
    /// Of the GPU.
    pub gpu: u64,
    /// Beside the program itself.
    pub host: u64,
}

/// As [`memory_estimate`] where the model is on a GPU.
///
/// Weights, gradients, moments, masters and activations are there. What is written comes to the
/// host tensor by tensor, with its moments. Beside the activations, the GPU holds
///
/// ```text
/// 4 T (q + 3 heads)          turned queries, and what their softmax has found
/// 2 T (H + 2 I)              what goes into a product with weights of 2 bytes, rounded to these
/// 2 · 4 · 2²⁴                logits of a part of the vocabulary, and what a product makes of them
/// ```
pub fn gpu_memory_estimate(
    config: &Config,
    settings: &TrainSettings,
    dtype: Dtype,
    tokens: usize,
) -> GpuMemory {
    /// Elements of the logits.
    const LOGITS: usize = 1 << 24;
    let Config { hidden_size: h, intermediate_size: i, n_heads, head_dim, .. } = *config;
    let rounded = if dtype == Dtype::F32 { 0 } else { 2 * (h + 2 * i) };
    let beside = tokens * (4 * n_heads * (head_dim + 3) + rounded) + 2 * 4 * LOGITS;
    let passing = activations(config, settings.checkpointing, tokens).saturating_add(beside as u64);
    let gpu = lasting(config, settings, dtype).saturating_add(passing);
    GpuMemory { gpu, host: writing(config, settings) }
}

/// What is there from the first step to the last.
fn lasting(config: &Config, settings: &TrainSettings, dtype: Dtype) -> u64 {
    let trained = trainable_parameters(config, settings);
    let is_copied = matches!(settings.method, TrainMethod::Lora { .. }) || dtype != Dtype::F32;
    let copies = if is_copied { trained.saturating_mul(4) } else { 0 };
    let moments = match settings.optimizer_state {
        OptimizerState::F32 => trained.saturating_mul(8),
        OptimizerState::Int8 => trained.saturating_mul(2).saturating_add(trained / 32),
    };
    let weights = n_weights(config) * dtype.size_bytes() as u64;
    let parts = [trained.saturating_mul(4), moments, copies];
    parts.into_iter().fold(weights, u64::saturating_add)
}

/// Elements that change: at most as many as can be counted.
pub fn trainable_parameters(config: &Config, settings: &TrainSettings) -> u64 {
    match &settings.method {
        TrainMethod::Full => n_weights(config),
        TrainMethod::Lora { rank, targets, .. } => n_factors(config, *rank, targets),
    }
}

/// What writing a vector or a checkpoint holds of the largest tensor, when there are no
/// activations: its values, those before the first step, and their difference.
fn writing(config: &Config, settings: &TrainSettings) -> u64 {
    let largest = match &settings.method {
        TrainMethod::Full => {
            let linear = linear_layers(config).into_iter().map(|(_, n_out, n_in)| n_out * n_in);
            linear.fold(config.vocab_size * config.hidden_size, usize::max)
        }
        TrainMethod::Lora { .. } => 0,
    };
    3 * 4 * largest as u64
}

fn activations(config: &Config, checkpointing: bool, tokens: usize) -> u64 {
    /// Elements of the output weights that are taken at a time, and of the logits.
    const PARTS: usize = 2 << 20;
    let Config { hidden_size: h, intermediate_size: i, n_layers, .. } = *config;
    let (q, kv) = (config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim);
    let norms = if config.qk_norm { q + 2 * kv } else { 0 };
    let post_norms = if config.post_norms { 2 * h } else { 0 };
    let layer = 2 * h + 2 * q + 4 * kv + 2 * i + norms + post_norms;
    let backward = q + 2 * kv + 3 * i + 2 * h;
    let kept = if checkpointing { h * n_layers + layer } else { layer * n_layers };
    4 * (tokens * (kept + 2 * backward) + 4 * tokens * h + PARTS) as u64
}

/// The linear layers of one decoder layer: the name's part behind the layer, outputs and inputs.
fn linear_layers(config: &Config) -> Vec<(&'static str, usize, usize)> {
    let Config { hidden_size: h, intermediate_size: i, .. } = *config;
    let (q, kv) = (config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim);
    let mut layers = vec![("self_attn.o_proj", h, q), ("mlp.down_proj", h, i)];
    if config.fused_projections {
        layers.extend([("self_attn.qkv_proj", q + 2 * kv, h), ("mlp.gate_up_proj", 2 * i, h)]);
    } else {
        layers.extend([("self_attn.q_proj", q, h), ("self_attn.k_proj", kv, h)]);
        layers.extend([("self_attn.v_proj", kv, h)]);
        layers.extend([("mlp.gate_proj", i, h), ("mlp.up_proj", i, h)]);
    }
    layers
}

fn n_weights(config: &Config) -> u64 {
    let h = config.hidden_size;
    let (q, kv) = (config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim);
    let linear: usize = linear_layers(config).iter().map(|(_, n_out, n_in)| n_out * n_in).sum();
    let norms = if config.post_norms { 4 * h } else { 2 * h };
    let head_norms = if config.qk_norm { 2 * config.head_dim } else { 0 };
    let biases = [
        (config.qkv_bias, q + 2 * kv),
        (config.o_bias, h),
        (config.mlp_bias, 2 * config.intermediate_size + h),
    ];
    let biases: usize = biases.iter().filter(|(has, _)| *has).map(|(_, n)| n).sum();
    let tables = if config.tie_word_embeddings { 1 } else { 2 };
    let layers = config.n_layers * (linear + norms + head_norms + biases);
    (tables * config.vocab_size * h + layers + h) as u64
}

fn n_factors(config: &Config, rank: usize, targets: &[String]) -> u64 {
    let parts = linear_layers(config);
    // A target may name a single layer, e.g. `layers.0.self_attn.q_proj`.
    let is_target = |layer: usize, part: &str| {
        let name = || format!("model.layers.{layer}.{part}");
        targets.is_empty() || targets.iter().any(|target| is_named(&name(), target))
    };
    let widths = (0..config.n_layers).flat_map(|layer| {
        let named = parts.iter().filter(move |(part, ..)| is_target(layer, part));
        named.map(|(_, n_out, n_in)| (n_out + n_in) as u64)
    });
    widths.sum::<u64>().saturating_mul(rank as u64)
}

#[cfg(test)]
mod tests {
    use meav_test_support::families;

    use super::*;
    use crate::test_support::{family, lora};

    /// Counts by the decoder itself, of every family.
    #[test]
    fn elements_are_counted_as_the_decoder_has_them() {
        for case in &families().cases {
            let decoder = family(case);
            let n: usize = decoder.parameters().map(|(_, tensor)| tensor.elem_count()).sum();
            assert_eq!(n_weights(decoder.config()), n as u64, "{}", case.name);
            let widths =
                |(_, weight): (&str, &candle_core::Tensor)| -> usize { weight.dims().iter().sum() };
            let n: usize = decoder.linear_layers().map(widths).sum();
            assert_eq!(n_factors(decoder.config(), 3, &[]), 3 * n as u64, "{}", case.name);
        }
    }

    /// What is counted is what gets factors.
    #[test]
    fn targets_are_counted_as_they_are_trained() {
        let cases = [
            &["q_proj"][..],
            &["self_attn.q_proj", "mlp.down_proj"],
            &["layers.0.self_attn.q_proj"],
            &["model.layers.0.mlp.up_proj", "v_proj"],
            &["layers.1.self_attn.qkv_proj", "0.mlp.gate_up_proj"],
            &["proj"],
        ];
        let mut n_found = 0;
        for case in &families().cases {
            let decoder = family(case);
            for targets in cases {
                let targets: Vec<String> = targets.iter().map(|it| (*it).to_owned()).collect();
                let named = decoder
                    .linear_layers()
                    .filter(|(name, _)| targets.iter().any(|target| is_named(name, target)));
                let n: usize = named.map(|(_, it)| it.dims().iter().sum::<usize>()).sum();
                let counted = n_factors(decoder.config(), 3, &targets);
                assert_eq!(counted, 3 * n as u64, "{}, {targets:?}", case.name);
                n_found += usize::from(n > 0);
            }
        }
        assert!(n_found > families().cases.len(), "{n_found}");
    }

    #[test]
    fn giant_ranks_are_counted_as_giant() {
        let decoder = family(&families().cases[0]);
        for rank in [1 << 62, usize::MAX] {
            let settings = TrainSettings { method: lora_of(rank), ..TrainSettings::default() };
            assert!(trainable_parameters(decoder.config(), &settings) > 1 << 63);
            assert_eq!(memory_estimate(decoder.config(), &settings, Dtype::F32, 1), u64::MAX);
        }
    }

    /// A 7B model in `bf16`, pairs of 512 tokens each way: what this product promises.
    #[test]
    fn seven_billion_parameters_fit_where_they_are_to_fit() {
        let config = serde_json::json!({
            "architectures": ["MistralForCausalLM"], "model_type": "mistral",
            "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32000,
            "max_position_embeddings": 32768, "rms_norm_eps": 1e-5, "rope_theta": 1e4,
            "hidden_act": "silu", "tie_word_embeddings": false,
        });
        let config = Config::from_json(&serde_json::to_vec(&config).unwrap()).unwrap();
        let run = |method, optimizer_state| {
            let checkpointing = true;
            let settings = TrainSettings {
                method,
                optimizer_state,
                checkpointing,
                ..TrainSettings::default()
            };
            gpu_memory_estimate(&config, &settings, Dtype::Bf16, 4 * 1024)
        };
        let low_rank = run(lora(8), OptimizerState::F32);
        assert!((15_000_000_000..24_000_000_000).contains(&low_rank.gpu), "{low_rank:?}");
        assert_eq!(low_rank.host, 0);
        let full = run(TrainMethod::Full, OptimizerState::F32);
        assert!((130_000_000_000..139_000_000_000).contains(&full.gpu), "{full:?}");
        assert!(full.host > 600 << 20, "{full:?}");
        assert!(run(TrainMethod::Full, OptimizerState::Int8).gpu < 90 << 30);
    }

    fn lora_of(rank: usize) -> TrainMethod {
        TrainMethod::Lora { rank, alpha: 8.0, targets: Vec::new() }
    }

    #[test]
    fn every_choice_that_saves_memory_does() {
        let decoder = family(&families().cases[0]);
        let estimate = |settings: &TrainSettings, dtype, tokens| {
            memory_estimate(decoder.config(), settings, dtype, tokens)
        };
        let costly = TrainSettings {
            method: TrainMethod::Full,
            checkpointing: false,
            ..TrainSettings::default()
        };
        let most = estimate(&costly, Dtype::F32, 4096);
        let savings = [
            TrainSettings { method: lora(8), ..costly.clone() },
            TrainSettings { checkpointing: true, ..costly.clone() },
            TrainSettings { optimizer_state: OptimizerState::Int8, ..costly.clone() },
        ];
        for settings in savings {
            assert!(estimate(&settings, Dtype::F32, 4096) < most, "{settings:?}");
        }
        assert!(estimate(&costly, Dtype::F32, 2048) < most);
        let lora = TrainSettings { method: lora(8), ..costly };
        assert!(estimate(&lora, Dtype::Bf16, 4096) < estimate(&lora, Dtype::F32, 4096));
    }
}
