use jiff::Timestamp;
use meav_protocol::{Fact, SeparateReport, Stage, VectorSeparate};
use meav_vector::{AlignmentVector, save, separate};

use crate::disk::check_disk;
use crate::error::EngineError;
use crate::jobs::vectors::{note_strangers, open_base_of};
use crate::vector_out::{refuse_same_out, vector_out};
use crate::worker::{Running, Worker};

/// Takes from a vector what it shares with others.
pub(crate) fn separate_vector(
    worker: &Worker,
    spec: &VectorSeparate,
    running: &Running<'_>,
) -> Result<(), EngineError> {
    let files = || std::iter::once(&spec.vector).chain(&spec.others);
    let mut inputs: Vec<_> = files().map(|file| worker.folders.vector(file)).collect();
    inputs.extend(spec.base.as_ref().and_then(|base| worker.folders.model(base).ok()));
    let out = vector_out(&spec.out, &inputs)?;
    let shared_out = spec.shared_out.as_ref().map(|out| vector_out(out, &inputs)).transpose()?;
    shared_out.map_or(Ok(()), |shared| refuse_same_out(out, shared))?;
    let open = |file| {
        let path = worker.folders.vector(file);
        worker.open_vector(&path, running).map_err(|err| err.in_vector(file))
    };
    let mut vectors = files().map(|file| open(file)).collect::<Result<Vec<_>, _>>()?;
    let base = open_base_of(worker, spec.base.as_deref(), &mut vectors, running)?;
    let Some((vector, others)) = vectors.split_first() else { unreachable!("there is one") };
    for other in others {
        note_strangers(vector, other, running);
    }
    let others: Vec<&AlignmentVector> = others.iter().collect();
    let mut parts = running
        .stage(Stage::Separating, |job| separate(vector, &others, spec.rank, base.as_ref(), job))?;
    parts.own.origin.created = Some(Timestamp::now().to_string());
    parts.shared.origin.created = Some(Timestamp::now().to_string());
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
