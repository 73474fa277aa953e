use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use fastrand::Rng;
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use crate::tokenizer;
use crate::{Dtype, PreTokenizer, Tensor, VOCAB_SIZE, safetensors_bytes, special};

/// What a tiny Llama model looks like.
#[derive(Clone, Debug)]
pub struct TinyModel {
    /// Other seeds give other weights.
    pub seed: u64,
    /// The weights' type in the files.
    pub dtype: Dtype,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the feed-forward layers.
    pub intermediate_size: usize,
    /// Decoder layers.
    pub n_layers: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads.
    pub n_kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Tokens in the longest context.
    pub max_position_embeddings: usize,
    /// Whether the embeddings serve as the output projection, so that there is no `lm_head`.
    pub tie_word_embeddings: bool,
    /// Whether a folder has two files of weights and an index.
    pub sharded: bool,
    /// How text is cut into words.
    pub pre_tokenizer: PreTokenizer,
}

/// The tiny model that will do for most tests: 88,000 parameters in one file of `f32`.
pub const TINY: TinyModel = TinyModel {
    seed: 1,
    dtype: Dtype::F32,
    hidden_size: 64,
    intermediate_size: 96,
    n_layers: 2,
    n_heads: 4,
    n_kv_heads: 2,
    head_dim: 16,
    max_position_embeddings: 256,
    tie_word_embeddings: true,
    sharded: false,
    pre_tokenizer: PreTokenizer::SmolLm,
};

pub(crate) const RMS_NORM_EPS: f32 = 1e-5;
pub(crate) const ROPE_THETA: f32 = 10_000.0;

/// Around 0, and wide enough for each layer to change the logits.
const MATRIX: (f32, f32) = (0.0, 0.05);

/// Around 1, as trained norms are.
const NORM: (f32, f32) = (1.0, 0.1);

impl TinyModel {
    /// The linear layers of the decoder: name and `[out, in]`.
    pub fn linear_layers(&self) -> Vec<(String, [usize; 2])> {
        let (hidden, intermediate) = (self.hidden_size, self.intermediate_size);
        let (q_len, kv_len) = (self.n_heads * self.head_dim, self.n_kv_heads * self.head_dim);
        let layers = [
            ("self_attn.q_proj", [q_len, hidden]),
            ("self_attn.k_proj", [kv_len, hidden]),
            ("self_attn.v_proj", [kv_len, hidden]),
            ("self_attn.o_proj", [hidden, q_len]),
            ("mlp.gate_proj", [intermediate, hidden]),
            ("mlp.up_proj", [intermediate, hidden]),
            ("mlp.down_proj", [hidden, intermediate]),
        ];
        (0..self.n_layers)
            .flat_map(|index| {
                layers.map(|(name, shape)| (format!("model.layers.{index}.{name}.weight"), shape))
            })
            .collect()
    }

    /// The norms: name and size.
    pub fn norms(&self) -> Vec<(String, [usize; 1])> {
        (0..self.n_layers)
            .flat_map(|index| {
                ["input_layernorm", "post_attention_layernorm"]
                    .map(|name| format!("model.layers.{index}.{name}.weight"))
            })
            .chain(["model.norm.weight".to_owned()])
            .map(|name| (name, [self.hidden_size]))
            .collect()
    }

    /// The seeded weights by their Hugging Face names.
    pub fn tensors(&self) -> Vec<Tensor> {
        let mut rng = Rng::with_seed(self.seed);
        let mut seeded = |name: &str, shape: &[usize], spread: (f32, f32)| {
            Tensor::seeded(name, self.dtype, shape, spread, &mut rng)
        };
        let embedding_shape = [VOCAB_SIZE, self.hidden_size];
        let mut tensors = vec![seeded("model.embed_tokens.weight", &embedding_shape, MATRIX)];
        for (name, shape) in self.linear_layers() {
            tensors.push(seeded(&name, &shape, MATRIX));
        }
        for (name, shape) in self.norms() {
            tensors.push(seeded(&name, &shape, NORM));
        }
        if !self.tie_word_embeddings {
            tensors.push(seeded("lm_head.weight", &embedding_shape, MATRIX));
        }
        tensors
    }

    fn config(&self) -> Json {
        json!({
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_act": "silu",
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "vocab_size": VOCAB_SIZE,
            "num_hidden_layers": self.n_layers,
            "num_attention_heads": self.n_heads,
            "num_key_value_heads": self.n_kv_heads,
            "head_dim": self.head_dim,
            "rms_norm_eps": 1e-5,
            "rope_theta": ROPE_THETA,
            "max_position_embeddings": self.max_position_embeddings,
            "tie_word_embeddings": self.tie_word_embeddings,
            "attention_bias": false,
            "mlp_bias": false,
            "bos_token_id": special::IM_START,
            "eos_token_id": special::IM_END,
            "torch_dtype": self.dtype.torch_name(),
        })
    }
}

/// A model folder in the Hugging Face layout, before it is written.
#[derive(Clone, Debug)]
pub struct ModelFolder {
    /// `config.json`
    pub config: Json,
    /// `generation_config.json`
    pub generation_config: Json,
    /// `tokenizer.json`
    pub tokenizer: Json,
    /// `tokenizer_config.json`, with the chat template.
    pub tokenizer_config: Json,
    /// The weights.
    pub tensors: Vec<Tensor>,
    /// Whether the weights go into two files and an index.
    pub sharded: bool,
}

/// A tiny model of which everything can be changed.
pub fn tiny_model(options: &TinyModel) -> ModelFolder {
    ModelFolder {
        config: options.config(),
        generation_config: json!({
            "bos_token_id": special::IM_START,
            "eos_token_id": [special::IM_END, special::END_OF_TEXT],
        }),
        tokenizer: tokenizer::json(options.pre_tokenizer),
        tokenizer_config: tokenizer::config_json(),
        tensors: options.tensors(),
        sharded: options.sharded,
    }
}

impl ModelFolder {
    /// Writes the folder, which need not exist.
    pub fn write(&self, folder: &Path) {
        fs::create_dir_all(folder).unwrap();
        for (name, json) in [
            ("config.json", &self.config),
            ("generation_config.json", &self.generation_config),
            ("tokenizer.json", &self.tokenizer),
            ("tokenizer_config.json", &self.tokenizer_config),
        ] {
            fs::write(folder.join(name), serde_json::to_vec_pretty(json).unwrap()).unwrap();
        }
        let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
        if !self.sharded {
            let bytes = safetensors_bytes(&self.tensors, &metadata);
            fs::write(folder.join("model.safetensors"), bytes).unwrap();
            return;
        }
        let mut weight_map = serde_json::Map::new();
        for (index, tensors) in
            self.tensors.chunks(self.tensors.len().div_ceil(2).max(1)).enumerate()
        {
            let shard = format!("model-{:05}-of-00002.safetensors", index + 1);
            fs::write(folder.join(&shard), safetensors_bytes(tensors, &metadata)).unwrap();
            let entries = tensors.iter().map(|tensor| (tensor.name.clone(), shard.as_str().into()));
            weight_map.extend(entries);
        }
        let index = json!({ "metadata": {}, "weight_map": weight_map }).to_string();
        fs::write(folder.join("model.safetensors.index.json"), index).unwrap();
    }

    /// Writes the folder to a place that is removed when the result is dropped.
    pub fn in_temp_dir(&self) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        self.write(folder.path());
        folder
    }
}
