//! Where in a model a tensor is, as its name tells.

use std::fmt;

/// What a tensor belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ModuleKind {
    /// The projections of a layer's attention, with their biases and norms of heads.
    Attention,
    /// The projections of a layer's feed-forward network.
    Mlp,
    /// Token embeddings, and the output head.
    Embeddings,
    /// The norms of layers and the last one.
    Norms,
    /// Everything else.
    Other,
}

impl ModuleKind {
    /// All of them, in the order that they are shown in.
    pub const ALL: [Self; 5] =
        [Self::Attention, Self::Mlp, Self::Embeddings, Self::Norms, Self::Other];
}

impl fmt::Display for ModuleKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Attention => "attention",
            Self::Mlp => "mlp",
            Self::Embeddings => "embeddings",
            Self::Norms => "norms",
            Self::Other => "other",
        })
    }
}

/// The layer and the kind of a tensor by its Hugging Face name: that of `layers.N` or `h.N`,
/// counted from 0, and `None` outside the layers.
///
/// ```
/// use meav_vector::{ModuleKind, tensor_place};
///
/// let place = tensor_place("model.layers.12.self_attn.q_proj.weight");
/// assert_eq!(place, (Some(12), ModuleKind::Attention));
/// assert_eq!(tensor_place("lm_head.weight"), (None, ModuleKind::Embeddings));
/// ```
pub fn tensor_place(name: &str) -> (Option<usize>, ModuleKind) {
    let parts: Vec<&str> = name.split('.').collect();
    let layer = parts
        .windows(2)
        .find(|pair| ["layers", "h", "blocks"].contains(&pair[0]))
        .and_then(|pair| pair[1].parse().ok());
    (layer, kind(&parts))
}

fn kind(parts: &[&str]) -> ModuleKind {
    let has = |names: &[&str]| parts.iter().any(|part| names.contains(part));
    if has(&["self_attn", "attention", "attn"]) {
        ModuleKind::Attention
    } else if has(&["mlp", "feed_forward"]) {
        ModuleKind::Mlp
    } else if has(&["embed_tokens", "lm_head", "wte", "wpe"]) {
        ModuleKind::Embeddings
    } else if parts.iter().any(|part| part.contains("norm")) {
        ModuleKind::Norms
    } else {
        ModuleKind::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_all_families_have_their_place() {
        use ModuleKind::{Attention, Embeddings, Mlp, Norms, Other};
        for (name, layer, kind) in [
            ("model.embed_tokens.weight", None, Embeddings),
            ("lm_head.weight", None, Embeddings),
            ("model.norm.weight", None, Norms),
            ("model.layers.0.self_attn.q_proj.bias", Some(0), Attention),
            ("model.layers.11.self_attn.qkv_proj.weight", Some(11), Attention),
            ("model.layers.11.self_attn.k_norm.weight", Some(11), Attention),
            ("model.layers.3.mlp.gate_up_proj.weight", Some(3), Mlp),
            ("model.layers.3.input_layernorm.weight", Some(3), Norms),
            ("model.layers.3.pre_feedforward_layernorm.weight", Some(3), Norms),
            ("language_model.model.layers.5.mlp.down_proj.weight", Some(5), Mlp),
            ("model.layers.x.mlp.down_proj.weight", None, Mlp),
            ("w", None, Other),
            ("", None, Other),
        ] {
            assert_eq!(tensor_place(name), (layer, kind), "{name}");
        }
    }
}
