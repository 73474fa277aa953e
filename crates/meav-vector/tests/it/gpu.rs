//! Merges by CUDA kernels, on a GPU or emulated, against those of the CPU: the same bits.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::Device;
use meav_cuda::on_gpu;
use meav_job::{CancelToken, JobCtx, Progress};
use meav_vector::{LiveWeights, Method, Residency, Term, VectorError};
use meav_weights::{Dtype, Weight};

use crate::live_weights::live_bits;
use crate::methods::{METHODS, mixture};
use crate::reference::{Case, DTYPES, Stored};
use crate::{bits, term, vector};

const NAME: &str = "w";

const RESIDENCIES: [Residency; 3] = [
    Residency::ALL,
    Residency { base: true, vectors: false },
    Residency { base: false, vectors: false },
];

fn live(case: &Case, device: &Device, residency: Residency) -> LiveWeights {
    let base = BTreeMap::from([(NAME.to_owned(), case.base())]);
    let job = JobCtx::detached();
    LiveWeights::with_residency(base, case.merged, device, residency, &job).unwrap()
}

fn check(case: &Case, method: Method) {
    let expected = |weight: Weight| bits([(&NAME.to_owned(), &weight)]);
    let (rounded, merged) = (expected(case.base().to_dtype(case.merged)), case.merged(method));
    on_gpu(|device| {
        let mut live = live(case, device, Residency::ALL);
        assert!(live_bits(&live) == rounded, "the base of {case:?}");
        live.apply(method, &case.recipe(), &JobCtx::detached()).unwrap();
        assert!(live_bits(&live) == expected(merged.clone()), "{method:?} {case:?}");
    });
}

#[test]
fn every_method_gives_the_bits_of_the_cpu_for_every_kind_of_vector() {
    for method in METHODS {
        for shape in [[1, 1], [1, 40], [40, 1], [5, 129], [7, 264], [67, 3]] {
            let case = mixture(shape);
            check(&case, method);
            for term in &case.terms {
                check(&Case { terms: vec![*term], ..case.clone() }, method);
            }
            for merged in DTYPES {
                check(&Case { merged, base: merged, ..case.clone() }, method);
            }
        }
    }
}

#[test]
fn dense_vectors_give_the_bits_of_the_cpu_in_every_type() {
    for base in DTYPES {
        for merged in DTYPES {
            for shape in [[1, 7], [3, 8], [9, 1037]] {
                let terms = DTYPES.into_iter().map(Stored::Dense).zip([0.9, -1.3, 0.1]).collect();
                check(&Case { shape, base, merged, terms, seed: 5 }, Method::TaskArithmetic);
            }
        }
    }
}

#[test]
fn what_does_not_stay_on_the_gpu_is_merged_alike() {
    let case = mixture([5, 129]);
    let scaled = |factor: f64| -> Vec<Term> {
        let scale = |term: Term| Term { coefficient: term.coefficient * factor, ..term };
        case.recipe().into_iter().map(scale).collect()
    };
    on_gpu(|device| {
        let after_each = RESIDENCIES.map(|residency| {
            let mut live = live(&case, device, residency);
            let mut apply = |terms: &[Term]| {
                live.apply(Method::TaskArithmetic, terms, &JobCtx::detached()).unwrap();
                live_bits(&live)
            };
            // Away from a recipe and back, with vectors that went meanwhile.
            [apply(&scaled(1.0)), apply(&scaled(0.5)[..1]), apply(&[]), apply(&scaled(1.0))]
        });
        assert!(after_each[0][0] == after_each[0][3]);
        assert!(after_each[0][0] != after_each[0][1]);
        assert!(after_each.iter().all(|bits| *bits == after_each[0]));
    });
}

#[test]
fn cancelled_merge_leaves_the_previous_recipe() {
    let cases = [mixture([5, 129]), mixture([7, 264])];
    let base: BTreeMap<_, _> = ["a", "b"]
        .into_iter()
        .zip(&cases)
        .map(|(name, case)| (name.to_owned(), case.base()))
        .collect();
    let deltas = ["a", "b"].into_iter().zip(cases.iter().map(|case| case.deltas().remove(0)));
    let vector = Arc::new(vector("medical", deltas));
    on_gpu(|device| {
        let job = JobCtx::detached();
        let mut live = LiveWeights::new(base.clone(), Dtype::Bf16, device, &job).unwrap();
        live.apply(Method::TaskArithmetic, &[term(&vector, 0.5)], &job).unwrap();
        let before = live_bits(&live);
        let cancel = CancelToken::default();
        let on_progress = |progress: Progress| {
            if progress.done == 1 {
                cancel.cancel();
            }
        };
        let job = JobCtx::new(cancel.clone(), &on_progress);
        let result = live.apply(Method::TaskArithmetic, &[term(&vector, 2.0)], &job);
        assert!(matches!(result, Err(VectorError::Cancelled(_))), "{result:?}");
        assert!(live_bits(&live) == before);
    });
}

#[test]
fn more_vectors_than_a_kernel_takes_are_refused() {
    let case = Case { terms: vec![(Stored::Dense(Dtype::Bf16), 0.1); 33], ..mixture([1, 8]) };
    on_gpu(|device| {
        let mut live = live(&case, device, Residency::ALL);
        let before = live_bits(&live);
        let err = live.apply(Method::TaskArithmetic, &case.recipe(), &JobCtx::detached());
        let source = std::error::Error::source(&err.unwrap_err()).unwrap().to_string();
        assert!(source.contains("more than 32 vectors"), "{source}");
        assert!(live_bits(&live) == before);
        let fewer = &case.recipe()[..32];
        live.apply(Method::TaskArithmetic, fewer, &JobCtx::detached()).unwrap();
        assert!(live_bits(&live) != before);
    });
}
