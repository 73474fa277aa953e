use std::sync::Arc;

use meav_protocol::{CompressReport, Compression, Fact, Stage, VectorCompress};
use meav_vector::{compress, save};

use crate::disk::check_disk;
use crate::error::EngineError;
use crate::probe::{ProbeModel, Probed};
use crate::worker::{Running, Worker};
use crate::workspace::free_path;

/// Writes a smaller form of a vector, and says what that costs.
pub(crate) fn compress_vector(
    worker: &mut Worker,
    spec: &VectorCompress,
    running: &Running<'_>,
) -> Result<(), EngineError> {
    let out = free_path(&spec.out)?;
    let vector = worker.open_vector(&worker.folders.vector(&spec.vector), running)?;
    let base = worker.open_base(spec.base.as_deref())?;
    let (smaller, report) = running
        .stage(Stage::Compressing, |job| compress(&vector, how(spec.how), base.as_ref(), job))?;
    let (vector, smaller) = (Arc::new(vector), Arc::new(smaller));
    let probed = match &spec.probe {
        Some(probe) => {
            let model = ProbeModel::load(worker, probe, &[&vector, &smaller], running)?;
            model.compare(&vector, &smaller, running)?
        }
        None => Probed { shifts: Vec::new(), responses: 0 },
    };
    check_disk(out, report.bytes_after)?;
    running.stage(Stage::Writing, |job| save(&smaller, None, out, job))?;
    let summary = format!(
        "vector {:?}, {} of {:.1} MB, relative error {:.3} %",
        smaller.origin.domain,
        how_words(spec.how),
        report.bytes_after as f64 / 1e6,
        report.relative_error * 100.0,
    );
    if report.bytes_after >= report.bytes_before {
        let note = "nothing became smaller: what would not shrink in this form was left as it is";
        running.fact(Fact::Note(note.to_owned()));
    }
    let worst = report.worst().map(|it| (it.name.clone(), it.relative_error));
    running.fact(Fact::Compressed(CompressReport {
        bytes_before: report.bytes_before,
        bytes_after: report.bytes_after,
        relative_error: report.relative_error,
        worst_tensor: worst,
        shifts: probed.shifts,
        responses: probed.responses,
    }));
    worker.record_written("compress", out, summary, running);
    Ok(())
}

fn how(how: Compression) -> meav_vector::Compression {
    match how {
        Compression::LowRank { rank } => meav_vector::Compression::LowRank { rank },
        Compression::Trim { density } => meav_vector::Compression::Trim { density },
        Compression::Dare { density, seed } => meav_vector::Compression::Dare { density, seed },
        Compression::Sign => meav_vector::Compression::Sign,
    }
}

fn how_words(how: Compression) -> String {
    match how {
        Compression::LowRank { rank } => format!("rank {rank}"),
        Compression::Trim { density } => format!("trimmed to density {density}"),
        Compression::Dare { density, seed } => format!("DARE at density {density}, seed {seed}"),
        Compression::Sign => "signs".to_owned(),
    }
}
