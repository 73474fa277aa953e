use std::path::Path;

use meav_protocol::{Calibration, Stage};
use meav_vector::write_calibration as write_into;

use crate::error::EngineError;
use crate::worker::{Running, Worker};

/// Writes a calibration into its vector's file, whose values stay as they are.
pub(crate) fn write_calibration(
    worker: &mut Worker,
    vector: &Path,
    calibration: &Calibration,
    running: &Running<'_>,
) -> Result<(), EngineError> {
    let path = worker.folders.vector(vector);
    if path.is_dir() {
        return Err(EngineError::NoPlaceForCalibration { path });
    }
    let Ok(text) = serde_json::to_string(calibration) else { unreachable!("all keys are strings") };
    running.stage(Stage::Writing, |job| write_into(&path, &text, job))?;
    let summary = format!("calibration on {}, {} records", calibration.data, calibration.n);
    worker.record_written("calibration", &path, summary, running);
    Ok(())
}
