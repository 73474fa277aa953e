use meav_protocol::{Fact, SeparateReport, Stage, VectorSeparate};
use meav_vector::{AlignmentVector, save, separate};

use crate::disk::check_disk;
use crate::error::EngineError;
use crate::worker::{Running, Worker};
use crate::workspace::free_path;

/// Takes from a vector what it shares with others.
pub(crate) fn separate_vector(
    worker: &Worker,
    spec: &VectorSeparate,
    running: &Running<'_>,
) -> Result<(), EngineError> {
    let out = free_path(&spec.out)?;
    let shared_out = spec.shared_out.as_ref().map(free_path).transpose()?;
    let open = |file| {
        let path = worker.folders.vector(file);
        worker.open_vector(&path, running).map_err(|err| err.in_vector(file))
    };
    let vector = open(&spec.vector)?;
    let others = spec.others.iter().map(|file| open(file)).collect::<Result<Vec<_>, _>>()?;
    let base = worker.open_base(spec.base.as_deref())?;
    let others: Vec<&AlignmentVector> = others.iter().collect();
    let parts = running.stage(Stage::Separating, |job| {
        separate(&vector, &others, spec.rank, base.as_ref(), job)
    })?;
    running.fact(Fact::Separated(SeparateReport {
        shared: parts.share,
        layers: parts.layers.iter().map(|it| (it.layer, it.share)).collect(),
    }));
    let percent = parts.share * 100.0;
    let domain = &vector.origin.domain;
    for (part, path, words) in
        [(&parts.own, Some(out), "own part"), (&parts.shared, shared_out, "shared part")]
    {
        let Some(path) = path else { continue };
        check_disk(path, part.size_bytes())?;
        running.stage(Stage::Writing, |job| save(part, None, path, job))?;
        let summary =
            format!("{words} of vector {domain:?}; {percent:.1} % of its squared norm is shared");
        worker.record_written("separate", path, summary, running);
    }
    Ok(())
}
