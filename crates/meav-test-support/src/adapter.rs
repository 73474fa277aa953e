use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use fastrand::Rng;
use serde_json::{Value as Json, json};

use crate::{Dtype, Tensor, TinyModel, safetensors_bytes};

/// A PEFT adapter folder, before it is written.
#[derive(Clone, Debug)]
pub struct Adapter {
    /// `adapter_config.json`
    pub config: Json,
    /// The factors, by PEFT's names.
    pub tensors: Vec<Tensor>,
}

/// Rank 4 for all linear layers of the decoder, α = 8; neither factor is zero.
pub fn tiny_adapter(model: &TinyModel, seed: u64) -> Adapter {
    const RANK: usize = 4;
    let mut rng = Rng::with_seed(seed);
    let mut factor = |name: String, shape: [usize; 2]| {
        Tensor::seeded(name, Dtype::F32, &shape, (0.0, 0.05), &mut rng)
    };
    let mut tensors = Vec::new();
    for (name, [n_out, n_in]) in model.linear_layers() {
        let module = name.strip_suffix(".weight").unwrap();
        let name = |factor| format!("base_model.model.{module}.{factor}.weight");
        tensors.push(factor(name("lora_A"), [RANK, n_in]));
        tensors.push(factor(name("lora_B"), [n_out, RANK]));
    }
    let config = json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "tiny",
        "r": RANK,
        "lora_alpha": 8,
        "lora_dropout": 0.0,
        "bias": "none",
        "lora_bias": false,
        "fan_in_fan_out": false,
        "init_lora_weights": true,
        "modules_to_save": null,
        "rank_pattern": {},
        "alpha_pattern": {},
        "target_modules": [
            "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
        ],
        "use_dora": false,
        "use_rslora": false,
    });
    Adapter { config, tensors }
}

impl Adapter {
    /// Writes the folder, which need not exist.
    pub fn write(&self, folder: &Path) {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("adapter_config.json"), self.config.to_string()).unwrap();
        let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
        let bytes = safetensors_bytes(&self.tensors, &metadata);
        fs::write(folder.join("adapter_model.safetensors"), bytes).unwrap();
    }
}
