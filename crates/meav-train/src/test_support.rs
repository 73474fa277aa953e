use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use meav_model::{Config, Decoder, Question};
use meav_protocol::TrainMethod;
use meav_test_support::{FamilyCase, TINY, TinyModel, tiny_model};

use crate::{Pair, PairSet};

pub(crate) fn lora(rank: usize) -> TrainMethod {
    TrainMethod::Lora { rank, alpha: 2.0 * rank as f64, targets: Vec::new() }
}

/// A decoder of one family.
pub(crate) fn family(case: &FamilyCase) -> Decoder {
    let config = Config::from_json(&serde_json::to_vec(&case.config).unwrap()).unwrap();
    Decoder::new(&config, &tensors(case.tensors(), DType::F32, &Device::Cpu)).unwrap()
}

/// The tiny model with one layer, so that hundreds of steps take seconds.
pub(crate) fn tiny_decoder(seed: u64, dtype: DType) -> Decoder {
    tiny_decoder_on(seed, dtype, &Device::Cpu)
}

pub(crate) fn tiny_decoder_on(seed: u64, dtype: DType, device: &Device) -> Decoder {
    let folder = tiny_model(&TinyModel { seed, n_layers: 1, ..TINY });
    let config = Config::from_json(&serde_json::to_vec(&folder.config).unwrap()).unwrap();
    Decoder::new(&config, &tensors(folder.tensors, dtype, device)).unwrap()
}

fn tensors(
    tensors: Vec<meav_test_support::Tensor>,
    dtype: DType,
    device: &Device,
) -> BTreeMap<String, Tensor> {
    let tensor = |it: meav_test_support::Tensor| {
        let tensor = Tensor::from_vec(it.values, it.shape, &Device::Cpu).unwrap();
        (it.name, tensor.to_dtype(dtype).unwrap().to_device(device).unwrap())
    };
    tensors.into_iter().map(tensor).collect()
}

/// Two pairs of each of `n` records, of different lengths.
pub(crate) fn pairs(n: usize) -> Vec<Pair> {
    let tokens = |seed: usize, len: usize| -> Vec<u32> {
        (0..len).map(|i| (3 + (seed * 131 + i * i * 7 + i * 37) % 290) as u32).collect()
    };
    let pair = |index: usize| {
        let record = index / 2;
        let prompt = tokens(record, 4 + record % 5);
        let response = |level: usize| tokens(1000 * (level + 1) + record, 3 + (record + level) % 6);
        let levels = [index % 2, index % 2 + 1];
        let responses = levels.map(response).to_vec();
        Pair {
            id: format!("record-{record}"),
            domain: None,
            levels: levels.map(|level| ["expert", "generic", "avoidance"][level].to_owned()),
            question: Question { prompt, responses },
            truncated: index == 3,
        }
    };
    (0..2 * n).map(pair).collect()
}

pub(crate) fn pair_set(n_train: usize, n_validation: usize) -> PairSet {
    let mut train = pairs(n_train + n_validation);
    let validation = train.split_off(2 * n_train);
    let fingerprint = format!("blake3:{n_train}-{n_validation}");
    PairSet { train, validation, left_out: Vec::new(), fingerprint }
}
