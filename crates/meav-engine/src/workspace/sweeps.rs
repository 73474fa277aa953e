use meav_eval::RawScore;
use meav_protocol::{Calibration, Sweep, SweepPoint, SweepSummary};
use rusqlite::{OptionalExtension as _, params};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::database::{Workspace, WorkspaceError};

/// Names what a model has answered.
#[derive(Clone, Copy)]
pub(crate) struct AnswersKey<'a> {
    /// Fingerprint of the recipe.
    pub(crate) recipe: &'a str,
    /// Fingerprint of the questions' tokens.
    pub(crate) questions: &'a str,
    /// What computed, and how.
    pub(crate) computed_by: &'a str,
}

/// Bytes of one answer.
const ANSWER_BYTES: usize = 12;

impl Workspace {
    /// What the same recipe has made of the same texts before; `shape` is the number of responses
    /// to each question.
    pub(crate) fn known_answers(
        &self,
        key: AnswersKey<'_>,
        shape: impl Iterator<Item = usize>,
    ) -> Result<Option<Vec<Vec<RawScore>>>, WorkspaceError> {
        let bytes: Option<Vec<u8>> = self
            .connection
            .query_row(
                "SELECT answers FROM scores WHERE recipe = ?1 AND questions = ?2 AND computed_by = ?3",
                [key.recipe, key.questions, key.computed_by],
                |row| row.get(0),
            )
            .optional()
            .map_err(self.sqlite())?;
        let Some(bytes) = bytes else { return Ok(None) };
        let mut answers = bytes.chunks_exact(ANSWER_BYTES).map(answer);
        let mut n_answers = 0;
        let questions: Vec<Vec<RawScore>> = shape
            .map(|n| {
                n_answers += n;
                answers.by_ref().take(n).collect()
            })
            .collect();
        if n_answers * ANSWER_BYTES != bytes.len() {
            return Err(self.damaged("a score"));
        }
        Ok(Some(questions))
    }

    pub(crate) fn keep_answers(
        &self,
        key: AnswersKey<'_>,
        answers: &[Vec<RawScore>],
    ) -> Result<(), WorkspaceError> {
        let bytes: Vec<u8> = answers.iter().flatten().flat_map(answer_bytes).collect();
        self.connection
            .execute(
                "INSERT OR REPLACE INTO scores VALUES (?1, ?2, ?3, ?4)",
                params![key.recipe, key.questions, key.computed_by, bytes],
            )
            .map_err(self.sqlite())?;
        Ok(())
    }

    /// Keeps all of a sweep but its points, which are kept one by one. `settings` names what they
    /// are measured with.
    pub(crate) fn keep_sweep(&self, sweep: &Sweep, settings: &str) -> Result<(), WorkspaceError> {
        let head = Sweep { points: Vec::new(), ..sweep.clone() };
        let (run, head) = (sweep.spec.run.to_string(), self.json(&head, "a sweep")?);
        self.connection
            .execute(
                "INSERT INTO sweeps VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (run) DO UPDATE SET sweep = excluded.sweep",
                params![run, sweep.started, settings, head],
            )
            .map_err(self.sqlite())?;
        Ok(())
    }

    /// What a sweep's points are measured with; `None` for a sweep that was never kept.
    pub(crate) fn sweep_settings(&self, run: Uuid) -> Result<Option<String>, WorkspaceError> {
        self.connection
            .query_row("SELECT settings FROM sweeps WHERE run = ?1", [run.to_string()], |row| {
                row.get(0)
            })
            .optional()
            .map_err(self.sqlite())
    }

    pub(crate) fn keep_point(&self, run: Uuid, point: &SweepPoint) -> Result<(), WorkspaceError> {
        self.connection
            .execute(
                "INSERT OR REPLACE INTO sweep_points VALUES (?1, ?2, ?3)",
                params![run.to_string(), point.lambda, self.json(point, "a point")?],
            )
            .map_err(self.sqlite())?;
        Ok(())
    }

    /// Forgets the points of a sweep at other λ than these.
    pub(crate) fn forget_points_but(
        &self,
        run: Uuid,
        lambdas: &[f64],
    ) -> Result<(), WorkspaceError> {
        let lambdas = self.json(&lambdas, "λ")?;
        self.connection
            .execute(
                "DELETE FROM sweep_points
                 WHERE run = ?1 AND lambda NOT IN (SELECT value FROM json_each (?2))",
                [run.to_string(), lambdas],
            )
            .map_err(self.sqlite())?;
        Ok(())
    }

    /// A sweep with all of its points.
    pub(crate) fn load_sweep(&self, run: Uuid) -> Result<Sweep, WorkspaceError> {
        let head: Option<String> = self
            .connection
            .query_row("SELECT sweep FROM sweeps WHERE run = ?1", [run.to_string()], |row| {
                row.get(0)
            })
            .optional()
            .map_err(self.sqlite())?;
        let mut sweep: Sweep =
            self.read(&head.ok_or(WorkspaceError::NoSweep { run })?, "a sweep")?;
        let mut statement = self
            .connection
            .prepare("SELECT point FROM sweep_points WHERE run = ?1 ORDER BY lambda")
            .map_err(self.sqlite())?;
        let points: Vec<String> = statement
            .query_map([run.to_string()], |row| row.get(0))
            .and_then(Iterator::collect)
            .map_err(self.sqlite())?;
        sweep.points =
            points.iter().map(|point| self.read(point, "a point")).collect::<Result<_, _>>()?;
        Ok(sweep)
    }

    /// All sweeps, newest first.
    pub(crate) fn list_sweeps(&self) -> Result<Vec<SweepSummary>, WorkspaceError> {
        let mut statement = self
            .connection
            .prepare(
                "SELECT sweep, (SELECT count(*) FROM sweep_points WHERE run = sweeps.run)
                 FROM sweeps ORDER BY started DESC, rowid DESC",
            )
            .map_err(self.sqlite())?;
        let rows: Vec<(String, usize)> = statement
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
            .and_then(Iterator::collect)
            .map_err(self.sqlite())?;
        let summaries = rows.iter().filter_map(|(head, points)| match self.read(head, "a sweep") {
            Ok(sweep) => Some(summary(sweep, *points)),
            // One that can't be read must not hide the others.
            Err(err) => {
                tracing::warn!("a sweep is not listed: {err}");
                None
            }
        });
        Ok(summaries.collect())
    }

    /// Forgets a sweep; the scores that it has measured stay.
    pub(crate) fn delete_sweep(&self, run: Uuid) -> Result<(), WorkspaceError> {
        let found = self
            .connection
            .execute("DELETE FROM sweeps WHERE run = ?1", [run.to_string()])
            .map_err(self.sqlite())?;
        if found == 0 { Err(WorkspaceError::NoSweep { run }) } else { Ok(()) }
    }

    /// Keeps where a vector leads on its calibration's base.
    pub(crate) fn keep_calibration(
        &self,
        vector: &str,
        calibration: &Calibration,
    ) -> Result<(), WorkspaceError> {
        self.connection
            .execute(
                "INSERT OR REPLACE INTO calibrations VALUES (?1, ?2, ?3)",
                params![vector, calibration.base, self.json(calibration, "a calibration")?],
            )
            .map_err(self.sqlite())?;
        Ok(())
    }

    /// Where a vector leads on a base, as last measured.
    pub(crate) fn calibration(
        &self,
        vector: &str,
        base: &str,
    ) -> Result<Option<Calibration>, WorkspaceError> {
        let text: Option<String> = self
            .connection
            .query_row(
                "SELECT calibration FROM calibrations WHERE vector = ?1 AND base = ?2",
                [vector, base],
                |row| row.get(0),
            )
            .optional()
            .map_err(self.sqlite())?;
        text.map(|text| self.read(&text, "a calibration")).transpose()
    }

    pub(super) fn json(
        &self,
        value: &impl Serialize,
        what: &'static str,
    ) -> Result<String, WorkspaceError> {
        serde_json::to_string(value).map_err(|_source| self.damaged(what))
    }

    pub(super) fn read<T: DeserializeOwned>(
        &self,
        text: &str,
        what: &'static str,
    ) -> Result<T, WorkspaceError> {
        serde_json::from_str(text).map_err(|_source| self.damaged(what))
    }
}

fn answer(bytes: &[u8]) -> RawScore {
    let (sum, tokens) = bytes.split_at(8);
    RawScore {
        sum_log_prob: f64::from_le_bytes(sum.try_into().unwrap_or_default()),
        tokens: u32::from_le_bytes(tokens.try_into().unwrap_or_default()),
    }
}

fn answer_bytes(score: &RawScore) -> [u8; ANSWER_BYTES] {
    let mut bytes = [0; ANSWER_BYTES];
    bytes[..8].copy_from_slice(&score.sum_log_prob.to_le_bytes());
    bytes[8..].copy_from_slice(&score.tokens.to_le_bytes());
    bytes
}

fn summary(sweep: Sweep, points: usize) -> SweepSummary {
    let mut data: Vec<String> = sweep.datasets.into_iter().map(|data| data.name).collect();
    data.dedup();
    SweepSummary {
        run: sweep.spec.run,
        started: sweep.started,
        state: sweep.state,
        model: sweep.model,
        domain: sweep.vector.domain,
        range: sweep.spec.range,
        data,
        points,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_back_under_their_own_key_and_shape_only() {
        let folder = tempfile::tempdir().unwrap();
        let workspace = Workspace::open(folder.path()).unwrap();
        let key = AnswersKey { recipe: "a", questions: "b", computed_by: "CPU" };
        let score = |sum_log_prob, tokens| RawScore { sum_log_prob, tokens };
        let answers = vec![vec![score(-0.1, 1), score(-1e3, 70_000)], vec![score(-2.5, 3)]];
        workspace.keep_answers(key, &answers).unwrap();
        let found = workspace.known_answers(key, [2, 1].into_iter()).unwrap();
        assert_eq!(found, Some(answers));
        for shape in [vec![2], vec![2, 2], vec![3, 1]] {
            assert!(workspace.known_answers(key, shape.into_iter()).is_err());
        }
        for other in [
            AnswersKey { recipe: "b", ..key },
            AnswersKey { questions: "a", ..key },
            AnswersKey { computed_by: "CUDA", ..key },
        ] {
            assert_eq!(workspace.known_answers(other, [2, 1].into_iter()).unwrap(), None);
        }
    }
}
