//! Alignment vectors from file to live weights.

#![expect(clippy::float_cmp, reason = "sums are compared bit for bit")]
#![expect(clippy::unnecessary_debug_formatting, reason = "messages quote their paths")]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod aligned_models;
mod arithmetic;
mod compare;
mod compress;
mod endpoints;
mod extract;
mod fit;
mod format_1;
mod gpu;
mod live_weights;
mod mergekit;
mod methods;
mod peft_adapters;
mod recipes;
mod reference;
mod save;
mod scopes;
mod separate;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use meav_job::JobCtx;
use meav_test_support::VectorFile;
use meav_vector::{
    AlignmentVector, Delta, Method, Term, VectorError, VectorKind, VectorOrigin, merge_tensor,
};
use meav_weights::{Dtype, Fingerprint, Weight};

/// A vector that never was a file.
fn vector(
    domain: &str,
    deltas: impl IntoIterator<Item = (&'static str, Delta)>,
) -> AlignmentVector {
    AlignmentVector {
        path: PathBuf::from(domain),
        kind: VectorKind::Dense,
        origin: VectorOrigin { domain: domain.to_owned(), ..VectorOrigin::default() },
        fingerprint: Fingerprint::of_bytes(domain.as_bytes()),
        deltas: deltas.into_iter().map(|(name, delta)| (name.to_owned(), delta)).collect(),
    }
}

/// What `file` holds, read from a disk.
fn opened(file: &VectorFile) -> Arc<AlignmentVector> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vector.safetensors");
    file.write(&path);
    Arc::new(AlignmentVector::open(&path, None, &JobCtx::detached()).unwrap())
}

fn term(vector: &Arc<AlignmentVector>, coefficient: f64) -> Term {
    Term::new(Arc::clone(vector), coefficient)
}

/// [`merge_tensor`] by task arithmetic on a tensor outside the layers.
fn sum_tensor(
    name: &str,
    base: &Weight,
    dtype: Dtype,
    terms: &[Term],
) -> Result<Weight, VectorError> {
    merge_tensor(name, base, dtype, 0, Method::TaskArithmetic, terms)
}

/// Tensors by name, bit for bit.
type Bits = BTreeMap<String, Vec<u8>>;

fn bits<'a>(weights: impl IntoIterator<Item = (&'a String, &'a Weight)>) -> Bits {
    weights.into_iter().map(|(name, weight)| (name.clone(), weight.bytes().to_vec())).collect()
}
