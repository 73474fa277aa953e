use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::{Map, Value as Json, json};

use crate::tokenizer;
use crate::{Dtype, ModelFolder, PreTokenizer, Tensor, special};

/// A tiny model of one family, and what transformers makes of it.
#[derive(Clone, Debug, Deserialize)]
pub struct FamilyCase {
    /// The family, and what is special about this one.
    pub name: String,
    /// `config.json` as files on the hub have it.
    pub config: Json,
    /// `config.json` as transformers 5 writes it, as far as it decides the network.
    pub written_config: Json,
    /// Each tensor's dimensions.
    tensors: Map<String, Json>,
    /// Logits behind each of `positions` in one pass, at `columns` of the vocabulary.
    pub prefill: Vec<Vec<f32>>,
    /// Logits behind the first so many tokens, for each of `decode_lengths`, token by token.
    pub decode: Vec<Vec<f32>>,
    /// For the first so many tokens of each of `batch_lengths`: logits behind the first of them,
    /// the one at half the length, and the last.
    pub batch: Vec<Vec<Vec<f32>>>,
}

/// What `fixtures/families.py` computed.
#[derive(Clone, Debug, Deserialize)]
pub struct FamilyCases {
    /// Places in the vocabulary.
    pub columns: Vec<usize>,
    /// What is read.
    pub tokens: Vec<u32>,
    /// See [`FamilyCase::prefill`].
    pub positions: Vec<usize>,
    /// See [`FamilyCase::decode`].
    pub decode_lengths: Vec<usize>,
    /// See [`FamilyCase::batch`].
    pub batch_lengths: Vec<usize>,
    /// The models.
    pub cases: Vec<FamilyCase>,
}

static FAMILIES: LazyLock<FamilyCases> =
    LazyLock::new(|| serde_json::from_str(include_str!("../fixtures/families.json")).unwrap());

/// Tiny models of all families, some of them several times with other settings.
pub fn families() -> &'static FamilyCases {
    &FAMILIES
}

impl FamilyCases {
    /// The case of that name.
    pub fn case(&self, name: &str) -> &FamilyCase {
        self.cases.iter().find(|case| case.name == name).unwrap()
    }
}

impl FamilyCase {
    /// The model as a folder of `f32` weights, with a tokenizer of as many tokens.
    pub fn model(&self) -> ModelFolder {
        ModelFolder {
            config: self.config.clone(),
            generation_config: json!({ "eos_token_id": [special::IM_END] }),
            tokenizer: tokenizer::json(PreTokenizer::SmolLm),
            tokenizer_config: tokenizer::config_json(),
            tensors: self.tensors(),
            sharded: false,
        }
    }

    /// The weights by their Hugging Face names, as `fixtures/families.py` makes them.
    pub fn tensors(&self) -> Vec<Tensor> {
        let is_gemma = self.config["model_type"].as_str().unwrap().starts_with("gemma");
        let tensor = |(name, shape): (&String, &Json)| {
            let shape: Vec<usize> = serde_json::from_value(shape.clone()).unwrap();
            let values = weight_values(name, &shape, is_gemma);
            Tensor { name: name.clone(), dtype: Dtype::F32, shape, values }
        };
        self.tensors.iter().map(tensor).collect()
    }
}

/// `weight_values` of the script, bit for bit: uniform values by a hash of the tensor's name and
/// the element's index. Every product is exact.
fn weight_values(name: &str, shape: &[usize], is_gemma: bool) -> Vec<f32> {
    let (scale, offset) = if let [_, columns] = *shape {
        let spread = (6.0 / columns as f64).sqrt().log2().round();
        if name.contains("embed_tokens") { (0.5, 0.0) } else { (spread.exp2() as f32, 0.0) }
    } else if name.ends_with("bias") || is_gemma {
        (0.25, 0.0)
    } else {
        (0.25, 1.0)
    };
    let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    let len = shape.iter().product::<usize>() as u64;
    (1..=len)
        .map(|index| {
            let bits = split_mix(seed.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
            let unit = (bits >> 40) as f32 / (1 << 23) as f32 - 1.0;
            unit * scale + offset
        })
        .collect()
}

/// The output function of Steele et al., 2014, doi:10.1145/2660193.2660195.
fn split_mix(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
