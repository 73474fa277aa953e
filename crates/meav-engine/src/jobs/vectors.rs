//! What jobs on vectors have in common.

use std::path::Path;

use meav_model::{ModelFiles, vocabulary_fingerprint};
use meav_protocol::Fact;
use meav_vector::{AlignmentVector, VectorError, VectorKind};
use meav_weights::Checkpoint;

use crate::error::EngineError;
use crate::one_line::{NAME_CHARS, one_line};
use crate::worker::{Running, Worker};
use crate::workspace::FileStamp;

/// Opens the model that whole aligned models among `vectors` are taken from; not where there are
/// none.
///
/// Checks that they fit it, and has them say that they are differences from it.
///
/// # Errors
///
/// [`VectorError::BaseNeeded`], or why the base can't be read or a model does not fit it.
pub(super) fn open_base_of(
    worker: &Worker,
    base: Option<&Path>,
    vectors: &mut [AlignmentVector],
    running: &Running<'_>,
) -> Result<Option<Checkpoint>, EngineError> {
    let mut models: Vec<_> =
        vectors.iter_mut().filter(|vector| vector.kind == VectorKind::Checkpoint).collect();
    let Some(first) = models.first() else { return Ok(None) };
    let Some(base) = base else {
        let domain = first.origin.domain.clone();
        return Err(VectorError::BaseNeeded { domain }.into());
    };
    let path = worker.folders.model(base)?;
    let files = ModelFiles::open(&path)?;
    let tokenizer = vocabulary_fingerprint(&files.tokenizer);
    models.iter().try_for_each(|model| model.check_fit(&files.checkpoint, tokenizer))?;
    let base = worker.fingerprint(&files.checkpoint, &FileStamp::of_model(&path), running)?;
    for model in &mut models {
        model.origin.base_name = Some(files.name.clone());
        model.origin.base_fingerprint = Some(base);
        model.origin.tokenizer_fingerprint = Some(tokenizer);
    }
    Ok(Some(files.checkpoint))
}

/// Says where figures of two vectors mean little.
pub(super) fn note_strangers(a: &AlignmentVector, b: &AlignmentVector, running: &Running<'_>) {
    for note in strangers(a, b) {
        running.fact(Fact::Note(note));
    }
}

fn strangers(a: &AlignmentVector, b: &AlignmentVector) -> Vec<String> {
    let mut notes = Vec::new();
    if !a.deltas.keys().any(|name| b.deltas.contains_key(name)) {
        notes.push(format!("{} and {} change no tensor in common", called(a), called(b)));
    }
    if let (Some(own), Some(other)) = (a.origin.base_fingerprint, b.origin.base_fingerprint)
        && own != other
    {
        notes.push(format!(
            "{} and {} were made from models with different weights: {} and {}",
            called(a),
            called(b),
            base_of(a),
            base_of(b)
        ));
    }
    notes
}

fn called(vector: &AlignmentVector) -> String {
    let file = vector.path.file_name().unwrap_or_default().to_string_lossy();
    let domain = one_line(&vector.origin.domain, NAME_CHARS);
    format!("{domain:?} ({})", one_line(&file, NAME_CHARS))
}

fn base_of(vector: &AlignmentVector) -> String {
    let base = vector.origin.base_name.as_deref().unwrap_or("one without a name");
    one_line(base, NAME_CHARS)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use meav_vector::{Delta, VectorOrigin};
    use meav_weights::{Fingerprint, Weight};

    use super::*;

    fn vector(file: &str, base: &[u8]) -> AlignmentVector {
        let delta = Delta::Dense(Weight::from_f32(vec![1], vec![1.0]));
        let origin = VectorOrigin {
            domain: "medical".to_owned(),
            base_fingerprint: Some(Fingerprint::of_bytes(base)),
            ..VectorOrigin::default()
        };
        AlignmentVector {
            path: file.into(),
            kind: VectorKind::Dense,
            origin,
            fingerprint: Fingerprint::of_bytes(b"values"),
            deltas: BTreeMap::from([("w".to_owned(), delta)]),
        }
    }

    #[test]
    fn vectors_of_different_models_and_tensors_are_noted() {
        let (a, mut b) = (vector("a.safetensors", b"1"), vector("b.safetensors", b"1"));
        assert_eq!(strangers(&a, &b), [""; 0]);
        b.deltas.clear();
        b.origin.base_fingerprint = Some(Fingerprint::of_bytes(b"2"));
        b.origin.base_name = Some("other".to_owned());
        let names = r#""medical" (a.safetensors) and "medical" (b.safetensors)"#;
        let [tensors, bases] = &strangers(&a, &b)[..] else { panic!() };
        assert_eq!(*tensors, format!("{names} change no tensor in common"));
        assert!(bases.starts_with(names) && bases.ends_with(" and other"), "{bases}");
        b.origin.base_fingerprint = None;
        assert_eq!(strangers(&a, &b).len(), 1, "what is not known is not noted");
    }
}
