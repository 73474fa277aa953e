use std::collections::BTreeSet;

use candle_core::Tensor;
use fastrand::Rng;
use meav_model::{Adapter, Adapters, Config, Decoder};
use meav_protocol::{TrainMethod, TrainSettings};

use crate::TrainError;

/// Whether each of the settings' targets names a linear layer.
///
/// # Errors
///
/// [`TrainError::UnknownTarget`] for the first that does not.
pub fn check_targets(decoder: &Decoder, settings: &TrainSettings) -> Result<(), TrainError> {
    let TrainMethod::Lora { targets, .. } = &settings.method else { return Ok(()) };
    for target in targets {
        if !decoder.linear_layers().any(|(name, _)| is_named(name, target)) {
            let known: BTreeSet<&str> =
                decoder.linear_layers().map(|(name, _)| last_part(name)).collect();
            let known = known.into_iter().map(str::to_owned).collect();
            return Err(TrainError::UnknownTarget { target: target.clone(), known });
        }
    }
    Ok(())
}

/// Whether the rank is one that a matrix of the model can have.
///
/// # Errors
///
/// [`TrainError::Rank`].
pub fn check_rank(config: &Config, settings: &TrainSettings) -> Result<(), TrainError> {
    let TrainMethod::Lora { rank, .. } = settings.method else { return Ok(()) };
    let widths = [
        config.hidden_size,
        2 * config.intermediate_size,
        (config.n_heads + 2 * config.n_kv_heads) * config.head_dim,
    ];
    let largest = widths.into_iter().fold(0, usize::max);
    if rank > largest { Err(TrainError::Rank { rank, largest }) } else { Ok(()) }
}

/// First factors beside the linear layers that `targets` names, or all of them.
///
/// `A` is uniform between plus and minus `1/√in`, which is Kaiming's with `a = √5`, and `B` is 0,
/// as PEFT makes them: the model begins as it was. Each `A` depends on the seed and its own name
/// alone.
///
/// # Errors
///
/// [`TrainError::Tensor`].
pub(super) fn first_factors(
    decoder: &Decoder,
    rank: usize,
    alpha: f64,
    targets: &[String],
    seed: u64,
) -> Result<Adapters, TrainError> {
    let is_target =
        |name: &str| targets.is_empty() || targets.iter().any(|target| is_named(name, target));
    let mut adapters = Adapters::new();
    for (name, weight) in decoder.linear_layers().filter(|(name, _)| is_target(name)) {
        let failed = |source| TrainError::Tensor { name: name.to_owned(), source };
        let adapter = adapter(name, weight, rank, alpha, seed).map_err(failed)?;
        adapters.insert(name.to_owned(), adapter);
    }
    Ok(adapters)
}

fn adapter(
    name: &str,
    weight: &Tensor,
    rank: usize,
    alpha: f64,
    seed: u64,
) -> candle_core::Result<Adapter> {
    let ((n_out, n_in), device) = (weight.dims2()?, weight.device());
    let mut rng = rng(name, seed);
    let bound = (n_in as f32).sqrt().recip();
    let values: Vec<f32> = (0..rank * n_in).map(|_| bound * rng.f32().mul_add(2.0, -1.0)).collect();
    Ok(Adapter {
        a: Tensor::from_vec(values, (rank, n_in), device)?,
        b: Tensor::from_vec(vec![0.0_f32; n_out * rank], (n_out, rank), device)?,
        scale: (alpha / rank as f64) as f32,
    })
}

fn rng(name: &str, seed: u64) -> Rng {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes()).update(name.as_bytes());
    let mut seed = [0; 8];
    hasher.finalize_xof().fill(&mut seed);
    Rng::with_seed(u64::from_le_bytes(seed))
}

/// As PEFT looks for targets: the end of the name, from a dot on.
pub(crate) fn is_named(name: &str, target: &str) -> bool {
    let module = module(name);
    module == target || module.strip_suffix(target).is_some_and(|rest| rest.ends_with('.'))
}

fn last_part(name: &str) -> &str {
    let module = module(name);
    module.rsplit_once('.').map_or(module, |(_, last)| last)
}

fn module(name: &str) -> &str {
    name.strip_suffix(".weight").unwrap_or(name)
}
