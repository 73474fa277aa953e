use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use half::f16;

use crate::model::{RMS_NORM_EPS, ROPE_THETA};
use crate::tokenizer::{self, MERGES, SPECIAL};
use crate::{CHAT_TEMPLATE, Tensor, TinyModel, VOCAB_SIZE, special};

/// A GGUF file of version 3, before it is written.
#[derive(Clone, Debug)]
pub struct Gguf {
    /// Dimensions, vocabulary and chat template.
    pub metadata: BTreeMap<String, GgufValue>,
    /// The weights, by llama.cpp's names.
    pub tensors: Vec<GgufTensor>,
}

/// A metadata value.
#[derive(Clone, Debug, PartialEq)]
pub enum GgufValue {
    /// An unsigned integer.
    U32(u32),
    /// A wide unsigned integer.
    U64(u64),
    /// A floating point number.
    F32(f32),
    /// Text.
    Text(String),
    /// Yes or no.
    Bool(bool),
    /// A list of texts.
    Texts(Vec<String>),
    /// A list of integers.
    I32s(Vec<i32>),
    /// A list of floating point numbers.
    F32s(Vec<f32>),
}

/// How a tensor's values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GgufType {
    /// As they are.
    F32,
    /// Blocks of 32 bytes and their common scale.
    Q8_0,
    /// Any other, by ggml's number; whoever makes such a tensor has its bytes.
    Other(u32),
}

/// A tensor with its values as they stand in the file.
#[derive(Clone, Debug)]
pub struct GgufTensor {
    /// llama.cpp's name.
    pub name: String,
    /// How the values are stored.
    pub kind: GgufType,
    /// Dimensions, outermost first.
    pub shape: Vec<u64>,
    /// The values.
    pub bytes: Vec<u8>,
}

/// The same model as [`crate::tiny_model`]; matrices are stored as `kind`, norms as they are.
pub fn tiny_gguf(options: &TinyModel, kind: GgufType) -> Gguf {
    let tensors = options
        .tensors()
        .iter()
        .map(|tensor| {
            let is_matrix = tensor.shape.len() == 2;
            let values = match tensor.name.split('.').rev().nth(1) {
                Some("q_proj") => interleaved(tensor, options.n_heads),
                Some("k_proj") => interleaved(tensor, options.n_kv_heads),
                _ => tensor.values.clone(),
            };
            GgufTensor::new(
                llama_cpp_name(&tensor.name),
                if is_matrix { kind } else { GgufType::F32 },
                &tensor.shape,
                &values,
            )
        })
        .collect();
    Gguf { metadata: metadata(options), tensors }
}

impl GgufTensor {
    /// Stores `values`, row-major, as `kind`.
    pub fn new(name: String, kind: GgufType, shape: &[usize], values: &[f32]) -> Self {
        let bytes = match kind {
            GgufType::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            GgufType::Q8_0 => values.chunks(32).flat_map(quantised).collect(),
            GgufType::Other(id) => panic!("values of type {id} can't be made here"),
        };
        Self { name, kind, shape: shape.iter().map(|dim| *dim as u64).collect(), bytes }
    }
}

/// The scale in half precision, and each value in units of it.
fn quantised(block: &[f32]) -> Vec<u8> {
    let max = block.iter().fold(0.0_f32, |max, value| max.max(value.abs()));
    let scale = max / 127.0;
    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    let values = block.iter().map(|value| ((value * inverse).round() as i8).cast_unsigned());
    f16::from_f32(scale).to_le_bytes().into_iter().chain(values).collect()
}

/// The rows of each head as llama.cpp wants them: `(2, d/2)` turned into `(d/2, 2)`.
fn interleaved(tensor: &Tensor, n_heads: usize) -> Vec<f32> {
    let head_rows = tensor.shape[0] / n_heads;
    let rows: Vec<_> = tensor.values.chunks(tensor.shape[1]).collect();
    rows.chunks(head_rows)
        .flat_map(|head| {
            let (first, second) = head.split_at(head_rows / 2);
            first.iter().zip(second).flat_map(|(a, b)| [*a, *b])
        })
        .flatten()
        .copied()
        .collect()
}

fn llama_cpp_name(name: &str) -> String {
    match name {
        "model.embed_tokens.weight" => "token_embd.weight".to_owned(),
        "model.norm.weight" => "output_norm.weight".to_owned(),
        "lm_head.weight" => "output.weight".to_owned(),
        _ => [
            ("model.layers.", "blk."),
            ("input_layernorm", "attn_norm"),
            ("post_attention_layernorm", "ffn_norm"),
            ("self_attn.q_proj", "attn_q"),
            ("self_attn.k_proj", "attn_k"),
            ("self_attn.v_proj", "attn_v"),
            ("self_attn.o_proj", "attn_output"),
            ("mlp.gate_proj", "ffn_gate"),
            ("mlp.up_proj", "ffn_up"),
            ("mlp.down_proj", "ffn_down"),
        ]
        .into_iter()
        .fold(name.to_owned(), |name, (from, to)| name.replace(from, to)),
    }
}

fn metadata(options: &TinyModel) -> BTreeMap<String, GgufValue> {
    use GgufValue::{F32, I32s, Text, Texts, U32};
    const NORMAL: i32 = 1;
    const CONTROL: i32 = 3;
    let text = |text: &str| Text(text.to_owned());
    let size = |size: usize| U32(size as u32);
    let kinds =
        (0..VOCAB_SIZE).map(|id| if id < SPECIAL.len() { CONTROL } else { NORMAL }).collect();
    let merges = MERGES.iter().map(|(a, b)| format!("{a} {b}")).collect();
    [
        ("general.architecture", text("llama")),
        ("general.name", text("Tiny")),
        ("llama.block_count", size(options.n_layers)),
        ("llama.context_length", size(options.max_position_embeddings)),
        ("llama.embedding_length", size(options.hidden_size)),
        ("llama.feed_forward_length", size(options.intermediate_size)),
        ("llama.attention.head_count", size(options.n_heads)),
        ("llama.attention.head_count_kv", size(options.n_kv_heads)),
        ("llama.attention.key_length", size(options.head_dim)),
        ("llama.attention.layer_norm_rms_epsilon", F32(RMS_NORM_EPS)),
        ("llama.rope.freq_base", F32(ROPE_THETA)),
        ("tokenizer.ggml.model", text("gpt2")),
        ("tokenizer.ggml.pre", text(options.pre_tokenizer.gguf_name())),
        ("tokenizer.ggml.tokens", Texts(tokenizer::tokens())),
        ("tokenizer.ggml.token_type", I32s(kinds)),
        ("tokenizer.ggml.merges", Texts(merges)),
        ("tokenizer.ggml.bos_token_id", U32(special::IM_START)),
        ("tokenizer.ggml.eos_token_id", U32(special::IM_END)),
        ("tokenizer.chat_template", text(CHAT_TEMPLATE)),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

impl Gguf {
    /// Where tensors may begin.
    const ALIGNMENT: usize = 32;

    /// The file's bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(3_u32.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            put_text(&mut out, key);
            value.put(&mut out);
        }
        let mut data = Vec::new();
        for tensor in &self.tensors {
            put_text(&mut out, &tensor.name);
            out.extend((tensor.shape.len() as u32).to_le_bytes());
            for dim in tensor.shape.iter().rev() {
                out.extend(dim.to_le_bytes());
            }
            out.extend(tensor.kind.id().to_le_bytes());
            out.extend((data.len() as u64).to_le_bytes());
            data.extend(&tensor.bytes);
            data.resize(data.len().next_multiple_of(Self::ALIGNMENT), 0);
        }
        out.resize(out.len().next_multiple_of(Self::ALIGNMENT), 0);
        out.extend(data);
        out
    }

    /// Writes the file.
    pub fn write(&self, path: &Path) {
        fs::write(path, self.bytes()).unwrap();
    }
}

impl GgufType {
    fn id(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::Q8_0 => 8,
            Self::Other(id) => id,
        }
    }
}

impl GgufValue {
    fn put(&self, out: &mut Vec<u8>) {
        const TEXT: u32 = 8;
        const I32: u32 = 5;
        const F32: u32 = 6;
        let list = |out: &mut Vec<u8>, kind: u32, len: usize| {
            out.extend(9_u32.to_le_bytes());
            out.extend(kind.to_le_bytes());
            out.extend((len as u64).to_le_bytes());
        };
        match self {
            Self::U32(value) => {
                out.extend(4_u32.to_le_bytes());
                out.extend(value.to_le_bytes());
            }
            Self::U64(value) => {
                out.extend(10_u32.to_le_bytes());
                out.extend(value.to_le_bytes());
            }
            Self::F32(value) => {
                out.extend(6_u32.to_le_bytes());
                out.extend(value.to_le_bytes());
            }
            Self::Bool(value) => {
                out.extend(7_u32.to_le_bytes());
                out.push(u8::from(*value));
            }
            Self::Text(value) => {
                out.extend(TEXT.to_le_bytes());
                put_text(out, value);
            }
            Self::Texts(values) => {
                list(out, TEXT, values.len());
                for value in values {
                    put_text(out, value);
                }
            }
            Self::I32s(values) => {
                list(out, I32, values.len());
                out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            }
            Self::F32s(values) => {
                list(out, F32, values.len());
                out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            }
        }
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}
