use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Method, Scope};

/// Which model, changed by which vectors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setup {
    /// A folder, a GGUF file, or `demo` (an existing path of that name goes first).
    pub model: PathBuf,
    /// What the weights are rounded to.
    pub dtype: Dtype,
    /// How the vectors are combined.
    pub method: Method,
    /// The vectors, in the order of the sum.
    pub vectors: Vec<VectorTerm>,
}

/// One vector and its λ.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VectorTerm {
    /// A vector file, a PEFT adapter folder, an aligned checkpoint, or the name of a vector that
    /// comes with the demo.
    pub file: PathBuf,
    /// λ.
    pub coefficient: f64,
    /// Where in the model it is added.
    pub scope: Scope,
}

impl VectorTerm {
    /// A vector that is added everywhere.
    pub fn new(file: impl Into<PathBuf>, coefficient: f64) -> Self {
        Self { file: file.into(), coefficient, scope: Scope::default() }
    }
}

/// Element types of weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Dtype {
    /// Single precision.
    F32,
    /// Half precision.
    F16,
    /// Brain floating point.
    Bf16,
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        })
    }
}

/// A dtype that is not one of `f32`, `bf16` and `f16`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is none of f32, bf16 and f16")]
pub struct ParseDtypeError(String);

impl FromStr for Dtype {
    type Err = ParseDtypeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "f32" => Ok(Self::F32),
            "f16" => Ok(Self::F16),
            "bf16" => Ok(Self::Bf16),
            other => Err(ParseDtypeError(other.to_owned())),
        }
    }
}

/// How the next token is chosen; applied in this order: repeat penalty, temperature, min-p, top-k,
/// top-p.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SamplingSpec {
    /// Divides the logits; 0 always takes the most likely token.
    pub temperature: f64,
    /// Keeps this many of the most likely tokens; 0 keeps all.
    pub top_k: usize,
    /// Keeps the most likely tokens that reach this probability together; 1 keeps all.
    pub top_p: f64,
    /// Drops tokens less likely than this share of the most likely one; 0 keeps all.
    pub min_p: f64,
    /// Divides the logits of the last 64 tokens; 1 leaves them alone.
    pub repeat_penalty: f64,
    /// The same seed gives the same text.
    pub seed: u64,
}

/// The recipe that weights hold, for showing and keeping beside an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecipeStamp {
    /// `blake3:` of everything that decides the merged weights.
    pub fingerprint: String,
    /// `blake3:` of the base model's tensors.
    pub base: String,
    /// The base model's name.
    pub model: String,
    /// What the weights are rounded to.
    pub dtype: Dtype,
    /// How the vectors are combined.
    #[serde(default)]
    pub method: Method,
    /// The vectors whose λ is not 0.
    pub vectors: Vec<StampTerm>,
}

/// One vector of a [`RecipeStamp`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StampTerm {
    /// The preference dimension's name.
    pub domain: String,
    /// Where the vector was read from.
    pub file: PathBuf,
    /// `blake3:` of the vector's values.
    pub fingerprint: String,
    /// λ.
    #[serde(rename = "lambda")]
    pub coefficient: f64,
    /// Where in the model it is added.
    #[serde(default, skip_serializing_if = "Scope::is_everywhere")]
    pub scope: Scope,
}

impl fmt::Display for RecipeStamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.fingerprint.strip_prefix("blake3:").unwrap_or(&self.fingerprint);
        write!(f, "#{}", digits.get(..4).unwrap_or(digits))?;
        if self.vectors.is_empty() {
            f.write_str(" base")?;
        } else if self.method != Method::TaskArithmetic {
            write!(f, " {}", self.method)?;
        }
        for term in &self.vectors {
            // The typographic minus keeps signs apart from hyphens in names.
            let sign = if term.coefficient < 0.0 { '−' } else { '+' };
            write!(f, " {} {sign}{}", term.domain, term.coefficient.abs())?;
            if !term.scope.is_everywhere() {
                write!(f, " ({})", term.scope)?;
            }
        }
        Ok(())
    }
}
