//! A model that is asked about preference records, pass after pass, in the background.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use meav_data::{Dataset, ReadOptions};
use meav_eval::{QuestionSet, RawScore};
use meav_model::ModelError;
use meav_protocol::{
    DataReport, DatasetScores, Fact, Prompting, PromptingScores, RecipeStamp, Setup, Stage,
};
use meav_vector::{Method, Term};

use crate::compute::Compute;
use crate::convert::vector_method;
use crate::error::EngineError;
use crate::loaded::Loaded;
use crate::worker::{Running, Worker};
use crate::workspace::{AnswersKey, Workspace};

/// Changes whenever the same model would be asked or read otherwise than before.
const SCORING_VERSION: u32 = 1;

/// A model and what it is asked about.
pub(crate) struct Measuring {
    pub(crate) loaded: Loaded,
    pub(crate) method: Method,
    /// The vectors, with the λ of the setup.
    pub(crate) terms: Vec<Term>,
    pub(crate) files: Vec<MeasuredFile>,
    /// The files' questions as they are, then behind each instruction.
    variants: Vec<Variant>,
    /// Answers of a pass that was interrupted, by the place of the questions in their variant.
    partial: BTreeMap<usize, Vec<Vec<RawScore>>>,
    /// Records that were asked about, and all that will have been.
    progress: (usize, usize),
    /// What computes, and how: scores of something else may differ in their last bits or more.
    pub(crate) computed_by: String,
}

/// A file of preference records.
pub(crate) struct MeasuredFile {
    /// As it was asked for.
    pub(crate) file: PathBuf,
    pub(crate) dataset: Dataset,
}

struct Variant {
    /// The level that the instruction asks for; `None` without one.
    level: Option<String>,
    sets: Vec<QuestionSet>,
}

/// One recipe, and which questions it is asked.
#[derive(Clone)]
pub(crate) struct Pass {
    pub(crate) terms: Vec<Term>,
    /// The place of the instruction; `None` without one.
    pub(crate) instruction: Option<usize>,
}

impl Measuring {
    /// Reads the data and loads the model.
    pub(crate) fn open(
        worker: &mut Worker,
        setup: &Setup,
        data: &[PathBuf],
        prompting: Option<&Prompting>,
        running: &Running<'_>,
    ) -> Result<Self, EngineError> {
        let read = |file: &PathBuf| {
            let dataset = read_data(worker, file, usize::MAX, running)?;
            Ok(MeasuredFile { file: file.clone(), dataset })
        };
        let files = data.iter().map(read).collect::<Result<Vec<_>, EngineError>>()?;
        Self::of(worker, setup, files, prompting, running)
    }

    /// Loads the model for data that have been read.
    pub(crate) fn of(
        worker: &mut Worker,
        setup: &Setup,
        files: Vec<MeasuredFile>,
        prompting: Option<&Prompting>,
        running: &Running<'_>,
    ) -> Result<Self, EngineError> {
        if files.is_empty() {
            return Err(EngineError::NoData);
        }
        let (loaded, terms) = worker.load_apart(setup, running)?;
        let variants = variants(&loaded, &files, prompting, running)?;
        for (file, set) in files.iter().zip(&variants[0].sets) {
            tell_left_out(&file.dataset, set, running);
        }
        let method = vector_method(setup.method);
        let (partial, progress) = (BTreeMap::new(), (0, 0));
        let computed_by = computed_by(&loaded.compute, &loaded.files.config);
        Ok(Self { loaded, method, terms, files, variants, partial, progress, computed_by })
    }

    /// The questions without an instruction, one set for each file.
    pub(crate) fn sets(&self) -> &[QuestionSet] {
        &self.variants[0].sets
    }

    /// Levels whose instructions there are.
    pub(crate) fn instructions(&self) -> impl Iterator<Item = &str> {
        self.variants.iter().filter_map(|variant| variant.level.as_deref())
    }

    /// A pass over all files with other coefficients.
    pub(crate) fn pass(&self, coefficients: &[f64]) -> Pass {
        let term =
            |(term, coefficient): (&Term, &f64)| Term { coefficient: *coefficient, ..term.clone() };
        let terms = self.terms.iter().zip(coefficients).map(term).collect();
        Pass { terms, instruction: None }
    }

    /// A pass of the base model behind the instruction at a place.
    pub(crate) fn instructed(&self, place: usize) -> Pass {
        Pass { terms: self.pass(&vec![0.0; self.terms.len()]).terms, instruction: Some(place) }
    }

    /// Says what is ahead, so that progress can be told.
    pub(crate) fn expect(&mut self, passes: &[Pass]) {
        let ahead = passes.iter().map(|pass| self.variant(pass).len()).sum();
        self.progress = (0, ahead);
    }

    fn variant(&self, pass: &Pass) -> &Variant {
        &self.variants[pass.instruction.map_or(0, |place| place + 1)]
    }

    /// Figures of one pass; what `known` has of the same recipe on the same texts is not computed
    /// again.
    ///
    /// After an interruption it goes on where it was, if it is given the same pass.
    pub(crate) fn run(
        &mut self,
        pass: &Pass,
        known: Option<&Workspace>,
        keeps_records: bool,
        running: &Running<'_>,
    ) -> Result<(RecipeStamp, Vec<DatasetScores>), EngineError> {
        let recipe = self.loaded.recipe(self.method, &pass.terms);
        let variant = &self.variants[pass.instruction.map_or(0, |place| place + 1)];
        let (done, total) = self.progress;
        let mut before = 0;
        let mut scores = Vec::new();
        for (place, set) in variant.sets.iter().enumerate() {
            let key = AnswersKey {
                recipe: &recipe.fingerprint,
                questions: &set.fingerprint,
                computed_by: &self.computed_by,
            };
            let answers = self.partial.entry(place).or_default();
            if answers.is_empty()
                && let Some(found) = known.and_then(|it| known_answers(it, key, set))
            {
                *answers = found;
            }
            if answers.len() < set.len() {
                let (method, terms) = (self.method, &pass.terms);
                let loaded = &mut self.loaded;
                running.stage(Stage::Merging, |job| loaded.apply(method, terms, job))?;
                running.stage(Stage::Scoring, |job| {
                    let tick = |n| job.report(done + before + n, total);
                    tick(answers.len());
                    set.ask(&loaded.decoder, answers, tick, &job.without_progress())
                })?;
                // An extreme λ may take weights beyond what numbers can be.
                if answers.iter().flatten().any(|it| !it.sum_log_prob.is_finite()) {
                    return Err(EngineError::NoNumbers { recipe: recipe.to_string() });
                }
                if let Some(workspace) = known
                    && let Err(err) = workspace.keep_answers(key, answers)
                {
                    running.unkept("what the model answered is not kept", &err);
                }
            }
            before += set.len();
            scores.extend(set.scores(answers, keeps_records));
        }
        self.partial.clear();
        self.progress.0 += before;
        Ok((recipe, scores))
    }

    /// Figures of a pass behind an instruction: those that have its level.
    pub(crate) fn run_instructed(
        &mut self,
        place: usize,
        known: Option<&Workspace>,
        keeps_records: bool,
        running: &Running<'_>,
    ) -> Result<PromptingScores, EngineError> {
        let (_recipe, mut datasets) =
            self.run(&self.instructed(place), known, keeps_records, running)?;
        let level = self.variants[place + 1].level.clone().unwrap_or_default();
        datasets.retain(|scores| scores.preference_accuracy.contains_key(&level));
        Ok(PromptingScores { level, datasets })
    }
}

impl Variant {
    fn len(&self) -> usize {
        self.sets.iter().map(QuestionSet::len).sum()
    }
}

/// The kind of processor, the network's dimensions and rules, and the version of the scoring.
pub(crate) fn computed_by(compute: &Compute, config: &meav_model::Config) -> String {
    let config = blake3::hash(format!("{config:?}").as_bytes());
    let processor = match (compute.is_gpu(), is_avx512()) {
        (true, _) => compute.name(),
        (false, true) => "CPU AVX-512",
        (false, false) => "CPU without AVX-512",
    };
    let version = env!("CARGO_PKG_VERSION");
    format!("{processor}, {version}.{SCORING_VERSION}, network {config}")
}

#[cfg(target_arch = "x86_64")]
fn is_avx512() -> bool {
    std::arch::is_x86_feature_detected!("avx512f")
}

#[cfg(not(target_arch = "x86_64"))]
fn is_avx512() -> bool {
    false
}

fn known_answers(
    workspace: &Workspace,
    key: AnswersKey<'_>,
    set: &QuestionSet,
) -> Option<Vec<Vec<RawScore>>> {
    workspace.known_answers(key, set.responses()).unwrap_or_else(|err| {
        tracing::warn!("what was answered before is asked again: {err}");
        None
    })
}

/// Reads preference records, a demo file by its bare name.
pub(crate) fn read_data(
    worker: &Worker,
    file: &Path,
    limit: usize,
    running: &Running<'_>,
) -> Result<Dataset, EngineError> {
    let path = worker.folders.data(file);
    let options = ReadOptions { limit };
    Ok(running.stage(Stage::ReadingData, |job| meav_data::read(&path, options, job))?)
}

/// The questions as they are; and for each level that has an instruction, those of the files that
/// have the level.
fn variants(
    loaded: &Loaded,
    files: &[MeasuredFile],
    prompting: Option<&Prompting>,
    running: &Running<'_>,
) -> Result<Vec<Variant>, EngineError> {
    let template = loaded.template.as_ref().ok_or(ModelError::NoChatTemplate)?;
    let set = |file: &MeasuredFile, instruction| {
        let name = file_name(&file.dataset.path);
        running.stage(Stage::ReadingData, |job| {
            QuestionSet::new(&name, &file.dataset, &loaded.files, template, instruction, job)
        })
    };
    let plain = files.iter().map(|file| set(file, None)).collect::<Result<_, _>>()?;
    let mut variants = vec![Variant { level: None, sets: plain }];
    let Some(Prompting { turn, instructions }) = prompting else { return Ok(variants) };
    for (level, text) in instructions {
        let has_level = |file: &&MeasuredFile| {
            file.dataset.measures().iter().any(|measure| measure.levels.contains(level))
        };
        let own = files.iter().filter(has_level);
        let sets: Vec<_> =
            own.map(|file| set(file, Some((*turn, text.as_str())))).collect::<Result<_, _>>()?;
        if !sets.is_empty() {
            variants.push(Variant { level: Some(level.clone()), sets });
        }
    }
    Ok(variants)
}

pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Says which records are left out.
pub(crate) fn tell_left_out(dataset: &Dataset, set: &QuestionSet, running: &Running<'_>) {
    let problems = set.skipped();
    if !problems.is_empty() {
        running.fact(Fact::LeftOut {
            file: file_name(&dataset.path),
            problems: problems.iter().take(DataReport::MAX_PROBLEMS).cloned().collect(),
            total: problems.len(),
        });
    }
}
