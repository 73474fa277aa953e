use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::slice;
use std::sync::Arc;
use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use half::bf16;
use meav_eval::QuestionSet;
use meav_job::{Cancelled, JobCtx};
use meav_model::{Decoder, Generator, KvCache, Logits, ModelError, ModelFiles, Question, Sampling};
use meav_protocol::{BenchReport, BenchSpec, Dtype, Fact, Measure, SeededKind, Setup, Stage};
use meav_vector::{
    AlignmentVector, Delta, LiveWeights, LowRank, Method, Sign, Sparse, Term, VectorError,
    VectorHeader, VectorKind, VectorOrigin,
};
use meav_weights::{Fingerprint, Weight};
use rayon::prelude::*;

use super::bench_train::{TrainSubject, bench_train};
use crate::convert::{kind_name, weights_dtype};
use crate::error::EngineError;
use crate::measuring::Measuring;
use crate::plan::{Placement, PlannedVector};
use crate::worker::{Running, Worker};

/// Times each thing is measured; the median counts.
const ROUNDS: usize = 9;

/// Bytes that are copied at least. A copy must not fit into any cache for its speed to be the
/// memory's.
const MIN_COPY_BYTES: usize = 160 << 20;

/// Vectors that a merge is measured with.
const MERGE_VECTORS: usize = 3;

/// Measures on this machine, as it is: nothing else should be running.
pub(crate) fn bench(
    worker: &mut Worker,
    spec: &BenchSpec,
    running: &Running<'_>,
) -> Result<(), EngineError> {
    // The figures should not depend on what was loaded before, nor memory hold it twice.
    worker.unload(running.job_id);
    let report = match spec {
        BenchSpec::Merge { setup, seeded } => bench_merge(worker, setup, *seeded, running)?,
        BenchSpec::Decode { setup } => bench_decode(worker, setup, running)?,
        BenchSpec::Score { setup, data } => bench_score(worker, setup, data, running)?,
        BenchSpec::Train { model, method, dtype, checkpointing, pairs, tokens } => {
            let (dtype, checkpointing) = (*dtype, *checkpointing);
            let (pairs, tokens) = (*pairs, *tokens);
            let subject = TrainSubject { model, method, dtype, checkpointing, pairs, tokens };
            bench_train(worker, subject, running)?
        }
    };
    running.fact(Fact::Bench(report));
    Ok(())
}

/// Rounds that scoring is measured in; the median counts.
const SCORE_ROUNDS: usize = 3;

/// Preference records scored together, against a forward pass for each response.
fn bench_score(
    worker: &mut Worker,
    setup: &Setup,
    data: &[PathBuf],
    running: &Running<'_>,
) -> Result<BenchReport, EngineError> {
    let mut measuring = Measuring::open(worker, setup, data, None, running)?;
    let mut merge_secs = running.stage(Stage::Merging, |job| merges(&mut measuring, job))?;
    let decoder = &measuring.loaded.decoder;
    let questions: Vec<&[Question]> = measuring.sets().iter().map(QuestionSet::questions).collect();
    let alone: Vec<Question> = questions
        .iter()
        .copied()
        .flatten()
        .flat_map(|Question { prompt, responses }| {
            let question = |response: &Vec<u32>| Question {
                prompt: prompt.clone(),
                responses: vec![response.clone()],
            };
            responses.iter().map(question)
        })
        .collect();
    let (mut together_secs, mut alone_secs) = (Vec::new(), Vec::new());
    running.stage(Stage::Measuring, |job| {
        let quiet = job.without_progress();
        for round in 0..SCORE_ROUNDS {
            job.tick(round, SCORE_ROUNDS)?;
            let start = Instant::now();
            for set in measuring.sets() {
                set.ask(decoder, &mut Vec::new(), |_| {}, &quiet)?;
            }
            together_secs.push(start.elapsed().as_secs_f64());
            let start = Instant::now();
            for question in &alone {
                decoder.score(slice::from_ref(question), &mut |_| {}, &quiet)?;
            }
            alone_secs.push(start.elapsed().as_secs_f64());
        }
        Ok::<_, EngineError>(())
    })?;
    let (together, alone_secs) = (median(&mut together_secs), median(&mut alone_secs));
    let tokens: usize = alone.iter().map(|it| it.prompt.len() + it.responses[0].len()).sum();
    let n_records: usize = questions.iter().map(|set| set.len()).sum();
    let mut measures = vec![
        measure("records", n_records as f64, "records"),
        measure("responses", alone.len() as f64, "responses"),
        measure("tokens of prompts and responses", tokens as f64, "tokens"),
        measure("together, prompts shared", together, "s"),
        measure("one pass for each response", alone_secs, "s"),
        measure("ratio", alone_secs / together, "x"),
        measure("records per second", n_records as f64 / together, "records/s"),
    ];
    if !merge_secs.is_empty() {
        let points = 60.0 / (median(&mut merge_secs) + together);
        measures.push(measure("points of a sweep", points, "points/min"));
    }
    let loaded = &measuring.loaded;
    let name =
        format!("Scoring, {}, {}, {}", loaded.files.name, setup.dtype, loaded.compute.name());
    Ok(BenchReport { name, measures })
}

/// Seconds that each of some changes of the vectors' λ takes, if there are vectors; the last one is that
/// of the setup.
fn merges(measuring: &mut Measuring, job: &JobCtx<'_>) -> Result<Vec<f64>, EngineError> {
    let Measuring { loaded, method, terms, .. } = measuring;
    let mut secs = Vec::new();
    for round in (0..=SCORE_ROUNDS).rev() {
        let move_by = |term: &Term| {
            let coefficient = term.coefficient + 0.1 * round as f64;
            Term { coefficient, ..term.clone() }
        };
        let moved: Vec<Term> = terms.iter().map(move_by).collect();
        let start = Instant::now();
        loaded.apply(*method, &moved, &job.without_progress())?;
        // The first one finds nothing in its place.
        if round < SCORE_ROUNDS && !terms.is_empty() {
            secs.push(start.elapsed().as_secs_f64());
        }
    }
    Ok(secs)
}

/// What both measurements start from.
struct Subject {
    files: ModelFiles,
    weights: BTreeMap<String, Weight>,
    terms: Vec<Term>,
    load_secs: f64,
    placed: Placement,
}

impl Subject {
    /// Adds seeded vectors until there are as many as are merged.
    fn seed_vectors(&mut self, kind: SeededKind, running: &Running<'_>) -> Result<(), EngineError> {
        while self.terms.len() < MERGE_VECTORS {
            let seed = self.terms.len() as u64;
            let vector = running
                .stage(Stage::Loading, |job| seeded_vector(&self.weights, kind, seed, job))?;
            self.terms.push(Term::new(Arc::new(vector), 0.0));
        }
        Ok(())
    }

    fn live(&self, dtype: Dtype, running: &Running<'_>) -> Result<LiveWeights, VectorError> {
        let Placement { compute, residency, .. } = &self.placed;
        let (weights, dtype) = (self.weights.clone(), weights_dtype(dtype));
        running.stage(Stage::Loading, |job| {
            LiveWeights::with_residency(weights, dtype, compute.device(), *residency, job)
        })
    }
}

/// Reads the model of `setup` and its vectors, if memory holds them beside live weights in `dtype`
/// and the vectors that will be seeded.
fn load(
    worker: &Worker,
    setup: &Setup,
    dtype: Dtype,
    seeded: Option<SeededKind>,
    running: &Running<'_>,
) -> Result<Subject, EngineError> {
    let start = Instant::now();
    let files = ModelFiles::open(&worker.folders.model(&setup.model)?)?;
    let mut vectors = worker.planned_vectors(&setup.vectors);
    if let Some(kind) = seeded {
        let missing = setup.vectors.len()..MERGE_VECTORS;
        vectors.extend(missing.map(|_| planned_seeded(&files, kind)));
    }
    let placed = worker.place(&files, dtype, &vectors)?;
    if let Some(note) = &placed.note {
        running.fact(Fact::Note(note.clone()));
    }
    let weights = running.stage(Stage::Loading, |job| files.load_weights(job))?;
    let load_secs = start.elapsed().as_secs_f64();
    let terms = worker.open_terms(&setup.vectors, &files, running)?;
    Ok(Subject { files, weights, terms, load_secs, placed })
}

fn bench_merge(
    worker: &Worker,
    setup: &Setup,
    seeded: SeededKind,
    running: &Running<'_>,
) -> Result<BenchReport, EngineError> {
    let mut subject = load(worker, setup, setup.dtype, Some(seeded), running)?;
    subject.seed_vectors(seeded, running)?;
    let mut terms = subject.terms.clone();
    let kinds: Vec<_> = terms.iter().map(|term| kind_name(term.vector.kind)).collect();
    let mut live = subject.live(setup.dtype, running)?;
    let mut copy = Copy::new(subject.placed.compute.device())?;
    let mut copies = Vec::new();
    let mut merges = Vec::new();
    let mut report = meav_vector::MergeReport::default();
    running.stage(Stage::Measuring, |job| {
        for round in 0..=ROUNDS {
            job.tick(round, ROUNDS + 1)?;
            let copy_secs = copy.run()?;
            for (index, term) in terms.iter_mut().enumerate() {
                // Another λ each time: what stays the same is not recomputed.
                term.coefficient = 0.1 * (index + 1) as f64 + 0.01 * round as f64;
            }
            let start = Instant::now();
            report = live.apply(Method::TaskArithmetic, &terms, job)?;
            let merge = start.elapsed().as_secs_f64();
            // The first round touches the memory for the first time.
            if round > 0 {
                copies.push(copy_secs);
                merges.push(merge);
            }
        }
        Ok::<(), EngineError>(())
    })?;
    let copy_rate = 2.0 * copy.len() as f64 / median(&mut copies) / 1e9;
    let merge_secs = median(&mut merges);
    let merge_rate = report.bytes as f64 / merge_secs / 1e9;
    Ok(BenchReport {
        name: format!(
            "merge of {} vectors into {} on {}",
            kinds.join(", "),
            setup.dtype,
            subject.placed.compute.name()
        ),
        measures: vec![
            measure("merge", merge_secs * 1e3, "ms"),
            measure("tensors", report.tensors as f64, ""),
            measure("bytes read and written", report.bytes as f64 / 1e9, "GB"),
            measure("merge bandwidth", merge_rate, "GB/s"),
            measure("copy bandwidth", copy_rate, "GB/s"),
            measure("merge / copy", merge_rate / copy_rate, ""),
        ],
    })
}

/// Rank of seeded factors.
const SEEDED_RANK: usize = 16;

/// The share of elements that a seeded sparse vector has.
const SEEDED_DENSITY: f32 = 0.1;

/// A vector over all tensors, as full-parameter training gives, or over all matrices.
fn seeded_vector(
    weights: &BTreeMap<String, Weight>,
    kind: SeededKind,
    seed: u64,
    job: &JobCtx<'_>,
) -> Result<AlignmentVector, Cancelled> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut deltas = BTreeMap::new();
    for (index, (name, weight)) in weights.iter().enumerate() {
        job.tick(index, weights.len())?;
        let delta = seeded_delta(kind, weight.shape(), &mut random);
        deltas.extend(delta.map(|delta| (name.clone(), delta)));
    }
    Ok(AlignmentVector {
        path: PathBuf::new(),
        kind: vector_kind(kind),
        origin: VectorOrigin { domain: format!("seeded {seed}"), ..VectorOrigin::default() },
        fingerprint: Fingerprint::of_bytes(&seed.to_le_bytes()),
        deltas,
    })
}

fn vector_kind(kind: SeededKind) -> VectorKind {
    match kind {
        SeededKind::Dense => VectorKind::Dense,
        SeededKind::LowRank => VectorKind::LowRank,
        SeededKind::Sparse => VectorKind::Sparse,
        SeededKind::Sign => VectorKind::Sign,
    }
}

/// What a seeded vector will take.
fn planned_seeded(files: &ModelFiles, kind: SeededKind) -> PlannedVector {
    let names = files.weight_names();
    let infos = names.iter().filter_map(|name| files.checkpoint.info(name));
    let memory_bytes = infos.map(|info| seeded_bytes(kind, &info.shape)).sum();
    let (domain, kind) = ("seeded".to_owned(), vector_kind(kind));
    let header = VectorHeader { domain, kind, file_bytes: 0, memory_bytes };
    PlannedVector { file: PathBuf::new(), header }
}

/// About what [`seeded_delta`] takes.
fn seeded_bytes(kind: SeededKind, shape: &[usize]) -> u64 {
    let len: usize = shape.iter().product();
    let bytes = match (kind, shape) {
        (SeededKind::Dense, _) => len * size_of::<bf16>(),
        (SeededKind::LowRank, &[n_out, n_in]) => SEEDED_RANK * (n_out + n_in) * size_of::<f32>(),
        (SeededKind::Sparse, &[n_out, n_in]) => {
            let column = if n_in <= 1 << 16 { size_of::<u16>() } else { size_of::<u32>() };
            let kept = (len as f32 * SEEDED_DENSITY) as usize;
            (n_out + 1) * size_of::<u32>() + kept * (column + size_of::<bf16>())
        }
        (SeededKind::Sign, &[n_out, n_in]) => n_out * (n_in.div_ceil(32) + 1) * size_of::<u32>(),
        _ => 0,
    };
    bytes as u64
}

fn seeded_delta(kind: SeededKind, shape: &[usize], random: &mut fastrand::Rng) -> Option<Delta> {
    let mut values =
        |len: usize| -> Vec<f32> { (0..len).map(|_| random.f32() * 0.02 - 0.01).collect() };
    let len = shape.iter().product();
    match (kind, shape) {
        (SeededKind::Dense, _) => {
            let values = values(len).into_iter().map(bf16::from_f32).collect();
            Some(Delta::Dense(Weight::from_bf16(shape.to_vec(), values)))
        }
        (SeededKind::LowRank, &[n_out, n_in]) => Some(Delta::LowRank(LowRank {
            a: values(SEEDED_RANK * n_in),
            b: values(n_out * SEEDED_RANK),
            shape: [n_out, n_in],
            rank: SEEDED_RANK,
            scale: 1.0,
        })),
        (SeededKind::Sparse, &[_, _]) => {
            let mut values = values(len);
            for value in &mut values {
                if random.f32() >= SEEDED_DENSITY {
                    *value = 0.0;
                }
            }
            Sparse::from_dense(shape.to_vec(), &values, meav_weights::Dtype::Bf16)
                .map(Delta::Sparse)
        }
        (SeededKind::Sign, &[_, _]) => {
            Sign::from_dense(shape.to_vec(), &values(len)).map(Delta::Sign)
        }
        _ => None,
    }
}

/// Linux only: the largest cache of the first core.
fn last_level_cache_bytes() -> Option<usize> {
    let folder = Path::new("/sys/devices/system/cpu/cpu0/cache");
    let sizes = fs::read_dir(folder).ok()?.filter_map(|entry| {
        let text = fs::read_to_string(entry.ok()?.path().join("size")).ok()?;
        text.trim().strip_suffix('K')?.parse::<usize>().ok()
    });
    sizes.max().map(|kibibytes| kibibytes << 10)
}

/// A copy within the memory that is merged in, whose speed is what a merge is held against.
enum Copy {
    Memory { from: Vec<u8>, to: Vec<u8> },
    Gpu { from: Tensor, to: Tensor },
}

/// Bytes that are copied on a GPU, whose caches are larger.
const GPU_COPY_BYTES: usize = 1 << 30;

impl Copy {
    fn new(device: &Device) -> Result<Self, ModelError> {
        if device.is_cuda() {
            let bytes = || Tensor::zeros(GPU_COPY_BYTES, DType::U8, device);
            return Ok(Self::Gpu { from: bytes()?, to: bytes()? });
        }
        let len = last_level_cache_bytes().map_or(0, |cache| 5 * cache).max(MIN_COPY_BYTES);
        Ok(Self::Memory { from: vec![1; len], to: vec![0; len] })
    }

    fn len(&self) -> usize {
        match self {
            Self::Memory { from, .. } => from.len(),
            Self::Gpu { from, .. } => from.elem_count(),
        }
    }

    /// Seconds that it takes.
    fn run(&mut self) -> Result<f64, ModelError> {
        let start = Instant::now();
        match self {
            Self::Memory { from, to } => {
                let part = from.len().div_ceil(rayon::current_num_threads());
                to.par_chunks_mut(part)
                    .zip(from.par_chunks(part))
                    .for_each(|(to, from)| to.copy_from_slice(from));
            }
            Self::Gpu { from, to } => {
                meav_cuda::copy_on_device(from, to)?;
                to.device().synchronize()?;
            }
        }
        Ok(start.elapsed().as_secs_f64())
    }
}

/// Tokens of the prompt that decoding starts from.
const SHORT_PROMPT: usize = 60;

/// Tokens of the prompt that a change of λ is answered behind.
const TURN_PROMPT: usize = 100;

/// Tokens of the prompt whose reading is measured.
const LONG_PROMPT: usize = 512;

/// Tokens that are decoded.
const DECODED: usize = 129;

/// One dtype of the same model.
struct Contestant {
    dtype: Dtype,
    live: LiveWeights,
    decoder: Decoder,
    generator: Generator,
    decode: Vec<f64>,
    prefill: Vec<f64>,
    turn: Vec<f64>,
}

fn bench_decode(
    worker: &Worker,
    setup: &Setup,
    running: &Running<'_>,
) -> Result<BenchReport, EngineError> {
    let (subject, dtypes) = contested(worker, setup, running)?;
    let Subject { files, terms, load_secs, placed, .. } = &subject;
    let compute = &placed.compute;
    let mut contestants = Vec::new();
    for dtype in dtypes {
        let live = subject.live(dtype, running)?;
        let decoder = Decoder::new(&files.config, live.tensors())?;
        contestants.push(Contestant {
            dtype,
            live,
            decoder,
            generator: Generator::default(),
            decode: Vec::new(),
            prefill: Vec::new(),
            turn: Vec::new(),
        });
    }
    let rounds = ROUNDS / 2;
    running.stage(Stage::Measuring, |job| {
        for round in 0..=rounds {
            for contestant in &mut contestants {
                job.tick(round, rounds + 1)?;
                contestant.run(files, terms, round, job)?;
            }
        }
        Ok::<(), EngineError>(())
    })?;
    let mut measures = vec![measure("opening and reading the model", *load_secs, "s")];
    let mut decode_rates = Vec::new();
    for contestant in &mut contestants {
        let Contestant { dtype, decode, prefill, turn, .. } = contestant;
        let decode_rate = (DECODED - 1) as f64 / median(decode);
        let prefill_rate = LONG_PROMPT as f64 / median(prefill);
        decode_rates.push(decode_rate);
        measures.push(measure(&format!("decode, {dtype}"), decode_rate, "tokens/s"));
        let name = format!("prefill of {LONG_PROMPT}, {dtype}");
        measures.push(measure(&name, prefill_rate, "tokens/s"));
        let name = format!("changed λ to first token behind {TURN_PROMPT}, {dtype}");
        measures.push(measure(&name, median(turn) * 1e3, "ms"));
    }
    if let [f32, bf16] = decode_rates[..] {
        measures.push(measure("decode, bf16 / f32", bf16 / f32, ""));
    }
    Ok(BenchReport { name: format!("decode of {} on {}", files.name, compute.name()), measures })
}

/// The model in both types, or where there is room for one only in the smaller one.
fn contested(
    worker: &Worker,
    setup: &Setup,
    running: &Running<'_>,
) -> Result<(Subject, Vec<Dtype>), EngineError> {
    let seeded = setup.vectors.is_empty().then_some(SeededKind::LowRank);
    let (mut subject, dtypes) = match load(worker, setup, Dtype::F32, seeded, running) {
        Ok(subject) if subject.placed.has_room_for_another() => {
            (subject, vec![Dtype::F32, Dtype::Bf16])
        }
        Ok(_) | Err(EngineError::OutOfMemory { .. }) => {
            (load(worker, setup, Dtype::Bf16, seeded, running)?, vec![Dtype::Bf16])
        }
        Err(err) => return Err(err),
    };
    if let Some(kind) = seeded {
        subject.seed_vectors(kind, running)?;
    }
    Ok((subject, dtypes))
}

impl Contestant {
    /// Measures each figure once; the first round warms up.
    fn run(
        &mut self,
        files: &ModelFiles,
        terms: &[Term],
        round: usize,
        job: &JobCtx<'_>,
    ) -> Result<(), EngineError> {
        let vocabulary = files.config.vocab_size;
        let tokens: Vec<u32> =
            (0..LONG_PROMPT).map(|i| ((i * 7919 + 13) % vocabulary) as u32).collect();
        let device = self.decoder.device();
        let mut cache = KvCache::new(&files.config, LONG_PROMPT, device)?;
        let start = Instant::now();
        self.decoder.forward(&tokens, &mut cache, Logits::Last, job)?;
        device.synchronize().map_err(ModelError::from)?;
        let prefill = start.elapsed().as_secs_f64();

        let start = Instant::now();
        let moved: Vec<Term> = terms
            .iter()
            .map(|term| Term { coefficient: 0.5 + 0.1 * round as f64, ..term.clone() })
            .collect();
        self.live.apply(Method::TaskArithmetic, &moved, job)?;
        self.generator.reset();
        self.generate(files, &tokens[..TURN_PROMPT], 1, job)?;
        let turn = start.elapsed().as_secs_f64();

        let decode = self.generate(files, &tokens[..SHORT_PROMPT], DECODED, job)?;
        if round > 0 {
            self.prefill.push(prefill);
            self.turn.push(turn);
            self.decode.push(decode);
        }
        Ok(())
    }

    /// Seconds from the first token to the last.
    fn generate(
        &mut self,
        files: &ModelFiles,
        prompt: &[u32],
        max_tokens: usize,
        job: &JobCtx<'_>,
    ) -> Result<f64, EngineError> {
        let greedy = Sampling {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repeat_penalty: 1.0,
            repeat_last_n: 0,
            seed: 0,
        };
        let generation = self.generator.generate(
            &self.decoder,
            &files.tokenizer,
            &[],
            prompt,
            &greedy,
            max_tokens,
            &mut |_, _| {},
            job,
        )?;
        Ok(generation.decoding.as_secs_f64())
    }
}

pub(super) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

pub(super) fn measure(name: &str, value: f64, unit: &str) -> Measure {
    Measure { name: name.to_owned(), value, unit: unit.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeded_vectors_take_what_is_planned() {
        let mut random = fastrand::Rng::with_seed(1);
        for kind in [SeededKind::Dense, SeededKind::LowRank, SeededKind::Sparse, SeededKind::Sign] {
            let shape = [192, 320];
            let delta = seeded_delta(kind, &shape, &mut random).unwrap();
            let (real, planned) = (delta.size_bytes() as f64, seeded_bytes(kind, &shape) as f64);
            assert!((real / planned - 1.0).abs() < 0.05, "{kind:?}: {real}, planned {planned}");
        }
    }
}
