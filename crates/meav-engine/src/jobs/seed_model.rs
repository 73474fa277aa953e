use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use half::bf16;
use meav_job::JobCtx;
use meav_protocol::{Fact, ModelShape, Stage};
use meav_weights::{AtomicDir, DEFAULT_SHARD_BYTES, Dtype, Fingerprint, ShardedWriter, TensorSpec};
use rayon::prelude::*;
use serde_json::{Value as Json, json};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use crate::disk::check_disk;
use crate::error::EngineError;
use crate::folders::Folders;
use crate::worker::Running;

/// Writes a model of a known shape with seeded weights into the store, unless it is there: something
/// to measure with, which says nothing that makes sense.
pub(crate) fn seed_model(
    folders: &Folders,
    shape: ModelShape,
    running: &Running<'_>,
) -> Result<(), EngineError> {
    let path = folders.models.join("seeded").join(shape.as_str());
    let dimensions = Dimensions::of(shape);
    let gigabytes = dimensions.bytes() as f64 / 1e9;
    let name = format!("seeded weights of the shape of {shape}, {gigabytes:.1} GB");
    let is_there = path.join("config.json").is_file();
    if !is_there {
        check_disk(&path, dimensions.bytes() + COMPANION_BYTES)?;
        let folder = AtomicDir::create(&path)?;
        running.stage(Stage::Writing, |job| dimensions.write_weights(folder.path(), job))?;
        dimensions.write_companions(folder.path())?;
        folder.commit()?;
    }
    let summary = if is_there { format!("{name}, there already") } else { name };
    running.fact(Fact::Written { path, summary });
    Ok(())
}

/// Room for everything but the weights.
const COMPANION_BYTES: u64 = 1 << 20;

/// Elements that one task makes.
const PART: usize = 1 << 16;

/// Standard deviation of the weights, as transformers begins with.
const SPREAD: f32 = 0.02;

/// Tokens with a meaning of their own, in front of one for each byte.
const SPECIAL: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];

/// Of a Mistral.
#[derive(Clone, Copy)]
struct Dimensions {
    hidden: usize,
    intermediate: usize,
    n_layers: usize,
    n_heads: usize,
    n_kv_heads: usize,
    vocabulary: usize,
    context: usize,
}

impl Dimensions {
    fn of(shape: ModelShape) -> Self {
        match shape {
            ModelShape::Mistral7b => Self {
                hidden: 4096,
                intermediate: 14_336,
                n_layers: 32,
                n_heads: 32,
                n_kv_heads: 8,
                vocabulary: 32_000,
                context: 32_768,
            },
            ModelShape::Smollm2135m => Self {
                hidden: 576,
                intermediate: 1536,
                n_layers: 30,
                n_heads: 9,
                n_kv_heads: 3,
                vocabulary: 49_152,
                context: 8192,
            },
        }
    }

    fn tensors(self) -> Vec<TensorSpec> {
        let Self { hidden, intermediate, n_layers, n_heads, n_kv_heads, vocabulary, .. } = self;
        let (head_dim, spec) = (hidden / n_heads, |name: String, shape: &[usize]| TensorSpec {
            name,
            dtype: Dtype::Bf16,
            shape: shape.to_vec(),
        });
        let (queries, keys) = (n_heads * head_dim, n_kv_heads * head_dim);
        let of_layer = [
            ("input_layernorm", vec![hidden]),
            ("self_attn.q_proj", vec![queries, hidden]),
            ("self_attn.k_proj", vec![keys, hidden]),
            ("self_attn.v_proj", vec![keys, hidden]),
            ("self_attn.o_proj", vec![hidden, queries]),
            ("post_attention_layernorm", vec![hidden]),
            ("mlp.gate_proj", vec![intermediate, hidden]),
            ("mlp.up_proj", vec![intermediate, hidden]),
            ("mlp.down_proj", vec![hidden, intermediate]),
        ];
        let mut tensors = vec![spec("model.embed_tokens.weight".to_owned(), &[vocabulary, hidden])];
        for layer in 0..n_layers {
            let name = |part: &str| format!("model.layers.{layer}.{part}.weight");
            tensors.extend(of_layer.iter().map(|(part, shape)| spec(name(part), shape)));
        }
        tensors.push(spec("model.norm.weight".to_owned(), &[hidden]));
        tensors.push(spec("lm_head.weight".to_owned(), &[vocabulary, hidden]));
        tensors
    }

    fn bytes(self) -> u64 {
        let elements: usize =
            self.tensors().iter().map(|tensor| tensor.shape.iter().product::<usize>()).sum();
        (elements * size_of::<bf16>()) as u64
    }

    fn write_weights(self, folder: &Path, job: &JobCtx<'_>) -> Result<(), EngineError> {
        let tensors = self.tensors();
        let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
        let mut writer =
            ShardedWriter::new(folder, tensors.clone(), metadata, DEFAULT_SHARD_BYTES)?;
        for (index, tensor) in tensors.iter().enumerate() {
            job.tick(index, tensors.len())?;
            writer.push(bytemuck::cast_slice(&values(tensor)))?;
        }
        Ok(writer.finish()?)
    }

    fn write_companions(self, folder: &Path) -> Result<(), EngineError> {
        for (name, value) in [
            ("config.json", self.config()),
            ("tokenizer.json", tokenizer()),
            ("tokenizer_config.json", tokenizer_config()),
        ] {
            let path = folder.join(name);
            fs::write(&path, format!("{value:#}\n"))
                .map_err(|source| EngineError::Write { path, source })?;
        }
        Ok(())
    }

    fn config(self) -> Json {
        json!({
            "architectures": ["MistralForCausalLM"],
            "model_type": "mistral",
            "hidden_act": "silu",
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_hidden_layers": self.n_layers,
            "num_attention_heads": self.n_heads,
            "num_key_value_heads": self.n_kv_heads,
            "vocab_size": self.vocabulary,
            "max_position_embeddings": self.context,
            "rms_norm_eps": 1e-5,
            "rope_theta": 1_000_000.0,
            "sliding_window": null,
            "tie_word_embeddings": false,
            "torch_dtype": "bfloat16",
            "bos_token_id": 0,
            "eos_token_id": 2,
        })
    }
}

/// The same ones for the same name, whatever the number of threads: norms of 1, the rest between plus
/// and minus √3 [`SPREAD`].
fn values(tensor: &TensorSpec) -> Vec<bf16> {
    let len = tensor.shape.iter().product();
    if tensor.shape.len() == 1 {
        return vec![bf16::ONE; len];
    }
    let digest = Fingerprint::of_bytes(tensor.name.as_bytes());
    let seed = digest.as_bytes()[..8].iter().fold(0, |seed, byte| seed << 8 | u64::from(*byte));
    let mut values = vec![bf16::ZERO; len];
    values.par_chunks_mut(PART).enumerate().for_each(|(index, part)| {
        let mut random = fastrand::Rng::with_seed(seed.wrapping_add(index as u64));
        let scale = 2.0 * SPREAD * 3.0_f32.sqrt();
        for value in part {
            *value = bf16::from_f32((random.f32() - 0.5) * scale);
        }
    });
    values
}

/// A token for each byte, as GPT-2 writes them.
fn tokenizer() -> Json {
    let mut bytes: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    bytes.sort_unstable();
    let names = SPECIAL.iter().map(|it| (*it).to_owned());
    let names = names.chain(bytes.into_iter().map(String::from));
    let vocabulary: serde_json::Map<String, Json> =
        names.enumerate().map(|(id, name)| (name, id.into())).collect();
    let added = SPECIAL.iter().enumerate().map(|(id, name)| {
        json!({
            "id": id, "content": name, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true,
        })
    });
    let byte_level = json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true,
    });
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added.collect::<Vec<_>>(),
        "normalizer": null,
        "pre_tokenizer": byte_level,
        "post_processor": null,
        "decoder": byte_level,
        "model": { "type": "BPE", "vocab": vocabulary, "merges": [] },
    })
}

fn tokenizer_config() -> Json {
    json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": SPECIAL[0],
        "eos_token": SPECIAL[2],
        "chat_template": "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + \
                          message['content'] + '<|im_end|>\n' }}{% endfor %}\
                          {% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    })
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use meav_model::{Decoder, KvCache, Logits, ModelFiles};
    use meav_vector::LiveWeights;

    use super::*;

    const TINY: Dimensions = Dimensions {
        hidden: 32,
        intermediate: 48,
        n_layers: 2,
        n_heads: 4,
        n_kv_heads: 2,
        vocabulary: 300,
        context: 64,
    };

    #[test]
    fn seeded_model_opens_reads_text_and_computes() {
        let folder = tempfile::tempdir().unwrap();
        let job = JobCtx::detached();
        TINY.write_weights(folder.path(), &job).unwrap();
        TINY.write_companions(folder.path()).unwrap();
        let files = ModelFiles::open(folder.path()).unwrap();
        assert_eq!(files.checkpoint.parameter_count() * 2, TINY.bytes());
        let text = "<|im_start|>user\nWhat is 1 + 1, née Ω?<|im_end|>\n";
        let ids = files.tokenizer.encode(text, false).unwrap().get_ids().to_vec();
        assert_eq!(ids.len(), text.len() - SPECIAL[1].len() - SPECIAL[2].len() + 2);
        assert_eq!(files.tokenizer.decode(&ids, false).unwrap(), text);
        assert!(files.compile_chat_template().is_ok());
        let weights = files.load_weights(&job).unwrap();
        let live = LiveWeights::new(weights, Dtype::F32, &Device::Cpu, &job).unwrap();
        let decoder = Decoder::new(&files.config, live.tensors()).unwrap();
        let mut cache = KvCache::new(&files.config, ids.len(), &Device::Cpu).unwrap();
        let logits = decoder.forward(&ids, &mut cache, Logits::Last, &job).unwrap();
        let logits = logits.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let spread = logits.iter().fold(0.0_f32, |max, it| max.max(it.abs()));
        assert!(logits.len() == TINY.vocabulary && spread > 0.0 && spread.is_finite(), "{spread}");
    }

    #[test]
    fn shapes_have_the_sizes_of_the_models_that_they_are_named_for() {
        for (shape, gigabytes) in [(ModelShape::Mistral7b, 14.48), (ModelShape::Smollm2135m, 0.326)]
        {
            let found = Dimensions::of(shape).bytes() as f64 / 1e9;
            assert!((found / gigabytes - 1.0).abs() < 0.01, "{shape}: {found}");
        }
    }

    #[test]
    fn values_depend_on_the_name_alone() {
        let spec = |name: &str, shape: &[usize]| TensorSpec {
            name: name.to_owned(),
            dtype: Dtype::Bf16,
            shape: shape.to_vec(),
        };
        let shape = [3, PART];
        let found = values(&spec("a", &shape));
        assert!(found == values(&spec("a", &shape)) && found != values(&spec("b", &shape)));
        assert!(found[..PART] != found[PART..2 * PART]);
        let n = found.len() as f64;
        let square: f64 = found.iter().map(|it| f64::from(it.to_f32()).powi(2)).sum();
        assert!(((square / n).sqrt() / f64::from(SPREAD) - 1.0).abs() < 0.01);
        assert!(values(&spec("norm", &[5])).iter().all(|it| *it == bf16::ONE));
    }
}
