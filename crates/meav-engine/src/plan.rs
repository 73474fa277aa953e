//! What memory a model with its vectors takes, from the headers of its files.

use std::path::{Path, PathBuf};

use meav_model::ModelFiles;
use meav_protocol::{Dtype, MemoryPlan, Place, PlanChange, PlanPart, WayOut};
use meav_vector::{Residency, VectorHeader, VectorKind};
use meav_weights::{Checkpoint, available_memory_bytes};

use crate::compute::Compute;
use crate::convert::{kind_name, weights_dtype};
use crate::error::EngineError;
use crate::one_line::{NAME_CHARS, one_line};

/// Room for activations and the program itself.
const OVERHEAD_BYTES: u64 = 256 << 20;

/// Tokens that a conversation is given room for; it grows beyond them, up to the model's limit.
const PLANNED_TOKENS: usize = 4096;

/// What the driver and its libraries take of a GPU.
pub(crate) const GPU_OVERHEAD_BYTES: u64 = 512 << 20;

/// A vector that is smaller is not worth compressing for the memory it takes.
const WORTH_COMPRESSING_BYTES: u64 = 64 << 20;

/// A vector of the plan.
pub(crate) struct PlannedVector {
    /// As the request names it.
    pub(crate) file: PathBuf,
    pub(crate) header: VectorHeader,
}

impl PlannedVector {
    /// What it takes; its file where its values stay there.
    pub(crate) fn part(&self) -> PlanPart {
        let VectorHeader { domain, kind, file_bytes, memory_bytes } = &self.header;
        let (place, bytes) = match memory_bytes {
            0 => (Place::MappedFile, file_bytes),
            bytes => (Place::Memory, bytes),
        };
        let (name, form) = (one_line(domain, NAME_CHARS), kind_name(*kind).to_owned());
        PlanPart { name, form, place, bytes: *bytes }
    }

    /// Bytes of its values, wherever they are.
    pub(crate) fn value_bytes(&self) -> u64 {
        self.header.memory_bytes.max(self.header.file_bytes)
    }

    /// What a copy of it on a GPU takes.
    fn gpu_part(&self) -> PlanPart {
        PlanPart { place: Place::Gpu, bytes: self.value_bytes(), ..self.part() }
    }
}

/// A model that is to be planned for.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) files: &'a ModelFiles,
    pub(crate) dtype: Dtype,
    pub(crate) vectors: &'a [PlannedVector],
}

/// Where a model is to run, and what that takes.
pub(crate) struct Placement {
    pub(crate) compute: Compute,
    /// What stays on a GPU.
    pub(crate) residency: Residency,
    pub(crate) plan: MemoryPlan,
    /// What a person should know of the choice.
    pub(crate) note: Option<String>,
}

/// What may stay on a GPU, the fastest first.
const RESIDENCIES: [Residency; 3] = [
    Residency::ALL,
    Residency { base: true, vectors: false },
    Residency { base: false, vectors: false },
];

/// Finds where a model fits: on `compute`, with as much of it there as there is room for, or else on
/// the processor. `freed` bytes are given back before it is loaded. The plan says whether it fits
/// there.
pub(crate) fn place(subject: Subject<'_>, compute: &Compute, freed: u64) -> Placement {
    let available = compute.available_bytes().map(|available| available.saturating_add(freed));
    if !compute.is_gpu() {
        let plan = subject.plan(None, available);
        let note = compute.fault().map(str::to_owned);
        let (compute, residency) = (compute.clone(), Residency::ALL);
        return Placement { compute, residency, plan, note };
    }
    if let Some((residency, plan)) = fit_on_gpu(subject, available) {
        let (compute, note) = (compute.clone(), streaming_note(residency));
        return Placement { compute, residency, plan, note };
    }
    let least = subject.plan(Some(RESIDENCIES[RESIDENCIES.len() - 1]), available);
    let note = format!(
        "it runs on the processor: {} of the GPU's memory are free, and it takes {} even with its \
         base and vectors kept out",
        gigabytes(available.unwrap_or(0)),
        gigabytes(least.needed_bytes)
    );
    let plan = subject.plan(None, available_memory_bytes());
    Placement { compute: Compute::cpu(), residency: Residency::ALL, plan, note: Some(note) }
}

/// As much as fits into what is available of a GPU's memory, if the live weights do.
fn fit_on_gpu(subject: Subject<'_>, available: Option<u64>) -> Option<(Residency, MemoryPlan)> {
    let plans = RESIDENCIES.map(|residency| (residency, subject.plan(Some(residency), available)));
    plans.into_iter().find(|(_, plan)| plan.fits() && fits_in_memory(plan))
}

/// Whether there is room for what stays in memory beside the GPU.
fn fits_in_memory(plan: &MemoryPlan) -> bool {
    let bytes =
        in_memory(plan.parts.clone()).iter().map(|part| part.bytes).fold(0, u64::saturating_add);
    available_memory_bytes().is_none_or(|available| bytes <= available)
}

pub(crate) fn streaming_note(residency: Residency) -> Option<String> {
    let what = match residency {
        Residency { base: true, vectors: true } => return None,
        Residency { base: true, vectors: false } => "the vectors do",
        Residency { base: false, .. } => "base and vectors do",
    };
    Some(format!(
        "{what} not fit on the GPU beside the live weights: they go through it at each turn of a knob"
    ))
}

fn gigabytes(bytes: u64) -> String {
    format!("{:.1} GB", bytes as f64 / 1e9)
}

impl Placement {
    /// Whether more free memory of a GPU, `wanted`, would make it faster.
    pub(crate) fn is_makeshift_on(&self, wanted: &Compute) -> bool {
        wanted.is_gpu() && !(self.compute.is_gpu() && self.residency == Residency::ALL)
    }

    /// Whether as much again fits on the GPU; in memory what is needed at once stays below the sum.
    pub(crate) fn has_room_for_another(&self) -> bool {
        let needed = self.plan.needed_bytes.saturating_mul(2);
        !self.compute.is_gpu() || self.plan.available_bytes.is_none_or(|it| needed <= it)
    }

    /// Refuses what the plan says does not fit, and types that the device does not compute in.
    ///
    /// # Errors
    ///
    /// [`EngineError::OutOfMemory`] or [`EngineError::HalfOnCpu`].
    pub(crate) fn check(self, dtype: Dtype) -> Result<Self, EngineError> {
        if dtype == Dtype::F16 && !self.compute.is_gpu() {
            return Err(EngineError::HalfOnCpu);
        }
        match self.plan.available_bytes {
            Some(available) if !self.plan.fits() => {
                let as_bf16 = PlanChange::Dtype(Dtype::Bf16);
                let fits_in_bf16 =
                    self.plan.ways_out.iter().any(|way| way.fits && way.change == as_bf16);
                let (needed, parts) = (self.plan.needed_bytes, in_memory(self.plan.parts));
                Err(EngineError::OutOfMemory { needed, available, parts, fits_in_bf16 })
            }
            _ => Ok(self),
        }
    }
}

/// The parts that need memory of their own, the largest first.
pub(crate) fn in_memory(mut parts: Vec<PlanPart>) -> Vec<PlanPart> {
    parts.retain(|part| part.place == Place::Memory);
    parts.sort_by_key(|part| std::cmp::Reverse(part.bytes));
    parts
}

impl Subject<'_> {
    /// Adds up what it takes: of a GPU on which what `residency` says stays, or else of the memory.
    fn plan(self, residency: Option<Residency>, available_bytes: Option<u64>) -> MemoryPlan {
        let parts = match residency {
            Some(residency) => self.gpu_parts(residency),
            None => self.memory_parts(),
        };
        let sum = |place: Place| {
            let parts = parts.iter().filter(|part| part.place == place);
            parts.fold(0, |sum: u64, part| sum.saturating_add(part.bytes))
        };
        let own = if residency.is_some() { Place::Gpu } else { Place::Memory };
        let (needed_bytes, mapped_bytes) = (sum(own), sum(Place::MappedFile));
        let mut plan = MemoryPlan { parts, needed_bytes, available_bytes, ways_out: Vec::new() };
        plan.ways_out = ways_out(&plan, self, mapped_bytes);
        plan
    }

    fn memory_parts(self) -> Vec<PlanPart> {
        let vectors = self.vectors.iter().map(PlannedVector::part);
        let base_and_live = [self.base(), self.live(Place::Memory)];
        let element = weights_dtype(self.dtype).size_bytes() as u64;
        let working = OVERHEAD_BYTES + largest_tensor(&self.files.checkpoint) * (4 + element);
        let behind = [self.cache(Place::Memory), working_memory(Place::Memory, working)];
        base_and_live.into_iter().chain(vectors).chain(behind).collect()
    }

    /// What does not stay on the GPU is where it is on a processor, and passes through the GPU a tensor
    /// at a time.
    fn gpu_parts(self, residency: Residency) -> Vec<PlanPart> {
        let base = self.base();
        let copy = PlanPart { place: Place::Gpu, ..base.clone() };
        let base = match residency.base {
            // What was dequantised stays in memory too.
            true if base.place == Place::Memory => vec![base, copy],
            true => vec![copy],
            false => vec![base],
        };
        let vector = |vector: &PlannedVector| {
            if residency.vectors { vector.gpu_part() } else { vector.part() }
        };
        let passing = if residency.vectors { 0 } else { self.vectors.len() as u64 };
        let passing = passing + u64::from(!residency.base);
        let tensors = largest_tensor(&self.files.checkpoint) * 4 * (1 + passing);
        let working = GPU_OVERHEAD_BYTES + OVERHEAD_BYTES + tensors;
        base.into_iter()
            .chain([self.live(Place::Gpu)])
            .chain(self.vectors.iter().map(vector))
            .chain([self.cache(Place::Gpu), working_memory(Place::Gpu, working)])
            .collect()
    }

    fn millions(self) -> String {
        format!("{:.1} M parameters", self.files.checkpoint.parameter_count() as f64 / 1e6)
    }

    fn base(self) -> PlanPart {
        let checkpoint = &self.files.checkpoint;
        let (kind, place, bytes) = if checkpoint.gguf().is_some() {
            ("dequantised to f32".to_owned(), Place::Memory, checkpoint.parameter_count() * 4)
        } else {
            (checkpoint.dtype().to_string(), Place::MappedFile, file_bytes(checkpoint.files()))
        };
        let (name, form) = ("base model".to_owned(), format!("{}, {kind}", self.millions()));
        PlanPart { name, form, place, bytes }
    }

    fn live(self, place: Place) -> PlanPart {
        let element = weights_dtype(self.dtype).size_bytes() as u64;
        PlanPart {
            name: "live weights".to_owned(),
            form: format!("{}, {}", self.millions(), self.dtype),
            place,
            bytes: self.files.checkpoint.parameter_count() * element,
        }
    }

    fn cache(self, place: Place) -> PlanPart {
        let config = &self.files.config;
        let tokens = config.max_position_embeddings.min(PLANNED_TOKENS);
        PlanPart {
            name: "KV cache".to_owned(),
            form: format!("{tokens} tokens, f32"),
            place,
            bytes: cache_bytes(tokens, config.n_layers, config.n_kv_heads, config.head_dim),
        }
    }
}

fn working_memory(place: Place, bytes: u64) -> PlanPart {
    let form = "activations, copies of one tensor".to_owned();
    PlanPart { name: "working memory".to_owned(), form, place, bytes }
}

/// Bytes of the keys and values of a conversation; a configuration may say anything.
fn cache_bytes(tokens: usize, n_layers: usize, n_kv_heads: usize, head_dim: usize) -> u64 {
    let factors = [2, size_of::<f32>(), tokens, n_layers, n_kv_heads, head_dim];
    factors.into_iter().fold(1, |bytes: u64, factor| bytes.saturating_mul(factor as u64))
}

fn largest_tensor(checkpoint: &Checkpoint) -> u64 {
    let infos = checkpoint.names().filter_map(|name| checkpoint.info(name));
    infos.map(|info| info.shape.iter().product::<usize>() as u64).max().unwrap_or(0)
}

fn file_bytes(files: &[PathBuf]) -> u64 {
    let size = |path: &PathBuf| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    files.iter().map(size).sum()
}

/// What would make the model smaller, the most effective first.
fn ways_out(plan: &MemoryPlan, subject: Subject<'_>, mapped_bytes: u64) -> Vec<WayOut> {
    let Subject { files, dtype, vectors } = subject;
    let parameters = files.checkpoint.parameter_count();
    let way = |text: String, saves_bytes: u64, change: PlanChange| {
        let needed = plan.needed_bytes.saturating_sub(saves_bytes);
        let fits = plan.available_bytes.is_none_or(|available| needed <= available);
        WayOut { text, saves_bytes, fits, change }
    };
    let mut ways = Vec::new();
    if dtype == Dtype::F32 {
        let text = "Round the live weights to bf16".to_owned();
        ways.push(way(text, parameters * 2, PlanChange::Dtype(Dtype::Bf16)));
    }
    let is_on_gpu = plan.parts.iter().any(|part| part.place == Place::Gpu);
    if files.checkpoint.gguf().is_some() && !is_on_gpu {
        let text = "Write the model as a Hugging Face folder once and open that: its weights stay \
                    in their file"
            .to_owned();
        ways.push(way(text, parameters * 4, PlanChange::ConvertModel));
    }
    for PlannedVector { file, header } in vectors {
        let domain = one_line(&header.domain, NAME_CHARS);
        let change = PlanChange::CompressVector { file: file.clone() };
        if header.memory_bytes > WORTH_COMPRESSING_BYTES {
            let text = match header.kind {
                VectorKind::Checkpoint => format!(
                    "Compress {domain:?} once, to low rank: a whole GGUF is dequantised into memory"
                ),
                _ => format!("Compress {domain:?} to half its rank"),
            };
            let saves = match header.kind {
                VectorKind::Checkpoint => header.memory_bytes,
                _ => header.memory_bytes / 2,
            };
            ways.push(way(text, saves, change));
        } else if plan
            .available_bytes
            .is_some_and(|it| plan.needed_bytes.saturating_add(mapped_bytes) > it)
            && header.memory_bytes == 0
            && header.file_bytes > WORTH_COMPRESSING_BYTES
        {
            let text = format!(
                "Compress {domain:?}: its file does not fit beside the model and is read from the \
                 disk at each turn of its knob"
            );
            ways.push(way(text, 0, change));
        }
    }
    ways.sort_by_key(|way| std::cmp::Reverse(way.saves_bytes));
    ways
}

/// A vector of a request by its header.
pub(crate) fn planned_vector(
    file: &Path,
    path: &Path,
) -> Result<PlannedVector, meav_vector::VectorError> {
    Ok(PlannedVector { file: file.to_owned(), header: VectorHeader::read(path)? })
}

#[cfg(test)]
mod tests {
    use meav_test_support::{TINY, tiny_model};

    use super::*;

    /// What is freed of a GPU brings back first the base, then the vectors.
    #[test]
    fn what_a_gpu_has_no_room_for_stays_out_of_it() {
        let folder = tiny_model(&TINY).in_temp_dir();
        let files = ModelFiles::open(folder.path()).unwrap();
        let header = VectorHeader {
            domain: "legal".to_owned(),
            kind: VectorKind::Dense,
            file_bytes: 3 << 20,
            memory_bytes: 0,
        };
        let vectors = [PlannedVector { file: PathBuf::from("legal"), header }];
        let subject = Subject { files: &files, dtype: Dtype::Bf16, vectors: &vectors };
        let needed = RESIDENCIES.map(|it| subject.plan(Some(it), None).needed_bytes);
        assert!(needed[0] > needed[1] && needed[1] > needed[2], "{needed:?}");
        let places = |plan: &MemoryPlan| -> Vec<Place> {
            plan.parts.iter().map(|part| part.place).collect()
        };
        let [gpu, file] = [Place::Gpu, Place::MappedFile];
        for (available, expected) in [
            (needed[0], Some((RESIDENCIES[0], vec![gpu; 5]))),
            (needed[0] - 1, Some((RESIDENCIES[1], vec![gpu, gpu, file, gpu, gpu]))),
            (needed[1] - 1, Some((RESIDENCIES[2], vec![file, gpu, file, gpu, gpu]))),
            (needed[2] - 1, None),
        ] {
            let found = fit_on_gpu(subject, Some(available));
            let found = found.map(|(residency, plan)| (residency, places(&plan)));
            assert_eq!(found, expected, "{available}");
        }
    }

    #[test]
    fn cache_of_any_configuration_has_a_size() {
        assert_eq!(cache_bytes(10, 2, 3, 4), 2 * 4 * 10 * 2 * 3 * 4);
        assert_eq!(cache_bytes(10, usize::MAX, 3, 4), u64::MAX);
    }
}
