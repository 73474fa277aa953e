use super::convention::Convention;

/// The architectures whose GGUF files are read and written, by llama.cpp's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GgufFamily {
    /// Llama 2 and 3, Mistral.
    Llama,
    /// Qwen 2 and 2.5.
    Qwen2,
    /// Qwen 3.
    Qwen3,
    /// Gemma 2.
    Gemma2,
    /// The text part of Gemma 3.
    Gemma3,
    /// Phi-3.
    Phi3,
}

/// One tensor's two names and what becomes of its values.
struct Row {
    gguf: &'static str,
    hugging_face: &'static str,
    values: Values,
}

/// [`Convention`], as far as it does not depend on the model's size.
#[derive(Clone, Copy)]
enum Values {
    Same,
    QueryHeads,
    KeyHeads,
    PlusOne,
}

/// Query and key heads of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GgufHeads {
    /// Query heads.
    pub query: usize,
    /// Key and value heads.
    pub key: usize,
}

/// All tensors that a family may have.
struct Names {
    architecture: &'static str,
    /// Those outside the layers.
    outer: &'static [&'static [Row]],
    /// Those behind `blk.N.` and `model.layers.N.`.
    layer: &'static [&'static [Row]],
}

const fn row(gguf: &'static str, hugging_face: &'static str, values: Values) -> Row {
    Row { gguf, hugging_face, values }
}

const fn same(gguf: &'static str, hugging_face: &'static str) -> Row {
    row(gguf, hugging_face, Values::Same)
}

const fn plus_one(gguf: &'static str, hugging_face: &'static str) -> Row {
    row(gguf, hugging_face, Values::PlusOne)
}

const EMBEDDINGS: &[Row] = &[same("token_embd.weight", "model.embed_tokens.weight")];
const OUTPUT: &[Row] = &[same("output.weight", "lm_head.weight")];
/// Divisors of the rotary frequencies, which Hugging Face keeps in `config.json`.
const ROPE_FACTORS: &[Row] = &[
    same("rope_freqs.weight", "rope_freqs.weight"),
    same("rope_factors_long.weight", "rope_factors_long.weight"),
    same("rope_factors_short.weight", "rope_factors_short.weight"),
];
const FINAL_NORM: &[Row] = &[same("output_norm.weight", "model.norm.weight")];
const TWO_NORMS: &[Row] = &[
    same("attn_norm.weight", "input_layernorm.weight"),
    same("ffn_norm.weight", "post_attention_layernorm.weight"),
];
const ATTENTION: &[Row] = &[
    same("attn_q.weight", "self_attn.q_proj.weight"),
    same("attn_k.weight", "self_attn.k_proj.weight"),
    same("attn_v.weight", "self_attn.v_proj.weight"),
    same("attn_output.weight", "self_attn.o_proj.weight"),
];
const ATTENTION_BIAS: &[Row] = &[
    same("attn_q.bias", "self_attn.q_proj.bias"),
    same("attn_k.bias", "self_attn.k_proj.bias"),
    same("attn_v.bias", "self_attn.v_proj.bias"),
];
const LLAMA_ATTENTION: &[Row] = &[
    row("attn_q.weight", "self_attn.q_proj.weight", Values::QueryHeads),
    row("attn_k.weight", "self_attn.k_proj.weight", Values::KeyHeads),
    same("attn_v.weight", "self_attn.v_proj.weight"),
    same("attn_output.weight", "self_attn.o_proj.weight"),
    row("attn_q.bias", "self_attn.q_proj.bias", Values::QueryHeads),
    row("attn_k.bias", "self_attn.k_proj.bias", Values::KeyHeads),
    same("attn_v.bias", "self_attn.v_proj.bias"),
    same("attn_output.bias", "self_attn.o_proj.bias"),
];
const FUSED_ATTENTION: &[Row] = &[
    same("attn_qkv.weight", "self_attn.qkv_proj.weight"),
    same("attn_output.weight", "self_attn.o_proj.weight"),
];
const HEAD_NORMS: &[Row] = &[
    same("attn_q_norm.weight", "self_attn.q_norm.weight"),
    same("attn_k_norm.weight", "self_attn.k_norm.weight"),
];
const GATED_MLP: &[Row] = &[
    same("ffn_gate.weight", "mlp.gate_proj.weight"),
    same("ffn_up.weight", "mlp.up_proj.weight"),
    same("ffn_down.weight", "mlp.down_proj.weight"),
];
const MLP_BIAS: &[Row] = &[
    same("ffn_gate.bias", "mlp.gate_proj.bias"),
    same("ffn_up.bias", "mlp.up_proj.bias"),
    same("ffn_down.bias", "mlp.down_proj.bias"),
];
const FUSED_MLP: &[Row] = &[
    same("ffn_up.weight", "mlp.gate_up_proj.weight"),
    same("ffn_down.weight", "mlp.down_proj.weight"),
];
const GEMMA_FINAL_NORM: &[Row] = &[plus_one("output_norm.weight", "model.norm.weight")];
const GEMMA_FOUR_NORMS: &[Row] = &[
    plus_one("attn_norm.weight", "input_layernorm.weight"),
    plus_one("post_attention_norm.weight", "post_attention_layernorm.weight"),
    plus_one("ffn_norm.weight", "pre_feedforward_layernorm.weight"),
    plus_one("post_ffw_norm.weight", "post_feedforward_layernorm.weight"),
];
const GEMMA_HEAD_NORMS: &[Row] = &[
    plus_one("attn_q_norm.weight", "self_attn.q_norm.weight"),
    plus_one("attn_k_norm.weight", "self_attn.k_norm.weight"),
];

const LLAMA: Names = Names {
    architecture: "llama",
    outer: &[EMBEDDINGS, OUTPUT, FINAL_NORM, ROPE_FACTORS],
    layer: &[TWO_NORMS, LLAMA_ATTENTION, GATED_MLP, MLP_BIAS],
};
const QWEN2: Names = Names {
    architecture: "qwen2",
    outer: &[EMBEDDINGS, OUTPUT, FINAL_NORM],
    layer: &[TWO_NORMS, ATTENTION, ATTENTION_BIAS, GATED_MLP],
};
const QWEN3: Names = Names {
    architecture: "qwen3",
    outer: &[EMBEDDINGS, OUTPUT, FINAL_NORM],
    layer: &[TWO_NORMS, ATTENTION, HEAD_NORMS, GATED_MLP],
};
/// llama.cpp takes the embeddings for the output projection, always.
const GEMMA2: Names = Names {
    architecture: "gemma2",
    outer: &[EMBEDDINGS, GEMMA_FINAL_NORM],
    layer: &[GEMMA_FOUR_NORMS, ATTENTION, GATED_MLP],
};
const GEMMA3: Names = Names {
    architecture: "gemma3",
    outer: &[EMBEDDINGS, OUTPUT, GEMMA_FINAL_NORM],
    layer: &[GEMMA_FOUR_NORMS, ATTENTION, GEMMA_HEAD_NORMS, GATED_MLP],
};
const PHI3: Names = Names {
    architecture: "phi3",
    outer: &[EMBEDDINGS, OUTPUT, FINAL_NORM, ROPE_FACTORS],
    layer: &[TWO_NORMS, FUSED_ATTENTION, FUSED_MLP],
};

impl GgufFamily {
    /// Each of them.
    pub const ALL: [Self; 6] =
        [Self::Llama, Self::Qwen2, Self::Qwen3, Self::Gemma2, Self::Gemma3, Self::Phi3];

    const fn names(self) -> &'static Names {
        match self {
            Self::Llama => &LLAMA,
            Self::Qwen2 => &QWEN2,
            Self::Qwen3 => &QWEN3,
            Self::Gemma2 => &GEMMA2,
            Self::Gemma3 => &GEMMA3,
            Self::Phi3 => &PHI3,
        }
    }

    /// The family of a `general.architecture`.
    pub fn from_architecture(architecture: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.architecture() == architecture)
    }

    /// The value of `general.architecture`, which also begins the family's own keys.
    pub fn architecture(self) -> &'static str {
        self.names().architecture
    }

    /// The Hugging Face name of a tensor; `None` for one that the family does not have.
    pub fn hugging_face_name(self, gguf_name: &str) -> Option<String> {
        let of = |row: &Row| (row.gguf, row.hugging_face);
        Some(self.translate(gguf_name, of, ["blk.", "model.layers."])?.0)
    }

    /// llama.cpp's name of a tensor; `None` for one that the family does not have.
    pub fn gguf_name(self, hugging_face_name: &str) -> Option<String> {
        Some(self.to_gguf(hugging_face_name)?.0)
    }

    fn to_gguf(self, hugging_face_name: &str) -> Option<(String, Values)> {
        let of = |row: &Row| (row.hugging_face, row.gguf);
        self.translate(hugging_face_name, of, ["model.layers.", "blk."])
    }

    /// `from_to` gives the two sides of a row, `layers` what stands before the layer's number.
    fn translate(
        self,
        name: &str,
        from_to: impl Fn(&Row) -> (&'static str, &'static str),
        layers: [&str; 2],
    ) -> Option<(String, Values)> {
        let find = |rows: &'static [&'static [Row]], name: &str| {
            let row = rows.iter().copied().flatten().find(|row| from_to(row).0 == name)?;
            Some((from_to(row).1, row.values))
        };
        let Some((index, rest)) =
            name.strip_prefix(layers[0]).and_then(|rest| rest.split_once('.'))
        else {
            let (to, values) = find(self.names().outer, name)?;
            return Some((to.to_owned(), values));
        };
        // Each layer has one spelling, lest two tensors end up with one name.
        let number: u32 = index.parse().ok().filter(|number: &u32| number.to_string() == index)?;
        let (to, values) = find(self.names().layer, rest)?;
        Some((format!("{}{number}.{to}", layers[1]), values))
    }

    /// What becomes of the values of a tensor; `None` where the family has no such tensor or its
    /// rows don't divide by the heads.
    pub(crate) fn convention(
        self,
        hugging_face_name: &str,
        shape: &[usize],
        heads: GgufHeads,
    ) -> Option<Convention> {
        let n_heads = match self.to_gguf(hugging_face_name)?.1 {
            Values::Same => return Some(Convention::Same),
            Values::PlusOne => return Some(Convention::PlusOne),
            Values::QueryHeads => heads.query,
            Values::KeyHeads => heads.key,
        };
        let rows = *shape.first()?;
        let head_rows = rows.checked_div(n_heads)?;
        let is_even = rows.is_multiple_of(n_heads) && head_rows > 0 && head_rows.is_multiple_of(2);
        is_even.then_some(Convention::Interleaved { head_rows })
    }

    /// Whether some tensors of the family depend on the number of heads.
    pub(crate) fn has_interleaved_heads(self) -> bool {
        let rows = self.names().layer.iter().copied().flatten();
        rows.into_iter().any(|row| matches!(row.values, Values::QueryHeads | Values::KeyHeads))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_name_stands_twice_in_a_table() {
        for family in GgufFamily::ALL {
            for rows in [family.names().outer, family.names().layer] {
                let n_rows: usize = rows.iter().map(|rows| rows.len()).sum();
                let rows = || rows.iter().copied().flatten();
                let gguf: BTreeSet<_> = rows().map(|row| row.gguf).collect();
                let hugging_face: BTreeSet<_> = rows().map(|row| row.hugging_face).collect();
                assert_eq!((gguf.len(), hugging_face.len()), (n_rows, n_rows), "{family:?}");
            }
        }
    }

    #[test]
    fn each_name_comes_back_from_the_other_side() {
        for family in GgufFamily::ALL {
            for row in family.names().layer.iter().copied().flatten() {
                let gguf = format!("blk.12.{}", row.gguf);
                let hugging_face = family.hugging_face_name(&gguf).unwrap();
                assert_eq!(hugging_face, format!("model.layers.12.{}", row.hugging_face));
                assert_eq!(family.gguf_name(&hugging_face).unwrap(), gguf);
            }
            for row in family.names().outer.iter().copied().flatten() {
                assert_eq!(family.hugging_face_name(row.gguf).unwrap(), row.hugging_face);
                assert_eq!(family.gguf_name(row.hugging_face).unwrap(), row.gguf);
            }
        }
    }

    #[test]
    fn names_of_other_architectures_and_spellings_are_unknown() {
        let name = |name| GgufFamily::Llama.hugging_face_name(name);
        assert_eq!(name("blk.3.ffn_up.weight").unwrap(), "model.layers.3.mlp.up_proj.weight");
        for unknown in [
            "blk.3.ffn_gate_inp.weight",
            "blk.x.ffn_up.weight",
            "blk.+3.ffn_up.weight",
            "blk.03.ffn_up.weight",
            "blk.4294967296.ffn_up.weight",
            "blk.3",
            "blk.",
            "ffn_up.weight",
            "",
        ] {
            assert_eq!(name(unknown), None, "{unknown:?}");
        }
        assert_eq!(GgufFamily::from_architecture("mamba"), None);
        assert_eq!(GgufFamily::from_architecture("gemma3"), Some(GgufFamily::Gemma3));
    }

    #[test]
    fn only_llama_interleaves_and_only_gemma_adds_one() {
        let heads = GgufHeads { query: 4, key: 2 };
        for family in GgufFamily::ALL {
            let convention = |name| family.convention(name, &[16, 8], heads);
            let is_llama = family == GgufFamily::Llama;
            let is_gemma = matches!(family, GgufFamily::Gemma2 | GgufFamily::Gemma3);
            assert_eq!(family.has_interleaved_heads(), is_llama);
            let norm = convention("model.norm.weight").unwrap();
            assert_eq!(norm == Convention::PlusOne, is_gemma, "{family:?}");
            if family == GgufFamily::Phi3 {
                continue;
            }
            let q = convention("model.layers.0.self_attn.q_proj.weight").unwrap();
            let k = convention("model.layers.0.self_attn.k_proj.weight").unwrap();
            assert_eq!(q == Convention::Interleaved { head_rows: 4 }, is_llama, "{family:?}");
            assert_eq!(k == Convention::Interleaved { head_rows: 8 }, is_llama, "{family:?}");
        }
    }
}
