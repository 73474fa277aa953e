use std::path::{Path, PathBuf};

use meav_data::Dataset;
use meav_protocol::{
    DataProblem, DataReport, Fact, RunState, Stage, TrainData, TrainRun, TrainSpec,
};
use meav_train::{LeftOut, PairSet, Source, check_rank, check_settings, check_targets, pair_set};

use super::base::Base;
use super::config::{BaseOfRun, DataOfRun, RunConfig};
use super::fit::{Demand, make_room, refuse_small_disk};
use super::folder::{CONFIG, RunFolder};
use super::parked::ParkedRun;
use super::run::{TrainingRun, cut_back, keep};
use super::vector::levels;
use crate::error::EngineError;
use crate::measuring::{computed_by, file_name, read_data};
use crate::worker::{Running, Worker};

/// All that a run needs but the weights.
pub(crate) struct Prepared {
    pub(crate) base: Base,
    pub(crate) data: Vec<DataOfRun>,
    pub(crate) pairs: PairSet,
}

impl Prepared {
    /// Reads the model's files and the data, and says which records are left out.
    pub(crate) fn open(
        worker: &Worker,
        spec: &TrainSpec,
        running: &Running<'_>,
    ) -> Result<Self, EngineError> {
        check_settings(&spec.settings)?;
        let base = Base::open(worker, &spec.model, spec.dtype, running)?;
        check_rank(&base.files.config, &spec.settings)?;
        let read = |it: &TrainData| read_data(worker, &it.file, usize::MAX, running);
        let datasets = spec.data.iter().map(read).collect::<Result<Vec<Dataset>, _>>()?;
        let sources: Vec<Source<'_>> = datasets
            .iter()
            .zip(&spec.data)
            .map(|(dataset, data)| Source { dataset, prefer: data.prefer.as_deref() })
            .collect();
        let pairs = running.stage(Stage::ReadingData, |job| {
            pair_set(&sources, &base.files, &base.template, &spec.settings, job)
        })?;
        tell_left_out(&pairs.left_out, running);
        let described = spec.data.iter().zip(&datasets);
        let data = described.map(|(data, dataset)| DataOfRun::new(data, dataset)).collect();
        Ok(Self { base, data, pairs })
    }
}

/// Says which records are left out, file by file.
fn tell_left_out(left_out: &[LeftOut], running: &Running<'_>) {
    for of_file in left_out.chunk_by(|a, b| a.file == b.file) {
        let problem = |it: &LeftOut| DataProblem {
            line: it.line,
            id: it.id.clone(),
            reason: it.reason.clone(),
        };
        running.fact(Fact::LeftOut {
            file: file_name(&of_file[0].file),
            problems: of_file.iter().take(DataReport::MAX_PROBLEMS).map(problem).collect(),
            total: of_file.len(),
        });
    }
}

/// The folder of a run: as asked for, as it was kept, or one in the workspace.
fn folder_of(worker: &Worker, spec: &TrainSpec) -> Result<PathBuf, EngineError> {
    let path = match (&spec.out, kept(worker, spec)?) {
        (Some(out), _) => out.clone(),
        (None, Some(TrainRun { spec: TrainSpec { out: Some(out), .. }, .. })) => out,
        (None, _) => worker.folders.workspace.join("runs").join(spec.run.to_string()),
    };
    // What is kept of the run is read by programs that were started elsewhere.
    std::path::absolute(&path).map_err(|source| EngineError::Write { path, source })
}

fn kept(worker: &Worker, spec: &TrainSpec) -> Result<Option<TrainRun>, EngineError> {
    match &worker.workspace {
        Ok(workspace) => Ok(workspace.find_training(spec.run)?),
        Err(_) => Ok(None),
    }
}

/// Where a run is, and what is known of it from before.
struct Place {
    /// With the folder that the run gets, and the name that it has.
    spec: TrainSpec,
    path: PathBuf,
    /// Unless a parked run has it.
    folder: Option<RunFolder>,
    before: Option<RunConfig>,
    earlier: Option<TrainRun>,
}

impl Place {
    fn find(
        worker: &Worker,
        spec: &TrainSpec,
        parked: Option<&ParkedRun>,
    ) -> Result<Self, EngineError> {
        let mut spec = spec.clone();
        let path = match parked {
            Some(parked) => parked.folder.path.clone(),
            None => folder_of(worker, &spec)?,
        };
        spec.out = Some(path.clone());
        let folder = match parked {
            Some(_) => None,
            None if spec.resume => {
                // From here on, nobody else changes what is read of it.
                let mut folder = RunFolder::reopen(&path)?;
                folder.take()?;
                Some(folder)
            }
            None => Some(RunFolder::create(&path)?),
        };
        let before = match &folder {
            Some(_) if !spec.resume => None,
            _ => Some(RunConfig::read(&path.join(CONFIG))?),
        };
        if let Some(before) = &before {
            // The folder knows its run, also where it came here from elsewhere.
            spec.run = before.spec.run;
        }
        let earlier = match parked {
            Some(parked) => Some(parked.told.clone()),
            None if spec.resume => kept(worker, &spec)?,
            None => None,
        };
        if spec.resume && parked.is_none() {
            refuse_ended(&path, earlier.as_ref())?;
        }
        Ok(Self { spec, path, folder, before, earlier })
    }

    /// Takes the folder of a new run for this engine, and writes down how it is begun.
    fn take(&mut self, config: &RunConfig) -> Result<(), EngineError> {
        let Some(folder) = self.folder.as_mut().filter(|_| self.before.is_none()) else {
            return Ok(());
        };
        std::fs::create_dir_all(&self.path)
            .map_err(|source| EngineError::Write { path: self.path.clone(), source })?;
        folder.take()?;
        let path = self.path.join(CONFIG);
        if path.exists() {
            // Another run has come first, and has ended already.
            return Err(EngineError::RunFolderNotEmpty { path: self.path.clone() });
        }
        config.write(&path).inspect_err(|_| folder.give_up())
    }
}

impl TrainingRun {
    /// Begins a run, or goes on with one from its newest checkpoint. What is `parked` is taken only
    /// where that succeeds.
    pub(super) fn open(
        worker: &mut Worker,
        spec: &TrainSpec,
        parked: &mut Option<ParkedRun>,
        running: &Running<'_>,
    ) -> Result<Self, EngineError> {
        let mut place = Place::find(worker, spec, parked.as_ref())?;
        let prepared = Prepared::open(worker, &place.spec, running)?;
        let config = new_config(&place.spec, &prepared, place.before.as_ref());
        if let Some(before) = &place.before {
            before.check_same(&config, &place.path)?;
            note_other_machine(before, &config, running);
        }
        let Prepared { base, pairs, .. } = prepared;
        refuse_small_disk(&place.path, &base, &config)?;
        let demand = Demand::new(&base, &pairs, &place.spec.settings);
        let demand = if place.before.is_some() { demand.of_begun_run() } else { demand };
        make_room(worker, &demand, running)?;
        let network = base.load(running)?;
        check_targets(&network, &place.spec.settings)?;
        // From here on, nothing ends it before it is kept that it has begun.
        place.take(&config)?;
        let Place { spec, folder, earlier, .. } = place;
        let folder = folder.or_else(|| Some(parked.take()?.folder));
        let Some(folder) = folder else { unreachable!("only a parked run leaves it out") };
        let checkpoint = folder.checkpoint_steps().first().copied();
        let told = told(&spec, &config, checkpoint, earlier);
        let run = Self {
            levels: levels(&pairs),
            pairs: Some(pairs),
            network: Some(network),
            trainer: None,
            metrics: None,
            computing_since: None,
            config,
            folder,
            base,
            told,
        };
        run.begin(worker, running);
        Ok(run)
    }

    /// Tells and keeps that the run has begun or goes on.
    fn begin(&self, worker: &Worker, running: &Running<'_>) {
        let told = &self.told;
        let from = told.checkpoint.unwrap_or(0);
        self.folder.log(&format!(
            "version {} on {}: {} pairs, {} held back, {} records left out, {} responses cut; \
             steps {} to {}",
            env!("CARGO_PKG_VERSION"),
            self.config.computed_by,
            told.counts.pairs,
            told.counts.validation_pairs,
            told.counts.left_out,
            told.counts.truncated,
            from.saturating_add(1),
            told.total_steps,
        ));
        keep(worker, running, |workspace| {
            workspace.keep_training(told)?;
            workspace.cut_training_back(told.spec.run, from)
        });
        running.fact(Fact::Train(Box::new(told.clone())));
    }
}

/// Refuses a run that has nothing to go on with.
fn refuse_ended(path: &Path, kept: Option<&TrainRun>) -> Result<(), EngineError> {
    let step = kept.and_then(|run| run.steps.last()).map_or(0, |step| step.step);
    let (has_vector, path) = (path.join("vector.safetensors").is_file(), path.to_owned());
    if has_vector || kept.is_some_and(|run| run.state == RunState::Finished) {
        return Err(EngineError::RunFinished { path, step });
    }
    if kept.is_some_and(|run| run.diverged) {
        return Err(EngineError::RunDiverged { path, step: step + 1 });
    }
    Ok(())
}

fn new_config(spec: &TrainSpec, prepared: &Prepared, before: Option<&RunConfig>) -> RunConfig {
    let Prepared { base, data, pairs } = prepared;
    let (counts, total_steps) = super::fit::counts(base, pairs, &spec.settings);
    let now = || jiff::Timestamp::now().to_string();
    RunConfig {
        app_version: env!("CARGO_PKG_VERSION").to_owned(),
        started: before.map_or_else(now, |before| before.started.clone()),
        spec: spec.clone(),
        base: BaseOfRun {
            name: base.files.name.clone(),
            fingerprint: base.fingerprint.to_string(),
            tokenizer_fingerprint: base.tokenizer.to_string(),
        },
        data: data.clone(),
        pairs_fingerprint: pairs.fingerprint.clone(),
        counts,
        total_steps,
        computed_by: computed_by(&base.compute, &base.files.config),
    }
}

fn note_other_machine(before: &RunConfig, now: &RunConfig, running: &Running<'_>) {
    if before.computed_by != now.computed_by {
        running.fact(Fact::Note(format!(
            "the run was begun on {}, and goes on here on {}: the curve may differ in its last \
             digits",
            before.computed_by, now.computed_by
        )));
    }
}

fn told(
    spec: &TrainSpec,
    config: &RunConfig,
    checkpoint: Option<usize>,
    earlier: Option<TrainRun>,
) -> TrainRun {
    let mut told = TrainRun {
        spec: spec.clone(),
        started: config.started.clone(),
        state: RunState::Running,
        is_paused: false,
        ended: None,
        model: config.base.name.clone(),
        base: config.base.fingerprint.clone(),
        counts: config.counts,
        total_steps: config.total_steps,
        steps: Vec::new(),
        validations: Vec::new(),
        checkpoint,
        vector: None,
        elapsed_secs: 0.0,
        diverged: false,
    };
    if let Some(earlier) = earlier {
        told.steps = earlier.steps;
        told.validations = earlier.validations;
        told.elapsed_secs = earlier.elapsed_secs;
    }
    cut_back(&mut told, checkpoint.unwrap_or(0));
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::config::tests::config;

    #[test]
    fn second_start_into_a_folder_changes_nothing_of_the_first_run() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("run");
        let begun = |domain: &str| {
            let mut config = config();
            domain.clone_into(&mut config.spec.domain);
            config
        };
        let place = || Place {
            spec: config().spec,
            path: path.clone(),
            folder: Some(RunFolder::create(&path).unwrap()),
            before: None,
            earlier: None,
        };
        let [mut first, mut second, mut third] = [place(), place(), place()];
        let of_first = begun("medical");
        first.take(&of_first).unwrap();
        let err = second.take(&begun("legal")).unwrap_err();
        assert!(matches!(err, EngineError::RunGoesOn { .. }), "{err:?}");
        drop((first, second));
        let err = third.take(&begun("safety")).unwrap_err();
        assert!(matches!(err, EngineError::RunFolderNotEmpty { .. }), "{err:?}");
        assert_eq!(RunConfig::read(&path.join(CONFIG)).unwrap(), of_first);
    }
}
