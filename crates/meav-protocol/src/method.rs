use std::fmt;

use serde::{Deserialize, Serialize};

/// How several vectors become one change of the weights. λ is never normalised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "name")]
pub enum Method {
    /// Their sum (Ilharco et al., 2022, arXiv:2212.04089; the paper's own method).
    #[default]
    TaskArithmetic,
    /// Each trimmed to its largest elements; of what is left, only elements of the sign that
    /// prevails are added (Yadav et al., 2023, arXiv:2306.01708).
    Ties {
        /// The share of each tensor's elements that is kept, above 0 and at most 1.
        density: f64,
    },
    /// Elements of each dropped at random, the rest scaled up to make good for them (Yu et al.,
    /// 2023, arXiv:2311.03099).
    Dare {
        /// The share of elements that is dropped, at least 0 and below 1.
        drop: f64,
        /// The same seed drops the same elements.
        seed: u64,
    },
}

/// Where in the model a vector is added, and how strongly over its depth.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scope {
    /// The first and the last layer of each range, counted from 0; empty for the whole model.
    /// Otherwise what lies outside the layers, e.g. the embeddings, is left alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<[usize; 2]>,
    /// The kinds of tensors that are changed; empty for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub modules: Vec<ModuleKind>,
    /// Factors of λ at even steps from the first layer to the last, interpolated between them;
    /// empty for 1 everywhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub profile: Vec<f64>,
}

/// What a tensor is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModuleKind {
    /// Queries, keys, values and output of attention.
    Attention,
    /// The feed-forward layers.
    Mlp,
    /// Token embeddings and output projection.
    Embeddings,
    /// Normalisations.
    Norms,
    /// Everything else.
    Other,
}

impl Method {
    /// The name that a recipe spells it by.
    pub fn name(self) -> &'static str {
        match self {
            Self::TaskArithmetic => "task arithmetic",
            Self::Ties { .. } => "TIES",
            Self::Dare { .. } => "DARE",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Self::TaskArithmetic => Ok(()),
            Self::Ties { density } => write!(f, " (density {density})"),
            Self::Dare { drop, seed } => write!(f, " (drop {drop}, seed {seed})"),
        }
    }
}

impl Scope {
    /// Whether the vector is added to all that it has, equally strongly.
    pub fn is_everywhere(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if !self.layers.is_empty() {
            let range = |[first, last]: &[usize; 2]| format!("{first}–{last}");
            parts.push(format!("layers {}", join(&self.layers, range)));
        }
        if !self.modules.is_empty() {
            parts.push(join(&self.modules, ModuleKind::to_string));
        }
        if !self.profile.is_empty() {
            parts.push(format!("profile {}", join(&self.profile, f64::to_string)));
        }
        f.write_str(&if parts.is_empty() { "everywhere".to_owned() } else { parts.join(", ") })
    }
}

fn join<T>(values: &[T], text: impl Fn(&T) -> String) -> String {
    values.iter().map(text).collect::<Vec<_>>().join(" ")
}

impl ModuleKind {
    /// All of them, in reading order.
    pub const ALL: [Self; 5] =
        [Self::Attention, Self::Mlp, Self::Embeddings, Self::Norms, Self::Other];
}

impl fmt::Display for ModuleKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Attention => "attention",
            Self::Mlp => "MLP",
            Self::Embeddings => "embeddings",
            Self::Norms => "norms",
            Self::Other => "other",
        })
    }
}
