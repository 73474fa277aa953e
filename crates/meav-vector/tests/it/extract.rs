use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::slice::from_ref;
use std::sync::Arc;

use meav_job::{CancelToken, JobCtx};
use meav_test_support::{
    Dtype as FileDtype, GgufType, TINY, Tensor, TinyModel, safetensors_bytes, tiny_gguf, tiny_model,
};
use meav_vector::{
    AlignmentVector, ExtractReport, Extraction, VectorError, VectorKind, VectorOrigin, extract,
};
use meav_weights::{Checkpoint, Dtype};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value as Json;
use tempfile::TempDir;

use crate::{sum_tensor, term};

const DTYPES: [FileDtype; 3] = [FileDtype::F32, FileDtype::F16, FileDtype::Bf16];

/// Two models in a folder, and a place for the vector.
struct Models {
    folder: TempDir,
    base: Checkpoint,
    aligned: Checkpoint,
}

impl Models {
    fn new(base: &[Tensor], aligned: &[Tensor]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, tensors: &[Tensor]| {
            let path = folder.path().join(name);
            fs::write(&path, safetensors_bytes(tensors, &BTreeMap::new())).unwrap();
            Checkpoint::open(&path).unwrap()
        };
        let base = write("base.safetensors", base);
        let aligned = write("aligned.safetensors", aligned);
        Self { folder, base, aligned }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("vector.safetensors")
    }

    fn extract(&self, dtype: Option<Dtype>) -> Result<ExtractReport, VectorError> {
        self.extract_where(dtype, &|_| true, &JobCtx::detached())
    }

    fn extract_where(
        &self,
        dtype: Option<Dtype>,
        includes: &(dyn Fn(&str) -> bool + Sync),
        job: &JobCtx<'_>,
    ) -> Result<ExtractReport, VectorError> {
        let origin = VectorOrigin { domain: "medical".to_owned(), ..VectorOrigin::default() };
        let (aligned, base) = (&self.aligned, &self.base);
        extract(&Extraction { aligned, base, origin, dtype, includes }, &self.path(), job)
    }

    fn vector(&self) -> Arc<AlignmentVector> {
        Arc::new(open(&self.path()))
    }
}

fn open(path: &Path) -> AlignmentVector {
    AlignmentVector::open(path, None, &JobCtx::detached()).unwrap()
}

fn tensor(name: &str, dtype: FileDtype, values: &[f32]) -> Tensor {
    let values: Vec<_> = values.iter().map(|value| dtype.round(*value)).collect();
    Tensor { name: name.to_owned(), dtype, shape: vec![values.len()], values }
}

/// The distance of 1 and the number above it, and the smallest number above 0.
fn ulp(dtype: Dtype) -> (f64, f64) {
    match dtype {
        Dtype::F32 => (2.0_f64.powi(-23), 2.0_f64.powi(-149)),
        Dtype::F16 => (2.0_f64.powi(-10), 2.0_f64.powi(-24)),
        Dtype::Bf16 => (2.0_f64.powi(-7), 2.0_f64.powi(-133)),
    }
}

/// `base + 1 · vector` beside the aligned model: every element within 1 ulp, and the largest and
/// the mean error of them.
fn errors(models: &Models) -> (f64, f64) {
    let vector = models.vector();
    let (mut max, mut sum, mut n) = (0.0_f64, 0.0, 0);
    for (name, delta) in &vector.deltas {
        let meav_vector::Delta::Dense(weight) = delta else { panic!("{name}") };
        let (epsilon, smallest) = ulp(weight.dtype());
        let base = models.base.load(name).unwrap();
        let found = sum_tensor(name, &base, Dtype::F32, &[term(&vector, 1.0)]).unwrap();
        let aligned = models.aligned.load(name).unwrap().to_f32_vec();
        for ((found, aligned), base) in
            found.to_f32_vec().iter().zip(aligned).zip(base.to_f32_vec())
        {
            let error = f64::from((found - aligned).abs());
            let size = f64::from(aligned.abs().max(base.abs()));
            assert!(error <= epsilon * size + smallest, "{name}: {found}, not {aligned}");
            let relative = if error == 0.0 { 0.0 } else { error / size };
            (max, sum, n) = (max.max(relative), sum + relative, n + 1);
        }
    }
    (max, sum / f64::from(n.max(1)))
}

fn value() -> impl Strategy<Value = f32> {
    prop_oneof![-1.0..1.0_f32, -1e-3..1e-3_f32, -100.0..100.0_f32, Just(0.0), Just(-0.0)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn base_and_extracted_vector_are_the_aligned_model(
        pairs in vec((value(), value()), 1..80),
        base in prop::sample::select(&DTYPES[..]),
        aligned in prop::sample::select(&DTYPES[..]),
        dtype in prop::option::of(prop::sample::select(vec![Dtype::F32, Dtype::F16, Dtype::Bf16])),
    ) {
        let (of_base, of_aligned): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        let models = Models::new(
            &[tensor("w", base, &of_base)],
            &[tensor("w", aligned, &of_aligned)],
        );
        match models.extract(dtype) {
            Ok(report) => {
                let (max, mean) = errors(&models);
                prop_assert_eq!(report.max_relative_error, max);
                prop_assert!((report.mean_relative_error - mean).abs() <= 1e-12);
                let weight = models.vector();
                let meav_vector::Delta::Dense(weight) = &weight.deltas["w"] else { panic!() };
                let expected = match dtype {
                    Some(dtype) => dtype,
                    None if base == aligned => models.base.dtype(),
                    None => Dtype::F32,
                };
                prop_assert_eq!(weight.dtype(), expected);
            }
            Err(VectorError::NoDifference) => {
                let rounded = |dtype: FileDtype, values: &[f32]| -> Vec<_> {
                    values.iter().map(|value| dtype.round(*value)).collect()
                };
                prop_assert_eq!(rounded(base, &of_base), rounded(aligned, &of_aligned));
            }
            Err(err) => panic!("{err}"),
        }
    }
}

#[test]
fn file_says_how_near_it_comes_and_what_it_leaves_out() {
    let base = tiny_model(&TINY).tensors;
    let mut aligned = tiny_model(&TinyModel { seed: 2, ..TINY }).tensors;
    for index in [0, 3] {
        aligned[index].values.clone_from(&base[index].values);
    }
    // One element is enough.
    aligned[4].values.clone_from(&base[4].values);
    *aligned[4].values.last_mut().unwrap() += 1.0;
    let models = Models::new(&base, &aligned);
    let report = models.extract(Some(Dtype::Bf16)).unwrap();
    assert_eq!((report.tensors, report.unchanged), (base.len() - 2, 2));
    let (max, mean) = errors(&models);
    assert!(max > 1e-4 && mean > 1e-5, "rounding to bf16 costs nothing: {max}, {mean}");
    let vector = models.vector();
    assert_eq!((vector.kind, vector.origin.domain.as_str()), (VectorKind::Dense, "medical"));
    assert_eq!(report.size_bytes, vector.size_bytes());
    assert!(!vector.deltas.contains_key(&base[0].name));
    assert!(vector.deltas.contains_key(&base[4].name));
    let measured: Json = serde_json::from_str(vector.origin.extraction.as_ref().unwrap()).unwrap();
    assert_eq!(measured["aligned"], "aligned");
    assert_eq!(measured["tensors"], base.len() - 2);
    assert_eq!(measured["unchanged"], 2);
    assert_eq!(measured["max_relative_error"].as_f64(), Some(max));
    assert!((measured["mean_relative_error"].as_f64().unwrap() - mean).abs() < 1e-12);
}

#[test]
fn shards_and_quantised_files_have_a_difference_too() {
    let sharded = TinyModel { sharded: true, dtype: FileDtype::Bf16, ..TINY };
    let folder = tiny_model(&sharded).in_temp_dir();
    let gguf = folder.path().join("aligned.gguf");
    tiny_gguf(&TinyModel { seed: 2, ..TINY }, GgufType::Q8_0).write(&gguf);
    let models = Models {
        base: Checkpoint::open(folder.path()).unwrap(),
        aligned: Checkpoint::open(&gguf).unwrap(),
        folder,
    };
    let report = models.extract(None).unwrap();
    assert_eq!((report.tensors, report.unchanged), (models.base.names().len(), 0));
    let (max, _) = errors(&models);
    assert!(max <= ulp(Dtype::F32).0);
}

#[test]
fn filter_of_names_decides() {
    let (base, aligned) =
        (tiny_model(&TINY).tensors, tiny_model(&TinyModel { seed: 2, ..TINY }).tensors);
    let models = Models::new(&base, &aligned[..base.len() - 1]);
    let includes = |name: &str| name.contains("mlp");
    let report = models.extract_where(None, &includes, &JobCtx::detached()).unwrap();
    assert_eq!((report.tensors, report.unchanged), (6, 0));
    assert!(models.vector().deltas.keys().all(|name| name.contains("mlp")));
    let none = |_: &str| false;
    let err = models.extract_where(None, &none, &JobCtx::detached()).unwrap_err();
    assert!(matches!(err, VectorError::NoDifference), "{err:?}");
}

/// The message that two models are refused with; what was at the target stays there.
#[track_caller]
fn refused(base: &[Tensor], aligned: &[Tensor], dtype: Option<Dtype>) -> String {
    let models = Models::new(base, aligned);
    fs::write(models.path(), "kept").unwrap();
    let err = models.extract(dtype).unwrap_err();
    assert_eq!(fs::read_to_string(models.path()).unwrap(), "kept");
    assert_eq!(fs::read_dir(models.folder.path()).unwrap().count(), 3);
    err.to_string().replace(models.folder.path().to_str().unwrap(), "")
}

#[test]
fn misfits_are_refused_by_the_first_name() {
    let of = |name: &str, values: &[f32]| tensor(name, FileDtype::F32, values);
    let (a, b) = (of("a", &[1.0, 2.0]), of("b", &[1.0]));
    let difference = "only models of the same architecture and size have a difference";
    assert_eq!(
        refused(&[a.clone(), b.clone()], &[of("a", &[3.0, 4.0])], None),
        format!(
            "tensor \"b\" is in \"/base.safetensors\" and not in \"/aligned.safetensors\": {difference}"
        )
    );
    assert_eq!(
        refused(from_ref(&b), &[a.clone(), b.clone()], None),
        format!(
            "tensor \"a\" is in \"/aligned.safetensors\" and not in \"/base.safetensors\": {difference}"
        )
    );
    assert_eq!(
        refused(&[a.clone(), b.clone()], &[of("a", &[3.0]), b.clone()], None),
        "tensor \"a\" has shape [1] in \"aligned\" and [2] in \"base\""
    );
    for value in [f32::NAN, f32::INFINITY] {
        let not_finite = of("b", &[value]);
        let expected = |model: &str| {
            format!(
                "tensor \"b\" has values that are not finite numbers in \"/{model}.safetensors\""
            )
        };
        let (good, bad) = ([a.clone(), b.clone()], [a.clone(), not_finite]);
        assert_eq!(refused(&bad, &good, None), expected("base"));
        assert_eq!(refused(&good, &bad, None), expected("aligned"));
        assert_eq!(refused(&bad, &bad, None), expected("aligned"));
    }
    // 10⁵ is beyond f16.
    let large = of("b", &[1e5]);
    assert_eq!(
        refused(from_ref(&b), &[large], Some(Dtype::F16)),
        "tensor \"b\" has values that are too large for f16"
    );
    let same = "the models have no difference in the tensors that were asked for";
    assert_eq!(refused(from_ref(&a), from_ref(&a), None), same);
}

#[test]
fn embeddings_that_are_there_twice_are_taken_once() {
    let of = |name: &str, values: &[f32]| tensor(name, FileDtype::F32, values);
    let (embeddings, head) = ("model.embed_tokens.weight", "lm_head.weight");
    let base = of(embeddings, &[1.0, 2.0]);
    let aligned = of(embeddings, &[1.0, 3.0]);
    let models = Models::new(from_ref(&base), &[aligned.clone(), of(head, &[1.0, 3.0])]);
    let report = models.extract(None).unwrap();
    assert_eq!((report.tensors, report.unchanged), (1, 0));
    assert!(models.vector().deltas.keys().eq([embeddings]));
    assert_eq!(
        refused(from_ref(&base), &[aligned, of(head, &[1.0, 3.5])], None),
        "tensor \"lm_head.weight\" is in \"/aligned.safetensors\" and not in \
         \"/base.safetensors\": only models of the same architecture and size have a difference"
    );
}

#[test]
fn cancelled_extraction_leaves_nothing() {
    let models =
        Models::new(&[tensor("w", FileDtype::F32, &[1.0])], &[tensor("w", FileDtype::F32, &[2.0])]);
    // Before the first pass, and before the second.
    for n_ticks in [1, 2] {
        let cancel = CancelToken::default();
        let ticks = std::sync::atomic::AtomicUsize::new(0);
        let on_progress = |_| {
            if ticks.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1 == n_ticks {
                cancel.cancel();
            }
        };
        let job = JobCtx::new(cancel.clone(), &on_progress);
        let err = models.extract_where(None, &|_| true, &job).unwrap_err();
        assert!(matches!(err, VectorError::Cancelled(_)), "{err:?}");
        assert!(!models.path().exists());
    }
}

#[test]
fn tensors_of_several_chunks_have_no_seams() {
    let n = (1 << 20) + 3;
    let of = |factor: f32| -> Vec<f32> { (0..n).map(|i| (i % 977) as f32 * factor).collect() };
    let models = Models::new(
        &[tensor("w", FileDtype::Bf16, &of(0.5)), tensor("x", FileDtype::F32, &[1.0])],
        &[tensor("w", FileDtype::Bf16, &of(0.25)), tensor("x", FileDtype::F32, &[3.0])],
    );
    models.extract(Some(Dtype::F32)).unwrap();
    assert_eq!(errors(&models), (0.0, 0.0));
}
