use meav_protocol::{RunState, TrainRun, TrainStep, TrainSummary, TrainValidation};
use rusqlite::{OptionalExtension as _, params};
use uuid::Uuid;

use super::database::{Workspace, WorkspaceError};
use crate::training::is_resumable;

/// Names what a base model has made of pairs.
#[derive(Clone, Copy)]
pub(crate) struct ReferenceKey<'a> {
    /// Fingerprint of the base model.
    pub(crate) base: &'a str,
    /// Fingerprint of the pairs' tokens.
    pub(crate) pairs: &'a str,
    /// What computed, and how.
    pub(crate) computed_by: &'a str,
}

/// Bytes of what is kept of a pair: the chosen and the rejected response's log-probability.
const PAIR_BYTES: usize = 16;

impl Workspace {
    /// Keeps all of a run but its steps and validations, which are kept one by one.
    pub(crate) fn keep_training(&self, run: &TrainRun) -> Result<(), WorkspaceError> {
        let head = TrainRun { steps: Vec::new(), validations: Vec::new(), ..run.clone() };
        let (id, head) = (run.spec.run.to_string(), self.json(&head, "a training run")?);
        self.connection
            .execute(
                "INSERT INTO trainings VALUES (?1, ?2, ?3)
                 ON CONFLICT (run) DO UPDATE SET training = excluded.training",
                params![id, run.started, head],
            )
            .map_err(self.sqlite())?;
        Ok(())
    }

    pub(crate) fn keep_training_step(
        &self,
        run: Uuid,
        step: &TrainStep,
    ) -> Result<(), WorkspaceError> {
        let measured = self.json(step, "a training step")?;
        self.keep_measured("training_steps", run, step.step, &measured)
    }

    pub(crate) fn keep_training_validation(
        &self,
        run: Uuid,
        validation: &TrainValidation,
    ) -> Result<(), WorkspaceError> {
        let measured = self.json(validation, "a validation")?;
        self.keep_measured("training_validations", run, validation.step, &measured)
    }

    fn keep_measured(
        &self,
        table: &str,
        run: Uuid,
        step: usize,
        measured: &str,
    ) -> Result<(), WorkspaceError> {
        let insert = format!("INSERT OR REPLACE INTO {table} VALUES (?1, ?2, ?3)");
        self.connection
            .execute(&insert, params![run.to_string(), step, measured])
            .map_err(self.sqlite())?;
        Ok(())
    }

    /// Forgets what came after a step, which is taken again.
    pub(crate) fn cut_training_back(&self, run: Uuid, step: usize) -> Result<(), WorkspaceError> {
        for table in ["training_steps", "training_validations"] {
            let delete = format!("DELETE FROM {table} WHERE run = ?1 AND step > ?2");
            self.connection
                .execute(&delete, params![run.to_string(), step])
                .map_err(self.sqlite())?;
        }
        Ok(())
    }

    /// A run with all that was measured; `None` for one that was never kept.
    pub(crate) fn find_training(&self, run: Uuid) -> Result<Option<TrainRun>, WorkspaceError> {
        let head: Option<String> = self
            .connection
            .query_row("SELECT training FROM trainings WHERE run = ?1", [run.to_string()], |row| {
                row.get(0)
            })
            .optional()
            .map_err(self.sqlite())?;
        let Some(head) = head else { return Ok(None) };
        let mut training: TrainRun = self.read(&head, "a training run")?;
        let read = |text: &String| self.read(text, "a training step");
        let steps = self.measured("training_steps", run)?;
        training.steps = steps.iter().map(read).collect::<Result<_, _>>()?;
        let read = |text: &String| self.read(text, "a validation");
        let validations = self.measured("training_validations", run)?;
        training.validations = validations.iter().map(read).collect::<Result<_, _>>()?;
        Ok(Some(training))
    }

    /// A run with all that was measured.
    pub(crate) fn load_training(&self, run: Uuid) -> Result<TrainRun, WorkspaceError> {
        self.find_training(run)?.ok_or(WorkspaceError::NoTraining { run })
    }

    fn measured(&self, table: &str, run: Uuid) -> Result<Vec<String>, WorkspaceError> {
        let select = format!("SELECT measured FROM {table} WHERE run = ?1 ORDER BY step");
        let mut statement = self.connection.prepare(&select).map_err(self.sqlite())?;
        statement
            .query_map([run.to_string()], |row| row.get(0))
            .and_then(Iterator::collect)
            .map_err(self.sqlite())
    }

    /// All runs, newest first.
    pub(crate) fn list_trainings(&self) -> Result<Vec<TrainSummary>, WorkspaceError> {
        let mut statement = self
            .connection
            .prepare(
                "SELECT training,
                    (SELECT measured FROM training_steps WHERE run = trainings.run
                     ORDER BY step DESC LIMIT 1)
                 FROM trainings ORDER BY started DESC, rowid DESC",
            )
            .map_err(self.sqlite())?;
        let rows: Vec<(String, Option<String>)> = statement
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
            .and_then(Iterator::collect)
            .map_err(self.sqlite())?;
        let summary = |head: &str, last: Option<&str>| {
            let training = self.read(head, "a training run")?;
            let last = last.map(|step| self.read(step, "a training step")).transpose()?;
            Ok(summary(training, last))
        };
        let listed = rows.iter().filter_map(|(head, last)| match summary(head, last.as_deref()) {
            Ok(summary) => Some(summary),
            // One that can't be read must not hide the others.
            Err::<_, WorkspaceError>(err) => {
                tracing::warn!("a training run is not listed: {err}");
                None
            }
        });
        Ok(listed.collect())
    }

    /// Forgets a run; its folder stays.
    pub(crate) fn delete_training(&self, run: Uuid) -> Result<(), WorkspaceError> {
        let found = self
            .connection
            .execute("DELETE FROM trainings WHERE run = ?1", [run.to_string()])
            .map_err(self.sqlite())?;
        if found == 0 { Err(WorkspaceError::NoTraining { run }) } else { Ok(()) }
    }

    /// What the base model has made of the same pairs before, as far as it was asked.
    pub(crate) fn known_reference(
        &self,
        key: ReferenceKey<'_>,
    ) -> Result<Vec<[f64; 2]>, WorkspaceError> {
        let bytes: Option<Vec<u8>> = self
            .connection
            .query_row(
                "SELECT log_probs FROM reference_log_probs
                 WHERE base = ?1 AND pairs = ?2 AND computed_by = ?3",
                [key.base, key.pairs, key.computed_by],
                |row| row.get(0),
            )
            .optional()
            .map_err(self.sqlite())?;
        let bytes = bytes.unwrap_or_default();
        if !bytes.len().is_multiple_of(PAIR_BYTES) {
            return Err(self.damaged("a reference"));
        }
        let number = |bytes: &[u8]| f64::from_le_bytes(bytes.try_into().unwrap_or_default());
        let pair = |bytes: &[u8]| [number(&bytes[..8]), number(&bytes[8..])];
        Ok(bytes.chunks_exact(PAIR_BYTES).map(pair).collect())
    }

    pub(crate) fn keep_reference(
        &self,
        key: ReferenceKey<'_>,
        log_probs: &[[f64; 2]],
    ) -> Result<(), WorkspaceError> {
        let bytes: Vec<u8> = log_probs.iter().flatten().flat_map(|it| it.to_le_bytes()).collect();
        self.connection
            .execute(
                "INSERT OR REPLACE INTO reference_log_probs VALUES (?1, ?2, ?3, ?4)",
                params![key.base, key.pairs, key.computed_by, bytes],
            )
            .map_err(self.sqlite())?;
        Ok(())
    }
}

fn summary(training: TrainRun, last: Option<TrainStep>) -> TrainSummary {
    let is_resumable = is_resumable(&training);
    TrainSummary {
        run: training.spec.run,
        started: training.started,
        state: training.state,
        model: training.model,
        domain: training.spec.domain,
        steps: [last.map_or(0, |step| step.step), training.total_steps],
        loss: last.map(|step| step.loss),
        folder: training.spec.out.unwrap_or_default(),
        is_resumable,
        vector: training.vector.filter(|_| training.state == RunState::Finished),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use meav_protocol::{Dtype, TrainCounts, TrainData, TrainSettings, TrainSpec};

    use super::*;

    /// A run that has just begun.
    pub(crate) fn training(started: &str) -> TrainRun {
        let data = TrainData { file: "medical.train".into(), prefer: Some("expert".to_owned()) };
        TrainRun {
            spec: TrainSpec {
                run: Uuid::now_v7(),
                model: "demo".into(),
                data: vec![data],
                domain: "medical".to_owned(),
                out: Some("run".into()),
                resume: false,
                dtype: Dtype::F32,
                settings: TrainSettings::default(),
            },
            started: started.to_owned(),
            state: RunState::Running,
            is_paused: false,
            ended: None,
            model: "SmolLM2".to_owned(),
            base: "blake3:0".to_owned(),
            counts: TrainCounts { pairs: 7, ..TrainCounts::default() },
            total_steps: 9,
            steps: Vec::new(),
            validations: Vec::new(),
            checkpoint: None,
            vector: None,
            elapsed_secs: 0.25,
            diverged: false,
        }
    }

    #[test]
    fn run_is_offered_where_it_can_go_on_and_its_vector_where_it_has_finished() {
        let home = tempfile::tempdir().unwrap();
        let workspace = Workspace::open(home.path()).unwrap();
        let folder = home.path().join("run");
        let mut run = training("2026-11-20T07:00:00Z");
        run.spec.out = Some(folder.clone());
        run.vector = Some(folder.join("paused.safetensors"));
        let offered = |run: &TrainRun| {
            workspace.keep_training(run).unwrap();
            let listed = workspace.list_trainings().unwrap().remove(0);
            (listed.is_resumable, listed.vector.is_some())
        };
        assert_eq!(offered(&run), (false, false), "its folder has gone");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("config.json"), "{}").unwrap();
        assert_eq!(offered(&run), (true, false), "a checkpoint is not needed");
        run.state = RunState::Stopped;
        assert_eq!(offered(&run), (true, false));
        run.diverged = true;
        assert_eq!(offered(&run), (false, false));
        (run.diverged, run.state) = (false, RunState::Finished);
        assert_eq!(offered(&run), (false, true));
        run.state = RunState::Running;
        let log = std::fs::File::create(folder.join("log.txt")).unwrap();
        log.lock().unwrap();
        assert_eq!(offered(&run), (false, false), "an engine is at it");
    }

    #[test]
    fn run_comes_back_as_it_was_kept_and_can_be_cut_back_and_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let workspace = Workspace::open(folder.path()).unwrap();
        let mut run = training("2026-11-20T07:00:00Z");
        let id = run.spec.run;
        workspace.keep_training(&run).unwrap();
        let validation = |step| TrainValidation { step, loss: 24.1, ..TrainValidation::default() };
        for step in 1..=4 {
            let step = TrainStep { step, loss: 1.0 / step as f64, ..TrainStep::default() };
            workspace.keep_training_step(id, &step).unwrap();
            run.steps.push(step);
        }
        for step in [0, 4] {
            workspace.keep_training_validation(id, &validation(step)).unwrap();
        }
        run.checkpoint = Some(3);
        workspace.keep_training(&run).unwrap();
        let later = training("2026-11-20T08:00:00Z");
        workspace.keep_training(&later).unwrap();

        run.validations = vec![validation(0), validation(4)];
        assert_eq!(workspace.load_training(id).unwrap(), run);
        let listed = workspace.list_trainings().unwrap();
        let told: Vec<_> = listed.iter().map(|it| (it.run, it.steps, it.loss)).collect();
        let (first, second) = ((later.spec.run, [0, 9], None), (id, [4, 9], Some(0.25)));
        assert_eq!(told, [first, second]);

        workspace.cut_training_back(id, 3).unwrap();
        run.steps.truncate(3);
        run.validations.truncate(1);
        assert_eq!(workspace.load_training(id).unwrap(), run);
        workspace.delete_training(id).unwrap();
        assert!(matches!(workspace.load_training(id), Err(WorkspaceError::NoTraining { .. })));
        assert!(matches!(workspace.delete_training(id), Err(WorkspaceError::NoTraining { .. })));
        let left: usize = workspace
            .connection
            .query_row("SELECT count(*) FROM training_steps", [], |row| row.get(0))
            .unwrap();
        assert_eq!(left, 0);
    }

    #[test]
    fn reference_is_known_as_far_as_it_was_kept_and_under_its_own_key_only() {
        let folder = tempfile::tempdir().unwrap();
        let workspace = Workspace::open(folder.path()).unwrap();
        let key = ReferenceKey { base: "a", pairs: "b", computed_by: "CPU" };
        let none: [[f64; 2]; 0] = [];
        assert_eq!(workspace.known_reference(key).unwrap(), none);
        let log_probs = [[-1.5, -0.1], [-1e-300, f64::MIN]];
        for n in [1, 2] {
            workspace.keep_reference(key, &log_probs[..n]).unwrap();
            assert_eq!(workspace.known_reference(key).unwrap(), log_probs[..n]);
        }
        for other in [
            ReferenceKey { base: "b", ..key },
            ReferenceKey { pairs: "a", ..key },
            ReferenceKey { computed_by: "CUDA", ..key },
        ] {
            assert_eq!(workspace.known_reference(other).unwrap(), none);
        }
    }
}
