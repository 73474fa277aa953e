//! Whole models in place of vectors.

use std::sync::Arc;

use meav_job::{CancelToken, JobCtx};
use meav_test_support::{GgufType, TINY, Tensor, TinyModel, tiny_gguf, tiny_model};
use meav_vector::{AlignmentVector, Delta, VectorError, VectorKind, save};
use meav_weights::{Checkpoint, Dtype, Fingerprint};
use tempfile::TempDir;

use crate::{sum_tensor, term};

const ALIGNED: TinyModel = TinyModel { seed: 2, ..TINY };

fn folder(options: &TinyModel) -> (TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("medical.v2");
    tiny_model(options).write(&path);
    (folder, path)
}

fn open(path: &std::path::Path) -> AlignmentVector {
    AlignmentVector::open(path, None, &JobCtx::detached()).unwrap()
}

#[test]
fn model_folder_is_a_vector_of_its_name_with_the_models_fingerprint() {
    for sharded in [false, true] {
        let (_folder, path) = folder(&TinyModel { sharded, ..ALIGNED });
        let vector = open(&path);
        assert_eq!(
            (vector.kind, vector.origin.domain.as_str()),
            (VectorKind::Checkpoint, "medical.v2")
        );
        let checkpoint = Checkpoint::open(&path).unwrap();
        assert_eq!(vector.fingerprint, checkpoint.fingerprint(&JobCtx::detached()).unwrap());
        assert!(vector.deltas.keys().map(String::as_str).eq(checkpoint.names()));
    }
}

#[test]
fn one_gives_the_model_and_half_of_it_is_half_way() {
    let (_folder, path) = folder(&ALIGNED);
    let (_base_folder, base_path) = folder(&TINY);
    let base = Checkpoint::open(&base_path).unwrap();
    let aligned = Checkpoint::open(&path).unwrap();
    let vector = Arc::new(open(&path));
    vector.check_fit(&base, Fingerprint::of_bytes(b"vocabulary")).unwrap();
    for name in base.names() {
        let weight = base.load(name).unwrap();
        let merged = |coefficient| {
            let terms = [term(&vector, coefficient)];
            sum_tensor(name, &weight, Dtype::F32, &terms).unwrap().to_f32_vec()
        };
        let (whole, half) = (merged(1.0), merged(0.5));
        let (from, to) = (weight.to_f32_vec(), aligned.load(name).unwrap().to_f32_vec());
        for i in 0..from.len() {
            let size = from[i].abs().max(to[i].abs());
            assert!((whole[i] - to[i]).abs() <= f32::EPSILON * size, "{name}");
            assert!((half[i] - f32::midpoint(from[i], to[i])).abs() <= f32::EPSILON * size);
        }
    }
}

/// A copy of the embeddings under the name of the output projection, with one value changed by
/// `change`.
fn head(tensors: &[Tensor], change: f32) -> Tensor {
    let mut head = tensors[0].clone();
    assert_eq!(head.name, "model.embed_tokens.weight");
    "lm_head.weight".clone_into(&mut head.name);
    head.values[7] += change;
    head
}

#[test]
fn what_is_no_weight_is_left_out_on_either_side() {
    let (aligned, base) = (tiny_model(&ALIGNED), tiny_model(&TINY));
    let inv_freq = Tensor {
        name: "model.layers.0.self_attn.rotary_emb.inv_freq".to_owned(),
        shape: vec![8],
        values: vec![1.0; 8],
        dtype: meav_test_support::Dtype::F32,
    };
    for name in ["rope_freqs.weight", "rope_factors_long.weight", inv_freq.name.as_str()] {
        let extra = || Tensor { name: name.to_owned(), ..inv_freq.clone() };
        for (in_aligned, in_base) in [(true, false), (false, true)] {
            let (mut aligned, mut base) = (aligned.clone(), base.clone());
            aligned.tensors.extend(in_aligned.then(extra));
            base.tensors.extend(in_base.then(extra));
            let (aligned, base) = (aligned.in_temp_dir(), base.in_temp_dir());
            let vector = open(aligned.path());
            assert!(!vector.deltas.contains_key(name));
            let base = Checkpoint::open(base.path()).unwrap();
            vector.check_fit(&base, Fingerprint::of_bytes(b"vocabulary")).unwrap();
        }
    }
}

#[test]
fn output_projection_fits_a_base_without_one_if_it_is_the_embeddings() {
    let base = tiny_model(&TINY).in_temp_dir();
    let base = Checkpoint::open(base.path()).unwrap();
    let fit = |change: f32| {
        let mut aligned = tiny_model(&ALIGNED);
        aligned.tensors.push(head(&aligned.tensors, change));
        let vector = open(aligned.in_temp_dir().path());
        vector.check_fit(&base, Fingerprint::of_bytes(b"vocabulary"))
    };
    fit(0.0).unwrap();
    let err = fit(1.0).unwrap_err();
    let is_head =
        matches!(&err, VectorError::MissingTensor { name, .. } if name == "lm_head.weight");
    assert!(is_head, "{err:?}");
}

#[test]
fn quantised_file_is_a_vector_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("medical.gguf");
    tiny_gguf(&ALIGNED, GgufType::Q8_0).write(&path);
    let vector = open(&path);
    assert_eq!((vector.kind, vector.origin.domain.as_str()), (VectorKind::Checkpoint, "medical"));
    assert!(vector.deltas.values().all(|delta| matches!(delta, Delta::Aligned(_))));
}

#[test]
fn model_of_another_size_is_refused_by_the_first_misfit() {
    let (_folder, path) = folder(&TINY);
    let base = Checkpoint::open(&path).unwrap();
    let check = |options: &TinyModel, expected: &str| {
        let (_folder, path) = folder(options);
        let err = open(&path).check_fit(&base, Fingerprint::of_bytes(b"vocabulary")).unwrap_err();
        assert!(err.to_string().starts_with(expected), "{err}");
    };
    check(
        &TinyModel { n_layers: 1, ..TINY },
        "the model \"medical.v2\" has no tensor \"model.layers.1.input_layernorm.weight\", which the \
         base model \"medical.v2\" has: only models of the same architecture",
    );
    check(
        &TinyModel { n_layers: 3, ..TINY },
        "the base model \"medical.v2\" has no tensor \"model.layers.2.input_layernorm.weight\", which",
    );
    check(
        &TinyModel { intermediate_size: 128, ..TINY },
        "tensor \"model.layers.0.mlp.down_proj.weight\" has shape [64, 128] in \"medical.v2\", the base",
    );
}

#[test]
fn values_that_are_no_numbers_are_refused_by_name() {
    let mut model = tiny_model(&ALIGNED);
    model.tensors[2].values[5] = f32::NAN;
    let name = model.tensors[2].name.clone();
    let folder = model.in_temp_dir();
    let err = AlignmentVector::open(folder.path(), None, &JobCtx::detached()).unwrap_err();
    assert!(matches!(&err, VectorError::NonFiniteValues { name: n, .. } if *n == name), "{err:?}");
}

#[test]
fn model_is_not_saved_as_a_difference() {
    let (folder, path) = folder(&ALIGNED);
    let target = folder.path().join("vector.safetensors");
    let err = save(&open(&path), None, &target, &JobCtx::detached()).unwrap_err();
    assert!(matches!(&err, VectorError::UnsupportedKind { kind, .. } if kind == "checkpoint"));
    assert!(!target.exists());
}

#[test]
fn reading_a_model_can_be_cancelled() {
    let (_folder, path) = folder(&ALIGNED);
    let cancel = CancelToken::default();
    cancel.cancel();
    let job = JobCtx::new(cancel, &|_| {});
    assert!(matches!(AlignmentVector::open(&path, None, &job), Err(VectorError::Cancelled(_))));
}
