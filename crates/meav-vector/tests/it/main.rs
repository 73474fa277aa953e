//! Alignment vectors from file to live weights.

#![expect(clippy::float_cmp, reason = "sums are compared bit for bit")]
#![expect(clippy::unnecessary_debug_formatting, reason = "messages quote their paths")]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod arithmetic;
mod endpoints;
mod fit;
mod format_1;
mod live_weights;
mod peft_adapters;
mod recipes;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use meav_job::JobCtx;
use meav_test_support::VectorFile;
use meav_vector::{AlignmentVector, Delta, Term, VectorKind, VectorOrigin};
use meav_weights::{Fingerprint, Weight};

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
    Term { vector: Arc::clone(vector), coefficient }
}

/// Tensors by name, bit for bit.
type Bits = BTreeMap<String, Vec<u8>>;

fn bits<'a>(weights: impl IntoIterator<Item = (&'a String, &'a Weight)>) -> Bits {
    weights.into_iter().map(|(name, weight)| (name.clone(), weight.bytes().to_vec())).collect()
}
