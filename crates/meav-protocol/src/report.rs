use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{Dtype, Method, ModuleKind, VectorTerm};

/// What making a vector smaller has cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CompressReport {
    /// Bytes of the values before.
    pub bytes_before: u64,
    /// Bytes of the values after.
    pub bytes_after: u64,
    /// `‖δ − δ′‖ / ‖δ‖` over all tensors, Frobenius norms.
    pub relative_error: f64,
    /// The tensor with the largest relative error, and that error.
    pub worst_tensor: Option<(String, f64)>,
    /// What it does to the model's mean log-probabilities; empty where no data was given.
    pub shifts: Vec<LogProbShift>,
    /// Responses that the shifts were measured on.
    pub responses: usize,
}

/// The change of mean log-probabilities at one λ when the smaller vector stands in for the vector.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogProbShift {
    /// λ.
    #[serde(rename = "lambda")]
    pub coefficient: f64,
    /// Mean over all responses of `MLP′ − MLP`, in nats per token.
    pub mean_change: f64,
    /// Mean over all responses of `|MLP′ − MLP|`.
    pub mean_absolute_change: f64,
    /// The largest `|MLP′ − MLP|`.
    pub largest_change: f64,
    /// Mean over all responses of `|MLP − MLP at λ = 0|`: what the vector itself does.
    pub mean_effect: f64,
}

/// How much a vector shares with others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeparateReport {
    /// The share of the squared norm that lies in the others' directions, over all tensors.
    pub shared: f64,
    /// The same for each layer; `None` for what lies outside the layers.
    pub layers: Vec<(Option<usize>, f64)>,
}

/// How vectors get in each other's way, over the depth of the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// What is compared, in the order asked for.
    pub vectors: Vec<ComparedVector>,
    /// The whole vectors.
    pub overall: ComparisonCell,
    /// Each layer and module kind that any of them changes, in the order of depth.
    pub cells: Vec<ComparisonCell>,
}

impl Comparison {
    /// What a vector is called: by its domain, with the file's name where two have the same one.
    pub fn name(&self, index: usize) -> String {
        let Some(ComparedVector { domain, file }) = self.vectors.get(index) else {
            return "?".to_owned();
        };
        if self.vectors.iter().filter(|it| it.domain == *domain).count() == 1 {
            return domain.clone();
        }
        let file = file.file_name().unwrap_or_default().to_string_lossy();
        format!("{domain} ({file})")
    }

    /// The names of all, in their order.
    pub fn names(&self) -> Vec<String> {
        (0..self.vectors.len()).map(|index| self.name(index)).collect()
    }
}

/// One of the vectors of a [`Comparison`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ComparedVector {
    /// The preference dimension's name.
    pub domain: String,
    /// Where it was read from.
    pub file: PathBuf,
}

/// A part of the model in a [`Comparison`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ComparisonCell {
    /// The layer, counted from 0; `None` outside the layers and for the whole.
    pub layer: Option<usize>,
    /// The kind of tensors; `None` for the whole.
    pub module: Option<ModuleKind>,
    /// Frobenius norm of each vector here.
    pub norms: Vec<f64>,
    /// Every two vectors, in the order (0, 1), (0, 2), …, (1, 2), …
    pub pairs: Vec<ComparisonPair>,
}

/// Two vectors in one part of the model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ComparisonPair {
    /// The first's place among the vectors.
    pub a: usize,
    /// The second's.
    pub b: usize,
    /// `⟨a, b⟩ / (‖a‖ ‖b‖)`; `None` where one of them is zero.
    pub cosine: Option<f64>,
    /// The share of elements, among those that neither leaves alone, whose signs differ; `None`
    /// where there are none.
    pub sign_conflict: Option<f64>,
}

/// A recipe that was read from a file, as far as its parts are there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenedRecipe {
    /// The model's path, if it was found.
    pub model: Option<PathBuf>,
    /// What the weights are rounded to.
    pub dtype: Dtype,
    /// How the vectors are combined.
    pub method: Method,
    /// The vectors that were found, in the order of the sum.
    pub vectors: Vec<VectorTerm>,
    /// What was not found.
    pub missing: Vec<MissingPart>,
}

/// A part of a recipe that is nowhere to be found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MissingPart {
    /// The model's name, or the vector's domain.
    pub name: String,
    /// Whether it is the model.
    pub is_model: bool,
    /// Where it was when the recipe was written.
    pub file: PathBuf,
    /// `blake3:` of its values.
    pub fingerprint: String,
    /// Why what lies there now is not it, in words; `None` if there is nothing.
    pub found: Option<String>,
}

/// What memory a model with its vectors would take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemoryPlan {
    /// The parts: the model, its vectors in the order of the sum, and what computing takes.
    pub parts: Vec<PlanPart>,
    /// Bytes of the parts that need memory of their own, of the device that computes.
    pub needed_bytes: u64,
    /// Bytes of it that are free, if that is known.
    pub available_bytes: Option<u64>,
    /// What would make it fit, or make it smaller where it fits: the most effective first.
    pub ways_out: Vec<WayOut>,
}

impl MemoryPlan {
    /// Whether there is as much memory as is needed, as far as is known.
    pub fn fits(&self) -> bool {
        self.available_bytes.is_none_or(|available| self.needed_bytes <= available)
    }
}

/// One part of a [`MemoryPlan`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanPart {
    /// `base model`, `live weights`, `medical`, …
    pub name: String,
    /// `134.5 M × bf16`, `low-rank, f32`, …
    pub form: String,
    /// Where it lies.
    pub place: Place,
    /// How large it is there.
    pub bytes: u64,
}

/// Where a part of a model lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// In the processor's memory.
    Memory,
    /// In its file, read through the system's cache: needs no memory of its own, and is fastest
    /// where some is free.
    MappedFile,
    /// In the memory of the GPU that computes.
    Gpu,
}

/// A change that would make a model smaller.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WayOut {
    /// What to do, in words.
    pub text: String,
    /// Bytes of memory that it saves.
    pub saves_bytes: u64,
    /// Whether the model fits then.
    pub fits: bool,
    /// The same for a program that can do it.
    pub change: PlanChange,
}

/// What a [`WayOut`] changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum PlanChange {
    /// The weights are rounded to another type.
    Dtype(Dtype),
    /// A vector is compressed first.
    CompressVector {
        /// Which.
        file: PathBuf,
    },
    /// The GGUF is written as safetensors first, which are mapped and not dequantised.
    ConvertModel,
}
