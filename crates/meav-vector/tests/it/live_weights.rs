use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::{Device, Tensor};
use half::{bf16, f16};
use meav_job::{CancelToken, JobCtx, Progress};
use meav_test_support::{TINY, TinyModel, tiny_dense_vector, tiny_low_rank_vector, tiny_model};
use meav_vector::{
    AlignmentVector, Delta, LiveWeights, LowRank, MergeReport, Method, Scope, Sign, Sparse, Term,
    VectorError, merge_tensor,
};
use meav_weights::{Checkpoint, Dtype, Weight};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::{Bits, bits, opened, sum_tensor, term, vector};

const MODEL: TinyModel = TinyModel { n_layers: 1, ..TINY };

/// Tensors of [`MODEL`], and how many of them a low-rank vector changes.
const N_TENSORS: usize = 11;
const N_LINEAR: usize = 7;

/// A model with three vectors.
struct Bench {
    base: BTreeMap<String, Weight>,
    medical: Arc<AlignmentVector>,
    legal: Arc<AlignmentVector>,
    dense: Arc<AlignmentVector>,
}

impl Bench {
    fn new() -> Self {
        let folder = tiny_model(&MODEL).in_temp_dir();
        Self {
            base: load(folder.path()),
            medical: opened(&tiny_low_rank_vector(&MODEL, "medical", 2)),
            legal: opened(&tiny_low_rank_vector(&MODEL, "legal", 3)),
            dense: opened(&tiny_dense_vector(&MODEL, "safety", 4)),
        }
    }

    fn live(&self, dtype: Dtype) -> LiveWeights {
        LiveWeights::new(self.base.clone(), dtype, &Device::Cpu, &JobCtx::detached()).unwrap()
    }

    /// λ of medical, legal and dense.
    fn recipe(&self, coefficients: [f64; 3]) -> [Term; 3] {
        let vectors = [&self.medical, &self.legal, &self.dense];
        let mut coefficients = coefficients.into_iter();
        vectors.map(|vector| term(vector, coefficients.next().unwrap()))
    }

    /// What a file of the merged model would hold.
    fn expected(&self, dtype: Dtype, terms: &[Term]) -> Bits {
        self.expected_by(Method::TaskArithmetic, dtype, terms)
    }

    fn expected_by(&self, method: Method, dtype: Dtype, terms: &[Term]) -> Bits {
        let merge = |(name, base): (&String, &Weight)| {
            (name.clone(), merge_tensor(name, base, dtype, 1, method, terms).unwrap())
        };
        bits(&self.base.iter().map(merge).collect::<BTreeMap<_, _>>())
    }
}

fn load(folder: &Path) -> BTreeMap<String, Weight> {
    let checkpoint = Checkpoint::open(folder).unwrap();
    checkpoint.names().map(|name| (name.to_owned(), checkpoint.load(name).unwrap())).collect()
}

fn tensor_bits(tensor: &Tensor) -> Vec<u8> {
    use candle_core::DType;
    let flat = tensor.flatten_all().unwrap();
    match tensor.dtype() {
        DType::F32 => flat.to_vec1::<f32>().unwrap().iter().flat_map(|x| x.to_le_bytes()).collect(),
        DType::F16 => flat.to_vec1::<f16>().unwrap().iter().flat_map(|x| x.to_le_bytes()).collect(),
        DType::BF16 => {
            flat.to_vec1::<bf16>().unwrap().iter().flat_map(|x| x.to_le_bytes()).collect()
        }
        dtype => panic!("{dtype:?}"),
    }
}

pub(crate) fn live_bits(live: &LiveWeights) -> Bits {
    live.tensors().iter().map(|(name, tensor)| (name.clone(), tensor_bits(tensor))).collect()
}

fn apply(live: &mut LiveWeights, terms: &[Term]) -> MergeReport {
    apply_by(live, Method::TaskArithmetic, terms)
}

fn apply_by(live: &mut LiveWeights, method: Method, terms: &[Term]) -> MergeReport {
    live.apply(method, terms, &JobCtx::detached()).unwrap()
}

fn coefficients(live: &LiveWeights) -> Vec<f64> {
    live.applied().iter().map(|term| term.coefficient).collect()
}

#[test]
fn live_weights_are_those_of_a_merged_file() {
    let bench = Bench::new();
    for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
        let mut live = bench.live(dtype);
        assert!(live_bits(&live) == bench.expected(dtype, &[]), "{dtype} base");
        let terms = bench.recipe([0.7, -0.4, 1.1]);
        apply(&mut live, &terms);
        assert!(live_bits(&live) == bench.expected(dtype, &terms), "{dtype} recipe");
    }
}

#[test]
fn clones_of_the_tensors_see_the_change() {
    let bench = Bench::new();
    let mut live = bench.live(Dtype::F32);
    let clone = live.tensors()["model.norm.weight"].clone();
    let before = tensor_bits(&clone);
    apply(&mut live, &[term(&bench.dense, 1.0)]);
    assert_ne!(tensor_bits(&clone), before);
}

#[test]
fn only_tensors_of_changed_terms_are_recomputed() {
    let bench = Bench::new();
    let mut live = bench.live(Dtype::Bf16);
    for (recipe, n_recomputed) in [
        ([0.0, 0.0, 0.0], 0),
        ([0.5, 0.0, 0.0], N_LINEAR),
        ([0.5, 0.0, 0.0], 0),
        ([0.5, 0.0, 1.0], N_TENSORS),
        ([0.5, -0.3, 1.0], N_LINEAR),
        ([0.5, -0.3, 1.0], 0),
        ([0.5, -0.3, 0.9], N_TENSORS),
        ([0.0, 0.0, 0.9], N_LINEAR),
        ([0.0, -0.0, 0.0], N_TENSORS),
        ([1e-60, 0.0, 0.0], 0),
    ] {
        let terms = bench.recipe(recipe);
        assert_eq!(apply(&mut live, &terms).tensors, n_recomputed, "{recipe:?}");
        assert!(live_bits(&live) == bench.expected(Dtype::Bf16, &terms), "{recipe:?}");
    }
}

#[test]
fn another_method_recomputes_what_vectors_touch() {
    let bench = Bench::new();
    let mut live = bench.live(Dtype::Bf16);
    let ties = |density| Method::Ties { density };
    let dare = |drop, seed| Method::Dare { drop, seed };
    let (linear, all) = ([0.5, -0.3, 0.0], [0.5, -0.3, 0.7]);
    for (method, coefficients, n_recomputed) in [
        (ties(0.5), [0.0; 3], 0),
        (Method::TaskArithmetic, linear, N_LINEAR),
        (ties(0.5), linear, N_LINEAR),
        (ties(0.5), linear, 0),
        (ties(0.25), linear, N_LINEAR),
        (ties(0.25), [0.5, -0.3, 0.7], N_TENSORS),
        (ties(0.25), [0.4, -0.3, 0.7], N_LINEAR),
        (dare(0.5, 1), all, N_TENSORS),
        (dare(0.5, 1), all, 0),
        (dare(0.5, 2), all, N_TENSORS),
        (dare(0.4, 2), all, N_TENSORS),
        (dare(0.4, 3), [0.0; 3], N_TENSORS),
        (ties(0.4), [0.0; 3], 0),
    ] {
        let terms = bench.recipe(coefficients);
        let report = apply_by(&mut live, method, &terms);
        assert_eq!(report.tensors, n_recomputed, "{method:?} {coefficients:?}");
        assert_eq!(live.method(), method);
        let expected = bench.expected_by(method, Dtype::Bf16, &terms);
        assert!(live_bits(&live) == expected, "{method:?} {coefficients:?}");
    }
}

#[test]
fn another_order_is_another_sum() {
    let bench = Bench::new();
    let mut live = bench.live(Dtype::F32);
    let [a, b] = [term(&bench.medical, 0.5), term(&bench.legal, 0.25)];
    apply(&mut live, &[a.clone(), b.clone()]);
    assert_eq!(apply(&mut live, &[b.clone(), a.clone()]).tensors, N_LINEAR);
    assert!(live_bits(&live) == bench.expected(Dtype::F32, &[b, a]));
}

#[test]
fn report_counts_what_was_read_and_written() {
    let values: Vec<f32> = (0..16).map(|i| if i % 4 == 0 { 0.5 } else { 0.0 }).collect();
    let shape = || vec![2, 8];
    let half = || Weight::from_f32(shape(), values.clone()).to_dtype(Dtype::F16);
    let (a, b, rank, scale) = (vec![1.0; 24], vec![1.0; 6], 3, 1.0);
    let factors = LowRank { a, b, shape: [2, 8], rank, scale };
    let sparse = Sparse::from_dense(shape(), &values, Dtype::Bf16).unwrap();
    for (delta, vector_bytes) in [
        (Delta::Dense(half()), 2 * 16),
        (Delta::Aligned(half()), 2 * 16),
        (Delta::LowRank(factors), 4 * (3 * 8 + 2 * 3)),
        // Three offsets, and for each of four values its column.
        (Delta::Sparse(sparse), 4 * 3 + (2 + 2) * 4),
        // A word and a scale for each row.
        (Delta::Sign(Sign::from_dense(shape(), &values).unwrap()), (4 + 4) * 2),
    ] {
        let terms = [term(&Arc::new(vector("any", [("w", delta)])), 1.0)];
        for method in [Method::TaskArithmetic, Method::Ties { density: 0.5 }] {
            let base = Weight::from_f32(shape(), vec![1.0; 16]);
            let base = BTreeMap::from([("w".to_owned(), base)]);
            let mut live =
                LiveWeights::new(base, Dtype::Bf16, &Device::Cpu, &JobCtx::detached()).unwrap();
            // 4 bytes of base and 2 of the result for each element.
            let expected = MergeReport { tensors: 1, bytes: 6 * 16 + vector_bytes };
            assert_eq!(apply_by(&mut live, method, &terms), expected, "{terms:?}");
        }
    }
}

#[test]
fn applied_terms_are_those_that_do_something() {
    let bench = Bench::new();
    let mut live = bench.live(Dtype::F32);
    apply(&mut live, &bench.recipe([0.0, 0.5, -1.0]));
    assert_eq!(coefficients(&live), [0.5, -1.0]);
    assert_eq!(live.applied()[0].vector.origin.domain, "legal");
}

#[test]
fn cancelled_merge_leaves_the_previous_recipe() {
    let bench = Bench::new();
    let mut live = bench.live(Dtype::Bf16);
    let before = bench.recipe([0.3, 0.0, -0.7]);
    apply(&mut live, &before);
    let expected = bench.expected(Dtype::Bf16, &before);
    let after = bench.recipe([-1.0, 0.2, 0.7]);
    for last in 0..N_TENSORS as u64 {
        let cancel = CancelToken::default();
        let on_progress = |progress: Progress| {
            assert_eq!(progress.total, N_TENSORS as u64);
            if progress.done == last {
                cancel.cancel();
            }
        };
        let result =
            live.apply(Method::TaskArithmetic, &after, &JobCtx::new(cancel.clone(), &on_progress));
        assert!(matches!(result, Err(VectorError::Cancelled(_))), "{result:?}");
        assert!(live_bits(&live) == expected, "cancelled at tensor {last}");
        assert_eq!(coefficients(&live), [0.3, -0.7]);
    }
    assert_eq!(apply(&mut live, &after).tensors, N_TENSORS);
    assert!(live_bits(&live) == bench.expected(Dtype::Bf16, &after));
}

#[test]
fn unusable_settings_are_refused_before_any_work() {
    let bench = Bench::new();
    let mut live = bench.live(Dtype::F32);
    let before = bench.recipe([0.3, 0.0, 0.0]);
    apply(&mut live, &before);
    let ticks = AtomicUsize::new(0);
    let on_progress = |_| {
        ticks.fetch_add(1, Ordering::Relaxed);
    };
    let job = JobCtx::new(CancelToken::default(), &on_progress);
    // The last is finite, but not in the precision of the sum.
    for coefficient in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e39] {
        let terms = bench.recipe([0.5, 0.1, coefficient]);
        let err = live.apply(Method::TaskArithmetic, &terms, &job).unwrap_err();
        let VectorError::NonFiniteCoefficient { domain, .. } = &err else { panic!("{err:?}") };
        assert_eq!(domain, "safety");
        let base = &bench.base["model.norm.weight"];
        let err = sum_tensor("model.norm.weight", base, Dtype::F32, &terms).unwrap_err();
        assert!(matches!(err, VectorError::NonFiniteCoefficient { .. }));
    }
    for method in [Method::Ties { density: 0.0 }, Method::Dare { drop: 1.0, seed: 0 }] {
        live.apply(method, &before, &job).unwrap_err();
    }
    let layers = vec![0..=1];
    let scope = Scope { layers, ..Scope::default() };
    let terms = [Term { scope, ..term(&bench.medical, 0.5) }];
    let err = live.apply(Method::TaskArithmetic, &terms, &job).unwrap_err();
    assert!(matches!(err, VectorError::Layers { .. }), "{err:?}");
    assert_eq!(ticks.into_inner(), 0);
    assert!(live_bits(&live) == bench.expected(Dtype::F32, &before));
    assert_eq!(coefficients(&live), [0.3]);
}

#[test]
fn loading_can_be_cancelled() {
    let bench = Bench::new();
    let cancel = CancelToken::default();
    cancel.cancel();
    let result =
        LiveWeights::new(bench.base, Dtype::F32, &Device::Cpu, &JobCtx::new(cancel, &|_| {}));
    assert!(matches!(result, Err(VectorError::Cancelled(_))));
}

fn method() -> impl Strategy<Value = Method> {
    proptest::sample::select(vec![
        Method::TaskArithmetic,
        Method::Ties { density: 0.3 },
        Method::Ties { density: 0.7 },
        Method::Dare { drop: 0.5, seed: 1 },
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Nothing is left of a walk, however long: every recipe starts from the base.
    #[test]
    fn every_walk_leads_back_to_the_base(
        walk in vec((method(), any::<[i8; 3]>(), proptest::option::of(0..N_TENSORS as u64)), 1..12),
        dtype in proptest::sample::select(&[Dtype::F32, Dtype::F16, Dtype::Bf16][..]),
    ) {
        let bench = Bench::new();
        let mut live = bench.live(dtype);
        for (method, coefficients, cancel_at) in walk {
            let cancel = CancelToken::default();
            let on_progress = |progress: Progress| {
                if Some(progress.done) == cancel_at {
                    cancel.cancel();
                }
            };
            let terms = bench.recipe(coefficients.map(|it| f64::from(it.clamp(-3, 3)) / 2.0));
            // Cancelled or not, the weights are those of what is said to be applied.
            let job = JobCtx::new(cancel.clone(), &on_progress);
            let _cancelled = live.apply(method, &terms, &job).is_err();
            let expected = bench.expected_by(live.method(), dtype, live.applied());
            prop_assert!(live_bits(&live) == expected);
        }
        apply(&mut live, &[]);
        prop_assert!(live_bits(&live) == bench.expected(dtype, &[]));
    }
}
