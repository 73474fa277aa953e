//! PEFT LoRA adapter folders: `adapter_config.json` beside `adapter_model.safetensors`.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::{fmt, fs};

use meav_weights::{Checkpoint, Weight};
use regex::{Regex, RegexBuilder};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
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
    #[serde(default)]
    rank_pattern: Patterns<usize>,
    #[serde(default)]
    alpha_pattern: Patterns<f32>,
    /// Whatever else the file says, among it the features of [`VARIANTS`].
    #[serde(flatten)]
    rest: serde_json::Map<String, Json>,
}

/// Features that make of an adapter something else than `B · A` for each layer, unless they are
/// null, false or empty.
const VARIANTS: [(&str, &str); 9] = [
    ("alora_invocation_tokens", NO_SUM),
    ("arrow_config", NO_SUM),
    ("kasa_config", NO_SUM),
    ("monteclora_config", NO_SUM),
    ("use_bdlora", NO_SUM),
    ("use_qalora", NO_SUM),
    ("layer_replication", "it repeats layers that the base model has once"),
    ("target_parameters", "only linear layers and embeddings can be changed"),
    ("trainable_token_indices", "it replaces rows of the embeddings instead of adding to them"),
];

const NO_SUM: &str = "its effect is not a fixed difference of weights";

/// Settings of the layers whose names match, in the order of the file: the first match holds.
struct Patterns<T>(Vec<(String, T)>);

impl<T> Default for Patterns<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Patterns<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for InOrder<T> {
            type Value = Patterns<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from patterns of layers' names")
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Patterns::default())
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut patterns = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    patterns.push(entry);
                }
                Ok(Patterns(patterns))
            }
        }

        deserializer.deserialize_any(InOrder(PhantomData))
    }
}

/// Patterns ready to be matched.
struct Matcher<T>(Vec<(Regex, T)>);

impl<T: Copy> Matcher<T> {
    /// PEFT matches `(.*\.)?(PATTERN)$` from the start of a module's name.
    fn new(patterns: &Patterns<T>) -> Result<Self, VectorError> {
        let compiled = patterns.0.iter().map(|(pattern, value)| {
            let regex = RegexBuilder::new(&format!(r"\A(?:(.*\.)?({pattern})\z)"))
                .size_limit(MAX_PATTERN_BYTES)
                .build();
            let unusable = |_source| VectorError::UnsupportedAdapter {
                feature: format!("the pattern {pattern:?}"),
                reason: "it is too large, or no regular expression without looking around",
            };
            Ok::<_, VectorError>((regex.map_err(unusable)?, *value))
        });
        Ok(Self(compiled.collect::<Result<_, _>>()?))
    }

    fn get(&self, module: &str) -> Option<T> {
        self.0.iter().find(|(pattern, _)| pattern.is_match(module)).map(|(_, value)| *value)
    }
}

/// A compiled pattern's size: far above those of layers' names.
const MAX_PATTERN_BYTES: usize = 1 << 18;

/// The rank and the scale of each layer.
struct Settings<'a> {
    config: &'a AdapterConfig,
    ranks: Matcher<usize>,
    alphas: Matcher<f32>,
}

impl<'a> Settings<'a> {
    fn new(config: &'a AdapterConfig) -> Result<Self, VectorError> {
        let ranks = Matcher::new(&config.rank_pattern)?;
        Ok(Self { config, ranks, alphas: Matcher::new(&config.alpha_pattern)? })
    }

    fn rank(&self, module: &str) -> usize {
        self.ranks.get(module).unwrap_or(self.config.r)
    }

    fn scale(&self, module: &str) -> f32 {
        let rank = self.rank(module) as f32;
        let alpha = self.alphas.get(module).unwrap_or(self.config.lora_alpha);
        alpha / if self.config.use_rslora { rank.sqrt() } else { rank }
    }
}

pub(crate) fn is_adapter(path: &Path) -> bool {
    path.join(CONFIG_FILE).is_file()
}

pub(crate) fn open(path: &Path) -> Result<VectorParts, VectorError> {
    let config = read_config(&path.join(CONFIG_FILE))?;
    config.refuse_unsupported()?;
    let settings = Settings::new(&config)?;
    let checkpoint = Checkpoint::open(&weights_path(path))?;
    let mut deltas = BTreeMap::new();
    for stored in checkpoint.names() {
        let part = Part::of(stored)?;
        let misfit =
            || VectorError::Factors { name: part.tensor(), path: checkpoint.path().to_owned() };
        let other = part.other();
        if checkpoint.info(&other).is_none() {
            return Err(misfit());
        }
        if part.is_a {
            let (a, b) = (checkpoint.load(stored)?, checkpoint.load(&other)?);
            let factors = part
                .factors(&a, &b, settings.scale(part.module))
                .filter(|factors| factors.rank == settings.rank(part.module))
                .ok_or_else(misfit)?;
            if deltas.insert(part.tensor(), Delta::LowRank(factors)).is_some() {
                return Err(misfit());
            }
        }
    }
    let origin = VectorOrigin {
        domain: domain(path),
        base_name: config.base_model_name_or_path,
        ..VectorOrigin::default()
    };
    Ok(VectorParts { kind: VectorKind::LowRank, origin, deltas })
}

/// Where the factors are.
pub(crate) fn weights_path(adapter: &Path) -> PathBuf {
    adapter.join(WEIGHTS_FILE)
}

/// The name of the adapter's folder.
pub(crate) fn domain(adapter: &Path) -> String {
    let path = adapter.canonicalize().ok();
    let name = path.as_deref().and_then(Path::file_name);
    name.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn read_config(path: &Path) -> Result<AdapterConfig, VectorError> {
    let at =
        |source: AdapterConfigError| VectorError::AdapterConfig { path: path.to_owned(), source };
    let text = fs::read(path).map_err(|err| at(err.into()))?;
    serde_json::from_slice(&text).map_err(|err| at(err.into()))
}

impl AdapterConfig {
    /// Initialisations that take what the factors start with away from the base, so that adding
    /// the factors to the base itself would count it twice.
    fn changes_its_base(&self) -> bool {
        let method = self.init_lora_weights.as_ref().and_then(Json::as_str).unwrap_or_default();
        let family = method.split('_').next().unwrap_or_default();
        ["pissa", "olora", "corda", "loftq"].contains(&family) || method == "lora_ga"
    }

    fn refuse_unsupported(&self) -> Result<(), VectorError> {
        let not_lora = "only LoRA adapters can be read";
        let checks = [
            (self.peft_type != "LORA", self.peft_type.as_str(), not_lora),
            (self.r == 0, "r = 0", "an adapter without rank adds nothing"),
            (self.use_dora, "DoRA", NO_SUM),
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
                "only the weights of linear layers and embeddings can be changed",
            ),
            (
                self.fan_in_fan_out,
                "fan_in_fan_out",
                "it belongs to models that store their layers transposed",
            ),
        ];
        let is_on = |value: &Json| match value {
            Json::Null | Json::Bool(false) => false,
            Json::Array(values) => !values.is_empty(),
            Json::Object(values) => !values.is_empty(),
            _ => true,
        };
        let variants = VARIANTS
            .map(|(feature, reason)| (self.rest.get(feature).is_some_and(is_on), feature, reason));
        match checks.into_iter().chain(variants).find(|(unsupported, ..)| *unsupported) {
            Some((_, feature, reason)) => {
                Err(VectorError::UnsupportedAdapter { feature: feature.to_owned(), reason })
            }
            None => Ok(()),
        }
    }
}

/// A factor of the file.
struct Part<'a> {
    stored: &'a str,
    module: &'a str,
    is_a: bool,
    is_embedding: bool,
}

impl<'a> Part<'a> {
    fn of(stored: &'a str) -> Result<Self, VectorError> {
        let found = stored.strip_prefix("base_model.model.").and_then(|rest| {
            [
                (".lora_A.weight", true, false),
                (".lora_B.weight", false, false),
                (".lora_embedding_A", true, true),
                (".lora_embedding_B", false, true),
            ]
            .into_iter()
            .find_map(|(suffix, is_a, is_embedding)| {
                let module = rest.strip_suffix(suffix)?;
                Some(Self { stored, module, is_a, is_embedding })
            })
        });
        found.ok_or_else(|| VectorError::UnsupportedAdapter {
            feature: format!("the tensor {stored:?}"),
            reason: if stored.ends_with(".base_layer.weight") {
                "it is a copy of the base model's; save the adapter with \
                 save_embedding_layers=False"
            } else {
                "only the lora_A and lora_B of linear layers and embeddings can be read"
            },
        })
    }

    /// The base model's tensor.
    fn tensor(&self) -> String {
        format!("{}.weight", self.module)
    }

    /// The other factor's name.
    fn other(&self) -> String {
        let (from, to) = if self.is_a { ("_A", "_B") } else { ("_B", "_A") };
        let (start, factor) = self.stored.split_at("base_model.model.".len() + self.module.len());
        format!("{start}{}", factor.replace(from, to))
    }

    /// A linear layer's weight is `(out, in)` and gets `B · A`. An embedding's is `(tokens, width)`,
    /// and it gets `(B · A)ᵀ = Aᵀ · Bᵀ`, with `A` `(r, tokens)` and `B` `(width, r)`.
    fn factors(&self, a: &Weight, b: &Weight, scale: f32) -> Option<LowRank> {
        if !self.is_embedding {
            return LowRank::new(a, b, scale);
        }
        LowRank::new(&transposed(b)?, &transposed(a)?, scale)
    }
}

/// `None` unless it is a matrix.
fn transposed(weight: &Weight) -> Option<Weight> {
    let &[rows, columns] = weight.shape() else { return None };
    let values = weight.to_f32_vec();
    let transposed = (0..rows * columns).map(|i| values[i % rows * columns + i / rows]).collect();
    Some(Weight::from_f32(vec![columns, rows], transposed))
}
