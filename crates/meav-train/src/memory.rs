use meav_model::Config;
use meav_protocol::{OptimizerState, TrainMethod, TrainSettings};
use meav_weights::Dtype;

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
    let n_weights = n_weights(config);
    let trained = trainable_parameters(config, settings);
    let is_copied = matches!(settings.method, TrainMethod::Lora { .. }) || dtype != Dtype::F32;
    let copies = if is_copied { 4 * trained } else { 0 };
    let moments = match settings.optimizer_state {
        OptimizerState::F32 => 8 * trained,
        OptimizerState::Int8 => 2 * trained + trained / 32,
    };
    let weights = n_weights * dtype.size_bytes() as u64;
    weights + 4 * trained + moments + copies + activations(config, settings.checkpointing, tokens)
}

/// Elements that change.
pub fn trainable_parameters(config: &Config, settings: &TrainSettings) -> u64 {
    match &settings.method {
        TrainMethod::Full => n_weights(config),
        TrainMethod::Lora { rank, targets, .. } => n_factors(config, *rank, targets),
    }
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

/// The linear layers of one decoder layer: last part of the name, outputs and inputs.
fn linear_layers(config: &Config) -> Vec<(&'static str, usize, usize)> {
    let Config { hidden_size: h, intermediate_size: i, .. } = *config;
    let (q, kv) = (config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim);
    let mut layers = vec![("o_proj", h, q), ("down_proj", h, i)];
    if config.fused_projections {
        layers.extend([("qkv_proj", q + 2 * kv, h), ("gate_up_proj", 2 * i, h)]);
    } else {
        layers.extend([("q_proj", q, h), ("k_proj", kv, h), ("v_proj", kv, h)]);
        layers.extend([("gate_proj", i, h), ("up_proj", i, h)]);
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
    let is_target = |name: &str| {
        // A target may be longer than a name, e.g. `self_attn.q_proj`.
        targets.is_empty() || targets.iter().any(|it| it.rsplit('.').next() == Some(name))
    };
    let widths = linear_layers(config).into_iter().filter(|(name, ..)| is_target(name));
    let widths: usize = widths.map(|(_, n_out, n_in)| n_out + n_in).sum();
    (config.n_layers * rank * widths) as u64
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
