use meav_model::ModelFiles;
use meav_protocol::{Fact, Setup};
use meav_weights::process_anonymous_bytes;

use crate::error::EngineError;
use crate::plan::{plan, planned_vector};
use crate::worker::{Running, Worker};

/// Says what memory a model would take.
pub(crate) fn plan_memory(
    worker: &Worker,
    setup: &Setup,
    running: &Running<'_>,
) -> Result<(), EngineError> {
    let files = ModelFiles::open(&worker.folders.model(&setup.model)?)?;
    let vectors = setup
        .vectors
        .iter()
        .map(|term| {
            planned_vector(&term.file, &worker.folders.vector(&term.file))
                .map_err(|err| EngineError::from(err).in_vector(&term.file))
        })
        .collect::<Result<Vec<_>, _>>()?;
    // What is loaded now goes first.
    let freed = worker.loaded.as_ref().and_then(|_loaded| process_anonymous_bytes()).unwrap_or(0);
    running.fact(Fact::Plan(plan(&files, setup.dtype, &vectors, freed)));
    Ok(())
}
