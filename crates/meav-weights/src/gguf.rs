use std::collections::BTreeMap;
use std::io::Cursor;
use std::ops::Range;
use std::panic::catch_unwind;
use std::path::Path;
use std::sync::Arc;

use candle_core::quantized::{GgmlDType, ggml_file, gguf_file};
use rayon::prelude::*;

pub use candle_core::quantized::gguf_file::Value as GgufValue;

use crate::mapped_file::MappedFile;
use crate::{MalformedReason, Weight, WeightsError};

/// A mapped GGUF file of a Llama model whose header has been checked against its size.
#[derive(Debug)]
pub struct GgufFile {
    file: Arc<MappedFile>,
    metadata: BTreeMap<String, GgufValue>,
}

/// Where one tensor lies and how its rows go back into the order that Hugging Face uses.
#[derive(Debug)]
pub(crate) struct GgufEntry {
    file: Arc<MappedFile>,
    range: Range<usize>,
    pub(crate) dtype: GgmlDType,
    pub(crate) shape: Vec<usize>,
    /// Rows per attention head of a query or key projection, whose rows llama.cpp interleaves.
    interleaved_head_rows: Option<usize>,
}

/// Elements that one task dequantises.
const CHUNK: usize = 1 << 16;

impl GgufFile {
    pub(crate) fn open(
        path: &Path,
    ) -> Result<(Arc<Self>, BTreeMap<String, GgufEntry>), WeightsError> {
        let file = Arc::new(MappedFile::open(path)?);
        let content = read_header(file.bytes()).map_err(|err| err.at(path))?;
        let this = Arc::new(Self {
            file: Arc::clone(&file),
            metadata: content.metadata.into_iter().collect(),
        });
        let architecture = this.str("general.architecture")?;
        if architecture != "llama" {
            let architecture = architecture.to_owned();
            return Err(WeightsError::UnsupportedArchitecture {
                architecture,
                path: path.to_owned(),
            });
        }
        let tensors: BTreeMap<_, _> = content.tensor_infos.into_iter().collect();
        let mut entries = BTreeMap::new();
        for (gguf_name, info) in tensors {
            let name = hugging_face_name(&gguf_name)
                .ok_or(MalformedReason::GgufTensor { name: gguf_name })
                .map_err(|err| err.at(path))?;
            let entry = this.entry(&name, &info, content.tensor_data_offset)?;
            entries.insert(name, entry);
        }
        Ok((this, entries))
    }

    fn entry(
        &self,
        name: &str,
        info: &gguf_file::TensorInfo,
        data_offset: u64,
    ) -> Result<GgufEntry, WeightsError> {
        let path = &self.file.path;
        let shape = info.shape.dims().to_vec();
        let impossible = || MalformedReason::Shape { name: name.to_owned(), shape: shape.clone() };
        let row_len = shape.last().copied().unwrap_or(1);
        let len = shape
            .iter()
            .try_fold(1_usize, |len, dim| len.checked_mul(*dim))
            .filter(|len| *len > 0 && row_len.is_multiple_of(info.ggml_dtype.block_size()))
            .ok_or_else(|| impossible().at(path))?;
        let size_bytes = (len / info.ggml_dtype.block_size())
            .checked_mul(info.ggml_dtype.type_size())
            .ok_or_else(|| impossible().at(path))?;
        let start = data_offset.saturating_add(info.offset);
        let needed = start.saturating_add(size_bytes as u64);
        let size = self.file.bytes().len() as u64;
        if needed > size {
            let what = format!("tensor {name:?}");
            return Err(MalformedReason::CutShort { what, needed, size }.at(path));
        }
        // candle reads blocks in place, which begin with a number of up to this size.
        if !start.is_multiple_of(size_of::<f32>() as u64) {
            return Err(MalformedReason::Misaligned { name: name.to_owned(), start }.at(path));
        }
        let interleaved_head_rows = self.interleaved_head_rows(name, &shape)?;
        let start = start as usize;
        Ok(GgufEntry {
            file: Arc::clone(&self.file),
            range: start..start + size_bytes,
            dtype: info.ggml_dtype,
            shape,
            interleaved_head_rows,
        })
    }

    fn interleaved_head_rows(
        &self,
        name: &str,
        shape: &[usize],
    ) -> Result<Option<usize>, WeightsError> {
        let (heads, kv_heads) = ("llama.attention.head_count", "llama.attention.head_count_kv");
        // Without a number of its own, each query head has keys to itself.
        let n_heads = if name.ends_with("self_attn.k_proj.weight") && self.get(kv_heads).is_some() {
            self.usize(kv_heads)?
        } else if name.ends_with("self_attn.q_proj.weight")
            || name.ends_with("self_attn.k_proj.weight")
        {
            self.usize(heads)?
        } else {
            return Ok(None);
        };
        match shape {
            [rows, _]
                if n_heads > 0
                    && rows.is_multiple_of(n_heads)
                    && (rows / n_heads).is_multiple_of(2) =>
            {
                Ok(Some(rows / n_heads))
            }
            _ => {
                let reason =
                    MalformedReason::Shape { name: name.to_owned(), shape: shape.to_vec() };
                Err(reason.at(&self.file.path))
            }
        }
    }

    /// A metadata value, if it is there.
    pub fn get(&self, key: &str) -> Option<&GgufValue> {
        self.metadata.get(key)
    }

    /// A text value.
    ///
    /// # Errors
    ///
    /// [`WeightsError::Malformed`] if it is missing or no text.
    pub fn str(&self, key: &str) -> Result<&str, WeightsError> {
        self.typed(key, |value| match value {
            GgufValue::String(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// An integer of any width that is not negative.
    ///
    /// # Errors
    ///
    /// [`WeightsError::Malformed`] if it is missing or no such number.
    pub fn usize(&self, key: &str) -> Result<usize, WeightsError> {
        self.typed(key, |value| match value {
            GgufValue::I8(n) => usize::try_from(*n).ok(),
            GgufValue::I16(n) => usize::try_from(*n).ok(),
            GgufValue::I32(n) => usize::try_from(*n).ok(),
            GgufValue::I64(n) => usize::try_from(*n).ok(),
            other => other.to_u64().ok().and_then(|n| usize::try_from(n).ok()),
        })
    }

    /// A floating point number.
    ///
    /// # Errors
    ///
    /// [`WeightsError::Malformed`] if it is missing or no such number.
    pub fn f32(&self, key: &str) -> Result<f32, WeightsError> {
        self.typed(key, |value| value.to_f32().ok())
    }

    /// A list.
    ///
    /// # Errors
    ///
    /// [`WeightsError::Malformed`] if it is missing or no list.
    pub fn array(&self, key: &str) -> Result<&[GgufValue], WeightsError> {
        self.typed(key, |value| value.to_vec().ok().map(Vec::as_slice))
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        get: impl FnOnce(&'a GgufValue) -> Option<T>,
    ) -> Result<T, WeightsError> {
        self.get(key)
            .and_then(get)
            .ok_or_else(|| MalformedReason::GgufKey { key: key.to_owned() }.at(&self.file.path))
    }
}

fn read_header(bytes: &[u8]) -> Result<gguf_file::Content, MalformedReason> {
    // candle checks lengths against the file, but divides by an alignment that the file chooses.
    catch_unwind(|| gguf_file::Content::read(&mut Cursor::new(bytes)))
        .unwrap_or_else(|_| Err(candle_core::Error::Msg("arithmetic overflow".to_owned())))
        .map_err(|err| MalformedReason::Gguf(err.into()))
}

fn hugging_face_name(gguf_name: &str) -> Option<String> {
    Some(match gguf_name {
        "token_embd.weight" => "model.embed_tokens.weight".to_owned(),
        "output_norm.weight" => "model.norm.weight".to_owned(),
        "output.weight" => "lm_head.weight".to_owned(),
        "rope_freqs.weight" => "rope_freqs.weight".to_owned(),
        _ => {
            let (layer, rest) = gguf_name.strip_prefix("blk.")?.split_once('.')?;
            let layer: usize = layer.parse().ok()?;
            let rest = match rest {
                "attn_norm.weight" => "input_layernorm.weight",
                "ffn_norm.weight" => "post_attention_layernorm.weight",
                "attn_q.weight" => "self_attn.q_proj.weight",
                "attn_k.weight" => "self_attn.k_proj.weight",
                "attn_v.weight" => "self_attn.v_proj.weight",
                "attn_output.weight" => "self_attn.o_proj.weight",
                "ffn_gate.weight" => "mlp.gate_proj.weight",
                "ffn_up.weight" => "mlp.up_proj.weight",
                "ffn_down.weight" => "mlp.down_proj.weight",
                _ => return None,
            };
            format!("model.layers.{layer}.{rest}")
        }
    })
}

impl GgufEntry {
    /// Dequantises to `f32`, in parallel over groups of rows.
    pub(crate) fn load(&self, name: &str) -> Result<Weight, WeightsError> {
        let path = &self.file.path;
        let len: usize = self.shape.iter().product();
        let row_len = self.shape.last().copied().unwrap_or(1);
        let row_bytes = row_len / self.dtype.block_size() * self.dtype.type_size();
        let group_rows =
            self.interleaved_head_rows.unwrap_or_else(|| CHUNK.div_ceil(row_len).max(1));
        let mut values = vec![0.0; len];
        let bytes = &self.file.bytes()[self.range.clone()];
        values
            .par_chunks_mut(group_rows * row_len)
            .zip(bytes.par_chunks(group_rows * row_bytes))
            .try_for_each(|(values, bytes)| {
                let rows = dequantize(self.dtype, bytes, values.len())?;
                match self.interleaved_head_rows {
                    Some(head_rows) => undo_interleaving(&rows, values, head_rows, row_len),
                    None => values.copy_from_slice(&rows),
                }
                Ok(())
            })
            .map_err(|_source: candle_core::Error| {
                WeightsError::unsupported_dtype(name, &format!("{:?}", self.dtype), path)
            })?;
        Ok(Weight::from_f32(self.shape.clone(), values))
    }
}

fn dequantize(dtype: GgmlDType, bytes: &[u8], len: usize) -> candle_core::Result<Vec<f32>> {
    let device = candle_core::Device::Cpu;
    ggml_file::qtensor_from_ggml(dtype, bytes, vec![len], &device)?.dequantize(&device)?.to_vec1()
}

/// Puts the rows of one head back in order: llama.cpp stores the two halves of each head
/// interleaved, `(d/2, 2, in)`, where Hugging Face has `(2, d/2, in)`.
fn undo_interleaving(from: &[f32], to: &mut [f32], head_rows: usize, row_len: usize) {
    let half = head_rows / 2;
    for (index, row) in to.chunks_exact_mut(row_len).enumerate() {
        let source = (index % half) * 2 + index / half;
        row.copy_from_slice(&from[source * row_len..][..row_len]);
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these values are moved, not computed")]
mod tests {
    use super::*;

    #[test]
    fn interleaved_rows_go_back_to_halves() {
        // Rows are numbered by their place in the Hugging Face layout: 0 1 | 2 3.
        let interleaved = [0.0, 2.0, 1.0, 3.0];
        let mut rows = [0.0; 4];
        undo_interleaving(&interleaved, &mut rows, 4, 1);
        assert_eq!(rows, [0.0, 1.0, 2.0, 3.0]);
    }

    #[test]
    fn names_of_other_architectures_are_refused() {
        assert_eq!(
            hugging_face_name("blk.3.ffn_up.weight").as_deref(),
            Some("model.layers.3.mlp.up_proj.weight")
        );
        assert_eq!(hugging_face_name("blk.3.ffn_gate_inp.weight"), None);
        assert_eq!(hugging_face_name("blk.x.ffn_up.weight"), None);
    }
}
