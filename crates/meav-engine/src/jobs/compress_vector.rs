use std::sync::Arc;

use jiff::Timestamp;
use meav_protocol::{CompressReport, Compression, Fact, Stage, VectorCompress};
use meav_vector::{compress, save};

use crate::disk::check_disk;
use crate::error::EngineError;
use crate::jobs::vectors::open_base_of;
use crate::probe::{ProbeModel, Probed, Questions};
use crate::vector_out::vector_out;
use crate::worker::{Running, Worker};

/// Writes a smaller form of a vector, and says what that costs.
pub(crate) fn compress_vector(
    worker: &mut Worker,
    spec: &VectorCompress,
    running: &Running<'_>,
) -> Result<(), EngineError> {
    let path = worker.folders.vector(&spec.vector);
    let models = spec.base.iter().chain(spec.probe.as_ref().map(|probe| &probe.model));
    let mut inputs: Vec<_> = models.filter_map(|it| worker.folders.model(it).ok()).collect();
    inputs.push(path.clone());
    let out = vector_out(&spec.out, &inputs)?;
    let mut vectors = [worker.open_vector(&path, running)?];
    let base = open_base_of(worker, spec.base.as_deref(), &mut vectors, running)?;
    let [vector] = vectors;
    let questions = match &spec.probe {
        Some(probe) => Some(Questions::read(worker, probe, &vector, running)?),
        None => None,
    };
    let (mut smaller, report) = running
        .stage(Stage::Compressing, |job| compress(&vector, how(spec.how), base.as_ref(), job))?;
    smaller.origin.created = Some(Timestamp::now().to_string());
    check_disk(out, report.bytes_after)?;
    running.stage(Stage::Writing, |job| save(&smaller, None, out, job))?;
    let summary = format!(
        "vector {:?}, {} of {:.1} MB, relative error {:.3} %",
        smaller.origin.domain,
        how_words(spec.how),
        report.bytes_after as f64 / 1e6,
        report.relative_error * 100.0,
    );
    worker.record_written("compress", out, summary, running);
    if report.bytes_after >= report.bytes_before {
        let note = "nothing became smaller: what would not shrink in this form was left as it is";
        running.fact(Fact::Note(note.to_owned()));
    }
    // The file is there by now: whatever happens to the measurement, it stays.
    let probed = match questions {
        Some(questions) => {
            let model = ProbeModel::load(questions, running)?;
            model.compare(&Arc::new(vector), &Arc::new(smaller), running)?
        }
        None => Probed { shifts: Vec::new(), responses: 0 },
    };
    let worst = report.worst().map(|it| (it.name.clone(), it.relative_error));
    running.fact(Fact::Compressed(CompressReport {
        bytes_before: report.bytes_before,
        bytes_after: report.bytes_after,
        relative_error: report.relative_error,
        worst_tensor: worst,
        shifts: probed.shifts,
        responses: probed.responses,
    }));
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
