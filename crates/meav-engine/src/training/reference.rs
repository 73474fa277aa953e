use meav_model::Decoder;
use meav_protocol::Stage;
use meav_train::{Pair, PairSet, Reference, TrainError, reference_log_probs};

use super::base::Base;
use crate::error::EngineError;
use crate::measuring::computed_by;
use crate::worker::{Running, Worker};
use crate::workspace::{ReferenceKey, Workspace, WorkspaceError};

/// What the base model makes of the pairs: what is known of an earlier run is not computed again,
/// and what is computed is kept as it comes, also of a run that is interrupted.
pub(crate) fn reference(
    worker: &Worker,
    base: &Base,
    network: &Decoder,
    pairs: &PairSet,
    running: &Running<'_>,
) -> Result<Reference, EngineError> {
    let asking = Asking {
        workspace: worker.workspace.as_ref(),
        base: base.fingerprint.to_string(),
        computed_by: format!("{}, {}", base.dtype, computed_by(&base.compute, &base.files.config)),
        total: pairs.train.len() + pairs.validation.len(),
    };
    // Which pairs are held back is part of the fingerprint.
    let part = |part: &str| format!("{} {part}", pairs.fingerprint);
    let train = asking.ask(network, &pairs.train, &part("train"), 0, running)?;
    let done = train.len();
    let validation = asking.ask(network, &pairs.validation, &part("validation"), done, running)?;
    Ok(Reference { train, validation })
}

struct Asking<'a> {
    workspace: Result<&'a Workspace, &'a WorkspaceError>,
    base: String,
    computed_by: String,
    /// Pairs of both parts.
    total: usize,
}

impl Asking<'_> {
    /// Asks about those of `pairs` that nothing is known of; `done` others were asked about before.
    fn ask(
        &self,
        network: &Decoder,
        pairs: &[Pair],
        part: &str,
        done: usize,
        running: &Running<'_>,
    ) -> Result<Vec<[f64; 2]>, EngineError> {
        let key = ReferenceKey { base: &self.base, pairs: part, computed_by: &self.computed_by };
        let mut log_probs = self.known(key, pairs.len());
        let left = &pairs[log_probs.len()..];
        let result = running.stage(Stage::Referencing, |job| {
            let found = &mut log_probs;
            let mut on_done = |new: &[[f64; 2]]| {
                found.extend(new);
                job.report(done + found.len(), self.total);
                if let Ok(workspace) = self.workspace
                    && let Err(err) = workspace.keep_reference(key, found)
                {
                    running.unkept("the base model's log-probabilities are not kept", &err);
                }
            };
            reference_log_probs(network, left, &mut on_done, &job.without_progress())
        });
        result?;
        match log_probs.iter().flatten().find(|it| !it.is_finite()) {
            Some(value) => {
                let quantity = "base model's log-probability";
                Err(TrainError::NotFinite { step: 0, quantity, value: *value }.into())
            }
            None => Ok(log_probs),
        }
    }

    fn known(&self, key: ReferenceKey<'_>, n_pairs: usize) -> Vec<[f64; 2]> {
        let known = self.workspace.ok().map(|workspace| workspace.known_reference(key));
        let known = known.transpose().unwrap_or_else(|err| {
            tracing::warn!("the base model is asked again: {err}");
            None
        });
        known.filter(|known| known.len() <= n_pairs).unwrap_or_default()
    }
}
