use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::slice;
use std::sync::Mutex;

use candle_core::{DType, Device};
use half::bf16;
use meav_job::{CancelToken, Progress};
use meav_protocol::{OptimizerState, PreferenceLoss, Schedule};
use meav_test_support::{broken, chain, families};
use meav_weights::Fingerprinter;
use tempfile::TempDir;

use super::*;
use crate::optimizer::{Moments, Quantised};
use crate::reference_log_probs;
use crate::test_support::{family, lora, pair_set, tiny_decoder, tiny_decoder_on};

const LOSSES: [PreferenceLoss; 4] = [
    PreferenceLoss::Ipo,
    PreferenceLoss::Sigmoid { label_smoothing: 0.0 },
    PreferenceLoss::Sigmoid { label_smoothing: 0.1 },
    PreferenceLoss::Hinge,
];

/// Rates that teach the tiny model something in a few steps.
pub(super) fn settings(method: TrainMethod) -> TrainSettings {
    let learning_rate = if method == TrainMethod::Full { 2e-3 } else { 2e-2 };
    TrainSettings {
        method,
        learning_rate,
        schedule: Schedule::Constant,
        warmup_steps: 1,
        epochs: 4,
        batch: 2,
        accumulation: 2,
        validation: 0.1,
        ..TrainSettings::default()
    }
}

fn reference(decoder: &Decoder, pairs: &PairSet) -> Reference {
    let of = |pairs: &[Pair]| {
        reference_log_probs(decoder, pairs, &mut |_| {}, &JobCtx::detached()).unwrap()
    };
    Reference { train: of(&pairs.train), validation: of(&pairs.validation) }
}

/// Ten pairs to train on, in three steps an epoch, and four that are held back.
pub(super) fn trainer_on(device: &Device, settings: &TrainSettings, dtype: DType) -> Trainer {
    let decoder = tiny_decoder_on(1, dtype, device);
    let pairs = pair_set(5, 2);
    let reference = reference(&decoder, &pairs);
    new_trainer(decoder, pairs, reference, settings).unwrap()
}

/// A trainer that knows its model by all of its weights.
fn new_trainer(
    decoder: Decoder,
    pairs: PairSet,
    reference: Reference,
    settings: &TrainSettings,
) -> Result<Trainer, TrainError> {
    let model = fingerprint(&decoder);
    Trainer::new(decoder, pairs, reference, settings, &model)
}

fn fingerprint(decoder: &Decoder) -> String {
    let tensors: BTreeMap<&str, &Tensor> = decoder.parameters().collect();
    let mut fingerprinter = Fingerprinter::default();
    for (name, tensor) in tensors {
        fingerprinter.add(name, &weight(tensor));
    }
    fingerprinter.finish().to_string()
}

fn weight(tensor: &Tensor) -> Weight {
    let (shape, values) = (tensor.dims().to_vec(), tensor.flatten_all().unwrap());
    match tensor.dtype() {
        DType::BF16 => Weight::from_bf16(shape, values.to_vec1::<bf16>().unwrap()),
        _ => Weight::from_f32(shape, values.to_vec1::<f32>().unwrap()),
    }
}

fn trainer(settings: &TrainSettings) -> Trainer {
    trainer_on(&Device::Cpu, settings, DType::F32)
}

pub(super) fn step(trainer: &mut Trainer) -> TrainStep {
    // How long it takes is another each time.
    TrainStep { tokens_per_second: 0.0, ..trainer.step(&JobCtx::detached()).unwrap() }
}

pub(super) fn validate(trainer: &mut Trainer) -> TrainValidation {
    trainer.validate(&JobCtx::detached()).unwrap()
}

pub(super) fn weights(trainer: &Trainer) -> Vec<(String, Vec<u32>)> {
    let bits = |weight: Weight| weight.to_f32_vec().into_iter().map(f32::to_bits).collect();
    trainer.weights().map(|(name, weight)| (name.to_owned(), bits(weight.unwrap()))).collect()
}

/// What the model reads.
fn tensors(trainer: &Trainer) -> String {
    let adapters = trainer.adapters().into_iter().flatten();
    let factors = adapters.flat_map(|(_, it)| [it.a.clone(), it.b.clone()]);
    let mut hasher = blake3::Hasher::new();
    for tensor in trainer.decoder().parameters().map(|(_, it)| it.clone()).chain(factors) {
        hasher.update(weight(&tensor).bytes());
    }
    hasher.finalize().to_string()
}

#[test]
fn training_lowers_every_loss_with_both_methods() {
    for method in [TrainMethod::Full, lora(4)] {
        for loss in LOSSES {
            let settings = TrainSettings { loss, epochs: 8, ..settings(method.clone()) };
            let mut trainer = trainer(&settings);
            let start = validate(&mut trainer);
            let expected = loss.at_start(settings.beta);
            assert!((start.loss - expected).abs() < 1e-3 * expected, "{loss:?} at {}", start.loss);
            let mut steps = Vec::new();
            while !trainer.is_finished() {
                steps.push(step(&mut trainer));
            }
            let (first, last) = (steps[0], steps[steps.len() - 1]);
            assert!((first.loss - expected).abs() < 1e-3 * expected, "{loss:?}: {first:?}");
            assert!(last.loss < 0.9 * expected, "{loss:?}, {method:?}: {last:?}");
            assert!(last.rewards.margins > 0.5 && last.rewards.accuracies > 0.9, "{last:?}");
            let sum = last.rewards.chosen - last.rewards.rejected;
            assert!((sum - last.rewards.margins).abs() < 1e-9);
            assert_ne!(validate(&mut trainer).loss.to_bits(), start.loss.to_bits());
        }
    }
}

#[test]
fn steps_tell_what_was_done() {
    let mut trainer = trainer(&settings(lora(2)));
    assert_eq!(trainer.total_steps(), 12);
    let steps: Vec<TrainStep> = (0..12).map(|_| step(&mut trainer)).collect();
    assert!(trainer.is_finished() && trainer.step_number() == 12);
    let numbers: Vec<usize> = steps.iter().map(|it| it.step).collect();
    assert_eq!(numbers, (1..=12).collect::<Vec<_>>());
    let epochs = steps.iter().map(|it| it.epoch);
    let expected = [0.4, 0.8, 1.0, 1.4, 1.8, 2.0, 2.4, 2.8, 3.0, 3.4, 3.8, 4.0];
    assert!(epochs.zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-12));
    let all: u64 = trainer.pairs.train.iter().map(Pair::num_tokens).sum();
    assert_eq!((steps[2].num_tokens, steps[11].num_tokens), (all, 4 * all));
    assert!(steps[0].learning_rate.abs() < 1e-12 && (steps[1].learning_rate - 0.02).abs() < 1e-12);
    let limited = TrainSettings { max_steps: Some(5), ..settings(lora(2)) };
    assert_eq!(self::trainer(&limited).total_steps(), 5);
}

#[test]
fn counts_are_those_of_pairs_and_elements() {
    let counts = trainer(&settings(TrainMethod::Full)).counts();
    let decoder = tiny_decoder(1, DType::F32);
    let n: usize = decoder.parameters().map(|(_, tensor)| tensor.elem_count()).sum();
    let expected = TrainCounts {
        pairs: 10,
        validation_pairs: 4,
        truncated: 1,
        left_out: 0,
        trainable_parameters: n as u64,
    };
    assert_eq!(counts, expected);
    let widths: usize =
        decoder.linear_layers().map(|(_, it)| it.dims().iter().sum::<usize>()).sum();
    let counts = trainer(&settings(lora(3))).counts();
    assert_eq!(counts.trainable_parameters, 3 * widths as u64);
}

/// In however many batches, the gradient is that of the mean over the step's pairs.
#[test]
fn accumulation_changes_no_step() {
    let of = |batch: usize, accumulation: usize| {
        let settings =
            TrainSettings { batch, accumulation, epochs: 1, ..settings(TrainMethod::Full) };
        let mut trainer = trainer(&settings);
        assert_eq!(trainer.total_steps(), 1);
        step(&mut trainer)
    };
    let (whole, parts) = (of(10, 1), of(3, 4));
    assert!((whole.loss - parts.loss).abs() < 1e-4 * whole.loss, "{whole:?} and {parts:?}");
    let distance = (whole.grad_norm - parts.grad_norm).abs();
    assert!(distance < 1e-3 * whole.grad_norm, "{whole:?} and {parts:?}");
}

#[test]
fn every_trainable_tensor_changes() {
    for method in [TrainMethod::Full, lora(2)] {
        for dtype in [DType::F32, DType::BF16] {
            let mut trainer = trainer_on(&Device::Cpu, &settings(method.clone()), dtype);
            let before = weights(&trainer);
            for _ in 0..3 {
                step(&mut trainer);
            }
            for ((name, before), (_, after)) in before.iter().zip(weights(&trainer)) {
                assert_ne!(*before, after, "{name}, {method:?}, {dtype:?}");
            }
        }
    }
}

#[test]
fn low_rank_factors_leave_the_weights_alone() {
    let mut trainer = trainer(&settings(lora(2)));
    let before = fingerprint(trainer.decoder());
    for _ in 0..3 {
        step(&mut trainer);
    }
    assert_eq!(fingerprint(trainer.decoder()), before);
}

#[test]
fn first_factors_are_those_of_peft_and_depend_on_their_own_name() {
    let with = |targets: &[&str], seed| {
        let targets = targets.iter().map(|it| (*it).to_owned()).collect();
        let method = TrainMethod::Lora { rank: 3, alpha: 6.0, targets };
        let trainer = trainer(&TrainSettings { seed, ..settings(method) });
        trainer.adapters().unwrap().clone()
    };
    let values = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let all = with(&[], 0);
    assert_eq!(all.len(), 7);
    for (name, adapter) in &all {
        let bound = (adapter.a.dims()[1] as f32).sqrt().recip();
        let a = values(&adapter.a);
        let largest = a.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
        assert!(largest <= bound && largest > 0.9 * bound, "{name}: {largest} of {bound}");
        let mean = a.iter().sum::<f32>() / a.len() as f32;
        assert!(mean.abs() < 0.2 * bound, "{name}: {mean}");
        assert!(values(&adapter.b).iter().all(|x| x.to_bits() == 0), "{name}");
        assert!((adapter.scale - 2.0).abs() < 1e-9);
    }
    let some = with(&["q_proj", "mlp.down_proj"], 0);
    let names: Vec<&str> = some.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        ["model.layers.0.mlp.down_proj.weight", "model.layers.0.self_attn.q_proj.weight"]
    );
    for (name, adapter) in &some {
        assert_eq!(values(&adapter.a), values(&all[name].a), "{name}");
    }
    let other = with(&["q_proj"], 1);
    assert!(other.iter().all(|(name, it)| values(&it.a) != values(&all[name].a)));
}

#[test]
fn unknown_targets_are_refused_with_those_that_there_are() {
    let cases = [
        ("llama", "proj", "down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj"),
        ("phi3", "q_proj", "down_proj, gate_up_proj, o_proj, qkv_proj"),
    ];
    for (family_name, target, known) in cases {
        let case = families().cases.iter().find(|it| it.name.starts_with(family_name)).unwrap();
        let decoder = family(case);
        let targets = vec!["o_proj".to_owned(), target.to_owned()];
        let settings = settings(TrainMethod::Lora { rank: 1, alpha: 1.0, targets });
        let pairs = pair_set(1, 0);
        let reference = Reference { train: vec![[0.0; 2]; 2], validation: Vec::new() };
        let result = new_trainer(decoder, pairs, reference, &settings).map(|_| ());
        let expected = format!("the model has no linear layer {target:?}, only {known}");
        assert_eq!(result.unwrap_err().to_string(), expected);
    }
}

#[test]
fn references_of_other_pairs_are_refused() {
    let decoder = tiny_decoder(1, DType::F32);
    let reference = Reference { train: vec![[0.0; 2]; 9], validation: vec![[0.0; 2]; 4] };
    let result = new_trainer(decoder, pair_set(5, 2), reference, &settings(lora(2))).map(|_| ());
    let expected = TrainError::ReferenceLength { found: 9, expected: 10 };
    assert_eq!(result.unwrap_err().to_string(), expected.to_string());
}

/// Six steps with validations, and those of a second process behind the third.
fn interrupted(settings: &TrainSettings, dtype: DType) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("step-3.safetensors");
    let mut whole = trainer_on(&Device::Cpu, settings, dtype);
    let mut curve = Vec::new();
    for number in 1..=6 {
        curve.push((step(&mut whole), validate(&mut whole)));
        if number == 3 {
            whole.save(&path).unwrap();
        }
    }
    // Another rate of checkpoints and other activations kept change no number.
    let checkpointing = !settings.checkpointing;
    let others = TrainSettings { checkpoint_every: 1, checkpointing, ..settings.clone() };
    let mut second = trainer_on(&Device::Cpu, &others, dtype);
    step(&mut second);
    second.resume(&path).unwrap();
    assert_eq!((second.step_number(), second.validations().len()), (3, 3));
    let rest: Vec<_> = (0..3).map(|_| (step(&mut second), validate(&mut second))).collect();
    assert_eq!(rest, curve[3..], "{settings:?}, {dtype:?}");
    assert_eq!(second.validations(), whole.validations());
    assert_eq!(weights(&second), weights(&whole), "{settings:?}, {dtype:?}");
    assert_eq!(tensors(&second), tensors(&whole), "{settings:?}, {dtype:?}");
}

#[test]
fn resumed_runs_are_those_that_were_never_interrupted() {
    for method in [TrainMethod::Full, lora(2)] {
        for dtype in [DType::F32, DType::BF16] {
            for optimizer_state in [OptimizerState::F32, OptimizerState::Int8] {
                let settings = settings(method.clone());
                interrupted(&TrainSettings { optimizer_state, ..settings }, dtype);
            }
        }
    }
}

#[test]
fn runs_are_the_same_on_any_number_of_threads() {
    for method in [TrainMethod::Full, lora(2)] {
        let found = [1, 3].map(|n_threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
            pool.install(|| {
                let mut trainer = trainer(&settings(method.clone()));
                let curve: Vec<TrainStep> = (0..3).map(|_| step(&mut trainer)).collect();
                (curve, weights(&trainer))
            })
        });
        assert!(found[0] == found[1], "{method:?}");
    }
}

#[test]
fn cancelled_steps_change_nothing_and_come_out_the_same_later() {
    for method in [TrainMethod::Full, lora(2)] {
        let mut undisturbed = trainer(&settings(method.clone()));
        let mut trainer = trainer(&settings(method.clone()));
        for _ in 0..3 {
            // In the second of two batches.
            let cancel = CancelToken::default();
            let n_reports = Mutex::new(0);
            let on_progress = |_: Progress| {
                *n_reports.lock().unwrap() += 1;
                cancel.cancel();
            };
            let before = (weights(&trainer), tensors(&trainer));
            if trainer.share().batches.len() == 2 {
                let result = trainer.step(&JobCtx::new(cancel.clone(), &on_progress));
                assert!(matches!(result, Err(TrainError::Cancelled(_))), "{result:?}");
                assert_eq!(*n_reports.lock().unwrap(), 1);
            }
            cancel.cancel();
            let job = JobCtx::new(cancel.clone(), &|_| {});
            assert!(matches!(trainer.step(&job), Err(TrainError::Cancelled(_))));
            assert!(matches!(trainer.validate(&job), Err(TrainError::Cancelled(_))));
            assert!(trainer.validations().is_empty());
            assert_eq!((weights(&trainer), tensors(&trainer)), before);
            assert_eq!(step(&mut trainer), step(&mut undisturbed), "{method:?}");
        }
        assert_eq!(weights(&trainer), weights(&undisturbed));
    }
}

#[test]
fn what_is_not_finite_stops_before_the_update() {
    for loss in [PreferenceLoss::Ipo, PreferenceLoss::Hinge] {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let mut trainer = trainer(&TrainSettings { loss, ..settings(TrainMethod::Full) });
            let good = trainer.reference.clone();
            step(&mut trainer);
            let before = weights(&trainer);
            for pair in trainer.reference.train.iter_mut().chain(&mut trainer.reference.validation)
            {
                pair[0] = value;
            }
            let result = trainer.step(&JobCtx::detached());
            let is_refused = matches!(
                result,
                Err(TrainError::NotFinite { step: 2, value, .. }) if !value.is_finite()
            );
            assert!(is_refused, "{loss:?}, {value}: {result:?}");
            assert_eq!((weights(&trainer), trainer.step_number()), (before, 1));
            let result = trainer.validate(&JobCtx::detached());
            assert!(matches!(result, Err(TrainError::NotFinite { step: 1, .. })), "{result:?}");
            trainer.reference = good;
            step(&mut trainer);
        }
    }
}

/// A rate far too high: what is saved before is good, and what is not a number is not saved.
#[test]
fn runs_that_explode_end_with_an_error_and_a_checkpoint_that_is_good() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("good.safetensors");
    let settings = TrainSettings { learning_rate: 1e38, ..settings(TrainMethod::Full) };
    let mut trainer = trainer(&settings);
    step(&mut trainer);
    trainer.save(&path).unwrap();
    let good = fs::read(&path).unwrap();
    let mut outcome = Ok(());
    while outcome.is_ok() {
        assert!(!trainer.is_finished());
        outcome = trainer.step(&JobCtx::detached()).map(|_| ());
        outcome = outcome.and_then(|()| trainer.save(&path));
        if outcome.is_ok() {
            fs::write(&path, &good).unwrap();
        }
    }
    assert!(matches!(outcome, Err(TrainError::NotFinite { .. })), "{outcome:?}");
    assert_eq!(fs::read(&path).unwrap(), good);
}

/// What resuming would refuse is not written either.
#[test]
fn checkpoint_with_moments_that_are_no_numbers_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    for optimizer_state in [OptimizerState::F32, OptimizerState::Int8] {
        for value in [f32::NAN, f32::INFINITY] {
            let settings = TrainSettings { optimizer_state, ..settings(lora(2)) };
            let mut trainer = trainer(&settings);
            step(&mut trainer);
            let parameter = &mut trainer.optimizer.parameters_mut()[0];
            let values = parameter.values().unwrap();
            let n = values.len();
            let broken = match optimizer_state {
                OptimizerState::F32 => Moments::F32 { m: vec![0.0; n], v: vec![value; n] },
                OptimizerState::Int8 => {
                    let [m, mut v] = [n, n].map(Quantised::zeros);
                    v.scales[0] = value;
                    Moments::Int8 { m, v }
                }
            };
            parameter.restore(&values, broken).unwrap();
            let result = trainer.save(&path);
            assert!(matches!(result, Err(TrainError::NotFinite { step: 1, .. })), "{result:?}");
            assert!(!path.exists());
        }
    }
}

#[test]
fn ranks_beyond_all_matrices_are_refused() {
    for (rank, is_refused) in [(1, false), (1 << 20, true), (1 << 62, true), (usize::MAX, true)] {
        let method = TrainMethod::Lora { rank, alpha: 8.0, targets: Vec::new() };
        let result = check_rank(tiny_decoder(1, DType::F32).config(), &settings(method.clone()));
        assert_eq!(result.is_err(), is_refused, "{result:?}");
        let (decoder, pairs) = (tiny_decoder(1, DType::F32), pair_set(5, 2));
        let reference = Reference { train: vec![[0.0; 2]; 10], validation: vec![[0.0; 2]; 4] };
        let result = new_trainer(decoder, pairs, reference, &settings(method));
        let is_rank = matches!(result, Err(TrainError::Rank { .. }));
        assert_eq!(is_rank, is_refused);
    }
}

#[test]
fn patience_ends_at_validations_that_are_no_lower() {
    let mut trainer = trainer(&settings(lora(2)));
    let cases: [(Option<usize>, &[f64], bool); 8] = [
        (Some(2), &[], false),
        (Some(2), &[3.0, 2.0], false),
        (Some(2), &[3.0, 2.0, 2.5], false),
        (Some(2), &[3.0, 2.0, 2.0, 2.0], true),
        (Some(2), &[3.0, 2.0, 2.5, 1.9, 2.0], false),
        (Some(1), &[3.0, 3.5], true),
        (Some(3), &[1.0, 1.1, 1.2, 1.3], true),
        (None, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], false),
    ];
    for (patience, losses, expected) in cases {
        trainer.settings.patience = patience;
        let validation = |loss: &f64| TrainValidation { loss: *loss, ..TrainValidation::default() };
        trainer.validations = losses.iter().map(validation).collect();
        assert_eq!(trainer.stops_early(), expected, "{patience:?}, {losses:?}");
    }
}

#[test]
fn nothing_held_back_is_told() {
    let decoder = tiny_decoder(1, DType::F32);
    let pairs = pair_set(5, 0);
    let reference = reference(&decoder, &pairs);
    let mut trainer = new_trainer(decoder, pairs, reference, &settings(lora(2))).unwrap();
    let result = trainer.validate(&JobCtx::detached());
    assert!(matches!(result, Err(TrainError::NothingHeldBack)) && !trainer.stops_early());
}

#[test]
fn references_can_be_gone_on_with() {
    let decoder = tiny_decoder(1, DType::F32);
    let pairs = pair_set(11, 0).train;
    let job = JobCtx::detached();
    let whole = reference_log_probs(&decoder, &pairs, &mut |_| {}, &job).unwrap();
    for ((pair, reference), index) in pairs.iter().zip(&whole).zip(0..) {
        let alone = decoder.score(slice::from_ref(&pair.question), &mut |_| {}, &job).unwrap();
        for (tokens, sum) in alone[0].iter().zip(reference) {
            let expected: f32 = tokens.iter().sum();
            assert!((f64::from(expected) - sum).abs() < 1e-3, "pair {index}: {sum}");
        }
    }
    let cancel = CancelToken::default();
    let n_batches = Cell::new(0);
    let mut kept = Vec::new();
    let mut on_done = |found: &[[f64; 2]]| {
        kept.extend_from_slice(found);
        n_batches.set(n_batches.get() + 1);
        if n_batches.get() == 2 {
            cancel.cancel();
        }
    };
    let result =
        reference_log_probs(&decoder, &pairs, &mut on_done, &JobCtx::new(cancel.clone(), &|_| {}));
    assert!(matches!(result, Err(TrainError::Cancelled(_))) && kept.len() == 16);
    let rest = reference_log_probs(&decoder, &pairs[16..], &mut |_| {}, &job).unwrap();
    kept.extend(rest);
    assert_eq!(kept, whole);
}

/// A folder with a checkpoint behind the second step.
fn checkpoint(settings: &TrainSettings) -> (TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    let mut trainer = trainer(settings);
    step(&mut trainer);
    step(&mut trainer);
    trainer.save(&path).unwrap();
    (folder, path)
}

/// What `trainer` refuses the file with, having been left as it was.
fn refusal(trainer: &mut Trainer, path: &Path) -> TrainError {
    let before = (weights(trainer), tensors(trainer), trainer.step_number());
    let err = trainer.resume(path).unwrap_err();
    assert!(before == (weights(trainer), tensors(trainer), trainer.step_number()), "{err:?}");
    assert!(matches!(&err, TrainError::Checkpoint { path: named, .. } if named == path));
    err
}

#[test]
fn checkpoints_of_other_runs_are_refused_by_what_differs() {
    type Change = fn(&mut TrainSettings);
    let settings = settings(lora(2));
    let (_folder, path) = checkpoint(&settings);
    let cases: [(&str, Change); 6] = [
        ("learning_rate: 0.02 there, 0.5 here", |it| it.learning_rate = 0.5),
        ("seed: 0 there, 9 here", |it| it.seed = 9),
        ("method", |it| it.method = lora(4)),
        ("max_steps: null there, 9 here", |it| it.max_steps = Some(9)),
        ("optimizer_state: \"f32\" there", |it| it.optimizer_state = OptimizerState::Int8),
        ("loss: \"ipo\" there, \"hinge\" here", |it| it.loss = PreferenceLoss::Hinge),
    ];
    for (expected, change) in cases {
        let mut other = settings.clone();
        change(&mut other);
        let found = chain(&refusal(&mut trainer(&other), &path));
        assert!(found.contains(&format!("it was made with another {expected}")), "{found}");
    }
    let decoder = tiny_decoder(2, DType::F32);
    let other = new_trainer(decoder, pair_set(5, 2), Reference::default(), &settings);
    assert!(other.is_err());
    for (decoder, pairs, expected) in [
        (tiny_decoder(2, DType::F32), pair_set(5, 2), "model"),
        (tiny_decoder(1, DType::BF16), pair_set(5, 2), "model"),
        (tiny_decoder(1, DType::F32), pair_set(6, 2), "data"),
    ] {
        let reference = reference(&decoder, &pairs);
        let mut trainer = new_trainer(decoder, pairs, reference, &settings).unwrap();
        let found = chain(&refusal(&mut trainer, &path));
        assert!(found.contains(&format!("it was made with another {expected}: ")), "{found}");
    }
}

/// The header of a file, what `change` makes of it, and the tensors as they were.
fn with_header(file: &[u8], change: impl Fn(&mut serde_json::Value)) -> Vec<u8> {
    let len = u64::from_le_bytes(*file.first_chunk().unwrap()) as usize;
    let mut header = serde_json::from_slice(&file[8..8 + len]).unwrap();
    change(&mut header);
    broken::with_header(&header.to_string(), &file[8 + len..])
}

/// A file whose state has another value.
fn with_state(file: &[u8], key: &str, value: &serde_json::Value) -> Vec<u8> {
    with_header(file, |header| {
        let state = header["__metadata__"]["meav.train"].as_str().unwrap();
        let mut state: serde_json::Value = serde_json::from_str(state).unwrap();
        state[key] = value.clone();
        header["__metadata__"]["meav.train"] = state.to_string().into();
    })
}

/// A file in which the first value of a tensor is another.
fn with_value(file: &[u8], tensor: &str, value: f32) -> Vec<u8> {
    let len = u64::from_le_bytes(*file.first_chunk().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&file[8..8 + len]).unwrap();
    let start = 8 + len + header[tensor]["data_offsets"][0].as_u64().unwrap() as usize;
    let mut file = file.to_vec();
    file[start..start + 4].copy_from_slice(&value.to_le_bytes());
    file
}

#[test]
fn hostile_checkpoints_are_refused_and_leave_the_run_as_it_was() {
    const A: &str = "model.layers.0.mlp.up_proj.weight.lora_A";
    for state in [OptimizerState::F32, OptimizerState::Int8] {
        let settings = TrainSettings { optimizer_state: state, ..settings(lora(2)) };
        let (folder, path) = checkpoint(&settings);
        let good = fs::read(&path).unwrap();
        let square = match state {
            OptimizerState::F32 => format!("{A}.exp_avg_sq"),
            OptimizerState::Int8 => format!("{A}.exp_avg_sq.scales"),
        };
        let renamed = with_header(&good, |header| {
            let header = header.as_object_mut().unwrap();
            let entry = header.remove(A).unwrap();
            header.insert("other".to_owned(), entry);
        });
        let reshaped = with_header(&good, |header| {
            let shape = header[A]["shape"].as_array_mut().unwrap();
            shape.reverse();
        });
        let named = |file: Vec<u8>, expected: &str| (expected.to_owned(), file);
        let mut cases = vec![
            named(with_state(&good, "format", &2.into()), "it has format 2, only 1 is known"),
            named(with_state(&good, "step", &999.into()), "it is at step 999 of 12"),
            named(with_state(&good, "step", &(-1).into()), "its state is damaged"),
            named(with_state(&good, "settings", &"".into()), "its state is damaged"),
            named(with_header(&good, |it| it["__metadata__"] = serde_json::json!({})), "it has no"),
            named(renamed, &format!("tensor {A:?} is missing")),
            named(reshaped, &format!("tensor {A:?} is F32 [64, 2], it should be F32 [2, 64]")),
            named(with_value(&good, A, f32::NAN), "impossible value NaN"),
            named(with_value(&good, A, f32::INFINITY), "impossible value inf"),
            named(with_value(&good, &square, -1.0), "impossible value -1"),
            named(with_value(&good, &square, f32::NAN), "impossible value NaN"),
            named(good[..good.len() - 5].to_vec(), "cut short"),
        ];
        for (name, file) in broken::all() {
            assert!(!name.is_empty());
            cases.push((String::new(), file));
        }
        cases.push((String::new(), broken::integers()));
        let mut trainer = trainer(&settings);
        step(&mut trainer);
        let hostile = folder.path().join("hostile.safetensors");
        for (expected, file) in cases {
            fs::write(&hostile, &file).unwrap();
            let found = chain(&refusal(&mut trainer, &hostile));
            assert!(found.contains(&expected), "{found}, not {expected}");
        }
        let missing = folder.path().join("nowhere.safetensors");
        refusal(&mut trainer, &missing);
        trainer.resume(&path).unwrap();
        assert_eq!(trainer.step_number(), 2);
    }
}

#[test]
fn read_only_folder_is_an_error_that_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let blocked = folder.path().join("file");
    fs::write(&blocked, "").unwrap();
    let result = trainer(&settings(lora(1))).save(&blocked.join("checkpoint.safetensors"));
    assert!(matches!(result, Err(TrainError::Weights(_))), "{result:?}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// Every family trains, Phi-3's fused projections and Gemma's norms included.
#[test]
fn every_family_learns() {
    for case in &families().cases {
        for method in [TrainMethod::Full, lora(2)] {
            let decoder = family(case);
            let vocab = decoder.config().vocab_size;
            let mut pairs = pair_set(5, 1);
            for pair in pairs.train.iter_mut().chain(&mut pairs.validation) {
                let Question { prompt, responses } = &mut pair.question;
                for token in prompt.iter_mut().chain(responses.iter_mut().flatten()) {
                    *token %= vocab as u32;
                }
            }
            let reference = reference(&decoder, &pairs);
            let mut trainer = new_trainer(decoder, pairs, reference, &settings(method)).unwrap();
            let losses: Vec<f64> = (0..12).map(|_| step(&mut trainer).loss).collect();
            let (first, last) = (losses[..3].iter().sum::<f64>(), losses[9..].iter().sum::<f64>());
            assert!(last < first, "{}: {losses:?}", case.name);
        }
    }
}
