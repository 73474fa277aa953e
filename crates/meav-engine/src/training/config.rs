use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use meav_data::Dataset;
use meav_protocol::{TrainCounts, TrainData, TrainSpec};
use meav_train::deciding_settings;
use meav_weights::write_file_atomically;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::EngineError;
use crate::measuring::file_name;

/// What a run's folder says of how the run was begun: `config.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunConfig {
    pub(crate) app_version: String,
    /// RFC 3339.
    pub(crate) started: String,
    pub(crate) spec: TrainSpec,
    pub(crate) base: BaseOfRun,
    pub(crate) data: Vec<DataOfRun>,
    /// `blake3:` of the pairs' tokens.
    pub(crate) pairs_fingerprint: String,
    pub(crate) counts: TrainCounts,
    pub(crate) total_steps: usize,
    /// What computes, and how: another processor's numbers may differ in their last bits.
    pub(crate) computed_by: String,
}

/// The model that is trained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BaseOfRun {
    pub(crate) name: String,
    /// `blake3:` of its tensors.
    pub(crate) fingerprint: String,
    /// `blake3:` of its vocabulary.
    pub(crate) tokenizer_fingerprint: String,
}

/// A file that is trained on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DataOfRun {
    pub(crate) file: String,
    /// `blake3:` of its bytes.
    pub(crate) fingerprint: String,
    pub(crate) records: usize,
    /// The level that is preferred to all others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) prefer: Option<String>,
    /// As its records name them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) licences: Vec<String>,
}

impl DataOfRun {
    pub(crate) fn new(data: &TrainData, dataset: &Dataset) -> Self {
        Self {
            file: file_name(&dataset.path),
            fingerprint: dataset.fingerprint.clone(),
            records: dataset.records.len(),
            prefer: data.prefer.clone(),
            licences: licences(dataset),
        }
    }
}

/// What records say under `license` or `licence`, each once.
fn licences(dataset: &Dataset) -> Vec<String> {
    let licence = |source: &str| {
        let record: Value = serde_json::from_str(source).ok()?;
        let found = record.get("license").or_else(|| record.get("licence"))?;
        found.as_str().map(str::to_owned)
    };
    let found: BTreeSet<String> =
        dataset.records.iter().filter_map(|record| licence(&record.source)).collect();
    found.into_iter().collect()
}

impl RunConfig {
    pub(crate) fn write(&self, path: &Path) -> Result<(), EngineError> {
        let config = |source| EngineError::RunConfig { path: path.to_owned(), source };
        let text = serde_json::to_string_pretty(self).map_err(config)? + "\n";
        write_file_atomically(path, |file| {
            let failed = |source| EngineError::Write { path: path.to_owned(), source };
            file.write_all(text.as_bytes()).map_err(failed)
        })
    }

    pub(crate) fn read(path: &Path) -> Result<Self, EngineError> {
        let bytes = std::fs::read(path)
            .map_err(|source| EngineError::Read { path: path.to_owned(), source })?;
        serde_json::from_slice(&bytes)
            .map_err(|source| EngineError::RunConfig { path: path.to_owned(), source })
    }

    /// Refuses to go on with something that would lead to another curve than the one begun.
    ///
    /// # Errors
    ///
    /// [`EngineError::OtherRun`] with what differs.
    pub(crate) fn check_same(&self, now: &Self, folder: &Path) -> Result<(), EngineError> {
        let differs = |what: &str, there: String, here: String| {
            let (path, what): (PathBuf, _) = (folder.to_owned(), what.to_owned());
            Err(EngineError::OtherRun { path, what, there, here })
        };
        let (there, here) = (self.deciding(), now.deciding());
        for ((what, there), (_, here)) in there.into_iter().zip(here) {
            if there != here {
                return differs(&what, there, here);
            }
        }
        Ok(())
    }

    /// All that decides the curve, with names that a person knows it by.
    fn deciding(&self) -> Vec<(String, String)> {
        let data: Vec<_> = self.data.iter().map(|it| it.fingerprint.as_str()).collect();
        let all = [
            ("base model", self.base.fingerprint.clone()),
            ("type", self.spec.dtype.to_string()),
            ("domain", self.spec.domain.clone()),
            ("file of data", data.join(", ")),
            ("set of pairs", self.pairs_fingerprint.clone()),
        ];
        let settings = deciding_settings(&self.spec.settings).into_iter().map(|(name, value)| {
            (format!("setting of {}", name.replace('_', " ")), value.to_string())
        });
        all.map(|(what, value)| (what.to_owned(), value)).into_iter().chain(settings).collect()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use meav_protocol::{Dtype, TrainMethod, TrainSettings};
    use uuid::Uuid;

    use super::*;

    pub(crate) fn config() -> RunConfig {
        let text = |text: &str| text.to_owned();
        RunConfig {
            app_version: text("0.1.0"),
            started: text("2026-11-20T07:00:00Z"),
            spec: TrainSpec {
                run: Uuid::now_v7(),
                model: "demo".into(),
                data: Vec::new(),
                domain: text("medical"),
                out: Some("run".into()),
                resume: false,
                dtype: Dtype::F32,
                settings: TrainSettings::default(),
            },
            base: BaseOfRun {
                name: text("SmolLM2"),
                fingerprint: text("blake3:a"),
                tokenizer_fingerprint: text("blake3:b"),
            },
            data: vec![DataOfRun {
                file: text("medical.train.jsonl"),
                fingerprint: text("blake3:c"),
                records: 96,
                prefer: None,
                licences: Vec::new(),
            }],
            pairs_fingerprint: text("blake3:d"),
            counts: TrainCounts::default(),
            total_steps: 46,
            computed_by: text("CPU"),
        }
    }

    #[test]
    fn configuration_comes_back_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        let config = config();
        config.write(&path).unwrap();
        assert_eq!(RunConfig::read(&path).unwrap(), config);
        std::fs::write(&path, "{").unwrap();
        assert!(matches!(RunConfig::read(&path), Err(EngineError::RunConfig { .. })));
    }

    #[test]
    fn run_goes_on_only_with_what_leads_to_the_same_curve() {
        type Change = fn(&mut RunConfig);
        let harmless: [Change; 5] = [
            |it| it.spec.settings.checkpointing = false,
            |it| it.spec.resume = true,
            |it| it.spec.settings.checkpoint_every = 5,
            |it| it.spec.model = "elsewhere".into(),
            |it| it.started.clear(),
        ];
        let others: [(&str, Change); 7] = [
            ("base model", |it| it.base.fingerprint.push('0')),
            ("type", |it| it.spec.dtype = Dtype::Bf16),
            ("file of data", |it| it.data[0].fingerprint.push('0')),
            ("set of pairs", |it| it.pairs_fingerprint.push('0')),
            ("setting of method", |it| it.spec.settings.method = TrainMethod::Full),
            ("setting of max steps", |it| it.spec.settings.max_steps = Some(3)),
            ("setting of seed", |it| it.spec.settings.seed = 1),
        ];
        let before = config();
        let after = |change: Change| {
            let mut after = before.clone();
            change(&mut after);
            before.check_same(&after, Path::new("run"))
        };
        for change in harmless {
            after(change).unwrap();
        }
        for (expected, change) in others {
            match after(change) {
                Err(EngineError::OtherRun { what, .. }) => assert_eq!(what, expected),
                result => panic!("{expected}: {result:?}"),
            }
        }
    }
}
