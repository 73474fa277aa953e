//! Alignment vectors: the difference between an aligned model's weights and its base model's.
//!
//! ```text
//! θ_AV = θ_aligned − θ_base
//! θ(λ) = θ_base + Σᵢ λᵢ θ_AV,i
//! ```
//!
//! Source: Shahriar et al., 2024, arXiv:2410.19206, Eq. 1 to 3.
//!
//! [`extract`] writes one as a file of format 1, [`AlignmentVector::open`] reads one from such a
//! file, from a PEFT adapter folder, or from an aligned model,
//! [`LiveWeights`] holds the weights that a model computes with and moves them to any λ, and
//! [`merge_tensor`] does the same for one tensor that is on its way to a file. [`Method`] has other
//! ways to combine vectors than their sum, and a [`Scope`] applies one to a part of the model. [`compress`] makes one smaller, [`separate`]
//! takes from one what others have too, and [`compare`] shows where vectors pull apart.

mod alignment_vector;
mod compare;
mod compress;
mod error;
mod extract;
mod format;
mod header;
mod kernels;
mod live_weights;
mod method;
mod peft;
mod place;
mod recipe;
mod resident;
mod rows;
mod save;
mod scope;
mod separate;
mod sign;
mod sparse;
mod svd;
mod term;

pub use alignment_vector::{AlignmentVector, Delta, LowRank, VectorKind, VectorOrigin};
pub use compare::{Cell, Interference, Pair, compare};
pub use compress::{CompressReport, Compression, TensorError, compress};
pub use error::{AdapterConfigError, VectorError, VectorName};
pub use extract::{ExtractReport, Extraction, extract};
pub use header::VectorHeader;
pub use live_weights::{LiveWeights, MergeReport, merge_tensor};
pub use method::Method;
pub use place::{ModuleKind, tensor_place};
pub use recipe::{Recipe, RecipeTerm};
pub use resident::Residency;
pub use save::{save, save_dense, save_low_rank, write_calibration};
pub use scope::{Scope, count_layers};
pub use separate::{LayerShare, Separation, TensorShare, separate};
pub use sign::Sign;
pub use sparse::Sparse;
pub use term::{Term, check_settings};
