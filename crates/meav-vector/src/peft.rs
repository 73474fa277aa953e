//! PEFT LoRA adapter folders: `adapter_config.json` beside `adapter_model.safetensors`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use meav_weights::Checkpoint;
use serde::Deserialize;
use serde_json::Value as Json;

use crate::alignment_vector::VectorParts;
use crate::error::AdapterConfigError;
use crate::{Delta, LowRank, VectorError, VectorKind, VectorOrigin};

const CONFIG_FILE: &str = "adapter_config.json";
const WEIGHTS_FILE: &str = "adapter_model.safetensors";

/// What PEFT writes, as far as it decides what the adapter adds.
#[derive(Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "the file has them")]
struct AdapterConfig {
    peft_type: String,
    r: usize,
    lora_alpha: f32,
    base_model_name_or_path: Option<String>,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    use_dora: bool,
    #[serde(default)]
    fan_in_fan_out: bool,
    #[serde(default)]
    lora_bias: bool,
    bias: Option<String>,
    modules_to_save: Option<Vec<String>>,
    init_lora_weights: Option<Json>,
    alora_invocation_tokens: Option<Json>,
    #[serde(default)]
    rank_pattern: BTreeMap<String, usize>,
    #[serde(default)]
    alpha_pattern: BTreeMap<String, f32>,
}

pub(crate) fn is_adapter(path: &Path) -> bool {
    path.join(CONFIG_FILE).is_file()
}

pub(crate) fn open(path: &Path) -> Result<VectorParts, VectorError> {
    let config = read_config(&path.join(CONFIG_FILE))?;
    config.refuse_unsupported()?;
    let scale = config.scale();
    let checkpoint = Checkpoint::open(&path.join(WEIGHTS_FILE))?;
    let mut deltas = BTreeMap::new();
    for factor_name in checkpoint.names() {
        let (name, other) = factor_names(factor_name)?;
        if checkpoint.info(&other).is_none() {
            return Err(VectorError::Factors { name, path: checkpoint.path().to_owned() });
        }
        if factor_name.contains(".lora_A.") {
            let factors =
                LowRank::new(&checkpoint.load(factor_name)?, &checkpoint.load(&other)?, scale)
                    .filter(|factors| factors.rank == config.r)
                    .ok_or_else(|| VectorError::Factors {
                        name: name.clone(),
                        path: checkpoint.path().to_owned(),
                    })?;
            deltas.insert(name, Delta::LowRank(factors));
        }
    }
    let domain = path
        .canonicalize()
        .ok()
        .and_then(|path| path.file_name().map(|name| name.to_string_lossy().into_owned()));
    let origin = VectorOrigin {
        domain: domain.unwrap_or_default(),
        base_name: config.base_model_name_or_path,
        ..VectorOrigin::default()
    };
    Ok(VectorParts { kind: VectorKind::LowRank, origin, deltas })
}

fn read_config(path: &Path) -> Result<AdapterConfig, VectorError> {
    let at =
        |source: AdapterConfigError| VectorError::AdapterConfig { path: path.to_owned(), source };
    let text = fs::read(path).map_err(|err| at(err.into()))?;
    serde_json::from_slice(&text).map_err(|err| at(err.into()))
}

impl AdapterConfig {
    fn scale(&self) -> f32 {
        let rank = self.r as f32;
        self.lora_alpha / if self.use_rslora { rank.sqrt() } else { rank }
    }

    /// Initialisations that take what the factors start with away from the base, so that adding
    /// the factors to the base itself would count it twice.
    fn changes_its_base(&self) -> bool {
        let method = self.init_lora_weights.as_ref().and_then(Json::as_str).unwrap_or_default();
        let family = method.split('_').next().unwrap_or_default();
        ["pissa", "olora", "corda", "loftq"].contains(&family) || method == "lora_ga"
    }

    fn refuse_unsupported(&self) -> Result<(), VectorError> {
        let no_sum = "its effect is not a fixed difference of weights";
        let not_lora = "only LoRA adapters can be read";
        let checks = [
            (self.peft_type != "LORA", self.peft_type.as_str(), not_lora),
            (self.r == 0, "r = 0", "an adapter without rank adds nothing"),
            (self.use_dora, "DoRA", no_sum),
            (self.alora_invocation_tokens.is_some(), "alora_invocation_tokens", no_sum),
            (
                self.changes_its_base(),
                "init_lora_weights",
                "it adds to changed base weights; convert it to an ordinary adapter with PEFT",
            ),
            (
                self.modules_to_save.as_ref().is_some_and(|modules| !modules.is_empty()),
                "modules_to_save",
                "it replaces whole layers instead of adding to them",
            ),
            (
                self.lora_bias || self.bias.as_deref().is_some_and(|bias| bias != "none"),
                "bias",
                "only the weights of linear layers can be changed",
            ),
            (
                self.fan_in_fan_out,
                "fan_in_fan_out",
                "it belongs to models that store their layers transposed",
            ),
            (
                !self.rank_pattern.is_empty() || !self.alpha_pattern.is_empty(),
                "rank_pattern or alpha_pattern",
                "all layers must share one rank and alpha",
            ),
        ];
        match checks.into_iter().find(|(unsupported, ..)| *unsupported) {
            Some((_, feature, reason)) => {
                Err(VectorError::UnsupportedAdapter { feature: feature.to_owned(), reason })
            }
            None => Ok(()),
        }
    }
}

/// The base model's tensor that a factor belongs to, and the other factor's name.
fn factor_names(factor_name: &str) -> Result<(String, String), VectorError> {
    let other = if factor_name.contains(".lora_A.") {
        factor_name.replace(".lora_A.", ".lora_B.")
    } else {
        factor_name.replace(".lora_B.", ".lora_A.")
    };
    let module = factor_name
        .strip_prefix("base_model.model.")
        .and_then(|rest| rest.strip_suffix(".weight"))
        .and_then(|rest| rest.strip_suffix(".lora_A").or_else(|| rest.strip_suffix(".lora_B")));
    match module {
        Some(module) => Ok((format!("{module}.weight"), other)),
        None => Err(VectorError::UnsupportedAdapter {
            feature: format!("the tensor {factor_name:?}"),
            reason: "only the lora_A and lora_B of linear layers can be read",
        }),
    }
}
