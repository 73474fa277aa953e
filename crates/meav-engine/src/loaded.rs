use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use meav_job::JobCtx;
use meav_model::{ChatTemplate, Decoder, Generator, ModelFiles, vocabulary_fingerprint};
use meav_protocol::{
    Calibration, Dtype, Fact, LoadedModel, RecipeStamp, Setup, Stage, StampTerm, VectorInfo,
    VectorTerm,
};
use meav_vector::{
    AlignmentVector, LiveWeights, MergeReport, Recipe, Residency, Term, VectorError,
};
use meav_weights::{Checkpoint, Fingerprint, available_memory_bytes};

use crate::compute::Compute;
use crate::convert::{
    kind_name, protocol_dtype, protocol_method, protocol_scope, vector_method, vector_scope,
    weights_dtype,
};
use crate::error::EngineError;
use crate::one_line::{NAME_CHARS, one_line};
use crate::plan::{
    Placement, PlannedVector, Subject, in_memory, place, planned_vector, streaming_note,
};
use crate::words::is_out_of_gpu_memory;
use crate::worker::{Running, Worker};
use crate::workspace::{FileStamp, Workspace};

/// A calibration of thousands of points is shorter.
const MAX_CALIBRATION_BYTES: usize = 1 << 20;

/// A model in memory.
pub(crate) struct Loaded {
    /// What it was loaded from; another stamp means that the files have changed.
    source: (PathBuf, FileStamp, Dtype),
    /// What it runs on.
    pub(crate) compute: Compute,
    /// Why there, if there is something to say.
    placement: Option<String>,
    pub(crate) files: ModelFiles,
    pub(crate) template: Option<ChatTemplate>,
    pub(crate) decoder: Decoder,
    pub(crate) generator: Generator,
    pub(crate) live: LiveWeights,
    pub(crate) base: Fingerprint,
    tokenizer: Fingerprint,
    /// Vectors that were read, by what they were read from.
    vectors: Vec<(FileStamp, Arc<AlignmentVector>)>,
}

impl Worker {
    /// Makes the live weights those of `setup`, and says so with [`Fact::Ready`].
    ///
    /// Loads the model and reads vectors only where they are not what they were. A failure or a
    /// cancellation leaves the recipe that was in force, unless it comes while the weights of
    /// another model are being read: then no model is loaded.
    pub(crate) fn prepare(
        &mut self,
        setup: &Setup,
        running: &Running<'_>,
    ) -> Result<RecipeStamp, EngineError> {
        let started = Instant::now();
        refuse_non_finite(&setup.vectors)?;
        let path = self.folders.model(&setup.model)?;
        let source = (path.clone(), FileStamp::of_model(&path), setup.dtype);
        if self.loaded.as_ref().is_none_or(|loaded| loaded.source != source) {
            let files = ModelFiles::open(&source.0)?;
            // Two models at once may be more than memory holds.
            self.unload(running.job_id);
            let vectors = self.planned_vectors(&setup.vectors);
            let mut placed = self.place(&files, setup.dtype, &vectors);
            if placed.is_err() {
                self.free_background(running);
                placed = self.place(&files, setup.dtype, &vectors);
            }
            self.loaded = Some(self.load(source, files, placed?, running)?);
        }
        let load_secs = started.elapsed().as_secs_f64();
        let terms = self.read_vectors(&setup.vectors, running)?;
        let Some(loaded) = &mut self.loaded else { unreachable!("it has just been loaded") };
        let merging = Instant::now();
        let method = vector_method(setup.method);
        let report = running.stage(Stage::Merging, |job| loaded.apply(method, &terms, job))?;
        if report.tensors > 0 {
            loaded.generator.reset();
        }
        let stamp = loaded.stamp();
        self.record_recipe(&stamp, running);
        let Some(loaded) = &self.loaded else { unreachable!("it has just been loaded") };
        running.fact(Fact::Ready(Box::new(LoadedModel {
            name: loaded.files.name.clone(),
            path,
            family: loaded.files.config.family.model_type().to_owned(),
            parameters: loaded.files.checkpoint.parameter_count(),
            layers: loaded.files.config.n_layers,
            context: loaded.files.config.max_position_embeddings,
            dtype: setup.dtype,
            recipe: stamp.clone(),
            vectors: terms.iter().map(|term| self.vector_info(loaded, &term.vector)).collect(),
            load_secs,
            merge_secs: merging.elapsed().as_secs_f64(),
            device: loaded.compute.name().to_owned(),
            memory: loaded.compute.memory_use(),
            notes: loaded.notes(&terms),
        })));
        Ok(stamp)
    }

    /// Loads a model apart from the one that is talked to, which goes only where memory does not
    /// hold both.
    pub(crate) fn load_apart(
        &mut self,
        setup: &Setup,
        running: &Running<'_>,
    ) -> Result<(Loaded, Vec<Term>), EngineError> {
        refuse_non_finite(&setup.vectors)?;
        let path = self.folders.model(&setup.model)?;
        let source = (path.clone(), FileStamp::of_model(&path), setup.dtype);
        let files = ModelFiles::open(&path)?;
        let terms = self.open_terms(&setup.vectors, &files, running)?;
        // Vectors that were read are in memory already; a GPU has no copy of them.
        let vectors = self.planned_vectors(&setup.vectors);
        let vectors = if self.compute.is_gpu() { &vectors[..] } else { &[] };
        let mut placed = self.place(&files, setup.dtype, vectors);
        if placed.as_ref().map_or(true, |placed| placed.is_makeshift_on(&self.compute)) {
            self.unload(running.job_id);
            placed = self.place(&files, setup.dtype, vectors);
        }
        if placed.is_err() {
            self.free_background(running);
            placed = self.place(&files, setup.dtype, vectors);
        }
        Ok((self.load(source, files, placed?, running)?, terms))
    }

    /// Finds where a model fits with its vectors.
    ///
    /// # Errors
    ///
    /// [`EngineError::OutOfMemory`] before the kernel ends the engine for it, and
    /// [`EngineError::HalfOnCpu`].
    pub(crate) fn place(
        &self,
        files: &ModelFiles,
        dtype: Dtype,
        vectors: &[PlannedVector],
    ) -> Result<Placement, EngineError> {
        place(Subject { files, dtype, vectors }, &self.compute, 0).check(dtype)
    }

    fn load(
        &self,
        source: (PathBuf, FileStamp, Dtype),
        files: ModelFiles,
        placed: Placement,
        running: &Running<'_>,
    ) -> Result<Loaded, EngineError> {
        let Placement { compute, residency, note: mut placement, .. } = placed;
        let dtype = weights_dtype(source.2);
        let base = self.fingerprint(&files.checkpoint, &source.1, running)?;
        let weights = running.stage(Stage::Loading, |job| files.load_weights(job))?;
        let live = running.stage(Stage::Loading, |job| {
            let load = |residency| {
                let weights = weights.clone();
                LiveWeights::with_residency(weights, dtype, compute.device(), residency, job)
            };
            match load(residency) {
                // Others may have taken what was free.
                Err(err) if is_out_of_gpu_memory(&err) && residency.base => {
                    compute.trim();
                    let least = Residency { base: false, vectors: false };
                    placement = streaming_note(least);
                    load(least)
                }
                result => result,
            }
        })?;
        let decoder = Decoder::new(&files.config, live.tensors())?;
        let template = match &files.chat_template {
            Some(_) => Some(files.compile_chat_template()?),
            None => None,
        };
        let tokenizer = vocabulary_fingerprint(&files.tokenizer);
        Ok(Loaded {
            source,
            compute,
            placement,
            files,
            template,
            decoder,
            generator: Generator::default(),
            live,
            base,
            tokenizer,
            vectors: Vec::new(),
        })
    }

    /// The fingerprint of a checkpoint, from the workspace if it is known there.
    pub(crate) fn fingerprint(
        &self,
        checkpoint: &Checkpoint,
        stamp: &FileStamp,
        running: &Running<'_>,
    ) -> Result<Fingerprint, EngineError> {
        let known = self.workspace.as_ref().ok().and_then(|it| it.known_fingerprint(stamp));
        if let Some(fingerprint) = known {
            return Ok(fingerprint);
        }
        let fingerprint =
            running.stage(Stage::Fingerprinting, |job| checkpoint.fingerprint(job))?;
        self.remember_fingerprint(stamp, fingerprint);
        Ok(fingerprint)
    }

    fn remember_fingerprint(&self, stamp: &FileStamp, fingerprint: Fingerprint) {
        if let Ok(workspace) = &self.workspace
            && let Err(err) = workspace.remember_fingerprint(stamp, fingerprint)
        {
            tracing::warn!("the fingerprint will be computed again next time: {err}");
        }
    }

    /// Reads the vectors, those that were read before from memory, and checks that they fit.
    fn read_vectors(
        &mut self,
        wanted: &[VectorTerm],
        running: &Running<'_>,
    ) -> Result<Vec<Term>, EngineError> {
        let Some(loaded) = &self.loaded else { unreachable!("the model is loaded first") };
        let is_new = |term: &&VectorTerm| {
            let stamp = FileStamp::of_vector(&self.folders.vector(&term.file));
            !loaded.vectors.iter().any(|(cached, _)| *cached == stamp)
        };
        let new = self.planned_vectors(wanted.iter().filter(is_new));
        check_vector_memory(&new)?;
        if let Some(loaded) = &mut self.loaded {
            loaded.make_room(&new);
        }
        let mut read = Vec::new();
        let mut terms = Vec::new();
        for VectorTerm { file, coefficient, scope } in wanted {
            let path = self.folders.vector(file);
            let stamp = FileStamp::of_vector(&path);
            let Some(loaded) = &self.loaded else { unreachable!("the model is loaded first") };
            let cached = loaded.vectors.iter().find(|(cached, _)| *cached == stamp);
            let vector = if let Some((_, vector)) = cached {
                Arc::clone(vector)
            } else {
                self.open_fitting(&path, &loaded.files.checkpoint, loaded.tokenizer, running)
                    .map_err(|err| err.in_vector(file))?
            };
            let (vector_of_term, scope) = (Arc::clone(&vector), vector_scope(scope));
            terms.push(Term { vector: vector_of_term, coefficient: *coefficient, scope });
            read.push((stamp, vector));
        }
        if let Some(loaded) = &mut self.loaded {
            loaded.vectors = read;
        }
        Ok(terms)
    }

    /// The headers of vectors; one that can't be read says so itself when it is opened.
    pub(crate) fn planned_vectors<'a>(
        &self,
        wanted: impl IntoIterator<Item = &'a VectorTerm>,
    ) -> Vec<PlannedVector> {
        let header = |VectorTerm { file, .. }: &VectorTerm| {
            planned_vector(file, &self.folders.vector(file)).ok()
        };
        wanted.into_iter().filter_map(header).collect()
    }

    /// Reads a vector, its fingerprint from the workspace if it is known there.
    pub(crate) fn open_vector(
        &self,
        path: &Path,
        running: &Running<'_>,
    ) -> Result<AlignmentVector, EngineError> {
        let stamp = FileStamp::of_vector(path);
        let known = self.workspace.as_ref().ok().and_then(|it| it.known_fingerprint(&stamp));
        let vector =
            running.stage(Stage::Fingerprinting, |job| AlignmentVector::open(path, known, job))?;
        if known.is_none() {
            self.remember_fingerprint(&stamp, vector.fingerprint);
        }
        Ok(vector)
    }

    /// Reads a vector and checks that it fits.
    fn open_fitting(
        &self,
        path: &Path,
        base: &Checkpoint,
        tokenizer: Fingerprint,
        running: &Running<'_>,
    ) -> Result<Arc<AlignmentVector>, EngineError> {
        let vector = self.open_vector(path, running)?;
        vector.check_fit(base, tokenizer)?;
        Ok(Arc::new(vector))
    }

    /// Reads the vectors of a job that does not keep them.
    pub(crate) fn open_terms(
        &self,
        wanted: &[VectorTerm],
        files: &ModelFiles,
        running: &Running<'_>,
    ) -> Result<Vec<Term>, EngineError> {
        refuse_non_finite(wanted)?;
        check_vector_memory(&self.planned_vectors(wanted))?;
        let tokenizer = vocabulary_fingerprint(&files.tokenizer);
        wanted
            .iter()
            .map(|VectorTerm { file, coefficient, scope }| {
                let path = self.folders.vector(file);
                let vector = self
                    .open_fitting(&path, &files.checkpoint, tokenizer, running)
                    .map_err(|err| err.in_vector(file))?;
                Ok(Term { vector, coefficient: *coefficient, scope: vector_scope(scope) })
            })
            .collect()
    }

    fn vector_info(&self, loaded: &Loaded, vector: &AlignmentVector) -> VectorInfo {
        VectorInfo {
            domain: one_line(&vector.origin.domain, NAME_CHARS),
            file: vector.path.clone(),
            fingerprint: vector.fingerprint.to_string(),
            kind: kind_name(vector.kind).to_owned(),
            size_bytes: vector.size_bytes(),
            tensors: vector.deltas.len(),
            base_matches: vector.origin.base_fingerprint.map(|base| base == loaded.base),
            calibration: self.calibration(vector, loaded.base).map(Box::new),
        }
    }

    /// Where a vector leads on a base: as measured here, or as its file says.
    fn calibration(&self, vector: &AlignmentVector, base: Fingerprint) -> Option<Calibration> {
        let base = base.to_string();
        let kept = |workspace: &Workspace| {
            workspace.calibration(&vector.fingerprint.to_string(), &base).unwrap_or_else(|err| {
                tracing::warn!("a calibration is lost: {err}");
                None
            })
        };
        let in_file = || {
            let text = vector.origin.calibration.as_deref()?;
            // From anywhere: it is read at every turn of a knob.
            let text = Some(text).filter(|text| text.len() <= MAX_CALIBRATION_BYTES)?;
            serde_json::from_str(text).ok().filter(|it: &Calibration| it.base == base)
        };
        let found = self.workspace.as_ref().ok().and_then(kept).or_else(in_file)?;
        Some(found).filter(Calibration::is_sound).map(|found| Calibration {
            model: one_line(&found.model, NAME_CHARS),
            data: one_line(&found.data, NAME_CHARS),
            levels: found.levels.iter().map(|level| one_line(level, NAME_CHARS)).collect(),
            ..found
        })
    }

    /// Keeps the recipe and its use.
    fn record_recipe(&mut self, stamp: &RecipeStamp, running: &Running<'_>) {
        let workspace = match &self.workspace {
            Ok(workspace) => workspace,
            Err(err) => return running.unkept("nothing is kept", err),
        };
        if self.recorded.as_ref() == Some(stamp) {
            return;
        }
        match workspace.record_recipe(stamp) {
            Ok(()) => self.recorded = Some(stamp.clone()),
            Err(err) => running.unkept("the recipe is not kept", &err),
        }
    }
}

impl Loaded {
    /// Makes the weights those of `terms`; see [`LiveWeights::apply`]. Where a GPU has no room for the
    /// vectors after all, they go through it from now on.
    pub(crate) fn apply(
        &mut self,
        method: meav_vector::Method,
        terms: &[Term],
        job: &JobCtx<'_>,
    ) -> Result<MergeReport, VectorError> {
        match self.live.apply(method, terms, job) {
            Err(err) if is_out_of_gpu_memory(&err) && self.live.residency().vectors => {
                self.keep_vectors_out();
                self.compute.trim();
                self.live.apply(method, terms, job)
            }
            result => result,
        }
    }

    /// Keeps the vectors out of the GPU if it has no room for `new` ones.
    fn make_room(&mut self, new: &[PlannedVector]) {
        let needed = new.iter().map(PlannedVector::value_bytes).fold(0, u64::saturating_add);
        let lacks = || self.compute.available_bytes().is_some_and(|available| needed > available);
        if self.compute.is_gpu() && self.live.residency().vectors && lacks() {
            self.keep_vectors_out();
        }
    }

    fn keep_vectors_out(&mut self) {
        let residency = Residency { vectors: false, ..self.live.residency() };
        self.live.set_residency(residency);
        self.placement = streaming_note(residency);
    }

    /// What the weights hold.
    pub(crate) fn stamp(&self) -> RecipeStamp {
        let dtype = weights_dtype(self.source.2);
        stamp(self.base, dtype, &self.files.name, self.live.method(), self.live.applied())
    }

    /// The recipe that `terms` make of it.
    pub(crate) fn recipe(&self, method: meav_vector::Method, terms: &[Term]) -> RecipeStamp {
        let active: Vec<Term> = terms.iter().filter(|term| term.is_active()).cloned().collect();
        stamp(self.base, weights_dtype(self.source.2), &self.files.name, method, &active)
    }

    fn notes(&self, terms: &[Term]) -> Vec<String> {
        let of_vectors = terms
            .iter()
            .map(|term| &term.vector.origin)
            .filter(|origin| origin.base_fingerprint.is_some_and(|base| base != self.base))
            .map(|origin| {
                let domain = one_line(&origin.domain, NAME_CHARS);
                let base = origin.base_name.as_deref().unwrap_or("another model");
                let base = one_line(base, NAME_CHARS);
                format!("the vector {domain:?} fits, but was made from {base:?} with other weights")
            });
        self.placement.iter().cloned().chain(of_vectors).collect()
    }
}

/// The recipe of active terms, with the names that a person knows it by.
pub(crate) fn stamp(
    base: Fingerprint,
    dtype: meav_weights::Dtype,
    model: &str,
    method: meav_vector::Method,
    terms: &[Term],
) -> RecipeStamp {
    let recipe = Recipe { base, dtype, method, terms: terms.iter().map(Into::into).collect() };
    RecipeStamp {
        fingerprint: recipe.fingerprint().to_string(),
        base: base.to_string(),
        model: model.to_owned(),
        dtype: protocol_dtype(dtype),
        method: protocol_method(method),
        vectors: terms
            .iter()
            .map(|term| StampTerm {
                domain: one_line(&term.vector.origin.domain, NAME_CHARS),
                file: term.vector.path.clone(),
                fingerprint: term.vector.fingerprint.to_string(),
                coefficient: term.coefficient,
                scope: protocol_scope(&term.scope),
            })
            .collect(),
    }
}

/// Before a model is loaded in vain.
fn refuse_non_finite(vectors: &[VectorTerm]) -> Result<(), EngineError> {
    match vectors.iter().find(|term| !(term.coefficient as f32).is_finite()) {
        Some(VectorTerm { file, coefficient, .. }) => {
            let domain = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let err = VectorError::NonFiniteCoefficient { domain, coefficient: *coefficient };
            Err(EngineError::from(err).in_vector(file))
        }
        None => Ok(()),
    }
}

/// Refuses vectors that memory can't hold beside what is there.
fn check_vector_memory(vectors: &[PlannedVector]) -> Result<(), EngineError> {
    fit_into(vectors, available_memory_bytes())
}

fn fit_into(vectors: &[PlannedVector], available: Option<u64>) -> Result<(), EngineError> {
    let sizes = vectors.iter().map(|vector| vector.header.memory_bytes);
    let needed = sizes.fold(0, u64::saturating_add);
    match available {
        Some(available) if needed > available => {
            let parts = in_memory(vectors.iter().map(PlannedVector::part).collect());
            Err(EngineError::OutOfMemory { needed, available, parts, fits_in_bf16: false })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use meav_vector::{VectorHeader, VectorKind};

    use super::*;

    #[test]
    fn vectors_that_memory_cannot_hold_are_named() {
        let vector = |domain: &str, memory_bytes| {
            let (domain, kind) = (domain.to_owned(), VectorKind::Checkpoint);
            let header = VectorHeader { domain, kind, file_bytes: 1 << 40, memory_bytes };
            PlannedVector { file: PathBuf::new(), header }
        };
        let vectors = [vector("mapped", 0), vector("small", 40), vector("large", 60)];
        for available in [None, Some(100)] {
            assert!(fit_into(&vectors, available).is_ok(), "{available:?}");
        }
        let Err(EngineError::OutOfMemory { needed: 100, available: 99, parts, .. }) =
            fit_into(&vectors, Some(99))
        else {
            panic!("they do not fit");
        };
        let names: Vec<_> = parts.iter().map(|part| part.name.as_str()).collect();
        assert_eq!(names, ["large", "small"]);
    }
}
