use meav_model::ModelFiles;
use meav_protocol::{Fact, Setup};

use crate::error::EngineError;
use crate::plan::{Subject, place, planned_vector};
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
    let freed = worker.loaded.as_ref().and_then(|_loaded| worker.held_bytes()).unwrap_or(0);
    let subject = Subject { files: &files, dtype: setup.dtype, vectors: &vectors };
    let placed = place(subject, &worker.compute, freed);
    if let Some(note) = placed.note {
        running.fact(Fact::Note(note));
    }
    running.fact(Fact::Plan(placed.plan));
    Ok(())
}
